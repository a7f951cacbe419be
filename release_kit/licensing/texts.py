"""License texts, recognized by their words: a LICENSE file is what it says, not what it is called.

A text is compared as its words in lower case, so wrapping, quotes, bullets and markup say nothing,
and pure copyright lines are left out, since every copy has its own. What is known of a text is its
fingerprint: how it begins, how many words it has, and their SHA-256. It tells the very text from
one that was changed by a word, and can be noted for a text that may not be copied here.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from release_kit.files import sha256_bytes

_WORD = re.compile(r"[^\W_]+")
_COPYRIGHT = re.compile(r"^\W*copyright\W*(?:\(c\)|©|\d{4}|\[|<|all rights)", re.IGNORECASE)
_ALL_RIGHTS = re.compile(r"all rights reserved", re.IGNORECASE)
# With one of these a line says more than who holds the copyright.
_TERMS = re.compile(
    r"\b(?:licen[cs]e|licensed|permi\w+|may|must|shall|not|only|use|uses|used|using|prohibit\w*"
    r"|commercial\w*|noncommercial\w*|restrict\w*|subject|provided|forbid\w*|forbidden|exclu\w+"
    r"|except|excepting|unless|without|never|cannot|nobody|banned|barred|denied|selling|sells|sold"
    r"|royalt\w+|fees?|paid|payment|requir\w+|agree[sd]?|agreement|consent|granted|grants"
    r"|conditions?|terms|purposes?|distribut(?:e|ion|ing)|redistribut\w+|modif\w+|derivatives?"
    r"|reproduc\w+|evaluation|personal|revo\w+|void)\b",
    re.IGNORECASE,
)
_LONGEST_HOLDER = 40
"""Words above which a line says more than who holds the copyright."""
_ANCHOR = 6
"""Words by which a fingerprint is looked up."""
_MOST_BEGINNINGS = 1000
"""Each asks for a digest of all that follows, so a text made of beginnings is not searched on."""


@dataclass(frozen=True)
class Word:
    """One word of a text and where it stands."""

    text: str
    line: int
    """1-based."""
    start: int
    """Offset of its first character."""
    end: int


@dataclass(frozen=True)
class Fingerprint:
    """A text, known by its words without being kept."""

    begins: str
    """Its first words, at most six."""
    words: int
    sha256: str
    """Of all its words in lower case, joined by one blank, as UTF-8."""


@dataclass(frozen=True)
class Place:
    """Where a known text stands in another: word numbers, the second exclusive."""

    first: int
    end: int


def words_of(text: str) -> list[Word]:
    """Return the words of `text`, NFKC and in lower case, without its pure copyright lines."""
    found: list[Word] = []
    offset = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not _only_copyright(line):
            for match in _WORD.finditer(line):
                plain = unicodedata.normalize("NFKC", match[0]).casefold()
                # What NFKC takes apart, such as a circled number, may be several words.
                for part in _WORD.findall(plain):
                    start, end = offset + match.start(), offset + match.end()
                    found.append(Word(part, number, start, end))
        offset += len(line)
    return found


def _only_copyright(line: str) -> bool:
    return bool(
        _COPYRIGHT.match(line) or re.fullmatch(r"\W*all rights reserved\W*", line.strip().lower())
    ) and not (_TERMS.search(_ALL_RIGHTS.sub("", line)) or len(line.split()) > _LONGEST_HOLDER)


def fingerprint(text: str) -> Fingerprint:
    """Return the fingerprint of `text`.

    Raises:
        ValueError: the text has no words.
    """
    words = [word.text for word in words_of(text)]
    if not words:
        raise ValueError("a text without words has no fingerprint")
    return Fingerprint(" ".join(words[:_ANCHOR]), len(words), _digest(words))


def find(words: list[Word], known: Fingerprint) -> Place | None:
    """Return where the known text stands word by word in `words`; None where it does not."""
    anchor = known.begins.split()
    size = len(anchor)
    texts = [word.text for word in words]
    places = range(len(texts) - known.words + 1)
    begun = (first for first in places if texts[first : first + size] == anchor)
    for first in itertools.islice(begun, _MOST_BEGINNINGS):
        end = first + known.words
        if _digest(texts[first:end]) == known.sha256:
            return Place(first, end)
    return None


def excerpt(text: str, known: Fingerprint) -> str | None:
    """Return the known text as it is written in `text`; None when it does not stand there."""
    words = words_of(text)
    place = find(words, known)
    if place is None:
        return None
    # From the beginning of its first line to the end of its last, so that no sign is lost.
    start = text.rfind("\n", 0, words[place.first].start) + 1
    end = text.find("\n", words[place.end - 1].end)
    return text[start : len(text) if end < 0 else end]


def carries(text: str, known: Iterable[Fingerprint]) -> bool:
    """Tell whether one of the known texts stands in `text`, whole."""
    words = words_of(text)
    return any(find(words, one) for one in known)


def _digest(words: list[str]) -> str:
    return sha256_bytes(" ".join(words).encode())


def normalized(text: str) -> str:
    r"""Return `text` in Unicode NFC with every run of white space as one blank.

    Prescribed sentences are compared in this form, signs and capitals included.

    >>> normalized(" Built  with\n Llama ")
    'Built with Llama'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())
