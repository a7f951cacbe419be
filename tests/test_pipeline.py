from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import release_kit
from release_kit import pipeline
from release_kit.auditing.findings import Verdict
from release_kit.datasets.records import read_records
from release_kit.errors import UnusableInput
from release_kit.files import sha256_file
from release_kit.project import open_project
from tests.projects import PLANTED_EMAIL, edit, write_project

STAGES = ("redact", "train", "evaluate", "leaks", "build")


class Lines:
    """A watcher that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, what: str, done: int, total: int) -> None:
        pass

    def say(self, line: str) -> None:
        self.lines.append(line)


def outcome(project: Path) -> dict[str, bool]:
    """Run everything; return stage → was it skipped."""
    results, _ = release_kit.run(str(project))
    return {result.stage: result.skipped for result in results}


def test_a_run_makes_every_stage_and_its_receipt(audited_project: Path) -> None:
    place = open_project(audited_project)
    for stage in STAGES:
        receipt = json.loads(place.receipt(stage).read_text())
        assert receipt["stage"] == stage
        assert receipt["inputs"]
        assert receipt["outputs"]
        assert receipt["tools"]["python"] == sys.version.split()[0]
    report = json.loads(place.report.read_text())
    assert report["verdict"] == "pass"
    assert report["manifest_digest"] == sha256_file(place.bundle / "manifest.json")
    assert sorted(path.name for path in place.bundle.iterdir()) == [
        ".gitattributes",
        "DATASHEET.md",
        "LICENSE",
        "NOTICE",
        "README.md",
        "USE_POLICY.md",
        "config.json",
        "datasheet.html",
        "leaks.svg",
        "licenses",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_curves.svg",
    ]


def test_losses_and_measures_are_kept(audited_project: Path) -> None:
    place = open_project(audited_project)
    losses = json.loads(place.receipt("train").read_text())["results"]["losses"]
    assert [epoch["epoch"] for epoch in losses] == [1, 2, 3]
    assert losses[-1]["training_loss"] < losses[0]["training_loss"]
    measured = json.loads((place.out / "evaluation.json").read_text())
    figure = measured["figures"]["macro_f1"]
    assert figure["value"] > figure["baseline"]


def test_training_reads_redacted_data_and_nothing_keeps_the_planted_value(
    audited_project: Path,
) -> None:
    place = open_project(audited_project)
    (dataset,) = place.release.upstreams("dataset")
    texts = [record.fields["text"] for record in read_records(place.redacted(dataset))]
    assert sum("<EMAIL_ADDRESS>" in text for text in texts) == 1
    for path in place.out.rglob("*"):
        if path.is_file():
            assert PLANTED_EMAIL.encode() not in path.read_bytes(), path


def test_a_second_run_does_nothing(project: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (project / "out").rglob("*") if p.is_file()}
    assert outcome(project) == dict.fromkeys(STAGES, True)
    after = {p: p.stat().st_mtime_ns for p in before}
    report = project / "out" / "audit.json"
    assert {p for p in before if before[p] != after[p]} == {report}


def test_a_changed_document_rebuilds_the_bundle_only(project: Path) -> None:
    edit(project / "release.yaml", "Sorting notes by topic.", "Sorting notes, and notes only.")
    assert outcome(project) == {**dict.fromkeys(STAGES, True), "build": False}
    assert "notes only" in (project / "out" / "bundle" / "README.md").read_text()


def test_changed_data_runs_everything_again(project: Path) -> None:
    data = project / "data" / "notes.jsonl"
    data.write_text(data.read_text() + '{"text": "one more note on butter", "label": "recipe"}\n')
    assert outcome(project) == dict.fromkeys(STAGES, False)


def test_a_lost_output_is_made_again(project: Path) -> None:
    before = sha256_file(project / "out" / "model" / "model.safetensors")
    (project / "out" / "model" / "model.safetensors").unlink()
    assert outcome(project)["train"] is False
    assert sha256_file(project / "out" / "model" / "model.safetensors") == before


def test_a_stage_out_of_order_says_what_to_run_first(tmp_path: Path) -> None:
    project = write_project(tmp_path / "fresh")
    for stage in ("train", "evaluate", "leaks", "build"):
        with pytest.raises(UnusableInput) as caught:
            getattr(pipeline, stage)(project)
        assert "`release-kit redact`" in caught.value.hint
    with pytest.raises(UnusableInput, match="no bundle yet"):
        release_kit.audit(project)


def test_a_tampered_output_is_not_built_upon(project: Path) -> None:
    (project / "out" / "model" / "config.json").write_text("{}")
    with pytest.raises(UnusableInput, match="no longer what the stage train made"):
        release_kit.build(project)


@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("entities: [PERSON, ", "entities: [", "redact"),
        ("min_score: 0.35", "min_score: 0.5", "redact"),
        ("epochs: 3", "epochs: 4", "train"),
        ("path: data/notes.jsonl", "path: data/more.jsonl", "redact"),
    ],
)
def test_nothing_is_built_upon_a_stage_that_release_yaml_has_left_behind(
    project: Path, old: str, new: str, stage: str
) -> None:
    data = (project / "data" / "notes.jsonl").read_text()
    (project / "data" / "more.jsonl").write_text(data * 2)
    edit(project / "release.yaml", old, new)
    with pytest.raises(UnusableInput, match=f"what the stage {stage} read"):
        release_kit.build(project)


def test_a_license_put_beside_the_base_asks_for_a_build_only(project: Path) -> None:
    (project / "base" / "LICENSE").write_text("Some text.\n")
    assert outcome(project) == {**dict.fromkeys(STAGES, True), "build": False}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("path: data/notes.jsonl", "path: data/absent.jsonl", "there is nothing at"),
        ("path: base", "path: absent", "there is nothing at"),
        ("      path: data/notes.jsonl\n", "", "no dataset to train on"),
        ("      path: base\n", "", "training needs one"),
    ],
)
def test_a_wrong_path_is_told(project: Path, old: str, new: str, said: str) -> None:
    edit(project / "release.yaml", old, new)
    with pytest.raises(UnusableInput, match=said):
        release_kit.redact(project)
        release_kit.train(project)


def test_a_license_that_will_block_is_told_before_the_work_starts(project: Path) -> None:
    silent, told = Lines(), Lines()
    release_kit.run(project, silent)
    edit(project / "release.yaml", "license: cc-by-4.0", "license: unknown")
    _, report = release_kit.run(project, told)
    assert report.verdict is Verdict.BLOCK
    assert told.lines[0].startswith("license: the audit will block acme/topic-notes")
    assert not [line for line in silent.lines if line.startswith("license")]


def test_a_folder_without_release_yaml_is_audited_and_blocked(project: Path) -> None:
    report = release_kit.audit(project / "out" / "bundle")
    assert report.verdict is Verdict.BLOCK
    assert "lineage-undeclared" in {finding.rule for finding in report.findings}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_at_the_stage_that_was_cut_off(
    project: Path, audited_project: Path, stage: str
) -> None:
    place = open_project(project)
    for later in STAGES[STAGES.index(stage) :]:
        place.receipt(later).unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "release_kit", "run", str(project)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    said = b""
    os.set_blocking(process.stderr.fileno(), False)
    deadline = time.monotonic() + 120
    while f"{stage}: at work".encode() not in said and time.monotonic() < deadline:
        said += process.stderr.read() or b""
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not place.receipt(stage).exists()

    watcher = Lines()
    _, report = release_kit.run(project, watcher)
    skipped = [line.split(":")[0] for line in watcher.lines if "skipped" in line]
    assert skipped == list(STAGES[: STAGES.index(stage)])
    assert report.verdict is Verdict.PASS
    weights = "out/bundle/model.safetensors"
    assert sha256_file(project / weights) == sha256_file(audited_project / weights)


def test_init_writes_files_that_can_be_used_and_keeps_what_is_there(tmp_path: Path) -> None:
    first = dict(release_kit.init(tmp_path))
    assert all(first.values())
    release = open_project(tmp_path).release
    assert release.policy_source == tmp_path / "policy.yaml"
    (tmp_path / "policy.yaml").write_text("mine")
    assert not any(dict(release_kit.init(tmp_path)).values())
    assert (tmp_path / "policy.yaml").read_text() == "mine"
