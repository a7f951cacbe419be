"""Sequential recommendation: the next item of a user's history.

A causal transformer over item ids (AutoModelForCausalLM), as in SASRec (Kang and McAuley 2018,
https://arxiv.org/abs/1808.09781): the autoregressive objective of language models, with items in
the place of words. Its bidirectional sister (BERT4Rec, over masked items) would need random masks
and a mask at the end of each history; this needs neither. A batch of histories x, int64 of shape
(batch, items), becomes logits z, float32 of shape (batch, items, vocabulary). With
p(y_i | y_<i) = exp(z_(i-1), y_i) / sum_k exp(z_(i-1), k), the loss is the cross entropy of every
item but the first of a history, averaged over those of the batch:

    L = -(1 / targets) * sum_histories sum_i log p(y_i | y_1, ..., y_(i-1))
                                                 in nats; log(vocabulary) for a blind guess

The vocabulary is the items of the training histories, written as a tokenizer of whole items, one
a line; an item that is not among them reads as [UNK] and is never a target of the loss. Of each
history its last `max_length` items are read. Users are split, not items: of a held-out user the
last item is what must be found, and those before it are the history. It is ranked against every
item of the vocabulary; ranks among a sample of them may order models the wrong way round (Krichene
and Rendle 2020, https://doi.org/10.1145/3394486.3403226).

Items are data like any other: what redaction takes out of the records is not in the vocabulary,
and its placeholder is one item there. The operator `hash` keeps such items apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, Measured, each, total
from release_kit.training.models import Loaded, in_batches, longest_text
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import read_each, text_of
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.tokens import BASE, IGNORED, open_predictor, starts_from_scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

_MODEL = "AutoModelForCausalLM"
# Items are one a line, so that those with spaces stay whole.
_BETWEEN = "\n"
_SPECIAL = ("[PAD]", "[UNK]")
_FEWEST_ITEMS = 2
_DEPTHS = (1, 5, 10)
_NDCG_DEPTH = 10
_UNSEEN = -1
_SEEN, _NLL, _USERS = 0, 1, -1
_COLUMNS = 5 + len(_DEPTHS)
"""Of the counts; `_gains` says what stands in them."""


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, a user's history, in the records' order.

    Raises:
        UnusableInput: with source and record number of every record whose history cannot be
            used, or when there are no records or only one item in all of them. No message quotes
            an item or a user.
    """
    users: dict[str, Record] = {}

    def read(record: Record) -> tuple[Example, tuple[str, ...]]:
        items, wrong_items = _items_of(record.fields, plan.fields["items"])
        wrong_times = _wrong_times(record.fields, plan.fields.get("times"), len(items))
        wrong_user = _wrong_user(record, plan.fields.get("user"), users)
        return (
            Example(_told_by(items), (), record.source, record.index, items),
            (wrong_items, "" if wrong_items else wrong_times, wrong_user),
        )

    examples = read_each(records, read)
    if len({item for example in examples for item in example.content}) < _FEWEST_ITEMS:
        raise UnusableInput(
            f"all {len(examples)} histories hold the same item, so there is nothing to recommend",
            hint=f"see whether '{plan.fields['items']}' is the field that holds the items",
        )
    return examples


def _told_by(items: Sequence[str]) -> str:
    """Return a text with one word for each item, so that near copies share runs of items."""
    return " ".join(blake2b(item.encode(), digest_size=8).hexdigest() for item in items)


def _items_of(fields: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], str]:
    """Return the items in the field `name` as text, and what is wrong with them."""
    if name not in fields:
        return (), f"has no field '{name}' for the items"
    value = fields[name]
    if not isinstance(value, list):
        return (), f"the field '{name}' is not a list of items"
    if len(value) < _FEWEST_ITEMS:
        held = "one item" if value else "no item"
        return (), f"the history in '{name}' holds {held}, so nothing comes next in it"
    items = []
    for place, item in enumerate(value, 1):
        text, wrong = _item_of(item, f"item {place}", name)
        if wrong:
            return (), wrong
        items.append(text)
    return tuple(items), ""


def _item_of(item: Any, what: str, name: str) -> tuple[str, str]:
    if isinstance(item, bool) or not isinstance(item, str | int):
        return "", f"{what} in '{name}' is neither text nor a whole number"
    # A number and the text that looks like it are the same item: a tokenizer knows only text.
    text, wrong = text_of({name: str(item)}, name, what)
    if wrong:
        return "", wrong
    if any(word in text for word in (_BETWEEN, *_SPECIAL)):
        return "", f"{what} in '{name}' holds a line break or one of {', '.join(_SPECIAL)}"
    return text, ""


