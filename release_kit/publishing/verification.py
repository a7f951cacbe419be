"""Is a published repo still what was audited? Every byte is downloaded and compared."""

from __future__ import annotations

from dataclasses import dataclass

from release_kit.bundle import MANIFEST, Difference, compare, parse_manifest
from release_kit.errors import Refused, UnusableInput
from release_kit.progress import SILENT, Watcher
from release_kit.publishing.hub import Hub

_ONLY_OURS = "Only what `release-kit publish` published can be verified."


@dataclass(frozen=True)
class Verification:
    """What a repo holds, against its own manifest and the digest that was expected."""

    repo_id: str
    commit: str
    manifest_digest: str
    expected_digest: str
    """The digest of the audited bundle; empty when the caller knows none."""
    files: int
    difference: Difference

    @property
    def holds(self) -> bool:
        """True when every byte is what the manifest says, and the manifest the expected one."""
        expected = self.expected_digest in ("", self.manifest_digest)
        return expected and not self.difference


def verify_repo(
    hub: Hub,
    repo_id: str,
    revision: str,
    *,
    expected_digest: str = "",
    watcher: Watcher = SILENT,
) -> Verification:
    """Download every file of `repo_id` at `revision` and compare it with the repo's manifest.

    Raises:
        UnusableInput: the repo or revision does not exist for this token, or has no manifest.
        Unfinished: the Hub could not be reached.
    """
    try:
        return _verify(hub, repo_id, revision, expected_digest, watcher)
    except Refused as error:
        # The Hub refused to show it, so nothing was judged.
        raise UnusableInput(error.message, hint=error.hint) from None


def _verify(
    hub: Hub, repo_id: str, revision: str, expected_digest: str, watcher: Watcher
) -> Verification:
    if not hub.state(repo_id).exists:
        raise UnusableInput(
            f"{repo_id} does not exist on {hub.endpoint}, or is hidden from this token",
            hint="Correct the name, or set HF_TOKEN to a token that may see it.",
        )
    # Everything below is read at one commit, so that nobody can move it under our hands.
    commit = hub.commit_of(repo_id, revision)
    if not commit:
        raise UnusableInput(
            f"{repo_id} has no branch, tag or commit {revision}",
            hint="Correct what stands after the @.",
        )
    paths = hub.tree(repo_id, commit)
    if MANIFEST not in paths:
        raise UnusableInput(
            f"{repo_id} at {revision} has no {MANIFEST}, so nothing says what it should hold",
            hint=_ONLY_OURS,
        )
    try:
        manifest = parse_manifest(hub.read_bytes(repo_id, commit, MANIFEST), MANIFEST)
    except UnusableInput as error:
        raise UnusableInput(f"{repo_id} at {revision}: {error.message}", hint=_ONLY_OURS) from None
    found = {}
    for number, path in enumerate(sorted(paths)):
        watcher.step("verifying", number, len(paths))
        found[path] = hub.read_back(repo_id, commit, path)
    watcher.step("verifying", len(paths), len(paths))
    return Verification(
        repo_id=repo_id,
        commit=commit,
        manifest_digest=manifest.digest,
        expected_digest=expected_digest,
        files=len(found),
        difference=compare(manifest, found),
    )
