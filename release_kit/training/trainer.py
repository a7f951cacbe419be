"""transformers' Trainer as one training run uses it: its arguments, order, record, checkpoints."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from release_kit import processes
from release_kit.errors import Unfinished, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import EarlyStopping, TrainingPlan
from release_kit.training.checkpoints import EVERY_MINUTES, Checkpoints
from release_kit.training.energy import Meter
from release_kit.training.models import Loaded, in_half, length_of
from release_kit.training.rows import Rows

# numpy takes seeds of 32 bits.
SEEDS = 2**32
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_BEST = "best.safetensors"
# Points of a curve: more than a screen can tell apart, and few enough to cost nothing.
_SHOWN = 500


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
    figures: Mapping[str, float] = field(default_factory=dict)
    """Those of the task on the validation split after the epoch, by their names."""


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
    loss: Callable[..., Any] | None = None,
    checkpoints: Checkpoints | None,
    kind: Any = None,
) -> tuple[Loaded, int]:
    """Train the model, from the newest checkpoint on; return it and the number of updates.

    `loss` takes the place of the model's own, `kind`, a subclass, that of the Trainer.

    Raises:
        torch.OutOfMemoryError: the accelerator's memory did not suffice.
    """
    from transformers import PrinterCallback, Trainer

    order = _order(plan, training, by_length=by_length)

    class Recording(kind or Trainer):  # type: ignore[misc]  # transformers is untyped here
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
            folder = checkpoints.partial / f"checkpoint-{step}"
            self.args.output_dir = str(checkpoints.partial)

            def fill() -> Path:
                # Each process writes its own random numbers, once there is a place for them.
                _together()
                super(Recording, self)._save_checkpoint(model, trial)
                _together()
                recorder.save_best(folder)
                return folder

            if processes.is_main():
                checkpoints.write(step, progress, fill)
            else:
                _together()
                super()._save_checkpoint(model, trial)
                _together()
            _together()

    use_cache = getattr(loaded.model.config, "use_cache", None)
    newest = checkpoints.newest() if checkpoints else None
    recorder.model = loaded.model
    if newest:
        recorder.resume(newest.step, newest.progress, newest.folder)
    kind_of_model: Any = type(loaded.model)
    blank = partial(kind_of_model, loaded.model.config)
    if shards(plan):
        _shard(loaded.model, arguments.device)
    trainer = Recording(
        model=loaded.model,
        args=arguments,
        data_collator=collate,
        train_dataset=training,
        eval_dataset=validation,
        processing_class=loaded.processor,
        callbacks=[recorder, _epochs(order, training)],
        compute_loss_func=loss,
    )
    trainer.remove_callback(PrinterCallback)
    # The Trainer trusts a model that takes the number to use it, and several forget to.
    if not loss and not _counts_items(loaded.model, trainer):
        trainer.model_accepts_loss_kwargs = False
    if shards(plan):
        # The trial has left the outermost weights whole, and the optimizer would take those.
        from torch.distributed.fsdp import FSDPModule

        for module in loaded.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    if newest and recorder.ended():
        # It was killed after it had stopped early: the Trainer would go on.
        recorder.restore_best()
        return loaded, newest.step
    outcome = trainer.train(str(newest.folder) if newest else None)
    recorder.restore_best()
    if shards(plan):
        loaded = replace(loaded, model=_whole(loaded.model, blank))
    if use_cache is not None:
        loaded.model.config.use_cache = use_cache  # the Trainer turns it off for good
    return loaded, int(outcome.global_step)


def shards(plan: TrainingPlan) -> bool:
    """Tell whether each process holds a part of the weights only (FSDP).

    Raises:
        UnusableInput: the plan asks for what needs the whole weights in each process.
    """
    if plan.shard and (plan.method.kind != "full" or plan.early_stopping or _private(plan)):
        raise UnusableInput(
            "training.shard goes with neither an adapter nor early_stopping nor"
            " differential_privacy",
            hint="Remove one of them from release.yaml.",
        )
    return plan.shard and processes.count() > 1


def _private(plan: TrainingPlan) -> bool:
    return plan.differential_privacy is not None


def _shard(model: Any, device: Any) -> None:
    """Spread the weights over the processes, layer by layer (FSDP2 of torch).

    accelerate does that on accelerators alone, and the Trainer leaves a model as it is that says
    it was spread at its loading.

    Raises:
        Unfinished: this transformers does not know such models.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import Trainer

    known = hasattr(Trainer, "_sync_replicated_trainable_parameters")
    if not known or importlib.util.find_spec("transformers.distributed.fsdp") is None:
        raise Unfinished(
            "training.shard needs a newer transformers than the one installed here",
            hint="pip install -U transformers",
        )
    from transformers.distributed.configuration_utils import DistributedConfig

    mesh = init_device_mesh(device.type, (processes.count(),))
    model.to(device)
    layers = set(model._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model._is_fsdp_managed_module = True
    model._is_distributed_loading_by_transformers = True
    model.config.distributed_config = DistributedConfig(
        fsdp_size=processes.count(), dp_replicate_size=1
    )


def _whole(model: Any, blank: Callable[[], Any]) -> Any:
    """Return a model with all of the weights in the main process; elsewhere its part."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if not processes.is_main():
        return model
    whole = blank()
    whole.config.distributed_config = None
    whole.load_state_dict(state)
    whole.tie_weights()
    return whole


def _counts_items(model: Any, trainer: Any) -> bool:
    """Tell whether the model's loss is a sum over the rows or tokens of all parts of an update.

    Otherwise it is a mean over those of one part, and the Trainer has to divide it.
    """
    import torch

    if trainer.args.gradient_accumulation_steps == 1 and trainer.args.world_size == 1:
        return bool(trainer.model_accepts_loss_kwargs)
    if not trainer.model_accepts_loss_kwargs:
        return False
    rows = [trainer.train_dataset[row] for row in range(min(2, len(trainer.train_dataset)))]
    batch = {k: v.to(trainer.args.device) for k, v in trainer.data_collator(rows).items()}
    was = model.training
    model.to(trainer.args.device).eval()
    with torch.no_grad():
        one, two = (float(model(**batch, num_items_in_batch=n).loss) for n in (1, 2))
    model.train(was)
    return one != two


def parts_of(plan: TrainingPlan) -> Iterator[int]:
    """Yield in how many parts a batch may go through the model: as planned, then in more.

    With several processes it is as planned or not at all: one that runs out of memory ends all.

    Raises:
        UnusableInput: the batch cannot be split as the plan says.
    """
    workers = processes.count()
    if plan.batch_size % (plan.accumulate * workers):
        shared = f" for each of {workers} processes" if workers > 1 else ""
        raise UnusableInput(
            f"batch_size {plan.batch_size} cannot be split into {plan.accumulate} equal parts"
            + shared,
            hint="Change training.accumulate or batch_size in release.yaml.",
        )
    yield plan.accumulate
    for parts in range(plan.accumulate + 1, plan.batch_size + 1):
        if workers == 1 and plan.batch_size % parts == 0:
            yield parts


def _together() -> None:
    """Wait until all processes have come here."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _mean(value: float) -> float:
    """Return the mean of a number over all processes, the same in each."""
    import torch

    if processes.count() == 1:
        return value
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    return float(tensor) / processes.count()


def arguments_of(plan: TrainingPlan, scratch: Path, *, save: bool) -> Any:
    """Return transformers' TrainingArguments for `plan`, whose batch can be split as it says."""
    import torch
    from transformers import TrainingArguments

    cuda = torch.cuda.is_available()
    share = plan.batch_size // (plan.accumulate * processes.count())
    arguments = TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=share,
        per_device_eval_batch_size=share,
        gradient_accumulation_steps=plan.accumulate,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        # Below 1 it is a share of all updates.
        warmup_steps=plan.warmup_share,
        lr_scheduler_type=_SCHEDULES[plan.schedule],
        max_grad_norm=plan.clip_norm,
        use_cpu=not torch.accelerator.is_available(),
        ddp_backend="gloo" if processes.count() > 1 and not cuda else None,
        ddp_find_unused_parameters=False,
        bf16=in_half(plan),
        torch_compile=plan.compile,
        seed=plan.seed % SEEDS,
        logging_strategy="epoch",
        # A filtered loss would hide that the training diverged.
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        prediction_loss_only=True,
        # The Trainer cannot go on with weights that are spread.
        save_strategy="epoch" if save and not shards(plan) else "no",
        # A task's rows may hold more than its model's own inputs, for the collator.
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        **{_renamed(TrainingArguments): plan.gradient_checkpointing},
    )
    # With several GPUs in sight the Trainer would multiply the batch size by their number.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _renamed(arguments: Any) -> str:
    """Return what this transformers calls gradient checkpointing."""
    new, old = "activation_checkpointing", "gradient_checkpointing"
    return new if new in {one.name for one in fields(arguments)} else old


