"""The process that a tracker runs in, fed with lines of JSON: the run, steps, a summary.

A tracker looks around: at the environment, the arguments, the working folder with its git
repository, what is printed. Here there is nothing to see. Nor can it print, ask for a password,
crash the training or hold it up.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from release_kit.training.trackers import TRACKERS
from release_kit.training.trackers.tracker import DONE, NotHeld, Run, Sink, Tracker


def main() -> None:
    """Keep the run that stdin tells of with the tracker that the first argument names."""
    lines, answer = os.fdopen(os.dup(0), encoding="utf-8"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    try:
        _keep(TRACKERS[sys.argv[1]], map(json.loads, lines))
        said = DONE
    except NotHeld:
        said = "it does not hold all figures"
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told
        # Its text may hold an address with a password.
        said = type(error).__name__
    os.write(answer, said.encode())


def _keep(tracker: Tracker, messages: Iterator[Any]) -> None:
    # A killed training's process may still write what it was given. Its end opens the lock.
    fcntl.flock(os.open(".", os.O_RDONLY), fcntl.LOCK_EX)
    sink = tracker.begin(Run(**next(messages)))
    before = sink.held() or {}
    last: dict[str, int] = {}
    summary, failed = {}, True  # what holds if the training is killed
    for message in messages:
        if "summary" in message:
            summary, failed = message["summary"], message["failed"]
            break
        step, figures = message["step"], message["figures"]
        # A training that goes on after a kill repeats the steps since its checkpoint.
        fresh = {name: value for name, value in figures.items() if step > before.get(name, -1)}
        last.update(dict.fromkeys(fresh, step))
        if fresh:
            sink.log(step, fresh)
    sink.finish(summary, failed)
    _check(sink, last)


def _check(sink: Sink, last: dict[str, int]) -> None:
    """Several trackers only warn when they cannot write, so what they hold is read back."""
    held = sink.held()
    if held is not None and any(held.get(name, -1) < step for name, step in last.items()):
        raise NotHeld


if __name__ == "__main__":
    main()
