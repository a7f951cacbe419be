"""Redacts a corpus on many machines: datatrove's executors share its parts out among tasks.

A task does parts of the corpus as a worker of one machine does them, and enters them into the same
journal in the target folder, which every machine sees under the same path. When all tasks have
ended, one machine checks every entry against the bytes and puts the copies together; they are the
bytes that one machine would have written alone.

datatrove writes what it runs into files. It is told where the target is and nothing else: the
order lies there, readable by its owner alone, and the key is in no file at all. Every task takes
it from its own environment.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from release_kit.datasets.corpus import Corpus, files_of
from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import json_bytes, sha256_bytes, shown
from release_kit.privacy.corpus import run as corpus_run
from release_kit.privacy.corpus.journal import Journal, key_check
from release_kit.privacy.corpus.parts import Part, Plan, learn
from release_kit.privacy.corpus.run import cores, redact_corpus
from release_kit.privacy.corpus.workers import Failure, begin_process, in_words
from release_kit.privacy.detection.light_imports import keep_frameworks_out
from release_kit.privacy.redaction.operators import DRAWN, KEY_VARIABLE
from release_kit.privacy.redaction.scan_report import Report
from release_kit.privacy.settings import Asked
from release_kit.progress import SILENT, Watcher

EXECUTORS = ("local", "slurm", "ray")

_FORMAT = 1
_LOOK = 2.0
"""Seconds between two looks at how far the tasks are."""
_GIB = 1 << 30
_AGAIN = "run the same command again"
_LOST = Failure(
    False,
    "a worker process ended without a word",
    f"most often the memory was full; {_AGAIN}, with fewer --workers: it goes on from here",
)


@dataclass(frozen=True)
class Slurm:
    """What sbatch is told."""

    partition: str
    time: str = "24:00:00"
    """How long a task may take."""
    setup: str = ""
    """A shell command before each task; empty activates this process's virtual environment."""
    options: Mapping[str, str] = field(default_factory=dict)
    """More options of sbatch: name → value."""


@dataclass(frozen=True)
class Cluster:
    """Where the tasks run."""

    executor: str
    """One of `EXECUTORS`."""
    tasks: int | None = None
    """Into how many tasks the corpus is shared out; None for one for each core of the executor."""
    workers: int | None = None
    """How many tasks run at a time; None for one for each core, on Slurm for as many as it lets."""
    memory: int = 4
    """Gigabytes for each task, on Slurm and Ray."""
    slurm: Slurm | None = None
    ray_address: str = "auto"
    """Where Ray answers; auto for RAY_ADDRESS, or else a cluster that runs on this machine."""


def redact_on_cluster(
    paths: Sequence[Path | str],
    target: Path,
    asked: Asked,
    cluster: Cluster,
    watcher: Watcher = SILENT,
    *,
    jobs: int = 1,
    keep: Collection[str] = (),
    force: bool = False,
) -> Report:
    """Do what `redact_corpus` does, with the work shared out among tasks of a cluster.

    Local and Ray are waited for. Slurm takes the tasks, and the same call, made again when they
    have ended, puts the copies together. A call that finds tasks unfinished has only those done.

    Args:
        paths: files, folders and globs, on a disk that every machine has under the same path.
        target: a folder that is empty, absent, or what an interrupted run left; on such a disk.
        asked: the settings; what they read lies on such a disk too.
        cluster: where the tasks run.
        watcher: is told how many parts are done, then how many bytes are checked.
        jobs: worker processes that check the entries at the end, on this machine.
        keep: top-level fields that stay as they are, name and value.
        force: write into a folder that holds other files, over those of the same name.

    Raises:
        UnusableInput: as `redact_corpus`; or stand-ins would be made with a key that was drawn
            for one process; or a package of release-kit[cluster] is missing.
        Unfinished: as `redact_corpus`; or tasks are still to be done.
    """
    # Tasks start in other folders than this process.
    here, there = [os.path.abspath(path) for path in paths], target.resolve()  # noqa: PTH100
    settings = asked.settings()
    _check_executor(cluster, there)
    plan = replace(
        corpus_run.plan_of(settings, explain=False), keep=tuple(sorted(set(keep))), target=there
    )
    _check_key(plan)
    corpus = files_of(here)
    corpus_run.check_target(corpus, here, there, force)
    if cluster.executor == "slurm":
        _check_queue(there)
    journal = Journal(there, plan.keyed)
    corpus_run.begin(journal, plan, watcher)
    parts = [part for part in corpus_run.parts_of(corpus) if not part.refused]
    order = _write_order(journal, plan, asked, paths=here, corpus=corpus, parts=parts)
    with _connected(cluster):
        tasks = max(1, min(cluster.tasks or _cores(cluster), len(parts)))
        records = journal.folder / "datatrove" / f"{order[:16]}-{tasks}"
        executor = _executor(cluster, Share(str(there), order), tasks, records)
        if executor.get_incomplete_ranks():
            here_alone = cluster.executor == "local"
            with _looking(journal, len(parts), watcher):
                _run(partial(_run_here, executor) if here_alone else executor.run)
    left = len(executor.get_incomplete_ranks())
    if left:
        raise _to_be_done(executor, left, tasks)
    return redact_corpus(here, there, settings, _Steps(watcher), jobs=jobs, keep=keep, force=True)


