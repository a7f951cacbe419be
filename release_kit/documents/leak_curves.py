"""What the weights keep as a picture, and the same in words; `drawing` says how it looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from release_kit.documents.drawing import GRID, QUIET, as_png, as_svg
from release_kit.errors import UnusableInput

_EXPOSURE_HEIGHT, _ROC_HEIGHT, _ROW_HEIGHT = 260, 250, 17
_CANARIES = "#0072B2"
_ATTACKS: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
    ("#E69F00", ":"),
)
_LEAST = 1e-3
# Letters of a name that have room beside the line it names.
_LONGEST = 36
# Of more points in a column nobody would see more.
_MOST_POINTS = 40
# Names of ticks that are nearer than so much of the axis would run into each other.
_APART = 0.09
_BROKEN = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class _Group:
    repeats: int
    mean: float
    low: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class _Attack:
    name: str
    auc: float
    low: float
    high: float
    told: float
    """The share of members at 1 % false alarms."""
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Curves:
    ceiling: float
    groups: tuple[_Group, ...]
    """By repeats; 0 for those never planted."""
    attacks: tuple[_Attack, ...]
    """The strongest first."""


def leaks_svg(curves: Mapping[str, Any]) -> str | None:
    """Return exposure against repeats, and ROC curves, as SVG; None where there are neither.

    `curves` are those of `Leaks` as JSON. "exposure" lists groups of canaries: `repeats`, `mean`
    with `low` and `high`, and `values`, in bits, of which "ceiling" is the most that there can be.
    "roc" lists attacks: `attack`, `auc` with `low` and `high`, `tpr_1` and `points` of (fpr, tpr);
    the five whose AUC is surely the largest are drawn, on logarithmic axes from 0.1 % on, where
    smaller shares lie on the edge. Of many canaries of one group an even choice is drawn. The same
    input gives the same bytes with the same matplotlib.

    Raises:
        UnusableInput: a curve cannot be read.
        Unfinished: matplotlib is not installed.
    """
    read = _read(curves)
    heights, draw = _panels(read)
    return as_svg(heights, draw, _alt(read)) if heights else None


def leaks_png(curves: Mapping[str, Any]) -> bytes | None:
    """Return the picture of `leaks_svg` as PNG, 1200 pixels wide; raises the same."""
    heights, draw = _panels(_read(curves))
    return as_png(heights, draw) if heights else None


def leaks_alt(curves: Mapping[str, Any]) -> str:
    """Return in words what the picture shows; empty where there is none.

    Raises:
        UnusableInput: a curve cannot be read.
    """
    return _alt(_read(curves))


def _alt(read: _Curves) -> str:
    said = []
    if read.groups:
        said.append(
            "Mean exposure of canaries by how often they stand in the training data, in bits with"
            f" 95 % intervals; the ceiling is {read.ceiling:.1f}."
        )
        for group in read.groups:
            said.append(
                f"{_often(group.repeats)}: {group.mean:.1f} ({group.low:.1f} to"
                f" {group.high:.1f}), {len(group.values)} canaries."
            )
    if read.attacks:
        said.append(
            "ROC curves of membership inference on logarithmic axes; guessing has an AUC of 0.5."
        )
        said += [
            f"{attack.name}: AUC {attack.auc:.3f} ({attack.low:.3f} to {attack.high:.3f}), tells"
            f" {100 * attack.told:.1f} % of members at 1 % false alarms."
            for attack in read.attacks
        ]
    return " ".join(said)


def _often(repeats: int) -> str:
    return f"{repeats} time{'s' * (repeats > 1)}" if repeats else "Never planted"


def _read(curves: Mapping[str, Any]) -> _Curves:
    try:
        groups = [
            _Group(
                int(group["repeats"]),
                _number(group["mean"]),
                _number(group["low"]),
                _number(group["high"]),
                tuple(map(_number, group["values"])),
            )
            for group in curves.get("exposure", ())
        ]
        attacks = [
            _Attack(
                _name(attack["attack"]),
                _number(attack["auc"]),
                _number(attack["low"]),
                _number(attack["high"]),
                _number(attack["tpr_1"][0]),
                tuple((_number(fpr), _number(tpr)) for fpr, tpr in attack["points"]),
            )
            for attack in curves.get("roc", ())
        ]
        read = _Curves(
            _number(curves["ceiling"]) if groups else 0.0,
            tuple(sorted(groups, key=lambda group: group.repeats)),
            tuple(sorted(attacks, key=lambda one: (-one.low, -one.auc))[: len(_ATTACKS)]),
        )
    except _BROKEN:
        read = None
    if (
        read is None
        or any(group.repeats < 0 for group in read.groups)
        or not all(attack.points for attack in read.attacks)
    ):
        raise UnusableInput(
            "the receipt of `leaks` does not hold curves that can be drawn",
            hint="Delete out/receipts/leaks.json and run `release-kit run`, which measures it.",
        )
    return read


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _panels(read: _Curves) -> tuple[list[int], Callable[[Sequence[Any]], None]]:
    """Return the heights of the panels, and what draws into their axes."""
    kinds: list[tuple[int, Callable[[Any, _Curves], None]]] = []
    if read.groups:
        kinds.append((_EXPOSURE_HEIGHT, _draw_exposure))
    if read.attacks:
        kinds.append((_ROC_HEIGHT + _ROW_HEIGHT * (1 + len(read.attacks)), _draw_roc))

    def draw(axes: Sequence[Any]) -> None:
        for own, (_, panel) in zip(axes, kinds, strict=True):
            panel(own, read)

    return [height for height, _ in kinds], draw


def _draw_exposure(axes: Any, read: _Curves) -> None:
    planted = [group for group in read.groups if group.repeats]
    never = math.log2(planted[0].repeats) - 1 if planted else 0.0
    at = [math.log2(group.repeats) if group.repeats else never for group in read.groups]
    width = max(1.0, at[-1] - at[0])
    for group, place in zip(read.groups, at, strict=True):
        color = _CANARIES if group.repeats else QUIET
        shown = _evenly(sorted(group.values))
        # Beside the interval, so that neither hides the other.
        beside = [place - 0.035 * width] * len(shown)
        axes.plot(beside, shown, color=color, alpha=0.5, **_MARK, markersize=3)
        axes.errorbar(
            *([place], [group.mean]),
            # A mean outside its interval would be a mistake of whoever measured; it is drawn.
            yerr=[[max(0.0, group.mean - group.low)], [max(0.0, group.high - group.mean)]],
            **{"color": color, "capsize": 4, "linewidth": 1.6, "markersize": 6},
            marker="o" if group.repeats else "D",
        )
    means = [(place, g.mean) for place, g in zip(at, read.groups, strict=True) if g.repeats]
    axes.plot(*zip(*means, strict=True), color=_CANARIES, linewidth=1.2) if means else None
    axes.axhline(read.ceiling, color=QUIET, linestyle="--", linewidth=1.2)
    axes.set_ylim(0, max([read.ceiling, *(group.high for group in read.groups)]) * 1.06)
    axes.set_xlim(at[0] - 0.1 * width, at[-1] + 0.07 * width)
    named = _far_apart(at, width)
    axes.set_xticks(
        [at[place] for place in named],
        [str(read.groups[place].repeats or "never") for place in named],
    )
    axes.set_xlabel("times in the training data")
    axes.set_ylabel("exposure in bits")
    axes.grid(axis="y", **GRID)
    _legend(
        axes,
        [
            ("mean, 95 % interval", _CANARIES, "-", "o", 6),
            ("never planted", QUIET, "none", "D", 6),
            ("single canaries", _CANARIES, "none", "o", 3),
            ("ceiling", QUIET, "--", "none", 0),
        ],
        columns=2,
    )


def _draw_roc(axes: Any, read: _Curves) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.plot([_LEAST, 1], [_LEAST, 1], color=QUIET, linestyle=(0, (2, 2)), linewidth=1.2)
    named: list[tuple[str, str, Any, str, int]] = []
    for attack, (color, line) in zip(read.attacks, _ATTACKS, strict=False):
        x, y = zip(*((max(_LEAST, f), max(_LEAST, t)) for f, t in attack.points), strict=True)
        axes.plot(x, y, color=color, linestyle=line, linewidth=1.6)
        name = shorten(attack.name, _LONGEST, placeholder=" …")
        named.append((f"{name}, AUC {attack.auc:.2f}", color, line, "none", 0))
    named.append(("guessing, AUC 0.50", QUIET, (0, (2, 2)), "none", 0))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlim(_LEAST, 1)
    axes.set_ylim(_LEAST, 1)
    axes.set_xlabel("held-out records taken for training records")
    axes.set_ylabel("training records told")
    axes.grid(**GRID)
    _legend(axes, named, columns=1)


_MARK: Mapping[str, Any] = {"marker": "o", "linestyle": "none", "markeredgewidth": 0}


def _legend(axes: Any, named: Sequence[tuple[str, str, Any, str, int]], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linestyle=line, marker=mark, markersize=size, label=name)
        for name, color, line, mark, size in named
    ]
    # Above the picture it covers no line.
    axes.legend(
        **{"handles": handles, "loc": "lower left", "bbox_to_anchor": (0, 1)},
        **{"ncols": columns, "columnspacing": 1.4, "handlelength": 2.4, "labelspacing": 0.3},
        frameon=False,
        borderaxespad=0.2,
    )


def _evenly(values: Sequence[float]) -> Sequence[float]:
    if len(values) <= _MOST_POINTS:
        return values
    step = (len(values) - 1) / (_MOST_POINTS - 1)
    return [values[round(place * step)] for place in range(_MOST_POINTS)]


def _far_apart(at: Sequence[float], width: float) -> list[int]:
    """Return the places of the ticks that have room for a name, the last one among them."""
    found: list[int] = []
    for place in reversed(range(len(at))):
        if not found or at[found[-1]] - at[place] >= _APART * width:
            found.append(place)
    return found[::-1]