def _wrong_times(fields: Mapping[str, Any], name: str | None, items: int) -> str:
    """Return what is wrong with the times of the items: they must not go back."""
    if name is None:
        return ""
    if name not in fields:
        return f"has no field '{name}' for the times"
    value = fields[name]
    if not isinstance(value, list) or len(value) != items:
        return f"the field '{name}' is not a list with one time for each item"
    times = [_time(time) for time in value]
    try:
        in_order = all(earlier <= later for earlier, later in pairwise(times))
    except TypeError:
        return f"the times in '{name}' are not all numbers, or all dates in ISO 8601 of one kind"
    return "" if in_order else f"the times in '{name}' are not in order"


def _time(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _wrong_user(record: Record, name: str | None, users: dict[str, Record]) -> str:
    """Return what is wrong with the user of a record; the first with that user enters `users`."""
    if name is None:
        return ""
    if name not in record.fields:
        return f"has no field '{name}' for the user"
    value = record.fields[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        return f"the user in '{name}' is neither text nor a whole number"
    first = users.setdefault(str(value), record)
    if first is record:
        return ""
    return (
        f"has the same user in '{name}' as record {first.index} of {first.source}: a user's items"
        " belong into one history (where redaction replaced the users, leave `user` out, or let"
        " the operator `hash` keep them apart)"
    )


def vocabulary(plan: TrainingPlan, splits: Splits) -> tuple[str, ...]:
    """Return the items that training reads, sorted as text."""
    return tuple(sorted({item for example in splits.train for item in _read(plan, example)}))


def _read(plan: TrainingPlan, example: Example) -> tuple[str, ...]:
    items: tuple[str, ...] = example.content[-plan.max_length :]
    return items


def load(plan: TrainingPlan, folder: Path, items: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder` and make it know `items`, after those that it knows already.

    A base without weights, or any with `start: scratch`, gives only its form, config.json, and
    starts from random numbers. Any other is a model that was trained here: new items get new rows
    in its embedding, and the known ones stay in its vocabulary.

    Raises:
        UnusableInput: as `open_predictor` does; the vocabulary is not one of items; or the
            training split has only one item.
    """
    if items is not None and len(items) < _FEWEST_ITEMS:
        raise UnusableInput(
            "the training split holds only one item, so there is nothing to recommend",
            hint="give more records, or another seed in release.yaml",
        )
    if items is not None and starts_from_scratch(plan, folder):
        return _from_scratch(plan, folder, items)
    loaded = open_predictor(_MODEL, plan, folder, None)
    known = _known_items(folder, loaded.processor)
    if new := sorted(set(items or ()) - set(known)):
        loaded = _extended(loaded, (*known, *new))
    return loaded


def _from_scratch(plan: TrainingPlan, folder: Path, items: tuple[str, ...]) -> Loaded:
    tokenizer = _tokenizer(items)
    settings = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        # Ids of the vocabulary that this form once came with.
        "bos_token_id": None,
        "eos_token_id": None,
    }
    loaded = open_predictor(_MODEL, plan, folder, (), processor=None, settings=settings)
    if (longest := longest_text(loaded)) is not None:
        tokenizer.model_max_length = longest
    return replace(loaded, processor=tokenizer)


def _extended(loaded: Loaded, items: tuple[str, ...]) -> Loaded:
    """Return the model with a vocabulary of `items`, which begins with its own."""
    tokenizer = _tokenizer(items)
    tokenizer.model_max_length = loaded.processor.model_max_length
    before = {name: tensor.shape for name, tensor in loaded.model.state_dict().items()}
    # With rows like the base's new ones: their mean, as transformers would have it, is popular.
    loaded.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    grown = (n for n, tensor in loaded.model.state_dict().items() if tensor.shape != before[n])
    new = tuple(sorted({*loaded.new_tensors, *grown}))
    return replace(loaded, processor=tokenizer, new_tensors=new)


def _tokenizer(items: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    padding, unknown = _SPECIAL
    numbers = {name: number for number, name in enumerate((*_SPECIAL, *items))}
    backend = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Split(_BETWEEN, behavior="removed")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=padding, unk_token=unknown, padding_side="right"
    )


def _known_items(folder: Path, tokenizer: Any) -> tuple[str, ...]:
    """Return the items that a tokenizer knows, in their order.

    Raises:
        UnusableInput: it is not one that was made here.
    """
    numbers = tokenizer.get_vocab()
    items = tuple(sorted(numbers, key=numbers.__getitem__))[len(_SPECIAL) :]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.to_str() != _tokenizer(items).backend_tokenizer.to_str():
        raise UnusableInput(
            f"{folder}: its vocabulary is not one of items, as this task writes it",
            hint="To train its form from scratch, write training.options.start: scratch.",
        )
    return items


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return the ids of each history and, shifted by the model itself, the same as labels.

    What is not in the vocabulary is no label; a history with no label but its first is left out.

    Raises:
        UnusableInput: none is left.
    """
    unknown = loaded.processor.unk_token_id
    rows = []
    for row in _rows(loaded, [_read(plan, example) for example in examples]):
        labels = [IGNORED if number == unknown else number for number in row["input_ids"]]
        if any(label != IGNORED for label in labels[1:]):
            rows.append(row | {"labels": labels})
    if not rows:
        raise UnusableInput(
            f"none of {len(examples)} histories goes on with an item that training reads",
            hint="give more records, a larger share or another seed in release.yaml",
        )
    return rows


def _rows(loaded: Loaded, histories: Sequence[Sequence[str]]) -> list[Row]:
    batch = loaded.processor([_BETWEEN.join(items) for items in histories])
    return [
        {name: batch[name][row] for name in ("input_ids", "attention_mask")}
        for row in range(len(histories))
    ]


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows and labels to the longest of their batch."""
    from transformers import DataCollatorForTokenClassification

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorForTokenClassification(
        loaded.processor, label_pad_token_id=IGNORED
    )
    return collator


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count, for each user, how the model ranks the last item after those before it.

    The columns are what `_gains` says, for one user a row.

    Raises:
        UnusableInput: none of the last items is in the vocabulary.
    """
    number = _numbers(loaded)
    _tell_misses(number, examples, plan, watcher)
    # What follows position max_length was never learned.
    rows = _rows(loaded, [_read(plan, example)[:-1] for example in examples])
    counts = np.empty((len(examples), _COLUMNS))
    broken: list[int] = []
    for chosen, outputs, inputs in in_batches(loaded, rows, collate(loaded, plan), plan, watcher):
        last = inputs["attention_mask"].sum(dim=1) - 1
        logits = outputs.logits[range(len(chosen)), last].float().cpu()
        # In double precision, since what is rounded alike would pass for the same score.
        scores = logits.double().log_softmax(dim=-1).numpy()
        broken += [
            row for row, own in zip(chosen, scores, strict=True) if not np.isfinite(own).all()
        ]
        users = [examples[row] for row in chosen]
        counts[chosen] = _gains(scores[:, len(_SPECIAL) :], number, users, plan)
    return each(counts, broken=tuple(sorted(broken)))


def _numbers(loaded: Loaded) -> dict[str, int]:
    """Return item → its place in the vocabulary, without what is no item."""
    vocabulary: dict[str, int] = loaded.processor.get_vocab()
    return {
        item: place - len(_SPECIAL) for item, place in vocabulary.items() if item not in _SPECIAL
    }


def _tell_misses(
    number: Mapping[str, int], examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> None:
    """Say what cannot be found, however good the model is."""
    users = len(examples)
    unseen = sum(example.content[-1] not in number for example in examples)
    if unseen == users:
        raise UnusableInput(
            f"no training history holds the last item of any of the {users} held-out users",
            hint="give more records, or another seed in release.yaml",
        )
    if unseen:
        watcher.say(
            f"the last items of {unseen} of {users} held-out users stand in no training history:"
            " each counts as a miss"
        )
    if plan.options["exclude_history"]:
        again = sum(example.content[-1] in example.content[:-1] for example in examples)
        if again:
            watcher.say(
                f"the last items of {again} of {users} held-out users stood in their histories"
                " before, which exclude_history leaves out: each counts as a miss"
            )


def _gains(
    scores: NDArray[np.float64],
    number: Mapping[str, int],
    examples: Sequence[Example],
    plan: TrainingPlan,
) -> NDArray[np.float64]:
    """Return, for each user, what finding the last item is worth; shape (users, columns).

    `scores`, of shape (users, items), are logarithms of probabilities. The rank of the last item
    is 1 + the items with a better score; items with the same score share the middle of their
    ranks, so that telling nothing apart is worth no more than guessing. Columns: 1 for an item of
    the vocabulary and its negative score (both 0 for another); for k of 1, 5 and 10, 1 for a rank
    of at most k; 1 / log2(rank + 1) for a rank of at most 10; 1 / rank; 1.
    """
    users = np.arange(len(examples))
    target = np.array([number.get(example.content[-1], _UNSEEN) for example in examples])
    seen = target != _UNSEEN
    own = np.where(seen, scores[users, target], 0)
    ranked = scores
    if plan.options["exclude_history"]:
        ranked = scores.copy()
        for row, example in enumerate(examples):
            before = [number[item] for item in set(example.content[:-1]) if item in number]
            ranked[row, before] = -np.inf
    goal = np.where(seen, ranked[users, target], -np.inf)
    better = (ranked > goal[:, None]).sum(axis=1)
    equal = (ranked == goal[:, None]).sum(axis=1)
    rank = np.where(goal > -np.inf, 1 + better + (equal - 1) / 2, np.inf)
    return np.stack(
        [
            seen,
            -own,
            *(rank <= depth for depth in _DEPTHS),
            np.where(rank <= _NDCG_DEPTH, 1 / np.log2(rank + 1), 0),
            1 / rank,
            np.ones(len(users)),
        ],
        axis=1,
    ).astype(np.float64)


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the figures for sums of the columns of `_gains`, of shape (…, columns).

    A hit rate at k is the share of users whose last item is among the first k (with one item to
    find, as here, the recall at k); NDCG at 10 and MRR are means over users. All count an item
    that training never read as not found. Perplexity is exp of the mean of -log p of the others:
    how many items, all equally likely, would be as hard to choose from.
    """
    users = sums[..., _USERS]
    seen = sums[..., _SEEN]
    with np.errstate(divide="ignore", invalid="ignore"):
        perplexity = np.exp(sums[..., _NLL] / seen)
    shares = sums[..., _NLL + 1 : _USERS] / users[..., None]
    names = [*(f"hit_rate_at_{depth}" for depth in _DEPTHS), "ndcg_at_10", "mrr"]
    return {
        **{name: shares[..., column] for column, name in enumerate(names)},
        "perplexity": perplexity,
        "seen_targets": seen / users,
    }


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Recommend what is popular, or the last item again where that has the higher NDCG.

    An item's score is the logarithm of its share of the training histories' items; to repeat puts
    the last item of the history before all. With `exclude_history` nothing may be repeated.
    """
    number = _numbers(loaded)
    counts = Counter(item for example in splits.train for item in example.content)
    popular = np.zeros(len(number))
    for item, place in number.items():
        popular[place] = counts[item]
    # A continued model knows items that its new data lacks; they are as if seen less than once.
    popular = np.log(np.maximum(popular, 0.5) / np.maximum(popular, 0.5).sum())
    most, again = [], []
    for start in range(0, len(splits.test), plan.batch_size):
        examples = splits.test[start : start + plan.batch_size]
        scores = np.tile(popular, (len(examples), 1))
        most.append(_gains(scores, number, examples, plan))
        again.append(_gains(_repeating(scores, number, examples), number, examples, plan))
    popularity, repeat = each(np.concatenate(most)), each(np.concatenate(again))
    repeat.rows[:, _NLL] = popularity.rows[:, _NLL]
    stronger = _ndcg(repeat) > _ndcg(popularity) and not plan.options["exclude_history"]
    does = "recommends what is most frequent in the training histories"
    if stronger:
        does = "recommends the last item again, then what is most frequent in training"
    return Baseline(does, "", repeat if stronger else popularity)


def _repeating(
    scores: NDArray[np.float64], number: Mapping[str, int], examples: Sequence[Example]
) -> NDArray[np.float64]:
    changed = scores.copy()
    for row, example in enumerate(examples):
        if (place := number.get(example.content[-2])) is not None:
            changed[row, place] = np.inf
    return changed


def _ndcg(measured: Measured) -> float:
    return float(figures(total(measured))["ndcg_at_10"])


TASK = Task(
    learns="the next item of a user's history",
    fields={
        "items": Field("the ids of the items, in the order of time", "items"),
        "user": Field("whose history it is", None),
        "times": Field("when each item was, in the same order", None),
    },
    # The Hub has no word for it.
    pipeline_tag="",
    read=read_examples,
    names=vocabulary,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    options={"start": BASE, "exclude_history": False},
)
