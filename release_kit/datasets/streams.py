"""Pieces of a file that fit into memory: chunks of whole lines, and a part of a larger file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from release_kit.datasets.mistakes import unusable

BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 18
"""Bytes of a batch, unless a record is longer."""
LONGEST = 1 << 28
"""Bytes of a line or a cell; what is longer comes in pieces, so that memory stays bounded."""


def chunks(stream: BinaryIO, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the bytes of `stream` in chunks that end where a line ends."""
    while data := stream.read(size):
        yield data if data.endswith(b"\n") else data + stream.readline(LONGEST)


def within(stream: BinaryIO, start: int, end: int) -> BinaryIO:
    """Return the bytes of `stream` from `start` to before `end` as a stream of its own.

    A part keeps sight of where its file begins: a part of a table knows the columns' names.
    `stream` must be seekable, is read by nobody else meanwhile, and stays open.
    """
    return io.BufferedReader(_Window(stream, start, end), CHUNK)


def head_of(stream: BinaryIO, size: int) -> tuple[bytes, int] | None:
    """Return the first bytes of the file that `stream` is a part of, and where the part begins.

    None when it is a whole file.
    """
    window = getattr(stream, "raw", None)
    return (window.head(size), window.start) if isinstance(window, _Window) else None


def line_cuts(path: Path, size: int) -> Sequence[tuple[int, int]]:
    """Cut the file at `path` behind line ends into byte ranges of about `size` bytes.

    Raises:
        UnusableInput: the file cannot be read.
    """
    edges = [0]
    with opened(path) as stream:
        whole = stream.seek(0, io.SEEK_END)
        while edges[-1] + size < whole:
            stream.seek(edges[-1] + size - 1)
            while (piece := stream.readline(CHUNK)) and not piece.endswith(b"\n"):
                pass
            edges.append(stream.tell())
    if edges[-1] < whole:
        edges.append(whole)
    return list(pairwise(edges))


def opened(path: Path, name: str = "") -> BinaryIO:
    """Open the file at `path` for reading.

    Raises:
        UnusableInput: there is no such file, or it cannot be read.
    """
    name = name or str(path)
    said = ""
    try:
        return path.open("rb")
    except FileNotFoundError:
        said = "there is no such file"
    except OSError as error:
        said = f"cannot be read: {error.strerror}"
    raise unusable(name, said)


class _Window(io.RawIOBase):
    """A range of another stream."""

    def __init__(self, whole: BinaryIO, start: int, end: int) -> None:
        self.start = start
        self._whole = whole
        self._end = end
        self._at = start

    def head(self, size: int) -> bytes:
        self._whole.seek(0)
        return self._whole.read(size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self.start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self.start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(self.start, base + offset)
        return self.tell()

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self._whole.seek(self._at)
        data = self._whole.read(max(0, min(len(view), self._end - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
