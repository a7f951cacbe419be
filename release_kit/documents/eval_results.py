"""Results in the Hub's own form, `.eval_results/*.yaml`, for what the Hub has a leaderboard of.

An entry names a task of a dataset that is registered on the Hub as a benchmark (Hub docs,
Evaluation Results). The form has no word for test records that are nobody's benchmark: such
figures stand in the card, as text and as `model-index`, and no file is written. Nor has it one
for an interval, a baseline or the kind of figure; the notes say them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release_kit.documents.yaml_text import yaml_text
from release_kit.errors import UnusableInput
from release_kit.files import write_atomic
from release_kit.release import Benchmark, Release

FOLDER = ".eval_results"


def write_eval_results(release: Release, evaluation: Mapping[str, Any], folder: Path) -> None:
    """Write one file below `folder` for each benchmark that the release names.

    `evaluation` is what the stage measured; empty where there was none.

    Raises:
        UnusableInput: the evaluation did not measure the figure that a benchmark wants.
    """
    figures = evaluation.get("figures", {})
    for number, benchmark in enumerate(release.documents.benchmarks):
        figure = figures.get(benchmark.figure)
        if figure is None:
            measured = ", ".join(figures) or "none, since the model was not evaluated here"
            raise UnusableInput(
                f"documents.benchmarks: nobody measured {benchmark.figure}, which "
                f"{benchmark.dataset} is to be told",
                hint=f"Name one that the evaluation gives: {measured}.",
            )
        name = f"{number + 1}-{benchmark.dataset.replace('/', '--')}.yaml"
        entry = _entry(benchmark, figure, evaluation)
        write_atomic(folder / FOLDER / name, yaml_text([entry]).encode())


def _entry(
    benchmark: Benchmark, figure: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    dataset = {"id": benchmark.dataset, "task_id": benchmark.task_id}
    if benchmark.revision:
        dataset["revision"] = benchmark.revision
    span, baseline = figure["interval"], figure["baseline"]
    notes = [f"{figure['title']} on {evaluation['sizes']['test']} records"]
    if span:
        level = f"{100 * evaluation['level']:g} %"
        notes.append(f"{level} bootstrap interval {span['low']:.4f} to {span['high']:.4f}")
    if baseline is not None:
        notes.append(f"baseline {baseline:.4f}")
    return {
        "dataset": dataset,
        "value": round(float(figure["value"]), 4),
        "notes": "; ".join(notes),
    }
