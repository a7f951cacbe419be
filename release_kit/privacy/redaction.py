"""Takes personal data out of datasets, and looks again at what was written.

Every text of a record is read: values at any depth, the keys of objects, and whole numbers as
they would be written down. Counts are all that is kept of what was found.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from release_kit.errors import Problem, UnusableInput
from release_kit.privacy.detection import Detector, Match, load_detector, outside
from release_kit.privacy.records import Record, read_records, write_records
from release_kit.progress import Watcher
from release_kit.release import PrivacyPlan

_BATCH_RECORDS = 512
_BATCH_CHARACTERS = 200_000
_REMEMBERED = 100_000
# A placeholder changes what stands around it, so a names model may then see a new name there.
_ROUNDS = 3

# The names model takes bare words such as `lang` for people; a key like this is a field's name.
_FIELD_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*")

_OPERATORS: dict[str, Callable[[str, str], str]] = {
    "replace": lambda entity, found: f"<{entity}>",
    "mask": lambda entity, found: "*" * len(found),
    "redact": lambda entity, found: "",
}


@dataclass(frozen=True)
class RedactionCounts:
    """What a redaction did, in numbers only."""

    records: int
    """Records read, and as many written."""
    fields: int
    """Values and keys, at any depth, that were changed."""
    characters: int
    """Characters that were taken out."""
    by_entity: Mapping[str, int]
    """How many findings of each kind were taken out; kinds that were not found are absent."""
    remaining: Mapping[str, int]
    """How many findings of each kind the written file still holds, outside the kept fields."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many findings of each kind stand in the kept fields, which nobody changed."""


@dataclass
class Tally:
    """Counts that grow while records stream by; the fields mean what `RedactionCounts` says."""

    records: int = 0
    fields: int = 0
    characters: int = 0
    by_entity: Counter[str] = field(default_factory=Counter)


def redact_file(
    source: Path,
    target: Path,
    plan: PrivacyPlan,
    watcher: Watcher,
    *,
    keep: Collection[str] = (),
    detector: Detector | None = None,
) -> RedactionCounts:
    """Write the records of `source` to `target` without what `plan` names, and scan `target`.

    Args:
        source: a dataset file; it is read whole once before the work begins.
        target: another dataset file; it is written whole or not at all.
        plan: what to look for and what takes its place.
        watcher: is told how many records are done.
        keep: top-level fields that stay as they are, name and value.
        detector: one that `load_detector` made for this plan; None loads it.

    Raises:
        UnusableInput: `source` or the plan cannot be used, `target` is `source`, or a field of
            `keep` stands in no record.
        Unfinished: a text could not be judged.
        OSError: `target` cannot be written.
    """
    if target.resolve() == source.resolve():
        raise UnusableInput(f"{source} cannot be redacted onto itself")
    work = _Work(plan, keep, detector)
    total = 0
    missing = set(keep)
    for record in read_records(source):
        total += 1
        missing.difference_update(record.fields)
    if missing:
        message = f"no record has the field '{min(missing)}', which is to be kept"
        problem = Problem(str(source), 0, 0, message)
        raise UnusableInput(f"{source} cannot be used: 1 mistake", problems=[problem])
    tally = Tally()
    write_records(target, work.redacted(read_records(source), watcher, total, tally))
    remaining, kept = work.found(read_records(target), watcher, total)
    return RedactionCounts(
        records=tally.records,
        fields=tally.fields,
        characters=tally.characters,
        by_entity=_sorted(tally.by_entity),
        remaining=_sorted(remaining),
        kept=_sorted(kept),
    )


def redact_records(
    records: Iterable[Record],
    plan: PrivacyPlan,
    watcher: Watcher,
    *,
    total: int,
    keep: Collection[str] = (),
    detector: Detector | None = None,
    tally: Tally | None = None,
) -> Iterator[Record]:
    """Yield the records without what `plan` names, in order, with the same source and index.

    Args:
        records: what to redact; read as far ahead as one batch.
        plan: what to look for and what takes its place.
        watcher: is told how many of `total` records are done.
        total: how many records there are.
        keep: top-level fields that stay as they are, name and value.
        detector: one that `load_detector` made for this plan; None loads it.
        tally: is filled with the counts, complete once the iterator is used up.

    Raises:
        UnusableInput: the plan cannot be used, or a record holds what JSON cannot hold.
        Unfinished: a text could not be judged.
    """
    work = _Work(plan, keep, detector)
    return work.redacted(records, watcher, total, Tally() if tally is None else tally)


