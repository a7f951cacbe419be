"""Precision, recall and F of found spans against labelled ones, by overlap.

A labelled span is found when a hit of its label overlaps it; a hit is right when it overlaps a
span of its label. Only labels that the source's people looked for are judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# A town within an address is found rightly, though the label there is ADDRESS: neither hit nor
# false alarm, whoever finds it.
KINDRED = {"LOCATION": "ADDRESS", "ADDRESS": "LOCATION"}


class Found(NamedTuple):
    label: str
    start: int
    end: int
    score: float = 1.0


@dataclass(frozen=True)
class Score:
    """Counts of one label, or of several together."""

    found: int = 0
    spans: int = 0
    right: int = 0
    hits: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.found + other.found,
            self.spans + other.spans,
            self.right + other.right,
            self.hits + other.hits,
        )

    @property
    def precision(self) -> float:
        return self.right / self.hits if self.hits else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.spans if self.spans else 0.0

    def f(self, beta: float) -> float:
        weighted = beta * beta * self.precision + self.recall
        return (1 + beta * beta) * self.precision * self.recall / weighted if weighted else 0.0


Hits = Sequence[Iterable[Found]]
"""What was found in each text."""


def scores(
    records: Sequence[Mapping[str, Any]], found: Hits, threshold: float = 0.0
) -> dict[str, Score]:
    """Return the score of each label that some record was judged for.

    Args:
        records: labelled texts as in data/pii.
        found: what was found in each, in our labels.
        threshold: from which score a hit counts.
    """
    total: dict[str, Score] = {}
    for record, hits in zip(records, found, strict=True):
        counted = [hit for hit in hits if hit.score >= threshold]
        for label in record["annotated"]:
            total[label] = total.get(label, Score()) + _score(record["spans"], counted, label)
    return total


def together(by_label: Mapping[str, Score]) -> Score:
    """Return the sum over all labels."""
    return sum(by_label.values(), Score())


def _score(spans: Sequence[Mapping[str, Any]], hits: Sequence[Found], label: str) -> Score:
    wanted = [(span["start"], span["end"]) for span in spans if span["label"] == label]
    kindred = [
        (span["start"], span["end"]) for span in spans if span["label"] == KINDRED.get(label)
    ]
    ours = [(hit.start, hit.end) for hit in hits if hit.label == label]
    right = [hit for hit in ours if _overlaps(hit, wanted)]
    neutral = [hit for hit in ours if not _overlaps(hit, wanted) and _overlaps(hit, kindred)]
    return Score(
        found=sum(_overlaps(span, ours) for span in wanted),
        spans=len(wanted),
        right=len(right),
        hits=len(ours) - len(neutral),
    )


def _overlaps(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def differences(
    reference: Hits, without_parser: Hits, ours: Hits
) -> tuple[int, Counter[tuple[str, str]]]:
    """Count the findings that two engines share, and each difference with its reason.

    Args:
        reference: what presidio finds in each text.
        without_parser: what presidio finds when its spaCy pipeline has no parser.
        ours: what we find.
    """
    same = 0
    reasons: Counter[tuple[str, str]] = Counter()
    for theirs, unparsed, mine in zip(reference, without_parser, ours, strict=True):
        a, b = {hit[:3] for hit in theirs}, {hit[:3] for hit in mine}
        loose = {hit[:3] for hit in unparsed}
        same += len(a & b)
        for hit in a - b:
            reasons[hit[0], _why_missing(hit, loose, b)] += 1
        for hit in b - a:
            reasons[hit[0], _why_more(hit, loose, a)] += 1
    return same, reasons


_Span = tuple[str, int, int]


def _why_missing(hit: _Span, loose: set[_Span], ours: set[_Span]) -> str:
    if hit not in loose:
        return "presidio alone: a sentence break of its parser"
    near = [other for other in ours if _overlaps(hit[1:], [other[1:]])]
    if any(other[0] == hit[0] for other in near):
        return "presidio alone: the same kind with other bounds"
    if near:
        return "presidio alone: another kind won the place"
    return "presidio alone: nothing of ours there"


def _why_more(hit: _Span, loose: set[_Span], theirs: set[_Span]) -> str:
    if hit in loose:
        return "ours alone: no sentence break there"
    near = [other for other in theirs if _overlaps(hit[1:], [other[1:]])]
    if any(other[0] == hit[0] for other in near):
        return "ours alone: the same kind with other bounds"
    if near:
        return "ours alone: another kind than presidio's"
    return "ours alone: nothing of presidio's there"
