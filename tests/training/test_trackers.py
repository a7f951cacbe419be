"""Trackers: really run, read back with their own readers, and unable to hurt or to see too much."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import Unfinished, UnusableInput
from release_kit.training import trackers
from release_kit.training.trackers import TRACKERS, track
from release_kit.training.trackers.wandb import records
from tests.training.conftest import Watching

SETTINGS = {"learning_rate": 0.001, "base": "/secret-place/models/tiny", "lora": {"rank": 8}}
RUN = {"project": "acme/model", "run": "f00d", "settings": SETTINGS}
Points = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the reader in this process


def _tensorboard(folder: Path) -> tuple[Points, dict[str, Any], str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    read = EventAccumulator(str(folder / "f00d"))
    read.Reload()
    points = {
        name: [(event.step, event.value) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    plugin = read.PluginTagToContent("hparams")
    told = {tag: HParamsPluginData.FromString(data) for tag, data in plugin.items()}
    hparams = told["_hparams_/session_start_info"].session_start_info.hparams
    settings = {name: v.number_value or v.string_value for name, v in hparams.items()}
    ended = told.get("_hparams_/session_end_info", HParamsPluginData()).session_end_info
    return points, settings, {0: "failed", 1: "finished"}[ended.status]


def _mlflow(folder: Path) -> tuple[Points, dict[str, Any], str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(folder / "mlruns"))
    experiment = client.get_experiment_by_name("acme-model")
    (run,) = client.search_runs([experiment.experiment_id])
    points = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert run.info.run_name == "f00d"
    return points, run.data.params, run.info.status.lower()


_READ_TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("acme-model")
print(json.dumps([run.name, run.config, SQLiteStorage.get_logs("acme-model", run.name)]))
"""


def _trackio(folder: Path) -> tuple[Points, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-c", _READ_TRACKIO],
        env={**os.environ, "TRACKIO_DIR": str(folder)},
        capture_output=True,
        check=True,
    )
    name, settings, rows = json.loads(done.stdout)
    assert name == "f00d"
    assert not settings["_Username"]
    points: Points = {}
    for row in rows:
        for figure in row.keys() - {"step", "timestamp"}:
            points.setdefault(figure, []).append((row["step"], row[figure]))
    failed = points.pop("summary/failed")[-1][1]
    return points, settings, "failed" if failed else "finished"


def _wandb(folder: Path) -> tuple[Points, dict[str, Any], str]:
    points: Points = {}
    settings, status = {}, ""
    for file in sorted(folder.glob("wandb/offline-run-*-f00d/run-f00d.wandb")):
        for record in records(file):
            row = {i.key or ".".join(i.nested_key): i.value_json for i in record.history.item}
            for name in row.keys() - {"_step", "_runtime", "_timestamp"}:
                value = float(json.loads(row[name]))
                points.setdefault(name, []).append((int(row["_step"]), value))
            if record.HasField("run"):
                assert record.run.run_id == "f00d"
                assert not (record.run.host or record.run.notes or record.run.tags)
                settings = {i.key: json.loads(i.value_json) for i in record.run.config.update}
            for item in record.summary.update:
                if item.key == "f1":
                    points["summary/f1"] = [(0, json.loads(item.value_json))]
            if record.HasField("exit"):
                status = "failed" if record.exit.exit_code else "finished"
    return points, settings, status


READERS: dict[str, Callable[[Path], tuple[Points, dict[str, Any], str]]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}

