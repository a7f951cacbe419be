"""Writes that are whole or absent, also when the process is killed."""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from release_kit import files
from release_kit.files import (
    POLICIES,
    SCHEMAS,
    TEMPLATES,
    json_bytes,
    sha256_bytes,
    sha256_file,
    whole_file,
    whole_folder,
    write_atomic,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def test_shipped_folders_hold_their_files() -> None:
    assert (POLICIES / "baseline.yaml").is_file()
    assert (POLICIES / "licenses" / "mit.yaml").is_file()
    assert (SCHEMAS / "release.schema.json").is_file()
    assert (TEMPLATES / "model_card.md.j2").is_file()


def test_write_atomic_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f"
    for data in (b"one", b"", b"two" * 1000):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert _names(path.parent) == ["f"]


def test_written_file_can_be_read_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "f", b"old")
    monkeypatch.setattr(*((files.os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert _names(tmp_path) == ["f"]


def test_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "f") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_bytes() == b"old"
    assert _names(tmp_path) == ["f"]


def test_a_folder_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "f" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "f", b"x")
    assert _names(tmp_path) == ["f"]
    assert (tmp_path / "f" / "inside").is_dir()


_WRITES = """
import sys
from pathlib import Path
from release_kit.files import write_atomic
path, number = Path(sys.argv[1]), 0
while True:
    write_atomic(path, bytes([number % 251]) * 300_000)
    number += 1
    print(number, flush=True)
"""


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    draw = random.Random(3)
    path = tmp_path / "f"
    for _ in range(4):
        process = _start(_WRITES, str(path))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0, 0.1))
        _kill(process)
        data = path.read_bytes()
        assert len(data) == 300_000
        assert data == data[:1] * 300_000


def test_folder_takes_its_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "d"
    for name in ("one", "two"):
        with whole_folder(path) as staging:
            assert _names(staging) == []
            (staging / name).write_bytes(b"x")
        assert _names(path) == [name]
    assert _names(path.parent) == ["d"]


def test_crash_keeps_the_old_folder_and_the_next_call_clears_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with whole_folder(path) as staging:
        (staging / "old").write_bytes(b"x")
    with pytest.raises(RuntimeError, match="crash"), whole_folder(path) as staging:
        (staging / "half").write_bytes(b"x")
        raise RuntimeError("crash")
    assert _names(path) == ["old"]
    assert len(_names(tmp_path)) == 2
    with whole_folder(path) as staging:
        assert _names(staging) == []
    assert _names(tmp_path) == ["d"]


def test_failed_swap_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d"
    with whole_folder(path) as staging:
        (staging / "old").write_bytes(b"x")
    rename = Path.replace

    def fail_once(self: Path, target: Path) -> Path:
        if self.name == ".d.partial":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(OSError, match="No space left"), whole_folder(path):
        pass
    assert _names(path) == ["old"]


_SWAP = """
import os, sys, time
from pathlib import Path
from release_kit.files import whole_folder
path, where = Path(sys.argv[1]), sys.argv[2]
rename = Path.replace

def stop(*_):
    print("there", flush=True)
    time.sleep(60)

def replace(self, target):
    if where == "between" and self.name == ".d.partial":
        stop()
    return rename(self, target)

Path.replace = replace
with whole_folder(path) as staging:
    (staging / "new").write_bytes(b"x")
    if where == "inside":
        stop()
"""


@pytest.mark.parametrize("where", ["inside", "between"])
def test_killed_process_leaves_no_half_folder(tmp_path: Path, where: str) -> None:
    path = tmp_path / "d"
    with whole_folder(path) as staging:
        (staging / "old").write_bytes(b"x")
    process = _start(_SWAP, str(path), where)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    _kill(process)
    assert path.exists() == (where == "inside")
    with pytest.raises(RuntimeError, match="crash"), whole_folder(path):
        assert _names(path) == ["old"]
        raise RuntimeError("crash")
    with whole_folder(path) as staging:
        (staging / "newer").write_bytes(b"x")
    assert _names(path) == ["newer"]
    assert _names(tmp_path) == ["d"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_no_folder_is_replaced_and_what_it_points_to_is_kept(
    tmp_path: Path, kind: str
) -> None:
    path, real = tmp_path / "d", tmp_path / "real"
    if kind == "link":
        (real / "kept").mkdir(parents=True)
    if kind == "file":
        path.write_bytes(b"x")
    else:
        path.symlink_to(real)
    for _ in range(2):
        with whole_folder(path) as staging:
            (staging / "new").write_bytes(b"x")
        assert not path.is_symlink()
        assert _names(path) == ["new"]
    assert _names(tmp_path) == (["d", "real"] if kind == "link" else ["d"])
    assert kind != "link" or _names(real) == ["kept"]


def test_json_bytes_depend_on_the_value_alone() -> None:
    one = {"b": [1, 2.5, None], "a": {"é": "🎉", "z": True}}
    two = {"a": {"z": True, "é": "🎉"}, "b": [1, 2.5, None]}
    assert json_bytes(one) == json_bytes(two)
    assert json_bytes({"é": (1,)}) == '{\n  "é": [\n    1\n  ]\n}\n'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_bytes_refuse_what_is_no_json(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_bytes({"a": [value]})


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert sha256_file(tmp_path / "f") == sha256_bytes(data) == expected
