"""Extractive question answering: the part of a context that answers a question, if one does.

A transformer with a linear head (AutoModelForQuestionAnswering) turns a batch of token ids x,
int64 of shape (windows, tokens), each "[CLS] question [SEP] context [SEP]", into logits of starts
and ends, s and e, float32 of shape (windows, tokens) both. With p(a | x) = exp(s_a) / sum_t
exp(s_t), q(b | x) = exp(e_b) / sum_t exp(e_t) over all tokens of the batch's width, and an answer
from token a_i to token b_i, the loss is the mean of two cross entropies, averaged over windows:

    L = -(1 / (2 * windows)) * sum_i (log p(a_i | x_i) + log q(b_i | x_i))            in nats

A context longer than the plan's max_length is read in windows; neighbours share `stride` tokens
of it. A window that does not hold the whole answer has a_i = b_i = [CLS]: nothing (Devlin et al.
2019, section 4.3). The model's answer is the a <= b < a + `longest_answer` within the context
with the greatest s_a + e_b in any window. With `unanswerable`, it is nothing where every window's
s_CLS + e_CLS is greater than that.

A record's answers are those of SQuAD (Rajpurkar et al. 2016, 2018): a list of {text,
answer_start}, or an object of two lists; empty for a question without an answer. Redaction treats
question, context and answers alike, so answer_start may no longer fit: the answer is then looked
for as near by as it stands in whole words, and a record in which it does not is told.

Exact match and F1 compare as SQuAD's evaluation does: without case, ASCII punctuation and the
English articles, by words between blanks, with the best of a record's answers. So articles of
other languages count as words, and where words are written without blanks, as in Chinese, an
answer is one word and F1 hardly differs from exact match.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import Problem, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, Measured, each
from release_kit.training.models import Loaded, in_batches, open_model
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import read_each, text_of
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.words import nearest, placing, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

_POSITIONS = ("start_positions", "end_positions")
_ANSWER = ("text", "answer_start")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_MARKS = str.maketrans("", "", string.punctuation)
# Of the baseline; more words of a context are hardly an answer.
_FIRST_WORDS = 10


@dataclass(frozen=True)
class Asked:
    """A question with its answers; the context is the example's text."""

    question: str = field(repr=False)
    answers: tuple[tuple[int, str], ...] = field(repr=False)
    """Start in characters and text of each; the first is trained on. Empty for none."""
    moved: bool
    """Whether one stood elsewhere than the record says."""


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    Questions on the same context are near copies, so that no context is trained on and held out.

    Raises:
        UnusableInput: with source and record number of every record that has no usable question,
            context or answers, or when there are no records or no answer in any. No message
            quotes a text.
    """
    question, context, answers = (plan.fields[role] for role in ("question", "context", "answers"))

    def read(record: Record) -> tuple[Example, tuple[str, ...]]:
        asked, wrong_question = text_of(record.fields, question, "question")
        text, wrong_context = text_of(record.fields, context, "context")
        told, wrong = _answers(record.fields, answers)
        if not (told or wrong or plan.options["unanswerable"]):
            wrong = (
                f"has no answer in '{answers}'; where that is meant, set"
                " training.options.unanswerable to true"
            )
        placed = [(nearest(text, answer, start), answer) for start, answer in told]
        lost = [number for number, (start, _) in enumerate(placed, 1) if start is None]
        if lost and not wrong_context:
            wrong = (
                f"answer {lost[0]} in '{answers}' stands nowhere in the context in whole words;"
                " redaction may have changed only one of both"
            )
        found = tuple((start, answer) for start, answer in placed if start is not None)
        content = Asked(asked, found, moved=found != tuple(told))
        example = Example(text, (), record.source, record.index, content)
        return example, (wrong_question, wrong_context, wrong)

    examples = read_each(records, read)
    if not any(example.content.answers for example in examples):
        raise UnusableInput(
            f"none of the {len(examples)} records has an answer, so there is nothing to learn",
            hint=f"see whether '{answers}' is the field that holds the answers",
        )
    return examples


def _answers(fields: Mapping[str, Any], name: str) -> tuple[list[tuple[int, str]], str]:
    """Return start and text of each answer in the field `name`, and what is wrong with them."""
    if name not in fields:
        return [], f"has no field '{name}' for the answers"
    said = fields[name]
    if isinstance(said, Mapping):
        texts, starts = said.get("text"), said.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list | tuple) or not isinstance(starts, list | tuple):
            return [], f"the field '{name}' does not hold text and answer_start"
        if len(texts) != len(starts):
            return [], f"has {len(texts)} texts, but {len(starts)} answer_start in '{name}'"
        said = [dict(zip(_ANSWER, pair, strict=True)) for pair in zip(texts, starts, strict=True)]
    if not isinstance(said, list | tuple):
        return [], f"the field '{name}' does not hold answers as SQuAD does"
    found = []
    for number, answer in enumerate(said, 1):
        if wrong := _wrong_answer(answer):
            return [], f"answer {number} in '{name}' cannot be used: {wrong}"
        start, text = answer["answer_start"], answer["text"]
        # Blanks around it belong to no token.
        found.append((start + len(text) - len(text.lstrip()), text.strip()))
    return found, ""


def _wrong_answer(answer: Any) -> str:
    if not isinstance(answer, Mapping):
        return "it has no text and answer_start"
    start = answer.get("answer_start")
    if type(start) is not int or start < 0:
        return "its answer_start is no whole number from 0 up"
    return text_of(answer, "text", "answer")[1]


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`, with a new head where `labels` are given, be there any or not.

    Raises:
        UnusableInput: as `open_model` and `placing` do.
    """
    # A base may be a classifier; this head has two columns: start and end.
    loaded = open_model(
        "AutoModelForQuestionAnswering", folder, labels=labels, settings={"num_labels": 2}
    )
    return replace(placing(folder, loaded), labels=())


