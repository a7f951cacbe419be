"""Denoising: an autoencoder that restores a text out of which runs of tokens were taken.

An encoder reads the noised text x', token ids, int64 of shape (batch, tokens), and a decoder the
target y up to each place (AutoModelForSeq2SeqLM); together they give logits, float32 of shape
(batch, target tokens, vocabulary). The loss is that of the seed's pre-training autoencoder, the
text x given what is left of it, as a mean over the n target tokens of the batch:

    L = -(1 / n) * log p(x | x') = -(1 / n) * sum_{i=1}^{n} log p(y_i | y_{<i}, x')      in nats

which is log(vocabulary) for a blind guess. The labels, int64 of shape (batch, target tokens), are
y, with -100 for padding; the decoder reads y moved on by one place, behind its start token.

The noise is drawn anew in each epoch: the share `mask_share` of the tokens of a row, one at
least, is taken out in runs. What the tokenizer has says how:

- a mask token (BART; Lewis et al. 2020, section 2.2, text infilling): each run becomes one mask.
  The lengths of the runs are Poisson with mean `span_length`, so that a mask may stand for
  nothing, too. The target is the whole text: y = x.
- sentinels <extra_id_0>, <extra_id_1>, … (T5; Raffel et al. 2020, section 3.1.4): each run becomes
  the next sentinel, and none is empty. The target is the sentinels, each with its run, and one
  more at the end: what is left in x' is not written twice, and p(y | x') is p(x | x').

For validation and evaluation the noise is drawn once, from seed and row. An answer is exact where
greedy decoding restores the text, token by token. That is so if and only if, given the true target
up to each place, the most likely token is the true one: so one pass tells it.

A base that has weights is trained further; one that has none (config.json and tokenizer only), or
any with `start: scratch`, starts from random numbers. A text longer than max_length tokens
becomes several rows.
"""

from __future__ import annotations

import re
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

_SENTINEL = re.compile(r"<extra_id_(\d+)>")
_FEWEST = 2


