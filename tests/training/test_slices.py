"""Figures of parts of the test split, and of texts with small mistakes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.cli.stages import show
from release_kit.datasets.records import Record
from release_kit.documents.measures import robustness, slices
from release_kit.errors import UnusableInput
from release_kit.receipts import Receipt
from release_kit.stages import StageResult
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.figures import each
from release_kit.training.slices import CHANGES, robustness_of, slices_of
from release_kit.training.splits import Example
from release_kit.training.tasks import TASKS, settled
from tests.training.conftest import PLAN, Run

TASK = replace(
    TASKS["text-classification"],
    # Column 0 counts what is right, column 1 what was asked.
    figures=lambda sums: {"accuracy": sums[..., 0] / sums[..., 1]},
)
NASTY = "<b>|`x`\x1b[31m"


def counted(values: list[Any], right: list[int], **plan: Any) -> Any:
    """Return the slices of examples of which `right` are answered; the baseline is never."""
    records = [
        Record({"text": "t", "channel": value}, "data/d.jsonl", number)
        for number, value in enumerate(values, 1)
    ]
    test = [Example("t", ("a",), record.source, record.index) for record in records]
    ours = each(np.stack([right, np.ones(len(right))], axis=1).astype(float))
    none = each(np.stack([np.zeros(len(right)), np.ones(len(right))], axis=1))
    _, settled_plan = settled(replace(PLAN, **{"slices": ("channel",), **plan}))
    return slices_of(TASK, settled_plan, records, test, measured=ours, baseline=none)


def test_each_value_has_its_figures_and_small_ones_stand_together() -> None:
    values = ["web"] * 12 + [3] * 10 + ["3"] * 5 + ["rare"] * 9 + [None] * 2
    right = [1] * 9 + [0] * 3 + [1] * 15 + [0] * 8 + [1] * 3
    found = counted(values, right)
    got = [(s.field, s.value, s.examples, s.figures["accuracy"].value) for s in found]
    assert got == [
        ("channel", "3", 15, 1.0),
        ("channel", "web", 12, 0.75),
        ("channel", None, 11, pytest.approx(3 / 11)),
    ]
    web = found[1].figures["accuracy"]
    assert (web.baseline, web.interval == web.gain) == (0, True)
    assert web.interval.low < 0.75 < web.interval.high
    assert counted(["", None] * 5 + [True] * 10, [1] * 20)[0].value == ""


def test_a_figure_that_a_slice_does_not_define_is_left_out() -> None:
    task = replace(
        TASK,
        figures=lambda sums: {
            "accuracy": sums[..., 0] / sums[..., 1],
            "perplexity": sums[..., 1] / sums[..., 0],
        },
    )
    records = [Record({"text": "t", "of": n // 10}, "data/d.jsonl", n) for n in range(20)]
    test = [Example("t", ("a",), record.source, record.index) for record in records]
    ours = each(np.array([[float(n >= 10), 1.0] for n in range(20)]))
    one = each(np.ones((20, 2)))
    plan = replace(PLAN, slices=("of",))
    none, all_ = slices_of(task, plan, records, test, measured=ours, baseline=one)
    assert list(none.figures) == ["accuracy"]
    assert set(all_.figures) == {"accuracy", "perplexity"}


@pytest.mark.parametrize(
    ("values", "plan", "said"),
    [
        (["a", ["SECRET"]], {}, "1 test records cannot be put into a slice"),
        (["a", 1.5], {}, "1 test records"),
        (["a", "a"], {"slices": ("chanel",)}, "no test record has a field 'chanel'"),
        (["a", "a"], {"slices": ("label",)}, "redaction leaves 'label' alone"),
        (["a", "a"], {"slices": ("channel",), "fields": {"label": "channel"}}, "leaves 'channel'"),
    ],
)
def test_a_field_that_makes_no_slices_is_told(
    values: list[Any], plan: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnusableInput) as caught:
        counted(values, [1, 1], **plan)
    assert said in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert [problem.line for problem in caught.value.problems] in ([], [2])


# Small changes.


def change(name: str, text: str, seed: int = 0) -> str:
    return CHANGES[name][1](text, random.Random(seed))


def test_changes_are_small_and_do_what_they_say() -> None:
    text = "A naïve café near Łódź, ёлка, が ガ हिन्दी tiếng Việt " + "something familiar " * 60
    typos = change("typos", text)
    words, mistyped = text.split(), typos.split()
    different = [(a, b) for a, b in zip(words, mistyped, strict=True) if a != b]
    assert 4 <= len(different) <= 25
    assert all(Counter(a) == Counter(b) and a[0] == b[0] for a, b in different)
    assert change("case", text) == text.upper()
    spaced = change("spacing", text)
    assert spaced != text
    assert spaced.replace(" ", "") == text.replace(" ", "")
    assert 0 < spaced.count("  ") < 15
    bare = change("diacritics", text)
    assert bare.startswith("A naive cafe near Łodz, елка, が ガ हिन्दी tieng Viet something")
    assert change("diacritics", "e\u0301") == "e"
    assert change("diacritics", "が\u0301".encode().decode()) == "が\u0301"
    for name in CHANGES:
        assert change(name, "") == ""
        assert change(name, text, 1) == change(name, text, 1)


def test_what_no_change_touches_is_not_measured_again() -> None:
    def never(examples: Any) -> Any:
        raise AssertionError

    plan = replace(PLAN, robustness=("diacritics",))
    test = [Example("plain", ("a",), "d", 1)]
    (found,) = robustness_of(TASK, plan, test, each(np.ones((1, 2))), never)
    assert (found.changed, dict(found.figures)) == (0, {})
    assert len(robustness({"robustness": [asdict(found)]})) == 1


def test_the_fall_is_paired_with_the_unchanged_texts() -> None:
    test = [Example(f"word number {n}", ("a",), "d", n) for n in range(40)]
    before = each(np.array([[1.0, 1.0]] * 30 + [[0.0, 1.0]] * 10))

    def measure(examples: Any) -> Any:
        assert [one.text for one in examples] == [one.text.upper() for one in test]
        return each(np.array([[1.0, 1.0]] * 22 + [[0.0, 1.0]] * 18))

    (found,) = robustness_of(TASK, replace(PLAN, robustness=("case",)), test, before, measure)
    accuracy = found.figures["accuracy"]
    assert (found.changed, accuracy.value, accuracy.baseline) == (40, 22 / 40, 30 / 40)
    assert accuracy.gain is not None
    # Eight of forty, paired: unpaired it would reach above 0.
    assert -0.35 < accuracy.gain.low < -0.2 < accuracy.gain.high < -0.05


def test_a_task_that_reads_no_text_has_none_to_change() -> None:
    plan = replace(
        PLAN, task="sequential-recommendation", fields={}, robustness=("case",), options={}
    )
    with pytest.raises(UnusableInput, match="reads no text"):
        settled(plan)


# Through the evaluation.


@pytest.fixture(scope="module")
def evaluation(run: Run, records: list[Record]) -> Evaluation:
    plan = replace(PLAN, slices=("channel",), robustness=tuple(CHANGES))
    channels = [
        replace(r, fields={**r.fields, "channel": NASTY if r.index % 2 else "app"}) for r in records
    ]
    return evaluate_model(plan, run.model, channels)


def test_an_evaluation_holds_slices_and_changes(
    run: Run, evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run.evaluation.figures["accuracy"].value
    assert evaluation.figures == run.evaluation.figures
    parts = evaluation.slices
    assert sum(part.examples for part in parts) == evaluation.sizes.test
    weighed = sum(part.examples * part.figures["accuracy"].value for part in parts)
    assert weighed / evaluation.sizes.test == pytest.approx(whole)
    assert "calibration_error" not in parts[0].figures
    kinds = {kind.change: kind for kind in evaluation.robustness}
    # The tokenizer knows no capitals, and a swapped letter makes another word.
    same = kinds["case"].figures["accuracy"]
    assert same.gain is not None
    assert (same.value, same.baseline, same.gain.low, same.gain.high) == (whole, whole, 0, 0)
    assert kinds["typos"].figures["accuracy"].value < whole
    assert kinds["diacritics"].changed == 0
    show(
        StageResult(
            "evaluate", Path("out"), Receipt("evaluate", {}, {}, {}, {}, asdict(evaluation)), False
        )
    )
    printed = capsys.readouterr().out
    assert "By part of the held-out data" in printed
    assert "all in capitals" in printed
    assert "\x1b" not in printed
    shown = [(value, examples) for _, value, examples, _ in slices(asdict(evaluation))]
    assert {value for value, _ in shown} == {"app", repr(NASTY)}
    assert "\x1b" not in str(shown)
