"""Recognizers from YAML files in presidio's own form, with checks, countries and sources.

To presidio's keys a file may add `validate` and `reject_unless` (the name of a validator),
`countries` and `source`. What presidio knows and is not done here is an error, never passed over.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES, sha256_file, shown
from release_kit.privacy.validators import VALIDATORS
from release_kit.strict_yaml import Document, Pointer, did_you_mean, read_yaml

# What a pattern of somebody's own must get through in time: runs on which bad ones explode.
_PROBE_SECONDS = 1.0
_PROBE_LENGTH = 4000
_OWN_PROBES = 40  # of the characters that the pattern itself names
_PROBES = ("a", "1", " ", "a ", "1 ", "1-", "a.", "a:")
# Presidio writes uk, where ISO 3166 writes GB.
_ISO = {"UK": "GB"}


@dataclass(frozen=True)
class _Entry:
    """One recognizer as it stands in a file."""

    document: Document
    index: int
    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.said["name"])

    @property
    def made_by(self) -> str:
        """The class of presidio that it names; empty for one with patterns of its own."""
        if self.said.get("type") != "predefined":
            return ""
        return str(self.said.get("class_name") or self.name)

    @property
    def entities(self) -> tuple[str, ...]:
        """The kinds that it says it finds; presidio's classes need not say."""
        one = self.said.get("supported_entity")
        return (one,) if one else tuple(self.said.get("supported_entities", ()))

    @property
    def countries(self) -> frozenset[str]:
        """Empty for anywhere."""
        code = str(self.said.get("country_code", "")).upper()
        given = [*self.said.get("countries", ()), *([code] if code else [])]
        return frozenset(_ISO.get(country, country) for country in given)

    def context(self, languages: Sequence[str]) -> list[str] | None:
        """Return the words for any of `languages`; None when nothing is said of them."""
        spoken = [entry for entry in self._languages() if entry["language"] in languages]
        words = [
            *self.said.get("context", ()),
            *(word for entry in spoken for word in entry.get("context", ())),
        ]
        return list(dict.fromkeys(words)) or None

    def language(self, languages: Sequence[str]) -> str | None:
        """Return the first of `languages` that it is for; None when it is for none of them."""
        own = {entry["language"] for entry in self._languages()}
        return next((code for code in languages if not own or code in own), None)

    def _languages(self) -> list[Mapping[str, Any]]:
        if one := self.said.get("supported_language"):
            return [{"language": one}]
        given = self.said.get("supported_languages") or self.document.data.get(
            "supported_languages", ()
        )
        return [{"language": said} if isinstance(said, str) else said for said in given]

    def problem(self, place: Pointer, message: str, hint: str = "") -> Problem:
        line, column = self.document.locate(("recognizers", self.index, *place))
        return Problem(self.document.path, line, column, f"{self.name}: {message}", hint)


def load_recognizers(
    files: Sequence[Path],
    *,
    languages: Sequence[str],
    countries: Collection[str] = (),
    entities: Collection[str] = (),
) -> list[Any]:
    """Load the recognizers of `files` that serve the languages, countries and kinds asked for.

    A recognizer of a later file takes the place of one of the same name in an earlier file, or
    turns it off with `enabled: false`. Each is made once, under the first of `languages` that it
    is for, with the context words of all of them.

    Args:
        files: YAML files in presidio's form; see `schemas/recognizers.schema.json`.
        languages: two letters each; a recognizer that names only others is left out.
        countries: two letters of ISO 3166 each; empty for all. A recognizer of no country stays.
        entities: in presidio's words; empty for all.

    Returns:
        Presidio's `EntityRecognizer`s: those of its classes, and `PatternRecognizer`s.

    Raises:
        UnusableInput: with every mistake of the first file that has any: it is missing, breaks
            its schema, names an unknown class or validator, holds a bad or an explosive pattern,
            or asks for what cannot be done here.
    """
    chosen = [
        entry
        for entry in _entries(files)
        if entry.language(languages)
        and (not countries or not entry.countries or entry.countries & set(countries))
    ]
    made = [_made(entry, languages) for entry in chosen]
    return [
        recognizer
        for recognizer in made
        if (not entities or set(recognizer.supported_entities) & set(entities))
        and (not countries or _country_of(recognizer) in {"", *countries})
    ]


def entities_of(files: Sequence[Path]) -> frozenset[str]:
    """Return the kinds that the recognizers of `files` find, in whatever language or country.

    Raises:
        UnusableInput: as `load_recognizers`.
    """
    return frozenset(
        entity
        for entry in _entries(files)
        for entity in entry.entities or _made(entry, _all_languages(entry)).supported_entities
    )


def denied_recognizer(entity: str, values: Sequence[str], language: str) -> Any:
    """Make a recognizer that finds each of `values` wherever it stands as a whole, with score 1.

    White space in a value stands for any white space; letters match in either case. Next to a
    letter or digit of Latin script a value counts only where it itself ends with none.
    """
    from presidio_analyzer import Pattern, PatternRecognizer

    forms = "|".join(map(_whole, sorted(set(values), key=lambda value: (-len(value), value))))
    return PatternRecognizer(
        supported_entity=entity,
        name=f"denied {entity}",
        supported_language=language,
        patterns=[Pattern("deny list", forms, 1.0)],
    )


