"""Which records train, which validate and which are held out, decided by their texts alone.

Near copies are one family (`release_kit.datasets.overlap.families`, the measure by which leakage
is told) and never stand on two sides. A family goes where the SHA-256 of (seed, its smallest
text) puts it, so the split needs no file of its own and the order of records changes nothing.
A new record that is no near copy moves no old one. One that joins two families takes the records
of one along; one that joins a single family moves it only where it becomes its smallest text.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from release_kit.datasets.overlap import families
from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan


@dataclass(frozen=True)
class Example:
    """One usable record: what the model reads and what it should answer."""

    text: str = field(repr=False)
    """What it says, by which near copies are told. Not in the repr: it may be personal data."""
    labels: tuple[str, ...]
    """The classes that it has: one, several, or none where the task knows no classes."""
    source: str
    """The dataset file it was read from."""
    record: int
    """1-based number of its record in that file."""
    content: Any = field(default=None, repr=False)
    """What else the task's own functions need."""


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
    """Split `examples` by the plan's seed and shares, and leave copies out of the training split.

    Texts that differ only in spacing, case, marks or Unicode form count as the same. Of copies
    with the same labels the first stays; what is held out stays whole, as the world is. The shares
    are met on average, not exactly, and the less so the larger the families of near copies are;
    the classes are not balanced between the splits.

    Raises:
        UnusableInput: the shares leave nothing to train on, a split is empty, or a class does
            not occur in the training split; with the size of the largest family.
    """
    held_out = plan.test_share + plan.validation_share
    if held_out >= 1:
        raise UnusableInput(
            f"test_share {plan.test_share:g} and validation_share {plan.validation_share:g}"
            " leave nothing to train on",
            hint="together they must be less than 1",
        )
    family = families(example.text for example in examples)
    smallest: dict[int, str] = {}
    for one, example in zip(family, examples, strict=True):
        text = _same(example.text)
        smallest[one] = min(smallest.get(one, text), text)
    places = {one: _place(text, plan.seed) for one, text in smallest.items()}
    train: list[Example] = []
    validation: list[Example] = []
    test: list[Example] = []
    kin: list[int] = []
    for one, example in zip(family, examples, strict=True):
        if places[one] < plan.test_share:
            test.append(example)
        elif places[one] < held_out:
            validation.append(example)
        else:
            train.append(example)
            kin.append(one)
    train = _without_copies(train, kin, plan.deduplicate)

    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not part:
            raise UnusableInput(
                f"the {name} split of {len(examples)} records is empty",
                hint="give more records, or a larger share or another seed in release.yaml"
                + _largest(family, examples),
            )
    labels = _labels(examples)
    if untrained := sorted(set(labels) - set(_labels(train))):
        raise UnusableInput(
            "no record of the training split has the label "
            + ", ".join(f"'{label}'" for label in untrained),
            hint="give more records of it, or another seed in release.yaml"
            + _largest(family, examples),
        )
    return Splits(tuple(train), tuple(validation), tuple(test), labels)


def _without_copies(examples: list[Example], family: list[int], kind: str) -> list[Example]:
    """Return the first of each text, or of each family, for each set of labels."""
    if kind == "none":
        return examples
    first: dict[tuple[Any, tuple[str, ...]], Example] = {}
    for one, example in zip(family, examples, strict=True):
        same = one if kind == "near" else _same(example.text)
        first.setdefault((same, example.labels), example)
    return list(first.values())


def _labels(examples: Sequence[Example]) -> tuple[str, ...]:
    return tuple(sorted({label for example in examples for label in example.labels}))


def _largest(family: Sequence[int], examples: Sequence[Example]) -> str:
    """Return what to say of the largest family of near copies; nothing where there is none."""
    ((largest, count),) = Counter(family).most_common(1) or [(0, 1)]
    if count == 1:
        return ""
    # The one that most often binds texts that are not near each other.
    shortest = min(
        (example for one, example in zip(family, examples, strict=True) if one == largest),
        key=lambda example: len(example.text),
    )
    return (
        f"; {count} of the records are near copies of one another and stay on one side: take"
        f" copies out, or what binds them, such as the shortest, record {shortest.record} of"
        f" {shortest.source}"
    )


def _same(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _place(text: str, seed: int) -> float:
    """Return where in [0, 1) the text lies; all places are equally likely."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
