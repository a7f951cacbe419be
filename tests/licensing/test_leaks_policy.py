"""The part of a policy that says how much a model may tell: read, checked, and only tightened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release_kit.errors import UnusableInput
from release_kit.files import SCHEMAS
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES, MEASURES_OF
from release_kit.licensing.policy import LeakGate, load_policy
from release_kit.licensing.policy_files import shipped_policies
from tests.licensing.test_policy import BASE, OVERLAY, changed, place, problems

GATE = (
    "{id: ours, tasks: [causal-lm], measure: membership_auc, by: low, at_most: 0.6, "
    "severity: error, because: we promised it, source: the contract, how_to_fix: train less}"
)


def gates(*items: str) -> str:
    return f"{OVERLAY}leaks: {{gates: [{', '.join(items)}]}}\n"


def test_a_policy_that_extends_another_adds_gates(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    more = (
        "measure: canary_exposure, up_to_repeats: 4, only_where: canaries-planted, "
        "instead: membership_auc, unmeasured: error"
    )
    other = GATE.replace("id: ours", "id: other").replace("measure: membership_auc", more)
    path.write_text(gates(GATE, other), "utf-8")
    ours = LeakGate(
        "ours", ("causal-lm",), "membership_auc", "low", 0.6, None, "", "", "error", "warning",
        "we promised it", "the contract", "train less",
    )  # fmt: skip
    *base, first, second = load_policy(path).leak_gates
    assert (tuple(base), first) == (load_policy().leak_gates, ours)
    told = (second.up_to_repeats, second.only_where, second.instead, second.unmeasured)
    assert told == (4, "canaries-planted", "membership_auc", "error")
    assert (first.limit, first.met(0.6), first.met(0.61)) == (
        "a lower end of at most 0.6",
        True,
        False,
    )
    assert not first.met(float("nan"))
    assert (first.is_for("causal-lm"), first.is_for("masked-lm"), first.is_for("")) == (
        True, False, False,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_shipped_policy_keeps_what_the_baseline_asks(name: str) -> None:
    policy, base = load_policy(name), load_policy()
    assert policy.leak_gates[: len(base.leak_gates)] == base.leak_gates
    assert all(gate.because and gate.source and gate.how_to_fix for gate in policy.leak_gates)


def test_the_baseline_gates_all_that_can_be_measured() -> None:
    """Each measure of each task, but the share at 0.1 % false alarms: few have records for it."""
    for task, names in MEASURES_OF.items():
        gated = {gate.measure for gate in load_policy().leak_gates if gate.is_for(task)}
        assert gated == set(names) - {"membership_tpr_01"}, task
    unknown = {gate.measure for gate in load_policy().leak_gates if gate.is_for("")}
    assert unknown == set(FOLDER_MEASURES)


@pytest.mark.parametrize(
    ("old", "new", "word", "said", "hint"),
    [
        ("membership_auc", "membership_acu", "measure:", "'membership_acu' is not one of the",
         "did you mean 'membership_auc'?"),
        ("causal-lm", "causal-ml", "causal-ml", "not one of the words", "mean 'causal-lm'?"),
        ("by: low", "by: lower", "by:", "not one of the words", "did you mean 'low'?"),
        ("membership_auc", "embedding_copies", "measure:", "not measured of models for causal-lm",
         "known: "),
        ("[causal-lm]", "[any]", "measure:", "not measured of models of any task", "known: "),
        ("by: low", "by: low, instead: embedding_copies", "instead:",
         "not measured of models for causal-lm", "known: "),
        ("by: low", "by: low, instead: membership_auc", "instead:", "stand in for itself", "take"),
        ("by: low", "by: low, up_to_repeats: 1", "up_to_repeats:", "not told apart by how often",
         "take it out"),
        ("membership_auc", "canary_exposure, up_to_repeats: 0", "up_to_repeats:",
         "leaks.gates.0.up_to_repeats", "of canaries"),
        ("by: low", "by: low, only_where: values-redacted", "only_where:",
         "silent without values-redacted", "take it out"),
        ("at_most: 0.6", "at_most: 1", "at_most:", "can never fire", ""),
        ("at_most: 0.6", "at_most: -0.1", "at_most:", "can never be met", ""),
        ("membership_auc, by: low, at_most: 0.6", "extraction_rate, by: low, at_most: -1.1",
         "at_most:", "can never be met", ""),
        ("id: ours", "id: members-told", "{id: members",
         "a gate named 'members-told' exists in what this policy extends", ""),
        ("severity: error", "severity: error, unmeasured: note", "unmeasured:",
         "not one of the words", ""),
        ("at_most: 0.6, ", "", "{id: ours", "'at_most' is missing", ""),
        (", how_to_fix: train less", "", "{id: ours", "'how_to_fix' is missing", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    old: str, new: str, word: str, said: str, *, hint: str, tmp_path: Path
) -> None:
    assert old in GATE
    text = gates(GATE.replace(old, new))
    found = [p for p in problems(tmp_path / "team.yaml", text) if said in p.message]
    assert [(p.line, p.column) for p in found] == [place(text, word)]
    assert hint in found[0].hint


@pytest.mark.parametrize(
    "new",
    [
        "membership_auc, by: low, at_most: 0",
        "extraction_rate, by: low, at_most: -1",
        "stray_files, by: value, at_most: 1000000",
        "canary_exposure_excess, by: high, at_most: -40",
        "canary_exposure_excess, by: low, at_most: 900",
    ],
)
def test_what_a_measure_can_be_may_be_a_limit(new: str, tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_text(gates(GATE.replace("membership_auc, by: low, at_most: 0.6", new)), "utf-8")
    assert load_policy(path).leak_gates[-1].measure == new.partition(",")[0]


def test_twins_in_one_file_are_told(tmp_path: Path) -> None:
    text = gates(GATE, GATE)
    (problem,) = problems(tmp_path / "team.yaml", text)
    assert problem.message == "a gate named 'ours' exists"


def test_a_policy_that_extends_none_must_say_how_much(tmp_path: Path) -> None:
    start, end = BASE.index("\nleaks:\n"), BASE.index("\n# What counts as personal data in")
    path = tmp_path / "policy.yaml"
    for text, missing in ((BASE[:start] + BASE[end:], "leaks"),
                          (BASE[:start] + "\nleaks: {}\n" + BASE[end:], "gates")):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UnusableInput) as caught:
            load_policy(path)
        assert caught.value.problems[0].message.startswith(f"'{missing}' is missing")
    path.write_text(changed(("      at_most: 0.95\n", "      at_most: 0.9\n")), "utf-8")
    (gate,) = (
        gate for gate in load_policy(path).leak_gates if gate.id == "nearly-all-members-told"
    )
    assert gate.at_most == 0.9


def test_the_schema_knows_the_measures_and_the_tasks() -> None:
    schema = json.loads((SCHEMAS / "policy.schema.json").read_text("utf-8"))["properties"]
    said = schema["leaks"]["properties"]["gates"]["items"]["properties"]
    assert said["measure"]["enum"] == said["instead"]["enum"] == list(MEASURES)
    assert said["tasks"]["items"]["enum"] == [*MEASURES_OF, "any"]
    assert {name for names in MEASURES_OF.values() for name in names} == set(MEASURES)
    assert MEASURES_OF.keys() == set(
        schema["quality"]["properties"]["gates"]["items"]["properties"]["tasks"]["items"]["enum"]
    )
