"""Plain text: every line is a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from release_kit.datasets.dataset_format import Flaw, Format, Kind, Text, Writer
from release_kit.datasets.mistakes import unusable
from release_kit.datasets.pieces import (
    BytesWriter,
    Piece,
    PieceBatch,
    decoded,
    kept,
    splice_line,
    undecodable,
)
from release_kit.datasets.streams import BOM, chunks, line_cuts


class PlainTextReader:
    """Lines that end with LF, CRLF or CR."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[PieceBatch]:
        """Yield batches of lines; an empty line is a record without a text."""
        number = 0
        for chunk in chunks(self._stream):
            pieces: list[Piece] = []
            texts: list[Text] = []
            flaws: list[Flaw] = []
            if not number and chunk.startswith(BOM):
                pieces.append(Piece(BOM, 0, 0, kept))
            before = number
            start = len(BOM) if pieces else 0
            sound = _is_utf8(chunk)
            for raw in chunk[start:].splitlines(keepends=True):
                number += 1
                text = decoded(raw).rstrip("\r\n")
                pieces.append(Piece(raw, number, len(texts), splice_line if text else kept))
                if text:
                    texts.append(Text(text, Kind.TEXT, number, number, ""))
                    if not sound:
                        flaws += undecodable(text, number, number)
            yield PieceBatch(pieces, texts, number - before, number - before, flaws)

    def writer(self, target: BinaryIO) -> Writer:
        """Return a writer of an edited copy."""
        return BytesWriter(target)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _records(stream: BinaryIO, name: str) -> Iterator[Mapping[str, Any]]:
    for batch in PlainTextReader(stream, name):
        for flaw in batch.flaws:
            raise unusable(name, flaw.message, flaw.line, flaw.column)
        values = {text.record: text.value for text in batch.texts}
        for piece in batch.pieces:
            if piece.record:
                yield {"text": values.get(piece.record, "")}


PLAIN_TEXT = Format(
    "plain text", (".txt", ".md", ".log"), PlainTextReader, _records, cuts=line_cuts
)
"""Lines as records; as values each is `{"text": line}`."""
