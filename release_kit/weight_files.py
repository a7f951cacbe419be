"""What weight files say in their headers; no tensor is ever loaded.

Sources: the safetensors README, section Format; the GGUF specification (ggml, docs/gguf.md).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
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
_MOST_DIMENSIONS = 8
_ALIGNMENT = "general.alignment"
# Numbers in a block and bytes of a block, by the names and numbers of GGML's types (ggml.h).
_GGML = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip


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


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a GGUF file, as its header describes it."""

    name: str
    kind: str
    """GGML's name for how its numbers are written, for example Q4_K or F32."""
    shape: tuple[int, ...]
    start: int
    """The first of its bytes in the file."""
    size: int
    """Bytes."""


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


def read_gguf_layout(path: Path) -> tuple[GgufTensor, ...]:
    """Return the tensors of the GGUF file at `path`, all of which lie inside the file.

    Raises:
        DamagedWeights: the header is not one, a tensor reaches beyond the end of the file, has a
            form that is not known here or stands there twice, or there is none.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        return _Gguf(stream, size).layout()


class _Gguf:
    """A GGUF header on its way from bytes to values; `left` says how many bytes there still are."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = self._left = size
        self._items = 0
        self._tensors = 0

    def metadata(self, prefix: str) -> Mapping[str, Any]:
        if self._bytes(4) != _GGUF:
            raise DamagedWeights("the file does not start as GGUF does")
        version = self._number("I")
        if version not in _GGUF_VERSIONS:
            raise DamagedWeights(
                "its version of GGUF is not 2 or 3 in little-endian order, so it is not read"
            )
        self._tensors = self._number("Q")
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

    def layout(self) -> tuple[GgufTensor, ...]:
        alignment = self.metadata(_ALIGNMENT).get(_ALIGNMENT, 32)
        if type(alignment) is not int or alignment < 1:
            raise DamagedWeights("the alignment of its tensors is no number")
        if not 0 < self._tensors <= _MOST_KEYS:
            raise DamagedWeights(f"the header describes no tensor, or more than {_MOST_KEYS}")
        described = [self._described() for _ in range(self._tensors)]
        begin = self._size - self._left
        begin += -begin % alignment
        found: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in described:
            if name in found:
                raise DamagedWeights("the header describes a tensor twice")
            if kind not in _GGML:
                raise DamagedWeights("a tensor has a form that is not known here")
            word, numbers, width = _GGML[kind]
            count, rest = divmod(prod(shape), numbers)
            size = count * width
            if rest or begin + offset + size > self._size:
                raise DamagedWeights("a tensor reaches beyond the end of the file")
            found[name] = GgufTensor(name, word, shape, begin + offset, size)
        return tuple(found.values())

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._text(_LONGEST_KEY), self._number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise DamagedWeights(f"a tensor has more than {_MOST_DIMENSIONS} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        return name, shape, self._number("I"), self._number("Q")

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
