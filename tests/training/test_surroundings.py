"""What a training ran on and where its settings came from; what nobody knows is not made up."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from release_kit.files import SCHEMAS
from release_kit.release import EarlyStopping, TrainingPlan, read_release
from release_kit.training import surroundings as module
from release_kit.training.surroundings import (
    Accelerator,
    arithmetic,
    code_version,
    hardware,
    origins,
    surroundings,
)
from tests.projects import RELEASE_YAML

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose system tells nothing yet."""
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    return tmp_path


def test_the_surroundings_say_much_but_name_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "/home/somebody")
    found = surroundings()
    text = json.dumps(asdict(found))
    assert found.hardware.cores >= 1
    assert found.hardware.memory_bytes
    assert found.packages["torch"] == torch.__version__
    assert set(found.packages) >= {"python", "release-kit", "transformers", "tokenizers", "numpy"}
    # A host may be called "linux" or a user "root", which are words of their own right.
    assert not re.search(r'(^|[\s"=:])[/~]\w|[A-Z]:\\', text), text
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 6 or name not in text


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None, None),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "150000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "sys/fs/cgroup/a/b/memory.max": "1048576",
                "sys/fs/cgroup/a/memory.max": "max",
            },
            1.5,
            1048576,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/x\n2:cpuset:/",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2097152",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            0.5,
            2097152,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
            None,
        ),
        ({"proc/self/cgroup": "not\na::cgroup:file"}, None, None),
        ({}, None, None),
    ],
    ids=["unlimited", "version 2", "version 1", "version 1 unlimited", "damaged", "absent"],
)
def test_the_limits_of_a_container_count(
    root: Path, files: dict[str, str], cores: float | None, memory: int | None
) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    write(root, files)
    assert hardware().core_limit == cores
    assert hardware().memory_bytes == (memory or physical)


@pytest.mark.parametrize(
    ("files", "machine"),
    [
        ({}, ""),
        ({"proc/cpuinfo": "flags : fpu"}, "no sign of a virtual machine or container"),
        ({"proc/cpuinfo": "flags : fpu hypervisor sse"}, "virtual machine"),
        ({"proc/cpuinfo": "flags : fpu", ".dockerenv": ""}, "container"),
        (
            {"proc/cpuinfo": "flags : hypervisor", "proc/1/cgroup": "0::/kubepods/x"},
            "container in a virtual machine",
        ),
    ],
)
def test_the_kind_of_machine_is_told_or_left_open(
    root: Path, files: dict[str, str], machine: str
) -> None:
    write(root, files)
    assert hardware().machine == machine


def test_the_processor_is_the_one_that_the_system_tells(root: Path) -> None:
    write(root, {"proc/cpuinfo": "processor : 0\nmodel name\t: Fast CPU @ 2 GHz\nserial : 0xabc\n"})
    assert hardware().cpu == "Fast CPU @ 2 GHz"


def test_accelerators_are_counted_by_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.cuda.is_available() or hardware().accelerators == ()
    seen = [("Big", 80 * GIB), ("Small", 24 * GIB), ("Big", 80 * GIB)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(seen))
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda i: SimpleNamespace(name=seen[i][0], total_memory=seen[i][1], uuid="GPU-secret"),
    )
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    write(root, {"sys/module/nvidia/version": "575.51.03\n"})
    assert hardware().accelerators == (
        Accelerator("Big", 2, 80 * GIB, "575.51.03", "CUDA 12.8"),
        Accelerator("Small", 1, 24 * GIB, "575.51.03", "CUDA 12.8"),
    )


def test_without_torch_nobody_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert hardware().accelerators is None
    assert arithmetic() is None


