"""What the policy asks of the leaks: little enough, too much, or not known, for each reason."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import release_kit
from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import leaks
from release_kit.auditing.checks.check import Outcome
from release_kit.auditing.findings import Verdict
from release_kit.bundle import Bundle
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES, MEASURES_OF
from release_kit.licensing.policy import LeakGate, load_policy
from release_kit.memorization.probes import Reading
from release_kit.receipts import Receipt
from release_kit.release import Canaries, Release, read_release
from tests.bundles import leak, own_policy, stamp, waiver
from tests.projects import RELEASE_YAML

TASK = "causal-lm"
WEIGHTS = {"model": "7" * 64}


@pytest.fixture(name="release")
def _release(tmp_path: Path) -> Release:
    (tmp_path / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    release = read_release(tmp_path)
    assert release.training
    return replace(release, training=replace(release.training, task=TASK))


def reading(measure: str, value: Any, low: Any = None, high: Any = None, **more: Any) -> Any:
    """Return a reading as a receipt holds it."""
    ends = value if low is None else low, value if high is None else high
    return {**asdict(Reading(measure, value, *ends, 100)), **more}


def gate(measure: str = "membership_auc", by: str = "value", **said: Any) -> LeakGate:
    given = {
        **{"id": "g", "tasks": (TASK,), "at_most": 0.7, "up_to_repeats": None, "only_where": ""},
        **{"instead": "", "severity": "error", "unmeasured": "warning", "source": "the contract"},
        **{"because": "we promised it", "how_to_fix": "train less"},
        **said,
    }
    return LeakGate(measure=measure, by=by, **given)


def receipts(*readings: Any, **results: Any) -> dict[str, Receipt]:
    said = {"task": TASK, "readings": [*readings], "not_measured": {}, "complete": True, **results}
    return {
        "train": Receipt("train", {}, {}, {}, WEIGHTS, {}),
        "leaks": Receipt("leaks", {**WEIGHTS, "base": ""}, {}, {}, {}, said),
    }


def audited(release: Release, gates: Any, kept: dict[str, Receipt]) -> Outcome:
    policy = replace(load_policy(), leak_gates=tuple(gates))
    day = date(2026, 11, 23)
    outcome = leaks.CHECK.run(Candidate(Bundle({}, {}, {}), release, policy, kept, True, day))
    assert all(one.path == "release.yaml" and one.fix and one.cites for one in outcome.findings)
    return outcome


def found(release: Release, *gates: LeakGate, **kept: Any) -> list[tuple[str, str, str]]:
    """Return rule, severity and clause of each finding, of what `receipts` makes of `kept`."""
    readings = kept.pop("readings", [])
    outcome = audited(release, gates, receipts(*readings, **kept))
    return [(one.rule, one.severity, one.clause) for one in outcome.findings]


SHOWN = [("leaks-shown", "error", "g")]
UNMEASURED = [("leaks-unmeasured", "warning", "g")]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("asked", "measured", "expected"),
    [
        (gate(), reading("membership_auc", 0.7), []),
        (gate(), reading("membership_auc", 0.7001), SHOWN),
        (gate(by="low"), reading("membership_auc", 0.8, 0.7, 0.9), []),
        (gate(by="low"), reading("membership_auc", 0.8, 0.71, 0.9), SHOWN),
        (gate(by="high"), reading("membership_auc", 0.6, 0.5, 0.7), []),
        (gate(by="high"), reading("membership_auc", 0.6, 0.5, 0.71), SHOWN),
        # Noise of binary numbers is no leak.
        (gate("extraction_rate", "low", at_most=0), reading("extraction_rate", 0, 1e-17, 0), []),
        # What was not measured, or cannot be, is never little enough.
        (gate(), None, UNMEASURED),
        (gate(), reading("membership_tpr_1", 0.0), UNMEASURED),
        (gate(), reading("membership_auc", NAN), UNMEASURED),
        (gate(), reading("membership_auc", None), UNMEASURED),
        (gate(), reading("membership_auc", "0.1"), UNMEASURED),
        (gate(), reading("membership_auc", False), UNMEASURED),
        (gate(), reading("membership_auc", -0.5), UNMEASURED),
        (gate(by="low"), reading("membership_auc", 0.9, -INF, INF), UNMEASURED),
        (gate(by="low"), reading("membership_auc", 0.9, NAN, 1.0), UNMEASURED),
        (gate(by="low"), {"measure": "membership_auc", "value": 0.9}, UNMEASURED),
        (gate(), reading("membership_auc", 0.1, means_nothing="too few"), UNMEASURED),
        (gate(), reading("membership_auc", 0.9, means_nothing="too few"), UNMEASURED),
    ],
    ids=str,
)  # fmt: skip
def test_a_leak_is_little_enough_shown_or_not_known(
    release: Release, asked: LeakGate, measured: Any, expected: list[tuple[str, str, str]]
) -> None:
    assert found(release, asked, readings=[measured] if measured else []) == expected


def test_what_is_told_says_how_much_and_why(release: Release) -> None:
    how = {"how": "ratio to the base model"}
    kept = receipts(reading("membership_auc", 0.84, 0.79, 0.89, **how))
    (one,) = audited(release, [gate(by="low")], kept).findings
    assert one.message == (
        "AUC of membership inference: 0.84 (0.79 to 0.89 with 95 % confidence), of 100 (ratio to"
        " the base model); the policy asks for a lower end of at most 0.7"
    )
    assert (one.fix, one.cites) == (
        "train less",
        ("policy: we promised it", "the number: the contract"),
    )
    canary = receipts(reading("canary_exposure", 9.5, 8.0, 11.0, repeats=1))
    (one,) = audited(release, [gate("canary_exposure", "low", at_most=3)], canary).findings
    assert "9.5 bits (8 to 11 with 95 % confidence), of 100, planted 1 time each" in one.message
    readings = [reading("membership_auc", 0.5, means_nothing="a text alone tells them")]
    (one,) = audited(release, [gate()], receipts(*readings)).findings
    assert one.message == ("not measured: AUC of membership inference (a text alone tells them)")


def test_only_what_can_be_relied_on_counts_and_a_contradiction_is_told(release: Release) -> None:
    few = reading("membership_auc", 0.9, means_nothing="too few")
    assert found(release, gate(), readings=[few, reading("membership_auc", 0.6)]) == []
    assert found(release, gate(), readings=[few, reading("membership_auc", NAN)]) == UNMEASURED
    both = {"readings": [reading("membership_auc", 0.9)], "not_measured": {"membership_auc": ""}}
    assert found(release, gate(), **both) == SHOWN + UNMEASURED


def test_no_receipt_a_foreign_one_and_a_damaged_one_are_told(release: Release) -> None:
    fine = reading("membership_auc", 0.5)
    whole = receipts(fine)
    assert audited(release, [gate()], whole).findings == ()
    train, kept = whole["train"], whole["leaks"]
    for broken in (
        {},
        {"train": train},
        {"leaks": kept},
        {"train": train, "leaks": replace(kept, inputs={"model": "8" * 64})},
        {"train": replace(train, outputs={}), "leaks": kept},
        receipts(fine, task="masked-lm"),
        receipts(fine, readings={}),
        receipts(fine, readings=[[]]),
        receipts(fine, readings=None),
        receipts(fine, not_measured=None),
        {"train": train, "leaks": replace(kept, results={})},
    ):
        outcome = audited(release, [gate(), gate("extraction_rate", id="h")], broken)
        # One finding, however much is missing.
        (one,) = outcome.findings
        assert (one.rule, one.clause) == ("leaks-unmeasured", "h+g")
    candidate = Candidate(Bundle({}, {}, {}), release, load_policy(), {}, True)
    for other in (replace(candidate, in_project=False), replace(candidate, release=None)):
        assert leaks.CHECK.run(other) == Outcome(())
    assert found(release, gate(tasks=("masked-lm",))) == []


def test_what_is_not_known_is_told_once_for_each_reason(release: Release) -> None:
    why = {"membership_auc": "no time", "extraction_rate": "no time", "stray_files": "unreadable"}
    asked = (
        gate(id="soft", at_most=0.5, because="we hoped so"),
        gate(id="hard", unmeasured="error"),
        gate("extraction_rate", id="other", severity="note"),
        gate("stray_files", tasks=("any",), id="files"),
    )
    outcome = audited(release, asked, receipts(not_measured=why))
    # The note of a gate is about what is shown; what is not known is never a note.
    assert [(one.severity, one.clause) for one in outcome.findings] == [
        ("error", "other+hard"),
        ("warning", "files"),
    ]
    first = outcome.findings[0]
    assert "training records that can be completed, less control; AUC" in first.message
    assert first.message.endswith("(no time)")


def test_canaries_are_gated_by_how_often_they_stand_there(release: Release) -> None:
    once = gate("canary_exposure", at_most=3, up_to_repeats=1, id="once")
    often = gate("canary_exposure", at_most=6, id="often", severity="warning")

    def canary(value: float, repeats: Any) -> Any:
        return reading("canary_exposure", value, repeats=repeats)

    quiet = [canary(2, 1), canary(5, 4)]
    assert found(release, once, often, readings=quiet) == []
    # The control group was never planted, and what it shows is chance.
    assert found(release, once, often, readings=[*quiet, canary(19, 0)]) == []
    assert found(release, once, often, readings=[canary(3.1, 1), canary(6.1, 4)]) == [
        ("leaks-shown", "error", "once"),
        ("leaks-shown", "warning", "often"),
    ]
    # Of two gates for one group the strictest is told.
    assert found(release, often, once, readings=[canary(9, 1)]) == [
        ("leaks-shown", "error", "once")
    ]
    unknown = [("leaks-unmeasured", "warning", "once")]
    assert found(release, once, readings=[canary(2, 0), canary(2, 4)]) == unknown
    # Who does not say how often, may mean once.
    assert found(release, once, readings=[canary(9, None)]) == [("leaks-shown", "error", "once")]


def test_of_several_attacks_the_worst_and_of_several_gates_the_strictest_is_told(
    release: Release,
) -> None:
    hard, soft = gate(at_most=0.9), gate(id="soft", severity="note")
    attacks = [reading("membership_auc", value, how=f"attack {value}") for value in (0.8, 0.95)]
    assert found(release, soft, hard, readings=attacks) == SHOWN
    assert found(release, soft, hard, readings=attacks[:1]) == [("leaks-shown", "note", "soft")]
    (one,) = audited(release, [soft], receipts(*attacks)).findings
    assert "attack 0.95" in one.message


def test_a_gate_about_what_is_not_there_is_silent_and_the_report_says_so(
    release: Release,
) -> None:
    canary = gate("canary_exposure", only_where="canaries-planted")
    value = gate("redacted_recovery_rate", only_where="values-redacted")
    assert release.training
    planted = replace(release, training=replace(release.training, canaries=Canaries()))

    def seen(counts: Any, of: Release = release) -> tuple[list[str], list[str]]:
        kept = receipts()
        if counts is not None:
            kept["redact"] = Receipt("redact", {}, {}, {}, {}, counts)
        outcome = audited(of, [canary, value], kept)
        told = [word for one in outcome.findings for word in one.clause.split("+")]
        return told, [one.because.split()[0] for one in outcome.not_examined]

    nothing, something = {"by_entity": {"PERSON": 0}}, {"by_entity": {"PERSON": 1}}
    assert seen({"a": nothing, "b": nothing}) == ([], ["no", "redaction"])
    assert seen({"a": nothing, "b": something}) == (["g"], ["no"])
    # What nobody counted may be any number.
    for counts in (None, {}, {"a": {}}, {"a": nothing, "b": None}):
        assert seen(counts) == (["g"], ["no"])
    assert seen({"a": nothing}, planted) == (["g"], ["redaction"])


def test_another_measure_stands_in_only_where_it_is_known_and_gated(release: Release) -> None:
    told = gate("membership_tpr_1", "low", at_most=0.1, instead="membership_auc", id="t")
    auc = gate()
    fine, why = reading("membership_auc", 0.5), {"membership_tpr_1": "too few held-out records"}
    outcome = audited(release, [told, auc], receipts(fine, not_measured=why))
    (unseen,) = outcome.not_examined
    assert (outcome.findings, "too few held-out records" in unseen.because) == ((), True)
    worse = reading("membership_auc", 0.9)
    assert found(release, told, auc, readings=[worse], not_measured=why) == SHOWN
    unknown = [("leaks-unmeasured", "warning", "t")]
    assert found(release, told, readings=[fine], not_measured=why) == unknown
    both = [("leaks-unmeasured", "warning", word) for word in ("t", "g")]
    assert sorted(found(release, told, auc, not_measured=why)) == sorted(both)


def test_a_measurement_that_ran_out_of_time_is_told(release: Release) -> None:
    fine = reading("membership_auc", 0.5)
    for complete, count in ((True, 0), (False, 1), (None, 1), ("yes", 1)):
        outcome = audited(release, [gate()], receipts(fine, complete=complete))
        assert (outcome.findings, len(outcome.not_examined)) == ((), count)


def test_of_a_model_that_was_loaded_the_folder_is_gated(release: Release) -> None:
    elsewhere = replace(release, training=None)
    folder = [reading(name, 0) for name in FOLDER_MEASURES]
    gates = [replace(one, only_where="") for one in load_policy().leak_gates]

    def told(of: str, files: Any = (), **said: Any) -> list[tuple[str, str]]:
        kept = {
            "load": Receipt("load", {}, {}, {}, WEIGHTS, said),
            "leaks": receipts(*(files or folder), task=of)["leaks"],
        }
        findings = audited(elsewhere, gates, kept).findings
        return [(one.rule, one.severity) for one in findings]

    # Of a model without a task that we know, the folder is all that can be looked at.
    assert told("", architecture="BertModel", task="") == []
    stray = [*folder[:-1], reading("stray_files", 2)]
    assert told("", stray, architecture="BertModel") == [("leaks-shown", "warning")]
    assert told("", folder[:-1], architecture="BertModel") == [("leaks-unmeasured", "warning")]
    # Of one with a task nobody measured the rest, which is told at once but for canaries, whose
    # gates say of how many repeats.
    other = told(TASK, architecture="GPT2LMHeadModel", task=TASK)
    assert set(other) == {("leaks-unmeasured", "warning")}
    # Where nothing tells what it is for, it may be for anything.
    assert set(told("")) == set(other)
    assert told("masked-lm", architecture="GPT2LMHeadModel", task=TASK) == [
        ("leaks-unmeasured", "warning")
    ]


def test_what_is_not_in_the_shipped_gates_is_missed_by_nobody(release: Release) -> None:
    """A release of any task whose every measure is at its least passes, and at its most fails."""
    for task, names in MEASURES_OF.items():
        assert release.training
        plan = replace(release.training, task=task, canaries=Canaries())
        ours = replace(release, training=plan)
        for worst in (False, True):
            readings = [
                reading(
                    name,
                    min(MEASURES[name].most, 30.0) if worst else max(MEASURES[name].least, -1.0),
                    repeats=1 if MEASURES[name].by_repeats else None,
                )
                for name in names
            ]
            outcome = audited(ours, load_policy().leak_gates, receipts(*readings, task=task))
            measures = {one.message.partition(":")[0] for one in outcome.findings}
            gated = set(names) - {"membership_tpr_01"}
            titles = {MEASURES[name].title for name in gated} if worst else set()
            assert measures == titles
            assert not any(one.rule == "leaks-unmeasured" for one in outcome.findings)


def test_a_waiver_answers_for_exactly_what_was_not_measured(project: Path) -> None:
    leak("membership_auc", None)(project)
    own_policy(project)
    stamp(project)
    (one,) = release_kit.audit(project).findings
    names = one.clause.split("+")
    assert one.rule == "leaks-unmeasured"
    assert len(names) >= 1
    waiver(project, f"{one.rule}/{one.clause}", path="release.yaml", id="w-1")
    stamp(project)
    report = release_kit.audit(project)
    assert (report.findings, len(report.waived)) == ((), 1)
    assert report.verdict is Verdict.PASS
    # More that is not known is another finding, for which nobody answers.
    leak("stray_files", None)(project)
    report = release_kit.audit(project)
    assert {one.rule for one in report.findings} == {"leaks-unmeasured", "waiver-unused"}
