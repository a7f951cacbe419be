"""Repeats: the same words count as the same, most of the same as near, and others as neither."""

from __future__ import annotations

import random

import pytest

from release_kit.datasets.overlap import Repeats, duplicates, overlap

WORDS = tuple(f"w{number}" for number in range(5000))


def _text(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def _changed(text: str, *places: int) -> str:
    words = text.split()
    for place in places:
        words[place] = "other"
    return " ".join(words)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The dough, needs MORE butter!", "the dough needs more  butter"),
        ("straße", "STRASSE"),
        ("ﬁne ｗｉｄｅ words", "fine wide words"),
        ("a_b c", "a b c"),
        ("他在北京工作。", "他 在 北京，工作"),
        ("\ud800 x", "\ud800 x"),
    ],
)
def test_the_same_words_are_the_same_text(one: str, other: str) -> None:
    assert overlap([one], [other]) == Repeats(of=1, exact=1, near=0)
    assert duplicates([one, other]) == Repeats(of=2, exact=1, near=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no butter", "butter no"),
        ("one", "two"),
        ("", ""),
        ("…!", "…!"),
        ("12", "1 2"),
        ("他在北京工作", "他在上海工作"),
    ],
)
def test_other_words_or_none_are_another_text(one: str, other: str) -> None:
    assert overlap([one], [other]) == Repeats(of=1, exact=0, near=0)
    assert duplicates([one, other]) == Repeats(of=2, exact=0, near=0)


def test_a_text_is_near_when_seven_in_ten_of_its_runs_stand_there() -> None:
    # 107 words have 100 runs of eight; a word in the midst is in eight of them.
    text = _text(1, 107)
    for places, near in (((20, 40, 60), 1), ((20, 40, 60, 80), 0), ((0, 1, 2, 20, 40, 60), 1)):
        assert overlap([text], [_changed(text, *places)]) == Repeats(1, 0, near), places


def test_a_text_put_together_from_several_is_near_and_one_within_another_too() -> None:
    one, other = _text(1), _text(2)
    assert overlap([one, other], [f"{one} {other}", one[:200]]) == Repeats(2, 0, 2)
    # A long text that holds a short one is another text.
    assert overlap([one[:100]], [one]) == Repeats(1, 0, 0)


def test_a_short_text_is_near_no_other() -> None:
    assert overlap(["the cat sat on the mat"], ["the cat sat on the hat"]) == Repeats(1, 0, 0)


def test_repeats_are_counted_not_the_texts_they_repeat() -> None:
    once, twice = _text(1), _text(2)
    near = _changed(_text(3), 0)
    texts = [once, twice, twice.upper(), _text(3), near, twice]
    assert duplicates(texts) == Repeats(of=6, exact=2, near=1)
    assert duplicates(reversed(texts)) == Repeats(of=6, exact=2, near=1)
    assert overlap([twice, _text(3)], texts) == Repeats(of=6, exact=4, near=1)


def test_near_duplicates_among_many_are_found_and_no_others() -> None:
    texts = [_text(seed, 80) for seed in range(400)]
    near = [_changed(text, 1) for text in texts[::4]]
    other = [_changed(text, *range(0, 80, 7)) for text in texts[::4]]
    assert duplicates([*texts, *near, *other]).near == len(near)


def test_nothing_is_no_repeat() -> None:
    assert overlap([], []) == duplicates([]) == Repeats(0, 0, 0)
    assert overlap(["a"], []) == Repeats(0, 0, 0)
    assert overlap([], ["a"]) == Repeats(1, 0, 0)


def test_both_are_read_once_as_they_come() -> None:
    texts = (_text(seed) for seed in range(3))
    assert overlap((_text(seed) for seed in range(2)), texts) == Repeats(3, 2, 0)
    assert duplicates(_text(seed % 2) for seed in range(4)) == Repeats(4, 2, 0)


def test_one_text_of_millions_of_words_is_read() -> None:
    long = _text(7, 300_000)
    assert overlap([long], [long, _text(8)]) == Repeats(2, 1, 0)
    assert duplicates([long, long]) == Repeats(2, 1, 0)


def test_what_is_counted_holds_nothing_of_the_texts() -> None:
    assert repr(overlap(["jane"], ["jane"])) == "Repeats(of=1, exact=1, near=0)"
