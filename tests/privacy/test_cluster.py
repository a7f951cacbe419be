from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from release_kit.cli import cli
from release_kit.errors import Unfinished, UnusableInput
from release_kit.privacy.corpus import cluster, parts
from release_kit.privacy.corpus import run as corpus_run
from release_kit.privacy.corpus.cluster import Cluster, Share, Slurm, redact_on_cluster
from release_kit.privacy.corpus.journal import FOLDER
from release_kit.privacy.corpus.run import redact_corpus
from release_kit.privacy.redaction.scan_report import Report
from release_kit.privacy.settings import Asked

KEY = "0123456789abcdef" * 4
# Put together here, so that no scanner trips over this file.
MAIL = "jane.roe@" + "planted.example.com"
DENIED = "Operation " + "Nightingale"
PLANTED = (MAIL, "jane.roe", "planted.example", DENIED, "Nightingale", KEY, KEY[:32])

LOCAL = Cluster("local", tasks=3, workers=1)
SLURM = Cluster("slurm", tasks=3, slurm=Slurm("cpu", "01:00:00", options={"account": "lab"}))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes of this machine speak to each other, and to nobody else."""
    connect = socket.socket.connect

    def connected(this: socket.socket, address: Any) -> None:
        assert this.family == socket.AF_UNIX or address[0] == "127.0.0.1"
        connect(this, address)

    monkeypatch.setattr(socket.socket, "connect", connected)


@pytest.fixture(autouse=True)
def own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE_KIT_KEY", KEY)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_run, "_PART", 2_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with files that are cut into parts, one that is not, and unreadable ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        texts = [f"{name} {n} {MAIL if n % 7 == 0 else 'dry'} {DENIED}" for n in range(200)]
        body = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(body)
    (folder / f"{MAIL}.csv").write_text(f"text,label\n{MAIL},x\n")
    (folder / "unknown.bin").write_bytes(b"x")
    (folder / "bad.jsonl.gz").write_bytes(b"\x1f\x8b\x00")
    return folder


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "mode: structured\nsecrets: false\nentities: [EMAIL_ADDRESS]\n"
        f"deny:\n  - entity: PERSON\n    values: [{DENIED}]\n"
    )
    return Asked(path, operator="surrogate")


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"NOT RUN: {package} is not installed (release-kit[cluster] has it)")


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def alone(source: Path, target: Path, asked: Asked) -> Report:
    return redact_corpus([source], target, asked.settings())


def leaks(*folders: Path) -> list[tuple[int, str]]:
    """Return which planted values stand in which files below the folders."""
    return [
        (number, path.name)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        for number, value in enumerate(PLANTED)
        if value.encode() in path.read_bytes() or value in path.name
    ]


def worked_on(monkeypatch: pytest.MonkeyPatch, fails: int = -1) -> list[str]:
    """Return the parts that are worked on, growing; one of them fails by a bug."""
    worked: list[str] = []
    look_again = parts._look_again

    def counting(job: Any, *words: Any) -> Any:
        if len(worked) == fails:
            raise RuntimeError(f"what a bug says: {MAIL}")
        worked.append(job.part.id)
        return look_again(job, *words)

    monkeypatch.setattr(parts, "_look_again", counting)
    return worked


def begun(source: Path, target: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Share:
    """Begin a run whose tasks nobody does, and return what its tasks are told."""
    needs("datatrove")
    given: list[Share] = []

    def keeping(cluster: Cluster, share: Share, *words: Any) -> Any:
        given.append(share)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_executor", keeping)
        with pytest.raises(InterruptedError):
            redact_on_cluster([source], target, asked, LOCAL)
    return given[0]


# --- the same as on one machine


@pytest.mark.parametrize("operator", ["surrogate", "drop_row"])
def test_tasks_write_what_one_machine_writes(
    tmp_path: Path, source: Path, asked: Asked, operator: str
) -> None:
    needs("datatrove")
    asked = replace(asked, operator=operator)
    report = redact_on_cluster([source], tmp_path / "to", asked, LOCAL)
    assert report == alone(source, tmp_path / "alone", asked)
    assert content(tmp_path / "to") == content(tmp_path / "alone")
    assert len(report.files) == 3
    assert len(report.unread) == 2
    assert not report.is_clean
    assert not (tmp_path / "to" / FOLDER).exists()


def test_without_a_key_the_copies_are_the_same_and_digests_are_not_told(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    monkeypatch.delenv("RELEASE_KIT_KEY")
    asked = replace(asked, operator="mask")
    report = redact_on_cluster([source], tmp_path / "to", asked, LOCAL)
    assert report.by_entity == alone(source, tmp_path / "alone", asked).by_entity
    assert content(tmp_path / "to") == content(tmp_path / "alone")
    assert {finding.digest for file in report.files for finding in file.findings} == {""}


def test_every_part_is_the_work_of_one_task(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = begun(source, tmp_path / "to", asked, monkeypatch)
    worked = worked_on(monkeypatch)
    seen = []
    for rank in range(3):
        share(None, rank, 3)
        seen.append(len(worked))
    assert len(set(worked)) == len(worked) >= 9
    assert all(after - before >= 3 for before, after in zip([0, *seen], seen, strict=False))


def test_a_second_run_does_only_what_is_missing(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    with monkeypatch.context() as patch:
        first = worked_on(patch, fails=6)
        with pytest.raises(Unfinished, match=r"RuntimeError while a file was worked on: a bug"):
            redact_on_cluster([source], target, asked, LOCAL)
    completed = sorted(path.name for path in target.rglob("completions/*"))
    assert completed == ["00000"]
    second = worked_on(monkeypatch)
    ranks: list[int] = []
    share = cluster._share
    monkeypatch.setattr(
        cluster, "_share", lambda order, place: (ranks.append(place[0]), share(order, place))[1]
    )
    redact_on_cluster([source], target, asked, LOCAL)
    assert ranks == [1, 2]
    assert not set(first) & set(second)
    assert len(first) == 6
    alone(source, tmp_path / "alone", asked)
    assert content(target) == content(tmp_path / "alone")


def test_what_changed_after_the_tasks_is_done_anew(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    with monkeypatch.context() as patch:

        def changing(*words: Any, **more: Any) -> Report:
            (source / "a.jsonl").write_text((source / "a.jsonl").read_text().replace("dry", "wet"))
            entry = next((target / FOLDER / "entries").glob("00000004-*"))
            entry.write_text("{")
            return redact_corpus(*words, **more)

        patch.setattr(cluster, "redact_corpus", changing)
        redact_on_cluster([source], target, asked, LOCAL)
    alone(source, tmp_path / "alone", asked)
    assert content(target) == content(tmp_path / "alone")
    assert b"wet" in content(target)["a.jsonl"]


# --- nothing is told


def test_no_file_log_or_message_holds_key_or_data(
    tmp_path: Path,
    source: Path,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    worked_on(monkeypatch, fails=4)
    with pytest.raises(Unfinished) as caught:
        redact_on_cluster([source], target, asked, LOCAL)
    logs = "".join(path.read_text() for path in target.rglob("task_*.log"))
    assert "RuntimeError while a file was worked on: a bug" in logs
    assert "Traceback" not in logs, "it would quote the variables of every frame"
    folder = target / FOLDER
    records = {path.name for path in folder.rglob("*")}
    assert {"order.json", "executor.json", "logs", "entries"} <= records
    outputs = {name for name in records if (folder / "parts" / name).exists()}
    assert [leak for leak in leaks(folder) if leak[1] not in outputs] == []
    said = "".join(capfd.readouterr()) + repr(caught.value) + str(caught.value.__cause__)
    assert not [value for value in PLANTED if value in said]


def test_where_the_data_is_stands_in_a_file_for_its_owner_alone(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    worked_on(monkeypatch, fails=4)
    with pytest.raises(Unfinished):
        redact_on_cluster([source], tmp_path / "to", asked, LOCAL)
    holding = [
        path
        for path in (tmp_path / "to" / FOLDER).rglob("*")
        if path.is_file() and str(source) in path.read_text(errors="replace")
    ]
    assert [path.name for path in holding] == ["order.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600


# --- what is refused before the work begins


@pytest.mark.parametrize("operator", ["hash", "surrogate"])
def test_stand_ins_need_a_key_that_all_tasks_share(
    tmp_path: Path, source: Path, asked: Asked, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    monkeypatch.delenv("RELEASE_KIT_KEY")
    with pytest.raises(UnusableInput, match=f"{operator} need a key of your own") as caught:
        redact_on_cluster([source], tmp_path / "to", replace(asked, operator=operator), LOCAL)
    assert "RELEASE_KIT_KEY" in caught.value.hint
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("where", "target", "says"),
    [
        (Cluster("dask"), "to", "'dask' is no executor"),
        (Cluster("slurm", tasks=3), "to", "must be told a partition"),
        (replace(SLURM, tasks=None), "to", "must be told a partition and a number"),
        (SLURM, "to here", "a sign that a batch script cannot take"),
        (SLURM, "to;x", "a sign that a batch script cannot take"),
        (SLURM, "to%j", "a sign that a batch script cannot take"),
        (LOCAL, "in/to", "lies inside"),
    ],
)
def test_what_cannot_be_done_is_told_at_once(
    tmp_path: Path, source: Path, asked: Asked, *, where: Cluster, target: str, says: str
) -> None:
    needs("datatrove")
    with pytest.raises(UnusableInput, match=says):
        redact_on_cluster([source], tmp_path / target, asked, where)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("package", ["datatrove", "ray"])
def test_a_missing_package_is_told(
    tmp_path: Path, source: Path, asked: Asked, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(UnusableInput, match=f"{package} is not installed") as caught:
        redact_on_cluster([source], tmp_path / "to", asked, Cluster("ray"))
    assert "release-kit[cluster]" in caught.value.hint


# --- what a task refuses


def other_key(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    patch.setenv("RELEASE_KIT_KEY", KEY[::-1])


def no_key(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    patch.delenv("RELEASE_KIT_KEY")


def other_settings(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    assert asked.settings_file
    asked.settings_file.write_text("mode: structured\n")


def other_versions(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    patch.setattr(corpus_run, "tools_of", lambda _: {"spacy": "0"})


def another_file(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    (source / f"{MAIL}.jsonl").write_text("{}\n")


def no_corpus(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    source.rename(source.with_name("elsewhere"))


def another_order(patch: pytest.MonkeyPatch, source: Path, asked: Asked, target: Path) -> None:
    path = target / FOLDER / "order.json"
    path.write_text(path.read_text().replace('"order": 1', '"order": 2'))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_key, "RELEASE_KIT_KEY is not the same here"),
        (no_key, "RELEASE_KIT_KEY is not the same here"),
        (other_settings, "the settings are not what they were"),
        (other_versions, "other versions are installed here .*: .*spacy"),
        (another_file, "the corpus is not seen here as it was"),
        (no_corpus, "the corpus is not seen here as it was"),
        (another_order, "the run has begun anew"),
    ],
)
def test_a_task_refuses_what_would_not_be_the_same_work(
    tmp_path: Path,
    source: Path,
    asked: Asked,
    *,
    change: Any,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "to"
    share = begun(source, target, asked, monkeypatch)
    change(monkeypatch, source, asked, target)
    with pytest.raises((UnusableInput, Unfinished), match=says) as caught:
        share(None, 0, 3)
    assert MAIL not in repr(caught.value) + str(caught.value.__context__)
    assert not list((target / FOLDER).glob("entries/*"))


# --- Slurm: no cluster here, so stand-ins of its commands note what they are told


def command(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of Slurm's commands, where they note their words and find their answers."""
    folder = tmp_path / "slurm"
    command(folder, "squeue", f'echo "$@" >> {folder}/asked', f"cat {folder}/queue")
    command(folder, "sbatch", f'echo "$@" >> {folder}/given', "echo Submitted batch job 77")
    command(folder, "srun", "shift 3", 'exec "$@"')
    command(folder, "scontrol", "echo here")
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    return folder


