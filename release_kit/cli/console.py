"""How progress and tables look in a terminal: progress on stderr, results on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from release_kit import processes
from release_kit.progress import BYTES, in_bytes

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID


class TerminalWatcher:
    """Shows each kind of step as one progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bar of `what`; a finished bar makes room for the next of its name."""
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=max(total, 1))
        self._progress.update(self._bars[what], completed=done, total=max(total, 1))
        if done >= total:
            del self._bars[what]

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _amount(task: Task) -> str:
    """Return how far a bar is: what counts bytes has a rate, too."""
    if not task.description.startswith(BYTES):
        return f"{task.completed:,.0f}/{task.total or 0:,.0f}"
    rate = f", {in_bytes(task.speed)}/s" if task.speed else ""
    return f"{in_bytes(task.completed)} of {in_bytes(task.total or 0)}{rate}"


@contextmanager
def watching() -> Iterator[TerminalWatcher]:
    """Yield a watcher whose bars stand on stderr until the block ends."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class AmountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_amount(task))

    with Progress(
        TextColumn("{task.description:>16}"),
        BarColumn(),
        AmountColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        # Of several processes, one speaks.
        console=Console(stderr=True, quiet=not processes.is_main()),
    ) as progress:
        yield TerminalWatcher(progress)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column is text, the others numbers."""
    if not processes.is_main():
        return
    from rich.console import Console
    from rich.table import Table

    click.echo(title)
    drawn = Table()
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number else "left")
    for row in rows:
        drawn.add_row(*row)
    Console(highlight=False, markup=False).print(drawn)


def say(line: str = "") -> None:
    """Print a line on stdout."""
    if processes.is_main():
        click.echo(line)
