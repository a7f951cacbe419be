"""What release.yaml says about the data is what the policy asks for, and redaction agrees."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.licensing.policy import Demand
from release_kit.release import RELEASE_FILE, Release, Upstream

UNDECLARED = Rule(
    "data-undeclared",
    Severity.WARNING,
    "Something that the policy asks about a dataset is not stated",
    "Legal basis, consent, period and opt-outs are facts that no file shows, so somebody must "
    "state them. The severity comes from the policy's demand.",
)
CONTRADICTION = Rule(
    "data-contradiction",
    Severity.WARNING,
    "What is stated about a dataset is not what was found",
    "What is declared and what was seen cannot both be right. A person must look at both.",
)
_RANK = tuple(Severity)
"""The worst first."""


def _run(candidate: Candidate) -> Outcome:
    release = candidate.release
    if release is None:
        return Outcome(())
    datasets = release.upstreams("dataset")
    findings = [
        finding
        for dataset in datasets
        for finding in (
            *_undeclared(candidate.policy.data_demands, release, dataset),
            *_contradictions(candidate, dataset),
        )
    ]
    return Outcome(tuple(findings), {"datasets declared": len(datasets)})


def _undeclared(
    demands: tuple[Demand, ...], release: Release, dataset: Upstream
) -> Iterator[Finding]:
    """Yield one finding a field, of the strictest demand that asks for it."""
    stated = _stated(dataset)
    facts = _facts(release, dataset)
    asked: list[tuple[Severity, str, Demand]] = []
    for demand in demands:
        severity, fields = Severity(demand.severity), list(demand.fields)
        known = {name: facts[name] for name in demand.when if facts[name]}
        if any(known[name].isdisjoint(demand.when[name]) for name in known):
            continue
        if unknown := next((name for name in demand.when if name not in known), ""):
            # Whether it is asked at all turns on this, so this is asked first.
            severity = max(severity, Severity.WARNING, key=_RANK.index)
            fields = [unknown.partition(".")[2]]
        asked += [(severity, field, demand) for field in fields if not stated[field]]
    told: set[str] = set()
    for severity, field, demand in sorted(asked, key=lambda item: _RANK.index(item[0])):
        if field in told:
            continue
        told.add(field)
        yield Finding(
            UNDECLARED.id,
            severity,
            f"{dataset.id}: collection.{field} is not stated",
            RELEASE_FILE,
            *dataset.position,
            fix=f"Write {field} under collection of this dataset in release.yaml, once somebody "
            "who can answer for it has told you.",
            cites=(f"policy: {demand.because}", *demand.cite),
            upstream=dataset.id,
            clause=demand.id,
        )


def _stated(dataset: Upstream) -> dict[str, bool]:
    said = dataset.collection
    return {
        "personal_data": bool(said.personal_data),
        "lawful_basis": bool(said.lawful_basis),
        "consent": bool(said.consent),
        "from": bool(said.since),
        "until": bool(said.until),
        "opt_outs": bool(said.opt_outs),
        "opt_outs_on": bool(said.opt_outs_on),
    }


def _facts(release: Release, dataset: Upstream) -> dict[str, set[str]]:
    """Return what demands may turn on; empty where nobody stated it."""
    said = dataset.collection
    return {
        "upstream.relation": {dataset.relation},
        "collection.personal_data": {said.personal_data} - {""},
        "collection.lawful_basis": set(said.lawful_basis),
        "release.purpose": {release.purpose},
        "release.visibility": {release.visibility},
        "organization.kind": {release.organization.kind},
    }


def _contradictions(candidate: Candidate, dataset: Upstream) -> Iterator[Finding]:
    said = dataset.collection
    redacted = candidate.receipts.get("redact")
    result = redacted.results.get(dataset.id, {}) if redacted else {}
    found = {
        kind
        for where in ("by_entity", "remaining", "kept")
        for kind, count in result.get(where, {}).items()
        if count
    }
    if said.personal_data == "none" and found:
        yield _contradiction(
            dataset,
            f"personal_data: none, but redaction found {', '.join(sorted(found))}",
            "Write personal_data: removed, or have a person look whether these are false alarms.",
        )
    today = candidate.day.isoformat()
    for field, moment in (("until", said.until), ("opt_outs_on", said.opt_outs_on)):
        if moment > today:
            yield _contradiction(
                dataset,
                f"{field} is {moment}, and today is {today}",
                f"Correct {field} under collection of this dataset in release.yaml.",
            )


def _contradiction(dataset: Upstream, said: str, fix: str) -> Finding:
    return Finding(
        CONTRADICTION.id,
        CONTRADICTION.severity,
        f"{dataset.id}: {said}",
        RELEASE_FILE,
        *dataset.position,
        fix=fix,
        upstream=dataset.id,
    )


CHECK = Check(
    "data-declarations",
    "What must be known about the data is stated, and is so",
    (UNDECLARED, CONTRADICTION),
    _run,
)