# A training that is full of secrets, is killed after step 4 and prints all it knows.
_KILLED = """
import os, signal, sys
from pathlib import Path
from release_kit.training.trackers import TRACKERS, track
print("PLANTED-on-the-console", flush=True)
run = track(tuple(TRACKERS), folder=Path(sys.argv[1]), **eval(sys.argv[2]))
run.log(1, {"training_loss": 2.0})
run.log(2, {"training_loss": float("nan"), "validation_loss": 1.5})
run.log(3, {"training_loss": 0.5})
run.log(4, {"training_loss": 0.25})
lines = run._lines
while any(line._waiting.qsize() for line in lines):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_nothing_else_is_ever_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(READERS) == set(TRACKERS)
    repository, folder = tmp_path / "PLANTED-folder", tmp_path / "PLANTED-folder" / "out"
    repository.mkdir()
    git = ["git", "-c", "user.name=n", "-c", "user.email=PLANTED@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "PLANTED-message"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    (repository / "PLANTED.py").write_text("PLANTED = 'in the git diff'", encoding="utf-8")
    monkeypatch.setenv("WANDB_NOTES", "PLANTED-notes")
    monkeypatch.setenv("WANDB_SAVE_CODE", "true")
    monkeypatch.setenv("DATABASE_PASSWORD", "PLANTED-in-the-environment")

    hub = socket.create_server(("127.0.0.1", 0))
    hub.setblocking(False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_PLANTED")

    killed = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder), repr(RUN), "PLANTED-argument"],
        cwd=repository,
        stdout=subprocess.DEVNULL,
    )
    assert killed.wait(60) == -9
    watching = Watching()
    run = track([*TRACKERS, "wandb"], folder=folder, watcher=watching, **RUN)  # type: ignore[arg-type]
    for step, loss in ((3, 0.5), (4, 0.25), (5, 0.125)):
        run.log(step, {"training_loss": loss})
    run.log(5, {"validation_loss": 1.25})
    assert run.finish({"f1": 0.75}) == () == run.finish({"f1": 0.5}, failed=True)
    assert watching.lines == []
    assert capfd.readouterr() == ("", "")
    with hub, pytest.raises(BlockingIOError):
        hub.accept()  # nobody asked the Hub who the user is
    for name, read in READERS.items():
        points, settings, status = read(folder / name)
        assert [step for step, _ in points["training_loss"]] == [1, 2, 3, 4, 5], name
        assert [v for _, v in points["training_loss"]][2:] == [0.5, 0.25, 0.125], name
        assert str(points["training_loss"][1][1]).lower() == "nan", name
        assert points["validation_loss"] == [(2, 1.5), (5, 1.25)], name
        assert [value for _, value in points["summary/f1"]] == [0.75], name
        assert status == "finished", name
        told = json.dumps(settings)
        assert all(word in told for word in ("0.001", '"tiny"', "lora")), name
    host = socket.gethostname()
    hidden = [b"PLANTED", b"secret-place", b"pytest"]
    if len(host) > 5:  # a shorter name stands in compressed bytes by chance
        hidden.append(host.encode())
    for path in folder.rglob("*"):
        assert host not in path.name.replace(".", "-").split("-")
        if path.is_file():
            data = path.read_bytes()
            assert not [word for word in hidden if word in data], path.name


def test_a_failed_training_is_kept_as_failed(tmp_path: Path) -> None:
    run = track(tuple(TRACKERS), folder=tmp_path, **RUN)  # type: ignore[arg-type]
    run.log(1, {"training_loss": 2.0})
    assert run.finish({}, failed=True) == ()
    for name, read in READERS.items():
        points, _, status = read(tmp_path / name)
        assert (points["training_loss"], status) == ([(1, 2.0)], "failed"), name


def test_trackers_that_fail_are_told_once_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes what comes and never answers
        port = deaf.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:PLANTED@127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_MODE", "disabled")  # the user's own wish, so no failure
        monkeypatch.setattr(trackers, "PATIENCE", 3.0)
        (tmp_path / "tensorboard").write_text("a file where a folder should be", encoding="utf-8")
        watching = Watching()
        run = track(tuple(TRACKERS), folder=tmp_path, watcher=watching, **RUN)  # type: ignore[arg-type]
        (died,) = (line for line in run._lines if line.name == "trackio")
        died._process.kill()  # type: ignore[union-attr]
        died._process.wait()  # type: ignore[union-attr]
        for step in range(3):
            run.log(step, {"training_loss": 1.0})
        assert run.finish({}) == ("tensorboard", "trackio", "mlflow")
    told = [line.partition(" and may")[0] for line in watching.lines]
    assert told == [
        "the tracker tensorboard failed (FileExistsError)",
        "the tracker trackio failed (its process ended early)",
        "the tracker mlflow failed (it did not keep up)",
    ]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.rglob("*.wandb"))


_FULL = """
import resource, sys
from pathlib import Path
from release_kit.training.trackers import TRACKERS, track
from tests.training.conftest import Watching
resource.setrlimit(resource.RLIMIT_FSIZE, (48 * 1024, 48 * 1024))
watching = Watching()
run = track(tuple(TRACKERS), folder=Path(sys.argv[1]), watcher=watching, **eval(sys.argv[2]))
for step in range(4000):
    run.log(step, {"training_loss": 1.0})
failed = run.finish({})
print(sorted(failed), *watching.lines, sep="\\n")
"""


@pytest.mark.slow
def test_what_a_tracker_loses_without_a_word_is_a_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path), repr(RUN)],
        capture_output=True,
        text=True,
        check=True,
    )
    names, *lines = done.stdout.splitlines()
    assert names == str(sorted(TRACKERS))
    assert len(lines) == len(TRACKERS)
    # The other two raise; these would have been believed.
    for name in ("trackio", "wandb"):
        assert f"the tracker {name} failed (it does not hold all figures)" in done.stdout
    assert done.stderr == ""


def test_what_cannot_be_used_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnusableInput, match="no tracker 'aim'") as unknown:
        track(["wandb", "aim"], folder=tmp_path, **RUN)  # type: ignore[arg-type]
    assert "trackio" in unknown.value.hint
    find = trackers.importlib.util.find_spec
    monkeypatch.setattr(
        trackers.importlib.util,
        "find_spec",
        lambda name: None if name == "mlflow" else find(name),
    )
    with pytest.raises(Unfinished, match="need mlflow, not installed") as missing:
        track(["tensorboard", "mlflow"], folder=tmp_path, **RUN)  # type: ignore[arg-type]
    assert missing.value.hint == "pip install 'release-kit[trackers]'"
    assert not list(tmp_path.iterdir())


def test_no_tracker_no_import(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from release_kit.training.trackers import TRACKERS, track
run = track((), folder=Path(sys.argv[1]), project="p", run="r", settings={})
run.log(1, {"loss": 1.0})
assert run.finish({}) == ()
print([name for name in sys.modules if name.split(".")[0] in {*TRACKERS, "torch", "numpy"}])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())
