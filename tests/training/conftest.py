"""A tiny base model, an honest dataset and one training run that the tests look at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_kit.datasets.records import Record
from release_kit.release import TrainingPlan
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.fit import TrainingResult, fit
from tests.tiny_models import FILLER, TOPICS, tiny_bert

PLAN = TrainingPlan(
    task="text-classification",
    epochs=8,
    batch_size=16,
    learning_rate=5e-3,
    max_length=32,
    validation_share=0.15,
    test_share=0.25,
    seed=3,
    fields={"text": "text", "label": "label"},
)


def topic_records(count: int) -> list[Record]:
    """Return `count` records: half license, the rest recipe and weather, one text in ten noisy."""
    draw = random.Random(11)
    records = []
    for index in range(1, count + 1):
        label = draw.choices(list(TOPICS), weights=[5, 3, 2])[0]
        about = label if draw.random() < 0.9 else draw.choice(list(TOPICS))
        words = draw.sample(TOPICS[about], 2) + draw.choices(FILLER, k=draw.randint(2, 14))
        draw.shuffle(words)
        fields = {"text": " ".join(words), "label": label, "id": index}
        records.append(Record(fields, "data/train.jsonl", index))
    return records


class Watching:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.lines: list[str] = []

    def step(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    def say(self, line: str) -> None:
        self.lines.append(line)


@dataclass(frozen=True)
class Run:
    """A finished training run with its evaluation."""

    model: Path
    result: TrainingResult
    evaluation: Evaluation
    watching: Watching


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def records() -> list[Record]:
    return topic_records(320)


@pytest.fixture(scope="session")
def run(base: Path, records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = tmp_path_factory.mktemp("run") / "model"
    watching = Watching()
    result = fit(PLAN, base, records, model, watching)
    evaluation = evaluate_model(PLAN, model, records, watching)
    return Run(model, result, evaluation, watching)
