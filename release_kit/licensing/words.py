"""What people read about licenses, in plain words of a language: `policies/language/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from release_kit.files import POLICIES
from release_kit.licensing.licenses import AppliesWhen, Condition, Limitation
from release_kit.strict_yaml import read_yaml

LANGUAGES = ("en", "zh")

_COMMA = {"en": ", ", "zh": "、"}


@dataclass(frozen=True)
class Words:
    """The words of one language."""

    language: str
    groups: Mapping[str, Mapping[str, str]]
    """Group → key → words, as `schemas/language.schema.json` lists them."""

    def of(self, group: str, key: str) -> str:
        """Return the words for `key`."""
        return self.groups[group][key]

    def all_of(self, group: str, keys: Iterable[str]) -> str:
        """Return the words for several keys as one enumeration."""
        return _COMMA[self.language].join(self.of(group, key) for key in keys)

    def say(self, phrase: str, **facts: object) -> str:
        """Return a phrase with its facts filled in."""
        return self.groups["phrases"][phrase].format(**facts)


@cache
def load_words(language: str) -> Words:
    """Read the words of a language.

    Raises:
        UnusableInput: the file breaks its schema.
    """
    name = f"language/{language}.yaml"
    data = read_yaml(POLICIES / name, "language", shown_as=f"policies/{name}").data
    return Words(language, {key: value for key, value in data.items() if key != "language"})


def noted(cited: str, words: Words) -> str:
    """Return a section, or the words for one that nobody noted."""
    return words.say("section_not_noted") if cited == "not noted" else cited


def sentence_of(term: Condition | Limitation, words: Words) -> str:
    """Return what a kind of term means, in a sentence."""
    return words.of("conditions" if isinstance(term, Condition) else "limitations", term.kind)


def details_of(term: Condition | Limitation, words: Words) -> Iterator[str]:
    """Yield what a term says besides its sentence."""
    if isinstance(term, Condition):
        yield from _condition_details(term, words)
    else:
        if term.threshold is not None:
            yield words.say("threshold", number=f"{term.threshold:,}")
        if term.measured:
            yield words.say("measured", measured=term.measured)
        if term.territory:
            yield words.say("territory", territory=", ".join(term.territory))
        if term.exempt_family:
            yield words.say("exempt_family", family=term.exempt_family)
    if term.scope:
        yield words.say("scope", scope=words.of("scopes", term.scope))
    for condition in _when(term.applies_when, words):
        yield words.say("only_when", condition=condition)


def _condition_details(condition: Condition, words: Words) -> Iterator[str]:
    if condition.prescribed_text:
        yield words.say("prescribed", text=condition.prescribed_text)
    for text in condition.alternatives:
        yield words.say("prescribed_or", text=text)
    for replaced, fact in condition.fill:
        yield words.say("fill", words=replaced, fact=fact)
    if condition.placement:
        yield words.say("placement", places=", ".join(condition.placement))
    if condition.url:
        yield words.say("link", url=condition.url)
    if condition.attachment:
        yield words.say("restrictions", title=condition.attachment.title)
    if condition.mode:
        yield words.say(f"mode_{condition.mode.replace('-', '_')}")
    if condition.accepts:
        yield words.say("accepts", licenses=", ".join(condition.accepts))


def _when(when: AppliesWhen | None, words: Words) -> Iterator[str]:
    if when is None:
        return
    for phrase, limit in (
        ("users_over", when.users_over),
        ("monthly_revenue_over", when.monthly_revenue_over_usd),
        ("annual_revenue_over", when.annual_revenue_over_usd),
    ):
        if limit is not None:
            yield words.say(phrase, number=f"{limit:,}")
    if when.purpose:
        yield words.say("purpose_is", purpose=words.of("purposes", when.purpose))
    if when.modality:
        yield words.say(when.modality)


def titled(title: str, lines: Iterable[str]) -> list[str]:
    """Return a title and its lines, or nothing where there are no lines."""
    indented = [f"  {line}" for line in lines]
    return ["", title, *indented] if indented else []


def ending(words: Words) -> list[str]:
    """Return what stands below everything that is told."""
    facts = [] if words.language == "en" else [words.say("original_words")]
    return ["", *facts, words.say("not_legal_advice")]


def term_lines(
    sentence: str, fact: str, cited: str, details: Iterable[str], words: Words
) -> Iterator[str]:
    """Return one term, its details and its section as lines."""
    yield f"- {sentence}"
    if fact:
        yield f"    {fact}"
    for detail in details:
        # What a license prescribes may have several lines.
        yield from (f"    {line}" for line in detail.split("\n"))
    yield f"    {words.say('section', section=noted(cited, words))}"
