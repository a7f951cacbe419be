"""One thread, so that small models do not wait for busy cores."""

from __future__ import annotations

from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]
