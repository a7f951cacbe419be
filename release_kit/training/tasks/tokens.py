"""What tasks that predict tokens share: where they start, how texts are cut, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import Problem, UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training.models import Loaded, holds_weights, open_model
from release_kit.training.rows import Rows
from release_kit.training.splits import Example
from release_kit.training.tasks.reading import read_each, text_of
from release_kit.training.tasks.task import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

IGNORED = -100
"""The label of a token that is not to be predicted; torch's cross entropy leaves it out."""
BASE, SCRATCH = "base", "scratch"
"""What `training.options.start` may be."""
NO_TOKENS = "holds no token that the tokenizer knows"
"""What a record lacks of which nothing can be predicted."""
_FULL = "full"


def read_texts(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example without a label for each record, in the records' order.

    Raises:
        UnusableInput: with source and record number of every record that has no usable text, or
            when there are no records. No message quotes a text.
    """

    def read(record: Record) -> tuple[Example, tuple[str]]:
        text, wrong = text_of(record.fields, plan.fields["text"])
        return Example(text, (), record.source, record.index), (wrong,)

    return read_each(records, read)


def open_predictor(
    kind: str, plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None, **how: Any
) -> Loaded:
    """Load the model in `folder`; a base without any weights starts from random numbers.

    So does every base where the plan's option `start` is "scratch". `how` goes to `open_model`.

    Raises:
        UnusableInput: as `open_model` does, or an adapter is to be trained on random numbers.
    """
    scratch = labels is not None and starts_from_scratch(plan, folder)
    if scratch and plan.method.kind != _FULL:
        raise UnusableInput(
            f"training.method: there are no weights that {plan.method.kind} could adapt",
            hint="Remove method from release.yaml, or start from a base model with weights.",
        )
    loaded = open_model(kind, folder, labels=labels, scratch=scratch, **how)
    # config.json has labels even where the task has none.
    return replace(loaded, labels=())


def starts_from_scratch(plan: TrainingPlan, folder: Path) -> bool:
    """Tell whether training with the base in `folder` starts from random numbers."""
    return plan.options["start"] == SCRATCH or not holds_weights(folder)


def before_training(
    load: Callable[[TrainingPlan, Path, tuple[str, ...]], Loaded],
    plan: TrainingPlan,
    base: Path | None,
) -> Loaded | None:
    """Return the base model where it could answer before it was trained here, else None."""
    if base is None:
        return None
    loaded = load(plan, base, ())
    return None if loaded.new_tensors else loaded


def cut(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[Any, NDArray[np.intp]]:
    """Return the texts as tokens, in pieces of at most `max_length`, and each piece's example.

    Only tokenizers of the tokenizers library can cut a text into pieces; of any other, the piece
    is the beginning of the text.
    """
    batch = loaded.processor(
        [example.text for example in examples],
        truncation=True,
        max_length=plan.max_length,
        return_overflowing_tokens=loaded.processor.is_fast,
        return_special_tokens_mask=True,
    )
    return batch, np.array(batch.pop("overflow_to_sample_mapping", range(len(examples))))


def check_rows(examples: Sequence[Example], owners: Iterable[int], lacking: str) -> None:
    """Check that every example, told by its place, is among the `owners` of the rows.

    Raises:
        UnusableInput: with source and record number of every one that is not, and what it lacks.
    """
    problems = [
        Problem(examples[place].source, examples[place].record, 1, lacking)
        for place in sorted(set(range(len(examples))) - set(owners))
    ]
    if problems:
        raise UnusableInput(
            f"{len(problems)} of {len(examples)} records of a split hold nothing to predict",
            problems=problems,
        )


def drawn(
    rows: Sequence[Row], draw: Callable[[Row, np.random.Generator], Row], plan: TrainingPlan
) -> list[Row]:
    """Return rows with random changes that are the same whenever they are measured."""
    fixed = Rows(rows, draw, plan.seed, fixed=True)
    return [fixed[row] for row in range(len(fixed))]


def counted(logits: Any, labels: Any) -> NDArray[np.float64]:
    """Return (-sum log p, tokens, right answers) of each row, float64 of shape (batch, 3).

    `logits` is a tensor of shape (batch, tokens, vocabulary), `labels` one of shape (batch,
    tokens); log p is in nats and of the label, and an answer is the most likely token.
    """
    import torch

    rows, places = torch.nonzero(labels != IGNORED, as_tuple=True)
    chosen, wanted = logits[rows, places].float(), labels[rows, places]
    losses = torch.nn.functional.cross_entropy(chosen, wanted, reduction="none")
    columns = (losses, torch.ones_like(losses), chosen.argmax(dim=-1) == wanted)
    number = rows.cpu().numpy()
    return np.stack(
        [
            np.bincount(number, column.double().cpu().numpy(), minlength=len(labels))
            for column in columns
        ],
        axis=-1,
    )


def unigram(
    seen: Iterable[Sequence[int]], labels: Iterable[Sequence[int]], vocabulary: int
) -> NDArray[np.float64]:
    """Return what `counted` would for one who knows only how often each token is seen.

    Every token of the vocabulary counts once more than it is seen, so that none is impossible
    (Laplace 1814). `labels` holds one row each.
    """
    times = np.ones(vocabulary)
    for tokens in seen:
        known = np.asarray(tokens)
        times += np.bincount(known[known != IGNORED], minlength=vocabulary)
    costs, most = np.log(times.sum()) - np.log(times), times.argmax()
    found = []
    for row in labels:
        wanted = np.asarray(row)
        wanted = wanted[wanted != IGNORED]
        found.append((costs[wanted].sum(), len(wanted), (wanted == most).sum()))
    return np.array(found, np.float64)


def perplexity(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(-sum log p / tokens): among how many equally likely tokens the model wavers."""
    return np.asarray(np.exp(losses / tokens))
