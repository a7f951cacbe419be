"""A question about licenses, such as "may this be released?", as a release that can be judged.

Nobody's files are looked at: each part is a license that somebody names, or a public model whose
license stands in `policies/models.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from release_kit.errors import UnusableInput
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import Licenses, identified
from release_kit.licensing.lineage import Lineage, Part
from release_kit.licensing.models import ModelLicense, license_of_model
from release_kit.licensing.policy import Policy
from release_kit.release import (
    RELEASE_FILE,
    ROLES,
    DocumentFacts,
    Organization,
    Release,
    Upstream,
)

_KEYS = {
    "base": "base_models",
    "adapter": "adapters",
    "data": "datasets",
    "generator": "generators",
    "code": "code",
}
KINDS = tuple(_KEYS)
"""What a part can be, in the words of a question."""

_IN_TABLE = ("base", "adapter", "generator")
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TABLE = "policies/models.yaml"


@dataclass(frozen=True)
class Remark:
    """Something to tell about a part: a phrase of `policies/language/` and what fills it."""

    phrase: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Question:
    """A release as somebody imagines it."""

    release: Release
    lineage: Lineage
    remarks: Mapping[Part | None, tuple[Remark, ...]]
    """Part, or None for the release's own license → what to tell about it."""

    def judge(self, policy: Policy, *, day: date | None = None, language: str = "en") -> Judgement:
        """Judge it, as an audit would judge the same lineage."""
        return judge(self.release, policy, day=day, lineage=self.lineage, language=language)

    def judge_under(
        self, license_ids: Iterable[str], policy: Policy, *, day: date | None = None,
        language: str = "en",
    ) -> tuple[Judgement, ...]:  # fmt: skip
        """Judge it once under each of the licenses."""
        return tuple(
            judge(
                replace(self.release, license=license_id),
                policy,
                day=day,
                lineage=self.lineage,
                language=language,
            )
            for license_id in license_ids
        )

    def candidates(self, licenses: Licenses) -> tuple[str, ...]:
        """Return the licenses that such a release may bear at all, whatever a policy says.

        They are for models, and the license of a maker's own family only when a part is under it.
        """
        of_parts = {part.license for part in self.lineage.parts}
        return tuple(
            license.id
            for license in licenses.values()
            if license.kind == "license"
            and "model" in license.applies_to
            and (not license.family or license.id in of_parts)
        )


def ask(
    parts: Iterable[tuple[str, str]],
    licenses: Licenses,
    *,
    license: str = "",
    purpose: str = "commercial",
    visibility: str = "public",
    gating: str = "open",
    modalities: tuple[str, ...] = (),
    organization: Organization | None = None,
    relations: Mapping[str, str] | None = None,
) -> Question:
    """Return the question about a release made from `parts`, each a kind of `KINDS` and a value.

    A value is a license, `LICENSE=OWNER/NAME`, or a model that the table lists. `relations` maps
    the name of a part to its relation to the release; a part without a name is called by its kind
    and number, such as base-1. `modalities` are those of the release and of every part. Where the
    table says more or other than the value does, both are judged. `organization` is a company of
    which nothing else is known, unless given.

    Raises:
        UnusableInput: there are no parts, a value is empty, or a relation names no part, or does
            not fit it.
    """
    found: list[Part] = []
    remarks: dict[Part | None, tuple[Remark, ...]] = {}
    numbers = dict.fromkeys(KINDS, 0)
    wanted = dict(relations or {})
    used: set[str] = set()
    for kind, value in parts:
        numbers[kind] += 1
        word, name = _split(value, kind, licenses)
        role, possible = ROLES[_KEYS[kind]]
        id_ = name or f"{kind}-{numbers[kind]}"
        relation = wanted.get(id_, possible[0])
        if relation not in possible:
            raise UnusableInput(
                f"a {role} such as {id_!r} is not {relation!r}",
                hint=f"known for it: {', '.join(possible)}",
            )
        used.add(id_)
        upstream = Upstream(
            id=id_, role=role, relation=relation, license=word, source="", path=None, revision="",
            attribution="", changes="", position=(0, 0), modalities=modalities,
        )  # fmt: skip
        for part, said in _parts(upstream, name if kind in _IN_TABLE else "", licenses):
            found.append(part)
            remarks[part] = said
    if not found:
        raise UnusableInput(
            "there is no part to ask about", hint=f"Give one of: --{', --'.join(KINDS)}."
        )
    for id_ in wanted:
        if id_ not in used:
            raise UnusableInput(
                f"{id_!r} is none of the parts", hint=f"They are called: {', '.join(sorted(used))}"
            )
    if license:
        remarks[None] = tuple(_spelled(license, licenses))
    release = Release(
        file=Path(RELEASE_FILE), repo_id="owner/name", version="1.0.0", license=license,
        purpose=purpose, visibility=visibility, gating=gating,
        organization=organization or Organization("", "company", ""),
        lineage=tuple(part.upstream for part in found), privacy=None, training=None,
        documents=DocumentFacts("", "", (), (), (), (), ""), policy="", license_position=(0, 0),
        modalities=modalities,
    )  # fmt: skip
    return Question(release, Lineage(tuple(found), ()), remarks)


