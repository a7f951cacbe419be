"""A training that is killed ends as if it had not been; whatever cannot be trusted is told."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from release_kit import pipeline
from release_kit.datasets.records import Record
from release_kit.errors import Unfinished
from release_kit.files import sha256_file
from release_kit.release import TrainingPlan
from release_kit.training import checkpoints as module
from release_kit.training import methods, trainer
from release_kit.training.fit import TrainingResult, fit
from tests.projects import write_project
from tests.training.conftest import PLAN, Watching, topic_records

SHORT = dataclasses.replace(PLAN, epochs=3)
STEPS = 12
"""Updates in an epoch of SHORT."""


class Stopped(BaseException):
    """Ends a training as Ctrl-C would, at a chosen step."""


class Until(Watching):
    """A watcher that ends the training once a step is done, by `how`."""

    def __init__(self, last: int, how: Callable[[], Any]) -> None:
        super().__init__()
        self.last, self.how = last, how

    def step(self, what: str, done: int, total: int) -> None:
        super().step(what, done, total)
        if done == self.last:
            self.how()


def stop() -> None:
    raise Stopped


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class Whole:
    """What the same training gives undisturbed, and without a checkpoint."""

    result: TrainingResult
    digest: str


@pytest.fixture(scope="module")
def few() -> list[Record]:
    return topic_records(320)


@pytest.fixture(scope="module")
def dropping(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with dropout, so that every random number counts."""
    folder = Path(shutil.copytree(base, tmp_path_factory.mktemp("dropping") / "base"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def whole(dropping: Path, few: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    model = tmp_path_factory.mktemp("whole") / "model"
    result = fit(SHORT, dropping, few, model)
    assert result.steps == 3 * STEPS
    assert result.resumed == ()
    return Whole(result, sha256_file(model / "model.safetensors"))


@pytest.fixture(scope="module")
def _stopped(dropping: Path, few: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "checkpoints"
    with pytest.raises(Stopped):
        train(dropping, few, folder, Until(2 * STEPS + 3, stop))
    return folder


@pytest.fixture
def stopped(_stopped: Path, tmp_path: Path) -> Path:
    """The checkpoints of a training that ended within its third epoch."""
    return Path(shutil.copytree(_stopped, tmp_path / "checkpoints"))


def train(
    base: Path,
    records: Sequence[Record],
    checkpoints: Path,
    watcher: Watching,
    plan: TrainingPlan = SHORT,
) -> TrainingResult:
    return fit(plan, base, records, checkpoints.parent / "model", watcher, checkpoints=checkpoints)


def losses(result: TrainingResult) -> list[tuple[int, float, float]]:
    return [(loss.epoch, loss.training_loss, loss.validation_loss) for loss in result.losses]


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def assert_same(result: TrainingResult, folder: Path, whole: Whole) -> None:
    assert losses(result) == losses(whole.result)
    assert sha256_file(folder.parent / "model" / "model.safetensors") == whole.digest
    assert not folder.exists()
    assert result.steps == whole.result.steps


# Killed, and on again.


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bytes(
    dropping: Path, whole: Whole, tmp_path: Path, few: list[Record]
) -> None:
    folder = tmp_path / "checkpoints"
    for last in (STEPS + 5, 3 * STEPS - 1):
        ended = subprocess.run(
            [sys.executable, "-m", "tests.training.test_checkpoints", dropping, folder, str(last)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        assert not (tmp_path / "model").exists()
    watching = Watching()
    result = train(dropping, few, folder, watching)
    assert_same(result, folder, whole)
    assert result.resumed == (STEPS, 2 * STEPS)
    assert watching.steps[0] == ("training", 2 * STEPS + 1, 3 * STEPS)
    assert "the training goes on from the checkpoint of step 24" in watching.lines
    assert result.seconds > sum(loss.seconds for loss in result.losses) > 0


def test_within_an_epoch_too_and_twice(
    dropping: Path,
    few: list[Record],
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "EVERY_MINUTES", 0)
    folder = tmp_path / "checkpoints"
    # Within the first epoch; at its end; on from that end within the next; after one more step.
    for last in (5, STEPS + 1, STEPS + 8, STEPS + 9):
        with pytest.raises(Stopped):
            train(dropping, few, folder, Until(last, stop))
        assert steps_in(folder) == [last - 2, last - 1]
    monkeypatch.undo()
    result = train(dropping, few, folder, Watching())
    assert_same(result, folder, whole)
    assert result.resumed == (4, STEPS, STEPS + 7, STEPS + 8)


def test_an_undisturbed_training_is_the_same_with_checkpoints_and_leaves_none(
    dropping: Path, few: list[Record], whole: Whole, tmp_path: Path
) -> None:
    watching = Watching()
    folder = tmp_path / "checkpoints"
    result = train(dropping, few, folder, watching)
    assert_same(result, folder, whole)
    assert result.resumed == ()
    assert not [line for line in watching.lines if "checkpoint" in line]


def test_a_model_that_could_not_be_saved_is_not_trained_again(
    dropping: Path,
    few: list[Record],
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "checkpoints"
    with monkeypatch.context() as patched, pytest.raises(Unfinished, match="No space left"):
        patched.setattr(methods, "save_model", full)
        train(dropping, few, folder, Watching())
    watching = Watching()
    assert_same(train(dropping, few, folder, watching), folder, whole)
    assert not watching.steps


@pytest.mark.slow
def test_the_train_stage_keeps_them_beside_the_model_and_goes_on(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    pipeline.redact(project)
    with pytest.raises(Stopped):
        pipeline.train(project, Until(9, stop))
    assert steps_in(project / "out" / "checkpoints")
    result = pipeline.train(project).receipt.results
    assert len(result["resumed"]) == 1
    assert len(result["losses"]) == 3
    assert not (project / "out" / "checkpoints").exists()


# What a checkpoint holds.


def test_two_are_kept_without_a_needless_pickle(stopped: Path) -> None:
    assert sorted(path.name for path in stopped.iterdir()) == ["step-12", "step-24"]
    names = {path.name for path in (stopped / "step-24").iterdir()}
    assert {"model.safetensors", "optimizer.pt", "checkpoint.json"} <= names
    assert "training_args.bin" not in names


# What is not trusted.


def shorten(folder: Path) -> None:
    file = folder / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder: Path) -> None:
    file = folder / "progress.json"
    file.write_bytes(file.read_bytes().replace(b'"steps": 0', b'"steps": 1'))


def change_manifest(folder: Path, **changes: Any) -> None:
    file = folder / "checkpoint.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def forget(folder: Path, name: str) -> None:
    (folder / name).unlink()
    files = json.loads((folder / "checkpoint.json").read_bytes())["files"]
    change_manifest(folder, files={k: v for k, v in files.items() if k != name})


def link(folder: Path) -> None:
    elsewhere = folder.parent.parent / "optimizer.pt"
    (folder / "optimizer.pt").rename(elsewhere)
    (folder / "optimizer.pt").symlink_to(elsewhere)


DAMAGE: list[tuple[str, Callable[[Path], Any]]] = [
    ("optimizer.pt is damaged", shorten),
    ("progress.json is damaged", flip),
    ("optimizer.pt is missing", lambda folder: (folder / "optimizer.pt").unlink()),
    ("optimizer.pt is missing", link),
    ("rng_state.pth is missing", lambda folder: forget(folder, "rng_state.pth")),
    ("new.pkl does not belong to it", lambda folder: (folder / "new.pkl").write_bytes(b"")),
    ("checkpoint.json is missing or damaged", lambda f: (f / "checkpoint.json").write_text("[]")),
    ("checkpoint.json is missing or damaged", lambda f: (f / "checkpoint.json").write_text("{")),
    ("checkpoint.json is missing or damaged", lambda f: (f / "checkpoint.json").unlink()),
    ("checkpoint.json is missing or damaged", lambda f: (shutil.rmtree(f), f.write_text("x"))),
    ("it holds no weights", lambda folder: forget(folder, "model.safetensors")),
    ("checkpoint.json is that of another", lambda folder: change_manifest(folder, step=23)),
    ("it was not made with the same device", lambda f: change_run(f, device="Other GPU")),
    (
        "it was not made with the same number of CPU threads and packages",
        lambda f: change_run(f, **{"number of CPU threads": 99, "packages": {"torch": "1.0"}}),
    ),
]


def change_run(folder: Path, **changes: Any) -> None:
    run = json.loads((folder / "checkpoint.json").read_bytes())["run"]
    change_manifest(folder, run=run | changes)


@pytest.mark.parametrize(("why", "damage"), DAMAGE)
def test_whatever_is_not_whole_is_passed_over(
    stopped: Path, why: str, damage: Callable[[Path], Any]
) -> None:
    run = json.loads((stopped / "step-24" / "checkpoint.json").read_bytes())["run"]
    watching = Watching()
    found = module.Checkpoints(stopped, run, watching).newest()
    assert found is not None
    assert (found.step, found.folder) == (24, stopped / "step-24")
    assert watching.lines == ["the training goes on from the checkpoint of step 24"]

    damage(stopped / "step-24")
    watching = Watching()
    found = module.Checkpoints(stopped, run, watching).newest()
    assert found is not None
    assert found.step == 12
    assert watching.lines[0].startswith(f"the checkpoint of step 24 is passed over: {why}")
    assert watching.lines[1:] == ["the training goes on from the checkpoint of step 12"]


def test_a_damaged_newest_one_costs_an_epoch_and_no_bit(
    stopped: Path,
    dropping: Path,
    few: list[Record],
    whole: Whole,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shorten(stopped / "step-24")
    (stopped / ".partial" / "checkpoint-36").mkdir(parents=True)
    watching = Watching()
    result = train(dropping, few, stopped, watching)
    assert_same(result, stopped, whole)
    assert result.resumed == (12,)
    assert capfd.readouterr() == ("", "")
    assert "the checkpoint of step 24 is passed over: optimizer.pt is damaged" in watching.lines


def test_another_run_starts_anew_aloud(
    stopped: Path, dropping: Path, base: Path, few: list[Record]
) -> None:
    plan = dataclasses.replace(SHORT, learning_rate=1e-3)
    for what, other in (
        ("training plan", lambda w: train(dropping, few, stopped, w, plan)),
        ("base model", lambda w: train(base, few, stopped, w)),
        ("data", lambda w: train(dropping, few[:-1], stopped, w)),
    ):
        watching = Until(1, stop)
        with pytest.raises(Stopped):
            other(watching)
        assert watching.steps[0][1] == 1
        assert watching.lines[1:] == [
            f"the checkpoint of step 24 is passed over: it was not made with the same {what}",
            f"the checkpoint of step 12 is passed over: it was not made with the same {what}",
            "no checkpoint can be used, so the training starts anew",
        ]
    # They make room for the first checkpoint of the run that is at work now.
    with pytest.raises(Stopped):
        train(dropping, few, stopped, Until(STEPS + 1, stop), plan)
    assert steps_in(stopped) == [12]


# When none can be written.


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("full")])
def test_a_full_disk_does_not_end_the_training(
    stopped: Path,
    dropping: Path,
    few: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    import torch

    def full(value: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise error

    (stopped / "notes.txt").write_text("mine")
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(trainer, "EVERY_MINUTES", 0)
    watching = Until(2 * STEPS + 3, stop)
    with pytest.raises(Stopped):
        train(dropping, few, stopped, watching)
    assert watching.lines[-1] == (
        f"no checkpoint could be written at step 26, the training goes on: {error}"
    )
    assert sorted(path.name for path in stopped.iterdir()) == ["notes.txt", "step-12", "step-24"]


def test_a_folder_that_cannot_be_made_does_not_end_the_training(
    dropping: Path, few: list[Record], whole: Whole, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.write_text("mine")
    watching = Watching()
    result = train(dropping, few, folder, watching)
    assert losses(result) == losses(whole.result)
    assert sum("no checkpoint could be written" in line for line in watching.lines) == 3
    assert folder.read_text() == "mine"


def test_a_diverged_training_leaves_no_checkpoint(
    dropping: Path, few: list[Record], tmp_path: Path
) -> None:
    plan = dataclasses.replace(SHORT, learning_rate=1e38)
    with pytest.raises(Unfinished, match="the training diverged"):
        train(dropping, few, tmp_path / "checkpoints", Watching(), plan)
    assert not list(tmp_path.iterdir())


if __name__ == "__main__":
    # Another process, which can be killed as no test can be.
    import torch

    torch.set_num_threads(1)
    train(Path(sys.argv[1]), topic_records(320), Path(sys.argv[2]), Until(int(sys.argv[3]), kill))
