"""Measure a trained model on the records that neither training nor validation has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from release_kit.datasets.overlap import Repeats, overlap
from release_kit.errors import Problem, Unfinished, UnusableInput
from release_kit.files import sha256_bytes
from release_kit.progress import SILENT, Watcher
from release_kit.release import TrainingPlan
from release_kit.training.figures import (
    LEVEL,
    RESAMPLES,
    ClassScore,
    Figure,
    Measured,
    figures_of,
    total,
)
from release_kit.training.methods import open_trained
from release_kit.training.models import need, quiet
from release_kit.training.slices import Robustness, Slice, robustness_of, slices_of
from release_kit.training.splits import Example, SplitSizes, split
from release_kit.training.tasks import settled

if TYPE_CHECKING:
    from release_kit.datasets.records import Record


@dataclass(frozen=True)
class Evaluation:
    """Figures on the test split; `dataclasses.asdict` of it is JSON."""

    labels: tuple[str, ...]
    """Label i is class i of the model; empty where the task has no classes."""
    sizes: SplitSizes
    figures: Mapping[str, Figure]
    """By their names in `release_kit.figures.FIGURES`, in its order."""
    baseline: tuple[str, str]
    """What the baseline does, and with what, as in ("always answers", "a label")."""
    level: float
    """Share of the resamples within an interval: 0.95."""
    resamples: int
    seed: int
    """Of the resamples."""
    classes: tuple[ClassScore, ...]
    """One for each label, in the order of `labels`, where the task scores classes."""
    confusion: tuple[tuple[int, ...], ...]
    """(classes, classes): row i, column j counts test examples of label i that were given j;
    empty where an example may have more than one answer."""
    overlap: Repeats
    """How many texts of the test split stand in those of training and validation as well."""
    slices: tuple[Slice, ...] = ()
    """The figures for each value of the fields that `training.slices` names."""
    robustness: tuple[Robustness, ...] = ()
    """The figures after each small change that `training.robustness` names."""
    test_split: str = ""
    """SHA-256 over the records of the test split, whatever their order; figures on two that are
    equal can be compared."""


def evaluate_model(
    plan: TrainingPlan,
    model: Path,
    records: Sequence[Record],
    watcher: Watcher = SILENT,
    *,
    base: Path | None = None,
) -> Evaluation:
    """Score the model in folder `model` on the test split of `records`.

    Records, seed and shares must be those of the training: then, and only then, has the model
    not seen the test split. A task whose baseline is the base model asks for `base`. Progress
    goes to `watcher` as "evaluating", counted in examples.

    Raises:
        UnusableInput: a record, the split or the model cannot be used, records have a label
            that the model does not know, or the model's answer to a record is NaN; with source
            and number of each such record.
        Unfinished: a package is not installed, or the memory of the GPU does not suffice.
    """
    need("torch", "transformers", "safetensors", "scipy")
    task, plan = settled(plan)
    examples = task.read(plan, records)
    import torch

    short = False
    try:
        with quiet():
            loaded = open_trained(task, plan, model, base)
            _check_labels(model, loaded.labels, examples)
            splits = split(examples, plan)
            measured = task.measure(loaded, splits.test, plan, watcher)
            _check_answers(model, measured.broken, splits.test)
            baseline = task.baseline(loaded, splits, plan, base, watcher)

            def again(changed: Sequence[Example]) -> Measured:
                counted = task.measure(loaded, changed, plan, watcher)
                _check_answers(model, counted.broken, changed)
                return counted

            robustness = robustness_of(task, plan, splits.test, measured, again)
    except torch.OutOfMemoryError:
        short = True
    if short:
        raise Unfinished(
            "the evaluation needs more memory than the GPU has",
            hint="Set training.accumulate in release.yaml, so that fewer rows are read at once.",
        )
    slices = slices_of(
        task, plan, records, splits.test, measured=measured, baseline=baseline.measured
    )
    seen = (example.text for part in (splits.train, splits.validation) for example in part)
    return Evaluation(
        labels=loaded.labels,
        sizes=splits.sizes,
        figures=figures_of(measured, baseline.measured, task.figures, plan.seed),
        baseline=(baseline.does, baseline.what),
        level=LEVEL,
        resamples=RESAMPLES,
        seed=plan.seed,
        classes=task.class_scores(total(measured), loaded.labels),
        confusion=measured.confusion,
        overlap=overlap(seen, (example.text for example in splits.test)),
        slices=slices,
        robustness=robustness,
        test_split=digest_of_test(splits.test, records),
    )


def digest_of_test(test: Sequence[Example], records: Sequence[Record]) -> str:
    """Return the SHA-256 over what the records of `test` hold, whatever their order and files."""
    by_place = {(record.source, record.index): record for record in records}
    digests = []
    for example in test:
        fields = by_place[example.source, example.record].fields
        # The text stands for the content of a picture or sound that the fields only name.
        said = json.dumps([fields, example.text], sort_keys=True, default=_plain)
        digests.append(sha256_bytes(said.encode()))
    return sha256_bytes("\n".join(sorted(digests)).encode())


def _plain(value: object) -> object:
    return sha256_bytes(value) if isinstance(value, bytes) else str(value)


def _check_labels(model: Path, labels: tuple[str, ...], examples: Sequence[Example]) -> None:
    known = set(labels)
    problems = [
        Problem(example.source, example.record, 1, f"the model does not know the label '{label}'")
        for example in examples
        for label in example.labels
        if label not in known
    ]
    if problems:
        raise UnusableInput(
            f"{model}: does not know the label of {len(problems)} of {len(examples)} records",
            hint="it knows " + ", ".join(labels),
            problems=problems,
        )


def _check_answers(model: Path, broken: Sequence[int], examples: Sequence[Example]) -> None:
    if broken:
        raise UnusableInput(
            f"{model}: gives {len(broken)} of {len(examples)} test records no answer in numbers",
            hint="train it again, with a lower training.learning_rate in release.yaml",
            problems=[
                Problem(
                    examples[row].source, examples[row].record, 1, "the model's answer to it is NaN"
                )
                for row in broken
            ],
        )
