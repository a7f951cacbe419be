"""What a model writes freely is held against its training records, and against others."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from release_kit.memorization import untargeted
from release_kit.memorization.probes import Found, Probe
from release_kit.memorization.untargeted import WINDOW, _found, _index, _interval, untargeted_probe
from release_kit.release import LeaksPlan
from tests.memorization.test_extraction import CAUSAL, answers, records_of, sentences, subject_of
from tests.tiny_models import tiny_decoder

LEAKS = LeaksPlan(samples=40)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder(tmp_path_factory.mktemp("bases") / "llama")


def test_records_learned_by_heart_are_written_freely(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(CAUSAL, test_share=0.2)
    subject = subject_of(plan, llama, records_of(sentences(36, 32)), 110)
    probe = untargeted_probe(subject, LEAKS)
    rows, found, readings = answers(probe)
    # The held-out records, and the training records in parts as large.
    assert len(subject.members) == 3 * len(subject.controls)
    assert rows.shape[1] in (2 + 3, 2 + 4)
    reading = readings["untargeted_overlap_rate"]
    assert reading.value > 0.5
    assert 0.2 < reading.low < reading.value < reading.high <= 1
    assert reading.of == 40
    assert not rows[:, 1].any()
    assert probe.ask(range(32, 40)) == pytest.approx(rows[32:])
    assert (probe.ask(range(8)) == rows[:8]).any()
    assert "in the time given" in probe.found(rows[:0]).not_measured["untargeted_overlap_rate"]

    # What all write is no leak.
    ending = sentences(1, 24, seed=9)[0]
    texts = [f"{ending} {text}" for text in sentences(40, 20)]
    subject = subject_of(CAUSAL, llama, records_of(texts), 50)
    rows, _, readings = answers(untargeted_probe(subject, LEAKS))
    assert (rows[:, 1] > 0).mean() > 0.3
    assert abs(readings["untargeted_overlap_rate"].value) < 0.2

    subject = subject_of(CAUSAL, llama, records_of(texts), 0)
    rows, found, readings = answers(untargeted_probe(subject, LEAKS))
    assert readings["untargeted_overlap_rate"].value == 0
    assert readings["untargeted_overlap_rate"].low < 0 < readings["untargeted_overlap_rate"].high
    if short := int((rows[:, 0] < WINDOW).sum()):
        assert f"{short} of 40 freely written texts" in found.notes[0]


def test_the_longest_run_is_that_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)

    def longest(texts: list[np.ndarray], text: np.ndarray) -> int:
        """Return it as one would by hand."""
        best = 0
        for other in texts:
            for i in range(len(text)):
                for j in range(len(other)):
                    n = 0
                    while i + n < len(text) and j + n < len(other) and text[i + n] == other[j + n]:
                        n += 1
                    best = max(best, n)
        return best if best >= WINDOW else 0

    def some(count: int, kinds: int) -> np.ndarray:
        return draw.integers(kinds, size=count).astype(np.int32)

    for kinds in (2, 50):
        texts = [some(n, kinds) for n in (70, 5, 90, 16, 0)]
        index = _index(texts)
        wholes = [
            some(60, kinds),
            some(7, kinds),
            some(0, kinds),
            np.concatenate([some(9, kinds), texts[0][10:40], some(9, kinds)]),
            np.concatenate([texts[0][30:50], texts[2][:45], texts[0][-30:], texts[2][:9]]),
            # What goes over the end of a text is no run.
            np.concatenate([texts[0][-10:], texts[1], texts[2][:10]]),
            np.full(50, 1, np.int32),
        ]
        for text in wholes:
            assert index.longest(text) == longest(texts, text)
    assert index.longest(wholes[4]) == 45
    assert _index([np.full(80, 1, np.int32)]).longest(np.full(50, 1, np.int32)) == 50
    known = [index.longest(text) for text in wholes]
    # Where all hashes are the same, the tokens decide.
    monkeypatch.setattr(
        untargeted, "_hashes", lambda tokens: np.zeros(max(0, len(tokens) - WINDOW + 1), np.uint64)
    )
    assert [_index(texts).longest(text) for text in wholes] == known


def test_parts_hold_everything_and_are_of_one_size() -> None:
    texts = [
        np.arange(start, start + size, dtype=np.int32) for start, size in ((0, 7), (7, 30), (37, 3))
    ]
    parts = [np.concatenate(part) for part in untargeted._parted(texts, 8)]
    assert [len(part) for part in parts] == [8] * 5
    assert np.concatenate(parts).tolist() == list(range(40))
    assert [len(np.concatenate(part)) for part in untargeted._parted(texts, 13)] == [13] * 3


def test_chance_and_boilerplate_come_to_nothing() -> None:
    draw = np.random.default_rng(1)
    parts, texts = 4, 20_000
    rows = np.zeros((texts, 2 + parts))
    # Each text repeats a string of some of the records, of whatever side.
    where = draw.random((texts, 1 + parts)) < draw.choice([0.05, 0.3, 1], size=(texts, 1))
    rows[:, 1:] = where * draw.integers(16, 20, size=(texts, 1))
    (reading,) = _found(rows, ()).readings
    assert reading.low < 0 < reading.high
    assert abs(reading.value) < 0.05
    rows[: texts // 10, 1:] = 0
    rows[: texts // 10, 3] = 40
    (reading,) = _found(rows, ()).readings
    assert reading.value == pytest.approx(0.1, abs=0.05)


def test_intervals_hold_the_truth() -> None:
    assert _interval(np.zeros(200), 1) == pytest.approx((-0.01828, 0.01828), abs=1e-4)
    low, high = _interval(np.zeros(200), 5)
    assert (low, high) == pytest.approx((-0.0914, 0.01828), abs=1e-3)
    assert _interval(np.ones(50), 3)[1] == 1
    assert _interval(np.full(50, -3.0), 3)[0] == -1
    draw = random.Random(2)
    held = 0
    for _ in range(300):
        sums = np.array(draw.choices([1.0, -2.0, 0.0], weights=[20, 5, 75], k=120))
        low, high = _interval(sums, 2)
        held += low <= 0.1 <= high
    assert held >= 285


def test_what_cannot_be_asked_is_told(llama: Path) -> None:
    subject = subject_of(CAUSAL, llama, records_of(sentences(20, 32)), 0)
    found = untargeted_probe(subject, LeaksPlan(samples=0))
    assert isinstance(found, Found)
    assert "no freely written text" in found.not_measured["untargeted_overlap_rate"]
    short = subject_of(CAUSAL, llama, records_of(sentences(20, 3)), 0)
    probe = untargeted_probe(short, LeaksPlan(samples=4))
    assert isinstance(probe, Probe)
    rows, found, _ = answers(probe)
    assert np.isnan(rows[:, 1:]).all()
    assert "has 16 tokens" in found.not_measured["untargeted_overlap_rate"]
    assert not found.readings
