"""What the rehearsal Hub keeps on disk, so that a restart on the same folder finds it again.

- `blobs/<sha256>`: the bytes of every file, once.
- `repos/<owner>/<name>/repo.json`: settings, branches and tags. It is written last, so that a
  commit is visible as a whole or not at all.
- `repos/<owner>/<name>/commits/`: one file for each commit, with its whole tree.
- `private/accounts.json`: who may do what, readable by the user alone.
- `server.json`, `server.log`: of the process that serves the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from release_kit.files import json_bytes, write_atomic
from release_kit.publishing.rehearsal.rules import GITATTRIBUTES, name_problem

DEFAULT_BRANCH = "main"
_OID_DIGITS = 40
SERVER_FILE = "server.json"
LOG_FILE = "server.log"


class HubError(Exception):
    """A request that the Hub refuses, as it answers it."""

    def __init__(
        self, status: int, message: str, code: str = "", *, body: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        """The Hub's `X-Error-Code`, by which its client picks the exception; may be empty."""
        self.body = dict(body or {})
        self.headers: dict[str, str] = {}


@dataclass(frozen=True)
class Account:
    """A user of the rehearsal Hub."""

    name: str
    token: str = field(repr=False)
    """A token that may write."""
    read_token: str = field(repr=False)


@dataclass(frozen=True)
class Secrets:
    """The accounts, and the key that signs upload links."""

    accounts: tuple[Account, ...]
    signing_key: str = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """One file of a tree."""

    size: int
    sha256: str
    git_oid: str
    """The git blob id: of the bytes, or of the pointer when the file lies in LFS."""
    pointer_size: int
    """Bytes of the LFS pointer; 0 for a regular file."""

    @property
    def is_lfs(self) -> bool:
        """Whether git holds a pointer in place of the bytes."""
        return self.pointer_size > 0

    @property
    def content_oid(self) -> str:
        """The id by which the client tells whether its own file differs, also the ETag."""
        return self.sha256 if self.is_lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """One commit, with its whole tree."""

    oid: str
    parent: str
    """The commit before it; empty for the first."""
    title: str
    message: str
    author: str
    date: str
    tree: Mapping[str, Entry] = field(repr=False)


@dataclass(frozen=True)
class Repo:
    """A model repo, less its commits."""

    owner: str
    name: str
    private: bool
    gated: str
    """auto, manual, or empty."""
    created: str
    lfs: Mapping[str, int] = field(repr=False)
    """Size of each LFS object that was uploaded to this repo, by its sha256."""
    branches: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def id(self) -> str:
        """Owner and name as the Hub writes them."""
        return f"{self.owner}/{self.name}"


class Incoming:
    """Bytes on their way to the blob store; they count for nothing until `keep`."""

    def __init__(self, path: Path, blobs: Path) -> None:
        self._path = path
        self._blobs = blobs
        self._digest = hashlib.sha256()
        self._stream = path.open("xb")
        self.size = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append `chunk`."""
        self._stream.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def keep(self) -> None:
        """Make the bytes a blob, named by their digest, that survives a power cut."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._path.replace(self._blobs / self.sha256)

    def drop(self) -> None:
        """Forget the bytes unless they were kept."""
        self._stream.close()
        self._path.unlink(missing_ok=True)


