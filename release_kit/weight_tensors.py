"""Tensors of safetensors files, read in blocks by numpy: a model of any size in bounded memory.

Sources: the safetensors README, section Format; the index of sharded weights as transformers
writes it (`model.safetensors.index.json` with a `weight_map`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from release_kit.strict_json import parse_json
from release_kit.weight_files import DamagedWeights, read_gguf_layout, read_safetensors

SUFFIX = ".safetensors"
GGUF_SUFFIX = ".gguf"
INDEX_SUFFIX = ".safetensors.index.json"
BLOCK = 1 << 18
"""Elements that are in memory at once, of each tensor."""

# The sizes in a header are 64-bit numbers.
_LARGEST_SIZE = 1 << 64
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
# Bits that NaN and the infinities have set and no other number, as IEEE 754 and bfloat16 say.
_EXPONENTS = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}
_STEPS = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
_WHOLE = ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64")
_LARGEST_INDEX = 100_000_000
_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, as its header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    """The first of its bytes in the file."""
    size: int
    """Bytes."""

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """True when its numbers can be read here: 64, 32 or 16 bits, or bfloat16."""
        return self.dtype in _EXPONENTS

    @property
    def is_whole(self) -> bool:
        """True for whole numbers and truth values, which cannot be NaN."""
        return self.dtype in _WHOLE

    @property
    def is_matrix(self) -> bool:
        """True when it holds floating numbers along two dimensions or more."""
        return self.is_float and sum(length > 1 for length in self.shape) > 1

    @property
    def step(self) -> float:
        """The distance between 1 and the next larger number; only of floating numbers."""
        return _STEPS[self.dtype]


@dataclass(frozen=True)
class Weights:
    """The tensors of one model: those of a file, or of all shards that an index lists."""

    file: Path
    """The file, or the index."""
    tensors: Mapping[str, Tensor]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the safetensors file at `path`, whose layout is as the format wants it.

    Raises:
        DamagedWeights: the header is not one, or its tensors do not cover the file exactly.
        OSError: the file cannot be read.
    """
    header = read_safetensors(path)
    offset = path.stat().st_size - header.data_size
    spans = {name: _span(tensor) for name, tensor in header.tensors.items()}
    _check_layout(list(spans.values()), header.data_size)
    return {
        name: Tensor(
            name,
            header.tensors[name]["dtype"],
            tuple(header.tensors[name]["shape"]),
            path,
            offset + span[0],
            span[1] - span[0],
        )
        for name, span in spans.items()
        if span is not None
    }


def read_gguf_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the GGUF file at `path`; the dtype of one is GGML's name for its form.

    Raises:
        DamagedWeights: as `read_gguf_layout` says.
        OSError: the file cannot be read.
    """
    return {
        one.name: Tensor(one.name, one.kind, one.shape, path, one.start, one.size)
        for one in read_gguf_layout(path)
    }


def _check_layout(spans: list[tuple[int, int] | None], data_size: int) -> None:
    known = sorted(span for span in spans if span is not None)
    if len(known) < len(spans):
        raise DamagedWeights("a tensor's dtype, shape and offsets do not agree")
    if not known:
        raise DamagedWeights("the file holds no tensor")
    end = 0
    for start, stop in known:
        if start != end:
            raise DamagedWeights("the tensors leave a hole or overlap")
        end = stop
    if end != data_size:
        raise DamagedWeights(
            "the tensors do not cover the file exactly: it is truncated or has bytes after them"
        )


def _span(tensor: Any) -> tuple[int, int] | None:
    match tensor:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]}:
            if dtype not in _BITS or not all(_is_size(n) for n in (*shape, start, stop)):
                return None
            bits = _BITS[dtype]
            for length in shape:
                bits *= length
                if bits >= _LARGEST_SIZE:
                    return None
            return (start, stop) if bits == 8 * (stop - start) else None
        case _:
            return None


def _is_size(value: Any) -> bool:
    # True and False are numbers to Python, but not to the format.
    return type(value) is int and 0 <= value < _LARGEST_SIZE


def read_index(path: Path) -> dict[str, Tensor]:
    """Return the tensors of all shards that the index at `path` lists, each from its own shard.

    Raises:
        DamagedWeights: the index is not one, names a file outside its folder, or does not list
            exactly what its shards hold.
        OSError: a file cannot be read.
    """
    listed = _listed(path)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(listed.values())):
        if not (path.parent / shard).is_file():
            raise DamagedWeights("a shard that the index names is not there")
        held = read_tensors(path.parent / shard)
        if set(held) != {name for name, where in listed.items() if where == shard}:
            raise DamagedWeights("a shard does not hold exactly what the index says")
        tensors |= held
    return tensors


def _listed(path: Path) -> dict[str, str]:
    if path.stat().st_size > _LARGEST_INDEX:
        raise DamagedWeights("the index is larger than any real one")
    try:
        index = parse_json(path.read_bytes())
    except ValueError:
        index = None
    listed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise DamagedWeights("the index has no weight_map that says where each tensor lies")
    for shard in listed.values():
        if not isinstance(shard, str) or not shard.endswith(SUFFIX):
            raise DamagedWeights("the index names a shard that is no safetensors file")
        # A name that leads elsewhere would have strangers' files read.
        if re.search(r"[/\\\x00]", shard):
            raise DamagedWeights("the index names a file outside its folder")
    return listed


def shards_of(index: Path) -> frozenset[str]:
    """Return the names of the files that the index at `index` lists; none when it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return frozenset(_listed(index).values())
    except DamagedWeights:
        return frozenset()


