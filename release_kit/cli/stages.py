"""The commands that make a bundle: init, train, evaluate, build, run; redact is in `privacy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from release_kit.cli.console import say, table, watching
from release_kit.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from release_kit.memorization.comparison import Comparison
    from release_kit.stages import StageResult

project_argument = click.argument(
    "project", type=click.Path(path_type=Path, exists=True), default=".", required=False
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Write release.yaml, a policy to edit and a GitHub workflow into FOLDER.

    Files that exist already are left as they are.
    """
    from release_kit import pipeline

    for path, written in pipeline.init(folder):
        say(f"{'wrote' if written else 'left as it is'}: {path}")
    say("Next: fill in release.yaml, then `release-kit run`.")


def _stage_command(stage: str, explained: str) -> click.Command:
    @click.command(stage, help=explained)
    @project_argument
    def command(project: Path) -> None:
        from release_kit import pipeline

        with watching() as watcher:
            result = getattr(pipeline, stage)(project, watcher)
        show(result)

    return command


train = _stage_command("train", "Fine-tune the base model of PROJECT on the redacted data.")
evaluate = _stage_command("evaluate", "Measure the trained model of PROJECT on held-out records.")


@click.command()
@project_argument
@click.option(
    "--endpoint",
    metavar="URL",
    help="The Hub to load from; else HF_ENDPOINT, else https://huggingface.co.",
)
def load(project: Path, endpoint: str | None) -> None:
    """Take the model of PROJECT as it is, instead of training one.

    It lies at load.path of release.yaml; or it is the model of the lineage that is
    weights-shipped, from its path, or from the Hub at its revision.
    """
    from release_kit import pipeline

    with watching() as watcher:
        result = pipeline.load(project, watcher, endpoint=endpoint)
    show(result)


@click.command()
@project_argument
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Put no new question after so long. A measurement that ran out of time goes on.",
)
@click.option(
    "--compare",
    "runs",
    nargs=2,
    metavar="RUN_A RUN_B",
    type=click.Path(path_type=Path, exists=True),
    help="Measure nothing, and show how what was measured of RUN_B differs from RUN_A; a run is"
    " a project or its out/leaks.json.",
)
def leaks(project: Path, minutes: float | None, runs: tuple[Path, Path] | None) -> None:
    """Measure what the weights of PROJECT still tell of their training data.

    Canaries, extraction, membership, what redaction took out, and what lies beside the weights:
    each with its interval. The policy says what is too much, and the audit holds it against that.
    """
    from release_kit import pipeline

    if runs is not None:
        show_comparison(pipeline.compare_leaks(*runs))
        return
    with watching() as watcher:
        result = pipeline.leaks(project, watcher, minutes=minutes)
    show(result)


build = _stage_command("build", "Stage the bundle of PROJECT: weights, card, terms and manifest.")


@click.command()
@project_argument
@click.pass_context
def run(context: click.Context, project: Path) -> None:
    """Redact, train, evaluate (or load), build and audit PROJECT.

    Stages whose inputs have not changed are skipped, so a run after a kill goes on where it
    stopped. Exit codes are those of `audit`.
    """
    from release_kit import pipeline
    from release_kit.cli.audit import exit_code

    with watching() as watcher:
        results, report = pipeline.run(project, watcher)
    for result in results:
        show(result)
    say(FORMATS["text"](report))
    context.exit(exit_code(report))


def show(result: StageResult) -> None:
    """Print what a stage made."""
    from release_kit.documents.measures import epochs, measures, robustness, slices

    results = result.receipt.results
    skipped = " (nothing has changed, skipped)" if result.skipped else ""
    match result.stage:
        case "redact":
            rows = [
                (f"{dataset}: {entity}", str(counts["by_entity"].get(entity, 0)),
                 str(counts["remaining"].get(entity, 0)))
                for dataset, counts in results.items()
                for entity in counts["entities"]
            ]  # fmt: skip
            table(f"Redaction{skipped}", ("kind", "removed", "still found"), rows)
        case "train":
            # More columns do not fit on a terminal of 80.
            head, *lines = epochs(results["losses"], most=2)
            table(f"Training{skipped}", head, lines)
        case "evaluate":
            figures = [(m.name, m.model, m.baseline, m.difference) for m in measures(results)]
            level = f"({100 * results['level']:g} %)"
            columns = ("held-out data", f"model {level}", "baseline", f"difference {level}")
            table(f"Evaluation{skipped}", columns, figures)
            parts = [
                (f"{field}: {value} ({examples}), {m.name}", m.model, m.baseline, m.difference)
                for field, value, examples, m in slices(results)
            ]
            if parts:
                table("By part of the held-out data", ("part (records)", *columns[1:]), parts)
            steady = [
                (f"{what} ({changed} texts), {m.name}", m.model, m.baseline, m.difference)
                for what, changed, m in robustness(results)
            ]
            if steady:
                columns = ("change", f"after {level}", "before", f"difference {level}")
                table("After small changes of the texts", columns, steady)
        case "leaks":
            _show_leaks(results, skipped)
        case "load":
            parameters = results["parameters"]
            size = "packed" if parameters is None else f"{parameters:,} parameters"
            files = len(results["weights"])
            said = f"{size}, {files} weight file{'s' if files > 1 else ''}"
            say(f"Model{skipped}: {results['architecture'] or 'unknown architecture'}, {said}")
        case _:
            say(f"Bundle{skipped}: {result.output}")
            say(f"manifest sha256:{results['manifest_digest']}")


def _show_leaks(results: Mapping[str, Any], skipped: str) -> None:
    from release_kit.documents.leaks import leak_section

    section = leak_section(results)
    rows = [(row.name, row.value, row.interval, row.of) for row in section.rows]
    table(f"Leaks{skipped}", ("what", "value", f"{100 * section.level:g} %", "of"), rows)
    for name, why in section.missing:
        say(f"not measured: {name}: {why}")
    for note in section.notes:
        say(f"note: {note}")
    if not results["complete"]:
        say("The time did not suffice for everything: `release-kit leaks --minutes N` goes on.")


def show_comparison(found: Comparison) -> None:
    """Print how two measured runs differ."""
    from release_kit.leak_measures import MEASURES

    rows = []
    for one in found.changes:
        name = MEASURES[one.measure].title
        if one.repeats is not None:
            name += f", planted {one.repeats} times"
        apart = "" if one.difference is None else f"{one.difference:+.3f}"
        if one.low is not None:
            apart += f" ({one.low:+.3f} to {one.high:+.3f})"
        rows.append((name, _value(one.before), _value(one.after), apart, one.verdict))
    runs = (found.first.shown_as, found.second.shown_as)
    table("Leaks", ("what", *runs, "difference (95 %)", "of the second"), rows)
    table("Settings that differ", ("setting", *runs), found.settings)


def _value(reading: Mapping[str, Any] | None) -> str:
    return "not measured" if reading is None else f"{reading['value']:.3f}"
