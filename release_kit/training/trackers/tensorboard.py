"""TensorBoard: event files in the folder, which `tensorboard --logdir` shows.

Written record by record, since TensorBoard's own writer puts the name of the machine into the
file's name and that of torch needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release_kit.training.trackers.tracker import Run, Sink, Tracker


def _begin(run: Run) -> Sink:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams import plugin_data_pb2 as sessions
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder = Path(run.name)
    folder.mkdir(exist_ok=True)
    # TensorBoard reads the files of a run in the order of their names.
    seconds, rest = divmod(time.time_ns(), 10**9)
    name = f"events.out.tfevents.{seconds:010d}.{rest:09d}"
    writer = RecordWriter((folder / name).open("xb"))

    def write(**event: Any) -> None:
        writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        writer.flush()

    def session(tag: str, **told: Any) -> None:
        about = metadata.create_summary_metadata(sessions.HParamsPluginData(**told))
        value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
        write(summary=Summary(value=[value]))

    def log(step: int, figures: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        write(step=step, summary=Summary(value=values))

    def finish(summary: Mapping[str, float], failed: bool) -> None:
        if summary:
            log(0, {f"summary/{name}": value for name, value in summary.items()})
        if not failed:
            # TensorBoard believes the first end of a run, and one that failed may yet go on.
            end = sessions.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
            session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        writer.close()

    write(file_version="brain.Event:2")
    start = sessions.SessionStartInfo(start_time_secs=time.time())
    for name, value in run.settings.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    session(metadata.SESSION_START_INFO_TAG, session_start_info=start)
    return Sink(log, finish, lambda: _held(folder))


def _held(folder: Path) -> dict[str, int]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={SCALARS: 1})
    read.Reload()
    return {name: read.Scalars(name)[-1].step for name in read.Tags()[SCALARS]}


TRACKER = Tracker("tensorboard", _begin)
