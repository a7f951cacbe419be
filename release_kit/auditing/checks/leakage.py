"""What was held out was not trained on, or no more of it than the policy lets pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.licensing.policy import LeakageLimit
from release_kit.release import RELEASE_FILE

LEAKAGE = Rule(
    "data-leakage",
    Severity.WARNING,
    "Held-out records stand in the training data as well",
    "Figures that were measured on what the model has read are too good. The severity comes from "
    "the policy's limit.",
)
_REPEATS = {"exact": ("exact",), "exact-or-near": ("exact", "near")}
_SAID = {
    "exact": "stand in the training data in the same words",
    "exact-or-near": "stand in the training data in the same words, or nearly so",
}


def _run(candidate: Candidate) -> Outcome:
    release, evaluated = candidate.release, candidate.receipts.get("evaluate")
    if release is None or not candidate.in_project:
        return Outcome(())
    if release.training is None:
        because = "the model was loaded: no data was held out here, and no figures are stated"
        return Outcome((), {}, (NotExamined(RELEASE_FILE, because),))
    found = evaluated.results.get("overlap") if evaluated else None
    if not found:
        why = "nobody measured how much of the held-out data was trained on"
        fix = "Delete out/receipts/evaluate.json and run `release-kit run`, which measures it."
        return Outcome((_finding(Severity.WARNING, why, fix),))
    limits = candidate.policy.leakage_limits
    return Outcome(tuple(_findings(found, limits)), {"records held out": found["of"]})


def _findings(found: Mapping[str, Any], limits: tuple[LeakageLimit, ...]) -> Iterator[Finding]:
    """Yield one finding a kind, of the strictest limit that was passed."""
    for kind, counted in _REPEATS.items():
        count = sum(found[name] for name in counted)
        passed = [o for o in limits if o.kind == kind and count > o.above * found["of"]]
        if passed:
            limit = min(passed, key=lambda o: (list(Severity).index(Severity(o.severity)), o.above))
            yield _finding(
                Severity(limit.severity),
                f"{count} of {found['of']} held-out records {_SAID[kind]}; the limit is a share "
                f"of {limit.above:g}",
                "Take repeated records out of the data, then run `release-kit run`.",
                limit,
            )


def _finding(severity: Severity, said: str, fix: str, limit: LeakageLimit | None = None) -> Finding:
    return Finding(
        LEAKAGE.id,
        severity,
        said,
        RELEASE_FILE,
        fix=fix,
        cites=(f"policy: {limit.because}",) if limit else (),
        clause=limit.id if limit else "",
    )


CHECK = Check(
    "leakage",
    "The held-out data was not trained on",
    (LEAKAGE,),
    _run,
)
