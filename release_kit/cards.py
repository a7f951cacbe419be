"""A model card: YAML front matter and Markdown, parsed strictly and with line numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.strict_yaml import Document, parse_yaml, read_yaml

_FENCE = "---"
_OTHER = "other"


@dataclass(frozen=True)
class Card:
    """A card taken apart."""

    metadata: Document
    """The front matter; its data is a mapping and its lines are lines of the card."""
    body: str
    body_line: int
    """The card's line on which the body starts, 1-based."""


def parse_card(text: str, name: str) -> Card:
    """Take a card apart.

    Raises:
        UnusableInput: there is no front matter, it is not closed, or it is not a strict mapping.
    """
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    # With blanks behind it some readers of cards take the line for the fence and others do not.
    if lines[0] != _FENCE:
        raise _unusable(name, 1, f"the card does not start with a line '{_FENCE}'")
    for number, line in enumerate(lines[1:], start=1):
        if line == _FENCE:
            metadata = parse_yaml("\n".join(lines[1:number]), name, first_line=2)
            if not isinstance(metadata.data, dict):
                raise _unusable(name, 2, "the front matter is not a mapping of keys to values")
            return Card(metadata, "\n".join(lines[number + 1 :]), number + 2)
    raise _unusable(name, 1, f"the front matter is not closed by a line '{_FENCE}'")


def license_metadata(license_id: str) -> Mapping[str, str]:
    """Return the front-matter fields by which the Hub shows a license.

    An id that the Hub knows stands for itself; any other is `other` with a name and a link to the
    LICENSE file (Hub docs, Model cards, section Specifying a license).
    """
    if license_id in hub_licenses():
        return {"license": license_id}
    return {"license": _OTHER, "license_name": license_id, "license_link": "LICENSE"}


@cache
def hub_licenses() -> Mapping[str, str]:
    """Return the license ids that the Hub accepts → their names, in the Hub's order.

    Raises:
        UnusableInput: `policies/hub_licenses.yaml` breaks its schema.
    """
    shown = "policies/hub_licenses.yaml"
    document = read_yaml(POLICIES / "hub_licenses.yaml", "hub_licenses", shown_as=shown)
    return MappingProxyType({entry["id"]: entry["name"] for entry in document.data["licenses"]})


def _unusable(name: str, line: int, message: str) -> UnusableInput:
    return UnusableInput(f"{name} cannot be used", problems=[Problem(name, line, 1, message)])
