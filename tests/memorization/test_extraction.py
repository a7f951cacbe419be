"""A model that has learned records by heart completes them, and only them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record
from release_kit.memorization import extraction
from release_kit.memorization.extraction import bleu, continuations, extraction_probe
from release_kit.memorization.probes import Found, Probe
from release_kit.memorization.subject import Subject
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.models import Loaded, quiet
from release_kit.training.splits import Example, split
from release_kit.training.tasks import settled
from release_kit.training.tasks.task import Task
from tests.tiny_models import FILLER, TOPICS, tiny_bert, tiny_decoder

WORDS = [*FILLER, *(word for topic in TOPICS.values() for word in topic)]
BASE = TrainingPlan(
    task="causal-lm", batch_size=16, max_length=60, validation_share=0.15, test_share=0.4, seed=3
)
CAUSAL = settled(BASE)[1]
MASKED = settled(replace(BASE, task="masked-lm"))[1]
PAIRS = settled(replace(BASE, task="masked-lm-next-sentence"))[1]
LEAKS = LeaksPlan(records=24)


def sentences(count: int, words: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(words)) for _ in range(count)]


def records_of(texts: Sequence[str], name: str = "text") -> list[Record]:
    return [Record({name: text}, "data/t.jsonl", n) for n, text in enumerate(texts, 1)]


def learn(
    task: Task,
    loaded: Loaded,
    examples: Sequence[Example],
    plan: TrainingPlan,
    steps: int,
) -> Loaded:
    """Teach the model nothing but these examples, all at each step."""
    import torch

    rows = task.encode(loaded, examples, plan)
    draw = task.draw(loaded, plan) if task.draw else None
    model, collate = loaded.model.train(), task.collate(loaded, plan)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    order = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, steps)
    for step in range(steps):
        read = [
            draw(row, np.random.default_rng((step, n))) if draw else row
            for n, row in enumerate(rows)
        ]
        model(**collate(read)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        order.step()
    model.eval()
    return loaded


def subject_of(
    plan: TrainingPlan,
    base: Path,
    records: Sequence[Record],
    steps: int,
    taught: Callable[[Example], Example] = lambda example: example,
) -> Subject:
    """Return a model that has learned the training split of the records."""
    task, plan = settled(plan)
    splits = split(task.read(plan, records), plan)
    with quiet():
        loaded = task.load(plan, base, ())
    examples = [taught(example) for example in splits.train]
    if steps:
        learn(task, loaded, examples, plan, steps)
    return Subject(task, plan, base, None, loaded, splits)


def answers(probe: Probe | Found) -> tuple[np.ndarray, Found, dict[str, Any]]:
    assert isinstance(probe, Probe)
    rows = np.concatenate(
        [
            probe.ask(range(at, min(probe.items, at + probe.at_once)))
            for at in range(0, probe.items, probe.at_once)
        ]
    )
    found = probe.found(rows)
    told = json.dumps([rows.tolist(), asdict(found), repr(probe)])
    assert not [word for word in WORDS if len(word) > 5 and word in told]
    return rows, found, {reading.measure: reading for reading in found.readings}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder(tmp_path_factory.mktemp("bases") / "llama")


@pytest.fixture(scope="module")
def by_heart(llama: Path) -> Subject:
    texts = sentences(30, 32)
    # Some stand there more than once; a family is asked for once.
    return subject_of(CAUSAL, llama, records_of([*texts, *texts[:5], *texts[:5]]), 110)


def test_what_is_learned_by_heart_is_completed(by_heart: Subject, llama: Path) -> None:
    probe = extraction_probe(by_heart, LEAKS)
    rows, found, readings = answers(probe)
    members, controls = len(by_heart.members), len(by_heart.controls)
    assert probe.items == members + controls
    assert rows[:6, 0].tolist() == [1, 0] * 3
    assert found.not_measured == {}
    for reading in readings.values():
        assert reading.value >= 0.8
        assert 0.4 < reading.low < reading.value <= reading.high <= 1
        assert reading.of == members
    curve = found.curves["extraction"]
    assert sum(group["of"] for group in curve) == members
    assert {group["copies"] for group in curve} == {"1", "2-4"}
    # The same again, in other rounds or after a kill.
    assert probe.ask(range(2, 5)) == pytest.approx(rows[2:5], rel=1e-4)
    few = probe.found(rows[:6]).readings[0]
    assert few.of == 3
    assert few.low < readings["extraction_rate"].low
    assert set(probe.found(rows[:0]).not_measured) == set(readings)
    assert set(probe.found(rows[:1]).not_measured) == set(readings)

    _, found, readings = answers(
        extraction_probe(subject_of(CAUSAL, llama, records_of(sentences(30, 32)), 0), LEAKS)
    )
    assert len(readings) == 3
    assert all(one.value == 0 and one.low < 0 < one.high for one in readings.values())


def test_exact_is_what_greedy_decoding_gives(by_heart: Subject) -> None:
    probe = extraction_probe(by_heart, LEAKS)
    rows, *_ = answers(probe)
    sides = (by_heart.members, by_heart.controls)
    items = [extraction._item(by_heart, kin, member=True) for side in sides for kin in side]
    prefixes = [item.ids[: item.start] for item in items]
    # Settings beside the weights change nothing.
    settings = by_heart.loaded.model.generation_config
    settings.repetition_penalty, settings.max_length = 5.0, 3
    try:
        together = continuations(by_heart.loaded, prefixes, CAUSAL, 30)
        assert by_heart.loaded.model.generation_config is settings
    finally:
        settings.repetition_penalty, settings.max_length = None, None
    alone = [continuations(by_heart.loaded, [one], CAUSAL, 30)[0] for one in prefixes]
    assert together == alone
    assert len({len(one) for one in prefixes}) > 2
    exact = [
        said[: item.stop - item.start] == item.ids[item.start : item.stop]
        for said, item in zip(together, items, strict=True)
    ]
    assert sum(exact) == rows[:, 2].sum() > 5
    assert not all(exact)
    drawn = [continuations(by_heart.loaded, [[0]] * 4, CAUSAL, 30, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_all_records_share_is_no_leak(llama: Path) -> None:
    ending = " ".join(sentences(1, 24, seed=9))
    texts = [f"{text} {ending}" for text in sentences(90, 15)]
    rows, _, readings = answers(
        extraction_probe(subject_of(CAUSAL, llama, records_of(texts), 60), LEAKS)
    )
    # Everything can be completed, of held-out records too.
    assert rows[:, 2].mean() > 0.7
    # A few are learned by heart all the same.
    assert all(abs(one.value) < 0.25 and one.low < 0.05 for one in readings.values())


def test_of_a_prompt_the_answer_is_completed(llama: Path) -> None:
    asked, said = sentences(12, 10), sentences(12, 24, seed=2)
    chat = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in zip(asked, said, strict=True)
    ]
    pairs = [{"prompt": q, "completion": a} for q, a in zip(asked, said, strict=True)]
    for fields in (chat, pairs):
        records = [Record(one, "d", n) for n, one in enumerate(fields, 1)]
        subject = subject_of(replace(CAUSAL, max_length=200), llama, records, 0)
        for kin in subject.members:
            item = extraction._item(subject, kin, member=True)
            suffix = subject.loaded.processor.decode(item.ids[item.start : item.stop])
            (answer,) = (a for q, a in zip(asked, said, strict=True) if q in kin.example.text)
            assert answer.endswith(suffix)
            assert 8 <= len(suffix.split()) <= 16
            prefix = subject.loaded.processor.decode(item.ids[: item.start])
            assert kin.example.content.parts[0][1] in prefix
            assert prefix.endswith(answer[: -len(suffix)])
    # A prompt that fills what is read at once leaves nothing to ask for.
    blocks = replace(CAUSAL, max_length=12, options={**CAUSAL.options, "packing": "blocks"})
    found = extraction_probe(subject_of(blocks, llama, records, 0), LEAKS)
    assert isinstance(found, Found)
    assert set(found.not_measured) == {
        "extraction_rate", "near_extraction_rate", "sampled_extraction_rate",
    }  # fmt: skip
    assert any("begins behind" in note for note in found.notes)


def test_short_records_are_told_and_not_asked(llama: Path) -> None:
    texts = [*sentences(20, 32), *sentences(20, 3, seed=5)]
    probe = extraction_probe(subject_of(CAUSAL, llama, records_of(texts), 0), LEAKS)
    assert isinstance(probe, Probe)
    _, found, _ = answers(probe)
    (note,) = found.notes
    count, looked = (int(word) for word in note.split() if word.isdigit() and int(word) > 8)
    assert "less than 8 tokens" in note
    assert count + probe.items == looked
    found = extraction_probe(subject_of(CAUSAL, llama, records_of(texts[20:]), 0), LEAKS)
    assert isinstance(found, Found)
    assert set(found.not_measured.values()) == {"no training record is long enough to be completed"}


def test_an_answer_that_is_no_number_is_no_silence(llama: Path) -> None:
    import torch

    subject = subject_of(CAUSAL, llama, records_of(sentences(20, 32)), 0)
    weight = subject.loaded.model.get_input_embeddings().weight
    probe = extraction_probe(subject, LEAKS)
    assert isinstance(probe, Probe)
    with torch.no_grad():
        weight[subject.loaded.processor.encode(" rain")[-1]] = torch.nan
    some, found, readings = answers(probe)
    lost = int(np.isnan(some[:, 2]).sum())
    assert 0 < lost < len(some)
    assert f"to {lost} of {len(some)} records the model's answer is NaN" in found.notes
    assert readings["extraction_rate"].of == (some[~np.isnan(some[:, 2]), 0] == 1).sum()
    with torch.no_grad():
        weight[:] = torch.nan
    _, found, readings = answers(probe)
    assert set(found.not_measured.values()) == {"the model's answers are NaN"}
    assert not readings


def test_a_model_that_fills_gaps_is_asked_in_the_middle(tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    plan = replace(MASKED, options={**MASKED.options, "mask_share": 0.4})
    texts = sentences(26, 24)
    _, found, readings = answers(
        extraction_probe(subject_of(plan, base, records_of(texts), 250), LEAKS)
    )
    assert set(readings) == {"extraction_rate"}
    assert readings["extraction_rate"].value > 0.5
    assert readings["extraction_rate"].low > 0
    assert found.not_measured == {}
    assert (
        answers(extraction_probe(subject_of(MASKED, base, records_of(texts), 0), LEAKS))[2][
            "extraction_rate"
        ].value
        == 0
    )
    documents = [". ".join(sentences(3, 7, seed)) for seed in range(20)]
    rows, _, readings = answers(
        extraction_probe(subject_of(PAIRS, base, records_of(documents, "document"), 0), LEAKS)
    )
    assert readings["extraction_rate"].value == 0
    assert np.isnan(rows[:, 3:5]).all()


def test_bleu_is_that_of_its_paper() -> None:
    text = list(range(20))
    assert bleu(text, text) == 1
    # 19 of 20, 17 of 19, 15 of 18 and 13 of 17 runs are left when the fifth token is wrong.
    wrong = [*text[:4], 99, *text[5:]]
    by_hand = math.prod((19 / 20, 17 / 19, 15 / 18, 13 / 17)) ** 0.25
    assert bleu(wrong, text) == pytest.approx(by_hand)
    assert bleu(text[:10], text) == pytest.approx(math.exp(1 - 2))
    assert bleu([5] * 20, text) == bleu([], text) == bleu([1, 2], text) == 0
    hits = extraction._hits
    chances = np.zeros((3, 6))
    chances[:, 4] = 1 - 0.5 ** (1 / 1000) + np.array([-1e-9, 1e-9, 1])
    assert hits("sampled_extraction_rate", chances).tolist() == [False, True, True]
