"""Everything together: what is planted is found, what is not is not, and privacy hides it."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import release_kit
from release_kit.cli import cli
from release_kit.datasets.records import Record
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES_OF
from release_kit.memorization.canaries import planted
from release_kit.memorization.measuring import Leaks, measure_leaks
from release_kit.project import open_project
from release_kit.release import Canaries, DifferentialPrivacy, LeaksPlan, TrainingPlan
from release_kit.training.fit import fit
from tests.projects import RELEASE_YAML, edit
from tests.tiny_models import FILLER, TOPICS, tiny_decoder

PLAN = TrainingPlan(
    task="causal-lm",
    epochs=10,
    batch_size=16,
    learning_rate=5e-3,
    max_length=64,
    validation_share=0.1,
    test_share=0.3,
    canaries=Canaries(repeats=(1, 16), each=6, digits=4),
)


def texts(count: int) -> list[str]:
    draw = random.Random(8)
    words = [*FILLER, *(word for topic in TOPICS.values() for word in topic)]
    return [" ".join(draw.choices(words, k=draw.randint(6, 14))) for _ in range(count)]


def measured(plan: TrainingPlan, base: Path, folder: Path, *, plant: bool = True) -> Leaks:
    records = [Record({"text": text}, "d", n) for n, text in enumerate(texts(120), 1)]
    secrets = planted(plan, records) if plant else ()
    fit(plan, base, records, folder / "model", planted=secrets)
    return measure_leaks(
        plan,
        LeaksPlan(records=40, samples=8),
        folder / "model",
        records,
        base=base,
        originals={},
        scratch=folder / "scratch",
    )


def exposures(found: Leaks) -> dict[int | None, float]:
    read = [one for one in found.readings if one.measure == "canary_exposure"]
    assert not any(one.means_nothing for one in read)
    return {one.repeats: one.value for one in read}


@pytest.mark.slow
def test_what_is_planted_is_told_and_privacy_hides_it(tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    base = tiny_decoder(tmp_path / "base")
    with_them = measured(PLAN, base, tmp_path / "planted")
    told = exposures(with_them)
    assert told[16] > 9 > told[0] + 5
    assert told[16] > told[1]
    without = exposures(measured(PLAN, base, tmp_path / "without", plant=False))
    assert all(value < 3.5 for value in without.values())
    private = replace(PLAN, differential_privacy=DifferentialPrivacy(epsilon=4.0))
    hidden = exposures(measured(private, base, tmp_path / "private"))
    assert hidden[16] < told[16] - 5

    # Each measure of the task is read or told as missing, and everything is JSON without a text.
    names = {one.measure for one in with_them.readings}
    assert names.isdisjoint(with_them.not_measured)
    assert names | set(with_them.not_measured) == set(MEASURES_OF["causal-lm"])
    # Nobody gave the data before redaction.
    assert {"redacted_recovery_rate", "redacted_rank_advantage"} <= set(with_them.not_measured)
    kept = json.dumps(asdict(with_them)) + (tmp_path / "planted/scratch/answers.jsonl").read_text()
    assert not [text for text in texts(120) if text in kept]


def project(folder: Path) -> Path:
    """Write the project of a language model with canaries, whose data holds addresses."""
    said = (
        RELEASE_YAML.replace("task: text-classification", "task: causal-lm")
        .replace("  fields: {text: text, label: label}\n", "")
        .replace("max_length: 32", "max_length: 64")
        .replace("epochs: 3", "epochs: 10\n  canaries: {each: 4, repeats: [1, 16], digits: 4}")
    )
    tiny_decoder(folder / "base")
    (folder / "base" / "NOTICE").write_text("Tiny, copyright Acme.\n")
    (folder / "release.yaml").write_text(said)
    (folder / "data").mkdir()
    lines = [
        json.dumps({"text": f"{text} mail u{n}.x@example.com" if n % 4 == 0 else text})
        for n, text in enumerate(texts(120))
    ]
    (folder / "data" / "notes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_a_project_is_measured_goes_on_and_is_compared(tmp_path: Path) -> None:
    place = open_project(project(tmp_path / "one"))
    for stage in ("redact", "train", "evaluate"):
        getattr(release_kit, stage)(place.root)
    # No time at all: everything is missing, and nothing passes for measured.
    cut = release_kit.leaks(place.root, minutes=1e-6).receipt.results
    assert cut["complete"] is False
    assert {one["measure"] for one in cut["readings"]} <= set(FOLDER_MEASURES)
    whole = release_kit.leaks(place.root, minutes=60)
    assert whole.receipt.results["complete"] is True
    names = {one["measure"] for one in whole.receipt.results["readings"]}
    assert {"canary_exposure", "redacted_recovery_rate", "membership_auc"} <= names
    assert release_kit.leaks(place.root, minutes=60).skipped
    for file in (place.out / "leaks").rglob("*"):
        assert "example.com" not in file.read_text()
    assert "example.com" not in place.leaks.read_text()
    release_kit.build(place.root)
    card = (place.bundle / "README.md").read_text()
    assert "canaries" in card
    assert "![" in card.split("What the weights tell")[1]
    assert (place.bundle / "leaks.svg").is_file()
    assert "leaks-unmeasured" not in {one.rule for one in release_kit.audit(place.root).findings}

    other = open_project(project(tmp_path / "two"))
    edit(other.release.file, "epochs: 10", "epochs: 1")
    for stage in ("redact", "train", "evaluate", "leaks"):
        getattr(release_kit, stage)(other.root)
    found = release_kit.compare_leaks(place.root, other.leaks)
    verdicts = {(one.measure, one.repeats): one.verdict for one in found.changes}
    assert verdicts["canary_exposure", 16] == "less"
    assert ("training.epochs", "10", "1") in found.settings
    shown = CliRunner().invoke(cli, ["leaks", "--compare", str(place.root), str(other.root)])
    assert shown.exit_code == 0
    assert "training.epochs" in shown.output
    assert "example.com" not in shown.output
