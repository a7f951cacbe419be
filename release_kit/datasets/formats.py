"""Which formats there are, and which one a file has."""

from __future__ import annotations

from pathlib import PurePath

from release_kit.datasets.columns import ARROW, PARQUET
from release_kit.datasets.containers import COMPRESSIONS, compressed, zip_of
from release_kit.datasets.dataset_format import Format
from release_kit.datasets.delimited import CSV, TSV
from release_kit.datasets.json_document import HUGGING_FACE_DESCRIPTION, JSON_DOCUMENT
from release_kit.datasets.json_lines import JSON_LINES
from release_kit.datasets.plain_text import PLAIN_TEXT
from release_kit.errors import Problem, UnusableInput

_PLAIN = (JSON_LINES, JSON_DOCUMENT, CSV, TSV, PARQUET, ARROW, PLAIN_TEXT)
_BY_SUFFIX = {suffix: found for found in _PLAIN for suffix in found.suffixes}
_BY_NAME = dict.fromkeys(("dataset_info.json", "dataset_infos.json"), HUGGING_FACE_DESCRIPTION)


def _find_plain(path: PurePath | str) -> Format | None:
    path = PurePath(path)
    return _BY_NAME.get(path.name) or _BY_SUFFIX.get(path.suffix.lower())


FORMATS: tuple[Format, ...] = (
    *_PLAIN,
    *(compressed(inner, suffix) for inner in _PLAIN for suffix in COMPRESSIONS),
    zip_of(_find_plain),
)
"""Every format of dataset files, compressed and archived ones too."""

_BY_SUFFIXES = {suffix: found for found in FORMATS for suffix in found.suffixes}


def find_format(path: PurePath | str) -> Format | None:
    """Return the format that the name of a file stands for; None when it stands for none."""
    path = PurePath(path)
    if found := _find_plain(path):
        return found
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return _BY_SUFFIXES.get("".join(suffixes[-2:])) or _BY_SUFFIXES.get("".join(suffixes[-1:]))


def format_of(path: PurePath | str, *, as_text: bool = False) -> Format:
    """Return the format that the name of a file stands for.

    Args:
        path: only its name matters.
        as_text: whether a file of another suffix is read as plain text.

    Raises:
        UnusableInput: no format has this suffix.
    """
    found = find_format(path) or (PLAIN_TEXT if as_text else None)
    if found is None:
        suffix = PurePath(path).suffix
        raise UnusableInput(
            f"{path} cannot be used: no dataset format has the suffix '{suffix}'",
            hint="known here: " + ", ".join((*_BY_SUFFIX, ".zip", *COMPRESSIONS)),
            problems=[Problem(str(path), 0, 0, "is not a dataset format known here")],
        )
    return found


def suffix_of(name: str) -> str:
    """Return the suffixes that tell a file's format, for example `.jsonl.gz`; empty when none."""
    suffixes = PurePath(name).suffixes
    both, last = "".join(suffixes[-2:]), "".join(suffixes[-1:])
    return next((suffix for suffix in (both, last) if suffix.lower() in _BY_SUFFIXES), "")