@dataclass(frozen=True)
class _Window:
    """A part of a context, with the question, as the model reads it."""

    example: int
    row: Row
    places: NDArray[np.int64]
    """Start and end of each token in the context, in characters, shape (tokens, 2); both -1 for
    what is not of the context."""
    nothing: int
    """The token that stands for no answer."""


def _windows(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[_Window]:
    """Return the windows of all examples, in their order.

    Raises:
        UnusableInput: with source and number of each record whose question leaves too few tokens
            for the context.
    """
    tokenizer, stride = loaded.processor, plan.options["stride"]
    questions = [example.content.question for example in examples]
    left = plan.max_length - tokenizer.num_special_tokens_to_add(pair=True)
    rooms = [left - len(ids) for ids in tokenizer(questions, add_special_tokens=False)["input_ids"]]
    _refuse(
        [example for example, room in zip(examples, rooms, strict=True) if room <= stride],
        f"the question leaves the context no more than the {stride} tokens that windows share",
        "Raise training.max_length or lower training.options.stride in release.yaml.",
    )
    batch = tokenizer(
        questions,
        [example.text for example in examples],
        truncation="only_second",
        max_length=plan.max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    of = batch.pop("overflow_to_sample_mapping")
    offsets = batch.pop("offset_mapping")
    found = []
    for number, example in enumerate(of):
        places = np.array(offsets[number], np.int64)
        places[[part != 1 for part in batch.sequence_ids(number)]] = -1
        row = {name: batch[name][number] for name in batch}
        ids, sign = row["input_ids"], tokenizer.cls_token_id
        found.append(_Window(example, row, places, ids.index(sign) if sign in ids else 0))
    return found


def _refuse(examples: Sequence[Example], wrong: str, hint: str) -> None:
    if examples:
        raise UnusableInput(
            f"{len(examples)} records cannot be read with these settings",
            hint=hint,
            problems=[Problem(one.source, one.record, 1, wrong) for one in examples],
        )


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return the windows of each example, each with the tokens of the first answer's ends.

    Raises:
        UnusableInput: as `_windows` does, and with source and number of each record whose answer
            stands whole in no window.
    """
    windows = _windows(loaded, examples, plan)
    learned = {row for row, example in enumerate(examples) if not example.content.answers}
    for window in windows:
        answers = examples[window.example].content.answers
        place = _place(window, *answers[0]) if answers else None
        if place:
            learned.add(window.example)
        window.row.update(zip(_POSITIONS, place or (window.nothing,) * 2, strict=True))
    _refuse(
        [example for row, example in enumerate(examples) if row not in learned],
        "its answer stands whole in no window",
        "Raise training.options.stride, or training.max_length, in release.yaml.",
    )
    return [window.row for window in windows]


def _place(window: _Window, start: int, answer: str) -> tuple[int, int] | None:
    """Return the first and the last token of the answer; None where it is not all there."""
    starts, ends = window.places.T
    end = start + len(answer)
    inside = np.flatnonzero((ends > start) & (starts < end))
    cut = starts[ends > 0].min(initial=end) > start or ends.max() < end
    if cut or not len(inside):
        return None
    return int(inside[0]), int(inside[-1])


def notes(plan: TrainingPlan, examples: Sequence[Example], rows: Sequence[Row]) -> Iterator[str]:
    """Tell how many answers were looked for, and how many windows there are."""
    if moved := sum(example.content.moved for example in examples):
        yield (
            f"in {moved} of {len(examples)} records an answer stands elsewhere than answer_start"
            " says, as after redaction; the nearest place is learned"
        )
    if len(rows) > len(examples):
        yield (
            f"{len(examples)} records are read in {len(rows)} windows of at most"
            f" {plan.max_length} tokens (max_length)"
        )


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads windows to the longest of their batch."""
    from transformers import DataCollatorWithPadding

    collator: Callable[[list[Row]], Mapping[str, Any]] = DataCollatorWithPadding(loaded.processor)
    return collator


def predict(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> list[str | None]:
    """Return the answer to each example, "" for nothing; None where the model answers with NaN."""
    windows = _windows(loaded, examples, plan)
    best = [(-np.inf, 0, 0)] * len(examples)
    nothing = [np.inf] * len(examples)
    broken = set()
    rows = [window.row for window in windows]
    for chosen, outputs, _ in in_batches(
        loaded, rows, collate(loaded, plan), plan, watcher, without=_POSITIONS
    ):
        starts = outputs.start_logits.float().cpu().numpy()
        ends = outputs.end_logits.float().cpu().numpy()
        for row, start, end in zip(chosen, starts, ends, strict=True):
            window = windows[row]
            one, at = window.example, window.nothing
            width = len(window.places)
            if not np.isfinite([start[:width], end[:width]]).all():
                broken.add(one)
                continue
            nothing[one] = min(nothing[one], start[at] + end[at])
            found = _best(window, start[:width], end[:width], plan.options["longest_answer"])
            best[one] = max(best[one], found)
    return [
        None
        if row in broken
        else ""
        if plan.options["unanswerable"] and nothing[row] > best[row][0]
        else example.text[best[row][1] : best[row][2]].strip()
        for row, example in enumerate(examples)
    ]


def _best(
    window: _Window, start: NDArray[np.float32], end: NDArray[np.float32], longest: int
) -> tuple[float, int, int]:
    """Return score, start and end, in characters, of the window's best answer."""
    starts, ends = window.places.T
    start, end = (np.where(ends > starts, scores, -np.inf) for scores in (start, end))
    found = (-np.inf, 0, 0)
    for more in range(min(longest, len(start))):
        scores = start[: len(start) - more] + end[more:]
        at = int(scores.argmax())
        if scores[at] > found[0]:
            found = (float(scores[at]), int(starts[at]), int(ends[at + more]))
    return found


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `counts` says."""
    given = predict(loaded, examples, plan, watcher)
    return each(
        counts(examples, [answer or "" for answer in given]),
        broken=tuple(row for row, answer in enumerate(given) if answer is None),
    )


def counts(examples: Sequence[Example], given: Sequence[str]) -> NDArray[np.float64]:
    """Return float64 of shape (examples, 3): exact match, F1 and 1, with the best true answer."""
    found = np.ones((len(examples), 3))
    for row, example, answer in zip(found, examples, given, strict=True):
        words = plain_words(answer)
        true = [plain_words(text) for _, text in example.content.answers]
        true = [one for one in true if one] or [[]]
        row[:2] = words in true, max(_f1(one, words) for one in true)
    return found


def plain_words(text: str) -> list[str]:
    """Return the words of `text` without case, ASCII punctuation and English articles."""
    return _ARTICLE.sub(" ", text.lower().translate(_NO_MARKS)).split()


def _f1(true: list[str], given: list[str]) -> float:
    if not (true and given):
        return float(true == given)
    shared = sum((Counter(true) & Counter(given)).values())
    return 2 * shared / (len(true) + len(given))


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return exact match and F1, for sums of shape (…, 3)."""
    return {
        "exact_match": sums[..., 0] / sums[..., 2],
        "answer_f1": sums[..., 1] / sums[..., 2],
    }


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Answer with nothing or with so many first words of the context as does best in training."""
    fewest = 0 if plan.options["unanswerable"] else 1

    def score(words: int) -> float:
        first = [_first(example.text, words) for example in splits.train]
        return float(counts(splits.train, first)[:, 1].sum())

    # Among equals the fewest words.
    best = max(range(fewest, _FIRST_WORDS + 1), key=score)
    first = "first word" if best == 1 else f"first {best} words"
    return Baseline(
        f"always answers with the {first} of the context"
        if best
        else "always answers that there is no answer",
        "",
        each(counts(splits.test, [_first(example.text, best) for example in splits.test])),
    )


def _first(text: str, words: int) -> str:
    return text[: words_of(text)[:words][-1][1]] if words else ""


TASK = Task(
    learns="the part of a context that answers a question",
    fields={
        "question": Field("the question", "question"),
        "context": Field("the text that may answer it", "context"),
        "answers": Field("the answers, with their places in the context", "answers"),
    },
    pipeline_tag="question-answering",
    apart=lambda plan: True,
    read=read_examples,
    load=load,
    encode=encode,
    notes=notes,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    options={"stride": 32, "longest_answer": 30, "unanswerable": False},
)
