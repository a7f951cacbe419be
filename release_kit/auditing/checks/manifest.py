"""The bundle holds exactly what its manifest lists, as plain files."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.bundle import MANIFEST, compare, parse_manifest
from release_kit.errors import UnusableInput

_REBUILD = "Run `release-kit build` again, or undo the change."

UNREADABLE = Rule(
    "manifest-unreadable",
    Severity.ERROR,
    "The bundle has no usable manifest",
    "Without manifest.json nobody can tell whether the published bytes are the audited ones. "
    "`release-kit build` writes it last.",
)
CHANGED = Rule(
    "file-changed",
    Severity.ERROR,
    "A file is not what the manifest says",
    "The file's size or SHA-256 differs from the manifest, so it was changed after the build.",
)
MISSING = Rule(
    "file-missing",
    Severity.ERROR,
    "A file of the manifest is missing",
    "The manifest lists the file, but the bundle does not hold it.",
)
EXTRA = Rule(
    "file-unlisted",
    Severity.ERROR,
    "A file is not in the manifest",
    "The bundle holds a file that the build did not put there.",
)
IRREGULAR = Rule(
    "file-irregular",
    Severity.ERROR,
    "Not a regular readable file",
    "Symbolic links, devices, pipes and unreadable files cannot be bound to bytes; a link may "
    "publish something from outside the bundle.",
)
OTHER_RELEASE = Rule(
    "manifest-other-release",
    Severity.ERROR,
    "The manifest belongs to another release",
    "The manifest names another repo id or version than release.yaml; the bundle was built "
    "before release.yaml was changed.",
)


def _findings(candidate: Candidate) -> Iterator[Finding]:
    bundle = candidate.bundle
    for path, kind in bundle.irregular.items():
        yield Finding(
            IRREGULAR.id,
            IRREGULAR.severity,
            f"this is {kind}, not a readable regular file",
            path,
            fix="Replace it by the file itself, or remove it.",
        )
    try:
        manifest = parse_manifest(bundle.bytes(MANIFEST), MANIFEST)
    except UnusableInput as error:
        message = error.message if MANIFEST in bundle.files else f"there is no {MANIFEST}"
        yield Finding(UNREADABLE.id, UNREADABLE.severity, message, MANIFEST, fix=_REBUILD)
        return
    difference = compare(manifest, bundle.files)
    for rule, paths, message in (
        (CHANGED, difference.changed, "its bytes are not those of the manifest"),
        (MISSING, difference.missing, "the manifest lists it, but it is not there"),
        (EXTRA, difference.extra, "it is there, but the manifest does not list it"),
    ):
        for path in paths:
            if path not in bundle.irregular:
                yield Finding(rule.id, rule.severity, message, path, fix=_REBUILD)
    release = candidate.release
    if release and (manifest.repo_id, manifest.version) != (release.repo_id, release.version):
        yield Finding(
            OTHER_RELEASE.id,
            OTHER_RELEASE.severity,
            f"the bundle was built as {manifest.repo_id} {manifest.version}, "
            f"but release.yaml says {release.repo_id} {release.version}",
            MANIFEST,
            fix=_REBUILD,
        )


def _run(candidate: Candidate) -> Outcome:
    return Outcome(tuple(_findings(candidate)))


CHECK = Check(
    "manifest",
    "The bundle is what its manifest says",
    (UNREADABLE, CHANGED, MISSING, EXTRA, IRREGULAR, OTHER_RELEASE),
    _run,
)
