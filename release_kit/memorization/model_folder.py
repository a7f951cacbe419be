"""What a model folder gives away beside its weights' answers; no model is run, nothing quoted.

Tokens and names are searched as the shipped policy of personal data says, by patterns and for
secrets. Stand-ins that redaction made up count as well: nobody can tell them apart here.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import UnusableInput
from release_kit.files import POLICIES, shown
from release_kit.memorization.probes import Found, Reading
from release_kit.privacy.detection.detector import Detector, load_detector
from release_kit.privacy.settings import read_settings, with_digest
from release_kit.progress import SILENT, Watcher
from release_kit.strict_json import parse_json
from release_kit.strict_yaml import read_yaml
from release_kit.training.models import open_processor, quiet
from release_kit.weight_files import DamagedWeights, read_gguf
from release_kit.weight_tensors import (
    GGUF_SUFFIX,
    Tensor,
    as_numbers,
    raw_blocks,
    read_weights,
    weights_in,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEFTOVERS = POLICIES / "training_leftovers.yaml"

_RECOMMENDER = "sequential-recommendation"
_TOKENIZER = "tokenizer.json"
_CONFIG = "config.json"
# What else a tokenizer may lie in.
_OTHER_TOKENIZERS = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tekken.json",
    "vocab.*", "merges.txt", "*.vocab", "*.model", "*.tiktoken", "*.bpe",
)  # fmt: skip
_LABELS = ("id2label", "label2id")
# Of a bare number: shorter ones are years and counts, which some country has for a phone number.
_FEWEST_DIGITS = 7
_ALIKE = 0.999
_ROWS = 1024
# Of sums in single precision.
_ROUNDING = 1e-4
_BATCH = 1 << 14


def measure_folder(
    model: Path, base: Path | None, watcher: Watcher = SILENT, *, task: str = ""
) -> Found:
    """Look through the folder `model`, of transformers or peft, or with GGUF files.

    tokens_with_personal_data counts the tokens that the model's tokenizer has, the base's has
    not, and in which something is found; a tokenizer that was trained on the data has its pieces
    looked through like tokens that were added. Where the base's is not at hand, all tokens are
    searched, and what is found may all be the base's: then the reading begins at 0.

    names_with_personal_data counts labels, and the items of a recommender.

    embedding_copies, of recommenders only, is the share of the rows of the table of items whose
    cosine to another row is above 0.999. Such items cannot be told apart by the weights: they
    stood in the same histories, so whoever has one of them has the other. Rows that no training
    touched say nothing and are left out: those of padding and unknown items, those of zeros, and
    those that are the base's still, bit for bit. Nothing is sampled, so there is no interval.

    stray_files counts the files that policies/training_leftovers.yaml lists.

    Raises:
        UnusableInput: the folder cannot be read, or the policy breaks its schema.
    """
    files = _files(model)
    before = _files(base) if base is not None else ()
    ours, theirs = _tokens(files), _tokens(before) if base is not None else None
    found = [_in_tokens(ours, theirs, watcher)]
    found.append(_in_names(_labels(files), ours if task == _RECOMMENDER else {}, watcher))
    if task == _RECOMMENDER:
        found.append(_copies(files, before, watcher))
    found.append(_leftovers(model, files))
    return Found(
        tuple(reading for one in found for reading in one.readings),
        {name: why for one in found for name, why in one.not_measured.items()},
        notes=tuple(note for one in found for note in one.notes),
    )


def _files(folder: Path) -> tuple[Path, ...]:
    """Return every file below `folder`, sorted; a link is one, wherever it leads."""
    reasons: list[str] = []
    found = []
    for root, folders, names in os.walk(folder, onerror=lambda e: reasons.append(type(e).__name__)):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found += [Path(root) / name for name in (*names, *links)]
    if reasons:
        raise UnusableInput(f"{shown(folder)}: cannot be read as a model folder ({reasons[0]})")
    return tuple(sorted(found))


# --- tokens and names


def _in_tokens(
    ours: Mapping[str, str] | None, theirs: Mapping[str, str] | None, watcher: Watcher
) -> Found:
    measure = "tokens_with_personal_data"
    if ours is None:
        return Found(not_measured={measure: "the tokenizer cannot be read"})
    new = [text for token, text in ours.items() if token not in (theirs or ())]
    what = "tokens that the base's tokenizer has not"
    if theirs is None:
        what = "all tokens: the base's tokenizer is not at hand, and some may be its own"
    count, how = _searched(new, watcher)
    low = 0 if theirs is None else count
    return Found((Reading(measure, count, low, count, len(new), f"{what}; {how}"),))


def _in_names(
    labels: Collection[str] | None, items: Mapping[str, str] | None, watcher: Watcher
) -> Found:
    measure = "names_with_personal_data"
    if labels is None or items is None:
        return Found(not_measured={measure: "the labels or items cannot be read"})
    names = [*labels, *items.values()]
    count, how = _searched(names, watcher)
    return Found((Reading(measure, count, count, count, len(names), how),))


def _searched(texts: Sequence[str], watcher: Watcher) -> tuple[int, str]:
    """Return how many of the texts hold something, and how they were searched."""
    if not texts:
        return 0, "there are none"
    detector, count = _detector(), 0
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        for text, matches in zip(part, detector.detect(part), strict=True):
            count += any(_says_much(text[match.start : match.end]) for match in matches)
        watcher.step("searching tokens and names", start + len(part), len(texts))
    how = "by patterns and for secrets"
    if detector.unsearched:
        how += f"; nothing looked for {', '.join(detector.unsearched)}"
    return count, how


@cache
def _detector() -> Detector:
    return load_detector(with_digest(replace(read_settings(), mode="structured")))


def _says_much(value: str) -> bool:
    return not value.isdigit() or len(value) >= _FEWEST_DIGITS


def _tokens(files: Iterable[Path]) -> dict[str, str] | None:
    """Return token → as it reads, of all tokenizers among `files`; None where one is unreadable."""
    found: dict[str, str] = {}
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    for folder, own in by_folder.items():
        names = {file.name for file in own}
        parts: list[Mapping[str, str] | None] = []
        if _TOKENIZER in names:
            parts.append(_written(_json(folder / _TOKENIZER)))
            if "tokenizer_config.json" in names:
                parts.append(_added(_json(folder / "tokenizer_config.json")))
        elif any(fnmatchcase(name, pattern) for name in names for pattern in _OTHER_TOKENIZERS):
            parts.append(_opened(folder))
        parts += [_packed(file) for file in own if file.name.endswith(GGUF_SUFFIX)]
        for part in parts:
            if part is None:
                return None
            found |= part
    return found


def _written(tokenizer: Any) -> dict[str, str] | None:
    """Return the tokens of a tokenizer.json, as the tokenizers library writes it."""
    match tokenizer:
        case {"model": {"vocab": dict() | list() as vocabulary}, "added_tokens": list(added)}:
            pass
        case _:
            return None
    entries = _texts(one[0] if isinstance(one, list) and one else one for one in vocabulary)
    contents = _contents(added)
    if entries is None or contents is None:
        return None
    told = json.dumps([tokenizer.get("decoder"), tokenizer.get("pre_tokenizer")])
    return _read(entries, in_bytes='"ByteLevel"' in told) | contents


def _added(config: Any) -> dict[str, str] | None:
    """Return the tokens that a tokenizer_config.json adds."""
    told = config.get("added_tokens_decoder", {}) if isinstance(config, dict) else None
    return _contents(told.values()) if isinstance(told, dict) else None


def _contents(tokens: Iterable[Any]) -> dict[str, str] | None:
    found = _texts(token.get("content") if isinstance(token, dict) else None for token in tokens)
    return None if found is None else {text: text for text in found}


def _texts(values: Iterable[Any]) -> list[str] | None:
    """Return the values where all of them are texts, else None."""
    found = list(values)
    return found if all(isinstance(value, str) for value in found) else None


def _opened(folder: Path) -> dict[str, str] | None:
    """Return the tokens of a tokenizer in another form, which transformers opens as data."""
    try:
        with quiet():
            tokenizer = open_processor("AutoTokenizer", folder)
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
            return _written(parse_json(backend.to_str().encode()))
        return _read(tokenizer.get_vocab(), in_bytes=False)
    # A broken folder makes transformers raise anything at all, and its words may quote.
    except Exception:  # noqa: BLE001
        return None


def _packed(file: Path) -> dict[str, str] | None:
    """Return the tokens in the header of a GGUF file."""
    try:
        told = read_gguf(file, "tokenizer.ggml.")
    except (DamagedWeights, OSError):
        return None
    tokens = told.get("tokenizer.ggml.tokens", ())
    entries = _texts(tokens) if isinstance(tokens, tuple) else None
    if entries is None:
        return None
    return _read(entries, in_bytes=told.get("tokenizer.ggml.model") == "gpt2")


def _read(tokens: Iterable[str], *, in_bytes: bool) -> dict[str, str]:
    """Return token → as it reads: without the marks of borders, and bytes as characters."""
    from tokenizers.decoders import ByteLevel

    decode = ByteLevel().decode if in_bytes else "".join
    return {
        token: decode([token]).removeprefix("##").removesuffix("</w>").replace("▁", " ").strip()
        for token in tokens
    }


def _labels(files: Iterable[Path]) -> set[str] | None:
    """Return the labels that the configurations name; None where one is unreadable."""
    found: set[str] = set()
    for file in files:
        if file.name == _CONFIG:
            config = _json(file)
            if not isinstance(config, dict):
                return None
            found |= set(_named(config))
        elif file.name.endswith(GGUF_SUFFIX):
            try:
                told = read_gguf(file)
            except (DamagedWeights, OSError):
                return None
            labels = [value for key, value in told.items() if key.endswith("output_labels")]
            found |= set(map(str, chain.from_iterable(v for v in labels if isinstance(v, tuple))))
    return found


def _named(config: dict[str, Any]) -> Iterator[str]:
    # A model of several parts keeps the configuration of each inside its own.
    for key, value in config.items():
        if key in _LABELS and isinstance(value, dict):
            yield from map(str, value if key == "label2id" else value.values())
        elif isinstance(value, dict):
            yield from _named(value)


def _json(file: Path) -> Any:
    """Return what a JSON file holds; None where it cannot be read, like null."""
    try:
        return parse_json(file.read_bytes())
    except (OSError, ValueError):
        return None


# --- copies in a table


def _copies(files: Sequence[Path], base: Sequence[Path], watcher: Watcher) -> Found:
    measure = "embedding_copies"
    try:
        before = {tensor.name: tensor for tensor, _ in _tables(base)}
        read = [_rows(tensor, before.get(tensor.name), idle) for tensor, idle in _tables(files)]
    except (DamagedWeights, OSError):
        return Found(not_measured={measure: "the weights cannot be read"})
    tables = [rows for rows in read if len(rows) > 1]
    if not tables:
        why = "there is no table in safetensors with trained rows for items"
        return Found(not_measured={measure: why})
    if not all(np.isfinite(rows).all() for rows in tables):
        return Found(not_measured={measure: "a table of items holds NaN or infinity"})
    share, count = max((_copied(rows, watcher), len(rows)) for rows in tables)
    how = f"cosine above {_ALIKE}, each row with each"
    if len(tables) > 1:
        how += f"; the worst of {len(tables)} tables"
    return Found((Reading(measure, share, share, share, count, how),))


def _tables(files: Iterable[Path]) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield each matrix with one row for each token, and the rows of special tokens."""
    for path, _ in weights_in(file for file in files if file.is_file()):
        config, tokenizer = _json(path.parent / _CONFIG), _json(path.parent / _TOKENIZER)
        size = config.get("vocab_size") if isinstance(config, dict) else None
        added = tokenizer.get("added_tokens") if isinstance(tokenizer, dict) else None
        idle = [
            token["id"]
            for token in (added if isinstance(added, list) else ())
            if isinstance(token, dict) and token.get("special") and type(token.get("id")) is int
        ]
        for tensor in read_weights(path).tensors.values():
            if tensor.is_float and len(tensor.shape) == 2 and tensor.shape[0] == size:  # noqa: PLR2004
                yield tensor, idle


