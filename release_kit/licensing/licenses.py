"""The license knowledge base: one YAML file a license under `policies/licenses/`.

A policy may name a folder with more of them. A file is read when its license is first asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from release_kit.cards import hub_licenses
from release_kit.errors import Problem, ReleaseKitError, Unfinished, UnusableInput
from release_kit.files import POLICIES
from release_kit.licensing.texts import Fingerprint, excerpt
from release_kit.strict_yaml import Document, read_yaml

FOLDER = POLICIES / "licenses"


@dataclass(frozen=True)
class Permission:
    """What the text says about one action."""

    verdict: str
    """granted, conditional, withheld, silent or unknown."""
    section: str
    fact: str = ""


@dataclass(frozen=True)
class AppliesWhen:
    """When a condition or limitation applies; any one of what is set is enough."""

    users_over: int | None = None
    """Monthly active users."""
    monthly_revenue_over_usd: int | None = None
    annual_revenue_over_usd: int | None = None
    modality: str = ""
    purpose: str = ""
    """The purpose of the release."""


@dataclass(frozen=True)
class Attachment:
    """Restrictions as they stand in the license's own text."""

    title: str
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Condition:
    """Something to do when the licensed material is passed on."""

    kind: str
    section: str
    fact: str
    prescribed_text: str = ""
    """Words the license prescribes, letter by letter; empty when it prescribes none."""
    alternatives: tuple[str, ...] = ()
    """Other prescribed words, each of which will do instead."""
    fill: tuple[tuple[str, str], ...] = ()
    """Words of the prescribed text that stand for a fact, and that fact's name."""
    url: str = ""
    relations: tuple[str, ...] = ()
    """The relations to the release that trigger it, where the text says so; else empty."""
    applies_when: AppliesWhen | None = None
    """None means always."""
    scope: str = ""
    accepts: tuple[str, ...] = ()
    """Other licenses with which `same-license` is met."""
    mode: str = ""
    attachment: Attachment | None = None
    placement: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limitation:
    """Something that must not be true."""

    kind: str
    section: str
    fact: str
    threshold: int | None = None
    """Monthly active users, or US dollars a year."""
    measured: str = ""
    territory: tuple[str, ...] = ()
    """EU, or countries by their two letters in ISO 3166."""
    applies_when: AppliesWhen | None = None
    exempt_family: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Note:
    """What a reviewer should know besides."""

    section: str
    fact: str


@dataclass(frozen=True)
class KnownText:
    """One form of a license's text, and the installed package or the file that carries it."""

    fingerprint: Fingerprint
    package: str
    """Empty when no package carries it."""
    file: str
    """Inside the package, or beside the license's own file; empty when nothing carries it."""


@dataclass(frozen=True)
class License:
    """What one license says, each fact with its section."""

    id: str
    spdx_id: str
    """Empty when SPDX has no id for it."""
    name: str
    aliases: tuple[str, ...]
    version: str
    family: str
    url: str
    kind: str
    """license, or placeholder for an id that names no text."""
    applies_to: tuple[str, ...]
    downstream_license: str
    downstream_scope: str
    downstream_section: str
    reaches_models: str
    """binds, exempt or silent: what a dataset's terms say about a model trained on it."""
    reaches_models_section: str
    permissions: Mapping[str, Permission]
    conditions: tuple[Condition, ...]
    limitations: tuple[Limitation, ...]
    notes: tuple[Note, ...]
    texts: tuple[KnownText, ...]
    """Every form of the text that is known; the first that can be had is the one to carry."""
    copyright_line: bool
    """True when the text needs a copyright line before it."""
    source: str
    verified_at: str
    unverified: bool
    folder: Path
    """Where its file lies."""

    def permission(self, action: str) -> Permission:
        """Return what the text says about `action`; what nobody noted is unknown."""
        return self.permissions.get(action, Permission("unknown", "not noted"))

    def limitation(self, kind: str) -> Limitation | None:
        """Return the first limitation of that kind."""
        return next((limit for limit in self.limitations if limit.kind == kind), None)


