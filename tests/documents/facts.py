"""A release and the receipts of its stages, which did not run; the shapes are theirs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from release_kit.datasets.overlap import Repeats
from release_kit.documents.card import model_card
from release_kit.documents.terms import write_terms
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.policy import Policy, load_policy
from release_kit.privacy.redaction.redaction import RedactionCounts
from release_kit.receipts import Receipt
from release_kit.release import Release, read_release
from release_kit.training.energy import Energy
from release_kit.training.evaluation import Evaluation
from release_kit.training.figures import FIGURES, ClassScore, Figure, Interval
from release_kit.training.fit import TrainingResult
from release_kit.training.slices import Robustness, Slice
from release_kit.training.splits import SplitSizes
from release_kit.training.surroundings import origins, surroundings
from release_kit.training.trainer import EpochLoss
from tests.projects import RELEASE_YAML

TEXTS = ("LICENSE", "NOTICE", "USE_POLICY.md")


def release(folder: Path, *changes: tuple[str, str]) -> Release:
    """Read the tests' release.yaml with each first of a pair replaced by its second."""
    text = RELEASE_YAML
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "release.yaml").write_text(text, encoding="utf-8")
    return read_release(folder)


LABELS = ("recipe", "weather")


def receipts(subject: Release, labels: tuple[str, ...] = LABELS) -> dict[str, Receipt]:
    """Return receipts of redact, train and evaluate as those stages would leave them."""
    sizes = SplitSizes(106, 21, 33)
    counts = RedactionCounts(160, 5, 70, {"PERSON": 4}, {"EMAIL_ADDRESS": 1})
    scores = tuple(ClassScore(label, 0.9, 0.8, 0.85, 11) for label in labels)
    losses = (EpochLoss(1, 1.1, 1.2, 0.5, {"accuracy": 0.7}),)
    trained = TrainingResult(
        losses=losses,
        labels=labels,
        pipeline_tag="text-classification",
        sizes=sizes,
        steps=7,
        parameters=25027,
        trained=25027,
        adapter=False,
        best_epoch=1,
        new_tensors=(),
        device="cpu",
        threads=1,
        processes=1,
        accumulate=1,
        seed=3,
        seconds=1.0,
    )
    figures = {
        "accuracy": _figure("accuracy", 0.90912, (0.81, 0.97), 0.4, (0.33, 0.65)),
        "macro_precision": _figure("macro_precision", 0.9, (0.8, 0.95), 0.1, (0.7, 0.8)),
        "macro_f1": _figure("macro_f1", 0.85, (0.71, 0.93), 0.2, (-0.0123, 0.7)),
        "calibration_error": _figure("calibration_error", 0.0432, None, None, None),
    }
    always = ("always answers", labels[0])
    repeated = Repeats(33, 1, 2)
    # Values of data stand wherever labels do.
    parts = (Slice("channel", labels[0], 22, figures), Slice("channel", None, 11, figures))
    changes = (Robustness("case", "all in capitals", 33, figures),)
    changes = (*changes, Robustness("diacritics", "accents left out", 0, {}))
    measured = Evaluation(
        labels, sizes, figures, always, 0.95, 2000, 3, scores, (), repeated, parts, changes
    )
    plan = subject.training
    if plan is None:
        raise AssertionError("the tests' release.yaml trains")
    told = {
        "surroundings": asdict(surroundings()),
        "energy": asdict(Energy(None, {}, (), 0.0, (), "", None, None, "nobody asked", "")),
        "origins": origins(plan, subject.training_lines),
    }
    more = {"entities": ["EMAIL_ADDRESS", "PERSON"], "sha256": "0"}
    results: dict[str, dict[str, Any]] = {
        "redact": {data.id: asdict(counts) | more for data in subject.upstreams("dataset")},
        "train": asdict(trained) | told,
        "evaluate": asdict(measured),
    }
    tools = {"python": "3.11.0", "release-kit": "0.1.0"}
    parameters: dict[str, dict[str, Any]] = {"train": {"training": asdict(plan)}}
    return {
        stage: Receipt(stage, {}, parameters.get(stage, {}), tools, {}, result)
        for stage, result in results.items()
    }


def _figure(
    name: str,
    value: float,
    interval: tuple[float, float] | None,
    baseline: float | None,
    gain: tuple[float, float] | None,
) -> Figure:
    kind = FIGURES[name]
    return Figure(
        kind.title,
        kind.hub,
        kind.lower_is_better,
        value,
        Interval(*interval) if interval else None,
        baseline,
        Interval(*gain) if gain else None,
    )


def judged(subject: Release) -> Judgement:
    """Return what its policy, the shipped one unless it names another, says about the release."""
    return judge(subject, _policy(subject.policy_source), day=date(2026, 11, 23))


@cache
def _policy(source: str | Path) -> Policy:
    return load_policy(source)


def card(subject: Release, labels: tuple[str, ...] = LABELS) -> str:
    """Render the model card."""
    return model_card(judged(subject), receipts(subject, labels))


def terms(subject: Release, folder: Path) -> dict[str, str]:
    """Write the terms into `folder` and return LICENSE, NOTICE and USE_POLICY.md by name."""
    write_terms(judged(subject), folder)
    paths = {name: folder / name for name in TEXTS}
    return {
        name: path.read_text(encoding="utf-8") if path.is_file() else ""
        for name, path in paths.items()
    }
