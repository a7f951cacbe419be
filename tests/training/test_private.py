"""Training with differential privacy: the arithmetic, the accounting, and what stops it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit import processes
from release_kit.datasets.records import Record
from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import sha256_file
from release_kit.release import DifferentialPrivacy, Method, TrainingPlan, read_release
from release_kit.training import private
from release_kit.training.evaluation import evaluate_model
from release_kit.training.fit import fit
from release_kit.training.splits import split
from release_kit.training.tasks import TASKS, settled
from tests.projects import RELEASE_YAML
from tests.training.conftest import PLAN, Run, Watching, topic_records
from tests.training.test_checkpoints import Stopped, Until, steps_in, stop

NOISY = DifferentialPrivacy(noise_multiplier=1.0)
SHORT = dataclasses.replace(PLAN, epochs=1, differential_privacy=NOISY)


def plan(epochs: int = 1, **changes: Any) -> TrainingPlan:
    return dataclasses.replace(SHORT, epochs=epochs, **changes)


def mechanism(records: list[Record], way: TrainingPlan = SHORT, watcher: Any = None) -> Any:
    task, way = settled(way)
    splits = split(task.read(way, records), way)
    return private.mechanism_of(way, task, splits, watcher or Watching())


@pytest.fixture
def unaccounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is next to no noise, so that the rest can be told."""
    monkeypatch.setattr(private, "_epsilon", lambda *_: 0.0)
    monkeypatch.setattr(private, "_accounted", lambda *_: 0.0)


# The arithmetic.


def models() -> Iterator[tuple[str, Any]]:
    import transformers as made
    from peft import LoraConfig, get_peft_model

    sizes: dict[str, Any] = {
        "vocab_size": 90,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_labels": 3,
        "problem_type": "single_label_classification",
    }
    bert = made.BertForSequenceClassification(made.BertConfig(**sizes))
    yield "bert", bert
    yield "roberta", made.RobertaForMaskedLM(made.RobertaConfig(**sizes, pad_token_id=1))
    # Its embeddings are tied, its linear maps transposed, and it has buffers.
    gpt2 = made.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=90)
    yield "gpt2", made.GPT2LMHeadModel(gpt2)
    adapter = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    yield "lora", get_peft_model(made.BertForSequenceClassification(bert.config), adapter)


def test_gradients_at_once_are_those_of_each_record_alone() -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.manual_seed(5)
    ids = torch.randint(5, 85, (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 4:] = mask[3, 7:] = 0
    tokens = torch.where(mask.bool(), ids, -100)
    for kind, model in models():
        model.eval()
        labels = torch.tensor([0, 2, 1, 0]) if kind in ("bert", "lora") else tokens
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        private._attend_without_asking(model)
        trained = private._trained(model)
        assert (kind == "lora") == (len(trained) < 10)
        with sdpa_kernel(SDPBackend.MATH):
            together, losses = private._together(model, trained, batch, None)
        for row in range(4):
            model.zero_grad()
            one = {name: value[row : row + 1] for name, value in batch.items()}
            loss = model(**one).loss
            loss.backward()
            assert float(losses[row]) == pytest.approx(loss.item(), rel=1e-4)
            wanted = {
                name: torch.zeros_like(p) if p.grad is None else p.grad
                for name, p in trained.items()
            }
            assert set(together) == set(wanted)
            for name, gradient in wanted.items():
                assert torch.allclose(together[name][row], gradient, atol=1e-6), (kind, name)
            assert private._agree(together, private._alone(model, trained, one, None)[0], row)
            assert not private._agree(together, private._alone(model, trained, one, None)[0],
                                      (row + 1) % 4)  # fmt: skip


def test_each_record_is_clipped_over_all_tensors_together() -> None:
    import torch

    total = {"a": torch.zeros(2), "b": torch.zeros(1)}
    found = {
        "a": torch.tensor([[3.0, 0.0], [0.1, 0.0], [0.0, 0.0]]),
        "b": torch.tensor([[4.0], [0.2], [0.0]]),
    }
    private._add_clipped(total, found, 2.5)
    assert total["a"].tolist() == pytest.approx([1.5 + 0.1, 0.0])
    assert total["b"].tolist() == pytest.approx([2.0 + 0.2])


@pytest.mark.usefixtures("unaccounted")
@pytest.mark.parametrize("alone", [False, True])
def test_without_noise_or_clipping_it_is_plain_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    few = topic_records(60)
    weights = {"license": 1.0, "recipe": 2.0, "weather": 3.0}
    plain = plan(3, batch_size=60, clip_norm=0.0, class_weights=weights, differential_privacy=None)
    still = DifferentialPrivacy(noise_multiplier=1e-12, clip_norm=1e4)
    # Every record is taken each time, in four parts.
    same = dataclasses.replace(plain, differential_privacy=still, accumulate=4)
    wanted = fit(plain, base, few, tmp_path / "plain").losses
    if alone:
        monkeypatch.setattr(private, "_agree", lambda *_: False)
    watcher = Watching()
    found = fit(same, base, few, tmp_path / "private", watcher).losses
    assert alone == any("one record after another" in line for line in watcher.lines)
    for one, other in zip(found, wanted, strict=True):
        assert one.training_loss == pytest.approx(other.training_loss, rel=1e-3)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)
    kept = json.loads((tmp_path / "private" / "config.json").read_text())
    assert kept == json.loads((tmp_path / "plain" / "config.json").read_text())


