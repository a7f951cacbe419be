"""What was published from a project, and how good it was: what the next release is held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.files import json_bytes, write_atomic

_FORMAT = 1


@dataclass(frozen=True)
class Published:
    """One published release, with the figures of its evaluation."""

    repo_id: str
    version: str
    manifest_digest: str
    task: str
    """What it was trained for; empty where nobody knows."""
    test_split: str
    """SHA-256 of the test records; empty where nobody knows, so that nothing can be compared."""
    figures: Mapping[str, float]
    """By their names in `release_kit.figures.FIGURES`."""
    classes: Mapping[str, Mapping[str, float]]
    """Label → the scores of that class, by their names in `CLASS_FIGURES` there."""


def last_published(path: Path, repo_id: str, version: str) -> Published | None:
    """Return the last release of `repo_id` but `version` itself that the file at `path` knows.

    Raises:
        UnusableInput: the file is damaged.
    """
    others = [one for one in _read(path) if one.repo_id == repo_id and one.version != version]
    return others[-1] if others else None


def remember(path: Path, published: Published) -> None:
    """Add a release to the file at `path`; one that it knows already keeps its place.

    Raises:
        UnusableInput: the file is damaged.
    """
    known = list(_read(path))
    places = [(one.repo_id, one.version) for one in known]
    name = (published.repo_id, published.version)
    if name in places:
        known[places.index(name)] = published
    else:
        known.append(published)
    write_atomic(path, json_bytes({"history": _FORMAT, "releases": [asdict(one) for one in known]}))


def _read(path: Path) -> tuple[Published, ...]:
    try:
        data = json.loads(path.read_bytes())
        if data["history"] != _FORMAT:
            raise KeyError("format")  # noqa: TRY301 - told as any other damage below
        return tuple(_published(item) for item in data["releases"])
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError):
        pass
    raise UnusableInput(
        f"{path} does not hold what was published from here",
        hint="Bring it back from a copy, so that this release can be held against the last.",
    )


def _published(item: Mapping[str, Any]) -> Published:
    one = Published(**item)
    words = (one.repo_id, one.version, one.manifest_digest, one.task, one.test_split)
    scores = (one.figures, *one.classes.values())
    if not all(isinstance(word, str) for word in words) or not all(
        type(value) in (int, float) for group in scores for value in group.values()
    ):
        raise TypeError("published")
    return one
