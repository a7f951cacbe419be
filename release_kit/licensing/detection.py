"""What the files of a folder say about their license and about what they were made from.

Nothing is judged here: each word is told with its file and line, a text is told by its words and
not by its name, and what could not be read is told as such. No tensor is loaded and no link leads
out of the folder.
"""

from __future__ import annotations

import codecs
import configparser
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, Licensing  # type: ignore[import-untyped]

from release_kit.cards import parse_card
from release_kit.errors import UnusableInput
from release_kit.licensing.licenses import Licenses, identified
from release_kit.licensing.recognition import Library, Recognition, recognize
from release_kit.strict_json import parse_json
from release_kit.weight_files import DamagedWeights, read_gguf, read_safetensors

__all__ = [
    "Detected",
    "LicenseEvidence",
    "Recognition",
    "Unreadable",
    "UpstreamEvidence",
    "detect",
    "recognize",
]

_LARGEST_TEXT = 1 << 22
_LARGEST_LICENSE = 1 << 20
_HEADER = 1 << 12
"""Bytes in which a source file names its license."""
_LONGEST_SAID = 80
_LONGEST_EXPRESSION = 1000
_LONGEST_NAME = 40
"""Words above which a field holds terms rather than their name."""
_BASE = "base_model"
_DATASET = "dataset"
# The Hub's id for a license that has a name of its own beside it.
_OTHER = "other"

_CODE = frozenset(
    {
        ".bash", ".c", ".cc", ".cpp", ".cs", ".cu", ".cuh", ".cxx", ".go", ".h", ".hpp",
        ".java", ".jl", ".js", ".jsx", ".kt", ".lua", ".m", ".mjs", ".mm", ".php", ".pl",
        ".proto", ".py", ".pyi", ".pyx", ".r", ".rb", ".rs", ".scala", ".sh", ".sql",
        ".swift", ".ts", ".tsx",
    }
)  # fmt: skip
_DATA = frozenset(
    {".csv", ".json", ".jsonl", ".parquet", ".png", ".pyc", ".svg", ".tsv", ".yaml", ".yml"}
)
_TEXT_FOLDERS = frozenset({"license", "licenses", "licence", "licences"})
_TEXTS = frozenset({"", ".docx", ".htm", ".html", ".md", ".pdf", ".rst", ".rtf", ".txt"})
_LICENSE_FILE = re.compile(r"(?:(?:un)?licen[cs]es?|copying|eula)(?:$|[^a-z])")
_LICENSE_WORD = re.compile(r"[^a-z](?:licen[cs]e|copying)(?:$|[^a-z])")
_NOTICE_FILE = re.compile(r"notices?(?:$|[^a-z])")
_FRONT_MATTER = re.compile(r"\ufeff?\s*^---[ \t]*$", re.MULTILINE)
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*(?P<said>[(\w][^\r\n]*)")
_MARKUP = frozenset({".htm", ".html", ".md"})
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_COMMENT_END = re.compile(r"\s*(?:\*+/|-->|\"\"\"|''').*$")
# One name of the Hub, or owner/name (huggingface_hub, validate_repo_id).
_HUB_NAME = r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?:{_HUB_NAME}/)?{_HUB_NAME}", re.ASCII)
_HUB_LINK = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([^/?#\s]+/[^/?#\s]+)"
)
_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]")
_GGUF_SOURCE = re.compile(r"general\.(base_model|dataset)\.(\d+)\.(\w+)")


@dataclass(frozen=True)
class LicenseEvidence:
    """One place where a file says something about its license."""

    path: str
    """POSIX path below the folder."""
    line: int
    """1-based; 0 where there is none."""
    kind: str
    """license-text, card, safetensors, gguf, spdx-header or package-metadata."""
    license: str
    """The id that is meant; empty when no known license is."""
    said: str
    """The word as it stands there, one printable line; of a text only the license's name."""
    exact: bool
    """Of a text: a known form and nothing else in the file. Of a word: the id, Hub's or SPDX's."""
    remark: str = ""
    """What is off when it is not exact."""
    choices: tuple[str, ...] = ()
    """The licenses among which an expression lets one choose; then `license` is empty."""


@dataclass(frozen=True)
class UpstreamEvidence:
    """One place where a file names what it was made from."""

    path: str
    line: int
    kind: str
    """card, adapter-config, config, gguf or safetensors."""
    id: str
    """The Hub's owner/name, or an old name of one word where a card or adapter says so."""
    role: str
    """base_model or dataset."""
    relation_said: str = ""
    """The card's base_model_relation."""


