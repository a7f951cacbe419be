"""Publish an audited bundle: private, one commit, read back, tagged, and only then visible.

Every step first looks at what the Hub holds, so a run after a kill goes on where the last one
stopped, and a run after a finished one does nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.auditing.checks import CHECKS
from release_kit.auditing.engine import tool
from release_kit.auditing.findings import Report, Verdict
from release_kit.auditing.waivers import stands
from release_kit.bundle import MANIFEST, Bundle, Manifest, compare, parse_manifest, read_bundle
from release_kit.errors import Refused, Unfinished, UnusableInput
from release_kit.figures import CLASS_FIGURES
from release_kit.files import json_bytes, sha256_file, write_atomic
from release_kit.formats.json import parse_json
from release_kit.history import Published, remember
from release_kit.licensing.policy import load_policy
from release_kit.progress import SILENT, Watcher
from release_kit.project import Project
from release_kit.publishing.hub import Hub, RepoState
from release_kit.receipts import read_receipt
from release_kit.release import Release

_GATED: Mapping[str, str | bool] = {"open": False, "automatic": "auto", "manual": "manual"}
_AUDIT = "Run `release-kit audit`, mend what it finds, and publish then."


@dataclass(frozen=True)
class Publication:
    """What stands on the Hub when publishing has come to its end."""

    repo_id: str
    endpoint: str
    commit: str
    tag: str
    manifest_digest: str
    visibility: str
    files: int
    read_back: int
    """Files whose bytes were downloaded and compared; 0 when an earlier run had finished."""


def publish_bundle(project: Project, hub: Hub, watcher: Watcher = SILENT) -> Publication:
    """Publish the project's bundle; see the module's docstring for the order.

    Raises:
        Refused: the bundle is not what was audited, the audit did not pass, or the Hub says no;
            nothing becomes visible.
        Unfinished: the Hub could not be reached or changed meanwhile; run again.
    """
    release = project.release
    manifest, bundle = audited(project)
    published = _published(project, manifest)
    if not hub.token:
        raise Refused(
            "there is no token to publish with",
            hint="Set HF_TOKEN, or log in with `hf auth login`.",
        )
    state = hub.state(release.repo_id)
    private = release.visibility == "private"
    commit, read = state.tags.get(release.tag, ""), 0
    settled = bool(commit) and state.private == private
    if commit:
        there = hub.tree(release.repo_id, commit)
        if _digest_at(hub, release.repo_id, commit, there) != manifest.digest:
            raise Refused(
                f"{release.repo_id} has a tag {release.tag} already, and it holds other bytes",
                hint="Raise release.version in release.yaml, build and audit again.",
            )
        if not settled and not private:
            # What an earlier run read back may have changed; what becomes visible is read now.
            read = _read_back(hub, release, manifest, commit, watcher)
    else:
        state = _private_repo(hub, release, state)
        commit = _commit(hub, release, bundle, state.head, watcher)
        read = _read_back(hub, release, manifest, commit, watcher)
        watcher.say(f"publish: tag {release.tag}")
        hub.tag(
            release.repo_id,
            tag=release.tag,
            commit=commit,
            message=f"manifest sha256:{manifest.digest}",
        )
    if not settled:
        if not private and hub.state(release.repo_id).head != commit:
            raise Unfinished(
                f"someone else committed to {release.repo_id} after {release.tag}, and nobody has "
                "audited that, so it stays private",
                hint="Raise release.version in release.yaml and release again, or undo the commit.",
            )
        watcher.say(f"publish: make it {release.visibility}")
        hub.open(release.repo_id, gated=_GATED[release.gating], private=private)
    publication = Publication(
        repo_id=release.repo_id,
        endpoint=hub.endpoint,
        commit=commit,
        tag=release.tag,
        manifest_digest=manifest.digest,
        visibility=release.visibility,
        files=len(manifest.files) + 1,
        read_back=read,
    )
    remember(project.history, published)
    write_atomic(project.journal, json_bytes(asdict(publication)))
    return publication


def read_publication(path: Path) -> Publication:
    """Read what the last publish of a project left.

    Raises:
        UnusableInput: the project was not published from here.
    """
    try:
        return Publication(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise UnusableInput(
            f"{path.parent.parent} has not been published from here",
            hint="Run `release-kit publish`, or name a repo: release-kit verify OWNER/NAME@TAG.",
        ) from None
    except (ValueError, TypeError):
        raise UnusableInput(
            f"{path} is not what publish left", hint="Run `release-kit publish` again."
        ) from None


def audited(project: Project) -> tuple[Manifest, Bundle]:
    """Return the bundle if it is, byte for byte, what a passing audit saw.

    Raises:
        Refused: with every reason at once.
    """
    bundle = read_bundle(project.bundle)
    reasons: list[str] = []
    report = _report(project.report)
    manifest = parse_manifest(bundle.bytes(MANIFEST), str(project.bundle / MANIFEST))
    if report.verdict is not Verdict.PASS:
        reasons.append(f"the audit's verdict is {report.verdict.value}, not pass")
    if report.tool != tool() or set(report.checks) != {check.id for check in CHECKS}:
        reasons.append(f"the audit was not a whole one by {tool()}")
    if report.manifest_digest != manifest.digest:
        reasons.append("the bundle was built again after the audit")
    if report.release_digest != sha256_file(project.release.file):
        reasons.append("release.yaml has changed since the audit")
    policy, today = load_policy(project.release.policy_source), date.today()
    if report.policy_digest != policy.digest:
        reasons.append("the policy or a license file has changed since the audit")
    if report.valid_until and report.valid_until < today.isoformat():
        reasons.append(f"a waiver or grant that the audit rests on expired on {report.valid_until}")
    reasons += [
        f"the waiver {item.waiver} for {item.finding.rule} is none of the policy's in force"
        for item in report.waived
        if not stands(item, policy, project.release, today)
    ]
    difference = compare(manifest, bundle.files)
    reasons += [f"{path}: its bytes have changed since the build" for path in difference.changed]
    reasons += [f"{path}: it is missing" for path in difference.missing]
    reasons += [f"{path}: it was not in the bundle when it was built" for path in difference.extra]
    reasons += [f"{path}: it is {kind}" for path, kind in bundle.irregular.items()]
    if reasons:
        raise Refused(
            "this bundle is not what a passing audit saw:\n  - " + "\n  - ".join(reasons),
            hint=_AUDIT,
        )
    return manifest, bundle


def _published(project: Project, manifest: Manifest) -> Published:
    """Return what the next release is held against: figures, if they are those of this bundle."""
    release = project.release
    build, evaluate = (read_receipt(project.receipt(name)) for name in ("build", "evaluate"))
    results: Mapping[str, Any] = {}
    if (
        build is not None
        and evaluate is not None
        and build.results.get("manifest_digest") == manifest.digest
        and build.inputs.get("receipt evaluate") == evaluate.digest
    ):
        results = evaluate.results
    return Published(
        repo_id=release.repo_id,
        version=release.version,
        manifest_digest=manifest.digest,
        task=release.training.task if release.training else "",
        test_split=results.get("test_split", ""),
        figures={
            name: figure["value"]
            for name, figure in results.get("figures", {}).items()
            if math.isfinite(figure["value"])
        },
        classes={
            one["label"]: {name: one[name.removeprefix("class_")] for name in CLASS_FIGURES}
            for one in results.get("classes", ())
            if one["support"]
        },
    )


def _report(path: Path) -> Report:
    try:
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise Refused("this bundle has not been audited", hint=_AUDIT) from None
    except UnicodeDecodeError:
        raise UnusableInput(f"{path} is not an audit report", hint=_AUDIT) from None


def _private_repo(hub: Hub, release: Release, state: RepoState) -> RepoState:
    if not state.exists:
        hub.create_private(release.repo_id)
        state = hub.state(release.repo_id)
    hub.assert_may_write(release.repo_id)
    if not state.private:
        raise Refused(
            f"{release.repo_id} is public already, so a commit would be visible before it is "
            "checked",
            hint="Make it private in its settings on the Hub; publishing makes it visible again.",
        )
    return state


def _commit(
    hub: Hub,
    release: Release,
    bundle: Bundle,
    head: str,
    watcher: Watcher,
) -> str:
    # An answer that got lost must not lead to a second commit.
    there = hub.tree(release.repo_id, head)
    if (
        there == bundle.files.keys()
        and _digest_at(hub, release.repo_id, head, there) == bundle.files[MANIFEST].sha256
    ):
        return head
    watcher.say(f"publish: send {len(bundle.files)} files as one commit")
    return hub.commit(
        release.repo_id,
        add={path: bundle.root / path for path in bundle.files},
        delete=sorted(there - bundle.files.keys()),
        parent=head,
        message=f"Release {release.version}",
    )


def _read_back(
    hub: Hub, release: Release, manifest: Manifest, commit: str, watcher: Watcher
) -> int:
    expected = {**manifest.files}
    there = hub.tree(release.repo_id, commit)
    wrong = sorted(there ^ (expected.keys() | {MANIFEST}))
    for number, path in enumerate(sorted(expected)):
        watcher.step("reading back", number, len(expected))
        if path in there and hub.read_back(release.repo_id, commit, path) != expected[path]:
            wrong.append(path)
    watcher.step("reading back", len(expected), len(expected))
    if _digest_at(hub, release.repo_id, commit, there) != manifest.digest:
        wrong.append(MANIFEST)
    if wrong:
        raise Unfinished(
            f"the Hub does not hold what was sent: {', '.join(dict.fromkeys(wrong))}. "
            "The repo stays private.",
            hint="Delete the repo or its last commit on the Hub, then publish again.",
        )
    return len(expected) + 1


def _digest_at(hub: Hub, repo_id: str, commit: str, there: frozenset[str]) -> str:
    """Return the digest of the manifest at a commit; empty when it has none."""
    return hub.read_back(repo_id, commit, MANIFEST).sha256 if MANIFEST in there else ""