def is_shard(name: str) -> bool:
    """Tell whether a file is called as a part of sharded weights is."""
    return _SHARD.fullmatch(name) is not None


def weights_in(files: Iterable[Path]) -> Iterator[tuple[Path, frozenset[Path]]]:
    """Yield each model among `files`: the file or index to read, and the files that it takes.

    Raises:
        OSError: an index cannot be read.
    """
    listed = sorted(files)
    taken: set[Path] = set()
    for path in listed:
        if path.name.endswith(INDEX_SUFFIX):
            shards = frozenset(path.parent / name for name in shards_of(path))
            taken |= shards
            yield path, shards
    for path in listed:
        if path.name.endswith(SUFFIX) and path not in taken:
            yield path, frozenset({path})


def read_weights(path: Path) -> Weights:
    """Return the model of a safetensors file or of an index of shards.

    Raises:
        DamagedWeights: as `read_tensors` and `read_index` say.
        OSError: a file cannot be read.
    """
    is_index = path.name.endswith(INDEX_SUFFIX)
    return Weights(path, read_index(path) if is_index else read_tensors(path))


def raw_blocks(tensor: Tensor, count: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the first `count` numbers of a tensor, or all, as unsigned words of its width.

    A tensor of parts of bytes is yielded as bytes, and `count` is then bytes.

    Raises:
        DamagedWeights: the file has become shorter than its header says.
        OSError: the file cannot be read.
    """
    width = max(_BITS[tensor.dtype] // 8, 1)
    left = tensor.size // width if count is None else count
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        while left:
            block = _words(stream, min(left, BLOCK), width)
            left -= len(block)
            yield block


def _words(stream: BinaryIO, count: int, width: int) -> NDArray[Any]:
    raw = stream.read(count * width)
    if len(raw) < count * width:
        raise DamagedWeights("the file ends inside a tensor")
    return np.frombuffer(raw, f"<u{width}")


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors have one form and hold the very same bytes.

    Raises:
        DamagedWeights: a file has become shorter than its header says.
        OSError: a file cannot be read.
    """
    return (one.dtype, one.shape) == (other.dtype, other.shape) and all(
        np.array_equal(*blocks) for blocks in zip(raw_blocks(one), raw_blocks(other), strict=True)
    )


def as_numbers(words: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Return the floating numbers that `words` stand for, as 64-bit numbers."""
    if dtype == "BF16":
        # The upper half of a 32-bit number.
        return (words.astype("<u4") << 16).view("<f4").astype(np.float64)
    return words.view(f"<f{words.dtype.itemsize}").astype(np.float64)


def has_no_number(words: NDArray[Any], dtype: str) -> bool:
    """Tell whether a block of floating numbers holds NaN or an infinity."""
    mask = words.dtype.type(_EXPONENTS[dtype])
    return bool(((words & mask) == mask).any())


def sampled(tensor: Tensor, most: int) -> NDArray[np.float64]:
    """Return up to `most` rows and columns of a matrix, evenly spread; later dimensions as columns.

    Raises:
        DamagedWeights: the file has become shorter than its header says.
        OSError: the file cannot be read.
    """
    rows, width = tensor.shape[0], _BITS[tensor.dtype] // 8
    columns = tensor.count // rows
    kept = np.unique(np.linspace(0, columns - 1, min(columns, most)).astype(int))
    found = []
    with tensor.file.open("rb") as stream:
        for row in np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(int)):
            stream.seek(tensor.start + int(row) * columns * width)
            found.append(_words(stream, columns, width)[kept])
    return np.stack([as_numbers(row, tensor.dtype) for row in found])