def test_slurm_is_given_a_script_without_the_key(
    tmp_path: Path, source: Path, asked: Asked, slurm: Path
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    with pytest.raises(Unfinished, match="Slurm has taken 3 of 3 tasks as job 77") as caught:
        redact_on_cluster([source], target, asked, replace(SLURM, workers=2, memory=6))
    assert "run the same command again when it has ended" in caught.value.hint
    (script,) = target.rglob("launch_script.slurm")
    lines = script.read_text().splitlines()
    name = cluster._job_name(target)
    wanted = ("--partition=cpu", "--time=01:00:00", "--account=lab", "--mem-per-cpu=6G")
    for option in (*wanted, "--cpus-per-task=1", "--array=0-2%2", f"--job-name={name}"):
        assert f"#SBATCH {option}" in lines
    assert not [line for line in lines if line.startswith("#SBATCH --qos")]
    assert lines[-1].startswith("srun  -l -n 1 launch_pickled_pipeline ")
    assert (slurm / "given").read_text().splitlines()[0].startswith("--export=ALL,RUN_OFFSET=0 ")
    assert len((slurm / "given").read_text().splitlines()) == 1
    assert (slurm / "asked").read_text().split()[:4] == ["--noheader", "--me", "--name", name]
    assert leaks(target) == []


def test_tasks_that_are_with_slurm_are_not_given_again(
    tmp_path: Path, source: Path, asked: Asked, slurm: Path
) -> None:
    needs("datatrove")
    with pytest.raises(Unfinished, match="Slurm has taken"):
        redact_on_cluster([source], tmp_path / "to", asked, SLURM)
    before = content(tmp_path / "to")
    (slurm / "queue").write_text("77_[0-2]\n")
    with pytest.raises(Unfinished, match="are still with Slurm"):
        redact_on_cluster([source], tmp_path / "to", asked, SLURM)
    assert content(tmp_path / "to") == before
    command(slurm, "squeue", "exit 1")
    with pytest.raises(Unfinished, match="Slurm does not answer here"):
        redact_on_cluster([source], tmp_path / "to", asked, SLURM)


def test_a_refusal_of_sbatch_is_told(
    tmp_path: Path, source: Path, asked: Asked, slurm: Path
) -> None:
    needs("datatrove")
    command(slurm, "sbatch", "echo no such partition >&2", "exit 1")
    with pytest.raises(Unfinished, match="sbatch did not take the tasks"):
        redact_on_cluster([source], tmp_path / "to", asked, SLURM)


@pytest.mark.slow
def test_the_script_does_the_tasks_and_the_same_command_ends_the_run(
    tmp_path: Path, source: Path, asked: Asked, slurm: Path
) -> None:
    needs("datatrove")
    target, where = tmp_path / "to", replace(SLURM, tasks=2)
    with pytest.raises(Unfinished, match="Slurm has taken 2 of 2"):
        redact_on_cluster([source], target, asked, where)
    (script,) = target.rglob("launch_script.slurm")

    def task(number: int, **environment: str) -> int:
        path = os.pathsep.join([str(slurm), str(Path(sys.executable).parent), os.environ["PATH"]])
        named = {"SLURM_ARRAY_TASK_ID": str(number), "RUN_OFFSET": "0", "SLURM_NODELIST": "here"}
        done = subprocess.run(
            ["bash", script],
            env={**os.environ, "PATH": path, **named, **environment},
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert not [value for value in PLANTED if value.encode() in done.stdout + done.stderr]
        return done.returncode

    assert task(0) == 0
    assert task(1, RELEASE_KIT_KEY=KEY[::-1]) != 0
    with pytest.raises(Unfinished, match="Slurm has taken 1 of 2"):
        redact_on_cluster([source], target, asked, where)
    assert task(0) == 0, "the only task that is left is the first of the new job"
    redact_on_cluster([source], target, asked, where)
    alone(source, tmp_path / "alone", asked)
    assert content(target) == content(tmp_path / "alone")


# --- processes that die

# A worker process reads this too, and so is stopped where a test wants it.
COORDINATOR = """
import atexit
import os
import sys
import time
from pathlib import Path
from release_kit.errors import Unfinished
from release_kit.privacy.corpus import cluster
from release_kit.privacy.corpus import run as corpus_run
from release_kit.privacy.corpus.cluster import Asked, Cluster, redact_on_cluster

moment, share = os.environ.get("STOP"), cluster._share

def stop():
    Path(__file__).with_name("stopped").joinpath(str(os.getpid())).touch()
    time.sleep(600)

def sharing(order, place):
    if place[0] == 0:
        return share(order, place)
    if place[0] == 1 and moment == "fails":
        while not list(Path(order.target).rglob("completions/00000")):
            time.sleep(0.02)
        raise Unfinished("said by a task")
    stop()

if __name__ == "__main__":
    corpus_run._PART = 2_000
    source, target, settings = map(Path, sys.argv[1:])
    where = Cluster("local", tasks=4, workers=2)
    try:
        redact_on_cluster([source], target, Asked(settings, operator="surrogate"), where)
    except Unfinished as error:
        sys.exit(f"{error.message}: {error.hint}")
elif moment == "starts":
    stop()
elif moment == "leaves":
    atexit.register(stop)
elif moment:
    cluster._share = sharing
"""


@contextmanager
def coordinator(tmp_path: Path, source: Path, asked: Asked) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    words = [sys.executable, script, source, tmp_path / "to", asked.settings_file]
    with subprocess.Popen(words, text=True, stderr=subprocess.PIPE) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def until(
    condition: Any, seconds: float = 240, process: subprocess.Popen[str] | None = None
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        assert process is None or process.poll() is None, "it ended too soon"
        time.sleep(0.02)


@pytest.mark.slow
def test_after_a_kill_only_missing_tasks_run_and_the_bytes_are_the_same(
    tmp_path: Path, source: Path, asked: Asked
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    with coordinator(tmp_path, source, asked) as process:
        until(lambda: list(target.rglob("completions/*")), process=process)
        process.send_signal(signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in target.rglob("completions/*")}
    assert 0 < len(done) < 4
    with coordinator(tmp_path, source, asked) as process:
        # Whoever has completed a task keeps it until all have.
        until(lambda: len(list(target.rglob("completions/*"))) == 4 or process.poll() is not None)
        now = {path: path.stat().st_mtime_ns for path in target.rglob("completions/*")}
        assert not now or {path: now[path] for path in done} == done
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    alone(source, tmp_path / "alone", asked)
    assert content(target) == content(tmp_path / "alone")


def stopped(tmp_path: Path) -> list[int]:
    return [int(path.name) for path in (tmp_path / "stopped").iterdir()]


def family(pid: int) -> list[int]:
    """Return the processes that descend from one."""
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(below for child in children for below in family(child))]


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: children are looked up in /proc")
@pytest.mark.parametrize(
    ("moment", "says"),
    [
        ("starts", "a worker process ended without a word: .*run the same command again"),
        ("works", "a worker process ended without a word: .*run the same command again"),
        ("fails", "said by a task"),
    ],
)
def test_a_worker_that_dies_or_fails_ends_the_run_and_the_next_goes_on(
    *,
    tmp_path: Path,
    source: Path,
    asked: Asked,
    moment: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("datatrove")
    target = tmp_path / "to"
    (tmp_path / "stopped").mkdir()
    monkeypatch.setenv("STOP", moment)
    with coordinator(tmp_path, source, asked) as process:
        there = []
        if moment != "fails":
            # Of two that are stopped one dies; the other has to be ended.
            until(lambda: len(stopped(tmp_path)) == 2, process=process)
            there = family(process.pid)
            os.kill(stopped(tmp_path)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert re.search(says, said)
    assert len(there) >= 2 or moment == "fails"
    until(lambda: not any(map(alive, [*there, *stopped(tmp_path)])))
    done = len(list((target / FOLDER).glob("entries/*")))
    assert bool(done) == (moment != "starts")
    worked = worked_on(monkeypatch)
    redact_on_cluster([source], target, asked, replace(LOCAL, tasks=4))
    alone_from = len(worked)
    alone(source, tmp_path / "alone", asked)
    assert alone_from == len(worked) - alone_from - done
    assert content(target) == content(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="NOT RUN: nothing is killed there")
def test_a_worker_that_dies_after_its_word_is_not_missed(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datatrove")
    (tmp_path / "stopped").mkdir()
    monkeypatch.setenv("STOP", "leaves")
    killed: set[int] = set()
    with coordinator(tmp_path, source, asked) as process:

        def ended() -> bool:
            for pid in set(stopped(tmp_path)) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            return process.poll() is not None

        until(ended)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert len(killed) == 4
    alone(source, tmp_path / "alone", asked)
    assert content(tmp_path / "to") == content(tmp_path / "alone")


# --- Ray: a cluster of two nodes on this machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def node(folder: Path, *words: str, key: str) -> Iterator[None]:
    """Run a Ray node of one core, whose tasks have their temporary files in `folder`."""
    (folder / "tmp").mkdir(parents=True)
    environment = {
        **os.environ,
        "RELEASE_KIT_KEY": key,
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": str(folder / "tmp"),
    }
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [
                *ray,
                *words,
                *("--node-ip-address=127.0.0.1", "--num-cpus=1", f"--memory={2 << 30}"),
                *("--object-store-memory=80000000", "--disable-usage-stats"),
            ],
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@pytest.mark.slow
def test_two_nodes_of_ray_write_what_one_machine_writes(
    tmp_path: Path, source: Path, asked: Asked
) -> None:
    needs("datatrove")
    needs("ray")
    # The names of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="rk") as short:
        place, port = Path(short), free_port()
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={short}/r"]
        address = f"127.0.0.1:{port}"
        with node(place / "1", *head, key=KEY):
            until(lambda: b"Ray runtime started" in (place / "1" / "said").read_bytes(), 120)
            with node(place / "2", f"--address={address}", key=KEY):
                until(lambda: b"Ray runtime started" in (place / "2" / "said").read_bytes(), 120)
                target, where = tmp_path / "to", Cluster("ray", tasks=4, memory=1)
                with pytest.raises(Unfinished, match="no node of the Ray cluster has 64 GB"):
                    redact_on_cluster(
                        [source], target, asked, replace(where, memory=64, ray_address=address)
                    )
                report = redact_on_cluster(
                    [source], target, asked, replace(where, ray_address=address)
                )
        logs = [list((place / n / "tmp").rglob("task_*.log")) for n in "12"]
        assert all(logs), "both nodes did tasks"
        assert leaks(place) == []
    assert report == alone(source, tmp_path / "alone", asked)
    assert content(target) == content(tmp_path / "alone")


def test_where_no_ray_answers_it_is_told(tmp_path: Path, source: Path, asked: Asked) -> None:
    needs("datatrove")
    needs("ray")
    where = Cluster("ray", tasks=2, ray_address=f"127.0.0.1:{free_port()}")
    with pytest.raises(Unfinished, match="no Ray cluster answers"):
        redact_on_cluster([source], tmp_path / "to", asked, where)


# --- the command


@pytest.mark.slow
def test_the_command_shares_the_work_out(tmp_path: Path, source: Path, asked: Asked) -> None:
    needs("datatrove")
    (source / "unknown.bin").unlink()
    (source / "bad.jsonl.gz").unlink()
    words = ["redact", str(source), "--to", str(tmp_path / "to"), "--operator", "surrogate"]
    words += ["--settings", str(asked.settings_file)]
    shared = ["--executor", "local", "--tasks", "2", "--workers", "1", "--format", "json"]
    result = CliRunner().invoke(cli, [*words, *shared])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["clean"]
    alone(source, tmp_path / "alone", asked)
    assert content(tmp_path / "to") == content(tmp_path / "alone")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tasks", "2"], "--tasks needs --executor"),
        (["--slurm-partition", "cpu"], "--slurm-partition needs --executor"),
        (["--executor", "local", "--explain"], "--explain does not go with --executor"),
        (["--executor", "dask"], "is not one of"),
        (
            ["--executor", "slurm", "--slurm-partition", "cpu", "--slurm-option", "account"],
            "--slurm-option account: write NAME=VALUE",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, source: Path, words: list[str], says: str
) -> None:
    result = CliRunner().invoke(cli, ["redact", str(source), "--to", str(tmp_path / "to"), *words])
    assert result.exit_code == 2
    assert says in result.output
    assert not (tmp_path / "to").exists()
