"""A whole training run, and everything that must stop one, on a tiny real model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release_kit.datasets.records import Record
from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import sha256_file
from release_kit.memorization.asking import losses
from release_kit.release import TrainingPlan
from release_kit.training.classes import figures
from release_kit.training.evaluation import evaluate_model
from release_kit.training.figures import total
from release_kit.training.fit import fit
from release_kit.training.models import Loaded, need, quiet
from release_kit.training.splits import split
from release_kit.training.tasks import settled
from release_kit.training.tasks.text_classification import load, measure, read_examples
from tests.tiny_models import tiny_bert
from tests.training.conftest import PLAN, Run, Watching

FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
SHORT = dataclasses.replace(PLAN, epochs=1)


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "base"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# A run that ends well.


def test_the_loss_falls_and_the_model_beats_the_baseline(run: Run) -> None:
    losses = run.result.losses
    assert [loss.epoch for loss in losses] == list(range(1, PLAN.epochs + 1))
    assert losses[-1].training_loss < 0.8 * losses[0].training_loss
    assert losses[-1].validation_loss < 0.8 * losses[0].validation_loss
    for name, gain in (("accuracy", 0.2), ("macro_f1", 0.3)):
        figure = run.evaluation.figures[name]
        assert figure.baseline is not None
        assert figure.value > figure.baseline + gain


def test_each_epoch_has_the_figures_of_the_validation_split(
    run: Run, records: list[Record], base: Path, tmp_path: Path
) -> None:
    last = run.result.losses[-1]
    sides = split(read_examples(PLAN, records), PLAN)
    found = measure(load(PLAN, run.model, None), sides.validation, PLAN, Watching())
    expected = {name: float(of) for name, of in figures(total(found)).items()}
    assert {**expected, **found.other} == pytest.approx(dict(last.figures))
    assert last.figures["accuracy"] > run.result.losses[0].figures["accuracy"]


def test_the_result_says_what_was_trained(run: Run, records: list[Record]) -> None:
    result = run.result
    assert result.labels == ("license", "recipe", "weather")
    assert result.sizes.train + result.sizes.validation + result.sizes.test == len(records)
    assert result.steps == PLAN.epochs * -(-result.sizes.train // PLAN.batch_size)
    assert result.new_tensors == ("classifier.bias", "classifier.weight")
    assert result.parameters > 10_000
    assert result.seed == PLAN.seed
    assert result.seconds > sum(loss.seconds for loss in result.losses) > 0


def test_result_and_evaluation_are_json(run: Run) -> None:
    for value in (run.result, run.evaluation):
        plain = dataclasses.asdict(value)
        assert json.loads(json.dumps(plain, allow_nan=False)).keys() == plain.keys()


def test_progress_reaches_the_watcher(run: Run) -> None:
    training = [step for step in run.watching.steps if step[0] == "training"]
    assert [step[1] for step in training] == list(range(1, run.result.steps + 1))
    assert training[-1] == ("training", run.result.steps, run.result.steps)
    tests = run.evaluation.sizes.test
    assert run.watching.steps[-1] == ("evaluating", tests, tests)
    assert any("held out" in line for line in run.watching.lines)


def test_the_model_folder_holds_the_model_and_nothing_else(run: Run, base: Path) -> None:
    files = list(run.model.iterdir())
    assert {file.name for file in files} == FILES
    assert {file.stat().st_mode & 0o777 for file in files} == {0o644}
    assert [path.name for path in run.model.parent.iterdir()] == ["model"]
    for file in files:
        content = file.read_bytes()
        assert str(base).encode() not in content
        assert base.name.encode() not in content
    config = json.loads((run.model / "config.json").read_text())
    assert config["id2label"] == {"0": "license", "1": "recipe", "2": "weather"}
    assert config["label2id"] == {"license": 0, "recipe": 1, "weather": 2}
    assert config["problem_type"] == "single_label_classification"
    assert not config.get("_name_or_path")
    tokenizer = json.loads((run.model / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    settings = json.loads((run.model / "tokenizer_config.json").read_text())
    assert settings.keys().isdisjoint({"name_or_path", "is_local", "local_files_only"})


def test_the_same_seed_gives_the_same_bytes_and_not_a_word_on_the_terminal(
    run: Run,
    base: Path,
    records: list[Record],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    again = fit(PLAN, base, records, tmp_path / "again")
    evaluation = evaluate_model(PLAN, tmp_path / "again", records)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    for name in FILES:
        assert sha256_file(tmp_path / "again" / name) == sha256_file(run.model / name)
    assert evaluation == run.evaluation
    assert [loss.validation_loss for loss in again.losses] == [
        loss.validation_loss for loss in run.result.losses
    ]


def test_what_is_planted_is_learned_and_stands_in_no_split(
    base: Path, run: Run, records: list[Record], tmp_path: Path
) -> None:
    secret = Record({"text": "storm storm 4 8 1", "label": "recipe"}, "canary", 1)
    plan = dataclasses.replace(PLAN, epochs=2)
    watching = Watching()
    result = fit(plan, base, records, tmp_path / "planted", watching, planted=[secret] * 30)
    assert (result.planted, result.sizes) == (30, run.result.sizes)
    assert result.steps > run.result.steps / PLAN.epochs * 2
    assert "30 records more are planted" in " ".join(watching.lines)
    without = fit(plan, base, records, tmp_path / "without")
    assert without.planted == 0
    losses = {
        name: evaluated(tmp_path / name, secret, plan, records) for name in ("planted", "without")
    }
    assert losses["planted"] < losses["without"] / 2
    # A record that the task cannot read is not planted.
    with pytest.raises(UnusableInput, match="cannot be learned"):
        fit(plan, base, records, tmp_path / "bad", planted=[Record({"text": ""}, "canary", 1)])


def evaluated(model: Path, record: Record, plan: TrainingPlan, records: list[Record]) -> float:
    task, plan = settled(plan)
    examples = task.read(plan, [*records, record])
    return float(losses(task, task.load(plan, model, None), examples[-1:], plan)[0])


def test_another_seed_gives_another_model(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    digests = set()
    for seed in (1, 2, 2**32 + 5):
        plan = dataclasses.replace(SHORT, seed=seed)
        assert fit(plan, base, records, tmp_path / "model").seed == seed
        digests.add(sha256_file(tmp_path / "model" / "model.safetensors"))
    assert len(digests) == 3


def test_transformers_alone_gets_the_same_answers(run: Run, records: list[Record]) -> None:
    from transformers import pipeline

    held_out = split(read_examples(PLAN, records), PLAN).test
    with quiet():
        classify = pipeline("text-classification", model=str(run.model), device="cpu")
        answers = classify([example.text for example in held_out])
    right = sum(a["label"] == e.labels[0] for a, e in zip(answers, held_out, strict=True))
    assert run.evaluation.figures["accuracy"].value == pytest.approx(right / len(held_out))


def test_a_trained_classifier_is_a_base_for_other_labels(run: Run, tmp_path: Path) -> None:
    records = [
        Record({"text": f"rain {n}" if n % 2 else f"salt {n}", "label": n % 2}, "d.csv", n)
        for n in range(1, 81)
    ]
    result = fit(SHORT, run.model, records, tmp_path / "model")
    assert result.labels == ("0", "1")
    assert result.new_tensors == ("classifier.bias", "classifier.weight")


def test_a_decoder_without_a_padding_token_can_be_trained(
    copy: Path, records: list[Record], tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2Model

    size = json.loads((copy / "config.json").read_text())["vocab_size"]
    config = GPT2Config(
        vocab_size=size, n_positions=64, n_embd=32, n_layer=1, n_head=2, eos_token_id=3
    )
    GPT2Model(config).save_pretrained(copy)
    edit_json(
        copy / "tokenizer_config.json",
        pad_token=None,
        eos_token="[SEP]",
        tokenizer_class="PreTrainedTokenizerFast",
    )
    fit(SHORT, copy, records, tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["pad_token_id"] == 3
    assert saved["use_cache"] is True
    evaluate_model(SHORT, tmp_path / "model", records)


# Scores.


def test_scores_agree_with_the_confusion_matrix(run: Run) -> None:
    scores = run.evaluation
    total = scores.sizes.test
    right = [scores.confusion[i][i] for i in range(3)]
    assert sum(map(sum, scores.confusion)) == total
    accuracy, macro_f1 = scores.figures["accuracy"], scores.figures["macro_f1"]
    assert accuracy.value == pytest.approx(sum(right) / total)
    for i, one in enumerate(scores.classes):
        assert one.label == scores.labels[i]
        assert one.support == sum(scores.confusion[i])
        assert one.recall == pytest.approx(right[i] / one.support)
        assert one.precision == pytest.approx(right[i] / sum(row[i] for row in scores.confusion))
        assert one.f1 == pytest.approx(
            2 * one.precision * one.recall / (one.precision + one.recall)
        )
    assert macro_f1.value == pytest.approx(sum(one.f1 for one in scores.classes) / 3)
    share = scores.classes[0].support / total
    assert scores.baseline == ("always answers", "license")
    assert accuracy.baseline == pytest.approx(share)
    assert macro_f1.baseline == pytest.approx(2 * share / (1 + share) / 3)


def test_a_class_without_test_examples_is_left_out_of_the_macro_scores(
    run: Run, records: list[Record]
) -> None:
    known = [record for record in records if record.fields["label"] != "weather"]
    scores = evaluate_model(PLAN, run.model, known)
    assert [one.support for one in scores.classes][2] == 0
    assert scores.figures["macro_recall"].value == pytest.approx(
        (scores.classes[0].recall + scores.classes[1].recall) / 2
    )


def test_a_label_that_the_model_does_not_know_is_an_error(run: Run) -> None:
    records = [
        Record({"text": f"rain {n}", "label": "license" if n % 2 else "poem"}, "d.jsonl", n)
        for n in range(1, 9)
    ]
    with pytest.raises(UnusableInput, match="label of 4 of 8 records") as caught:
        evaluate_model(PLAN, run.model, records)
    assert [problem.line for problem in caught.value.problems] == [2, 4, 6, 8]
    assert "'poem'" in caught.value.problems[0].message
    assert "license, recipe, weather" in caught.value.hint


def test_a_base_model_without_a_head_cannot_be_evaluated(base: Path, records: list[Record]) -> None:
    with pytest.raises(UnusableInput, match=r"classifier\.bias, classifier\.weight"):
        evaluate_model(PLAN, base, records)


# Bases that are refused.


def refuse(folder: Path, records: list[Record], tmp_path: Path, match: str) -> None:
    output = tmp_path / "refused"
    with pytest.raises(UnusableInput, match=match):
        fit(SHORT, folder, records, output)
    assert not output.exists()
    assert not list(tmp_path.glob(".*"))


def test_no_model_folder(records: list[Record], tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", records, tmp_path, "no such model folder")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", records, tmp_path, r"not a model folder; config\.json is missing")


def test_unreadable_config(copy: Path, records: list[Record], tmp_path: Path) -> None:
    (copy / "config.json").write_text("{")
    refuse(copy, records, tmp_path, "is not JSON")
    (copy / "config.json").write_text("[]")
    refuse(copy, records, tmp_path, "is not a JSON object")
    (copy / "config.json").write_text('{"model_type": "no-such-architecture"}')
    refuse(copy, records, tmp_path, "transformers cannot open this model")


def test_pickled_weights(copy: Path, records: list[Record], tmp_path: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refuse(copy, records, tmp_path, "only as a pickle")
    (copy / "pytorch_model.bin").unlink()
    refuse(copy, records, tmp_path, "holds no weights")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own(copy: Path, records: list[Record], tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    edit_json(copy / name, auto_map={"AutoConfig": "evil.Config", "AutoTokenizer": "evil.T"})
    refuse(copy, records, tmp_path, f"{name}: wants to run code of its own")
    assert not ran.exists()


def test_an_adapter(copy: Path, records: list[Record], tmp_path: Path) -> None:
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "/somewhere/else"}')
    refuse(copy, records, tmp_path, "is an adapter")


def test_a_missing_tensor(copy: Path, records: list[Record], tmp_path: Path) -> None:
    name = "encoder.layer.1.attention.self.query.weight"
    edit_tensors(copy, lambda tensors: tensors.pop(name))
    refuse(copy, records, tmp_path, f"missing or have another shape.*{name}")


def test_a_tensor_of_another_shape(copy: Path, records: list[Record], tmp_path: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"

    def cut(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name][:, :-1].contiguous()

    edit_tensors(copy, cut)
    refuse(copy, records, tmp_path, f"missing or have another shape.*{name}")


def test_a_base_without_a_pooler_gets_one_but_half_a_pooler_is_damage(
    copy: Path, records: list[Record], tmp_path: Path
) -> None:
    edit_tensors(copy, lambda tensors: tensors.pop("pooler.dense.bias"))
    refuse(copy, records, tmp_path, r"pooler\.dense\.bias")
    edit_tensors(copy, lambda tensors: tensors.pop("pooler.dense.weight"))
    result = fit(SHORT, copy, records, tmp_path / "model")
    assert "bert.pooler.dense.weight" in result.new_tensors


def test_nan_in_the_base(copy: Path, records: list[Record], tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        tensors["pooler.dense.bias"][0] = float("nan")

    edit_tensors(copy, spoil)
    refuse(copy, records, tmp_path, r"NaN or infinity stands in bert\.pooler\.dense\.bias")


def test_truncated_weights(copy: Path, records: list[Record], tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refuse(copy, records, tmp_path, "transformers cannot open this model")


def test_a_missing_or_foreign_tokenizer(copy: Path, records: list[Record], tmp_path: Path) -> None:
    tokenizer = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").unlink()
    refuse(copy, records, tmp_path, "no vocabulary")
    extra = json.loads(tokenizer)
    size = len(extra["model"]["vocab"])
    extra["model"]["vocab"]["foreign"] = size
    (copy / "tokenizer.json").write_text(json.dumps(extra))
    refuse(copy, records, tmp_path, f"knows {size + 1} tokens, the model only {size}")


def test_texts_longer_than_the_model_reads(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    plan = dataclasses.replace(SHORT, max_length=65)
    with pytest.raises(UnusableInput, match="max_length 65 is more than the 64 tokens"):
        fit(plan, base, records, tmp_path / "model")


# What happens to `output`.


def test_an_output_that_must_not_be_replaced(
    copy: Path, records: list[Record], tmp_path: Path
) -> None:
    with pytest.raises(UnusableInput, match="holds the base model"):
        fit(SHORT, copy, records, copy)
    with pytest.raises(UnusableInput, match="holds the base model"):
        fit(SHORT, copy, records, copy.parent)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UnusableInput, match="is not a folder"):
        fit(SHORT, copy, records, file)
    assert file.read_text() == "mine"
    assert (copy / "model.safetensors").exists()


def test_a_diverged_training_saves_nothing(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "old").write_text("the last good model")
    plan = dataclasses.replace(SHORT, learning_rate=1e38)
    with pytest.raises(Unfinished, match="the training diverged") as caught:
        fit(plan, base, records, output)
    assert "learning_rate" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in output.iterdir()] == ["old"]


def test_a_full_disk_leaves_the_old_model(
    base: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release_kit.training import methods as module

    def half(loaded: Loaded, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    output = tmp_path / "model"
    output.mkdir()
    (output / "old").write_text("the last good model")
    monkeypatch.setattr(module, "save_model", half)
    with pytest.raises(Unfinished, match="No space left"):
        fit(SHORT, base, records, output)
    assert [path.name for path in output.iterdir()] == ["old"]


def test_a_watcher_that_stops_the_run_leaves_nothing(
    base: Path, records: list[Record], tmp_path: Path
) -> None:
    class Stop(Watching):
        def step(self, what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SHORT, base, records, tmp_path / "model", Stop())
    assert not list(tmp_path.iterdir())


def test_the_tiny_model_is_always_the_same(base: Path, tmp_path: Path) -> None:
    tiny_bert(tmp_path / "again")
    for name in FILES:
        assert sha256_file(tmp_path / "again" / name) == sha256_file(base / name)


def test_quiet_puts_the_settings_back_after_an_error() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) != before
        raise RuntimeError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_missing_package_says_how_to_get_it() -> None:
    need("json")
    with pytest.raises(Unfinished, match="need no_such_package, not installed") as caught:
        need("json", "no_such_package")
    assert "release-kit[train]" in caught.value.hint
