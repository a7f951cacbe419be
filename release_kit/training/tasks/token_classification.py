"""Token classification (named entities): one tag for each word of a text.

A transformer with a linear head (AutoModelForTokenClassification) turns a batch of token ids x,
int64 of shape (batch, tokens), into logits z, float32 of shape (batch, tokens, tags). A word may
be several tokens, and only its first has a tag y_it; the set of these (i, t) in the batch is W.
With p(c | x, i, t) = exp(z_itc) / sum_k exp(z_itk), the loss is the cross entropy, averaged over
the words of the batch:

    L = -(1 / |W|) * sum_(i, t) in W log p(y_it | x, i, t)     in nats; log(tags) for a blind guess

Tags are IOB2 (Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999): B-X begins an entity of
class X, I-X goes on with it, O is no part of any. A record has a list of tokens with a list of
tags, or a text with a list of spans {start, end, label}, in characters, end excluded; the tokens
of a list are joined by blanks, so that the model is trained on what it will read. Texts are cut
to the plan's max_length tokens.

Redaction may change tokens; tags and spans it keeps. A list of tags still fits then, since no
token comes or goes; spans do not where the text before them changed its length, and one that no
longer begins and ends with a word is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import Problem, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import classes
from release_kit.training.figures import Baseline, ClassScore, Measured, each
from release_kit.training.models import Loaded, in_batches, open_model
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import label_of, read_each, text_of
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.words import placing, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

    Span = tuple[int, int, str]

OUTSIDE = "O"
# What torch's cross entropy passes over.
_NO_LABEL = -100


@dataclass(frozen=True)
class Tagged:
    """The words of a text and what each is."""

    words: tuple[tuple[int, int], ...]
    """Start and end of each, in characters."""
    tags: tuple[str, ...] = field(repr=False)
    """One for each word, IOB2."""


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    Raises:
        UnusableInput: with source and record number of every record that has no usable tokens
            and tags, or text and spans, or when there are no records or no entity in any. No
            message quotes a text or a tag.
    """
    tokens, tags = plan.fields["tokens"], plan.fields["tags"]

    def read(record: Record) -> tuple[Example, tuple[str, str]]:
        if isinstance(record.fields.get(tokens), list | tuple):
            text, words, wrong = _joined(record.fields[tokens], tokens)
            given, wrong_tags = _listed(record.fields, tags, len(words))
        else:
            text, wrong = text_of(record.fields, tokens, "tokens or the text")
            words = words_of(text)
            given, wrong_tags = _marked(record.fields, tags, text, words)
        content = Tagged(words, given)
        example = Example(text, _labels(given), record.source, record.index, content)
        # Where the tokens cannot be read, nothing can be said about how the tags fit them.
        return example, (wrong, "" if wrong else wrong_tags)

    examples = read_each(records, read)
    if all(example.labels == (OUTSIDE,) for example in examples):
        raise UnusableInput(
            f"none of the {len(examples)} records holds an entity, so there is nothing to learn",
            hint=f"see whether '{tags}' is the field that holds the tags or the spans",
        )
    return examples