def _rows(tensor: Tensor, before: Tensor | None, idle: Sequence[int]) -> NDArray[np.float32]:
    """Return the rows that training touched, shape (rows, width)."""
    words = _words(tensor)
    touched = np.ones(len(words), bool)
    touched[[row for row in idle if 0 <= row < len(words)]] = False
    if before is not None and (before.dtype, before.shape[1]) == (tensor.dtype, tensor.shape[1]):
        old = _words(before)[: len(words)]
        touched[: len(old)] &= (words[: len(old)] != old).any(axis=1)
    rows = np.empty(words.shape, np.float32)
    for start in range(0, len(words), _ROWS):
        rows[start : start + _ROWS] = as_numbers(words[start : start + _ROWS], tensor.dtype)
    return rows[touched & rows.any(axis=1)]


def _words(tensor: Tensor) -> NDArray[Any]:
    return np.concatenate(list(raw_blocks(tensor))).reshape(tensor.shape)


def _copied(rows: NDArray[np.float32], watcher: Watcher) -> float:
    """Return the share of rows whose cosine to another one is above `_ALIKE`.

    Unit vectors with a cosine of c are sqrt(2 - 2c) apart, so no farther along any direction:
    ordered along the one in which they differ most, only neighbours are compared.
    """
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    along = unit @ np.linalg.eigh(np.cov(unit.T).reshape(unit.shape[1], -1))[1][:, -1]
    order = np.argsort(along, kind="stable")
    unit, along = unit[order], along[order]
    reach = math.sqrt(2 - 2 * _ALIKE) + _ROUNDING
    copied = np.zeros(len(unit), bool)
    for start in range(0, len(unit), _ROWS):
        block = unit[start : start + _ROWS]
        end = int(np.searchsorted(along, along[start + len(block) - 1] + reach, "right"))
        for first in range(start, end, _ROWS):
            other = unit[first : min(first + _ROWS, end)]
            alike = block @ other.T > _ALIKE
            if first == start:
                np.fill_diagonal(alike, False)
            copied[start : start + len(block)] |= alike.any(axis=1)
            copied[first : first + len(other)] |= alike.any(axis=0)
        watcher.step("comparing items", start + len(block), len(unit))
    return float(copied.mean())


