"""Figures of tasks that answer with one class out of several for each example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, ClassScore, Measured
from release_kit.training.models import Loaded, in_batches
from release_kit.training.splits import Example, Splits

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15
"""Of `calibration_error`, equally wide."""


def probabilities(
    loaded: Loaded,
    rows: Sequence[Mapping[str, Any]],
    collate: Callable[[list[Any]], Mapping[str, Any]],
    plan: TrainingPlan,
    watcher: Watcher,
) -> NDArray[np.float32]:
    """Return p(c | x), float32 of shape (rows, classes), in the rows' order."""
    found = np.empty((len(rows), len(loaded.labels)), np.float32)
    for chosen, outputs, _ in in_batches(loaded, rows, collate, plan, watcher):
        found[chosen] = outputs.logits.float().softmax(dim=-1).cpu().numpy()
    return found


def numbers(loaded: Loaded, examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return the class of each example, which has one."""
    number = {label: index for index, label in enumerate(loaded.labels)}
    return np.array([number[example.labels[0]] for example in examples])


def measured(true: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Measured:
    """Count right answers, examples and answers of each class.

    `true`, shape (examples,), holds classes; `probabilities` has shape (examples, classes). The
    counts are three columns for each class: right answers of it, examples that have it, examples
    that were given it. An example whose probabilities are not finite is told as broken, since
    the greatest of NaNs would pass for an answer: class 0.
    """
    classes = probabilities.shape[1]
    broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist()
    given = probabilities.argmax(axis=1)
    matrix = np.bincount(true * classes + given, minlength=classes**2).reshape(classes, classes)
    return Measured(
        *_cells(true, given, classes),
        other={} if broken else {"calibration_error": calibration_error(true, probabilities)},
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        broken=tuple(broken),
    )


def majority(splits: Splits, labels: tuple[str, ...]) -> Baseline:
    """Return what answering always the most frequent label of the training split would score.

    Among equals it is the first in the alphabet.
    """
    counts = Counter(example.labels[0] for example in splits.train)
    most = min(counts, key=lambda label: (-counts[label], label))
    number = {label: index for index, label in enumerate(labels)}
    true = np.array([number[example.labels[0]] for example in splits.test])
    always = np.full_like(true, number[most])
    return Baseline("always answers", most, Measured(*_cells(true, always, len(labels))))


def _cells(
    true: NDArray[np.int64], given: NDArray[np.int64], classes: int
) -> tuple[object, NDArray[np.intp]]:
    """Return one row of counts for each pair of a class and an answer, and each example's row."""
    from scipy import sparse

    pairs, which = np.unique(true * classes + given, return_inverse=True)
    own, answered = pairs // classes, pairs % classes
    every, right = np.arange(len(pairs)), np.flatnonzero(own == answered)
    rows = np.concatenate([right, every, every])
    columns = np.concatenate([own[right], classes + own, 2 * classes + answered])
    shape = (len(pairs), 3 * classes)
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape), which.ravel()


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return accuracy and the micro and macro scores, for sums of shape (…, 3 * classes).

    A macro score is the plain mean of the class scores, so that a rare class weighs as much as a
    common one. It leaves out classes without an example, whose recall is undefined. A micro score
    counts the answers of all classes together; where every example has one label and gets one,
    as here, micro precision, recall and F1 all equal the accuracy.
    """
    right, support, given = np.split(sums, 3, axis=-1)
    accuracy = right.sum(axis=-1) / support.sum(axis=-1)
    precision, recall, f1 = macro(right, support, given)
    return {
        "accuracy": accuracy,
        "micro_precision": accuracy,
        "micro_recall": accuracy,
        "micro_f1": accuracy,
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
    }


def macro(
    right: NDArray[np.float64], support: NDArray[np.float64], given: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Return the means of `scores` over the classes with an example; 0 where none has one."""
    present = support > 0
    number = np.maximum(present.sum(axis=-1), 1)
    return tuple(
        np.asarray(np.where(present, score, 0).sum(axis=-1) / number)
        for score in scores(right, support, given)
    )


def class_scores(sums: NDArray[np.float64], labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return the scores of each class, for sums of shape (3 * classes,)."""
    right, support, given = np.split(sums, 3, axis=-1)
    each = zip(labels, *scores(right, support, given), support, strict=True)
    return tuple(
        ClassScore(label, float(precision), float(recall), float(f1), int(count))
        for label, precision, recall, f1, count in each
    )


def scores(
    right: NDArray[np.float64], support: NDArray[np.float64], given: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return precision, recall and F1 of what was counted, of the same shape."""
    # What is not there has nothing right either: 0 of 1 is 0.
    return (
        right / np.maximum(given, 1),
        right / np.maximum(support, 1),
        2 * right / np.maximum(support + given, 1),
    )


def calibration_error(true: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3), in 15 bins.

    `true`, shape (examples,), holds classes; `probabilities` has shape (examples, classes). The
    confidence of an answer is its probability. Bin m of M holds the n_m examples with confidence
    in ((m - 1) / M, m / M]; of all n examples,

        ECE = sum_m (n_m / n) * |accuracy_m - mean confidence_m|
    """
    right = probabilities.argmax(axis=1) == true
    confidence = probabilities.max(axis=1).astype(np.float64)
    inner_edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(confidence, inner_edges, right=True)
    # n_m times the gap of the bin is what its examples add up to.
    gaps = np.bincount(bins, weights=right - confidence)
    return float(np.abs(gaps).sum() / len(true))
