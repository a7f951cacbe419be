"""transformers' Trainer as one training run uses it: its arguments, order, record, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.checkpoints import EVERY_MINUTES, Checkpoints
from release_kit.training.models import Loaded, length_of
from release_kit.training.rows import Rows

# numpy takes seeds of 32 bits.
SEEDS = 2**32


@dataclass(frozen=True)
class EpochLoss:
    """How one pass over the training split went. Losses are those of the task."""

    epoch: int
    """1-based."""
    training_loss: float
    """Mean over the epoch's steps, each before its own update and with dropout."""
    validation_loss: float
    """Mean over the validation split after the epoch, without dropout."""
    seconds: float
    """Training and validation together."""


def finite(losses: Sequence[EpochLoss]) -> bool:
    """Tell whether every loss is a number."""
    return all(
        math.isfinite(loss.training_loss) and math.isfinite(loss.validation_loss) for loss in losses
    )


def train(
    plan: TrainingPlan,
    loaded: Loaded,
    training: Rows,
    validation: Rows,
    collate: Callable[[list[Any]], Mapping[str, Any]],
    *,
    arguments: Any,
    recorder: Any,
    by_length: bool,
    checkpoints: Checkpoints | None,
) -> int:
    """Train the model in place, from the newest checkpoint on; return the number of steps.

    Raises:
        torch.OutOfMemoryError: the accelerator's memory did not suffice.
    """
    from transformers import PrinterCallback, Trainer

    order = _order(plan, training, arguments, by_length=by_length)

    class Recording(Trainer):  # type: ignore[misc]  # transformers is untyped here
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            recorder.add(loss)
            return loss

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return order

        # The Trainer has no public place to say where, and whether a full disk ends everything.
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            progress, step = recorder.progress(), self.state.global_step
            if checkpoints is None or progress is None:
                return

            def fill() -> Path:
                self.args.output_dir = str(checkpoints.partial)
                super(Recording, self)._save_checkpoint(model, trial)
                return checkpoints.partial / f"checkpoint-{step}"

            checkpoints.write(step, progress, fill)

    use_cache = getattr(loaded.model.config, "use_cache", None)
    newest = checkpoints.newest() if checkpoints else None
    if newest:
        recorder.resume(newest.step, newest.progress)
    trainer = Recording(
        model=loaded.model,
        args=arguments,
        data_collator=collate,
        train_dataset=training,
        eval_dataset=validation,
        processing_class=loaded.processor,
        callbacks=[recorder, _epochs(order, training)],
    )
    trainer.remove_callback(PrinterCallback)
    outcome = trainer.train(str(newest.folder) if newest else None)
    if use_cache is not None:
        loaded.model.config.use_cache = use_cache  # the Trainer turns it off for good
    return int(outcome.global_step)


def arguments_of(plan: TrainingPlan, scratch: Path, *, save: bool) -> Any:
    """Return transformers' TrainingArguments for `plan`."""
    import torch
    from transformers import TrainingArguments

    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        seed=plan.seed % SEEDS,
        logging_strategy="epoch",
        # A filtered loss would hide that the training diverged.
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        prediction_loss_only=True,
        save_strategy="epoch" if save else "no",
        # A task's rows may hold more than its model's own inputs, for the collator.
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
    )
    # With several GPUs in sight the Trainer would multiply the batch size by their number.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _order(plan: TrainingPlan, rows: Rows, arguments: Any, *, by_length: bool) -> Any:
    """Return a sampler whose order depends on seed and epoch alone, so that a resume knows it.

    By length, rows of like length stand together within a window of fifty batches, so that
    little of a batch is padding.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    class Order(torch.utils.data.Sampler[int]):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            self.epoch = 0
            self.lengths = [length_of(row) for row in rows.rows] if by_length else []

        def __len__(self) -> int:
            return len(rows)

        def __iter__(self) -> Iterator[int]:
            generator = torch.Generator()
            generator.manual_seed((plan.seed % SEEDS) * 1_000_003 + self.epoch)
            if by_length:
                size = arguments.train_batch_size * arguments.gradient_accumulation_steps
                order = get_length_grouped_indices(self.lengths, size, generator=generator)
            else:
                order = torch.randperm(len(rows), generator=generator).tolist()
            return iter(order)

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    return Order()


def _epochs(*followers: Any) -> Any:
    """Return a Trainer callback that tells the followers which epoch begins."""
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for follower in followers:
                follower.set_epoch(int(state.epoch))

    return Epochs()


def recorder_of(watcher: Watcher, began: float) -> Any:
    """Return a Trainer callback that keeps the losses of each epoch and reports the steps.

    It also keeps what the Trainer's own checkpoints lack: the losses so far, and those of the
    epoch that is under way.
    """
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def __init__(self) -> None:
            self.losses: list[EpochLoss] = []
            self.resumed: list[int] = []
            self.began = began
            self.saved = time.monotonic()
            self.begin_epoch()

        def begin_epoch(self) -> None:
            self.loss_sum: Any = 0.0
            self.steps = 0
            self.started = time.monotonic()

        def add(self, loss: Any) -> None:
            # Stays on the device: to read it at each step would make the GPU wait.
            self.loss_sum = self.loss_sum + loss.detach()

        def progress(self) -> dict[str, Any] | None:
            """Return, as JSON, what `resume` takes; None when the training has diverged."""
            self.saved = now = time.monotonic()
            loss_sum = float(self.loss_sum)
            losses = [asdict(loss) for loss in self.losses]
            if not finite(self.losses) or not math.isfinite(loss_sum):
                return None
            return {
                "losses": losses,
                "loss_sum": loss_sum,
                "steps": self.steps,
                "epoch_seconds": now - self.started,
                "seconds": now - self.began,
                "resumed": self.resumed,
            }

        def resume(self, step: int, progress: Mapping[str, Any]) -> None:
            self.losses = [EpochLoss(**loss) for loss in progress["losses"]]
            self.loss_sum = progress["loss_sum"]
            self.steps = progress["steps"]
            self.resumed = [*progress["resumed"], step]
            self.began -= progress["seconds"]
            self.started = time.monotonic() - progress["epoch_seconds"]

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not self.steps:
                self.started = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.steps += 1
            watcher.step("training", state.global_step, state.max_steps)
            # An epoch's last step is saved after its validation, or a resume would leave that out.
            late = time.monotonic() - self.saved >= 60 * EVERY_MINUTES
            if late and args.save_strategy != "no" and state.epoch % 1:
                control.should_save = True

        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
        ) -> None:
            self.losses.append(
                EpochLoss(
                    epoch=len(self.losses) + 1,
                    training_loss=float(self.loss_sum) / self.steps,
                    validation_loss=float(metrics["eval_loss"]),
                    seconds=time.monotonic() - self.started,
                )
            )
            self.begin_epoch()

    return Recorder()
