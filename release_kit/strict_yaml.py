"""YAML that a lawyer can mistype safely: strict, with the line and column of every value.

YAML 1.2 without surprises: no tags, directives, anchors, aliases or merge keys, no repeated keys,
no control characters, no dates, and `no` is a word rather than false. A document is checked
against a schema of `schemas/`, and all mistakes are reported at once.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError
from yaml.composer import Composer
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from release_kit.errors import Problem, UnusableInput
from release_kit.files import SCHEMAS

Pointer = tuple[str | int, ...]
Position = tuple[int, int]

_DEEPEST = 64
_LARGEST = 2**63
_LONGEST_SHOWN = 80

# No control characters, no line ends that only some readers know, no lone surrogates.
_FORBIDDEN = re.compile("[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A % where a line begins: `%YAML 1.1` would make `no` false again.
_DIRECTIVE = re.compile("(?<![^\r\n\ufeff])%")
_LINE_END = re.compile(r"\r\n|\r|\n")
# Slips of the pen: what the line looks like, what the parser says about it, and what to do.
_SLIPS = tuple(
    (re.compile(pattern), said, hint)
    for pattern, said, hint in (
        (r"^[ ]*\t", "", "indent with blanks, not with a tab"),
        (r"^[ ]*[\u3000\xa0]", "", "indent with plain blanks, not with full-width ones"),
        (r"^[^:]*：", "", "the full-width '：' is text; write ':' and a blank"),
        (r"[：:-] *“", "", "the quotes “ and ” are text; write '\"'"),
        (r"\[.*[，、]", "','", "a full-width comma is text; write ',' and a blank"),
        (r"^ *-[^ -]", "", "a blank goes behind '-'"),
        (r"^ *[a-z0-9_.-]+:[^ ]", "", "a blank goes behind ':'"),
        (r": [{\[][^{}\[\]]*[}\]] *[^ #,}\]]", "", "a text that begins with { or [ goes in quotes"),
    )
)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: plain values, and where each of them stands."""

    path: str
    data: Any
    positions: Mapping[Pointer, Position] = field(repr=False)

    def locate(self, pointer: Iterable[str | int]) -> Position:
        """Return (line, column), 1-based, of the value at `pointer` or of its nearest parent."""
        place = tuple(pointer)
        while place and place not in self.positions:
            place = place[:-1]
        return self.positions.get(place, (1, 1))


def read_yaml(path: Path, schema: str | None = None, *, shown_as: str | None = None) -> Document:
    """Read the YAML file at `path`, checked against `schemas/<schema>.schema.json` when named.

    Raises:
        UnusableInput: the file is missing, not UTF-8, not strict YAML, or breaks the schema.
    """
    name = shown_as or str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UnusableInput(f"{name}: there is no such file") from None
    except OSError as error:
        raise UnusableInput(f"{name}: cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _unusable(
            name, [Problem(name, line, 1, "is not UTF-8 text", "save it as UTF-8")]
        ) from None
    document = parse_yaml(text, name)
    if schema is not None:
        check(document, schema)
    return document


def parse_yaml(text: str, name: str, *, first_line: int = 1) -> Document:
    """Parse strict YAML that stands in `name` from line `first_line` on.

    Raises:
        UnusableInput: with the line and column of the mistake.
    """
    reading = _Reading(name, first_line)
    reading.refuse_characters(text)
    root = reading.composed(text)
    data = None if root is None else reading.plain(root, ())
    if reading.mistakes:
        raise _unusable(name, sorted(reading.mistakes))
    return Document(name, data, reading.positions)


class _CoreSchema(BaseResolver):
    """The words that are not text in YAML 1.2 (section 10.3.2)."""


for _tag, _words, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreSchema.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_words})$"), _first
    )


class _Exact(Reader, Scanner, Parser, Composer, _CoreSchema):
    """PyYAML's own parser: slow, and it says well what is wrong and where."""

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreSchema.__init__(self)


