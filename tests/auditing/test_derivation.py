"""What the lineage says of the weights against what the weights say, by the shipped policy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import derivation
from release_kit.auditing.checks.check import Outcome
from release_kit.bundle import read_bundle
from release_kit.licensing.policy import Policy, WeightLimit, load_policy
from release_kit.release import RELEASE_FILE, read_release
from tests.bundles import save_shards, save_tensors, tensors_of
from tests.projects import RELEASE_YAML

FILE = "model.safetensors"
BASE = "acme/tiny-bert"
Tensors = dict[str, Any]


def _drawn(seed: int, width: int = 12) -> Tensors:
    draw = np.random.default_rng(seed)
    shapes = {"embed.weight": (40, width)}
    shapes |= {f"layers.{n}.{w}.weight": (width, width) for n in range(3) for w in ("q", "k")}
    made = {name: draw.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    return made | {"norm.weight": np.ones(width, "f4")}


def _tuned(tensors: Tensors, by: float = 0.05, seed: int = 9) -> Tensors:
    draw = np.random.default_rng(seed)
    return {
        name: array + (by * draw.normal(size=array.shape)).astype("f4")
        for name, array in tensors.items()
    }


ONE, OTHER = _drawn(1), _drawn(2)
OWN = _tuned(ONE)


def _save(folder: Path, tensors: Tensors | None, name: str = FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if tensors is not None:
        save_tensors(folder / name, tensors)
    return folder


def _run(
    folder: Path,
    own: Tensors | None,
    *upstreams: dict[str, Any],
    policy: Policy | None = None,
    file: str = FILE,
) -> Outcome:
    """Hold a bundle of these tensors against a lineage; the first upstream is the base."""
    (folder / RELEASE_FILE).write_text(RELEASE_YAML, encoding="utf-8")
    release = read_release(folder)
    base, data = release.lineage
    lineage = tuple(
        replace(base, **{"relation": "weights-derived", "path": None, **said}) for said in upstreams
    )
    bundle = read_bundle(_save(folder / "bundle", own, file))
    release = replace(release, lineage=(*lineage, data))
    day = date(2026, 11, 23)
    return derivation.CHECK.run(Candidate(bundle, release, policy or load_policy(), {}, day=day))


def _said(outcome: Outcome) -> list[tuple[str, str]]:
    assert {f.rule for f in outcome.findings} <= {"base-contradicted", "base-unexamined"}
    for finding in outcome.findings:
        assert finding.fix
        assert finding.cites
        assert finding.path == RELEASE_FILE
        assert finding.line
    return [(finding.severity, finding.clause) for finding in outcome.findings]


@pytest.mark.parametrize(
    ("own", "relation", "found"),
    [
        (OWN, "weights-derived", []),
        (_tuned(ONE, 1.0), "weights-derived", []),
        (_tuned(ONE, 2.0), "weights-derived", [("warning", "hardly-related")]),
        (_tuned(ONE, 9.0), "weights-derived", [("error", "unrelated")]),
        (OTHER, "weights-derived", [("error", "unrelated")]),
        (OTHER, "adapter-delta", [("error", "unrelated")]),
        ({k: (v + OTHER[k]) / 2 for k, v in ONE.items()}, "weights-derived", []),
        (ONE, "weights-derived", [("warning", "nothing-changed")]),
        ({**ONE, "head.weight": OTHER["layers.0.q.weight"]}, "weights-derived", []),
        (ONE, "weights-shipped", []),
        ({**ONE, "norm.weight": ONE["norm.weight"] * 2}, "weights-shipped",
         [("error", "not-as-shipped")]),
        ({k: v for k, v in ONE.items() if k != "layers.2.k.weight"}, "weights-shipped",
         [("warning", "not-all-shipped")]),
        ({**OWN, "more.weight": np.ones((90, 90), "f4")}, "weights-derived", []),
        ({"layers.0.q.weight": OWN["layers.0.q.weight"], "more.weight": np.ones((90, 90), "f4")},
         "weights-derived", [("warning", "little-in-common")]),
        (_drawn(1, 16), "weights-derived", [("warning", "base-not-comparable")]),
        (_drawn(1, 16), "weights-shipped",
         [("error", "not-as-shipped"), ("warning", "not-all-shipped"),
          ("warning", "base-not-comparable")]),
    ],
)  # fmt: skip
def test_what_is_declared_is_held_against_what_was_measured(
    own: Tensors, relation: str, found: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = _save(tmp_path / "base", ONE)
    outcome = _run(tmp_path, own, {"path": path, "relation": relation})
    assert _said(outcome) == found
    assert outcome.not_examined == ()
    assert outcome.examined["models compared"] == (("warning", "base-not-comparable") not in found)


def test_a_finding_has_the_figures_and_the_report_counts_them(tmp_path: Path) -> None:
    path = _save(tmp_path / "base", ONE)
    outcome = _run(tmp_path, OTHER, {"path": path})
    (finding,) = outcome.findings
    for words in (
        f"{BASE} is declared weights-derived, but its median cosine is ",
        "which is below 0.2",
        "1 of 8 common tensors are equal",
        "100.0% of the parameters are common",
        "matrices is ",
        "the highest rank of the 4 changes that were sampled is 12 of 12",
    ):
        assert words in finding.message
    assert finding.upstream == BASE
    assert "source: measured 2026-11" in finding.cites[1]
    counts = dict(_run(tmp_path, OWN, {"path": path}).examined)
    assert 990 < counts.pop("thousandths of median cosine to the base") < 1000
    assert counts == {
        "models compared": 1,
        "tensors compared with the base": 8,
        "tensors equal to the base": 0,
        "highest rank of a sampled change": 12,
    }


@pytest.mark.parametrize(
    ("reason", "clause"),
    [
        ("absent", "base-not-readable"),
        ("no-weights", "base-not-readable"),
        ("unreadable", "base-not-readable"),
        ("no-path", ""),
    ],
)
def test_what_could_not_be_compared_is_never_passed_over(
    reason: str, clause: str, tmp_path: Path
) -> None:
    path: Path | None = tmp_path / "base"
    if reason == "no-weights":
        (_save(tmp_path / "base", None) / "model.gguf").write_bytes(b"GGUF")
    elif reason == "unreadable":
        file = _save(tmp_path / "base", ONE) / FILE
        file.write_bytes(file.read_bytes()[:-1])
    elif reason == "no-path":
        path = None
    outcome = _run(tmp_path, OWN, {"path": path})
    assert _said(outcome) == ([("warning", clause)] if clause else [])
    assert outcome.examined == {"models compared": 0}
    if not clause:
        (unseen,) = outcome.not_examined
        assert unseen.path == RELEASE_FILE
        assert unseen.because.startswith(f"{BASE}: release.yaml names no path")
    # A policy may want more, and the strictest of its lines is told.
    lines = load_policy().unexamined_weights
    strict = replace(lines[0], id="all", reasons=(reason,), severity="error")
    policy = replace(load_policy(), unexamined_weights=(*lines, strict))
    outcome = _run(tmp_path, OWN, {"path": path}, policy=policy)
    assert _said(outcome) == [("error", "all")]
    assert outcome.not_examined == ()


def test_a_bundle_without_readable_weights_is_told_as_not_examined(tmp_path: Path) -> None:
    path = _save(tmp_path / "base", ONE)
    outcome = _run(tmp_path, None, {"path": path})
    assert (outcome.findings, outcome.examined) == ((), {"models compared": 0})
    assert "holds no weights" in outcome.not_examined[0].because
    (tmp_path / "bundle" / FILE).write_bytes(b"\xff" * 9)
    assert _run(tmp_path, None, {"path": path}).not_examined == outcome.not_examined


def test_the_base_may_be_a_file_shards_or_links_into_a_cache(tmp_path: Path) -> None:
    blobs = _save(tmp_path / "blobs", ONE)
    linked = _save(tmp_path / "snapshot", None)
    (linked / FILE).symlink_to(blobs / FILE)
    sharded = _save(tmp_path / "sharded", ONE)
    save_shards(sharded, tensors_of(sharded / FILE))
    for path in (blobs / FILE, linked, sharded, sharded / "model.safetensors.index.json"):
        outcome = _run(tmp_path, OWN, {"path": path})
        assert _said(outcome) == []
        assert outcome.examined["tensors compared with the base"] == 8
    next(sharded.glob("*-00002-*")).unlink()
    assert _said(_run(tmp_path, OWN, {"path": sharded})) == [("warning", "base-not-readable")]


def test_a_shard_that_leads_out_of_the_bundle_is_not_followed(tmp_path: Path) -> None:
    path = _save(tmp_path / "base", ONE)
    bundle = _save(tmp_path / "bundle", OWN)
    save_shards(bundle, tensors_of(bundle / FILE))
    assert _run(tmp_path, None, {"path": path}).examined["models compared"] == 1
    shard = next(bundle.glob("*-00002-*"))
    shard.rename(tmp_path / shard.name)
    shard.symlink_to(tmp_path / shard.name)
    assert _run(tmp_path, None, {"path": path}).examined["models compared"] == 0


def test_another_base_that_is_nearer_is_named(tmp_path: Path) -> None:
    right = {"id": "acme/right", "path": _save(tmp_path / "right", ONE)}
    wrong = {"id": "acme/wrong", "path": _save(tmp_path / "wrong", OTHER)}
    outcome = _run(tmp_path, OWN, wrong, right)
    (finding,) = outcome.findings
    assert finding.upstream == "acme/wrong"
    assert "the weights are nearer to acme/right (median cosine 0.99" in finding.message
    assert outcome.examined["models compared"] == 2
    assert outcome.examined["thousandths of median cosine to the base"] > 990
    (finding,) = _run(tmp_path, OWN, wrong).findings
    assert "nearer" not in finding.message


def test_a_generator_whose_weights_were_used_is_none(tmp_path: Path) -> None:
    def generator(tensors: Tensors, **said: Any) -> dict[str, Any]:
        path = _save(tmp_path / "generator", tensors)
        said = {"relation": "trained-on-outputs", **said}
        return {"id": "acme/generator", "role": "generator", "path": path, **said}

    base = {"path": _save(tmp_path / "base", ONE)}
    sibling = _tuned(ONE, 0.05, seed=3)
    # A sibling that was trained apart is farther away than the base they share.
    for other in (OTHER, sibling, _drawn(1, 16)):
        assert _said(_run(tmp_path, OWN, base, generator(other))) == []
    assert _said(_run(tmp_path, OWN, generator(OTHER))) == []
    shipped = {**base, "relation": "weights-shipped"}
    assert _said(_run(tmp_path, ONE, shipped, generator(ONE))) == []
    for relation in ("trained-on-outputs", "tool-only"):
        for lineage in ([base], []):
            used = generator(sibling, relation=relation)
            outcome = _run(tmp_path, _tuned(sibling, 0.01), *lineage, used)
            assert _said(outcome) == [("warning", "nearer-to-a-tool")]
            assert _said(_run(tmp_path, sibling, *lineage, used)) == _said(outcome)


def _lora(width: int, name: str = "layers.0.q") -> Tensors:
    return {
        f"base_model.model.{name}.lora_A.weight": np.ones((2, width), "f4"),
        f"base_model.model.{name}.lora_B.weight": np.ones((width, 2), "f4"),
    }


@pytest.mark.parametrize("relation", ["adapter-delta", "weights-derived"])
def test_an_adapter_must_fit_its_base(relation: str, tmp_path: Path) -> None:
    base = {"path": _save(tmp_path / "base", ONE), "relation": relation}
    name = "adapter_model.safetensors"
    fits = _run(tmp_path, _lora(12) | _lora(12, "layers.1.k"), base, file=name)
    assert _said(fits) == []
    assert fits.examined == {"models compared": 1, "matrices that an adapter changes": 2}
    for other in (_lora(16), _lora(12, "layers.9.q")):
        outcome = _run(tmp_path, _lora(12, "layers.1.k") | other, base, file=name)
        assert _said(outcome) == [("error", "adapter-of-another-model")]
        assert "1 of 2 matrices" in outcome.findings[0].message
    # An adapter that goes on from an adapter is compared with it.
    before = {"path": _save(tmp_path / "before", _lora(12), name), "role": "adapter"}
    shutil.rmtree(tmp_path / "bundle")
    outcome = _run(tmp_path, _tuned(_lora(12)), before, file=name)
    assert _said(outcome) == []
    assert outcome.examined["tensors compared with the base"] == 2


def test_weights_beside_those_that_were_made_from_the_base_are_told(tmp_path: Path) -> None:
    base = {"path": _save(tmp_path / "base", ONE)}
    _save(tmp_path / "bundle" / "2_Dense", {"linear.weight": OTHER["embed.weight"]})
    outcome = _run(tmp_path, OWN, base)
    assert _said(outcome) == []
    (unseen,) = outcome.not_examined
    assert unseen.path == f"2_Dense/{FILE}"


def test_the_rank_of_a_change_can_be_a_limit(tmp_path: Path) -> None:
    limit = WeightLimit(
        "full-rank", ("adapter-delta",), "rank-share", 0.5, None, "warning", "we say so", "ours"
    )
    policy = replace(load_policy(), weight_limits=(limit,))
    base = {"path": _save(tmp_path / "base", ONE), "relation": "adapter-delta"}
    draw = np.random.default_rng(5)
    delta = (draw.normal(size=(12, 3)) @ draw.normal(size=(3, 12))).astype("f4")
    merged = {**ONE, "layers.0.q.weight": ONE["layers.0.q.weight"] + delta}
    assert _said(_run(tmp_path, merged, base, policy=policy)) == []
    assert _said(_run(tmp_path, OWN, base, policy=policy)) == [("warning", "full-rank")]
    without = replace(policy, weight_limits=())
    assert _said(_run(tmp_path, OTHER, base, policy=without)) == []


def test_a_lineage_of_data_alone_and_none_at_all_have_nothing_to_hold_against(
    tmp_path: Path,
) -> None:
    outcome = _run(tmp_path, OWN)
    assert (outcome.findings, outcome.not_examined) == ((), ())
    assert outcome.examined == {"models compared": 0}
    bare = Candidate(read_bundle(tmp_path / "bundle"), None, load_policy(), {})
    assert derivation.CHECK.run(bare) == Outcome(())
