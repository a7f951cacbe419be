"""A policy file as frozen values: rules, proofs of obligations, scopes of personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES, json_bytes, sha256_bytes, sha256_file
from release_kit.licensing.licenses import FOLDER
from release_kit.strict_yaml import Document, Position, read_yaml

BASELINE = POLICIES / "baseline.yaml"

FactValue = str | bool

# The facts that a rule's reason may name in braces.
_NAMED_FACTS = frozenset(
    {"upstream.id", "upstream.role", "upstream.license", "release.license", "release.purpose"}
)


@dataclass(frozen=True)
class PolicyRule:
    """One rule: when all its facts are true, it decides."""

    id: str
    when: Mapping[str, tuple[FactValue, ...]]
    """Fact name → the values that fulfil it."""
    decide: str
    """allow, review or deny."""
    because: str
    how_to_fix: str
    cite: tuple[str, ...]
    """Facts of the upstream's license whose sections a finding cites."""
    position: Position

    @property
    def about_upstream(self) -> bool:
        """True when the rule asks about an upstream, false when only about the release."""
        return any(fact.startswith("upstream.") for fact in self.when)


@dataclass(frozen=True)
class Scope:
    """What counts as personal data in the files whose paths match."""

    paths: tuple[str, ...]
    examine: bool
    entities: tuple[str, ...]
    severity: str
    because: str


@dataclass(frozen=True)
class Policy:
    """Everything a policy file says, and the digest that binds an audit to it."""

    name: str
    version: int
    file: str
    digest: str
    """SHA-256 over the policy file, the license files and the Hub's license list."""
    rules: tuple[PolicyRule, ...]
    obligation_relations: tuple[str, ...]
    proofs: Mapping[str, str]
    """Condition kind → what proves it."""
    personal_data_language: str
    personal_data_pipelines: tuple[str, ...]
    """spaCy pipelines for a release that names none of its own; the first installed one serves."""
    personal_data_min_score: float
    personal_data_scopes: tuple[Scope, ...]


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file; None reads the shipped `policies/baseline.yaml`.

    Raises:
        UnusableInput: with file, line and column of every mistake.
    """
    file = path or BASELINE
    shown = f"policies/{file.name}" if path is None else str(file)
    document = read_yaml(file, "policy", shown_as=shown)
    data = document.data
    mistakes = sorted([*_unknown_facts(document), *_twins(document)])
    if mistakes:
        raise UnusableInput(f"{document.path} cannot be used", problems=mistakes)
    personal_data = data["personal_data"]
    return Policy(
        name=data["policy"],
        version=data["version"],
        file=shown,
        digest=_digest(file),
        rules=tuple(_rule(document, index) for index in range(len(data["rules"]))),
        obligation_relations=tuple(data["obligations"]["relations"]),
        proofs=data["obligations"]["proofs"],
        personal_data_language=personal_data["language"],
        personal_data_pipelines=tuple(personal_data["spacy_pipelines"]),
        personal_data_min_score=float(personal_data["min_score"]),
        personal_data_scopes=tuple(
            Scope(
                paths=tuple(scope["paths"]),
                examine=scope["examine"],
                entities=tuple(scope.get("entities", ())),
                severity=scope.get("severity", "error"),
                because=scope["because"],
            )
            for scope in personal_data["scopes"]
        ),
    )


def _unknown_facts(document: Document) -> Iterator[Problem]:
    known = ", ".join(sorted(_NAMED_FACTS))
    for index, item in enumerate(document.data["rules"]):
        for key in ("because", "how_to_fix"):
            for name in re.findall(r"\{([^}]*)\}", item.get(key, "")):
                if name not in _NAMED_FACTS:
                    position = document.locate(("rules", index, key))
                    message, hint = f"{{{name}}} names no fact", f"known here: {known}"
                    yield Problem(document.path, *position, message, hint)


def _twins(document: Document) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(document.data["rules"]):
        if item["id"] in seen:
            position = document.locate(("rules", index))
            yield Problem(document.path, *position, f"a rule named '{item['id']}' exists")
        seen.add(item["id"])


def _rule(document: Document, index: int) -> PolicyRule:
    item: Mapping[str, Any] = document.data["rules"][index]
    return PolicyRule(
        id=item["id"],
        when={
            fact: tuple(wanted) if isinstance(wanted, list) else (wanted,)
            for fact, wanted in item["when"].items()
        },
        decide=item["decide"],
        because=item["because"],
        how_to_fix=item.get("how_to_fix", ""),
        cite=tuple(item.get("cite", ())),
        position=document.locate(("rules", index)),
    )


def _digest(file: Path) -> str:
    parts = {"policy": sha256_file(file)}
    for path in (*sorted(FOLDER.glob("*.yaml")), POLICIES / "hub_licenses.yaml"):
        parts[path.name] = sha256_file(path)
    return sha256_bytes(json_bytes(parts))
