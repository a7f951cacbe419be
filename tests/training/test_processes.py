"""Several processes on one machine, and a memory that does not suffice."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from release_kit.datasets.records import Record
from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import sha256_file
from release_kit.receipts import read_receipt
from release_kit.training.evaluation import evaluate_model
from release_kit.training.fit import fit
from tests.projects import edit, write_project
from tests.training.conftest import PLAN, Watching
from tests.training.test_checkpoints import Stopped, Until, stop

SHORT = dataclasses.replace(PLAN, epochs=2)


def torchrun(count: int, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run release-kit in `count` processes of this machine."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}",
         "-m", "release_kit", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=check,
    )  # fmt: skip


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from release_kit import pipeline

    project = write_project(tmp_path_factory.mktemp("many") / "project")
    edit(project / "release.yaml", "  epochs: 3\n", "  epochs: 2\n  batch_size: 16\n")
    pipeline.redact(project)
    return project


def losses(project: Path) -> list[tuple[float, float]]:
    receipt = read_receipt(project / "out" / "receipts" / "train.json")
    assert receipt
    return [(e["training_loss"], e["validation_loss"]) for e in receipt.results["losses"]]


@pytest.mark.slow
def test_two_processes_share_each_batch_and_one_writes(redacted: Path, tmp_path: Path) -> None:
    from release_kit import pipeline
    from tests.projects import copy_project

    alone, both = (copy_project(redacted, tmp_path / name) for name in ("alone", "both"))
    pipeline.train(alone)
    ran = torchrun(2, "train", str(both))
    receipt = read_receipt(both / "out" / "receipts" / "train.json")
    assert receipt
    assert receipt.results["processes"] == 2
    # The same rows in each update, but for the last of an epoch, which is filled up.
    for one, other in zip(losses(alone), losses(both), strict=True):
        assert one == pytest.approx(other, rel=0.06)
    assert ran.stdout.count("training loss") == 1
    assert not (both / "out" / "checkpoints").exists()
    # A second run has nothing to do, in each process.
    again = torchrun(2, "train", str(both))
    assert "skipped" in again.stdout
    # What comes next is done by one.
    refused = torchrun(2, "evaluate", str(both), check=False)
    assert refused.returncode
    assert "runs in one process only" in refused.stderr
    assert pipeline.evaluate(both).receipt.results["figures"]["accuracy"]["value"] > 0


@pytest.mark.slow
def test_weights_that_are_spread_end_whole_and_the_same(redacted: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tests.projects import copy_project

    both, spread = (copy_project(redacted, tmp_path / name) for name in ("both", "spread"))
    edit(spread / "release.yaml", "  epochs: 2\n", "  epochs: 2\n  shard: true\n")
    for project in (both, spread):
        edit(project / "release.yaml", "  epochs: 2\n", "  epochs: 2\n  accumulate: 2\n")
        torchrun(2, "train", str(project))
    for one, other in zip(losses(both), losses(spread), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    ours, theirs = (load_file(p / "out" / "model" / "model.safetensors") for p in (spread, both))
    assert set(ours) == set(theirs)
    assert all(float((ours[name] - theirs[name]).abs().max()) < 1e-3 for name in theirs)
    configs = [(p / "out" / "model" / "config.json").read_bytes() for p in (spread, both)]
    assert configs[0] == configs[1]


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint(redacted: Path, tmp_path: Path) -> None:
    from tests.projects import copy_project

    whole, killed = (copy_project(redacted, tmp_path / name) for name in ("whole", "killed"))
    torchrun(2, "train", str(whole))
    script = (
        "import os, signal, sys\n"
        "from release_kit import pipeline\n"
        "class Killer:\n"
        "    def say(self, line): pass\n"
        "    def step(self, what, done, total):\n"
        "        if what == 'training' and done == total // 2 + 2:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "pipeline.train(sys.argv[1], Killer())\n"
    )
    (tmp_path / "killer.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(tmp_path / "killer.py"), str(killed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
    )  # fmt: skip
    assert ended.returncode
    assert list((killed / "out" / "checkpoints").glob("step-*"))
    torchrun(2, "train", str(killed))
    digests = [sha256_file(p / "out" / "model" / "model.safetensors") for p in (whole, killed)]
    assert digests[0] == digests[1]
    receipt = read_receipt(killed / "out" / "receipts" / "train.json")
    assert receipt
    assert receipt.results["resumed"]


def test_a_batch_that_cannot_be_shared_is_told(
    base: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UnusableInput, match="1 equal parts for each of 3 processes"):
        fit(SHORT, base, records, tmp_path / "model")


# Memory.


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a model that asks for memory as a GPU would, and gets it for so many rows."""
    import torch
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def limit(rows: int) -> None:
        @functools.wraps(forward)  # the Trainer looks at its parameters
        def hungry(self: Any, *args: Any, **inputs: Any) -> Any:
            if self.training and len(inputs["input_ids"]) > rows:
                raise torch.OutOfMemoryError("no more memory")
            return forward(self, *args, **inputs)

        monkeypatch.setattr(BertForSequenceClassification, "forward", hungry)

    return limit


