"""The same figures on parts of the test split, and on texts with small mistakes in them.

A mean over all records hides who is served worse, and clean records hide what a slip of the
keyboard does. Both are counted like the figures of the whole test split, with the same bootstrap.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import Problem, UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training.figures import Figure, Measured, figures_of, total
from release_kit.training.splits import Example

if TYPE_CHECKING:
    from release_kit.datasets.records import Record
    from release_kit.training.figures import Figures
    from release_kit.training.tasks.task import Task

FEWEST = 10
"""Examples of a slice that stands for itself; those with fewer are one slice together."""
ONE_IN = 10
"""Of how many words, or gaps between words, one is changed on average."""
_SHORTEST_WORD = 4
_WORD = re.compile(r"[^\W\d_]+")
_GAP = re.compile(r"(?<=\S)[^\S\r\n]+(?=\S)")
# Of other scripts a mark is a letter or a vowel, and without it the word is another.
_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")


@dataclass(frozen=True)
class Slice:
    """The figures of one part of the test split."""

    field: str
    """The field of the records by whose values it is told apart."""
    value: str | None
    """Empty where the records say nothing; None for all values with few records, together."""
    examples: int
    figures: Mapping[str, Figure]
    """Those that are sums over examples and that these examples define."""


@dataclass(frozen=True)
class Robustness:
    """The figures on texts with one kind of small change."""

    change: str
    """The name of the change, a key of `CHANGES`."""
    what: str
    """What it does, in a few words."""
    changed: int
    """Test texts that it changes."""
    figures: Mapping[str, Figure]
    """With the figures on unchanged texts as the baseline, so that `gain` is the paired interval
    of the difference; empty where no text changed, since nothing was tried."""


def slices_of(
    task: Task,
    plan: TrainingPlan,
    records: Sequence[Record],
    test: Sequence[Example],
    *,
    measured: Measured,
    baseline: Measured,
) -> tuple[Slice, ...]:
    """Return the figures for each value of the plan's slices, the largest first.

    `measured` and `baseline` are of the examples in `test`, which were read from `records`.

    Raises:
        UnusableInput: redaction has not looked at a field, whose values would stand in the model
            card; no test record has it; or it holds neither text, a whole number, true, false
            nor nothing.
    """
    by_place = {(record.source, record.index): record for record in records}
    own = [by_place[example.source, example.record] for example in test]
    unread = {plan.fields.get(role) for role, part in task.fields.items() if part.kept}
    found = []
    for field in plan.slices:
        if field in unread:
            raise UnusableInput(
                f"training.slices: redaction leaves '{field}' alone, so its values cannot be shown",
                hint="Remove it; where there are classes, each has its own scores anyway.",
            )
        for value, places in _parts(field, own):
            ours = replace(measured, which=measured.which[places], other={})
            theirs = replace(baseline, which=baseline.which[places], other={})
            figures = _defined(task.figures, ours, theirs)
            scores = figures_of(ours, theirs, figures, plan.seed)
            found.append(Slice(field, value, len(places), scores))
    return tuple(found)


def _parts(field: str, records: Sequence[Record]) -> Iterator[tuple[str | None, list[int]]]:
    """Yield value → places of its records, the largest first and what is merged last."""
    if not any(field in record.fields for record in records):
        raise UnusableInput(
            f"training.slices: no test record has a field '{field}'",
            hint="Correct release.yaml, or remove it there.",
        )
    values = [_value(record.fields.get(field)) for record in records]
    problems = [
        Problem(
            record.source,
            record.index,
            1,
            f"the field '{field}' is neither text, a whole number, nor true or false",
        )
        for record, value in zip(records, values, strict=True)
        if value is None
    ]
    if problems:
        raise UnusableInput(
            f"training.slices: {len(problems)} test records cannot be put into a slice",
            problems=problems,
        )
    counts = Counter(str(value) for value in values)
    alone = {value for value, count in counts.items() if count >= FEWEST}
    for value in sorted(alone, key=lambda value: (-counts[value], value)):
        yield value, [place for place, one in enumerate(values) if one == value]
    if rest := [place for place, one in enumerate(values) if one not in alone]:
        yield None, rest


def _value(value: Any) -> str | None:
    """Return the value of a slice as text; None where it is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int) else None


def _defined(figures: Figures, *measured: Measured) -> Figures:
    """Return `figures` without those that are no number on one of the sets."""
    with np.errstate(divide="ignore", invalid="ignore"):
        every = [figures(total(one)) for one in measured]
    names = [name for name in every[0] if all(np.isfinite(one[name]) for one in every)]

    def defined(sums: Any) -> dict[str, Any]:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = figures(sums)
        return {name: found[name] for name in names}

    return defined


def robustness_of(
    task: Task,
    plan: TrainingPlan,
    test: Sequence[Example],
    measured: Measured,
    measure: Callable[[Sequence[Example]], Measured],
) -> tuple[Robustness, ...]:
    """Return the figures on the texts of `test` after each change that the plan names.

    `measured` is of the unchanged texts. What a change does to a text depends on the seed and the
    text alone. All changes are small: a reader would give the same answer.
    """
    found = []
    for change in plan.robustness:
        what, apply = CHANGES[change]
        examples = [
            replace(example, text=apply(example.text, _draw(plan.seed, change, example.text)))
            for example in test
        ]
        changed = sum(new.text != old.text for new, old in zip(examples, test, strict=True))
        scores: Mapping[str, Figure] = {}
        if changed:
            again = replace(measure(examples), other={})
            figures = _defined(task.figures, again, measured)
            scores = figures_of(again, measured, figures, plan.seed)
        found.append(Robustness(change, what, changed, scores))
    return tuple(found)


def _draw(seed: int, change: str, text: str) -> random.Random:
    digest = hashlib.sha256(f"{seed}\n{change}\n{text}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))  # noqa: S311  # no secret is drawn


def _typos(text: str, draw: random.Random) -> str:
    """Swap two neighbours within a word, as fast fingers do; never its first or last letter."""

    def slipped(word: re.Match[str]) -> str:
        letters = word[0]
        if len(letters) < _SHORTEST_WORD or draw.randrange(ONE_IN):
            return letters
        at = draw.randrange(1, len(letters) - 2)
        return letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]

    return _WORD.sub(slipped, text)


def _capitals(text: str, draw: random.Random) -> str:
    return text.upper()


def _spacing(text: str, draw: random.Random) -> str:
    def other(gap: re.Match[str]) -> str:
        return gap[0] if draw.randrange(ONE_IN) else draw.choice(("", gap[0] * 2))

    return _GAP.sub(other, text)


def _without_marks(text: str, draw: random.Random) -> str:
    kept, bare = [], False
    signs = unicodedata.normalize("NFD", text)
    for sign in signs:
        if not unicodedata.combining(sign):
            bare = unicodedata.name(sign, "").startswith(_SCRIPTS)
        elif bare:
            continue
        kept.append(sign)
    # Another Unicode form alone is no change.
    return text if len(kept) == len(signs) else unicodedata.normalize("NFC", "".join(kept))


CHANGES: Mapping[str, tuple[str, Callable[[str, random.Random], str]]] = {
    "typos": (f"two letters swapped in one of {ONE_IN} words", _typos),
    "case": ("all in capitals", _capitals),
    "spacing": (f"one of {ONE_IN} spaces lost or doubled", _spacing),
    "diacritics": ("accents left out", _without_marks),
}
"""Small changes by the words of `training.robustness`: what each does, and how."""
