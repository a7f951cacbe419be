"""Everything that a license's file says, told to people: `release-kit license show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from release_kit.errors import Unfinished
from release_kit.licensing.licenses import (
    FOLDER,
    Condition,
    KnownText,
    License,
    Limitation,
    license_text,
)
from release_kit.licensing.questions import Remark
from release_kit.licensing.words import Words, details_of, ending, sentence_of, term_lines, titled


def license_lines(
    license: License, words: Words, remarks: Iterable[Remark] = ()
) -> tuple[str, ...]:
    """Return everything that a license's file says, as lines."""
    lines = [words.say("title", name=license.name, id=license.id)]
    lines += [words.say(remark.phrase, **dict(remark.facts)) for remark in remarks]
    if license.kind == "placeholder":
        lines += [words.say("placeholder", id=license.id), words.say("placeholder_fix")]
    elif license.unverified:
        lines.append(words.say("unverified_loud"))
    lines += ["", *_identity_lines(license, words)]
    if license.kind == "license":
        lines += titled(words.say("what_you_may_do"), _permission_lines(license, words))
        lines += titled(words.say("what_you_make"), _downstream_lines(license, words))
        conditions = [line for term in license.conditions for line in _whole_term(term, words)]
        nothing = [words.say("you_must_nothing")]
        lines += titled(words.say("you_must"), conditions or nothing)
        limits = [line for term in license.limitations for line in _whole_term(term, words)]
        nothing = [words.say("what_to_know_nothing")]
        lines += titled(words.say("what_to_know"), limits or nothing)
    notes = (
        line
        for note in license.notes
        for line in term_lines(note.fact, "", note.section, (), words)
    )
    lines += titled(words.say("notes"), notes)
    if license.kind == "license":
        lines += titled(words.say("texts"), _text_lines(license, words))
    checked = words.say("unverified")
    if not license.unverified:
        checked = words.say("verified", date=license.verified_at)
    lines += titled(
        words.say("sources"),
        (words.say("source", url=license.source), checked,
         words.say("facts_file", file=_file(license))),
    )  # fmt: skip
    return (*lines, *ending(words))


def _identity_lines(license: License, words: Words) -> Iterator[str]:
    if license.version:
        yield words.say("version", version=license.version)
    yield words.say("spdx", id=license.spdx_id) if license.spdx_id else words.say("no_spdx")
    if license.aliases:
        yield words.say("aliases", names="; ".join(license.aliases))
    yield words.say("license_page", url=license.url)
    if license.family:
        yield words.say("family", family=license.family)
    yield words.say("applies_to", subjects=words.all_of("subjects", license.applies_to))


def _permission_lines(license: License, words: Words) -> Iterator[str]:
    for action, name in words.groups["permissions"].items():
        said = license.permission(action)
        verdict = words.of("permission_verdicts", said.verdict)
        what = words.say("permission", permission=name, verdict=verdict)
        yield from term_lines(what, said.fact, said.section, (), words)


def _downstream_lines(license: License, words: Words) -> Iterator[str]:
    scope = license.downstream_scope
    details = [words.say("scope", scope=words.of("scopes", scope))] if scope else []
    sentence = words.of("downstream", license.downstream_license)
    yield from term_lines(sentence, "", license.downstream_section, details, words)
    if "dataset" in license.applies_to:
        said = words.say(f"reaches_models_{license.reaches_models}")
        yield from term_lines(said, "", license.reaches_models_section, (), words)


def _whole_term(term: Condition | Limitation, words: Words) -> Iterator[str]:
    details = list(details_of(term, words))
    for relation in getattr(term, "relations", ()):
        details.append(words.say("for_relation", relation=words.of("relations", relation)))
    yield from term_lines(sentence_of(term, words), term.fact, term.section, details, words)


def _text_lines(license: License, words: Words) -> Iterator[str]:
    if not license.texts:
        yield words.say("texts_unknown")
        return
    try:
        state = words.say("text_at_hand" if license_text(license) else "text_not_at_hand")
    except Unfinished:
        carriers = dict.fromkeys(_carrier(known) for known in license.texts if known.file)
        state = words.say("text_damaged", carrier=", ".join(carriers))
    yield state
    for known in license.texts:
        form = known.fingerprint
        yield "- " + words.say("text_form", words=form.words, begins=form.begins)
        yield f"    sha256 {form.sha256}"
        if known.file:
            yield f"    {words.say('text_carried', carrier=_carrier(known))}"
    if license.copyright_line:
        yield words.say("copyright_line")


def _carrier(known: KnownText) -> str:
    return f"{known.package}: {known.file}" if known.package else known.file


def license_data(license: License) -> dict[str, Any]:
    """Return everything that a license's file says as plain values, for JSON.

    `text` is "at hand", "not at hand" or "damaged".
    """
    try:
        text = "at hand" if license_text(license) else "not at hand"
    except Unfinished:
        text = "damaged"
    data = asdict(license)
    del data["folder"]
    return {**data, "file": _file(license), "text": text}


def _file(license: License) -> str:
    file = license.folder / f"{license.id}.yaml"
    return f"policies/licenses/{file.name}" if license.folder == FOLDER else str(file)
