"""Fine-tune a base model on records with transformers' Trainer, and save nothing but the model."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from release_kit import processes
from release_kit.errors import Unfinished, UnusableInput
from release_kit.figures import FIGURES
from release_kit.files import whole_folder
from release_kit.progress import SILENT, Watcher
from release_kit.release import TrainingPlan
from release_kit.training.checkpoints import Checkpoints, run_of
from release_kit.training.energy import Meter
from release_kit.training.figures import total
from release_kit.training.methods import finished, is_adapter, prepared, save, weighted_loss
from release_kit.training.models import Loaded, device_of, longest_text, need, not_finite, quiet
from release_kit.training.private import (
    Mechanism,
    Privacy,
    mechanism_of,
    privacy_of,
    private_trainer,
)
from release_kit.training.rows import Rows
from release_kit.training.splits import Example, Splits, SplitSizes, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.task import Task
from release_kit.training.trainer import (
    SEEDS,
    EpochLoss,
    arguments_of,
    finite,
    parts_of,
    recorder_of,
    shards,
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
    """Numbers in the model, those of an adapter among them."""
    trained: int
    """How many of them were trained; the rest stayed as they were."""
    adapter: bool
    """Whether the result is an adapter, to be used with its base."""
    best_epoch: int
    """The epoch whose weights these are: the last, or the best where training stops early."""
    new_tensors: tuple[str, ...]
    """Tensors that the base model did not hold and that started from random numbers."""
    device: str
    """cpu, or the name of the accelerator."""
    threads: int
    """CPU threads that added up; on a CPU another number gives other last bits."""
    processes: int
    """How many shared the work; another number gives other last bits."""
    accumulate: int
    """Parts in which the rows of an update went through the model: more than was asked for where
    the memory did not suffice."""
    seed: int
    seconds: float
    """From reading the records to the saved model, without what a kill undid."""
    resumed: tuple[int, ...] = ()
    """The steps from whose checkpoints a killed training went on."""
    privacy: Privacy | None = None
    """What the weights are guaranteed to hide of a record; None where the plan asks for nothing."""
    planted: int = 0
    """Records learned besides those of the training split: canaries and their repeats."""


def fit(
    plan: TrainingPlan,
    base: Path,
    records: Sequence[Record],
    output: Path,
    watcher: Watcher = SILENT,
    *,
    checkpoints: Path | None = None,
    base_id: str = "",
    revision: str = "",
    meter: Meter | None = None,
    log: Callable[[int, Mapping[str, float]], None] | None = None,
    planted: Sequence[Record] = (),
) -> TrainingResult:
    """Fine-tune the model in `base` on `records` and write it to `output`, whole or not at all.

    AdamW; learning rate, clipping and precision as the plan says. `output` is replaced; it gets
    model.safetensors (float32), config.json and the processor's files, or an adapter that names
    its base by `base_id` and `revision` on the Hub. On the same CPU, with the same number of
    threads and processes and the same libraries, the same input gives the same bytes; GPUs
    promise that only roughly.

    With `checkpoints`, a folder that is nobody else's, a training that was killed goes on from
    its newest whole checkpoint and ends, on a CPU, with the same bytes and losses as if nothing
    had happened; `watcher` is told from which step, and why a newer one was passed over. The last
    two are kept, and none once the model is saved.

    Started by torchrun or accelerate, the processes share each batch, and the first one writes.
    Where the memory of the GPU does not suffice, the rows of an update go through the model in
    more parts, from the newest checkpoint or from the start; that is told.

    The records in `planted` are learned besides, and neither validate nor stand in any split.

    With differential privacy no two trainings end with the same bytes, killed or not, and each
    states what it guarantees: `release_kit.training.private`.

    Progress goes to `watcher` as "training", counted in steps. What `meter` has measured is kept
    in the checkpoints. `log` gets the losses of each epoch, and of the steps between as many as
    a curve can show, by the number of updates so far.

    Raises:
        UnusableInput: a record, the split, the base model or `output` cannot be used.
        Unfinished: a package is not installed, the training diverged to NaN or infinity, the
            memory of the GPU did not suffice, or `output` cannot be written.
    """
    started = time.monotonic()
    need("torch", "transformers", "accelerate", "safetensors")
    task, plan = settled(plan)
    splits, sizes = _splits(task, plan, records, planted)
    _check_output(base, output)

    import torch

    watcher = watcher if processes.is_main() else SILENT
    watcher.say(
        f"{sizes.train} records train, {sizes.validation} validate,"
        f" {sizes.test} are held out for the evaluation"
    )
    if planted:
        watcher.say(f"{len(planted)} records more are planted, to see what the weights keep")
    mechanism = mechanism_of(plan, task, splits, watcher)
    if shards(plan):
        watcher.say("the weights are spread, so a training that is killed starts anew")
    elif plan.shard:
        watcher.say("shard asks for several processes: the one that there is holds all weights")
    began, counted = started, [token_hex(8)]
    # The Trainer insists on a folder even when it has nothing to write.
    with quiet(), tempfile.TemporaryDirectory(prefix="release-kit-") as scratch:
        for parts in parts_of(plan):
            run = _Run(
                task, replace(plan, accumulate=parts), splits, base, Path(scratch), mechanism
            )
            kept = None
            if checkpoints is not None:
                sides = (splits.train, splits.validation, splits.test)
                content = (example.text for side in sides for example in side)
                threads = torch.get_num_threads()
                bound = run_of(
                    plan, base, (*records, *planted), run.device, threads, content=content
                )
                if mechanism:
                    bound["differential privacy"] = asdict(mechanism)
                kept = Checkpoints(checkpoints, bound, watcher)
            recorder = recorder_of(plan, watcher, began, meter=meter, log=log, counted=counted)
            short = False
            try:
                loaded, steps = run.train(recorder, kept, watcher)
            except torch.OutOfMemoryError:
                short = True
            if not short:
                break
            # What the failed attempt held must be gone before the next one starts.
            recorder.forget()
            began = recorder.began
            _free()
            if processes.count() == 1:
                watcher.say(
                    f"the memory does not hold {plan.batch_size // parts} rows at once: the"
                    " training goes on with fewer, and as many for each update as before"
                )
        else:
            raise Unfinished(
                "the training needs more memory than the GPU has, even for one row at a time",
                hint="Lower training.max_length, or set gradient_checkpointing, in release.yaml.",
            )
        trained = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
        if processes.is_main():
            _check_finite(loaded, recorder.losses)
            loaded = finished(plan, loaded)
            _save(plan, loaded, output, base_id, revision)
            if kept:
                kept.remove()

    return TrainingResult(
        losses=tuple(recorder.losses),
        labels=loaded.labels,
        pipeline_tag=task.pipeline_tag,
        sizes=sizes,
        planted=len(planted),
        steps=steps,
        parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        trained=trained,
        adapter=is_adapter(plan),
        best_epoch=recorder.best or len(recorder.losses),
        new_tensors=loaded.new_tensors,
        device=run.device,
        threads=torch.get_num_threads(),
        processes=processes.count(),
        accumulate=parts,
        seed=plan.seed,
        seconds=time.monotonic() - recorder.began,
        resumed=tuple(recorder.resumed),
        privacy=privacy_of(mechanism, steps),
    )


def _splits(
    task: Task, plan: TrainingPlan, records: Sequence[Record], planted: Sequence[Record]
) -> tuple[Splits, SplitSizes]:
    """Return what trains, validates and is held out, and its sizes without what is planted."""
    # Read together, so that what is planted has to fit the rest.
    examples = task.read(plan, (*records, *planted))
    splits = split(examples[: len(records)], plan)
    train = (*splits.train, *examples[len(records) :])
    return replace(splits, train=train), splits.sizes


def fit_examples(task: Task, plan: TrainingPlan, base: Path, splits: Splits) -> Loaded:
    """Train as `fit` does, on exactly these splits, and return the model; nothing is written.

    Raises:
        UnusableInput: as `fit` does.
        Unfinished: the training diverged.
    """
    with quiet(), tempfile.TemporaryDirectory(prefix="release-kit-") as scratch:
        mechanism = mechanism_of(plan, task, splits, SILENT)
        recorder = recorder_of(plan, SILENT, time.monotonic())
        run = _Run(task, plan, splits, base, Path(scratch), mechanism)
        loaded, _ = run.train(recorder, None, SILENT)
    _check_finite(loaded, recorder.losses)
    return finished(plan, loaded)


@dataclass(frozen=True)
class _Run:
    """One attempt at a training, from the base model on."""

    task: Task
    plan: TrainingPlan
    splits: Splits
    base: Path
    scratch: Path
    mechanism: Mechanism | None

    @property
    def device(self) -> str:
        """cpu, or the name of the accelerator."""
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
        return str(device_of().type)

    def train(
        self, recorder: Any, checkpoints: Checkpoints | None, watcher: Watcher
    ) -> tuple[Loaded, int]:
        """Return the trained model and its number of updates."""
        from transformers import set_seed

        task, plan = self.task, self.plan
        # Before loading, since loading draws the numbers of the new head.
        set_seed(plan.seed % SEEDS)
        loaded = task.load(plan, self.base, task.names(plan, self.splits))
        _check_length(plan, loaded, self.base)
        loaded = prepared(plan, loaded)
        training, validation = _rows(task, loaded, self.splits, plan)
        # What is sharded cannot answer in one process.
        if processes.is_main() and not shards(plan):
            recorder.measure = partial(_measured, task, loaded, self.splits.validation, plan)
        learned = (*self.splits.train, *self.splits.validation)
        for line in task.notes(plan, learned, (*training.rows, *validation.rows)):
            watcher.say(line)
        loss = weighted_loss(task, plan, loaded, self.splits)
        kind = None
        if self.mechanism:
            kind = private_trainer(self.mechanism, loaded, training, loss, watcher)
        return train(
            plan,
            loaded,
            training,
            validation,
            task.collate(loaded, plan),
            arguments=arguments_of(plan, self.scratch, save=checkpoints is not None),
            recorder=recorder,
            by_length=task.by_length,
            loss=loss,
            checkpoints=checkpoints,
            kind=kind,
        )


def _measured(
    task: Task, loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> dict[str, float]:
    """Return the figures on `examples`; those that are no number are left out."""
    found = task.measure(loaded, examples, plan, SILENT)
    values = {name: float(value) for name, value in task.figures(total(found)).items()}
    every = {**values, **found.other}
    return {name: every[name] for name in FIGURES if math.isfinite(every.get(name, math.nan))}


def _free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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


def _save(plan: TrainingPlan, loaded: Loaded, output: Path, base_id: str, revision: str) -> None:
    from safetensors import SafetensorError

    try:
        with whole_folder(output) as folder:
            save(plan, loaded, folder, base_id, revision)
    except (OSError, SafetensorError) as error:
        raise Unfinished(f"{output}: the model cannot be written: {error}") from error