@dataclass(frozen=True)
class Share:
    """A step of datatrove's: the parts of one task. What stands in it, datatrove writes down."""

    target: str
    order: str
    """SHA-256 of the order's file."""

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Do every part of task `rank` of `world_size` whose entry is not in the journal yet.

        Raises:
            UnusableInput: the settings, the key or the packages here are not those of the run.
            Unfinished: a text could not be judged, or a file changed.
        """
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        keep_frameworks_out()
        said = in_words(partial(_share, self), (rank, world_size))
        if isinstance(said, Failure):
            from datatrove.utils.logging import logger

            logger.error(said.message)
            # Of an exception it would write down what the variables of every frame hold.
            logger.remove()
            raise said.error()


def _share(share: Share, place: tuple[int, int]) -> None:
    rank, tasks = place
    path = _order_file(Journal(Path(share.target), keyed=False))
    written = path.read_bytes()
    if sha256_bytes(written) != share.order:
        raise Unfinished("the run has begun anew since this task was given out", hint=_AGAIN)
    order = json.loads(written)
    plan = _plan_here(order)
    corpus = _corpus_here(order)
    work = learn(plan, lambda _: None)
    for said in order["parts"][rank::tasks]:
        work(_part(said, corpus))


# --- the order: what every task is told, in one file of the target folder


def _write_order(
    journal: Journal,
    plan: Plan,
    asked: Asked,
    *,
    paths: Sequence[str],
    corpus: Corpus,
    parts: Sequence[Part],
) -> str:
    """Write the order, and return its digest."""
    file = asked.settings_file
    order = {
        "order": _FORMAT,
        "paths": list(paths),
        "corpus": _digest(corpus),
        # Files are named by their number, since a name may itself be personal data.
        "parts": [[p.id, p.start, p.end, p.is_whole, p.is_last] for p in parts],
        "target": str(plan.target),
        "keep": list(plan.keep),
        "settings_file": str(file.resolve()) if file else None,
        "asked": [asked.mode, asked.engine, asked.operator],
        "settings": plan.settings.digest,
        "tools": corpus_run.tools_of(plan.settings),
        "key": _key_check(plan),
    }
    data = json_bytes(order)
    path = _order_file(journal)
    new = path.with_name(f".{path.name}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)
    new.replace(path)
    return sha256_bytes(data)


def _plan_here(order: Mapping[str, Any]) -> Plan:
    """Return the order's plan, after a look whether this machine would do the same."""
    file = order["settings_file"]
    settings = Asked(Path(file) if file else None, *order["asked"]).settings()
    if settings.digest != order["settings"]:
        raise UnusableInput("the settings are not what they were when the run began", hint=_AGAIN)
    tools = corpus_run.tools_of(settings)
    other = sorted(name for name, version in order["tools"].items() if tools.get(name) != version)
    if other:
        raise UnusableInput(
            f"other versions are installed here than where the run began: {', '.join(other)}",
            hint="install the same on every machine",
        )
    plan = corpus_run.plan_of(settings, explain=False)
    if _key_check(plan) != order["key"]:
        raise UnusableInput(
            f"{KEY_VARIABLE} is not the same here as where the run began",
            hint="export it where tasks begin: before `ray start` on each node, before sbatch",
        )
    return replace(plan, keep=tuple(order["keep"]), target=Path(order["target"]))


def _corpus_here(order: Mapping[str, Any]) -> Corpus:
    corpus: Corpus | None = None
    try:
        corpus = files_of(order["paths"])
    except UnusableInput:
        # What it says may name a file as nobody has masked it.
        corpus = None
    if corpus is None or _digest(corpus) != order["corpus"]:
        raise Unfinished(
            "the corpus is not seen here as it was when the run began",
            hint="look whether every machine has it under the same path; " + _AGAIN,
        )
    return corpus


def _part(said: Sequence[Any], corpus: Corpus) -> Part:
    part, *rest = said
    file = corpus.files[int(part.partition("-")[0]) - 1]
    return Part(part, file.path, file.name, *rest)


