"""Training that bounds what the weights can show of any single record: DP-SGD.

With n training records, each update takes each of them with the chance q = batch_size / n, apart
from all others (Poisson sampling). With g_i the gradient of the loss of record i alone, over all
trained tensors together, C the clip norm and sigma the noise multiplier, AdamW gets

    g = (sum_i g_i min(1, C / |g_i|) + sigma C z) / (q n),    z standard normal

(Abadi et al. 2016, https://arxiv.org/abs/1607.00133, algorithm 1). After T updates the weights
are (epsilon, delta)-differentially private: no event about them is more than e^epsilon times as
likely, delta aside, with a record than with its place left empty. Epsilon is opacus' upper bound
for the Poisson-subsampled Gaussian mechanism, by its prv accountant (Gopi et al. 2021,
https://arxiv.org/abs/2106.02848), with that of rdp (Mironov 2017) beside it.

The guarantee rests on numbers that nobody knows. Who is taken, and the noise, come from the
operating system's generator and are kept nowhere; the plan's published seed would undo them. So
no two such trainings end with the same bytes, and none can be repeated to check it. The noise is
half the sum of four normal numbers in 64 bits, so that the last bits of a floating-point number
do not tell it (Holohan and Braghin 2021, https://arxiv.org/abs/2107.10138, section 5.1).

A training that was killed goes on from its checkpoint with fresh numbers. What the kill undid is
gone and was never published; every update that lies behind the weights is counted.

Gradients of many records are computed at once by torch.func.vmap, or one record after another
where the model does not allow it or, on the shortest and the longest record, the two do not
agree. opacus' own hooks are not used: they give BERT's position embeddings one gradient for all
records, and need one loss for a batch, whose mean over tokens would tie records together.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit import processes
from release_kit.datasets.overlap import families
from release_kit.errors import Unfinished, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.models import Loaded, length_of
from release_kit.training.rows import Rows
from release_kit.training.splits import Splits
from release_kit.training.tasks.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

HIGHEST = 64.0
"""Of epsilon: e^64 promises nothing, and the memory of the accountant grows with it."""
_ACCOUNTANT = "prv"
_COARSE = "rdp"
_AT_ONCE = 1 << 20
_AGREE = 1e-3
_ATTENTION = "release_kit_each_record"
_WHERE = "training.differential_privacy"


@dataclass(frozen=True)
class Mechanism:
    """What is done to each update; `dataclasses.asdict` of it is JSON."""

    noise_multiplier: float
    """Standard deviation of the noise, in clip norms."""
    sample_rate: float
    """The chance of each record to be part of an update."""
    clip_norm: float
    """The largest norm that the gradient of one record keeps."""
    delta: float
    delta_derived: bool
    """Whether nobody stated delta, so that it is records ** -1.1."""
    records: int
    """Of the training split."""
    families: int
    """How many they are when near copies are counted as one."""
    largest_family: int
    """Records in the largest family of near copies."""


@dataclass(frozen=True)
class Privacy(Mechanism):
    """What the weights are guaranteed to hide; `dataclasses.asdict` of it is JSON."""

    epsilon: float
    """An upper bound, by `accountant`."""
    accountant: str
    epsilon_rdp: float
    """The same by the coarser rdp accountant."""
    steps: int
    """Updates that lie behind the weights."""
    unit: str
    """What is protected: record-level."""
    caveats: tuple[str, ...]
    """What the guarantee leaves out, in sentences."""


def mechanism_of(
    plan: TrainingPlan, task: Task, splits: Splits, watcher: Watcher
) -> Mechanism | None:
    """Return the noise that the plan asks for; None where it asks for none.

    Raises:
        UnusableInput: no noise gives this epsilon, delta is not below 1 / records, or the plan
            asks for something that does not go together with it.
        Unfinished: opacus is not installed.
    """
    wanted = plan.differential_privacy
    if wanted is None:
        return None
    if importlib.util.find_spec("opacus") is None:
        raise Unfinished(
            "differential privacy needs opacus, not installed here",
            hint="pip install 'release-kit[dp]'",
        )
    _check_plan(plan, task)
    records = len(splits.train)
    delta = wanted.delta if wanted.delta is not None else records**-1.1
    if not 0 < delta < 1 / records:
        raise UnusableInput(
            f"{_WHERE}.delta: {delta:g} is not below 1 / {records}, the number of training"
            " records, so it would allow to publish one of them as it is",
            hint="Lower it in release.yaml, or remove it: then it is derived.",
        )
    if wanted.delta is None:
        watcher.say(f"delta is not stated, so it is {records} ** -1.1 = {delta:.2g}")
    rate = min(1.0, plan.batch_size / records)
    steps = plan.epochs * _steps(rate)
    noise = wanted.noise_multiplier
    if noise is None:
        noise = _noise(wanted.epsilon or 0.0, delta, rate, steps)
    sizes = Counter(families(example.text for example in splits.train))
    mechanism = Mechanism(
        noise_multiplier=noise,
        sample_rate=rate,
        clip_norm=wanted.clip_norm,
        delta=delta,
        delta_derived=wanted.delta is None,
        records=records,
        families=len(sizes),
        largest_family=max(sizes.values()),
    )
    # Told before hours of training, and refused where it would promise nothing.
    planned = _epsilon(mechanism, steps)
    watcher.say(
        f"differential privacy: {steps} updates with noise multiplier {noise:.4g} and sample rate"
        f" {rate:.3g} give epsilon {planned:.3g} at delta {delta:.2g}, for one record"
    )
    if len(sizes) < records:
        watcher.say(
            f"the {records} training records make {len(sizes)} families of near copies, the"
            f" largest of {mechanism.largest_family}: for these the guarantee is weaker by as much"
        )
    return mechanism


def _check_plan(plan: TrainingPlan, task: Task) -> None:
    if not task.apart(plan):
        raise UnusableInput(
            f"{_WHERE}: the task {plan.task} makes rows out of several records, or takes more"
            " from the data than its labels, so nothing bounds what one record does",
            hint="Remove differential_privacy from release.yaml, or choose another task.",
        )
    if processes.count() > 1:
        raise UnusableInput(
            f"{_WHERE}: {processes.count()} processes train, and this is for one",
            hint="Start it without torchrun or accelerate.",
        )
    for name, asked in (
        ("gradient_checkpointing", plan.gradient_checkpointing),
        ("compile", plan.compile),
    ):
        if asked:
            raise UnusableInput(
                f"training.{name}: does not go together with differential_privacy",
                hint="Remove it; training.accumulate makes do with less memory.",
            )


def _steps(rate: float) -> int:
    """Return the updates of an epoch: so many that each record is taken once on average."""
    return math.ceil(1 / rate - 1e-9)


@cache
def _accounted(name: str, noise: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import create_accountant

    accountant = create_accountant(name)
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        # That rdp could be tighter; prv is.
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta))


def _epsilon(mechanism: Mechanism, steps: int) -> float:
    noise, rate, delta = mechanism.noise_multiplier, mechanism.sample_rate, mechanism.delta
    coarse = _accounted(_COARSE, noise, rate, steps, delta)
    # Rdp is cheap and never far above prv, which takes the more memory the larger epsilon is.
    epsilon = coarse
    if coarse <= 2 * HIGHEST:
        epsilon = _accounted(_ACCOUNTANT, noise, rate, steps, delta)
    if epsilon > HIGHEST:
        raise UnusableInput(
            f"{_WHERE}: noise multiplier {noise:g} leaves an epsilon above {HIGHEST:g} after"
            f" {steps} updates, which promises nothing",
            hint="Raise noise_multiplier, or train for fewer epochs or with smaller batches.",
        )
    return epsilon


def _noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the least noise multiplier, within a hundredth of epsilon, that keeps to it."""
    from opacus.accountants.utils import get_noise_multiplier

    if not 0 < epsilon <= HIGHEST:
        raise UnusableInput(
            f"{_WHERE}.epsilon: {epsilon:g} is not above 0 and at most {HIGHEST:g}",
            hint="Write for example 8 in release.yaml; the smaller, the more is hidden.",
        )
    with suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(
            get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=_ACCOUNTANT,
                epsilon_tolerance=epsilon / 100,
            )
        )
    raise UnusableInput(
        f"{_WHERE}.epsilon: no noise is enough for {epsilon:g} in {steps} updates",
        hint="Raise epsilon, or train for fewer epochs.",
    )