def scan_records(
    records: Iterable[Record],
    plan: PrivacyPlan,
    watcher: Watcher,
    *,
    total: int,
    detector: Detector | None = None,
) -> Mapping[str, int]:
    """Return how many findings of each kind `records` hold; placeholders do not count.

    Raises:
        UnusableInput: the plan cannot be used, or a record holds what JSON cannot hold.
        Unfinished: a text could not be judged.
    """
    found, _ = _Work(plan, (), detector).found(records, watcher, total)
    return _sorted(found)


class _Kind(Enum):
    TEXT = "text"
    KEY = "key"
    NUMBER = "number"


class _Text(NamedTuple):
    """A text of a record as it is judged."""

    shown: str
    kind: _Kind = _Kind.TEXT


class _Cleaned(NamedTuple):
    """What becomes of a text, and what was taken out of it."""

    text: str
    characters: int
    taken: Counter[str]


class _Work:
    """One run: the plan, the detector, and a memory of which texts were judged already."""

    def __init__(self, plan: PrivacyPlan, keep: Collection[str], detector: Detector | None) -> None:
        if plan.operator not in _OPERATORS:
            raise UnusableInput(
                f"'{plan.operator}' is not a way to take personal data out",
                hint="known here: " + ", ".join(_OPERATORS),
            )
        if detector is not None and (detector.entities, detector.language, detector.min_score) != (
            tuple(dict.fromkeys(plan.entities)),
            plan.language,
            plan.min_score,
        ):
            raise ValueError("the detector was loaded for another plan")
        self._operator = _OPERATORS[plan.operator]
        self._placeholder = re.compile(_placeholders(plan))
        self._keep = frozenset(keep)
        self._detector = detector or load_detector(
            plan.spacy_pipeline, plan.language, plan.entities, plan.min_score
        )
        # Digests of texts to where their findings stand: neither gives a text away.
        self._judged: dict[bytes, tuple[Match, ...]] = {}

    def redacted(
        self, records: Iterable[Record], watcher: Watcher, total: int, tally: Tally
    ) -> Iterator[Record]:
        for batch in _batches(records):
            cleaned = self._cleaned(
                dict.fromkeys(text for record in batch for text in _texts(record, self._keep))
            )
            for record in batch:
                fields = _rebuilt(record.fields, cleaned, tally, self._keep)
                yield Record(fields, record.source, record.index)
                tally.records += 1
            watcher.step("records redacted", tally.records, total)

    def found(
        self, records: Iterable[Record], watcher: Watcher, total: int
    ) -> tuple[Counter[str], Counter[str]]:
        """Count the findings outside the kept fields, and those inside."""
        counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        done = 0
        for batch in _batches(records):
            texts = [
                (text, name in self._keep)
                for record in batch
                for name, value in record.fields.items()
                for text in _texts(Record({name: value}, record.source, record.index))
            ]
            matches = self._matches(dict.fromkeys(text for text, _ in texts))
            for text, is_kept in texts:
                counts[is_kept].update(match.entity_type for match in matches[text])
            done += len(batch)
            watcher.step("records looked at again", done, total)
        return counts

    def _cleaned(self, texts: Iterable[_Text]) -> dict[_Text, _Cleaned]:
        """Return what becomes of those texts that hold something to take out."""
        result: dict[_Text, _Cleaned] = {}
        todo = {text: text for text in texts}
        for _ in range(_ROUNDS):
            matches = self._matches(dict.fromkeys(todo.values()))
            again = {}
            for original, text in todo.items():
                if not matches[text]:
                    continue
                new = self._replaced(text, matches[text])
                if original in result:
                    before = result[original]
                    new = _Cleaned(
                        new.text, before.characters + new.characters, before.taken + new.taken
                    )
                result[original] = new
                again[original] = _Text(new.text)
            todo = again
        return result

    def _replaced(self, text: _Text, matches: Sequence[Match]) -> _Cleaned:
        if text.kind is _Kind.NUMBER:
            # A number is personal data as a whole; half a number would be a wrong value.
            entity = matches[0].entity_type
            instead = self._operator(entity, text.shown)
            return _Cleaned(instead, len(text.shown), Counter([entity]))
        parts = []
        edge = 0
        for match in matches:
            parts.append(text.shown[edge : match.start])
            parts.append(self._operator(match.entity_type, text.shown[match.start : match.end]))
            edge = match.end
        parts.append(text.shown[edge:])
        characters = sum(match.end - match.start for match in matches)
        return _Cleaned("".join(parts), characters, Counter(match.entity_type for match in matches))

    def _matches(self, texts: Iterable[_Text]) -> dict[_Text, tuple[Match, ...]]:
        """Judge the texts, each distinct one once as long as the memory holds."""
        digests = {text: _digest(text.shown) for text in texts}
        # Taken out of the memory first, so that what comes in cannot push it out meanwhile.
        judged = {digest: self._judged.get(digest) for digest in digests.values()}
        new = {digest: text.shown for text, digest in digests.items() if judged[digest] is None}
        for digest, matches in zip(new, self._detector.detect(new.values()), strict=True):
            judged[digest] = self._judged[digest] = matches
        while len(self._judged) > _REMEMBERED:
            del self._judged[next(iter(self._judged))]
        return {
            text: self._counting(text, judged[digest] or ()) for text, digest in digests.items()
        }

    def _counting(self, text: _Text, matches: tuple[Match, ...]) -> tuple[Match, ...]:
        """Leave out what is no finding: placeholders, and words and numbers taken for names."""
        if text.kind is _Kind.NUMBER or (
            text.kind is _Kind.KEY and _FIELD_NAME.fullmatch(text.shown)
        ):
            matches = tuple(
                match for match in matches if match.entity_type not in self._detector.ner_only
            )
        if text.kind is _Kind.NUMBER:
            covered = {place for match in matches for place in range(match.start, match.end)}
            digits = {place for place, sign in enumerate(text.shown) if sign.isdigit()}
            return matches if digits <= covered else ()
        holes = [found.span() for found in self._placeholder.finditer(text.shown)]
        if not matches or not holes:
            return matches
        return tuple(
            Match(match.entity_type, start, end, match.score)
            for match in matches
            for start, end in outside(text.shown, match.start, match.end, holes)
        )


