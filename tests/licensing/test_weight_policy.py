"""The part of a policy that is about weights: read, held against its schema, and only added to."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_kit.licensing.policy import (
    SuspiciousMatrix,
    UnexaminedWeights,
    WeightLimit,
    load_policy,
)
from release_kit.licensing.policy_files import shipped_policies
from tests.licensing.test_policy import BASE, OVERLAY, place, problems

LIMIT = (
    "{id: near, relations: [weights-derived], measure: median-cosine, below: 0.9, "
    "severity: error, because: we want it near, source: ours}"
)
LINE = (
    "{id: at-hand, relations: [weights-derived], reasons: [no-path], severity: note, "
    "because: we look at all}"
)
MATRIX = "{id: large, kind: constant, least: 1000, severity: error, because: we train all}"


def test_a_policy_that_extends_another_adds_to_what_it_asks_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    more = f"weights: {{lineage: [{LIMIT}], unexamined: [{LINE}], suspicious: [{MATRIX}]}}\n"
    path.write_text(OVERLAY + more, "utf-8")
    policy, base = load_policy(path), load_policy()
    limit = WeightLimit(
        "near", ("weights-derived",), "median-cosine", None, 0.9, "error", "we want it near", "ours"
    )
    line = UnexaminedWeights(
        "at-hand", ("weights-derived",), ("no-path",), "note", "we look at all"
    )
    matrix = SuspiciousMatrix("large", "constant", 1000, "error", "we train all")
    assert policy.weight_limits == (*base.weight_limits, limit)
    assert policy.unexamined_weights == (*base.unexamined_weights, line)
    assert policy.suspicious_matrices == (*base.suspicious_matrices, matrix)
    assert [limit.passed(value) for value in (0.89, 0.9, 0.91)] == [True, False, False]
    above = [one for one in base.weight_limits if one.above == 0]
    assert above
    assert not any(one.passed(0) for one in above)
    assert all(one.passed(1) for one in above)


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_shipped_policy_keeps_what_the_baseline_asks_of_weights(name: str) -> None:
    policy, base = load_policy(name), load_policy()
    for part in ("weight_limits", "unexamined_weights", "suspicious_matrices"):
        asked = getattr(base, part)
        assert asked
        assert getattr(policy, part)[: len(asked)] == asked
        assert all(line.because for line in getattr(policy, part))


@pytest.mark.parametrize(
    ("more", "word", "said"),
    [
        (f"lineage: [{LIMIT.replace('id: near', 'id: unrelated')}]", "{id:",
         "a limit named 'unrelated' exists in what this policy extends"),
        (f"lineage: [{LIMIT}, {LIMIT}]", ", {id:", "a limit named 'near' exists"),
        (f"unexamined: [{LINE.replace('id: at-hand', 'id: base-not-readable')}]", "{id:",
         "a line named 'base-not-readable' exists in what this policy extends"),
        (f"suspicious: [{MATRIX.replace('id: large', 'id: constant-matrix')}]", "{id:",
         "a matrix named 'constant-matrix' exists in what this policy extends"),
        (f"lineage: [{LIMIT.replace('median-cosine', 'median-cosin')}]", "measure:",
         "not one of the words known here"),
        (f"lineage: [{LIMIT.replace(', source: ours', '')}]", "{id:", "'source' is missing"),
        (f"unexamined: [{LINE.replace('no-path', 'no-way')}]", "no-way",
         "not one of the words known here"),
        (f"suspicious: [{MATRIX.replace('1000', '1')}]", "least:", "least"),
        ("limits: []", "limits:", "unknown key"),
    ],
    ids=lambda value: value[-30:],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(more: str, word: str, said: str, tmp_path: Path) -> None:
    text = f"{OVERLAY}weights: {{{more}}}\n"
    found = [p for p in problems(tmp_path / "team.yaml", text) if said in p.message]
    skip = len(word) - len(word.lstrip(", "))
    assert [(p.line, p.column) for p in found] == [place(text, word, skip)]


@pytest.mark.parametrize("limit", ["", "above: 1, below: 0.9, "])
def test_a_limit_is_from_above_or_from_below(limit: str, tmp_path: Path) -> None:
    text = f"{OVERLAY}weights: {{lineage: [{LIMIT.replace('below: 0.9, ', limit)}]}}\n"
    (problem,) = problems(tmp_path / "team.yaml", text)
    assert problem.line == place(text, "{id: near")[0]


@pytest.mark.parametrize("part", ["lineage", "unexamined", "suspicious"])
def test_a_policy_that_extends_none_must_speak_of_weights(part: str, tmp_path: Path) -> None:
    start = BASE.index("\nweights:\n")
    at = BASE.index(f"\n  {part}:\n", start)
    text = BASE[:at] + BASE[at:].replace(f"  {part}:", f"  x{part}:", 1)
    found = problems(tmp_path / "policy.yaml", text)
    assert any(problem.message.startswith(f"'{part}' is missing") for problem in found)
