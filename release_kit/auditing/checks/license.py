"""The policy allows the release, and the bundle discharges what the lineage's licenses ask for."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.licensing.licenses import normalized
from release_kit.licensing.obligations import LICENSE, gaps, release_license_text
from release_kit.licensing.verdicts import Decision, decide
from release_kit.release import RELEASE_FILE, Release

UNDECLARED = Rule(
    "lineage-undeclared",
    Severity.ERROR,
    "Nothing says what the release was made from",
    "Without release.yaml there is no lineage, so no license can be judged. Give the project "
    "folder, or name the file with --release.",
)
DENIED = Rule(
    "license-denied",
    Severity.ERROR,
    "The policy forbids the release",
    "A license of the lineage does not permit the release as planned. The finding cites the "
    "section and says what would permit it.",
)
REVIEW = Rule(
    "license-review",
    Severity.WARNING,
    "A person must decide about a license",
    "The policy has no rule for the case, a fact is missing, or nobody has verified the license. "
    "No verdict is never a pass.",
)
UNMET = Rule(
    "obligation-unmet",
    Severity.ERROR,
    "A condition of an upstream license is not met",
    "The license permits the release only if this is done; the finding names the section and the "
    "file that should show it.",
)
NO_LICENSE = Rule(
    "license-file",
    Severity.ERROR,
    "LICENSE does not hold the license of the release",
    "Recipients have only the rights that the LICENSE file gives them; a tag in the card is not a "
    "license.",
)


def _run(candidate: Candidate) -> Outcome:
    release = candidate.release
    if release is None:
        finding = Finding(
            UNDECLARED.id,
            UNDECLARED.severity,
            f"there is no {RELEASE_FILE} beside the bundle, so no upstream license is known",
            fix="Audit the project folder, or name its file with --release.",
        )
        return Outcome((finding,))
    findings = [
        *(_decision(release, decision) for decision in _objections(candidate, release)),
        *_obligations(candidate, release),
        *_license_file(candidate, release),
    ]
    return Outcome(tuple(findings), {"upstreams": len(release.lineage)})


def _objections(candidate: Candidate, release: Release) -> Iterator[Decision]:
    for decision in decide(release, candidate.policy):
        if decision.decide != "allow":
            yield decision


def _decision(release: Release, decision: Decision) -> Finding:
    upstream = decision.upstream
    subject = (
        f"{upstream.id} ({upstream.role}, {upstream.license})"
        if upstream
        else f"{release.repo_id} ({release.license})"
    )
    rule = DENIED if decision.decide == "deny" else REVIEW
    by = (f"policy rule {decision.rule}",) if decision.rule else ()
    return Finding(
        rule.id,
        rule.severity,
        f"{subject}: {decision.because}",
        RELEASE_FILE,
        *(upstream.position if upstream else release.license_position),
        fix=decision.how_to_fix,
        cites=(*decision.cites, *by),
    )


def _obligations(candidate: Candidate, release: Release) -> Iterator[Finding]:
    for gap in gaps(release, candidate.policy, candidate.bundle):
        obligation = gap.obligation
        yield Finding(
            UNMET.id,
            UNMET.severity,
            f"{obligation.upstream.id} ({obligation.license.id}): {gap.missing}. "
            f"{obligation.condition.fact}",
            gap.path or RELEASE_FILE,
            *((0, 0) if gap.path else obligation.upstream.position),
            fix=gap.fix,
            cites=(obligation.cite,),
        )


def _license_file(candidate: Candidate, release: Release) -> Iterator[Finding]:
    wanted = release_license_text(release)
    if LICENSE not in candidate.bundle.files:
        wrong = f"there is no {LICENSE} file"
    elif wanted is None:
        wrong = f"nothing at hand carries the text of {release.license} to compare {LICENSE} with"
    elif normalized(wanted) not in normalized(candidate.bundle.text(LICENSE)):
        wrong = f"{LICENSE} does not hold the text of {release.license}"
    else:
        return
    yield Finding(
        NO_LICENSE.id,
        NO_LICENSE.severity,
        wrong,
        LICENSE,
        fix="Run `release-kit build`, which writes it, once the license is one whose text an "
        "installed package or an upstream's folder carries.",
    )


CHECK = Check(
    "license",
    "The lineage's licenses permit the release, and their conditions are met",
    (UNDECLARED, DENIED, REVIEW, UNMET, NO_LICENSE),
    _run,
)
