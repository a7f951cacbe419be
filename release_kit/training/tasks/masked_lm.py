"""Masked language modelling: the hidden tokens of a text, told from those around them.

A transformer encoder with a head over the vocabulary (AutoModelForMaskedLM) turns a batch of
token ids x, int64 of shape (batch, tokens), some of them hidden, into logits z, float32 of shape
(batch, tokens, vocabulary). With p(v | x) = exp(z_v) / sum_k exp(z_k) and the true tokens y_i of
the n hidden places of the whole batch, the loss is the seed's, as a mean:

    L(x, y) = -(1 / n) * sum_{i=1}^{n} log p(y_i | x)     in nats; log(vocabulary) for a blind guess

The labels, int64 of shape (batch, tokens), hold y_i at hidden places and -100 at all others.

Which places are hidden is drawn anew in each epoch (Devlin et al. 2019, section 3.1): of each
row the share `mask_share` of its tokens, one at least, special tokens left out; of those 80 %
become the mask token, 10 % a token drawn evenly from the vocabulary, and 10 % stay. With
`whole_words` the tokens of a word are hidden together, as many words as fit into that number.
For validation and evaluation the places are drawn once, from seed and row.

Continued pre-training is this task on a base that has weights. A base that has none (config.json
and tokenizer only), or any with `start: scratch`, is trained from random numbers. A text longer
than max_length tokens becomes several rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, Measured, each
from release_kit.training.models import Loaded, in_batches
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.tokens import (
    BASE,
    IGNORED,
    NO_TOKENS,
    before_training,
    check_rows,
    counted,
    cut,
    drawn,
    open_predictor,
    perplexity,
    read_texts,
    unigram,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MASKED, _RANDOM = 0.8, 0.1
NO_WORD = -1
"""The word number of a token that is never hidden."""

OPTIONS = {"start": BASE, "mask_share": 0.15, "whole_words": False}
"""Of masking, with their defaults."""


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden."""

    share: float
    mask: int
    """The id of the mask token."""
    ordinary: NDArray[np.int64]
    """The ids of all tokens that are not special, shape (vocabulary - special tokens,)."""

    def __call__(
        self, ids: NDArray[np.int64], words: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """Return what the model reads, and the labels.

        `ids` and `words` have shape (tokens,); tokens of the same word number are hidden
        together, and those of number -1 never.
        """
        known = words[words != NO_WORD]
        units, sizes = np.unique(known, return_counts=True)
        order = random.permutation(len(units))
        wanted = max(1, round(self.share * len(known)))
        fit = int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="right"))
        hidden = np.isin(words, units[order[: max(1, fit)]])
        chance = random.random(len(ids))
        others = self.ordinary[random.integers(len(self.ordinary), size=len(ids))]
        read = np.where(hidden & (chance < _MASKED), self.mask, ids)
        read = np.where(hidden & (chance >= 1 - _RANDOM), others, read)
        return read.tolist(), np.where(hidden, ids, IGNORED).tolist()


def masking_of(loaded: Loaded, plan: TrainingPlan) -> Masking:
    """Return how the plan hides tokens of this tokenizer."""
    tokenizer = loaded.processor
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    return Masking(plan.options["mask_share"], tokenizer.mask_token_id, ordinary)


def words_of(
    loaded: Loaded, plan: TrainingPlan, ids: Sequence[int], words: Sequence[int | None] | None
) -> list[int]:
    """Return the number of the word of each token, one for each token without `whole_words`.

    It is -1 for special tokens; `words` is what the tokenizer says.
    """
    special = set(loaded.processor.all_special_ids)
    numbers = words if words is not None and plan.options["whole_words"] else range(len(ids))
    return [
        NO_WORD if one in special or number is None else number
        for one, number in zip(ids, numbers, strict=True)
    ]


