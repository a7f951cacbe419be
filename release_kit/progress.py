"""How long work tells its caller how far it is, without printing."""

from __future__ import annotations

from typing import Protocol

BYTES = "bytes"
"""What counts bytes is called so, or begins so; it is shown in megabytes, with its rate."""


class Watcher(Protocol):
    """Receives the progress of a stage."""

    def step(self, what: str, done: int, total: int) -> None:
        """`done` of `total` units of `what` are finished; `done == total` ends that bar."""

    def say(self, line: str) -> None:
        """Tell one fact that a person should see while the work goes on."""


class Silent:
    """The watcher of a caller that does not watch."""

    def step(self, what: str, done: int, total: int) -> None:
        """Ignore the step."""

    def say(self, line: str) -> None:
        """Ignore the line."""


SILENT: Watcher = Silent()
