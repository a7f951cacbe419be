"""Shadow models learn complementary halves, are resumed one by one, and tell what loss hides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.memorization import shadows
from release_kit.memorization.membership import membership_probe
from release_kit.memorization.roc import auc
from release_kit.memorization.shadows import Shadows, asked, mean_losses, scores, train_shadows
from release_kit.memorization.subject import Subject, open_subject
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.fit import fit, fit_examples
from release_kit.training.models import quiet
from release_kit.training.splits import Example, Splits, split
from release_kit.training.tasks import settled
from tests.tiny_models import FILLER, TOPICS, tiny_bert
from tests.training.conftest import Watching

PLAN = TrainingPlan(
    task="text-classification",
    epochs=1,
    batch_size=16,
    learning_rate=5e-3,
    max_length=32,
    validation_share=0.1,
    test_share=0.4,
    seed=3,
)


def noise(count: int) -> list[Record]:
    """Return texts of random words with random labels: all that can be learned is by heart."""
    draw = random.Random(5)
    words = [word for topic in TOPICS.values() for word in topic] + FILLER
    return [
        Record({"text": " ".join(draw.choices(words, k=16)), "label": draw.choice("ab")}, "d", i)
        for i in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("shadows") / "base")


def opened(base: Path, records: list[Record], folder: Path, plan: TrainingPlan = PLAN) -> Subject:
    fit(plan, base, records, folder)
    with quiet():
        return open_subject(plan, folder, records, base)


class Trained:
    """Counts the trainings, and ends one as a kill would."""

    def __init__(self, killed: int = -1) -> None:
        self.splits: list[Splits] = []
        self.plans: list[TrainingPlan] = []
        self.killed = killed

    def __call__(self, task: Any, plan: TrainingPlan, base: Path, splits: Splits) -> Any:
        if len(self.splits) == self.killed:
            raise KeyboardInterrupt
        self.splits.append(splits)
        self.plans.append(plan)
        return fit_examples(task, plan, base, splits)


def test_fit_examples_trains_as_fit_does(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    records = noise(40)
    fit(PLAN, base, records, tmp_path / "model")
    task, plan = settled(PLAN)
    loaded = fit_examples(task, plan, base, split(task.read(plan, records), plan))
    for name, tensor in load_file(tmp_path / "model" / "model.safetensors").items():
        assert loaded.model.state_dict()[name].equal(tensor)


def test_pairs_learn_complementary_halves_of_families_and_are_resumed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = noise(50)
    # Near copies belong to one family, which no half parts.
    records += [
        Record({**one.fields, "text": one.fields["text"] + " rain"}, "d", 50 + one.index)
        for one in records[:10]
    ]
    subject, leaks = opened(base, records, tmp_path / "model"), LeaksPlan(records=15, shadows=3)
    killed = Trained(killed=2)
    monkeypatch.setattr(shadows, "fit_examples", killed)
    with pytest.raises(KeyboardInterrupt):
        train_shadows(subject, leaks, tmp_path / "kept", "a", Watching())
    going_on, watching = Trained(), Watching()
    monkeypatch.setattr(shadows, "fit_examples", going_on)
    found = train_shadows(subject, leaks, tmp_path / "kept", "a", watching)
    assert (len(killed.splits), len(going_on.splits)) == (2, 1)
    assert watching.steps[-1] == ("training shadow models", 3, 3)

    one, other = (places(part.train) for part in killed.splits)
    everyone = places((*subject.splits.train, *subject.splits.test))
    assert not one & other
    assert one | other == everyone
    assert abs(len(one) - len(other)) <= 10
    for number in one:
        assert (number + 50 in one) == (number + 50 in everyone)
    assert len({plan.seed for plan in (*killed.plans, *going_on.plans, PLAN)}) == 4
    assert {part.validation for part in killed.splits} == {subject.splits.validation}

    examples = [example for example, _ in asked(subject, 15)]
    assert found.losses.shape == found.learned.shape == (3, len(examples))
    for row, part in zip(found.learned, (*killed.splits, *going_on.splits), strict=True):
        assert [example.record in places(part.train) for example in examples] == row.tolist()
    files = list((tmp_path / "kept").iterdir())
    assert [file.name for file in files] == ["shadows.npz"]
    assert not any(word.encode() in files[0].read_bytes() for word in ("rain", "permission"))

    with monkeypatch.context() as patch:
        patch.setattr(shadows, "fit_examples", None)
        again = train_shadows(subject, leaks, tmp_path / "kept", "a")
    assert (again.losses == found.losses).all()
    assert (again.learned == found.learned).all()


def places(examples: Sequence[Example]) -> set[int]:
    return {example.record for example in examples}


def test_what_is_kept_of_something_else_or_damaged_is_trained_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, leaks = opened(base, noise(40), tmp_path / "model"), LeaksPlan(records=10, shadows=2)
    trained: list[int] = []
    monkeypatch.setattr(shadows, "fit_examples", lambda *_: trained.append(1) or subject.loaded)
    file = tmp_path / "kept" / "shadows.npz"
    train_shadows(subject, leaks, tmp_path / "kept", "a")
    train_shadows(subject, leaks, tmp_path / "kept", "b")
    train_shadows(subject, replace(leaks, records=12), tmp_path / "kept", "b")
    assert len(trained) == 6
    whole = file.read_bytes()
    for damage in (b"", whole[:200], b"no archive", whole[:-30]):
        file.write_bytes(damage)
        assert train_shadows(subject, leaks, tmp_path / "kept", "a").losses.shape == (2, 20)
    assert len(trained) == 14


def test_what_cannot_be_trained_is_told(base: Path, tmp_path: Path) -> None:
    subject = opened(base, noise(40), tmp_path / "model")
    with pytest.raises(UnusableInput, match="1 shadow models tell nothing"):
        train_shadows(subject, LeaksPlan(shadows=1), tmp_path, "a")
    with pytest.raises(UnusableInput, match="not at hand"):
        train_shadows(replace(subject, base=None), LeaksPlan(shadows=2), tmp_path, "a")
    rare = replace(subject.splits.test[0], labels=("c",))
    lone = replace(
        subject,
        plan=replace(subject.plan, balance_classes=True),
        splits=replace(
            subject.splits, test=(rare, *subject.splits.test[1:]), labels=("a", "b", "c")
        ),
    )
    with pytest.raises(UnusableInput, match="lacks a label"):
        train_shadows(lone, LeaksPlan(shadows=2), tmp_path, "a")


def drawn(models: int, records: int = 400) -> tuple[np.ndarray[Any, Any], Any, Shadows]:
    """Return who is a member, and losses: each record as hard as it is, less a bit if learned."""
    random = np.random.default_rng(models)
    hard = np.exp(random.normal(0, 1.5, records))
    learned = np.arange(models)[:, None] % 2 == (random.random(records) < 0.5)
    member = random.random(records) < 0.5
    sides = np.vstack([member, learned])
    losses = hard * np.exp(random.normal(0, 0.1, sides.shape)) * np.where(sides, 0.8, 1.0)
    return member, losses[0], Shadows(losses[1:], learned)


@pytest.mark.parametrize("models", [2, 6, 80])
@pytest.mark.parametrize("task", ["text-classification", "causal-lm"])
def test_shadows_tell_what_loss_hides(task: str, models: int) -> None:
    member, own, known = drawn(models)
    found = scores(settled(TrainingPlan(task=task))[0], own, known)
    assert set(found) == {"LiRA, online", "LiRA, offline", "RMIA"}
    areas = {name: auc(s[member], s[~member], 0.95) for name, s in found.items()}
    loss = auc(-own[member], -own[~member], 0.95)
    assert loss.value < 0.6
    assert all(area.low > loss.high for area in areas.values())
    if models == 80:
        assert areas["LiRA, online"].value > 0.9
    # And nothing where there is nothing.
    swapped = np.random.default_rng(0).permutation(member)
    assert all(auc(s[swapped], s[~swapped], 0.999).low < 0.5 for s in found.values())


def test_scores_by_hand_and_of_records_that_one_side_does_not_know() -> None:
    task = settled(TrainingPlan(task="causal-lm"))[0]
    nan = np.nan
    said = np.array([[1.0, 2.0, 9.0], [3.0, 4.0, 1.0], [1.5, 2.0, 9.0], [3.5, 6.0, nan]])
    learned = np.array([[True, True, True], [False, False, False]] * 2)
    learned[1, 2] = True
    found = scores(task, np.array([2.0, 2.0, 2.0]), Shadows(said, learned))
    inside = np.sqrt((0.125 + 0 + 128 / 3) / 4)
    outside = np.sqrt((0.125 + 2) / 2)
    one = -((-2 + 1.25) ** 2) / (2 * inside**2) - np.log(inside)
    one += (-2 + 3.25) ** 2 / (2 * outside**2) + np.log(outside)
    assert found["LiRA, online"][0] == pytest.approx(one)
    assert found["LiRA, offline"][0] == pytest.approx((-2 + 3.25) / outside)
    mean = np.exp(-np.array([[1.0, 1.5], [3.0, 3.5]])).mean()
    assert found["RMIA"][0] == pytest.approx(-2 - np.log(mean))
    assert all(np.isnan(values[2]) for values in found.values())
    # A prefix of the records has the scores of a prefix, but for the spread.
    assert scores(task, np.array([2.0]), Shadows(said, learned))["RMIA"][0] == found["RMIA"][0]
    # A certain classifier's loss of 0 is no error.
    sure = scores(
        settled(TrainingPlan(task="text-classification"))[0],
        np.zeros(2),
        Shadows(np.array([[0.0, 1e4], [1.0, 0.0]]), np.array([[True, False], [False, True]])),
    )
    assert np.isfinite(sure["LiRA, online"]).all()


@pytest.mark.slow
def test_shadows_of_a_real_classifier(base: Path, tmp_path: Path) -> None:
    subject = opened(base, noise(300), tmp_path / "model", replace(PLAN, epochs=25))
    leaks = LeaksPlan(records=200, shadows=4)
    known = train_shadows(subject, leaks, tmp_path / "kept", "a")
    examples = [example for example, _ in asked(subject, 200)]
    own = mean_losses(subject.task, subject.loaded, examples, subject.plan)
    inside = np.where(known.learned, known.losses, np.nan)
    assert np.nanmean(inside) < np.nanmean(np.where(known.learned, np.nan, known.losses)) - 0.5
    probe = membership_probe(subject, leaks, known)
    rows = probe.ask(range(probe.items))
    assert rows[:, 1] == pytest.approx(-own, rel=1e-5)
    found = probe.found(rows)
    curves = {curve["attack"]: curve for curve in found.curves["roc"]}
    assert set(curves) == {"loss", "LiRA, online", "LiRA, offline", "RMIA"}
    assert all(curve["low"] > 0.5 for curve in curves.values())
