"""How well scores tell members from others: the area under the ROC curve, and points of it.

Scores are larger the more likely a record was learned. Members and controls are samples, drawn
apart; intervals hold for what they are samples of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from release_kit.memorization.intervals import share

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS = 60
# Of the error that an interval of `tpr_at` may make: an exact threshold is what controls are too
# few for, so most of it goes there.
_FOR_THRESHOLD = 0.8


@dataclass(frozen=True)
class Estimate:
    """A share, and between which ends it lies."""

    value: float
    low: float
    high: float


def auc(members: NDArray[np.float64], controls: NDArray[np.float64], level: float) -> Estimate:
    """Return the area under the ROC curve: how often a member scores above a control, ties half.

    Both have shape (n,), none empty and none with NaN. The variance is that of DeLong, DeLong and
    Clarke-Pearson (1988), from midranks (Sun and Xu 2014), and the interval is symmetric in
    log(AUC / (1 - AUC)) (Pepe 2003, section 5.2). Where the sample shows no variance, as where
    all members score above all controls, it is that of as many disjoint pairs of a member and a
    control as there are, each of which is a trial of its own (Clopper and Pearson 1934).
    """
    from scipy.stats import norm, rankdata

    ours, theirs = len(members), len(controls)
    ranks = rankdata(np.concatenate([members, controls]))
    above = (ranks[:ours] - rankdata(members)) / theirs
    below = 1 - (ranks[ours:] - rankdata(controls)) / ours
    value = float(above.mean())
    pairs = min(ours, theirs)
    variance = 0.0
    if pairs > 1:
        variance = float(above.var(ddof=1)) / ours + float(below.var(ddof=1)) / theirs
    if variance == 0 or not 0 < value < 1:
        return Estimate(value, *share(round(value * pairs), pairs, level))
    middle = math.log(value / (1 - value))
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, _logistic(middle - half), _logistic(middle + half))


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def tpr_at(
    members: NDArray[np.float64], controls: NDArray[np.float64], fpr: float, level: float
) -> Estimate:
    """Return the share of members above the lowest threshold with at most `fpr` of false alarms.

    That threshold is known from the controls alone, so only up to order statistics: the number of
    controls above it is binomial. The interval runs from the least that the share of members
    above the higher of two such bounds may be to the most that it may be above the lower one
    (both Clopper and Pearson 1934), with the error shared among the four. With fewer controls
    than `controls_for` says no threshold is shown to have so few false alarms, and the interval
    begins at 0. Ties and scores of any distribution are allowed.
    """
    from scipy.stats import binom

    n, error = len(controls), (1 - level) / 2
    tail = error * _FOR_THRESHOLD
    order = np.sort(controls)[::-1]
    # So many controls or more are above the true threshold, and fewer than so many.
    surely = int(binom.ppf(tail, n, fpr))
    hardly = int(binom.isf(tail, n, fpr)) + 1
    exact = 1 - 2 * (error - tail)
    low, high = 0.0, 1.0
    if surely:
        low = share(_above(members, order[surely - 1]), len(members), exact)[0]
    if hardly <= n:
        high = share(_above(members, order[hardly - 1]), len(members), exact)[1]
    value = _above(members, order[int(fpr * n)]) / len(members)
    return Estimate(value, low, high)


def _above(scores: NDArray[np.float64], threshold: float) -> int:
    return int((scores > threshold).sum())


def controls_for(fpr: float, level: float) -> int:
    """Return how many controls it takes to show of any threshold that it has so few alarms."""
    return math.ceil(math.log((1 - level) / 2 * _FOR_THRESHOLD) / math.log1p(-fpr))


def points(members: NDArray[np.float64], controls: NDArray[np.float64]) -> list[list[float]]:
    """Return at most 60 points [fpr, tpr] of the ROC curve, evenly spaced in log fpr, to [1, 1]."""
    n = len(controls)
    order = np.sort(controls)[::-1]
    found = []
    for alarms in np.unique(np.geomspace(1, n, _POINTS).round().astype(int))[:-1]:
        at = _above(controls, order[alarms]) / n, _above(members, order[alarms]) / len(members)
        # Of ties none is above the threshold, and a logarithmic axis has no 0.
        if at[0] and at not in found:
            found.append(at)
    return [[*at] for at in found] + [[1.0, 1.0]]
