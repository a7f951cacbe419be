"""Masked language modelling with next-sentence prediction: BERT's own pre-training.

A transformer encoder with two heads (AutoModelForPreTraining) reads a batch of pairs of texts,
[CLS] A [SEP] B [SEP], as token ids x, int64 of shape (batch, tokens), some of them hidden as
`masked_lm` says. It gives logits over the vocabulary, float32 of shape (batch, tokens,
vocabulary), and logits s, float32 of shape (batch, 2): B follows A (0), or is from elsewhere (1).
With the true c, int64 of shape (batch,), and the n hidden tokens y of the batch, the loss is

    L = L_MLM + L_NSP                                     in nats
    L_MLM(x, y) = -(1 / n) * sum_{i=1}^{n} log p(y_i | x)
    L_NSP(x, c) = -(1 / batch) * sum_b log p(c_b | x_b),  p(c | x) = exp(s_c) / sum_k exp(s_k)

The sum of two means is BERT's (Devlin et al. 2019, section 3.1 and appendix A.2); the seed tells
L_MLM as a sum over the hidden tokens. A blind guess costs log(vocabulary) + log 2.

A record holds a document: a list of sentences, or a text, which is split where `sentences` says:

- marks: after one of . ! ? … with the quotes and brackets that close behind it, where blank space
  follows; after one of 。 ！ ？ ｡ with those that close behind it; and at blank lines. A full stop
  of an abbreviation ends a sentence, too;
- lines: at every line end.

Sentences are put together, in their order, until they have max_length tokens: that is a row. In
each epoch the row is parted anew at a random place into A and B, two sentences at least; of half
the rows, B is taken instead from a random place of another document of the same split, and is as
long. What is too long is cut away at the far ends, so that A and B still meet. For validation and
evaluation the pairs are drawn once, from seed and row.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from release_kit.errors import UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, Measured, each
from release_kit.training.models import Loaded, in_batches
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.masked_lm import (
    NO_WORD,
    OPTIONS,
    check_masks,
    collate,
    masking_of,
    words_of,
)
from release_kit.training.tasks.masked_lm import figures as masked_figures
from release_kit.training.tasks.reading import read_each, text_of
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.tokens import (
    NO_TOKENS,
    before_training,
    check_rows,
    counted,
    drawn,
    open_predictor,
    unigram,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

_LABEL = "next_sentence_label"
_FOLLOWS, _ELSEWHERE = 0, 1
_SPECIAL = 3
"""Special tokens of a pair."""
_FEWEST = 2
_CLOSING = "[\"'”’»›)\\]）】」』]*"
_ENDS = re.compile(rf"(?<=[.!?…])({_CLOSING})\s+|(?<=[。！？｡])({_CLOSING})\s*|\n\s*\n\s*")


def sentences_of(text: str, rule: str) -> tuple[str, ...]:
    """Split a text by the rule `lines` or `marks`, as the module says; no sentence is blank.

    >>> sentences_of('He said "Go." We went! 走。好', "marks")
    ('He said "Go."', 'We went!', '走。', '好')
    """
    parts = text.splitlines() if rule == "lines" else _at_marks(text)
    return tuple(part.strip() for part in parts if part.strip())


def _at_marks(text: str) -> Iterator[str]:
    start = 0
    for end in _ENDS.finditer(text):
        stop = end.start() + len(end[1] or end[2] or "")
        yield text[start:stop]
        start = end.end()
    yield text[start:]


def read_documents(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record; its content is its sentences.

    Raises:
        UnusableInput: with source and record number of every record that has no list of texts,
            no usable text, or less than two sentences, or when there are no records. No message
            quotes a text.
    """
    name, rule = plan.fields["document"], plan.options["sentences"]

    def read(record: Record) -> tuple[Example, tuple[str]]:
        value = record.fields.get(name)
        if isinstance(value, list | tuple):
            told = [text_of({name: part}, name, "sentence") for part in value]
            sentences = tuple(text for text, _ in told)
            wrong = next((reason for _, reason in told if reason), "")
        else:
            text, wrong = text_of(record.fields, name, "document")
            sentences = sentences_of(text, rule)
        if not wrong and len(sentences) < _FEWEST:
            wrong = f"the document in '{name}' has less than two sentences, so none follows another"
        text = "\n".join(sentences)
        return Example(text, (), record.source, record.index, content=sentences), (wrong,)

    return read_each(records, read)


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`; a base gets the heads that it lacks.

    Raises:
        UnusableInput: as `open_predictor` does, the tokenizer cannot hide tokens, or the
            architecture has no head for the next sentence.
    """
    loaded = open_predictor("AutoModelForPreTraining", plan, folder, labels)
    if _LABEL not in inspect.signature(loaded.model.forward).parameters:
        raise UnusableInput(
            f"{folder}: its architecture does not predict the next sentence",
            hint="choose one that does, such as BERT, or the task masked-lm",
        )
    if None in (loaded.processor.cls_token_id, loaded.processor.sep_token_id):
        raise UnusableInput(f"{folder}: the tokenizer lacks a token that begins or parts a pair")
    return check_masks(loaded, plan, folder)


@dataclass(frozen=True)
class _Sentence:
    """Tokens, int64 of shape (tokens,), and the word number of each."""

    ids: NDArray[np.int64] = field(repr=False)
    words: NDArray[np.int64] = field(repr=False)


def _pieces(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[list[Row], NDArray[np.intp]]:
    """Return the rows, and the place of each one's example.

    A row holds all documents, since what does not follow is drawn from them; they are the same
    object in each.
    """
    documents = _documents(loaded, examples, plan)
    rows: list[Row] = []
    owners = []
    room = plan.max_length - _SPECIAL
    for place, document in enumerate(documents):
        for start, stop in _spans([len(sentence.ids) for sentence in document], room):
            length = min(room, sum(len(sentence.ids) for sentence in document[start:stop]))
            rows.append(
                {
                    # Stands first and has the row's length, by which rows share batches.
                    "tokens": range(length + _SPECIAL),
                    "documents": documents,
                    "document": place,
                    "span": (start, stop),
                }
            )
            owners.append(place)
    return rows, np.array(owners)


def _documents(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> list[list[_Sentence]]:
    texts = [text for example in examples for text in example.content]
    batch = loaded.processor(texts, add_special_tokens=False, verbose=False)
    sentences = []
    for row, ids in enumerate(batch["input_ids"]):
        told = batch.word_ids(row) if plan.options["whole_words"] else None
        words = np.array(words_of(loaded, plan, ids, told), np.int64)
        sentences.append(_Sentence(np.array(ids, np.int64), words))
    at = iter(sentences)
    known = [
        [
            sentence
            for sentence in (next(at) for _ in example.content)
            if (sentence.words != NO_WORD).any()
        ]
        for example in examples
    ]
    kept = [place for place, document in enumerate(known) if len(document) >= _FEWEST]
    check_rows(examples, kept, f"less than two of its sentences count: the rest {NO_TOKENS}")
    if len(known) < _FEWEST:
        raise UnusableInput(
            "a split holds one document only, so no sentence can be taken from another",
            hint="give more documents, or a larger validation_share or test_share",
        )
    return known


def _spans(lengths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield (first sentence, the one behind the last) of each row, two sentences at least."""
    start = 0
    while start < len(lengths):
        stop, total = start, 0
        while stop < len(lengths) and (stop - start < _FEWEST or total + lengths[stop] <= room):
            total += lengths[stop]
            stop += 1
        # A last sentence that is left alone follows the one before it.
        yield min(start, stop - _FEWEST), stop
        start = stop


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return which sentences of which document make a row.

    Raises:
        UnusableInput: with source and record number of every document of which less than two
            sentences are left, or there is one document only.
    """
    return _pieces(loaded, examples, plan)[0]


def draw(loaded: Loaded, plan: TrainingPlan) -> Callable[[Row, np.random.Generator], Row]:
    """Return what parts a row into a pair, or makes one with another document, and hides tokens."""
    masked = masking_of(loaded, plan)
    cls, sep = (
        _Sentence(np.array([one]), np.array([NO_WORD]))
        for one in (loaded.processor.cls_token_id, loaded.processor.sep_token_id)
    )
    room = plan.max_length - _SPECIAL

    def change(row: Row, random: np.random.Generator) -> Row:
        documents, place = row["documents"], row["document"]
        start, stop = row["span"]
        middle = int(random.integers(start + 1, stop))
        first = _joined(documents[place][start:middle])
        second = _joined(documents[place][middle:stop])
        label = _FOLLOWS if random.random() < 1 / 2 else _ELSEWHERE
        if label == _ELSEWHERE:
            other = int(random.integers(len(documents) - 1))
            strange = documents[other + (other >= place)]
            begin = int(random.integers(len(strange)))
            second = _cut(_joined(strange[begin:]), 0, len(second.ids))
        first, second = _fitting(first, second, room)
        pair = _joined([cls, first, sep, second, sep])
        read, labels = masked(pair.ids, pair.words, random)
        types = [0] * (len(first.ids) + 2) + [1] * (len(second.ids) + 1)
        return {
            "input_ids": read,
            "token_type_ids": types,
            "attention_mask": [1] * len(read),
            "labels": labels,
            _LABEL: label,
        }

    return change


def _joined(sentences: Sequence[_Sentence]) -> _Sentence:
    """Return all in one; words of two sentences have two numbers."""
    words, after = [], 0
    for sentence in sentences:
        words.append(np.where(sentence.words == NO_WORD, NO_WORD, sentence.words + after))
        after = max(after, int(words[-1].max(initial=NO_WORD)) + 1)
    return _Sentence(np.concatenate([s.ids for s in sentences]), np.concatenate(words))


def _cut(sentence: _Sentence, start: int, stop: int) -> _Sentence:
    return _Sentence(sentence.ids[start:stop], sentence.words[start:stop])


def _fitting(first: _Sentence, second: _Sentence, room: int) -> tuple[_Sentence, _Sentence]:
    """Cut the longer one, or both to like length, where they are too long together."""
    one, other = len(first.ids), len(second.ids)
    if one + other > room:
        half = room // 2
        one = min(one, max(room - other, room - half))
        other = min(other, room - one)
    return _cut(first, len(first.ids) - one, len(first.ids)), _cut(second, 0, other)


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count (-sum log p, hidden tokens, right ones, pairs, right ones) of each document."""
    pieces, owners = _pieces(loaded, examples, plan)
    rows = drawn(pieces, draw(loaded, plan), plan)
    counts = np.zeros((len(examples), 5))
    made = collate(loaded, plan)
    for chosen, outputs, inputs in in_batches(loaded, rows, made, plan, watcher, without=()):
        tokens = counted(outputs.prediction_logits, inputs["labels"])
        pairs = counted(outputs.seq_relationship_logits[:, None], inputs[_LABEL][:, None])
        # A NaN is told as broken, whichever of the heads gave it.
        tokens[~np.isfinite(pairs[:, 0])] = np.nan
        np.add.at(counts, owners[chosen], np.concatenate([tokens, pairs[:, 1:]], axis=1))
    broken = np.flatnonzero(~np.isfinite(counts).all(axis=1))
    return each(counts, broken=tuple(broken.tolist()))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return what `masked_lm` does, and the accuracy on pairs, for sums of shape (…, 5)."""
    pairs, right = sums[..., 3], sums[..., 4]
    return {**masked_figures(sums[..., :3]), "next_sentence_accuracy": right / pairs}


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer as the base model does, or by how often each token stands in the training split.

    The latter where the base is not at hand, has no weights, or lacks a part of a head; it then
    says of every pair that B follows A.
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
        sentence.ids[sentence.words != NO_WORD]
        for document in _documents(loaded, splits.train, plan)
        for sentence in document
    )
    tokens = unigram(seen, (row["labels"] for row in rows), len(loaded.processor))
    pairs = [(1, row[_LABEL] == _FOLLOWS) for row in rows]
    counts = np.zeros((len(splits.test), 5))
    np.add.at(counts, owners, np.concatenate([tokens, np.array(pairs, np.float64)], axis=1))
    return Baseline(
        "knows only how often each token stands in the training split, and takes every pair for"
        " one that follows",
        "",
        each(counts),
    )


TASK = Task(
    learns="the hidden tokens of each pair of texts, and whether one follows the other",
    fields={"document": Field("the document, as text or as a list of sentences", "document")},
    pipeline_tag="fill-mask",
    read=read_documents,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    draw=draw,
    options={**OPTIONS, "sentences": "marks"},
)
