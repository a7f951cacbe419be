"""Membership inference tells a model that learned by heart from one that never saw its records."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.leak_measures import MEASURES_OF
from release_kit.memorization.asking import losses, rows_of, token_scores
from release_kit.memorization.membership import membership_probe
from release_kit.memorization.probes import Found, Reading
from release_kit.memorization.shadows import Shadows, asked, drawn_plans
from release_kit.memorization.subject import Subject, open_subject
from release_kit.release import DifferentialPrivacy, LeaksPlan, TrainingPlan
from release_kit.training.fit import fit
from release_kit.training.models import quiet
from release_kit.training.splits import Example, split
from release_kit.training.tasks import TASKS, settled
from tests.memorization.test_shadows import PLAN, noise
from tests.tiny_models import (
    tiny_bart,
    tiny_bert,
    tiny_decoder,
    tiny_gpt2_form,
    tiny_vit,
    tiny_wav2vec2,
    tiny_whisper,
)
from tests.training.conftest import topic_records
from tests.training.tasks import test_image_classification as pictures
from tests.training.tasks import test_speech as speech
from tests.training.tasks.test_causal_lm import texts
from tests.training.tasks.test_masked_lm_next_sentence import documents
from tests.training.tasks.test_question_answering import asked as questions
from tests.training.tasks.test_sequential_recommendation import histories
from tests.training.tasks.test_token_classification import tagged

MEASURES = ("membership_auc", "membership_tpr_1", "membership_tpr_01")
LEAKS = LeaksPlan(records=200)
CAUSAL = replace(PLAN, task="causal-lm", batch_size=8, learning_rate=1e-2, epochs=8)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A decoder that knows its training texts, which are noise, by heart."""
    folder = tmp_path_factory.mktemp("learned")
    base, records = tiny_decoder(folder / "base"), noise(260)
    fit(CAUSAL, base, records, folder / "model")
    with quiet():
        return open_subject(CAUSAL, folder / "model", records, base)


def asked_all(subject: Subject, leaks: LeaksPlan = LEAKS, **more: Any) -> Found:
    probe = membership_probe(subject, leaks, **more)
    parts = range(0, probe.items, probe.at_once)
    return probe.found(
        np.concatenate([probe.ask(range(at, min(at + probe.at_once, probe.items))) for at in parts])
    )


def by_measure(found: Found) -> dict[str, Reading]:
    assert set(MEASURES) == {one.measure for one in found.readings} | set(found.not_measured)
    json.dumps(found.curves, allow_nan=False)
    return {one.measure: one for one in found.readings}


def test_a_model_that_learned_by_heart_is_told(learned: Subject) -> None:
    found = asked_all(learned)
    readings = by_measure(found)
    assert readings["membership_auc"].low > 0.8
    assert readings["membership_auc"].of == min(200, len(learned.members))
    assert readings["membership_tpr_1"].value > 0.4
    assert all(one.low <= one.value <= one.high for one in found.readings)
    assert not any(one.means_nothing for one in found.readings)
    assert found.notes == ()
    curves = {curve["attack"]: curve for curve in found.curves["roc"]}
    assert list(curves) == [
        *("loss", "zlib", "Min-K%", "Min-K%++", "ratio to the base model", "error zone")
    ]
    assert all(curve["low"] > 0.5 for curve in curves.values())
    for measure, key in zip(MEASURES, ("auc", "tpr_1", "tpr_01"), strict=True):
        one = readings[measure]
        told = {
            name: (curve["auc"], curve["low"], curve["high"]) if key == "auc" else curve[key]
            for name, curve in curves.items()
        }
        name = one.how.partition(";")[0]
        assert (one.value, one.low) == (told[name][0], told[name][1])
        assert one.low == max(low for _, low, _ in told.values())
        assert one.high == max(high for _, _, high in told.values())
    # 100 held-out records cannot show thresholds with so few false alarms.
    assert readings["membership_tpr_01"].low == 0
    assert "held-out records" in readings["membership_tpr_01"].how
    assert ";" not in readings["membership_auc"].how
    assert abs(found.curves["blind"]["auc"] - 0.5) < 0.1


def test_the_base_that_never_saw_the_records_is_not(learned: Subject) -> None:
    assert learned.base is not None
    assert learned.reference is not None
    readings = by_measure(asked_all(replace(learned, loaded=learned.reference)))
    assert readings["membership_auc"].low < 0.5 < readings["membership_auc"].high
    assert readings["membership_tpr_1"].low == 0
    assert readings["membership_tpr_1"].value < 0.1


