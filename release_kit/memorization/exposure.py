"""How well the weights know a canary: its rank among all secrets that could stand there.

With R possible secrets, of which r are at least as likely to the model as the canary's own,

    exposure = log2 R - log2 r        in bits; from 0 to the ceiling log2 R

(Carlini et al. 2019, The Secret Sharer, section 4). Of a secret that the model never saw, every
rank is as likely as any other, so that P(exposure >= x) = 2^-x, whatever the model: an exposure is
a p-value, and its mean by chance is 1 / ln 2 = 1.44 bits.

How likely a secret d_1 .. d_n is, a language model says digit by digit, from the text before it
or, with masks, around it. q(d_i | d_<i) is its choice among the ten digits, in nats:

    log q(d) = sum_i log q(d_i | d_<i)

Two stages. The first draws some secrets at random: the share of them that are as likely bounds
the rank from both sides (Clopper and Pearson 1934). Where that leaves room for a high rank, the
second looks for all likelier secrets in the tree of digits. What begins with an unlikelier
beginning is unlikelier, so few branches stay: since q sums to 1, never more than 1 / q(d) at once,
however many secrets there are. Where even these are too many, 1 / q(d) bounds the rank, and what
the drawn secrets score is extrapolated by a skew-normal distribution (section 4.3 there).

A classifier says nothing of a digit; there the rank is that of the loss of the record, among
drawn secrets only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.datasets.records import Record
from release_kit.leak_measures import MEASURES_OF
from release_kit.memorization import intervals
from release_kit.memorization.asking import losses
from release_kit.memorization.canaries import SOURCE, Canary, drawn, writer
from release_kit.memorization.probes import Found, Probe, Reading
from release_kit.memorization.subject import Subject
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.models import Loaded, device_of
from release_kit.training.splits import Example
from release_kit.training.tasks.task import Row, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Logs = Callable[[NDArray[np.intp], int], NDArray[np.float64]]
    """(beginnings, shape (n, i); the first place wanted, f) → log q of each digit at the places f
    to i after them, shape (n, i + 1 - f, 10)."""

EXPOSURE, EXCESS = "canary_exposure", "canary_exposure_excess"
EXACT, SAMPLED, EXTRAPOLATED, BY_LOSS = range(4)
"""How an exposure is known."""
_HOW = ("ranked exactly", "by sampling", "extrapolated", "by sampling of losses")
PLAIN, CACHED, BARE = "plain", "cached", "bare"
"""Ways to ask a causal model: whole rows; what stands before the secret read once for all; and
that with the head of the ten digits alone."""
_MASKED = "masked-lm"
_DIGITS = 10
_DRAWN, _DRAWN_BY_LOSS = 256, 1024
# Beginnings that are followed at once. With ten times as many secrets of which none is unlikelier
# the search ends without an answer, so nothing is searched for that is ranked lower.
_MOST = 2048
# Nats by which the answer may differ between two batches, and between two ways of asking.
_SAME, _TRIED = 1e-4, 1e-3
# Tokens of one batch, those before the secret among them, and numbers of its logits.
_TOKENS, _LOGITS = 1 << 13, 1 << 26
_STREAM = 6_002
# Of the test that canaries that were never planted come out as chance has it.
_CHANCE = 1e-3


@dataclass(frozen=True)
class Space:
    """All secrets that could stand in a canary, which differ in one token for each digit."""

    row: Row = field(repr=False)
    """What the model reads of the canary with its own secret."""
    places: NDArray[np.intp]
    """Where the digits stand in it, shape (digits,)."""
    tokens: NDArray[np.int64]
    """The token of each of the ten digits there, shape (digits, 10)."""
    masked: bool
    """Whether the model reads what stands behind a digit, too."""


def exposure_probe(subject: Subject, leaks: LeaksPlan) -> Probe | Found:
    """Return the probe that asks for each canary of the plan how exposed it is.

    A row holds: repeats, exposure, low and high in bits, p, how it is known. It is NaN but for
    the first where the model gives no number, or reads several secrets alike.
    """
    if EXPOSURE not in MEASURES_OF[subject.plan.task]:
        return Found()
    canaries = drawn(subject.plan)
    if not canaries:
        return _nothing("no canaries were planted (training.canaries in release.yaml)")
    ask = _asker(subject)
    rounds = len({canary.repeats for canary in canaries})
    return Probe(
        name="exposure",
        items=len(canaries),
        at_once=rounds,
        ask=lambda part: np.array([ask(canaries[item], item) for item in part]),
        found=lambda rows: _found(rows, _ceiling(canaries[0])),
    )


def _nothing(reason: str, notes: tuple[str, ...] = ()) -> Found:
    return Found(not_measured=dict.fromkeys((EXPOSURE, EXCESS), reason), notes=notes)


def _ceiling(canary: Canary) -> float:
    return len(canary.secret) * math.log2(_DIGITS)


# What is asked.


def _asker(subject: Subject) -> Callable[[Canary, int], list[float]]:
    """Return what asks for a canary, told with its number, and returns its row."""
    task, loaded, plan = subject.task, subject.loaded, subject.plan
    splits = subject.splits
    write = writer(plan, (*splits.train, *splits.validation, *splits.test))
    way = ""

    def ask(canary: Canary, number: int) -> list[float]:
        nonlocal way
        random = np.random.default_rng((plan.seed, _STREAM, number))
        unknown = [float(canary.repeats), *[math.nan] * 5]
        apart, space = space_of(task, loaded, plan, canary, write)
        own = np.array([[int(digit) for digit in canary.secret]])
        if not apart or (space is None and plan.task == _MASKED):
            return unknown
        if space is None:
            others = random.integers(_DIGITS, size=(_DRAWN_BY_LOSS, own.shape[1]))
            secrets = ["".join(map(str, digits)) for digits in (*own.tolist(), *others.tolist())]
            examples = _examples(task, plan, [write(canary, secret) for secret in secrets])
            scores = -losses(task, loaded, examples, plan)
            logs = None
        else:
            way = way or fastest(loaded, space)
            logs = likelihoods(loaded, space, way)
            others = random.integers(_DIGITS, size=(_DRAWN, own.shape[1]))
            scores = scored(logs, np.concatenate([own, others]))
        if not np.isfinite(scores).all():
            return unknown
        return [float(canary.repeats), *_known(logs, own[0], scores)]

    return ask


def _examples(task: Task, plan: TrainingPlan, fields: Sequence[dict[str, Any]]) -> list[Example]:
    if "label" not in task.fields:
        return list(task.read(plan, [Record(one, SOURCE, 1) for one in fields]))
    # Reading a classifier's records asks for more than one class.
    text, label = plan.fields["text"], plan.fields["label"]
    return [Example(one[text], (one[label],), SOURCE, 1) for one in fields]


def space_of(
    task: Task,
    loaded: Loaded,
    plan: TrainingPlan,
    canary: Canary,
    write: Callable[[Canary, str], dict[str, Any]],
) -> tuple[bool, Space | None]:
    """Return whether the model can tell secrets apart, and the space where digits are tokens.

    `plan` is settled, and `write` comes from `canaries.writer`. Each digit is changed alone, and
    then all together: every change must show, and in one token of its own. The space is None where
    it does not, and for a classifier.
    """
    if "packing" in plan.options:
        plan = replace(plan, options={**plan.options, "packing": "none", "overlong": "cut"})
    own, size = canary.secret, len(canary.secret)
    secrets = [own]
    secrets += [f"{own[:at]}{digit}{own[at + 1 :]}" for at in range(size) for digit in range(10)]
    shifted = [[(int(digit) + by) % _DIGITS for digit in own] for by in range(_DIGITS)]
    secrets += ["".join(map(str, digits)) for digits in shifted]
    examples = _examples(task, plan, [write(canary, secret) for secret in secrets])
    rows = task.encode(loaded, examples, plan)
    read_as = [tuple(row["input_ids"]) for row in rows]
    if len(rows) != len(secrets) or len(set(read_as)) != len(set(secrets)):
        return False, None
    if "label" in task.fields or len({len(ids) for ids in read_as}) > 1:
        return True, None
    ids = np.array(read_as)
    alone = ids[1 : 1 + size * _DIGITS].reshape(size, _DIGITS, -1)
    differ = (alone != ids[0]).any(axis=1)
    if (differ.sum(axis=1) != 1).any():
        return True, None
    places = differ.argmax(axis=1)
    tokens = alone[np.arange(size), :, places]
    together = np.repeat(ids[:1], _DIGITS, axis=0)
    together[:, places] = tokens[np.arange(size), np.array(shifted)]
    if (np.diff(places) <= 0).any() or (together != ids[1 + size * _DIGITS :]).any():
        return True, None
    return True, Space(rows[0], places, tokens, plan.task == _MASKED)


# What the model says of digits.


def fastest(loaded: Loaded, space: Space) -> str:
    """Return the fastest way of asking that gives this model's own answers, by trying it.

    Caches and heads differ between architectures; a masked model has only the plain way.
    """
    if space.masked or space.places[0] < 2:  # noqa: PLR2004 - one token is no beginning worth keeping
        return PLAIN
    size = len(space.places)
    some = np.add.outer(np.arange(3), np.arange(size - 1)) % _DIGITS
    truth = likelihoods(loaded, space, PLAIN)(some, 0)
    for way in (BARE, CACHED):
        try:
            tried = likelihoods(loaded, space, way)(some, 0)
        except Exception:  # noqa: BLE001, S112 - what a model cannot do it may say in any way
            continue
        if tried.shape == truth.shape and np.abs(tried - truth).max() <= _TRIED:
            return way
    return PLAIN


def likelihoods(loaded: Loaded, space: Space, way: str = PLAIN, at_once: int | None = None) -> Logs:
    """Return what gives log q of each digit after some beginnings of a secret.

    `at_once` beginnings share a batch; None for as many as the memory should hold. With PLAIN and
    1 it is the naive loop, with one whole row for each.
    """
    loaded.model.to(device_of()).eval()
    if space.masked:
        return _from_both_sides(loaded, space, at_once)
    return _from_before(loaded, space, way, at_once)


def scored(logs: Logs, secrets: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return log q of each secret, shape (n,), in nats; `secrets` holds digits, (n, digits)."""
    table = logs(secrets[:, :-1], 0)
    return np.asarray(np.take_along_axis(table, secrets[:, :, None], axis=2)[:, :, 0].sum(axis=1))


