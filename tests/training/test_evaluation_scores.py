"""What a model's answers score, by cases that can be counted by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.progress import SILENT
from release_kit.training import figures as module
from release_kit.training.classes import calibration_error, figures
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.figures import Figure, Interval, Measured, figures_of
from release_kit.training.models import Loaded
from release_kit.training.splits import split
from release_kit.training.tasks import TASKS, text_classification
from release_kit.training.tasks.task import Example
from release_kit.training.tasks.text_classification import encode, load, predict, read_examples
from tests.training.conftest import PLAN, Run

LABELS = ("a", "b", "c")
RECORDS = [
    Record({"text": f"note {n}", "label": "aaabbc"[n % 6]}, "data/train.jsonl", n)
    for n in range(1, 121)
]
Answer = Callable[[Sequence[Example]], NDArray[np.float32]]


def certain(labels: Sequence[str]) -> NDArray[np.float32]:
    """Return probability 1 for each of the labels."""
    return np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(label) for label in labels]]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evaluation]:
    """Return the evaluation of a model that answers what the test says."""

    def evaluated(
        answer: Answer, records: Sequence[Record] = RECORDS, seed: int = PLAN.seed
    ) -> Evaluation:
        task = replace(
            TASKS["text-classification"],
            load=lambda plan, folder, labels: Loaded(None, None, LABELS, ()),
        )
        monkeypatch.setitem(TASKS, "text-classification", task)
        monkeypatch.setattr(
            text_classification,
            "predict",
            lambda loaded, examples, plan, watcher: answer(examples),
        )
        return evaluate_model(replace(PLAN, seed=seed), Path("model"), records)

    return evaluated


def value(scores: Evaluation, name: str = "accuracy") -> float:
    """Return one figure."""
    return scores.figures[name].value


def values(scores: Evaluation, *names: str) -> list[float]:
    """Return several figures."""
    return [value(scores, name) for name in names]


# The probabilities of a real model.


def test_probabilities_are_the_softmax_of_each_text_alone(run: Run, records: list[Record]) -> None:
    import torch

    examples = split(read_examples(PLAN, records), PLAN).test
    loaded = load(PLAN, run.model, None)
    found = predict(loaded, examples, PLAN, SILENT)
    assert (found.shape, found.dtype) == ((len(examples), 3), np.float32)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-6)
    for row, inputs in enumerate(encode(loaded, examples, PLAN)):
        alone = {k: torch.tensor([v]) for k, v in inputs.items() if k != "labels"}
        with torch.inference_mode():
            logits = loaded.model(**alone).logits[0].double().numpy()
        weights = np.exp(logits - logits.max())
        assert found[row] == pytest.approx(weights / weights.sum(), abs=1e-5)
    true = np.array([loaded.labels.index(example.labels[0]) for example in examples])
    scores = run.evaluation.figures
    assert scores["accuracy"].value == pytest.approx((found.argmax(axis=1) == true).mean())
    assert scores["calibration_error"].value == pytest.approx(calibration_error(true, found))


def test_intervals_of_a_real_model_hold_its_figures(run: Run) -> None:
    scores = run.evaluation
    for name, one in scores.figures.items():
        if name == "calibration_error":
            assert (one.interval, one.gain, one.baseline) == (None, None, None)
            continue
        assert one.interval
        assert one.gain
        assert one.baseline is not None
        assert one.interval.low < one.value < one.interval.high
        assert one.gain.low < one.value - one.baseline < one.gain.high
    gain = scores.figures["accuracy"].gain
    assert gain
    assert gain.low > 0
    assert (scores.level, scores.resamples, scores.seed) == (0.95, 2000, PLAN.seed)


# Micro scores.


def test_micro_scores_count_all_answers_together(scored: Callable[..., Evaluation]) -> None:
    """Answering c for every b: those of a and c are right, and no macro score says as much."""

    def answer(examples: Sequence[Example]) -> NDArray[np.float32]:
        return certain([e.labels[0].replace("b", "c") for e in examples])

    scores = scored(answer)
    a, b, c = (one.support for one in scores.classes)
    share = (a + c) / (a + b + c)
    assert b > 0
    assert values(scores, "micro_precision", "micro_recall", "micro_f1") == [value(scores)] * 3
    assert value(scores) == pytest.approx(share)
    assert value(scores, "macro_f1") == pytest.approx((1 + 0 + 2 * c / (2 * c + b)) / 3)


def test_an_answer_of_a_class_without_an_example_counts_as_wrong(
    scored: Callable[..., Evaluation],
) -> None:
    known = [record for record in RECORDS if record.fields["label"] != "c"]
    scores = scored(lambda examples: certain(["c"] * len(examples)), known)
    assert values(scores, "micro_precision", "micro_recall", "micro_f1") == [0, 0, 0]
    assert scores.figures["accuracy"].interval == Interval(0, 0)


# Calibration.


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        # One bin: 1 of 2 right, at 0.75 on average.
        ([(0.75, True), (0.75, False)], 0.25),
        # Gaps of one bin cancel, (0.75 + 0.77 - 1) / 2 ...
        ([(0.75, True), (0.77, False)], 0.26),
        # ... those of two bins do not: (0.25 + 0.875) / 2.
        ([(0.75, True), (0.875, False)], 0.5625),
        # Fewer and wider bins would have them in one.
        ([(0.64, True), (0.69, False)], (0.36 + 0.69) / 2),
        # Three answers in (0.6, 0.667] of which two are right, and one in (0.933, 1].
        ([(0.64, True), (0.64, True), (0.64, False), (1, True)], (2 - 3 * 0.64) / 4),
        # Just above an edge and just below are two bins: 0.8 = 12 / 15.
        ([(0.7999, True), (0.8001, False)], (0.2001 + 0.8001) / 2),
        # A confidence on the edge belongs to the bin below: 0.6 and 0.59 share one.
        ([(0.599, True), (0.6, False)], 0.0995),
        ([(1, True), (1, True)], 0),
        ([(1, False)], 1),
        ([(0.5, True)], 0.5),
    ],
)
def test_calibration_error_by_hand(answers: list[tuple[float, bool]], error: float) -> None:
    # In float64, so that 0.6 is no other number than the edge.
    confidence = np.array([[share, 1 - share] for share, _ in answers])
    true = np.array([0 if right else 1 for _, right in answers])
    assert calibration_error(true, confidence) == pytest.approx(error, abs=1e-12)  # type: ignore[arg-type]


def test_calibrated_answers_have_a_small_error_and_boastful_ones_a_great_one() -> None:
    draw = np.random.default_rng(5)
    confidence = draw.uniform(0.5, 1, 50_000)
    true = (draw.random(50_000) > confidence).astype(np.int64)
    honest = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    boastful = np.tile(np.array([1, 0], np.float32), (50_000, 1))
    assert calibration_error(true, honest) < 0.01
    assert calibration_error(true, boastful) == pytest.approx(0.25, abs=0.01)


# Intervals.

CONFUSION = ((30, 4, 0), (6, 20, 3), (1, 0, 2))


def spans_of(
    confusion: Sequence[Sequence[int]] | NDArray[np.int64], seed: int
) -> dict[str, Figure]:
    """Return the figures of so many answers, against answering always class 0."""
    matrix = np.asarray(confusion)
    classes = len(matrix)
    cells = np.indices(matrix.shape).reshape(2, -1).T
    which = np.repeat(np.arange(classes**2), matrix.ravel())

    def counted(given: NDArray[np.int64]) -> Measured:
        one = np.eye(classes)
        hit = one[cells[:, 0]] * (cells[:, 0] == given)[:, None]
        return Measured(np.hstack([hit, one[cells[:, 0]], one[given]]), which)

    model, base = counted(cells[:, 1]), counted(np.zeros_like(cells[:, 1]))
    return figures_of(model, base, figures, seed)


def bounds(figure: Figure) -> tuple[Interval, Interval]:
    """Return its interval and that of its gain, which are there."""
    assert figure.interval
    assert figure.gain
    return figure.interval, figure.gain


def macro_f1(true: NDArray[np.int64], given: NDArray[np.int64]) -> float:
    """Return the mean of 2 * right / (has the label + was given it) over the labels there are."""
    return float(
        np.mean(
            [
                2
                * ((true == label) & (given == label)).sum()
                / ((true == label).sum() + (given == label).sum())
                for label in np.unique(true)
            ]
        )
    )


def test_intervals_are_those_of_resampled_examples() -> None:
    """Scores of one resampled example after another are the same within their own noise."""
    cells = [(i, j) for i in range(3) for j in range(3) for _ in range(CONFUSION[i][j])]
    examples = np.array(cells)
    draw = np.random.default_rng(1)
    measured = []
    for _ in range(1500):
        true, given = examples[draw.integers(0, len(examples), len(examples))].T
        right, always = (true == given).mean(), (true == 0).mean()
        f1, base = macro_f1(true, given), macro_f1(true, np.zeros_like(true))
        measured.append((right, f1, right - always, f1 - base))
    expected = np.quantile(measured, (0.025, 0.975), axis=0)
    found = spans_of(CONFUSION, 3)
    (right, more), (f1, gain) = bounds(found["accuracy"]), bounds(found["macro_f1"])
    spans = (right, f1, more, gain)
    for number, span in enumerate(spans):
        assert (span.low, span.high) == pytest.approx(expected[:, number], abs=0.02)


def test_a_seed_gives_the_same_intervals_whatever_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = spans_of(CONFUSION, 3)
    monkeypatch.setattr(module, "_BLOCK", 50)
    assert spans_of(CONFUSION, 3) == first
    assert spans_of(CONFUSION, 2**40)["macro_f1"] != first["macro_f1"]


def test_intervals_hold_the_true_accuracy_and_gain_about_as_often_as_they_say() -> None:
    """On 400 test splits from one source: 0.85 right, against 0.6 for the baseline."""
    source = np.array([[0.54, 0.06], [0.09, 0.31]])
    splits = np.random.default_rng(7).multinomial(150, source.ravel(), 400).reshape(-1, 2, 2)
    spans = [spans_of(confusion, number) for number, confusion in enumerate(splits)]
    f1 = (2 * 0.54 / (0.6 + 0.63) + 2 * 0.31 / (0.4 + 0.37)) / 2
    base = 2 * 0.6 / 1.6 / 2
    for name, which, value in (
        ("accuracy", 0, 0.85),
        ("macro_f1", 0, f1),
        ("accuracy", 1, 0.85 - 0.6),
        ("macro_f1", 1, f1 - base),
    ):
        found = [bounds(one[name])[which] for one in spans]
        held = [span.low <= value <= span.high for span in found]
        assert 0.91 <= np.mean(held) <= 0.98, name


def test_ten_times_the_test_split_has_narrower_intervals() -> None:
    few, many = (
        bounds(spans_of(np.array(CONFUSION) * times, 3)["accuracy"])[0] for times in (1, 10)
    )
    ratio = (few.high - few.low) / (many.high - many.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)


def test_a_million_examples_of_many_classes() -> None:
    confusion = np.full((20, 20), 1_000) + np.eye(20, dtype=np.int64) * 31_000
    spans = spans_of(confusion, 3)
    right = 32_000 / 51_000
    for name in ("accuracy", "macro_f1"):
        span, _ = bounds(spans[name])
        assert span.low < right < span.high < right + 0.002


# Edges.


def test_perfect_answers(scored: Callable[..., Evaluation]) -> None:
    scores = scored(lambda examples: certain([e.labels[0] for e in examples]))
    assert values(scores, "accuracy", "micro_f1", "macro_f1") == [1, 1, 1]
    assert value(scores, "calibration_error") == 0
    right, f1 = scores.figures["accuracy"], scores.figures["macro_f1"]
    assert right.interval == f1.interval == Interval(1, 1)
    assert right.gain
    assert right.baseline
    assert 0 < right.gain.low < 1 - right.baseline < right.gain.high < 1


@pytest.mark.parametrize(("common", "seed"), [("a", 3), ("b", 4)])
def test_the_baseline_gains_nothing_on_itself(
    scored: Callable[..., Evaluation], common: str, seed: int
) -> None:
    swapped = {"a": common, "b": "b" if common == "a" else "a", "c": "c"}
    records = [
        replace(r, fields={**r.fields, "label": swapped[r.fields["label"]]}) for r in RECORDS
    ]
    scores = scored(lambda examples: certain([common] * len(examples)), records, seed)
    assert (scores.baseline, scores.seed) == (("always answers", common), seed)
    right, f1 = scores.figures["accuracy"], scores.figures["macro_f1"]
    assert right.value == right.baseline
    assert right.gain == Interval(0, 0)
    assert f1.gain == Interval(pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert right.interval
    assert right.interval.low < right.value < right.interval.high


def test_one_class_in_the_test_split(scored: Callable[..., Evaluation]) -> None:
    held_out = {e.record for e in split(read_examples(PLAN, RECORDS), PLAN).test}
    only_b = [r for r in RECORDS if r.index not in held_out or r.fields["label"] == "b"]

    def answer(examples: Sequence[Example]) -> NDArray[np.float32]:
        return certain(["c"] + ["b"] * (len(examples) - 1))

    scores = scored(answer, only_b)
    tests = scores.sizes.test
    assert [one.support for one in scores.classes] == [0, tests, 0]
    assert value(scores) == pytest.approx((tests - 1) / tests)
    assert values(scores, "micro_precision", "micro_recall", "micro_f1") == [value(scores)] * 3
    assert value(scores, "macro_f1") == pytest.approx(2 * (tests - 1) / (2 * tests - 1))
    assert scores.baseline == ("always answers", "a")
    right, f1 = scores.figures["accuracy"], scores.figures["macro_f1"]
    assert right.baseline == f1.baseline == 0
    # Without a right answer of the baseline, all is gained.
    assert (right.gain, f1.gain) == (right.interval, f1.interval)
    assert f1.interval
    assert f1.interval.low < f1.value < f1.interval.high == 1
    plain = asdict(scores)
    assert json.loads(json.dumps(plain, allow_nan=False))["figures"] == plain["figures"]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_answers_that_are_no_numbers_are_refused(
    scored: Callable[..., Evaluation], broken: float
) -> None:
    held_out = split(read_examples(PLAN, RECORDS), PLAN).test

    def answer(examples: Sequence[Example]) -> NDArray[np.float32]:
        found = certain([e.labels[0] for e in examples])
        found[[2, 5]] = broken
        return found

    with pytest.raises(UnusableInput, match=rf"^model: gives 2 of {len(held_out)} test") as caught:
        scored(answer)
    problems: Any = caught.value.problems
    assert [p.line for p in problems] == [held_out[2].record, held_out[5].record]
    assert {p.path for p in problems} == {"data/train.jsonl"}
    assert not any(held_out[2].text in p.message for p in problems)
    assert "learning_rate" in caught.value.hint
