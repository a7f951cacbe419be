"""The rehearsal Hub over HTTP, with the real client, in its own process."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from release_kit.errors import Unfinished
from release_kit.publishing.rehearsal import RehearsalHub, serve

_MIB = 1024 * 1024
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RehearsalHub]:
    with serve(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def owner(hub: RehearsalHub) -> HfApi:
    return _api(hub, hub.token)


@pytest.fixture
def reader(hub: RehearsalHub) -> HfApi:
    return _api(hub, hub.read_token)


@pytest.fixture
def stranger(hub: RehearsalHub) -> HfApi:
    return _api(hub, hub.accounts["stranger"].token)


@pytest.fixture
def nobody(hub: RehearsalHub) -> HfApi:
    return _api(hub, False)


@pytest.fixture
def repo(owner: HfApi) -> str:
    return _new_repo(owner)


def _api(hub: RehearsalHub, token: str | bool) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def _new_repo(api: HfApi, *, private: bool = False) -> str:
    name = f"rehearsal/model-{next(_NUMBERS)}"
    api.create_repo(name, private=private)
    return name


def _commit(api: HfApi, repo: str, files: dict[str, bytes], **more: Any) -> str:
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="a commit", **more).oid


def _head(api: HfApi, repo: str) -> str:
    return api.list_repo_refs(repo).branches[0].target_commit


def _send(api: HfApi, method: str, path: str, **more: Any) -> Any:
    """Send what the client itself would not, and raise as the client raises."""
    headers = {**build_hf_headers(token=api.token), **more.pop("headers", {})}
    response = get_session().request(method, f"{api.endpoint}{path}", headers=headers, **more)
    hf_raise_for_status(response)
    return response


def _send_commit(api: HfApi, repo: str, *lines: tuple[str, dict[str, Any]]) -> str:
    every = [("header", {"summary": "raw", "description": ""}), *lines]
    body = b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in every)
    return _send(api, "POST", f"/api/models/{repo}/commit/main", content=body).json()["commitOid"]


def _file(path: str, content: bytes = b"text") -> tuple[str, dict[str, Any]]:
    encoded = base64.b64encode(content).decode()
    return "file", {"path": path, "content": encoded, "encoding": "base64"}


@contextmanager
def _refused(kind: type[HfHubHTTPError], status: int, message: str | None = None) -> Iterator[None]:
    with pytest.raises(kind, match=message) as caught:
        yield
    assert caught.value.response.status_code == status
    assert type(caught.value) is kind or kind is EntryNotFoundError


# Who asks.


def test_a_good_token_tells_who_asks(hub: RehearsalHub, owner: HfApi, reader: HfApi) -> None:
    assert owner.whoami()["name"] == reader.whoami()["name"] == hub.user == "rehearsal"
    assert owner.whoami()["auth"]["accessToken"]["role"] == "write"
    assert reader.whoami()["auth"]["accessToken"]["role"] == "read"


def test_a_wrong_token_is_refused_everywhere(hub: RehearsalHub, repo: str) -> None:
    wrong = _api(hub, "hf_wrong")
    with _refused(HfHubHTTPError, 401, "Invalid user token"):
        wrong.whoami()
    with _refused(HfHubHTTPError, 401, "Invalid credentials"):
        wrong.model_info(repo)
    with _refused(HfHubHTTPError, 401):
        _send(wrong, "POST", "/api/validate-yaml", json={"content": "", "repoType": "model"})


def test_writing_without_a_token_is_refused(nobody: HfApi, repo: str) -> None:
    with _refused(HfHubHTTPError, 401):
        nobody.create_repo("rehearsal/without-token")
    with _refused(HfHubHTTPError, 401):
        _commit(nobody, repo, {"a.txt": b"a"})
    with _refused(HfHubHTTPError, 401):
        nobody.auth_check(repo, write=True)


def test_a_read_token_reads_and_does_not_write(owner: HfApi, reader: HfApi) -> None:
    repo = _new_repo(owner, private=True)
    reader.auth_check(repo)
    assert reader.model_info(repo).private is True
    for write in (
        lambda: reader.auth_check(repo, write=True),
        lambda: reader.create_repo("rehearsal/by-reader"),
        lambda: _commit(reader, repo, {"a.txt": b"a"}),
        lambda: _send_commit(reader, repo, _file("a.txt")),
        lambda: reader.create_tag(repo, tag="v1"),
        lambda: reader.create_branch(repo, branch="b"),
        lambda: reader.update_repo_settings(repo, private=False),
        lambda: reader.delete_repo(repo),
    ):
        with _refused(HfHubHTTPError, 403):
            write()
    owner.auth_check(repo, write=True)


def test_auth_check_follows_gating_and_visibility(owner: HfApi, stranger: HfApi) -> None:
    repo = _new_repo(owner, private=True)
    with _refused(RepositoryNotFoundError, 404):
        stranger.auth_check(repo)
    owner.update_repo_settings(repo, private=False, gated="manual")
    with _refused(GatedRepoError, 403):
        stranger.auth_check(repo)
    owner.auth_check(repo)
    owner.update_repo_settings(repo, gated=False)
    stranger.auth_check(repo)
    with _refused(HfHubHTTPError, 403):
        stranger.auth_check(repo, write=True)


# Repos.


def test_a_new_repo_has_the_hubs_gitattributes(owner: HfApi, repo: str) -> None:
    (file,) = owner.list_repo_tree(repo)
    assert isinstance(file, RepoFile)
    # The ids of the file that the Hub itself writes.
    assert (file.path, file.size) == (".gitattributes", 1519)
    assert file.blob_id == "a6344aac8c09253b3b630fb776ae94478aa0275b"
    assert re.fullmatch("[0-9a-f]{40}", _head(owner, repo))


def test_an_existing_repo_is_a_conflict_unless_exist_ok(owner: HfApi, repo: str) -> None:
    with _refused(HfHubHTTPError, 409):
        owner.create_repo(repo)
    # As on the Hub, exist_ok leaves a public repo public.
    assert owner.create_repo(repo, private=True, exist_ok=True).repo_id == repo
    assert owner.model_info(repo).private is False


def test_another_namespace_is_forbidden(stranger: HfApi, repo: str) -> None:
    with _refused(HfHubHTTPError, 403):
        stranger.create_repo("rehearsal/not-mine")
    with _refused(HfHubHTTPError, 403):
        _commit(stranger, repo, {"a.txt": b"a"})
    with _refused(HfHubHTTPError, 403):
        stranger.delete_repo(repo)
    assert stranger.create_repo("stranger/mine").repo_id == "stranger/mine"


@pytest.mark.parametrize("name", ["", "a--b", "a..b", ".a", "a.git", "a/b", "..", "x" * 97, "ä"])
def test_a_bad_repo_name_is_refused(owner: HfApi, name: str) -> None:
    with _refused(BadRequestError, 400):
        _send(owner, "POST", "/api/repos/create", json={"name": name, "organization": None})


@pytest.mark.parametrize(
    "setting", [{"private": True}, {"visibility": "private"}], ids=["private", "visibility"]
)
def test_both_ways_to_ask_for_a_private_repo(owner: HfApi, setting: dict[str, Any]) -> None:
    name = f"asked-{next(_NUMBERS)}"
    _send(owner, "POST", "/api/repos/create", json={"name": name, "type": "model", **setting})
    assert owner.model_info(f"rehearsal/{name}").private is True


def test_bad_settings_are_refused_as_a_whole(owner: HfApi, repo: str) -> None:
    for bad in ({"visibility": "protected"}, {"private": 1}, {"gated": "x"}, {"sleep": 3}):
        with _refused(BadRequestError, 400):
            settings = {"gated": "auto", **bad}
            _send(owner, "PUT", f"/api/models/{repo}/settings", json=settings)
    assert owner.model_info(repo).gated is False
    owner.update_repo_settings(repo, gated="auto", visibility="private")
    info = owner.model_info(repo)
    assert (info.gated, info.private) == ("auto", True)


def test_a_strangers_settings_are_refused(owner: HfApi, stranger: HfApi, repo: str) -> None:
    with _refused(HfHubHTTPError, 403):
        stranger.update_repo_settings(repo, private=True)
    private = _new_repo(owner, private=True)
    with _refused(RepositoryNotFoundError, 404):
        stranger.update_repo_settings(private, private=False)


def test_a_deleted_repo_is_gone(owner: HfApi, stranger: HfApi) -> None:
    repo = _new_repo(owner, private=True)
    with _refused(RepositoryNotFoundError, 404):
        stranger.delete_repo(repo)
    owner.delete_repo(repo)
    with _refused(RepositoryNotFoundError, 404):
        owner.model_info(repo)
    with _refused(RepositoryNotFoundError, 404):
        owner.delete_repo(repo)
    owner.delete_repo(repo, missing_ok=True)
    owner.create_repo(repo)


def test_only_models_are_rehearsed(owner: HfApi) -> None:
    with _refused(BadRequestError, 400, "only model repos"):
        owner.create_repo("rehearsal/data", repo_type="dataset")


def test_a_private_repo_does_not_exist_for_others(
    hub: RehearsalHub, owner: HfApi, stranger: HfApi, nobody: HfApi, tmp_path: Path
) -> None:
    repo = _new_repo(owner, private=True)
    _commit(owner, repo, {"a.txt": b"a"})
    for other in (stranger, nobody):
        for read in (
            lambda api: api.model_info(repo),
            lambda api: api.list_repo_refs(repo),
            lambda api: api.list_repo_commits(repo),
            lambda api: list(api.list_repo_tree(repo)),
            lambda api: api.get_paths_info(repo, ["a.txt"]),
            lambda api: api.hf_hub_download(repo, "a.txt", cache_dir=tmp_path),
            lambda api: api.model_info("rehearsal/there-is-none"),
        ):
            with _refused(RepositoryNotFoundError, 404):
                read(other)
    assert not owner.repo_exists("rehearsal/there-is-none")
    reader = _api(hub, hub.read_token)
    assert Path(reader.hf_hub_download(repo, "a.txt", cache_dir=tmp_path)).read_bytes() == b"a"


def test_a_gated_repo_shows_its_files_and_not_their_bytes(
    owner: HfApi, stranger: HfApi, nobody: HfApi, repo: str, tmp_path: Path
) -> None:
    _commit(owner, repo, {"a.txt": b"a"})
    owner.update_repo_settings(repo, gated="manual")
    for other in (stranger, nobody):
        assert other.model_info(repo).gated == "manual"
        assert "a.txt" in other.list_repo_files(repo)
        with _refused(GatedRepoError, 403):
            other.hf_hub_download(repo, "a.txt", cache_dir=tmp_path)
        with _refused(GatedRepoError, 403):
            other.snapshot_download(repo, cache_dir=tmp_path)
    owner.hf_hub_download(repo, "a.txt", cache_dir=tmp_path)
    owner.update_repo_settings(repo, gated=False)
    stranger.hf_hub_download(repo, "a.txt", cache_dir=tmp_path / "stranger")


# A publish.


def test_a_publish_from_private_repo_to_a_strangers_copy(
    hub: RehearsalHub, owner: HfApi, nobody: HfApi, tmp_path: Path
) -> None:
    repo = _new_repo(owner, private=True)
    weights = os.urandom(3 * _MIB)
    files = {
        "README.md": b"---\nlicense: apache-2.0\npipeline_tag: text-classification\n---\n# Model\n",
        "model.safetensors": weights,
        "sub folder/config \xc3\xa9.json".encode("latin-1").decode(): b'{"a": 1}',
    }
    oid = _commit(owner, repo, files, parent_commit=_head(owner, repo))
    assert oid == _head(owner, repo) and re.fullmatch("[0-9a-f]{40}", oid)
    owner.create_tag(repo, tag="v1.0.0", tag_message="first", revision=oid)
    with _refused(RepositoryNotFoundError, 404):
        nobody.model_info(repo)
    owner.update_repo_settings(repo, private=False)

    folder = Path(
        snapshot_download(
            repo, revision="v1.0.0", endpoint=hub.url, token=False, cache_dir=tmp_path
        )
    )
    assert folder.name == oid
    for path, content in files.items():
        assert (folder / path).read_bytes() == content
    entries = {entry.path: entry for entry in nobody.list_repo_tree(repo, recursive=True)}
    stored = entries["model.safetensors"]
    assert isinstance(stored, RepoFile) and stored.lfs is not None
    assert stored.lfs.sha256 == hashlib.sha256(weights).hexdigest()
    assert (stored.size, stored.lfs.size, stored.lfs.pointer_size) == (3 * _MIB, 3 * _MIB, 132)
    assert (hub.root / "blobs" / stored.lfs.sha256).read_bytes() == weights
    assert isinstance(entries["sub folder"], RepoFolder)

    info = nobody.model_info(repo, files_metadata=True)
    assert (info.sha, info.pipeline_tag, info.private) == (oid, "text-classification", False)
    assert info.card_data is not None and info.card_data["license"] == "apache-2.0"
    assert {s.rfilename: s.lfs is not None for s in info.siblings or []}["model.safetensors"]
    assert nobody.model_info(repo, revision="v1.0.0").sha == oid
    assert nobody.model_info(repo, expand=["sha", "gated"]).sha == oid
    assert nobody.verify_repo_checksums(repo, local_dir=folder, revision=oid).checked_count == 4
    titles = [commit.title for commit in nobody.list_repo_commits(repo, formatted=True)]
    assert titles == ["a commit", "initial commit"]
    (tag,) = nobody.list_repo_refs(repo).tags
    assert (tag.name, tag.ref, tag.target_commit) == ("v1.0.0", "refs/tags/v1.0.0", oid)


def test_upload_folder_and_a_second_run_that_changes_nothing(
    owner: HfApi, repo: str, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "x.bin").write_bytes(b"weights")
    (tmp_path / "empty.bin").write_bytes(b"")
    first = owner.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert owner.upload_folder(repo_id=repo, folder_path=tmp_path).oid == first.oid
    files = {f.path: f for f in owner.get_paths_info(repo, ["deep/er/x.bin", "empty.bin", "deep"])}
    assert files["deep/er/x.bin"].lfs is not None
    assert files["empty.bin"].lfs is None
    assert isinstance(files["deep"], RepoFolder)


def test_ids_are_those_of_git(owner: HfApi, repo: str, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    files = {"d/a.txt": b"a", "d/a/b.txt": b"b", "d/a-b.txt": b"c", "d/z/y/x.txt": b"d"}
    _commit(owner, repo, files)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", ".")
    tree = git("write-tree")
    for found in owner.get_paths_info(repo, ["d", "d/a", "d/z/y", "d/a.txt"]):
        ours = found.tree_id if isinstance(found, RepoFolder) else found.blob_id
        assert ours == git("rev-parse", f"{tree}:{found.path}")


def test_the_upload_mode_follows_gitattributes_and_size(owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {".gitattributes": b"*.txt filter=lfs\nraw/*.txt !filter\n"})
    files = {"a.txt": b"a", "raw/a.txt": b"a", "a.bin": b"a", "big": bytes(10 * _MIB + 1)}
    _commit(owner, repo, files)
    stored = {file.path: file for file in owner.get_paths_info(repo, list(files))}
    assert {path: file.lfs is not None for path, file in stored.items()} == {
        "a.txt": True,
        "raw/a.txt": False,
        "a.bin": False,
        "big": True,
    }


def test_gitignore_leaves_files_out_in_silence(owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {".gitignore": b"*.log\n", "a.log": b"1", "a.txt": b"1"})
    assert "a.log" not in owner.list_repo_files(repo)
    _commit(owner, repo, {"b.log": b"1", "b.txt": b"1"})
    assert {"a.txt", "b.txt"} <= set(owner.list_repo_files(repo))
    assert "b.log" not in owner.list_repo_files(repo)
    _commit(owner, repo, {".gitignore": b"", "b.log": b"1"})
    assert "b.log" in owner.list_repo_files(repo)


def test_deleting_copying_and_what_is_not_there(owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {"a.bin": b"weights", "d/x.txt": b"x", "d/y.txt": b"y"})
    owner.create_commit(
        repo,
        [
            CommitOperationCopy("a.bin", "b.bin"),
            CommitOperationCopy("d/x.txt", "x.txt"),
            CommitOperationDelete("a.bin"),
            CommitOperationDelete("d/"),
        ],
        commit_message="move",
    )
    assert sorted(owner.list_repo_files(repo)) == [".gitattributes", "b.bin", "x.txt"]
    head = _head(owner, repo)
    with _refused(EntryNotFoundError, 404, "A file with this name doesn't exist"):
        owner.delete_file("none.txt", repo)
    with _refused(EntryNotFoundError, 404):
        owner.delete_folder("none", repo)
    assert _head(owner, repo) == head


def test_the_tree_and_the_history_come_in_pages(owner: HfApi, repo: str) -> None:
    files = {f"f{number:03}.txt": b"x" for number in range(60)}
    first = _commit(owner, repo, files)
    second = _commit(owner, repo, {"f000.txt": b"y", "d/z.txt": b"z"})
    found = list(owner.list_repo_tree(repo, recursive=True, expand=True))
    assert [entry.path for entry in found] == sorted([".gitattributes", "d", "d/z.txt", *files])
    made = {e.path: e.last_commit.oid for e in found if e.last_commit is not None}
    assert (made["f000.txt"], made["f001.txt"], made["d"]) == (second, first, second)
    assert {e.security.status for e in found if isinstance(e, RepoFile) and e.security} == {
        "unscanned"
    }
    (inside,) = owner.list_repo_tree(repo, "d")
    assert inside.path == "d/z.txt"
    for _ in range(50):
        _send_commit(owner, repo)
    assert len(owner.list_repo_commits(repo)) == 53


def test_names_that_are_not_there(owner: HfApi, repo: str, tmp_path: Path) -> None:
    with _refused(EntryNotFoundError, 404):
        owner.hf_hub_download(repo, "none.txt", cache_dir=tmp_path)
    with _refused(EntryNotFoundError, 404):
        list(owner.list_repo_tree(repo, "none"))
    assert owner.get_paths_info(repo, ["none.txt"]) == []
    assert owner.file_exists(repo, ".gitattributes") and not owner.file_exists(repo, "none.txt")
    for revision in ("none", "f" * 40, "refs/pr/1"):
        with _refused(RevisionNotFoundError, 404):
            owner.model_info(repo, revision=revision)
        with _refused(RevisionNotFoundError, 404):
            list(owner.list_repo_tree(repo, revision=revision))
        with _refused(RevisionNotFoundError, 404):
            owner.hf_hub_download(repo, "x", revision=revision, cache_dir=tmp_path)
        with _refused(RevisionNotFoundError, 404):
            _commit(owner, repo, {"a.txt": b"a"}, revision=revision)


def test_heads_and_ranges(hub: RehearsalHub, owner: HfApi, repo: str) -> None:
    oid = _commit(owner, repo, {"a.bin": b"0123456789", "a.txt": b"text"})
    for path, etag in (
        ("a.bin", hashlib.sha256(b"0123456789").hexdigest()),
        ("a.txt", hashlib.sha1(b"blob 4\0text").hexdigest()),
    ):
        url = hf_hub_url(repo, path, endpoint=hub.url)
        metadata = get_hf_file_metadata(url, token=hub.token, endpoint=hub.url)
        size = len(b"0123456789") if path == "a.bin" else 4
        assert (metadata.etag, metadata.size, metadata.commit_hash) == (etag, size, oid)
    path = f"/{repo}/resolve/main/a.bin"
    some = _send(owner, "GET", path, headers={"Range": "bytes=3-5"})
    assert (some.status_code, some.content) == (206, b"345")
    assert some.headers["Content-Range"] == "bytes 3-5/10"
    assert _send(owner, "GET", path, headers={"Range": "bytes=7-"}).content == b"789"
    with _refused(HfHubHTTPError, 416):
        _send(owner, "GET", path, headers={"Range": "bytes=10-"})


def test_a_download_goes_on_where_it_was_cut(
    hub: RehearsalHub, owner: HfApi, repo: str, tmp_path: Path
) -> None:
    from huggingface_hub.file_download import http_get

    content = os.urandom(_MIB)
    _commit(owner, repo, {"a.bin": content})
    target = tmp_path / "a.bin"
    target.write_bytes(content[:1000])
    with target.open("ab") as stream:
        headers = build_hf_headers(token=hub.token)
        url = hf_hub_url(repo, "a.bin", endpoint=hub.url)
        http_get(url, stream, resume_size=1000, headers=headers, expected_size=_MIB)
    assert target.read_bytes() == content


def test_transformers_loads_from_it(hub: RehearsalHub, owner: HfApi, repo: str) -> None:
    pytest.importorskip("transformers")
    config = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2}
    _commit(owner, repo, {"config.json": json.dumps(config).encode()})
    script = (
        "import sys; from transformers import AutoConfig;"
        "print(AutoConfig.from_pretrained(sys.argv[1], token=False).hidden_size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, repo],
        env={**os.environ, "HF_ENDPOINT": hub.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "8", done.stderr


# What a commit is refused for.


def test_a_parent_that_is_not_the_head_is_refused(owner: HfApi, repo: str) -> None:
    first = _head(owner, repo)
    second = _commit(owner, repo, {"a.txt": b"a"}, parent_commit=first)
    with _refused(HfHubHTTPError, 412):
        _commit(owner, repo, {"b.txt": b"b"}, parent_commit=first)
    assert _head(owner, repo) == second
    assert "b.txt" not in owner.list_repo_files(repo)
    _commit(owner, repo, {"b.txt": b"b"}, parent_commit=second[:8])


def test_an_lfs_file_that_was_never_uploaded_is_refused(owner: HfApi, repo: str) -> None:
    operation = CommitOperationAdd("a.bin", b"never sent")
    # The client skips the upload of what it takes for uploaded.
    operation._upload_mode, operation._is_uploaded = "lfs", True
    with _refused(BadRequestError, 400, "never uploaded"):
        owner.create_commit(repo, [operation], commit_message="x")
    owner.create_commit(repo, [CommitOperationAdd("a.bin", b"never sent")], commit_message="x")


def test_an_lfs_file_of_another_repo_is_refused(owner: HfApi, stranger: HfApi) -> None:
    secret = b"private weights"
    _commit(owner, _new_repo(owner, private=True), {"a.bin": secret})
    stranger.create_repo("stranger/thief")
    pointer = {"path": "a.bin", "algo": "sha256", "oid": hashlib.sha256(secret).hexdigest()}
    with _refused(BadRequestError, 400, "never uploaded"):
        _send_commit(stranger, "stranger/thief", ("lfsFile", {**pointer, "size": len(secret)}))


def test_an_lfs_file_of_another_size_is_refused(owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {"a.bin": b"1234"})
    pointer = {"path": "b.bin", "algo": "sha256", "oid": hashlib.sha256(b"1234").hexdigest()}
    with _refused(BadRequestError, 400, "has 4 bytes"):
        _send_commit(owner, repo, ("lfsFile", {**pointer, "size": 5}))
    _send_commit(owner, repo, ("lfsFile", {**pointer, "size": 4}))


@pytest.mark.parametrize("lie", ["digest", "too long", "too short"])
def test_bytes_that_are_not_what_was_claimed_are_not_kept(
    hub: RehearsalHub, owner: HfApi, repo: str, lie: str
) -> None:
    content = os.urandom(2 * _MIB)
    operation = CommitOperationAdd("a.bin", content)
    if lie == "digest":
        operation.upload_info.sha256 = hashlib.sha256(b"other").digest()
    else:
        operation.upload_info.size += 1 if lie == "too short" else -_MIB
    claimed = operation.upload_info.sha256.hex()
    with pytest.raises(RuntimeError, match=r"uploading 'a\.bin'") as caught:
        owner.create_commit(repo, [operation], commit_message="x")
    assert isinstance(caught.value.__cause__, BadRequestError)
    assert not (hub.root / "blobs" / claimed).exists()
    assert not (hub.root / "blobs" / hashlib.sha256(content).hexdigest()).exists()
    assert list((hub.root / "incoming").iterdir()) == []
    _commit(owner, repo, {"a.bin": content})
    assert (hub.root / "blobs" / hashlib.sha256(content).hexdigest()).exists()


def test_an_upload_link_cannot_be_made_up(owner: HfApi, repo: str) -> None:
    oid, size = hashlib.sha256(b"bytes").hexdigest(), len(b"bytes")
    for query in (f"size={size}", f"size={size}&signature={'0' * 64}", "size=x&signature=ä"):
        with _refused(HfHubHTTPError, 403):
            _send(owner, "PUT", f"/lfs-upload/{repo}/{oid}?{query}", content=b"bytes")
    batch = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": size}],
        "hash_algo": "sha256",
    }
    answer = _send(owner, "POST", f"/{repo}.git/info/lfs/objects/batch", json=batch).json()
    actions = answer["objects"][0]["actions"]
    claim = {"oid": oid, "size": size}
    verify = f"/{repo}.git/info/lfs/objects/verify"
    with _refused(HfHubHTTPError, 404):
        _send(owner, "POST", verify, json=claim)
    link = actions["upload"]["href"].removeprefix(owner.endpoint)
    with _refused(HfHubHTTPError, 403):
        _send(owner, "PUT", link.replace(f"size={size}", "size=6"), content=b"bytes6")
    _send(owner, "PUT", link, content=b"bytes")
    _send(owner, "POST", verify, json=claim)


def test_a_regular_file_over_ten_mebibytes_is_refused(owner: HfApi, repo: str) -> None:
    for extra in (1, _MIB):
        operation = CommitOperationAdd("a.json", bytes(10 * _MIB + extra))
        operation._upload_mode = "regular"
        with _refused(BadRequestError, 400, "over 10 MiB"):
            owner.create_commit(repo, [operation], commit_message="x")
    _commit(owner, repo, {"a.json": bytes(10 * _MIB)})
    (stored,) = owner.get_paths_info(repo, ["a.json"])
    assert stored.lfs is None


@pytest.mark.parametrize("path", ["a//b", "a\\b", "a\nb", "a/./b", ".GIT/config", "x\x7f"])
def test_a_path_that_the_client_lets_pass_is_refused(owner: HfApi, repo: str, path: str) -> None:
    head = _head(owner, repo)
    with _refused(BadRequestError, 400, "is not a path"):
        _commit(owner, repo, {path: b"x"})
    with _refused(BadRequestError, 400, "is not a path"):
        _send_commit(owner, repo, _file(path))
    assert _head(owner, repo) == head


@pytest.mark.parametrize(
    "path", ["", "/", "/etc/passwd", "..", "../a", "a/../b", ".", ".git/hooks/x", "a/.git/x", "a/"]
)
def test_a_path_that_the_client_stops_is_refused_too(owner: HfApi, repo: str, path: str) -> None:
    for line in (_file(path), ("lfsFile", {"path": path, "oid": "0" * 64, "size": 1})):
        with _refused(BadRequestError, 400, "path"):
            _send_commit(owner, repo, line)


@pytest.mark.parametrize("path", [".gitignore", "a b.txt", "ä/ö.txt", "..a", "a.git", "git/.x"])
def test_an_unusual_path_passes(owner: HfApi, repo: str, path: str, tmp_path: Path) -> None:
    _commit(owner, repo, {path: b"x"})
    assert Path(owner.hf_hub_download(repo, path, cache_dir=tmp_path)).read_bytes() == b"x"


def test_a_file_cannot_be_a_folder_too(owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {"a": b"x"})
    with _refused(BadRequestError, 400, "file and a folder"):
        _commit(owner, repo, {"a/b.txt": b"x"})
    operations = [CommitOperationDelete("a"), CommitOperationAdd("a/b.txt", b"x")]
    owner.create_commit(repo, operations, commit_message="x")


@pytest.mark.parametrize(
    "line",
    [
        ("copyFile", {"path": "b", "srcPath": "a"}),
        ("file", {"path": "a", "content": "!", "encoding": "base64"}),
        ("file", {"path": "a", "content": "x", "encoding": "utf-8"}),
        ("file", {"path": "a", "encoding": "base64"}),
        ("lfsFile", {"path": "a", "algo": "sha256", "oid": "../../x", "size": 1}),
        ("header", {"description": "no summary"}),
    ],
)
def test_a_line_that_is_not_spoken_is_refused(
    owner: HfApi, repo: str, line: tuple[str, dict[str, Any]]
) -> None:
    head = _head(owner, repo)
    with _refused(BadRequestError, 400):
        _send_commit(owner, repo, _file("good.txt"), line)
    assert _head(owner, repo) == head


def test_bodies_that_are_no_json_and_pull_requests_are_refused(owner: HfApi, repo: str) -> None:
    for body in (b"{", b"[]", b"\xff", b"[" * 100_000):
        with _refused(BadRequestError, 400):
            _send(owner, "POST", f"/api/models/{repo}/commit/main", content=body)
        with _refused(BadRequestError, 400):
            _send(owner, "POST", f"/api/models/{repo}/preupload/main", content=body)
    with _refused(BadRequestError, 400, "pull requests"):
        _commit(owner, repo, {"a.txt": b"a"}, create_pr=True)


_BAD_CARDS = {
    "does not parse": ("license: [mit", "not valid"),
    "repeated key": ("license: mit\nlicense: mit", "not valid"),
    "a list": ("- license", "must be a mapping"),
    "a word": ("license", "must be a mapping"),
    "unknown license": ("license: apache-2", '"license" must be one of'),
    "SPDX spelling": ("license: Apache-2.0", '"license" must be one of'),
    "a number for a license": ("license: 2", '"license" must be a string'),
    "other without a name": ("license: other", '"license_name" is required'),
    "pipeline_tag as list": ("pipeline_tag: [text-generation]", '"pipeline_tag" must be a string'),
    "tags as word": ("tags: nlp", '"tags" must be an array'),
    "language in capitals": ("language: [EN]", "lowercase"),
    "model-index": ("model-index:\n- name: x\n  results:\n  - task: y", "task.type"),
    "aliases without end": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(
            f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]" for x, y in itertools.pairwise("abcdefgh")
        ),
        "too many values",
    ),
}


@pytest.mark.parametrize(("yaml", "message"), _BAD_CARDS.values(), ids=_BAD_CARDS.keys())
def test_a_bad_card_is_refused_before_and_at_the_commit(
    owner: HfApi, repo: str, yaml: str, message: str
) -> None:
    card = f"---\n{yaml}\n---\n# Model\n".encode()
    with pytest.raises(ValueError, match=message):
        _commit(owner, repo, {"README.md": card})
    with _refused(BadRequestError, 400, message):
        _send_commit(owner, repo, _file("README.md", card))
    assert "README.md" not in owner.list_repo_files(repo)
    # Elsewhere it is a file like any other.
    _send_commit(owner, repo, _file("docs/README.md", card))


@pytest.mark.parametrize(
    "yaml",
    [
        "license: mit",
        "license: [mit, apache-2.0]",
        "license: other\nlicense_name: my-license\nlicense_link: LICENSE",
        "license: openrail++\npipeline_tag: text-generation\ntags: [a, b]\nlanguage: [en, 'no']",
        "date: 2026-01-01\nscore: .nan\nlanguage: no",
        "model-index:\n- name: x\n  results:\n  - task: {type: t}\n"
        "    dataset: {type: a/b, name: n}\n    metrics:\n    - {type: f1, value: 0}",
    ],
)
def test_a_good_card_passes(owner: HfApi, repo: str, yaml: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _commit(owner, repo, {"README.md": f"---\r\n{yaml}\n---\n# Model\n".encode()})
    assert owner.model_info(repo).card_data is not None


@pytest.mark.parametrize("card", ["# Model", "---\n---\n", "---\nlicense: nonsense", ""])
def test_a_card_without_metadata_draws_a_warning(owner: HfApi, repo: str, card: str) -> None:
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        _commit(owner, repo, {"README.md": card.encode()})


# Tags and branches.


def test_a_tag_is_set_once(owner: HfApi, repo: str) -> None:
    first = _head(owner, repo)
    owner.create_tag(repo, tag="v1")
    _commit(owner, repo, {"a.txt": b"a"})
    with _refused(HfHubHTTPError, 409):
        owner.create_tag(repo, tag="v1")
    owner.create_tag(repo, tag="v1", exist_ok=True)
    assert owner.model_info(repo, revision="v1").sha == first
    with _refused(RevisionNotFoundError, 404):
        owner.create_tag(repo, tag="v2", revision="none")
    owner.delete_tag(repo, tag="v1")
    with _refused(RevisionNotFoundError, 404):
        owner.delete_tag(repo, tag="v1")
    assert owner.list_repo_refs(repo).tags == []


@pytest.mark.parametrize(
    "name", ["a b", "a..b", "a~1", "a:b", "a\\b", "-a", "a.lock", "/a", "a/", "a//b", "f" * 40]
)
def test_a_name_that_git_refuses_is_refused(owner: HfApi, repo: str, name: str) -> None:
    with _refused(BadRequestError, 400):
        owner.create_tag(repo, tag=name)
    with _refused(BadRequestError, 400):
        owner.create_branch(repo, branch=name)


def test_a_branch_with_a_slash(owner: HfApi, repo: str, tmp_path: Path) -> None:
    main = _head(owner, repo)
    owner.create_branch(repo, branch="feature/x")
    with _refused(HfHubHTTPError, 409):
        owner.create_branch(repo, branch="feature/x")
    owner.create_branch(repo, branch="feature/x", exist_ok=True)
    oid = _commit(owner, repo, {"a.txt": b"a", "a.bin": b"a"}, revision="feature/x")
    assert owner.model_info(repo).sha == main
    assert owner.model_info(repo, revision="feature/x").sha == oid
    assert owner.model_info(repo, revision="refs/heads/feature/x").sha == oid
    owner.create_tag(repo, tag="t/1", revision="feature/x")
    for revision in ("feature/x", "t/1", oid):
        found = owner.hf_hub_download(repo, "a.txt", revision=revision, cache_dir=tmp_path)
        assert Path(found).read_bytes() == b"a"
    with _refused(BadRequestError, 400, "no branch"):
        _commit(owner, repo, {"b.txt": b"b"}, revision="t/1")
    with _refused(RevisionNotFoundError, 404):
        owner.create_branch(repo, branch="b", revision="none")
    owner.create_branch(repo, branch="b", revision=main)
    owner.delete_branch(repo, branch="feature/x")
    with _refused(RevisionNotFoundError, 404):
        owner.delete_branch(repo, branch="feature/x")
    with _refused(HfHubHTTPError, 403):
        owner.delete_branch(repo, branch="main")


# The server itself.


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/api/models"), ("POST", "/api/whoami-v2"), ("GET", "/a/b/blob/main/c")],
)
def test_what_is_not_spoken_is_said_to_be_so(owner: HfApi, method: str, path: str) -> None:
    response = get_session().request(method, f"{owner.endpoint}{path}")
    assert response.status_code == 404
    assert response.json()["error"] == f"the rehearsal Hub does not speak {method} {path}"


def test_state_survives_the_end_and_the_kill_of_a_server(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    with serve(root) as first:
        api = _api(first, first.token)
        repo = _new_repo(api, private=True)
        oid = _commit(api, repo, {"a.bin": b"weights", "a.txt": b"text"})
        api.create_tag(repo, tag="v1")
        os.kill(first.pid, signal.SIGKILL)
    (root / "incoming" / "left").write_bytes(b"half")
    for users in (("rehearsal", "stranger"), ("rehearsal", "third")):
        with serve(root, users=users) as later:
            assert (later.token, later.read_token) == (first.token, first.read_token)
            assert set(users) <= set(later.accounts)
            api = _api(later, later.token)
            assert api.model_info(repo, revision="v1").sha == oid
            assert api.model_info(repo).private is True
            found = api.hf_hub_download(repo, "a.bin", cache_dir=tmp_path / "cache")
            assert Path(found).read_bytes() == b"weights"
            assert list((root / "incoming").iterdir()) == []
    assert _gone(later.pid)


def test_no_token_is_logged_or_shown(hub: RehearsalHub, owner: HfApi, repo: str) -> None:
    _commit(owner, repo, {"a.bin": os.urandom(10)})
    with _refused(HfHubHTTPError, 401):
        _api(hub, "hf_not_a_real_token").whoami()
    secret = json.loads((hub.root / "private" / "accounts.json").read_bytes())
    log = hub.log.read_text()
    assert f"POST /api/models/{repo}/commit/main 200" in log
    seen = log + repr(hub) + Path(f"/proc/{hub.pid}/cmdline").read_text()
    for account in hub.accounts.values():
        assert account.token not in seen and account.read_token not in seen
    assert "hf_not_a_real_token" not in seen
    assert secret["signing_key"] not in seen and "signature" not in seen
    assert (hub.root / "private").stat().st_mode & 0o077 == 0


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from release_kit.publishing.rehearsal import serve\n"
        "with serve(pathlib.Path(sys.argv[1])) as hub:\n"
        "    print(hub.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "hub")]
    source = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not _gone(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _gone(int(done.stdout))


def test_a_server_that_cannot_start_says_why(hub: RehearsalHub, tmp_path: Path) -> None:
    with pytest.raises(Unfinished, match="another rehearsal Hub serves"), serve(hub.root):
        pass
    port = int(hub.url.rsplit(":", 1)[1])
    with pytest.raises(Unfinished, match=f"port {port} cannot"), serve(tmp_path, port=port):
        pass
    with pytest.raises(Unfinished, match="--user a/b"), serve(tmp_path, users=["a/b"]):
        pass


def test_a_hub_comes_back_at_the_same_address(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        port = int(first.url.rsplit(":", 1)[1])
        api = _api(first, first.token)
        api.whoami()
    with serve(tmp_path, port=port) as second:
        assert second.url == first.url
        assert api.whoami()["name"] == "rehearsal"


def test_bytes_that_rot_in_the_store_are_served_as_they_are(
    hub: RehearsalHub, owner: HfApi, repo: str, tmp_path: Path
) -> None:
    """A reader of bytes must be able to find what a reader of digests cannot."""
    content = os.urandom(1000)
    _commit(owner, repo, {"a.bin": content})
    rotten = bytes([content[0] ^ 1]) + content[1:]
    (hub.root / "blobs" / hashlib.sha256(content).hexdigest()).write_bytes(rotten)
    found = hf_hub_download(repo, "a.bin", endpoint=hub.url, token=hub.token, cache_dir=tmp_path)
    assert Path(found).read_bytes() == rotten


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    # An orphan that ended may wait for a parent that collects it.
    return state == "Z"
