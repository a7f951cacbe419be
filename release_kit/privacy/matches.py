"""What is found: where, which kind, how sure; never the data itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Match:
    """Where personal data stands in a text; never the data itself."""

    entity_type: str
    """In presidio's words, for example PERSON."""
    start: int
    """In characters, from 0."""
    end: int
    """In characters, not included."""
    score: float
    """Confidence, from 0 to 1."""


class Hit(NamedTuple):
    """A finding before overlaps are settled."""

    entity_type: str
    start: int
    end: int
    score: float
    origin: str
    """names, pattern, checked (a checksum holds), listed (a deny list), transformer or secret."""
