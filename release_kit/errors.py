"""Every error that release-kit raises on purpose.

Four kinds, because a caller can do four things about them; each becomes one exit code in
`release_kit.cli`. Anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in one place of a file that a person wrote."""

    path: str
    line: int
    """1-based; 0 when the mistake has no line."""
    column: int
    """1-based; 0 when the mistake has no column."""
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = self.path + (f":{self.line}:{self.column}" if self.line else "")
        return f"{where}: {self.message}" + (f"\n    {self.hint}" if self.hint else "")


class ReleaseKitError(Exception):
    """Base of all errors below: what is wrong, and a hint at what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnusableInput(ReleaseKitError):
    """A file or option that a person gave cannot be used, so nothing was judged."""

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class Refused(ReleaseKitError):
    """Everything was read and judged, and the answer is no."""


class Unfinished(ReleaseKitError):
    """The work could not be finished (network, disk, a missing part); a new run may succeed."""
