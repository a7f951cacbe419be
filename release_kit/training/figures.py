"""Figures of merit, and how sure they are.

A task counts a few things on each example, such as right answers or tokens; a figure is a
function of their sums. So one bootstrap, one way to slice and one way to compare serve every
task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.figures import FIGURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Figures = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]

LEVEL = 0.95
RESAMPLES = 2000
# Of the counts of one block of resamples, so that many examples do not fill the memory.
_BLOCK = 1 << 23


@dataclass(frozen=True)
class Interval:
    """Where a figure would lie for most other test splits of the same size and source."""

    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One figure on the test split."""

    title: str
    hub: str
    """As in `release_kit.figures.Kind`."""
    lower_is_better: bool
    value: float
    interval: Interval | None
    """By the percentile bootstrap (Efron and Tibshirani 1993, chapter 13); None where the figure
    is no function of sums over examples."""
    baseline: float | None
    """The same of the baseline."""
    gain: Interval | None
    """Of the model's figure minus the baseline's on the same resample."""


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; every share is between 0 and 1."""

    label: str
    precision: float
    """Of what the model gave this label, the share that has it; 0 if there is none."""
    recall: float
    """Of what has this label, the share that the model gave it; 0 if none has it."""
    f1: float
    """2 * precision * recall / (precision + recall); 0 when both are 0."""
    support: int
    """How many in the test split have this label."""


@dataclass(frozen=True)
class Measured:
    """What was counted on each example of a set; equal rows may stand once."""

    rows: Any
    """Counts, float64 of shape (rows, columns): an array or a scipy.sparse array."""
    which: NDArray[np.intp]
    """The row of each example, shape (examples,)."""
    other: Mapping[str, float] = field(default_factory=dict)
    """Figures that are no function of sums over examples."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """(classes, classes): row i, column j counts examples of class i that were given j."""
    broken: tuple[int, ...] = ()
    """The examples, by their place, to which the model's answer is no number."""


@dataclass(frozen=True)
class Baseline:
    """What a model must beat to be of use."""

    does: str
    """What it does, as in "the baseline always answers"."""
    what: str
    """What the sentence ends with, such as a label; empty for nothing."""
    measured: Measured


def each(counts: NDArray[np.float64], **more: Any) -> Measured:
    """Return `counts`, float64 of shape (examples, columns), as one row for each example."""
    return Measured(counts, np.arange(len(counts)), **more)


def total(measured: Measured) -> NDArray[np.float64]:
    """Return the sums over all examples, shape (columns,)."""
    repeats = np.bincount(measured.which, minlength=measured.rows.shape[0]).astype(np.float64)
    return np.asarray(repeats @ measured.rows)


def figures_of(
    measured: Measured, baseline: Measured, figures: Figures, seed: int
) -> dict[str, Figure]:
    """Return every figure with its interval, its baseline and what it gains on that.

    Both are counted on the same examples. A figure is measured again on 2,000 resamples, each as
    many examples as there are, drawn with replacement; the interval runs from the lower to the
    upper quantile of 95 %. That tells what the choice of test examples does, not what another
    training would. What the test split does not show, no resample can: a perfect score has an
    interval of no width.
    """
    value = {name: float(of) for name, of in figures(total(measured)).items()}
    base = {name: float(of) for name, of in figures(total(baseline)).items()}
    spans = _intervals(measured, baseline, figures, seed)
    found = {
        name: _figure(name, value[name], spans[name][0], base[name], spans[name][1])
        for name in value
    }
    found |= {
        name: _figure(name, of, None, baseline.other.get(name), None)
        for name, of in measured.other.items()
    }
    return {name: found[name] for name in FIGURES if name in found}


def _figure(
    name: str, value: float, interval: Interval | None, base: float | None, gain: Interval | None
) -> Figure:
    kind = FIGURES[name]
    return Figure(kind.title, kind.hub, kind.lower_is_better, value, interval, base, gain)


def _intervals(
    measured: Measured, baseline: Measured, figures: Figures, seed: int
) -> dict[str, tuple[Interval, Interval]]:
    """Return figure → its interval, and that of its gain.

    Examples whose counts are the same, for model and baseline, are alike to every figure: so
    resampled examples are resampled counts of such kinds, and those are multinomial.
    """
    width = int(baseline.rows.shape[0])
    pairs, repeats = np.unique(
        measured.which.astype(np.int64) * width + baseline.which, return_counts=True
    )
    ours, theirs = measured.rows[pairs // width], baseline.rows[pairs % width]
    size = int(repeats.sum())
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(repeats))
    kept: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, RESAMPLES, block):
        drawn = random.multinomial(size, repeats / size, min(block, RESAMPLES - start))
        weights = drawn.astype(np.float64)
        model, base = figures(np.asarray(weights @ ours)), figures(np.asarray(weights @ theirs))
        for name in model:
            kept.setdefault(name, []).append(np.stack([model[name], model[name] - base[name]]))
    tail = (1 - LEVEL) / 2
    spans = {}
    for name, blocks in kept.items():
        # What is not defined on a resample, such as a rate of nothing, says nothing there.
        low, high = np.nanquantile(np.concatenate(blocks, axis=1), (tail, 1 - tail), axis=1)
        spans[name] = (
            Interval(float(low[0]), float(high[0])),
            Interval(float(low[1]), float(high[1])),
        )
    return spans
