"""Which training records a model completes from their beginning: discoverable memorisation.

The model reads the first half of a record, at most fifty tokens of it besides what stands before
an answer, and the next fifty at most are compared with what it says (Carlini et al. 2022,
Quantifying memorization across neural language models). Records of boilerplate are completed by
anybody, so the rate of held-out records is subtracted. A decoder is asked in three ways:

- exact: greedy decoding gives every token. It does exactly if each token is the most likely one
  after the true ones before it, so one forward pass tells it and nothing is generated;
- near: the greedy text has a BLEU above 0.75 (Ippolito et al. 2022, Preventing verbatim
  memorization in language models gives a false sense of privacy);
- sampled: of 1000 texts drawn from the 40 most likely tokens at temperature 1, one at least is
  exact with a chance of 1/2 or more (Hayes et al. 2024, Measuring memorization through
  probabilistic discoverable extraction). With p_z the chance of one draw, it is
  1 - (1 - p_z)^1000, and nothing is drawn.

Of a masked language model eight tokens in the middle of a record are hidden and told from left to
right, each the most likely one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from release_kit.leak_measures import MEASURES_OF
from release_kit.memorization.asking import rows_of, token_scores
from release_kit.memorization.intervals import difference, share
from release_kit.memorization.probes import Found, Probe, Reading
from release_kit.memorization.subject import Kin, Subject
from release_kit.progress import SILENT
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.models import Loaded, device_of, in_batches, quiet
from release_kit.training.tasks.task import Row
from release_kit.training.tasks.tokens import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXACT, _NEAR, _SAMPLED = "extraction_rate", "near_extraction_rate", "sampled_extraction_rate"
_MOST, _FEWEST = 50, 8
"""Tokens that are compared."""
_BLEU, _ORDER = 0.75, 4
_TRIES, _CHANCE = 1000, 0.5
TOP = 40
"""Of so many tokens, the most likely ones, one is drawn."""
_AT_ONCE = 32
_GROUPS = (("1", 1, 1), ("2-4", 2, 4), ("5+", 5, math.inf))

_Asked = TypeVar("_Asked")


@dataclass(frozen=True)
class _Item:
    """A record, as the model reads it, and what of it is to be told."""

    ids: list[int] = field(repr=False)
    start: int
    stop: int
    copies: int
    member: bool


def extraction_probe(subject: Subject, leaks: LeaksPlan) -> Probe | Found:
    """Ask for the rest of records: one of each family, training and held-out ones in turn.

    A row is (whether it is of the training data, records of its family, whether it is exact, the
    BLEU of the greedy text, p_z, tokens that are compared); what a masked language model is not
    asked, and all that a model answers with NaN, is NaN.
    """
    causal = subject.plan.task == "causal-lm"
    looked = [*subject.members[: leaks.records], *subject.controls[: leaks.records]]
    sides: tuple[list[_Item], list[_Item]] = ([], [])
    reasons: Counter[str] = Counter()
    for place, kin in enumerate(looked):
        member = place < len(subject.members[: leaks.records])
        item = _item(subject, kin, member=member)
        if isinstance(item, _Item):
            sides[not member].append(item)
        else:
            reasons[item] += 1
    notes = tuple(
        f"{count} of {len(looked)} records that were looked at {reason}, and are not asked for"
        for reason, count in reasons.items()
    )
    measures = [
        name for name in (_EXACT, _NEAR, _SAMPLED) if name in MEASURES_OF[subject.plan.task]
    ]
    if not all(sides):
        which = "held-out" if sides[0] else "training"
        reason = f"no {which} record is long enough to be completed"
        return Found(not_measured=dict.fromkeys(measures, reason), notes=notes)
    items = alternating(*sides)

    def ask(part: range) -> NDArray[np.float64]:
        chosen = [items[number] for number in part]
        answers = _completed(subject, chosen) if causal else _told(subject, chosen)
        known = [(item.member, item.copies) for item in chosen]
        sizes = [(item.stop - item.start,) for item in chosen]
        return np.concatenate([np.array(known, np.float64), answers, np.array(sizes)], axis=1)

    return Probe(
        name="extraction",
        items=len(items),
        at_once=_AT_ONCE,
        ask=ask,
        found=lambda rows: _found(rows, measures, notes),
    )


def alternating(members: Sequence[_Asked], controls: Sequence[_Asked]) -> list[_Asked]:
    """Return both in turn, members first, and then what is left of the longer one."""
    both = min(len(members), len(controls))
    pairs = [one for pair in zip(members, controls, strict=False) for one in pair]
    return [*pairs, *members[both:], *controls[both:]]


def reading_plan(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan by which a record is read alone and, where it is too long, cut."""
    alone = {"packing": "none", "overlong": "cut"}
    options = {name: alone.get(name, value) for name, value in plan.options.items()}
    return replace(plan, options=options)