def _from_before(loaded: Loaded, space: Space, way: str, at_once: int | None) -> Logs:
    import torch

    model, places = loaded.model, space.places
    ids = torch.tensor(space.row["input_ids"], device=model.device)
    tokens = torch.tensor(space.tokens, device=model.device)
    # The last token before the secret is read with it, for what is said after it.
    begin = 0 if way == PLAIN else int(places[0]) - 1
    known = None
    if begin:
        with torch.inference_mode():
            body = model.base_model if way == BARE else model
            known = body(**_whole(ids[None, :begin], begin), use_cache=True).past_key_values

    def choices(read: Any, slots: slice, cache: dict[str, Any]) -> Any:
        at = torch.tensor(places[slots] - 1 - begin, device=model.device)
        if way != BARE:
            said = model(**read, **cache).logits[:, at]
            return said.gather(2, tokens[None, slots].expand(len(said), -1, -1))
        hidden = model.base_model(**read, **cache)[0][:, at]
        head = model.get_output_embeddings()
        said = torch.einsum("nsh,sdh->nsd", hidden, head.weight[tokens[slots]])
        return said if head.bias is None else said + head.bias[tokens[slots]]

    def logs(beginnings: NDArray[np.intp], first: int) -> NDArray[np.float64]:
        depth = beginnings.shape[1]
        end = int(places[depth])
        found = []
        for part in _parts(beginnings, at_once or _fitting(loaded, end, end - begin, way == BARE)):
            read = ids[begin:end].repeat(len(part), 1)
            digits = torch.tensor(part, device=model.device)
            read[:, places[:depth] - begin] = tokens[
                torch.arange(depth, device=model.device), digits
            ]
            cache: dict[str, Any] = {"use_cache": False}
            if known is not None:
                # The model writes what it reads into the cache that it is given.
                own = copy.deepcopy(known)
                own.batch_repeat_interleave(len(part))
                cache = {"past_key_values": own, "use_cache": True}
            with torch.inference_mode():
                said = choices(_whole(read, end), slice(first, depth + 1), cache)
            found.append(said.float().log_softmax(dim=-1).double().cpu().numpy())
        return np.concatenate(found)

    return logs


