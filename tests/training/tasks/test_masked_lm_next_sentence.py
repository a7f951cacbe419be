"""A model that tells hidden tokens and which text follows which, and how its pairs are made."""

from __future__ import annotations

import math
import random
import shutil
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
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import Loaded, quiet
from release_kit.training.rows import Rows
from release_kit.training.splits import split
from release_kit.training.tasks import settled
from release_kit.training.tasks.masked_lm import collate
from release_kit.training.tasks.masked_lm_next_sentence import (
    draw,
    encode,
    load,
    measure,
    read_documents,
    sentences_of,
)
from release_kit.training.tasks.tokens import IGNORED
from tests.tiny_models import TOPICS, tiny_bart
from tests.training.test_checkpoints import Stopped, Until, stop

_, PLAN = settled(
    TrainingPlan(
        task="masked-lm-next-sentence",
        epochs=20,
        batch_size=16,
        learning_rate=5e-3,
        max_length=32,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
    )
)
SHORT = replace(PLAN, epochs=2)
_, LINES = settled(replace(PLAN, options={"sentences": "lines"}))


def documents(count: int) -> list[Record]:
    """Return documents of five sentences, each with words of one topic, some more common."""
    draw = random.Random(5)
    records = []
    for number in range(1, count + 1):
        words = TOPICS[draw.choice(list(TOPICS))][:7]
        common = [12, 6, 3, 2, 1, 1, 1]
        told = [" ".join(draw.choices(words, common, k=draw.randint(3, 5))) for _ in range(5)]
        # As a list or as a text: the same sentences.
        value: Any = told if number % 2 else ". ".join(told) + "."
        records.append(Record({"document": value}, "data/documents.jsonl", number))
    return records


class Run:
    """A training with its evaluation."""

    def __init__(self, base: Path, model: Path) -> None:
        self.model = model
        self.records = documents(240)
        self.result: TrainingResult = fit(PLAN, base, self.records, model)
        self.evaluation: Evaluation = evaluate_model(PLAN, model, self.records, base=base)

    def loaded(self) -> Loaded:
        with quiet():
            return load(PLAN, self.model, None)


@pytest.fixture(scope="module")
def learned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(base, tmp_path_factory.mktemp("pairs") / "model")


def pairs(loaded: Loaded, records: list[Record], plan: TrainingPlan, epoch: int = 0) -> list[Any]:
    rows = Rows(encode(loaded, read_documents(plan, records), plan), draw(loaded, plan), 3)
    rows.set_epoch(epoch)
    return [rows[row] for row in range(len(rows))]


