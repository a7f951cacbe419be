"""The datasheet: right numbers, values that stay text, and gaps where nobody knows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import release_kit
from release_kit.documents.datasheet import DATASHEET, DATASHEET_PAGE, write_datasheet
from release_kit.receipts import Receipt
from release_kit.release import Release
from tests.bundles import bundle, seal, stamp
from tests.documents.facts import judged, receipts, release
from tests.documents.markdown import HOSTILE, shown, structure, tokens

DATA = "acme/topic-notes"


def _written(subject: Release, folder: Path, of: dict[str, Receipt]) -> tuple[str, str]:
    write_datasheet(judged(subject), of, folder)
    return (
        (folder / DATASHEET).read_text(encoding="utf-8"),
        (folder / DATASHEET_PAGE).read_text(encoding="utf-8"),
    )


def _with(subject: Release, **more: Any) -> dict[str, Receipt]:
    left = receipts(subject)
    results = {DATA: {**left["redact"].results[DATA], **more}}
    return {**left, "redact": replace(left["redact"], results=results)}


class _Page(HTMLParser):
    """Remembers elements, their attributes, and the words of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []


def _cells(markdown: str) -> list[list[str]]:
    rows = [line[1:-1].split("|") for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def test_it_tells_what_was_declared_and_counted(tmp_path: Path) -> None:
    subject = release(tmp_path)
    counts = {"by_entity": {"PERSON": 4}, "remaining": {"EMAIL_ADDRESS": 1}, "kept": {"PERSON": 2}}
    markdown, page = _written(subject, tmp_path, _with(subject, **counts))
    words = " ".join(_Page(page).words)
    for said in (
        "https://example.org/topic-notes",
        "cc-by-4.0",
        "removed",
        "legitimate-interests",
        "2026-01 to 2026-03",
        "removal-requests",
        "Of 33 held-out records, 1 stand in the training data in the same words and 2 more",
    ):
        assert said in markdown.replace("\\", ""), said
        assert said in words, said
    assert ["PERSON", "6", "2", "37.50", "12.50"] in _cells(markdown)
    assert ["EMAIL\\_ADDRESS", "0", "1", "0.00", "6.25"] in _cells(markdown)
    assert "PERSON 6 2 37.50 12.50" in words


def test_the_longest_bar_is_the_largest_count_and_none_found_has_no_bar(tmp_path: Path) -> None:
    subject = release(tmp_path)
    counts = {"by_entity": {"PERSON": 10_000, "EMAIL_ADDRESS": 1}, "remaining": {"PERSON": 5000}}
    _, page = _written(subject, tmp_path, _with(subject, **counts))
    drawing = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    bars = [(bar.get("class"), int(bar.get("width", ""))) for bar in drawing.iter("rect")]
    assert bars == [("before", 1), ("after", 0), ("before", 320), ("after", 160)]


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_becomes_markup(tmp_path: Path, value: str) -> None:
    def hostile(text: str) -> tuple[str, str]:
        subject = release(tmp_path)
        data = replace(
            subject.lineage[1],
            changes=text,
            collection=replace(subject.lineage[1].collection, consent=text),
        )
        subject = replace(
            subject,
            lineage=(subject.lineage[0], data),
            documents=replace(subject.documents, title=text),
        )
        files = {text: {"records": 3, "by_entity": {"PERSON": 1}}}
        return _written(subject, tmp_path, _with(subject, files=files))

    markdown, page = hostile(value)
    plain_markdown, plain_page = hostile("plain")
    assert structure(markdown) == structure(plain_markdown)
    assert _Page(page).elements == _Page(plain_page).elements


def test_hostile_words_are_shown_as_they_stand(tmp_path: Path) -> None:
    value = "<script>alert(1)</script> & \"x\" 'y'"
    subject = release(tmp_path)
    subject = replace(subject, documents=replace(subject.documents, title=value))
    markdown, page = _written(subject, tmp_path, receipts(subject))
    assert f"Datasheet of {value}" in _Page(page).words
    assert any(value in shown(token) for token in tokens(markdown) if token.type == "inline")


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    subject = release(tmp_path)
    _, page = _written(subject, tmp_path, receipts(subject))
    for tag, attributes in _Page(page).elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "a"}
        assert not {"src", "href", "style", "onload"} & set(attributes)
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_what_later_receipts_add_is_shown(tmp_path: Path) -> None:
    subject = release(tmp_path)
    files = {
        "b.jsonl": {"records": 60, "by_entity": {"PERSON": 3}, "remaining": {}},
        "a.jsonl": {"records": 100, "by_entity": {}, "remaining": {}},
    }
    more = {
        "languages": {"de": 1, "en": 3, "fr": 0},
        "files": files,
        "duplicates": {"of": 160, "exact": 7, "near": 9},
    }
    markdown, page = _written(subject, tmp_path, _with(subject, **more))
    words = " ".join(_Page(page).words)
    for text in (markdown, words):
        assert "en 75.0 %, de 25.0 %" in text
        assert "7 with the same words, 9 nearly so, of 160" in text
        assert "fr" not in text.split()
    rows = _cells(markdown)
    assert rows.index(["`a.jsonl`", "100", "none", "0", "0"]) < rows.index(
        ["`b.jsonl`", "60", "PERSON", "3", "0"]
    )
    assert "b.jsonl 60 PERSON 3 0" in words


def test_what_nobody_knows_is_left_out(tmp_path: Path) -> None:
    subject = release(tmp_path)
    data = replace(subject.lineage[1], collection=type(subject.lineage[1].collection)())
    subject = replace(subject, lineage=(subject.lineage[0], data))
    bare = Receipt("redact", {}, {}, {}, {}, {DATA: {"by_entity": {"PERSON": 2}}})
    for of in ({}, {"redact": bare}, {"redact": replace(bare, results={})}):
        markdown, page = _written(subject, tmp_path, of)
        words = " ".join(_Page(page).words)
        for text in (markdown, words):
            assert text.count("not stated") == 5
            assert "held-out" not in text
            assert "Records" not in text
            assert ("nobody counted" in text) is not bool(of and of["redact"].results)
    markdown, _ = _written(subject, tmp_path, {"redact": bare})
    assert ["PERSON", "2", "0", "", ""] in _cells(markdown)


def test_without_training_data_there_is_no_datasheet(tmp_path: Path) -> None:
    subject = release(tmp_path)
    subject = replace(subject, lineage=subject.lineage[:1])
    write_datasheet(judged(subject), {}, tmp_path)
    assert not (tmp_path / DATASHEET).exists()
    assert not (tmp_path / DATASHEET_PAGE).exists()


def test_a_bundle_with_it_passes_the_audit_and_every_word_of_it_is_searched(project: Path) -> None:
    from release_kit.project import open_project
    from release_kit.stages import kept_receipts

    place = open_project(project)
    write_datasheet(judged(place.release), kept_receipts(place), bundle(project))
    seal(project)
    stamp(project)
    report = release_kit.audit(project)
    assert report.findings == ()
    assert not {DATASHEET, DATASHEET_PAGE} & {item.path for item in report.not_examined}
    assert "<td>EMAIL_ADDRESS</td>" in (bundle(project) / DATASHEET_PAGE).read_text("utf-8")