def _item(subject: Subject, kin: Kin, *, member: bool) -> _Item | str:
    """Return what is asked of a record, or why it is not asked."""
    if subject.plan.task == "causal-lm":
        rows, _ = rows_of(subject.task, subject.loaded, [kin.example], reading_plan(subject.plan))
        if not rows:
            # In blocks prompts may be learned from that fill a row of their own.
            return "have an answer that begins behind what is read at once"
        (row,) = rows
        ids = row["input_ids"]
        first, last = _learned(row, subject.loaded.processor.eos_token_id)
        start = first + min(_MOST, (last - first) // 2)
        stop = min(last, start + _MOST)
    else:
        text, limit = kin.example.text, subject.plan.max_length
        read = subject.loaded.processor(
            text, truncation=True, max_length=limit, return_special_tokens_mask=True
        )
        ids = read["input_ids"]
        ordinary = np.flatnonzero(np.array(read["special_tokens_mask"]) == 0)
        start = stop = 0
        if len(ordinary) >= 2 * _FEWEST:
            start = int(ordinary[len(ordinary) // 2]) - _FEWEST // 2
            stop = start + _FEWEST
    if stop - start < _FEWEST:
        return f"have less than {_FEWEST} tokens to complete, which may be right by chance"
    return _Item(ids, start, stop, kin.copies, member)


def _learned(row: Row, end: int) -> tuple[int, int]:
    """Return where the longest run of learned tokens begins and ends, without the end of text."""
    learned = np.array(row["labels"]) != IGNORED
    edges = np.flatnonzero(np.diff(learned, prepend=False, append=False)).reshape(-1, 2)
    first, last = edges[np.argmax(edges[:, 1] - edges[:, 0])].tolist()
    return first, last - (row["input_ids"][last - 1] == end)


def _completed(subject: Subject, items: Sequence[_Item]) -> NDArray[np.float64]:
    """Return (exact, BLEU, p_z) of each, of a model that reads from left to right."""
    task, loaded, plan = subject.task, subject.loaded, subject.plan
    rows = [
        {
            "input_ids": item.ids[: item.stop],
            "labels": [IGNORED] * item.start + item.ids[item.start : item.stop],
        }
        for item in items
    ]
    found = np.full((len(items), 3), np.nan)
    for place, scores in enumerate(token_scores(task, loaded, rows, plan)):
        if not np.isnan(scores.logp).any():
            exact = bool(scores.greedy.all())
            found[place] = exact, float(exact), math.exp(scores.top.sum())
    # What is exact is near; of any other record no token tells what follows on a wrong one.
    left = np.flatnonzero(found[:, 0] == 0).tolist()
    prefixes = [items[place].ids[: items[place].start] for place in left]
    for place, said in zip(left, continuations(loaded, prefixes, plan, _MOST), strict=True):
        item = items[place]
        found[place, 1] = bleu(said[: item.stop - item.start], item.ids[item.start : item.stop])
    return found


def _told(subject: Subject, items: Sequence[_Item]) -> NDArray[np.float64]:
    """Return (exact, NaN, NaN) of each, of a model that tells hidden tokens."""
    rows, spans, wanted = [], [], []
    for item in items:
        for at in range(item.start, item.stop):
            rows.append(hidden(subject.loaded, item.ids, at, item.stop))
            spans.append((at, at + 1))
            wanted.append(item.ids[at])
    logs = hidden_logs(subject, subject.loaded, rows, spans)
    hits = np.array(
        [
            math.nan if bool(log.isnan().any()) else float(int(log.argmax()) == token)
            for log, token in zip(logs, wanted, strict=True)
        ]
    )
    found = np.full((len(items), 3), np.nan)
    found[:, 0] = hits.reshape(len(items), _FEWEST).min(axis=1)
    return found


def hidden(loaded: Loaded, ids: Sequence[int], start: int, stop: int) -> Row:
    """Return the row in which the tokens from `start` to `stop` are hidden."""
    mask = [loaded.processor.mask_token_id] * (stop - start)
    read = [*ids[:start], *mask, *ids[stop:]]
    return {"input_ids": read, "attention_mask": [1] * len(read)}


def hidden_logs(
    subject: Subject, loaded: Loaded, rows: Sequence[Row], spans: Sequence[tuple[int, int]]
) -> list[Any]:
    """Return log p of all tokens at the places of each row's span, a tensor (places, vocabulary).

    The model is a masked language model, with or without a head for the next sentence.
    """
    found: list[Any] = [None] * len(rows)
    collate = subject.task.collate(loaded, subject.plan)
    for chosen, outputs, _ in in_batches(loaded, rows, collate, subject.plan, SILENT):
        given = getattr(outputs, "logits", None)
        logits = outputs.prediction_logits if given is None else given
        for place, row in enumerate(chosen):
            start, stop = spans[row]
            found[row] = logits[place, start:stop].float().log_softmax(dim=-1).cpu()
    return found


def continuations(
    loaded: Loaded,
    prefixes: Sequence[Sequence[int]],
    plan: TrainingPlan,
    tokens: int,
    seed: int | None = None,
) -> list[list[int]]:
    """Return what a decoder writes after each prefix: at most so many tokens, without the end.

    Without `seed` it is the most likely token each time, else one drawn from the 40 most likely
    ones at temperature 1; settings for generation that lie beside the weights are not used.
    """
    import torch
    from transformers import GenerationConfig

    tokenizer = loaded.processor
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    drawn = {} if seed is None else {"top_k": TOP, "temperature": 1.0}
    settings = GenerationConfig(
        max_new_tokens=tokens,
        do_sample=seed is not None,
        num_beams=1,
        eos_token_id=end,
        pad_token_id=pad,
        **drawn,
    )

    def padded(rows: list[Row]) -> Mapping[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)
        lacks = [longest - len(row["input_ids"]) for row in rows]
        return {
            # The text goes on at its right end.
            "input_ids": torch.tensor(
                [[pad] * lack + row["input_ids"] for row, lack in zip(rows, lacks, strict=True)]
            ),
            "attention_mask": torch.tensor([[0] * lack + [1] * (longest - lack) for lack in lacks]),
        }

    def write(model: Any, inputs: Mapping[str, Any]) -> Any:
        with quiet(), _own_settings_only(model), _drawing(seed):
            return model.generate(**inputs, generation_config=settings)

    found: list[list[int]] = [[] for _ in prefixes]
    rows = [{"input_ids": list(prefix)} for prefix in prefixes]
    for chosen, outputs, inputs in in_batches(loaded, rows, padded, plan, SILENT, run=write):
        for row, said in zip(
            chosen, outputs[:, inputs["input_ids"].shape[1] :].tolist(), strict=True
        ):
            found[row] = said[: said.index(end)] if end in said else said
    return found


@contextmanager
def _own_settings_only(model: Any) -> Iterator[None]:
    """Keep away what `generate` takes from the model where it is told nothing else."""
    from transformers import GenerationConfig

    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


@contextmanager
def _drawing(seed: int | None) -> Iterator[None]:
    """Begin torch's random numbers at `seed`, and go on with the others afterwards."""
    import torch

    device = device_of()
    with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def bleu(said: Sequence[int], true: Sequence[int]) -> float:
    """Return how much of one text stands in the other, from 0 to 1 (Papineni et al. 2002).

    Runs of one to four tokens are counted, none twice; too short a text is worth less.
    """
    if len(said) < _ORDER or len(true) < _ORDER:
        return float(list(said) == list(true))
    total = 0.0
    for size in range(1, _ORDER + 1):
        own, wanted = (
            Counter(tuple(text[at : at + size]) for at in range(len(text) - size + 1))
            for text in (said, true)
        )
        met = (own & wanted).total()
        if not met:
            return 0.0
        total += math.log(met / own.total())
    return math.exp(total / _ORDER + min(0.0, 1 - len(true) / len(said)))


def _found(rows: NDArray[np.float64], measures: Sequence[str], notes: tuple[str, ...]) -> Found:
    asked = rows.reshape(-1, 6)
    known = asked[~np.isnan(asked[:, 0]) & ~np.isnan(asked[:, 2])]
    if broken := len(asked) - len(known):
        notes = (*notes, f"to {broken} of {len(asked)} records the model's answer is NaN")
    members, controls = known[known[:, 0] == 1], known[known[:, 0] == 0]
    if not len(members) or not len(controls):
        reason = "no record was asked for in the time given"
        if len(asked) and not len(known):
            reason = "the model's answers are NaN"
        return Found(not_measured=dict.fromkeys(measures, reason), notes=notes)
    readings = []
    for measure in measures:
        count, other = int(_hits(measure, members).sum()), int(_hits(measure, controls).sum())
        low, high = difference(count, len(members), other, len(controls))
        readings.append(
            Reading(
                measure,
                count / len(members) - other / len(controls),
                low,
                high,
                len(members),
                f"{_HOW[measure]}; {count} of {len(members)} training records against {other} of"
                f" {len(controls)} held-out ones",
            )
        )
    return Found(tuple(readings), curves={"extraction": _by_copies(members)}, notes=notes)


_HOW = {
    _EXACT: "word for word",
    _NEAR: f"BLEU above {_BLEU}",
    _SAMPLED: f"one of {_TRIES} draws from the {TOP} likeliest tokens, with a chance of {_CHANCE}",
}


def _hits(measure: str, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    if measure == _NEAR:
        return np.asarray(rows[:, 3] > _BLEU)
    if measure == _SAMPLED:
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(_TRIES * np.log1p(-np.minimum(rows[:, 4], 1))) >= _CHANCE)
    return np.asarray(rows[:, 2] == 1)


def _by_copies(members: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the exact rates of training records by the size of their families."""
    found = []
    for name, least, most in _GROUPS:
        own = members[(members[:, 1] >= least) & (members[:, 1] <= most)]
        if len(own):
            hits = int(_hits(_EXACT, own).sum())
            low, high = share(hits, len(own))
            rate = hits / len(own)
            found.append({"copies": name, "of": len(own), "rate": rate, "low": low, "high": high})
    return found
