"""What an experiment tracker is made of: three functions, so that training itself knows none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE = 60.0
"""Seconds that a tracker has, once the training has ended, for what it has not yet sent."""

DONE = "done"
"""What a tracker's process answers when it holds all it was given; else it names what is wrong."""


class NotHeld(Exception):
    """The tracker reported no error, yet does not hold all figures."""


@dataclass(frozen=True)
class Run:
    """One training as a tracker sees it. The tracker's process stands in the folder it may fill."""

    project: str
    name: str
    """The same for a training that goes on after a kill. Letters, digits, - and _, as `project`."""
    settings: Mapping[str, Any]
    """Dotted names to numbers, booleans, words, or lists of them; no absolute path."""


@dataclass(frozen=True)
class Sink:
    """An open run of a tracker. Each function raises what the tracker raises."""

    log: Callable[[int, Mapping[str, float]], None]
    """Takes the figures of one step."""
    finish: Callable[[Mapping[str, float], bool], None]
    """Takes the summary, and whether the training failed; returns once everything is kept."""
    held: Callable[[], Mapping[str, int] | None]
    """Reads back the last step of each figure that the tracker holds; None where it cannot say."""


@dataclass(frozen=True)
class Tracker:
    """How runs are kept by one package."""

    package: str
    """What must be installed, as it is imported."""
    begin: Callable[[Run], Sink]
    """Opens the run, or the same one again; called in a process of the tracker's own."""
