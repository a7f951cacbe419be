"""What is trained: all weights, some, or an adapter; how steps are made; when training ends."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.files import sha256_file
from release_kit.release import EarlyStopping, Method, TrainingPlan
from release_kit.training.evaluation import evaluate_model
from release_kit.training.fit import fit
from release_kit.training.models import quiet
from tests.training.conftest import PLAN, Watching
from tests.training.test_checkpoints import Stopped, Until, losses, stop

SHORT = dataclasses.replace(PLAN, epochs=2)


def plan(**changes: Any) -> TrainingPlan:
    return dataclasses.replace(SHORT, **changes)


def tensors(folder: Path, name: str = "model.safetensors") -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / name))


def same(one: Any, other: Any) -> bool:
    import torch

    return bool(torch.equal(one, other))


@pytest.fixture(scope="module")
def plain(
    base: Path, records: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    model = tmp_path_factory.mktemp("plain") / "model"
    return model, fit(SHORT, base, records, model)


# Adapters.


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "ia3"])
def test_a_merged_adapter_learns_and_is_a_plain_model(
    base: Path, records: list[Record], tmp_path: Path, kind: str
) -> None:
    way = plan(method=Method(kind, rank=4), epochs=10, learning_rate=8e-3)
    result = fit(way, base, records, tmp_path / "model")
    assert result.losses[-1].training_loss < result.losses[0].training_loss
    assert not result.adapter
    assert 0 < result.trained < result.parameters / 2
    before, after = tensors(base), tensors(tmp_path / "model")
    assert set(after) == {f"bert.{name}" for name in before} | {
        "classifier.weight",
        "classifier.bias",
    }
    changed = {name for name in before if not same(before[name], after[f"bert.{name}"])}
    assert changed
    assert all(".query." in name or "dense" in name or ".key." in name or ".value." in name
               for name in changed)  # fmt: skip
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)
    found = evaluate_model(way, tmp_path / "model", records).figures["macro_f1"]
    assert found.baseline is not None
    # So few numbers as ia3 has learn little from random weights.
    assert found.value > found.baseline + 0.2 or kind == "ia3"


def test_the_delta_of_a_merged_lora_has_its_rank(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    import torch

    fit(plan(method=Method("lora", rank=3)), base, records, tmp_path / "model")
    before, after = tensors(base), tensors(tmp_path / "model")
    name = "encoder.layer.0.attention.self.query.weight"
    delta = after[f"bert.{name}"].double() - before[name].double()
    assert int(torch.linalg.matrix_rank(delta, rtol=1e-4)) == 3


def test_an_adapter_is_shipped_alone_and_gives_the_same_answers_as_merged(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    way = plan(method=Method("lora", ship="adapter"))
    result = fit(way, base, records, tmp_path / "a", base_id="acme/tiny-bert", revision="v1")
    assert result.adapter
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (said["base_model_name_or_path"], said["revision"]) == ("acme/tiny-bert", "v1")
    for path in (tmp_path / "a").iterdir():
        assert str(base).encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
    held = tensors(tmp_path / "a", "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in held.values()) == result.trained
    merged = plan(method=Method("lora"))
    fit(merged, base, records, tmp_path / "m")
    alone = evaluate_model(way, tmp_path / "a", records, base=base)
    whole = evaluate_model(merged, tmp_path / "m", records)
    assert alone.confusion == whole.confusion
    # peft alone can use it, from the base and the adapter.
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    with quiet():
        start = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        model = PeftModel.from_pretrained(start, tmp_path / "a").merge_and_unload()
    ours = tensors(tmp_path / "m")
    assert all(
        float((tensor - ours[name]).abs().max()) < 1e-6
        for name, tensor in model.state_dict().items()
        if name in ours
    )


def test_an_adapter_has_the_same_bytes_each_time(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    way = plan(method=Method("lora", ship="adapter"), epochs=1)
    for name in ("a", "b"):
        fit(way, base, records, tmp_path / name, base_id="acme/tiny-bert")
    digests = [
        {path.name: sha256_file(path) for path in (tmp_path / name).iterdir()} for name in "ab"
    ]
    assert digests[0] == digests[1]


def test_an_adapter_without_its_base_or_with_a_hole_cannot_be_evaluated(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    way = plan(method=Method("lora", ship="adapter"), epochs=1)
    fit(way, base, records, tmp_path / "a", base_id="acme/tiny-bert")
    with pytest.raises(UnusableInput, match="its base model is not at hand"):
        evaluate_model(way, tmp_path / "a", records)
    file = tmp_path / "a" / "adapter_model.safetensors"
    held = tensors(tmp_path / "a", file.name)
    save_file({n: t for n, t in held.items() if "classifier.bias" not in n}, file)
    with pytest.raises(UnusableInput, match=r"lacks classifier\.bias"):
        evaluate_model(way, tmp_path / "a", records, base=base)


def test_chosen_targets_alone_change_and_a_mistyped_one_is_told(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    fit(plan(method=Method("lora", targets=("query",)), epochs=1), base, records, tmp_path / "m")
    before, after = tensors(base), tensors(tmp_path / "m")
    changed = {n for n in before if "pooler" not in n and not same(before[n], after[f"bert.{n}"])}
    assert changed == {f"encoder.layer.{i}.attention.self.query.weight" for i in (0, 1)}
    with pytest.raises(UnusableInput, match=r"training\.method\.targets"):
        fit(plan(method=Method("lora", targets=("qwery",))), base, records, tmp_path / "x")


# Frozen weights.


def test_frozen_tensors_stay_as_they_were(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    way = plan(freeze=("bert.embeddings.*", "bert.encoder.layer.0.*"))
    result = fit(way, base, records, tmp_path / "model")
    before, after = tensors(base), tensors(tmp_path / "model")
    still = {name for name in before if same(before[name], after[f"bert.{name}"])}
    assert still == {n for n in before if n.startswith(("embeddings.", "encoder.layer.0."))}
    assert result.trained == sum(
        tensor.numel() for name, tensor in after.items() if name.removeprefix("bert.") not in still
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"freeze": ("bert.embedings.*",)}, r"no tensor .* 'bert\.embedings\.\*'"),
        ({"freeze": ("*",)}, "nothing to train"),
        ({"freeze": ("bert.*",), "method": Method("lora")}, "no meaning with an adapter"),
        ({"shard": True, "method": Method("lora")}, "shard goes with neither an adapter"),
        ({"shard": True, "early_stopping": EarlyStopping(1)}, "nor early_stopping"),
        ({"accumulate": 3}, "cannot be split into 3 equal parts"),
        ({"class_weights": {"license": 1.0, "poem": 2.0}}, "'poem' is no label"),
        ({"class_weights": {"license": 1.0}}, "'recipe' has no weight"),
        ({"class_weights": {"license": 1.0}, "balance_classes": True}, "each in its way"),
    ],
)
def test_what_cannot_be_done_is_told(
    base: Path, records: list[Record], tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UnusableInput, match=match):
        fit(plan(**changes), base, records, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Steps.


def test_parts_of_a_batch_make_the_same_update_as_the_whole(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path
) -> None:
    result = fit(plan(accumulate=4), base, records, tmp_path / "model")
    assert result.steps == plain[1].steps
    for one, other in zip(result.losses, plain[1].losses, strict=True):
        assert one.training_loss == pytest.approx(other.training_loss, rel=0.02)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=0.02)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.5},
        {"warmup_share": 0.5},
        {"schedule": "cosine"},
        {"schedule": "constant"},
        {"clip_norm": 0.01},
        {"precision": "bfloat16"},
    ],
)
def test_each_setting_reaches_the_optimizer(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path, changes: Any
) -> None:
    result = fit(plan(**changes), base, records, tmp_path / "model")
    assert losses(result) != losses(plain[1])
    assert result.losses[-1].training_loss < 1.2
    # Arithmetic may be short; what is kept is not.
    assert {str(t.dtype) for t in tensors(tmp_path / "model").values()} == {"torch.float32"}


def test_shards_need_several_processes_and_that_is_told(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path
) -> None:
    watching = Watching()
    fit(plan(shard=True), base, records, tmp_path / "model", watching)
    assert any("the one that there is holds all weights" in line for line in watching.lines)
    digests = [sha256_file(m / "model.safetensors") for m in (tmp_path / "model", plain[0])]
    assert digests[0] == digests[1]


def test_gradient_checkpointing_changes_no_number(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path
) -> None:
    fit(plan(gradient_checkpointing=True), base, records, tmp_path / "model")
    ours, theirs = tensors(tmp_path / "model"), tensors(plain[0])
    assert all(float((ours[n] - theirs[n]).abs().max()) < 1e-5 for n in theirs)


@pytest.mark.slow
def test_compiled_training_comes_to_the_same(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path
) -> None:
    result = fit(plan(compile=True), base, records, tmp_path / "model")
    assert set(tensors(tmp_path / "model")) == set(tensors(plain[0]))
    assert result.losses[-1].validation_loss == pytest.approx(
        plain[1].losses[-1].validation_loss, rel=0.05
    )


# Weights of classes.


def test_a_heavy_class_is_recognised_more_often(
    base: Path, records: list[Record], plain: tuple[Path, Any], tmp_path: Path
) -> None:
    heavy = plan(class_weights={"license": 1.0, "recipe": 1.0, "weather": 20.0})
    result = fit(heavy, base, records, tmp_path / "heavy")
    given = [
        sum(row[2] for row in evaluate_model(SHORT, model, records).confusion)
        for model in (plain[0], tmp_path / "heavy")
    ]
    assert given[1] > given[0]
    assert losses(result) != losses(plain[1])


def test_balanced_weights_are_those_of_equal_parts_too(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    whole = fit(plan(balance_classes=True), base, records, tmp_path / "a")
    parts = fit(plan(balance_classes=True, accumulate=4), base, records, tmp_path / "b")
    for one, other in zip(whole.losses, parts.losses, strict=True):
        assert one.training_loss == pytest.approx(other.training_loss, rel=0.02)


# Early stopping.

# So great a step that the loss soon rises again.
OVERSHOOTING = plan(epochs=12, learning_rate=8e-3, early_stopping=EarlyStopping(2))


def test_training_ends_when_the_validation_loss_no_longer_falls(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    watching = Watching()
    result = fit(OVERSHOOTING, base, records, tmp_path / "model", watching)
    found = [loss.validation_loss for loss in result.losses]
    assert len(found) == result.best_epoch + 2 < 12
    assert found[result.best_epoch - 1] == min(found)
    assert any(f"has not fallen since epoch {result.best_epoch}" in line for line in watching.lines)
    # The weights are those of the best epoch: a training of as many epochs at the same rates.
    again = fit(
        dataclasses.replace(OVERSHOOTING, early_stopping=EarlyStopping(12)),
        base,
        records,
        tmp_path / "patient",
    )
    assert again.best_epoch == result.best_epoch or min(
        loss.validation_loss for loss in again.losses
    ) < min(found)


def test_a_training_killed_after_it_stopped_early_ends_with_the_same_bytes(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    whole = fit(OVERSHOOTING, base, records, tmp_path / "whole")
    for last in (whole.steps - 3, whole.steps):
        with pytest.raises(Stopped):
            fit(
                OVERSHOOTING,
                base,
                records,
                tmp_path / "model",
                Until(last, stop),
                checkpoints=tmp_path / "checkpoints",
            )
    result = fit(
        OVERSHOOTING, base, records, tmp_path / "model", checkpoints=tmp_path / "checkpoints"
    )
    assert losses(result) == losses(whole)
    assert result.best_epoch == whole.best_epoch
    digests = [sha256_file(tmp_path / n / "model.safetensors") for n in ("whole", "model")]
    assert digests[0] == digests[1]


def test_an_adapter_goes_on_from_a_checkpoint(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    way = plan(method=Method("lora", rank=4))
    whole = fit(way, base, records, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(way, base, records, tmp_path / "m", Until(whole.steps // 2 + 3, stop),
            checkpoints=tmp_path / "c")  # fmt: skip
    result = fit(way, base, records, tmp_path / "m", checkpoints=tmp_path / "c")
    assert result.resumed == (whole.steps // 2,)
    digests = [sha256_file(tmp_path / n / "model.safetensors") for n in ("whole", "m")]
    assert digests[0] == digests[1]