def privacy_of(mechanism: Mechanism | None, steps: int) -> Privacy | None:
    """Return what holds after `steps` updates."""
    if mechanism is None:
        return None
    noise, rate, delta = mechanism.noise_multiplier, mechanism.sample_rate, mechanism.delta
    return Privacy(
        **vars(mechanism),
        epsilon=_epsilon(mechanism, steps),
        accountant=_ACCOUNTANT,
        epsilon_rdp=_accounted(_COARSE, noise, rate, steps, delta),
        steps=steps,
        unit="record-level",
        caveats=(
            "The guarantee is for one record. For k records of one person, or a record with k - 1"
            " near copies, epsilon is k times as large, and delta more than that:"
            f" {mechanism.records} training records make {mechanism.families} families of near"
            f" copies, the largest of {mechanism.largest_family}.",
            "Outside of it are the number of records, the names of the labels, the split, the"
            " tokenizer's vocabulary, class weights, the choice of the settings, the validation"
            " records where training stops early by them, and all losses and scores, which are"
            " exact.",
            "It covers what this training adds; what the base model holds of its own training"
            " data it does not.",
        ),
    )


def private_trainer(
    mechanism: Mechanism, loaded: Loaded, rows: Rows, loss: Callable[..., Any] | None,
    watcher: Watcher,
) -> Any:  # fmt: skip
    """Return a kind of transformers' Trainer whose updates are those of `mechanism`.

    A batch that Poisson sampling makes goes through the model in parts of the Trainer's batch
    size; one without a record is noise alone. The loss of an update is the sum over its records,
    divided by their expected number. `loss` takes the place of the model's own.

    Raises:
        UnusableInput: a record makes several rows, or a layer keeps statistics of the records.
    """
    if len(rows) != mechanism.records:
        raise UnusableInput(
            f"{_WHERE}: {mechanism.records} training records make {len(rows)} rows, and only"
            " what one row does is bounded",
            hint="Raise training.max_length, or cut the records, so that each is one row.",
        )
    _check_layers(loaded.model)

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import Trainer

    expected = mechanism.sample_rate * mechanism.records

    class Private(Trainer):  # type: ignore[misc]  # transformers is untyped here
        def __init__(self, *, args: Any, **kwargs: Any) -> None:
            # Of the Trainer's view an update is one batch, and its clipping would come too late.
            args.gradient_accumulation_steps, args.max_grad_norm = 1, 0.0
            # Vmap needs the half precision around it; the Trainer would put it inside.
            self.half, args.bf16, args.mixed_precision = args.bf16, False, "no"
            super().__init__(args=args, **kwargs)
            self.at_once = 1

        def get_train_dataloader(self) -> Any:
            # Dropout must not follow the published seed either.
            torch.seed()
            if self.can_do_several():
                self.at_once = self.args.train_batch_size
            else:
                watcher.say(
                    "the gradients of this model are computed one record after another, which"
                    " takes longer"
                )
            return torch.utils.data.DataLoader(
                self.train_dataset, batch_sampler=_Poisson(mechanism), collate_fn=list
            )

        def can_do_several(self) -> bool:
            order = sorted(range(len(rows)), key=lambda row: length_of(rows.rows[row]))
            pair = [rows[order[0]], rows[order[-1]]]
            was = self.model.training
            self.model.eval()
            try:
                # A model that reads padding ties the records of a batch together.
                alone = [self.gradients([row]) for row in pair]
                _attend_without_asking(self.model)
                together = self.gradients(pair)
            # Whatever vmap cannot do, the loop can.
            except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError):
                return False
            finally:
                self.model.train(was)
            return all(_agree(together[0], one[0], place) for place, one in enumerate(alone))

        def gradients(
            self, rows: Sequence[Mapping[str, Any]], *, half: bool = False
        ) -> tuple[dict[str, Any], Any]:
            """Return name → gradients of shape (rows, ...), and the losses of shape (rows,)."""
            batch = self._prepare_inputs(dict(self.data_collator(list(rows))))
            trained = _trained(self.model)
            with torch.autocast(self.args.device.type, torch.bfloat16, enabled=half):
                if len(rows) == 1:
                    return _alone(self.model, trained, batch, loss)
                with sdpa_kernel(SDPBackend.MATH):
                    return _together(self.model, trained, batch, loss)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            self.model.train()
            trained = _trained(self.model)
            total = {name: torch.zeros_like(tensor) for name, tensor in trained.items()}
            losses = torch.zeros((), device=self.args.device)
            for start in range(0, len(inputs), self.at_once):
                found, values = self.gradients(inputs[start : start + self.at_once], half=self.half)
                _add_clipped(total, found, mechanism.clip_norm)
                losses += values.sum()
            for name, tensor in trained.items():
                noise = _normal(tensor.numel()).reshape(tensor.shape)
                noise *= mechanism.noise_multiplier * mechanism.clip_norm
                noised = total[name].double() + torch.from_numpy(noise).to(tensor.device)
                tensor.grad = (noised / expected).to(tensor.dtype)
            return losses / expected

    return Private