def check_masks(loaded: Loaded, plan: TrainingPlan, folder: Path) -> Loaded:
    """Return `loaded`, whose tokenizer can hide tokens as the plan says.

    Raises:
        UnusableInput: it cannot.
    """
    if loaded.processor.mask_token_id is None:
        raise UnusableInput(
            f"{folder}: the tokenizer has no mask token, so nothing can be hidden",
            hint="choose a base model made for masked language modelling",
        )
    if plan.options["whole_words"] and not loaded.processor.is_fast:
        raise UnusableInput(
            f"{folder}: the tokenizer does not tell which tokens make a word",
            hint="remove training.options.whole_words from release.yaml",
        )
    return loaded


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`; a base gets a head over the vocabulary where it lacks one.

    Raises:
        UnusableInput: as `open_predictor` does, or the tokenizer cannot hide tokens.
    """
    return check_masks(open_predictor("AutoModelForMaskedLM", plan, folder, labels), plan, folder)


def _pieces(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[list[Row], NDArray[np.intp]]:
    """Return the rows, and the place of each one's example."""
    batch, owners = cut(loaded, examples, plan)
    names = [name for name in batch if name != "special_tokens_mask"]
    rows, kept = [], []
    for row, ids in enumerate(batch["input_ids"]):
        told = batch.word_ids(row) if plan.options["whole_words"] else None
        words = words_of(loaded, plan, ids, told)
        # Nothing is learned of a piece without a token that the tokenizer knows.
        if any(word != NO_WORD for word in words):
            rows.append({name: batch[name][row] for name in names} | {"words": words})
            kept.append(int(owners[row]))
    check_rows(examples, kept, NO_TOKENS)
    return rows, np.array(kept)


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return token ids, at most `max_length`, with the number of the word of each.

    Raises:
        UnusableInput: with source and record number of every text of which no token is left.
    """
    return _pieces(loaded, examples, plan)[0]


def draw(loaded: Loaded, plan: TrainingPlan) -> Callable[[Row, np.random.Generator], Row]:
    """Return what hides tokens of a row and makes its labels."""
    masked = masking_of(loaded, plan)

    def change(row: Row, random: np.random.Generator) -> Row:
        ids, words = np.array(row["input_ids"]), np.array(row["words"])
        read, labels = masked(ids, words, random)
        kept = {name: value for name, value in row.items() if name != "words"}
        return {**kept, "input_ids": read, "labels": labels}

    return change


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows to the longest of their batch, and labels with -100."""
    from transformers import DataCollatorForTokenClassification

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorForTokenClassification(
        loaded.processor, label_pad_token_id=IGNORED
    )
    return collator


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count (-sum log p, hidden tokens, right answers) of each example."""
    pieces, owners = _pieces(loaded, examples, plan)
    rows = drawn(pieces, draw(loaded, plan), plan)
    counts = np.zeros((len(examples), 3))
    made = collate(loaded, plan)
    for chosen, outputs, inputs in in_batches(loaded, rows, made, plan, watcher, without=()):
        np.add.at(counts, owners[chosen], counted(outputs.logits, inputs["labels"]))
    broken = np.flatnonzero(~np.isfinite(counts).all(axis=1))
    return each(counts, broken=tuple(broken.tolist()))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return perplexity and accuracy over the hidden tokens, for sums of shape (…, 3)."""
    losses, tokens, right = np.moveaxis(sums, -1, 0)
    return {"perplexity": perplexity(losses, tokens), "masked_accuracy": right / tokens}


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer as the base model does, or by how often each token stands in the training split.

    The latter where the base is not at hand, has no weights, or lacks a part of the head.
    """
    if before := before_training(load, plan, base):
        return Baseline(
            "is the base model, before this training",
            "",
            measure(before, splits.test, plan, watcher),
        )
    pieces, owners = _pieces(loaded, splits.test, plan)
    rows = drawn(pieces, draw(loaded, plan), plan)
    seen = (
        np.array(row["input_ids"])[np.array(row["words"]) != NO_WORD]
        for row in encode(loaded, splits.train, plan)
    )
    counts = np.zeros((len(splits.test), 3))
    labels = (row["labels"] for row in rows)
    np.add.at(counts, owners, unigram(seen, labels, len(loaded.processor)))
    return Baseline(
        "knows only how often each token stands in the training split", "", each(counts)
    )


TASK = Task(
    learns="the hidden tokens of each text",
    fields={"text": Field("the text", "text")},
    pipeline_tag="fill-mask",
    apart=lambda plan: True,
    read=read_texts,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    draw=draw,
    options=OPTIONS,
)
