"""The policy allows the release, and the bundle discharges what the lineage's licenses ask for."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.licensing.detection import recognize
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.obligations import Conflict
from release_kit.licensing.proofs import LICENSE, gaps, own_license_texts, third_party_folder
from release_kit.licensing.verdicts import Decision
from release_kit.release import RELEASE_FILE

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
CONFLICT = Rule(
    "license-conflict",
    Severity.ERROR,
    "Two licenses ask for what no release can do at once",
    "Each alone could be met, both together cannot, whatever license is chosen.",
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
    judgement = candidate.judgement
    if judgement is None:
        # The check of the lineage says so.
        return Outcome(())
    findings = [
        *(_decision(judgement, d) for d in judgement.decisions if d.decide != "allow"),
        *(_conflict(conflict) for conflict in judgement.conflicts),
        *_obligations(candidate, judgement),
        *_license_file(candidate, judgement),
    ]
    return Outcome(tuple(findings), {"obligations": len(judgement.owed)})


def _decision(judgement: Judgement, decision: Decision) -> Finding:
    part, release = decision.part, judgement.release
    subject = (
        f"{part.upstream.id} ({part.upstream.role}, {part.license})"
        if part
        else f"{release.repo_id} ({release.license})"
    )
    rule = DENIED if decision.decide == "deny" else REVIEW
    by = (f"policy rule {decision.rule}",) if decision.rule else ()
    return Finding(
        rule.id,
        rule.severity,
        f"{subject}: {decision.because}",
        RELEASE_FILE,
        *(part.upstream.position if part else release.license_position),
        fix=decision.how_to_fix,
        cites=(*decision.cites, *by, *(str(judgement.policy.knobs[k]) for k in decision.knobs)),
        upstream=part.upstream.id if part else "",
        clause=decision.rule,
    )


def _conflict(conflict: Conflict) -> Finding:
    first, second = conflict.first, conflict.second
    places = " and ".join(
        f"{o.part.upstream.id} ({RELEASE_FILE}:{':'.join(map(str, o.part.upstream.position))})"
        for o in (first, second)
    )
    return Finding(
        CONFLICT.id,
        CONFLICT.severity,
        f"{places}: {conflict.because}",
        RELEASE_FILE,
        *second.part.upstream.position,
        fix=conflict.fix,
        cites=(first.cite, second.cite),
        upstream=second.part.upstream.id,
        clause=conflict.kind,
    )


def _obligations(candidate: Candidate, judgement: Judgement) -> Iterator[Finding]:
    for gap in gaps(judgement, candidate.bundle):
        obligation = gap.obligation
        upstream = obligation.part.upstream
        yield Finding(
            UNMET.id,
            UNMET.severity,
            f"{upstream.id} ({obligation.license.id}): {gap.missing}. {obligation.term.fact}",
            gap.path or RELEASE_FILE,
            *((0, 0) if gap.path else upstream.position),
            fix=gap.fix,
            cites=(obligation.cite, f"condition {obligation.kind}"),
            upstream=upstream.id,
            clause=obligation.kind,
        )


def _license_file(candidate: Candidate, judgement: Judgement) -> Iterator[Finding]:
    license_id = judgement.release.license
    license = judgement.policy.licenses.get(license_id)
    wrong = ""
    if LICENSE not in candidate.bundle.files:
        wrong = f"there is no {LICENSE} file"
    elif license is None or not license.texts:
        if not _is_upstreams_own(candidate, judgement):
            wrong = f"nobody knows the text of {license_id}, so {LICENSE} cannot be compared"
    else:
        text = candidate.bundle.text(LICENSE)
        found = recognize(text, judgement.policy.licenses, (license_id,))
        others = {one.license for one in found.found} - {license_id}
        if license_id not in {one.license for one in found.found}:
            wrong = f"{LICENSE} does not hold the text of {license_id}"
        elif found.more:
            wrong = (
                f"{LICENSE} holds {found.more} words besides the text of {license_id}, from line "
                f"{found.more_line} on; they may be terms"
            )
        elif others:
            wrong = f"{LICENSE} holds the text of {', '.join(sorted(others))} as well"
    if wrong:
        yield Finding(
            NO_LICENSE.id,
            NO_LICENSE.severity,
            wrong,
            LICENSE,
            fix=_how_to_write(judgement),
        )


def _is_upstreams_own(candidate: Candidate, judgement: Judgement) -> bool:
    """Tell whether LICENSE is, byte for byte, the one that came with a part under that license."""
    digest = candidate.bundle.files[LICENSE].sha256
    return any(
        file.sha256 == digest
        for part in judgement.parts
        if part.license == judgement.release.license
        for path, file in candidate.bundle.files.items()
        if path.startswith(third_party_folder(part.upstream) + "/")
    )


def _how_to_write(judgement: Judgement) -> str:
    license = judgement.policy.licenses.get(judgement.release.license)
    carried = license is not None and any(known.file for known in license.texts)
    owned = license is not None and any(
        own_license_texts(part, license)
        for part in judgement.parts
        if part.license == judgement.release.license
    )
    if carried or owned:
        return "Run `release-kit build`, which writes it."
    return (
        f"Put the LICENSE file that came with an upstream under {judgement.release.license} into"
        " that upstream's folder, name the folder as its path, and build again."
    )


CHECK = Check(
    "license",
    "The lineage's licenses permit the release, and their conditions are met",
    (DENIED, REVIEW, CONFLICT, UNMET, NO_LICENSE),
    _run,
)
