"""Datasets as streams of records: strict to read, and always the same bytes when written.

A line that cannot be read is an error and never skipped, since nobody would know what stood in
it. No message quotes a line: it may hold the very data that must not spread.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from release_kit.errors import Problem, UnusableInput
from release_kit.files import whole_file

_BOM = b"\xef\xbb\xbf"
_DEEPEST = 64
# Python's csv refuses cells over 131,072 characters unless told otherwise.
_LARGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class Record:
    """One record of a dataset."""

    fields: Mapping[str, Any] = field(repr=False)
    """Name to value, in the file's order. Not in the repr: it is the data itself."""
    source: str
    """The file it was read from."""
    index: int
    """Its 1-based number in the file; lines and records differ where a CSV cell has line ends."""


@dataclass(frozen=True)
class Format:
    """How one kind of dataset file is read and written."""

    read: Callable[[Path], Iterator[Record]]
    write: Callable[[BinaryIO, Iterable[Record]], int]
    """Writes the records and returns how many they were."""


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of the dataset file at `path`, one at a time.

    A byte order mark at the start and CRLF line ends are accepted.

    Raises:
        UnusableInput: now, when the suffix is not one of `FORMATS`; while iterating, with file
            and line, when the file is missing, holds no record, or has a line that is not UTF-8,
            not a JSON object, repeats a key, holds NaN or an infinity, or has more or fewer
            cells than the CSV header.
    """
    return format_of(path).read(path)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write `records` to `path`, whole or not at all, and return how many they were.

    Equal records give equal bytes: UTF-8, LF, no byte order mark, the fields' own order.

    Raises:
        UnusableInput: the suffix is not one of `FORMATS`, there is no record, or a value has no
            place in the format (a CSV cell that is not text).
        OSError: `path` cannot be written.
    """
    chosen = format_of(path)
    with whole_file(path) as stream:
        count = chosen.write(stream, records)
        if not count:
            raise UnusableInput(f"{path} cannot be written: there are no records")
    return count


def format_of(path: Path) -> Format:
    """Return the format that the suffix of `path` stands for.

    Raises:
        UnusableInput: no format has this suffix.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise UnusableInput(
            f"{path} cannot be used: no dataset format has the suffix '{path.suffix}'",
            hint="known here: " + ", ".join(FORMATS),
            problems=[Problem(str(path), 0, 0, "is not a dataset format known here")],
        )
    return found


def _lines(path: Path) -> Iterator[str]:
    """Yield the decoded lines of `path`, each with its line end."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        stream = None
    except OSError as error:
        raise UnusableInput(f"{path}: cannot be read: {error.strerror}") from error
    if stream is None:
        raise _unusable(path, 0, "there is no such file")
    with stream:
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(_BOM) if number == 1 else raw
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                text = None
            # Raised outside the handler: a decoding error carries the bytes of the line.
            if text is None:
                raise _unusable(path, number, "is not UTF-8 text")
            if text:
                yield text


