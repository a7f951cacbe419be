"""The rehearsal Hub's rules as functions, with git itself as the judge of git's patterns."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from release_kit.cards import hub_licenses
from release_kit.publishing.rehearsal.rules import (
    GITATTRIBUTES,
    ignored_by_git,
    name_problem,
    path_problem,
    read_card,
    ref_problem,
    tracked_by_lfs,
)

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

_PATHS = (
    *("a.log", "b/a.log", "b/c/a.log", "a", "a/b", "a/b/c", "build/x", "x/build/y", "foo/bar/baz"),
    *("doc/a.txt", "doc/x/a.txt", "model.safetensors", "d/model.bin", "saved_model/a/b/c"),
    *("saved_model/a", "x.tar.gz", "tfevents.1", "x/tfevents", "a b.txt", "[a].txt", "#a", "!a"),
    *("a1.txt", "ab.txt", "keep/x.log", "keep/y.log", "deep/er/keep.me", "x.lfs.y", "a*"),
)

_IGNORES = (
    "*.log",
    "/a.log",
    "a",
    "a/",
    "/a/",
    "a/b",
    "a/*",
    "a/**",
    "**/build",
    "build/",
    "**/build/**",
    "foo/**/baz",
    "**",
    "*",
    "*\n!*.txt",
    "*.log\n!keep/*.log",
    "keep/\n!keep/x.log",
    "keep/*\n!keep/x.log",
    "doc/*.txt",
    "doc/**/*.txt",
    "a?.txt",
    "a[0-9].txt",
    "a[!0-9].txt",
    "a[^0-9].txt",
    r"\[a\].txt",
    r"\#a",
    r"\!a",
    "#a",
    "a b.txt   ",
    r"a\*",
    "[",
    "[]a].txt",
    "  ",
    "deep\n!deep/er/keep.me",
)

_ATTRIBUTES = (
    GITATTRIBUTES,
    "*.bin filter=lfs",
    "*.bin filter=lfs\nd/*.bin -filter",
    "*.bin filter=lfs\n*.bin !filter",
    "*.bin filter=other",
    "* filter=lfs\n*.txt filter=other",
    "/a.log filter=lfs",
    "saved_model/** filter=lfs",
    "a[[:space:]]b.txt filter=lfs",
    "# *.bin filter=lfs",
    "d/ filter=lfs",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@needs_git
@pytest.mark.parametrize("text", _IGNORES)
def test_gitignore_means_what_git_means(checkout: Path, text: str) -> None:
    (checkout / ".gitignore").write_text(text)
    command = ["git", "-C", str(checkout), "check-ignore", "-z", "--no-index", "--stdin"]
    names = "\0".join(_PATHS).encode()
    found = subprocess.run(command, input=names, stdout=subprocess.PIPE, check=False).stdout
    ignored = {name for name in found.decode().split("\0") if name}
    assert {path for path in _PATHS if ignored_by_git(path, text)} == ignored


@needs_git
@pytest.mark.parametrize("text", _ATTRIBUTES)
def test_gitattributes_mean_what_git_means(checkout: Path, text: str) -> None:
    (checkout / ".gitattributes").write_text(text)
    command = ["git", "-C", str(checkout), "check-attr", "-z", "--stdin", "filter"]
    names = "\0".join(_PATHS).encode()
    found = subprocess.run(command, input=names, stdout=subprocess.PIPE, check=True).stdout
    words = found.decode().split("\0")
    tracked = {path for path, value in zip(words[::3], words[2::3], strict=False) if value == "lfs"}
    assert {path for path in _PATHS if tracked_by_lfs(path, text)} == tracked


def test_the_shipped_licenses_are_those_of_the_hub() -> None:
    known = hub_licenses()
    assert len(known) == 83
    assert {"apache-2.0", "mit", "openrail++", "llama3.3", "other", "unknown"} <= set(known)
    assert known["eupl-1.2"] == "European Union Public License 1.2"


def test_names_refs_and_paths() -> None:
    assert not any(map(name_problem, ["a", "A_1", "a-b.c", "x" * 96, "3"]))
    assert all(map(name_problem, ["", "-a", "a-", "a.", "a--b", "a..b", "a b", "a.git", "x" * 97]))
    assert not any(map(ref_problem, ["v1.0.0", "feature/x", "1"]))
    assert all(map(ref_problem, ["", "a b", "refs/heads/x", "HEAD", "@", "a@{1}", ".a", "a/.b"]))
    assert not any(map(path_problem, ["a", "a/b.c", ".gitignore", "..a", "a b", "gitx/.gi"]))
    assert all(map(path_problem, ["", "/a", "a//b", "a/", ".", "a/..", "a\\b", "a\0", "x/.Git/y"]))


def test_the_line_of_a_mistake_in_a_card_is_that_of_the_file() -> None:
    (error,) = read_card("---\nlicense: mit\ntags: [a\n---\n").errors
    assert "line 4" in error or "line 3" in error
