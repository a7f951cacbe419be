"""Measure a trained classifier on the records that neither training nor validation has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_kit.datasets.overlap import Repeats, overlap
from release_kit.errors import Problem, UnusableInput
from release_kit.progress import SILENT, Watcher
from release_kit.release import TrainingPlan
from release_kit.training.models import need, quiet
from release_kit.training.splits import SplitSizes, split
from release_kit.training.tasks import task_of

if TYPE_CHECKING:
    from release_kit.datasets.records import Record


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; every share is between 0 and 1."""

    label: str
    precision: float
    """Of the examples that the model gave this label, the share that has it; 0 if there is none."""
    recall: float
    """Of the examples that have this label, the share that the model gave it; 0 if none has it."""
    f1: float
    """2 * precision * recall / (precision + recall); 0 when both are 0."""
    support: int
    """Examples of the test split that have this label."""


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test split; `dataclasses.asdict` of it is JSON.

    A macro score is the plain mean of the class scores, so that a rare class weighs as much as
    a common one. It leaves out classes without a test example, whose recall is undefined.
    """

    labels: tuple[str, ...]
    """Label i is class i of the model."""
    sizes: SplitSizes
    accuracy: float
    """Share of the test examples that the model labels rightly."""
    macro_precision: float
    macro_recall: float
    macro_f1: float
    baseline_label: str
    """The most frequent label of the training split; the first in the alphabet among equals."""
    baseline_accuracy: float
    """Accuracy of answering always `baseline_label`; a model must beat it to be of use."""
    baseline_macro_f1: float
    """Macro-F1 of answering always `baseline_label`."""
    classes: tuple[ClassScore, ...]
    """One for each label, in the order of `labels`."""
    confusion: tuple[tuple[int, ...], ...]
    """(classes, classes): row i, column j counts test examples of label i that were given j."""
    overlap: Repeats
    """How many texts of the test split stand in those of training and validation as well."""


def evaluate_model(
    plan: TrainingPlan, model: Path, records: Sequence[Record], watcher: Watcher = SILENT
) -> Evaluation:
    """Score the model in folder `model` on the test split of `records`.

    Records, seed and shares must be those of the training: then, and only then, has the model
    not seen the test split. Progress goes to `watcher` as "evaluating", counted in examples.

    Raises:
        UnusableInput: a record, the split or the model cannot be used, or records have a label
            that the model does not know; with source and number of each such record.
        Unfinished: a package is not installed.
    """
    need("torch", "transformers", "safetensors", "sklearn")
    task = task_of(plan.task)
    examples = task.read(plan, records)
    with quiet():
        loaded = task.load_trained(model)
        unknown = [
            Problem(
                example.source,
                example.record,
                1,
                f"the model does not know the label '{example.label}'",
            )
            for example in examples
            if example.label not in loaded.labels
        ]
        if unknown:
            raise UnusableInput(
                f"{model}: does not know the label of {len(unknown)} of {len(examples)} records",
                hint="it knows " + ", ".join(loaded.labels),
                problems=unknown,
            )
        splits = split(examples, plan)
        predicted = task.predict(loaded, splits.test, plan, watcher)

    number = {label: index for index, label in enumerate(loaded.labels)}
    true = [number[example.label] for example in splits.test]
    counts = Counter(example.label for example in splits.train)
    most_frequent = min(counts, key=lambda label: (-counts[label], label))
    scores = _scores(true, predicted, len(loaded.labels))
    baseline = _scores(true, [number[most_frequent]] * len(true), len(loaded.labels))
    seen = (example.text for part in (splits.train, splits.validation) for example in part)
    return Evaluation(
        labels=loaded.labels,
        sizes=splits.sizes,
        accuracy=scores.accuracy,
        macro_precision=scores.macro[0],
        macro_recall=scores.macro[1],
        macro_f1=scores.macro[2],
        baseline_label=most_frequent,
        baseline_accuracy=baseline.accuracy,
        baseline_macro_f1=baseline.macro[2],
        classes=tuple(
            ClassScore(label, float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in zip(
                loaded.labels, *scores.classes, strict=True
            )
        ),
        confusion=scores.confusion,
        overlap=overlap(seen, (example.text for example in splits.test)),
    )


@dataclass(frozen=True)
class _Scores:
    accuracy: float
    macro: tuple[float, float, float]
    """Precision, recall, F1."""
    classes: tuple[Any, Any, Any, Any]
    """Precision, recall, F1 and support, each an array of shape (classes,)."""
    confusion: tuple[tuple[int, ...], ...]


def _scores(true: Sequence[int], predicted: Sequence[int], classes: int) -> _Scores:
    from sklearn.metrics import (
        accuracy_score,
        confusion_matrix,
        precision_recall_fscore_support,
    )

    every, present = list(range(classes)), sorted(set(true))
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, labels=present, average="macro", zero_division=0
    )
    return _Scores(
        accuracy=float(accuracy_score(true, predicted)),
        macro=(float(precision), float(recall), float(f1)),
        classes=precision_recall_fscore_support(true, predicted, labels=every, zero_division=0),
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in confusion_matrix(true, predicted, labels=every)
        ),
    )