class _UnfitError(ValueError):
    """JSON that is well formed and still not a value we can keep."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _UnfitError("a key stands twice in one object")
    return result


def _not_a_number(_: str) -> float:
    raise _UnfitError("NaN and infinities are not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _UnfitError("a number is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_not_a_number, parse_float=_finite
)


def _parse_line(line: str) -> tuple[dict[str, Any], str, int]:
    """Return the object on one line, or what is wrong with it and in which column."""
    value: Any = None
    message, column = "", 1
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        message, column = f"is not JSON: {error.msg}", error.colno
    except _UnfitError as error:
        message = str(error)
    except RecursionError:
        message = f"is nested deeper than {_DEEPEST} levels"
    except ValueError:  # a whole number with thousands of digits
        message = "a number is too large"
    if not message and not isinstance(value, dict):
        message = "is not a JSON object"
    # Counting brackets is quick and never too low, so most lines need no closer look.
    if not message and line.count("{") + line.count("[") > _DEEPEST and _depth(value) > _DEEPEST:
        message = f"is nested deeper than {_DEEPEST} levels"
    return ({} if message else value), message, column


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        depth += any(isinstance(item, dict | list) for item in level)
        level = inner
    return depth


def _read_jsonl(path: Path) -> Iterator[Record]:
    number = 0
    for number, line in enumerate(_lines(path), 1):
        fields, message, column = _parse_line(line)
        if message:
            raise _unusable(path, number, message, column)
        yield Record(fields, str(path), number)
    if not number:
        raise _unusable(path, 0, "holds no records")


def _write_jsonl(stream: BinaryIO, records: Iterable[Record]) -> int:
    count = 0
    for record in records:
        line = json.dumps(dict(record.fields), ensure_ascii=False, allow_nan=False)
        # A lone surrogate has no UTF-8; Python's escape for it is JSON's escape too.
        stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
        count += 1
    return count


def _read_csv(path: Path) -> Iterator[Record]:
    reader = csv.reader(_lines(path), strict=True)
    header, message = _next_row(reader)
    if message:
        raise _unusable(path, 1, message)
    if header is None:
        raise _unusable(path, 0, "holds no records")
    if not all(header):
        raise _unusable(path, 1, f"the header names no column {header.index('') + 1}")
    if len(set(header)) != len(header):
        raise _unusable(path, 1, "two columns of the header have the same name")
    index = 0
    while True:
        first_line = reader.line_num + 1
        row, message = _next_row(reader)
        if message:
            raise _unusable(path, first_line, message)
        if row is None:
            break
        if len(row) != len(header):
            wrong = f"has {len(row)} cells where the header has {len(header)}"
            raise _unusable(path, first_line, wrong)
        index += 1
        yield Record(dict(zip(header, row, strict=True)), str(path), index)
    if not index:
        raise _unusable(path, 0, "holds no records")


def _next_row(reader: Any) -> tuple[list[str] | None, str]:
    """Return the next row, None at the end; or what is wrong with it."""
    # The limit belongs to the whole process, so it is lifted for one row at a time.
    before = csv.field_size_limit(_LARGEST_CELL)
    try:
        return next(reader), ""
    except StopIteration:
        return None, ""
    except csv.Error as error:
        return None, f"is not CSV: {error}"
    finally:
        csv.field_size_limit(before)


def _write_csv(stream: BinaryIO, records: Iterable[Record]) -> int:
    names: list[str] = []
    count = 0
    for record in records:
        if not count:
            names = list(record.fields)
            stream.write(_csv_row(names, record))
        if list(record.fields) != names:
            raise _unfit(record, "has other fields than the first record, so it fits no CSV")
        stream.write(_csv_row(list(record.fields.values()), record))
        count += 1
    return count


def _csv_row(cells: list[Any], record: Record) -> bytes:
    # Python's own writer leaves a lone CR unquoted before 3.13, which no strict reader accepts.
    shown = []
    for cell in cells:
        if not isinstance(cell, str):
            raise _unfit(record, "holds a value that is not text, so it fits no CSV")
        bare = cell and not any(mark in cell for mark in ',"\r\n')
        shown.append(cell if bare else '"' + cell.replace('"', '""') + '"')
    try:
        row = ",".join(shown).encode() + b"\n"
    except UnicodeEncodeError:
        row = b""
    if not row:
        raise _unfit(record, "holds a lone surrogate, which has no UTF-8 and fits no CSV")
    return row


def _unfit(record: Record, message: str) -> UnusableInput:
    return UnusableInput(f"{record.source}: record {record.index} {message}")


def _unusable(path: Path, line: int, message: str, column: int = 1) -> UnusableInput:
    problem = Problem(str(path), line, column if line else 0, message)
    return UnusableInput(f"{path} cannot be used: 1 mistake", problems=[problem])


FORMATS: dict[str, Format] = {
    ".jsonl": Format(_read_jsonl, _write_jsonl),
    ".csv": Format(_read_csv, _write_csv),
}
"""Every dataset format, keyed by its suffix in small letters."""
