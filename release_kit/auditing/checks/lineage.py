"""What the release was made from is declared, closed, and agrees with what the files say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity, unquoted
from release_kit.licensing.detection import Detected, detect
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.lineage import TEXT, Doubt, unlisted
from release_kit.licensing.proofs import CARD, LICENSE, THIRD_PARTY
from release_kit.release import RELEASE_FILE

UNDECLARED = Rule(
    "lineage-undeclared",
    Severity.ERROR,
    "Nothing says what the release was made from",
    "Without release.yaml there is no lineage, so no license can be judged. Give the project "
    "folder, or name the file with --release.",
)
INCOMPLETE = Rule(
    "lineage-incomplete",
    Severity.ERROR,
    "A file names an upstream that the lineage does not list",
    "The terms of a base of a base, or of its data, may reach the release as well. List it with "
    "its own license and source.",
)
CONTRADICTION = Rule(
    "license-contradiction",
    Severity.ERROR,
    "Two places say different licenses for the same thing",
    "Nobody can rely on either before a person has read both. The finding names the two places.",
)
ALTERED = Rule(
    "license-text-altered",
    Severity.WARNING,
    "A LICENSE file is not word for word a known text",
    "Added or changed words may be terms, such as the paragraph that turns a permissive license "
    "into another. A person must read them.",
)
UNREADABLE = Rule(
    "license-unreadable",
    Severity.ERROR,
    "A file that tells the license or the lineage cannot be read",
    "What could not be read may say anything, so it is not passed.",
)
SPELLING = Rule(
    "license-spelling",
    Severity.NOTE,
    "A license was recognized by another spelling",
    "The word plainly means a known id and was judged as that. Write the id.",
)
CONCLUDED = Rule(
    "license-concluded",
    Severity.NOTE,
    "A license was concluded from the upstream's own files",
    "Nobody declared it, and the upstream's files leave no doubt. Check it and write it down.",
)
FROM_TABLE = Rule(
    "license-from-table",
    Severity.WARNING,
    "A license was taken from the table of model ids",
    "None of the upstream's own files is at hand, so the table spoke. Fetch its LICENSE file: the "
    "text decides.",
)


def _run(candidate: Candidate) -> Outcome:
    judgement = candidate.judgement
    if judgement is None:
        finding = Finding(
            UNDECLARED.id,
            UNDECLARED.severity,
            f"there is no {RELEASE_FILE} beside the bundle, so no upstream license is known",
            fix="Audit the project folder, or name its file with --release.",
        )
        return Outcome((finding,))
    found = detect(candidate.bundle.root, judgement.policy.licenses, skip=THIRD_PARTY)
    findings = [
        *(_doubt(judgement, doubt) for doubt in judgement.doubts),
        *_in_bundle(judgement, found, candidate.bundle.irregular),
    ]
    counts = {"upstreams": len(judgement.parts)}
    for basis in ("text", "statement", "table", "declaration"):
        number = sum(part.basis == basis for part in judgement.parts)
        if number:
            counts[f"licenses known by {basis}"] = number
    return Outcome(tuple(findings), counts)


@cache
def _rules() -> dict[str, Rule]:
    return {rule.id: rule for rule in CHECK.rules}


def _doubt(judgement: Judgement, doubt: Doubt) -> Finding:
    rule, upstream = _rules()[doubt.rule], doubt.upstream
    subject = upstream.id if upstream else judgement.release.repo_id
    said = unquoted(doubt.message) if rule is UNREADABLE else doubt.message
    return Finding(
        rule.id,
        rule.severity,
        f"{subject}: {said}",
        RELEASE_FILE,
        *(upstream.position if upstream else judgement.release.license_position),
        fix=doubt.fix,
        upstream=upstream.id if upstream else "",
    )


def _in_bundle(
    judgement: Judgement, found: Detected, irregular: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield where the bundle's own files contradict release.yaml.

    The card, LICENSE and what is no regular file have checks of their own; the third parties'
    folder was left out of what was found.
    """
    release = judgement.release
    for evidence in found.licenses:
        is_whole = evidence.kind != TEXT or evidence.exact
        if evidence.path in {CARD, LICENSE} or (evidence.license == release.license and is_whole):
            continue
        line, column = release.license_position
        # A word of the bundle's own may be personal data, which no report repeats.
        says = (evidence.license if is_whole else "") or "a license that is not known here"
        yield Finding(
            CONTRADICTION.id,
            CONTRADICTION.severity,
            f"{RELEASE_FILE}:{line}:{column} releases under {release.license}, but this file "
            f"({evidence.kind}) says {says}",
            evidence.path,
            evidence.line,
            int(evidence.line > 0),
            fix="Correct the file, or list what it came from in the lineage and keep it out of the"
            " bundle's own files.",
        )
    for upstream, fix in unlisted(found, release):
        yield Finding(
            INCOMPLETE.id,
            INCOMPLETE.severity,
            f"this file ({upstream.kind}) says that the model was made from {upstream.id}, which "
            "the lineage does not list",
            upstream.path,
            upstream.line,
            int(upstream.line > 0),
            fix=fix,
        )
    for unreadable in found.unreadable:
        if unreadable.path == CARD or unreadable.path in irregular:
            continue
        because = unquoted(unreadable.because)
        yield Finding(
            UNREADABLE.id,
            UNREADABLE.severity,
            f"it {because}, so what it says about license or lineage is not known",
            unreadable.path,
            fix="Write the file anew.",
        )


CHECK = Check(
    "lineage",
    "The lineage is declared and closed, and no file contradicts it",
    (UNDECLARED, INCOMPLETE, CONTRADICTION, ALTERED, UNREADABLE, SPELLING, CONCLUDED, FROM_TABLE),
    _run,
)
