"""Checkpoints: what a killed training goes on from, each whole, hashed and bound to its run.

The Trainer writes a checkpoint file by file and later trusts the newest folder, so a kill at the
wrong moment crashes the next run, or lets it go on with other weights without a word. Here a
checkpoint is filled beside its place, hashed, brought to the disk and renamed; and before any
library opens it, its files are compared with its digests, and its run with the one at hand.

A digest tells damage, not an attacker who can write here: he could hash anew. The Trainer
therefore opens the pickles among the files with `weights_only`, which runs no code.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_kit import processes
from release_kit.bundle import Bundle, read_bundle
from release_kit.errors import UnusableInput
from release_kit.files import json_bytes, sha256_bytes
from release_kit.progress import Watcher
from release_kit.receipts import digest_of, tool_versions
from release_kit.release import TrainingPlan
from release_kit.strict_json import parse_json

if TYPE_CHECKING:
    from release_kit.datasets.records import Record

EVERY_MINUTES = 15.0
"""Time between checkpoints within an epoch. Each epoch ends with one anyhow; in a longer epoch a
kill costs a quarter of an hour at most, and writing (about three times the model) stays rare."""

_FORMAT = 1
_MANIFEST = "checkpoint.json"
_PROGRESS = "progress.json"
_PARTIAL = ".partial"
_NAME = re.compile(r"step-(\d{1,18})")
# Without one of the first two, or the random numbers, the Trainer would go on, without a word,
# to other weights.
_NEEDED = ("optimizer.pt", "scheduler.pt", "trainer_state.json", _PROGRESS)
# A pickle that resuming never asks for.
_NEEDLESS = "training_args.bin"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole and made by this very run."""

    folder: Path
    """As the Trainer's `resume_from_checkpoint` takes it."""
    step: int
    """Updates of the weights that lie behind it."""
    progress: Mapping[str, Any]
    """What `Checkpoints.write` was given."""


def run_of(
    plan: TrainingPlan,
    base: Path,
    records: Iterable[Record],
    device: str,
    threads: int,
    *,
    content: Iterable[str] = (),
) -> dict[str, Any]:
    """Return what a run depends on, in words → JSON; when one differs, so do the weights.

    `content` are the texts of the examples, which bind the pictures and sounds that records name.

    Raises:
        UnusableInput: `base` holds a link or an unreadable file, so no digest can bind it.
    """
    data = [sha256_bytes(repr(list(record.fields.items())).encode()) for record in records]
    data += [sha256_bytes(text.encode()) for text in content]
    return {
        "training plan": asdict(replace(plan, slices=(), robustness=())),
        "base model": digest_of(base),
        "data": sha256_bytes("\n".join(data).encode()),
        "packages": tool_versions(("torch", "transformers", "accelerate", "safetensors", "peft")),
        "device": device,
        # It decides the last bits on a CPU, and the result states it.
        "number of CPU threads": threads,
        "number of processes": processes.count(),
    }