@dataclass(frozen=True)
class Unreadable:
    """A file that may say something and could not be read."""

    path: str
    because: str


@dataclass(frozen=True)
class Detected:
    """All that the files say, each sorted by path and line."""

    licenses: tuple[LicenseEvidence, ...]
    upstreams: tuple[UpstreamEvidence, ...]
    unreadable: tuple[Unreadable, ...]


def detect(folder_or_file: Path, licenses: Licenses, *, skip: str = "") -> Detected:
    """Read what the files of a folder, or one file, say about licenses and upstreams.

    Bad content is told as Unreadable, never raised. `skip` names a folder directly below that is
    not looked into.

    Raises:
        UnusableInput: a file of `licenses` is broken.
    """
    return _Detection(folder_or_file, licenses, skip).run()


_CHOICE = "offers a choice of licenses"


def hub_id(place: str) -> str:
    """Return the Hub's owner/name where `place` is a link to that page; else `place` itself."""
    link = _HUB_LINK.match(place.strip())
    return link[1] if link else place.strip()


class _Mistake(Exception):
    """Why a file cannot be read."""


class _Detection:
    """One folder or file on its way to evidence."""

    def __init__(self, place: Path, licenses: Licenses, skip: str) -> None:
        self._place = place
        self._skip = skip
        self._licenses = licenses
        self._library = Library(licenses)
        self._expressions = Licensing()
        self._said: set[LicenseEvidence] = set()
        self._upstreams: set[UpstreamEvidence] = set()
        self._unreadable: set[Unreadable] = set()

    def run(self) -> Detected:
        found: list[tuple[str, Path, _Reader]] = []
        root = Path(os.path.realpath(self._place))
        if root.is_dir():
            found = list(self._walk(root))
        else:
            shown, reader = _shown(self._place.name), _reader(self._place)
            if problem := _irregular(root):
                self._unreadable.add(Unreadable(shown, problem))
            elif reader:
                found = [(shown, root, reader)]
        # Texts last, so that those the other files name are tried first.
        for path, file, reader in sorted(found, key=lambda f: (f[2] is _Detection._license, f[0])):
            try:
                reader(self, path, file)
            except OSError as error:
                self._unreadable.add(Unreadable(path, f"cannot be read: {error.strerror}"))
            except (_Mistake, DamagedWeights) as error:
                self._unreadable.add(Unreadable(path, str(error)))
        return Detected(
            tuple(sorted(self._said, key=lambda e: (e.path, e.line, e.license, e.said, e.remark))),
            tuple(sorted(self._upstreams, key=lambda e: (e.path, e.line, e.role, e.id))),
            tuple(sorted(self._unreadable, key=lambda u: (u.path, u.because))),
        )

    def _walk(self, root: Path) -> Iterator[tuple[str, Path, _Reader]]:
        folders = [root]
        while folders:
            folder = folders.pop()
            below = "" if folder == root else folder.relative_to(root).as_posix()
            try:
                with os.scandir(folder) as entries:
                    listed = list(entries)
            except OSError as error:
                self._unreadable.add(
                    Unreadable(_shown(below or "."), f"cannot be read: {error.strerror}")
                )
                continue
            for entry in listed:
                path = Path(entry.path)
                shown = _shown(f"{below}/{entry.name}" if below else entry.name)
                reader = _reader(path)
                if entry.is_symlink():
                    if file := self._link(path, root, shown, reader):
                        yield shown, file, reader or _Detection._license
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name != ".git" and (below or entry.name != self._skip):
                        folders.append(path)
                    if reader in _NEVER_FOLDERS:
                        self._unreadable.add(Unreadable(shown, "is a folder, not a file"))
                elif reader:
                    if problem := _irregular(path):
                        self._unreadable.add(Unreadable(shown, problem))
                    else:
                        yield shown, path, reader

    def _link(self, link: Path, root: Path, shown: str, reader: _Reader | None) -> Path | None:
        """Return the regular file below `root` to which `link` leads, if it is to be read."""
        target = Path(os.path.realpath(link))
        # A snapshot of the Hub's cache is a folder of links to the blobs beside it.
        home = root.parent.parent if root.parent.name == "snapshots" else root
        inside = target.is_relative_to(home)
        if not inside and (reader or target.is_dir()):
            problem = "is a link that leads out of the folder, so it was not followed"
        elif not reader or not inside:
            return None
        elif target.is_dir():
            problem = "is a folder, not a file"
        else:
            problem = _irregular(target)
        if problem:
            self._unreadable.add(Unreadable(shown, problem))
            return None
        return target

    # What the files say, one method a kind of file.

    def _license(self, path: str, file: Path) -> None:
        text = _text(file, _LARGEST_LICENSE)
        first = sorted({said.license for said in self._said if said.license})
        recognition = self._library.recognize(text, first)
        name = " ".join(text.split())
        if not recognition.found and recognition.words <= _LONGEST_NAME:
            license = identified(name, self._licenses)
            if license:
                self._tell(
                    path, 1, "license-text", license, self._name(license), exact=False,
                    remark="names the license, but does not hold its text",
                )  # fmt: skip
                return
        self._tell_text(path, 0, "license-text", recognition)
        shown = _HIDDEN.sub(_blank, text) if file.suffix.lower() in _MARKUP else text
        if shown != text:
            read = self._library.recognize(shown, first)
            if read.license != recognition.license:
                # What a reader of the page sees is another text.
                self._tell_text(path, 0, "license-text", read)

    def _card(self, path: str, file: Path) -> None:
        text = _text(file, _LARGEST_TEXT)
        if not _FRONT_MATTER.match(text):
            return
        try:
            card = parse_card(text, path)
        except UnusableInput as error:
            where = [f"line {p.line}: {p.message}" for p in error.problems[:1]]
            raise _Mistake(where[0] if where else error.message) from None
        fields = _Fields(card.metadata.data, card.metadata.locate)
        named = bool(list(fields.texts("license_name")))
        # Older cards of datasets have several.
        for word, line in (*fields.texts("license"), *fields.texts("licenses")):
            if not (word.strip() == _OTHER and named):
                self._word(path, line, "card", word)
        for word, line in fields.texts("license_name"):
            self._word(path, line, "card", word)
        for word, line in fields.texts("license_link"):
            # Any other link leads to a text that only its reader knows.
            if self._linked(word):
                self._word(path, line, "card", word)
        relation = next((word for word, _ in fields.texts("base_model_relation")), "")
        for word, line in fields.texts(_BASE):
            self._upstream(path, line, "card", word, _BASE, relation=relation)
        for word, line in fields.texts("datasets"):
            self._upstream(path, line, "card", word, _DATASET)
        for word, line in fields.texts("source_datasets"):
            # The Hub's words; extended|other-NAME is for what lies elsewhere.
            source = word.strip().removeprefix("extended|")
            if source == "extended" or (source.startswith("other") and "/" not in source):
                self._no_id(path, line, _DATASET)
            elif source != "original":
                self._upstream(path, line, "card", source, _DATASET)
        self._mistakes(path, fields.mistakes)

    def _safetensors(self, path: str, file: Path) -> None:
        metadata = read_safetensors(file).metadata
        for key in ("license", "license_name", "modelspec.license"):
            if not (metadata.get(key, "").strip() == _OTHER and "license_name" in metadata):
                self._word(path, 0, "safetensors", metadata.get(key, ""))
        for key in ("base_model", "base_model_name_or_path"):
            self._upstream(path, 0, "safetensors", metadata.get(key, ""), _BASE)
        for title in metadata.get("modelspec.merged_from", "").split(","):
            self._upstream(path, 0, "safetensors", title, _BASE)

    def _gguf(self, path: str, file: Path) -> None:
        fields = _Fields(read_gguf(file, "general."), lambda _: (0, 0))
        named = bool(list(fields.texts("general.license.name")))
        for word, _ in fields.texts("general.license"):
            if not (word.strip() == _OTHER and named):
                self._word(path, 0, "gguf", word)
        for word, _ in fields.texts("general.license.name"):
            self._word(path, 0, "gguf", word)
        for word, _ in fields.texts("general.license.link"):
            if self._linked(word):
                self._word(path, 0, "gguf", word)
        for key, role in (
            ("general.source.huggingface.repository", _BASE),
            ("general.datasets", _DATASET),
        ):
            for word, _ in fields.texts(key):
                self._upstream(path, 0, "gguf", word, role)
        for key in ("general.source.repo_url", "general.source.url"):
            for word, _ in fields.texts(key):
                if _HUB_LINK.match(word.strip()):
                    self._upstream(path, 0, "gguf", word, _BASE)
        self._described(path, fields)
        self._mistakes(path, fields.mistakes)

    def _described(self, path: str, fields: _Fields) -> None:
        """Read the upstreams that GGUF describes by number."""
        numbers: dict[str, set[str]] = {_BASE: set(), _DATASET: set()}
        for key in fields.data:
            if found := _GGUF_SOURCE.fullmatch(key):
                numbers[found[1]].add(found[2])
        for role, described in numbers.items():
            count = fields.data.get(f"general.{role}.count", 0)
            if count != len(described):
                self._unreadable.add(
                    Unreadable(path, f"general.{role}.count is not how many it describes")
                )
            for number in described:
                said = {
                    key: word.strip()
                    for key in ("repo_url", "url", "organization", "name")
                    for word, _ in fields.texts(f"general.{role}.{number}.{key}")
                }
                links = (said.get("repo_url", ""), said.get("url", ""))
                link = next((link for link in links if _HUB_LINK.match(link)), "")
                # Converters write the two parts of the id with blanks for hyphens.
                names = [said.get(key, "").replace(" ", "-") for key in ("organization", "name")]
                if link or all(names):
                    self._upstream(path, 0, "gguf", link or "/".join(names), role)
                else:
                    self._no_id(path, 0, role)

    def _adapter(self, path: str, file: Path) -> None:
        self._name_or_path(path, file, "adapter-config", "base_model_name_or_path")

    def _config(self, path: str, file: Path) -> None:
        self._name_or_path(path, file, "config", "_name_or_path")

    def _name_or_path(self, path: str, file: Path, kind: str, key: str) -> None:
        raw = _bytes(file, _LARGEST_TEXT)
        try:
            data = parse_json(raw)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise _Mistake("is not a JSON object in UTF-8 with unique keys")
        line = _line_of(rf'"{key}"\s*:', raw.decode())
        # A model of several parts keeps the configuration of each inside its own.
        parts: list[Any] = [data]
        while parts:
            part = parts.pop()
            if isinstance(part, list):
                parts.extend(part)
            elif isinstance(part, dict):
                parts.extend(part.values())
                value = part.get(key)
                if isinstance(value, str):
                    if not _is_local(value, kind):
                        self._upstream(path, line, kind, value, _BASE)
                elif value is not None:
                    self._unreadable.add(Unreadable(path, f"{key} is not text"))

    def _source(self, path: str, file: Path) -> None:
        with file.open("rb") as stream:
            raw = stream.read(_HEADER + 1)
        try:
            # A character that the limit cuts in two is no mistake.
            head = codecs.getincrementaldecoder("utf-8-sig")().decode(
                raw[:_HEADER], final=len(raw) <= _HEADER
            )
        except UnicodeDecodeError:
            raise _Mistake("is not UTF-8 text") from None
        for found in _SPDX.finditer(head):
            line = head.count("\n", 0, found.start()) + 1
            self._word(path, line, "spdx-header", _COMMENT_END.sub("", found["said"]))

    def _pyproject(self, path: str, file: Path) -> None:
        text = _text(file, _LARGEST_TEXT)
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError):
            raise _Mistake("is not TOML") from None
        line = _line_of(r"^\s*license\s*=", text)
        for place in (("project",), ("tool", "poetry")):
            table: Any = data
            for key in place:
                table = table.get(key, {}) if isinstance(table, dict) else {}
            said = table.get("license", "") if isinstance(table, dict) else ""
            if isinstance(said, dict):
                # A file is read as what it is.
                said = "" if "file" in said else said.get("text")
            if isinstance(said, str):
                self._word(path, line, "package-metadata", said)
            else:
                self._unreadable.add(Unreadable(path, f"{'.'.join(place)}.license is not text"))

    def _setup(self, path: str, file: Path) -> None:
        text = _text(file, _LARGEST_TEXT)
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error:
            raise _Mistake("is not a file of sections and options") from None
        said = parser.get("metadata", "license", fallback="") or ""
        if not said.strip().startswith("file:"):
            self._word(path, _line_of(r"^license\s*[=:]", text), "package-metadata", said)

    # From words to evidence.

    def _tell(
        self, path: str, line: int, kind: str, license: str, said: str, *, exact: bool,
        remark: str = "", choices: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._said.add(
            LicenseEvidence(path, line, kind, license, _short(said), exact, remark, choices)
        )

    def _word(self, path: str, line: int, kind: str, said: str) -> None:
        plain = " ".join(said.split())
        if not plain:
            return
        if len(plain.split()) > _LONGEST_NAME:
            self._tell_text(path, line, kind, self._library.recognize(said, ()))
        elif license := identified(plain, self._licenses):
            exact = plain == license or plain == self._spdx(license)
            self._tell(path, line, kind, license, plain, exact=exact)
        elif plain.startswith(("http://", "https://")):
            self._tell(path, line, kind, self._linked(plain), plain, exact=False)
        else:
            parsed = self._parsed(plain)
            for license, part, exact, remark in self._parts(parsed, plain):
                choices = self._choices(parsed) if remark == _CHOICE else ()
                self._tell(
                    path, line, kind, license, part, exact=exact, remark=remark, choices=choices
                )

    def _parsed(self, said: str) -> Any:
        if len(said) > _LONGEST_EXPRESSION:
            return None
        try:
            return self._expressions.parse(said, strict=False)
        except (ExpressionError, ValueError, RecursionError):
            return None

    def _choices(self, parsed: Any) -> tuple[str, ...]:
        """Return the licenses of which an OR of plain names lets one choose; none if not plain."""
        if getattr(parsed, "operator", "").strip() != "OR":
            return ()
        found = [self._parts(one, str(one)) for one in parsed.args]
        if any(len(parts) != 1 or not parts[0][0] for parts in found):
            return ()
        return tuple(sorted({parts[0][0] for parts in found}))

    def _parts(self, parsed: Any, said: str) -> list[tuple[str, str, bool, str]]:
        """Return (license, said, exact, remark) of each license that an SPDX expression names."""
        operator = getattr(parsed, "operator", "").strip()
        symbols = [part for one in getattr(parsed, "symbols", ()) for part in one.decompose()]
        if parsed is None or any(" " in symbol.key for symbol in symbols):
            # No expression, but words that the parser takes for one name.
            return [("", said, False, "")]
        if operator == "AND":
            return [part for one in parsed.args for part in self._parts(one, str(one))]
        if operator == "OR":
            choices = {tuple(part[0] for part in self._parts(one, str(one))) for one in parsed.args}
            same = choices.pop() if len(choices) == 1 else ()
            if len(same) == 1 and same[0]:
                return [(same[0], said, False, "")]
            return [("", said, False, _CHOICE)]
        if hasattr(parsed, "exception_symbol"):
            license = identified(parsed.license_symbol.key, self._licenses)
            return [(license, said, False, "with an exception that is not known here")]
        license = identified(said, self._licenses)
        return [(license, said, said in (license, self._spdx(license)), "")]

    def _tell_text(self, path: str, line: int, kind: str, read: Recognition) -> None:
        words = "word" if read.more == 1 else "words"
        more = f"holds {read.more} more {words} from line {read.more_line}" if read.more else ""
        found = {text.license: text.line for text in reversed(read.found)}
        for license, stands in found.items():
            others = ", ".join(sorted(found.keys() - {license}))
            remarks = [f"the file also holds the text of {others}" if others else "", more]
            remark = "; ".join(remark for remark in remarks if remark)
            self._tell(
                path, line or (stands if kind == "license-text" else 0), kind, license,
                self._name(license), exact=not remark, remark=remark,
            )  # fmt: skip
        if found and not read.resembles:
            return
        names = " or ".join(self._name(license) for license in read.resembles)
        at = read.more_line
        if read.differs_line:
            remark = f"begins like {names} but differs from line {read.differs_line} on"
        elif names:
            remark = f"begins like {names} but is not it word for word"
        elif read.words:
            remark = f"is no license text that is known here ({read.words} words)"
        else:
            remark = "holds no license text"
        if kind != "license-text":
            at = line
        self._tell(path, at, kind, "", names, exact=False, remark=remark)

    def _upstream(
        self, path: str, line: int, kind: str, said: str, role: str, *, relation: str = ""
    ) -> None:
        value = hub_id(said)
        if _is_hub_id(value):
            self._upstreams.add(UpstreamEvidence(path, line, kind, value, role, _short(relation)))
        elif value and ("://" in value or not _is_path(value)):
            self._no_id(path, line, role)

    def _no_id(self, path: str, line: int, role: str) -> None:
        where = f"line {line}: " if line else ""
        self._unreadable.add(Unreadable(path, f"{where}names a {role} by no id of the Hub"))

    def _mistakes(self, path: str, mistakes: Iterable[str]) -> None:
        self._unreadable.update(Unreadable(path, mistake) for mistake in mistakes)

    def _name(self, license: str) -> str:
        return self._licenses[license].name if license in self._licenses else license

    def _spdx(self, license: str) -> str:
        return self._licenses[license].spdx_id if license in self._licenses else ""

    def _linked(self, link: str) -> str:
        """Return the license to whose text or page `link` leads, or an empty string."""
        ids = self._links.get(_address(link), set())
        return next(iter(ids)) if len(ids) == 1 else ""

    @cached_property
    def _links(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for license in self._licenses.values():
            for link in (license.url, license.source):
                found.setdefault(_address(link), set()).add(license.id)
        return found


_Reader = Callable[[_Detection, str, Path], None]

_BY_NAME: Mapping[str, _Reader] = {
    "readme.md": _Detection._card,
    "adapter_config.json": _Detection._adapter,
    "config.json": _Detection._config,
    "pyproject.toml": _Detection._pyproject,
    "setup.cfg": _Detection._setup,
}
_NEVER_FOLDERS = frozenset({*_BY_NAME.values(), _Detection._safetensors, _Detection._gguf})
_BY_SUFFIX: Mapping[str, _Reader] = {
    ".safetensors": _Detection._safetensors,
    ".gguf": _Detection._gguf,
    **dict.fromkeys(_CODE, _Detection._source),
}


def _reader(path: Path) -> _Reader | None:
    """Return what reads the file, told by its name; None when it says nothing."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if _NOTICE_FILE.match(name) or suffix in _DATA:
        return None
    is_text = (
        _LICENSE_FILE.match(name)
        or (
            (_LICENSE_WORD.search(name) or path.parent.name.lower() in _TEXT_FOLDERS)
            # What follows the dot of a version is no suffix.
            and (suffix in _TEXTS or not suffix[1:].isalpha())
        )
    )
    return _Detection._license if is_text else None


@dataclass(frozen=True)
class _Fields:
    """Values by name, of which some are text or lists of text."""

    data: Mapping[str, Any]
    locate: Callable[[tuple[str | int, ...]], tuple[int, int]]
    mistakes: set[str] = field(default_factory=set)

    def texts(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield each text that stands under `key`, and its line; note what is none."""
        value = self.data.get(key)
        items = value if isinstance(value, (list, tuple)) else (value,)
        for number, item in enumerate(items):
            line, _ = self.locate((key, number) if items is value else (key,))
            if isinstance(item, str):
                yield item, line
            elif item is not None:
                where = f"line {line}: " if line else ""
                self.mistakes.add(f"{where}{key} is not text")


def _bytes(file: Path, largest: int) -> bytes:
    with file.open("rb") as stream:
        raw = stream.read(largest + 1)
    if len(raw) > largest:
        raise _Mistake(f"is larger than {largest >> 20} MiB, so it was not read")
    return raw


def _text(file: Path, largest: int) -> str:
    try:
        return _bytes(file, largest).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Mistake("is not UTF-8 text") from None


def _irregular(path: Path) -> str:
    """Return why the file at `path` cannot be opened like any other, or an empty string."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def _is_hub_id(value: str) -> bool:
    return bool(_HUB_ID.fullmatch(value)) and "--" not in value and ".." not in value


def _is_path(value: str) -> bool:
    return bool(_PATH.match(value)) or "\\" in value or value.count("/") > 1


def _is_local(value: str, kind: str) -> bool:
    """Tell whether a configuration names what need not be on the Hub."""
    if not _is_hub_id(value):
        return kind == "config"
    # A model's configuration holds whatever it was loaded from, so only owner/name tells. A folder
    # of that name may be a copy of what the Hub has, so it tells nothing.
    return kind == "config" and "/" not in value


def _line_of(pattern: str, text: str) -> int:
    """Return the line where `pattern` stands; 0 unless it stands in one place only."""
    found = list(re.finditer(pattern, text, re.MULTILINE))
    return text.count("\n", 0, found[0].end()) + 1 if len(found) == 1 else 0


def _address(link: str) -> str:
    plain = re.sub(r"^https?://(?:www\.)?", "", link.strip().casefold())
    return plain.split("#")[0].rstrip("/")


def _blank(comment: re.Match[str]) -> str:
    return "\n" * comment[0].count("\n")


def _short(said: str) -> str:
    plain = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(said.split()))
    return plain if len(plain) <= _LONGEST_SAID else plain[: _LONGEST_SAID - 1] + "…"


def _shown(name: str) -> str:
    # What is not UTF-8 or cannot be seen is shown escaped.
    plain = name.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in plain)
