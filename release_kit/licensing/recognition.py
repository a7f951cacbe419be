"""Which known license texts stand in a text, and what stands there besides."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from release_kit.errors import Unfinished
from release_kit.files import sha256_bytes
from release_kit.licensing.licenses import License, Licenses, license_text
from release_kit.licensing.texts import Fingerprint, Word, words_of

# A text resembles a license when so many runs of so many words, and half of the shorter one's, are
# in both.
_RUN = 5
_ENOUGH = 20
_HALF = 0.5
_TITLE_WORDS = frozenset(
    {"the", "license", "licence", "agreement", "version", "v", "text", "terms", "of"}
)
_HOLDER = re.compile(r"^\W*(?:©|\(c\)|copyright\b.*(?:©|\(c\)|\d{4}))", re.IGNORECASE)


@dataclass(frozen=True)
class FoundText:
    """A known license text that stands whole in another text."""

    license: str
    line: int
    """On which its first word stands."""
    words: int


@dataclass(frozen=True)
class Recognition:
    """Which known license texts stand in a text, and what stands there besides."""

    found: tuple[FoundText, ...]
    """In the order of the text. Two licenses with the very same text are both told."""
    words: int
    """All words but copyright lines."""
    more: int
    """Words that are neither in a known text nor in its title or a copyright line."""
    more_line: int
    """Where the first of them stands; 0 when there is none."""
    resembles: tuple[str, ...] = ()
    """The licenses that the other words are nearest to, word for word none of them."""
    differs_line: int = 0
    """The first line that differs from the license that it resembles; 0 when that is not known."""

    @property
    def license(self) -> str:
        """The one license whose text this is, and nothing else; empty when there is none."""
        only = {text.license for text in self.found}
        return self.found[0].license if len(only) == 1 and not self.more else ""


def recognize(text: str, licenses: Licenses, first: Iterable[str] = ()) -> Recognition:
    """Tell which known license texts stand in `text`; those of `first` are tried first.

    Reading every license file takes seconds, so the others are tried only when the first ones do
    not explain the whole text.

    Raises:
        UnusableInput: a file of `licenses` is broken.
    """
    return Library(licenses).recognize(text, first)


@dataclass(frozen=True)
class _Standing:
    license: License
    first: int
    end: int


@dataclass(frozen=True)
class _Carried:
    """A text that is at hand."""

    words: list[str]
    runs: frozenset[tuple[str, ...]]


class Library:
    """The known license texts, read when they are needed."""

    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses
        self._seen: dict[tuple[str, tuple[str, ...]], Recognition] = {}

    def recognize(self, text: str, first: Iterable[str]) -> Recognition:
        """Tell which known texts stand in `text`; the same text is looked at once."""
        tried = tuple(id_ for id_ in dict.fromkeys(first) if id_ in self._licenses)
        key = (sha256_bytes(text.encode(errors="surrogatepass")), tried)
        if key not in self._seen:
            self._seen[key] = self._recognize(text, tried)
        return self._seen[key]

    def _recognize(self, text: str, first: Iterable[str]) -> Recognition:
        words = _Words(text)
        standing: list[_Standing] = []
        rest = words.all
        for ids in (first, self._licenses):
            standing = words.longest(self._licenses[id_] for id_ in ids)
            rest = words.unexplained([*standing, *words.attached(standing)])
            if standing and not rest:
                break
        resembles, differs = self._nearest(rest, {place.license.id for place in standing})
        return Recognition(
            found=tuple(
                FoundText(
                    place.license.id, words.line(words.all[place.first]), place.end - place.first
                )
                for place in standing
            ),
            words=len(words.all),
            more=len(rest),
            more_line=words.line(rest[0]) if rest else 0,
            resembles=resembles,
            differs_line=words.line(differs) if differs else 0,
        )

    def _nearest(self, rest: list[Word], standing: set[str]) -> tuple[tuple[str, ...], Word | None]:
        """Return the licenses that `rest` is nearest to, and the first word that differs."""
        if not rest:
            return (), None
        said = [word.text for word in rest]
        runs = set(_runs(said))
        best = (0.0, "")
        for id_, carried in self._carried.items() if len(runs) >= _ENOUGH else ():
            shared, fewer = len(runs & carried.runs), min(len(runs), len(carried.runs))
            if shared >= max(_ENOUGH, _HALF * fewer):
                # Of those that share enough, the one with the least besides.
                best = max(best, (shared / len(runs | carried.runs), id_))
        if best[1]:
            return (best[1],), _departure(rest, self._carried[best[1]].words)
        plain = f" {' '.join(said)} "
        begun = {
            license.id
            for license in self._licenses.values()
            for known in license.texts
            # What is added to a text often begins with the license's name, as the text does.
            if license.id not in standing and f" {known.fingerprint.begins} " in plain
        }
        return tuple(sorted(begun)), None

    @cached_property
    def _carried(self) -> Mapping[str, _Carried]:
        found: dict[str, _Carried] = {}
        for license in self._licenses.values():
            try:
                text = license_text(license)
            except Unfinished:
                # Whoever passes the text on is told there; here its beginning will do.
                continue
            if text:
                words = [word.text for word in words_of(text)]
                found[license.id] = _Carried(words, frozenset(_runs(words)))
        return found


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(_RUN)), strict=False)


def _departure(rest: list[Word], known: list[str]) -> Word | None:
    """Return the first word of `rest` that differs, from where the two begin alike."""
    places = {run: place for place, run in reversed(list(enumerate(_runs(known))))}
    for start, run in enumerate(_runs([word.text for word in rest])):
        if run in places:
            if places[run]:
                return rest[start]
            for word, expected in zip(rest[start:], known, strict=False):
                if word.text != expected:
                    return word
            return rest[-1]
    return None


class _Words:
    """The words of one text, joined so that a known text is looked up at the speed of bytes."""

    def __init__(self, text: str) -> None:
        self.all = words_of(text)
        self._lines = text.splitlines()
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._starts: list[int] = []
        offset = 0
        for word in self.all:
            self._starts.append(offset)
            offset += len(word.text.encode()) + 1
        self._joined = " ".join(word.text for word in self.all).encode()

    def line(self, word: Word) -> int:
        """Return the line as editors count it: a form feed ends none."""
        return bisect_left(self._line_ends, word.start) + 1

    def attached(self, standing: Iterable[_Standing]) -> list[_Standing]:
        """Return where policies stand that come with the licenses of `standing`."""
        return [
            _Standing(license, first, end)
            for license in {place.license.id: place.license for place in standing}.values()
            for condition in license.conditions
            if condition.attachment
            for first, end in self._places(condition.attachment.fingerprint)
        ]

    def longest(self, licenses: Iterable[License]) -> list[_Standing]:
        """Return where texts of `licenses` stand, without those inside a longer one."""
        places = [
            (first, end, license)
            for license in licenses
            for known in license.texts
            for first, end in self._places(known.fingerprint)
        ]
        places.sort(key=lambda place: (place[0] - place[1], place[0], place[2].id))
        taken = bytearray(len(self.all))
        kept: dict[tuple[int, int, str], _Standing] = {}
        spans: set[tuple[int, int]] = set()
        for first, end, license in places:
            if (first, end) in spans or not any(taken[first:end]):
                kept[first, end, license.id] = _Standing(license, first, end)
                spans.add((first, end))
                taken[first:end] = b"\1" * (end - first)
        return sorted(kept.values(), key=lambda place: (place.first, place.license.id))

    def _places(self, known: Fingerprint) -> Iterator[tuple[int, int]]:
        anchor = known.begins.encode()
        at = self._joined.find(anchor)
        while at >= 0:
            first = bisect_left(self._starts, at)
            end = first + known.words
            if end > len(self.all):
                return
            after = at + 1
            stop = self._starts[end] - 1 if end < len(self.all) else len(self._joined)
            if sha256_bytes(self._joined[at:stop]) == known.sha256:
                yield first, end
                after = stop
            at = self._joined.find(anchor, after)

    def unexplained(self, standing: list[_Standing]) -> list[Word]:
        """Return the words that are in no known text, nor its title, nor a copyright line."""
        explained = bytearray(len(self.all))
        for place in standing:
            explained[place.first : place.end] = b"\1" * (place.end - place.first)
        left: dict[int, list[Word]] = {}
        for word, known in zip(self.all, explained, strict=True):
            if not known:
                left.setdefault(word.line, []).append(word)
        titles = _titles({place.license.id: place.license for place in standing}.values())
        return [
            word
            for line, words in left.items()
            if not _names_a_holder(self._lines[line - 1])
            and not any(_is_title([word.text for word in words], title) for title in titles)
            for word in words
        ]


def _titles(licenses: Iterable[License]) -> list[tuple[list[str], frozenset[str]]]:
    """Return of each license the words of its address, and all words of its names."""
    found = []
    for license in licenses:
        names = "\n".join((license.id, license.spdx_id, license.name, license.version,
                           *license.aliases))  # fmt: skip
        address = [word.text for word in words_of(license.url)]
        found.append((address, frozenset(w.text for w in words_of(names)) | _TITLE_WORDS))
    return found


def _is_title(words: list[str], title: tuple[list[str], frozenset[str]]) -> bool:
    address, names = title
    return words == address or names.issuperset(words)


def _names_a_holder(line: str) -> bool:
    # Written in full it would be left out with the other copyright lines, unless it says more.
    return bool(_HOLDER.match(line)) and not words_of(f"Copyright (c) {line}")
