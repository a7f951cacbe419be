"""The command that judges: audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from release_kit.cli.console import say, watching
from release_kit.cli.exit_codes import PASSED, REFUSED, UNFINISHED
from release_kit.formats import FORMATS

if TYPE_CHECKING:
    from release_kit.auditing.findings import Report


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), default=".")
@click.option(
    "--release",
    "release_file",
    type=click.Path(path_type=Path, exists=True),
    help="The release.yaml for a PATH that is a bundle rather than a project.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(tuple(FORMATS)),
    default="text",
    show_default=True,
    help="How the report is written.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report to this file instead of the terminal.",
)
@click.pass_context
def audit(
    context: click.Context,
    path: Path,
    release_file: Path | None,
    output_format: str,
    output: Path | None,
) -> None:
    """Judge PATH, a project or any model folder, before it is published.

    Exit codes: 0 pass; 1 findings block it or ask for a review; 2 it could not be read, so
    nothing was judged; 3 a check could not be finished.
    """
    from release_kit import pipeline
    from release_kit.files import write_atomic

    with watching() as watcher:
        report = pipeline.audit(path, release_file=release_file, watcher=watcher)
    text = FORMATS[output_format](report)
    if output:
        write_atomic(output, text.encode())
    else:
        say(text.rstrip("\n"))
    context.exit(exit_code(report))


def exit_code(report: Report) -> int:
    """Return the exit code that stands for a report's verdict."""
    from release_kit.auditing.findings import Verdict

    if report.unfinished:
        return UNFINISHED
    return PASSED if report.verdict is Verdict.PASS else REFUSED
