"""What the policy asks of the figures: met, missed, not measured, worse than the last release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import release_kit
from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import quality
from release_kit.auditing.checks.check import Outcome
from release_kit.auditing.findings import Verdict
from release_kit.bundle import Bundle
from release_kit.errors import UnusableInput
from release_kit.history import Published, last_published, remember
from release_kit.licensing.policy import Policy, QualityGate, load_policy
from release_kit.receipts import Receipt
from release_kit.release import Release, read_release
from tests.bundles import own_policy, published_before, stamp, waiver
from tests.projects import RELEASE_YAML

TASK = "text-classification"
SPLIT = "5" * 64


@pytest.fixture(name="release")
def _release(tmp_path: Path) -> Release:
    (tmp_path / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    return read_release(tmp_path)


def figure(value: Any, low: float = 0.0, high: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "value": value,
        "interval": {"low": low, "high": high},
        "baseline": 0.5,
        "gain": {"low": low - 0.5, "high": high - 0.5},
        **more,
    }


def score(label: str, f1: float, support: int = 5) -> dict[str, Any]:
    return {"label": label, "precision": f1, "recall": f1, "f1": f1, "support": support}


def gate(figure: str = "macro_f1", of: str = "value", **said: Any) -> QualityGate:
    given = {
        **{"id": "g", "where": "test", "by": "value", "at_least": None, "at_most": None},
        **{"severity": "error", "because": "we promised it", "source": "the contract"},
        **said,
    }
    return QualityGate(tasks=(TASK,), figure=figure, of=of, **given)


LAST = Published(
    "acme/topics", "0.9.0", "", TASK, SPLIT, {"macro_f1": 0.8}, {"a": {"class_f1": 0.9}}
)


def found(
    release: Release, *gates: QualityGate, last: Published | None = None, **results: Any
) -> list[tuple[str, str, str]]:
    """Return rule, severity and gate of each finding."""
    outcome = quality.CHECK.run(candidate(release, gates, results, last))
    assert all(one.path == "release.yaml" and one.fix and one.cites for one in outcome.findings)
    return [(one.rule, one.severity, one.clause) for one in outcome.findings]


def candidate(
    release: Release,
    gates: tuple[QualityGate, ...],
    results: Mapping[str, Any],
    last: Published | None = None,
) -> Candidate:
    policy: Policy = replace(load_policy(), quality_gates=gates)
    receipts = {"evaluate": Receipt("evaluate", {}, {}, {}, {}, {"test_split": SPLIT, **results})}
    day = date(2026, 11, 23)
    return Candidate(Bundle({}, {}, {}), release, policy, receipts, True, day, last)


MISSED = [("quality-missed", "error", "g")]
UNMEASURED = [("quality-unmeasured", "error", "g")]


@pytest.mark.parametrize(
    ("asked", "measured", "expected"),
    [
        (gate(at_least=0.8), figure(0.8), []),
        (gate(at_least=0.8), figure(0.7999), MISSED),
        (gate("perplexity", at_most=20), figure(20), []),
        (gate("perplexity", at_most=20), figure(20.001), MISSED),
        (gate(by="interval", at_least=0.8), figure(0.9, 0.8), []),
        (gate(by="interval", at_least=0.8), figure(0.9, 0.79), MISSED),
        (gate("perplexity", by="interval", at_most=20), figure(18, 2, 20), []),
        (gate("perplexity", by="interval", at_most=20), figure(18, 2, 21), MISSED),
        (gate(of="gain", at_least=0.3), figure(0.8), []),
        (gate(of="gain", at_least=0.3), figure(0.79), MISSED),
        (gate(of="gain", by="interval", at_least=0.25), figure(0.9, 0.75), []),
        (gate(of="gain", by="interval", at_least=0.25), figure(0.9, 0.74), MISSED),
        (gate("perplexity", of="gain", at_most=-2), figure(3, baseline=5), []),
        (gate("perplexity", of="gain", at_most=-2), figure(3.1, baseline=5), MISSED),
        # What was not measured, or is no number, is never good enough.
        (gate(of="gain", at_least=-1), figure(0.9, baseline=None), UNMEASURED),
        (gate(of="gain", by="interval", at_least=-1), figure(0.9, gain=None), UNMEASURED),
        (gate(by="interval", at_least=0.1), figure(0.9, interval=None), UNMEASURED),
        (gate(at_least=0.1), figure(float("nan")), UNMEASURED),
        (gate("perplexity", at_most=9), figure(float("inf")), UNMEASURED),
        (gate(at_least=0.1), figure("0.9"), UNMEASURED),
        (gate(at_least=0.1), figure(True), UNMEASURED),
        (gate(at_least=0.1), None, UNMEASURED),
    ],
    ids=str,
)  # fmt: skip
def test_a_figure_is_met_missed_or_not_measured(
    release: Release, asked: QualityGate, measured: Any, expected: list[tuple[str, str, str]]
) -> None:
    assert found(release, asked, figures={asked.figure: measured}) == expected


def test_no_evaluation_meets_no_gate_and_other_tasks_have_their_own(release: Release) -> None:
    asked = gate(at_least=0.1)
    assert found(release, asked) == found(release, asked, figures={"accuracy": 1}) == UNMEASURED
    bare = replace(candidate(release, (asked,), {}), receipts={})
    assert [one.rule for one in quality.CHECK.run(bare).findings] == ["quality-unmeasured"]
    assert found(release, replace(asked, tasks=("masked-lm",))) == []
    for other in (
        replace(bare, in_project=False),
        replace(bare, release=None),
    ):
        assert quality.CHECK.run(other) == Outcome(())


def test_a_model_that_was_loaded_was_measured_by_nobody(release: Release) -> None:
    loaded = replace(release, training=None)
    hard, soft = gate(at_least=0.5), gate(at_least=0.8, id="soft", severity="note")

    def told(**said: Any) -> Outcome:
        bare = replace(candidate(loaded, (soft, hard), {}), receipts={})
        receipts = {"load": Receipt("load", {}, {}, {}, {}, said)} if said else {}
        return quality.CHECK.run(replace(bare, receipts=receipts))

    # Where nothing tells what it is for, it may be what the policy is strictest about.
    assert [(one.rule, one.clause) for one in told().findings] == [("quality-unmeasured", "g")]
    ours = told(architecture="BertForSequenceClassification", task=TASK).findings
    assert [(one.severity, one.clause) for one in ours] == [("note", "soft"), ("error", "g")]
    other = told(architecture="BertForMaskedLM", task="masked-lm")
    assert (other.findings, len(other.not_examined)) == ((), 1)


def test_each_class_is_held_to_it(release: Release) -> None:
    asked = gate("class_f1", at_least=0.5)
    assert found(release, asked, classes=[score("a", 0.5), score("b", 0.9)]) == []
    assert found(release, asked, classes=[score("a", 0.4), score("b", 0.3)]) == MISSED * 2
    # No test record has it, so its 0 measures nothing.
    assert found(release, asked, classes=[score("a", 0.0, 0), score("b", 0.9)]) == UNMEASURED
    assert found(release, asked, classes=[]) == UNMEASURED


def test_each_slice_and_each_small_change_is_held_to_it(release: Release) -> None:
    def parts(*values: float | None) -> list[dict[str, Any]]:
        figures = [{} if value is None else {"macro_f1": figure(value)} for value in values]
        return [
            {"field": "channel", "value": None, "change": "typos", "figures": each}
            for each in figures
        ]

    for where, key in (("each-slice", "slices"), ("each-change", "robustness")):
        asked = gate(where=where, of="gain", at_least=-0.1)
        told = {"figures": {"macro_f1": figure(0.0)}}
        assert found(release, asked, **told, **{key: parts(0.4, 0.9)}) == []
        assert found(release, asked, **told, **{key: parts(0.3, 0.9)}) == MISSED
        assert found(release, asked, **told, **{key: parts(0.9, None)}) == UNMEASURED
        assert found(release, asked, **told, **{key: []}) == UNMEASURED
        assert found(release, asked, **told) == UNMEASURED


def test_it_is_not_worse_than_the_last_release(release: Release) -> None:
    asked = gate(of="change", at_least=-0.02)
    macro, other = {"macro_f1": figure(0.78)}, [("quality-not-comparable", "error", "g")]
    assert found(release, asked, figures=macro, last=LAST) == []
    assert found(release, asked, figures={"macro_f1": figure(0.77)}, last=LAST) == MISSED
    for last in (
        replace(LAST, test_split="6" * 64),
        replace(LAST, test_split=""),
        replace(LAST, task="image-classification"),
    ):
        assert found(release, asked, figures=macro, last=last) == other
    assert found(release, asked, figures=macro, last=LAST, test_split="") == other
    assert found(release, asked, figures=macro, last=replace(LAST, figures={})) == UNMEASURED
    classes = gate("class_f1", of="change", at_least=-0.1)
    assert found(release, classes, classes=[score("a", 0.81)], last=LAST) == []
    assert found(release, classes, classes=[score("a", 0.79)], last=LAST) == MISSED
    assert found(release, classes, classes=[score("b", 0.79)], last=LAST) == UNMEASURED
    # The first release is worse than none, and the report says that nobody compared it.
    first = quality.CHECK.run(candidate(release, (asked, classes), {"figures": macro}))
    assert first.findings == ()
    assert ["no earlier release" in one.because for one in first.not_examined] == [True]


def test_of_several_gates_for_one_thing_the_strictest_is_told(release: Release) -> None:
    hard, soft = gate(at_least=0.5), gate(at_least=0.8, id="soft", severity="note")
    both = (soft, hard)
    assert found(release, *both, figures={"macro_f1": figure(0.4)}) == MISSED
    assert found(release, *both, figures={"macro_f1": figure(0.6)}) == [
        ("quality-missed", "note", "soft")
    ]
    # Another class is another thing.
    classes = [replace(one, figure="class_f1") for one in both]
    assert found(release, *classes, classes=[score("a", 0.1), score("b", 0.6)]) == [
        *MISSED,
        ("quality-missed", "note", "soft"),
    ]


def test_a_waiver_may_answer_for_it_and_an_unused_one_is_told(project: Path) -> None:
    own_policy(project)
    published_before(project, macro_f1=1.5)
    rule = "quality-missed/classes-not-worse-than-last"
    waiver(project, rule, path="release.yaml")
    stamp(project)
    report = release_kit.audit(project)
    assert (report.findings, [one.finding.rule for one in report.waived]) == (
        (),
        ["quality-missed"],
    )
    (project / "out/history.json").unlink()
    assert [one.rule for one in release_kit.audit(project).findings] == ["waiver-unused"]


def test_a_damaged_history_stops_the_audit(project: Path) -> None:
    published_before(project)
    assert release_kit.audit(project).verdict is Verdict.PASS
    path = project / "out/history.json"
    other = path.read_text("utf-8").replace('"macro_f1": 0.0', '"macro_f1": "x"')
    for text in (
        "{",
        "[]",
        '{"history": 2, "releases": []}',
        '{"history": 1, "releases": [{}]}',
        other,
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UnusableInput, match="what was published from here"):
            release_kit.audit(project)


def test_the_history_keeps_the_order_of_releases(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    assert last_published(path, "acme/topics", "1.0.0") is None
    for version in ("1.0.0", "1.1.0", "1.0.1"):
        remember(path, replace(LAST, version=version))
    remember(path, replace(LAST, repo_id="acme/others", version="9"))
    remember(path, replace(LAST, version="1.1.0", figures={"macro_f1": 0.1}))
    last = last_published(path, "acme/topics", "1.0.2")
    assert last == replace(LAST, version="1.0.1")
    again = last_published(path, "acme/topics", "1.0.1")
    assert again == replace(LAST, version="1.1.0", figures={"macro_f1": 0.1})
