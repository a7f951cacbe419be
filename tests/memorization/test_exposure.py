"""Exposure is what Carlini et al. say, exact where it says so, and chance where nothing is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.memorization import exposure
from release_kit.memorization.canaries import Canary, drawn, planted, writer
from release_kit.memorization.exposure import (
    BARE,
    BY_LOSS,
    CACHED,
    EXACT,
    EXTRAPOLATED,
    PLAIN,
    SAMPLED,
    Space,
    exposure_probe,
    fastest,
    likelihoods,
    rank_of,
    scored,
    space_of,
)
from release_kit.memorization.probes import Found, Probe
from release_kit.memorization.subject import Subject, open_subject
from release_kit.release import Canaries, LeaksPlan, TrainingPlan
from release_kit.training.fit import fit
from release_kit.training.models import quiet
from release_kit.training.tasks import settled
from tests.tiny_models import tiny_bert, tiny_decoder
from tests.training.conftest import topic_records
from tests.training.tasks.test_causal_lm import texts

LEAKS = LeaksPlan()


def plan_of(task: str, canaries: Canaries, **more: Any) -> TrainingPlan:
    said: dict[str, Any] = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "max_length": 64}
    shares = {"validation_share": 0.15, "test_share": 0.25, "seed": 3}
    return settled(TrainingPlan(task=task, canaries=canaries, **{**said, **shares, **more}))[1]


def subject_of(plan: TrainingPlan, base: Path, records: list[Record]) -> Subject:
    """Return the base as it is, as if it had been trained."""
    with quiet():
        return open_subject(plan, base, records, None)


def trained(plan: TrainingPlan, base: Path, records: list[Record], output: Path) -> Subject:
    with quiet():
        fit(plan, base, records, output, planted=planted(plan, records))
        return open_subject(plan, output, records, None)


def probe_of(subject: Subject) -> Probe:
    probe = exposure_probe(subject, LEAKS)
    assert isinstance(probe, Probe)
    return probe


def asked(subject: Subject) -> tuple[Any, Found]:
    probe = probe_of(subject)
    rows = np.asarray(probe.ask(range(probe.items)))
    return rows, probe.found(rows)


def spaced(subject: Subject, canary: Canary) -> Space:
    write = writer(subject.plan, subject.splits.train)
    apart, space = space_of(subject.task, subject.loaded, subject.plan, canary, write)
    assert apart
    assert space is not None
    return space


def digits_of(canary: Canary) -> Any:
    return np.array([int(digit) for digit in canary.secret])


def every(digits: int) -> Any:
    """Return all secrets of so many digits, in order."""
    return np.stack(np.unravel_index(np.arange(10**digits), (10,) * digits), axis=1)


def values(found: Found, measure: str = "canary_exposure") -> dict[int | None, float]:
    return {one.repeats: one.value for one in found.readings if one.measure == measure}


def chance_of(found: Found, repeats: int) -> float:
    """Return the p that is printed for a group."""
    how = next(reading.how for reading in found.readings if reading.repeats == repeats)
    return float(how.rpartition(" ")[2])


@dataclass(frozen=True)
class Kept:
    subject: Subject
    rows: Any
    found: Found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    plan = plan_of("causal-lm", Canaries(repeats=(4, 16), each=8, digits=4))
    subject = trained(plan, tiny_decoder(folder / "base", "gpt2"), texts(60), folder / "model")
    return Kept(subject, *asked(subject))


# What is kept, and what is not.


def test_what_stands_there_often_is_exposed_and_what_never_stood_there_is_not(kept: Kept) -> None:
    found, ceiling = kept.found, 4 * math.log2(10)
    mean, most = values(found), values(found, "canary_exposure_excess")
    assert list(mean) == list(most) == [0, 4, 16]
    assert mean[16] > ceiling - 1 > mean[4] > mean[0] + 2
    assert most[16] == pytest.approx(ceiling - math.log2(8))
    for reading in found.readings:
        assert reading.of == 8
        assert reading.low <= reading.value <= reading.high
        assert reading.means_nothing == ""
        assert reading.how.startswith("8 ranked exactly; by chance p = ")
    chance = [chance_of(found, repeats) for repeats in (0, 4, 16)]
    assert chance[0] > 1e-2
    assert 1e-4 > chance[1] > 1e-12 > chance[2]
    assert found.not_measured == {}
    assert found.notes == ()
    assert found.curves["ceiling"] == ceiling
    curve = found.curves["exposure"]
    assert [point["repeats"] for point in curve] == [0, 4, 16]
    assert [point["mean"] for point in curve] == [np.mean(point["values"]) for point in curve]
    # JSON, and no secret in it: all of these have four digits.
    secrets = [canary.secret for canary in drawn(kept.subject.plan)]
    said = json.dumps(found.curves) + repr(found) + json.dumps(kept.rows.tolist())
    assert not any(" ".join(secret) in said for secret in secrets)


def test_a_model_that_never_saw_the_canaries_keeps_none(kept: Kept, tmp_path: Path) -> None:
    base = tiny_decoder(tmp_path / "base", "gpt2")
    rows, found = asked(subject_of(kept.subject.plan, base, texts(60)))
    assert max(values(found, "canary_exposure_excess").values()) < 4
    assert all(reading.low < 1 / math.log(2) < reading.high for reading in found.readings[:3])
    assert not any(reading.means_nothing for reading in found.readings)
    # As 2^-x says: of 24, one in two has more than one bit.
    assert 5 <= (rows[:, 1] > 1).sum() <= 19


def test_the_same_is_asked_in_whatever_parts(kept: Kept) -> None:
    probe = probe_of(kept.subject)
    assert (probe.items, probe.at_once) == (24, 3)
    parts = [probe.ask(range(at, at + 1)) for at in (0, 7, 17)]
    np.testing.assert_array_equal(np.concatenate(parts), kept.rows[[0, 7, 17]])
    assert [int(row[0]) for row in kept.rows] == [c.repeats for c in drawn(kept.subject.plan)]


# Ranks.


def test_an_exact_rank_is_that_of_brute_force(kept: Kept) -> None:
    secrets = every(4)
    for canary, row in list(zip(drawn(kept.subject.plan), kept.rows, strict=True))[:3]:
        logs = likelihoods(kept.subject.loaded, spaced(kept.subject, canary), BARE)
        scores = scored(logs, secrets)
        assert np.exp(scores).sum() == pytest.approx(1, rel=1e-4)
        own = scores[int(canary.secret)]
        rank = (scores >= own - 1e-4).sum()
        assert rank_of(logs, digits_of(canary), own, most=10**4) == rank
        assert row[1:4].tolist() == [pytest.approx(math.log2(10**4 / rank))] * 3
        assert row[4:].tolist() == [pytest.approx(rank / 10**4), EXACT]
        assert rank_of(logs, digits_of(canary), scores.min(), most=999) is None


def test_without_the_search_intervals_hold_the_exact_exposure(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "_MOST", 1)
    monkeypatch.setattr(exposure, "rank_of", lambda *_: None)
    rows, found = asked(kept.subject)
    assert set(rows[:, 5]) == {SAMPLED, EXTRAPOLATED}
    np.testing.assert_array_equal(asked(kept.subject)[0], rows)
    for (_, value, low, high, p, kind), exact in zip(rows, kept.rows[:, 1], strict=True):
        assert low <= value <= high <= 4 * math.log2(10)
        assert low - 1e-9 <= exact <= high + 1e-9
        assert p >= 1 / 257
        if kind == SAMPLED:
            assert value == pytest.approx(exact, abs=1.5)
        else:
            assert value > 6
    often = rows[rows[:, 0] == 16]
    # What the model says of the secret alone bounds its rank better than 256 others do.
    assert (often[often[:, 5] == EXTRAPOLATED][:, 2] > 8).any()
    how = next(reading.how for reading in found.readings if reading.repeats == 16)
    assert "extrapolated" in how
    assert next(reading for reading in found.readings if reading.repeats == 16).low < 13


def test_too_large_a_space_is_still_searched_where_little_is_as_likely(kept: Kept) -> None:
    # As if all digits but the right ones had one chance in a hundred, of 10^12 secrets.
    secret = np.arange(12) % 10
    table = np.log(np.full((12, 10), 0.01))
    table[np.arange(12), secret] = math.log(0.91)

    def logs(beginnings: Any, first: int) -> Any:
        return np.repeat(table[None, first : beginnings.shape[1] + 1], len(beginnings), axis=0)

    assert rank_of(logs, secret, scored(logs, secret[None])[0]) == 1
    second = secret.copy()
    second[5] = 0
    # The first, and as likely as this one all others with one wrong digit.
    assert rank_of(logs, second, scored(logs, second[None])[0]) == 1 + 12 * 9
    third = (secret + 1) % 10
    assert rank_of(logs, third, scored(logs, third[None])[0]) is None


def test_what_cannot_be_counted_is_extrapolated_from_what_was_drawn() -> None:
    drawn_scores = np.random.default_rng(4).normal(-9, 1.5, 256)
    # Five deviations above the mean: one secret in 3.5 million.
    bits = exposure._extrapolated(-9 + 5 * 1.5, drawn_scores)
    assert bits == pytest.approx(21.7, abs=5)
    assert exposure._extrapolated(-9.0, drawn_scores) == pytest.approx(1, abs=0.3)


# What the model reads, and the ways to ask it.


def longer(folder: Path) -> Path:
    """Return `folder` with a model of 160 positions in it instead of 64."""
    for name, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**said, key: 160}))
    return folder


ASKED = {"prompt": "what is the rain?", "completion": " the storm"}
TURNS = [{"role": "user", "content": "rain?"}, {"role": "assistant", "content": "storm"}]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("gpt2", {"text": "the rain"}), ("llama", ASKED), ("llama", {"messages": TURNS})],
)
def test_what_is_scored_is_what_training_reads(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    folder = tiny_decoder(tmp_path / "base", kind)
    length = 64 if kind == "gpt2" else 160
    plan = plan_of("causal-lm", Canaries((1,), each=4, digits=4), max_length=length)
    parts = [{key: f"{v} {n}" for key, v in fields.items()} for n in range(30)]
    records = [
        Record(part if "messages" not in fields else fields, "data/t.jsonl", n)
        for n, part in enumerate(parts, 1)
    ]
    with quiet():
        loaded = settled(plan)[0].load(plan, folder if kind == "gpt2" else longer(folder), ())
    task, _ = settled(plan)
    learned = task.encode(loaded, task.read(plan, planted(plan, records)), plan)
    write = writer(plan, task.read(plan, records))
    canaries = [canary for canary in drawn(plan) if canary.repeats]
    for canary, row in zip(canaries, learned, strict=True):
        apart, space = space_of(task, loaded, plan, canary, write)
        assert apart
        assert space is not None
        assert space.row["input_ids"] == row["input_ids"]
        # The digits are learned, and are those of the secret.
        at = space.places
        assert [row["labels"][place] for place in at] == [row["input_ids"][place] for place in at]
        read = [loaded.processor.decode(row["input_ids"][place]).strip() for place in at]
        assert "".join(read) == canary.secret
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        logs = logits[at - 1].gather(1, torch.tensor(space.tokens)).log_softmax(-1)
        truth = float(logs[torch.arange(4), torch.tensor(digits_of(canary))].sum())
        for way in (PLAIN, CACHED, BARE):
            score = scored(likelihoods(loaded, space, way), digits_of(canary)[None])
            assert score[0] == pytest.approx(truth, abs=1e-5), way


@pytest.mark.parametrize(
    ("kind", "more", "way"),
    [
        ("gpt2", {}, BARE),
        ("llama", {}, BARE),
        # A head that scales its logits is no linear map alone.
        ("granite", {"logits_scaling": 3.0}, CACHED),
        # No keys and values to keep.
        ("mamba", {"state_size": 4}, PLAIN),
    ],
)
def test_the_fastest_way_that_gives_the_models_own_answers_is_taken(
    kind: str, more: dict[str, Any], way: str, tmp_path: Path
) -> None:
    plan = plan_of("causal-lm", Canaries((1,), each=2, digits=5))
    base = tiny_decoder(tmp_path / "base", kind, **more)
    subject = subject_of(plan, base, texts(40))
    space = spaced(subject, drawn(plan)[0])
    assert fastest(subject.loaded, space) == way
    secrets = np.random.default_rng(2).integers(10, size=(50, 5))
    one_by_one = scored(likelihoods(subject.loaded, space, PLAIN, at_once=1), secrets)
    for at_once in (None, 7):
        together = scored(likelihoods(subject.loaded, space, way, at_once), secrets)
        np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    assert len(set(np.round(one_by_one, 4))) > 40


def test_a_masked_model_is_asked_from_left_to_right(tmp_path: Path) -> None:
    import torch

    plan = plan_of("masked-lm", Canaries((1,), each=2, digits=3))
    subject = subject_of(plan, _masked(tmp_path / "base"), texts(40))
    canary = drawn(plan)[0]
    space, own = spaced(subject, canary), digits_of(canary)
    logs = likelihoods(subject.loaded, space)
    mask, truth = subject.loaded.processor.mask_token_id, 0.0
    for depth in range(3):
        ids = torch.tensor([space.row["input_ids"]])
        ids[0, space.places[depth:]] = mask
        with torch.inference_mode():
            logits = subject.loaded.model(input_ids=ids).logits[0, space.places[depth]]
        truth += float(logits[space.tokens[depth]].log_softmax(-1)[own[depth]])
    scores = scored(logs, every(3))
    assert scores[int(canary.secret)] == pytest.approx(truth, abs=1e-5)
    rank = (scores >= scores[int(canary.secret)] - 1e-4).sum()
    assert rank_of(logs, own, scores[int(canary.secret)]) == rank
    rows, found = asked(subject)
    assert rows[0, 1] == pytest.approx(math.log2(1000 / rank))
    assert not any(reading.means_nothing for reading in found.readings)


def _masked(folder: Path) -> Path:
    from transformers import AutoModelForMaskedLM

    tiny_bert(folder)
    with quiet():
        AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    return folder


# What cannot be told is told.


def test_secrets_that_the_model_does_not_read_have_no_exposure(kept: Kept) -> None:
    short = replace(kept.subject, plan=replace(kept.subject.plan, max_length=12))
    rows, found = asked(short)
    assert np.isnan(rows[:, 1:]).all()
    assert found.readings == ()
    assert set(found.not_measured) == {"canary_exposure", "canary_exposure_excess"}
    assert "do not show the digits" in found.not_measured["canary_exposure"]
    assert "24 of 24 canaries have no exposure" in found.notes[0]
    # A model that answers with no number.
    import copy

    model = copy.deepcopy(kept.subject.loaded.model)
    model.get_input_embeddings().weight.data.fill_(math.nan)
    rows, found = asked(replace(kept.subject, loaded=replace(kept.subject.loaded, model=model)))
    assert np.isnan(rows[:, 1:]).all()
    assert found.readings == ()
    assert found.not_measured


def _with_a_piece(task: str, piece: str, base: Path) -> Subject:
    """Return a model whose tokenizer writes one piece of secrets as a token."""
    plan = plan_of(task, Canaries((1,), each=2, digits=4))
    subject = subject_of(plan, base, texts(40))
    subject.loaded.processor.add_tokens([piece])
    with quiet():
        subject.loaded.model.resize_token_embeddings(len(subject.loaded.processor))
    return subject


def test_where_digits_are_no_tokens_of_their_own_the_whole_record_is_ranked_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, found = asked(_with_a_piece("causal-lm", " 4", tiny_decoder(tmp_path / "a", "gpt2")))
    assert set(rows[:, 5]) == {BY_LOSS}
    assert found.readings[0].how.startswith("2 by sampling of losses")
    assert "of 4 canaries only the loss" in found.notes[0]
    # Of a masked text the loss is of other words as well.
    subject = _with_a_piece("masked-lm", "4 4", _masked(tmp_path / "b"))
    canaries = [replace(canary, secret="4444") for canary in drawn(subject.plan)]
    monkeypatch.setattr(exposure, "drawn", lambda plan: canaries)
    rows, found = asked(subject)
    assert np.isnan(rows[:, 1:]).all()
    assert found.not_measured


def rows_of(*groups: tuple[int, list[float]], kind: int = EXACT) -> Any:
    """Return rows of exact exposures."""
    return np.array([[n, x, x, x, 2**-x, kind] for n, of in groups for x in of], float)


def test_figures_and_what_makes_them_worthless(kept: Kept) -> None:
    said = probe_of(kept.subject).found
    chance = [0.1, 0.4, 2.1, 1.0]
    found = said(rows_of((0, chance), (8, [5.0, 9.0])))
    mean = {reading.repeats: reading for reading in found.readings[:2]}
    assert (mean[8].value, mean[8].of, mean[8].means_nothing) == (7, 2, "")
    # Student's interval of 5 and 9 is 7 ± 12.706 · 2.83 / √2, and no exposure is below 0.
    assert (mean[8].low, mean[8].high) == (0, 4 * math.log2(10))
    half = 3.182446 * np.std(chance, ddof=1) / 2
    assert mean[0].high == pytest.approx(0.9 + half, abs=1e-4)
    most = {reading.repeats: reading for reading in found.readings[2:]}
    assert (most[8].value, most[8].low, most[8].high) == (8, 8, 8)
    assert most[0].value == pytest.approx(0.1)
    # Fisher: -2 Σ ln p = 28 ln 2, chi-squared with 4 degrees of freedom.
    assert mean[8].how == f"2 ranked exactly; by chance p = {2**-14 * (1 + 14 * math.log(2)):.2g}"
    # What is not known of each canary makes the mean less sure, too.
    unsure = rows_of((0, chance), (8, [5.0, 5.1, 4.9]))
    unsure[4:, 2:4] += (-3, 3)
    wide = next(one for one in said(unsure).readings if one.repeats == 8)
    assert wide.low < 2.1
    assert wide.high > 7.9

    exposed = said(rows_of((0, [12.0, 11.0, 9.0]), (8, [12.0, 13.0])))
    assert {one.means_nothing for one in exposed.readings} == {
        "canaries that were never planted are exposed, too: what is asked is not chance"
    }
    alike = said(rows_of((0, [0.0] * 4), (8, [0.0] * 4)))
    assert {one.means_nothing for one in alike.readings} == {
        "the model hardly tells secrets apart, planted or not"
    }
    alone = said(rows_of((8, [12.0, 13.0])))
    assert all("never planted" in one.means_nothing for one in alone.readings)
    nothing = said(np.zeros((0, 0)))
    assert nothing.readings == ()
    assert nothing.not_measured["canary_exposure"] == "nothing was asked in the time given"
    torn = rows_of((0, chance), (8, [5.0, 9.0]))
    torn[5, 1:] = math.nan
    found = said(torn)
    assert "1 of 6 canaries have no exposure" in found.notes[0]
    assert [one.of for one in found.readings if one.repeats == 8] == [1, 1]


def test_nothing_is_asked_where_nothing_was_planted(kept: Kept) -> None:
    plan = kept.subject.plan
    found = exposure_probe(replace(kept.subject, plan=replace(plan, canaries=None)), LEAKS)
    assert isinstance(found, Found)
    assert found.not_measured == dict.fromkeys(
        ("canary_exposure", "canary_exposure_excess"),
        "no canaries were planted (training.canaries in release.yaml)",
    )
    other = replace(kept.subject, plan=replace(plan, task="question-answering"))
    assert exposure_probe(other, LEAKS) == Found()


# More of it, and other models.


@pytest.mark.slow
@pytest.mark.parametrize("digits", [6, 10])
def test_exposure_grows_with_repeats_in_a_large_space(digits: int, tmp_path: Path) -> None:
    plan = plan_of("causal-lm", Canaries((1, 4, 16), each=8, digits=digits), epochs=10)
    rows, found = asked(
        trained(plan, tiny_decoder(tmp_path / "b", "gpt2"), texts(120), tmp_path / "m")
    )
    mean, ceiling = values(found), digits * math.log2(10)
    assert mean[0] < 3
    assert mean[0] + 2 < mean[1] < mean[4] - 4 < mean[16] - 6
    assert mean[16] > ceiling - 1
    assert (rows[rows[:, 0] == 16][:, 5] == EXACT).all()
    assert values(found, "canary_exposure_excess")[0] < 4
    assert not any(reading.means_nothing for reading in found.readings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "epochs", "repeats", "make"),
    [("masked-lm", 12, (64,), tiny_bert), ("text-classification", 8, (32,), tiny_bert)],
)
def test_masked_models_and_classifiers_keep_canaries_as_well(
    task: str, epochs: int, repeats: tuple[int, ...], make: Callable[[Path], Path], tmp_path: Path
) -> None:
    canaries = Canaries(repeats, each=12, digits=5)
    plan = plan_of(task, canaries, epochs=epochs, learning_rate=5e-3)
    records = topic_records(120) if task == "text-classification" else texts(60)
    rows, found = asked(trained(plan, make(tmp_path / "base"), records, tmp_path / "model"))
    mean = values(found)
    kinds = {BY_LOSS} if task == "text-classification" else {EXACT, SAMPLED, EXTRAPOLATED}
    assert set(rows[:, 5]) <= kinds
    assert mean[0] < 3 < mean[repeats[0]] - 0.5
    assert not any(reading.means_nothing for reading in found.readings)
    assert chance_of(found, repeats[0]) < 1e-4
    assert chance_of(found, 0) > 1e-2


@pytest.mark.slow
def test_by_chance_exposure_is_a_p_value(kept: Kept) -> None:
    from scipy.stats import kstest

    # None of these were planted: they are drawn from another seed.
    plan = replace(kept.subject.plan, canaries=Canaries((1,), each=100, digits=4), seed=77)
    rows, _ = asked(replace(kept.subject, plan=plan))
    assert kstest(rows[:, 4], "uniform").pvalue > 0.01
    assert rows[:, 1].mean() == pytest.approx(1 / math.log(2), abs=0.35)
