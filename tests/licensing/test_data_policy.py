"""The part of a policy that asks about data: read, held against its schema, and only tightened."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_kit.errors import UnusableInput
from release_kit.licensing.policy import Demand, LeakageLimit, load_policy
from release_kit.licensing.policy_files import shipped_policies
from tests.licensing.test_policy import BASE, OVERLAY, changed, place, problems

DEMAND = (
    "{id: who, fields: [consent], when: {release.purpose: [research, commercial]}, "
    "severity: error, because: we want to know, cite: [house rule 3]}"
)
LIMIT = "{id: tight, kind: exact-or-near, above: 0.01, severity: error, because: we measure}"


def test_a_policy_that_extends_another_adds_demands_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_text(f"{OVERLAY}data: {{demands: [{DEMAND}], leakage: [{LIMIT}]}}\n", "utf-8")
    policy, base = load_policy(path), load_policy()
    assert policy.data_demands == (
        *base.data_demands,
        Demand(
            "who",
            ("consent",),
            {"release.purpose": ("research", "commercial")},
            "error",
            "we want to know",
            ("house rule 3",),
        ),
    )
    limit = LeakageLimit("tight", "exact-or-near", 0.01, "error", "we measure")
    assert policy.leakage_limits == (*base.leakage_limits, limit)


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_shipped_policy_keeps_what_the_baseline_asks(name: str) -> None:
    policy, base = load_policy(name), load_policy()
    assert policy.data_demands[: len(base.data_demands)] == base.data_demands
    assert policy.leakage_limits[: len(base.leakage_limits)] == base.leakage_limits
    assert all(demand.because and demand.cite for demand in policy.data_demands)


@pytest.mark.parametrize(
    ("more", "word", "said"),
    [
        (f"data: {{demands: [{DEMAND.replace('id: who', 'id: consent-shown')}]}}", "{id:",
         "a demand named 'consent-shown' exists in what this policy extends"),
        (f"data: {{leakage: [{LIMIT.replace('id: tight', 'id: some-exact')}]}}", "{id:",
         "a limit named 'some-exact' exists in what this policy extends"),
        (f"data: {{demands: [{DEMAND}, {DEMAND}]}}", ", {id: who", "a demand named 'who' exists"),
        (f"data: {{leakage: [{LIMIT}, {LIMIT}]}}", ", {id: tight", "a limit named 'tight' exists"),
        (f"data: {{demands: [{DEMAND.replace('[consent]', '[consnt]')}]}}", "consnt",
         "not one of the words known here"),
        (f"data: {{demands: [{DEMAND.replace('release.purpose', 'release.purpos')}]}}",
         "release.purpos", "unknown key"),
        (f"data: {{demands: [{DEMAND.replace(', cite: [house rule 3]', '')}]}}", "{id: who",
         "'cite' is missing"),
        (f"data: {{leakage: [{LIMIT.replace('0.01', '1.5')}]}}", "above:", "above"),
        ("data: {demand: []}", "demand:", "unknown key"),
    ],
    ids=lambda value: value[-30:],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(more: str, word: str, said: str, tmp_path: Path) -> None:
    text = f"{OVERLAY}{more}\n"
    found = [p for p in problems(tmp_path / "team.yaml", text) if said in p.message]
    skip = len(word) - len(word.lstrip(", "))
    assert [(p.line, p.column) for p in found] == [place(text, word, skip)]


@pytest.mark.parametrize("part", ["data:", "  demands:", "  leakage:"])
def test_a_policy_that_extends_none_must_ask_about_data(part: str, tmp_path: Path) -> None:
    start = BASE.index(f"\n{part}\n") + 1
    depth = len(part) - len(part.lstrip())
    lines = BASE[start:].splitlines(keepends=True)
    end = next(
        number
        for number, line in enumerate(lines[1:], 1)
        if line.strip() and len(line) - len(line.lstrip()) <= depth
    )
    path = tmp_path / "policy.yaml"
    path.write_text(BASE[:start] + "".join(lines[end:]), encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        load_policy(path)
    missing = f"'{part.strip(' :')}' is missing"
    assert any(problem.message.startswith(missing) for problem in caught.value.problems)


def test_a_demand_of_the_baseline_can_be_changed_in_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(changed(("      above: 0.05\n", "      above: 0.5\n")), encoding="utf-8")
    limits = {limit.id: limit.above for limit in load_policy(path).leakage_limits}
    assert limits == {"some-exact": 0, "many-exact": 0.5, "many-near": 0.1, "most-near": 0.5}
