"""Text classification: one label out of two or more for each text.

A transformer encoder with a linear head (AutoModelForSequenceClassification) turns a batch of
token ids x, int64 of shape (batch, tokens), into logits z, float32 of shape (batch, classes).
With p(c | x) = exp(z_c) / sum_k exp(z_k) and the true classes y, int64 of shape (batch,), the
loss is the cross entropy, averaged over the batch:

    L = -(1 / batch) * sum_i log p(y_i | x_i)        in nats; log(classes) for a blind guess

Texts are cut to the plan's max_length tokens and padded to the longest of their batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import classes
from release_kit.training.figures import Baseline, Measured
from release_kit.training.models import Loaded, open_model
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import label_of, read_each, several_classes, text_of
from release_kit.training.tasks.task import Field, Row, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    Raises:
        UnusableInput: with source and record number of every record that has no usable text or
            label, or when there are no records or only one class. No message quotes a text.
    """

    def read(record: Record) -> tuple[Example, tuple[str, str]]:
        text, wrong_text = text_of(record.fields, plan.fields["text"])
        label, wrong_label = label_of(record.fields, plan.fields["label"])
        return Example(text, (label,), record.source, record.index), (wrong_text, wrong_label)

    return several_classes(read_each(records, read), plan.fields["label"])


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`, with a new head for `labels` where they are given.

    Raises:
        UnusableInput: as `open_model` does.
    """
    return open_model(
        "AutoModelForSequenceClassification",
        folder,
        labels=labels,
        settings={"problem_type": "single_label_classification"},
    )


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return token ids (at most `max_length`, unpadded) and the index of the label of each."""
    batch = loaded.processor(
        [example.text for example in examples], truncation=True, max_length=plan.max_length
    )
    number = {label: index for index, label in enumerate(loaded.labels)}
    return [
        {name: batch[name][row] for name in batch} | {"labels": number[example.labels[0]]}
        for row, example in enumerate(examples)
    ]


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows to the longest of their batch."""
    from transformers import DataCollatorWithPadding

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorWithPadding(loaded.processor)
    return collator


def predict(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> NDArray[np.float32]:
    """Return p(c | x), float32 of shape (examples, classes), in the examples' order."""
    rows = encode(loaded, examples, plan)
    return classes.probabilities(loaded, rows, collate(loaded, plan), plan, watcher)


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `release_kit.training.classes.measured` says."""
    true = classes.numbers(loaded, examples)
    return classes.measured(true, predict(loaded, examples, plan, watcher))


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer always with the most frequent label of the training split."""
    return classes.majority(splits, loaded.labels)


TASK = Task(
    learns="one label for each text",
    fields={
        "text": Field("the text", "text"),
        "label": Field("its label", "label", kept=True),
    },
    pipeline_tag="text-classification",
    read=read_examples,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=classes.figures,
    class_scores=classes.class_scores,
    baseline=baseline,
    reads_text=True,
    weighs_classes=True,
    apart=lambda plan: True,
)
