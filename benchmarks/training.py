"""Training on a CPU: release-kit's `fit`, a plain transformers script, the seed's naive loop.

    python -m benchmarks.training --threads 1

All three learn the same records, in one epoch, from the same random weights, with the same batch
size, learning rate, seed and threads; their rounds take turns, so that what else the machine does
hits all alike, and the ratios mean more than the rates. The clock runs from the end of the first
update to the end of the last: neither imports nor validation count. The loss is the mean over the
validation split after training, measured in the same way for all.

The texts are the license notices of `licensedcode-data` (pip install licensedcode-data), whose
category is the class; their tokenizer is learned from them. The models are a BERT of the size of
MiniLM-L6 (22 million numbers) and a small GPT-2.

- ours: `release_kit.training.fit`, rows of like length in a batch; for the language model also
  with packing.
- Trainer: transformers' Trainer as its examples call it, each batch padded to its longest.
- naive: the loop of the project's seed, every text padded to max_length.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from release_kit.datasets.records import Record
from release_kit.demonstration.notices import select_notices
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.figures import total
from release_kit.training.fit import fit
from release_kit.training.models import Loaded, quiet
from release_kit.training.splits import Splits, split
from release_kit.training.tasks import settled

TASKS = ("text-classification", "causal-lm")
_VOCABULARY = 8_000
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Taken:
    """One training."""

    seconds: float
    """From the end of the first update to that of the last."""
    steps: int
    """Updates within that time."""
    texts: float
    """Texts within that time."""
    loss: float
    """In nats, over the validation split."""


class Clock:
    """Remembers when updates ended; a watcher of `fit`."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step(self, what: str, done: int, total: int) -> None:
        """Note the end of an update."""
        if what == "training":
            self.ends.append(time.perf_counter())

    def say(self, line: str) -> None:
        """Ignore the line."""


@dataclass(frozen=True)
class Job:
    """What is learned by all."""

    plan: TrainingPlan
    base: Path
    records: Sequence[Record]
    splits: Splits

    def load(self) -> Loaded:
        """Return the model as all of them start from it."""
        from transformers import set_seed

        task, plan = settled(self.plan)
        set_seed(plan.seed)
        with quiet():
            return task.load(plan, self.base, self.splits.labels)

    def taken(self, clock: Clock, loaded: Loaded) -> Taken:
        """Return what a training took, and how well its model does now."""
        steps = len(clock.ends) - 1
        share = steps / (steps + 1)
        seconds = clock.ends[-1] - clock.ends[0]
        return Taken(seconds, steps, share * len(self.splits.train), self._loss(loaded))

    def _loss(self, loaded: Loaded) -> float:
        import numpy as np

        from release_kit.training.tasks import causal_lm
        from release_kit.training.tasks.text_classification import predict

        if self.plan.task == "causal-lm":
            counts = causal_lm.measure(loaded, self.splits.validation, self.plan, SILENT)
            nats, tokens, *_ = total(counts)
            return float(nats / tokens)
        true = [loaded.labels.index(example.labels[0]) for example in self.splits.validation]
        chances = predict(loaded, self.splits.validation, self.plan, SILENT)
        return float(-np.log(chances[np.arange(len(true)), true]).mean())


def ours(job: Job) -> Taken:
    """Train with `fit`."""
    clock = Clock()
    task, plan = settled(job.plan)
    with tempfile.TemporaryDirectory() as folder:
        fit(job.plan, job.base, job.records, Path(folder) / "model", clock)
        with quiet():
            return job.taken(clock, task.load(plan, Path(folder) / "model", None))


def packed(job: Job) -> Taken:
    """Train with `fit`, several texts in a row; an update reads as many texts on average."""
    task, plan = settled(job.plan)
    plan = replace(plan, options={**plan.options, "packing": "packed"})
    rows = len(task.encode(job.load(), job.splits.train, plan))
    size = max(1, round(plan.batch_size * rows / len(job.splits.train)))
    return ours(replace(job, plan=replace(plan, batch_size=size)))


