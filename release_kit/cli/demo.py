"""The command that shows everything: demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from release_kit.cli.console import say, watching
from release_kit.cli.exit_codes import PASSED, REFUSED
from release_kit.formats import FORMATS

if TYPE_CHECKING:
    from release_kit.demonstration import Demonstration

_ROWS = 2000


@click.command()
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), default="release-kit-demo"
)
@click.option(
    "--rows",
    type=click.IntRange(min=200),
    default=_ROWS,
    show_default=True,
    help="How many license notices to use.",
)
@click.pass_context
def demo(context: click.Context, folder: Path, rows: int) -> None:
    """Make a real release in FOLDER, publish it to a rehearsal Hub, then show a refused one.

    Needs `pip install 'release-kit[demo]'`; nothing leaves this machine. Run again, it skips what
    has not changed.
    """
    import release_kit
    from release_kit.cli.stages import show

    with watching() as watcher:
        done = release_kit.demo(folder, rows=rows, watcher=watcher)
    for stage in done.stages:
        show(stage)
    _summarize(done)
    context.exit(PASSED if done.verification.holds else REFUSED)


def _summarize(done: Demonstration) -> None:
    from release_kit.release import RELEASE_FILE

    out = done.project / "out"
    say()
    say("── A release that passes ".ljust(78, "─"))
    say(FORMATS["text"](done.report))
    sent = (
        f"{done.publication.files} files in one commit, all read back and equal"
        if done.publication.read_back
        else "it stood there already, so nothing was sent"
    )
    say(f"Published   {done.publication.repo_id}@{done.publication.tag}: {sent}")
    say(f"Verified    {done.verification.files} files on the Hub are the audited bytes")
    say(f"Asked       “{done.question}”")
    answer, score = done.answer["label"], done.answer["score"]
    say(f"Answered    {answer} ({score:.2f}), by the model loaded from the Hub")
    say()
    say("── The same project, one line changed: refused ".ljust(78, "─"))
    changed = (done.refused_project / RELEASE_FILE).read_text(encoding="utf-8").splitlines()
    say(f"release.yaml line {done.refused_line}:{changed[done.refused_line - 1].rstrip()[:110]} …")
    say()
    say(FORMATS["text"](done.refused_report))
    say("── What was made ".ljust(78, "─"))
    for what, path in (
        ("the data, redacted", out / "redacted"),
        ("the trained model", out / "model"),
        ("the bundle, as published", out / "bundle"),
        ("its model card", out / "bundle" / "README.md"),
        ("the audit report", out / "audit.json"),
        ("receipts of every stage", out / "receipts"),
        ("the refused project", done.refused_project),
    ):
        say(f"{what:<26}{path}")
    say()
    say("Personal data was removed, a model was trained and measured, its licenses were checked,")
    say("documents were written, and exactly the audited bytes were published and read back.")
    say("Now change a line of release.yaml there and run `release-kit run` again.")
