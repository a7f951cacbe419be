"""Verifying what stands on a rehearsal Hub, in process and through the command line."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

import release_kit
from release_kit.bundle import MANIFEST, Difference
from release_kit.errors import Unfinished, UnusableInput
from release_kit.publishing.rehearsal import RehearsalHub
from release_kit.publishing.verification import Verification
from tests.projects import edit
from tests.publishing.relay import CUT, Answer, relay
from tests.publishing.releases import (
    PLANTED_TOKEN,
    REPO,
    TAG,
    blob,
    bundle_bytes,
    change,
    flip,
    owner,
    publish,
    raises,
    run_command,
)

_AT_TAG = f"{REPO}@{TAG}"


@pytest.fixture
def published(hub: RehearsalHub, project: Path) -> Path:
    publish(project, hub)
    return project


def _verify(hub: RehearsalHub, target: str | Path, token: str = "") -> Verification:
    return release_kit.verify(target, endpoint=hub.url, token=token)


def _retag(hub: RehearsalHub, *operations: CommitOperationAdd | CommitOperationDelete) -> None:
    """Commit something to main and move the tag there."""
    owner(hub).create_commit(REPO, operations, commit_message="by hand")
    owner(hub).delete_tag(REPO, tag=TAG)
    owner(hub).create_tag(REPO, tag=TAG)


def test_a_release_holds_for_everyone(hub: RehearsalHub, published: Path) -> None:
    journal = json.loads((published / "out" / "publication.json").read_bytes())
    ours = _verify(hub, published)
    assert ours.holds
    assert ours.expected_digest == ours.manifest_digest == journal["manifest_digest"]
    assert ours.files == len(bundle_bytes(published / "out" / "bundle"))
    for target in (_AT_TAG, REPO, f"{REPO}@{journal['commit']}", f"{REPO}@main"):
        theirs = _verify(hub, target)
        assert theirs.holds
        assert (theirs.commit, theirs.manifest_digest) == (ours.commit, ours.manifest_digest)
        assert theirs.expected_digest == ""


@pytest.mark.parametrize("path", ["model.safetensors", "licenses/acme--tiny-bert/NOTICE"])
def test_a_bit_that_flips_on_the_hub_is_found_and_named(
    hub: RehearsalHub, published: Path, path: str
) -> None:
    flip(blob(hub, published, path))
    for target in (published, _AT_TAG):
        verification = _verify(hub, target)
        assert not verification.holds
        assert verification.difference == Difference(missing=(), extra=(), changed=(path,))


def test_files_more_and_less_are_found_and_named(hub: RehearsalHub, published: Path) -> None:
    _retag(hub, CommitOperationAdd("more.bin", b"more"), CommitOperationDelete("NOTICE"))
    for target in (published, _AT_TAG):
        verification = _verify(hub, target)
        assert not verification.holds
        assert verification.difference == Difference(("NOTICE",), ("more.bin",), ())


def test_what_moved_on_main_leaves_the_tag_as_it_was(hub: RehearsalHub, published: Path) -> None:
    operations = [CommitOperationAdd("more.bin", b"more")]
    owner(hub).create_commit(REPO, operations, commit_message="by hand")
    assert _verify(hub, published).holds
    assert _verify(hub, REPO).difference.extra == ("more.bin",)


def test_a_repo_that_agrees_with_itself_is_not_what_was_audited(
    hub: RehearsalHub, published: Path
) -> None:
    """Whoever changes a file and the manifest alike deceives all but those who know the digest."""
    manifest = json.loads((published / "out" / "bundle" / MANIFEST).read_bytes())
    del manifest["files"]["NOTICE"]
    forged = CommitOperationAdd(MANIFEST, json.dumps(manifest).encode())
    _retag(hub, forged, CommitOperationDelete("NOTICE"))
    assert _verify(hub, _AT_TAG).holds
    ours = _verify(hub, published)
    assert not ours.holds
    assert not ours.difference
    assert ours.manifest_digest != ours.expected_digest


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"manifest": 2}', b"\xff", b"[" * 99_999])
def test_a_manifest_that_is_none_gives_no_verdict(
    hub: RehearsalHub, published: Path, content: bytes
) -> None:
    _retag(hub, CommitOperationAdd(MANIFEST, content))
    for target in (published, _AT_TAG):
        with raises(hub, UnusableInput, "manifest"):
            _verify(hub, target)


def test_what_was_not_published_from_here_gives_no_verdict(
    hub: RehearsalHub, project: Path
) -> None:
    with raises(hub, UnusableInput, "has not been published from here"):
        _verify(hub, project)
    publish(project, hub)
    change(project, 'version: "1.0.0"', 'version: "1.1.0"')
    with raises(hub, UnusableInput, "topics@v1.1.0 has not been published from here"):
        _verify(hub, project)
    edit(project / "release.yaml", 'version: "1.1.0"', 'version: "1.0.0"')
    assert _verify(hub, project).holds
    (project / "out" / "publication.json").write_text("{}")
    with raises(hub, UnusableInput, "is not what publish left"):
        _verify(hub, project)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("acme/nothing", "acme/nothing does not exist"),
        (f"{REPO}@v9.9.9", "no branch, tag or commit v9.9.9"),
        (f"{REPO}@{'0' * 40}", "no branch, tag or commit 0000"),
        ("acme/a/b", "could not look at"),
        ("a b/c", "could not look at"),
    ],
)
def test_a_target_that_is_not_there_gives_no_verdict(
    hub: RehearsalHub, published: Path, target: str, message: str
) -> None:
    with raises(hub, UnusableInput, message):
        _verify(hub, target)


def test_a_repo_without_a_manifest_gives_no_verdict(hub: RehearsalHub) -> None:
    owner(hub).create_repo(REPO)
    with raises(hub, UnusableInput, "has no manifest.json"):
        _verify(hub, REPO)


def test_what_the_hub_does_not_show_gives_no_verdict(hub: RehearsalHub, published: Path) -> None:
    reading = hub.accounts["reader"].token
    owner(hub).update_repo_settings(REPO, gated="manual")
    for token in ("", reading):
        with raises(hub, UnusableInput, "could not read manifest.json .* answered 403"):
            _verify(hub, published, token)
    owner(hub).update_repo_settings(REPO, private=True)
    with raises(hub, UnusableInput, "hidden from this token"):
        _verify(hub, published, reading)
    with raises(hub, UnusableInput, "answered 401"):
        _verify(hub, published, PLANTED_TOKEN)
    assert _verify(hub, published, hub.accounts["acme"].read_token).holds


@pytest.mark.parametrize(
    ("request_", "effect"),
    [
        ("GET .*/resolve/.*/model.safetensors", CUT),
        ("GET .*/resolve/.*/model.safetensors", Answer(503)),
        ("GET .*/revision/.*", Answer(503)),
        ("GET /api/.*", Answer(200, {}, b"<html>Welcome to our network</html>")),
    ],
)
def test_bad_weather_gives_no_verdict(
    hub: RehearsalHub, published: Path, request_: str, effect: str | Answer
) -> None:
    with (
        relay(hub.url, request_, effect) as weather,
        raises(hub, Unfinished, "could not"),
    ):
        release_kit.verify(published, endpoint=weather.url, token="")
    assert weather.reached.is_set()


@pytest.mark.slow
def test_the_command_line_tells_every_outcome_by_its_exit_code(
    hub: RehearsalHub, project: Path, tmp_path: Path
) -> None:
    token = hub.accounts["acme"].token

    def run(*arguments: str | Path, token: str = token) -> tuple[int, str, str]:
        done = run_command(hub, tmp_path, *arguments, "--endpoint", hub.url, token=token)
        return done.returncode, done.stdout, done.stderr

    report = (project / "out" / "audit.json").read_bytes()
    (project / "out" / "audit.json").unlink()
    code, out, err = run("publish", project)
    assert (code, out) == (1, "") and "has not been audited" in err
    (project / "out" / "audit.json").write_bytes(report)

    code, out, err = run("publish", tmp_path / "nowhere")
    assert (code, out) == (2, "") and "nowhere" in err
    code, out, err = run("publish", project, token=PLANTED_TOKEN)
    assert (code, out) == (1, "") and "HF_TOKEN" in err
    code, out, err = run("verify", project)
    assert (code, out) == (2, "") and "has not been published from here" in err

    code, out, _ = run("publish", project)
    assert code == 0 and f"{_AT_TAG} is public" in out
    code, out, _ = run("publish", project)
    assert code == 0 and "nothing was sent" in out

    code, out, _ = run("verify", project, token="")
    assert code == 0 and ": holds" in out and "No audited digest" not in out
    code, out, _ = run("verify", _AT_TAG, token="")
    assert code == 0 and ": holds" in out and "No audited digest is known here" in out
    code, out, err = run("verify", f"{REPO}@v2.0.0", token="")
    assert (code, out) == (2, "") and "v2.0.0" in err

    flip(blob(hub, project, "model.safetensors"))
    code, out, _ = run("verify", project, token="")
    assert code == 1 and "changed: model.safetensors" in out and "DOES NOT HOLD" in out

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = run_command(hub, tmp_path, "verify", project, "--endpoint", nobody)
    assert (done.returncode, done.stdout) == (3, "") and "did not answer" in done.stderr
