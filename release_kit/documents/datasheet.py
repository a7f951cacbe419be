"""The datasheet: what the data is, where it came from, and what redaction found in it.

Its questions are those of Gebru et al., Datasheets for Datasets (2021), as far as the lineage and
the receipts answer them. It is written as Markdown and as one HTML file that asks for nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.documents.rendering import render
from release_kit.files import write_atomic
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.lineage import Part
from release_kit.receipts import Receipt

DATASHEET = "DATASHEET.md"
DATASHEET_PAGE = "datasheet.html"
_BAR = 320
"""The width of the longest bar of a plot, in pixels."""


@dataclass(frozen=True)
class KindCount:
    """How often one kind of personal data was found in a dataset, or in a file of it."""

    kind: str
    """In presidio's words, for example PERSON."""
    before: int
    """Findings in the data as it came."""
    after: int
    """Findings in what was trained on."""
    before_width: int
    """Of the bar in the plot, in pixels; what was found has a bar that can be seen."""
    after_width: int
    before_rate: float | None
    """For each thousand records; None where nobody counted the records."""
    after_rate: float | None


@dataclass(frozen=True)
class Counted:
    """The numbers of a dataset, or of a file of it."""

    name: str
    records: int | None
    """None where nobody counted."""
    kinds: tuple[KindCount, ...]
    """Those that were looked for or found, sorted."""


def write_datasheet(judgement: Judgement, receipts: Mapping[str, Receipt], bundle: Path) -> None:
    """Write DATASHEET.md and datasheet.html into `bundle`; neither where there is no dataset.

    What the receipts do not tell is left out.

    Raises:
        UnusableInput: a template asks for a fact that nobody has.
    """
    facts = _facts(judgement, receipts)
    if facts["datasets"]:
        for name in (DATASHEET, DATASHEET_PAGE):
            write_atomic(bundle / name, render(f"{name}.j2".lower(), facts).encode())


def _facts(judgement: Judgement, receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    redacted, evaluated = receipts.get("redact"), receipts.get("evaluate")
    return {
        "release": judgement.release,
        "datasets": [
            _dataset(part, redacted.results.get(part.upstream.id, {}) if redacted else {})
            for part in judgement.parts
            if part.upstream.is_training_data
        ],
        "overlap": evaluated.results.get("overlap") if evaluated else None,
    }


def _dataset(part: Part, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "upstream": part.upstream,
        "license": part.license,
        "redacted": bool(result),
        "counts": _counted(part.upstream.id, result),
        "files": [_counted(name, of) for name, of in sorted(result.get("files", {}).items())],
        "languages": _shares(result.get("languages", {})),
        "duplicates": result.get("duplicates"),
    }


def _counted(name: str, result: Mapping[str, Any]) -> Counted:
    removed, remaining = result.get("by_entity", {}), result.get("remaining", {})
    kept = result.get("kept", {})
    found = {*removed, *remaining, *kept, *result.get("entities", ())}
    before = {kind: removed.get(kind, 0) + kept.get(kind, 0) for kind in found}
    after = {kind: remaining.get(kind, 0) + kept.get(kind, 0) for kind in found}
    longest = max((*before.values(), *after.values()), default=0)
    records = result.get("records")
    return Counted(
        name,
        records,
        tuple(
            KindCount(
                kind,
                before[kind],
                after[kind],
                _width(before[kind], longest),
                _width(after[kind], longest),
                _rate(before[kind], records),
                _rate(after[kind], records),
            )
            for kind in sorted(found)
        ),
    )


def _width(count: int, longest: int) -> int:
    return max(1, round(_BAR * count / longest)) if count else 0


def _rate(count: int, records: int | None) -> float | None:
    return 1000 * count / records if records else None


def _shares(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return each language with its share, from 0 to 1, the largest first."""
    total = sum(counts.values())
    shares = [(name, count / total) for name, count in counts.items() if count]
    return sorted(shares, key=lambda item: (-item[1], item[0]))
