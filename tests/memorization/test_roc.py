"""Intervals of AUC and TPR hold the truth as often as they say, at few scores and with ties."""

from __future__ import annotations

import numpy as np
import pytest

from release_kit.memorization.roc import auc, controls_for, points, tpr_at


@pytest.mark.parametrize(
    ("apart", "members", "controls"), [(0.0, 12, 10), (1.5, 30, 15), (2.5, 80, 80)]
)
def test_auc_intervals_hold_the_truth(apart: float, members: int, controls: int) -> None:
    from scipy.stats import norm

    random, truth, wrong = np.random.default_rng(1), norm.cdf(apart / np.sqrt(2)), 0
    for _ in range(300):
        found = auc(random.normal(apart, 1, members), random.normal(0, 1, controls), 0.95)
        assert 0 <= found.low <= found.value <= found.high <= 1
        wrong += not found.low <= truth <= found.high
    # Of 300 trials of 5 %, more than 27 come once in 900 times.
    assert wrong <= 27


def test_auc_is_the_share_of_pairs_with_ties_half() -> None:
    random = np.random.default_rng(2)
    members, controls = random.integers(0, 5, 40) + 1.0, random.integers(0, 5, 30) * 1.0
    members[0], controls[0] = np.inf, -np.inf
    pairs = (members[:, None] > controls) + 0.5 * (members[:, None] == controls)
    found = auc(members, controls, 0.95)
    assert found.value == pytest.approx(pairs.mean())
    # DeLong, DeLong and Clarke-Pearson as they wrote it: variances of the means of either side.
    spread = pairs.mean(1).var(ddof=1) / 40 + pairs.mean(0).var(ddof=1) / 30
    slope = found.value * (1 - found.value)
    low = np.log(found.value / (1 - found.value)) - 1.959964 * np.sqrt(spread) / slope
    assert found.low == pytest.approx(1 / (1 + np.exp(-low)), rel=1e-5)


def test_auc_without_variance_is_still_uncertain() -> None:
    low, high = np.zeros(20), np.ones(20)
    assert auc(high, low, 0.95).value == 1
    assert 0.8 < auc(high, low, 0.95).low < 0.9
    assert auc(high, low, 0.99).low < auc(high, low, 0.95).low
    assert auc(low, high, 0.95).value == 0
    assert 0.1 < auc(low, high, 0.95).high < 0.2
    tied = auc(low, low, 0.95)
    assert tied.value == 0.5
    assert tied.low < 0.3
    assert tied.high > 0.7


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize(("apart", "count", "fpr"), [(1, 500, 0.01), (3, 500, 0.001), (0, 60, 0.1)])
def test_tpr_intervals_hold_the_truth(apart: float, count: int, fpr: float, decimals: int) -> None:
    random, wrong = np.random.default_rng(3), 0
    many = np.round(random.normal(0, 1, 400_000), decimals)
    thresholds, above = np.unique(many, return_counts=True)
    above = 1 - np.cumsum(above) / len(many)
    threshold = thresholds[above <= fpr][0]
    truth = float((np.round(random.normal(apart, 1, 400_000), decimals) > threshold).mean())
    for _ in range(200):
        members = np.round(random.normal(apart, 1, count), decimals)
        controls = np.round(random.normal(0, 1, count), decimals)
        found = tpr_at(members, controls, fpr, 0.9)
        assert 0 <= found.low <= found.value <= found.high <= 1
        wrong += not found.low <= truth <= found.high
    # Of 200 trials of 10 %, more than 35 come once in a thousand times.
    assert wrong <= 35


def test_few_controls_show_no_threshold() -> None:
    need = controls_for(0.01, 0.95)
    assert 380 < need < 400
    members = np.full(300, 9.0)
    assert tpr_at(members, np.arange(need) / need, 0.01, 0.95).low > 0.95
    few = tpr_at(members, np.arange(need - 1) / need, 0.01, 0.95)
    assert (few.value, few.low, few.high) == (1, 0, 1)
    # That nobody is told is known with far fewer.
    none = tpr_at(np.full(300, -9.0), np.arange(100) / 100, 0.01, 0.95)
    assert (none.value, none.low) == (0, 0)
    assert none.high < 0.03


def test_points_are_those_of_the_curve() -> None:
    random = np.random.default_rng(4)
    members, controls = random.normal(1, 1, 900), random.normal(0, 1, 700)
    found = points(members, controls)
    assert 40 < len(found) <= 60
    assert found[0][0] == pytest.approx(1 / 700)
    assert found[-1] == [1, 1]
    assert found == sorted(found)
    for fpr, tpr in found[:-1]:
        threshold = np.sort(controls)[::-1][round(fpr * 700)]
        assert tpr == pytest.approx((members > threshold).mean())
    assert points(np.ones(3), np.ones(2)) == [[1, 1]]
