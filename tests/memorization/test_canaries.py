"""Canaries are the plan's alone, stand as often as they should, and in the records' own form."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.files import POLICIES
from release_kit.memorization.canaries import Canary, drawn, planted
from release_kit.release import Canaries, TrainingPlan
from release_kit.strict_yaml import check, parse_yaml
from release_kit.training.tasks import settled

PLAN = TrainingPlan(task="causal-lm", seed=5, canaries=Canaries(repeats=(2, 3), each=6, digits=5))
TEXT = {"text": "some words"}
ASKED = {"prompt": "some words?", "completion": " others"}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def records_of(*fields: dict[str, Any]) -> list[Record]:
    return [Record(one, "data/t.jsonl", index) for index, one in enumerate(fields, 1)]


def test_the_plan_alone_decides_what_is_drawn() -> None:
    canaries = drawn(PLAN)
    assert canaries == drawn(replace(PLAN, epochs=9)) != drawn(replace(PLAN, seed=6))
    assert drawn(replace(PLAN, canaries=None)) == ()
    # However far one comes, all groups are asked for alike.
    for start in range(0, 18, 3):
        assert {canary.repeats for canary in canaries[start : start + 3]} == {0, 2, 3}
    assert len({tuple(c.repeats for c in canaries[at : at + 3]) for at in range(0, 18, 3)}) > 1
    assert len({canary.secret for canary in canaries}) == len(canaries) == 18
    assert len({canary.answer for canary in canaries}) == len(canaries)
    for canary in canaries:
        assert len(canary.secret) == 5
        assert canary.secret.isdecimal()
        assert canary.secret not in repr(canary)
        assert canary.says("12345").endswith(" 1 2 3 4 5")
        assert "{" not in canary.question + canary.says("12345")
    many = replace(PLAN, canaries=Canaries(repeats=(1,), each=1000, digits=6))
    digits = Counter("".join(canary.secret for canary in drawn(many)))
    # 12,000 digits: each 1,200 times, with a deviation of 33.
    assert all(abs(digits[digit] - 1200) < 170 for digit in "0123456789")


@pytest.mark.parametrize(
    ("task", "fields", "own", "said"),
    [
        ("causal-lm", {}, TEXT, lambda c, text: {"text": text}),
        (
            "causal-lm",
            {"prompt": "q", "completion": "a"},
            {"q": "some words?", "a": " others", "text": "unread"},
            lambda c, text: {"q": c.question, "a": f" {text}"},
        ),
        (
            "causal-lm",
            {},
            CHAT,
            lambda c, text: {
                "messages": [
                    {"role": "user", "content": c.question},
                    {"role": "assistant", "content": text},
                ]
            },
        ),
        ("masked-lm", {"text": "body"}, {"body": "some words"}, lambda c, text: {"body": text}),
    ],
)
def test_each_is_planted_as_often_as_its_group_says_in_the_form_of_the_records(
    task: str, fields: dict[str, str], own: dict[str, Any], said: Any
) -> None:
    plan = replace(PLAN, task=task, fields=fields)
    records = records_of(own, own)
    new = planted(plan, records)
    wanted = [
        said(canary, canary.says(canary.secret))
        for canary in drawn(plan)
        for _ in range(canary.repeats)
    ]
    assert [record.fields for record in new] == wanted
    assert len(new) == 6 * (2 + 3)
    assert [(record.source, record.index) for record in new[:2]] == [("canary", 1), ("canary", 2)]
    reader, plan = settled(plan)
    assert len(reader.read(plan, [*records, *new])) == 2 + 30


def test_of_several_forms_it_is_the_plainest() -> None:
    assert set(planted(PLAN, records_of(CHAT, ASKED, TEXT))[0].fields) == {"text"}
    assert set(planted(PLAN, records_of(CHAT, ASKED))[0].fields) == {"prompt", "completion"}


def test_a_classifier_learns_drawn_labels_of_one_sentence() -> None:
    plan = replace(PLAN, task="text-classification", fields={"text": "said", "label": "kind"})
    own = [{"said": "a", "kind": 1}, {"said": "b", "kind": 0}, {"said": "c", "kind": 2}]
    new = planted(plan, records_of(*own))
    kinds = Counter((record.fields["said"], record.fields["kind"]) for record in new)
    assert sorted(kinds.values()) == [2] * 6 + [3] * 6
    assert {kind for _, kind in kinds} == {"0", "1", "2"}
    # Else the sentence would tell the label, and no digit had to be kept.
    assert len({canary.answer for canary in drawn(plan)}) == 1
    reader, plan = settled(plan)
    examples = reader.read(plan, [*records_of(*own), *new])
    assert {label for example in examples for label in example.labels} == {"0", "1", "2"}


def test_nothing_is_planted_where_nothing_is_asked_for_or_can_be() -> None:
    assert planted(replace(PLAN, canaries=None), []) == []
    with pytest.raises(UnusableInput, match="token-classification") as caught:
        planted(replace(PLAN, task="token-classification"), records_of(TEXT))
    assert caught.value.hint == (
        "Remove canaries from release.yaml; they are for text-classification, masked-lm, causal-lm."
    )
    with pytest.raises(UnusableInput):
        planted(PLAN, records_of({"other": "x"}))


def test_a_sentence_must_end_with_its_secret_and_name_the_thing() -> None:
    shipped = (POLICIES / "canaries.yaml").read_text(encoding="utf-8")
    check(parse_yaml(shipped, "canaries.yaml"), "canaries")
    for wrong, right in (
        (" is {secret}.", " is {secret}"),
        ("door code of the {second} is {secret}", "door code of the {first} {second} is {secret}"),
        ("the door code of {first} {second} {secret}?", "What is the door code of the"),
    ):
        assert right in shipped
        with pytest.raises(UnusableInput):
            check(parse_yaml(shipped.replace(right, wrong, 1), "canaries.yaml"), "canaries")


def test_a_canary_does_not_show_its_secret() -> None:
    assert "739" not in repr(Canary("739", "q", "a {secret}", 1, 0.739))
