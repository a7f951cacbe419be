"""Starting a rehearsal Hub: a process of its own on loopback, for as long as a block runs.

It takes large files through LFS. A client that has Xet must be told not to use it, by
`HF_HUB_DISABLE_XET=1` in the environment before `huggingface_hub` is imported.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from release_kit.errors import Unfinished
from release_kit.publishing.rehearsal.store import (
    LOG_FILE,
    SERVER_FILE,
    Account,
    read_accounts,
)

_SECONDS_TO_START = 60.0
_SECONDS_TO_END = 10.0
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True)
class RehearsalHub:
    """A running rehearsal Hub; the client takes `url` as its endpoint."""

    url: str
    user: str
    """The account whose tokens stand here, the first of `users`."""
    token: str = field(repr=False)
    """A token of `user` that may write."""
    read_token: str = field(repr=False)
    accounts: Mapping[str, Account] = field(repr=False)
    """Every account, by its name."""
    root: Path
    log: Path
    """What the server logged: method, path and status of each request, and its own failures."""
    pid: int


@contextmanager
def serve(
    root: Path, *, users: Sequence[str] = ("rehearsal", "stranger"), port: int = 0
) -> Iterator[RehearsalHub]:
    """Run a rehearsal Hub on the folder `root` while the block runs.

    Repos, files and tokens stay in the folder, and a later Hub on it goes on with them.

    Raises:
        Unfinished: it did not start.
    """
    if not users:
        raise ValueError("a rehearsal Hub has one user or more")
    root.mkdir(parents=True, exist_ok=True)
    log = root / LOG_FILE
    command = [sys.executable, "-m", "release_kit.publishing.rehearsal.server"]
    command += ["--root", str(root), "--port", str(port), "--until-stdin-closes"]
    command += [word for user in users for word in ("--user", user)]
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env=_environment(),
        )
    try:
        url = _wait(process, root, log)
        accounts = {account.name: account for account in read_accounts(root).accounts}
        first = accounts[users[0]]
        yield RehearsalHub(
            url=url,
            user=first.name,
            token=first.token,
            read_token=first.read_token,
            accounts=accounts,
            root=root,
            log=log,
            pid=process.pid,
        )
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], root: Path, log: Path) -> str:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unfinished(
                f"the rehearsal Hub did not start: {_last_line(log)}", hint=f"its log is {log}"
            )
        # The file may still be that of an earlier server.
        with suppress(OSError, ValueError, KeyError):
            found = json.loads((root / SERVER_FILE).read_bytes())
            if found["pid"] == process.pid and _answers(found["url"]):
                return str(found["url"])
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise Unfinished(
        f"the rehearsal Hub did not answer within {_SECONDS_TO_START:.0f} seconds",
        hint=f"its log is {log}",
    )


def _answers(url: str) -> bool:
    # Not urllib: a proxy of the environment has no say on loopback.
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS_TO_START)
    try:
        connection.request("GET", "/api/whoami-v2")
        return connection.getresponse().status == http.client.UNAUTHORIZED
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _environment() -> dict[str, str]:
    # The server needs nobody's real tokens.
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "HUGGING_FACE_"))
    }
    home = Path(__file__).resolve().parents[2]
    if home.name not in {"site-packages", "dist-packages"}:
        # A checkout may have been put on the path of this process alone.
        paths = [str(home), *filter(None, [kept.get("PYTHONPATH")])]
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept
