"""What publishing keeps of a release, and what the next one is held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import release_kit
from release_kit.publishing.rehearsal import RehearsalHub
from tests.bundles import stamp
from tests.projects import edit
from tests.publishing.releases import publish


def _history(project: Path) -> list[dict[str, Any]]:
    kept: dict[str, Any] = json.loads((project / "out/history.json").read_bytes())
    releases: list[dict[str, Any]] = kept["releases"]
    return releases


def _rules(project: Path) -> list[tuple[str, str]]:
    return [(one.rule, one.clause) for one in release_kit.audit(project).findings]


def test_the_figures_of_a_release_are_what_the_next_is_held_against(
    hub: RehearsalHub, project: Path
) -> None:
    assert any(
        "no earlier release" in one.because for one in release_kit.audit(project).not_examined
    )
    publication = publish(project, hub)
    evaluation = json.loads((project / "out/evaluation.json").read_bytes())
    (kept,) = _history(project)
    assert (kept["version"], kept["manifest_digest"]) == ("1.0.0", publication.manifest_digest)
    assert kept["test_split"] == evaluation["test_split"]
    assert kept["figures"] == {n: one["value"] for n, one in evaluation["figures"].items()}
    assert {label: one["class_f1"] for label, one in kept["classes"].items()} == {
        one["label"]: one["f1"] for one in evaluation["classes"]
    }
    # A run after a finished one adds nothing, and a release is not held against itself.
    publish(project, hub)
    assert _history(project) == [kept]
    edit(project / "out/history.json", '"macro_f1": ', '"macro_f1": 1')
    assert _rules(project) == []

    edit(project / "release.yaml", '"1.0.0"', '"1.1.0"')
    release_kit.build(project)
    assert _rules(project) == [("quality-missed", "classes-not-worse-than-last")]
    assert not [one for one in release_kit.audit(project).not_examined if "earlier" in one.because]


def test_figures_that_are_not_those_of_the_bundle_are_not_kept(
    hub: RehearsalHub, project: Path
) -> None:
    path = project / "out/receipts/evaluate.json"
    receipt = json.loads(path.read_bytes())
    receipt["results"]["figures"]["macro_f1"]["value"] = 0.99
    path.write_text(json.dumps(receipt), encoding="utf-8")
    stamp(project)
    release_kit.audit(project)
    publish(project, hub)
    (kept,) = _history(project)
    assert (kept["test_split"], kept["figures"], kept["classes"]) == ("", {}, {})