def _digest(corpus: Corpus) -> str:
    return sha256_bytes(json_bytes([[ascii(file.name), file.size] for file in corpus.files]))


def _order_file(journal: Journal) -> Path:
    return journal.folder / "order.json"


def _key_check(plan: Plan) -> str:
    return key_check(plan.key) if plan.keyed else ""


# --- datatrove and its executors


def _check_key(plan: Plan) -> None:
    operators = plan.settings.operators
    used = DRAWN & {operators.default, *operators.by_entity.values()}
    if used and not plan.keyed:
        raise UnusableInput(
            f"{' and '.join(sorted(used))} need a key of your own where tasks share the work:"
            f" {KEY_VARIABLE} is not set",
            hint=f"export {KEY_VARIABLE}=$(openssl rand -hex 32), and keep it",
        )


def _check_executor(cluster: Cluster, target: Path) -> None:
    if cluster.executor not in EXECUTORS:
        raise UnusableInput(
            f"'{cluster.executor}' is no executor", hint="known here: " + ", ".join(EXECUTORS)
        )
    for package in ("datatrove", "ray") if cluster.executor == "ray" else ("datatrove",):
        if find_spec(package) is None:
            raise UnusableInput(
                f"{package} is not installed", hint="pip install 'release-kit[cluster]'"
            )
    if cluster.executor != "slurm":
        return
    if cluster.slurm is None or not cluster.tasks:
        raise UnusableInput(
            "Slurm must be told a partition and a number of tasks",
            hint="add --slurm-partition NAME --tasks NUMBER",
        )
    # datatrove writes the path into a shell script as it is, and Slurm replaces its %.
    if shlex.quote(str(target)) != str(target) or "%" in str(target):
        raise UnusableInput(
            "the path of the target holds a sign that a batch script cannot take",
            hint="name a folder with letters, digits and - . _ only",
        )


def _check_queue(target: Path) -> None:
    """Tell whether tasks of this target are with Slurm: two of one kind would be in the way.

    Raises:
        Unfinished: there are some, or Slurm does not answer.
    """
    name = _job_name(target)
    command = ["squeue", "--noheader", "--me", "--name", name, "--format", "%i"]
    answer: subprocess.CompletedProcess[str] | None = None
    with suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if answer is None or answer.returncode:
        raise Unfinished("Slurm does not answer here", hint="run this where squeue and sbatch work")
    if answer.stdout.strip():
        raise Unfinished(
            f"tasks of this run are still with Slurm, as {name}",
            hint=f"wait until `squeue --me --name {name}` is empty, then {_AGAIN}",
        )


def _job_name(target: Path) -> str:
    return f"release-kit-{sha256_bytes(os.fsencode(target))[:12]}"


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Hold a connection to the Ray cluster, where one is asked for."""
    if cluster.executor != "ray":
        yield
        return
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if _is_open(cluster.ray_address):
        with suppress(Exception):
            ray.init(address=cluster.ray_address, log_to_driver=False, logging_level=logging.ERROR)
    if not ray.is_initialized():
        raise Unfinished(
            "no Ray cluster answers, or it runs other versions of Ray or Python",
            hint="start one with `ray start --head`, and name it with --ray-address",
        )
    try:
        # A task that fits nowhere would be waited for without end.
        if not any(
            node["Alive"] and node["Resources"].get("memory", 0) >= cluster.memory * _GIB
            for node in ray.nodes()
        ):
            raise Unfinished(
                f"no node of the Ray cluster has {cluster.memory} GB for a task",
                hint="ask for less with --memory",
            )
        yield
    finally:
        ray.shutdown()


def _is_open(address: str) -> bool:
    """Tell whether something listens at host:port; Ray itself would try for minutes."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in host:
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError:
        return False
    return True


def _cores(cluster: Cluster) -> int:
    if cluster.executor == "ray":
        import ray

        return int(ray.cluster_resources().get("CPU", 1))
    return cluster.workers or cores()


def _executor(cluster: Cluster, share: Share, tasks: int, records: Path) -> Any:
    """Return datatrove's executor for the tasks, which keeps its records in a folder."""
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
    from datatrove.utils.logging import logger

    # What it would say on this terminal stands in its log files too.
    logger.remove()
    common: dict[str, Any] = {
        "pipeline": [share],
        "tasks": tasks,
        "logging_dir": str(records),
    }
    if cluster.executor == "local":
        workers = min(cluster.workers or cores(), tasks)
        return LocalPipelineExecutor(**common, workers=workers, start_method="spawn")
    common |= {"workers": cluster.workers or -1, "mem_per_cpu_gb": cluster.memory}
    if cluster.executor == "ray":
        return RayPipelineExecutor(**common)
    slurm = cluster.slurm or Slurm("")
    executor = SlurmPipelineExecutor(
        **common,
        time=slurm.time,
        partition=slurm.partition,
        job_name=_job_name(Path(share.target)),
        qos="",
        env_command=slurm.setup or _environment(),
        sbatch_args=dict(slurm.options),
    )
    # Its job would write behind our back, or wait for ever for a task that failed.
    executor.launch_merge_stats = _nothing
    return executor


