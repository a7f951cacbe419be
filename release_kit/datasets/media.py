"""Pictures and sounds that records hold or name: their bytes, and a digest that binds them.

A record holds bytes, a struct of `bytes` and `path` as the datasets library writes it (in JSON the
bytes are base64), or names a file by a path relative to the folder of its dataset. A record is a
stranger's text: no path leads out of that folder, and no link is followed. No message quotes one,
since files are named after persons.
"""

from __future__ import annotations

import base64
import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from release_kit.datasets.records import Record, read_records
from release_kit.errors import UnusableInput
from release_kit.files import sha256_bytes

LARGEST = 1 << 28
"""Bytes of one picture or sound; what is larger is not read."""


@dataclass(frozen=True)
class Media:
    """One picture or sound. Only what stands in a record itself is kept in memory."""

    sha256: str
    content: bytes | None = field(default=None, repr=False)
    path: Path | None = field(default=None, repr=False)
    """The file that holds it, where the record does not."""

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            UnusableInput: the file is no longer what it was when its digest was taken.
        """
        found = self.content
        if found is None and self.path is not None:
            found = _bytes_of(self.path)
        if found is None or sha256_bytes(found) != self.sha256:
            raise UnusableInput(
                "a picture or sound of the data was changed or taken away during the work",
                hint="Leave the dataset's folder alone, and run again.",
            )
        return found


@dataclass(frozen=True)
class Held:
    """What the records of a dataset hold and name; no redaction searches it."""

    kinds: tuple[str, ...]
    """image, audio or both."""
    files: int
    """Pictures and sounds in files of their own."""
    embedded: int
    """Those that stand in the records."""
    unusable: int
    """Records whose part names or holds none."""
    digest: str
    """SHA-256 over the digests of all, in the records' order."""


def media_of(fields: Mapping[str, Any], name: str, folder: Path) -> tuple[Media | None, str]:
    """Return the picture or sound in the field `name`, and what is wrong with it; one of both.

    `folder` is that of the dataset.
    """
    if name not in fields:
        return None, f"has no field '{name}'"
    value, wrong = fields[name], ""
    if isinstance(value, Mapping):
        inner = value.get("bytes")
        if isinstance(inner, str):
            value, wrong = _from_base64(inner)
        else:
            value = value.get("path") if inner is None else inner
    if isinstance(value, bytes):
        media, wrong = _embedded(value)
    elif isinstance(value, str):
        media, wrong = _named(folder, value)
    else:
        media, wrong = None, wrong or "is neither a path nor bytes"
    return media, wrong and f"the field '{name}' {wrong}"


def _embedded(content: bytes) -> tuple[Media | None, str]:
    if not content:
        return None, "holds no bytes"
    if len(content) > LARGEST:
        return None, f"holds more than {LARGEST >> 20} MiB"
    return Media(sha256_bytes(content), content=content), ""


def _named(folder: Path, name: str) -> tuple[Media | None, str]:
    path, wrong = _below(folder, name)
    found = _bytes_of(path) if path else None
    if found is None:
        return None, wrong or "names a file that cannot be read"
    return Media(sha256_bytes(found), path=path), ""


def held_by(dataset: Path, fields: Mapping[str, str], folder: Path) -> Held:
    """Count and bind what the records of the file `dataset` hold and name.

    `fields` are those that hold or name something, each with its kind (image or audio). Files lie
    below `folder`. Where one is missing or may not be read the digest is another, too.

    Raises:
        UnusableInput: `dataset` cannot be read.
    """
    files = embedded = unusable = 0
    digest = hashlib.sha256()
    for record in read_records(dataset):
        for name in sorted(fields):
            media, _ = media_of(record.fields, name, folder)
            digest.update(f"{media.sha256 if media else '-'}\n".encode())
            unusable += media is None
            embedded += bool(media and media.path is None)
            files += bool(media and media.path)
    kinds = tuple(sorted(set(fields.values())))
    return Held(kinds, files, embedded, unusable, digest.hexdigest())


def input_name(dataset: str) -> str:
    """Return under which name a receipt binds the pictures and sounds of a dataset."""
    return f"{dataset}, pictures and sounds"


def folder_of(record: Record) -> Path:
    """Return the folder below which the files lie that a record names."""
    return Path(record.source).parent if record.folder is None else record.folder


def _from_base64(text: str) -> tuple[bytes | None, str]:
    try:
        return base64.b64decode(text, validate=True), ""
    except ValueError:
        return None, "holds bytes that are not base64"


def _below(folder: Path, name: str) -> tuple[Path | None, str]:
    """Return the regular file `name` below `folder`, and why there is none."""
    parts = PurePosixPath(name).parts
    leads_out = (
        not parts
        or ".." in parts
        or PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).anchor
    )
    if leads_out or "\\" in name or "\0" in name:
        return None, "names no file below the folder of the dataset"
    path, mode, size = folder, 0, 0
    for part in parts:
        path /= part
        try:
            found = path.lstat()
        except (OSError, ValueError):
            return None, "names a file that is not there"
        mode, size = found.st_mode, found.st_size
        if stat.S_ISLNK(mode):
            return None, "names a link, and links are not followed"
    if not stat.S_ISREG(mode):
        return None, "names something that is no regular file"
    if size > LARGEST:
        return None, f"names a file of more than {LARGEST >> 20} MiB"
    return path, ""


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