class Licenses(Mapping[str, License]):
    """License id → license, each file read when it is first asked for.

    Reading one raises UnusableInput when it breaks `schemas/license.schema.json` or its id is not
    the file's name.
    """

    def __init__(self, *folders: Path) -> None:
        self._paths = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
        self._read: dict[str, License] = {}

    # Two knowledge bases are never the same one; a cache may hold on to each.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, license_id: str) -> License:
        if license_id not in self._read:
            self._read[license_id] = _read_license(self._paths[license_id])
        return self._read[license_id]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._paths))

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, license_id: object) -> bool:
        return license_id in self._paths

    @property
    def paths(self) -> Mapping[str, Path]:
        """License id → its file."""
        return self._paths

    def mistakes(self) -> tuple[Problem, ...]:
        """Read every file and return all that is wrong, with file, line and column."""
        found: list[Problem] = []
        for license_id in self:
            try:
                self[license_id]
            except UnusableInput as error:
                found.extend(error.problems or [Problem("", 0, 0, error.message, error.hint)])
        return tuple(found)


@cache
def load_licenses(extra: Path | None = None) -> Licenses:
    """Return the shipped licenses and those in the folder `extra`.

    Raises:
        UnusableInput: `extra` is no folder, or holds a license that is shipped: what is shipped
            can be restricted by policy rules, not replaced.
        Unfinished: nothing is shipped.
    """
    if not any(FOLDER.glob("*.yaml")):
        raise Unfinished(f"no license files in {FOLDER}", hint="Reinstall release-kit.")
    if extra is None:
        return Licenses(FOLDER)
    if not extra.is_dir():
        raise UnusableInput(f"{extra}: there is no such folder")
    twins = {path.name for path in FOLDER.glob("*.yaml")} & {p.name for p in extra.glob("*.yaml")}
    if twins:
        raise UnusableInput(
            f"{extra}: {', '.join(sorted(twins))} would replace what is shipped",
            hint="Give your own license another id.",
        )
    return Licenses(FOLDER, extra)


def _read_license(path: Path) -> License:
    shown = f"policies/licenses/{path.name}" if path.parent == FOLDER else str(path)
    document = read_yaml(path, "license", shown_as=shown)
    if document.data["id"] != path.stem:
        position = document.locate(("id",))
        message = f"the id is '{document.data['id']}', but the file is named '{path.stem}'"
        raise UnusableInput(
            f"{document.path} cannot be used", problems=[Problem(document.path, *position, message)]
        )
    return _license(document, path.parent)


def _license(document: Document, folder: Path) -> License:
    data: Mapping[str, Any] = document.data
    reach = data.get("reaches_models", {"value": "silent", "section": "whole text"})
    return License(
        id=data["id"],
        spdx_id=data["spdx_id"] or "",
        name=data["name"],
        aliases=tuple(data.get("aliases", ())),
        version=data["version"] or "",
        family=data.get("family", ""),
        url=data["url"],
        kind=data["kind"],
        applies_to=tuple(data["applies_to"]),
        downstream_license=data["downstream_license"]["value"],
        downstream_scope=data["downstream_license"].get("scope", ""),
        downstream_section=data["downstream_license"]["section"],
        reaches_models=reach["value"],
        reaches_models_section=reach["section"],
        permissions={action: Permission(**said) for action, said in data["permissions"].items()},
        conditions=tuple(_condition(item) for item in data["conditions"]),
        limitations=tuple(_limitation(item) for item in data["limitations"]),
        notes=tuple(Note(**item) for item in data.get("notes", ())),
        texts=tuple(
            KnownText(_fingerprint(item), item.get("package", ""), item.get("file", ""))
            for item in data["texts"]
        ),
        copyright_line=data.get("copyright_line", False),
        source=data["source"],
        verified_at=data["verified_at"],
        unverified=data["unverified"],
        folder=folder,
    )


def _condition(item: Mapping[str, Any]) -> Condition:
    attachment = item.get("attachment")
    return Condition(
        kind=item["kind"],
        section=item["section"],
        fact=item["fact"],
        prescribed_text=item.get("prescribed_text", ""),
        alternatives=tuple(item.get("alternatives", ())),
        fill=tuple(item.get("fill", {}).items()),
        url=item.get("url", ""),
        relations=tuple(item.get("relations", ())),
        applies_when=AppliesWhen(**item["applies_when"]) if "applies_when" in item else None,
        scope=item.get("scope", ""),
        accepts=tuple(item.get("accepts", ())),
        mode=item.get("mode", ""),
        attachment=Attachment(attachment["title"], _fingerprint(attachment))
        if attachment
        else None,
        placement=tuple(item.get("placement", ())),
    )


