"""What is being audited, read once: the bundle's files, what was declared, and the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from release_kit.bundle import MANIFEST, Bundle, read_bundle
from release_kit.files import sha256_file
from release_kit.history import Published
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.policy import Policy, load_policy
from release_kit.receipts import Receipt
from release_kit.release import Release


@dataclass(frozen=True)
class Candidate:
    """The subject of an audit."""

    bundle: Bundle
    release: Release | None
    """None when the folder has no release.yaml: then nothing was declared."""
    policy: Policy
    receipts: Mapping[str, Receipt]
    """What the stages of the project left, by stage."""
    in_project: bool = False
    """False for a folder that was audited without its project: no stage can vouch for it."""
    day: date = date.min
    """The day as of which waivers and grants are in force."""
    last: Published | None = None
    """The release before this one; None where none was published from here."""

    @cached_property
    def judgement(self) -> Judgement | None:
        """What the policy says about the release; None when nothing was declared.

        Raises:
            UnusableInput: a license file breaks its schema.
        """
        return judge(self.release, self.policy, day=self.day) if self.release else None

    @property
    def manifest_digest(self) -> str:
        """SHA-256 of the manifest's bytes as they lie there; empty without one."""
        manifest = self.bundle.files.get(MANIFEST)
        return manifest.sha256 if manifest else ""

    @property
    def release_digest(self) -> str:
        """SHA-256 of release.yaml; empty without one."""
        return sha256_file(self.release.file) if self.release else ""


def read_candidate(
    bundle: Path,
    release: Release | None,
    receipts: Mapping[str, Receipt] | None = None,
    *,
    day: date | None = None,
    last: Published | None = None,
) -> Candidate:
    """Read and hash the bundle, and load the policy that judges it.

    `receipts` are those of the project that the bundle belongs to; None when it belongs to none.
    `day` is the day as of which it is judged; left out, today. `last` is the release before it.

    Raises:
        UnusableInput: the bundle is no folder, or the policy cannot be used.
    """
    policy = load_policy(release.policy_source if release else None)
    return Candidate(
        read_bundle(bundle),
        release,
        policy,
        receipts or {},
        receipts is not None,
        day or date.today(),
        last,
    )
