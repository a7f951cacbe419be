"""What was held out and still stands in the training data is counted by the evaluation."""

from __future__ import annotations

from dataclasses import replace

from release_kit.training.evaluation import evaluate_model
from release_kit.training.splits import split
from release_kit.training.tasks import task_of
from tests.training.conftest import PLAN


def test_texts_that_differ_in_a_mark_only_are_counted(run, records) -> None:
    repeated = [
        replace(record, fields={**record.fields, "text": f"{record.fields['text']}!"})
        for record in records
    ]
    both = [*records, *repeated]
    splits = split(task_of(PLAN.task).read(PLAN, both), PLAN)
    seen = {example.text.strip("!") for example in (*splits.train, *splits.validation)}
    expected = sum(example.text.strip("!") in seen for example in splits.test)
    validated = {example.text.strip("!") for example in splits.validation}
    assert any(example.text.strip("!") in validated for example in splits.test)

    found = evaluate_model(PLAN, run.model, both).overlap

    assert (found.of, found.exact) == (len(splits.test), expected)
    assert 0 < found.exact < found.of


def test_the_split_of_a_plain_dataset_keeps_them_apart(run) -> None:
    assert run.evaluation.overlap.exact == 0
