"""A model that restores noised texts, and the noise of BART and T5."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.files import sha256_file
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.evaluation import evaluate_model
from release_kit.training.fit import fit
from release_kit.training.models import Loaded, quiet
from release_kit.training.rows import Rows
from release_kit.training.splits import Example, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.denoising_seq2seq import (
    Noise,
    collate,
    draw,
    encode,
    load,
    measure,
    noise_of,
)
from release_kit.training.tasks.tokens import IGNORED, read_texts
from tests.tiny_models import tiny_bart, tiny_t5
from tests.training.tasks.test_masked_lm import cycles
from tests.training.test_checkpoints import Stopped, Until, stop
from tests.training.test_training import edit_tensors

_, PLAN = settled(
    TrainingPlan(
        task="denoising-seq2seq",
        epochs=12,
        batch_size=16,
        learning_rate=5e-3,
        max_length=32,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
    )
)
SHORT = replace(PLAN, epochs=2)
MAKERS = {"bart": tiny_bart, "t5": tiny_t5}


class Run:
    """A training with its evaluation."""

    def __init__(self, base: Path, folder: Path, epochs: int) -> None:
        self.plan = replace(PLAN, epochs=epochs)
        self.base, self.model, self.records = base, folder / "model", cycles()
        self.result = fit(self.plan, base, self.records, self.model)
        self.evaluation = evaluate_model(self.plan, self.model, self.records, base=base)

    def loaded(self) -> Loaded:
        with quiet():
            return load(self.plan, self.model, None)

    def held_out(self) -> tuple[Example, ...]:
        return split(read_texts(self.plan, self.records), self.plan).test

    def rows(self, loaded: Loaded) -> list[dict[str, Any]]:
        rows = encode(loaded, self.held_out(), self.plan)
        fixed = Rows(rows, draw(loaded, self.plan), self.plan.seed, fixed=True)
        return [fixed[row] for row in range(len(fixed))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denoising")
    for name, make in MAKERS.items():
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def bart(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(folder / "bart", tmp_path_factory.mktemp("bart"), 12)


@pytest.fixture(scope="module")
def t5(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(folder / "t5", tmp_path_factory.mktemp("t5"), 8)


# What it learns.


def test_the_loss_falls_and_the_model_beats_its_base(bart: Run, t5: Run) -> None:
    for run, gain in ((bart, 0.6), (t5, 0.3)):
        first, last = run.result.losses[0], run.result.losses[-1]
        assert last.training_loss < 0.75 * first.training_loss
        assert last.validation_loss < 0.75 * first.validation_loss
        figures = run.evaluation.figures
        assert figures["perplexity"].value < 0.3 * (figures["perplexity"].baseline or 0)
        found = figures["token_accuracy"]
        assert found.baseline is not None
        assert found.value > found.baseline + gain
        assert run.evaluation.baseline == ("is the base model, before this training", "")
        assert run.result.new_tensors == ()
        assert run.result.pipeline_tag == ""
    assert bart.evaluation.figures["exact_match"].value > 0.2
    assert bart.evaluation.figures["exact_match"].baseline == 0


def test_loss_and_figures_by_hand_with_plain_transformers(bart: Run, t5: Run) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    for run in (bart, t5):
        with quiet():
            model = AutoModelForSeq2SeqLM.from_pretrained(run.model)
        loaded = run.loaded()
        rows = run.rows(loaded)
        start = model.config.decoder_start_token_id
        logs, right, exact, greedy = [], [], [], []
        for row in rows:
            noised, target = torch.tensor([row["input_ids"]]), row["labels"]
            with torch.inference_mode():
                fed = torch.tensor([[start, *target[:-1]]])
                logits = model(input_ids=noised, decoder_input_ids=fed).logits[0].double()
                restored = model.generate(noised, max_new_tokens=len(target), num_beams=1)
            shares = logits.log_softmax(dim=-1)
            logs += [float(shares[place, token]) for place, token in enumerate(target)]
            told = logits.argmax(dim=-1).tolist()
            right += [one == other for one, other in zip(told, target, strict=True)]
            exact.append(told == target)
            greedy.append(restored[0, 1:].tolist() == target)
        figures = run.evaluation.figures
        assert figures["perplexity"].value == pytest.approx(math.exp(-np.mean(logs)), rel=1e-4)
        assert figures["token_accuracy"].value == pytest.approx(np.mean(right))
        assert figures["exact_match"].value == pytest.approx(np.mean(exact))
        assert exact == greedy

        batch = collate(loaded, run.plan)(rows)
        assert batch["decoder_input_ids"][:, 0].tolist() == [start] * len(rows)
        with torch.inference_mode():
            loss = float(model(**batch).loss)
        assert loss == pytest.approx(-np.mean(logs), rel=1e-4)


def test_labels_are_padded_with_what_the_loss_ignores(bart: Run) -> None:
    loaded = bart.loaded()
    examples = [Example(text, (), "d.jsonl", 1) for text in ("rain", "rain the cloud a wind")]
    rows = [
        draw(loaded, PLAN)(row, np.random.default_rng(1)) for row in encode(loaded, examples, PLAN)
    ]
    batch = collate(loaded, PLAN)(rows)
    assert batch["labels"].shape == (2, 7)
    assert batch["labels"][0, 3:].tolist() == [IGNORED] * 4
    assert (batch["decoder_input_ids"] >= 0).all()


def test_a_long_text_is_exact_only_where_all_its_rows_are(bart: Run) -> None:
    loaded = bart.loaded()
    text = Example(" ".join(example.text for example in bart.held_out()[:12]), (), "d.jsonl", 1)
    rows = encode(loaded, [text], PLAN)
    assert [len(row["input_ids"]) for row in rows] == [32, 32, 26]
    counts = measure(loaded, [text, bart.held_out()[0]], PLAN, SILENT).rows
    assert counts[0, 1] == 90
    assert counts[:, 4].tolist() == [1, 1]
    assert counts[0, 3] == (counts[0, 1] == counts[0, 2])


def test_answers_that_are_no_number_are_told_by_their_places(bart: Run) -> None:
    loaded, examples = bart.loaded(), bart.held_out()[:3]
    assert measure(loaded, examples, PLAN, SILENT).broken == ()
    loaded.model.final_logits_bias[:] = math.nan
    assert measure(loaded, examples, PLAN, SILENT).broken == (0, 1, 2)


# The noise.


def test_barts_noise() -> None:
    noise = Noise(0.3, 3.0, (4,))
    tokens = list(range(100, 1100))
    lengths = []
    for seed in range(20):
        noised, target = noise(tokens, np.random.default_rng(seed))
        assert target == tokens
        kept = [token for token in noised if token != 4]
        assert len(kept) == 700
        assert kept == sorted(kept)
        assert len(noised) <= len(tokens)
        lengths.append(300 / (len(noised) - 700))
    # 100 runs each, whose lengths have a standard deviation of sqrt(3).
    assert np.mean(lengths) == pytest.approx(3, abs=0.2)
    noised, _ = Noise(0.5, 0.1, (4,))(tokens, np.random.default_rng(1))
    assert len(noised) <= len(tokens)


def test_t5s_noise_leaves_out_what_the_target_holds() -> None:
    for marks in (tuple(range(20)), (0, 1)):
        noise = Noise(0.3, 3.0, marks)
        for seed in range(20):
            tokens = list(range(100, 130))
            noised, target = noise(tokens, np.random.default_rng(seed))
            used = [token for token in noised if token < 100]
            assert used == list(range(len(used)))
            assert target[-1] == len(used)
            assert [token for token in target if token < 100] == [*used, len(used)]
            runs: dict[int, list[int]] = {}
            for token in target[:-1]:
                if token < 100:
                    run = runs[token] = []
                else:
                    run.append(token)
            assert all(runs.values())
            restored = [one for token in noised for one in runs.get(token, [token])]
            assert restored == tokens
            assert sum(map(len, runs.values())) == 9


def test_one_token_at_least_is_taken() -> None:
    for marks in ((4,), (4, 5, 6)):
        noised, _ = Noise(0.01, 3.0, marks)([100], np.random.default_rng(1))
        assert noised == [4]


def test_what_the_tokenizer_has_says_which_noise(folder: Path) -> None:
    for name, sentinels in (("bart", False), ("t5", True)):
        with quiet():
            loaded = load(PLAN, folder / name, ())
        noise = noise_of(loaded, PLAN)
        assert noise.sentinels == sentinels
        tokens = loaded.processor.convert_ids_to_tokens(list(noise.marks))
        assert tokens == ([f"<extra_id_{n}>" for n in range(8)] if sentinels else ["<mask>"])
        text = Example("rain the cloud a wind", (), "d.jsonl", 1)
        (row,) = encode(loaded, [text], PLAN)
        found = draw(loaded, PLAN)(row, np.random.default_rng(1))
        end = loaded.processor.eos_token_id
        assert found["input_ids"][-1] == found["labels"][-1] == end
        assert (found["labels"][0] == loaded.processor.bos_token_id) == (name == "bart")


def test_a_stopped_training_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    texts, kept = cycles()[:120], tmp_path / "checkpoints"
    steps = fit(SHORT, folder / "bart", texts, tmp_path / "whole").steps
    with pytest.raises(Stopped):
        watcher = Until(steps // 2 + 1, stop)
        fit(SHORT, folder / "bart", texts, tmp_path / "model", watcher, checkpoints=kept)
    result = fit(SHORT, folder / "bart", texts, tmp_path / "model", checkpoints=kept)
    assert result.resumed == (steps // 2,)
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "model"))
    assert sha256_file(one) == sha256_file(other)


# What it refuses, and where it starts.


def test_from_scratch_the_baseline_is_the_shares_of_the_tokens(
    folder: Path, tmp_path: Path
) -> None:
    _, plan = settled(replace(SHORT, options={"start": "scratch"}))
    texts = cycles()[:120]
    result = fit(plan, folder / "bart", texts, tmp_path / "model")
    assert "model.shared.weight" in result.new_tensors
    found = evaluate_model(plan, tmp_path / "model", texts, base=folder / "bart")
    assert found.baseline[0].startswith("knows only how often each token stands")
    assert found.figures["exact_match"].baseline == 0
    assert 1 < (found.figures["perplexity"].baseline or 0) < 42


def test_a_base_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    for name, make in MAKERS.items():
        base = make(tmp_path / name)
        lost = {
            "bart": "model.decoder.layers.1.fc1.weight",
            "t5": "decoder.block.1.layer.2.DenseReluDense.wi.weight",
        }[name]
        edit_tensors(base, lambda tensors, lost=lost: tensors.pop(lost))
        with pytest.raises(UnusableInput, match="tensors are missing"):
            fit(SHORT, base, cycles()[:40], tmp_path / "model")


def test_a_tokenizer_without_mask_and_sentinels_is_refused(tmp_path: Path) -> None:
    base = tiny_bart(tmp_path / "bart")
    said = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(said | {"mask_token": None}))
    with pytest.raises(UnusableInput, match="neither a mask token nor sentinels"):
        fit(SHORT, base, cycles()[:40], tmp_path / "model")


def test_bad_records_are_told(folder: Path, tmp_path: Path) -> None:
    records = cycles()[:20]
    for number, fields in ((2, {}), (3, {"text": 1}), (5, {"text": ""})):
        records[number - 1] = Record(fields, "data/texts.jsonl", number)
    with pytest.raises(UnusableInput) as caught:
        fit(SHORT, folder / "bart", records, tmp_path / "model")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 5]
    with quiet():
        loaded = load(PLAN, folder / "bart", ())
    texts = ("rain", "☃ zebra", "\u200b", "zebra rain")
    examples = [Example(text, (), "d.jsonl", n) for n, text in enumerate(texts, 1)]
    with pytest.raises(UnusableInput, match="2 of 4 records of a split") as caught:
        encode(loaded, examples, PLAN)
    assert [problem.line for problem in caught.value.problems] == [2, 3]
