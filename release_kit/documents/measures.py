"""The figures of an evaluation as rows of a table, for the model card and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.figures import FIGURES


@dataclass(frozen=True)
class Measure:
    """One row; a cell is empty where nobody measured."""

    name: str
    model: str
    """The model's figure, with the interval in parentheses where there is one."""
    baseline: str
    difference: str
    """Model minus baseline, likewise."""


def measures(evaluation: Mapping[str, Any]) -> tuple[Measure, ...]:
    """Return the rows for `evaluation`, the results that the stage left in its receipt.

    Raises:
        UnusableInput: a figure is missing, as in the receipt of an older release-kit, or is none.
    """
    try:
        return tuple(_measure(figure) for figure in evaluation["figures"].values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnusableInput(
            f"the receipt of `evaluate` does not hold the figures to show: {error}",
            hint="Delete out/receipts/evaluate.json and run `release-kit run`, which measures it.",
        ) from None


def slices(evaluation: Mapping[str, Any]) -> tuple[tuple[str, str, int, Measure], ...]:
    """Return (field, value, examples, row) for each figure of each slice of `evaluation`.

    Raises:
        UnusableInput: as `measures` does.
    """
    return tuple(
        (part["field"], _value(part["value"]), part["examples"], measure)
        for part in evaluation.get("slices", ())
        for measure in measures(part)
    )


def _value(value: str | None) -> str:
    if value is None:
        return "other values"
    # Nothing that moves a cursor or turns the direction of writing.
    return (value if value.isprintable() else repr(value)) or "not stated"


def robustness(evaluation: Mapping[str, Any]) -> tuple[tuple[str, int, Measure], ...]:
    """Return (change, texts that it changes, row) for each figure after each small change.

    The row's baseline is the figure on unchanged texts. A change that changes no text has one
    row, with empty cells.

    Raises:
        UnusableInput: as `measures` does.
    """
    return tuple(
        (kind["what"], kind["changed"], measure)
        for kind in evaluation.get("robustness", ())
        for measure in measures(kind) or (Measure("", "", "", ""),)
    )


def _measure(figure: Mapping[str, Any]) -> Measure:
    value, baseline = figure["value"], figure["baseline"]
    return Measure(
        figure["title"],
        _with_interval(value, figure["interval"], ".3f"),
        "" if baseline is None else f"{baseline:.3f}",
        "" if baseline is None else _with_interval(value - baseline, figure["gain"], "+.3f"),
    )


def _with_interval(value: float, interval: Mapping[str, float] | None, form: str) -> str:
    if interval is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({interval['low']:{form}}, {interval['high']:{form}})"


def epochs(
    losses: Sequence[Mapping[str, Any]], most: int | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return the head and the rows of the table of epochs, from the receipt of a training.

    Of the figures on the validation split it shows those that the Hub knows, at most so many.

    Raises:
        UnusableInput: a loss is missing, as in a damaged receipt.
    """
    try:
        named = [name for name in losses[0]["figures"] if FIGURES[name].hub] if losses else []
        shown = named[:most]
        head = ("epoch", "training loss", "validation loss", *(FIGURES[n].title for n in shown))
        return (
            head,
            *(
                (
                    str(epoch["epoch"]),
                    f"{epoch['training_loss']:.4f}",
                    f"{epoch['validation_loss']:.4f}",
                    *(f"{epoch['figures'][n]:.3f}" if n in epoch["figures"] else "" for n in shown),
                )
                for epoch in losses
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnusableInput(
            f"the receipt of `train` does not hold the epochs to show: {error}",
            hint="Delete out/receipts/train.json and run `release-kit run`, which trains again.",
        ) from None
