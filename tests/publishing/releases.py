"""What tests of publishing share: what stands on a Hub, a watcher that acts, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

import release_kit
from release_kit.auditing.findings import Verdict
from release_kit.errors import ReleaseKitError
from release_kit.publishing.publication import Publication
from release_kit.publishing.rehearsal import RehearsalHub
from tests.projects import edit

REPO, TAG = "acme/topics", "v1.0.0"
RELEASED = ("Release 1.0.0", "initial commit")
PLANTED_TOKEN = "hf_PLANTEDxQ7vZ2mK9"
"""No Hub knows it, and nothing may repeat it."""

_SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Standing:
    """A repo as its owner sees it."""

    private: bool
    titles: tuple[str, ...]
    """Of the commits on main, newest first."""
    tags: Mapping[str, str]
    """Tag → title of its commit."""
    gated: str | bool = False


def owner(hub: RehearsalHub, name: str = "acme") -> HfApi:
    """Return the real client of an account."""
    return HfApi(endpoint=hub.url, token=hub.accounts[name].token)


def stranger(hub: RehearsalHub) -> HfApi:
    """Return the real client of someone without an account."""
    return HfApi(endpoint=hub.url, token=False)


def standing(hub: RehearsalHub, repo: str = REPO) -> Standing | None:
    """Return what stands on the Hub; None when there is no such repo."""
    api = owner(hub, repo.split("/", maxsplit=1)[0])
    if not api.repo_exists(repo):
        return None
    info = api.model_info(repo)
    commits = api.list_repo_commits(repo)
    titles = {commit.commit_id: commit.title for commit in commits}
    tags = {ref.name: titles[ref.target_commit] for ref in api.list_repo_refs(repo).tags}
    return Standing(bool(info.private), tuple(titles.values()), tags, info.gated or False)


def publish(project: Path, hub: RehearsalHub, **more: Any) -> Publication:
    """Publish as the owner."""
    given = {"endpoint": hub.url, "token": hub.accounts["acme"].token, **more}
    return release_kit.publish(project, **given)


def change(project: Path, old: str, new: str) -> None:
    """Edit release.yaml, then build and audit again."""
    edit(project / "release.yaml", old, new)
    release_kit.build(project)
    assert release_kit.audit(project).verdict is Verdict.PASS


def bundle_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, except what a download leaves beside them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.relative_to(folder).parts
    }


def flip(file: Path) -> None:
    """Change one bit in the middle of a file; size and times stay as they were."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def blob(hub: RehearsalHub, project: Path, path: str) -> Path:
    """Return where the Hub keeps the bytes of a published file."""
    manifest = json.loads((project / "out" / "bundle" / "manifest.json").read_bytes())
    return hub.root / "blobs" / manifest["files"][path]["sha256"]


@dataclass
class Actor:
    """A watcher that does something, once, when it hears what it waits for."""

    cue: str = ""
    """How the line, or the name of the step, begins."""
    act: Callable[[], object] = lambda: None
    heard: list[str] = field(default_factory=list)

    def step(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.say(what)

    def say(self, line: str) -> None:
        first = not any(self._waits_for(earlier) for earlier in self.heard)
        self.heard.append(line)
        if first and self._waits_for(line):
            self.act()

    def _waits_for(self, line: str) -> bool:
        return bool(self.cue) and line.startswith(self.cue)


def assert_no_token(hub: RehearsalHub, *texts: object) -> None:
    """Assert that none of the texts holds anyone's token."""
    secrets = [PLANTED_TOKEN]
    for account in hub.accounts.values():
        secrets += [account.token, account.read_token]
    for text in texts:
        assert not [secret for secret in secrets if secret in str(text)]


@contextmanager
def raises(
    hub: RehearsalHub, kind: type[ReleaseKitError], match: str
) -> Iterator[pytest.ExceptionInfo[ReleaseKitError]]:
    """Expect exactly this kind of error, with a hint, and no token anywhere in it."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert error.hint
    shown = "".join(traceback.format_exception(error))
    assert_no_token(hub, error, repr(error), error.hint, vars(error), shown)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a fresh machine: no Hub settings, an empty HF_HOME."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE_"))}
    paths = [str(_SOURCE), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "HF_HOME": str(home), **more}


def command_line(*arguments: str | Path) -> Sequence[str]:
    """Return the command that a person types."""
    return [sys.executable, "-m", "release_kit", *map(str, arguments)]


def run_command(
    hub: RehearsalHub, home: Path, *arguments: str | Path, token: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `release-kit` in a process of its own, and see that it tells no token."""
    env = environment(home, **({"HF_TOKEN": token} if token else {}))
    done = subprocess.run(
        command_line(*arguments), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert_no_token(hub, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    return done
