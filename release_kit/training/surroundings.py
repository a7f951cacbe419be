"""What a training ran on: hardware, code, packages, arithmetic; and where each setting came from.

Nothing here names a person, a machine or a place: no host or user name, no serial number, no
address, no absolute path. What cannot be learned is empty or None, and where that matters it is
said why.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from release_kit.files import json_bytes, sha256_bytes, sha256_file
from release_kit.receipts import tool_versions
from release_kit.release import RELEASE_FILE, TrainingPlan

_ROOT = Path("/")
_PACKAGE = Path(__file__).resolve().parent.parent
_DECIDING = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "opacus",
    "tokenizers",
    "safetensors",
    "numpy",
)
_GIT_SECONDS = 60


@dataclass(frozen=True)
class Accelerator:
    """GPUs of one model in this machine."""

    name: str
    count: int
    memory_bytes: int | None
    """Of one of them."""
    driver: str
    """Its version; empty when the system does not tell."""
    runtime: str
    """What torch was built for, for example `CUDA 12.8` or `ROCm 6.4`."""


@dataclass(frozen=True)
class Hardware:
    """The machine as this process may use it."""

    cpu: str
    """Model; empty when the system does not tell."""
    architecture: str
    cores: int
    """Logical ones that this process may run on (affinity)."""
    core_limit: float | None
    """Cores that its cgroup may keep busy at a time; None without a limit."""
    memory_bytes: int | None
    """What there is, or the limit of the cgroup where that is less; None when nobody tells."""
    accelerators: tuple[Accelerator, ...] | None
    """None where torch is not installed, so that nobody could look."""
    system: str
    """Operating system and kernel, for example `Linux 6.8.0, debian 12`."""
    machine: str
    """`container`, `virtual machine`, both, or `no sign of a virtual machine or container`; empty
    when the system does not tell."""


@dataclass(frozen=True)
class CodeVersion:
    """Which release-kit it was, down to the bytes."""

    version: str
    commit: str
    """Of the git checkout that the package runs from; empty without one."""
    dirty: bool | None
    """True when files of that checkout were changed or added since; None without one."""
    no_commit: str
    """Why there is no commit; empty when there is one."""
    sha256: str
    """Over the path and the bytes of each Python file of the package."""


@dataclass(frozen=True)
class Arithmetic:
    """What decides the last bits of torch's results, beside its version."""

    cuda: str
    """As torch was built, empty without it, as in the fields below."""
    cudnn: str
    rocm: str
    mkl: str
    onednn: str
    cpu_instructions: str
    """The instruction set that torch's own kernels use here, for example AVX2."""
    threads: int
    threads_between_operations: int
    deterministic_algorithms: bool
    """Whether torch refuses operations that are not deterministic."""
    cudnn_deterministic: bool
    cudnn_benchmark: bool
    float32_matmul_precision: str
    """highest, high (TF32 or bfloat16 threes) or medium (bfloat16); or ieee, tf32 or bf16, where
    it was set by torch's newer name for it."""
    cublas_workspace: str
    """CUBLAS_WORKSPACE_CONFIG; on CUDA, matrix products are deterministic only with it."""


@dataclass(frozen=True)
class Surroundings:
    """All of it; `dataclasses.asdict` of it is JSON."""

    hardware: Hardware
    code: CodeVersion
    packages: Mapping[str, str]
    """Package → version, or `not installed`; and Python's."""
    arithmetic: Arithmetic | None
    """None where torch is not installed."""


def surroundings() -> Surroundings:
    """Return what this process runs on; call it when the training has set its threads and flags."""
    return Surroundings(hardware(), code_version(), tool_versions(_DECIDING), arithmetic())


def hardware() -> Hardware:
    """Return the machine as this process may use it, as the system's own files tell it."""
    return Hardware(
        cpu=_cpu(),
        architecture=platform.machine(),
        cores=_cores(),
        core_limit=min(_core_limits(), default=None),
        memory_bytes=min(_memory(), default=None),
        accelerators=_accelerators(),
        system=_system(),
        machine=_machine(),
    )


