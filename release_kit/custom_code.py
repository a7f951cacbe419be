"""Which files of a model ask whoever loads it to run code that came with it; nothing is run here.

Sources: transformers 5.23, dynamic_module_utils (`auto_map`) and pipelines (`custom_pipelines`);
sentence-transformers, modules.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from release_kit.strict_json import parse_json

_KEYS = ("auto_map", "custom_pipelines")
_MODULES = "modules.json"
_KNOWN = "sentence_transformers."
_GENERATE = "custom_generate/"
_LARGEST = 1 << 24


def custom_code(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (path, what it asks for) of each file below `root` that has code run on loading.

    `paths` are POSIX, below `root`. A configuration that cannot be read may ask for anything, so it
    is told as well.

    Raises:
        OSError: a file cannot be read.
    """
    for path in sorted(paths):
        name = path.rpartition("/")[2].lower()
        if path.startswith(_GENERATE) and name.endswith(".py"):
            yield path, "is code that generation runs"
        elif name.endswith(".json") and ("config" in name or name == _MODULES):
            data = _read(root / path)
            if data is None:
                yield path, "is no JSON, so whether it asks for code to be run is not known"
            elif key := next((key for key in _KEYS if _stands(key, data)), ""):
                yield path, f"asks for code to be run on loading ({key})"
            elif name == _MODULES and not _all_known(data):
                yield path, "asks for modules that sentence-transformers does not have"


def _read(file: Path) -> Any:
    if file.stat().st_size > _LARGEST:
        return None
    try:
        return parse_json(file.read_bytes())
    except ValueError:
        return None


def _stands(key: str, data: Any) -> bool:
    # A model of several parts keeps the configuration of each inside its own.
    waiting = [data]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            if part.get(key):
                return True
            waiting.extend(part.values())
    return False


def _all_known(data: Any) -> bool:
    return isinstance(data, list) and all(
        isinstance(part, dict) and str(part.get("type")).startswith(_KNOWN) for part in data
    )
