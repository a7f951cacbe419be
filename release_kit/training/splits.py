"""Which records train, which validate and which are held out, decided by their text alone.

A text goes where the SHA-256 of (seed, text) puts it, so the split needs no file of its own, a
new record moves no old one, and the same text never stands on both sides.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training.tasks.task import Example


@dataclass(frozen=True)
class SplitSizes:
    """Examples in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Splits:
    """The examples of each split, in the records' order."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    """Every label of the examples, sorted as text."""

    @property
    def sizes(self) -> SplitSizes:
        """How many examples each split holds."""
        return SplitSizes(len(self.train), len(self.validation), len(self.test))


def split(examples: Sequence[Example], plan: TrainingPlan) -> Splits:
    """Split `examples` by the plan's seed and shares.

    Texts that differ only in spacing, case or Unicode form count as the same. The shares are
    met on average, not exactly, and the classes are not balanced between the splits.

    Raises:
        UnusableInput: the shares leave nothing to train on, a split is empty, or a class does
            not occur in the training split.
    """
    held_out = plan.test_share + plan.validation_share
    if held_out >= 1:
        raise UnusableInput(
            f"test_share {plan.test_share:g} and validation_share {plan.validation_share:g}"
            " leave nothing to train on",
            hint="together they must be less than 1",
        )
    train: list[Example] = []
    validation: list[Example] = []
    test: list[Example] = []
    for example in examples:
        place = _place(example.text, plan.seed)
        if place < plan.test_share:
            test.append(example)
        elif place < held_out:
            validation.append(example)
        else:
            train.append(example)

    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not part:
            raise UnusableInput(
                f"the {name} split of {len(examples)} records is empty",
                hint="give more records, or a larger share or another seed in release.yaml",
            )
    labels = tuple(sorted({example.label for example in examples}))
    if untrained := sorted(set(labels) - {example.label for example in train}):
        raise UnusableInput(
            "no record of the training split has the label "
            + ", ".join(f"'{label}'" for label in untrained),
            hint="give more records of it, or another seed in release.yaml",
        )
    return Splits(tuple(train), tuple(validation), tuple(test), labels)


def _place(text: str, seed: int) -> float:
    """Return where in [0, 1) the text lies; all places are equally likely."""
    same = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = hashlib.sha256(f"{seed}\n{same}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