def arithmetic() -> Arithmetic | None:
    """Return how torch calculates here; None where it is not installed."""
    torch = _torch()
    if torch is None:
        return None
    cudnn = torch.backends.cudnn
    built = torch.__config__.show()
    version = cudnn.version() if torch.version.cuda or torch.version.hip else None
    return Arithmetic(
        cuda=torch.version.cuda or "",
        cudnn=str(version or ""),
        rocm=torch.version.hip or "",
        mkl=_found(r"Math Kernel Library Version (\d[\w.]*)", built),
        onednn=_found(r"(?:oneDNN|MKL-DNN) v(\d[\w.]*)", built),
        cpu_instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        threads_between_operations=torch.get_num_interop_threads(),
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        cudnn_deterministic=bool(cudnn.deterministic),
        cudnn_benchmark=bool(cudnn.benchmark),
        float32_matmul_precision=_matmul_precision(torch),
        # Nothing but its own form: a variable can hold anything.
        cublas_workspace=_found(
            r"\A((?::\d+:\d+)+)\Z", os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
        ),
    )


def code_version(package: Path = _PACKAGE) -> CodeVersion:
    """Return which release-kit lies in the folder `package`.

    git is asked without hooks, file watchers, locks or network. A checkout counts only when it
    tracks the package: one that merely holds an environment with release-kit in it says nothing.
    """
    commit, dirty, why = _checkout(package)
    files = sorted(path for path in package.rglob("*.py") if path.is_file())
    digests = {path.relative_to(package).as_posix(): sha256_file(path) for path in files}
    return CodeVersion(
        version=tool_versions(())["release-kit"],
        commit=commit,
        dirty=dirty,
        no_commit=why,
        sha256=sha256_bytes(json_bytes(digests)),
    )


def origins(
    plan: TrainingPlan,
    said: Mapping[str, int],
    defaults: Collection[str] = (),
    measured: Collection[str] = (),
) -> dict[str, str]:
    """Return where each setting of `plan` came from; nested keys are dotted.

    `said` is `Release.training_lines`; `defaults` are the settings that the task chose, `measured`
    those that the run had to change, such as a micro-batch after the memory ran out. A setting that
    is in none of them is release-kit's own default.

    Raises:
        ValueError: a name is no setting of the plan. A line of release.yaml that nobody finds in
            the plan would else pass for a default.
    """
    settings = tuple(_settings(asdict(plan)))
    for name in (*said, *defaults, *measured):
        known = any(_within(name, setting) for setting in settings)
        # A task may choose a whole section; a line of the file stands for one setting.
        if not known and (name in said or not any(_within(one, name) for one in settings)):
            raise ValueError(f"{name} is no setting of the training plan")

    def origin(setting: str) -> str:
        if any(_within(setting, name) for name in measured):
            return "measured"
        lines = [line for name, line in said.items() if _within(name, setting)]
        if lines:
            return f"{RELEASE_FILE}:{min(lines)}"
        if any(_within(setting, name) for name in defaults):
            return "default of the task"
        return "default of release-kit"

    return {setting: origin(setting) for setting in settings}


def _within(name: str, other: str) -> bool:
    """Tell whether `name` is `other` or below it."""
    return name == other or name.startswith(f"{other}.")


