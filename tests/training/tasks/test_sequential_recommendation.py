"""A model that learns what comes next in histories, and what its figures count."""

from __future__ import annotations

import ast
import json
import math
import random
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit import pipeline
from release_kit.datasets.overlap import families
from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.figures import total
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import Loaded
from release_kit.training.splits import Example, Splits, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.sequential_recommendation import (
    TASK,
    baseline,
    collate,
    encode,
    figures,
    load,
    measure,
    read_examples,
    vocabulary,
)
from tests.projects import PLANTED_EMAIL, edit, write_project
from tests.tiny_models import tiny_gpt2_form
from tests.training.conftest import Watching

_, PLAN = settled(
    TrainingPlan(
        task="sequential-recommendation",
        epochs=6,
        batch_size=16,
        learning_rate=1e-2,
        max_length=12,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
    )
)
ITEMS = [f"shop/{number} é" for number in range(30)]
UNSEEN = "nobody has this"


def histories(count: int, items: list[str] = ITEMS) -> list[Record]:
    """Return histories in which four items of five follow from the one before."""
    draw = random.Random(11)
    records = []
    for index in range(1, count + 1):
        walk = [draw.randrange(len(items))]
        for _ in range(draw.randint(3, 14)):
            follows = draw.random() < 0.8
            walk.append((walk[-1] * 7 + 3) % len(items) if follows else draw.randrange(len(items)))
        fields = {"items": [items[place] for place in walk], "user": index}
        records.append(Record(fields, "data/histories.jsonl", index))
    return records


@dataclass(frozen=True)
class Run:
    """A training from a form alone, with its evaluation."""

    model: Path
    records: list[Record]
    result: TrainingResult
    evaluation: Evaluation
    watching: Watching

    @property
    def splits(self) -> Splits:
        return split(read_examples(PLAN, self.records), PLAN)


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2_form(tmp_path_factory.mktemp("forms") / "gpt2")


