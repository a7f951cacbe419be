"""A bundle: the staged folder that is published, and the manifest that binds its bytes.

The manifest lists every other file as POSIX path → size and SHA-256, sorted; its own SHA-256 is
the digest that an audit, a publication and a verification carry.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.files import TEMPLATES, json_bytes, sha256_bytes, sha256_file, write_atomic

MANIFEST = "manifest.json"
LARGEST_REGULAR_FILE = 10 * 1024 * 1024
"""Bytes above which the Hub stores a file by LFS, whatever its name."""
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_NAMES = re.compile(rf"{_INVISIBLE.pattern}|\\")


@dataclass(frozen=True)
class BundleFile:
    """One regular file of a bundle."""

    path: str
    """POSIX path below the bundle's root."""
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A folder, walked and hashed once."""

    root: Path
    files: Mapping[str, BundleFile]
    """By path, sorted."""
    irregular: Mapping[str, str]
    """What is no readable regular file: path → what it is."""

    def text(self, path: str) -> str:
        """Return the file's text; an absent file reads as empty.

        Raises:
            UnicodeDecodeError: the bytes are not UTF-8.
        """
        return self.bytes(path).decode("utf-8-sig")

    def bytes(self, path: str) -> bytes:
        """Return the file's bytes; an absent file reads as empty."""
        return (self.root / path).read_bytes() if path in self.files else b""


@dataclass(frozen=True)
class Manifest:
    """What a bundle held when it was built."""

    repo_id: str
    version: str
    files: Mapping[str, BundleFile]
    digest: str
    """SHA-256 of the manifest's own bytes."""


@dataclass(frozen=True)
class Difference:
    """How a set of files departs from a manifest; three sorted lists of paths."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed)


def read_bundle(root: Path) -> Bundle:
    """Walk `root` without following any link, and hash every regular file once.

    Raises:
        UnusableInput: `root` is not a folder.
    """
    if root.is_symlink() or not root.is_dir():
        raise UnusableInput(f"{root} is not a folder", hint="Run `release-kit build` first.")
    files: dict[str, BundleFile] = {}
    irregular: dict[str, str] = {}
    for path, kind in sorted(_walk(root)):
        if kind:
            irregular[path] = kind
            continue
        try:
            file = root / path
            files[path] = BundleFile(path, file.stat().st_size, sha256_file(file))
        except OSError as error:
            irregular[path] = f"a file that cannot be read ({error.strerror})"
    return Bundle(root, files, irregular)


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            entries = list(os.scandir(root / below))
        except OSError as error:
            yield below, f"a folder that cannot be read ({error.strerror})"
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            kind = _kind(entry)
            if kind == "a folder":
                folders.append(path)
            else:
                # What is not UTF-8 or cannot be seen is shown escaped.
                shown = path.encode(errors="backslashreplace").decode()
                yield _INVISIBLE.sub(lambda c: repr(c[0])[1:-1], shown), kind


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what the entry is; empty for a regular file with a usable name."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if _NOT_IN_NAMES.search(entry.name):
        return "a name with a backslash or a control character"
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISREG(mode):
        return ""
    return "a symbolic link" if stat.S_ISLNK(mode) else "a device, pipe or socket"


def gitattributes(root: Path) -> bytes:
    """Return the `.gitattributes` of a bundle: the Hub's own, and a line for other large files.

    Without that line the Hub would add it on upload and so change bytes that were audited.
    """
    text = (TEMPLATES / "gitattributes").read_text(encoding="utf-8")
    tracked = [line.split()[0] for line in text.splitlines()]
    for path in sorted(root.iterdir()):
        large = path.is_file() and path.stat().st_size > LARGEST_REGULAR_FILE
        if large and not any(path.match(pattern) for pattern in tracked):
            # A pattern ends at a blank.
            pattern = path.name.replace(" ", "[[:space:]]")
            text += f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    return text.encode()


def write_manifest(root: Path, *, repo_id: str, version: str) -> Manifest:
    """Hash every file below `root` and write the manifest beside them, last.

    Raises:
        UnusableInput: the folder holds something other than readable regular files.
    """
    (root / MANIFEST).unlink(missing_ok=True)
    bundle = read_bundle(root)
    if bundle.irregular:
        path, kind = next(iter(bundle.irregular.items()))
        raise UnusableInput(f"{path} is {kind}; a bundle holds regular files only")
    listed = {
        file.path: {"size": file.size, "sha256": file.sha256} for file in bundle.files.values()
    }
    release = {"repo_id": repo_id, "version": version}
    write_atomic(
        root / MANIFEST,
        json_bytes({"manifest": _FORMAT, "release": release, "files": listed}),
    )
    return parse_manifest((root / MANIFEST).read_bytes(), MANIFEST)


def parse_manifest(raw: bytes, name: str) -> Manifest:
    """Read a manifest's bytes.

    Raises:
        UnusableInput: they are not a manifest of this format.
    """
    try:
        data = json.loads(raw, object_pairs_hook=_unrepeated)
        if data["manifest"] != _FORMAT:
            raise UnusableInput(f"{name} has format {data['manifest']!r}, not {_FORMAT}")
        files = {path: _entry(path, entry) for path, entry in sorted(data["files"].items())}
        release = data["release"]
        repo_id, version = release["repo_id"], release["version"]
        if not isinstance(repo_id, str) or not isinstance(version, str):
            raise TypeError("release")  # noqa: TRY301 - told as any other damage below
        return Manifest(repo_id, version, files, sha256_bytes(raw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableInput(
            f"{name} is not a manifest", hint="Run `release-kit build` again."
        ) from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _entry(path: str, entry: Any) -> BundleFile:
    size, sha256 = entry["size"], entry["sha256"]
    if type(size) is not int or size < 0 or not _SHA256.fullmatch(sha256):
        raise ValueError("no size or digest")
    path.encode()
    if path == MANIFEST or _NOT_IN_NAMES.search(path) or {"", ".", ".."} & set(path.split("/")):
        raise ValueError("no path of a file below the bundle")
    return BundleFile(path, size, sha256)


def compare(manifest: Manifest, files: Mapping[str, BundleFile]) -> Difference:
    """Compare `files` (the manifest itself set aside) with what `manifest` lists."""
    listed, found = manifest.files, {p: f for p, f in files.items() if p != MANIFEST}
    return Difference(
        missing=tuple(sorted(listed.keys() - found.keys())),
        extra=tuple(sorted(found.keys() - listed.keys())),
        changed=tuple(
            path
            for path in sorted(listed.keys() & found.keys())
            if (listed[path].size, listed[path].sha256) != (found[path].size, found[path].sha256)
        ),
    )
