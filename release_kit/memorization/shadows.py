"""Models trained like the one that is asked, on halves of the data: what a record does to its loss.

A shadow model learns a random half of all families of records, the training split's and the test
split's together, with the plan of the model and a seed of its own. They come in pairs whose
halves are each other's rest, so each family is among the training data of one model of a pair.
What a model that learned a record says of it, and what one says that did not, is then known for
each record apart: some are easy for every model, and loss alone takes them for members.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from release_kit.datasets.overlap import families
from release_kit.errors import UnusableInput
from release_kit.files import write_atomic
from release_kit.memorization.asking import losses
from release_kit.memorization.subject import Subject
from release_kit.progress import SILENT, Watcher
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.fit import fit_examples
from release_kit.training.models import Loaded
from release_kit.training.splits import Example
from release_kit.training.tasks.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 2
"""Models, so that each record has one that learned it and one that did not."""
_FILE = "shadows.npz"
_HALVES = 11
# How often the tokens that a task hides are drawn anew, so that few of them do not decide.
_DRAWS = {"masked-lm": 4, "masked-lm-next-sentence": 4, "denoising-seq2seq": 4}
_BETWEEN_DRAWS = 1_000_003
# From so many models on, the spread of each record's losses is estimated apart (Carlini et al.
# 2022, section VI-A).
_MANY = 64
# Float32 tells no smaller loss from none, and float64 no larger one from infinity.
_LEAST, _MOST = 1e-7, 700.0


@dataclass(frozen=True)
class Shadows:
    """What each shadow model says of each asked record."""

    losses: NDArray[np.float64]
    """Shape (models, records), in nats, in the order of `asked`."""
    learned: NDArray[np.bool_]
    """Whether the record was among the model's training data, shape (models, records)."""


def asked(subject: Subject, records: int) -> tuple[tuple[Example, bool], ...]:
    """Return at most so many members and as many controls, each with whether it is a member.

    They alternate as long as both last, so that each first part holds as many of both.
    """
    sides = [
        [(kin.example, member) for kin in side[:records]]
        for side, member in ((subject.members, True), (subject.controls, False))
    ]
    both = min(len(side) for side in sides)
    pairs = [one for pair in zip(*sides, strict=False) for one in pair]
    return (*pairs, *sides[0][both:], *sides[1][both:])


def drawn_plans(plan: TrainingPlan) -> tuple[TrainingPlan, ...]:
    """Return the plan once for each draw of what is hidden; only the first where nothing is."""
    return tuple(
        replace(plan, seed=plan.seed + number * _BETWEEN_DRAWS)
        for number in range(_DRAWS.get(plan.task, 1))
    )