_LOADERS: tuple[Any, ...] = (_Exact,)
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _Fast(CParser, _CoreSchema):
        """libyaml, some fifty times as fast."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            _CoreSchema.__init__(self)

    # What libyaml refuses is read again by the parser that explains it.
    _LOADERS = (_Fast, _Exact)


class _Reading:
    """One text on its way from YAML to plain values."""

    def __init__(self, name: str, first_line: int) -> None:
        self._name = name
        self._first_line = first_line
        self.positions: dict[Pointer, Position] = {}
        self.mistakes: list[Problem] = []

    def unusable(self, mark: Any, message: str, hint: str = "") -> UnusableInput:
        return _unusable(self._name, [self._problem(mark, message, hint)])

    def refuse_characters(self, text: str) -> None:
        for pattern, message in (
            (_FORBIDDEN, "holds the character U+{:04X}, which is not text"),
            (_DIRECTIVE, "directives (%) are not used here"),
        ):
            if found := pattern.search(text):
                *before, last = _LINE_END.split(text[: found.start()])
                line, column = self._first_line + len(before), len(last) + 1
                said = message.format(ord(found[0]))
                raise _unusable(self._name, [Problem(self._name, line, column, said)])

    def composed(self, text: str) -> Node | None:
        failure: UnusableInput | None = None
        for loader in _LOADERS:
            try:
                self.refuse_events(text, loader)
                root: Node | None = yaml.compose(text, Loader=loader)
            except MarkedYAMLError as error:
                said = ", ".join(part.strip() for part in (error.context, error.problem) if part)
                mark = error.problem_mark or error.context_mark
                hint = self._slip(_LINE_END.split(text), error)
                failure = self.unusable(mark, f"is not valid YAML: {said}", hint)
            except (YAMLError, ValueError, OverflowError) as error:
                failure = self.unusable(None, f"is not valid YAML ({type(error).__name__})")
            else:
                # A text that only one of the two parsers takes is not plain YAML.
                if failure is None:
                    return root
        raise failure or self.unusable(None, "is not valid YAML")

    def _slip(self, lines: list[str], error: MarkedYAMLError) -> str:
        """Return a hint at the slip of the pen that most likely made `error`, or nothing."""
        mark = error.problem_mark or error.context_mark
        if mark is None:
            return ""
        # The parser notices some slips only in the line below.
        for number in (mark.line, mark.line - 1):
            line = lines[number] if 0 <= number < len(lines) else ""
            for pattern, said, hint in _SLIPS:
                if said in (error.problem or "") and pattern.search(line):
                    return f"{hint} (line {number + self._first_line})"
        # A quote that is never closed is noticed at the next one, maybe lines below.
        for number in range(min(mark.line, len(lines) - 1), -1, -1):
            if lines[number].count('"') % 2:
                return f"is the quote closed that opens in line {number + self._first_line}?"
        if "<block end>" in (error.problem or ""):
            return "indent this line like its neighbors"
        if "mapping values" in (error.problem or ""):
            return "a text with ': ' in it goes in quotes"
        return ""

    def refuse_events(self, text: str, loader: Any) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, AliasEvent):
                raise self.unusable(event, "aliases are not used here; repeat the value")
            if isinstance(event, NodeEvent) and event.anchor:
                raise self.unusable(event, "anchors are not used here; write the value")
            if getattr(event, "tag", None):
                raise self.unusable(event, "tags are not used here; write a plain value")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > _DEEPEST:
                raise self.unusable(event, f"is nested deeper than {_DEEPEST} levels")

    def plain(self, node: Node, pointer: Pointer) -> Any:
        self.positions.setdefault(pointer, self._position(node))
        if isinstance(node, MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                if not isinstance(key_node, ScalarNode):
                    self._mistake(key_node, "a key must be a plain word")
                    continue
                key = self._text(key_node)
                if key in result:
                    self._mistake(key_node, f"the key '{key}' stands here twice")
                if key == "<<":
                    self._mistake(key_node, "merge keys are not used here; repeat the values")
                self.positions[(*pointer, key)] = self._position(key_node)
                result[key] = self.plain(value_node, (*pointer, key))
            return result
        if isinstance(node, SequenceNode):
            return [self.plain(item, (*pointer, i)) for i, item in enumerate(node.value)]
        return _scalar(str(node.tag), self._text(node))

    def _text(self, node: Node) -> str:
        text = str(node.value)
        if found := _FORBIDDEN.search(text):
            self._mistake(node, f"an escape makes U+{ord(found[0]):04X}, which is not text")
        return text

    def _mistake(self, node: Node, message: str) -> None:
        self.mistakes.append(self._problem(node, message))

    def _problem(self, place: Any, message: str, hint: str = "") -> Problem:
        return Problem(self._name, *self._position(place), message, hint)

    def _position(self, place: Any) -> Position:
        mark = getattr(place, "start_mark", place)
        if mark is None:
            return self._first_line, 1
        return self._first_line + mark.line, mark.column + 1


def _scalar(tag: str, text: str) -> Any:
    kind = tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    # YAML's octal 010, .nan or what no computer word holds: nobody writes these on purpose, so
    # they stay text; the schema asks for a number.
    try:
        if kind == "int":
            whole = int(text.replace("_", ""), 0)
            return whole if abs(whole) < _LARGEST else text
        if kind == "float":
            number = float(text.replace("_", ""))
            return number if math.isfinite(number) else text
    except ValueError:
        return text
    return text


def check(document: Document, schema: str) -> None:
    """Check `document` against `schemas/<schema>.schema.json`.

    Raises:
        UnusableInput: with every mistake, its line, and the nearest word that would be right.
    """
    problems: list[Problem] = []
    for error in _validator(schema).iter_errors(document.data):
        for meant in _meant(error):
            problems.extend(_explain(document, meant))
    if problems:
        raise _unusable(document.path, sorted(set(problems)))


@cache
def _validator(schema: str) -> Draft202012Validator:
    content = json.loads((SCHEMAS / f"{schema}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(content)
    validator: Draft202012Validator = _Validator(content, format_checker=_FORMATS)
    return validator


def _matches(
    _: Draft202012Validator, pattern: str, value: Any, __: Any
) -> Iterator[ValidationError]:
    # JSON Schema's $ is the end of the text; Python's also stands before a last line end.
    python = re.sub(r"\$$", r"\\Z", pattern)
    if isinstance(value, str) and not re.search(python, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": _matches}
)
_FORMATS = FormatChecker()


@_FORMATS.checks("visible")
def _visible(value: object) -> bool:
    # Neither blanks nor format characters, which leave nothing on a page.
    return not isinstance(value, str) or any(unicodedata.category(c)[0] not in "CZ" for c in value)


def _explain(document: Document, error: ValidationError) -> Iterable[Problem]:
    place: Pointer = tuple(error.absolute_path)
    field_name = ".".join(str(part) for part in place) or "the file"
    line, column = document.locate(place)
    value: Any = error.instance
    schema: Any = error.schema
    wanted: Any = error.validator_value

    match error.validator:
        case "additionalProperties":
            known = sorted(schema.get("properties", {}))
            for key in sorted(set(value) - set(known)):
                row, col = document.locate((*place, key))
                yield Problem(
                    document.path, row, col, f"unknown key '{key}'", did_you_mean(key, known)
                )
        case "required":
            missing = [key for key in wanted if key not in value]
            for key in missing:
                about = schema.get("properties", {}).get(key, {}).get("description", "")
                yield Problem(
                    document.path, line, column, f"'{key}' is missing in {field_name}", about
                )
        case "enum":
            words = [str(word) for word in wanted]
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: {_shown(value)} is not one of the words known here",
                did_you_mean(str(value), words),
            )
        case "type":
            names = wanted if isinstance(wanted, list) else [wanted]
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: must be {' or '.join(_TYPE_WORDS[n] for n in names)},"
                f" not {_shown(value)}",
                schema.get("description", ""),
            )
        case "pattern":
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: {_shown(value)} is not written as it must be",
                schema.get("description", f"the form is {wanted}"),
            )
        case "format":
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: must be {_FORMAT_WORDS[wanted]}, not {_shown(value)}",
                schema.get("description", ""),
            )
        case "minItems":
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: the list is too short; {wanted} is the least",
                schema.get("description", ""),
            )
        case "anyOf" | "oneOf" if all(set(choice) == {"required"} for choice in wanted):
            keys = ", ".join(key for choice in wanted for key in choice["required"])
            many = "exactly one" if error.validator == "oneOf" else "at least one"
            yield Problem(
                document.path,
                line,
                column,
                f"{field_name}: {many} of these must stand here: {keys}",
            )
        case kind:
            forms = f"{_shown(value)} is none of the forms known here"
            said = forms if kind in ("anyOf", "oneOf") else error.message
            about = schema.get("description", "")
            yield Problem(document.path, line, column, f"{field_name}: {said}", about)


def _meant(error: ValidationError) -> list[ValidationError]:
    """Return what is wrong with the one choice whose type the value has, or `error` itself."""
    choices: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        choices.setdefault(int(inner.schema_path[0]), []).append(inner)
    other = ("type", "const", "enum")
    fitting = [
        inside
        for inside in choices.values()
        if not any(inner.validator in other and not inner.relative_path for inner in inside)
    ]
    return fitting[0] if len(fitting) == 1 else [error]


_FORMAT_WORDS = {"date": "a day", "visible": "visible text"}
_TYPE_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping of keys to values",
    "array": "a list",
    "null": "empty",
}


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f"'{text[:_LONGEST_SHOWN]}…'" if len(text) > _LONGEST_SHOWN else f"'{text}'"


def did_you_mean(word: str, known: Sequence[str], *, likeness: float = 0.6) -> str:
    """Return a hint that names the nearest of the `known` words, or all of them.

    Args:
        word: what somebody wrote.
        known: what would have been right, in the order in which it is told.
        likeness: from 0 to 1, how near the nearest must be; `difflib` says how it is measured.
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=likeness)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known here: " + ", ".join(known)


def _unusable(name: str, problems: list[Problem]) -> UnusableInput:
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return UnusableInput(f"{name} cannot be used: {count}", problems=problems)