@pytest.fixture(scope="module")
def run(form: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    records = histories(300)
    # Wherever the split puts them, some held-out users end, and begin, with what is nowhere else.
    for record in records[:40]:
        record.fields["items"][-(record.index % 2)] = f"only here {record.index}"
    model = tmp_path_factory.mktemp("run") / "model"
    watching = Watching()
    result = fit(PLAN, form, records, model, watching)
    return Run(model, records, result, evaluate_model(PLAN, model, records, watching), watching)


def example(*items: str) -> Example:
    return Example("\n".join(items), (), "data/histories.jsonl", 1, items)


# Learning.


def test_it_learns_what_follows_and_beats_what_is_popular(run: Run) -> None:
    losses = run.result.losses
    assert losses[0].training_loss > 2 * losses[-1].training_loss
    assert losses[0].validation_loss > losses[-1].validation_loss
    assert (run.result.labels, run.evaluation.labels, run.result.pipeline_tag) == ((), (), "")
    found = run.evaluation.figures
    assert list(found) == [
        "hit_rate_at_1", "hit_rate_at_5", "hit_rate_at_10", "ndcg_at_10", "mrr", "perplexity",
        "seen_targets",
    ]  # fmt: skip
    for name in ("hit_rate_at_1", "hit_rate_at_5", "ndcg_at_10", "mrr"):
        gain = found[name].gain
        assert gain is not None
        assert gain.low > 0, name
    assert found["hit_rate_at_1"].value > 0.6
    perplexity = found["perplexity"]
    assert perplexity.baseline is not None
    assert perplexity.value < perplexity.baseline / 2
    users, known = run.evaluation.sizes.test, vocabulary(PLAN, run.splits)
    unseen = sum(user.content[-1] not in known for user in run.splits.test)
    assert unseen > 0
    assert found["seen_targets"].value == pytest.approx((users - unseen) / users)
    told = [line for line in run.watching.lines if "miss" in line]
    assert len(told) == 1
    assert told[0].startswith(f"the last items of {unseen} of {users} held-out users")


def test_the_folder_alone_gives_the_same_answers_in_plain_transformers(run: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.model)
    model = AutoModelForCausalLM.from_pretrained(run.model).eval()
    assert set(tokenizer.get_vocab()) - {"[PAD]", "[UNK]"} == set(vocabulary(PLAN, run.splits))
    first = 0
    for user in run.splits.test:
        history = "\n".join(user.content[-PLAN.max_length : -1])
        scores = model(**tokenizer(history, return_tensors="pt")).logits[0, -1]
        first += tokenizer.convert_ids_to_tokens([scores.argmax()]) == [user.content[-1]]
    value = run.evaluation.figures["hit_rate_at_1"].value
    assert value == pytest.approx(first / run.evaluation.sizes.test)


def test_the_loss_is_that_of_the_docstring(run: Run) -> None:
    import torch

    loaded = load(PLAN, run.model, None)
    rows = encode(loaded, run.splits.train[:5], PLAN)
    rows[0]["labels"][2] = -100
    batch = collate(loaded, PLAN)(rows)
    with torch.inference_mode():
        outputs = loaded.model.eval()(**batch)
    terms = []
    for own, row in zip(outputs.logits.double(), rows, strict=True):
        for place in range(1, len(row["labels"])):
            if row["labels"][place] != -100:
                z = own[place - 1]
                terms.append(float(z.exp().sum().log() - z[row["input_ids"][place]]))
    assert float(outputs.loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert len(terms) == sum(len(row["input_ids"]) - 1 for row in rows) - 1


def test_a_trained_model_goes_on_with_new_items_after_those_it_knows(
    run: Run, tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=1)
    before = load(plan, run.model, None)
    added = histories(200, [*ITEMS[:20], "new one", "new two"])
    result = fit(plan, run.model, added, tmp_path / "model")
    after = load(plan, tmp_path / "model", None)
    assert result.new_tensors == ("lm_head.weight", "transformer.wte.weight")
    known = before.processor.get_vocab()
    assert {k: v for k, v in after.processor.get_vocab().items() if k in known} == known
    assert set(after.processor.get_vocab()) - set(known) == {"new one", "new two"}
    assert after.processor.model_max_length == 32
    same = fit(plan, run.model, run.records[:120], tmp_path / "same")
    assert same.new_tensors == ()


# Figures, by hand.


@dataclass(frozen=True)
class Fixed:
    """A model that gives four items the same scores whatever came before."""

    loaded: Loaded
    scores: tuple[float, ...]


@pytest.fixture
def fixed(form: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import torch

    from release_kit.training.tasks import sequential_recommendation as module

    loaded = load(PLAN, form, ("a", "b", "c", "d"))

    def scored(*scores: float) -> Loaded:
        def in_batches(loaded: Loaded, rows: Any, collate: Any, *others: Any) -> Any:
            inputs = collate(rows)
            logits = torch.tensor([0.0, 0.0, *scores]).expand(*inputs["input_ids"].shape, 6)
            yield list(range(len(rows))), type("Outputs", (), {"logits": logits}), inputs

        monkeypatch.setattr(module, "in_batches", in_batches)
        return loaded

    return scored


def test_ranks_are_counted_over_all_items_and_ties_share_the_middle(fixed: Any) -> None:
    loaded = fixed(4.0, 3.0, 2.0, 2.0)
    users = [example("d", "a"), example("a", "a", "b"), example("a", "c"), example("c", UNSEEN)]
    watching = Watching()
    found = measure(loaded, users, PLAN, watching)
    got = {name: float(one) for name, one in figures(total(found)).items()}
    # Ranks 1, 2, 3.5 (c and d share 3 and 4), and none.
    assert got["hit_rate_at_1"] == 1 / 4
    assert got["hit_rate_at_5"] == got["hit_rate_at_10"] == 3 / 4
    assert got["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3.5) / 4)
    assert got["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(4.5)) / 4)
    assert got["seen_targets"] == 3 / 4
    p = np.exp([0, 0, 4, 3, 2, 2]) / np.exp([0, 0, 4, 3, 2, 2]).sum()
    assert got["perplexity"] == pytest.approx((p[2] * p[3] * p[4]) ** (-1 / 3))
    assert found.broken == ()
    assert len(watching.lines) == 1


def test_items_of_the_history_are_left_out_where_asked(fixed: Any) -> None:
    loaded = fixed(4.0, 3.0, 2.0, 1.0)
    plan = replace(PLAN, options={**PLAN.options, "exclude_history": True})
    watching = Watching()
    found = measure(loaded, [example("a", UNSEEN, "b"), example("a", "b", "a")], plan, watching)
    # b is the first of what is left; a, had before, is not to be found.
    assert found.rows[:, 2].tolist() == [1, 0]
    assert found.rows[:, 6].tolist() == [1, 0]
    (line,) = watching.lines
    assert "exclude_history" in line
    assert "1 of 2" in line
    alone = measure(loaded, [example("a", UNSEEN, "b")], PLAN, SILENT)
    assert alone.rows[:, 6].tolist() == [1 / 2]


def test_a_constant_model_is_worth_a_guess_and_nan_is_told(fixed: Any) -> None:
    users = [example("a", "b"), example("b", "a")]
    found = measure(fixed(1.0, 1.0, 1.0, 1.0), users, PLAN, SILENT)
    assert found.rows[:, 6].tolist() == [1 / 2.5, 1 / 2.5]
    assert found.rows[:, 2].tolist() == [0, 0]
    assert measure(fixed(1.0, math.nan, 1.0, 1.0), users, PLAN, SILENT).broken == (0, 1)


def test_the_baseline_is_the_stronger_of_popularity_and_repetition(fixed: Any) -> None:
    loaded = fixed(0, 0, 0, 0)
    train = (example("b", "b", "b", "a"), example("b", "c", "d", "d"))
    popular = Splits(train, (), (example("c", "b"), example("a", "d")), ())
    found = baseline(loaded, popular, PLAN, None, SILENT)
    assert "most frequent in the training" in found.does
    assert "again" not in found.does
    # Four times b, twice d, a and c once each.
    assert found.measured.rows[:, 6].tolist() == [1, 1 / 2]
    perplexity = figures(total(found.measured))["perplexity"]
    assert perplexity == pytest.approx((4 / 8 * 2 / 8) ** (-1 / 2))
    repeated = replace(popular, test=(example("c", "c"), example("d", "a", "a"), example("c", "b")))
    found = baseline(loaded, repeated, PLAN, None, SILENT)
    assert "again" in found.does
    assert found.measured.rows[:, 6].tolist() == [1, 1, 1 / 2]
    assert np.isfinite(found.measured.rows).all()
    plan = replace(PLAN, options={**PLAN.options, "exclude_history": True})
    assert "again" not in baseline(loaded, repeated, plan, None, SILENT).does


def test_only_what_is_read_is_known_and_the_newest_items_are_read(form: Path) -> None:
    plan = replace(PLAN, max_length=4)
    long = example("old", "a", "b", "c", "d")
    splits = Splits((long,), (), (), ())
    assert vocabulary(plan, splits) == ("a", "b", "c", "d")
    loaded = load(plan, form, vocabulary(plan, splits))
    assert loaded.processor.convert_ids_to_tokens(encode(loaded, [long], plan)[0]["input_ids"]) == [
        "a",
        "b",
        "c",
        "d",
    ]
    # A history with nothing to learn from is left out, so that no loss is a mean of nothing.
    rows = encode(loaded, [example("a", UNSEEN), example(UNSEEN, "b", UNSEEN)], plan)
    assert [row["labels"] for row in rows] == [[-100, 3, -100]]
    with pytest.raises(UnusableInput, match="none of 1 histories"):
        encode(loaded, [example("a", UNSEEN)], plan)
    with pytest.raises(UnusableInput, match="last item of any of the 1 held-out users"):
        measure(loaded, [example("a", UNSEEN)], plan, SILENT)


# What cannot be used.


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "has no field 'items' for the items"),
        ({"items": "SECRET b"}, "is not a list of items"),
        ({"items": []}, "holds no item"),
        ({"items": ["SECRET"]}, "holds one item"),
        ({"items": ["SECRET", 1.5]}, "item 2 in 'items' is neither text nor a whole number"),
        ({"items": [True, "SECRET"]}, "item 1 in 'items' is neither"),
        ({"items": ["SECRET", None]}, "item 2 in 'items' is neither"),
        ({"items": ["SECRET", " "]}, "the item 2 in 'items' is empty"),
        ({"items": ["SECRET", "\ud800"]}, "is not Unicode"),
        ({"items": ["SECRET\nb", "c"]}, "item 1 in 'items' holds a line break or one of"),
        ({"items": ["SECRET[UNK]", "c"]}, "holds a line break or one of [PAD], [UNK]"),
        ({"times": None}, "is not a list with one time for each item"),
        ({"times": [1]}, "is not a list with one time for each item"),
        ({"times": [2, 1]}, "the times in 'times' are not in order"),
        ({"times": ["2026-01-02", "2026-01-01T00:00:00"]}, "are not in order"),
        ({"times": [1, "2026-01-01"]}, "are not all numbers, or all dates"),
        ({"times": ["2026-01-01", "2026-01-01T00:00Z"]}, "are not all numbers, or all dates"),
        ({"times": [1, "SECRET"]}, "are not all numbers, or all dates"),
        ({"times": [1, True]}, "are not all numbers, or all dates"),
        ({"user": "u1"}, "has the same user in 'user' as record 1 of data/h.jsonl"),
        ({"user": None}, "the user in 'user' is neither text nor a whole number"),
        ({"user": " "}, "the user in 'user' is neither text nor a whole number"),
    ],
)
def test_a_history_that_cannot_be_used_is_told_and_not_quoted(
    fields: dict[str, Any], said: str
) -> None:
    good = {"items": ["a", 7], "times": [1, 1.5], "user": "u1"}
    bad = fields if not fields else {**good, "user": "u2", **fields}
    records = [Record(good, "data/h.jsonl", 1), Record(bad, "data/h.jsonl", 2)]
    plan = replace(PLAN, fields={"items": "items", "times": "times", "user": "user"})
    assert len(read_examples(plan, records[:1])) == 1
    with pytest.raises(UnusableInput) as caught:
        read_examples(plan, records)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("data/h.jsonl", 2)
    assert said in problem.message
    assert "SECRET" not in str(caught.value)


def test_times_and_users_are_read_only_where_they_are_named() -> None:
    records = [
        Record({"items": ["a", 7], "times": [2, 1], "user": 1}, "data/h.jsonl", number)
        for number in (1, 2)
    ]
    assert [one.content for one in read_examples(PLAN, records)] == [("a", "7")] * 2


def test_near_copies_are_those_that_share_runs_of_items_not_of_words() -> None:
    draw = random.Random(2)
    same = "in every item " * 20
    one, other = ([f"{same} {draw.random()}" for _ in range(12)] for _ in range(2))
    near = [*one[:11], "another"]
    found = read_examples(
        PLAN, [Record({"items": items}, "data/h.jsonl", 1) for items in (one, other, near)]
    )
    first, second, third = families(example.text for example in found)
    assert first == third != second


def test_one_item_alone_is_nothing_to_choose_from(form: Path) -> None:
    records = [Record({"items": ["a", "a"]}, "data/h.jsonl", 1)]
    with pytest.raises(UnusableInput, match="hold the same item"):
        read_examples(PLAN, records)
    with pytest.raises(UnusableInput, match="training split holds only one item"):
        load(PLAN, form, ("a",))


def test_a_base_of_words_or_without_weights_is_refused(
    run: Run, form: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnusableInput, match="holds no weights"):
        load(PLAN, form, None)
    words = Path(shutil.copytree(run.model, tmp_path / "words"))
    edit(words / "tokenizer.json", '"String": "\\n"', '"String": " "')
    with pytest.raises(UnusableInput, match="its vocabulary is not one of items"):
        load(PLAN, words, ("a", "b"))
    scratch = replace(PLAN, options={**PLAN.options, "start": "scratch"})
    assert len(load(scratch, words, ("a", "b")).processor) == len(["[PAD]", "[UNK]", "a", "b"])


# What is published.


@pytest.mark.slow
def test_items_that_are_personal_data_are_not_in_the_vocabulary_that_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path)
    tiny_gpt2_form(project / "base")
    edit(
        project / "release.yaml",
        "  task: text-classification\n  fields: {text: text, label: label}\n",
        "  task: sequential-recommendation\n  options: {start: scratch}\n",
    )
    edit(project / "release.yaml", "epochs: 3", "epochs: 1")
    edit(project / "release.yaml", "path: base\n", "path: base\n      relation: data-shipped\n")
    items = ["one", "two", "three", "four"]
    records = [{**record.fields, "channel": "web"} for record in histories(180, items)]
    for record in records[::3]:
        record["items"].insert(1, PLANTED_EMAIL)
        record["channel"] = PLANTED_EMAIL
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (project / "data" / "notes.jsonl").write_text(lines, encoding="utf-8")
    _, report = pipeline.run(project)
    # The Hub has no word for the task, and the audit asks for none.
    assert not [finding for finding in report.findings if finding.rule.startswith("card-")]
    bundle = project / "out" / "bundle"
    known = json.loads((bundle / "tokenizer.json").read_text())["model"]["vocab"]
    assert set(known) == {"[PAD]", "[UNK]", "one", "two", "three", "four", "<EMAIL_ADDRESS>"}
    for file in bundle.rglob("*"):
        assert file.is_dir() or PLANTED_EMAIL.encode() not in file.read_bytes()
    card = (bundle / "README.md").read_text()
    assert "AutoModelForCausalLM.from_pretrained(**release)" in card
    assert "pipeline(" not in card
    assert "NDCG at 10" in card
    (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    exec(code.replace("acme/topics", str(bundle)), {})  # what a reader would run
    assert sorted(ast.literal_eval(capsys.readouterr().out)) == sorted(known)

    # What is only measured afterwards asks for no other training, and shows nothing redacted.
    edit(project / "release.yaml", "epochs: 1", "epochs: 1\n  slices: [channel]")
    stages, _ = pipeline.run(project)
    assert {stage.stage: stage.skipped for stage in stages} == {
        "redact": True, "train": True, "evaluate": False, "leaks": True,
        "build": False,
    }  # fmt: skip
    card = (bundle / "README.md").read_text()
    assert "By part of the test records" in card
    assert "EMAIL_ADDRESS" in card.split("By part of")[1]
    assert PLANTED_EMAIL not in card


def test_the_task_keeps_no_field_from_redaction() -> None:
    assert not any(field.kept for field in TASK.fields.values())
