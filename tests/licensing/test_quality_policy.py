"""The part of a policy that says how good a model must be: read, checked, and only tightened."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from release_kit.errors import UnusableInput
from release_kit.figures import CLASS_FIGURES, FIGURES, FIGURES_OF
from release_kit.files import SCHEMAS
from release_kit.licensing.policy import QualityGate, load_policy
from release_kit.licensing.policy_files import shipped_policies
from tests.licensing.test_policy import BASE, OVERLAY, changed, place, problems

GATE = (
    "{id: f1, tasks: [text-classification], figure: macro_f1, of: value, at_least: 0.8, "
    "severity: error, because: we promised it, source: the contract}"
)


def gates(*items: str) -> str:
    return f"{OVERLAY}quality: {{gates: [{', '.join(items)}]}}\n"


def test_a_policy_that_extends_another_adds_gates(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_text(gates(GATE.replace("of: value", "of: gain, by: interval")), "utf-8")
    assert load_policy(path).quality_gates == (
        *load_policy().quality_gates,
        QualityGate(
            "f1", ("text-classification",), "macro_f1", "gain", "test", "interval", 0.8, None,
            "error", "we promised it", "the contract",
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_shipped_policy_keeps_what_the_baseline_asks(name: str) -> None:
    policy, base = load_policy(name), load_policy()
    assert policy.quality_gates[: len(base.quality_gates)] == base.quality_gates
    # Each task must beat something, and no shipped gate rests on nothing.
    assert {task for gate in base.quality_gates for task in gate.tasks} == set(FIGURES_OF)
    assert all(gate.because and gate.source for gate in policy.quality_gates)


@pytest.mark.parametrize(
    ("old", "new", "word", "said", "hint"),
    [
        ("macro_f1", "makro_f1", "figure:", "'makro_f1' is not one of the words",
         "did you mean 'macro_f1'?"),
        ("text-classification", "text-clasification", "text-clas", "not one of the words",
         "did you mean 'text-classification'?"),
        ("macro_f1", "token_accuracy", "figure:", "gives no token_accuracy",
         "did you mean 'top5_accuracy'?|did you mean 'accuracy'?"),
        ("id: f1", "id: every-class-found", "{id: every",
         "a gate named 'every-class-found' exists in what this policy extends", ""),
        ("at_least: 0.8", "at_least: 0.8, at_most: 0.9", "{id: f1", "exactly one of these", ""),
        ("at_least: 0.8", "by: value", "{id: f1", "exactly one of these", ""),
        ("at_least: 0.8", "at_most: 0.8", "at_most:", "better the higher", "write at_least"),
        ("macro_f1, of: value, at_least: 0.8", "calibration_error, of: value, at_least: 0.1",
         "at_least:", "better the lower", "write at_most"),
        ("at_least: 0.8", "at_least: 0", "at_least:", "can never fire", ""),
        ("at_least: 0.8", "at_least: 80", "at_least:", "can never be met", ""),
        ("of: value, at_least: 0.8", "of: gain, at_least: -1", "at_least:", "can never fire", ""),
        ("macro_f1, of: value, at_least: 0.8", "calibration_error, of: value, at_most: 1",
         "at_most:", "can never fire", ""),
        ("macro_f1, of: value, at_least: 0.8", "calibration_error, of: value, at_most: -0.1",
         "at_most:", "can never be met", ""),
        ("macro_f1, of: value, at_least: 0.8",
         "calibration_error, of: value, by: interval, at_most: 0.1", "by:", "has no interval",
         "write by: value"),
        ("macro_f1, of: value", "class_f1, of: gain", "of:", "not measured for a baseline", ""),
        ("macro_f1, of: value", "class_f1, of: value, where: each-slice", "where:",
         "on all test records only", ""),
        ("of: value", "of: change, by: interval", "by:", "has no interval", ""),
        ("of: value", "of: change, where: each-change", "where:", "on all test records only", ""),
        ("severity: error, ", "", "{id: f1", "'severity' is missing", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    old: str, new: str, word: str, said: str, *, hint: str, tmp_path: Path
) -> None:
    assert old in GATE
    text = gates(GATE.replace(old, new))
    found = [p for p in problems(tmp_path / "team.yaml", text) if said in p.message]
    assert [(p.line, p.column) for p in found] == [place(text, word)]
    assert any(one in found[0].hint for one in hint.split("|"))


@pytest.mark.parametrize(
    "new",
    [
        "perplexity, of: value, at_most: 1000000",
        "perplexity, of: gain, at_most: 0",
        "perplexity, of: change, at_most: 0.5",
        "perplexity, of: gain, where: each-change, at_most: 2",
    ],
)
def test_what_has_no_upper_end_may_be_limited_anywhere(new: str, tmp_path: Path) -> None:
    gate = GATE.replace("macro_f1, of: value, at_least: 0.8", new)
    path = tmp_path / "team.yaml"
    path.write_text(gates(gate.replace("text-classification", "causal-lm")), "utf-8")
    assert load_policy(path).quality_gates[-1].figure == "perplexity"


def test_a_policy_that_extends_none_must_say_how_good(tmp_path: Path) -> None:
    start, end = BASE.index("\nquality:\n"), BASE.index("\n# What the weights themselves")
    path = tmp_path / "policy.yaml"
    for text, missing in ((BASE[:start] + BASE[end:], "quality"),
                          (BASE[:start] + "\nquality: {}\n" + BASE[end:], "gates")):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UnusableInput) as caught:
            load_policy(path)
        assert caught.value.problems[0].message.startswith(f"'{missing}' is missing")
    path.write_text(changed(("      at_least: 0.01\n", "      at_least: 0.4\n")), "utf-8")
    assert load_policy(path).quality_gates[0].at_least == 0.4


def test_the_schema_knows_the_figures_and_the_tasks() -> None:
    schemas = {
        name: json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))["properties"]
        for name in ("policy", "release")
    }
    said = schemas["policy"]["quality"]["properties"]["gates"]["items"]["properties"]
    assert said["figure"]["enum"] == [*FIGURES, *CLASS_FIGURES]
    assert said["tasks"]["items"]["enum"] == list(FIGURES_OF)
    assert set(schemas["release"]["training"]["properties"]["task"]["enum"]) == set(FIGURES_OF)
    assert {name for names in FIGURES_OF.values() for name in names} == {*FIGURES, *CLASS_FIGURES}


def test_a_task_gives_the_figures_that_are_said_of_it() -> None:
    from release_kit.training.tasks import TASKS

    assert set(TASKS) == set(FIGURES_OF)
    for name, task in TASKS.items():
        given: set[str] = set()
        # Nobody says how many columns a task counts; twenty classes are enough for all it gives.
        for columns in range(1, 63):
            sums = np.ones(columns)
            for one in (sums, np.where(np.arange(columns) == 4, 0, sums)):
                try:
                    with np.errstate(all="ignore"):
                        given |= set(task.figures(one))
                except (ValueError, IndexError):
                    continue
        of_it = {one for one in FIGURES_OF[name] if FIGURES.get(one) and FIGURES[one].summed}
        assert given == of_it, name
        classes = [one for one in FIGURES_OF[name] if re.match("class_", one)]
        assert bool(classes) == bool(task.class_scores.__name__ == "class_scores"), name
