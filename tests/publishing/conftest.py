"""One rehearsal Hub for all tests that publish; each of them finds it without repos."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from release_kit.publishing.rehearsal import RehearsalHub, serve
from tests.publishing.releases import assert_no_token, owner


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RehearsalHub]:
    with serve(tmp_path_factory.mktemp("release-hub"), users=("acme", "reader")) as running:
        yield running


@pytest.fixture
def hub(running_hub: RehearsalHub) -> Iterator[RehearsalHub]:
    yield running_hub
    for folder in (running_hub.root / "repos").glob("*/*"):
        name = folder.parent.name
        owner(running_hub, name).delete_repo(f"{name}/{folder.name}")
    assert_no_token(running_hub, running_hub.log.read_text())
