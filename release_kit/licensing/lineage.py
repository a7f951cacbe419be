"""The lineage with the license under which each part is judged: declared, detected, concluded.

What release.yaml declares is held against what the upstream's own files say: the text of its
LICENSE above all, then its card, the metadata of its weights and the headers of its code. The
table of model ids speaks where no text of a license is at hand. Where two places disagree, that is
a doubt, and it names both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from release_kit.cards import hub_licenses
from release_kit.licensing.detection import (
    Detected,
    LicenseEvidence,
    UpstreamEvidence,
    detect,
    hub_id,
)
from release_kit.licensing.licenses import Licenses, identified
from release_kit.licensing.models import ModelLicense, license_of_model
from release_kit.release import RELEASE_FILE, Release, Upstream

TEXT = "license-text"
_MODELS = ("base_model", "adapter", "generator")

DATA_BEHIND_A_MODEL = "data-behind-a-model"
"""The knob that says whether the data of a model that somebody else made must be listed."""
# What the Hub has people write who do not say under which license something is.
_NO_ANSWER = ("other", "unknown")
_UNLISTED = "other"
"""What the Hub has people write whose license is none of those that it lists."""
_TOOL = "tool-only"
_FETCH = "Fetch its LICENSE file and name its folder as path: the text decides."


@dataclass(frozen=True)
class Part:
    """One upstream and the license under which it is judged."""

    upstream: Upstream
    license: str
    """The concluded id; one that nobody holds facts about where nothing better is known."""
    basis: str
    """What the conclusion rests on: text, statement, table or declaration."""


@dataclass(frozen=True)
class Doubt:
    """Something that keeps a license or the lineage from being plain."""

    rule: str
    """The rule of the audit."""
    upstream: Upstream | None
    """None when it is about the release's own license."""
    message: str
    fix: str
    knob: str = ""
    """The knob whose loosest position takes this doubt away; empty for none."""


@dataclass(frozen=True)
class Lineage:
    """The parts of a release, closed, and what is doubtful about them."""

    parts: tuple[Part, ...]
    doubts: tuple[Doubt, ...]


def conclude(release: Release, licenses: Licenses) -> Lineage:
    """Return the lineage with the license of every part.

    Raises:
        UnusableInput: the table of models, or a license file, breaks its schema.
    """
    parts: list[Part] = []
    doubts: list[Doubt] = list(_spelling(release.license, None, licenses))
    # How many upstreams lie in each folder, at any depth.
    crowd = Counter(place for u in release.lineage if u.path for place in (u.path, *u.path.parents))
    for upstream in release.lineage:
        declared = identified(upstream.license, licenses) or upstream.license
        doubts.extend(_spelling(upstream.license, upstream, licenses))
        place = _own_place(upstream, release, crowd)
        found = detect(place, licenses) if place else Detected((), (), ())
        part, said = _concluded(upstream, declared, found, licenses)
        parts.append(part)
        doubts.extend(said)
        doubts.extend(_absent(upstream))
        doubts.extend(_unread(upstream, found))
        doubts.extend(_unlisted(upstream, found, release))
        doubts.extend(_beside(upstream, release, licenses))
    return Lineage(tuple(parts), tuple(doubts))


def _own_place(upstream: Upstream, release: Release, crowd: Counter[Path]) -> Path | None:
    """Return where the upstream's own files lie; None when nothing of it is at hand.

    What lies beside a single file speaks for it where no other upstream lies there too and it is
    not the folder of the project.
    """
    path = upstream.path
    if path is None or not path.exists():
        return None
    if path.is_dir():
        return path
    folder = path.parent
    of_project = folder.resolve() == release.file.resolve().parent
    return path if of_project or crowd[folder] > 1 else folder


def canonical(release: Release, licenses: Licenses) -> Release:
    """Return the release with its own license as the knowledge base spells it."""
    return replace(release, license=identified(release.license, licenses) or release.license)


