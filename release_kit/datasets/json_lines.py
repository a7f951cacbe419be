"""JSON Lines: every line is a record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO

from release_kit.datasets.dataset_format import Flaw, Format, Kind, Text, Writer
from release_kit.datasets.json_texts import (
    Value,
    collect,
    read_whole,
    skip_space,
    spliced,
)
from release_kit.datasets.mistakes import unusable
from release_kit.datasets.pieces import (
    BytesWriter,
    Piece,
    PieceBatch,
    decoded,
    encoded,
    kept,
    splice_line,
    undecodable,
)
from release_kit.datasets.streams import BOM, chunks, line_cuts


class JsonLinesReader:
    """One JSON value a line; lines without one are passed over, since they hold nothing."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[PieceBatch]:
        """Yield batches of lines."""
        number = 0
        for chunk in chunks(self._stream):
            pieces: list[Piece] = []
            texts: list[Text] = []
            flaws: list[Flaw] = []
            records = 0
            before = number
            if not number and chunk.startswith(BOM):
                pieces.append(Piece(BOM, 0, 0, kept))
            for raw in _lines(chunk.removeprefix(BOM) if not number else chunk):
                number += 1
                if raw.isspace() or not raw:
                    pieces.append(Piece(raw, 0, len(texts), kept))
                    continue
                records += 1
                first = len(texts)
                text = decoded(raw)
                value = read_whole(text)
                if value.mistake is not None:
                    flaws.append(Flaw(number, number, value.mistake.at + 1, value.mistake.message))
                if value.readable:
                    collect(value.data, number, number, texts)
                else:
                    texts.append(Text(text.rstrip("\r\n"), Kind.TEXT, number, number, ""))
                if not text.isascii():
                    flaws += undecodable(text, number, number)
                pieces.append(Piece(raw, number, first, _splice if value.readable else splice_line))
            yield PieceBatch(pieces, texts, records, number - before, flaws)

    def writer(self, target: BinaryIO) -> Writer:
        """Return a writer of an edited copy."""
        return BytesWriter(target)


def _lines(chunk: bytes) -> list[bytes]:
    lines = chunk.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _splice(raw: bytes, changes: Mapping[int, str], dropped: Collection[int]) -> bytes:
    text = decoded(raw)
    return encoded(spliced(text, skip_space(text, 0), changes, dropped))


def _records(stream: BinaryIO, name: str) -> Iterator[Mapping[str, Any]]:
    number = 0
    for number, raw in enumerate(stream, 1):
        text = decoded(raw.removeprefix(BOM) if number == 1 else raw)
        if number == 1 and not text:
            return
        for flaw in undecodable(text, number, number):
            raise unusable(name, flaw.message, number, flaw.column)
        yield fields_of(read_whole(text), name, number)


def fields_of(value: Value, name: str, line: int, start: int = 0) -> Mapping[str, Any]:
    """Return the fields of a record.

    Args:
        value: what was read.
        name: the file, as messages call it.
        line: where the record's text begins.
        start: where that line begins in the text.

    Raises:
        UnusableInput: it could not be read, or is no object.
    """
    if value.mistake is not None:
        raise unusable(name, value.mistake.message, line, value.mistake.at - start + 1)
    if not isinstance(value.data, dict):
        raise unusable(name, "is not a JSON object", line)
    return value.data


JSON_LINES = Format("JSON Lines", (".jsonl", ".ndjson"), JsonLinesReader, _records, cuts=line_cuts)
"""A record a line; as values, every line must be an object and none may be blank."""