def test_the_noise_is_normal_and_never_the_same() -> None:
    one, other = private._normal(200_000), private._normal(200_000)
    assert abs(one.mean()) < 0.02
    assert one.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(one) > 1.96) == pytest.approx(0.05, abs=0.005)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
    assert len(private._normal(0)) == 0
    assert 0 < private._uniform(100_000).min() < private._uniform(100_000).max() < 1


def test_records_are_taken_apart_from_each_other(records: list[Record]) -> None:
    way = dataclasses.replace(mechanism(records), sample_rate=0.01)
    taken = [len(batch) for _ in range(50) for batch in private._Poisson(way)]
    assert len(taken) == 50 * 100
    assert np.mean(taken) == pytest.approx(way.records * 0.01, rel=0.1)
    assert np.var(taken) == pytest.approx(way.records * 0.01 * 0.99, rel=0.15)
    assert 0 in taken


# A whole training.


@pytest.fixture(scope="module")
def topics() -> list[Record]:
    """Half about weather, half about cooking."""
    found = [r for r in topic_records(2400) if r.fields["label"] != "license"]
    kept = [r for r in found if r.fields["label"] == "weather"]
    return kept + [r for r in found if r.fields["label"] == "recipe"][: len(kept)]


@pytest.mark.slow
def test_an_adapter_learns_within_its_epsilon(
    run: Run, topics: list[Record], tmp_path: Path
) -> None:
    from opacus.accountants import create_accountant

    wanted = DifferentialPrivacy(epsilon=8, clip_norm=1.0)
    way = plan(4, batch_size=150, learning_rate=2e-2, differential_privacy=wanted,
               method=Method("lora", rank=1, targets=("query",)))  # fmt: skip
    watcher = Watching()
    result = fit(way, run.model, topics, tmp_path / "model", watcher)
    assert result.losses[-1].training_loss < 0.8 * result.losses[0].training_loss
    found = evaluate_model(way, tmp_path / "model", topics).figures["accuracy"]
    assert found.baseline is not None
    assert found.value > found.baseline + 0.2

    told = result.privacy
    assert told is not None
    assert 0.97 * 8 < told.epsilon <= 8
    assert told.epsilon_rdp > told.epsilon
    for name, said in ((told.accountant, told.epsilon), ("rdp", told.epsilon_rdp)):
        accountant = create_accountant(name)
        accountant.history = [(told.noise_multiplier, told.sample_rate, told.steps)]
        assert accountant.get_epsilon(delta=told.delta) == pytest.approx(said, rel=1e-6)
    assert told.steps == result.steps == 4 * -(-told.records // 150)
    assert told.sample_rate == 150 / told.records
    assert told.records == result.sizes.train
    assert told.delta_derived
    assert told.delta == told.records**-1.1
    assert any("delta is not stated" in line for line in watcher.lines)
    assert (told.unit, told.clip_norm, told.accountant) == ("record-level", 1.0, "prv")
    plain = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    assert plain["privacy"]["caveats"] == list(told.caveats)


@pytest.mark.slow
def test_two_trainings_differ_although_the_seed_is_the_same(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    digests = set()
    for name in ("one", "other"):
        way = plan(precision="bfloat16") if name == "one" else SHORT
        fit(way, base, records, tmp_path / name)
        fit(way, base, records, tmp_path / f"{name} again")
        digests |= {sha256_file(tmp_path / name / "model.safetensors"),
                    sha256_file(tmp_path / f"{name} again" / "model.safetensors")}  # fmt: skip
    assert len(digests) == 4


@pytest.mark.usefixtures("unaccounted")
def test_an_update_without_a_record_is_noise_alone(
    base: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(private._Poisson, "__iter__", lambda self: iter([[]] * len(self)))
    seen: list[Any] = []
    step = torch.optim.AdamW.step

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend(p.grad.flatten() for group in self.param_groups for p in group["params"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    said = DifferentialPrivacy(noise_multiplier=1.5, clip_norm=2.0)
    frozen = plan(freeze=("bert.*",), differential_privacy=said)
    result = fit(frozen, base, records, tmp_path / "model")
    assert result.steps == 12
    assert result.losses[0].training_loss == 0
    from safetensors.torch import load_file

    before, after = (
        load_file(folder / "model.safetensors") for folder in (base, tmp_path / "model")
    )
    name = "encoder.layer.0.output.dense.weight"
    assert (before[name] == after[f"bert.{name}"]).all()
    noise = torch.cat(seen)
    assert len(noise) == 12 * 99
    assert float(noise.std()) == pytest.approx(1.5 * 2.0 / 16, rel=0.1)


def test_near_copies_are_told(records: list[Record]) -> None:
    words = "permission notice copyright grant warranty liability clause the of and in to"
    copies = [
        Record({"text": f"{words} {word}", "label": "license"}, "d.jsonl", number)
        for number, word in enumerate(("this", "that", "on", "it"), 1)
    ]
    # Wherever the family goes, another seed puts it elsewhere.
    found = []
    for seed in range(8):
        watcher = Watching()
        way = mechanism(records + copies, plan(seed=seed), watcher)
        assert way.records - way.families == (way.largest_family or 1) - 1
        assert (way.largest_family > 1) == any("near copies" in line for line in watcher.lines)
        found.append(way.largest_family)
    assert set(found) == {1, 4}


# Killed, and on again.


@pytest.mark.slow
def test_a_killed_training_goes_on_with_fresh_noise_and_counts_every_update(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    way, folder = plan(3), tmp_path / "checkpoints"
    with pytest.raises(Stopped):
        fit(way, base, records, tmp_path / "model", Until(28, stop), checkpoints=folder)
    assert steps_in(folder) == [12, 24]
    text = b"".join(path.read_bytes() for path in folder.rglob("*.json"))
    assert b"noise_multiplier" in text
    weaker = dataclasses.replace(way, differential_privacy=dataclasses.replace(NOISY, delta=1e-4))
    other = Until(1, stop)
    with pytest.raises(Stopped):
        fit(weaker, base, records, tmp_path / "model", other, checkpoints=folder)
    assert any("not made with the same differential privacy" in line for line in other.lines)
    result = fit(way, base, records, tmp_path / "model", checkpoints=folder)
    whole = mechanism(records, way)
    assert result.resumed == (24,)
    assert result.privacy is not None
    assert result.privacy.steps == result.steps == 36
    assert result.privacy.epsilon == private._epsilon(whole, 36)
    assert result.privacy.epsilon > private._epsilon(whole, 12)


# What stops it.


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"differential_privacy": DifferentialPrivacy(epsilon=0.0)}, "0 is not above 0"),
        ({"differential_privacy": DifferentialPrivacy(epsilon=65.0)}, "65 is not above 0 and at"),
        ({"differential_privacy": DifferentialPrivacy(epsilon=0.005)}, "no noise is enough"),
        ({"differential_privacy": dataclasses.replace(NOISY, noise_multiplier=0.01)},
         "above 64 after 12 updates, which promises nothing"),
        ({"differential_privacy": dataclasses.replace(NOISY, delta=1 / 191)}, "not below 1 / 191"),
        ({"differential_privacy": dataclasses.replace(NOISY, delta=0.0)}, "is not below"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing: does not go together"),
        ({"compile": True}, "compile: does not go together"),
    ],
)  # fmt: skip
def test_what_cannot_be_promised(
    base: Path, records: list[Record], tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UnusableInput, match=match):
        fit(plan(**changes), base, records, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_without_opacus_nothing_is_trained(
    base: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "opacus" else find(n))
    with pytest.raises(Unfinished, match="needs opacus, not installed"):
        fit(SHORT, base, records, tmp_path / "model")


def test_several_processes_and_tasks_that_mix_records_are_refused(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, way = settled(SHORT)
    splits = split(task.read(way, records), way)
    mixing = dataclasses.replace(task, apart=lambda plan: False)
    with pytest.raises(UnusableInput, match="rows out of several records"):
        private.mechanism_of(way, mixing, splits, Watching())
    assert not TASKS["sequential-recommendation"].apart(way)
    for packing, apart in (("none", True), ("packed", False), ("blocks", False)):
        one, said = settled(TrainingPlan(task="causal-lm", options={"packing": packing}))
        assert one.apart(said) is apart
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UnusableInput, match="2 processes train"):
        private.mechanism_of(way, task, splits, Watching())


def test_a_record_of_several_rows_and_a_layer_with_statistics_are_refused(
    records: list[Record],
) -> None:
    import torch

    from release_kit.training.models import Loaded
    from release_kit.training.rows import Rows

    way = mechanism(records)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    loaded = Loaded(model, None, (), ())
    rows: list[dict[str, Any]] = [{}] * (way.records + 1)
    with pytest.raises(UnusableInput, match=f"{way.records} training records make {len(rows)}"):
        private.private_trainer(way, loaded, Rows(rows, None, 0), None, Watching())
    # Its statistics leak even where its weights are frozen.
    model.requires_grad_(False)
    with pytest.raises(UnusableInput, match=r"the layer 1 \(BatchNorm1d\) keeps statistics"):
        private.private_trainer(way, loaded, Rows(rows[1:], None, 0), None, Watching())
    model[1] = torch.nn.LayerNorm(2)
    private.private_trainer(way, loaded, Rows(rows[1:], None, 0), None, Watching())


def test_release_yaml_says_epsilon_or_noise(tmp_path: Path) -> None:
    def read(said: str) -> DifferentialPrivacy | None:
        text = RELEASE_YAML.replace("  seed: 3\n", f"  seed: 3\n  differential_privacy: {said}\n")
        (tmp_path / "release.yaml").write_text(text, encoding="utf-8")
        found = read_release(tmp_path).training
        assert found is not None
        return found.differential_privacy

    assert read("{epsilon: 8}") == DifferentialPrivacy(epsilon=8.0)
    assert read("{noise_multiplier: 1, delta: 1.0e-5, clip_norm: 2}") == DifferentialPrivacy(
        noise_multiplier=1.0, delta=1e-5, clip_norm=2.0
    )
    for wrong, match in (
        ("{epsilon: 8, noise_multiplier: 1}", "exactly one"),
        ("{delta: 1.0e-5}", "exactly one"),
        ("{epsilon: 0}", "epsilon"),
        ("{epsilon: 65}", "epsilon"),
        ("{epsilon: 8, delta: 1}", "delta"),
        ("{epsilon: 8, clip_norm: 0}", "clip_norm"),
        ("{epsilon: 8, sigma: 1}", "unknown key 'sigma'"),
    ):
        with pytest.raises(UnusableInput) as caught:
            read(wrong)
        assert any(match in problem.message for problem in caught.value.problems), wrong