def _placeholders(plan: PrivacyPlan) -> str:
    match plan.operator:
        case "replace":
            return f"<(?:{'|'.join(map(re.escape, plan.entities))})>(?:_[0-9]+)?"
        case "mask":
            return r"\*+(?:_[0-9]+)?"
        case _:
            return r"(?!)"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += sum(len(text.shown) for text in _texts(record))
        if len(batch) == _BATCH_RECORDS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _texts(record: Record, leave: Collection[str] = ()) -> Iterator[_Text]:
    """Yield every text of `record`, but for the top-level fields that `leave` names."""
    try:
        for name, value in record.fields.items():
            if name not in leave:
                yield _Text(name, _Kind.KEY)
                yield from _inner_texts(value)
    except TypeError as error:
        raise UnusableInput(f"{record.source}: record {record.index} {error}") from None


def _inner_texts(value: Any) -> Iterator[_Text]:
    """Yield every text in `value`: strings, keys, and numbers as they are written down."""
    match value:
        case str():
            yield _Text(value)
        case None | bool():
            pass
        case float() if not value.is_integer():
            pass  # a share or a measure; phone patterns would take 0.9876543210 for a number
        case int() | float():
            yield _Text(_written(value), _Kind.NUMBER)
        case list() | tuple():
            for item in value:
                yield from _inner_texts(item)
        case Mapping() if all(isinstance(key, str) for key in value):
            for key, item in value.items():
                yield _Text(key, _Kind.KEY)
                yield from _inner_texts(item)
        case _:
            raise TypeError(f"holds a {type(value).__name__} that JSON cannot hold")


def _written(number: float) -> str:
    # Some tools make floats of phone numbers: 4155550101.0
    return str(int(number))


def _rebuilt(
    value: Any, cleaned: Mapping[_Text, _Cleaned], tally: Tally, keep: Collection[str] = ()
) -> Any:
    """Return `value` with cleaned texts, but for the keys in `keep`, and count what changed."""

    def new(old: Any, text: _Text) -> Any:
        change = cleaned.get(text)
        if change is None:
            return old
        tally.fields += 1
        tally.characters += change.characters
        tally.by_entity.update(change.taken)
        return change.text

    match value:
        case str():
            return new(value, _Text(value))
        case None | bool():
            return value
        case float() if not value.is_integer():
            return value
        case int() | float():
            return new(value, _Text(_written(value), _Kind.NUMBER))
        case Mapping():
            result: dict[Any, Any] = {}
            for key, item in value.items():
                if key in keep:
                    result[key] = item
                    continue
                name = new(key, _Text(key, _Kind.KEY))
                number = 2
                # Two people may become one placeholder; neither value may be lost for it.
                while name in result or (name != key and name in value):
                    name = f"{cleaned[_Text(key, _Kind.KEY)].text}_{number}"
                    number += 1
                result[name] = _rebuilt(item, cleaned, tally)
            return result
        case _:
            return [_rebuilt(item, cleaned, tally) for item in value]


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
