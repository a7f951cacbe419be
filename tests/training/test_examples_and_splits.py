"""Reading records into examples, and splitting them without a leak."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.training.splits import split
from release_kit.training.tasks import TASKS, task_of
from release_kit.training.tasks.task import Example
from release_kit.training.tasks.text_classification import read_examples
from tests.training.conftest import PLAN, topic_records


def record(index: int, **fields: Any) -> Record:
    return Record(fields, "data/train.jsonl", index)


def example(text: str, label: str) -> Example:
    return Example(text, label, "data/train.jsonl", 1)


GOOD = [record(1, text="rain and wind", label="a"), record(2, text="sugar", label="b")]


def test_every_bad_record_is_named_and_no_text_is_quoted() -> None:
    secret = "call Ada on 555-0199"
    bad = [
        record(3, text=secret),
        record(4, label="a"),
        record(5, text=" \n ", label="a"),
        record(6, text=secret, label=1.5),
        record(7, text=secret, label=None),
        record(8, text=["x"], label="a"),
        record(9, text=secret, label=""),
        record(10, text=secret + "\ud83d", label="a"),
        record(11),
    ]
    with pytest.raises(UnusableInput, match="9 records of 11") as caught:
        read_examples(PLAN, [*GOOD, *bad])
    problems = caught.value.problems
    assert [problem.line for problem in problems] == list(range(3, 12))
    assert {problem.path for problem in problems} == {"data/train.jsonl"}
    said = [problem.message for problem in problems]
    assert "no field 'label'" in said[0]
    assert "no field 'text'" in said[1]
    assert "is empty" in said[2]
    assert "neither text, a whole number, nor true or false" in said[3]
    assert "neither" in said[4]
    assert "not text" in said[5]
    assert "label in 'label' is empty" in said[6]
    assert "surrogate" in said[7]
    assert "for the text; has no field 'label' for the label" in said[8]
    everything = str(caught.value) + repr(problems)
    assert "Ada" not in everything
    assert "555" not in everything


@pytest.mark.parametrize(
    ("value", "label"), [("spam", "spam"), (3, "3"), (True, "true"), (False, "false")]
)
def test_labels_become_text(value: Any, label: str) -> None:
    assert read_examples(PLAN, [*GOOD, record(3, text="x", label=value)])[2].label == label


def test_one_class_or_no_records_cannot_be_learned() -> None:
    with pytest.raises(UnusableInput, match="all 2 records have the same label") as caught:
        read_examples(PLAN, [record(n, text="x", label="a") for n in (1, 2)])
    assert "'label'" in caught.value.hint
    with pytest.raises(UnusableInput, match="no records"):
        read_examples(PLAN, [])


def test_an_example_does_not_show_its_text() -> None:
    assert "rain and wind" not in repr(read_examples(PLAN, GOOD))


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UnusableInput, match="telepathy") as caught:
        task_of("telepathy")
    assert "text-classification" in caught.value.hint
    assert list(TASKS) == ["text-classification"]


def test_no_text_stands_in_two_splits() -> None:
    examples = read_examples(PLAN, topic_records(200))
    # Copies, and copies in disguise: case, spacing, a ligature for its two letters.
    copies = [
        dataclasses.replace(one, text=changed)
        for one in examples
        for changed in (one.text, one.text.upper(), f"  {one.text}\t".replace(" ", "  "))
    ]
    disguised = [
        example(f"{flour} {n}", "recipe") for n in range(40) for flour in ("ﬂour", "flour")
    ]
    splits = split([*examples, *copies, *disguised], PLAN)
    parts = [splits.train, splits.validation, splits.test]
    texts = [
        {" ".join(one.text.casefold().replace("ﬂ", "fl").split()) for one in part} for part in parts
    ]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
    assert sum(len(part) for part in parts) == len(examples) + len(copies) + len(disguised)


def test_the_split_is_the_same_each_time_and_a_new_record_moves_no_old_one() -> None:
    examples = read_examples(PLAN, topic_records(200))
    first = split(examples, PLAN)
    assert split(examples, PLAN) == first
    more = split([*examples, example("something new", "license")], PLAN)
    assert set(first.test) <= set(more.test)
    assert set(first.train) <= set(more.train)
    other = split(examples, dataclasses.replace(PLAN, seed=PLAN.seed + 1))
    assert other.test != first.test


def test_the_shares_are_met_on_average() -> None:
    examples = [example(f"text {n}", "ab"[n % 2]) for n in range(4000)]
    sizes = split(examples, PLAN).sizes
    assert sizes.test == pytest.approx(4000 * PLAN.test_share, rel=0.1)
    assert sizes.validation == pytest.approx(4000 * PLAN.validation_share, rel=0.1)
    assert sizes.train + sizes.validation + sizes.test == 4000


def test_labels_are_sorted() -> None:
    examples = [example(f"text {n}", ["zebra", "ant", "Bee"][n % 3]) for n in range(300)]
    assert split(examples, PLAN).labels == ("Bee", "ant", "zebra")


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(UnusableInput, match="split of 2 records is empty"):
        split(read_examples(PLAN, GOOD), PLAN)


def test_shares_that_leave_nothing_to_train_on_are_an_error() -> None:
    plan = dataclasses.replace(PLAN, test_share=0.6, validation_share=0.4)
    with pytest.raises(UnusableInput, match=r"test_share 0\.6 and validation_share 0\.4"):
        split(read_examples(PLAN, topic_records(100)), plan)


def test_a_class_that_training_never_sees_is_an_error() -> None:
    examples = read_examples(PLAN, topic_records(100))
    held_out = split(examples, PLAN).test[0]
    with pytest.raises(UnusableInput, match="'rare'"):
        split([*examples, dataclasses.replace(held_out, label="rare")], PLAN)