def _limitation(item: Mapping[str, Any]) -> Limitation:
    return Limitation(
        kind=item["kind"],
        section=item["section"],
        fact=item["fact"],
        threshold=item.get("threshold"),
        measured=item.get("measured", ""),
        territory=tuple(item.get("territory", ())),
        applies_when=AppliesWhen(**item["applies_when"]) if "applies_when" in item else None,
        exempt_family=item.get("exempt_family", ""),
        scope=item.get("scope", ""),
    )


def _fingerprint(item: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(item["begins"], item["words"], item["sha256"])


def identified(word: str, licenses: Licenses) -> str:
    """Return the id that `word` plainly spells, or an empty string.

    An id spells itself. Else capitals, blanks, hyphens, a leading v of a version, a trailing .0
    and words such as "license" do not matter; a family never stands for one of its members.

    >>> identified("CC BY NC 4.0", load_licenses())
    'cc-by-nc-4.0'
    """
    if word in licenses or word in hub_licenses():
        return word
    found = _spellings(licenses).get(_spelling(word), frozenset())
    return next(iter(found)) if len(found) == 1 else ""


@cache
def _spellings(licenses: Licenses) -> Mapping[tuple[str, ...], frozenset[str]]:
    table: dict[tuple[str, ...], frozenset[str]] = {}
    names = [(license_id, license_id) for license_id in (*hub_licenses(), *licenses)]
    for license in licenses.values():
        if license.kind == "license":
            names += [(n, license.id) for n in (license.spdx_id, license.name, *license.aliases)]
    for name, license_id in names:
        key = _spelling(name)
        if key:
            table[key] = table.get(key, frozenset()) | {license_id}
    return table


_FILLERS = frozenset({"license", "licence", "the", "version", "agreement", "terms", "of", "use"})


def _spelling(word: str) -> tuple[str, ...]:
    spelled = re.sub(r"v(?:er|ersion)?\.?\s*(?=\d)", " ", word.casefold())
    tokens = [t for t in re.findall(r"[^\W\d_]+|\d+|\++", spelled) if t not in _FILLERS]
    # 2 and 2.0 are one version.
    while len(tokens) > 1 and tokens[-1] == "0" and tokens[-2].isdigit():
        tokens.pop()
    return tuple(tokens)


def nearest_license(word: str, licenses: Licenses) -> str:
    """Return the known id that `word` resembles, for a question to the user, or an empty string."""
    # Another license of the Hub is not misspelt: cc-by-sa-4.0 is not cc-by-4.0.
    if word in hub_licenses():
        return ""
    known = {license_id: license_id for license_id in licenses}
    known |= {lic.spdx_id.lower(): lic.id for lic in licenses.values() if lic.spdx_id}
    spelled = word.strip().lower().replace(" ", "-").replace("_", "-")
    close = difflib.get_close_matches(spelled, list(known), n=1, cutoff=0.75)
    return known[close[0]] if close else ""


def license_text(license: License) -> str | None:
    """Return the text of `license` from the installed package, or the file, that carries it.

    None when nothing does: then only the upstream's own copy will do.

    Raises:
        Unfinished: the package is not installed, or its text is not the one that was verified.
    """
    failure: ReleaseKitError | None = None
    for known in license.texts:
        if not known.file:
            continue
        raw = _carried_text(known.package, known.file, license.folder)
        text = excerpt(raw, known.fingerprint) if raw is not None else None
        if text is not None:
            return text.strip("\n") + "\n"
        failure = failure or _unusable_text(license, known, raw is not None)
    if failure:
        raise failure
    return None


def _unusable_text(license: License, known: KnownText, was_read: bool) -> Unfinished:
    if was_read:
        return Unfinished(
            f"the text of {license.id} in {known.package or known.file} is not the one that was"
            " verified",
            hint=f"Compare it with {license.source}, then correct texts in {license.id}.yaml.",
        )
    if not known.package:
        return Unfinished(
            f"the text of {license.id} is not at hand: there is no {known.file}",
            hint=f"Put the text into {license.folder / known.file}.",
        )
    return Unfinished(
        f"the text of {license.id} is not at hand: {known.package} is not whole",
        hint=f"pip install --force-reinstall {known.package}",
    )


@cache
def _carried_text(package: str, file: str, folder: Path) -> str | None:
    try:
        if not package:
            return (folder / file).read_text(encoding="utf-8-sig")
        path = Path(str(metadata.distribution(package).locate_file(file)))
        raw = path.read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError, UnicodeDecodeError):
        return None
    # scancode's files hold a YAML header, then the text.
    return raw.split("\n---\n", 1)[-1].lstrip("\n")
