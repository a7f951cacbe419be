"""JSON that means one thing to every reader: UTF-8, no repeated keys, no NaN or Infinity."""

from __future__ import annotations

import json
from typing import Any


def parse_json(raw: bytes) -> Any:
    """Return the value that `raw` holds.

    Raises:
        ValueError: `raw` is not UTF-8, not JSON, nested too deep, repeats a key, or holds a number
            that JSON does not know.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("repeats a key")
    return result


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