class Checkpoints:
    """The checkpoints of one run, in a folder of their own."""

    def __init__(self, folder: Path, run: Mapping[str, Any], watcher: Watcher) -> None:
        self.folder = folder
        self.run = run
        self.watcher = watcher
        self._before: Path | None = None

    @property
    def partial(self) -> Path:
        """Where the next checkpoint is filled: on the same disk, so that a rename moves it."""
        return self.folder / _PARTIAL

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be trusted; tell of each newer one why not."""
        _remove(self.partial)
        found = sorted(_steps(self.folder).items(), reverse=True)
        for step, folder in found:
            checkpoint = _read(folder, step, self.run)
            if isinstance(checkpoint, Checkpoint):
                self._before = folder
                self.watcher.say(f"the training goes on from the checkpoint of step {step}")
                return checkpoint
            self.watcher.say(f"the checkpoint of step {step} is passed over: {checkpoint}")
        if found:
            self.watcher.say("no checkpoint can be used, so the training starts anew")
        return None

    def write(self, step: int, progress: Mapping[str, Any], fill: Callable[[], Path]) -> None:
        """Keep what `fill` writes into the folder it returns, below `partial`, and one before it.

        A checkpoint is an insurance: when it cannot be written, the training that it insures
        goes on, and that is told. What was kept before is then still there.
        """
        from safetensors import SafetensorError

        try:
            _remove(self.partial)
            self.partial.mkdir(parents=True)
            filled = fill()
            (filled / _NEEDLESS).unlink(missing_ok=True)
            (filled / _PROGRESS).write_bytes(json_bytes(progress))
            files = {path: file.sha256 for path, file in read_bundle(filled).files.items()}
            manifest = {"checkpoint": _FORMAT, "step": step, "run": self.run, "files": files}
            (filled / _MANIFEST).write_bytes(json_bytes(manifest))
            for path in (*filled.rglob("*"), filled):
                _to_disk(path)
            place = self.folder / f"step-{step}"
            # Only one that was passed over can lie there.
            _remove(place)
            filled.rename(place)
            _to_disk(self.folder)
        # torch tells a full disk as a RuntimeError.
        except (OSError, RuntimeError, SafetensorError, UnusableInput) as error:
            _remove(self.partial)
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.watcher.say(
                f"no checkpoint could be written at step {step}, the training goes on: {said}"
            )
            return
        _remove(self.partial)
        for old in _steps(self.folder).values():
            if old not in (place, self._before):
                _remove(old)
        self._before = place

    def remove(self) -> None:
        """Remove all checkpoints; of the folder, nothing that is not one."""
        _remove(self.partial)
        for folder in _steps(self.folder).values():
            _remove(folder)
        with suppress(OSError):
            self.folder.rmdir()


def _steps(folder: Path) -> dict[int, Path]:
    """Return step → folder of whatever is named as a checkpoint."""
    try:
        names = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError:
        return {}
    return {int(name[1]): path for name, path in names if name}


def _read(folder: Path, step: int, run: Mapping[str, Any]) -> Checkpoint | str:
    """Return the checkpoint, or why it cannot be trusted."""
    try:
        bundle = read_bundle(folder)
        manifest = parse_json((folder / _MANIFEST).read_bytes())
        if manifest["checkpoint"] != _FORMAT or manifest["step"] != step:
            return f"{_MANIFEST} is that of another format or step"
        theirs, listed = dict(manifest["run"]), dict(manifest["files"])
    except (OSError, UnusableInput, ValueError, KeyError, TypeError):
        return f"{_MANIFEST} is missing or damaged"
    if why := _departure(bundle, listed):
        return why
    if other := sorted(n for n in run if json_bytes(theirs.get(n)) != json_bytes(run[n])):
        return f"it was not made with the same {' and '.join(other)}"
    return Checkpoint(folder, step, parse_json((folder / _PROGRESS).read_bytes()))


def _departure(bundle: Bundle, listed: Mapping[str, str]) -> str:
    """Return how the files depart from those that were hashed; empty when they do not."""
    there = {path: file.sha256 for path, file in bundle.files.items() if path != _MANIFEST}
    if missing := sorted({*listed, *_NEEDED, *_random_files()} - set(there)):
        return f"{missing[0]} is missing"
    if extra := sorted({*there, *bundle.irregular} - set(listed)):
        return f"{extra[0]} does not belong to it"
    if damaged := sorted(path for path in listed if listed[path] != there[path]):
        return f"{damaged[0]} is damaged"
    return "" if any(path.endswith(".safetensors") for path in listed) else "it holds no weights"


def _random_files() -> set[str]:
    """Return the names that the Trainer gives to each process' random numbers."""
    count = processes.count()
    return {"rng_state.pth"} if count == 1 else {f"rng_state_{n}.pth" for n in range(count)}


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
