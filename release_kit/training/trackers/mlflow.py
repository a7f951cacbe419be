"""MLflow: a folder `mlruns`, or the server that MLFLOW_TRACKING_URI names.

Through its plain client: `mlflow.start_run` would add the user, the script and the git commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from release_kit.training.trackers.tracker import Run, Sink, Tracker

_TAG = "release_kit_run"


def _begin(run: Run) -> Sink:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # Its database needs more than mlflow-skinny; the folder is an officially kept way.
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    # By its own default it tries an unreachable server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    client = MlflowClient(tracking_uri=uri or "mlruns")
    known = client.get_experiment_by_name(run.project)
    if known:
        experiment = known.experiment_id
    else:
        # A folder of its own would be written down as an absolute path.
        place = None if uri else f"mlflow-artifacts:/{run.project}"
        experiment = client.create_experiment(run.project, artifact_location=place)
        if not uri:
            _forget_default()
    found = client.search_runs([experiment], f"tags.{_TAG} = '{run.name}'", max_results=1)
    if found:
        key = found[0].info.run_id
        client.update_run(key, status="RUNNING")
    else:
        key = client.create_run(experiment, run_name=run.name, tags={_TAG: run.name}).info.run_id
        settings = [Param(name, str(value)) for name, value in run.settings.items()]
        for start in range(0, len(settings), 100):  # the most that a server takes at once
            client.log_batch(key, params=settings[start : start + 100])

    def log(step: int, figures: Mapping[str, float]) -> None:
        now = time.time_ns() // 10**6
        client.log_batch(key, [Metric(name, figures[name], now, step) for name in figures])

    def finish(summary: Mapping[str, float], failed: bool) -> None:
        if summary:
            log(0, {f"summary/{name}": value for name, value in summary.items()})
        client.set_terminated(key, "FAILED" if failed else "FINISHED")

    def held() -> dict[str, int]:
        # The run tells each figure's last value only.
        return {
            name: max(metric.step for metric in client.get_metric_history(key, name))
            for name in client.get_run(key).data.metrics
        }

    return Sink(log, finish, held)


def _forget_default() -> None:
    """Take out the empty experiment that MLflow adds, since it tells its absolute path."""
    default = Path("mlruns", "0")
    if [path.name for path in default.glob("*")] == ["meta.yaml"]:
        (default / "meta.yaml").unlink()
        default.rmdir()


TRACKER = Tracker("mlflow", _begin)
