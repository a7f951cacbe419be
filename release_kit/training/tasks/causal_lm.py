r"""Causal language modelling: each token from those before it, for pre-training and instructions.

A decoder (AutoModelForCausalLM) turns token ids y, int64 of shape (batch, tokens), into logits z,
float32 of shape (batch, tokens, vocabulary); p(. | y_<i) = softmax of z at i - 1. As the seed of
this project writes it, with what is given, such as a prompt, as x:

    L(x, y) = -sum_{i=1}^{n} log p(y_i | y_{<i}, x)        in nats

An update takes the sum over all learned tokens of its batch, divided by their number, in however
many parts the batch goes through the model; log(vocabulary) is what a blind guess gets. Learned
are texts as a whole, of a prompt with its completion the completion, of a conversation the turns
of the assistant; and always the end-of-text token after them. Other tokens have the label -100.

With `packing: none` a row is one text, cut to max_length or refused, as `overlong` says; with
`packed` it is several texts that do not see each other; with `blocks` all texts are one stream,
cut into rows of max_length tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import Problem, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import Baseline, Measured, each
from release_kit.training.models import Loaded, in_batches
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.instructions import (
    COMPLETION,
    MESSAGES,
    PROMPT,
    TEXT,
    read_lessons,
    segments,
)
from release_kit.training.tasks.packing import bins, keeps_texts_apart
from release_kit.training.tasks.task import Field, Row, Task
from release_kit.training.tasks.tokens import (
    BASE,
    IGNORED,
    before_training,
    open_predictor,
    perplexity,
    starts_from_scratch,
    unigram,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NONE, _PACKED, _BLOCKS = "none", "packed", "blocks"
_CUT = "cut"
# Logits of one step of the evaluation: 64 MB in float32, however large the vocabulary.
_LOGITS = 1 << 24


@dataclass(frozen=True)
class _Lesson:
    """One record as the model reads it, whole."""

    ids: list[int]
    labels: list[int]
    """The id where a token is learned, else IGNORED; the first is never learned."""


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`.

    Raises:
        UnusableInput: as `open_predictor` does; the tokenizer has no end-of-text token; or texts
            are to be packed and the model cannot keep them apart.
    """
    loaded = open_predictor("AutoModelForCausalLM", plan, folder, labels)
    model, tokenizer = loaded.model, loaded.processor
    # Unlike other predictors these weigh by tokens: their losses take the Trainer's count.
    vars(model).pop("accepts_loss_kwargs", None)
    if tokenizer.eos_token_id is None:
        raise UnusableInput(
            f"{folder}: the tokenizer has no end-of-text token, so no text could be learned to end",
            hint="choose another base model, or give its tokenizer an eos_token",
        )
    if labels is not None and starts_from_scratch(plan, folder):
        # What ended texts with the tokenizer that the form was made for is any word with this one.
        for settings in (model.config, model.generation_config):
            settings.eos_token_id = tokenizer.eos_token_id
    packed = labels is not None and plan.options["packing"] == _PACKED
    if packed and not keeps_texts_apart(model):
        raise UnusableInput(
            f"{folder}: in this model packed texts see each other",
            hint="Set training.options.packing in release.yaml to none or blocks.",
        )
    return loaded