def _check_layers(model: Any) -> None:
    for name, module in model.named_modules():
        if getattr(module, "track_running_stats", False):
            raise UnusableInput(
                f"{_WHERE}: the layer {name} ({type(module).__name__}) keeps statistics of the"
                " records that it sees, which no noise covers",
                hint="Choose a base model with LayerNorm or GroupNorm in its place.",
            )


def _trained(model: Any) -> dict[str, Any]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def _loss(
    call: Callable[..., Any], batch: Mapping[str, Any], loss: Callable[..., Any] | None
) -> Any:
    if loss is None:
        return call(**batch).loss.float()
    inputs = dict(batch)
    labels = inputs.pop("labels")
    return loss(call(**inputs), labels).float()


def _alone(
    model: Any, trained: Mapping[str, Any], batch: Mapping[str, Any],
    loss: Callable[..., Any] | None,
) -> tuple[dict[str, Any], Any]:  # fmt: skip
    import torch

    value = _loss(model, batch, loss)
    found = torch.autograd.grad(value, list(trained.values()), materialize_grads=True)
    gradients = {name: one.unsqueeze(0) for name, one in zip(trained, found, strict=True)}
    return gradients, value.detach().unsqueeze(0)


def _together(
    model: Any, trained: Mapping[str, Any], batch: Mapping[str, Any],
    loss: Callable[..., Any] | None,
) -> tuple[dict[str, Any], Any]:  # fmt: skip
    from torch.func import functional_call, grad_and_value, vmap

    def one(tensors: Any, row: Any) -> Any:
        def call(**inputs: Any) -> Any:
            return functional_call(model, tensors, (), inputs)

        return _loss(call, {name: value.unsqueeze(0) for name, value in row.items()}, loss)

    tensors = {name: tensor.detach() for name, tensor in trained.items()}
    each = vmap(grad_and_value(one), in_dims=(None, 0), randomness="different")
    gradients, values = each(tensors, dict(batch))
    return gradients, values