def unlisted(
    found: Detected, release: Release, own_id: str = ""
) -> Iterator[tuple[UpstreamEvidence, str]]:
    """Yield each upstream that files name and the lineage does not list, and how to mend it."""
    for evidence, fix in _missing(found, release):
        if evidence.id.casefold() not in {own_id.casefold(), release.repo_id.casefold()}:
            yield evidence, fix


def _spelling(word: str, upstream: Upstream | None, licenses: Licenses) -> Iterator[Doubt]:
    meant = identified(word, licenses)
    if meant and meant != word:
        yield Doubt(
            "license-spelling",
            upstream,
            f"'{word}' was read as {meant}",
            f"Write license: {meant}.",
        )


def _concluded(
    upstream: Upstream, declared: str, found: Detected, licenses: Licenses
) -> tuple[Part, list[Doubt]]:
    doubts = [d for e in found.licenses if (d := _inexact(upstream, e)) is not None]
    telling = [e for e in found.licenses if e.license not in _NO_ANSWER]
    doubts += _denials(upstream, declared, found)
    if not telling:
        part, said = _from_table(upstream, declared, licenses)
        return part, doubts + said
    texts = [e for e in telling if e.kind == TEXT and e.exact and e.license]
    # An altered text is no word for the license that it resembles.
    words = [e for e in telling if e.kind != TEXT]
    basis, speaking = ("text", texts) if texts else ("statement", words)
    named = _answers(declared) and not _is_family(declared, licenses)
    if named and not texts:
        doubts += _against_table(upstream, declared, licenses)
    if _answers(declared):
        doubts += _contradictions(
            upstream, _declaration(upstream, declared), declared, telling, licenses
        )
    if not named:
        first, *others = (*speaking, *(e for e in telling if e not in speaking))
        says = f"{_place(upstream, first)} ({first.kind}) says {_says(first)}"
        doubts += _contradictions(upstream, says, first.license, others, licenses)
    if named and any(e.license == declared for e in speaking):
        return Part(upstream, declared, basis), doubts
    license = speaking[0].license if speaking else ""
    plain = speaking == (texts or telling) and all(e.license == license for e in speaking)
    if plain and (texts or not named) and license and not _is_family(license, licenses):
        if not named:
            doubts.append(_was_concluded(upstream, license, speaking[0]))
        return Part(upstream, license, basis), doubts
    return Part(upstream, declared, "declaration"), doubts


def _answers(license_id: str) -> bool:
    return bool(license_id) and license_id not in _NO_ANSWER


def _is_family(license_id: str, licenses: Licenses) -> bool:
    return license_id in licenses and licenses[license_id].kind != "license"


def _agree(one: str, other: str, licenses: Licenses) -> bool:
    """Tell whether two ids mean one license; a family, such as bsd, agrees with its members."""

    def covers(family: str, member: str) -> bool:
        return _is_family(family, licenses) and any(
            word.startswith(family) for word in member.split("-")
        )

    return one == other or covers(one, other) or covers(other, one)


def _near(license_id: str, evidence: LicenseEvidence, licenses: Licenses) -> bool:
    """Tell whether the evidence leaves room for the license: a choice, or a text altered a bit."""
    if license_id in evidence.choices:
        return True
    # An altered text is a doubt of its own.
    own = licenses.get(license_id)
    return (
        evidence.kind == TEXT
        and not evidence.license
        and own is not None
        and evidence.said == own.name
    )


def _says(evidence: LicenseEvidence) -> str:
    if evidence.kind == TEXT:
        return f"the text of {evidence.license}" if evidence.license else "a text not known here"
    return evidence.license or f"'{evidence.said}', which is no license that is known here"


def _declaration(upstream: Upstream, declared: str) -> str:
    line, column = upstream.position
    return f"{RELEASE_FILE}:{line}:{column} says {declared}"


