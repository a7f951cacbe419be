"""Under which license a public model was released, by its id: `policies/models.yaml`.

A model family is no license: version and size decide, so only listed ids are answered for. A model
that somebody fine-tuned and renamed is not listed, however much its name resembles one that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from release_kit.cards import hub_licenses
from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.licensing.licenses import load_licenses, nearest_license
from release_kit.strict_yaml import Document, Pointer, Position, read_yaml

MODELS = POLICIES / "models.yaml"

# What may stand in an id on the Hub: `huggingface_hub.utils.validate_repo_id`.
_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class ModelLicense:
    """The license of a model, and how that is known."""

    license: str
    also: tuple[str, ...]
    """Licenses whose terms hold beside it."""
    source: str
    """The page that settles it."""
    date: str
    """The day on which it was looked up, ISO 8601."""
    read: str
    """primary: the license at `source` was read; secondary: others report it."""
    because: str
    position: Position
    """Line and column of the entry, 1-based."""


@dataclass(frozen=True)
class Models:
    """The table in its order: the first glob that matches decides."""

    entries: tuple[tuple[re.Pattern[str], ModelLicense], ...]

    @cached_property
    def _by_owner(self) -> Mapping[str, tuple[tuple[re.Pattern[str], ModelLicense], ...]]:
        """The entries that can match a model of an owner, by the owner in lower case.

        Those whose glob leaves the owner open stand under every owner, and under no name.
        """
        owners = {_owner(glob.pattern) for glob, _ in self.entries} | {""}
        return {
            owner: tuple(
                (glob, said) for glob, said in self.entries if _owner(glob.pattern) in {owner, ""}
            )
            for owner in owners
        }

    def license_of(self, model_id: str) -> ModelLicense | None:
        """Return the license of the model `owner/name`; None when the table does not list it."""
        if not _ID.fullmatch(model_id):
            return None
        owner, slash, _ = model_id.casefold().partition("/")
        entries = self._by_owner.get(owner if slash else "", self._by_owner[""])
        return next((said for glob, said in entries if glob.fullmatch(model_id)), None)


def license_of_model(model_id: str) -> ModelLicense | None:
    """Return what the shipped table says of the model `owner/name`; None when it is not listed.

    Raises:
        UnusableInput: the table cannot be used.
    """
    return load_models().license_of(model_id)


@cache
def load_models(path: Path | None = None) -> Models:
    """Read a table of models; None reads the shipped `policies/models.yaml`.

    Raises:
        UnusableInput: with line and column of whatever breaks `schemas/models.schema.json`, names
            a license that nobody knows, or can never match because an earlier line always does.
    """
    shown = "policies/models.yaml" if path is None else str(path)
    document = read_yaml(path or MODELS, "models", shown_as=shown)
    mistakes = sorted([*_unknown_licenses(document), *_unreachable(document)])
    if mistakes:
        raise UnusableInput(f"{document.path} cannot be used", problems=mistakes)
    return Models(
        tuple(
            (_pattern(glob), _entry(document, index))
            for index, item in enumerate(document.data["models"])
            for glob in item["match"]
        )
    )


def _entry(document: Document, index: int) -> ModelLicense:
    item = document.data["models"][index]
    return ModelLicense(
        license=item["license"],
        also=tuple(item.get("also", ())),
        source=item["source"],
        date=item["date"],
        read=item["read"],
        because=item.get("because", ""),
        position=document.locate(("models", index)),
    )


def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(re.escape(glob).replace(r"\*", "[^/]*"), re.ASCII | re.IGNORECASE)


def _owner(pattern: str) -> str:
    """Return the owner that a pattern names, in lower case; empty where it leaves that open."""
    owner, slash, _ = pattern.replace("[^/]*", "*").replace("\\", "").partition("/")
    return owner.casefold() if slash and "*" not in owner else ""


def _unknown_licenses(document: Document) -> Iterator[Problem]:
    licenses = load_licenses()
    for index, item in enumerate(document.data["models"]):
        named: list[tuple[Pointer, str]] = [(("models", index, "license"), item["license"])]
        named += [
            (("models", index, "also", n), word) for n, word in enumerate(item.get("also", ()))
        ]
        for pointer, word in named:
            if word not in licenses and word not in hub_licenses():
                near = nearest_license(word, licenses)
                yield Problem(
                    document.path,
                    *document.locate(pointer),
                    f"'{word}' is neither in policies/licenses nor a license of the Hub",
                    f"did you mean '{near}'?" if near else "write unknown and say why in because",
                )


def _unreachable(document: Document) -> Iterator[Problem]:
    earlier: list[tuple[re.Pattern[str], str, int]] = []
    for index, item in enumerate(document.data["models"]):
        for number, glob in enumerate(item["match"]):
            line, column = document.locate(("models", index, "match", number))
            # A * is no letter of any id, so only a * matches it: a pattern that matches the glob
            # itself matches all that the glob does. Several patterns that cover a glob only
            # together do not exist, for the same reason.
            cover = next((e for e in earlier if e[0].fullmatch(glob)), None)
            if cover:
                yield Problem(
                    document.path,
                    line,
                    column,
                    f"'{glob}' can never match: '{cover[1]}' in line {cover[2]} always does",
                    "Put it before that line, or remove it.",
                )
            earlier.append((_pattern(glob), glob, line))
