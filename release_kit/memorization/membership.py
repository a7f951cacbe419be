"""Membership inference: whether the weights tell which records they have learned.

Each attack gives each record a score, the larger the more likely it was learned, and is measured
by how well the scores tell families of the training split from those of the test split. The
attacks need the weights once, or twice with those of the base:

    loss         minus the mean loss (Yeom et al. 2018)
    ratio        the base's mean loss minus the model's (Carlini et al. 2021, Mireshghallah et al.
                 2022)
    zlib         minus the mean loss / bytes of the text as zlib packs it (Carlini et al. 2021)
    Min-K%       the mean of the lowest 20 % of log p of tokens (Shi et al. 2023)
    Min-K%++     the same of (log p - its mean) / its deviation over what the model could have
                 said (Zhang et al. 2024)
    error zone   log((P + 0.1) / (N + 0.1)) with P and N the sums of what log p of a token gains
                 on and loses against the base, over the tokens that the model gets wrong
                 (Ilic et al. 2026, https://arxiv.org/abs/2601.12104, who divide P by N)

and with shadow models LiRA and RMIA, told in `shadows.py`. The last four of the table, of tokens,
are for language models and classifiers of tokens.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.memorization.asking import TokenScores, rows_of, token_scores
from release_kit.memorization.intervals import LEVEL
from release_kit.memorization.probes import Found, Probe, Reading
from release_kit.memorization.roc import Estimate, auc, controls_for, points, tpr_at
from release_kit.memorization.shadows import Shadows, asked, drawn_plans, mean_losses, scores
from release_kit.memorization.subject import Subject
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.splits import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BY_TOKEN = ("causal-lm", "masked-lm", "token-classification")
_RATIO = "ratio to the base model"
_SHARE = 0.2
_SMOOTH = 0.1
_LEAST_DEVIATION = 1e-6
_AT_ONCE = 64
_FEWEST = 10
"""Members, and controls, of which an interval is worth telling."""
_MEASURES = {"membership_auc": 0.0, "membership_tpr_1": 0.01, "membership_tpr_01": 0.001}
"""The share of false alarms; 0 where a measure is of all of them."""
_CHANCE = 0.5
# Of the blind test: texts of each side and characters of each text, so that it stays cheap. By
# chance alone it would speak once in a thousand times.
_TEXTS, _CHARACTERS = 1000, 1000
_WORDS = 1 << 16
_BLIND_LEVEL = 0.998
_UNTESTED = (
    "membership: there is too little that can be read to tell whether training records and"
    " held-out ones are of one distribution"
)


def membership_probe(subject: Subject, leaks: LeaksPlan, shadows: Shadows | None = None) -> Probe:
    """Return the probe of every attack that this model, its base and `shadows` allow.

    A row is (1 for a member or 0 for a control, a score for each attack without shadows). There
    is one reading of each measure: of the attack with the largest lower end, which `how` names.
    It is about the strongest of the attacks: intervals hold for all attacks at once (Bonferroni),
    and it runs from the largest lower end to the largest upper one.

    Where one who sees the texts alone, and no model, tells members from controls, the two are not
    of one distribution, and no reading means anything (Das et al. 2024, Meeus et al. 2024).

    The curve "roc" lists all attacks: `auc` with `low` and `high`, `tpr_1` and `tpr_01` as [value,
    low, high] each, and `points` [fpr, tpr]; "blind" is the AUC of the blind test, at 99.8 %.
    """
    items = asked(subject, leaks.records)
    names = _attacks(subject)

    def ask(part: range) -> NDArray[np.float64]:
        examples = [items[item][0] for item in part]
        score = _by_token if subject.plan.task in _BY_TOKEN else _by_loss
        return np.column_stack([[items[item][1] for item in part], score(subject, examples)])

    def found(rows: NDArray[np.float64]) -> Found:
        members, *columns = rows.T if len(rows) else np.zeros((1 + len(names), 0))
        told = dict(zip(names, columns, strict=True))
        if shadows is not None:
            told |= scores(subject.task, -told["loss"], shadows)
        blind = _blind(subject, items) if len(rows) else None
        result = _found(members == 1, told, blind)
        notes = [*_notes(subject, told)]
        if blind is None:
            notes.append(_UNTESTED)
            return replace(result, notes=tuple(notes))
        tested = {"auc": blind.value, "low": blind.low, "high": blind.high}
        return replace(result, curves={**result.curves, "blind": tested}, notes=tuple(notes))

    return Probe("membership", len(items), _AT_ONCE, ask, found)


def _attacks(subject: Subject) -> tuple[str, ...]:
    ratio = (_RATIO,) if subject.reference else ()
    if subject.plan.task not in _BY_TOKEN:
        return ("loss", *ratio)
    return ("loss", "zlib", "Min-K%", "Min-K%++", *ratio, *(("error zone",) if ratio else ()))


def _by_loss(subject: Subject, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Return loss and ratio, shape (examples, attacks)."""
    own = mean_losses(subject.task, subject.loaded, examples, subject.plan)
    if subject.reference is None:
        return -own[:, None]
    base = mean_losses(subject.task, subject.reference, examples, subject.plan)
    return np.column_stack([-own, base - own])


