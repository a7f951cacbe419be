"""The weights tell no more of the data that they were trained on than the policy lets pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.checks.gates import about, finite, mapping, rank
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.leak_measures import MEASURES
from release_kit.licensing.policy import LeakGate
from release_kit.release import RELEASE_FILE

SHOWN = Rule(
    "leaks-shown",
    Severity.WARNING,
    "The weights tell more of their training data than the policy lets pass",
    "Weights that are published cannot be called back, nor what they tell. The severity and what "
    "to do come from the policy's gate.",
)
UNMEASURED = Rule(
    "leaks-unmeasured",
    Severity.WARNING,
    "What the weights tell of their training data was not measured as the policy asks",
    "That nobody measured a leak does not show that there is none. The severity comes from the "
    "policy's gates.",
)
_INCOMPLETE = "time ended before all questions about leaks were asked, so the intervals are wide"
_NOT_THERE = {
    "canaries-planted": "no canaries were planted in the training data, so gates about them are"
    " silent",
    "values-redacted": "redaction took nothing out, so gates about what it took out are silent",
}


def _run(candidate: Candidate) -> Outcome:
    release = candidate.release
    if release is None or not candidate.in_project:
        return Outcome(())
    if release.training is not None:
        task: str | None = release.training.task
    else:
        made = candidate.receipts.get("load")
        told = made.results if made else {}
        # Where nothing tells what it is for, it may be any of them.
        task = str(told.get("task", "")) if told.get("architecture") else None
    gates = [gate for gate in candidate.policy.leak_gates if task is None or gate.is_for(task)]
    silent = {gate.only_where for gate in gates} & _absent(candidate)
    gates = [gate for gate in gates if gate.only_where not in silent]
    results, why = _measured(candidate, task or "")
    unknown = {gate: why or _why_unknown(gate, results) for gate in gates}
    unknown = {gate: because for gate, because in unknown.items() if because}
    known = {gate.measure for gate in gates} - {gate.measure for gate in unknown}
    unseen = [_NOT_THERE[where] for where in sorted(silent)]
    for gate in [gate for gate in unknown if gate.instead in known]:
        title, other = MEASURES[gate.measure].title, MEASURES[gate.instead].title
        unseen.append(f"{title}: not measured ({unknown.pop(gate)}); judged by {other}")
    if results and results.get("complete") is not True:
        unseen.append(_INCOMPLETE)
    return Outcome(
        (*_shown(gates, results), *_unmeasured(unknown)),
        {"leak gates": len(gates)},
        tuple(NotExamined(RELEASE_FILE, because) for because in dict.fromkeys(unseen)),
    )


def _absent(candidate: Candidate) -> set[str]:
    """Return which words of `only_where` are certainly not so."""
    training = candidate.release.training if candidate.release else None
    absent = set() if training and training.canaries else {"canaries-planted"}
    redacted = candidate.receipts.get("redact")
    counts = (
        [mapping(one).get("by_entity") for one in redacted.results.values()] if redacted else ()
    )
    if counts and all(isinstance(one, Mapping) and not any(one.values()) for one in counts):
        absent.add("values-redacted")
    return absent


def _measured(candidate: Candidate, task: str) -> tuple[Mapping[str, Any], str]:
    """Return what was measured of these weights, or nothing, and why it cannot be used."""
    receipt = candidate.receipts.get("leaks")
    if receipt is None:
        return {}, "there is no receipt of the stage leaks"
    trained = candidate.release is not None and candidate.release.training is not None
    made = candidate.receipts.get("train" if trained else "load")
    if made is None or not made.outputs or not made.outputs.items() <= receipt.inputs.items():
        return {}, "other weights than these were measured"
    results = receipt.results
    if results.get("task") != task:
        return {}, "they were measured as those of a model for another task"
    readings, missing = results.get("readings"), results.get("not_measured")
    whole = isinstance(readings, list) and all(isinstance(one, dict) for one in readings)
    if not whole or not isinstance(missing, dict):
        return {}, "the receipt of the stage leaks is damaged"
    return results, ""


def _about(gate: LeakGate, results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the readings that the gate is about."""
    readings = [one for one in results.get("readings", ()) if one.get("measure") == gate.measure]
    if not MEASURES[gate.measure].by_repeats:
        return readings
    most = gate.up_to_repeats
    # Where nobody says how often something stands there, it may be once.
    return [
        one
        for one in readings
        if type(one.get("repeats")) is not int
        or (one["repeats"] != 0 and (most is None or one["repeats"] <= most))
    ]


