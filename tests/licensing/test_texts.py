"""License texts known by their words: what is overlooked, and what never is."""

from __future__ import annotations

import hashlib
import re
from importlib import metadata
from pathlib import Path

import pytest

from release_kit.licensing import texts
from release_kit.licensing.texts import (
    Fingerprint,
    Place,
    carries,
    excerpt,
    find,
    fingerprint,
    normalized,
    words_of,
)

_PACKAGED = "licensedcode/data/licenses/apache-2.0.LICENSE"
APACHE = (
    Path(str(metadata.distribution("licensedcode-data").locate_file(_PACKAGED)))
    .read_text(encoding="utf-8")
    .split("\n---\n", 1)[-1]
)
TERMS = """\
Sample Terms

1. You may share the "work" with others, provided that you:
  (a) give them a copy of these terms; and
  (b) say what you changed.

2. No warranty.
"""
KNOWN = fingerprint(TERMS)


def _words(text: str) -> list[str]:
    return [word.text for word in words_of(text)]


def test_a_fingerprint_is_of_words_in_lower_case() -> None:
    said = fingerprint("Sample  TERMS\n")
    digest = hashlib.sha256(b"sample terms").hexdigest()
    assert said == Fingerprint(begins="sample terms", words=2, sha256=digest)
    assert KNOWN.begins == "sample terms 1 you may share"
    assert KNOWN.words == len(_words(TERMS)) == 30


@pytest.mark.parametrize("text", ["", " \n", "-- ** __", "Copyright (c) 2024 Jane Doe"])
def test_a_text_without_words_has_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="without words"):
        fingerprint(text)


def test_words_know_where_they_stand() -> None:
    text = "One two,\r\n  Three\u2028four\n"
    assert [(w.text, w.line, text[w.start : w.end]) for w in words_of(text)] == [
        ("one", 1, "One"),
        ("two", 1, "two"),
        ("three", 2, "Three"),
        ("four", 3, "four"),
    ]


def test_an_underscore_is_no_letter() -> None:
    assert _words("_snake_case_ __bold__") == ["snake", "case", "bold"]


def test_what_unicode_takes_apart_keeps_its_place() -> None:
    text = "a \u00bd \ufb01ne \u2460"
    assert [(w.text, text[w.start : w.end]) for w in words_of(text)] == [
        ("a", "a"),
        ("1", "\u00bd"),
        ("2", "\u00bd"),
        ("fine", "\ufb01ne"),
        ("1", "\u2460"),
    ]


@pytest.mark.parametrize(
    "copy",
    [
        TERMS.replace("\n", "\r\n"),
        " ".join(TERMS.split()),
        TERMS.upper(),
        TERMS.replace('"', "\u201c"),
        TERMS.replace("Sample Terms", "# **Sample Terms**"),
        TERMS.replace("  (a)", "  * (a)").replace("  (b)", "  * (b)"),
        re.sub("^", "> ", TERMS, flags=re.MULTILINE),
        re.sub("^", " * ", TERMS, flags=re.MULTILINE),
        TERMS.replace(" ", "\u00a0"),
        "\ufeff" + TERMS,
        "\n".join(TERMS.split()),
        TERMS.replace("share", "\uff53\uff48\uff41\uff52\uff45"),
    ],
    ids=[
        "line ends", "one line", "capitals", "quotes", "headings", "bullets", "quoted",
        "comment", "no-break blanks", "byte order mark", "a word a line", "wide letters",
    ],
)  # fmt: skip
def test_wrapping_and_markup_say_nothing(copy: str) -> None:
    assert fingerprint(copy) == KNOWN
    assert carries(copy, [KNOWN])


@pytest.mark.parametrize(
    "changed",
    [
        TERMS.replace("may", "may not"),
        TERMS.replace("copy", "part"),
        TERMS.replace("(b)", "(c)"),
        TERMS.replace("No warranty", "Warranty"),
        TERMS.replace("2. No warranty.\n", ""),
        TERMS.replace("\n2.", "\nYou may not sell the work.\n\n2."),
        TERMS.replace("Sample Terms\n", ""),
        TERMS.replace("changed", "chаnged"),  # a Cyrillic a
        TERMS.replace("warranty", "warran\u00adty"),
        TERMS.replace("\n2.", "\nCopyright notices must not be used.\n2."),
    ],
)
def test_one_changed_word_is_noticed(changed: str) -> None:
    assert fingerprint(changed) != KNOWN
    assert not carries(changed, [KNOWN])
    assert excerpt(changed, KNOWN) is None


def test_every_single_word_counts() -> None:
    known = fingerprint(APACHE)
    words = words_of(APACHE)
    for number in range(0, len(words), 41):
        word = words[number]
        changed = APACHE[: word.start] + "xother" + APACHE[word.end :]
        assert not carries(changed, [known]), word