def _whole(ids: Any, length: int) -> dict[str, Any]:
    """Return what a model reads; `length` counts what the cache holds, too, and none is padding."""
    return {"input_ids": ids, "attention_mask": ids.new_ones((len(ids), length))}


def _from_both_sides(loaded: Loaded, space: Space, at_once: int | None) -> Logs:
    import torch

    model, places = loaded.model, space.places
    row = {
        name: torch.tensor(value, device=model.device)
        for name, value in space.row.items()
        if name != "words"
    }
    tokens = torch.tensor(space.tokens, device=model.device)
    size = len(row["input_ids"])

    def next_digit(beginnings: NDArray[np.intp]) -> NDArray[np.float64]:
        depth = beginnings.shape[1]
        found = []
        for part in _parts(beginnings, at_once or _fitting(loaded, size, size, False)):
            inputs = {name: value.repeat(len(part), 1) for name, value in row.items()}
            digits = torch.tensor(part, device=model.device)
            inputs["input_ids"][:, places[:depth]] = tokens[
                torch.arange(depth, device=model.device), digits
            ]
            inputs["input_ids"][:, places[depth:]] = loaded.processor.mask_token_id
            with torch.inference_mode():
                said = model(**inputs).logits[:, int(places[depth])][:, tokens[depth]]
            found.append(said.float().log_softmax(dim=-1).double().cpu().numpy())
        return np.concatenate(found)

    def logs(beginnings: NDArray[np.intp], first: int) -> NDArray[np.float64]:
        found = []
        for depth in range(first, beginnings.shape[1] + 1):
            # Few beginnings differ in their first digits.
            unlike, which = np.unique(beginnings[:, :depth], axis=0, return_inverse=True)
            found.append(next_digit(unlike)[which.reshape(-1)])
        return np.stack(found, axis=1)

    return logs