def regex_flaw(pattern: str) -> str:
    """Return what is wrong with a regular expression, without quoting it; empty if nothing is."""
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        return f"{error.msg} at character {(error.pos or 0) + 1}"
    except (OverflowError, RecursionError, MemoryError):
        return "is too large"
    return ""


def _whole(value: str) -> str:
    words = r"\s+".join(map(re.escape, value.split()))
    first, last = value.split(maxsplit=1)[0][0], value.rsplit(maxsplit=1)[-1][-1]
    before = r"(?<![0-9A-Za-z_])" if re.match(r"\w", first, re.ASCII) else ""
    after = r"(?![0-9A-Za-z_])" if re.match(r"\w", last, re.ASCII) else ""
    return f"{before}{words}{after}"


def _entries(files: Sequence[Path]) -> list[_Entry]:
    """Read the enabled entries of `files`; a name counts as its last file says."""
    entries: list[_Entry] = []
    for file in files:
        new = _read(file, sha256_file(file) if file.is_file() else "")
        names = {entry.name for entry in new}
        entries = [entry for entry in entries if entry.name not in names]
        entries += [entry for entry in new if entry.said.get("enabled", True)]
    return entries


@functools.cache
def _read(file: Path, digest: str) -> tuple[_Entry, ...]:
    """Read and check a file, each content of it once."""
    shipped = file.is_relative_to(POLICIES)
    name = f"policies/{file.relative_to(POLICIES)}" if shipped else shown(file)
    document = read_yaml(file, "recognizers", shown_as=name)
    entries = [_Entry(document, i, said) for i, said in enumerate(document.data["recognizers"])]
    problems = [
        problem
        for entry in entries
        if entry.said.get("enabled", True)
        for problem in (_class_flaws(entry) if entry.made_by else _flaws(entry))
    ]
    # What costs time is asked of files of one's own; tests ask it of the shipped ones.
    if not problems and not shipped:
        problems = [
            problem
            for entry in entries
            if entry.said.get("enabled", True)
            for problem in (_unknown_class(entry) if entry.made_by else _explosive(entry))
        ]
    if problems:
        many = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UnusableInput(f"{name} cannot be used: {many}", problems=sorted(problems))
    within = {code.upper() for code in document.data.get("supported_countries", ())}
    within = {_ISO.get(code, code) for code in within}
    return tuple(
        entry for entry in entries if not within or not entry.countries or entry.countries & within
    )


def _flaws(entry: _Entry) -> Iterator[Problem]:
    """Yield what is wrong with a recognizer that has patterns of its own."""
    said = entry.said
    yield from _undone(entry)
    if len(entry.entities) != 1:
        hint = "presidio would use the first one alone" if entry.entities else ""
        yield entry.problem((), "must name one 'supported_entity'", hint)
    if not said.get("patterns") and not said.get("deny_list"):
        yield entry.problem((), "has neither patterns nor a deny_list, so it would find nothing")
    if "validate" in said and "reject_unless" in said:
        yield entry.problem(("reject_unless",), "'validate' and 'reject_unless' exclude each other")
    for key in ("validate", "reject_unless"):
        if key in said and said[key] not in VALIDATORS:
            message = f"'{said[key]}' is not a validator"
            yield entry.problem((key,), message, did_you_mean(said[key], sorted(VALIDATORS)))
    for index, pattern in enumerate(said.get("patterns", ())):
        if flaw := regex_flaw(pattern["regex"]):
            place = ("patterns", index, "regex")
            yield entry.problem(place, f"is not a regular expression: {flaw}")
    denied = said.get("deny_list", [])
    if not isinstance(denied, list):
        yield entry.problem(("deny_list",), "'deny_list' must be a list")
        return
    for index, value in enumerate(denied):
        if not isinstance(value, str) or not value.strip():
            yield entry.problem(("deny_list", index), "must be text", "a number goes in quotes")
    for key in ("supported_regions", "leniency", "class_name"):
        if key in said:
            yield entry.problem((key,), f"'{key}' is for recognizers of type predefined")


def _class_flaws(entry: _Entry) -> Iterator[Problem]:
    """Yield what is wrong with an entry that names a class of presidio."""
    yield from _undone(entry)
    for key in ("patterns", "deny_list", "deny_list_score", "validate", "reject_unless", "version"):
        if key in entry.said:
            message = f"'{key}' stands beside type predefined, which brings its own"
            yield entry.problem((key,), message)


def _unknown_class(entry: _Entry) -> Iterator[Problem]:
    classes = _classes()
    if entry.made_by not in classes:
        message = f"presidio has no recognizer '{entry.made_by}' that reads texts by rules"
        yield entry.problem(("name",), message, did_you_mean(entry.made_by, sorted(classes)))
        return
    parameters = inspect.signature(classes[entry.made_by].__init__).parameters
    for key in ("supported_regions", "leniency"):
        if key in entry.said and key not in parameters:
            yield entry.problem((key,), f"'{entry.made_by}' takes no '{key}'")
    own = getattr(classes[entry.made_by], "COUNTRY_CODE", None)
    code = str(entry.said.get("country_code", own) or "").lower()
    if code != str(own or "").lower():
        yield entry.problem(("country_code",), f"presidio's '{entry.made_by}' is not of '{code}'")


