"""Time goes where it narrows most, and what was answered is not asked again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from release_kit.memorization import probes
from release_kit.memorization.probes import Found, Probe, spend
from tests.training.conftest import Watching


class Clock:
    """A clock that only asking moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(probes, "time", made)
    return made


def probe(
    name: str,
    items: int,
    log: list[tuple[str, int, int]],
    *,
    clock: Clock | None = None,
    cost: float = 1.0,
    width: float | None = None,
) -> Probe:
    def ask(part: range) -> np.ndarray:
        log.append((name, part.start, part.stop))
        if clock:
            clock.now += cost * len(part)
        return np.array([[place, place / 2] for place in part], np.float64)

    told = {} if width is None else {"width": lambda rows: width / np.sqrt(len(rows))}
    return Probe(name, items, 4, ask, lambda rows: Found(), **told)


def test_without_a_limit_everything_is_asked_once(tmp_path: Path) -> None:
    log: list[tuple[str, int, int]] = []
    watching = Watching()
    two = [probe("first", 10, log), probe("second", 3, log), probe("none", 0, log)]
    rows, asked = spend(two, None, tmp_path / "a" / "journal", "bound", watching)
    assert rows["first"].tolist() == [[n, n / 2] for n in range(10)]
    assert rows["second"].shape == (3, 2)
    assert rows["none"].shape == (0, 0)
    assert [(one.asked, one.items) for one in asked] == [(10, 10), (3, 3), (0, 0)]
    assert sorted(log) == [
        ("first", 0, 4), ("first", 4, 8), ("first", 8, 10), ("second", 0, 3)
    ]  # fmt: skip
    assert watching.steps[-1] == ("measuring leaks", 13, 13)


def test_time_goes_where_it_narrows_most(tmp_path: Path, clock: Clock) -> None:
    log: list[tuple[str, int, int]] = []
    wide = probe("wide", 1000, log, clock=clock, width=1.0)
    narrow = probe("narrow", 1000, log, clock=clock, width=0.1)
    dear = probe("dear", 1000, log, clock=clock, cost=20.0, width=1.0)
    _, asked = spend([wide, narrow, dear], 400.0, tmp_path / "journal", "bound")
    count = {one.probe: one.asked for one in asked}
    # Each had its first round, and no round was begun that would have ended too late.
    assert [name for name, _, _ in log[:3]] == ["wide", "narrow", "dear"]
    assert clock.now <= 400
    assert count["wide"] > 2 * count["narrow"] >= 2 * 4
    assert count["dear"] < count["wide"] / 4


def test_what_was_answered_is_not_asked_again(tmp_path: Path, clock: Clock) -> None:
    log: list[tuple[str, int, int]] = []
    journal = tmp_path / "journal"
    first, _ = spend([probe("one", 20, log, clock=clock)], 9.0, journal, "bound")
    assert len(first["one"]) == 8
    # A kill in the middle of a line.
    with journal.open("a") as file:
        file.write('{"probe": "one", "start": 8, "seco')
    log.clear()
    rows, asked = spend([probe("one", 20, log)], None, journal, "bound")
    assert log == [("one", 8, 12), ("one", 12, 16), ("one", 16, 20)]
    assert rows["one"][:, 0].tolist() == list(range(20))
    assert asked[0].seconds >= 8
    # With everything answered nothing is asked; for anything else, everything is.
    log.clear()
    assert spend([probe("one", 20, log)], None, journal, "bound")[0]["one"].shape == (20, 2)
    assert not log
    spend([probe("one", 20, log)], None, journal, "another model")
    assert log[0] == ("one", 0, 4)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"[]\n",
        b'{"leaks": "bound"}\n{"probe": "one", "start": 1, "seconds": 1, "rows": [[1, 2]]}\n',
        b'{"leaks": "bound"}\n{"probe": "one", "start": 0, "seconds": 1, "rows": [1, 2]}\n',
        b'{"leaks": "bound"}\n{"probe": "one", "start": 0, "seconds": 1, "rows": [["a"]]}\n',
        b'{"leaks": "bound"}\n{"probe": "other", "start": 0, "seconds": 1, "rows": [[1, 2]]}\n',
        b'{"leaks": "bound"}\n{"probe": "one", "start": 0, "seconds": 1, "rows": '
        + json.dumps([[0, 0]] * 9).encode()
        + b"}\n",
    ],
)
def test_a_damaged_journal_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    journal, log = tmp_path / "journal", []
    journal.write_bytes(damage)
    rows, _ = spend([probe("one", 8, log)], None, journal, "bound")
    assert log == [("one", 0, 4), ("one", 4, 8)]
    assert rows["one"].tolist() == [[n, n / 2] for n in range(8)]


def test_an_answer_that_is_no_number_survives_the_journal(tmp_path: Path) -> None:
    one = Probe("one", 1, 1, lambda part: np.array([[np.nan, np.inf]]), lambda rows: Found())
    spend([one], None, tmp_path / "journal", "bound")
    rows, _ = spend([one], None, tmp_path / "journal", "bound")
    assert np.isnan(rows["one"][0, 0])
    assert np.isinf(rows["one"][0, 1])