@pytest.mark.parametrize(
    "line",
    [
        "Copyright (c) 2024 Jane Doe",
        "Copyright 2019-2024 The Authors. All rights reserved.",
        "  * Copyright \u00a9 Acme, Inc.",
        "Copyright [yyyy] [name of copyright owner]",
        "Copyright (c) 2024 Salesforce Research, PayPal Inc. and Grant Smith",
        "Copyright <year> <owner>",
        "COPYRIGHT (C) 2024",
        "All rights reserved.",
    ],
)
def test_whose_copyright_it_is_says_nothing(line: str) -> None:
    assert fingerprint(f"{line}\n{TERMS}") == KNOWN
    assert fingerprint(TERMS.replace("\n2.", f"\n{line}\n2.")) == KNOWN


@pytest.mark.parametrize(
    "line",
    [
        "Copyright (c) 2024 Jane Doe. You may not sell this.",
        "Copyright 2024 Acme. Use is restricted to research.",
        "Copyright (c) 2024 Acme, licensed for evaluation only",
        "All rights reserved, commercial use prohibited.",
        "Copyright (c) 2024 Acme. Selling forbidden; companies excluded.",
        "Copyright (c) 2024 Acme. Royalties of ten percent.",
        "Copyright (c) 2024 Acme. " + "Whoever reads this owes us one percent. " * 6,
        "Copyright holders are not liable.",
        "The copyright is Jane's.",
        "Jane Doe, 2024",
    ],
)
def test_a_line_that_says_more_counts(line: str) -> None:
    assert fingerprint(f"{line}\n{TERMS}") != KNOWN
    assert not carries(TERMS.replace("\n2.", f"\n{line}\n2."), [KNOWN])


def test_a_text_is_found_within_another() -> None:
    around = f"Foreword of the vendor.\n\n{TERMS}\nAfterword.\n"
    words = words_of(around)
    place = find(words, KNOWN)
    assert place == Place(first=4, end=4 + KNOWN.words)
    assert words[place.first].line == 3
    assert excerpt(around, KNOWN) == TERMS.rstrip("\n")
    assert not carries("Foreword.", [KNOWN])
    assert not carries("", [KNOWN])
    assert not carries(TERMS, [])


def test_an_excerpt_keeps_every_sign_of_its_lines() -> None:
    around = f"Before\n** {TERMS.strip()} **\nafter"
    assert excerpt(around, KNOWN) == f"** {TERMS.strip()} **"
    assert excerpt(TERMS, KNOWN) == TERMS.rstrip("\n")


def test_the_second_of_two_beginnings_is_found() -> None:
    begun = "Sample Terms 1. You may share the blame. "
    assert carries(begun + TERMS, [KNOWN])
    assert not carries(begun, [KNOWN])


def test_a_text_of_one_word_is_found_by_it() -> None:
    one = fingerprint("Terms")
    assert find(words_of("No terms here"), one) == Place(1, 2)
    assert find(words_of("No term here"), one) is None


def test_a_fingerprint_that_lies_is_not_believed() -> None:
    for lie in (
        Fingerprint(KNOWN.begins, KNOWN.words, "0" * 64),
        Fingerprint(KNOWN.begins, KNOWN.words + 1, KNOWN.sha256),
        Fingerprint("other words than these", KNOWN.words, KNOWN.sha256),
    ):
        assert not carries(TERMS, [lie])


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        "word " * 1_000_000,
        (KNOWN.begins + " ") * 200_000,
        APACHE * 450,
        "Copyright (c) " * 350_000,
        "copyright " + "(" * 5_000_000,
        "_" * 5_000_000,
        "\u2460" * 1_500_000,
        "\n" * 2_000_000,
        "a" * 5_000_000,
    ],
    ids=[
        "one word", "beginnings", "licenses", "copyright lines", "brackets", "underscores",
        "circled numbers", "line ends", "one long word",
    ],
)  # fmt: skip
def test_five_hostile_megabytes_come_to_an_end(hostile: str) -> None:
    assert not carries(hostile, [KNOWN])


def test_beginnings_of_a_long_text_repeated_do_not_multiply_the_work() -> None:
    # Each beginning could ask for a digest of all that follows.
    long = fingerprint((KNOWN.begins + " ") * 5_000 + "end")
    assert not carries((KNOWN.begins + " ") * 20_000, [long])


def test_normalized_joins_lines_and_composes_letters() -> None:
    assert normalized(" Built\r\n\twith \u00a0Llama\n") == "Built with Llama"
    assert normalized("Cafe\u0301") == "Caf\u00e9"
    assert normalized("Llama") != normalized("LLAMA")
    assert normalized("") == ""


def test_the_anchor_is_as_long_as_the_facts_say() -> None:
    assert len(KNOWN.begins.split()) == texts._ANCHOR
