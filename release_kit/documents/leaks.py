"""What was measured of the leaks of the weights, in words and rows for the model card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from release_kit.documents.leak_curves import leaks_alt
from release_kit.errors import UnusableInput
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES, MEASURES_OF

_BROKEN = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
# What four digits behind the point show as 0.
_SMALL = 5e-5


@dataclass(frozen=True)
class Row:
    """One reading."""

    name: str
    value: str
    interval: str
    """"exact" where nothing was sampled."""
    of: str
    """How many items it comes from."""
    how: str
    """With the reason where nobody should rely on it."""


@dataclass(frozen=True)
class LeakSection:
    """What a card says of the leaks of weights."""

    words: tuple[str, ...]
    """Sentences that hold for all rows."""
    level: float
    """Of every interval."""
    rows: tuple[Row, ...]
    missing: tuple[tuple[str, str], ...]
    """(measure, why it was not measured)"""
    notes: tuple[str, ...]
    picture: str
    """The curves in words; empty where there are none to draw."""


def leak_section(leaks: Mapping[str, Any]) -> LeakSection:
    """Return what to say of `leaks`, the results that the stage left in its receipt.

    A measure that belongs to the task and of which the results say nothing is not measured.

    Raises:
        UnusableInput: something is missing, as in the receipt of another release-kit, or is none.
    """
    picture, section = leaks_alt(leaks.get("curves") or {}), None
    try:
        readings, reasons = leaks["readings"], leaks["not_measured"]
        known = {reading["measure"] for reading in readings}
        expected = {**dict.fromkeys(MEASURES_OF.get(leaks["task"], FOLDER_MEASURES)), **reasons}
        section = LeakSection(
            tuple(_words(leaks)),
            float(leaks["level"]),
            tuple(_row(reading) for reading in readings),
            tuple(
                (MEASURES[name].title, str(why or "nothing was answered for it"))
                for name, why in expected.items()
                if name not in known
            ),
            tuple(map(str, leaks["notes"])),
            picture,
        )
    except _BROKEN:
        pass
    # Raised out here: inside the handler it would carry along what cannot be read.
    if section is None:
        raise UnusableInput(
            "the receipt of `leaks` does not hold the measures to show",
            hint="Delete out/receipts/leaks.json and run `release-kit run`, which measures it.",
        )
    return section


def _row(reading: Mapping[str, Any]) -> Row:
    kind = MEASURES[reading["measure"]]
    value, low, high = (_number(reading[name]) for name in ("value", "low", "high"))
    name, how, repeats = kind.title, str(reading["how"]), reading["repeats"]
    if kind.by_repeats and repeats is not None:
        name += f", planted {_times(repeats)}" if repeats else ", never planted"
    said = _shown(value, kind.unit)
    interval = f"{_shown(low, kind.unit)} to {_shown(high, kind.unit)}"
    if reading["means_nothing"]:
        said += ", means nothing"
        how = f"{how}; do not rely on it: {reading['means_nothing']}".removeprefix("; ")
    return Row(
        name,
        said,
        "exact" if low == high and not kind.sampled else interval,
        f"{reading['of']:,}",
        how,
    )


def _number(value: Any) -> float:
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _shown(value: float, unit: str) -> str:
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "bits":
        return f"{value:.2f} bits"
    # What is rounded to nothing would look better than it is.
    return f"{value:.4f}" if value == 0 or abs(value) >= _SMALL else f"{value:.1e}"


def _times(count: int) -> str:
    return f"{count:,} time{'s' * (count > 1)}"


def _words(leaks: Mapping[str, Any]) -> Iterator[str]:
    if leaks["readings"]:
        yield (
            "The weights were examined for what they still tell of the data that they were trained"
            " on. The larger a value, the more they give away."
        )
    else:
        yield "Nothing was measured of what the weights still tell of their training data."
    yield (
        "No value proves that nothing leaks: each is about one way of asking and about the items"
        " that were asked, and attacks stronger than these may exist."
    )
    if training := leaks["settings"].get("training"):
        yield _of_canaries(training["canaries"])
        yield (
            "Training was not differentially private, so no bound holds for any record."
            if training["differential_privacy"] is None
            else "Training was differentially private; what its bound covers stands under Training."
        )
    else:
        yield (
            "How the model was trained is not known here, nor whether canaries were planted or"
            " differential privacy was used."
        )
    if not leaks["complete"]:
        so_far = "; ".join(
            f"{part['probe']} {part['asked']:,} of {part['items']:,}" for part in leaks["asked"]
        )
        yield f"The time given ended before everything was asked: {so_far}."
    if any(reading["means_nothing"] for reading in leaks["readings"]):
        yield "What means nothing is told with its reason, and is drawn all the same."


def _of_canaries(canaries: Mapping[str, Any] | None) -> str:
    if canaries is None:
        return "No canaries were planted, so nothing tells how well a secret is kept."
    each, repeats = canaries["each"], canaries["repeats"]
    often = ", ".join(_times(count) for count in repeats)
    return (
        f"{each * len(repeats):,} canaries, random secrets that stand in no published data, were"
        f" planted among the training records: {each:,} of each group ({often})."
    )
