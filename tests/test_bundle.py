"""A bundle binds bytes: what is walked, what is refused, and how a manifest tells a change."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from release_kit.bundle import (
    LARGEST_REGULAR_FILE,
    MANIFEST,
    BundleFile,
    Difference,
    Manifest,
    compare,
    gitattributes,
    parse_manifest,
    read_bundle,
    write_manifest,
)
from release_kit.errors import UnusableInput
from release_kit.files import json_bytes, sha256_bytes

_FILES = {"b.txt": b"two\n", "a/x.bin": bytes(range(256)), "a/b/c": b"", "é 🎉.md": b"one\n"}


def _write(root: Path, files: dict[str, bytes] = _FILES) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def _seal(root: Path) -> Manifest:
    return write_manifest(root, repo_id="acme/x", version="1.0.0")


def _bind(path: Path) -> None:
    # The path of a socket is short, so it is bound from inside its folder.
    before = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


def test_empty_folder_is_an_empty_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    bundle = read_bundle(tmp_path)
    assert bundle.files == {}
    assert bundle.irregular == {}
    assert bundle.bytes("none") == b""
    assert bundle.text("none") == ""


def test_every_file_is_listed_sorted_with_size_and_digest(tmp_path: Path) -> None:
    bundle = read_bundle(_write(tmp_path))
    assert list(bundle.files) == sorted(_FILES)
    assert bundle.irregular == {}
    for path, data in _FILES.items():
        assert bundle.files[path] == BundleFile(path, len(data), sha256_bytes(data))
        assert bundle.bytes(path) == data


def test_text_drops_a_bom_and_refuses_what_is_not_utf8(tmp_path: Path) -> None:
    bundle = read_bundle(_write(tmp_path, {"bom": b"\xef\xbb\xbfx", "latin": b"caf\xe9"}))
    assert bundle.text("bom") == "x"
    with pytest.raises(UnicodeDecodeError):
        bundle.text("latin")


@contextmanager
def _chain(root: Path, name: str, depth: int) -> Iterator[None]:
    """Put a file under `depth` folders, made and removed one by one: no call takes such a path."""
    before = Path.cwd()
    os.chdir(root)
    for _ in range(depth):
        Path(name).mkdir()
        os.chdir(name)
    Path("f").write_bytes(b"x")
    os.chdir(before)
    try:
        yield
    finally:
        os.chdir(root)
        for _ in range(depth):
            os.chdir(name)
        Path("f").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path(name).rmdir()
        os.chdir(before)


def test_a_folder_deeper_than_python_recurses_is_walked(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit()
    with _chain(tmp_path, "d", depth):
        assert list(read_bundle(tmp_path).files) == ["d/" * depth + "f"]


def test_a_path_longer_than_the_system_takes_is_irregular(tmp_path: Path) -> None:
    with _chain(tmp_path, "d" * 200, 25):
        (kind,) = read_bundle(tmp_path).irregular.values()
        assert "cannot be read (File name too long)" in kind
        with pytest.raises(UnusableInput, match="regular files only"):
            _seal(tmp_path)


_IRREGULAR: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a file": (lambda p: p.symlink_to("b.txt"), "a symbolic link"),
    "link to a folder": (lambda p: p.symlink_to("a"), "a symbolic link"),
    "link to itself": (lambda p: p.symlink_to(p), "a symbolic link"),
    "dangling link": (lambda p: p.symlink_to("nowhere"), "a symbolic link"),
    "pipe": (os.mkfifo, "a device, pipe or socket"),
    "socket": (_bind, "a device, pipe or socket"),
}


@pytest.mark.parametrize("name", _IRREGULAR)
@pytest.mark.parametrize("place", ["odd", "a/odd"])
def test_what_is_no_regular_file_is_told_and_never_sealed(
    tmp_path: Path, name: str, place: str
) -> None:
    make, kind = _IRREGULAR[name]
    make(_write(tmp_path) / place)
    bundle = read_bundle(tmp_path)
    assert bundle.irregular == {place: kind}
    assert list(bundle.files) == sorted(_FILES)
    with pytest.raises(UnusableInput, match=f"{place} is {kind}; a bundle holds regular files"):
        _seal(tmp_path)
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize(
    ("name", "shown", "kind"),
    [
        (b"caf\xe9", "caf\\udce9", "a name that is not UTF-8"),
        (b"a\\b", "a\\b", "a name with a backslash or a control character"),
        (b"a\nb\x1b[2J", "a\\nb\\x1b[2J", "a name with a backslash or a control character"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_name_that_not_everyone_can_write_is_irregular(
    tmp_path: Path, name: bytes, shown: str, kind: str, folder: bool
) -> None:
    path = os.fsencode(_write(tmp_path)) + b"/" + name
    if folder:
        os.mkdir(path)  # noqa: PTH102 - a name that pathlib cannot hold
    else:
        os.close(os.open(path, os.O_CREAT))
    assert read_bundle(tmp_path).irregular == {shown: kind}
    with pytest.raises(UnusableInput, match="regular files only"):
        _seal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("path", ["b.txt", "a"])
def test_what_cannot_be_read_is_irregular(tmp_path: Path, path: str) -> None:
    locked = _write(tmp_path) / path
    locked.chmod(0)
    try:
        assert "cannot be read" in read_bundle(tmp_path).irregular[path]
    finally:
        locked.chmod(0o755)


def test_file_that_fails_while_it_is_read_is_irregular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    _write(tmp_path, {"f": b"x"})
    monkeypatch.setattr("release_kit.bundle.sha256_file", fail)
    bundle = read_bundle(tmp_path)
    assert bundle.irregular == {"f": "a file that cannot be read (Input/output error)"}
    assert bundle.files == {}


@pytest.mark.parametrize("kind", ["link", "file", "absent"])
def test_root_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "link":
        root.symlink_to(_write(tmp_path / "real"))
    if kind == "file":
        root.write_bytes(b"")
    with pytest.raises(UnusableInput, match="is not a folder"):
        read_bundle(root)


def test_manifest_depends_on_nothing_but_the_files(tmp_path: Path) -> None:
    made = []
    for number in range(3):
        paths = sorted(_FILES)
        random.Random(number).shuffle(paths)
        root = _write(tmp_path / str(number) / "below", {path: _FILES[path] for path in paths})
        for path in paths:
            os.utime(root / path, (number, number))
            (root / path).chmod(0o600 + number)
        first = _seal(root)
        assert _seal(root) == first
        made.append((root / MANIFEST).read_bytes())
        assert first.digest == sha256_bytes(made[-1])
    assert len(set(made)) == 1
    assert str(tmp_path).encode() not in made[0]
    assert compare(_seal(root), read_bundle(root).files) == Difference((), (), ())


def test_manifest_holds_release_and_files(tmp_path: Path) -> None:
    manifest = _seal(_write(tmp_path))
    assert (manifest.repo_id, manifest.version) == ("acme/x", "1.0.0")
    assert manifest.files == {p: f for p, f in read_bundle(tmp_path).files.items() if p != MANIFEST}


@pytest.mark.parametrize("path", ["b.txt", "a/x.bin", "é 🎉.md"])
def test_every_kind_of_change_is_told_apart(tmp_path: Path, path: str) -> None:
    manifest = _seal(_write(tmp_path))
    data = bytearray(_FILES[path])
    data[-1] ^= 1
    (tmp_path / path).write_bytes(bytes(data))
    assert compare(manifest, read_bundle(tmp_path).files) == Difference((), (), (path,))
    (tmp_path / path).rename(tmp_path / "moved")
    difference = compare(manifest, read_bundle(tmp_path).files)
    assert difference == Difference((path,), ("moved",), ())
    assert difference


def test_same_digest_with_another_size_is_a_change() -> None:
    digest = sha256_bytes(b"")
    manifest = Manifest("acme/x", "1.0.0", {"f": BundleFile("f", 0, digest)}, "")
    assert compare(manifest, {"f": BundleFile("f", 1, digest)}).changed == ("f",)
    assert not compare(manifest, {"f": BundleFile("f", 0, digest)})


def _data() -> dict[str, Any]:
    return {
        "manifest": 1,
        "release": {"repo_id": "acme/x", "version": "1.0.0"},
        "files": {"a/b.txt": {"size": 3, "sha256": "0f" * 32}},
    }


def test_the_data_that_the_next_tests_break_is_a_manifest() -> None:
    assert parse_manifest(json_bytes(_data()), "m").files["a/b.txt"].size == 3


@pytest.mark.parametrize(
    ("keys", "value"),
    [(("manifest",), value) for value in (0, 2, "1", None, [1])]
    + [(("release",), value) for value in (None, [], "acme/x", {}, {"repo_id": "acme/x"})]
    + [(("release", "repo_id"), value) for value in (None, 1, ["acme/x"])]
    + [(("release", "version"), value) for value in (None, 1.0)]
    + [(("files",), value) for value in (None, [], "a", 1, {"a": None}, {"a": []}, {"a": {}})]
    + [(("files", "a/b.txt", "size"), value) for value in (-1, 1.5, "3", None, True, [3])]
    + [
        (("files", "a/b.txt", "sha256"), value)
        for value in ("0F" * 32, "0f" * 31, "0f" * 33, "0f" * 32 + "\n", "zz" * 32, "", None, 1)
    ]
    + [
        (("files", path), {"size": 1, "sha256": "0f" * 32})
        for path in (
            *("../x", "a/../x", "/etc/passwd", "a\\b", "", ".", "a/", "a//b", "./a", "a/."),
            *("..", "a\nb", "a\0b", MANIFEST, "\ud800"),
        )
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_manifest_with_a_part_that_is_wrong_is_refused(keys: tuple[str, ...], value: Any) -> None:
    data = _data()
    place: Any = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(UnusableInput):
        parse_manifest(json.dumps(data).encode(), "m")


@pytest.mark.parametrize("keys", [("manifest",), ("release",), ("files",), ("release", "version")])
def test_manifest_without_a_part_is_refused(keys: tuple[str, ...]) -> None:
    data = _data()
    place: Any = data
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    with pytest.raises(UnusableInput) as caught:
        parse_manifest(json_bytes(data), "m")
    assert caught.value.hint == "Run `release-kit build` again."


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"1", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"manifest": 1}'),
        *(json_bytes(_data()) + b"x", json_bytes(_data())[:-3]),
        json_bytes(_data()).replace(b'"size": 3', b'"size": 3, "size": 4'),
        json_bytes(_data()).replace(b'"size": 3', b'"size": ' + b"9" * 5000),
    ],
    ids=lambda raw: ascii(raw)[:30],
)
def test_bytes_that_are_no_manifest_are_refused(raw: bytes) -> None:
    with pytest.raises(UnusableInput, match="m is not a manifest"):
        parse_manifest(raw, "m")


def test_random_damage_to_a_manifest_is_refused_or_shows(tmp_path: Path) -> None:
    manifest = _seal(_write(tmp_path))
    whole = (tmp_path / MANIFEST).read_bytes()
    refused = 0
    draw = random.Random(7)
    for _ in range(400):
        raw = bytearray(whole)
        raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            read = parse_manifest(bytes(raw), "m")
        except UnusableInput:
            refused += 1
            continue
        same = (read.repo_id, read.version, read.files) == (
            manifest.repo_id,
            manifest.version,
            manifest.files,
        )
        # Only other blanks say the same.
        assert same == (json.loads(raw) == json.loads(whole))
        assert (read.digest == manifest.digest) == (bytes(raw) == whole)
    assert refused > 100


def test_large_files_are_named_for_lfs_as_git_reads_it(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "my words.json", "model.safetensors", "small.json"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(1 if name == "small.json" else LARGEST_REGULAR_FILE + 1)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitattributes").write_bytes(gitattributes(tmp_path))
    names = ["tokenizer.json", "my words.json", "model.safetensors", "small.json"]
    said = subprocess.run(
        ["git", "check-attr", "filter", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == [
        "tokenizer.json: filter: lfs",
        "my words.json: filter: lfs",
        "model.safetensors: filter: lfs",
        "small.json: filter: unspecified",
    ]
    assert gitattributes(tmp_path).count(b"safetensors") == 1