def test_a_memory_too_small_is_answered_with_fewer_rows_at_once(
    base: Path, records: list[Record], tmp_path: Path, small_memory: Any
) -> None:
    asked = fit(dataclasses.replace(SHORT, accumulate=4), base, records, tmp_path / "asked")
    small_memory(5)
    watching = Watching()
    result = fit(SHORT, base, records, tmp_path / "model", watching)
    assert result.accumulate == 4
    assert [(e.training_loss, e.validation_loss) for e in result.losses] == [
        (e.training_loss, e.validation_loss) for e in asked.losses
    ]
    told = [line for line in watching.lines if "memory" in line]
    assert [line.split()[5] for line in told] == ["16", "8"]
    digests = [sha256_file(tmp_path / n / "model.safetensors") for n in ("asked", "model")]
    assert digests[0] == digests[1]


def test_it_goes_on_from_the_newest_checkpoint(
    base: Path, records: list[Record], tmp_path: Path, small_memory: Any
) -> None:
    with pytest.raises(Stopped):
        fit(SHORT, base, records, tmp_path / "m", Until(15, stop), checkpoints=tmp_path / "c")
    small_memory(8)
    result = fit(SHORT, base, records, tmp_path / "m", checkpoints=tmp_path / "c")
    assert (result.accumulate, len(result.losses)) == (2, 2)
    assert result.resumed


class Counting:
    """A meter that only tells how often it was given an earlier part."""

    def __init__(self) -> None:
        self.given = 0

    def progress(self) -> dict[str, Any]:
        return {"kept": True}

    def resume(self, progress: Any) -> None:
        self.given += 1


def test_an_earlier_part_is_counted_once_however_often_memory_ends(
    base: Path, records: list[Record], tmp_path: Path, small_memory: Any
) -> None:
    with pytest.raises(Stopped):
        fit(SHORT, base, records, tmp_path / "m", Until(15, stop), checkpoints=tmp_path / "c",
            meter=Counting())  # type: ignore[arg-type]  # fmt: skip
    small_memory(3)
    meter = Counting()
    result = fit(SHORT, base, records, tmp_path / "m", checkpoints=tmp_path / "c", meter=meter)  # type: ignore[arg-type]
    assert result.accumulate == 8
    assert meter.given == 1


def test_a_memory_too_small_to_evaluate_is_told(
    base: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import BertForSequenceClassification

    fit(dataclasses.replace(SHORT, epochs=1), base, records, tmp_path / "model")

    def hungry(self: Any, *args: Any, **inputs: Any) -> Any:
        raise torch.OutOfMemoryError("no more memory")

    monkeypatch.setattr(BertForSequenceClassification, "forward", hungry)
    with pytest.raises(Unfinished, match="evaluation needs more memory") as caught:
        evaluate_model(SHORT, tmp_path / "model", records)
    assert "accumulate" in caught.value.hint


def test_a_memory_that_holds_no_row_is_an_error(
    base: Path, records: list[Record], tmp_path: Path, small_memory: Any
) -> None:
    small_memory(0)
    with pytest.raises(Unfinished, match="even for one row at a time"):
        fit(SHORT, base, records, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_the_receipt_says_is_json(base: Path, records: list[Record], tmp_path: Path) -> None:
    result = fit(dataclasses.replace(SHORT, epochs=1), base, records, tmp_path / "model")
    assert json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))["processes"] == 1
