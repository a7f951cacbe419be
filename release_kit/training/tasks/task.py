"""What a training task is made of: a few functions, so that training itself knows no task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, ClassScore, Measured
from release_kit.training.models import Loaded
from release_kit.training.splits import Example, Splits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

Row = dict[str, Any]
"""What the model reads of one example: unpadded inputs and labels, by their names."""


@dataclass(frozen=True)
class Field:
    """A part that a task's records have."""

    holds: str
    """What stands in it, for errors and documents."""
    name: str | None
    """What it is called where release.yaml does not say; None where it may be absent."""
    kept: bool = False
    """Whether redaction leaves it alone, since an answer that changes is another answer."""
    media: str = ""
    """image or audio, where it holds or names one, which redaction does not search."""


@dataclass(frozen=True)
class Task:
    """How one kind of model is trained and measured; one file and one registration each."""

    learns: str
    """What is learned, in a few words, for errors and documents."""
    fields: Mapping[str, Field]
    """The parts of a record, by the words of `training.fields` in release.yaml."""
    pipeline_tag: str
    """The Hub's word for what the model is used for; empty where it has none."""
    read: Callable[[TrainingPlan, Sequence[Record]], tuple[Example, ...]]
    """Turns all records into examples, one each in their order; UnusableInput with one problem
    for each bad record."""
    load: Callable[[TrainingPlan, Path, tuple[str, ...] | None], Loaded]
    """Loads a base model and gives it what it lacks for these labels (what `names` returns); or,
    with None, a model that was trained here."""
    encode: Callable[[Loaded, Sequence[Example], TrainingPlan], list[Row]]
    """Returns what the model reads, in the examples' order; it draws no random numbers. For
    training there may be more or fewer rows than examples, as where texts are packed."""
    collate: Callable[[Loaded, TrainingPlan], Callable[[list[Row]], Mapping[str, Any]]]
    """Returns what makes a padded batch of tensors out of rows; it draws no random numbers."""
    measure: Callable[[Loaded, Sequence[Example], TrainingPlan, Watcher], Measured]
    """Counts how the model does on each example."""
    figures: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
    """Turns sums over examples of what `measure` counted, shape (…, columns), into figures of
    shape (…), by their names in `release_kit.figures.FIGURES`."""
    baseline: Callable[[Loaded, Splits, TrainingPlan, Path | None, Watcher], Baseline]
    """Counts the same on the test split for what a model must beat to be of use; it may read the
    training split and the base model, where that one lies at hand."""
    class_scores: Callable[[NDArray[np.float64], tuple[str, ...]], tuple[ClassScore, ...]] = (
        lambda sums, labels: ()
    )
    """Turns the sums over the test split into scores of each class, where there are classes."""
    names: Callable[[TrainingPlan, Splits], tuple[str, ...]] = lambda plan, splits: splits.labels
    """Returns what the model must know by name: the labels of all examples, or, where the names
    are what is learned, those of the training split alone."""
    notes: Callable[[TrainingPlan, Sequence[Example], Sequence[Row]], Iterable[str]] = (
        lambda plan, examples, rows: ()
    )
    """Says, without quoting them, what a person should know of examples and their rows before
    training, such as how much of them the model does not read."""
    draw: Callable[[Loaded, TrainingPlan], Callable[[Row, np.random.Generator], Row]] | None = None
    """Returns what changes a row at random each time it is read, as masking does. Its numbers
    depend on seed, epoch and row alone, so that a resumed training draws the same."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The settings of `training.options` that are this task's own, with their defaults."""
    reads_text: bool = False
    """Whether the model reads `Example.text` alone and answers with no part of it, so that small
    changes of it show how steady the answers are."""
    by_length: bool = True
    """Whether batches are made of rows of like length; the length is that of the first entry."""
    weighs_classes: bool = False
    """Whether each example has one class and the loss is the cross entropy of the model's logits,
    so that weights of classes have a meaning."""
    apart: Callable[[TrainingPlan], bool] = lambda plan: False
    """Tells whether each example makes at least one row, of which no other has a part, and the
    model takes nothing else from the data but the names of its labels. Only then can differential
    privacy bound what a record does."""
