"""How two measured runs differ: what a remedy did to what the weights keep."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.files import shown
from release_kit.leak_measures import MEASURES

_UNSAID = "not stated"
_THESE = "of these canaries alone"


@dataclass(frozen=True)
class Run:
    """What was measured of one model."""

    shown_as: str
    readings: Mapping[tuple[str, int | None], Mapping[str, Any]]
    """(measure, repeats) → the reading as in `release_kit.memorization.measuring.Leaks`."""
    not_measured: Mapping[str, str]
    settings: Mapping[str, str]
    """How it was trained and asked, nested names dotted → JSON."""


@dataclass(frozen=True)
class Change:
    """How one measure differs between two runs."""

    measure: str
    repeats: int | None
    before: Mapping[str, Any] | None
    """The reading of the first run; None where it has none."""
    after: Mapping[str, Any] | None
    difference: float | None
    """After less before."""
    low: float | None
    """The difference lies between these with 95 % confidence."""
    high: float | None
    verdict: str
    """less, more, no difference shown, not comparable, or of these canaries alone."""


@dataclass(frozen=True)
class Comparison:
    """Two runs, side by side."""

    first: Run
    second: Run
    changes: tuple[Change, ...]
    settings: tuple[tuple[str, str, str], ...]
    """(name, first, second) of each setting that differs."""


def compare(first: Path, second: Path) -> Comparison:
    """Compare what two files, written by the stage `leaks`, hold.

    The interval of a difference is put together from those of the two readings (method of
    variance estimates recovery, Zou and Donner 2008), which takes the runs for independent.

    Raises:
        UnusableInput: one of them is no such file.
    """
    runs = _read(first), _read(second)
    keys = dict.fromkeys(key for run in runs for key in run.readings)
    order = {name: number for number, name in enumerate(MEASURES)}
    changes = tuple(
        _change(*key, runs[0].readings.get(key), runs[1].readings.get(key))
        for key in sorted(keys, key=lambda key: (order[key[0]], key[1] or 0))
    )
    names = dict.fromkeys(name for run in runs for name in run.settings)
    settings = tuple(
        (name, runs[0].settings.get(name, _UNSAID), runs[1].settings.get(name, _UNSAID))
        for name in names
    )
    return Comparison(*runs, changes, tuple(one for one in settings if one[1] != one[2]))


def _change(
    measure: str,
    repeats: int | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> Change:
    if before is None or after is None or before["means_nothing"] or after["means_nothing"]:
        return Change(measure, repeats, before, after, None, None, None, "not comparable")
    apart = after["value"] - before["value"]
    kind = MEASURES[measure]
    if kind.by_repeats and not kind.sampled:
        # Other canaries might differ the other way, and nothing tells how likely that is.
        return Change(measure, repeats, before, after, apart, None, None, _THESE)
    low = apart - math.hypot(after["value"] - after["low"], before["high"] - before["value"])
    high = apart + math.hypot(after["high"] - after["value"], before["value"] - before["low"])
    verdict = "less" if high < 0 else "more" if low > 0 else "no difference shown"
    return Change(measure, repeats, before, after, apart, low, high, verdict)


def _read(path: Path) -> Run:
    where = shown(path)
    try:
        data = json.loads(path.read_bytes())
        readings = {(one["measure"], one["repeats"]): _checked(one) for one in data["readings"]}
        run = Run(where, readings, dict(data["not_measured"]), dict(_flat(data["settings"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        run = None
    if run is None:
        raise UnusableInput(
            f"{where} does not hold what `release-kit leaks` measured",
            hint="Run `release-kit leaks` in that project first, or name its out/leaks.json.",
        )
    return run


def _checked(reading: Mapping[str, Any]) -> Mapping[str, Any]:
    numbers = [reading[name] for name in ("value", "low", "high")]
    known = reading["measure"] in MEASURES and isinstance(reading["means_nothing"], str)
    if not known or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError("no reading")
    return reading


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value, sort_keys=True)
