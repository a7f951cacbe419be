"""Every experiment tracker, keyed by the word in release.yaml, and the way to several at once.

Figures and settings reach a tracker, never records, labels or texts. Each runs in a process of
its own, so the training imports none of them, and goes on when one fails.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from release_kit.errors import Unfinished, UnusableInput
from release_kit.progress import SILENT, Watcher
from release_kit.training.trackers import mlflow, tensorboard, trackio, wandb
from release_kit.training.trackers.tracker import DONE, PATIENCE, Tracker

TRACKERS: dict[str, Tracker] = {
    "mlflow": mlflow.TRACKER,
    "tensorboard": tensorboard.TRACKER,
    "trackio": trackio.TRACKER,
    "wandb": wandb.TRACKER,
}

# Steps that may wait for a slow tracker, some 100 bytes each.
_WAITING = 100_000
_NAME_LENGTH = 48


class Tracking:
    """The trackers of one training; with none, nothing happens."""

    def __init__(self, lines: Sequence[_Line], watcher: Watcher) -> None:
        self._lines, self._watcher = lines, watcher
        self._failed: dict[str, None] = {}
        self._finished = False

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Give every tracker the figures of `step`; returns at once."""
        plain = {name: float(value) for name, value in figures.items()}
        for line in self._lines:
            if line.name not in self._failed and not line.send({"step": step, "figures": plain}):
                self._tell(line.name, line.end(0.0))

    def finish(self, summary: Mapping[str, float], failed: bool = False) -> tuple[str, ...]:
        """End the run, `failed` if the training did; return the names of trackers that failed.

        Waits up to `PATIENCE` seconds for what is not yet sent. A second call changes nothing.
        """
        if not self._finished:
            self._finished = True
            plain = {name: float(value) for name, value in summary.items()}
            going = [line for line in self._lines if line.name not in self._failed]
            for line in going:
                line.send({"summary": plain, "failed": failed})
            for line in going:
                self._tell(line.name, line.end(PATIENCE))
        return tuple(self._failed)

    def _tell(self, name: str, why: str) -> None:
        if why:
            self._failed[name] = None
            self._watcher.say(
                f"the tracker {name} failed ({why}) and may lack figures;"
                " the training does not depend on it"
            )


def track(
    names: Sequence[str],
    *,
    folder: Path,
    project: str,
    run: str,
    settings: Mapping[str, Any],
    watcher: Watcher = SILENT,
) -> Tracking:
    """Open the run with each of the trackers `names`, which keep it below `folder`.

    They stay on this machine unless the environment asks otherwise: WANDB_MODE,
    MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL. `run` is the same for a training
    that goes on after a kill and another for every other one. `settings` are JSON; of an absolute
    path only the last part is sent. A tracker that cannot start or fails later is told to
    `watcher` once.

    Raises:
        UnusableInput: no tracker has this name.
        Unfinished: a tracker's package is not installed.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in TRACKERS:
            raise UnusableInput(
                f"there is no tracker '{name}'", hint="known here: " + ", ".join(TRACKERS)
            )
    missing = [name for name in names if importlib.util.find_spec(TRACKERS[name].package) is None]
    if missing:
        raise Unfinished(
            f"the named trackers need {', '.join(missing)}, not installed here",
            hint="pip install 'release-kit[trackers]'",
        )
    start = {
        "project": _word(project),
        "name": _key(run),
        "settings": dict(_flat("", settings)),
    }
    lines = [_Line(name, folder / name) for name in names]
    tracking = Tracking(lines, watcher)
    for line in lines:
        line.send(start)
    return tracking


class _Line:
    """The way to one tracker's process. Writing waits in a thread, so that nobody else does."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", "release_kit.training.trackers.process", name],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the training, which then ends the run
            )
        except OSError as error:
            self._broken = type(error).__name__
        else:
            self._thread = threading.Thread(
                target=self._write, args=(self._process.stdin,), daemon=True
            )
            self._thread.start()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Queue `message`; False when nobody takes it any more."""
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            self._waiting.put_nowait(json.dumps(message).encode() + b"\n")
        except queue.Full:
            return False
        return True

    def end(self, patience: float) -> str:
        """Wait for the process, then end it; return what went wrong, "" if nothing did."""
        process = self._process
        if process is None:
            return self._broken
        late = False
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
            process.wait()
        with suppress(queue.Full):  # then the thread writes, and is told that nobody reads
            self._waiting.put_nowait(None)
        self._thread.join()
        with process:
            said = process.stdout.read().decode() if process.stdout else ""
        if late:
            return "it did not keep up"
        return "" if said == DONE else said or "its process ended early"

    def _write(self, to: IO[bytes]) -> None:
        # That the process is gone is seen by `send` and `end`.
        with suppress(OSError), to as pipe:
            while line := self._waiting.get():
                pipe.write(line)
                pipe.flush()


def _flat(start: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{start}.{name}" if start else str(name), inner)
    else:
        yield start, _without_paths(value)


def _without_paths(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str | Path):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
        return str(value)
    return value


def _word(text: str) -> str:
    """Return `text` as every tracker takes it for a name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:_NAME_LENGTH] or "release"


def _key(text: str) -> str:
    """Return a name of its own for every text; `text` itself where trackers take it."""
    word = _word(text)
    return word if word == text else f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
