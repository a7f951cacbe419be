"""The commands that answer questions about licenses: explain, show, list, fingerprint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from release_kit.cli.console import say
from release_kit.cli.exit_codes import PASSED, REFUSED
from release_kit.errors import UnusableInput
from release_kit.release import ROLES

if TYPE_CHECKING:
    from release_kit.licensing.licenses import License, Licenses
    from release_kit.licensing.policy import Policy

_PURPOSES = ("commercial", "noncommercial", "research")
_VISIBILITIES = ("public", "private")
_GATINGS = ("open", "automatic", "manual")
_ORGANIZATIONS = ("company", "academic", "nonprofit", "government", "individual")
_MODALITIES = ("text", "image", "audio", "video", "3d", "tabular")

_SUPPLIES = {
    "organization.monthly_active_users": "--users",
    "organization.annual_revenue_usd": "--revenue",
    "organization.monthly_revenue_usd": "--monthly-revenue",
    "organization.seat": "--seat",
    "release.modalities": "--modality",
    **{f"lineage.{section}.modalities": "--modality" for section in ROLES},
}
"""Field of release.yaml → the option of `explain` that stands for it."""

_JSON = "json"

_policy_option = click.option(
    "--policy",
    metavar="FILE|NAME",
    default="",
    help="The policy, with its own folder of licenses; left out, the shipped baseline.",
)
_language_option = click.option(
    "--lang",
    "language",
    type=click.Choice(("en", "zh")),
    default="en",
    show_default=True,
    help="The language of the answer.",
)
_format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(("text", _JSON)),
    default="text",
    show_default=True,
    help="How the answer is written.",
)


@click.group()
def license() -> None:
    """Explain licenses, and what may be released under which.

    Every answer rests on the license files and the policy that the audit uses. None is legal
    advice.
    """


def _part_option(kind: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{kind}", kind, multiple=True, metavar="PART", help=f"{what}; may be repeated."
    )


@license.command()
@_part_option("base", "A base model: its license, LICENSE=OWNER/NAME, or a model id of the Hub")
@_part_option("adapter", "An adapter, in the same way")
@_part_option("data", "A dataset: its license, or LICENSE=OWNER/NAME")
@_part_option("generator", "A model whose outputs were used for training, as --base")
@_part_option("code", "Code, as --data")
@click.option(
    "--as",
    "planned",
    metavar="LICENSE",
    help="The license to release under; left out, every license that fits is tried.",
)
@click.option(
    "--purpose",
    type=click.Choice(_PURPOSES),
    default="commercial",
    show_default=True,
    help="What recipients may use it for, as you plan it.",
)
@click.option(
    "--visibility",
    type=click.Choice(_VISIBILITIES),
    default="public",
    show_default=True,
    help="Whether the repo is open or private.",
)
@click.option(
    "--gating",
    type=click.Choice(_GATINGS),
    default="open",
    show_default=True,
    help="Who gets in: all, or after a request.",
)
@click.option(
    "--org-kind",
    type=click.Choice(_ORGANIZATIONS),
    default="company",
    show_default=True,
    help="What kind of body releases.",
)
@click.option("--seat", default="", metavar="XX", help="Its country, two letters of ISO 3166.")
@click.option("--users", type=click.IntRange(min=0), help="Its monthly active users.")
@click.option("--revenue", type=click.IntRange(min=0), help="Its US dollars in the last year.")
@click.option(
    "--monthly-revenue", type=click.IntRange(min=0), help="Its US dollars in the last month."
)
@click.option(
    "--modality",
    type=click.Choice(_MODALITIES),
    multiple=True,
    help="What the model takes in or gives out; may be repeated.",
)
@click.option(
    "--relation",
    multiple=True,
    metavar="PART=RELATION",
    help="How a part reaches the release, for example base-1=weights-shipped; may be repeated.",
)
@_policy_option
@_language_option
@_format_option
@click.pass_context
def explain(context: click.Context, /, **said: Any) -> None:
    """Tell whether something made from these parts may be released, and what is then owed.

    Exit codes: 0 allowed; 1 a lawyer must decide, or it is not allowed; 2 the question cannot be
    read.
    """
    from release_kit.licensing.explanation import explain as told
    from release_kit.licensing.explanation import explanation_lines
    from release_kit.licensing.questions import KINDS, ask
    from release_kit.licensing.words import load_words
    from release_kit.release import Organization

    language, planned = said["language"], said["planned"]
    if planned is not None and not planned.strip():
        raise UnusableInput("--as says nothing", hint="Name a license, or leave --as out.")
    policy = _policy(said["policy"])
    words = load_words(language)
    question = ask(
        [(kind, value) for kind in KINDS for value in said[kind]],
        policy.licenses,
        license=planned or "",
        purpose=said["purpose"],
        visibility=said["visibility"],
        gating=said["gating"],
        modalities=tuple(dict.fromkeys(said["modality"])),
        organization=Organization(
            "",
            said["org_kind"],
            "",
            monthly_active_users=said["users"],
            annual_revenue_usd=said["revenue"],
            monthly_revenue_usd=said["monthly_revenue"],
            seat=_seat(said["seat"]),
        ),
        relations=dict(_relation(value) for value in said["relation"]),
    )
    if planned is None:
        tried = question.candidates(policy.licenses)
        judgements = question.judge_under(tried, policy, language=language)
    else:
        judgements = (question.judge(policy, language=language),)
    explanation = told(
        judgements,
        words,
        remarks=question.remarks,
        options=_SUPPLIES,
        planned=planned is not None,
    )
    if said["output_format"] == _JSON:
        _say_json(explanation.data())
    else:
        _say_lines(explanation_lines(explanation, words))
    context.exit(PASSED if explanation.verdict == "allow" else REFUSED)


@license.command()
@click.argument("license_id", metavar="LICENSE")
@_policy_option
@_language_option
@_format_option
def show(license_id: str, policy: str, language: str, output_format: str) -> None:
    """Show everything that is known about LICENSE, each fact with its section.

    LICENSE is an id, a name that is plainly spelled, or the id of a public model.
    """
    from release_kit.licensing.license_page import license_data, license_lines
    from release_kit.licensing.licenses import identified
    from release_kit.licensing.models import license_of_model
    from release_kit.licensing.questions import Remark, table_remarks
    from release_kit.licensing.words import load_words

    licenses, remarks = _licenses(policy), []
    meant = identified(license_id, licenses)
    entry = None if meant else license_of_model(license_id)
    if entry is not None:
        meant, remarks = entry.license, list(table_remarks(license_id, entry))
    elif meant != license_id:
        remarks = [Remark("read_as", (("word", license_id), ("license", meant)))]
    if meant not in licenses:
        raise _unknown(license_id, meant, licenses)
    if output_format == _JSON:
        _say_json(license_data(licenses[meant]))
    else:
        _say_lines(license_lines(licenses[meant], load_words(language), remarks))


@license.command("list")
@click.option("--kind", type=click.Choice(("license", "placeholder")), help="Only this kind.")
@click.option(
    "--for",
    "subject",
    type=click.Choice(("model", "dataset", "code", "outputs")),
    help="Only licenses that are written for this.",
)
@_policy_option
@_format_option
def list_(kind: str | None, subject: str | None, policy: str, output_format: str) -> None:
    """List the licenses that are known, with their terms in short."""
    rows = [
        _row(license)
        for license in _licenses(policy).values()
        if kind in {None, license.kind} and (subject is None or subject in license.applies_to)
    ]
    if output_format == _JSON:
        _say_json(rows)
        return
    columns = ("id", "name", "what is made from it", "commercial use", "verified")
    texts = [columns, *((*row.values(),) for row in rows)]
    shown = [[str(cell) for cell in row[: len(columns)]] for row in texts]
    widths = [max(len(row[column]) for row in shown) for column in range(len(columns))]
    _say_lines(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    )


def _row(license: License) -> dict[str, Any]:
    return {
        "id": license.id,
        "name": license.name,
        "downstream_license": license.downstream_license,
        "commercial_use": license.permission("commercial-use").verdict,
        "verified": "NOT VERIFIED" if license.unverified else license.verified_at,
        "kind": license.kind,
        "applies_to": license.applies_to,
    }


@license.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--lines", metavar="A-B", help="Only these lines, counted from 1, both included.")
@_policy_option
def fingerprint(file: Path, lines: str | None, policy: str) -> None:
    """Work out by which numbers the license text in FILE is recognized.

    Prints the lines to paste under texts in a license file, and whether the text is known already.
    """
    from release_kit.licensing.recognition import recognize
    from release_kit.licensing.texts import fingerprint as of

    text = _cut(_read(file), lines)
    try:
        found = of(text)
    except ValueError:
        raise UnusableInput(f"{str(file)!r} holds no words there") from None
    _say_lines(
        (
            # Quoted, since words such as `no` or `1` alone are not text in YAML.
            f"  - begins: {json.dumps(found.begins, ensure_ascii=False)}",
            f"    words: {found.words}",
            f"    sha256: {found.sha256}",
        )
    )
    known = recognize(text, _licenses(policy))
    for place in known.found:
        say(f"# Known already: {place.words} words from line {place.line} on are the text of "
            f"{place.license}.")  # fmt: skip
    if known.found and known.more:
        say(f"# Besides, {known.more} words from line {known.more_line} on are in no known text.")
    if known.resembles:
        where = f"; it differs from line {known.differs_line} on" if known.differs_line else ""
        say(f"# It resembles {', '.join(known.resembles)}{where}.")
    if not known.found:
        say("# No license file that is known has this text.")


def _read(file: Path) -> str:
    # A device or a pipe may never end.
    if not file.is_file():
        raise UnusableInput(f"{str(file)!r}: there is no such file")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableInput(f"{str(file)!r} is not UTF-8 text") from None
    except OSError as error:
        raise UnusableInput(f"{str(file)!r} cannot be read: {error.strerror}") from error


def _cut(text: str, lines: str | None) -> str:
    if lines is None:
        return text
    wanted = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", lines)
    if not wanted:
        raise UnusableInput(f"--lines {lines!r} cannot be read", hint="Write for example 3-120.")
    first, last = int(wanted[1]), int(wanted[2])
    every = text.split("\n")
    if not 1 <= first <= last <= len(every):
        raise UnusableInput(f"--lines {lines} does not fit: the file has {len(every)} lines")
    return "\n".join(every[first - 1 : last])


def _policy(name: str) -> Policy:
    from release_kit.licensing.policy import load_policy
    from release_kit.licensing.policy_files import policy_file, shipped_policies

    if not policy_file(name).is_file():
        raise UnusableInput(
            f"--policy {name!r}: there is no such file or shipped policy",
            hint=f"shipped: {', '.join(shipped_policies())}",
        )
    return load_policy(name)


def _licenses(policy: str) -> Licenses:
    from release_kit.licensing.licenses import load_licenses

    # The baseline adds none, and reading it takes time.
    return _policy(policy).licenses if policy else load_licenses()


def _seat(word: str) -> str:
    if word and not re.fullmatch(r"[A-Za-z]{2}", word):
        raise UnusableInput(
            f"--seat {word!r} is no country", hint="Two letters of ISO 3166, for example DE."
        )
    return word.upper()


def _relation(value: str) -> tuple[str, str]:
    part, sign, relation = value.partition("=")
    if not sign or not part or not relation:
        raise UnusableInput(
            f"--relation {value!r} cannot be read", hint="Write for example base-1=weights-shipped."
        )
    return part, relation


def _unknown(word: str, meant: str, licenses: Licenses) -> UnusableInput:
    from release_kit.cards import hub_licenses
    from release_kit.licensing.licenses import nearest_license

    if meant in hub_licenses():
        return UnusableInput(
            f"{meant} is a license of the Hub ({hub_licenses()[meant]}), and nobody has written "
            "down what it says",
            hint="Have legal add a file for it to the policy's folder of licenses; no release "
            "under it, or made from it, is allowed before.",
        )
    near = nearest_license(word, licenses)
    return UnusableInput(
        f"{word!r} is no license or model that is known here",
        hint=f"did you mean '{near}'?"
        if near
        else "`release-kit license list` shows those known; for your own, name --policy.",
    )


def _say_json(value: Any) -> None:
    from release_kit.files import json_bytes

    say(json_bytes(value).decode().rstrip("\n"))


def _say_lines(lines: Iterable[str]) -> None:
    from release_kit.formats.text import printable

    for line in lines:
        say(printable(line))
