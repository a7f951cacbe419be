"""What was held out and still stands in the training data is counted by the evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from release_kit.datasets.overlap import Repeats, overlap
from release_kit.datasets.records import Record
from release_kit.training.evaluation import evaluate_model
from release_kit.training.splits import split
from release_kit.training.tasks import settled
from tests.training.conftest import PLAN

WORDS = tuple(f"w{number}" for number in range(5000))
TAIL = WORDS[:40]


def test_texts_that_differ_in_a_mark_or_a_word_of_many_are_held_out_together(run, records) -> None:
    marked = [_changed(record, lambda text: f"{text}!") for record in records]
    long = [_changed(record, lambda text: " ".join([text, *TAIL])) for record in records[:40]]
    near = [_changed(record, lambda text: f"{text} indeed") for record in long]
    every = [*records, *marked, *long, *near]
    # Told apart by their text alone, they would have been counted.
    seed = random.Random(1)
    at_random = {id(record): seed.random() < PLAN.test_share for record in every}
    told = overlap(
        [record.fields["text"] for record in every if not at_random[id(record)]],
        [record.fields["text"] for record in every if at_random[id(record)]],
    )
    assert told.exact
    assert told.near

    found = evaluate_model(PLAN, run.model, every)
    splits = split(settled(PLAN)[0].read(PLAN, every), PLAN)

    assert found.overlap == Repeats(len(splits.test), 0, 0)
    assert found.sizes == splits.sizes


def test_what_stands_in_the_rest_by_parts_is_still_counted(run, records) -> None:
    draw = random.Random(2)
    parts = [" ".join(draw.choices(WORDS, k=24)) for _ in range(20)]
    every = list(records)
    for _ in range(200):
        text = " ".join(draw.sample(parts, 4))
        every.append(replace(records[0], fields={**records[0].fields, "text": text}))
    found = evaluate_model(PLAN, run.model, every).overlap
    assert found.exact == 0
    assert 0 < found.near < found.of


def test_training_and_evaluation_split_alike(run) -> None:
    assert run.result.sizes == run.evaluation.sizes


def test_the_split_of_a_plain_dataset_keeps_them_apart(run) -> None:
    assert run.evaluation.overlap.exact == 0


def _changed(record: Record, change: Callable[[str], str]) -> Record:
    return replace(record, fields={**record.fields, "text": change(record.fields["text"])})