def parts_of(row: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the tokens of A and of B, as they were before any was hidden."""
    true = [
        read if label == IGNORED else label
        for read, label in zip(row["input_ids"], row["labels"], strict=True)
    ]
    middle = row["token_type_ids"].index(1)
    assert row["token_type_ids"] == [0] * middle + [1] * (len(true) - middle)
    assert (true[0], true[middle - 1], true[-1]) == (2, 3, 3)
    return true[1 : middle - 1], true[middle:-1]


# What it learns.


def test_the_loss_falls_and_both_heads_beat_the_baseline(learned: Run) -> None:
    first, last = learned.result.losses[0], learned.result.losses[-1]
    assert last.training_loss < 0.7 * first.training_loss
    assert last.validation_loss < 0.7 * first.validation_loss
    figures = learned.evaluation.figures
    assert figures["perplexity"].value < 0.6 * (figures["perplexity"].baseline or 0)
    assert figures["masked_accuracy"].value > (figures["masked_accuracy"].baseline or 1) + 0.03
    found = figures["next_sentence_accuracy"]
    # Two of three strange sentences are of another topic: five of six pairs can be told.
    assert found.value > (found.baseline or 1) + 0.15
    assert learned.evaluation.baseline[0].endswith("takes every pair for one that follows")
    assert learned.result.pipeline_tag == "fill-mask"
    assert "cls.seq_relationship.weight" in learned.result.new_tensors


def test_loss_and_figures_by_hand_with_plain_transformers(learned: Run) -> None:
    import torch
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    with quiet():
        model = AutoModelForPreTraining.from_pretrained(learned.model)
        masked = AutoModelForMaskedLM.from_pretrained(learned.model)
    loaded = learned.loaded()
    held_out = split(read_documents(PLAN, learned.records), PLAN).test
    fixed = Rows(encode(loaded, held_out, PLAN), draw(loaded, PLAN), PLAN.seed, fixed=True)
    rows = [fixed[row] for row in range(len(fixed))]
    logs, right, follows, known = [], [], [], []
    for row in rows:
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids")}
        with torch.inference_mode():
            outputs = model(**inputs)
            assert torch.allclose(masked(**inputs).logits, outputs.prediction_logits, atol=1e-5)
        for place, token in enumerate(row["labels"]):
            if token != IGNORED:
                scores = outputs.prediction_logits[0, place].double()
                logs.append(float(scores[token] - scores.logsumexp(dim=0)))
                right.append(int(scores.argmax()) == token)
        scores = outputs.seq_relationship_logits[0].double()
        follows.append(float(scores[row["next_sentence_label"]] - scores.logsumexp(dim=0)))
        known.append(int(scores.argmax()) == row["next_sentence_label"])
    figures = learned.evaluation.figures
    assert figures["perplexity"].value == pytest.approx(math.exp(-np.mean(logs)), rel=1e-4)
    assert figures["masked_accuracy"].value == pytest.approx(np.mean(right))
    assert figures["next_sentence_accuracy"].value == pytest.approx(np.mean(known))
    always = np.mean([row["next_sentence_label"] == 0 for row in rows])
    assert figures["next_sentence_accuracy"].baseline == pytest.approx(always)

    with torch.inference_mode():
        loss = float(model(**collate(loaded, PLAN)(rows)).loss)
    assert loss == pytest.approx(-np.mean(logs) - np.mean(follows), rel=1e-4)


@pytest.mark.parametrize("head", ["seq_relationship", "predictions"])
def test_a_nan_of_either_head_is_told(learned: Run, head: str) -> None:
    loaded = learned.loaded()
    examples = read_documents(PLAN, learned.records)[:5]
    assert measure(loaded, examples, PLAN, SILENT).broken == ()
    getattr(loaded.model.cls, head).bias.data[:] = math.nan
    assert measure(loaded, examples, PLAN, SILENT).broken == (0, 1, 2, 3, 4)


def test_it_is_held_against_a_base_that_has_both_heads(learned: Run, tmp_path: Path) -> None:
    result = fit(replace(PLAN, epochs=1), learned.model, learned.records, tmp_path / "model")
    assert result.new_tensors == ()
    found = evaluate_model(PLAN, tmp_path / "model", learned.records, base=learned.model)
    assert found.baseline == ("is the base model, before this training", "")
    for name, figure in learned.evaluation.figures.items():
        assert found.figures[name].baseline == pytest.approx(figure.value)


def test_a_stopped_training_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    told, kept = documents(80), tmp_path / "checkpoints"
    steps = fit(SHORT, base, told, tmp_path / "whole").steps
    with pytest.raises(Stopped):
        fit(SHORT, base, told, tmp_path / "model", Until(steps // 2 + 1, stop), checkpoints=kept)
    assert fit(SHORT, base, told, tmp_path / "model", checkpoints=kept).resumed == (steps // 2,)
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "model"))
    assert sha256_file(one) == sha256_file(other)


# How pairs are made.


def test_half_the_pairs_follow_and_the_others_are_of_other_documents(base: Path) -> None:
    with quiet():
        loaded = load(PLAN, base, ())
    # Each document repeats its own word, so that whose a token is can be seen.
    words = sorted({word for topic in TOPICS.values() for word in topic})[:20]
    records = [
        Record({"document": [f"{word} {word}"] * 40}, "d.jsonl", number)
        for number, word in enumerate(words, 1)
    ]
    every = [row for epoch in range(8) for row in pairs(loaded, records, PLAN, epoch)]
    follow = [row["next_sentence_label"] == 0 for row in every]
    # Four standard deviations.
    assert np.mean(follow) == pytest.approx(0.5, abs=2 / math.sqrt(len(every)))
    for row, follows in zip(every, follow, strict=True):
        one, other = parts_of(row)
        assert len(one) >= 1
        assert len(other) >= 1
        assert len(row["input_ids"]) <= PLAN.max_length
        assert set(one + other) == ({one[0]} if follows else {one[0], other[0]})
        assert (one[0] == other[0]) == follows
    assert len({tuple(row["token_type_ids"]) for row in every}) > 5
    assert pairs(loaded, records, PLAN, 0) == pairs(loaded, records, PLAN, 0)


def test_sentences_keep_their_order_and_none_is_lost(base: Path) -> None:
    with quiet():
        loaded = load(PLAN, base, ())
    words = sorted({word for topic in TOPICS.values() for word in topic})
    ids = loaded.processor.convert_tokens_to_ids(words)
    for size in (1, 2, 3, 5, 11):
        told = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
        records = [Record({"document": told}, "d.jsonl", number) for number in (1, 2)]
        plan = replace(PLAN, max_length=13)
        seen: set[int] = set()
        for epoch in range(6):
            for row in pairs(loaded, records, plan, epoch):
                one, other = parts_of(row)
                assert len(one) + len(other) <= 10
                seen.update(one, other)
                if row["next_sentence_label"] == 0:
                    at = ids.index(one[0])
                    assert one + other == ids[at : at + len(one + other)]
        assert seen == set(ids)


@pytest.mark.parametrize(
    ("text", "rule", "sentences"),
    [
        ('He said "Go." Then we went! OK? v1.2 is out', "marks", 4),
        ("走。好！\u300c去吧。\u300d 我们走了", "marks", 4),
        ("one\nline\n\nanother", "marks", 2),
        ("one. two.\nthree\n\n", "lines", 2),
        ("... !", "marks", 2),
        (" \n ", "lines", 0),
    ],
)
def test_where_sentences_end(text: str, rule: str, sentences: int) -> None:
    found = sentences_of(text, rule)
    assert len(found) == sentences
    assert "".join("".join(found).split()) == "".join(text.split())


# What it refuses.


def test_every_bad_record_is_told_and_none_is_quoted(base: Path, tmp_path: Path) -> None:
    records, secret = documents(20), "sesame"
    for number, value in (
        (2, {"text": secret}),
        (3, {"document": 7}),
        (5, {"document": " "}),
        (6, {"document": [secret, 7]}),
        (8, {"document": [secret, ""]}),
        (9, {"document": [secret]}),
        (11, {"document": f"{secret} alone"}),
        (12, {"document": []}),
    ):
        records[number - 1] = Record(value, "data/documents.jsonl", number)
    with pytest.raises(UnusableInput, match="8 records of 20") as caught:
        fit(SHORT, base, records, tmp_path / "model")
    few = "the document in 'document' has less than two sentences, so none follows another"
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (2, "has no field 'document' for the document"),
        (3, "the field 'document' is not text"),
        (5, "the document in 'document' is empty"),
        (6, "the field 'document' is not text"),
        (8, "the sentence in 'document' is empty"),
        (9, few),
        (11, few),
        (12, few),
    ]
    assert secret not in str(caught.value)


def test_documents_that_the_tokenizer_empties_and_splits_of_one(base: Path) -> None:
    with quiet():
        loaded = load(PLAN, base, ())
    one, two = documents(2)
    empty = Record({"document": ["rain", "☃", "\u200b"]}, "d.jsonl", 3)
    with pytest.raises(UnusableInput) as caught:
        encode(loaded, read_documents(PLAN, [one, empty, two]), PLAN)
    (problem,) = caught.value.problems
    assert (problem.line, "less than two of its sentences" in problem.message) == (3, True)
    with pytest.raises(UnusableInput, match="holds one document only"):
        encode(loaded, read_documents(PLAN, [one]), PLAN)
    assert len(encode(loaded, read_documents(PLAN, [one, two]), PLAN)) >= 2


def test_an_architecture_without_such_a_head_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="does not predict the next sentence"):
        fit(SHORT, tiny_bart(tmp_path / "bart"), documents(40), tmp_path / "model")
    half = Path(shutil.copytree(base, tmp_path / "base"))
    (half / "model.safetensors").unlink()
    result = fit(replace(SHORT, epochs=1), half, documents(40), tmp_path / "model")
    assert "bert.embeddings.word_embeddings.weight" in result.new_tensors
