"""Fetch a model from a Hub as it was at one commit, each file held against the digest listed there.

What is fetched is data for `training.loading`; other forms of weights, such as pickles, stay there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from release_kit.errors import Refused, Unfinished, UnusableInput
from release_kit.files import sha256_file, whole_file
from release_kit.progress import SILENT, Watcher
from release_kit.project import is_commit
from release_kit.publishing.hub import Hub, HubFile

_LEFT_THERE = (
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack", ".onnx",
    ".onnx_data", ".ot", ".tflite", ".npz",
)  # fmt: skip
_ODD = re.compile(r"[\x00-\x1f\x7f\\]")


def fetch_model(
    hub: Hub, repo_id: str, revision: str, folder: Path, watcher: Watcher = SILENT
) -> None:
    """Make `folder` hold the repo's files at the commit `revision`, byte for byte.

    Killed, the next call goes on with the files that are whole; one that lies there already is
    read again and replaced where its bytes are others. `folder` appears when all are right.

    Raises:
        UnusableInput: `revision` is not a commit, which alone always means the same bytes.
        Refused: there is no such repo or commit for this token, or it has odd file names.
        Unfinished: the Hub could not be reached, or what arrived is not what it lists.
    """
    if not is_commit(revision):
        raise UnusableInput(
            f"{repo_id} is loaded from the Hub, and its revision in release.yaml is no commit",
            hint="Write revision: with all 40 hex digits of the commit; a branch or tag may move."
            " For a model that lies on this machine write path.",
        )
    if not hub.state(repo_id).exists:
        raise Refused(
            f"{repo_id} is not there, or this token may not see it: {hub.endpoint}",
            hint="Correct the id in release.yaml, log in with `hf auth login`, or write path for a"
            " model that lies on this machine.",
        )
    if hub.commit_of(repo_id, revision) != revision:
        raise Refused(
            f"{repo_id} has no commit {revision} at {hub.endpoint}",
            hint="Correct the id or the revision in release.yaml.",
        )
    files = [file for file in hub.files(repo_id, revision) if not _stays(file.path)]
    for file in files:
        if _ODD.search(file.path) or {"", ".", ".."} & set(file.path.split("/")):
            raise Refused(f"{repo_id} has a file whose name leads elsewhere or cannot be seen")
    staging = folder.with_name(f".{folder.name}.partial")
    if folder.is_dir():
        shutil.rmtree(staging, ignore_errors=True)
        folder.replace(staging)
    staging.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        watcher.step("fetching", number, len(files))
        _settle(hub, repo_id, revision, file, staging / file.path)
    watcher.step("fetching", len(files), len(files))
    listed = {staging / file.path for file in files}
    for path in sorted(staging.rglob("*")):
        if path.is_symlink() or (path.is_file() and path not in listed):
            path.unlink()
    staging.replace(folder)


def _stays(path: str) -> bool:
    return path.lower().endswith(_LEFT_THERE)


def _settle(hub: Hub, repo_id: str, commit: str, file: HubFile, target: Path) -> None:
    if target.is_file() and not target.is_symlink() and _is(file, target):
        return
    target.unlink(missing_ok=True)
    with whole_file(target) as stream:
        hub.download(repo_id, commit, file.path, stream)
    if not _is(file, target):
        target.unlink()
        raise Unfinished(
            f"{file.path} of {repo_id} arrived with other bytes than {hub.endpoint} lists",
            hint="Run the same command again; if it stays so, the Hub's storage is damaged.",
        )


def _is(file: HubFile, path: Path) -> bool:
    """Tell whether the bytes at `path` are those that the Hub lists: by SHA-256, else as git."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256_file(path) == file.sha256
    # Only what is too small for LFS goes by git's own digest.
    raw = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False)
    return blob.hexdigest() == file.blob
