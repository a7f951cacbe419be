"""Questions put to weights, one item after another, and how the time for them is spent.

A probe asks the same of many items, such as records, each of which gives a row of numbers; what
it measures is a function of the rows. So one way of spending time, one journal and one way of
going on after a kill serve every probe. The items come in random order, so that those asked so
far are always a sample of all of them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.progress import SILENT, Watcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Write = Callable[[str, int, NDArray[np.float64], float], None]


@dataclass(frozen=True)
class Reading:
    """One measure, as far as it is known."""

    measure: str
    """A name of `release_kit.leak_measures.MEASURES`."""
    value: float
    low: float
    high: float
    """The value lies between these with 95 % confidence."""
    of: int
    """How many items it comes from: of training data, without those of the control."""
    how: str = ""
    """What was done, where there are several ways, as in "ratio to the base model"."""
    repeats: int | None = None
    """How often the things that it is about stand in the training data, where that is told
    apart; 0 for never."""
    means_nothing: str = ""
    """Why nobody should rely on it; empty where there is no reason."""


@dataclass(frozen=True)
class Found:
    """What a probe measures."""

    readings: tuple[Reading, ...] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Measure → why there is no reading."""
    curves: Mapping[str, Any] = field(default_factory=dict)
    """What can be drawn, as JSON values."""
    notes: tuple[str, ...] = ()
    """What a reader should know; nothing of the data is quoted."""


@dataclass(frozen=True)
class Probe:
    """One kind of question."""

    name: str
    """As progress and the journal show it, as in "membership"."""
    items: int
    """How many there are; item i is always the same for the same plan, data and weights."""
    at_once: int
    """Items of one round, after which the journal is written and the clock read."""
    ask: Callable[[range], NDArray[np.float64]]
    """Returns the rows of these items, shape (items, columns); none holds anything of the data."""
    found: Callable[[NDArray[np.float64]], Found]
    """What the rows of the first items say; there may be none of them."""
    width: Callable[[NDArray[np.float64]], float] = lambda rows: 1 / math.sqrt(max(1, len(rows)))
    """How wide the most important interval is, between 0 and 1: where it is widest, time is
    spent first."""


@dataclass(frozen=True)
class Asked:
    """How far a probe came."""

    probe: str
    asked: int
    items: int
    seconds: float
    """Of asking, those before a kill among them."""


def spend(
    probes: Sequence[Probe],
    seconds: float | None,
    journal: Path,
    bound: str,
    watcher: Watcher = SILENT,
) -> tuple[dict[str, NDArray[np.float64]], tuple[Asked, ...]]:
    """Put the questions of all probes, for at most so many seconds, and return the rows of each.

    Each probe has one round first; then the next round is that of the probe whose interval it
    narrows most for its time, as far as that can be foreseen: a width falls as 1 / sqrt(items). A
    round that would not end in time is not begun. None for `seconds` asks everything.

    What was answered is kept in the file `journal`, numbers only, and not asked again by a later
    call with the same `bound`, a digest of everything that the answers depend on.
    """
    started = time.monotonic()
    states = {probe.name: _State() for probe in probes}
    _recall(journal, bound, probes, states)
    total = sum(probe.items for probe in probes)
    with _opened(journal, bound, states) as write:
        while True:
            done = sum(state.count for state in states.values())
            if total:
                watcher.step("measuring leaks", done, total)
            left = math.inf if seconds is None else seconds - (time.monotonic() - started)
            probe = _next(probes, states, left)
            if probe is None:
                break
            state = states[probe.name]
            part = range(state.count, min(probe.items, state.count + probe.at_once))
            began = time.monotonic()
            rows = np.asarray(probe.ask(part), np.float64).reshape(len(part), -1)
            took = time.monotonic() - began
            state.add(rows, took)
            write(probe.name, part.start, rows, took)
    if total and done < total:
        watcher.step("measuring leaks", total, total)
    asked = tuple(
        Asked(probe.name, states[probe.name].count, probe.items, states[probe.name].seconds)
        for probe in probes
    )
    return {probe.name: states[probe.name].rows for probe in probes}, asked


@dataclass
class _State:
    """The answers to a probe so far."""

    parts: list[NDArray[np.float64]] = field(default_factory=list)
    count: int = 0
    seconds: float = 0.0
    last: float = 0.0
    """Seconds that an item of the last round took."""

    def add(self, rows: NDArray[np.float64], seconds: float) -> None:
        self.parts.append(rows)
        self.count += len(rows)
        self.seconds += seconds
        self.last = seconds / max(1, len(rows))

    @property
    def rows(self) -> NDArray[np.float64]:
        if not self.parts:
            return np.zeros((0, 0))
        self.parts = [np.concatenate(self.parts)]
        return self.parts[0]


def _next(probes: Sequence[Probe], states: Mapping[str, _State], left: float) -> Probe | None:
    """Return the probe whose turn it is; None when all is asked or no time is left."""
    best, most = None, -math.inf
    for probe in probes:
        state = states[probe.name]
        size = min(probe.at_once, probe.items - state.count)
        if size <= 0 or left <= 0 or state.last * size > left:
            continue
        if not state.count:
            return probe
        gain = probe.width(state.rows) * (1 - math.sqrt(state.count / (state.count + size)))
        gain /= max(state.last * size, 1e-6)
        if gain > most:
            best, most = probe, gain
    return best


def _recall(
    journal: Path, bound: str, probes: Sequence[Probe], states: Mapping[str, _State]
) -> None:
    """Enter what an earlier call was answered; what is cut off or does not fit is left out."""
    try:
        lines = journal.read_bytes().split(b"\n")
        head = json.loads(lines[0])
    except (OSError, ValueError, IndexError, RecursionError):
        return
    if head != {"leaks": bound}:
        return
    items = {probe.name: probe.items for probe in probes}
    for line in lines[1:]:
        try:
            told = json.loads(line)
            name, start, took = told["probe"], told["start"], float(told["seconds"])
            rows = np.array(told["rows"], np.float64)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        state = states.get(name)
        if state is None or start != state.count or rows.ndim != 2:  # noqa: PLR2004 - a table
            continue
        if state.count + len(rows) <= items[name]:
            state.add(rows, took)


@contextmanager
def _opened(journal: Path, bound: str, states: Mapping[str, _State]) -> Iterator[_Write]:
    """Begin the journal anew with what is known, so that a line that a kill broke is gone."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    fresh = journal.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:

        def line(value: Mapping[str, Any]) -> None:
            file.write(json.dumps(value) + "\n")
            file.flush()

        def write(name: str, start: int, rows: NDArray[np.float64], seconds: float) -> None:
            line({"probe": name, "start": start, "seconds": seconds, "rows": rows.tolist()})

        line({"leaks": bound})
        for name, state in states.items():
            if state.count:
                write(name, 0, state.rows, state.seconds)
        fresh.replace(journal)
        yield write
