"""Where shipped data lies, digests of files, and writes that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the folders inside the package; a checkout has them beside it.
_SHIPPED = _PACKAGE if (_PACKAGE / "schemas").is_dir() else _PACKAGE.parent

POLICIES = _SHIPPED / "policies"
SCHEMAS = _SHIPPED / "schemas"
TEMPLATES = _SHIPPED / "templates"

_CHUNK = 1 << 20


def shown(path: Path) -> str:
    """Return `path` as messages show it: below the current folder where it lies there."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes as 64 hex digits, in bounded memory.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def json_bytes(value: Any) -> bytes:
    """Return `value` as JSON whose bytes depend on nothing but the value: sorted, UTF-8, LF."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    return text.encode() + b"\n"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader or a crash sees the old file or the new one."""
    with whole_file(path) as stream:
        stream.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes take the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well.

    A crash or a kill leaves the old `path` as it was, and never half of one; should it strike
    between the two renames, the next call brings the old folder back. That call also clears what
    else was left.
    """
    staging = path.with_name(f".{path.name}.partial")
    aside = path.with_name(f".{path.name}.old")
    if os.path.lexists(aside) and not os.path.lexists(path):
        aside.replace(path)
    for left in (staging, aside):
        _remove(left)
    staging.mkdir(parents=True)
    yield staging
    if os.path.lexists(path):
        path.replace(aside)
    try:
        staging.replace(path)
    except BaseException:
        if os.path.lexists(aside):
            aside.replace(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