# --- files that nobody needs


@dataclass(frozen=True)
class Leftover:
    """A kind of file that training leaves."""

    pattern: str
    """Of a file's own name; of a folder's where it ends with /."""
    what: str
    tells: str
    """What a stranger learns from it."""

    def fits(self, folders: Sequence[str], name: str) -> bool:
        """Tell whether a file called `name` below `folders` is one; case does not matter."""
        pattern = self.pattern.casefold()
        held = folders if pattern.endswith("/") else (name,)
        return any(fnmatchcase(one.casefold(), pattern.removesuffix("/")) for one in held)


def load_leftovers(path: Path = LEFTOVERS) -> tuple[Leftover, ...]:
    """Read the kinds of files that training leaves.

    Raises:
        UnusableInput: the file breaks its schema.
    """
    document = read_yaml(path, "training_leftovers", shown_as=f"policies/{path.name}")
    return tuple(Leftover(**entry) for entry in document.data["leftovers"])


def _leftovers(model: Path, files: Sequence[Path]) -> Found:
    kinds = load_leftovers()
    counts: Counter[Leftover] = Counter()
    for file in files:
        *folders, name = file.relative_to(model).parts
        # A link may stand for a whole folder.
        inside = [*folders, name] if file.is_symlink() else folders
        counts.update([kind for kind in kinds if kind.fits(inside, name)][:1])
    count = counts.total()
    notes = tuple(
        f"files beside the weights, {counts[kind]} × {kind.pattern}: {kind.what}; {kind.tells}"
        for kind in kinds
        if counts[kind]
    )
    how = "by policies/training_leftovers.yaml"
    return Found((Reading("stray_files", count, count, count, len(files), how),), notes=notes)
