"""The error of a dataset file that cannot be used: where and what, and never what stands there."""

from __future__ import annotations

from release_kit.errors import Problem, UnusableInput


def unusable(
    name: str, message: str, line: int = 0, column: int = 1, *, hint: str = ""
) -> UnusableInput:
    """Return the error of one mistake in the file that messages call `name`.

    Args:
        name: the file, as messages call it.
        message: what is wrong; quotes nothing of the file.
        line: 1-based; 0 when it concerns the whole file.
        column: 1-based.
        hint: what to do next.
    """
    problem = Problem(name, line, column if line else 0, message, hint)
    return UnusableInput(f"{name} cannot be used: 1 mistake", problems=[problem])
