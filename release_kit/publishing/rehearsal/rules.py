"""What the Hub lets into a repo: names, paths, git's two pattern files and card metadata.

Pure functions over text; the server asks them before it writes anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from release_kit.cards import hub_licenses
from release_kit.files import TEMPLATES

GITATTRIBUTES = (TEMPLATES / "gitattributes").read_text(encoding="utf-8")
"""The `.gitattributes` of a new model repo."""

_LONGEST_NAME = 96
_MOST_CARD_VALUES = 100_000
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_IN_PATHS = re.compile(r"[\x00-\x1f\x7f\\]")
_LANGUAGE = re.compile(r"[a-z0-9_-]+")
_DATASET = re.compile(r"(?:[\w-]+/)?[\w.-]+")


def name_problem(name: str) -> str:
    """Return what is wrong with an owner's or a repo's name; empty when nothing is."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return "a name is 1 to 96 letters, digits, '_', '-' and '.', and '-' or '.' ends no side"
    if "--" in name or ".." in name or name.endswith((".git", ".ipynb")):
        return "a name has no '--' or '..', and does not end in '.git' or '.ipynb'"
    return ""


def ref_problem(name: str) -> str:
    """Return what is wrong with the name of a branch or tag; empty when nothing is."""
    parts = name.split("/")
    if not _REF.fullmatch(name) or ".." in name or "@{" in name or name in {"@", "HEAD"}:
        return "git allows no such name"
    if any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts):
        return "git allows no such name"
    if name.startswith(("-", "refs/")) or _COMMIT.fullmatch(name):
        return "the name can be mistaken for something else"
    return ""


def path_problem(path: str) -> str:
    """Return what is wrong with a file's path in a repo; empty when nothing is."""
    if path.startswith("/"):
        return "a path is relative to the repo"
    if _NOT_IN_PATHS.search(path):
        return "a path holds no backslash and no control character"
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "a path has no empty, '.' or '..' part"
    # Case does not count: git on Windows and macOS takes .GIT for .git.
    if any(part.lower() == ".git" for part in parts):
        return "a path has no part named .git"
    return ""


def tracked_by_lfs(path: str, gitattributes: str) -> bool:
    """Whether `.gitattributes` hands `path` to LFS: the last line that speaks of it decides."""
    tracked = False
    for pattern, words in _attributes(gitattributes):
        if pattern.fullmatch(path):
            for word in words:
                if word.lstrip("-!").partition("=")[0] == "filter":
                    tracked = word == "filter=lfs"
    return tracked


def ignored_by_git(path: str, gitignore: str) -> bool:
    """Whether `.gitignore` leaves `path` out; nothing below an ignored folder comes back."""
    rules = list(_ignores(gitignore))
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        prefix, is_folder = "/".join(parts[:depth]), depth < len(parts)
        ignored = False
        for pattern, negated, folders_only in rules:
            if (is_folder or not folders_only) and pattern.fullmatch(prefix):
                ignored = not negated
        if ignored:
            return True
    return False


def _attributes(text: str) -> Iterator[tuple[re.Pattern[str], list[str]]]:
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].startswith(("#", "[attr]", "!")):
            yield _git_pattern(words[0]), words[1:]


def _ignores(text: str) -> Iterator[tuple[re.Pattern[str], bool, bool]]:
    for line in text.splitlines():
        # A trailing blank counts only when a backslash stands before it.
        pattern = re.sub(r"(?<!\\)[ \t]+$", "", line)
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        pattern = pattern[1:] if negated else pattern
        folders_only = pattern.endswith("/")
        pattern = pattern.rstrip("/") if folders_only else pattern
        if pattern:
            yield _git_pattern(pattern), negated, folders_only


_PIECES = re.compile(
    r"(?P<any_folders>(?:(?<=/)|^)\*\*/)"
    r"|(?P<below>(?<=/)\*\*$)"
    r"|(?P<star>\*+)"
    r"|(?P<one>\?)"
    r"|\[(?P<not>[!^]?)(?P<set>\]?(?:\[:\w+:\]|\\.|[^\]])*)\]"
    r"|\\(?P<escaped>.)"
    r"|(?P<plain>.)",
    re.DOTALL,
)


@lru_cache(maxsize=1024)
def _git_pattern(pattern: str) -> re.Pattern[str]:
    """Translate one pattern of git: a slash inside ties it to the root, `**` crosses folders."""
    anchored = "/" in pattern
    pattern = pattern.removeprefix("/")
    result = "" if anchored else "(?:.*/)?"
    for piece in _PIECES.finditer(pattern):
        if piece["any_folders"]:
            result += "(?:.*/)?"
        elif piece["below"]:
            result += ".+"
        elif piece["star"]:
            result += "[^/]*"
        elif piece["one"]:
            result += "[^/]"
        elif piece["set"]:
            inside = piece["set"].replace("[:space:]", r"\s").replace("[:digit:]", r"\d")
            inside = inside.replace("[", r"\[").replace("]", r"\]")
            result += f"[{'^' if piece['not'] else ''}{inside}]"
        else:
            result += re.escape(piece["escaped"] or piece["plain"])
    try:
        return re.compile(result, re.DOTALL)
    except re.error:
        # Git lets a broken pattern match nothing.
        return re.compile(r"(?!)")


