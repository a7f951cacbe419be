"""Image classification: one label out of two or more for each picture.

A vision transformer or a convolutional network with a linear head
(AutoModelForImageClassification) turns a batch of pictures x, float32 of shape (batch, 3, height,
width), into logits z, float32 of shape (batch, classes). With p(c | x) = exp(z_c) / sum_k exp(z_k)
and the true classes y, int64 of shape (batch,), the loss is the cross entropy, averaged over the
batch:

    L = -(1 / batch) * sum_i log p(y_i | x_i)        in nats; log(classes) for a blind guess

The image processor beside the weights says to which size and range a picture is brought. Pictures
are decoded each time they are read, so that only their places stay in memory. With the option
`augment` each is cut, at random in each epoch, to at least nine tenths of its width and height.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.datasets.media import folder_of, media_of
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import classes, pictures
from release_kit.training.figures import Baseline, ClassScore, Measured
from release_kit.training.models import Loaded, need, open_model
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import label_of, read_each, several_classes
from release_kit.training.tasks.task import Field, Row, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from release_kit.datasets.records import Record

BEST = 5
"""How many answers may be given for `top5_accuracy`, which is told of more classes than that."""
_KEPT = 0.9


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    Its text is a digest of the pixels, so pictures are near copies only where all pixels agree.

    Raises:
        UnusableInput: with source and record number of every record whose picture cannot be found
            or decoded, or that has no usable label, or when there are no records or only one
            class.
        Unfinished: Pillow is not installed.
    """
    need("PIL")

    def read(record: Record) -> tuple[Example, tuple[str, str]]:
        media, wrong = media_of(record.fields, plan.fields["image"], folder_of(record))
        told = ""
        if media:
            picture, wrong = pictures.decode(media.read())
            wrong = wrong and f"the picture in '{plan.fields['image']}' {wrong}"
            told = pictures.digest(picture) if picture else ""
        label, wrong_label = label_of(record.fields, plan.fields["label"])
        example = Example(told, (label,), record.source, record.index, media)
        return example, (wrong, wrong_label)

    return several_classes(read_each(records, read), plan.fields["label"])


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`, with a new head for `labels` where they are given.

    Raises:
        UnusableInput: as `open_model` does.
    """
    return open_model(
        "AutoModelForImageClassification",
        folder,
        labels=labels,
        processor="AutoImageProcessor",
        settings={"problem_type": "single_label_classification"},
    )


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return where each picture lies and the index of its label; it is decoded by `collate`."""
    number = {label: index for index, label in enumerate(loaded.labels)}
    return [
        {"picture": example.content, "labels": number[example.labels[0]]} for example in examples
    ]


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what decodes the pictures of some rows and stacks them."""
    import torch

    def stack(rows: list[Row]) -> Mapping[str, Any]:
        found = [_picture(row) for row in rows]
        batch = {**loaded.processor(found, return_tensors="pt")}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    return stack


def _picture(row: Row) -> Image:
    picture, _ = pictures.decode(row["picture"].read())
    # Its bytes are those that were decoded when the records were read.
    assert picture  # noqa: S101
    if "cut" not in row:
        return picture
    width, height = picture.size
    left, top, right, bottom = row["cut"]
    return picture.crop((left * width, top * height, right * width, bottom * height))


def draw(loaded: Loaded, plan: TrainingPlan) -> Callable[[Row, np.random.Generator], Row]:
    """Return what chooses, where the plan asks for it, the part of a picture that is read."""

    def cut(row: Row, random: np.random.Generator) -> Row:
        if not plan.options["augment"]:
            return row
        kept = random.uniform(_KEPT, 1, 2)
        left, top = random.uniform(0, 1 - kept)
        return {**row, "cut": (left, top, left + kept[0], top + kept[1])}

    return cut


def predict(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> NDArray[np.float32]:
    """Return p(c | x), float32 of shape (examples, classes), in the examples' order."""
    rows = encode(loaded, examples, plan)
    return classes.probabilities(loaded, rows, collate(loaded, plan), plan, watcher)


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `release_kit.training.classes.measured` says, and the hits among the best five."""
    true = classes.numbers(loaded, examples)
    found = predict(loaded, examples, plan, watcher)
    best = np.argsort(-found, axis=1, kind="stable")[:, :BEST]
    return _with_hits(classes.measured(true, found), (best == true[:, None]).any(axis=1))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the figures of classes and, of more than five, how often the label is among five.

    `sums` has shape (…, 3 * classes + 1); the last column counts the hits.
    """
    counts, hits = sums[..., :-1], sums[..., -1]
    found = classes.figures(counts)
    _, support, _ = np.split(counts, 3, axis=-1)
    if support.shape[-1] > BEST:
        found["top5_accuracy"] = hits / support.sum(axis=-1)
    return found


def class_scores(sums: NDArray[np.float64], labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return the scores of each class, for sums of shape (3 * classes + 1,)."""
    return classes.class_scores(sums[..., :-1], labels)


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer always with the most frequent label of training; of five, with the five such."""
    always = classes.majority(splits, loaded.labels)
    counts = Counter(example.labels[0] for example in splits.train)
    best = sorted(counts, key=lambda label: (-counts[label], label))[:BEST]
    hits = np.array([example.labels[0] in best for example in splits.test])
    return replace(always, measured=_with_hits(always.measured, hits))


def _with_hits(measured: Measured, hits: NDArray[np.bool_]) -> Measured:
    """Return the counts with one more column, 1 where `hits`, of shape (examples,), is true."""
    from scipy import sparse

    kinds, which = np.unique(2 * measured.which + hits, return_inverse=True)
    column = sparse.csr_array((kinds % 2)[:, None].astype(np.float64))
    rows = sparse.hstack([measured.rows[kinds // 2], column], format="csr")
    return replace(measured, rows=rows, which=which.ravel())


TASK = Task(
    learns="one label for each picture",
    fields={
        "image": Field(
            "the picture: bytes, or a path beside the dataset", "image", kept=True, media="image"
        ),
        "label": Field("its label", "label", kept=True),
    },
    pipeline_tag="image-classification",
    apart=lambda plan: True,
    read=read_examples,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=figures,
    class_scores=class_scores,
    baseline=baseline,
    draw=draw,
    options={"augment": False},
    by_length=False,
    weighs_classes=True,
)