def _contradictions(
    upstream: Upstream,
    says: str,
    license_id: str,
    telling: Iterable[LicenseEvidence],
    licenses: Licenses,
) -> Iterator[Doubt]:
    """Yield where evidence disagrees with a place that says `license_id`."""
    for evidence in telling:
        if not _agree(license_id, evidence.license, licenses) and not _near(
            license_id, evidence, licenses
        ):
            yield Doubt(
                "license-contradiction",
                upstream,
                f"{says}, but {_place(upstream, evidence)} ({evidence.kind}) says "
                f"{_says(evidence)}",
                "Read both. Correct release.yaml if it is wrong; if the file is wrong, ask its"
                " author, and have the finding waived with that answer as evidence.",
            )


def _denials(upstream: Upstream, declared: str, found: Detected) -> Iterator[Doubt]:
    """Yield who says that the license is none that the Hub lists, where a listed one is declared.

    The very text of the license at hand is a better witness.
    """
    if not _answers(declared) or declared not in hub_licenses():
        return
    if any(e.kind == TEXT and e.exact and e.license == declared for e in found.licenses):
        return
    for evidence in found.licenses:
        if evidence.license == _UNLISTED:
            yield Doubt(
                "license-contradiction",
                upstream,
                f"{_declaration(upstream, declared)}, but {_place(upstream, evidence)} "
                f"({evidence.kind}) says {_UNLISTED}, which on the Hub is a license that it does"
                " not list",
                _FETCH,
            )


def _inexact(upstream: Upstream, evidence: LicenseEvidence) -> Doubt | None:
    if evidence.kind != TEXT or (evidence.exact and evidence.license):
        return None
    what = f"the text of {evidence.license}, but it" if evidence.license else "a text that"
    remark = evidence.remark or "is none of those that are known"
    return Doubt(
        "license-text-altered",
        upstream,
        f"{_place(upstream, evidence)} holds {what} {remark}",
        "Read the file. Terms that were added or changed need a license file of their own in the"
        " policy's folder of licenses; have a mere difference in form waived.",
    )


def _was_concluded(upstream: Upstream, license: str, evidence: LicenseEvidence) -> Doubt:
    return Doubt(
        "license-concluded",
        upstream,
        f"release.yaml says '{upstream.license}'; {license} was concluded from "
        f"{_place(upstream, evidence)} ({evidence.kind})",
        f"Check it, and write license: {license}.",
    )


def _from_table(upstream: Upstream, declared: str, licenses: Licenses) -> tuple[Part, list[Doubt]]:
    _, entry = _in_table(upstream)
    if entry is None:
        return Part(upstream, declared, "declaration"), []
    if entry.license == declared and not _is_family(declared, licenses):
        return Part(upstream, declared, "table"), []
    named = _answers(declared) and not _is_family(declared, licenses)
    if not named and not _answers(entry.license):
        return Part(upstream, declared, "declaration"), []
    if not named and (not _answers(declared) or _agree(declared, entry.license, licenses)):
        doubt = Doubt(
            "license-from-table",
            upstream,
            f"release.yaml says '{upstream.license}' and no file of {upstream.id} at hand tells "
            f"its license; {entry.license} was taken from "
            f"{_of_entry(entry)}",
            f"Fetch its LICENSE file, name its folder as path, and write license: {entry.license}.",
        )
        return Part(upstream, entry.license, "table"), [doubt]
    return Part(upstream, declared, "declaration"), list(
        _against_table(upstream, declared, licenses)
    )


def _against_table(upstream: Upstream, declared: str, licenses: Licenses) -> Iterator[Doubt]:
    """Yield where the table knows another license than the declared one, and no text decides."""
    model, entry = _in_table(upstream)
    if entry is None or entry.license == declared or _agree(declared, entry.license, licenses):
        return
    because = f" ({entry.because.rstrip('.')})" if entry.because else ""
    yield Doubt(
        "license-contradiction",
        upstream,
        f"{_declaration(upstream, declared)}, but {_of_entry(entry)} says {entry.license} for "
        f"{model}{because}, and no text of its own at hand tells its license",
        _FETCH,
    )


