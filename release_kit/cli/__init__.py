"""The command line: the only code that prints, prompts or exits."""

from __future__ import annotations

import os
import sys
import traceback

import click

from release_kit.cli.audit import audit
from release_kit.cli.demo import demo
from release_kit.cli.exit_codes import INTERRUPTED, PASSED, REFUSED, UNFINISHED, UNUSABLE
from release_kit.cli.license import license
from release_kit.cli.policy import policy
from release_kit.cli.privacy import redact, scan
from release_kit.cli.publish import publish, verify
from release_kit.cli.stages import build, evaluate, init, leaks, load, run, train
from release_kit.errors import Refused, ReleaseKitError, UnusableInput
from release_kit.privacy.detection.light_imports import keep_frameworks_out


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="release-kit", prog_name="release-kit")
def cli() -> None:
    """Take a model from raw data to a release that can be trusted.

    A project is a folder with a release.yaml. The usual way: `init`, fill in release.yaml,
    `run`, `publish`. `demo` shows all of it on real data in a few minutes.
    """


for _command in (
    init,
    redact,
    train,
    evaluate,
    load,
    leaks,
    build,
    run,
    audit,
    scan,
    license,
    publish,
    verify,
    demo,
    policy,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit with its code."""
    keep_frameworks_out()
    sys.exit(_run())


def _run() -> int:
    try:
        return cli.main(standalone_mode=False) or PASSED
    except click.ClickException as error:
        error.show()
        return UNUSABLE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to go on", err=True)
        return INTERRUPTED
    except ReleaseKitError as error:
        _tell(error)
        if isinstance(error, Refused):
            return REFUSED
        return UNUSABLE if isinstance(error, UnusableInput) else UNFINISHED
    except Exception as error:  # noqa: BLE001 - a crash must not look like a verdict
        return _tell_crash(error)


def _tell(error: ReleaseKitError) -> None:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(error.message, err=True)
    for problem in getattr(error, "problems", ()):
        click.echo(f"  {problem}", err=True)
    if error.hint:
        click.echo(f"  fix: {error.hint}", err=True)


def _tell_crash(error: Exception) -> int:
    # The exception's text may hold what it choked on, so only a developer who asks sees it.
    click.echo(
        f"internal error ({type(error).__name__}): nothing was decided. Please report it; "
        "RELEASE_KIT_DEBUG=1 shows where it happened, possibly with pieces of your data.",
        err=True,
    )
    if os.environ.get("RELEASE_KIT_DEBUG"):
        traceback.print_exception(error)
    return UNFINISHED
