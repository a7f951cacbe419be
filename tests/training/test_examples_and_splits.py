"""Reading records into examples, and splitting them without a leak."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from release_kit.datasets.overlap import Repeats, overlap
from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.training.splits import Splits, split
from release_kit.training.tasks import TASKS, settled
from release_kit.training.tasks.task import Example
from release_kit.training.tasks.text_classification import read_examples
from tests.training.conftest import PLAN, topic_records


def record(index: int, **fields: Any) -> Record:
    return Record(fields, "data/train.jsonl", index)


def example(text: str, label: str) -> Example:
    return Example(text, (label,), "data/train.jsonl", 1)


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
    assert read_examples(PLAN, [*GOOD, record(3, text="x", label=value)])[2].labels == (label,)


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
        settled(dataclasses.replace(PLAN, task="telepathy"))
    assert "text-classification" in caught.value.hint
    assert all(name in caught.value.hint for name in TASKS)


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


def words(seed: int, count: int = 40) -> list[str]:
    return random.Random(seed).choices([f"w{number}" for number in range(5000)], k=count)


def near_copies(of: list[str], count: int, label: str = "a") -> list[Example]:
    """Return `count` texts that each differ from `of` in one word, near the start."""
    return [example(" ".join([*of[:1], f"x{number}", *of[2:]]), label) for number in range(count)]


def sides(splits: Splits) -> dict[str, str]:
    """Return the split of each text."""
    return {
        one.text: side for side in ("train", "validation", "test") for one in getattr(splits, side)
    }


def families_of_five(count: int) -> list[list[Example]]:
    return [near_copies(words(seed), 5, "ab"[seed % 2]) for seed in range(count)]


def test_near_copies_stay_together_and_unrelated_texts_do_not() -> None:
    groups = families_of_five(120)
    splits = split([one for group in groups for one in group], PLAN)
    where = sides(splits)
    of_groups = [{where[one.text] for one in group} for group in groups]
    assert all(len(found) == 1 for found in of_groups)
    assert {side for found in of_groups for side in found} == {"train", "validation", "test"}
    assert splits.sizes.test == pytest.approx(600 * PLAN.test_share, rel=0.3)
    seen = [one.text for one in (*splits.train, *splits.validation)]
    assert overlap(seen, [one.text for one in splits.test]) == Repeats(len(splits.test), 0, 0)


def test_neither_the_order_of_records_nor_the_process_changes_a_side() -> None:
    groups = families_of_five(30)
    examples = [one for group in groups for one in group]
    where = sides(split(examples, PLAN))
    assert sides(split(examples[::-1], PLAN)) == where
    code = (
        "from tests.training.test_examples_and_splits import *;"
        "print(sorted(sides(split([o for g in families_of_five(30) for o in g], PLAN)).items()))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(sorted(where.items()))


def test_a_new_record_moves_only_those_that_it_joins() -> None:
    one, other = words(1001), words(1002)
    groups = [*families_of_five(60), near_copies(one, 5), near_copies(other, 5)]
    examples = [example for group in groups for example in group]
    # A seed that puts the two on two sides.
    where = {}
    for seed in range(100):
        plan = dataclasses.replace(PLAN, seed=seed)
        where = sides(split(examples, plan))
        if where[groups[-1][0].text] != where[groups[-2][0].text]:
            break
    # The first words of it are the last in the alphabet: the smallest text stays what it was.
    both = example(" ".join(["zz", *one[2:], *other[2:]]), "a")
    assert overlap([both.text], [groups[-1][0].text]).near == 1
    after = sides(split([*examples, both], plan))
    moved = {text for text in where if after[text] != where[text]}
    assert moved in ({o.text for o in groups[-1]}, {o.text for o in groups[-2]})
    alone = example(" ".join(["zz", "zz", *one[2:]]), "a")
    after = sides(split([*examples, alone], plan))
    assert {text: after[text] for text in where} == where
    assert after[alone.text] == where[groups[-2][0].text]


def test_a_giant_family_stays_on_one_side_or_the_error_says_what_binds_it() -> None:
    others = [example(" ".join(words(seed)), "ab"[seed % 2]) for seed in range(100, 300)]
    giant = near_copies(words(1), 200)
    splits = split([*others, *giant], PLAN)
    assert len({sides(splits)[one.text] for one in giant}) == 1
    assert min(splits.sizes.train, splits.sizes.validation, splits.sizes.test) > 0

    # One text that stands in all others makes one family of them all.
    footer = Example(" ".join(words(7, 9)), "b", "data/mail.jsonl", 42)
    signed = [dataclasses.replace(one, text=f"{one.text} {footer.text}") for one in others]
    assert split(signed, PLAN).sizes.train
    with pytest.raises(UnusableInput, match=r"split of 201 records is empty") as caught:
        split([*signed, footer], PLAN)
    assert "201 of the records are near copies" in caught.value.hint
    assert "record 42 of data/mail.jsonl" in caught.value.hint
    assert footer.text not in str(caught.value) + caught.value.hint


def test_a_class_whose_records_are_all_held_out_together_is_told_so() -> None:
    others = [example(" ".join(words(seed)), "ab"[seed % 2]) for seed in range(100, 300)]
    hints = set()
    for seed in range(40):
        try:
            split(
                [*others, *near_copies(words(1), 30, "rare")],
                dataclasses.replace(PLAN, seed=seed),
            )
        except UnusableInput as error:
            assert "'rare'" in str(error)
            hints.add(error.hint)
    (hint,) = hints
    assert "30 of the records are near copies" in hint


def test_texts_without_a_word_stay_together_when_they_are_equal() -> None:
    marks = [example("!" * count, "ab"[count % 2]) for count in range(1, 200)]
    where = sides(split([*marks, *marks], PLAN))
    assert where == sides(split(marks, PLAN))
    assert set(where.values()) == {"train", "validation", "test"}


def test_the_split_is_the_same_each_time_and_a_new_record_moves_no_old_one() -> None:
    examples = read_examples(PLAN, topic_records(200))
    first = split(examples, PLAN)
    assert split(examples, PLAN) == first
    more = split([*examples, example("something new", "license")], PLAN)
    assert set(first.test) <= set(more.test)
    assert set(first.train) <= set(more.train)
    other = split(examples, dataclasses.replace(PLAN, seed=PLAN.seed + 1))
    assert other.test != first.test


def test_copies_are_left_out_of_training_alone() -> None:
    examples = read_examples(PLAN, topic_records(200))
    shouted = [dataclasses.replace(one, text=one.text.upper()) for one in examples]
    near = [dataclasses.replace(one, text=f"{one.text} and") for one in examples]
    other = "recipe" if examples[0].labels == ("license",) else "license"
    relabelled = [dataclasses.replace(examples[0], labels=(other,))]
    every = [*examples, *shouted, *near, *relabelled]
    whole = split(every, PLAN)
    for kind, most in (("exact", 2), ("near", 1)):
        less = split(every, dataclasses.replace(PLAN, deduplicate=kind))
        assert (less.validation, less.test) == (whole.validation, whole.test)
        assert set(map(id, less.train)) <= set(map(id, whole.train))
        # The first of each stays, and a text with another label is no copy.
        said = [(one.text.casefold(), one.labels) for one in less.train]
        assert len(set(said)) == len(said) < len(whole.train)
        assert len(said) <= most * len({one.text.casefold() for one in whole.train})
        assert {one.labels for one in less.train} == {one.labels for one in whole.train}
    one = split(every, dataclasses.replace(PLAN, deduplicate="near"))
    assert len(one.train) < len(split(every, dataclasses.replace(PLAN, deduplicate="exact")).train)


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
        split([*examples, dataclasses.replace(held_out, labels=("rare",))], PLAN)
