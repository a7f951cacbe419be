"""The scores of the benchmark of personal data: a wrong one would be a wrong claim."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import personal_data
from benchmarks.span_scores import Found, Score, differences, scores, together


def _record(*spans: tuple[str, int, int], annotated: tuple[str, ...] = ("PERSON", "URL")) -> dict:
    labelled = [{"label": label, "start": start, "end": end} for label, start, end in spans]
    return {"spans": labelled, "annotated": annotated}


def test_overlap_counts_and_touching_does_not() -> None:
    record = _record(("PERSON", 0, 5), ("PERSON", 10, 15))
    hits = [Found("PERSON", 4, 6), Found("PERSON", 5, 10), Found("URL", 10, 15)]
    by_label = scores([record], [hits])
    assert by_label == {"PERSON": Score(1, 2, 1, 2), "URL": Score(0, 0, 0, 1)}
    total = together(by_label)
    assert (total.precision, total.recall) == (pytest.approx(1 / 3), 0.5)
    assert total.f(1) == pytest.approx(0.4)
    assert total.f(2) == pytest.approx(5 * (1 / 3) * 0.5 / (4 / 3 + 0.5))


def test_only_annotated_labels_count() -> None:
    record = _record(("PERSON", 0, 5), ("URL", 7, 9), annotated=("PERSON",))
    by_label = scores([record], [[Found("URL", 20, 22), Found("PHONE_NUMBER", 1, 2)]])
    assert by_label == {"PERSON": Score(0, 1, 0, 0)}
    assert together(by_label).f(2) == 0


def test_two_hits_on_one_span_and_one_hit_on_two() -> None:
    two_hits = [Found("PERSON", 0, 2), Found("PERSON", 3, 5)]
    assert scores([_record(("PERSON", 0, 5))], [two_hits])["PERSON"] == Score(1, 1, 2, 2)
    two_spans = _record(("PERSON", 0, 5), ("PERSON", 6, 9))
    assert scores([two_spans], [[Found("PERSON", 0, 9)]])["PERSON"] == Score(2, 2, 1, 1)


def test_a_town_within_an_address_is_neither_right_nor_wrong() -> None:
    record = _record(("ADDRESS", 0, 20), annotated=("ADDRESS", "LOCATION"))
    by_label = scores([record], [[Found("LOCATION", 10, 15), Found("LOCATION", 30, 35)]])
    assert by_label["LOCATION"] == Score(0, 0, 0, 1)
    assert by_label["ADDRESS"] == Score(0, 1, 0, 0)


def test_a_threshold_leaves_hits_out() -> None:
    hits = [Found("PERSON", 0, 5, 0.4), Found("PERSON", 7, 9, 0.5)]
    assert scores([_record(("PERSON", 0, 5))], [hits], 0.5)["PERSON"] == Score(0, 1, 0, 1)


def test_each_difference_has_its_reason() -> None:
    reference = [
        Found("PERSON", 0, 5),
        Found("PERSON", 10, 15),
        Found("PERSON", 20, 25),
        Found("URL", 30, 35),
        Found("URL", 40, 45),
    ]
    without_parser = [*reference[:1], *reference[2:], Found("PERSON", 50, 55)]
    ours = [
        Found("PERSON", 0, 5),
        Found("PERSON", 20, 24),
        Found("EMAIL_ADDRESS", 28, 35),
        Found("PERSON", 50, 55),
        Found("URL", 60, 65),
    ]
    same, reasons = differences([reference], [without_parser], [ours])
    assert same == 1
    assert reasons == Counter(
        {
            ("PERSON", "presidio alone: a sentence break of its parser"): 1,
            ("PERSON", "presidio alone: the same kind with other bounds"): 1,
            ("URL", "presidio alone: another kind won the place"): 1,
            ("URL", "presidio alone: nothing of ours there"): 1,
            ("PERSON", "ours alone: the same kind with other bounds"): 1,
            ("EMAIL_ADDRESS", "ours alone: another kind than presidio's"): 1,
            ("PERSON", "ours alone: no sentence break there"): 1,
            ("URL", "ours alone: nothing of presidio's there"): 1,
        }
    )


def test_results_are_put_under_their_heading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## one\n\nold\n\n## one more\n\nkept\n", encoding="utf-8")
    monkeypatch.setattr(personal_data, "RESULTS", results)
    personal_data.write("one", r"new \1")
    personal_data.write("last", "added")
    assert results.read_text(encoding="utf-8") == (
        "# Results\n\n## one\n\nnew \\1\n\n## one more\n\nkept\n\n## last\n\nadded\n"
    )


def test_repeated_texts_differ_and_end_in_time() -> None:
    texts = [
        record["text"]
        for record in personal_data.repeated([{"text": "call 12 34"}, {"text": "none"}], 2_000)
    ]
    assert len(set(texts)) == len(texts)
    assert texts[0].startswith("call 12 34")
    assert not texts[2].startswith("call 12 34")
    assert 2_000 <= sum(map(len, texts)) < 2_100


def test_absent_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert personal_data.main(["--data", str(tmp_path)]) == 2
    assert "presidio_synth_v2" in capsys.readouterr().err
