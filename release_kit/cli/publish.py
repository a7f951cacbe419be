"""The commands that speak to a Hub: publish and verify."""

from __future__ import annotations

from pathlib import Path

import click

from release_kit.cli.console import say, watching
from release_kit.cli.exit_codes import PASSED, REFUSED
from release_kit.cli.stages import project_argument

_endpoint = click.option(
    "--endpoint",
    metavar="URL",
    help="The Hub to speak to; else HF_ENDPOINT, else https://huggingface.co.",
)


@click.command()
@project_argument
@_endpoint
def publish(project: Path, endpoint: str | None) -> None:
    """Publish the audited bundle of PROJECT to the Hub.

    Private repo, one commit, every byte read back, tag, and only then visible. Running it again
    goes on where it stopped; after a finished release it does nothing. The token is HF_TOKEN or
    the one of `hf auth login`.
    """
    from release_kit import pipeline

    with watching() as watcher:
        publication = pipeline.publish(project, endpoint=endpoint, watcher=watcher)
    if publication.read_back:
        say(f"published {publication.files} files, {publication.read_back} read back and equal")
    else:
        say("this release stands on the Hub already; nothing was sent")
    say(f"{publication.repo_id}@{publication.tag} is {publication.visibility}")
    say(f"commit   {publication.commit}")
    say(f"manifest sha256:{publication.manifest_digest}")


@click.command()
@click.argument("target", default=".")
@_endpoint
@click.pass_context
def verify(context: click.Context, target: str, endpoint: str | None) -> None:
    """Check that a published repo still holds what was audited.

    TARGET is a project folder that was published from here, or OWNER/NAME[@REVISION]. Every file
    is downloaded and compared. Exit code 1 when a byte differs.
    """
    from release_kit import pipeline

    with watching() as watcher:
        verification = pipeline.verify(target, endpoint=endpoint, watcher=watcher)
    difference = verification.difference
    for kind, paths in (
        ("changed", difference.changed),
        ("missing", difference.missing),
        ("extra", difference.extra),
    ):
        for path in paths:
            say(f"{kind}: {path}")
    if verification.expected_digest not in ("", verification.manifest_digest):
        say(f"the manifest is not the audited one, sha256:{verification.expected_digest}")
    verdict = "holds" if verification.holds else "DOES NOT HOLD"
    say(f"{verification.repo_id} at {verification.commit}: {verdict}")
    say(f"{verification.files} files compared, manifest sha256:{verification.manifest_digest}")
    if not verification.expected_digest:
        say("No audited digest is known here: it was compared with its own manifest only.")
    context.exit(PASSED if verification.holds else REFUSED)
