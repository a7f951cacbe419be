"""Receipts: what a stage read, with which parameters and tools, and what it made.

A receipt is written last, so its existence means that the stage came to its end; a stage whose
receipt still matches has nothing to do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from release_kit.bundle import read_bundle
from release_kit.errors import UnusableInput
from release_kit.files import json_bytes, sha256_bytes, sha256_file, write_atomic

_FORMAT = 1


@dataclass(frozen=True)
class Receipt:
    """One stage's provenance."""

    stage: str
    inputs: Mapping[str, str]
    """What was read → SHA-256."""
    parameters: Mapping[str, Any]
    tools: Mapping[str, str]
    """Package → version."""
    outputs: Mapping[str, str]
    """What was made, relative to the receipts' parent → SHA-256."""
    results: Mapping[str, Any]
    """What was measured on the way; JSON values."""

    @property
    def digest(self) -> str:
        """SHA-256 of the receipt as it is written."""
        return sha256_bytes(json_bytes(_data(self)))


def _data(receipt: Receipt) -> dict[str, Any]:
    return {"receipt": _FORMAT, **asdict(receipt)}


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write the receipt, whole or not at all."""
    write_atomic(path, json_bytes(_data(receipt)))


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; None when there is none.

    Raises:
        UnusableInput: the file is not a receipt of this format.
    """
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_bytes())
        if data.pop("receipt") != _FORMAT or not _is_whole(data):
            raise KeyError("format")  # noqa: TRY301 - told as any other damage below
        return Receipt(**data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError):
        raise UnusableInput(
            f"{path} is not a receipt", hint="Delete it; the stage then runs again."
        ) from None


def _is_whole(data: Mapping[str, Any]) -> bool:
    return (
        isinstance(data["stage"], str)
        and all(isinstance(data[name], dict) for name in ("parameters", "results"))
        and all(
            isinstance(text, str)
            for name in ("inputs", "tools", "outputs")
            for text in data[name].values()
        )
    )


def still_matches(receipt: Receipt | None, planned: Receipt, root: Path) -> bool:
    """Tell whether `receipt` makes the planned work needless, down to the tools' versions."""
    return (
        receipt is not None
        and covers(receipt, planned)
        and receipt.tools == planned.tools
        and outputs_lie_there(receipt, root)
    )


def covers(receipt: Receipt, planned: Receipt) -> bool:
    """Tell whether the stage read the same and did the same as is planned now."""
    return (
        receipt.stage == planned.stage
        and receipt.inputs == planned.inputs
        # Both through JSON, as a receipt goes: tuples come back as lists.
        and json_bytes(receipt.parameters) == json_bytes(planned.parameters)
    )


def outputs_lie_there(receipt: Receipt, root: Path) -> bool:
    """Tell whether what the stage made lies below `root`, byte for byte."""
    return bool(receipt.outputs) and all(
        digest_of(root / path) == digest for path, digest in receipt.outputs.items()
    )


def digest_of(path: Path, *, without: Collection[Path] = ()) -> str:
    """Return the digest of a file, or of all files below a folder; empty when absent.

    Of a folder, the files in `without` do not count.

    Raises:
        UnusableInput: the folder is or holds a link, a device or an unreadable file.
    """
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        return ""
    if path.is_symlink():
        raise UnusableInput(
            f"{path} is a symbolic link", hint="Name the folder itself; only that can be bound."
        )
    folder = read_bundle(path)
    for below, kind in folder.irregular.items():
        raise UnusableInput(f"{path / below} is {kind}; only regular files can be bound by digest")
    return sha256_bytes(
        json_bytes(
            {
                file.path: file.sha256
                for file in folder.files.values()
                if path / file.path not in without
            }
        )
    )


def tool_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package, and Python's."""
    versions = {"python": sys.version.split()[0]}
    for package in ("release-kit", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
