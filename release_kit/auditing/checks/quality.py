"""The model is as good as the policy asks, by the figures of its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.checks.gates import about, finite, mapping, rank
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.figures import CLASS_FIGURES, FIGURES
from release_kit.history import Published
from release_kit.licensing.policy import QualityGate
from release_kit.release import RELEASE_FILE

MISSED = Rule(
    "quality-missed",
    Severity.ERROR,
    "A figure is worse than the policy lets pass",
    "Whoever uses the model relies on it. The severity comes from the policy's gate.",
)
UNMEASURED = Rule(
    "quality-unmeasured",
    Severity.ERROR,
    "A figure that the policy asks for was not measured",
    "What nobody measured is not good enough. The severity comes from the policy's gate.",
)
NOT_COMPARABLE = Rule(
    "quality-not-comparable",
    Severity.WARNING,
    "The figures cannot be held against those of the last release",
    "Only figures on the same test records tell whether a model became worse. The severity comes "
    "from the policy's gate.",
)
_FIRST = "no earlier release was published from here, so nobody can tell whether it became worse"


@dataclass(frozen=True)
class _Reading:
    """One number that a gate is about."""

    what: str
    """As in "macro F1 of the class 'recipe'"."""
    value: float | None
    """None where nobody measured it."""
    place: str = ""
    """The class, slice or change that it is about; empty for all test records."""


def _run(candidate: Candidate) -> Outcome:
    release, evaluated = candidate.release, candidate.receipts.get("evaluate")
    if release is None or not candidate.in_project:
        return Outcome(())
    if release.training is None:
        return _of_loaded(candidate)
    task, results = release.training.task, evaluated.results if evaluated else {}
    gates = [gate for gate in candidate.policy.quality_gates if task in gate.tasks]
    findings: list[Finding] = []
    missed: dict[tuple[str, str, str, str], list[Finding]] = {}
    unseen: set[NotExamined] = set()
    for gate in gates:
        if gate.of == "change" and candidate.last is None:
            unseen.add(NotExamined(RELEASE_FILE, _FIRST))
        elif gate.of == "change" and (said := _incomparable(candidate.last, task, results)):
            findings.append(_finding(NOT_COMPARABLE, gate, said, _AGAIN))
        else:
            for reading in _readings(gate, results, candidate.last):
                if reading.value is None:
                    said = f"the policy asks for {reading.what}, and nobody measured it"
                    findings.append(_finding(UNMEASURED, gate, said, _MEASURE))
                elif not gate.met(reading.value):
                    said = (
                        f"{reading.what} is {reading.value:.6g}; the policy asks for {gate.limit}"
                    )
                    same = (gate.figure, gate.of, gate.where, reading.place)
                    missed.setdefault(same, []).append(_finding(MISSED, gate, said, _BETTER))
    findings += [min(same, key=lambda found: found.sort_key) for same in missed.values()]
    return Outcome(tuple(findings), {"quality gates": len(gates)}, tuple(unseen))


def _of_loaded(candidate: Candidate) -> Outcome:
    """Return what the policy asks for of a model that was made elsewhere: nobody measured it."""
    loaded = candidate.receipts.get("load")
    told = loaded.results if loaded else {}
    task, gates = told.get("task", ""), candidate.policy.quality_gates
    said = f"asked of {task}, and nobody measured a model here that was loaded"
    if not told.get("architecture"):
        # It may be any of them.
        said = "and nothing tells what the model that was loaded is for"
    else:
        gates = tuple(gate for gate in gates if task in gate.tasks)
    if not gates:
        because = "no gate of the policy is for what this model is for, and nobody measured it"
        return Outcome((), {"quality gates": 0}, (NotExamined(RELEASE_FILE, because),))
    strictest = min(gates, key=lambda gate: rank(gate.severity))
    findings = [
        _finding(UNMEASURED, gate, f"the gate {gate.id} of the policy is {said}", _ELSEWHERE)
        for gate in gates
        if told.get("architecture") or gate.id == strictest.id
    ]
    return Outcome(tuple(findings), {"quality gates": len(gates)})


def _incomparable(last: Published | None, task: str, results: Mapping[str, Any]) -> str:
    """Return why the figures cannot be held against those of `last`; empty where they can."""
    if last is None or not last.test_split:
        return "nobody kept on which records the last release was measured"
    if last.task != task:
        return f"version {last.version} was trained for {last.task}, this one for {task}"
    if not results.get("test_split"):
        return "the evaluation does not say on which records it measured"
    if last.test_split != results["test_split"]:
        return f"version {last.version} was measured on other test records"
    return ""


def _readings(
    gate: QualityGate, results: Mapping[str, Any], last: Published | None
) -> Iterator[_Reading]:
    if gate.figure in CLASS_FIGURES:
        yield from _of_classes(gate, results, last)
        return
    name = FIGURES[gate.figure].title
    if gate.where == "test":
        figure = mapping(mapping(results.get("figures")).get(gate.figure))
        if gate.of == "change":
            before = last.figures.get(gate.figure) if last else None
            version = last.version if last else ""
            yield _Reading(f"{name} less that of version {version}", _less(figure, before))
        else:
            yield _Reading(_said(gate, name), _number(gate, figure))
        return
    slices = gate.where == "each-slice"
    parts = results.get("slices" if slices else "robustness") or ()
    for part in parts:
        where = _slice(part) if slices else f"after the change '{part['change']}'"
        figure = mapping(mapping(part.get("figures")).get(gate.figure))
        yield _Reading(f"{_said(gate, name)} {where}", _number(gate, figure), where)
    if not parts:
        where = "on parts of the test records" if slices else "after small changes of the texts"
        yield _Reading(f"{_said(gate, name)} {where}", None)


def _of_classes(
    gate: QualityGate, results: Mapping[str, Any], last: Published | None
) -> Iterator[_Reading]:
    title, score = CLASS_FIGURES[gate.figure].title, gate.figure.removeprefix("class_")
    classes = results.get("classes") or ()
    for one in classes:
        what = f"{title} of the class '{one['label']}'"
        # The score of a class that no test record has is 0 by definition, and measures nothing.
        value = finite(one.get(score)) if one.get("support") else None
        if gate.of == "change":
            before = mapping(last.classes.get(one["label"])).get(gate.figure) if last else None
            what += f" less that of version {last.version}" if last else ""
            value = _difference(value, finite(before))
        yield _Reading(what, value, one["label"])
    if not classes:
        yield _Reading(f"{title} of each class", None)


def _said(gate: QualityGate, name: str) -> str:
    less = " less that of the unchanged texts" if gate.where == "each-change" else ""
    said = name if gate.of == "value" else f"{name}{less or ' less the baseline'}"
    if gate.by == "value":
        return said
    return f"the {'lower' if gate.at_least is not None else 'upper'} end of the interval of {said}"


def _slice(part: Mapping[str, Any]) -> str:
    value = part["value"]
    return f"where '{part['field']}' is " + ("another value" if value is None else f"'{value}'")


def _number(gate: QualityGate, figure: Mapping[str, Any]) -> float | None:
    """Return what the gate is about; None where it was not measured."""
    if gate.by == "interval":
        span = mapping(figure.get("interval" if gate.of == "value" else "gain"))
        return finite(span.get("low" if gate.at_least is not None else "high"))
    return (
        finite(figure.get("value")) if gate.of == "value" else _less(figure, figure.get("baseline"))
    )


def _less(figure: Mapping[str, Any], other: Any) -> float | None:
    return _difference(finite(figure.get("value")), finite(other))


def _difference(value: float | None, less: float | None) -> float | None:
    # 0.78 less 0.8 is not below -0.02 to anybody but a binary computer.
    return None if value is None or less is None else round(value - less, 9)


_BETTER = "Train a better model, or have the policy's owner change the gate or grant a waiver."
_MEASURE = (
    "Delete out/receipts/evaluate.json and run `release-kit run`, which measures what "
    "release.yaml asks for; give records of a class that the test records lack."
)
_ELSEWHERE = (
    "Have the policy's owner waive it with the figures that its maker states, and where; or train "
    "and measure the model here."
)
_AGAIN = (
    "Measure on the test records of the last release: the same data, seed and shares; or have "
    "the policy's owner grant a waiver."
)


def _finding(rule: Rule, gate: QualityGate, said: str, fix: str) -> Finding:
    return about(rule, (gate,), gate.severity, said, fix)


CHECK = Check(
    "quality",
    "The model is as good as the policy asks",
    (MISSED, UNMEASURED, NOT_COMPARABLE),
    _run,
)