def _parts(beginnings: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(beginnings), size):
        yield beginnings[start : start + size]


def _fitting(loaded: Loaded, tokens: int, read: int, bare: bool) -> int:
    """Return how many rows of so many tokens, some of them known, share a batch."""
    most = _TOKENS // tokens
    if not bare:
        most = min(most, _LOGITS // (read * loaded.model.get_input_embeddings().num_embeddings))
    return max(1, most)


# What follows from it.


def rank_of(logs: Logs, secret: NDArray[np.intp], own: float, most: int = _MOST) -> int | None:
    """Return how many secrets are at least as likely as `secret`, itself among them.

    `own` is its log q. None where more than `most` beginnings would have to be followed.
    """
    beginnings, sums = np.zeros((1, 0), np.intp), np.zeros(1)
    for depth in range(len(secret)):
        if len(beginnings) > most:
            return None
        next_sums = sums[:, None] + logs(beginnings, depth)[:, 0]
        at, digit = np.nonzero(next_sums >= own - _SAME)
        beginnings = np.concatenate([beginnings[at], digit[:, None]], axis=1)
        sums = next_sums[at, digit]
    return max(1, len(beginnings))


def _known(
    logs: Logs | None, secret: NDArray[np.intp], scores: NDArray[np.float64]
) -> tuple[float, float, float, float, int]:
    """Return exposure, low, high, p and how it is known.

    The first of the scores is the canary's own, the others are of secrets drawn at random.
    """
    ceiling = len(secret) * math.log2(_DIGITS)
    own, others = float(scores[0]), scores[1:]
    as_likely = int((others >= own).sum())
    least, largest = intervals.share(as_likely, len(others))
    low, high = -math.log2(largest), min(ceiling, -math.log2(least) if least else math.inf)
    p = (as_likely + 1) / (len(others) + 1)
    value = min(max(-math.log2(p), low), high)
    if logs is None:
        return value, low, high, p, BY_LOSS
    if least * _DIGITS ** len(secret) > _DIGITS * _MOST:
        return value, low, high, p, SAMPLED
    rank = rank_of(logs, secret, own)
    if rank is not None:
        share = rank / _DIGITS ** len(secret)
        return -math.log2(share), -math.log2(share), -math.log2(share), share, EXACT
    # q sums to 1, so no more than 1 / q of them can be as likely.
    low = min(high, max(low, ceiling + own / math.log(2)))
    return min(max(_extrapolated(own, others), low), high), low, high, p, EXTRAPOLATED


def _extrapolated(own: float, others: NDArray[np.float64]) -> float:
    """Return -log2 of the share of secrets that are as likely, were they skew-normal."""
    from scipy.stats import skewnorm

    bits = -float(skewnorm.logsf(own, *skewnorm.fit(others))) / math.log(2)
    # Where nothing fits, nothing speaks against the worst.
    return math.inf if math.isnan(bits) else bits


# What it says of the model.


def _found(rows: NDArray[np.float64], ceiling: float) -> Found:
    if not len(rows):
        return _nothing("nothing was asked in the time given")
    known = rows[np.isfinite(rows).all(axis=1)]
    notes = []
    if lost := len(rows) - len(known):
        notes.append(
            f"{lost} of {len(rows)} canaries have no exposure: the model gives no number, or its"
            " tokens do not show each digit, as where max_length cuts them off"
        )
    if not len(known):
        reason = "the model gives no number, or its tokens do not show the digits of a secret"
        return _nothing(reason, tuple(notes))
    if by_loss := int((known[:, 5] == BY_LOSS).sum()):
        notes.append(
            f"of {by_loss} canaries only the loss of the whole record is ranked, which tells less"
            " than digit by digit: more may be kept than shows"
        )
    groups = {int(repeats): known[known[:, 0] == repeats] for repeats in np.unique(known[:, 0])}
    wrong = _no_control(groups.get(0))
    readings, curve = [], []
    for repeats, group in groups.items():
        values = group[:, 1]
        # Both what differs between canaries and what is not known of each makes it wider.
        low = max(0.0, intervals.mean(group[:, 2])[0])
        high = min(ceiling, intervals.mean(group[:, 3])[1])
        mean, by_chance, how = float(values.mean()), math.log2(len(group)), _how(group)
        readings.append(Reading(EXPOSURE, mean, low, high, len(group), how, repeats, wrong))
        most, least, largest = (float(column.max()) - by_chance for column in group[:, 1:4].T)
        readings.append(Reading(EXCESS, most, least, largest, len(group), how, repeats, wrong))
        curve.append(
            {"repeats": repeats, "mean": mean, "low": low, "high": high, "values": values.tolist()}
        )
    return Found(
        readings=tuple(sorted(readings, key=lambda reading: reading.measure)),
        curves={"exposure": curve, "ceiling": ceiling},
        notes=tuple(notes),
    )


def _no_control(control: NDArray[np.float64] | None) -> str:
    """Return why the canaries that were never planted are no control; empty where they are one."""
    if control is None:
        return "no canary that was never planted could be asked for"
    p = _together(control)
    if p < _CHANCE:
        return "canaries that were never planted are exposed, too: what is asked is not chance"
    if p > 1 - _CHANCE:
        return "the model hardly tells secrets apart, planted or not"
    return ""


def _together(group: NDArray[np.float64]) -> float:
    """Return one p of all canaries of a group (Fisher 1925)."""
    from scipy.stats import combine_pvalues

    return float(combine_pvalues(group[:, 4]).pvalue)


def _how(group: NDArray[np.float64]) -> str:
    counts = np.bincount(group[:, 5].astype(int), minlength=len(_HOW))
    told = ", ".join(f"{count} {name}" for count, name in zip(counts, _HOW, strict=True) if count)
    p = _together(group)
    return f"{told}; by chance p {f'= {p:.2g}' if p > 1e-300 else '< 1e-300'}"  # noqa: PLR2004