def _labels(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags that a model needs for these: both of each class, whichever occur."""
    found = {tag[2:] for tag in tags if tag != OUTSIDE}
    return (*sorted(f"{prefix}-{name}" for prefix in "BI" for name in found), OUTSIDE)


def _joined(tokens: Sequence[Any], name: str) -> tuple[str, tuple[tuple[int, int], ...], str]:
    """Return the tokens as a text, where they stand in it, and what is wrong with them."""
    if not tokens:
        return "", (), f"the list of tokens in '{name}' is empty"
    words: list[tuple[int, int]] = []
    at = 0
    for number, token in enumerate(tokens, 1):
        _, wrong = text_of({name: token}, name, f"token {number}")
        if wrong:
            return "", (), f"token {number} cannot be used: {wrong}"
        words.append((at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), tuple(words), ""


def _listed(fields: Mapping[str, Any], name: str, words: int) -> tuple[tuple[str, ...], str]:
    """Return the tags in the field `name`, one for each word, and what is wrong with them."""
    if name not in fields:
        return (), f"has no field '{name}' for the tags"
    tags = fields[name]
    if not isinstance(tags, list | tuple):
        return (), f"the field '{name}' is not a list of tags"
    if len(tags) != words:
        return (), f"has {words} tokens, but {len(tags)} tags in '{name}'"
    for number, (before, tag) in enumerate(pairwise((OUTSIDE, *tags)), 1):
        if wrong := _wrong_tag(before, tag):
            return (), f"tag {number} in '{name}' {wrong}"
    return tuple(tags), ""


def _wrong_tag(before: str, tag: Any) -> str:
    if not isinstance(tag, str):
        return "is not text"
    if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or not tag[2:].strip()):
        return "is neither O nor B- or I- with a class"
    if tag[:2] == "I-" and before[2:] != tag[2:]:
        return "begins with I-, but goes on with nothing; in IOB2 an entity begins with B-"
    return ""


def _marked(
    fields: Mapping[str, Any], name: str, text: str, words: Sequence[tuple[int, int]]
) -> tuple[tuple[str, ...], str]:
    """Return the tag of each word by the spans in the field `name`, and what is wrong with them."""
    if name not in fields:
        return (), f"has no field '{name}' for the spans"
    spans = fields[name]
    if not isinstance(spans, list | tuple):
        return (), f"the field '{name}' is not a list of spans, as a text asks for"
    starts = {start: number for number, (start, _) in enumerate(words)}
    ends = {end: number for number, (_, end) in enumerate(words)}
    tags = [OUTSIDE] * len(words)
    for number, span in enumerate(spans, 1):
        wrong = _wrong_span(span, len(text))
        if not wrong and not (span["start"] in starts and span["end"] in ends):
            wrong = (
                "does not begin and end with a word; redaction may have changed what stands"
                " before it, which a list of tokens with tags withstands"
            )
        if wrong:
            return (), f"span {number} in '{name}' {wrong}"
        first, last = starts[span["start"]], ends[span["end"]]
        if any(tag != OUTSIDE for tag in tags[first : last + 1]):
            return (), f"span {number} in '{name}' overlaps another"
        label, _ = label_of(span, "label")
        tags[first : last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
    return tuple(tags), ""


def _wrong_span(span: Any, length: int) -> str:
    if not isinstance(span, Mapping):
        return "has no start, end and label"
    _, wrong = label_of(span, "label")
    if wrong:
        return f"cannot be used: {wrong}"
    start, end = span.get("start"), span.get("end")
    if type(start) is not int or type(end) is not int:
        return "has a start or an end that is no whole number"
    if not 0 <= start < end <= length:
        return f"is empty or reaches beyond the text's {length} characters"
    return ""


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`, with a new head for `labels` where they are given.

    Raises:
        UnusableInput: as `open_model` and `placing` do.
    """
    return placing(folder, open_model("AutoModelForTokenClassification", folder, labels=labels))


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return token ids (at most `max_length`, unpadded) of each text, and a label for each token.

    It is the number of the tag at the first token of a word, else -100.

    Raises:
        UnusableInput: with source and number of each record in which the tokenizer finds no word.
    """
    number = {label: index for index, label in enumerate(loaded.labels)}
    rows, places = _pieces(loaded, examples, plan)
    problems = []
    for row, example, pieces in zip(rows, examples, places, strict=True):
        labels = np.full(len(row["input_ids"]), _NO_LABEL)
        for piece, tag in zip(pieces, example.content.tags, strict=True):
            if piece is not None:
                labels[piece] = number[tag]
        row["labels"] = labels.tolist()
        if (labels == _NO_LABEL).all():
            wrong = "the tokenizer of the model finds no word in it"
            problems.append(Problem(example.source, example.record, 1, wrong))
    if problems:
        raise UnusableInput(
            f"{len(problems)} of {len(examples)} records hold nothing that the model reads",
            problems=problems,
        )
    return rows


def _pieces(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[list[Row], list[list[int | None]]]:
    """Return what the model reads of each text, and the first token of each of its words.

    It is None where the word lies beyond `max_length`, where the tokenizer drops it, and where
    its token begins in the word before, as may be where words are written without blanks.
    """
    batch = loaded.processor(
        [example.text for example in examples], truncation=True, max_length=plan.max_length
    )
    rows = [{name: batch[name][row] for name in batch} for row in range(len(examples))]
    places: list[list[int | None]] = []
    for row, example in enumerate(examples):
        pieces: list[int | None] = []
        latest = None
        for start, end in example.content.words:
            found = (batch.char_to_token(row, at) for at in range(start, end))
            piece = next((one for one in found if one is not None), None)
            pieces.append(None if piece == latest else piece)
            latest = latest if piece is None else piece
        places.append(pieces)
    return rows, places


def notes(plan: TrainingPlan, examples: Sequence[Example], rows: Sequence[Row]) -> Iterator[str]:
    """Tell how many words have no token of their own, and so teach nothing."""
    lost = [
        len(example.content.words) - sum(label != _NO_LABEL for label in row["labels"])
        for example, row in zip(examples, rows, strict=True)
    ]
    if any(lost):
        words = sum(len(example.content.words) for example in examples)
        yield (
            f"{sum(lost)} of {words} words, in {sum(map(bool, lost))} of {len(examples)} records,"
            f" are not read: they lie beyond {plan.max_length} tokens (max_length) or the"
            " tokenizer has no token for them"
        )


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows and their labels to the longest of their batch."""
    from transformers import DataCollatorForTokenClassification

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorForTokenClassification(
        loaded.processor, label_pad_token_id=_NO_LABEL
    )
    return collator


def predict(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> list[list[str] | None]:
    """Return the tag of each word of each example; None where the model answers with NaN.

    A word that the model does not read has the tag "".
    """
    rows, places = _pieces(loaded, examples, plan)
    found: list[list[str] | None] = [None] * len(examples)
    for chosen, outputs, _ in in_batches(loaded, rows, collate(loaded, plan), plan, watcher):
        scores = outputs.logits.float().cpu().numpy()
        for row, of in zip(chosen, scores, strict=True):
            if not np.isfinite(of[: len(rows[row]["input_ids"])]).all():
                continue
            best = of.argmax(axis=-1)
            found[row] = ["" if at is None else loaded.labels[best[at]] for at in places[row]]
    return found


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `counts` says; words that the model does not read are told to `watcher`."""
    given = predict(loaded, examples, plan, watcher)
    lost = sum(tag == "" for tags in given for tag in tags or ())
    if lost:
        watcher.say(f"{lost} words of the test records are not read, and count as mistakes")
    return each(
        counts(examples, [tags or [] for tags in given], loaded.labels),
        broken=tuple(row for row, tags in enumerate(given) if tags is None),
    )


def counts(
    examples: Sequence[Example], given: Sequence[Sequence[str]], labels: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return float64 of shape (examples, 3 * classes + 2).

    The columns are three for each class, as in `release_kit.training.classes.measured`, of
    entities instead of examples: found exactly, there, and given; then words with the right tag,
    and words. An entity is found exactly when first word, last word and class are right.
    """
    names = _classes(labels)
    column = {name: index for index, name in enumerate(names)}
    found = np.zeros((len(examples), 3 * len(names) + 2))
    for row, example, tags in zip(found, examples, given, strict=True):
        true, said = spans_of(example.content.tags), spans_of(tags)
        for part, spans in enumerate((true & said, true, said)):
            for *_, name in spans:
                row[part * len(names) + column[name]] += 1
        row[-2] = sum(map(str.__eq__, example.content.tags, tags))
        row[-1] = len(example.content.tags)
    return found


def spans_of(tags: Iterable[str]) -> set[Span]:
    """Return (first word, last word, class) of each entity.

    An I- that goes on with nothing begins an entity, as in conlleval and seqeval.
    """
    spans: set[Span] = set()
    start, name = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        if tag[:2] == "I-" and tag[2:] == name:
            continue
        if name:
            spans.add((start, place - 1, name))
        start, name = place, tag[2:]
    return spans


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({label[2:] for label in labels if label[:2] in ("B-", "I-")}))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the micro and macro scores of entities and the accuracy of words.

    `sums` has shape (…, 3 * classes + 2). Micro scores count the entities of all classes
    together; macro scores are the mean of the classes with an entity, and 0 where there is none.
    """
    right, support, given = np.split(sums[..., :-2], 3, axis=-1)
    together = (part.sum(axis=-1) for part in (right, support, given))
    micro, macro = classes.scores(*together), classes.macro(right, support, given)
    names = ("precision", "recall", "f1")
    return {
        **{f"micro_{name}": of for name, of in zip(names, micro, strict=True)},
        **{f"macro_{name}": of for name, of in zip(names, macro, strict=True)},
        "token_accuracy": sums[..., -2] / sums[..., -1],
    }


def class_scores(sums: NDArray[np.float64], labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return the scores of each class of entities; their support counts entities."""
    return classes.class_scores(sums[:-2], _classes(labels))


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Look up the entities that the training split holds in one class only; the longest win.

    This is the baseline of the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder 2003).
    """
    known: dict[tuple[str, ...], set[str]] = {}
    for example in splits.train:
        words = _words(example)
        for first, last, name in spans_of(example.content.tags):
            known.setdefault(words[first : last + 1], set()).add(name)
    names = {words: name for words, (name, *others) in known.items() if not others}
    given = [_looked_up(_words(example), names) for example in splits.test]
    return Baseline(
        "gives each name that the training split holds in one class only this class",
        "",
        each(counts(splits.test, given, loaded.labels)),
    )


def _words(example: Example) -> tuple[str, ...]:
    return tuple(example.text[start:end] for start, end in example.content.words)


def _looked_up(words: tuple[str, ...], names: Mapping[tuple[str, ...], str]) -> list[str]:
    longest = max(map(len, names), default=0)
    tags: list[str] = []
    while len(tags) < len(words):
        at = len(tags)
        sizes = range(min(longest, len(words) - at), 0, -1)
        size = next((size for size in sizes if words[at : at + size] in names), 0)
        name = names.get(words[at : at + size], "")
        tags += [f"B-{name}", *[f"I-{name}"] * (size - 1)] if size else [OUTSIDE]
    return tags


TASK = Task(
    learns="a tag for each word, and so the entities of each text",
    fields={
        "tokens": Field("the list of tokens, or the text", "tokens"),
        "tags": Field("their tags, or the spans of the text", "tags", kept=True),
    },
    pipeline_tag="token-classification",
    apart=lambda plan: True,
    read=read_examples,
    load=load,
    encode=encode,
    notes=notes,
    collate=collate,
    measure=measure,
    figures=figures,
    class_scores=class_scores,
    baseline=baseline,
)
