"""Datasets as streams of records: strict to read, and always the same bytes when written.

What cannot be read is an error and never skipped, since nobody would know what stood in it. No
message quotes a file: it may hold the very data that must not spread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from release_kit.datasets.dataset_format import Format
from release_kit.datasets.formats import format_of
from release_kit.datasets.mistakes import unusable
from release_kit.datasets.streams import opened
from release_kit.errors import Problem, UnusableInput
from release_kit.files import whole_file


@dataclass(frozen=True)
class Record:
    """One record of a dataset."""

    fields: Mapping[str, Any] = field(repr=False)
    """Name to value, in the file's order. Not in the repr: it is the data itself."""
    source: str
    """The file it was read from."""
    index: int
    """Its 1-based number in the file; lines and records differ where a CSV cell has line ends."""
    folder: Path | None = field(default=None, repr=False, compare=False)
    """Where files lie that it names, such as pictures; None where they lie beside `source`."""


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of the dataset file at `path`, one at a time.

    A byte order mark at the start and CRLF line ends are accepted.

    Raises:
        UnusableInput: now, when no format has the suffix; while iterating, with file and line,
            when the file is missing, holds no record, or has one that is not UTF-8, not a JSON
            object, repeats a key, holds NaN or an infinity, or has more or fewer cells than the
            header.
    """
    return _records(path, format_of(path))


def _records(path: Path, format: Format) -> Iterator[Record]:
    index = 0
    with opened(path) as stream:
        for index, fields in enumerate(format.records(stream, str(path)), 1):
            yield Record(fields, str(path), index)
    if not index:
        raise unusable(str(path), "holds no records")


def texts_of(records: Iterable[Record]) -> Iterator[str]:
    """Yield what each record says: its text values at any depth, one in a line."""
    for record in records:
        yield "\n".join(_strings(record.fields))


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from _strings(inner)
        case list() | tuple():
            for inner in value:
                yield from _strings(inner)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write `records` to `path`, whole or not at all, and return how many they were.

    Equal records give equal bytes: UTF-8, LF, no byte order mark, the fields' own order.

    Raises:
        UnusableInput: the suffix is not one of `WRITERS`, there is no record, or a value has no
            place in the format (a CSV cell that is not text).
        OSError: `path` cannot be written.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise UnusableInput(
            f"{path} cannot be written: no dataset is written with the suffix '{path.suffix}'",
            hint="known here: " + ", ".join(WRITERS),
            problems=[Problem(str(path), 0, 0, "is not a dataset format that is written here")],
        )
    with whole_file(path) as stream:
        count = write(stream, records)
        if not count:
            raise UnusableInput(f"{path} cannot be written: there are no records")
    return count


def _write_json_lines(stream: BinaryIO, records: Iterable[Record]) -> int:
    count = 0
    for record in records:
        line = json.dumps(dict(record.fields), ensure_ascii=False, allow_nan=False)
        # A lone surrogate has no UTF-8; Python's escape for it is JSON's escape too.
        stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
        count += 1
    return count


def _write_delimited(stream: BinaryIO, records: Iterable[Record], *, delimiter: str) -> int:
    names: list[str] = []
    count = 0
    for record in records:
        if not count:
            names = list(record.fields)
            stream.write(_row(names, record, delimiter))
        if list(record.fields) != names:
            raise _unfit(record, "has other fields than the first record, so it fits no CSV")
        stream.write(_row(list(record.fields.values()), record, delimiter))
        count += 1
    return count


def _row(cells: list[Any], record: Record, delimiter: str) -> bytes:
    # Python's own writer leaves a lone CR unquoted before 3.13, which no strict reader accepts.
    shown = []
    for cell in cells:
        if not isinstance(cell, str):
            raise _unfit(record, "holds a value that is not text, so it fits no CSV")
        bare = cell and not any(mark in cell for mark in (delimiter, *'"\r\n'))
        shown.append(cell if bare else '"' + cell.replace('"', '""') + '"')
    try:
        row = delimiter.join(shown).encode() + b"\n"
    except UnicodeEncodeError:
        row = b""
    if not row:
        raise _unfit(record, "holds a lone surrogate, which has no UTF-8 and fits no CSV")
    return row


def _unfit(record: Record, message: str) -> UnusableInput:
    return UnusableInput(f"{record.source}: record {record.index} {message}")


WRITERS: dict[str, Callable[[BinaryIO, Iterable[Record]], int]] = {
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".csv": partial(_write_delimited, delimiter=","),
    ".tsv": partial(_write_delimited, delimiter="\t"),
}
"""Writes records to a stream and returns how many they were, keyed by suffix."""