def _undone(entry: _Entry) -> Iterator[Problem]:
    for key, hint in (
        ("score_thresholds", "write them under 'thresholds' in the settings file"),
        ("config_path", "recognizers that ask a language model are not run here"),
    ):
        if key in entry.said:
            yield entry.problem((key,), f"'{key}' is not done here", hint)


def _explosive(entry: _Entry) -> Iterator[Problem]:
    import regex

    flags = _flags(entry)
    for index, pattern in enumerate(entry.said.get("patterns", ())):
        compiled = regex.compile(pattern["regex"], flags=flags)
        own = sorted({sign for sign in pattern["regex"] if sign.isalnum()})
        try:
            for unit in (*_PROBES, *own[:_OWN_PROBES]):
                run = unit * (_PROBE_LENGTH // len(unit)) + "\0"
                for _ in compiled.finditer(run, timeout=_PROBE_SECONDS):
                    pass
        except TimeoutError:
            place = ("patterns", index, "regex")
            hint = "nested repeats such as (a+)+ do that; bound them"
            yield entry.problem(place, "takes too long on a run of like signs", hint)


def _flags(entry: _Entry) -> int:
    import regex

    usual = regex.DOTALL | regex.MULTILINE | regex.IGNORECASE  # presidio's
    return int(entry.document.data.get("global_regex_flags", usual))


def _made(entry: _Entry, languages: Sequence[str]) -> Any:
    language = entry.language(languages)
    if entry.made_by:
        return _predefined(entry, languages, language)
    from presidio_analyzer import Pattern

    said = entry.said
    check = said.get("validate") or said.get("reject_unless")
    return _checked_recognizer()(
        VALIDATORS[check] if check else None,
        confirms="validate" in said,
        supported_entity=entry.entities[0],
        name=entry.name,
        supported_language=language,
        patterns=[Pattern(**pattern) for pattern in said.get("patterns", ())],
        deny_list=said.get("deny_list"),
        deny_list_score=said.get("deny_list_score", 1.0),
        context=entry.context(languages),
        global_regex_flags=_flags(entry),
    )


def _predefined(entry: _Entry, languages: Sequence[str], language: str | None) -> Any:
    made_by = _classes()[entry.made_by]
    parameters = inspect.signature(made_by.__init__).parameters
    wanted = {
        "name": entry.name,
        "supported_language": language,
        "context": entry.context(languages),
        "supported_entity": entry.entities[0] if entry.entities else None,
        "supported_regions": entry.said.get("supported_regions"),
        "leniency": entry.said.get("leniency"),
    }
    recognizer = made_by(
        **{key: value for key, value in wanted.items() if value is not None and key in parameters}
    )
    if not set(entry.entities) <= set(recognizer.supported_entities):
        problem = entry.problem(
            ("supported_entity",),
            f"presidio's '{entry.made_by}' finds {', '.join(recognizer.supported_entities)} only",
        )
        message = f"{entry.document.path} cannot be used: 1 mistake"
        raise UnusableInput(message, problems=[problem])
    if entry.made_by == "EmailRecognizer":
        recognizer.validate_result = has_domain()
    return recognizer


def has_domain() -> Any:
    """Return presidio's check of e-mail addresses with the suffix list that tldextract ships.

    Left alone, presidio fetches that list from the network.
    """
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    def has_domain(found: str) -> bool:
        return bool(extract(found).fqdn)

    return has_domain


@functools.cache
def _checked_recognizer() -> Any:
    from presidio_analyzer import PatternRecognizer

    class Checked(PatternRecognizer):  # type: ignore[misc]
        """Presidio's own, with a validator from a file."""

        def __init__(self, check: Any, *, confirms: bool, **said: Any) -> None:
            self._check = check
            self._confirms = confirms
            super().__init__(**said)

        def validate_result(self, pattern_text: str) -> bool | None:
            if self._check is None or not self._confirms:
                return None
            return bool(self._check(pattern_text))

        def invalidate_result(self, pattern_text: str) -> bool | None:
            if self._check is None or self._confirms:
                return None
            return not self._check(pattern_text)

    return Checked


@functools.cache
def _classes() -> Mapping[str, Any]:
    """Return presidio's classes that read texts by rules, by name."""
    from presidio_analyzer import predefined_recognizers

    return {
        name: value
        for name, value in vars(predefined_recognizers).items()
        if inspect.isclass(value)
        and {"generic", "country_specific"} & set(value.__module__.split("."))
    }


def _country_of(recognizer: Any) -> str:
    """Return the country of one of presidio's classes as ISO 3166 writes it; empty for none."""
    code = (recognizer.country_code() or "").upper()
    return _ISO.get(code, code)


def _all_languages(entry: _Entry) -> list[str]:
    return [said["language"] for said in entry._languages()] or ["en"]
