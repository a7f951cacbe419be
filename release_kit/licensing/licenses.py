"""The license knowledge base: one YAML file a license under `policies/licenses/`."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from release_kit.cards import hub_licenses
from release_kit.errors import Problem, Unfinished, UnusableInput
from release_kit.files import POLICIES, sha256_bytes
from release_kit.strict_yaml import read_yaml

FOLDER = POLICIES / "licenses"


@dataclass(frozen=True)
class Permission:
    """What the text says about one action."""

    verdict: str
    """granted, conditional, withheld, silent or unknown."""
    section: str


@dataclass(frozen=True)
class Condition:
    """Something to do when the licensed material is passed on."""

    kind: str
    section: str
    fact: str
    prescribed_text: str
    """Words the license prescribes, letter by letter; empty when it prescribes none."""
    url: str
    relations: tuple[str, ...]
    """The relations to the release that trigger it; empty means every one the policy counts."""


@dataclass(frozen=True)
class Limitation:
    """Something that must not be true."""

    kind: str
    section: str
    fact: str
    threshold: int | None


@dataclass(frozen=True)
class TextSource:
    """The installed package that carries a license's text."""

    package: str
    file: str
    sha256: str
    copyright_line: bool
    """True when the text needs a copyright line before it."""


@dataclass(frozen=True)
class License:
    """What one license says, each fact with its section."""

    id: str
    spdx_id: str
    """Empty when SPDX has no id for it."""
    name: str
    url: str
    kind: str
    """license, or placeholder for an id that names no text."""
    downstream_license: str
    downstream_section: str
    permissions: Mapping[str, Permission]
    conditions: tuple[Condition, ...]
    limitations: tuple[Limitation, ...]
    text: TextSource | None
    title: str
    """Words that every copy of the text holds; empty when a package carries the text."""
    source: str
    verified_at: str
    unverified: bool

    def permission(self, action: str) -> Permission:
        """Return what the text says about `action`; what nobody noted is unknown."""
        return self.permissions.get(action, Permission("unknown", "not noted"))

    def limitation(self, kind: str) -> Limitation | None:
        """Return the first limitation of that kind."""
        return next((limit for limit in self.limitations if limit.kind == kind), None)


@cache
def load_licenses() -> Mapping[str, License]:
    """Read every file of `policies/licenses/`, by license id.

    Raises:
        UnusableInput: a file breaks `schemas/license.schema.json` or its name is not its id.
    """
    licenses: dict[str, License] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        document = read_yaml(path, "license", shown_as=f"policies/licenses/{path.name}")
        data = document.data
        if data["id"] != path.stem:
            position = document.locate(("id",))
            message = f"the id is '{data['id']}', but the file is named '{path.stem}'"
            raise UnusableInput(
                f"{document.path} cannot be used",
                problems=[Problem(document.path, *position, message)],
            )
        licenses[data["id"]] = _license(data)
    if not licenses:
        raise Unfinished(f"no license files in {FOLDER}", hint="Reinstall release-kit.")
    return MappingProxyType(licenses)


def _license(data: Mapping[str, Any]) -> License:
    return License(
        id=data["id"],
        spdx_id=data["spdx_id"] or "",
        name=data["name"],
        url=data["url"],
        kind=data["kind"],
        downstream_license=data["downstream_license"]["value"],
        downstream_section=data["downstream_license"]["section"],
        permissions={
            action: Permission(said["verdict"], said["section"])
            for action, said in data["permissions"].items()
        },
        conditions=tuple(
            Condition(
                kind=item["kind"],
                section=item["section"],
                fact=item["fact"],
                prescribed_text=item.get("prescribed_text", ""),
                url=item.get("url", ""),
                relations=tuple(item.get("relations", ())),
            )
            for item in data["conditions"]
        ),
        limitations=tuple(
            Limitation(item["kind"], item["section"], item["fact"], item.get("threshold"))
            for item in data["limitations"]
        ),
        text=TextSource(**data["text"]) if data["text"] else None,
        title=data.get("title", ""),
        source=data["source"],
        verified_at=data["verified_at"],
        unverified=data["unverified"],
    )


def nearest_license(word: str) -> str:
    """Return the known id that `word` plainly resembles, or an empty string."""
    # Another license of the Hub is not misspelt: cc-by-sa-4.0 is not cc-by-4.0.
    if word in hub_licenses():
        return ""
    known = {license.id: license.id for license in load_licenses().values()}
    known |= {lic.spdx_id.lower(): lic.id for lic in load_licenses().values() if lic.spdx_id}
    spelled = word.strip().lower().replace(" ", "-").replace("_", "-")
    close = difflib.get_close_matches(spelled, list(known), n=1, cutoff=0.75)
    return known[close[0]] if close else ""


def license_text(license: License) -> str | None:
    """Return the text of `license` from the installed package that carries it.

    None when no package carries it: then only the upstream's own copy will do.

    Raises:
        Unfinished: the package is not installed, or its text is not the one that was verified.
    """
    if license.text is None:
        return None
    body = _packaged_text(license.text)
    if body is None:
        raise Unfinished(
            f"the text of {license.id} is not at hand: {license.text.package} is not whole",
            hint=f"pip install --force-reinstall {license.text.package}",
        )
    if sha256_bytes(body) != license.text.sha256:
        raise Unfinished(
            f"the text of {license.id} in {license.text.package} is not the one that was verified",
            hint=f"Compare it with {license.source}, then correct text.sha256 in "
            f"policies/licenses/{license.id}.yaml.",
        )
    return body.decode("utf-8")


@cache
def _packaged_text(source: TextSource) -> bytes | None:
    try:
        raw = Path(str(metadata.distribution(source.package).locate_file(source.file))).read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        return None
    # scancode's files hold a YAML header, then the text.
    return raw.split(b"\n---\n", 1)[-1].lstrip(b"\n")


def normalized(text: str) -> str:
    r"""Return `text` in Unicode NFC with every run of white space as one blank.

    License texts are compared in this form, since wrapping and indentation say nothing.

    >>> normalized(" Built  with\n Llama ")
    'Built with Llama'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())
