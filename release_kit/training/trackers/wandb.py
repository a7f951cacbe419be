"""Weights & Biases: files in the folder for `wandb sync`, or its server if WANDB_MODE=online.

Each process writes a file of its own, also one that goes on after a kill; `wandb sync` puts the
files of one run together, in the order of their start. Of the environment it sees only what it
needs to reach the server: notes, tags and switches of other kinds are taken away.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from release_kit.training.trackers.tracker import PATIENCE, Run, Sink, Tracker

_REACHING = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_CREDENTIALS_FILE", "WANDB_ENTITY", "WANDB_MODE"),
    *("WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_IDENTITY_TOKEN_FILE"),
    "WANDB_INSECURE_DISABLE_SSL",
)
_BLOCK, _HEAD = 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def _begin(run: Run) -> Sink:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        if name not in _REACHING:
            del os.environ[name]
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    sys.argv = [""]
    import wandb

    mode = os.environ.get("WANDB_MODE", "offline")
    settings = wandb.Settings(
        mode=mode,
        root_dir=".",
        run_id=run.name,
        resume="allow",
        console="off",
        silent=True,
        symlink=False,
        host="",
        username="",
        email="",
        program="",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        label_disable=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        finish_timeout=PATIENCE * 0.75,
        finish_timeout_raises=True,
    )
    opened = wandb.init(
        project=run.project, name=run.name, config=dict(run.settings), settings=settings
    )

    def log(step: int, figures: Mapping[str, float]) -> None:
        opened.log(dict(figures), step=step)

    def finish(summary: Mapping[str, float], failed: bool) -> None:
        opened.summary.update(dict(summary))
        opened.finish(exit_code=int(failed))
        wandb.teardown()

    def held() -> dict[str, int] | None:
        return None if mode == "disabled" else _held(Path("wandb"), run.name)

    return Sink(log, finish, held)


def _held(folder: Path, run: str) -> dict[str, int]:
    last: dict[str, int] = {}
    for file in folder.glob(f"*-{run}/run-{run}.wandb"):
        for record in records(file):
            items = {
                item.key or ".".join(item.nested_key): item.value_json
                for item in record.history.item
            }
            step = json.loads(items.get("_step", "-1"))
            for name in items:
                last[name] = max(step, last.get(name, -1))
    return last


def records(file: Path) -> Iterator[Any]:
    """Yield the wandb.proto Records of a .wandb file up to where it ends or was cut off.

    wandb reads its files in Go only. The form is LevelDB's log (its doc/log_format.md) in blocks
    of 32 KiB, after 7 bytes that name it: chunks of checksum (uint32), length (uint16), kind
    (uint8) and data, all little-endian.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = file.read_bytes(), 7, b""
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:  # no room for a chunk's head
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + _HEAD : at + _HEAD + length]
        if len(chunk) < length or kind not in {_WHOLE, _FIRST, _MIDDLE, _LAST}:
            return
        at += _HEAD + length
        parts = chunk if kind in {_WHOLE, _FIRST} else parts + chunk
        if kind in {_WHOLE, _LAST}:
            yield Record.FromString(parts)


TRACKER = Tracker("wandb", _begin)
