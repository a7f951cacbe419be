"""Fine-tune a base model on records with transformers' Trainer, and save nothing but the model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import whole_folder
from release_kit.progress import SILENT, Watcher
from release_kit.release import TrainingPlan
from release_kit.training.checkpoints import Checkpoints, run_of
from release_kit.training.models import Loaded, longest_text, need, not_finite, quiet, save_model
from release_kit.training.rows import Rows
from release_kit.training.splits import Splits, SplitSizes, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.task import Task
from release_kit.training.trainer import (
    SEEDS,
    EpochLoss,
    arguments_of,
    finite,
    recorder_of,
    train,
)

if TYPE_CHECKING:
    from release_kit.datasets.records import Record


@dataclass(frozen=True)
class TrainingResult:
    """What a training run did; `dataclasses.asdict` of it is JSON."""

    losses: tuple[EpochLoss, ...]
    """One for each epoch, in order."""
    labels: tuple[str, ...]
    """Label i is class i of the model; empty where the task has no classes."""
    pipeline_tag: str
    """The Hub's word for what the model is used for; empty where it has none."""
    sizes: SplitSizes
    steps: int
    """Updates of the weights."""
    parameters: int
    """Numbers in the model, all of them trained."""
    new_tensors: tuple[str, ...]
    """Tensors that the base model did not hold and that started from random numbers."""
    device: str
    """cpu, or the name of the accelerator."""
    threads: int
    """CPU threads that added up; on a CPU another number gives other last bits."""
    seed: int
    seconds: float
    """From reading the records to the saved model, without what a kill undid."""
    resumed: tuple[int, ...] = ()
    """The steps from whose checkpoints a killed training went on."""


def fit(
    plan: TrainingPlan,
    base: Path,
    records: Sequence[Record],
    output: Path,
    watcher: Watcher = SILENT,
    *,
    checkpoints: Path | None = None,
) -> TrainingResult:
    """Fine-tune the model in `base` on `records` and write it to `output`, whole or not at all.

    AdamW with a learning rate that falls linearly to 0, gradients clipped to norm 1, one device,
    bfloat16 arithmetic on float32 weights where the GPU has it. `output` is replaced; it gets
    model.safetensors (float32), config.json and the tokenizer's files. On the same CPU, with the
    same number of threads and the same libraries, the same input gives the same bytes; GPUs
    promise that only roughly.

    With `checkpoints`, a folder that is nobody else's, a training that was killed goes on from
    its newest whole checkpoint and ends, on a CPU, with the same bytes and losses as if nothing
    had happened; `watcher` is told from which step, and why a newer one was passed over. The last
    two are kept, and none once the model is saved.

    Progress goes to `watcher` as "training", counted in steps.

    Raises:
        UnusableInput: a record, the split, the base model or `output` cannot be used.
        Unfinished: a package is not installed, the training diverged to NaN or infinity, the
            memory of the GPU did not suffice, or `output` cannot be written.
    """
    started = time.monotonic()
    need("torch", "transformers", "accelerate", "safetensors")
    task, plan = settled(plan)
    splits = split(task.read(plan, records), plan)
    _check_output(base, output)

    import torch
    from transformers import set_seed

    with quiet():
        # Before loading, since loading draws the numbers of the new head.
        set_seed(plan.seed % SEEDS)
        loaded = task.load(plan, base, splits.labels)
        _check_length(plan, loaded, base)
        sizes = splits.sizes
        watcher.say(
            f"{sizes.train} records train, {sizes.validation} validate,"
            f" {sizes.test} are held out for the evaluation"
        )
        training, validation = _rows(task, loaded, splits, plan)
        recorder = recorder_of(watcher, started)
        # The Trainer insists on a folder even when it has nothing to write.
        with tempfile.TemporaryDirectory(prefix="release-kit-") as scratch:
            arguments = arguments_of(plan, Path(scratch), save=checkpoints is not None)
            kind = str(arguments.device.type)
            device = torch.cuda.get_device_name() if kind == "cuda" else kind
            kept = None
            if checkpoints is not None:
                run = run_of(plan, base, records, device, torch.get_num_threads())
                kept = Checkpoints(checkpoints, run, watcher)
            try:
                steps = train(
                    plan,
                    loaded,
                    training,
                    validation,
                    task.collate(loaded, plan),
                    arguments=arguments,
                    recorder=recorder,
                    by_length=task.by_length,
                    checkpoints=kept,
                )
            except torch.OutOfMemoryError as error:
                raise Unfinished(
                    "the training needs more memory than the GPU has",
                    hint="lower training.batch_size or training.max_length in release.yaml",
                ) from error
        _check_finite(loaded, recorder.losses)
        _save(loaded, output)
        if kept:
            kept.remove()

    return TrainingResult(
        losses=tuple(recorder.losses),
        labels=loaded.labels,
        pipeline_tag=task.pipeline_tag,
        sizes=sizes,
        steps=steps,
        parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        new_tensors=loaded.new_tensors,
        device=device,
        threads=torch.get_num_threads(),
        seed=plan.seed,
        seconds=time.monotonic() - recorder.began,
        resumed=tuple(recorder.resumed),
    )


def _rows(task: Task, loaded: Loaded, splits: Splits, plan: TrainingPlan) -> tuple[Rows, Rows]:
    """Return what training and validation read."""
    draw = task.draw(loaded, plan) if task.draw else None
    return (
        Rows(task.encode(loaded, splits.train, plan), draw, plan.seed),
        Rows(task.encode(loaded, splits.validation, plan), draw, plan.seed, fixed=True),
    )


def _check_length(plan: TrainingPlan, loaded: Loaded, base: Path) -> None:
    longest = longest_text(loaded)
    if longest is not None and plan.max_length > longest:
        raise UnusableInput(
            f"max_length {plan.max_length} is more than the {longest} tokens that {base} reads",
            hint=f"Set training.max_length in release.yaml to {longest} or less.",
        )


def _check_output(base: Path, output: Path) -> None:
    """Refuse, before hours of training, an `output` that cannot or must not be replaced."""
    if output.exists() and not output.is_dir():
        raise UnusableInput(f"{output}: is not a folder, so no model can be written there")
    if base.resolve().is_relative_to(output.resolve()):
        raise UnusableInput(f"{output}: holds the base model, which would be overwritten")


def _check_finite(loaded: Loaded, losses: Sequence[EpochLoss]) -> None:
    broken = not_finite(loaded.model)
    if broken or not finite(losses):
        where = f"{len(broken)} tensors of the model" if broken else "the loss"
        raise Unfinished(
            f"the training diverged: {where} became NaN or infinite, and nothing was saved",
            hint="lower training.learning_rate in release.yaml",
        )


def _save(loaded: Loaded, output: Path) -> None:
    from safetensors import SafetensorError

    try:
        with whole_folder(output) as folder:
            save_model(loaded, folder)
    except (OSError, SafetensorError) as error:
        raise Unfinished(f"{output}: the model cannot be written: {error}") from error
