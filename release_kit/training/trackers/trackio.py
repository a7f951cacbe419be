"""Trackio: an SQLite file in the folder, or the place that TRACKIO_SPACE_ID and others name.

A run is resumed by its name. What is sent elsewhere cannot be read back: there, the steps
between the checkpoint and a kill stand twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from release_kit.training.trackers.tracker import NotHeld, Run, Sink, Tracker


def _begin(run: Run) -> Sink:
    elsewhere = any(os.environ.get(f"TRACKIO_{name}") for name in ("SPACE_ID", "SERVER_URL"))
    os.environ["TRACKIO_DIR"] = "."
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if not elsewhere:
        os.environ["HF_HUB_OFFLINE"] = "1"  # or it asks the Hub who the user is
        os.environ["TRACKIO_STORAGE_MODE"] = "sqlite"
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    opened = trackio.init(
        run.project,
        run.name,
        config=dict(run.settings),
        resume="allow",
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )

    def log(step: int, figures: Mapping[str, float]) -> None:
        opened.log(dict(figures), step=step)

    def finish(summary: Mapping[str, float], failed: bool) -> None:
        outcome = {f"summary/{name}": value for name, value in summary.items()}
        opened.log({**outcome, "summary/failed": float(failed)}, step=0)
        trackio.finish()
        if elsewhere and SQLiteStorage.has_pending_data(run.project):
            raise NotHeld

    def held() -> dict[str, int] | None:
        if elsewhere:
            return None
        last: dict[str, int] = {}
        for row in SQLiteStorage.get_logs(run.project, run.name, run_id=opened.id):
            for name in row.keys() - {"step", "timestamp"}:
                last[name] = max(row["step"], last.get(name, -1))
        return last

    return Sink(log, finish, held)


TRACKER = Tracker("trackio", _begin)
