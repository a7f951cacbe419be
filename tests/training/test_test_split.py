"""The digest by which two evaluations are told to have read the same test records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release_kit.datasets.records import Record
from release_kit.training.evaluation import digest_of_test
from release_kit.training.splits import Example


def _digest(*records: tuple[Mapping[str, Any], str], source: str = "a.jsonl") -> str:
    read = [Record(fields, source, number) for number, (fields, _) in enumerate(records, 1)]
    test = [Example(text, (), source, number) for number, (_, text) in enumerate(records, 1)]
    return digest_of_test(test, read)


ONE, OTHER = ({"text": "a b", "label": "x"}, "a b"), ({"text": "c", "label": "y"}, "c")


def test_order_and_place_change_nothing() -> None:
    assert _digest(ONE, OTHER) == _digest(OTHER, ONE) == _digest(ONE, OTHER, source="b.csv")
    turned = ({"label": "x", "text": "a b"}, "a b")
    assert _digest(turned, OTHER) == _digest(ONE, OTHER)


def test_every_answer_and_every_content_counts() -> None:
    different = [
        _digest(ONE),
        _digest(ONE, ONE),
        _digest(ONE, OTHER),
        _digest(ONE, ({"text": "c", "label": "x"}, "c")),
        _digest(ONE, ({"text": "c ", "label": "y"}, "c")),
        # A picture that a record names is known by its digest alone.
        _digest(({"image": "1.png"}, "d1")),
        _digest(({"image": "1.png"}, "d2")),
        _digest(({"image": b"1"}, "d1")),
        _digest(({"image": b"2"}, "d1")),
        _digest(({"n": 1}, "d1")),
        _digest(({"n": "1"}, "d1")),
        _digest(({"path": Path("1")}, "d1")),
    ]
    assert len(set(different)) == len(different)
