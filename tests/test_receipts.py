"""Receipts: what a stage did, kept so that the next run can tell whether it still holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import UnusableInput
from release_kit.files import json_bytes, sha256_bytes
from release_kit.receipts import (
    Receipt,
    digest_of,
    read_receipt,
    still_matches,
    tool_versions,
    write_receipt,
)

PLANNED = Receipt(
    stage="train",
    inputs={"base": "aa", "notes.jsonl": "bb"},
    parameters={"training": {"epochs": 3, "entities": ("A", "B")}},
    tools={"python": "3.11.0", "torch": "2.6"},
    outputs={},
    results={},
)


def _finished(folder: Path) -> Receipt:
    """Do the planned work: make its outputs, keep its receipt, and read that."""
    (folder / "model").mkdir()
    (folder / "model" / "w").write_bytes(b"weights")
    (folder / "log.json").write_bytes(b"{}")
    outputs = {name: digest_of(folder / name) for name in ("model", "log.json")}
    done = replace(PLANNED, outputs=outputs, results={"loss": 0.25, "é": [1, None]})
    write_receipt(folder / "receipts" / "train.json", done)
    read = read_receipt(folder / "receipts" / "train.json")
    assert read is not None
    return read


def test_receipt_comes_back_as_it_was_written(tmp_path: Path) -> None:
    read = _finished(tmp_path)
    assert read.stage == "train"
    assert read.inputs == PLANNED.inputs
    assert read.tools == PLANNED.tools
    assert read.parameters == {"training": {"epochs": 3, "entities": ["A", "B"]}}
    assert read.results == {"loss": 0.25, "é": [1, None]}
    assert read.digest == sha256_bytes((tmp_path / "receipts" / "train.json").read_bytes())


def test_receipt_that_is_absent_reads_as_none(tmp_path: Path) -> None:
    assert read_receipt(tmp_path / "none.json") is None
    assert not still_matches(None, PLANNED, tmp_path)


def test_finished_work_still_matches_its_plan(tmp_path: Path) -> None:
    assert still_matches(_finished(tmp_path), PLANNED, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "evaluate"},
        {"inputs": {"base": "aa"}},
        {"inputs": {"base": "aa", "notes.jsonl": "bc"}},
        {"inputs": {"base": "aa", "notes.jsonl": "bb", "more": "cc"}},
        {"parameters": {"training": {"epochs": 4, "entities": ("A", "B")}}},
        {"parameters": {"training": {"epochs": 3, "entities": ("B", "A")}}},
        {"parameters": {}},
        {"tools": {"python": "3.11.0", "torch": "2.7"}},
        {"tools": {"python": "3.11.0"}},
    ],
    ids=str,
)
def test_another_plan_does_not_match(tmp_path: Path, change: dict[str, Any]) -> None:
    assert not still_matches(_finished(tmp_path), replace(PLANNED, **change), tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "log.json").write_bytes(b"{ }"),
        lambda folder: (folder / "log.json").unlink(),
        lambda folder: (folder / "model" / "w").write_bytes(b"Weights"),
        lambda folder: (folder / "model" / "w").unlink(),
        lambda folder: (folder / "model" / "w").rename(folder / "model" / "v"),
        lambda folder: (folder / "model" / "more").write_bytes(b""),
        lambda folder: (folder / "model").rename(folder / "gone"),
    ],
)
def test_output_that_was_changed_does_not_match(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    kept = _finished(tmp_path)
    spoil(tmp_path)
    assert not still_matches(kept, PLANNED, tmp_path)


def test_link_among_the_outputs_is_refused(tmp_path: Path) -> None:
    kept = _finished(tmp_path)
    (tmp_path / "model" / "w").rename(tmp_path / "w")
    (tmp_path / "model" / "w").symlink_to(tmp_path / "w")
    with pytest.raises(UnusableInput, match="w is a symbolic link"):
        still_matches(kept, PLANNED, tmp_path)


def _data() -> dict[str, Any]:
    parts: dict[str, Any] = {"receipt": 1, "stage": "x"}
    return parts | {name: {} for name in ("inputs", "parameters", "tools", "outputs", "results")}


def test_the_data_that_the_next_tests_damage_is_a_receipt(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(json_bytes(_data()))
    assert read_receipt(tmp_path / "r.json") is not None


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"{}", b"[" * 100_000),
        *(json_bytes({k: v for k, v in _data().items() if k != name}) for name in _data()),
        *(json_bytes(_data() | {name: value}) for name in _data() for value in (None, 7, [])),
        *(json_bytes(_data() | {name: {"a": 7}}) for name in ("inputs", "tools", "outputs")),
        json_bytes(_data() | {"receipt": 2}),
        json_bytes(_data() | {"more": 1}),
    ],
    ids=lambda raw: ascii(b" ".join(raw[:200].split()))[2:60],
)
def test_damaged_receipt_is_refused_with_a_way_out(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(raw)
    with pytest.raises(UnusableInput, match=r"r\.json is not a receipt") as caught:
        read_receipt(path)
    assert caught.value.hint == "Delete it; the stage then runs again."


def test_folder_in_the_place_of_a_receipt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    with pytest.raises(UnusableInput, match="is not a receipt"):
        read_receipt(tmp_path / "r.json")


def test_digest_of_a_file_a_folder_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "d" / "below").mkdir(parents=True)
    assert digest_of(tmp_path / "f") == sha256_bytes(b"x")
    assert digest_of(tmp_path / "none") == ""
    empty = digest_of(tmp_path / "d")
    (tmp_path / "d" / "below" / "f").write_bytes(b"x")
    below = digest_of(tmp_path / "d")
    (tmp_path / "d" / "below" / "f").rename(tmp_path / "d" / "f")
    assert len({empty, below, digest_of(tmp_path / "d"), digest_of(tmp_path / "f"), ""}) == 5
    (tmp_path / "d").rename(tmp_path / "moved")
    (tmp_path / "moved" / "f").rename(tmp_path / "moved" / "below" / "f")
    assert digest_of(tmp_path / "moved") == below
    assert json.loads(json_bytes(below)) == below


def test_digest_follows_a_link_to_a_file_and_no_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "d").mkdir()
    for name, target in (("to f", "f"), ("to d", "d"), ("dangling", "none")):
        (tmp_path / name).symlink_to(tmp_path / target)
    os.mkfifo(tmp_path / "pipe")
    assert digest_of(tmp_path / "to f") == sha256_bytes(b"x")
    assert digest_of(tmp_path / "dangling") == ""
    assert digest_of(tmp_path / "pipe") == ""
    with pytest.raises(UnusableInput, match="to d is a symbolic link"):
        digest_of(tmp_path / "to d")
    with pytest.raises(UnusableInput, match="only regular files can be bound by digest"):
        digest_of(tmp_path)


def test_tool_versions_name_python_and_what_is_absent() -> None:
    versions = tool_versions(("Jinja2", "no-such-package"))
    assert list(versions) == ["python", "release-kit", "Jinja2", "no-such-package"]
    assert versions["Jinja2"][0].isdigit()
    assert versions["no-such-package"] == "not installed"