def _lessons(loaded: Loaded, examples: Sequence[Example]) -> list[_Lesson]:
    """Return the records as tokens.

    Prompt and answer become tokens apart, as when the model is used: it reads the prompt alone.

    Raises:
        UnusableInput: with each record that the chat template refuses or that has no token.
    """
    tokenizer = loaded.processor
    rendered = [segments(tokenizer, example.content) for example in examples]
    texts = [text for parts, _ in rendered for text, _ in parts]
    pieces = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ())
    before, end = _before_texts(tokenizer), tokenizer.eos_token_id
    found, wrong = [], [reason for _, reason in rendered]
    for place, (example, (parts, _)) in enumerate(zip(examples, rendered, strict=True)):
        chat, piece = example.content.chat, []
        ids = [] if chat else list(before)
        # Nothing is asked of a text, and yet its first token has to follow on something.
        if not chat and not before and not example.content.asks:
            ids = [end if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
        labels = [IGNORED] * len(ids)
        for _, learned in parts:
            piece = next(pieces)
            ids += piece
            labels += piece if learned else [IGNORED] * len(piece)
        if chat and end in piece:
            # What the template writes after the end nobody waits for.
            left = len(ids) - len(piece) + piece.index(end) + 1
            ids, labels = ids[:left], labels[:left]
        elif not piece or piece[-1] != end:
            ids, labels = [*ids, end], [*labels, end]
        labels[0] = IGNORED
        if not wrong[place] and not _learns(labels[:-1]):
            wrong[place] = "the tokenizer makes no tokens of it that could be learned"
        found.append(_Lesson(ids, labels))
    _check(examples, wrong)
    return found


def _before_texts(tokenizer: Any) -> list[int]:
    """Return what the tokenizer itself puts before each text."""
    ids = tokenizer("a", return_special_tokens_mask=True)
    own = zip(ids["input_ids"], ids["special_tokens_mask"], strict=True)
    return [token for token, special in takewhile(lambda pair: pair[1], own)]


def _learns(labels: Sequence[int]) -> bool:
    return any(label != IGNORED for label in labels)


def _check(examples: Sequence[Example], wrong: Sequence[str]) -> None:
    problems = [
        Problem(example.source, example.record, 1, reason)
        for example, reason in zip(examples, wrong, strict=True)
        if reason
    ]
    if problems:
        raise UnusableInput(
            f"{len(problems)} of {len(examples)} records of a split cannot be learned",
            problems=problems,
        )


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return token ids, labels and how many texts were cut, in rows as the option `packing` says.

    A packed row has position ids besides, which begin again at 0 with each of its texts.

    Raises:
        UnusableInput: as told at `_lessons`; a text has more than `max_length` tokens and is to
            be refused, or its prompt alone has as many.
    """
    lessons = _lessons(loaded, examples)
    if plan.options["packing"] == _BLOCKS:
        return _blocks(lessons, plan.max_length)
    rows: list[Row] = [
        {
            "input_ids": lesson.ids[: plan.max_length],
            "labels": lesson.labels[: plan.max_length],
            "cut": int(len(lesson.ids) > plan.max_length),
        }
        for lesson in lessons
    ]
    _check(examples, [_too_long(plan, *pair) for pair in zip(rows, lessons, strict=True)])
    if plan.options["packing"] == _NONE:
        return rows
    packed = bins([len(row["input_ids"]) for row in rows], plan.max_length)
    return [
        {
            "input_ids": [token for place in places for token in rows[place]["input_ids"]],
            "labels": [label for place in places for label in rows[place]["labels"]],
            "position_ids": [at for place in places for at in range(len(rows[place]["input_ids"]))],
            "cut": sum(rows[place]["cut"] for place in places),
        }
        for places in packed
    ]


def _too_long(plan: TrainingPlan, row: Row, lesson: _Lesson) -> str:
    if row["cut"] and plan.options["overlong"] != _CUT:
        return f"has {len(lesson.ids)} tokens, more than the max_length of {plan.max_length}"
    if not _learns(row["labels"]):
        return f"what comes before its answer fills the max_length of {plan.max_length} tokens"
    return ""


def _blocks(lessons: Sequence[_Lesson], size: int) -> list[Row]:
    """Cut the stream of all texts into rows; the last one may be shorter."""
    ids: list[int] = []
    labels: list[int] = []
    for lesson in lessons:
        # Where one token both ends and begins texts, it stands once between two.
        first = 1 if ids and ids[-1] == lesson.ids[0] else 0
        ids += lesson.ids[first:]
        labels += lesson.labels[first:]
    rows: list[Row] = [
        {"input_ids": ids[at : at + size], "labels": labels[at : at + size], "cut": 0}
        for at in range(0, len(ids), size)
    ]
    # Of a row's first token nobody knows what came before.
    return [row for row in rows if _learns(row["labels"][1:])]


def notes(plan: TrainingPlan, examples: Sequence[Example], rows: Sequence[Row]) -> Iterator[str]:
    """Tell how many texts were cut, and how many rows they share."""
    if cut := sum(row["cut"] for row in rows):
        yield (
            f"{cut} of {len(examples)} records have more than {plan.max_length} tokens and are cut"
            " there; what stands behind is not learned"
        )
    if plan.options["packing"] != _NONE:
        yield f"{len(examples)} records share {len(rows)} rows"


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what pads rows on the right to the longest of their batch.

    In packed rows each padding token is a text of its own, as its position says; others have a
    mask. A padding token that is also the end-of-text token stays learned where it ends a text.
    """
    pad = loaded.processor.pad_token_id

    def pads(rows: list[Row]) -> Mapping[str, Any]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        lacks = [longest - len(row["input_ids"]) for row in rows]

        def filled(name: str, fill: int) -> Any:
            return torch.tensor(
                [row[name] + [fill] * lack for row, lack in zip(rows, lacks, strict=True)]
            )

        batch = {"input_ids": filled("input_ids", pad)}
        if "labels" in rows[0]:
            batch["labels"] = filled("labels", IGNORED)
        if "position_ids" in rows[0]:
            batch["position_ids"] = filled("position_ids", 0)
        else:
            batch["attention_mask"] = torch.tensor(
                [[1] * (longest - lack) + [0] * lack for lack in lacks]
            )
        return batch

    return pads


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count, of each example, the columns that `figures` reads.

    A text is read whole, whatever `packing` and `overlong` say: in windows of max_length tokens,
    each of which begins with the last token of the one before, so that every token is scored
    once. Whether greedy decoding gives an answer is seen without generating: it does exactly if
    each token of the answer, the end among them, is the most likely one after those before it.
    """
    lessons = _lessons(loaded, examples)
    rows, owners = _windows(lessons, plan.max_length)
    counts = np.zeros((len(examples), _COLUMNS))
    counts[:, 3:] = [
        _said(loaded, example, lesson) for example, lesson in zip(examples, lessons, strict=True)
    ]
    scored = in_batches(
        loaded, rows, collate(loaded, plan), plan, watcher, without=("cut",), run=_scorer(loaded)
    )
    for chosen, (losses, right), _ in scored:
        for row, loss, hit in zip(chosen, losses, right, strict=True):
            labels = np.array(rows[row]["labels"][1:])
            learned = labels != IGNORED
            place = owners[row]
            counts[place, :3] += loss.sum(), learned.sum(), hit.sum()
            # Of a longer text the model has not read all that stands before the answer.
            answer = np.flatnonzero(~learned)[-1:].sum() + 1 if not learned.all() else 0
            whole = len(lessons[place].ids) <= plan.max_length
            counts[place, 6] = whole and hit[: len(labels)][answer:].all()
    counts[:, 6] *= counts[:, 5]
    return each(counts, broken=tuple(np.flatnonzero(~np.isfinite(counts).all(axis=1)).tolist()))


_COLUMNS = 7


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the figures for sums of shape (..., 7).

    The columns are L in nats, learned tokens, how many of them are the model's most likely ones,
    bytes of what is learned (UTF-8), unknown tokens in it, whether there is an answer to check,
    and whether it is exact. With bits per byte models can be compared whose tokens differ:

        bits per byte = L / (ln 2 * bytes)

    It is left out where the tokenizer does not know all that the texts say: an unknown token is
    cheap to foretell and stands for anything. The exact matches are of the answers.
    """
    loss, tokens, right, size, unknown, asked, exact = np.moveaxis(sums, -1, 0)
    found = {"perplexity": perplexity(loss, tokens)}
    if not unknown.any():
        found["bits_per_byte"] = np.asarray(loss / (np.log(2) * size))
    found["token_accuracy"] = np.asarray(right / tokens)
    if asked.any():
        with np.errstate(invalid="ignore"):
            found["exact_match"] = np.asarray(exact / asked)
    return found


def _said(loaded: Loaded, example: Example, lesson: _Lesson) -> tuple[int, int, bool, bool]:
    tokenizer = loaded.processor
    # GPT-2 calls its end-of-text token the unknown one, too, and needs none.
    unknown = {tokenizer.unk_token_id} - {None, tokenizer.eos_token_id, tokenizer.bos_token_id}
    count = sum(label in unknown for label in lesson.labels)
    return example.content.bytes, count, example.content.asks, False


def _windows(lessons: Sequence[_Lesson], size: int) -> tuple[list[Row], NDArray[np.intp]]:
    """Return rows in which every learned token has something before it, and their lessons."""
    rows: list[Row] = []
    owners = []
    for place, lesson in enumerate(lessons):
        for at in range(0, len(lesson.ids) - 1, size - 1):
            labels = lesson.labels[at : at + size]
            if _learns(labels[1:]):
                rows.append({"input_ids": lesson.ids[at : at + size], "labels": labels})
                owners.append(place)
    return rows, np.array(owners, np.intp)


def _scorer(loaded: Loaded) -> Callable[[Any, Mapping[str, Any]], Any]:
    """Return what scores a batch: nats and right answers, each of shape (batch, tokens - 1).

    Logits bind the memory (of 128,000 tokens they take 0.5 MB for each learned one), so the head
    is run on a few positions at a time where it is nothing but a linear map.
    """
    import torch

    chunk = max(1, _LOGITS // loaded.model.get_input_embeddings().num_embeddings)
    apart = _linear_head(loaded.model)

    def score(model: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        read = {name: value for name, value in inputs.items() if name != "labels"}
        labels = inputs["labels"][:, 1:]
        rows, places = torch.nonzero(labels != IGNORED, as_tuple=True)
        if apart:
            known = model.base_model(**read, use_cache=False)[0]
        else:
            known = model(**read, use_cache=False).logits
        losses = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
        right = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
        for part in torch.arange(len(rows), device=labels.device).split(chunk):
            at = rows[part], places[part]
            logits = model.get_output_embeddings()(known[at]) if apart else known[at]
            losses[at] = torch.nn.functional.cross_entropy(
                logits.float(), labels[at], reduction="none"
            ).double()
            right[at] = logits.argmax(dim=-1) == labels[at]
        return losses.cpu().numpy(), right.cpu().numpy()

    return score


def _linear_head(model: Any) -> bool:
    """Tell whether the logits are the body's output through one linear map, by trying it."""
    import torch

    ids = torch.arange(8, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
            hidden = model.base_model(input_ids=ids, use_cache=False)[0]
            again = model.get_output_embeddings()(hidden)
    except Exception:  # noqa: BLE001 - models differ in their parts; their own forward works
        return False
    return logits.shape == again.shape and bool(torch.allclose(logits, again, rtol=1e-4, atol=1e-4))


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Measure the base model; where it could not answer, know only how often tokens occur."""
    untrained = before_training(load, plan, base)
    if untrained is not None:
        return Baseline(
            "is the base model as it was", "", measure(untrained, splits.test, plan, watcher)
        )
    seen = (lesson.labels for lesson in _lessons(loaded, splits.train))
    lessons = _lessons(loaded, splits.test)
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    counts = np.zeros((len(lessons), _COLUMNS))
    counts[:, :3] = unigram(seen, (lesson.labels for lesson in lessons), vocabulary)
    counts[:, 3:] = [
        _said(loaded, example, lesson) for example, lesson in zip(splits.test, lessons, strict=True)
    ]
    return Baseline("knows only how often each token occurs in training", "", each(counts))


TASK = Task(
    learns="each token of a text from those before it",
    fields={
        TEXT: Field("a text, all of which is learned", None),
        PROMPT: Field("what is asked", None),
        COMPLETION: Field("the answer, which alone is learned", None),
        MESSAGES: Field("a conversation, of which the assistant's turns are learned", None),
    },
    pipeline_tag="text-generation",
    apart=lambda plan: plan.options["packing"] == _NONE,
    read=read_lessons,
    load=load,
    encode=encode,
    notes=notes,
    collate=collate,
    measure=measure,
    figures=figures,
    baseline=baseline,
    options={"start": BASE, "packing": _NONE, "overlong": _CUT},
)
