"""The demonstration's data: license notices of `licensedcode-data` and their categories.

The package is a packaging of ScanCode's rules (CC-BY-4.0). A `.RULE` file is a YAML header between
`---` lines and the notice; a `.LICENSE` file has the same shape and says the license's category.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import chain, islice, zip_longest
from pathlib import Path

from release_kit.datasets.records import Record
from release_kit.errors import Unfinished
from release_kit.progress import Watcher

PACKAGE = "licensedcode-data"
LONGEST = 600
"""Characters of a notice that are kept."""
_SHORTEST = 40
_LABELS = {
    "Permissive": "permissive",
    "Copyleft": "copyleft",
    "Copyleft Limited": "weak copyleft",
    "Commercial": "restricted",
    "Proprietary Free": "restricted",
    "Source-available": "restricted",
    "Free Restricted": "restricted",
}
_HEADER = re.compile(r"\A---\n(.*?)\n---\n(.*)\Z", re.DOTALL)
_FIELD = re.compile(r"^(\w+): *(.*)$", re.MULTILINE)


def select_notices(rows: int, watcher: Watcher) -> list[Record]:
    """Return `rows` notices as records with `text` and `label`, the same ones every time.

    Duplicates are left out and labels are balanced as far as the rare ones reach; which notices
    are taken depends on the SHA-256 of their text alone.

    Raises:
        Unfinished: the package is not installed, or holds fewer notices.
    """
    folder = _folder()
    categories = dict(_categories(folder / "licenses"))
    found: dict[str, str] = {}
    rules = sorted((folder / "rules").glob("*.RULE"))
    for number, path in enumerate(rules):
        if number % 1000 == 0:
            watcher.step("reading notices", number, len(rules))
        header, text = _parts(path)
        label = _LABELS.get(categories.get(header.get("license_expression", ""), ""))
        notice = text.strip()[:LONGEST]
        if (
            label
            and header.get("is_license_notice") == "yes"
            and header.get("is_deprecated") != "yes"
            and len(notice) >= _SHORTEST
        ):
            found.setdefault(notice, label)
    watcher.step("reading notices", len(rules), len(rules))
    ordered = sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())
    by_label = [
        [t for t in ordered if found[t] == label] for label in sorted(set(_LABELS.values()))
    ]
    # Taken in turn, so that the labels stand in equal number as far as the rare ones reach.
    turns = chain.from_iterable(zip_longest(*by_label))
    chosen = list(islice((text for text in turns if text is not None), rows))
    if len(chosen) < rows:
        raise Unfinished(f"{PACKAGE} holds {len(chosen)} notices, fewer than the {rows} asked for")
    return [
        Record({"text": text, "label": found[text]}, PACKAGE, index)
        for index, text in enumerate(chosen, start=1)
    ]


def _folder() -> Path:
    try:
        found = Path(str(metadata.distribution(PACKAGE).locate_file("licensedcode/data")))
    except metadata.PackageNotFoundError:
        raise Unfinished(
            f"{PACKAGE} is not installed", hint="pip install 'release-kit[demo]'"
        ) from None
    return found


def _categories(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.LICENSE")):
        header, _ = _parts(path)
        if "key" in header and "category" in header:
            yield header["key"], header["category"]


def _parts(path: Path) -> tuple[Mapping[str, str], str]:
    # The headers are flat, and a YAML parser takes a minute for all of them.
    match = _HEADER.match(path.read_text(encoding="utf-8"))
    if match is None:
        return {}, ""
    return dict(_FIELD.findall(match[1])), match[2]