def _split(value: str, kind: str, licenses: Licenses) -> tuple[str, str]:
    """Return the license word and the name in a value; either may be empty, not both."""
    word, sign, name = (piece.strip() for piece in value.partition("="))
    if sign and not (word and _NAME.fullmatch(name)):
        raise UnusableInput(
            f"--{kind} {value!r} cannot be read", hint="Write LICENSE=OWNER/NAME, or LICENSE alone."
        )
    if not word:
        raise UnusableInput(f"--{kind} says nothing", hint="Name a license or a model.")
    if sign or identified(word, licenses):
        return word, name
    is_model = kind in _IN_TABLE and license_of_model(word) is not None
    return ("", word) if is_model or _NAME.fullmatch(word) else (word, "")


def _parts(
    upstream: Upstream, model: str, licenses: Licenses
) -> Iterator[tuple[Part, tuple[Remark, ...]]]:
    """Yield the part under every license that is said of it, and what to tell about each."""
    entry = license_of_model(model) if model else None
    stated = identified(upstream.license, licenses) or upstream.license
    if stated:
        yield _part(upstream, stated, "declaration"), tuple(_spelled(upstream.license, licenses))
    elif entry is None:
        # Judged by a license of which nothing is known.
        remark = _remark("not_in_table", id=upstream.id)
        yield _part(upstream, upstream.id, "declaration"), (remark,)
    if entry is None:
        return
    said = {"place": f"{_TABLE}:{entry.position[0]}", "source": entry.source, "date": entry.date}
    if not stated:
        yield _part(upstream, entry.license, "table"), tuple(table_remarks(upstream.id, entry))
    elif stated != entry.license:
        told = _remark("table_differs", stated=stated, license=entry.license, **said)
        yield _part(upstream, entry.license, "table"), (told, *_doubts(entry))
    for also in entry.also:
        if also != stated:
            told = _remark("table_adds", license=also, **said)
            yield _part(upstream, also, "table"), (told,)


def _part(upstream: Upstream, license_id: str, basis: str) -> Part:
    return Part(replace(upstream, license=license_id), license_id, basis)


def table_remarks(model: str, entry: ModelLicense) -> Iterator[Remark]:
    """Yield what to tell about a license that was taken from the table of models."""
    place = f"{_TABLE}:{entry.position[0]}"
    yield _remark(
        "from_table", id=model, license=entry.license, place=place, source=entry.source,
        date=entry.date,
    )  # fmt: skip
    yield from _doubts(entry)


def _doubts(entry: ModelLicense) -> Iterator[Remark]:
    if entry.read != "primary":
        yield _remark("table_secondary")
    if entry.because:
        yield _remark("table_remark", remark=entry.because)


def _spelled(word: str, licenses: Licenses) -> Iterator[Remark]:
    meant = identified(word, licenses)
    if meant and meant != word:
        yield _remark("read_as", word=word, license=meant)


def _remark(phrase: str, **facts: str) -> Remark:
    return Remark(phrase, tuple(facts.items()))
