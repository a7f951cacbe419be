"""Reads a dataset and writes an edited copy, as one call."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from release_kit.datasets.dataset_format import Flaw, Format, Text


class Outcome(NamedTuple):
    raw: bytes
    texts: list[Text]
    flaws: list[Flaw]
    records: int
    lines: int

    @property
    def values(self) -> list[str]:
        return [text.value for text in self.texts]

    @property
    def fields(self) -> list[str]:
        return [text.field for text in self.texts]

    @property
    def kinds(self) -> list[str]:
        return [text.kind.value for text in self.texts]


def edit(
    format: Format,
    raw: bytes,
    change: Callable[[Text], str | None] = lambda text: None,
    *,
    drop_field: Callable[[Text], bool] = lambda text: False,
    drop_records: Sequence[int] = (),
) -> Outcome:
    """Write a copy of `raw` with the texts changed for which `change` says something."""
    reader = format.open(io.BytesIO(raw), "a file")
    target = io.BytesIO()
    writer = reader.writer(target)
    texts: list[Text] = []
    flaws: list[Flaw] = []
    records = lines = 0
    for batch in reader:
        found = list(batch.texts)
        changes = {i: new for i, text in enumerate(found) if (new := change(text)) is not None}
        gone = {i for i, text in enumerate(found) if drop_field(text)}
        here = {text.record for text in found} & set(drop_records)
        writer.write(batch.edited(changes, here, gone))
        texts += found
        flaws += batch.flaws
        records += batch.records
        lines += batch.lines
    writer.close()
    return Outcome(target.getvalue(), texts, flaws, records, lines)


def replacing(*values: str) -> Callable[[Text], str | None]:
    """Change these values into a placeholder."""
    return lambda text: "<X>" if text.value in values else None


def within_text(text: Text) -> str | None:
    """Change one word wherever it stands."""
    return text.value.replace("Roe", "<X>") if "Roe" in text.value else None