def _number(gate: LeakGate, reading: Mapping[str, Any]) -> float | None:
    """Return what the gate is about; None for what cannot be."""
    kind, value = MEASURES[gate.measure], finite(reading.get("value"))
    number = finite(reading.get(gate.by))
    if value is None or number is None or not kind.least <= value <= kind.most:
        return None
    # Noise of binary numbers around 0 is no leak.
    return round(number, 9)


def _shown(gates: Sequence[LeakGate], results: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield one finding a measure and number of repeats, of the strictest gate that is missed."""
    missed: dict[tuple[str, str], list[tuple[int, bool, float, Finding]]] = {}
    for gate in gates:
        for reading in _about(gate, results):
            number = _number(gate, reading)
            if number is None or reading.get("means_nothing") or gate.met(number):
                continue
            said = f"{_said(gate, reading)}; the policy asks for {gate.limit}"
            found = about(SHOWN, (gate,), gate.severity, said, gate.how_to_fix)
            same = (gate.measure, str(reading.get("repeats")))
            # What is shown tells more than what is not excluded.
            order = (rank(gate.severity), gate.by == "high", -number)
            missed.setdefault(same, []).append((*order, found))
    for same_thing in missed.values():
        yield min(same_thing, key=lambda one: (*one[:3], one[3].sort_key))[3]


def _said(gate: LeakGate, reading: Mapping[str, Any]) -> str:
    kind = MEASURES[gate.measure]
    unit = " bits" if kind.unit == "bits" else ""
    said = f"{kind.title}: {reading['value']:.4g}{unit}"
    low, high = finite(reading.get("low")), finite(reading.get("high"))
    if low is not None and high is not None and low < high:
        said += f" ({low:.4g} to {high:.4g} with 95 % confidence)"
    if (items := finite(reading.get("of"))) is not None:
        said += f", of {items:.0f}"
    if isinstance(how := reading.get("how"), str) and how:
        said += f" ({how})"
    if kind.by_repeats and (repeats := finite(reading.get("repeats"))) is not None:
        said += f", planted {repeats:.0f} time{'' if repeats == 1 else 's'} each"
    return said


def _unmeasured(unknown: Mapping[LeakGate, str]) -> Iterator[Finding]:
    """Yield one finding a reason, about all measures that are not known for that reason."""
    # Of the gates for one measure the one that takes it worst, so that a waiver names few.
    reasons: dict[str, dict[str, LeakGate]] = {}
    for gate in sorted(unknown, key=lambda gate: rank(gate.unmeasured)):
        reasons.setdefault(unknown[gate], {}).setdefault(gate.measure, gate)
    order = list(MEASURES)
    for because, named in reasons.items():
        same = sorted(named.values(), key=lambda gate: order.index(gate.measure))
        titles = "; ".join(MEASURES[gate.measure].title for gate in same)
        severity = min((gate.unmeasured for gate in same), key=rank)
        yield about(UNMEASURED, same, severity, f"not measured: {titles} ({because})", _MEASURE)


def _why_unknown(gate: LeakGate, results: Mapping[str, Any]) -> str:
    """Return why nobody can tell whether the gate is met; empty where somebody can."""
    if gate.measure in results["not_measured"]:
        return str(results["not_measured"][gate.measure]) or "nobody says why"
    readings = _about(gate, results)
    rely = [one for one in readings if not one.get("means_nothing")]
    if any(_number(gate, one) is None for one in rely):
        return "what was kept of it is no number"
    if rely:
        return ""
    if readings:
        return "; ".join(dict.fromkeys(str(one["means_nothing"]) for one in readings))
    if gate.up_to_repeats is not None:
        return f"nothing was planted {gate.up_to_repeats} times at most"
    return "it was not asked of this model"


_MEASURE = (
    "Run `release-kit leaks`, with more time, records or held-out data where these were too few; "
    "or have the policy's owner waive it with what else is known of the training data."
)

CHECK = Check(
    "leaks",
    "The weights tell little of their training data",
    (SHOWN, UNMEASURED),
    _run,
)
