"""Releases and upstreams for tests, as frozen values."""

from __future__ import annotations

from pathlib import Path

from release_kit.release import DocumentFacts, Organization, Release, Upstream

_USUAL = {
    "base_model": "weights-derived",
    "adapter": "adapter-delta",
    "dataset": "trained-on-data",
    "generator": "trained-on-outputs",
    "code": "tool-only",
}


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
) -> Upstream:
    """Return one node of a lineage."""
    return Upstream(
        id=id,
        role=role,
        relation=relation or _USUAL[role],
        license=license,
        source=f"https://example.org/{id}",
        path=path,
        revision="",
        attribution=attribution,
        changes=changes,
        position=(line, 7),
    )


def release(
    license: str,
    *lineage: Upstream,
    purpose: str = "commercial",
    users: int | None = 12,
    repo_id: str = "acme/topics",
) -> Release:
    """Return a public release made from `lineage`."""
    return Release(
        file=Path("release.yaml"),
        repo_id=repo_id,
        version="1.0.0",
        license=license,
        purpose=purpose,
        visibility="public",
        gating="open",
        organization=Organization("Acme Tests", "company", "", users),
        lineage=lineage,
        privacy=None,
        training=None,
        documents=DocumentFacts(
            "Topics", "Tells topics.", ("en",), ("Notes.",), ("None.",), ("Few.",), ""
        ),
        policy=None,
        license_position=(4, 3),
    )
