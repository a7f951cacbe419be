"""The model card can be parsed and says about the release what release.yaml says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity, unquoted
from release_kit.cards import Card, license_metadata, parse_card
from release_kit.errors import UnusableInput
from release_kit.licensing.proofs import CARD
from release_kit.release import Release, TrainingPlan

MISSING = Rule(
    "card-missing",
    Severity.ERROR,
    "The bundle has no model card",
    "README.md is what a user of the model reads and what the Hub takes its metadata from.",
)
UNREADABLE = Rule(
    "card-unreadable",
    Severity.ERROR,
    "The card's front matter cannot be read",
    "The Hub would drop or misread the metadata; unclosed front matter, repeated keys, tags and "
    "text that is not UTF-8 are refused.",
)
INCOMPLETE = Rule(
    "card-incomplete",
    Severity.ERROR,
    "The card's metadata lacks a field",
    "License, lineage, language and task are how the Hub and its users find and filter models; "
    "a base model or dataset left out hides the lineage.",
)
CONTRADICTS = Rule(
    "card-contradicts-release",
    Severity.ERROR,
    "The card's license is not the license of the release",
    "Recipients rely on the card; it must name the license under which the model is released.",
)
PLACEHOLDER = Rule(
    "card-placeholder",
    Severity.ERROR,
    "The card holds an unfilled placeholder",
    "A placeholder tells readers nothing. Fill in the section or remove it.",
)

# In lower case todo is a word, in Spanish for one.
_PLACEHOLDERS = re.compile(
    r"(?i:more information needed|lorem ipsum|\[\s*fill)|\b(TODO|TBD|FIXME)\b|\{\{.*?\}\}"
)
_NAME = "license_name"
_REBUILD = "Run `release-kit build`, which writes it from release.yaml."


def _run(candidate: Candidate) -> Outcome:
    return Outcome(
        tuple(_findings(candidate)), {"model cards": int(CARD in candidate.bundle.files)}
    )


def _findings(candidate: Candidate) -> Iterator[Finding]:
    if CARD not in candidate.bundle.files:
        yield Finding(MISSING.id, MISSING.severity, f"there is no {CARD}", CARD, fix=_REBUILD)
        return
    try:
        card = parse_card(candidate.bundle.text(CARD), CARD)
    except UnicodeDecodeError:
        yield Finding(
            UNREADABLE.id, UNREADABLE.severity, "the card is not UTF-8", CARD, fix=_REBUILD
        )
        return
    except UnusableInput as error:
        for problem in error.problems:
            yield Finding(
                UNREADABLE.id,
                UNREADABLE.severity,
                unquoted(problem.message),
                CARD,
                problem.line,
                problem.column,
                fix=_REBUILD,
            )
        return
    yield from _placeholders(card)
    if candidate.judgement is not None:
        yield from _against_release(card, candidate.judgement.release)


def _placeholders(card: Card) -> Iterator[Finding]:
    for number, line in enumerate(card.body.split("\n")):
        hit = _PLACEHOLDERS.search(line)
        if hit:
            yield Finding(
                PLACEHOLDER.id,
                PLACEHOLDER.severity,
                "an unfilled placeholder stands here",
                CARD,
                card.body_line + number,
                hit.start() + 1,
                fix="Fill it in, or remove the section.",
            )


def _against_release(card: Card, release: Release) -> Iterator[Finding]:
    metadata: dict[str, Any] = card.metadata.data
    wanted: dict[str, list[str]] = {
        "language": list(release.documents.languages),
        "base_model": [base.id for base in release.bases],
        "datasets": [dataset.id for dataset in release.upstreams("dataset")],
    }
    for key, values in wanted.items():
        said = metadata.get(key)
        listed = said if isinstance(said, list) else [said]
        lacking = [value for value in values if value not in listed]
        if lacking:
            yield Finding(
                INCOMPLETE.id,
                INCOMPLETE.severity,
                f"{key} does not name {', '.join(lacking)}",
                CARD,
                *card.metadata.locate((key,)),
                fix=_REBUILD,
            )
    for key in _asked_of(release.training):
        if not metadata.get(key):
            yield Finding(
                INCOMPLETE.id,
                INCOMPLETE.severity,
                f"{key} is missing",
                CARD,
                1,
                1,
                fix=_REBUILD,
            )
    fields = license_metadata(release.license)
    # A second name beside a license of the Hub's is a second license.
    wanted_name = fields.get(_NAME, metadata.get(_NAME) and release.license)
    for key, value in {**fields, _NAME: wanted_name}.items():
        if metadata.get(key) != value:
            yield Finding(
                CONTRADICTS.id,
                CONTRADICTS.severity,
                f"{key} must be {value}, since release.yaml releases under {release.license}",
                CARD,
                *card.metadata.locate((key,)),
                fix=_REBUILD,
            )


def _asked_of(training: TrainingPlan | None) -> tuple[str, ...]:
    """Return what the metadata must hold besides."""
    if training is None:
        # What a model is for that was loaded, its configuration need not say.
        return ("library_name",)
    from release_kit.training.tasks import TASKS

    task = TASKS.get(training.task)
    # For some tasks the Hub has no word.
    has_tag = task is None or task.pipeline_tag
    return ("pipeline_tag", "library_name") if has_tag else ("library_name",)


CHECK = Check(
    "card",
    "The model card is complete and agrees with the release",
    (MISSING, UNREADABLE, INCOMPLETE, CONTRADICTS, PLACEHOLDER),
    _run,
)