def test_several_attacks_widen_the_intervals(learned: Subject) -> None:
    many, one = asked_all(learned), asked_all(replace(learned, base=None))
    narrow, wide = (
        next(curve for curve in found.curves["roc"] if curve["attack"] == "loss")
        for found in (one, many)
    )
    assert narrow["auc"] == pytest.approx(wide["auc"])
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert [curve["attack"] for curve in one.curves["roc"]][-1] == "Min-K%++"
    assert one.notes == (
        "membership: the base model is not at hand, so no attack compares with it",
    )


def test_scores_are_what_the_papers_say(learned: Subject) -> None:
    probe = membership_probe(learned, LEAKS)
    rows = probe.ask(range(3, 7))
    example, member = asked(learned, 200)[5]
    assert rows[2, 0] == member
    encoded, _ = rows_of(learned.task, learned.loaded, [example], learned.plan)
    (ours,) = token_scores(learned.task, learned.loaded, encoded, learned.plan)
    (base,) = token_scores(learned.task, learned.reference, encoded, learned.plan)
    (loss,) = losses(learned.task, learned.loaded, [example], learned.plan)
    (before,) = losses(learned.task, learned.reference, [example], learned.plan)
    count = len(ours.logp) // 5
    gains = [
        one - other
        for one, other, right in zip(ours.logp, base.logp, ours.greedy, strict=True)
        if not right
    ]
    up, down = sum(g for g in gains if g > 0), -sum(g for g in gains if g < 0)
    wanted = [
        -loss,
        -loss / len(zlib.compress(example.text.encode())),
        sum(sorted(ours.logp)[:count]) / count,
        sum(sorted((ours.logp - ours.mean) / ours.deviation)[:count]) / count,
        before - loss,
        np.log((up + 0.1) / (down + 0.1)),
    ]
    assert rows[2, 1:] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert gains
    # Who else is asked changes nothing.
    assert probe.ask(range(5, 6))[0] == pytest.approx(rows[2], rel=1e-3)


