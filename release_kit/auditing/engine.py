"""Runs every check over a candidate and puts what they found into one report."""

from __future__ import annotations

from importlib.metadata import version

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import CHECKS, Check, manifest, provenance
from release_kit.auditing.findings import (
    DecidingKnob,
    Finding,
    JudgedPart,
    NotExamined,
    Report,
    Rule,
    Severity,
    WaivedFinding,
)
from release_kit.auditing.waivers import RULES as WAIVER_RULES
from release_kit.auditing.waivers import apply_waivers
from release_kit.errors import ReleaseKitError
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.verdicts import Decision, worst
from release_kit.progress import SILENT, Watcher

CHECK_UNFINISHED = Rule(
    "check-unfinished",
    Severity.ERROR,
    "A check could not be finished",
    "What could not be checked is not passed. Mend the cause that the message names and run the "
    "audit again; if it names none, report it as a bug.",
)

_BINDING = (manifest.CHECK, provenance.CHECK)
"""The checks that bind a report to bytes: nobody can answer for bytes that nobody saw."""


def all_rules() -> tuple[Rule, ...]:
    """Return every rule of every check, and the engine's own, sorted by id."""
    rules = [CHECK_UNFINISHED, *WAIVER_RULES, *(rule for c in CHECKS for rule in c.rules)]
    return tuple(sorted(rules, key=lambda rule: rule.id))


def waivable_rules() -> frozenset[str]:
    """Return the ids of the rules that a policy may let somebody waive at all."""
    bound = {rule.id for check in _BINDING for rule in check.rules}
    return frozenset(rule.id for check in CHECKS for rule in check.rules) - bound


def tool() -> str:
    """Return the program and version that a report names."""
    return f"release-kit {version('release-kit')}"


def run_checks(candidate: Candidate, watcher: Watcher = SILENT) -> Report:
    """Run all checks; one that fails is a finding, and the others still run."""
    findings: list[Finding] = []
    not_examined: list[NotExamined] = []
    examined: dict[str, int] = {"files": len(candidate.bundle.files)}
    finished: list[str] = []
    unfinished: list[str] = []
    for number, check in enumerate(CHECKS):
        watcher.step("auditing", number, len(CHECKS))
        try:
            outcome = check.run(candidate)
        except Exception as error:  # noqa: BLE001 - a crash must become a finding, whatever it is
            unfinished.append(check.id)
            findings.append(_could_not_check(check, error))
            continue
        _assert_owned(check, outcome.findings)
        findings.extend(outcome.findings)
        not_examined.extend(outcome.not_examined)
        for thing, count in outcome.examined.items():
            examined[thing] = examined.get(thing, 0) + count
        finished.append(check.id)
    watcher.step("auditing", len(CHECKS), len(CHECKS))
    release, judgement = candidate.release, _judgement(candidate)
    waived: list[WaivedFinding] = []
    if release is not None:
        findings, waived = apply_waivers(
            findings,
            candidate.policy,
            release,
            candidate.day,
            rules=waivable_rules(),
            paths=frozenset(candidate.bundle.files),
        )
    ends = [item.expires for item in waived]
    if judgement and judgement.valid_until:
        ends.append(judgement.valid_until)
    return Report(
        repo_id=release.repo_id if release else "",
        version=release.version if release else "",
        manifest_digest=candidate.manifest_digest,
        release_digest=candidate.release_digest,
        policy=f"{candidate.policy.name} {candidate.policy.version}",
        policy_digest=candidate.policy.digest,
        tool=tool(),
        checks=tuple(finished),
        examined=examined,
        not_examined=tuple(sorted(not_examined, key=lambda item: (item.path, item.because))),
        findings=tuple(sorted(findings, key=lambda finding: finding.sort_key)),
        unfinished=tuple(unfinished),
        waived=tuple(sorted(waived, key=lambda item: item.finding.sort_key)),
        lineage=_lineage(judgement) if judgement else (),
        knobs=_knobs(judgement) if judgement else (),
        judged_on=candidate.day.isoformat(),
        valid_until=min(ends, default=""),
    )


def _judgement(candidate: Candidate) -> Judgement | None:
    try:
        return candidate.judgement
    except Exception:  # noqa: BLE001 - the checks that need it could not be finished, and say so
        return None


def _lineage(judgement: Judgement) -> tuple[JudgedPart, ...]:
    decisions: dict[int, list[Decision]] = {}
    for decision in judgement.decisions:
        decisions.setdefault(id(decision.part), []).append(decision)
    return tuple(
        JudgedPart(
            id=part.upstream.id,
            role=part.upstream.role,
            relation=part.upstream.relation,
            declared=part.upstream.license,
            license=part.license,
            basis=part.basis,
            verdict=worst(decisions.get(id(part), ())),
        )
        for part in judgement.parts
    )


def _knobs(judgement: Judgement) -> tuple[DecidingKnob, ...]:
    return tuple(
        DecidingKnob(
            name=knob.name,
            set=knob.set,
            owner=knob.owner,
            date=knob.date,
            jurisdiction=knob.jurisdiction,
            reason=knob.reason,
            decisions=count,
        )
        for name, count in sorted(judgement.knobs.items())
        for knob in (judgement.policy.knobs[name],)
    )


def _could_not_check(check: Check, error: Exception) -> Finding:
    # An unforeseen exception's own text may hold what it choked on, so only its kind is told.
    if isinstance(error, ReleaseKitError):
        said, fix = error.message, error.hint
    else:
        said, fix = f"it stopped with {type(error).__name__}", ""
    return Finding(
        CHECK_UNFINISHED.id,
        CHECK_UNFINISHED.severity,
        f"the check {check.id} could not be finished: {said}",
        fix=fix or CHECK_UNFINISHED.help,
    )


def _assert_owned(check: Check, findings: tuple[Finding, ...]) -> None:
    owned = {rule.id for rule in check.rules}
    strangers = {finding.rule for finding in findings} - owned
    if strangers:
        raise AssertionError(f"check {check.id} does not own {sorted(strangers)}")