def _settings(plan: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in plan.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def _matmul_precision(torch: Any) -> str:
    # Once it was set by its newer name, torch refuses to be asked by the older one.
    with suppress(RuntimeError):
        return str(torch.get_float32_matmul_precision())
    return str(torch.backends.cuda.matmul.fp32_precision)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no shell
            command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    if sys.platform == "darwin":
        return _output("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    named = _found(r"^model name\s*:(.*)$", _read(_ROOT / "proc/cpuinfo"))
    return named or platform.processor()


def _cores() -> int:
    with suppress(AttributeError, OSError):  # Linux alone knows it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup(controller: str) -> Iterator[Path]:
    """Yield the folders that limit this process: its cgroup and those above, version 1 or 2."""
    for line in _read(_ROOT / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", controller) and controller not in controllers.split(","):
            continue
        top = _ROOT / "sys/fs/cgroup" / (controller if controllers else "")
        below = Path(path.lstrip("/"))
        for part in (below, *below.parents):
            yield top / part


def _core_limits() -> Iterator[float]:
    for folder in _cgroup("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
        # Without a limit it says `max` (version 2) or -1 (version 1).
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _memory() -> Iterator[int]:
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _cgroup("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read(folder / name)
            if limit.isdigit():
                yield int(limit)


def _accelerators() -> tuple[Accelerator, ...] | None:
    torch = _torch()
    if torch is None:
        return None
    found: Counter[tuple[str, int | None]] = Counter()
    driver = runtime = ""
    if torch.cuda.is_available():  # ROCm answers here too
        amd = torch.version.hip
        driver = _read(_ROOT / "sys/module" / ("amdgpu" if amd else "nvidia") / "version")
        runtime = f"ROCm {amd}" if amd else f"CUDA {torch.version.cuda}"
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            found[seen.name, int(seen.total_memory)] += 1
    elif torch.xpu.is_available():
        runtime = "XPU"
        for index in range(torch.xpu.device_count()):
            seen = torch.xpu.get_device_properties(index)
            found[seen.name, int(seen.total_memory)] += 1
    elif torch.backends.mps.is_available():
        # It has no memory of its own.
        found["Apple GPU", None] += 1
        runtime = "MPS"
    return tuple(
        Accelerator(name, count, memory, driver, runtime)
        for (name, memory), count in sorted(found.items(), key=str)
    )


def _system() -> str:
    # What stands behind the numbers of a kernel is whatever its builder wrote, a name maybe.
    kernel = _found(r"\A(\d+(?:\.\d+)*)", platform.release())
    name = " ".join(part for part in (platform.system(), kernel) if part)
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return name
    return f"{name}, {release['ID']} {release.get('VERSION_ID', '')}".strip()


def _machine() -> str:
    if not (flags := _read(_ROOT / "proc/cpuinfo")):
        return ""
    marks = (_ROOT / ".dockerenv", _ROOT / "run/.containerenv")
    groups = _read(_ROOT / "proc/1/cgroup")
    named = re.search(r"docker|kubepods|containerd|lxc|libpod", groups)
    contained = named or any(mark.exists() for mark in marks)
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", flags, re.MULTILINE)
    if contained and virtual:
        return "container in a virtual machine"
    if contained:
        return "container"
    return "virtual machine" if virtual else "no sign of a virtual machine or container"


def _checkout(package: Path) -> tuple[str, bool | None, str]:
    """Return commit, whether the tree is dirty, and why there is no commit."""
    if not any((folder / ".git").exists() for folder in package.parents):
        return "", None, "the package does not run from a git checkout"
    if shutil.which("git") is None:
        return "", None, "git is not installed"
    if _git(package, "ls-files", "--error-unmatch", "--", "__init__.py") is None:
        return "", None, "no git checkout that can be read tracks the package"
    commit = _git(package, "rev-parse", "--verify", "HEAD")
    changed = _git(package, "status", "--porcelain", "--ignore-submodules=all")
    if not commit or changed is None:
        return "", None, "git could not read the checkout"
    return commit, bool(changed), ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git answers; None when it refuses. What it says then may hold a path."""
    quiet = {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # No transport at all, and nothing fetched for a partial clone.
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_NO_LAZY_FETCH": "1",
    }
    # Such as GIT_DIR, which a hook sets, names another checkout.
    others = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    # A question starts no program.
    settings = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ["git", *settings, *arguments],  # noqa: S607 - git is where the user has it
            cwd=folder,
            env={**others, **quiet},
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
