"""Results for the Hub's leaderboards: read by the Hub's own client, and only where asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

import release_kit
from release_kit.bundle import MANIFEST
from release_kit.documents.eval_results import write_eval_results
from release_kit.errors import UnusableInput
from release_kit.release import Benchmark, Release, read_release
from tests.bundles import bundle
from tests.documents.facts import receipts, release
from tests.projects import RELEASE_YAML, edit

REVISION = "a1" * 20


def _asking(folder: Path, *benchmarks: Benchmark) -> Release:
    subject = release(folder / "project")
    return replace(subject, documents=replace(subject.documents, benchmarks=benchmarks))


def _entries(folder: Path) -> list[EvalResultEntry]:
    texts = [path.read_text("utf-8") for path in sorted((folder / ".eval_results").glob("*.yaml"))]
    return [entry for text in texts for entry in parse_eval_result_entries(yaml.safe_load(text))]


def test_the_hubs_client_reads_each_result(tmp_path: Path) -> None:
    # Words that some readers of YAML take for a number or for false.
    subject = _asking(
        tmp_path,
        Benchmark("acme/topics-held-out", "1e3", "macro_f1", REVISION),
        Benchmark("acme/topics-held-out", "no", "calibration_error"),
    )
    write_eval_results(subject, receipts(subject)["evaluate"].results, tmp_path / "made")
    notes = "macro F1 on 33 records; 95 % bootstrap interval 0.7100 to 0.9300; baseline 0.2000"
    assert _entries(tmp_path / "made") == [
        EvalResultEntry(
            "acme/topics-held-out", "1e3", 0.85, dataset_revision=REVISION, notes=notes
        ),
        EvalResultEntry("acme/topics-held-out", "no", 0.0432, notes="ECE on 33 records"),
    ]


def test_a_figure_that_nobody_measured_is_not_told(tmp_path: Path) -> None:
    subject = _asking(tmp_path, Benchmark("acme/topics-held-out", "test", "perplexity"))
    with pytest.raises(UnusableInput, match="nobody measured perplexity") as caught:
        write_eval_results(subject, receipts(subject)["evaluate"].results, tmp_path / "made")
    assert "accuracy, macro_precision, macro_f1, calibration_error" in caught.value.hint
    with pytest.raises(UnusableInput) as caught:
        write_eval_results(subject, {}, tmp_path / "made")
    assert "not evaluated here" in caught.value.hint
    assert not (tmp_path / "made").exists()


def test_what_is_nobodys_benchmark_stands_in_the_card_alone(tmp_path: Path) -> None:
    subject = _asking(tmp_path)
    write_eval_results(subject, receipts(subject)["evaluate"].results, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "said",
    [
        "{dataset: topics, task_id: a, figure: accuracy}",
        "{dataset: acme/topics, task_id: a, figure: acuracy}",
        "{dataset: acme/topics, figure: accuracy}",
        "{dataset: acme/topics, task_id: a, figure: accuracy, revision: main}",
    ],
)
def test_a_benchmark_that_cannot_be_meant_is_refused(tmp_path: Path, said: str) -> None:
    path = tmp_path / "release.yaml"
    path.write_text(f"{RELEASE_YAML}  benchmarks: [{said}]\n", encoding="utf-8")
    with pytest.raises(UnusableInput):
        read_release(path)


def test_the_bundle_lists_it_and_passes(project: Path) -> None:
    said = "{dataset: acme/topic-notes, task_id: held-out, figure: macro_f1}"
    edit(project / "release.yaml", "  title:", f"  benchmarks: [{said}]\n  title:")
    release_kit.build(project)
    name = ".eval_results/1-acme--topic-notes.yaml"
    assert name in json.loads((bundle(project) / MANIFEST).read_bytes())["files"]
    evaluation = json.loads((project / "out/evaluation.json").read_bytes())
    (entry,) = _entries(bundle(project))
    assert entry.value == round(evaluation["figures"]["macro_f1"]["value"], 4)
    report = release_kit.audit(project)
    assert report.findings == ()
    assert not [one for one in report.not_examined if one.path == name]
