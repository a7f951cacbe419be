"""A model that is loaded from a Hub: by commit, by digest, and never twice."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import release_kit
from release_kit.auditing.findings import Verdict
from release_kit.errors import Refused, ReleaseKitError, Unfinished, UnusableInput
from release_kit.files import sha256_file
from release_kit.project import open_project
from release_kit.publishing.rehearsal import RehearsalHub
from release_kit.stages import StageResult
from tests.projects import RELEASE_YAML
from tests.publishing.releases import bundle_bytes, flip, owner, publish, raises
from tests.tiny_models import tiny_bert

REPO = "acme/tiny-bert"
NOBODY = "http://127.0.0.1:9"
"""The port of discard, where no Hub listens."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_bert(tmp_path_factory.mktemp("there") / "base")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
    (folder / "NOTICE").write_text("Tiny BERT, copyright Acme.\n", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": 1}))
    return folder


@pytest.fixture
def commit(hub: RehearsalHub, base: Path) -> str:
    api = owner(hub)
    api.create_repo(REPO, private=True)
    info = api.upload_folder(repo_id=REPO, folder_path=str(base))
    return str(info.oid)


def project_of(folder: Path, revision: str) -> Path:
    """Write a release that passes on what the Hub has, and nothing else."""
    start, end = RELEASE_YAML.index("  datasets:"), RELEASE_YAML.index("documents:")
    text = RELEASE_YAML[:start] + "  datasets: []\n" + RELEASE_YAML[end:]
    shipped = f"      relation: weights-shipped\n      revision: {revision}\n"
    begin = text.index("      path: base")
    folder.mkdir()
    (folder / "release.yaml").write_text(
        text[:begin] + shipped + text[text.index("  datasets: []") :], encoding="utf-8"
    )
    return folder


def load(project: Path, hub: RehearsalHub) -> StageResult:
    return release_kit.load(project, endpoint=hub.url, token=hub.accounts["acme"].token)


def test_a_model_of_the_hub_is_released_as_it_was_there(
    hub: RehearsalHub, commit: str, base: Path, tmp_path: Path
) -> None:
    project = project_of(tmp_path / "project", commit)
    # Whoever moves the branch moves nothing here.
    owner(hub).upload_file(repo_id=REPO, path_in_repo="config.json", path_or_fileobj=b"{}")
    result = load(project, hub)
    place = open_project(project)
    (model,) = place.release.lineage
    assert model.path == place.fetched(model)
    fetched = bundle_bytes(place.fetched(model))
    theirs = {name: raw for name, raw in bundle_bytes(base).items() if name != "pytorch_model.bin"}
    assert {name: fetched[name] for name in theirs} == theirs
    assert fetched.keys() - theirs.keys() <= {".gitattributes"}
    assert result.receipt.parameters == {"repo": REPO, "revision": commit}
    assert result.receipt.results["weights"] == {
        "model.safetensors": sha256_file(base / "model.safetensors")
    }

    # Nothing asks the Hub again.
    assert release_kit.load(project, endpoint=NOBODY, token="").skipped
    release_kit.leaks(project)
    release_kit.build(project)
    report = release_kit.audit(project)
    assert (report.findings, report.verdict) == ((), Verdict.PASS)
    notice = place.bundle / "licenses" / "acme--tiny-bert" / "NOTICE"
    assert notice.read_bytes() == theirs["NOTICE"]
    published = publish(project, hub)
    assert published.read_back == published.files

    # What was changed after it was fetched is fetched again, and no bundle is made from it.
    flip(place.fetched(model) / "model.safetensors")
    with pytest.raises(UnusableInput, match="what the stage load read"):
        release_kit.build(project)
    with raises(hub, Unfinished, "did not answer"):
        release_kit.load(project, endpoint=NOBODY, token="")
    load(project, hub)
    assert bundle_bytes(place.fetched(model)) == fetched
    assert not list(place.fetched(model).parent.glob(".*"))


@pytest.mark.parametrize(
    ("revision", "kind", "told"),
    [
        ("main", UnusableInput, "its revision in release.yaml is no commit"),
        ("a1b2c3d", UnusableInput, "its revision in release.yaml is no commit"),
        ("0" * 40, Refused, "has no commit 0000"),
    ],
)
def test_what_is_no_commit_of_the_repo_is_refused(
    revision: str,
    kind: type[ReleaseKitError],
    told: str,
    hub: RehearsalHub,
    tmp_path: Path,
) -> None:
    owner(hub).create_repo(REPO, private=True)
    project = project_of(tmp_path / "project", f'"{revision}"')
    with raises(hub, kind, told):
        load(project, hub)
    assert not (project / "out").exists()


def test_whoever_may_not_see_it_is_told(hub: RehearsalHub, commit: str, tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", commit)
    for token in ("", hub.accounts["reader"].token):
        with raises(hub, Refused, "is not there, or this token may not see it"):
            release_kit.load(project, endpoint=hub.url, token=token)


def test_without_a_network_it_is_said(
    commit: str, hub: RehearsalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_of(tmp_path / "project", commit)
    with raises(hub, Unfinished, "did not answer"):
        release_kit.load(project, endpoint=NOBODY, token="")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with raises(hub, Unfinished, "HF_HUB_OFFLINE"):
        load(project, hub)


def test_other_bytes_than_the_hub_lists_are_not_taken(
    hub: RehearsalHub, commit: str, base: Path, tmp_path: Path
) -> None:
    blob = hub.root / "blobs" / sha256_file(base / "model.safetensors")
    project = project_of(tmp_path / "project", commit)
    flip(blob)
    try:
        with raises(hub, Unfinished, "arrived with other bytes"):
            load(project, hub)
        assert not (project / "out" / "receipts").exists()
    finally:
        flip(blob)
    # The files that were whole are not fetched again.
    hub.log.write_text("", encoding="utf-8")
    load(project, hub)
    assert "/resolve/" in hub.log.read_text()
    assert f"/{commit}/config.json" not in hub.log.read_text()