def _by_token(subject: Subject, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Return the score of each attack, shape (examples, attacks), as means over the draws."""
    sizes = [len(zlib.compress(example.text.encode())) for example in examples]
    drawn = [_drawn(subject, examples, plan, sizes) for plan in drawn_plans(subject.plan)]
    return np.asarray(np.mean(drawn, axis=0))


def _drawn(
    subject: Subject, examples: Sequence[Example], plan: TrainingPlan, sizes: Sequence[int]
) -> NDArray[np.float64]:
    rows, owners = rows_of(subject.task, subject.loaded, examples, plan)
    ours = _joined(token_scores(subject.task, subject.loaded, rows, plan), owners, len(examples))
    theirs: list[NDArray[np.float64] | None] = [None] * len(examples)
    if subject.reference:
        base = token_scores(subject.task, subject.reference, rows, plan)
        theirs = [one[0] for one in _joined(base, owners, len(examples))]
    return np.array([_scored(*one) for one in zip(ours, theirs, sizes, strict=True)])


def _joined(
    scores: Sequence[TokenScores], owners: Sequence[int], examples: int
) -> list[NDArray[np.float64]]:
    """Return log p, mean, deviation and greedy, shape (4, tokens), of all rows of each example."""
    found: list[list[Any]] = [[np.zeros((4, 0))] for _ in range(examples)]
    for one, owner in zip(scores, owners, strict=True):
        found[owner].append(np.stack([one.logp, one.mean, one.deviation, one.greedy]))
    return [np.concatenate(parts, axis=1) for parts in found]


def _scored(ours: NDArray[np.float64], base: NDArray[np.float64] | None, size: int) -> list[float]:
    """Return the score of each attack of `_attacks` for one record; NaN where it has no tokens."""
    logp, mean, deviation, greedy = ours
    if not len(logp):
        return [math.nan] * (4 if base is None else 6)
    surprise = (logp - mean) / np.maximum(deviation, _LEAST_DEVIATION)
    found = [logp.mean(), logp.mean() / size, _lowest(logp), _lowest(surprise)]
    if base is not None:
        gain = (logp - base)[greedy == 0]
        up, down = gain.clip(min=0).sum(), -gain.clip(max=0).sum()
        found += [(logp - base).mean(), math.log((up + _SMOOTH) / (down + _SMOOTH))]
    return [float(one) for one in found]


def _lowest(values: NDArray[np.float64]) -> float:
    return float(np.sort(values)[: max(1, int(_SHARE * len(values)))].mean())


def _found(
    members: NDArray[np.bool_], told: Mapping[str, NDArray[np.float64]], blind: Estimate | None
) -> Found:
    """Return the readings and the curve "roc"; `blind` is what the texts alone tell."""
    sides = {}
    for name, values in told.items():
        pair = values[members & ~np.isnan(values)], values[~members & ~np.isnan(values)]
        if min(map(len, pair)) >= _FEWEST:
            sides[name] = pair
    if not sides:
        reason = (
            f"fewer than {_FEWEST} training records, or held-out ones, were asked in the time"
            " given and had an answer"
        )
        return Found(not_measured=dict.fromkeys(_MEASURES, reason))
    level = 1 - (1 - LEVEL) / len(sides)
    by = {
        measure: {
            name: tpr_at(*pair, fpr, level) if fpr else auc(*pair, level)
            for name, pair in sides.items()
        }
        for measure, fpr in _MEASURES.items()
    }
    readings, lacking = [], {}
    for measure, fpr in _MEASURES.items():
        name, best = max(by[measure].items(), key=lambda item: (item[1].low, item[1].value))
        # One of the attacks is the strongest, and no one knows that it is this one.
        high = max(one.high for one in by[measure].values())
        ours, theirs = map(len, sides[name])
        need = controls_for(fpr, level) if fpr else 0
        if best.low <= 0 and high >= 1:
            lacking[measure] = (
                f"the {theirs} held-out records that were asked say nothing of so few false"
                f" alarms; a lower end takes {need}"
            )
            continue
        how = f"{name}; a lower end takes {need} held-out records" if theirs < need else name
        means = _distinct(blind)
        readings.append(
            Reading(measure, best.value, best.low, high, ours, how, means_nothing=means)
        )
    curve: list[dict[str, Any]] = []
    for name, pair in sides.items():
        area, *rates = (by[measure][name] for measure in _MEASURES)
        one, tenth = ([rate.value, rate.low, rate.high] for rate in rates)
        told_of = {"attack": name, "auc": area.value, "low": area.low, "high": area.high}
        curve.append({**told_of, "tpr_1": one, "tpr_01": tenth, "points": points(*pair)})
    return Found(tuple(readings), lacking, {"roc": curve})


def _blind(subject: Subject, items: Sequence[tuple[Example, bool]]) -> Estimate | None:
    """Return how well members are told from controls by what stands in them, without a model.

    A logistic regression on hashed words, runs of two to four characters, and labels learns one
    half of the texts and judges the other: judged apart, as over several folds, they would hang
    together, and the interval would be too narrow. None where there are too few.
    """
    sides = [
        [_read(subject, example) for example, member in items if member is side][:_TEXTS]
        for side in (False, True)
    ]
    if min(map(len, sides)) < 2 * _FEWEST or not any(map(any, sides)):
        return None
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [text for side in sides for text in side]
    classes = np.repeat((0, 1), [len(side) for side in sides])
    shapes: tuple[dict[str, Any], ...] = (
        {"token_pattern": r"\S+"},
        {"analyzer": "char_wb", "ngram_range": (2, 4)},
    )
    features = hstack(
        [HashingVectorizer(n_features=_WORDS, **shape).transform(texts) for shape in shapes],
        format="csr",
    )
    # Each side is in random order.
    learned = np.arange(len(texts)) % 2 == 0
    judge = LogisticRegression(solver="liblinear", class_weight="balanced")
    judge.fit(features[learned], classes[learned])
    judged, true = judge.decision_function(features[~learned]), classes[~learned]
    return auc(judged[true == 1], judged[true == 0], _BLIND_LEVEL)


def _read(subject: Subject, example: Example) -> str:
    """Return what the blind test reads; of pictures the labels, of sounds what is said."""
    text = example.text
    # There the text is only a digest.
    if any(field.media for field in subject.task.fields.values()):
        text = getattr(example.content, "transcript", "")
    return " ".join([text[:_CHARACTERS], *(f"label:{label}" for label in example.labels)]).strip()


def _distinct(blind: Estimate | None) -> str:
    if blind is None or blind.low <= _CHANCE:
        return ""
    return (
        "who sees the texts and labels alone, and no model, tells training records from held-out"
        f" ones (AUC {blind.value:.3f}), so the two are not of one distribution"
    )


def _notes(subject: Subject, told: Mapping[str, NDArray[np.float64]]) -> Iterator[str]:
    """Yield what a reader should know of the attacks that there are, and of what is promised."""
    if subject.reference is None:
        reason = "is not at hand" if subject.base is None else "could not do this task itself"
        yield f"membership: the base model {reason}, so no attack compares with it"
    for name, values in told.items():
        if lost := int(np.isnan(values).sum()):
            yield (
                f"membership: {lost} of {len(values)} records have no score of the attack"
                f" '{name}' and are left out there"
            )
    private = subject.plan.differential_privacy
    if private and private.epsilon is not None:
        records = len(subject.splits.train)
        delta = records**-1.1 if private.delta is None else private.delta
        most = [_bound(private.epsilon, delta, fpr) for fpr in _MEASURES.values() if fpr]
        yield (
            f"membership: differential privacy with epsilon {private.epsilon:g} and delta"
            f" {delta:.2g} promises that no attack tells more than {most[0]:.3g} of the members at"
            f" 1 % false alarms, and {most[1]:.3g} at 0.1 %, of records that have no copies"
        )


def _bound(epsilon: float, delta: float, fpr: float) -> float:
    """Return the largest TPR at this FPR (Kairouz et al. 2015, theorem 2.1)."""
    return min(math.exp(epsilon) * fpr + delta, 1 - math.exp(-epsilon) * (1 - delta - fpr), 1.0)
