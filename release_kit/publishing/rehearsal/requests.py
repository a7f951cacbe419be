"""Every request that the rehearsal Hub speaks, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from release_kit.bundle import LARGEST_REGULAR_FILE
from release_kit.publishing.rehearsal.http import (
    Handler,
    base,
    body,
    flag,
    json_object,
    lines,
    objects,
    paged,
    parsed,
    part,
    size,
    spoken,
    text,
)
from release_kit.publishing.rehearsal.rules import (
    ignored_by_git,
    name_problem,
    path_problem,
    read_card,
    ref_problem,
    tracked_by_lfs,
)
from release_kit.publishing.rehearsal.store import (
    DEFAULT_BRANCH,
    Commit,
    Entry,
    HubError,
    Incoming,
    Repo,
    Secrets,
    Store,
    lfs_entry,
    regular_entry,
    tree_oids,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,18}")
_PAGE = 1000
_EXPANDED_PAGE = 50
_GATES = {"auto": "auto", "manual": "manual", False: ""}
_NO_ENTRY = "EntryNotFound"


@dataclass(frozen=True)
class _Caller:
    name: str
    """Empty for a request without a token."""
    may_write: bool


_NOBODY = _Caller("", may_write=False)


@dataclass(frozen=True)
class _Change:
    """One line of a commit."""

    key: str
    path: str
    value: Mapping[str, Any]
    entry: Entry | None = None
    """Of a regular file."""
    upload: Incoming | None = None
    content: bytes = b""


class Hub:
    """The requests, over one store."""

    def __init__(self, store: Store, opened: Secrets) -> None:
        self._store = store
        self._key = opened.signing_key.encode()
        self._callers = {
            hashlib.sha256(token.encode()).digest(): _Caller(account.name, may_write)
            for account in opened.accounts
            for token, may_write in ((account.token, True), (account.read_token, False))
        }

    def routes(self) -> list[Route]:
        """Return every request that is spoken; path parameters arrive percent-encoded."""
        api, git = "/api/models/{owner}/{name}", "/{owner}/{name}.git/info/lfs/objects"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", "/api/repos/create", self.create_repo),
            ("DELETE", "/api/repos/delete", self.delete_repo),
            ("POST", "/api/validate-yaml", self.validate_yaml),
            ("GET", api, self.info),
            ("GET", f"{api}/revision/{{rev}}", self.info),
            ("GET", f"{api}/auth-check", self.auth_check),
            ("GET", f"{api}/auth-check/write", self.auth_check_write),
            ("PUT", f"{api}/settings", self.settings),
            ("GET", f"{api}/refs", self.refs),
            ("GET", f"{api}/commits/{{rev}}", self.commits),
            ("GET", f"{api}/tree/{{rev}}", self.tree),
            ("GET", f"{api}/tree/{{rev}}/{{path:path}}", self.tree),
            ("POST", f"{api}/paths-info/{{rev}}", self.paths_info),
            ("POST", f"{api}/preupload/{{rev}}", self.preupload),
            ("POST", f"{api}/commit/{{rev}}", self.commit),
            ("POST", f"{api}/tag/{{rev}}", self.create_tag),
            ("DELETE", f"{api}/tag/{{rev}}", self.delete_tag),
            ("POST", f"{api}/branch/{{rev}}", self.create_branch),
            ("DELETE", f"{api}/branch/{{rev}}", self.delete_branch),
            ("POST", f"{git}/batch", self.lfs_batch),
            ("POST", f"{git}/verify", self.lfs_verify),
            ("PUT", "/lfs-upload/{owner}/{name}/{oid}", self.lfs_upload),
            ("GET", "/{owner}/{name}/resolve/{rev}/{path:path}", self.resolve),
        ]
        return [Route(path, spoken(handler), methods=[method]) for method, path, handler in table]

    # Who asks, and for what.

    def _caller(self, request: Request) -> _Caller:
        header = request.headers.get("authorization")
        if header is None:
            return _NOBODY
        kind, _, token = header.partition(" ")
        caller = self._callers.get(hashlib.sha256(token.strip().encode()).digest())
        if kind.lower() != "bearer" or caller is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return caller

    def _known_caller(self, request: Request) -> _Caller:
        caller = self._caller(request)
        if not caller.name:
            raise HubError(401, "Invalid username or password.")
        return caller

    def _readable(self, request: Request) -> tuple[Repo, _Caller]:
        caller = self._caller(request)
        repo = self._store.repo(part(request, "owner"), part(request, "name"))
        # A private repo and none at all must look the same to a stranger.
        if repo is None or (repo.private and caller.name != repo.owner):
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repo, caller

    def _writable(self, request: Request) -> tuple[Repo, _Caller]:
        self._known_caller(request)
        repo, caller = self._readable(request)
        _must_own(repo.owner, caller)
        return repo, caller

    def _gate(self, repo: Repo, caller: _Caller) -> None:
        if repo.gated and caller.name != repo.owner:
            raise HubError(
                403,
                f"Access to model {repo.id} is restricted and you are not in the authorized list.",
                "GatedRepo",
            )

    async def whoami(self, request: Request) -> Response:
        """GET whoami-v2."""
        caller = self._known_caller(request)
        token = {"displayName": "rehearsal", "role": "write" if caller.may_write else "read"}
        return JSONResponse(
            {
                "type": "user",
                "id": hashlib.sha256(caller.name.encode()).hexdigest()[:24],
                "name": caller.name,
                "fullname": caller.name,
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    async def auth_check(self, request: Request) -> Response:
        """GET auth-check: whether the caller may read the files."""
        self._gate(*self._readable(request))
        return JSONResponse({})

    async def auth_check_write(self, request: Request) -> Response:
        """GET auth-check/write: whether the caller may commit."""
        self._writable(request)
        return JSONResponse({})

    # Repos and their settings.

    async def create_repo(self, request: Request) -> Response:
        """POST repos/create."""
        caller = self._known_caller(request)
        data = await json_object(request)
        owner, name = data.get("organization") or caller.name, text(data, "name")
        _must_be_model(data)
        _must_own(owner, caller)
        if problem := name_problem(name):
            raise HubError(400, f"Invalid repo name: {problem}")
        url = f"{base(request)}/{owner}/{name}"
        if self._store.repo(owner, name) is not None:
            raise HubError(409, "You already created this model repo", body={"url": url})
        private = _private(data)
        repo = self._store.create(owner, name, private=bool(private))
        return JSONResponse({"url": url, "id": repo.id, "name": repo.id, "private": repo.private})

    async def delete_repo(self, request: Request) -> Response:
        """DELETE repos/delete."""
        caller = self._known_caller(request)
        data = await json_object(request)
        _must_be_model(data)
        owner, name = str(data.get("organization") or caller.name), str(data.get("name"))
        repo = self._store.repo(owner, name)
        if repo is None or (repo.private and caller.name != owner):
            raise HubError(404, "Repository not found", "RepoNotFound")
        _must_own(owner, caller)
        self._store.delete(repo)
        return JSONResponse({})

    async def settings(self, request: Request) -> Response:
        """PUT settings: visibility and gating, in one step."""
        repo, _ = self._writable(request)
        data = await json_object(request)
        # A setting that is passed over in silence would make the rehearsal a lie.
        if unknown := sorted(set(data) - {"visibility", "private", "gated"}):
            raise HubError(400, f"settings not known here: {', '.join(unknown)}")
        if "gated" in data:
            if data["gated"] not in ("auto", "manual", False):
                raise HubError(400, '"gated" must be one of [auto, manual, false]')
            repo = replace(repo, gated=_GATES[data["gated"]])
        private = _private(data)
        repo = self._store.save(repo if private is None else replace(repo, private=private))
        return JSONResponse({"private": repo.private, "gated": repo.gated or False})

    # What a repo holds.

    async def info(self, request: Request) -> Response:
        """GET models/{id} and models/{id}/revision/{rev}."""
        repo, _ = self._readable(request)
        commit = self._store.resolve(repo, part(request, "rev") or DEFAULT_BRANCH)
        card = read_card(self._store.text(commit, "README.md")).data
        with_blobs = flag(request, "blobs")
        used = {entry.sha256: entry.size for entry in commit.tree.values()}
        data: dict[str, Any] = {
            "author": repo.owner,
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": repo.created,
            "private": repo.private,
            "gated": repo.gated or False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags", []),
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "cardData": card,
            "siblings": [
                {"rfilename": path} | (_blob_facts(entry) if with_blobs else {})
                for path, entry in commit.tree.items()
            ],
            "usedStorage": sum(used.values()),
        }
        wanted = request.query_params.getlist("expand") + request.query_params.getlist("expand[]")
        if unknown := sorted(set(wanted) - set(data)):
            raise HubError(400, f"properties not known here: {', '.join(unknown)}")
        shown = {key: data[key] for key in wanted} if wanted else data
        return JSONResponse({"_id": repo.id, "id": repo.id, "modelId": repo.id} | shown)

    async def refs(self, request: Request) -> Response:
        """GET refs."""
        repo, _ = self._readable(request)

        def listed(refs: Mapping[str, str], kind: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}
                for name, oid in refs.items()
            ]

        return JSONResponse(
            {
                "branches": listed(repo.branches, "heads"),
                "tags": listed(repo.tags, "tags"),
                "converts": [],
                "pullRequests": [],
            }
        )

    async def commits(self, request: Request) -> Response:
        """GET commits: the history, newest first."""
        repo, _ = self._readable(request)
        first = self._store.resolve(repo, part(request, "rev"))
        formatted = "formatted" in request.query_params.getlist("expand[]")

        def shown(commit: Commit) -> dict[str, Any]:
            words = {"title": commit.title, "message": commit.message}
            return {
                "id": commit.oid,
                "authors": [{"user": commit.author}],
                "date": commit.date,
                **words,
                **({"formatted": words} if formatted else {}),
            }

        rows = [shown(commit) for commit in self._store.history(repo, first)]
        return paged(request, rows, f"/api/models/{repo.id}/commits/{first.oid}", _EXPANDED_PAGE)

    async def tree(self, request: Request) -> Response:
        """GET tree: files and folders below a path."""
        repo, _ = self._readable(request)
        commit = self._store.resolve(repo, part(request, "rev"))
        folder = part(request, "path").strip("/")
        prefix = f"{folder}/" if folder else ""
        expand = flag(request, "expand")
        oids = tree_oids(commit.tree)
        if folder not in oids:
            raise _no_entry(folder, commit)
        paths = [path for path in (*commit.tree, *oids) if path and path.startswith(prefix)]
        if not flag(request, "recursive"):
            paths = [path for path in paths if "/" not in path[len(prefix) :]]
        rows = self._rows(repo, commit, sorted(paths), oids, expand=expand)
        here = f"/api/models/{repo.id}/tree/{commit.oid}"
        here += f"/{quote(folder, safe='')}" if folder else ""
        return paged(request, rows, here, _EXPANDED_PAGE if expand else _PAGE)

    async def paths_info(self, request: Request) -> Response:
        """POST paths-info: the named files and folders; what is not there is left out."""
        repo, _ = self._readable(request)
        commit = self._store.resolve(repo, part(request, "rev"))
        form = parse_qs((await body(request)).decode(errors="replace"))
        expand = form.get("expand", [""])[0].lower() in {"true", "1"}
        oids = tree_oids(commit.tree)
        asked = dict.fromkeys(path.strip("/") for path in form.get("paths", []))
        paths = [path for path in asked if path in commit.tree or (path and path in oids)]
        return JSONResponse(self._rows(repo, commit, paths, oids, expand=expand))

    def _rows(
        self,
        repo: Repo,
        commit: Commit,
        paths: Iterable[str],
        oids: Mapping[str, str],
        *,
        expand: bool,
    ) -> list[dict[str, Any]]:
        rows = []
        for path in paths:
            entry = commit.tree.get(path)
            row: dict[str, Any] = {"type": "directory", "oid": oids.get(path), "size": 0}
            if entry is not None:
                row = {"type": "file", "oid": entry.git_oid, "size": entry.size}
                if entry.is_lfs:
                    row["lfs"] = {
                        "oid": entry.sha256,
                        "size": entry.size,
                        "pointerSize": entry.pointer_size,
                    }
            row["path"] = path
            rows.append(row)
        if expand:
            last = self._last_commits(repo, commit, {row["path"]: row["oid"] for row in rows})
            for row in rows:
                made = last[row["path"]]
                row["lastCommit"] = {"id": made.oid, "title": made.title, "date": made.date}
                if row["type"] == "file":
                    # Nothing is scanned here, so nothing may look as if it had been.
                    row["securityFileStatus"] = {
                        "status": "unscanned",
                        "avScan": None,
                        "pickleImportScan": None,
                    }
        return rows

    def _last_commits(
        self, repo: Repo, commit: Commit, wanted: Mapping[str, str]
    ) -> dict[str, Commit]:
        last: dict[str, Commit] = {}
        newer = commit
        for older in list(self._store.history(repo, commit))[1:]:
            before = tree_oids(older.tree)
            for path in wanted.keys() - last.keys():
                entry = older.tree.get(path)
                if (entry.git_oid if entry else before.get(path)) != wanted[path]:
                    last[path] = newer
            newer = older
        return {path: last.get(path, newer) for path in wanted}

    async def resolve(self, request: Request) -> Response:
        """GET and HEAD of a file's bytes, whole or in ranges."""
        repo, caller = self._readable(request)
        commit = self._store.resolve(repo, part(request, "rev"))
        self._gate(repo, caller)
        path = part(request, "path")
        entry = commit.tree.get(path)
        if entry is None:
            raise _no_entry(path, commit)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.content_oid}"'}
        if entry.is_lfs:
            headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        return FileResponse(
            self._store.blob(entry.sha256),
            headers=headers,
            # Never a type that a browser would run.
            media_type="application/octet-stream" if entry.is_lfs else "text/plain; charset=utf-8",
        )

    # Uploads.

    async def validate_yaml(self, request: Request) -> Response:
        """POST validate-yaml: whether the front matter of a README.md is good."""
        self._caller(request)
        data = await json_object(request)
        if data.get("repoType", "model") != "model":
            raise HubError(400, "only model cards are checked here")
        card = read_card(text(data, "content"))
        answer: dict[str, Any] = {
            "errors": [{"message": message} for message in card.errors],
            "warnings": [{"message": message} for message in card.warnings],
        }
        if card.errors:
            raise HubError(400, "Invalid metadata in README.md", body=answer)
        return JSONResponse(answer)

    async def preupload(self, request: Request) -> Response:
        """POST preupload: how each file is to be sent, and which .gitignore leaves out."""
        repo, _ = self._writable(request)
        _no_pull_requests(request)
        data = await json_object(request)
        commit = self._store.resolve(repo, part(request, "rev"))
        attributes = self._store.text(commit, ".gitattributes")
        # The .gitignore of the upload counts before the one that is in the repo.
        ignore = data.get("gitIgnore")
        if not isinstance(ignore, str):
            ignore = self._store.text(commit, ".gitignore")
        answer = []
        for file in objects(data, "files"):
            path = _path(file)
            to_lfs = size(file) > LARGEST_REGULAR_FILE or tracked_by_lfs(path, attributes)
            row = {
                "path": path,
                "uploadMode": "lfs" if to_lfs else "regular",
                "shouldIgnore": ignored_by_git(path, ignore),
            }
            if path in commit.tree:
                row["oid"] = commit.tree[path].content_oid
            answer.append(row)
        return JSONResponse({"files": answer, "commitOid": commit.oid})

    async def lfs_batch(self, request: Request) -> Response:
        """POST the LFS batch: an upload link for each object that the repo has not yet."""
        repo, _ = self._writable(request)
        data = await json_object(request)
        if data.get("operation") != "upload" or data.get("hash_algo", "sha256") != "sha256":
            raise HubError(400, "only uploads by sha256 are spoken here")
        if "basic" not in data.get("transfers", ["basic"]):
            raise HubError(400, "only the basic transfer is spoken here")
        answer = []
        for item in objects(data, "objects"):
            oid, claimed = _sha256(item), size(item)
            row: dict[str, Any] = {"oid": oid, "size": claimed, "authenticated": True}
            if repo.lfs.get(oid, claimed) != claimed:
                row["error"] = {"code": 422, "message": "the object has another size"}
            elif oid not in repo.lfs:
                query = urlencode(
                    {"size": claimed, "signature": self._signature(repo, oid, claimed)}
                )
                here = base(request)
                row["actions"] = {
                    "upload": {"href": f"{here}/lfs-upload/{repo.id}/{oid}?{query}"},
                    "verify": {"href": f"{here}/{repo.id}.git/info/lfs/objects/verify"},
                }
            answer.append(row)
        return JSONResponse({"transfer": "basic", "objects": answer})

    def _signature(self, repo: Repo, oid: str, size: int) -> str:
        # The client sends no token to an upload link, so the link itself must be proof.
        message = json.dumps([repo.id, repo.created, oid, size]).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    async def lfs_upload(self, request: Request) -> Response:
        """PUT the bytes of one LFS object; they are kept only if they are what was claimed."""
        owner, name, oid = (part(request, which) for which in ("owner", "name", "oid"))
        repo = self._store.repo(owner, name)
        word = request.query_params.get("size", "")
        claimed = int(word) if _SIZE.fullmatch(word) else -1
        given = request.query_params.get("signature", "").encode()
        good = repo is not None and self._signature(repo, oid, claimed).encode()
        if not good or not hmac.compare_digest(given, good):
            raise HubError(403, "the upload link is not valid")
        with self._store.incoming() as upload:
            async for chunk in request.stream():
                upload.write(chunk)
                if upload.size > claimed:
                    raise HubError(400, f"more than the {claimed} bytes that were claimed")
            if upload.size != claimed:
                raise HubError(400, f"{upload.size} bytes where {claimed} were claimed")
            if upload.sha256 != oid:
                raise HubError(400, f"the bytes have the sha256 {upload.sha256}, not {oid}")
            await run_in_threadpool(upload.keep)
        # Others may have written the repo while the bytes came in.
        repo = self._store.repo(owner, name)
        if repo is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        self._store.save(replace(repo, lfs={**repo.lfs, oid: claimed}))
        return Response(headers={"ETag": f'"{oid}"'})

    async def lfs_verify(self, request: Request) -> Response:
        """POST the LFS verify: whether the object is here, with that size."""
        repo, _ = self._writable(request)
        data = await json_object(request)
        if repo.lfs.get(str(data.get("oid")), -1) != data.get("size"):
            raise HubError(404, "no such LFS object was uploaded to this repo")
        return JSONResponse({})

    async def commit(self, request: Request) -> Response:
        """POST commit: all of its lines, or nothing."""
        self._writable(request)
        _no_pull_requests(request)
        header: dict[str, Any] = {}
        changes: list[_Change] = []
        with ExitStack() as stack:
            async for line in lines(request):
                operation = parsed(line)
                key, value = operation.get("key"), operation.get("value")
                if not isinstance(value, dict):
                    raise HubError(400, "a line of a commit has a key and a value")
                if key == "header":
                    header = value
                elif key == "file":
                    changes.append(self._staged(value, stack))
                else:
                    changes.append(_Change(str(key), _path(value), value))
            if not header.get("summary"):
                raise HubError(400, "a commit has a header with a summary")
            # From here on nothing waits, so no other request comes between.
            repo, caller = self._writable(request)
            branch = self._branch(repo, part(request, "rev"))
            head = self._store.resolve(repo, repo.branches[branch])
            parent = header.get("parentCommit")
            if parent and not head.oid.startswith(str(parent).lower()):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = _changed(repo, head, changes)
            for change in changes:
                if change.path == "README.md" and change.entry == tree.get("README.md"):
                    _must_be_good_card(change.content)
            for change in changes:
                if change.upload is not None:
                    change.upload.keep()
            commit = self._store.commit(
                repo,
                branch,
                tree,
                author=caller.name,
                title=str(header["summary"]),
                message=str(header.get("description") or ""),
            )
        url = f"{base(request)}/{repo.id}/commit/{commit.oid}"
        return JSONResponse(
            {"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""}
        )

    def _staged(self, value: dict[str, Any], stack: ExitStack) -> _Change:
        path = _path(value)
        if value.get("encoding", "base64") != "base64":
            raise HubError(400, f"{path}: only base64 is spoken here")
        try:
            content = base64.b64decode(text(value, "content"), validate=True)
        except ValueError:
            raise HubError(400, f"{path}: the content is not base64") from None
        if len(content) > LARGEST_REGULAR_FILE:
            raise HubError(400, f"{path}: a regular file is over 10 MiB; upload it through LFS")
        upload = stack.enter_context(self._store.incoming())
        upload.write(content)
        # Only a card is looked at again; a commit's files together may be larger than memory.
        kept = content if path == "README.md" else b""
        return _Change("file", path, {}, regular_entry(content, upload.sha256), upload, kept)

    def _branch(self, repo: Repo, revision: str) -> str:
        branch = revision.removeprefix("refs/heads/")
        if branch not in repo.branches:
            self._store.resolve(repo, revision)
            raise HubError(400, f"{revision} is no branch; a commit goes on top of a branch")
        return branch

    # Tags and branches.

    async def create_tag(self, request: Request) -> Response:
        """POST tag/{rev}."""
        repo, _ = self._writable(request)
        tag = _ref(text(await json_object(request), "tag"))
        commit = self._store.resolve(repo, part(request, "rev"))
        if tag in repo.tags:
            raise HubError(409, f"Tag {tag} already exists")
        self._store.save(replace(repo, tags={**repo.tags, tag: commit.oid}))
        return JSONResponse({})

    async def delete_tag(self, request: Request) -> Response:
        """DELETE tag/{tag}."""
        repo, _ = self._writable(request)
        tag = part(request, "rev")
        if tag not in repo.tags:
            raise HubError(404, f"Invalid rev id: {tag}", "RevisionNotFound")
        self._store.save(replace(repo, tags=_without(repo.tags, tag)))
        return JSONResponse({})

    async def create_branch(self, request: Request) -> Response:
        """POST branch/{branch}."""
        repo, _ = self._writable(request)
        branch = _ref(part(request, "rev"))
        start = (await json_object(request)).get("startingPoint") or DEFAULT_BRANCH
        commit = self._store.resolve(repo, str(start))
        if branch in repo.branches:
            raise HubError(409, f"Branch {branch} already exists")
        self._store.save(replace(repo, branches={**repo.branches, branch: commit.oid}))
        return JSONResponse({})

    async def delete_branch(self, request: Request) -> Response:
        """DELETE branch/{branch}."""
        repo, _ = self._writable(request)
        branch = part(request, "rev")
        if branch == DEFAULT_BRANCH:
            raise HubError(403, f"The branch {branch} cannot be deleted")
        if branch not in repo.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        self._store.save(replace(repo, branches=_without(repo.branches, branch)))
        return JSONResponse({})


def _must_own(owner: object, caller: _Caller) -> None:
    if caller.name != owner:
        raise HubError(403, f"You don't have the rights to write under the namespace {owner!r}")
    if not caller.may_write:
        raise HubError(403, "This token may only read; use one that may write")


def _must_be_model(data: Mapping[str, Any]) -> None:
    if (data.get("type") or "model") != "model":
        raise HubError(400, "only model repos are rehearsed here")


def _no_pull_requests(request: Request) -> None:
    if flag(request, "create_pr"):
        raise HubError(400, "pull requests are not rehearsed here")


def _must_be_good_card(content: bytes) -> None:
    try:
        card = read_card(content.decode())
    except UnicodeDecodeError:
        raise HubError(400, "Invalid metadata in README.md: it is not UTF-8") from None
    if card.errors:
        raise HubError(
            400,
            "Invalid metadata in README.md",
            body={"errors": [{"message": message} for message in card.errors]},
        )


def _private(data: Mapping[str, Any]) -> bool | None:
    visibility, private = data.get("visibility"), data.get("private")
    if visibility is not None:
        if visibility not in ("private", "public"):
            raise HubError(400, '"visibility" must be one of [private, public]')
        return bool(visibility == "private")
    if private is not None and not isinstance(private, bool):
        raise HubError(400, '"private" must be a boolean')
    return private


def _path(data: Mapping[str, Any]) -> str:
    path = text(data, "path")
    # The client ends the path of a folder in a slash.
    if problem := path_problem(path.removesuffix("/")):
        raise HubError(400, f"{path!r} is not a path: {problem}")
    return path


def _ref(name: str) -> str:
    if problem := ref_problem(name):
        raise HubError(400, f"{name!r} is no name for a branch or tag: {problem}")
    return name


def _sha256(data: Mapping[str, Any]) -> str:
    oid = text(data, "oid")
    if not _SHA256.fullmatch(oid):
        raise HubError(400, "an LFS object is named by the 64 hex digits of its sha256")
    return oid


def _without(refs: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: oid for key, oid in refs.items() if key != name}


def _no_entry(path: str, commit: Commit) -> HubError:
    error = HubError(404, f"Entry not found: {path}", "EntryNotFound")
    # By this the client remembers for which commit the file is absent.
    error.headers["X-Repo-Commit"] = commit.oid
    return error


def _blob_facts(entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": entry.size, "blobId": entry.git_oid}
    if entry.is_lfs:
        facts["lfs"] = {
            "sha256": entry.sha256,
            "size": entry.size,
            "pointerSize": entry.pointer_size,
        }
    return facts


def _changed(repo: Repo, head: Commit, changes: Iterable[_Change]) -> dict[str, Entry]:
    tree = dict(head.tree)
    for change in changes:
        path = change.path
        if change.key == "deletedFolder":
            prefix = path.removesuffix("/") + "/"
            inside = [name for name in tree if name.startswith(prefix)]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", _NO_ENTRY)
            for name in inside:
                del tree[name]
        elif path.endswith("/"):
            raise HubError(400, f"{path!r} is the path of a folder, not of a file")
        elif change.key == "deletedFile":
            if path not in tree:
                raise HubError(404, f"A file with this name doesn't exist: {path}", _NO_ENTRY)
            del tree[path]
        elif change.key == "lfsFile":
            tree[path] = _uploaded(repo, change)
        elif change.entry is not None:
            tree[path] = change.entry
        else:
            raise HubError(400, f"{change.key!r} is not spoken here")
    folders = set(tree_oids(tree))
    if both := sorted(folders & set(tree)):
        raise HubError(400, f"{both[0]!r} would be a file and a folder")
    return tree


def _uploaded(repo: Repo, change: _Change) -> Entry:
    oid = _sha256(change.value)
    known = repo.lfs.get(oid)
    if change.value.get("algo", "sha256") != "sha256" or known is None:
        raise HubError(400, f"{change.path}: the LFS object {oid} was never uploaded to this repo")
    # Without a size, as the client copies files, the stored one counts.
    if change.value.get("size", known) != known:
        raise HubError(400, f"{change.path}: the LFS object {oid} has {known} bytes")
    return lfs_entry(oid, known)
