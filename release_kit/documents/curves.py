"""The curves of a training as a picture, and the same in words; `drawing` says how they look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from release_kit.documents.drawing import GRID, QUIET, as_png, as_svg
from release_kit.errors import UnusableInput

_HEIGHT, _RATE_HEIGHT = 250, 80
_TRAINING, _VALIDATION = "#0072B2", "#D55E00"
_MARKS = 12
# Of more steps than twice the pixels nobody would see more than their means.
_MOST_STEPS = 800
_BROKEN = (AttributeError, KeyError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class _Losses:
    epochs: list[int]
    training: list[float]
    """NaN where there is no number."""
    validation: list[float]

    def best(self) -> int | None:
        """Return the place of the first lowest validation loss."""
        found = [i for i, loss in enumerate(self.validation) if not math.isnan(loss)]
        return min(found, key=lambda i: self.validation[i], default=None)


@dataclass(frozen=True)
class _Steps:
    at: list[float]
    losses: list[float]
    rates: list[float]


def curves_svg(losses: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the picture as SVG, its text as text and `curves_alt` as its title.

    `losses` are those of a TrainingResult as JSON: for each epoch `epoch`, `training_loss` and
    perhaps `validation_loss`; a loss that is null, NaN or infinite leaves a gap. `steps` are
    `step`, `loss` and perhaps `learning_rate` of single steps, drawn as means where they are
    many; the last of them ends the last epoch. The same input gives the same bytes with the same
    matplotlib.

    Raises:
        UnusableInput: there is no epoch, or one that cannot be read.
        Unfinished: matplotlib is not installed.
    """
    title = curves_alt(losses)
    return as_svg(*_panels(losses, steps), title, sharex=True)


def curves_png(
    losses: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Return the picture of `curves_svg` as PNG, 1200 pixels wide; raises the same."""
    return as_png(*_panels(losses, steps), sharex=True)


def curves_alt(losses: Sequence[Mapping[str, Any]]) -> str:
    """Return in words what the picture shows, for who cannot see it.

    Raises:
        UnusableInput: there is no epoch, or one that cannot be read.
    """
    read = _read(losses)
    count = len(read.epochs)
    said = [f"Losses of a training over {count} epoch{'s' * (count > 1)}."]
    for name, values in (("Training", read.training), ("Validation", read.validation)):
        known = [value for value in values if not math.isnan(value)]
        if not known:
            said.append(f"{name} loss: not known.")
            continue
        course = f"{known[0]:.4g}" + (f", at last {known[-1]:.4g}" if len(known) > 1 else "")
        lost = count - len(known)
        gaps = f", with no number for {lost} of the epochs" if lost else ""
        said.append(f"{name} loss: {'at first ' * (len(known) > 1)}{course}{gaps}.")
    best = read.best()
    if best is not None:
        said.append(
            f"Best epoch: {read.epochs[best]}, with validation loss {read.validation[best]:.4g}."
        )
    return " ".join(said)


def _read(losses: Sequence[Mapping[str, Any]]) -> _Losses:
    try:
        read = _Losses(
            [int(loss["epoch"]) for loss in losses],
            [_number(loss["training_loss"]) for loss in losses],
            [_number(loss.get("validation_loss")) for loss in losses],
        )
    except _BROKEN:
        read = None
    if read is None or not read.epochs:
        raise _unusable()
    return read


def _unusable() -> UnusableInput:
    return UnusableInput(
        "the receipt of `train` does not hold losses that can be drawn",
        hint="Delete out/receipts/train.json and run `release-kit run`, which trains again.",
    )


def _number(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def _read_steps(steps: Sequence[Mapping[str, Any]], epochs: int) -> _Steps:
    size = max(1, math.ceil(len(steps) / _MOST_STEPS))
    parts = [steps[start : start + size] for start in range(0, len(steps), size)]
    try:
        epoch = max((step["step"] for step in steps), default=1) / epochs
        read = _Steps(
            [sum(step["step"] for step in part) / len(part) / epoch for part in parts],
            [sum(_number(step["loss"]) for step in part) / len(part) for part in parts],
            [
                sum(_number(step.get("learning_rate")) for step in part) / len(part)
                for part in parts
            ],
        )
    except (*_BROKEN, ZeroDivisionError):
        read = None
    if read is None:
        raise _unusable()
    return read


def _panels(
    losses: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]
) -> tuple[list[int], Callable[[Sequence[Any]], None]]:
    """Return the heights of the panels, and what draws into their axes."""
    read = _read(losses)
    single = _read_steps(steps, len(read.epochs))
    rated = not all(math.isnan(rate) for rate in single.rates)

    def draw(axes: Sequence[Any]) -> None:
        _draw_losses(axes[0], read, single)
        if rated:
            axes[1].plot(single.at, single.rates, color=QUIET, linewidth=1.2)
            axes[1].set_ylabel("learning\nrate")
            axes[1].set_ylim(bottom=0)
            axes[1].ticklabel_format(axis="y", scilimits=(-2, 3))
        axes[-1].set_xlabel("epoch")

    return [_HEIGHT, _RATE_HEIGHT][: 1 + rated], draw


def _draw_losses(axes: Any, read: _Losses, single: _Steps) -> None:
    from matplotlib.ticker import MaxNLocator

    if single.at:
        axes.plot(
            single.at, single.losses, color=_TRAINING, alpha=0.35, linewidth=0.8, label="each step"
        )
    every = math.ceil(len(read.epochs) / _MARKS)
    for name, values, color, line, mark in (
        ("training", read.training, _TRAINING, "-", "o"),
        ("validation", read.validation, _VALIDATION, "--", "s"),
    ):
        if not all(math.isnan(value) for value in values):
            axes.plot(
                *(read.epochs, values),
                **{"color": color, "linestyle": line, "marker": mark, "label": name},
                **{"markevery": every, "markersize": 4.5, "linewidth": 1.8},
            )
    best = read.best()
    if best is not None:
        axes.plot(
            *(read.epochs[best], read.validation[best]),
            **{"color": _VALIDATION, "marker": "o", "markersize": 11, "linestyle": "none"},
            markerfacecolor="none",
            markeredgewidth=1.4,
            label=f"best: epoch {read.epochs[best]}",
        )
    axes.set_ylabel("loss")
    axes.grid(axis="y", **GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not axes.lines:
        axes.text(0.5, 0.5, "no loss is a number", ha="center", transform=axes.transAxes)
        return
    # Above the picture it covers no line; three names have room in one row.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2 + (not single.at),
        columnspacing=1.4,
        frameon=False,
        borderaxespad=0.2,
    )
