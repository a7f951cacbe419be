"""Canaries: random secrets in plain sentences, put among training records to see what is kept.

A secret is a few digits that nothing else tells, so whoever can tell them from the weights has
them from the training (Carlini et al. 2019, The Secret Sharer). Each stands in a sentence of its
own of `policies/canaries.yaml`, as often as its group says; those of one group never stand
anywhere, and show what chance gives.

The digits are written apart, as in "4 8 1 5": of digits in a run a tokenizer makes pieces that
depend on all of them, and only digit by digit can all secrets be ranked without trying each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.files import POLICIES
from release_kit.leak_measures import MEASURES_OF
from release_kit.release import TrainingPlan
from release_kit.strict_yaml import read_yaml
from release_kit.training.splits import Example
from release_kit.training.tasks import settled
from release_kit.training.tasks.instructions import COMPLETION, MESSAGES, PROMPT, TEXT

SOURCE = "canary"
"""What stands as the file of a planted record."""
_LABEL = "label"
_SECRET = "{secret}"  # noqa: S105 - where a secret stands, and none
_STREAM = 6_001


@dataclass(frozen=True)
class Canary:
    """A secret and the sentence that it stands in."""

    secret: str = field(repr=False)
    """Its digits, in a run."""
    question: str
    """What a prompt asks, where the records have prompts."""
    answer: str
    """The sentence; `says` puts a secret into it."""
    repeats: int
    """How often it stands in the training data; 0 for never."""
    chance: float = field(repr=False)
    """Evenly drawn from [0, 1): it decides the label, where records have one."""

    def says(self, secret: str) -> str:
        """Return the sentence with `secret`, digits in a run, in the place of its own."""
        return self.answer.replace(_SECRET, " ".join(secret))


def drawn(plan: TrainingPlan) -> tuple[Canary, ...]:
    """Return the canaries of the plan, none where it asks for none; the plan alone decides them.

    Each round of one of every group, that of the never planted among them, stands together and
    in random order, so that the first of them are of all groups alike. Sentences differ as long
    as there are enough, but for a classifier.

    Raises:
        UnusableInput: as `settled` does, or policies/canaries.yaml cannot be used.
    """
    asked = plan.canaries
    if asked is None:
        return ()
    random = np.random.default_rng((plan.seed, _STREAM))
    sentences = _sentences()
    order = random.permutation(len(sentences))
    if _LABEL in settled(plan)[0].fields:
        # A label could be learned from the sentence; in one and the same only the digits tell it.
        order = order[:1]
    groups = np.array([0, *asked.repeats])
    found: list[Canary] = []
    for _ in range(asked.each):
        for repeats in random.permutation(groups).tolist():
            digits = random.integers(10, size=asked.digits)
            question, answer = sentences[order[len(found) % len(order)]]
            secret = "".join(map(str, digits))
            found.append(Canary(secret, question, answer, repeats, float(random.random())))
    return tuple(found)


@cache
def _sentences() -> tuple[tuple[str, str], ...]:
    """Return each question with its answer, the words for the things filled in."""
    path = POLICIES / "canaries.yaml"
    document = read_yaml(path, "canaries", shown_as=f"policies/{path.name}")
    return tuple(
        (
            template["question"].format(first=first, second=second),
            template["answer"].format(first=first, second=second, secret=_SECRET),
        )
        for part in document.data["canaries"]
        for template in part["templates"]
        for first, second in product(part["first"], part["second"])
    )


def planted(plan: TrainingPlan, records: Sequence[Record]) -> list[Record]:
    """Return the records to be learned besides `records`, in the form of these; often none.

    Raises:
        UnusableInput: the records cannot be read, or the task has none that could bear a canary.
    """
    canaries = drawn(plan)
    if not canaries:
        return []
    task, plan = settled(plan)
    if "canary_exposure" not in MEASURES_OF[plan.task]:
        able = [name for name, measures in MEASURES_OF.items() if "canary_exposure" in measures]
        raise UnusableInput(
            f"training.canaries: no record of the task {plan.task} can bear a canary",
            hint=f"Remove canaries from release.yaml; they are for {', '.join(able)}.",
        )
    write = writer(plan, task.read(plan, records))
    copies = [write(canary, canary.secret) for canary in canaries for _ in range(canary.repeats)]
    return [Record(fields, SOURCE, number) for number, fields in enumerate(copies, 1)]


def writer(
    plan: TrainingPlan, examples: Sequence[Example]
) -> Callable[[Canary, str], dict[str, Any]]:
    """Return what writes a canary with a secret as the fields of a record like `examples`.

    `plan` is settled. Where the examples are of several forms it is a text rather than a prompt
    with its completion, and that rather than a conversation.
    """
    labels = sorted({label for example in examples for label in example.labels})
    form = _form(examples)
    name = {role: plan.fields.get(role, role) for role in (TEXT, PROMPT, COMPLETION, MESSAGES)}

    def write(canary: Canary, secret: str) -> dict[str, Any]:
        said = canary.says(secret)
        if form == MESSAGES:
            turns = (("user", canary.question), ("assistant", said))
            return {name[MESSAGES]: [{"role": role, "content": text} for role, text in turns]}
        if form == PROMPT:
            return {name[PROMPT]: canary.question, name[COMPLETION]: f" {said}"}
        fields = {name[TEXT]: said}
        if labels:
            fields[plan.fields[_LABEL]] = labels[int(canary.chance * len(labels))]
        return fields

    return write


def _form(examples: Sequence[Example]) -> str:
    """Return text, prompt or messages."""
    # Only what is learned as a lesson has parts; all else is a text.
    lessons = [example.content for example in examples if example.content is not None]
    firsts = {MESSAGES if lesson.chat else lesson.parts[0][0] for lesson in lessons}
    return next((form for form in (TEXT, PROMPT, MESSAGES) if form in firsts), TEXT)