class Store:
    """The folder of one rehearsal Hub. Not for two processes, nor two threads, at once."""

    def __init__(self, root: Path) -> None:
        self._repos = root / "repos"
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        # What a killed server left half-written belongs to nobody.
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._repos, self._blobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        self._commit = lru_cache(maxsize=256)(self._read_commit)

    def blob(self, sha256: str) -> Path:
        """Return where the bytes with this digest lie."""
        return self._blobs / sha256

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Yield a place for bytes; what is not kept in the block is gone after it."""
        upload = Incoming(self._incoming / secrets.token_hex(16), self._blobs)
        try:
            yield upload
        finally:
            upload.drop()

    def repo(self, owner: str, name: str) -> Repo | None:
        """Return the repo, or None when there is none of that name."""
        # The names become folders, so a name that the Hub would not have made is never looked up.
        if name_problem(owner) or name_problem(name):
            return None
        try:
            data = json.loads((self._folder(owner, name) / "repo.json").read_bytes())
        except FileNotFoundError:
            return None
        return Repo(**data)

    def save(self, repo: Repo) -> Repo:
        """Write the repo's settings and refs in one step."""
        write_atomic(self._folder(repo.owner, repo.name) / "repo.json", json_bytes(asdict(repo)))
        return repo

    def create(self, owner: str, name: str, *, private: bool) -> Repo:
        """Create a repo whose first commit holds the Hub's `.gitattributes`."""
        repo = Repo(owner, name, private, "", _shown(datetime.now(UTC)), {}, {}, {})
        content = GITATTRIBUTES.encode()
        with self.incoming() as upload:
            upload.write(content)
            entry = regular_entry(content, upload.sha256)
            upload.keep()
        tree = {".gitattributes": entry}
        commit = self._write_commit(
            repo, tree, parent="", author=owner, title="initial commit", message=""
        )
        return self.save(replace(repo, branches={DEFAULT_BRANCH: commit.oid}))

    def delete(self, repo: Repo) -> None:
        """Remove the repo. Its blobs stay, as another repo may name them."""
        folder = self._folder(repo.owner, repo.name)
        (folder / "repo.json").unlink()
        shutil.rmtree(folder)
        self._commit.cache_clear()

    def commit(
        self,
        repo: Repo,
        branch: str,
        tree: Mapping[str, Entry],
        *,
        author: str,
        title: str,
        message: str,
    ) -> Commit:
        """Put a commit with this tree on top of `branch`."""
        commit = self._write_commit(
            repo, tree, parent=repo.branches[branch], author=author, title=title, message=message
        )
        self.save(replace(repo, branches={**repo.branches, branch: commit.oid}))
        return commit

    def resolve(self, repo: Repo, revision: str) -> Commit:
        """Return the commit that a branch, a tag, a full ref or a whole commit id names.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        refs = {
            **repo.tags,
            **repo.branches,
            **{f"refs/tags/{name}": oid for name, oid in repo.tags.items()},
            **{f"refs/heads/{name}": oid for name, oid in repo.branches.items()},
        }
        oid = refs.get(revision, revision)
        is_commit = len(oid) == _OID_DIGITS and oid.isalnum()
        if is_commit and self._commit_file(repo.owner, repo.name, oid).is_file():
            return self._commit(repo.owner, repo.name, oid)
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, repo: Repo, commit: Commit) -> Iterator[Commit]:
        """Yield `commit` and those before it, newest first."""
        yield commit
        while commit.parent:
            commit = self._commit(repo.owner, repo.name, commit.parent)
            yield commit

    def text(self, commit: Commit, path: str) -> str:
        """Return a small file of the commit as text; empty when it has none."""
        entry = commit.tree.get(path)
        if entry is None or entry.is_lfs:
            return ""
        return self.blob(entry.sha256).read_text(encoding="utf-8", errors="replace")

    def _folder(self, owner: str, name: str) -> Path:
        return self._repos / owner / name

    def _commit_file(self, owner: str, name: str, oid: str) -> Path:
        return self._folder(owner, name) / "commits" / f"{oid}.json"

    def _read_commit(self, owner: str, name: str, oid: str) -> Commit:
        data = json.loads(self._commit_file(owner, name, oid).read_bytes())
        tree = {path: Entry(**entry) for path, entry in data.pop("tree").items()}
        return Commit(**data, tree=tree)

    def _write_commit(
        self,
        repo: Repo,
        tree: Mapping[str, Entry],
        *,
        parent: str,
        author: str,
        title: str,
        message: str,
    ) -> Commit:
        now = datetime.now(UTC)
        stamp = f"{author} <{author}@users.invalid> {int(now.timestamp())} +0000"
        lines = [f"tree {tree_oids(tree)['']}", *([f"parent {parent}"] if parent else [])]
        lines += [f"author {stamp}", f"committer {stamp}", "", title, "", message]
        oid = git_oid("commit", "\n".join(lines).encode())
        commit = Commit(
            oid, parent, title, message, author, _shown(now), dict(sorted(tree.items()))
        )
        write_atomic(self._commit_file(repo.owner, repo.name, oid), json_bytes(asdict(commit)))
        return commit


def git_oid(kind: str, content: bytes) -> str:
    """Return the id that git gives an object."""
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def regular_entry(content: bytes, sha256: str) -> Entry:
    """Return the tree entry of a file whose bytes stand in git itself."""
    return Entry(len(content), sha256, git_oid("blob", content), 0)


def lfs_entry(sha256: str, size: int) -> Entry:
    """Return the tree entry of a file whose bytes lie in LFS."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return Entry(size, sha256, git_oid("blob", pointer.encode()), len(pointer))


def tree_oids(tree: Mapping[str, Entry]) -> dict[str, str]:
    """Return git's id of every folder of a tree; the root is the empty path."""
    rows: dict[str, list[tuple[str, str, str]]] = {"": []}
    for path, entry in tree.items():
        folder, _, name = path.rpartition("/")
        rows.setdefault(folder, []).append((name, "100644", entry.git_oid))
        while folder:
            folder = folder.rpartition("/")[0]
            rows.setdefault(folder, [])
    oids: dict[str, str] = {}
    # The deepest first: a folder's id needs those of the folders in it.
    for folder in sorted(rows, key=lambda path: path.count("/") + bool(path), reverse=True):
        # Git sorts a folder as if its name ended in a slash.
        rows[folder].sort(key=lambda row: (row[0] + "/" * (row[1] == "40000")).encode())
        content = b"".join(
            f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid)
            for name, mode, oid in rows[folder]
        )
        oids[folder] = git_oid("tree", content)
        if folder:
            parent, _, name = folder.rpartition("/")
            rows[parent].append((name, "40000", oids[folder]))
    return oids


def open_accounts(root: Path, names: Sequence[str]) -> Secrets:
    """Read the accounts of a Hub's folder, with new ones for `names` that it does not know."""
    folder = root / "private"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = read_accounts(root)
    accounts = {account.name: account for account in known.accounts}
    for name in names:
        if name not in accounts:
            accounts[name] = Account(name, _token(), _token())
    opened = Secrets(tuple(accounts.values()), known.signing_key or secrets.token_hex(32))
    if opened != known:
        write_atomic(folder / "accounts.json", json_bytes(asdict(opened)))
    return opened


def read_accounts(root: Path) -> Secrets:
    """Read the accounts of a Hub's folder; none when it has none yet."""
    try:
        data = json.loads((root / "private" / "accounts.json").read_bytes())
    except FileNotFoundError:
        return Secrets((), "")
    accounts = tuple(Account(**account) for account in data["accounts"])
    return Secrets(accounts, data["signing_key"])


def _token() -> str:
    return f"hf_rehearsal_{secrets.token_hex(16)}"


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
