"""Governance and licensing for model releases.

Every command of the CLI is a function here: `init, scan, redact, train, evaluate, load, leaks,
build, audit, publish, verify, run, demo`; also `redact_data` for data outside a project, and
`compare_leaks`. They are loaded on
first use, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from release_kit.demonstration import demo
    from release_kit.pipeline import (
        audit,
        build,
        compare_leaks,
        evaluate,
        init,
        leaks,
        load,
        publish,
        redact,
        redact_data,
        run,
        scan,
        train,
        verify,
    )

__all__ = [
    "audit",
    "build",
    "compare_leaks",
    "demo",
    "evaluate",
    "init",
    "leaks",
    "load",
    "publish",
    "redact",
    "redact_data",
    "run",
    "scan",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'release_kit' has no attribute '{name}'")
    home = "release_kit.demonstration" if name == "demo" else "release_kit.pipeline"
    return getattr(import_module(home), name)