@dataclass(frozen=True)
class Noise:
    """How runs of tokens are taken out."""

    share: float
    length: float
    """Mean tokens of a run."""
    marks: tuple[int, ...]
    """The ids of the sentinels, in order, or the mask token alone."""

    @property
    def sentinels(self) -> bool:
        """Whether each run has a mark of its own."""
        return len(self.marks) > 1

    def __call__(
        self, tokens: Sequence[int], random: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """Return the noised tokens, never more than `tokens`, and the target, both without ends."""
        wanted = max(1, round(self.share * len(tokens)))
        runs = self._runs(wanted, random)
        # A run is told by its length, a token that stays by -1; all orders are equally likely.
        order = random.permutation(np.array([*runs, *[-1] * (len(tokens) - wanted)]))
        noised: list[int] = []
        taken: list[int] = []
        marks = iter(self.marks) if self.sentinels else iter(self.marks * len(runs))
        place = 0
        for run in order.tolist():
            if run < 0:
                noised.append(tokens[place])
                place += 1
                continue
            mark = next(marks)
            noised.append(mark)
            taken += [mark, *tokens[place : place + run]]
            place += run
        return noised, [*taken, next(marks)] if self.sentinels else list(tokens)

    def _runs(self, wanted: int, random: np.random.Generator) -> list[int]:
        """Draw lengths that add up to `wanted`."""
        runs: list[int] = []
        # The last sentinel ends the target.
        most = len(self.marks) - 1 if self.sentinels else wanted
        while (left := wanted - sum(runs)) > 0:
            if len(runs) == most - 1:
                runs.append(left)
            else:
                runs.append(min(left, max(int(random.poisson(self.length)), self.sentinels)))
        return runs


def noise_of(loaded: Loaded, plan: TrainingPlan) -> Noise:
    """Return how the plan takes tokens out, as the tokenizer has it; sentinels go first."""
    tokenizer = loaded.processor
    sentinels = {
        int(found[1]): number
        for token, number in tokenizer.get_vocab().items()
        if (found := _SENTINEL.fullmatch(token))
    }
    marks = tuple(sentinels[number] for number in sorted(sentinels))
    if len(marks) < _FEWEST:
        marks = () if tokenizer.mask_token_id is None else (tokenizer.mask_token_id,)
    return Noise(plan.options["mask_share"], plan.options["span_length"], marks)


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`.

    Raises:
        UnusableInput: as `open_predictor` does, or the tokenizer has neither mask nor sentinels.
    """
    loaded = open_predictor("AutoModelForSeq2SeqLM", plan, folder, labels)
    if not noise_of(loaded, plan).marks:
        raise UnusableInput(
            f"{folder}: the tokenizer has neither a mask token nor sentinels, so nothing can be"
            " taken out of a text",
            hint="choose a base model that was made for denoising, such as BART or T5",
        )
    return loaded


def _pieces(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[list[Row], NDArray[np.intp]]:
    """Return the rows, and the place of each one's example."""
    batch, owners = cut(loaded, examples, plan)
    rows, kept = [], []
    unknown = loaded.processor.unk_token_id
    for row, (ids, special) in enumerate(
        zip(batch["input_ids"], batch["special_tokens_mask"], strict=True)
    ):
        own = [place for place, mask in enumerate(special) if not mask]
        if any(ids[place] != unknown for place in own):
            # The special tokens around the text stay where they are.
            rows.append({"input_ids": ids, "span": (own[0], own[-1] + 1)})
            kept.append(int(owners[row]))
    check_rows(examples, kept, NO_TOKENS)
    return rows, np.array(kept)


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return token ids, at most `max_length`, and which of them are the text.

    Raises:
        UnusableInput: with source and record number of every text of which no token is left.
    """
    return _pieces(loaded, examples, plan)[0]


def draw(loaded: Loaded, plan: TrainingPlan) -> Callable[[Row, np.random.Generator], Row]:
    """Return what takes tokens out of a row and makes its labels."""
    noise = noise_of(loaded, plan)

    def change(row: Row, random: np.random.Generator) -> Row:
        ids, (start, stop) = row["input_ids"], row["span"]
        noised, target = noise(ids[start:stop], random)
        read = [*ids[:start], *noised, *ids[stop:]]
        return {
            "input_ids": read,
            "attention_mask": [1] * len(read),
            "labels": [*ids[:start], *target, *ids[stop:]],
        }

    return change


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows to the longest of their batch, and makes what the decoder reads."""
    from transformers import DataCollatorForSeq2Seq

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorForSeq2Seq(
        loaded.processor, model=loaded.model, label_pad_token_id=IGNORED
    )
    return collator


def _whole(
    rows: NDArray[np.float64], owners: NDArray[np.intp], examples: int
) -> NDArray[np.float64]:
    """Return the counts of each example: those of its rows, whether it is exact, and 1.

    `rows`, of shape (rows, 3), holds what `counted` returns.
    """
    counts = np.zeros((examples, 5))
    np.add.at(counts[:, :3], owners, rows)
    counts[:, 3] = counts[:, 1] == counts[:, 2]
    counts[:, 4] = 1
    return counts


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count (-sum log p, target tokens, right ones, exact answers, examples) of each example."""
    pieces, owners = _pieces(loaded, examples, plan)
    rows = drawn(pieces, draw(loaded, plan), plan)
    found = np.empty((len(rows), 3))
    made = collate(loaded, plan)
    for chosen, outputs, inputs in in_batches(loaded, rows, made, plan, watcher, without=()):
        found[chosen] = counted(outputs.logits, inputs["labels"])
    counts = _whole(found, owners, len(examples))
    broken = np.flatnonzero(~np.isfinite(counts).all(axis=1))
    return each(counts, broken=tuple(broken.tolist()))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return perplexity and accuracy of the target tokens, and the share of exact answers."""
    losses, tokens, right, exact, examples = np.moveaxis(sums, -1, 0)
    return {
        "perplexity": perplexity(losses, tokens),
        "token_accuracy": right / tokens,
        "exact_match": exact / examples,
    }


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer as the base model does, or by how often each token stands in training targets.

    The latter where the base is not at hand, or has no weights.
    """
    if before := before_training(load, plan, base):
        return Baseline(
            "is the base model, before this training",
            "",
            measure(before, splits.test, plan, watcher),
        )
    noisy = draw(loaded, plan)
    pieces, owners = _pieces(loaded, splits.test, plan)
    labels = (row["labels"] for row in drawn(pieces, noisy, plan))
    seen = (row["labels"] for row in drawn(encode(loaded, splits.train, plan), noisy, plan))
    counts = unigram(seen, labels, len(loaded.processor))
    return Baseline(
        "knows only how often each token stands in the targets of the training split",
        "",
        each(_whole(counts, owners, len(splits.test))),
    )


TASK = Task(
    learns="each text, out of what noise has left of it",
    fields={"text": Field("the text", "text")},
    # transformers has no pipeline for it, and so the Hub has no word.
    pipeline_tag="",
    read=read_texts,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    draw=draw,
    options={"start": BASE, "mask_share": 0.3, "span_length": 3.0},
)