def _nothing() -> None:
    """Take the place of a job that is not wanted."""


def _environment() -> str:
    """Return the command that activates the virtual environment of this process, if it has one."""
    activate = Path(sys.prefix, "bin", "activate")
    if sys.prefix == sys.base_prefix or not activate.is_file():
        return ""
    return f"source {shlex.quote(str(activate))}"


def _run(run: Callable[[], Any]) -> None:
    """Have the tasks done or, on Slurm, taken."""
    refused = False

    def running(_: None) -> None:
        nonlocal refused
        try:
            run()
        except (FileNotFoundError, subprocess.CalledProcessError):
            refused = True

    said = in_words(running, None)
    # Raised out here: inside a handler it would carry the other exception along.
    if refused:
        raise Unfinished("sbatch did not take the tasks", hint="it said why above; then " + _AGAIN)
    _raise(said)


def _to_be_done(executor: Any, left: int, tasks: int) -> Unfinished:
    if job := getattr(executor, "job_id", None):
        return Unfinished(
            f"Slurm has taken {left} of {tasks} tasks as job {job}",
            hint=f"{_AGAIN} when it has ended: it puts the copies together",
        )
    return Unfinished(
        f"{left} of {tasks} tasks did not come to their end",
        hint=f"the logs in {shown(Path(executor.logging_dir.path))} tell why; {_AGAIN}",
    )


# --- the tasks of this machine


def _run_here(executor: Any) -> None:
    """Have the tasks done, each by a process of its own, so many at a time as there are workers.

    datatrove's pool gives its workers one queue, and who is killed while it waits there keeps the
    lock: the others, and the end of the pool, then wait without end. Here nothing is shared; each
    process has a pipe to tell how it went, and the pipe closes when the process dies.

    Raises:
        UnusableInput: as the first task that failed; the others are ended.
        Unfinished: likewise; or a process ended without a word.
    """
    from multiprocessing import get_context
    from multiprocessing.connection import wait

    executor.save_executor_as_json()
    ranks = executor.get_incomplete_ranks()
    if executor.workers == 1:
        for rank in ranks:
            _raise(_done(executor, rank))
        return
    context = get_context("spawn")
    under_way: dict[Any, Any] = {}
    try:
        while ranks or under_way:
            while ranks and len(under_way) < executor.workers:
                ear, mouth = context.Pipe(duplex=False)
                words = (executor, ranks.pop(0), mouth)
                process = context.Process(target=_work, args=words, daemon=True)
                process.start()
                # Its own end must be the last one that is open.
                mouth.close()
                under_way[ear] = process
            for ready in wait(list(under_way)):
                _raise(_heard(ready))
                under_way.pop(ready).join()
    finally:
        for process in under_way.values():
            process.kill()
            process.join()


def _work(executor: Any, rank: int, mouth: Any) -> None:
    begin_process()
    mouth.send(_done(executor, rank))


def _done(executor: Any, rank: int) -> Failure | None:
    def do(rank: int) -> None:
        # As any but the first worker it is silent on this terminal.
        executor._run_for_rank(rank, local_rank=1)

    return in_words(do, rank)


def _heard(ear: Any) -> Failure | None:
    try:
        said: Failure | None = ear.recv()
    except (EOFError, OSError):
        said = _LOST
    return said


def _raise(said: Failure | None) -> None:
    if said is not None:
        raise said.error()


# --- how far it is


class _Steps:
    """Passes steps on and keeps silent: what there is to say was said when the run began."""

    def __init__(self, watcher: Watcher) -> None:
        self.step = watcher.step

    def say(self, line: str) -> None:
        """Ignore the line."""


@contextmanager
def _looking(journal: Journal, parts: int, watcher: Watcher) -> Iterator[None]:
    """Tell how many parts are done while the block runs."""
    ended = threading.Event()

    def look() -> None:
        entries = journal.folder / "entries"
        while not ended.wait(_LOOK):
            done = sum(1 for _ in os.scandir(entries)) if entries.is_dir() else 0
            watcher.step("parts redacted", min(done, parts - 1), parts)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    watcher.step("parts redacted", parts, parts)