def _agree(together: Mapping[str, Any], alone: Mapping[str, Any], place: int) -> bool:
    """Tell whether a record's gradient is the same in company."""
    apart = math.fsum(float((together[n][place] - alone[n][0]).square().sum()) for n in alone)
    whole = math.fsum(float(alone[n].square().sum()) for n in alone)
    return apart <= _AGREE**2 * whole


def _add_clipped(total: dict[str, Any], found: Mapping[str, Any], clip_norm: float) -> None:
    """Add the gradients of shape (rows, ...), each scaled down to `clip_norm`, to `total`."""
    import torch

    squares = [one.float().flatten(1).square().sum(1) for one in found.values()]
    norms = torch.stack(squares).sum(0).sqrt()
    scale = (clip_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
    for name, one in found.items():
        total[name] += torch.einsum("i,i...->...", scale, one.float())


class _Poisson:
    """Batches of places for an epoch, by numbers of the operating system; some may be empty."""

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism

    def __len__(self) -> int:
        return _steps(self.mechanism.sample_rate)

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            taken = _uniform(self.mechanism.records) < self.mechanism.sample_rate
            yield np.flatnonzero(taken).tolist()


def _uniform(count: int) -> NDArray[np.float64]:
    """Return numbers between 0 and 1, both left out, that nobody can foretell or repeat."""
    bits = np.frombuffer(os.urandom(8 * count), np.uint64) >> np.uint64(12)
    return np.asarray((bits + 0.5) * 2.0**-52, np.float64)


def _normal(count: int) -> NDArray[np.float64]:
    """Return such numbers of the standard normal distribution."""
    from scipy.special import ndtri

    parts = [np.empty(0)]
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        parts.append(ndtri(_uniform(4 * size).reshape(4, size)).sum(axis=0) / 2)
    return np.concatenate(parts)


def _attend_without_asking(model: Any) -> None:
    """Let the model's attention build its mask without a look at the numbers, as vmap needs."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def whole(*args: Any, **kwargs: Any) -> Any:
        skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(*args, **{**kwargs, **skips})

    AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(_ATTENTION, whole)
    model.set_attn_implementation(_ATTENTION)