def test_arithmetic_follows_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    before = arithmetic()
    assert before is not None
    assert not before.deterministic_algorithms
    assert (before.threads, before.cublas_workspace) == (torch.get_num_threads(), "")
    assert before.cpu_instructions
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    precision = torch.backends.cuda.matmul.fp32_precision
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        after = arithmetic()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cuda.matmul.fp32_precision = precision
    assert after == replace(
        before,
        deterministic_algorithms=True,
        cublas_workspace=":4096:8",
        float32_matmul_precision="tf32",
    )


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a git checkout."""
    folder = tmp_path / "checkout" / "package"
    write(folder, {"__init__.py": "", "inner/code.py": "A = 1\n", "data.txt": "x"})
    write(folder.parent, {".gitignore": "*.log\n.venv\n"})
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "first")
    return folder


def test_the_code_version_is_that_of_the_checkout(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hook that runs release-kit sets this for another repository.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    write(package.parent, {".git/watcher": f"#!/bin/sh\ntouch {tmp_path}/started\n"})
    (package.parent / ".git/watcher").chmod(0o755)
    monkeypatch.delenv("GIT_DIR")
    git(package.parent, "config", "core.fsmonitor", ".git/watcher")
    head = git(package.parent, "-c", "core.fsmonitor=false", "rev-parse", "HEAD")
    (tmp_path / "started").unlink(missing_ok=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    clean = code_version(package)
    assert (clean.commit, clean.dirty, clean.no_commit) == (head, False, "")
    write(package, {"x.log": "ignored"})
    assert code_version(package) == clean
    write(package, {"data.txt": "y"})
    assert code_version(package) == replace(clean, dirty=True)
    write(package, {"data.txt": "x", "inner/new.py": ""})
    added = code_version(package)
    assert (added.commit, added.dirty) == (head, True)
    assert added.sha256 != clean.sha256
    (package / "inner/new.py").unlink()
    (package / "inner/code.py").rename(package / "inner/moved.py")
    assert code_version(package).sha256 != clean.sha256
    assert not (tmp_path / "started").exists()


def test_without_a_checkout_there_is_no_commit_but_the_bytes(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The environment of a project: its commit is not ours.
    installed = package.parent / ".venv/package"
    write(installed, {"__init__.py": "", "inner/code.py": "A = 1\n"})
    inside = code_version(installed)
    assert (inside.commit, inside.dirty) == ("", None)
    assert "tracks the package" in inside.no_commit
    assert inside.sha256 == code_version(package).sha256

    write(tmp_path / "plain/package", {"__init__.py": "", "inner/code.py": "A = 2\n"})
    plain = code_version(tmp_path / "plain/package")
    assert (plain.commit, plain.dirty) == ("", None)
    assert "does not run from a git checkout" in plain.no_commit
    assert plain.sha256 != inside.sha256

    monkeypatch.setenv("PATH", "")
    assert code_version(package).no_commit == "git is not installed"


@dataclass(frozen=True)
class Method:
    rank: int = 8
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    epochs: int = 2
    batch_size: int = 16
    seed: int = 0
    lora: Method = field(default_factory=Method)
    weights: dict[str, float] = field(default_factory=dict)


def test_each_setting_has_its_origin() -> None:
    plan: Any = Plan()
    said = {"epochs": 12, "lora.rank": 15, "batch_size": 13}
    assert origins(plan, said, ["seed"], ["batch_size"]) == {
        "epochs": "release.yaml:12",
        "batch_size": "measured",
        "seed": "default of the task",
        "lora.rank": "release.yaml:15",
        "lora.targets": "default of release-kit",
        "weights": "default of release-kit",
    }
    # A whole section of the task, and a mapping that the plan keeps otherwise than the file.
    found = origins(plan, {"weights.spam": 7, "weights.ham": 6}, ["lora"])
    assert found["lora.rank"] == "default of the task"
    assert found["weights"] == "release.yaml:6"


@pytest.mark.parametrize("unknown", ["epoch", "lora.ranks", "lor", "epochs2"])
def test_a_setting_that_the_plan_lacks_is_no_default(unknown: str) -> None:
    plan: Any = Plan()
    with pytest.raises(ValueError, match=f"{unknown} is no setting"):
        origins(plan, {unknown: 3})
    with pytest.raises(ValueError, match=f"{unknown} is no setting"):
        origins(plan, {}, [], [unknown])


def test_a_line_stands_for_one_setting() -> None:
    plan: Any = Plan()
    with pytest.raises(ValueError, match="lora is no setting"):
        origins(plan, {"lora": 3})


def test_every_key_that_release_yaml_may_hold_is_a_setting() -> None:
    schema = json.loads((SCHEMAS / "release.schema.json").read_text(encoding="utf-8"))

    def keys(said: dict[str, Any], above: str = "") -> Iterator[str]:
        for name, value in said.get("properties", {}).items():
            yield from keys(value, f"{above}{name}.")
            if not value.get("properties"):
                yield f"{above}{name}"

    plan = TrainingPlan("text-classification", early_stopping=EarlyStopping())
    said = tuple(keys(schema["properties"]["training"]))
    assert len(said) > 10
    for name in said:
        assert "release.yaml:7" in origins(plan, {name: 7}).values()


def test_release_yaml_tells_the_lines_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    release = read_release(tmp_path)
    lines = RELEASE_YAML.splitlines()
    assert release.training
    assert release.training_lines.keys() >= {"task", "epochs"}
    for name, line in release.training_lines.items():
        assert f"{name.rpartition('.')[2]}:" in lines[line - 1]
    found = origins(release.training, release.training_lines)
    assert found["task"] == f"release.yaml:{release.training_lines['task']}"

    start = RELEASE_YAML.index("\ntraining:")
    rest = re.search(r"\n(?=\S)", RELEASE_YAML[start + 1 :])
    without = RELEASE_YAML[:start] + (RELEASE_YAML[start + 1 + rest.start() :] if rest else "\n")
    (tmp_path / "release.yaml").write_text(without, encoding="utf-8")
    assert read_release(tmp_path).training_lines == {}