@dataclass(frozen=True)
class Card:
    """The metadata of a README.md, and what the Hub says of it."""

    data: dict[str, Any]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def read_card(text: str) -> Card:
    """Read the YAML front matter of a README.md as the Hub does before it takes one."""
    block = _front_matter(text)
    if block is None or not block.strip():
        return Card({}, (), ("empty or missing yaml metadata in repo card",))
    try:
        loaded = YAML(typ="safe", pure=True).load(block)
        data = _plain(loaded, _Budget(_MOST_CARD_VALUES))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # The block starts on the second line of the file.
        where = f" (line {mark.line + 2})" if mark else ""
        what = str(getattr(error, "problem", None) or "cannot be read").strip()
        return Card({}, (f"the YAML metadata is not valid: {what}{where}",), ())
    except (ValueError, RecursionError) as error:
        return Card({}, (f"the YAML metadata is not valid: {error}",), ())
    if data is None:
        return Card({}, (), ("empty or missing yaml metadata in repo card",))
    if not isinstance(data, dict):
        return Card({}, ("the YAML metadata must be a mapping of keys to values",), ())
    return Card(data, tuple(_metadata_errors(data)), ())


def _front_matter(text: str) -> str | None:
    first, *others = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff").lstrip())
    if first.rstrip() != "---":
        return None
    for number, line in enumerate(others):
        if line.rstrip() == "---":
            return "\n".join(others[:number])
    return None


@dataclass
class _Budget:
    left: int


def _plain(value: Any, budget: _Budget) -> Any:
    """Return `value` as JSON can carry it; aliases count as often as they would be written."""
    budget.left -= 1
    if budget.left < 0:
        raise ValueError("it holds too many values")
    if isinstance(value, dict):
        return {str(key): _plain(item, budget) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item, budget) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    return str(value)


def _metadata_errors(data: dict[str, Any]) -> Iterator[str]:
    for key, (fits, wanted) in _TYPES.items():
        if data.get(key) is not None and not fits(data[key]):
            yield f'"{key}" must be {wanted}'
    for number, language in enumerate(_listed(data.get("language"))):
        if isinstance(language, str) and not _LANGUAGE.fullmatch(language):
            yield f'"language[{number}]" must only contain lowercase characters'
    yield from _license_errors(data)
    models = data.get("model-index")
    if models is not None and not isinstance(models, list):
        yield '"model-index" must be an array'
    for number, model in enumerate(models if isinstance(models, list) else []):
        yield from _result_errors(model, f"model-index[{number}]")


def _license_errors(data: dict[str, Any]) -> Iterator[str]:
    licenses = [item for item in _listed(data.get("license")) if isinstance(item, str)]
    if any(item not in hub_licenses() for item in licenses):
        yield f'"license" must be one of [{", ".join(hub_licenses())}, array]'
    if "other" in licenses and not data.get("license_name"):
        yield '"license_name" is required when "license" is other'


def _result_errors(model: Any, place: str) -> Iterator[str]:
    if not isinstance(model, dict):
        yield f'"{place}" must be of type object'
        return
    if not isinstance(model.get("name"), str):
        yield f'"{place}.name" is required'
    if not isinstance(model.get("results"), list):
        yield f'"{place}.results" must be an array'
        return
    for number, result in enumerate(model["results"]):
        at = f"{place}.results[{number}]"
        if not isinstance(result, dict):
            yield f'"{at}" must be of type object'
            continue
        for keys in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
            if not isinstance(_within(result, *keys), str):
                yield f'"{at}.{keys[0]}.{keys[1]}" is required'
        dataset = _within(result, "dataset", "type")
        if isinstance(dataset, str) and not _DATASET.fullmatch(dataset):
            yield f'"{at}.dataset.type" fails to match the required pattern'
        metrics = result.get("metrics")
        if not isinstance(metrics, list):
            yield f'"{at}.metrics" must be an array'
            continue
        for index, metric in enumerate(metrics):
            for key in ("type", "value"):
                if not isinstance(metric, dict) or metric.get(key) is None:
                    yield f'"{at}.metrics[{index}].{key}" is required'


def _within(result: dict[str, Any], outer: str, inner: str) -> Any:
    found = result.get(outer)
    return found.get(inner) if isinstance(found, dict) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_or_texts(value: Any) -> bool:
    return _is_text(value) or _is_texts(value)


_TEXT = (_is_text, "a string")
_TEXTS = (_is_texts, "an array of strings")
_TEXT_OR_TEXTS = (_is_text_or_texts, "a string or an array of strings")

_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "pipeline_tag": _TEXT,
    "library_name": _TEXT,
    "license_name": _TEXT,
    "license_link": _TEXT,
    "base_model_relation": _TEXT,
    "thumbnail": _TEXT,
    "license": _TEXT_OR_TEXTS,
    "language": _TEXT_OR_TEXTS,
    "base_model": _TEXT_OR_TEXTS,
    "datasets": _TEXT_OR_TEXTS,
    "metrics": _TEXT_OR_TEXTS,
    "tags": _TEXTS,
}
