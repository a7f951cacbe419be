"""What weight files say in their headers; no tensor is ever loaded.

Sources: the safetensors README, section Format; the GGUF specification (ggml, docs/gguf.md).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from release_kit.strict_json import parse_json

# A safetensors file starts with its header's length, a little-endian number.
_LENGTH = 8
# The limit of the reference implementation (safetensors, MAX_HEADER_SIZE).
_LARGEST_HEADER = 100_000_000

_GGUF = b"GGUF"
_GGUF_VERSIONS = (2, 3)
# struct's letters by the numbers of GGUF's types.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Far above what real files hold; below it a hostile file costs seconds, not hours.
_MOST_KEYS = 1 << 16
_MOST_ITEMS = 1 << 22
_LONGEST_KEY = (1 << 16) - 1
_LONGEST_TEXT = 1 << 20
_DEEPEST = 8


class DamagedWeights(Exception):
    """The header cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class SafetensorsHeader:
    """The header of a safetensors file."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Any]
    """Name → what the header says about the tensor, not checked."""
    data_size: int
    """Bytes after the header."""


def read_safetensors(path: Path) -> SafetensorsHeader:
    """Read the header of the safetensors file at `path`.

    Raises:
        DamagedWeights: the header is not one.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_LENGTH)
        length = int.from_bytes(start, "little")
        if len(start) < _LENGTH:
            raise DamagedWeights("the file is shorter than its header's length")
        if length > min(_LARGEST_HEADER, size - _LENGTH):
            raise DamagedWeights("the header is longer than the file or than the format allows")
        raw = stream.read(length)
    try:
        header = parse_json(raw)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise DamagedWeights("the header is not a JSON object with unique keys")
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise DamagedWeights("the metadata in the header is not text by name")
    return SafetensorsHeader(metadata, header, size - _LENGTH - length)


def read_gguf(path: Path, prefix: str = "") -> Mapping[str, Any]:
    """Read the metadata of the GGUF file at `path`: the values whose keys start with `prefix`.

    Numbers and text as Python's; arrays as tuples. Versions 2 and 3, little endian.

    Raises:
        DamagedWeights: the header is not one, or larger than any real one.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        return _Gguf(stream, size).metadata(prefix)


class _Gguf:
    """A GGUF header on its way from bytes to values; `left` says how many bytes there still are."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self._items = 0

    def metadata(self, prefix: str) -> Mapping[str, Any]:
        if self._bytes(4) != _GGUF:
            raise DamagedWeights("the file does not start as GGUF does")
        version = self._number("I")
        if version not in _GGUF_VERSIONS:
            raise DamagedWeights(
                "its version of GGUF is not 2 or 3 in little-endian order, so it is not read"
            )
        self._number("Q")  # how many tensors
        count = self._number("Q")
        if count > _MOST_KEYS:
            raise DamagedWeights(f"the header says that it holds more than {_MOST_KEYS} keys")
        found: dict[str, Any] = {}
        seen: set[str] = set()
        for _ in range(count):
            key = self._text(_LONGEST_KEY)
            if key in seen:
                raise DamagedWeights("the header holds a key twice")
            seen.add(key)
            value = self._value(self._number("I"), keep=key.startswith(prefix))
            if key.startswith(prefix):
                found[key] = value
        return found

    def _value(self, kind: int, *, keep: bool, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text(_LONGEST_TEXT) if keep else self._skip(self._number("Q"))
        if kind != _ARRAY:
            raise DamagedWeights("a value has a type that GGUF does not know")
        if depth == _DEEPEST:
            raise DamagedWeights(f"arrays are nested deeper than {_DEEPEST} levels")
        inner, count = self._number("I"), self._number("Q")
        if inner in _NUMBERS and not keep:
            return self._skip(count * struct.calcsize(_NUMBERS[inner]))
        self._items += count
        if self._items > _MOST_ITEMS:
            raise DamagedWeights(f"the arrays hold more than {_MOST_ITEMS} items")
        return tuple(self._value(inner, keep=keep, depth=depth + 1) for _ in range(count))

    def _text(self, longest: int) -> str:
        length = self._number("Q")
        if length > longest:
            raise DamagedWeights(f"a key or a text is longer than {longest} bytes")
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise DamagedWeights("a key or a text is not UTF-8") from None

    def _number(self, letter: str) -> Any:
        (number,) = struct.unpack("<" + letter, self._bytes(struct.calcsize("<" + letter)))
        return number

    def _bytes(self, length: int) -> bytes:
        self._take(length)
        raw = self._stream.read(length)
        if len(raw) < length:
            raise DamagedWeights("the file ends inside its header")
        return raw

    def _skip(self, length: int) -> None:
        self._take(length)
        self._stream.seek(length, 1)

    def _take(self, length: int) -> None:
        if length > self._left:
            raise DamagedWeights("the file ends inside its header")
        self._left -= length