def _in_table(upstream: Upstream) -> tuple[str, ModelLicense | None]:
    """Return the name by which the table knows a model, its id or the page it is from, and how."""
    if upstream.role in _MODELS:
        for name in (upstream.id, upstream.source):
            model = hub_id(name)
            if entry := license_of_model(model):
                return model, entry
    return upstream.id, None


def _of_entry(entry: ModelLicense) -> str:
    return f"policies/models.yaml:{entry.position[0]} ({entry.source}, {entry.date})"


def _absent(upstream: Upstream) -> Iterator[Doubt]:
    if upstream.path is not None and not upstream.path.exists():
        yield Doubt(
            "license-unreadable",
            upstream,
            f"there is nothing at its path, {upstream.path.name}, so its own files tell nothing",
            "Fetch it, or correct its path in release.yaml; without a path only what is declared,"
            " and the table of models, can speak.",
        )


def _unread(upstream: Upstream, found: Detected) -> Iterator[Doubt]:
    for unreadable in found.unreadable:
        yield Doubt(
            "license-unreadable",
            upstream,
            f"{upstream.id}/{unreadable.path} {unreadable.because}, so what it says about the"
            " license or the lineage is not known",
            "Fetch the file again, or mend it.",
        )


def _unlisted(upstream: Upstream, found: Detected, release: Release) -> Iterator[Doubt]:
    for evidence, fix in _missing(found, release, upstream):
        behind = upstream.role in _MODELS and evidence.role == "dataset"
        yield Doubt(
            "lineage-incomplete",
            upstream,
            f"{upstream.id}/{evidence.path} ({evidence.kind}) says that it was made from "
            f"{evidence.id}, which the lineage does not list{_as_more(evidence, release)}",
            f"{fix} Or have legal answer the knob {DATA_BEHIND_A_MODEL} in the policy."
            if behind
            else fix,
            DATA_BEHIND_A_MODEL if behind else "",
        )


def _as_more(evidence: UpstreamEvidence, release: Release) -> str:
    listed = evidence.id.casefold() in {upstream.id.casefold() for upstream in release.lineage}
    return f" as more than {_TOOL}" if listed else ""


def _beside(upstream: Upstream, release: Release, licenses: Licenses) -> Iterator[Doubt]:
    """Yield the licenses that the table knows to hold beside a model's own, and nobody lists."""
    _, entry = _in_table(upstream)
    if entry is None or not entry.also:
        return
    listed = {identified(other.license, licenses) for other in release.lineage}
    for license_id in entry.also:
        if license_id not in listed:
            yield Doubt(
                "lineage-incomplete",
                upstream,
                f"{_of_entry(entry)} says that {license_id} holds beside {entry.license}, and the"
                " lineage lists nothing under it",
                "Add the model that it was made from under lineage.base_models with its license"
                " and source, and name it in made_from.",
            )


def _missing(
    found: Detected, release: Release, by: Upstream | None = None
) -> Iterator[tuple[UpstreamEvidence, str]]:
    """Yield what the files of `by`, or of the bundle, name and the lineage does not account for.

    A model that is listed as a tool accounts for what another tool was made from; whatever else
    was made from a model holds more of it than that.
    """
    if not found.upstreams:
        # Most of ten thousand datasets name none, and the sets below are as long as the lineage.
        return
    listed = {u.id.casefold() for u in release.lineage}
    is_tool = by is not None and by.relation == _TOOL
    held = {u.id.casefold() for u in release.lineage if is_tool or u is by or u.relation != _TOOL}
    seen: set[tuple[str, str]] = set()
    for evidence in found.upstreams:
        key, is_data = evidence.id.casefold(), evidence.role == "dataset"
        if key not in (listed if is_data else held) and (evidence.path, key) not in seen:
            seen.add((evidence.path, key))
            section = "datasets" if is_data else "base_models"
            yield (
                evidence,
                f"Add {evidence.id} under lineage.{section} with its license and source, and name"
                " it in made_from.",
            )


def _place(upstream: Upstream, evidence: LicenseEvidence) -> str:
    return f"{upstream.id}/{evidence.path}" + (f":{evidence.line}" if evidence.line else "")
