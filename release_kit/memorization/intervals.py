"""How sure a share, a difference of shares or a mean is; 95 % of such intervals hold the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
_Z = 1.959963984540054


def share(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a share (Clopper and Pearson 1934); of nothing, from 0 to 1."""
    from scipy.special import betaincinv

    if not of:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def difference(count: int, of: int, other: int, of_other: int) -> tuple[float, float]:
    """Return the interval of count / of - other / of_other (Newcombe 1998, method 10).

    Where one of them is of nothing, it runs from -1 to 1.
    """
    if not of or not of_other:
        return -1.0, 1.0
    first, second = count / of, other / of_other
    low, high = _wilson(first, of)
    other_low, other_high = _wilson(second, of_other)
    apart = first - second
    return (
        apart - math.hypot(first - low, other_high - second),
        apart + math.hypot(high - first, second - other_low),
    )


def _wilson(rate: float, of: int) -> tuple[float, float]:
    """Return the interval of Wilson (1927)."""
    square = _Z * _Z
    middle = (rate + square / (2 * of)) / (1 + square / of)
    half = _Z / (1 + square / of) * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of))
    return middle - half, middle + half


def mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the mean of what `values`, shape (n,), are a sample of (Student 1908).

    Of less than two values it is endless.
    """
    from scipy.stats import t

    if len(values) < 2:  # noqa: PLR2004 - one value tells no spread
        return -math.inf, math.inf
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(values.std(ddof=1))
    half /= math.sqrt(len(values))
    middle = float(values.mean())
    return middle - half, middle + half
