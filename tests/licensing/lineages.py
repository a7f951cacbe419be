"""Releases, upstreams and judgements for tests, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from release_kit.licensing.facts import Situation
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import License, load_licenses
from release_kit.licensing.lineage import Lineage, Part
from release_kit.licensing.policy import Grant, Policy, load_policy
from release_kit.release import Act, DocumentFacts, Organization, Release, Upstream

DAY = date(2026, 11, 23)

_USUAL = {
    "base_model": "weights-derived",
    "adapter": "adapter-delta",
    "dataset": "trained-on-data",
    "generator": "trained-on-outputs",
    "code": "tool-only",
}


@cache
def baseline() -> Policy:
    """Return the shipped policy, read once."""
    return load_policy()


def upstream(
    license: str,
    role: str = "base_model",
    *,
    relation: str = "",
    id: str = "acme/part",
    path: Path | None = None,
    attribution: str = "Part by the Acme team, copyright Acme.",
    changes: str = "All of it was changed.",
    line: int = 7,
    **more: Any,
) -> Upstream:
    """Return one node of a lineage."""
    return Upstream(
        id=id,
        role=role,
        relation=relation or _USUAL[role],
        license=license,
        source=f"https://example.org/{id}",
        path=path,
        revision=more.pop("revision", ""),
        attribution=attribution,
        changes=changes,
        position=(line, 7),
        **more,
    )


def act(kind: str) -> Act:
    """Return something that somebody did."""
    return Act(kind, "Legal", "2026-11-01", "ticket 7")


def release(
    license: str,
    *lineage: Upstream,
    purpose: str = "commercial",
    users: int | None = 12,
    revenue: int | None = 1000,
    seat: str = "US",
    kind: str = "company",
    repo_id: str = "acme/topics",
    title: str = "",
    visibility: str = "public",
    gating: str = "open",
    modalities: tuple[str, ...] = ("text",),
) -> Release:
    """Return a release made from `lineage`; its title is the model's name unless given."""
    return Release(
        file=Path("release.yaml"),
        repo_id=repo_id,
        version="1.0.0",
        license=license,
        purpose=purpose,
        visibility=visibility,
        gating=gating,
        organization=Organization("Acme Tests", kind, "", users, revenue, revenue, seat),
        lineage=tuple(replace(u, modalities=u.modalities or modalities) for u in lineage),
        privacy=None,
        training=None,
        documents=DocumentFacts(
            title or repo_id.split("/")[1],
            "Tells topics.",
            ("en",),
            ("Notes.",),
            ("None.",),
            ("Few.",),
            "",
        ),
        policy="",
        license_position=(4, 3),
        modalities=modalities,
    )


def judged(
    license: str, *lineage: Upstream, policy: Policy | None = None, **said: Any
) -> Judgement:
    """Return what a policy, the baseline unless given, says about such a release."""
    return judge(release(license, *lineage, **said), policy or baseline(), day=DAY)


def objections(judgement: Judgement) -> set[str]:
    """Return the policy rules that do not allow the release; empty text where none spoke."""
    return {decision.rule for decision in judgement.decisions if decision.decide != "allow"}


def as_declared(made: Release) -> Lineage:
    """Return the lineage as release.yaml declares it; no file is looked at."""
    return Lineage(tuple(Part(u, u.license, "declaration") for u in made.lineage), ())


def situated(
    license: str, *lineage: Upstream, policy: Policy | None = None, **said: Any
) -> Situation:
    """Return what is known of such a release before anything is decided."""
    made = release(license, *lineage, **said)
    return Situation(made, as_declared(made).parts, policy or baseline(), DAY)


def turned(policy: Policy, positions: Mapping[str, str]) -> Policy:
    """Return the policy with some knobs in other positions."""
    assert positions.keys() <= policy.knobs.keys()
    knobs = {name: replace(policy.knobs[name], set=said) for name, said in positions.items()}
    return replace(policy, knobs={**policy.knobs, **knobs})


class _Known(dict[str, License]):
    # As of the shipped ones: two knowledge bases are never the same one.
    __hash__ = object.__hash__  # type: ignore[assignment]


def knowing(*licenses: License) -> Policy:
    """Return the baseline with some licenses added, or in place of those of the same id."""
    known = _Known({**load_licenses(), **{license.id: license for license in licenses}})
    return replace(baseline(), licenses=known)  # type: ignore[arg-type]


def granted(*, policy: Policy | None = None, id: str = "acme/part", **said: Any) -> Policy:
    """Return the policy, the baseline unless given, with one more license that was bought."""
    policy = policy or baseline()
    bought = Grant(
        id="bought",
        licensor="Licensor Ltd",
        upstream=id,
        release=said.pop("release", ""),
        permits=tuple(said.pop("permits", ())),
        lifts=tuple(said.pop("lifts", ())),
        discharges=tuple(said.pop("discharges", ())),
        own_terms=said.pop("own_terms", False),
        owner="Legal",
        evidence="contract 7",
        signed=said.pop("signed", "2026-01-01"),
        expires=said.pop("expires", "2027-01-01"),
        file="policy.yaml",
        position=(1, 1),
    )
    assert not said, said
    return replace(policy, grants=(*policy.grants, bought))
