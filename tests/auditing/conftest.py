"""One detector for all audits of this folder: the real one, loaded once rather than each time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from release_kit.auditing.checks import personal_data


@pytest.fixture(scope="session", autouse=True)
def _detector_loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personal_data, "load_detector", cache(personal_data.load_detector))
        yield