def test_what_is_asked_alternates_and_few_answers_are_no_measure(learned: Subject) -> None:
    probe = membership_probe(learned, LEAKS)
    members = [member for _, member in asked(learned, 200)]
    both = 2 * min(len(learned.members), len(learned.controls))
    assert members[:both] == [True, False] * (both // 2)
    assert probe.items == len(members) == len(learned.members) + len(learned.controls)
    assert membership_probe(learned, LeaksPlan(records=10)).items == 20
    rows = probe.ask(range(20))
    for few in (np.zeros((0, 0)), rows[:19]):
        found = probe.found(few)
        assert found.readings == ()
        assert set(found.not_measured) == set(MEASURES)
        assert "fewer than 10" in found.not_measured["membership_auc"]
    assert "membership_auc" in by_measure(probe.found(rows))


def test_nothing_is_said_of_thresholds_that_all_members_may_be_above(learned: Subject) -> None:
    probe = membership_probe(replace(learned, base=None), LEAKS)
    rows = np.zeros((24, 5))
    rows[::2] = 1
    found = probe.found(rows)
    assert [one.measure for one in found.readings] == ["membership_auc"]
    for name, need in (("membership_tpr_1", 528), ("membership_tpr_01", 5296)):
        assert "the 12 held-out records that were asked say nothing" in found.not_measured[name]
        assert str(need) in found.not_measured[name]


def test_no_answer_is_told_and_never_counted(learned: Subject) -> None:
    probe = membership_probe(learned, LEAKS)
    rows = probe.ask(range(80))
    whole, rows[0, 1:] = probe.found(rows), np.nan
    found = probe.found(rows)
    assert by_measure(found)["membership_auc"].of == by_measure(whole)["membership_auc"].of - 1
    assert "1 of 80 records have no score of the attack 'zlib'" in " ".join(found.notes)
    rows[1::2, 1:] = np.nan
    assert set(probe.found(rows).not_measured) == set(MEASURES)
    assert "40 of 80" not in " ".join(whole.notes)


def test_members_that_their_words_betray_make_every_figure_mean_nothing(learned: Subject) -> None:
    def changed(change: Callable[[Example], Example]) -> Found:
        test = tuple(change(example) for example in learned.splits.test)
        subject = replace(learned, splits=replace(learned.splits, test=test))
        probe = membership_probe(subject, LEAKS)
        rows = np.random.default_rng(1).random((probe.items, 7))
        rows[:, 0] = [member for _, member in asked(subject, 200)]
        return probe.found(rows)

    for change in (
        lambda example: replace(example, text=example.text.replace("the", "ye")),
        lambda example: replace(example, labels=("new",)),
    ):
        found = changed(change)
        assert found.readings
        assert all("not of one distribution" in one.means_nothing for one in found.readings)
        assert found.curves["blind"]["low"] > 0.5
    fair = changed(lambda example: example)
    assert not any(one.means_nothing for one in fair.readings)
    assert fair.curves["blind"]["low"] < 0.5 < fair.curves["blind"]["high"]
    # No text stands in anything that is found.
    assert not any(word in repr(changed(lambda e: e)) for word in ("permission", "butter", "storm"))


def test_differential_privacy_bounds_what_can_be_told(learned: Subject) -> None:
    def notes(epsilon: float | None, delta: float | None = None) -> str:
        private = DifferentialPrivacy(epsilon, None if epsilon else 1.0, delta)
        plan = replace(learned.plan, differential_privacy=private)
        probe = membership_probe(replace(learned, plan=plan), LEAKS)
        return " ".join(probe.found(np.zeros((0, 0))).notes)

    assert "more than 0.0273 of" in notes(1.0, 1e-4)
    assert "0.00282 at 0.1 %" in notes(1.0, 1e-4)
    # Far above, the other side of the bound is the narrower one.
    assert "more than 0.993 of" in notes(5.0, 1e-4)
    assert "delta 0.0" in notes(1.0)
    assert "differential privacy" not in notes(None)


def test_hidden_tokens_are_drawn_several_times(tmp_path: Path) -> None:
    plan = settled(replace(PLAN, task="masked-lm"))[1]
    subject = unseen(plan, noise(60), tiny_bert(tmp_path / "base"))
    probe, examples = membership_probe(subject, LEAKS), asked(subject, 200)
    one = [losses(subject.task, subject.loaded, [examples[0][0]], p) for p in drawn_plans(plan)]
    assert len({float(of[0]) for of in one}) == 4
    assert probe.ask(range(1))[0, 1] == pytest.approx(-np.mean(one), rel=1e-4)


def unseen(plan: TrainingPlan, records: list[Record], base: Path) -> Subject:
    """Return a model that was never trained, with records that it might have learned."""
    task, plan = settled(plan)
    splits = split(task.read(plan, records), plan)
    with quiet():
        loaded = task.load(plan, base, task.names(plan, splits))
    return Subject(task, plan, base, None, loaded, splits)


OWN = [Record({"items": [f"a{n}", f"b{n}"], "user": n}, "d", n) for n in range(91, 101)]
OTHERS: dict[str, tuple[Callable[[Path], list[Record]], Callable[[Path], Path]]] = {
    "text-classification": (lambda _: topic_records(90), tiny_bert),
    "token-classification": (lambda _: tagged(90), tiny_bert),
    "question-answering": (lambda _: questions(90), tiny_bert),
    "masked-lm": (lambda _: texts(90), tiny_bert),
    "masked-lm-next-sentence": (lambda _: documents(90), tiny_bert),
    "denoising-seq2seq": (lambda _: texts(90), tiny_bart),
    "causal-lm": (lambda _: texts(90), lambda folder: tiny_decoder(folder, "gpt2")),
    "image-classification": (lambda folder: pictures.digits(folder, 90, 3), tiny_vit),
    "speech-ctc": (lambda folder: speech.tones(folder, 90), tiny_wav2vec2),
    "speech-seq2seq": (lambda folder: speech.tones(folder, 90), tiny_whisper),
    "sequential-recommendation": (lambda _: histories(90) + OWN, tiny_gpt2_form),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_model_of_any_task_that_saw_nothing_is_cleared(task: str, tmp_path: Path) -> None:
    records, base = OTHERS[task]
    plan = replace(PLAN, task=task, test_share=0.3, max_length=16 if "speech" in task else 32)
    if task == "question-answering":
        plan = replace(plan, options={"unanswerable": True, "stride": 4})
    subject = unseen(plan, records(tmp_path / "data"), base(tmp_path / "base"))
    with_shadows = Shadows(
        np.random.default_rng(0).random((2, len(asked(subject, 200)))),
        np.repeat([[True], [False]], len(asked(subject, 200)), axis=1),
    )
    found = asked_all(subject, shadows=with_shadows)
    readings = by_measure(found)
    assert set(MEASURES) <= set(MEASURES_OF[task])
    assert readings["membership_auc"].low < 0.5 < readings["membership_auc"].high
    attacks = {curve["attack"] for curve in found.curves["roc"]}
    by_token = {"causal-lm", "masked-lm", "token-classification"}
    assert attacks == {"loss", "LiRA, online", "LiRA, offline", "RMIA"} | (
        {"zlib", "Min-K%", "Min-K%++"} if task in by_token else set()
    )
    # Histories of nothing but items that training never saw have no loss.
    assert any("no score" in note for note in found.notes) == (task == "sequential-recommendation")
    assert not any(one.means_nothing for one in found.readings)
