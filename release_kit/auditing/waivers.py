"""Findings for which somebody answers: taken out of the verdict, kept in the report.

A waiver covers one rule of the audit (and the policy rule or condition behind the finding), one
upstream or path, and one release. One that is out of date covers nothing, and one that covers
nothing is itself a finding, so that the list stays true.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from release_kit.auditing.findings import Finding, Rule, Severity, WaivedFinding
from release_kit.licensing.obligations import CONFLICTS
from release_kit.licensing.policy import Policy, Waiver
from release_kit.release import RELEASE_FILE, Release

EXPIRED = Rule(
    "waiver-expired",
    Severity.WARNING,
    "A waiver for this release is not in force",
    "It no longer, or not yet, covers anything. Have its approver renew it, or take it out.",
)
UNUSED = Rule(
    "waiver-unused",
    Severity.WARNING,
    "A waiver for this release covers no finding",
    "What it was given for is gone, and left standing it would hide the next one. Take it out.",
)
UNMATCHED = Rule(
    "waiver-unmatched",
    Severity.WARNING,
    "A waiver for this release names something that does not exist",
    "It names an upstream, a file, or a rule that this release or this audit does not have, so it "
    "cannot do what somebody believes it does.",
)
RULES = (EXPIRED, UNUSED, UNMATCHED)


def apply_waivers(
    findings: Iterable[Finding],
    policy: Policy,
    release: Release,
    day: date,
    *,
    rules: frozenset[str],
    paths: frozenset[str],
) -> tuple[list[Finding], list[WaivedFinding]]:
    """Return the findings that stay, those of the waivers among them, and the waived ones.

    `rules` are the ids of the rules that a waiver may name, `paths` the files of the bundle.
    """
    used: set[Waiver] = set()
    kept: list[Finding] = []
    waived: list[WaivedFinding] = []
    found = tuple(findings)
    for finding in found:
        cover = _covering(finding, policy, release, day) if finding.rule in rules else None
        if cover is None:
            kept.append(finding)
        else:
            used.add(cover)
            waived.append(_set_aside(finding, cover))
    upstreams = frozenset(upstream.id for upstream in release.lineage)
    clauses = {*policy.proofs, *policy.limitation_proofs, *CONFLICTS}
    clauses |= {rule.id for rule in policy.rules}
    clauses |= {demand.id for demand in policy.data_demands}
    clauses |= {limit.id for limit in policy.leakage_limits}
    clauses |= {line.id for line in policy.unsearched_media}
    clauses |= {gate.id for gate in policy.quality_gates}
    clauses |= {gate.id for gate in policy.leak_gates}
    clauses |= {limit.id for limit in policy.weight_limits}
    clauses |= {limit.id for limit in policy.unexamined_weights}
    clauses |= {limit.id for limit in policy.suspicious_matrices}
    for waiver in _for(release, policy):
        unknown = ""
        if waiver in used:
            # What it was given for is there, such as a finding about a file that is missing.
            continue
        if waiver.rule not in rules:
            unknown = f"the audit has no rule '{waiver.rule}' that may be waived"
        elif waiver.clause and not set(waiver.clause.split("+")) <= clauses:
            unknown = f"the policy has no rule or condition '{waiver.clause}'"
        elif waiver.upstream and waiver.upstream not in upstreams:
            unknown = f"the lineage has no upstream '{waiver.upstream}'"
        elif waiver.path and waiver.path not in {*paths, RELEASE_FILE}:
            unknown = f"the bundle has no file '{waiver.path}'"
        kept.append(_about(waiver, day, unknown, _nearly_covered(waiver, found)))
    return kept, waived


def waived_paths(rule: Rule, policy: Policy, release: Release, day: date) -> frozenset[str]:
    """Return the files for which somebody answers on `day`, as for a rule without clauses."""
    return frozenset(
        waiver.path
        for waiver in _for(release, policy)
        if waiver.rule == rule.id and not waiver.clause and waiver.path and waiver.holds(day)
    )


def stands(waived: WaivedFinding, policy: Policy, release: Release, day: date) -> bool:
    """Tell whether a waiver of `policy` in force on `day` covers what a report says is waived."""
    return any(
        waiver.holds(day)
        and _covers(waiver, waived.finding)
        and waived == _set_aside(waived.finding, waiver)
        for waiver in _for(release, policy)
    )


def _covering(finding: Finding, policy: Policy, release: Release, day: date) -> Waiver | None:
    # Of several the one that ends last, so that the one it renews can be taken out.
    covers = [w for w in _for(release, policy) if w.holds(day) and _covers(w, finding)]
    return max(covers, key=lambda waiver: waiver.expires, default=None)


def _set_aside(finding: Finding, waiver: Waiver) -> WaivedFinding:
    return WaivedFinding(
        finding,
        waiver.id,
        waiver.owner,
        waiver.approver,
        waiver.reason,
        waiver.evidence,
        waiver.expires,
    )


def _for(release: Release, policy: Policy) -> list[Waiver]:
    name = f"{release.repo_id}@{release.version}"
    return [waiver for waiver in policy.waivers if waiver.release == name]


def _covers(waiver: Waiver, finding: Finding) -> bool:
    if waiver.rule != finding.rule or waiver.clause != finding.clause:
        return False
    if waiver.upstream:
        return waiver.upstream == finding.upstream
    # A finding about an upstream is waived by the upstream's id, whatever file shows it.
    return not finding.upstream and waiver.path == finding.path


def _nearly_covered(waiver: Waiver, findings: Iterable[Finding]) -> list[str]:
    """Return what the waiver's `rule` would have to say to cover a finding that is there."""
    return sorted(
        {
            f"{finding.rule}/{finding.clause}" if finding.clause else finding.rule
            for finding in findings
            if finding.rule == waiver.rule
            and _covers(replace(waiver, clause=finding.clause), finding)
        }
    )


def _about(waiver: Waiver, day: date, unknown: str, nearly: list[str]) -> Finding:
    if unknown:
        return _finding(UNMATCHED, waiver, unknown, "Correct the waiver, or take it out.")
    if not waiver.holds(day):
        over = waiver.expires < day.isoformat()
        said = f"until {waiver.expires}" if over else f"from {waiver.created} on"
        return _finding(
            EXPIRED,
            waiver,
            f"it holds {said}, and today is {day.isoformat()}",
            "Have an approver renew it, or mend what it was given for and take it out.",
        )
    return _finding(
        UNUSED,
        waiver,
        "no finding of this audit is what it was given for",
        f"Write rule: {' or '.join(nearly)}, or take it out."
        if nearly
        else "Take it out of the policy.",
    )


def _finding(rule: Rule, waiver: Waiver, said: str, fix: str) -> Finding:
    return Finding(
        rule.id,
        rule.severity,
        f"waiver {waiver.id} ({waiver.owner}, approved by {waiver.approver}): {said}",
        waiver.file,
        *waiver.position,
        fix=fix,
    )
