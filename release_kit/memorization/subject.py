"""The weights that are asked, and the records that they have and that they have not seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from release_kit.datasets.overlap import families
from release_kit.release import TrainingPlan
from release_kit.training.methods import open_trained
from release_kit.training.models import Loaded
from release_kit.training.splits import Example, Splits, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.task import Task

if TYPE_CHECKING:
    from release_kit.datasets.records import Record


@dataclass(frozen=True)
class Kin:
    """A family of near copies, for which one record stands."""

    example: Example = field(repr=False)
    """The one whose digest is the smallest."""
    copies: int
    """Records of the family; all of them are on one side."""


@dataclass(frozen=True)
class Subject:
    """Weights, and what is known of their training."""

    task: Task
    plan: TrainingPlan
    """With the fields and options of the task filled in."""
    model: Path
    """The folder of the weights that are published."""
    base: Path | None
    """The folder that training started from; None where it is not at hand."""
    loaded: Loaded
    splits: Splits
    """As in the training, without canaries and with what was left out as a copy."""

    @cached_property
    def members(self) -> tuple[Kin, ...]:
        """The families of the training split, in random order."""
        return _kin(self.splits.train, self.plan.seed)

    @cached_property
    def controls(self) -> tuple[Kin, ...]:
        """Those of the test split.

        The split puts each family where a digest says, so members and controls are of the same
        distribution by construction. The validation split is neither: training may stop by it.
        """
        return _kin(self.splits.test, self.plan.seed)

    @cached_property
    def reference(self) -> Loaded | None:
        """The base model, where it could answer before it was trained here, else None."""
        if self.base is None:
            return None
        loaded = self.task.load(self.plan, self.base, self.task.names(self.plan, self.splits))
        return None if loaded.new_tensors else loaded


def open_subject(
    plan: TrainingPlan, model: Path, records: Sequence[Record], base: Path | None
) -> Subject:
    """Open the model in folder `model`, which was trained by `plan` on `records`.

    Raises:
        UnusableInput: a record, the split or a model cannot be used.
    """
    task, plan = settled(plan)
    splits = split(task.read(plan, records), plan)
    return Subject(task, plan, model, base, open_trained(task, plan, model, base), splits)


def _kin(examples: Sequence[Example], seed: int) -> tuple[Kin, ...]:
    """Return one of each family, in an order that their texts and the seed alone decide."""
    family = families(example.text for example in examples)
    sizes = Counter(family)
    first: dict[int, tuple[bytes, Example]] = {}
    for one, example in zip(family, examples, strict=True):
        digest = hashlib.sha256(f"leaks\n{seed}\n{example.text}".encode()).digest()
        if one not in first or digest < first[one][0]:
            first[one] = (digest, example)
    chosen = sorted(first.items(), key=lambda item: item[1][0])
    return tuple(Kin(example, sizes[one]) for one, (_, example) in chosen)