def _order(plan: TrainingPlan, rows: Rows, *, by_length: bool) -> Any:
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
                order = get_length_grouped_indices(
                    self.lengths, plan.batch_size, generator=generator
                )
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


def recorder_of(
    plan: TrainingPlan,
    watcher: Watcher,
    began: float,
    *,
    meter: Meter | None = None,
    log: Callable[[int, Mapping[str, float]], None] | None = None,
    counted: list[str] | None = None,
) -> Any:
    """Return a Trainer callback that keeps the losses of each epoch and reports the steps.

    It also keeps what the Trainer's own checkpoints lack: the losses so far, and those of the
    epoch that is under way. Where the plan stops early, it keeps the trained tensors of the best
    epoch, in memory and in each checkpoint, and ends the training in time. `counted` names the
    processes, this one first, whose time and energy are in `began` and `meter` already.
    """
    stopping = plan.early_stopping
    known = [token_hex(8)] if counted is None else counted
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def __init__(self) -> None:
            self.losses: list[EpochLoss] = []
            self.resumed: list[int] = []
            self.began = began
            self.saved = time.monotonic()
            self.model: Any = None
            self.measure: Callable[[], Mapping[str, float]] = dict
            self.best = 0
            self.kept: dict[str, Any] = {}
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
            loss_sum = _mean(float(self.loss_sum))
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
                "best": self.best,
                "process": known[0],
                "energy": meter.progress() if meter else {},
            }

        def resume(self, step: int, progress: Mapping[str, Any], folder: Path) -> None:
            if progress["process"] not in known:
                known.append(progress["process"])
                self.began -= progress["seconds"]
                if meter:
                    meter.resume(progress["energy"])
            self.best = progress["best"]
            if self.best:
                from safetensors.torch import load_file

                self.kept = load_file(folder / _BEST)
            self.losses = [EpochLoss(**loss) for loss in progress["losses"]]
            self.loss_sum = progress["loss_sum"]
            self.steps = progress["steps"]
            self.resumed = [*progress["resumed"], step]
            self.started = time.monotonic() - progress["epoch_seconds"]

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not self.steps:
                self.started = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.steps += 1
            watcher.step("training", state.global_step, state.max_steps)
            every = -(-state.max_steps // _SHOWN)
            if log and state.global_step % every == 0:
                # Of this epoch up to here. To read it makes the GPU wait, so it is done seldom.
                rate = kwargs["lr_scheduler"].get_last_lr()[0]
                mean = float(self.loss_sum) / self.steps
                log(state.global_step, {"running_loss": mean, "learning_rate": float(rate)})
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
                    training_loss=_mean(float(self.loss_sum)) / self.steps,
                    validation_loss=float(metrics["eval_loss"]),
                    seconds=time.monotonic() - self.started,
                    figures=self.measure(),
                )
            )
            if log:
                now = self.losses[-1]
                told = {"training_loss": now.training_loss, "validation_loss": now.validation_loss}
                log(state.global_step, told | dict(now.figures))
            if stopping:
                self.keep_best(stopping)
            if self.ended():
                watcher.say(
                    f"the validation loss has not fallen since epoch {self.best}, so the training"
                    f" ends after {len(self.losses)} of {plan.epochs}"
                )
                control.should_training_stop = True
            self.begin_epoch()

        def keep_best(self, stopping: EarlyStopping) -> None:
            now, before = self.losses[-1], self.losses[self.best - 1] if self.best else None
            if before is None or now.validation_loss < before.validation_loss - stopping.min_gain:
                self.best = now.epoch
                self.kept = {
                    name: parameter.detach().to("cpu", copy=True)
                    for name, parameter in self.model.named_parameters()
                    if parameter.requires_grad
                }

        def ended(self) -> bool:
            """Tell whether the plan's patience has ended."""
            if stopping is None or not self.best:
                return False
            return len(self.losses) - self.best >= stopping.patience

        def forget(self) -> None:
            """Let go of what fills memory, where an attempt has failed."""
            self.model, self.kept, self.loss_sum, self.measure = None, {}, 0.0, dict

        def save_best(self, folder: Path) -> None:
            if self.best:
                from safetensors.torch import save_file

                save_file(self.kept, folder / _BEST)

        def restore_best(self) -> None:
            """Give the model the weights of its best epoch, where the plan stops early."""
            import torch

            if self.best and self.best != len(self.losses):
                with torch.no_grad():
                    for name, parameter in self.model.named_parameters():
                        if name in self.kept:
                            parameter.copy_(self.kept[name])

    return Recorder()