def trainer(job: Job) -> Taken:
    """Train as transformers' example scripts do."""
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    clock, loaded = Clock(), job.load()
    task, plan = settled(job.plan)

    class Ticking(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.step("training", state.global_step, state.max_steps)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=plan.epochs,
            per_device_train_batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            seed=plan.seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        running = Trainer(
            model=loaded.model,
            args=arguments,
            train_dataset=task.encode(loaded, job.splits.train, plan),
            data_collator=task.collate(loaded, plan),
            callbacks=[Ticking()],
        )
        running.remove_callback(PrinterCallback)
        running.train()
    return job.taken(clock, loaded)


def naive(job: Job) -> Taken:
    """Train as the seed's listing does: AdamW, one rate, every text padded to max_length."""
    import torch

    clock, loaded = Clock(), job.load()
    task, plan = settled(job.plan)
    rows = task.encode(loaded, job.splits.train, plan)
    fill = {"input_ids": loaded.processor.pad_token_id, "labels": -100}

    def whole(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {name: torch.tensor([padded(row, name) for row in rows]) for name in rows[0]}
        batch.setdefault(
            "attention_mask",
            torch.tensor(
                [[int(at < len(row["input_ids"])) for at in range(plan.max_length)] for row in rows]
            ),
        )
        batch.pop("cut", None)
        return batch

    def padded(row: dict[str, Any], name: str) -> Any:
        value = row[name]
        if not isinstance(value, list):
            return value
        return value + [fill.get(name, 0)] * (plan.max_length - len(value))

    loader = torch.utils.data.DataLoader(
        rows, batch_size=plan.batch_size, shuffle=True, collate_fn=whole
    )
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=plan.learning_rate)
    loaded.model.train()
    for _ in range(plan.epochs):
        for batch in loader:
            loss = loaded.model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.step("training", 0, 0)
    return job.taken(clock, loaded)


def base_of(task: str, folder: Path, texts: Sequence[str], *, width: int = 256) -> Path:
    """Write a model with random weights, and a tokenizer learned from `texts`."""
    import torch
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
    from transformers import (
        BertConfig,
        BertModel,
        BertTokenizerFast,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    if task == "causal-lm":
        pieces: Any = ByteLevelBPETokenizer()
        pieces.train_from_iterator(texts, _VOCABULARY, special_tokens=[_END], show_progress=False)
        tokenizer: Any = PreTrainedTokenizerFast(
            tokenizer_object=pieces._tokenizer, bos_token=_END, eos_token=_END
        )
        end = tokenizer.eos_token_id
        model: Any = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=_VOCABULARY,
                n_positions=256,
                n_embd=width,
                n_layer=4,
                n_head=4,
                bos_token_id=end,
                eos_token_id=end,
            )
        )
    else:
        pieces = BertWordPieceTokenizer()
        pieces.train_from_iterator(texts, _VOCABULARY, show_progress=False)
        tokenizer = BertTokenizerFast(tokenizer_object=pieces._tokenizer)
        # As config.json of sentence-transformers/all-MiniLM-L6-v2 has it.
        model = BertModel(
            BertConfig(
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
            )
        )
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def job_of(task: str, folder: Path, options: argparse.Namespace) -> Job:
    """Return the job that all do for `task`."""
    records = select_notices(options.records, SILENT)
    _, plan = settled(
        TrainingPlan(
            task=task,
            epochs=1,
            batch_size=options.batch_size,
            learning_rate=1e-4 if task == "text-classification" else 1e-3,
            max_length=options.max_length,
        )
    )
    examples = settled(plan)[0].read(plan, records)
    base = base_of(task, folder, [example.text for example in examples])
    return Job(plan, base, records, split(examples, plan))


def main() -> None:
    """Print one table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    print(f"Python {platform.python_version()}, torch {version('torch')}", end=", ")
    print(f"transformers {version('transformers')}, {options.threads} threads\n")
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(task, Path(folder), options)
            compare(job, options.rounds)


def compare(job: Job, rounds: int) -> None:
    """Print what each way of training takes, the median of all rounds."""
    ways: dict[str, Callable[[Job], Taken]] = {"ours": ours, "Trainer": trainer, "naive": naive}
    if job.plan.task == "causal-lm":
        ways["ours, packed"] = packed
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(ways[name](job))
            gc.collect()
            print(f"{job.plan.task}, round {turn + 1}, {name}: {taken[name][-1]}", file=sys.stderr)
    plan = job.plan
    print(f"{plan.task}: {len(job.splits.train)} texts train, {plan.batch_size} in a batch,"
          f" {plan.max_length} tokens at most, {rounds} rounds\n")  # fmt: skip
    print("| | updates a second | texts a second (least, most) | of the Trainer's | loss |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in taken.items():
        steps = statistics.median(one.steps / one.seconds for one in found)
        rates = [one.texts / one.seconds for one in found]
        ratio = statistics.median(
            rate * other.seconds / other.texts
            for rate, other in zip(rates, taken["Trainer"], strict=True)
        )
        loss = statistics.median(one.loss for one in found)
        print(f"| {name} | {steps:.2f} | {statistics.median(rates):.1f} ({min(rates):.1f},"
              f" {max(rates):.1f}) | {ratio:.2f} | {loss:.4f} |")  # fmt: skip
    print()


if __name__ == "__main__":
    main()