def mean_losses(
    task: Task, loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> NDArray[np.float64]:
    """Return `losses`, as means over several draws of what is hidden, where something is."""
    drawn = [losses(task, loaded, examples, one) for one in drawn_plans(plan)]
    return np.asarray(np.mean(drawn, axis=0))


def train_shadows(
    subject: Subject, leaks: LeaksPlan, folder: Path, bound: str, watcher: Watcher = SILENT
) -> Shadows:
    """Train `leaks.shadows` models and return what each says of every asked record.

    Their weights are never written. Their losses are kept in `folder`, numbers only; a later call
    with the same `bound`, a digest of everything that they depend on, trains only those that are
    missing. Progress goes to `watcher` as "training shadow models".

    Raises:
        UnusableInput: there is no base model to start from, fewer than two models are asked for,
            or a half of the data cannot be trained on.
        Unfinished: a training diverged.
    """
    if leaks.shadows < FEWEST:
        raise UnusableInput(
            f"leaks.shadows: {leaks.shadows} shadow models tell nothing",
            hint=f"Ask for {FEWEST} or more in release.yaml, or for 0.",
        )
    if subject.base is None:
        raise UnusableInput(
            "shadow models start from the base model, and it is not at hand",
            hint="Write path at the base model in release.yaml, or set leaks.shadows to 0.",
        )
    examples = [example for example, _ in asked(subject, leaks.records)]
    everyone = (*subject.splits.train, *subject.splits.test)
    family = _families(subject)
    kept = _kept(folder / _FILE, bound, len(examples))[: leaks.shadows]
    learned = []
    for number in range(leaks.shadows):
        half = _half(max(family.values()) + 1, number, subject.plan.seed)
        learned.append([half[family[id(example)]] for example in examples])
        watcher.step("training shadow models", number, leaks.shadows)
        if number < len(kept):
            continue
        train = tuple(example for example in everyone if half[family[id(example)]])
        own = _trained(subject, subject.base, train, number, examples)
        kept = np.concatenate([kept, own[None]])
        _keep(folder / _FILE, bound, kept)
    watcher.step("training shadow models", leaks.shadows, leaks.shadows)
    return Shadows(kept, np.array(learned))


def _trained(
    subject: Subject, base: Path, train: tuple[Example, ...], number: int, asked: list[Example]
) -> NDArray[np.float64]:
    """Return the losses of `asked` of a model that learned `train`."""
    task, plan = subject.task, subject.plan
    present = {label for example in train for label in example.labels}
    if plan.balance_classes and present != set(subject.splits.labels):
        raise UnusableInput(
            "a half of the data lacks a label, so its classes cannot be balanced",
            hint="Give more records of each label, or set leaks.shadows to 0 in release.yaml.",
        )
    splits = replace(subject.splits, train=train)
    loaded = fit_examples(task, replace(plan, seed=plan.seed + 1 + number), base, splits)
    return mean_losses(task, loaded, asked, plan)


def _families(subject: Subject) -> dict[int, int]:
    """Return the number of the family of each example, from 0 on, by the example's identity."""
    sides = (subject.splits.train, subject.splits.test)
    names = [
        (side, family)
        for side, examples in enumerate(sides)
        for family in families(example.text for example in examples)
    ]
    number = {name: at for at, name in enumerate(dict.fromkeys(names))}
    everyone = (example for examples in sides for example in examples)
    return {id(example): number[name] for example, name in zip(everyone, names, strict=True)}


def _half(count: int, number: int, seed: int) -> NDArray[np.bool_]:
    """Return which of `count` families this model learns; it depends on no other model."""
    order = np.random.default_rng((seed, _HALVES, number // 2)).permutation(count)
    return np.asarray((order < count // 2) == (number % 2 == 0))


def _kept(file: Path, bound: str, records: int) -> NDArray[np.float64]:
    """Return the losses of earlier calls; none where they are damaged or of something else."""
    try:
        with np.load(file, allow_pickle=False) as data:
            if str(data["bound"]) == bound and data["losses"].shape[1:] == (records,):
                return np.asarray(data["losses"], np.float64)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    return np.zeros((0, records))


def _keep(file: Path, bound: str, losses: NDArray[np.float64]) -> None:
    stream = io.BytesIO()
    np.savez(stream, bound=np.array(bound), losses=losses)
    write_atomic(file, stream.getvalue())


def scores(
    task: Task, own: NDArray[np.float64], shadows: Shadows
) -> dict[str, NDArray[np.float64]]:
    """Return attack → its scores, shape (records,), for the losses `own` of the asked model.

    With phi = log(p / (1 - p)) of a classifier's p of the right class, or minus the loss
    elsewhere, LiRA (Carlini et al. 2022) takes phi of a record, over models, for normal:

        online   log N(phi; mean, spread of models that learned it) - log N(phi; of the others)
        offline  (phi - mean of the others) / spread of the others

    The spread is one for all records where there are fewer than 64 models. RMIA (Zarifzadeh et
    al. 2024) compares p(x) / mean of p(x) over models with the same of other records z; the
    share of z that it is above grows with it, so for any ROC it is itself the score. Here
    p = exp(-loss), and the mean gives models that learned x and others half of the weight each.

    A record of which no model that learned it, or no other, says anything has the score NaN.
    """
    from scipy.stats import norm

    count = own.shape[0]
    said, learned = shadows.losses[:, :count], shadows.learned[:, :count]
    phi, others = _signal(task, own), _signal(task, said)
    inside, outside = (_normal(others, mask) for mask in (learned, ~learned))
    with np.errstate(divide="ignore"):
        typical = np.log((_mean(np.exp(-said), learned) + _mean(np.exp(-said), ~learned)) / 2)
    return {
        "LiRA, online": norm.logpdf(phi, *inside) - norm.logpdf(phi, *outside),
        "LiRA, offline": (phi - outside[0]) / outside[1],
        "RMIA": -own - typical,
    }


def _signal(task: Task, losses: NDArray[np.float64]) -> NDArray[np.float64]:
    if not task.weighs_classes:
        return -losses
    # log(p / (1 - p)) where p = exp(-loss).
    return np.asarray(-np.log(np.expm1(losses.clip(_LEAST, _MOST))))


def _mean(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over the models of `mask`, for each record; NaN where there is none."""
    known = mask & np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def _normal(
    values: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each record over the models of `mask`."""
    mean = _mean(values, mask)
    known = mask & np.isfinite(values)
    squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
    free = (known.sum(axis=0) - 1).clip(min=0)
    if len(values) < _MANY:
        squares, free = (np.full_like(mean, total.sum()) for total in (squares, free))
    # With one model for each record there is no spread, and any number ranks alike.
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(squares / free)
    return mean, np.where(spread > 0, spread, 1.0)
