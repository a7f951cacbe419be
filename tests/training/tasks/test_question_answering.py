"""A model that finds the word of the kind that is asked for, and how its answers are counted."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from release_kit.training.tasks.question_answering import (
    baseline,
    collate,
    counts,
    encode,
    figures,
    load,
    measure,
    notes,
    predict,
    read_examples,
)
from tests.projects import PLANTED_EMAIL, edit, write_project
from tests.tiny_models import TOPICS
from tests.training.conftest import Watching

_, PLAN = settled(
    TrainingPlan(
        task="question-answering",
        epochs=7,
        batch_size=8,
        learning_rate=4e-3,
        max_length=20,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
        options={"stride": 4, "longest_answer": 4, "unanswerable": True},
    )
)
STRICT = replace(PLAN, options={**PLAN.options, "unanswerable": False})


def asked(count: int) -> list[Record]:
    """Return records in which "for" asks for a word of law, "with" of cooking, "on" of weather.

    A context holds words of two of the three kinds, so every third question has no answer.
    """
    draw = random.Random(5)
    kinds = dict(zip(("for", "with", "on"), TOPICS, strict=True))
    records = []
    for index in range(1, count + 1):
        words = draw.choices(["the", "a", "of", "and", "to", "is"], k=draw.randint(4, 15))
        for topic in draw.sample(list(TOPICS), k=2):
            words.insert(draw.randrange(len(words) + 1), draw.choice(TOPICS[topic]))
        question, context = draw.choice(list(kinds)), " ".join(words)
        found = [word for word in words if word in TOPICS[kinds[question]]]
        answers = {"text": found, "answer_start": [context.index(word) for word in found]}
        fields = {"question": question, "context": context, "answers": answers}
        records.append(Record(fields, "data/asked.jsonl", index))
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
    records, watching = asked(700), Watching()
    model = tmp_path_factory.mktemp("run") / "model"
    result = fit(PLAN, base, records, model, watching)
    return Run(model, records, result, evaluate_model(PLAN, model, records, watching), watching)


@pytest.fixture(scope="module")
def loaded(run: Run) -> Loaded:
    with quiet():
        return load(PLAN, run.model, None)


def fields(context: str, *answers: str, question: str = "for") -> dict[str, Any]:
    told = [{"text": text, "answer_start": max(context.find(text), 0)} for text in answers]
    return {"question": question, "context": context, "answers": told}


def read(*every: dict[str, Any], plan: TrainingPlan = PLAN) -> tuple[Example, ...]:
    return read_examples(
        plan, [Record(one, "d.jsonl", number) for number, one in enumerate(every, 1)]
    )


def example(context: str, *answers: str, question: str = "for") -> Example:
    return read(fields(context, *answers, question=question), fields("grant", "grant"))[0]


# Learning.


def test_the_loss_falls_and_the_model_beats_whoever_never_reads_the_question(run: Run) -> None:
    losses = run.result.losses
    assert losses[-1].training_loss < 0.3 * losses[0].training_loss
    assert losses[-1].validation_loss < 0.6 * losses[0].validation_loss
    assert (run.result.labels, run.evaluation.labels) == ((), ())
    assert run.result.pipeline_tag == "question-answering"
    assert run.result.new_tensors == ("qa_outputs.bias", "qa_outputs.weight")
    assert run.evaluation.baseline == ("always answers that there is no answer", "")
    assert list(run.evaluation.figures) == ["exact_match", "answer_f1"]
    for figure in run.evaluation.figures.values():
        assert figure.baseline is not None
        assert figure.gain is not None
        assert 0.3 < figure.baseline < 0.5
        assert figure.value > figure.baseline + 0.3
        assert figure.gain.low > 0.2
    assert any("windows of at most 20 tokens" in line for line in run.watching.lines)


def test_transformers_alone_gets_the_same_answers(run: Run, loaded: Loaded) -> None:
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    held_out = split(read_examples(PLAN, run.records), PLAN).test
    given = predict(loaded, held_out, PLAN, SILENT)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(run.model)
        model = AutoModelForQuestionAnswering.from_pretrained(run.model).eval()
    compared = 0
    for one, answer in zip(held_out, given, strict=True):
        tokens = tokenizer(one.content.question, one.text, return_tensors="pt")
        if tokens.input_ids.shape[1] > PLAN.max_length:
            continue
        with torch.inference_mode():
            scores = model(**tokens)
        start, end = int(scores.start_logits.argmax()), int(scores.end_logits.argmax())
        # Greedy ends may cross where the model is unsure; then nothing can be said.
        if start <= end < start + 4 and (start > 2 or end == 0):
            said = tokenizer.decode(tokens.input_ids[0, start : end + 1], skip_special_tokens=True)
            assert said == answer
            compared += 1
    assert compared > 50
    right = [
        answer in [text for _, text in one.content.answers] if one.content.answers else not answer
        for one, answer in zip(held_out, given, strict=True)
    ]
    assert run.evaluation.figures["exact_match"].value == pytest.approx(sum(right) / len(right))


def test_the_loss_is_the_mean_of_both_ends_over_all_tokens(loaded: Loaded) -> None:
    import torch

    examples = [example("the grant of", "grant of"), example("salt and rain to a")]
    rows = encode(loaded, examples, PLAN)
    # [CLS] for [SEP] the grant of [SEP]
    assert [rows[0][name] for name in ("start_positions", "end_positions")] == [4, 5]
    assert [rows[1][name] for name in ("start_positions", "end_positions")] == [0, 0]
    batch = collate(loaded, PLAN)(rows)
    with torch.inference_mode():
        outputs = loaded.model.eval()(**batch)
    by_hand = 0.0
    for ends, at in ((outputs.start_logits, (4, 0)), (outputs.end_logits, (5, 0))):
        for place, z in zip(at, ends.tolist(), strict=True):
            assert len(z) == 9
            by_hand -= z[place] - math.log(sum(map(math.exp, z)))
    assert float(outputs.loss) == pytest.approx(by_hand / 4, rel=1e-5)


def test_a_classifier_of_many_classes_is_a_base(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    config["id2label"] = {str(at): f"c{at}" for at in range(5)}
    config["label2id"] = {f"c{at}": at for at in range(5)}
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with quiet():
        loaded = load(PLAN, tmp_path, ())
    assert loaded.model.qa_outputs.out_features == 2
    assert loaded.labels == ()


# Windows.


def test_a_long_context_is_read_in_windows_and_nothing_is_learned_beside_the_answer(
    loaded: Loaded,
) -> None:
    # 20 - 3 - 1 tokens of context in a window, 4 of them shared.
    words = ["the"] * 30
    words[14] = "grant"
    one = example(" ".join(words), "grant")
    rows = encode(loaded, [one], PLAN)
    assert [len(row["input_ids"]) for row in rows] == [20, 20, 10]
    grant = loaded.processor.convert_tokens_to_ids("grant")
    for row in rows:
        at = row["input_ids"].index(grant) if grant in row["input_ids"] else 0
        assert (row["start_positions"], row["end_positions"]) == (at, at)
    assert [row["start_positions"] > 0 for row in rows] == [True, True, False]
    (said,) = notes(PLAN, [one], rows)
    assert said == "1 records are read in 3 windows of at most 20 tokens (max_length)"
    assert not list(notes(PLAN, [one], rows[:1]))
    # Wherever it stands, it is found.
    for place in (0, 14, 29):
        words = ["the"] * 30
        words[place] = "grant"
        assert predict(loaded, [example(" ".join(words), "grant")], PLAN, SILENT) == ["grant"]


def test_an_answer_that_is_whole_in_no_window_is_told_and_so_is_a_long_question(
    loaded: Loaded,
) -> None:
    words = " ".join(["the"] * 11 + ["grant", "of", "salt", "and", "rain", "is"] + ["to"] * 13)
    cut = replace(example(words, "grant of salt and rain is"), record=7)
    with pytest.raises(UnusableInput, match="1 records cannot be read") as caught:
        encode(loaded, [example("the grant", "grant"), cut], PLAN)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message) == (7, "its answer stands whole in no window")
    assert "training.options.stride" in caught.value.hint
    wider = replace(PLAN, options={**PLAN.options, "stride": 8})
    assert max(row["start_positions"] for row in encode(loaded, [cut], wider)) > 0

    # 20 - 3 - 13 tokens are as many as windows share.
    long = replace(example("the grant", "grant", question="of " * 13), record=8)
    for use in (
        lambda: encode(loaded, [long], PLAN),
        lambda: measure(loaded, [long], PLAN, SILENT),
    ):
        with pytest.raises(UnusableInput) as caught:
            use()
        (problem,) = caught.value.problems
        assert problem.line == 8
        assert "no more than the 4 tokens" in problem.message
    fits = example("the grant", "grant", question="of " * 12)
    assert encode(loaded, [fits], PLAN)


def test_no_answer_is_longer_than_asked_or_reaches_into_the_question(loaded: Loaded) -> None:
    import torch

    class Fixed:
        """Says the same of every text: begin at the question or `grant`, end at the last word."""

        training = False

        def to(self, device: Any) -> Any:
            return self

        def eval(self) -> Any:
            return self

        def __call__(self, **inputs: Any) -> Any:
            from types import SimpleNamespace

            # [CLS] for [SEP] the grant of salt and [SEP]
            start, end = (
                torch.zeros(inputs["input_ids"].shape),
                torch.zeros(inputs["input_ids"].shape),
            )
            start[:, 1], start[:, 4], end[:, 7], end[:, 5] = 9, 3, 4, 3.5
            return SimpleNamespace(start_logits=start, end_logits=end)

    fixed = replace(loaded, model=Fixed())
    one = example("the grant of salt and", "grant")
    for longest, answer in ((4, "grant of salt and"), (3, "grant of"), (1, "and")):
        plan = replace(PLAN, options={**PLAN.options, "longest_answer": longest})
        assert predict(fixed, [one], plan, SILENT) == [answer]


def test_an_answer_of_nan_is_told(loaded: Loaded, run: Run) -> None:
    import torch

    bias = loaded.model.qa_outputs.bias
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[1] = float("nan")
        found = measure(loaded, read_examples(PLAN, run.records[:2]), PLAN, SILENT)
        assert found.broken == (0, 1)
    finally:
        with torch.no_grad():
            bias.copy_(before)


def test_a_model_that_must_answer_never_answers_with_nothing(loaded: Loaded) -> None:
    one = example("salt and rain to a")
    assert predict(loaded, [one], PLAN, SILENT) == [""]
    assert predict(loaded, [one], STRICT, SILENT)[0] in one.text.split()


# Figures.

PAIRS = [
    ("The Cat, sat!", ["cat sat"], 1, 1),
    ("cat", ["the cat sat", "a dog"], 0, 2 / 3),
    ("the cat cat", ["cat sat on", "cat mat cat"], 0, 4 / 5),
    ("", [], 1, 1),
    ("cat", [], 0, 0),
    ("", ["cat"], 0, 0),
    ("the", ["a"], 1, 1),
    ("the", ["a", "cat"], 0, 0),
    ("北京", ["北京市"], 0, 0),
    ("Theatre an hour", ["theatre hour"], 1, 1),
]


def test_answers_are_compared_as_squad_does() -> None:
    examples = [example(" ".join(["x", *true]), *true) for _, true, _, _ in PAIRS]
    found = counts(examples, [given for given, *_ in PAIRS])
    for (given, _, exact, f1), row in zip(PAIRS, found.tolist(), strict=True):
        assert row == pytest.approx([exact, f1, 1]), given
    sums = found.sum(axis=0)
    assert {name: float(of) for name, of in figures(sums).items()} == pytest.approx(
        {
            "exact_match": sum(exact for *_, exact, _ in PAIRS) / len(PAIRS),
            "answer_f1": sum(f1 for *_, f1 in PAIRS) / len(PAIRS),
        }
    )


def test_the_baseline_is_the_best_that_needs_no_question(loaded: Loaded) -> None:
    splits = split(read_examples(PLAN, asked(40)), PLAN)
    train = (example("Rain falls on salt", "Rain falls"), example("Salt is dear", "Salt is"))
    test = (example("grant of rain", "grant of"), example("a b"))
    splits = replace(splits, train=train, test=test)
    found = baseline(loaded, splits, PLAN, None, SILENT)
    assert found.does == "always answers with the first 2 words of the context"
    assert total(found.measured).tolist() == [1, 1, 2]
    nothing = replace(splits, train=(example("salt b"), *train[:1], example("salt d")))
    assert "no answer" in baseline(loaded, nothing, PLAN, None, SILENT).does
    # Where every question has an answer, nobody answers with nothing.
    assert "first 2 words" in baseline(loaded, nothing, STRICT, None, SILENT).does


# Reading.


def test_the_forms_of_squad_say_the_same() -> None:
    context = "no grant, the grant"
    listed, columns, one, none, empty = read(
        fields(context) | {"answers": [{"text": "grant", "answer_start": 14}]},
        fields(context) | {"answers": {"text": ["grant"], "answer_start": [14]}},
        fields(context) | {"answers": {"text": " grant", "answer_start": 13}},
        fields(context) | {"answers": []},
        fields(context) | {"answers": {"text": [], "answer_start": []}},
    )
    assert listed.content == columns.content == one.content
    assert listed.content.answers == ((14, "grant"),)
    assert not listed.content.moved
    assert none.content.answers == empty.content.answers == ()
    assert (listed.text, listed.labels) == (context, ())
    assert "grant" not in repr(listed)


def test_an_answer_that_redaction_moved_is_found_near_by_in_whole_words() -> None:
    # "grant" began at 17 and 40 before a name grew shorter; "grants" is another word.
    context = "<PERSON> and grants the grant of a grant"
    found = read(
        fields(context) | {"answers": [{"text": "grant", "answer_start": 17}]},
        fields(context) | {"answers": [{"text": "grant", "answer_start": 40}]},
        fields(context) | {"answers": [{"text": "<PERSON>", "answer_start": 3}]},
        fields(context) | {"answers": [{"text": "rant", "answer_start": 14}]},
    )
    assert [one.content.answers[0][0] for one in found] == [24, 35, 0, 14]
    assert [one.content.moved for one in found] == [True, True, True, False]
    (said,) = notes(PLAN, found, [{}] * 4)
    assert said.startswith("in 3 of 4 records an answer stands elsewhere")


GOOD = fields("the secret grant", "secret")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": None}, "the field 'question' is not text"),
        ({"question": " "}, "the question in 'question' is empty"),
        ({"context": ""}, "the context in 'context' is empty"),
        ({"context": "\ud83d"}, "half a surrogate pair"),
        ({"answers": None}, "the field 'answers' does not hold answers as SQuAD does"),
        ({"answers": "secret"}, "the field 'answers' does not hold answers as SQuAD does"),
        ({"answers": {"text": ["secret"]}}, "does not hold text and answer_start"),
        ({"answers": {"text": ["secret"], "answer_start": []}}, "has 1 texts, but 0 answer_start"),
        ({"answers": ["secret"]}, "answer 1 in 'answers' cannot be used: it has no text"),
        (
            {"answers": [*GOOD["answers"], {"text": "secret", "answer_start": "4"}]},
            "answer 2 in 'answers' cannot be used: its answer_start is no whole number",
        ),
        ({"answers": {"text": "secret", "answer_start": -1}}, "answer_start is no whole number"),
        ({"answers": {"text": [""], "answer_start": [4]}}, "the answer in 'text' is empty"),
        (
            {"answers": {"text": ["grant", "secrets"], "answer_start": [11, 4]}},
            "answer 2 in 'answers' stands nowhere in the context",
        ),
        ({"answers": {"text": ["secre"], "answer_start": [0]}}, "stands nowhere in the context"),
        ({"answers": []}, "has no answer in 'answers'; where that is meant, set"),
    ],
)
def test_a_bad_record_is_told_with_its_number_and_never_quoted(
    change: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnusableInput, match="1 record of 3 cannot be learned") as caught:
        read(GOOD, {**GOOD, **change}, GOOD, plan=STRICT)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("d.jsonl", 2)
    assert told in problem.message
    assert "secret" not in str(problem)
    for name in GOOD:
        with pytest.raises(UnusableInput) as caught:
            read({key: value for key, value in GOOD.items() if key != name})
        assert f"has no field '{name}'" in caught.value.problems[0].message


def test_data_without_an_answer_teaches_nothing() -> None:
    with pytest.raises(UnusableInput, match="none of the 2 records has an answer"):
        read(fields("a"), fields("b"))


def test_a_context_is_never_trained_on_and_held_out() -> None:
    again = [
        replace(record, fields={**record.fields, "question": f"on {number}?"}, index=number)
        for number, record in enumerate(asked(60) * 3, 1)
    ]
    splits = split(read_examples(PLAN, again), PLAN)
    sides = [{one.text for one in part} for part in (splits.train, splits.validation, splits.test)]
    assert sides[0].isdisjoint(sides[1] | sides[2])
    assert sides[1].isdisjoint(sides[2])


# In a project.


@pytest.mark.slow
def test_redaction_changes_contexts_and_answers_alike(tmp_path: Path) -> None:
    assert kept_fields(replace(PLAN, fields={})) == ()
    project = write_project(tmp_path)
    edit(
        project / "release.yaml",
        "  task: text-classification\n  fields: {text: text, label: label}\n",
        "  task: question-answering\n  options: {stride: 4, unanswerable: true}\n",
    )
    # A name finder may take a word for a name in the context alone, and such a record is told.
    edit(project / "release.yaml", "[PERSON, EMAIL_ADDRESS, PHONE_NUMBER]", "[EMAIL_ADDRESS]")
    records = [dict(record.fields) for record in asked(80)]
    told = f"write to {PLANTED_EMAIL} for a grant and to {PLANTED_EMAIL}"
    for number, answer in enumerate((PLANTED_EMAIL, "grant")):
        records[number] = fields(told, answer, question="on")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (project / "data" / "notes.jsonl").write_text(lines, encoding="utf-8")
    watching = Watching()
    _, report = pipeline.run(project, watching)
    assert any(" records an answer stands elsewhere" in line for line in watching.lines)
    assert [
        (f.path, f.message)
        for f in report.findings
        if f.severity == "error" and f.path == "README.md"
    ] == []
    bundle = project / "out" / "bundle"
    for file in bundle.rglob("*"):
        assert file.is_dir() or PLANTED_EMAIL.encode() not in file.read_bytes()
    card = (bundle / "README.md").read_text()
    assert "AutoModelForQuestionAnswering.from_pretrained(**release)" in card
    assert "pipeline(" not in card
    assert "as SQuAD's evaluation does" in card
    assert "| Exact match |" in card
