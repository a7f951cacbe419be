"""What a release owes, and which debts no release can pay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from release_kit.licensing.judgement import Judgement
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.licensing.obligations import CONFLICTS, Obligation
from release_kit.licensing.policy import Policy
from release_kit.release import Upstream
from tests.licensing.lineages import baseline, granted, judged, knowing, turned, upstream

KNOWN = load_licenses()
WEIGHTS, DELTA, MERGED = "weights-derived", "adapter-delta", "weights-shipped"
OUTPUTS, DATA, SHIPPED, TOOL = "trained-on-outputs", "trained-on-data", "data-shipped", "tool-only"
_ROLE = {DELTA: "adapter", OUTPUTS: "generator", DATA: "dataset", SHIPPED: "dataset", TOOL: "code"}


def _part(license: str, relation: str = WEIGHTS, id: str = "") -> Upstream:
    role = _ROLE.get(relation, "base_model")
    return upstream(license, role, relation=relation, id=id or f"acme/{license}")


def _kinds(license: str, relation: str = WEIGHTS, **said: Any) -> list[str]:
    """Return the kinds of what is owed for one upstream, in the order of its license file."""
    return [o.kind for o in judged("mit", _part(license, relation, "acme/part"), **said).owed]


# Obligations.


@pytest.mark.parametrize(
    ("license", "relation", "wanted"),
    [
        ("mit", WEIGHTS, ["include-license-copy", "retain-notices"]),
        ("mit", SHIPPED, ["include-license-copy", "retain-notices"]),
        ("mit", TOOL, []),
        ("mit", OUTPUTS, []),
        ("cc0-1.0", WEIGHTS, []),
        (
            "apache-2.0",
            DELTA,
            ["include-license-copy", "state-changes", "retain-notices", "carry-upstream-notice"],
        ),
        (
            "cc-by-4.0",
            DATA,
            [
                "attribution",
                "state-changes",
                "include-license-copy",
                "own-license-must-not-block",
            ],
        ),
        # A text that frees the model asks nothing of it, but something of the data itself.
        ("cdla-permissive-2.0", DATA, []),
        ("cdla-permissive-2.0", SHIPPED, ["include-license-copy"]),
        ("c-uda", DATA, []),
        ("c-uda", SHIPPED, ["attribution", "bind-recipients"]),
        # What a text asks by relation is owed in that relation, whether it reaches or not.
        ("llama3.1", OUTPUTS, ["name-prefix"]),
        ("llama3.1", TOOL, []),
        (
            "llama3.1",
            WEIGHTS,
            [
                "include-license-copy",
                "display-statement",
                "name-prefix",
                "include-notice-text",
                "accept-use-policy",
            ],
        ),
        ("unknown", WEIGHTS, []),
        ("afl-3.0", WEIGHTS, []),
        ("Acme Terms", WEIGHTS, []),
    ],
)
def test_what_is_owed(license: str, relation: str, wanted: list[str]) -> None:
    assert _kinds(license, relation) == wanted


@pytest.mark.parametrize("license", sorted(KNOWN))
def test_weights_owe_all_that_the_license_file_says(license: str) -> None:
    judgement = judged(
        "mit", _part(license), users=10**10, revenue=10**10, modalities=("text", "image")
    )
    owed = [o.term for o in judgement.owed if o.term in KNOWN[license].conditions]
    assert owed == [
        c for c in KNOWN[license].conditions if not c.relations or WEIGHTS in c.relations
    ]
    for obligation in judgement.owed:
        assert obligation.proof
        assert obligation.cite == f"{KNOWN[license].name}, section {obligation.term.section}"
        assert obligation.license is KNOWN[license]


@pytest.mark.parametrize("license", sorted(KNOWN))
def test_a_tool_owes_nothing(license: str) -> None:
    assert _kinds(license, TOOL, users=10**10) == []


def test_a_condition_with_a_threshold_is_owed_above_it_or_when_nobody_knows() -> None:
    license = "kimi-k2-modified-mit"
    (when,) = [c.applies_when for c in KNOWN[license].conditions if c.kind == "display-statement"]
    assert when is not None and when.users_over and when.monthly_revenue_over_usd
    few = {"users": when.users_over, "revenue": when.monthly_revenue_over_usd}
    assert "display-statement" not in _kinds(license, **few)
    for more in (
        {"users": when.users_over + 1},
        {"revenue": when.monthly_revenue_over_usd + 1},
        {"users": None},
        {"revenue": None},
    ):
        assert "display-statement" in _kinds(license, **{**few, **more}), more


def test_a_territory_is_kept_out_only_where_the_text_says_so() -> None:
    exclusion = "territory-exclusion"
    seen = ("text", "image")
    assert exclusion in _kinds("llama3.2", modalities=seen)
    assert exclusion not in _kinds("llama3.2", modalities=("text",))
    assert exclusion not in _kinds("llama3.2", TOOL, modalities=seen)
    # What is missing here is told by the verdict.
    assert exclusion not in _kinds("llama3.2", modalities=())
    assert exclusion in _kinds("hunyuan-3d-2.0", modalities=())


def test_a_condition_that_the_policy_cannot_prove_is_owed_without_proof() -> None:
    policy = replace(baseline(), proofs={})
    judgement = judged("mit", _part("mit"), policy=policy)
    assert [(o.kind, o.proof) for o in judgement.owed] == [
        ("include-license-copy", ""),
        ("retain-notices", ""),
    ]


def test_a_grant_discharges_a_condition_of_its_upstream_alone() -> None:
    policy = granted(discharges=["include-license-copy"])
    assert _kinds("mit", policy=policy) == ["retain-notices"]
    assert _kinds("mit", policy=granted(id="acme/other", discharges=["retain-notices"])) == (
        _kinds("mit")
    )
    expired = granted(discharges=["include-license-copy"], expires="2026-11-22")
    assert _kinds("mit", policy=expired) == _kinds("mit")
    lifted = granted(lifts=["territory-exclusion"])
    assert "territory-exclusion" not in _kinds("hunyuan-3d-2.0", policy=lifted)


def test_own_terms_in_a_grant_end_the_claim_to_the_same_license() -> None:
    assert "same-license" in _kinds("gpl-3.0")
    assert "same-license" not in _kinds("gpl-3.0", policy=granted(own_terms=True))
    # What else the text asks for is still owed, unless the grant says so.
    assert "source-disclosure" in _kinds("gpl-3.0", policy=granted(own_terms=True))


@pytest.mark.parametrize(
    ("knob", "license", "relation", "said"),
    [
        ("dataset-terms-reach-weights", "cc-by-4.0", DATA, {}),
        ("model-is-produced-work", "odbl", DATA, {}),
        ("adapter-is-derivative", "mit", DELTA, {}),
        ("private-repo-is-distribution", "mit", WEIGHTS, {"visibility": "private"}),
    ],
)
def test_what_a_knob_frees_owes_nothing(
    knob: str, license: str, relation: str, said: dict[str, str]
) -> None:
    strict, free = baseline().knobs[knob].positions
    assert _kinds(license, relation, policy=turned(baseline(), {knob: strict}), **said)
    # What the text asks of such works by name stays owed.
    produced = ["same-license", "notice-for-produced-work", "offer-derivative-database"]
    rest = produced if license == "odbl" else []
    assert _kinds(license, relation, policy=turned(baseline(), {knob: free}), **said) == rest


def test_debts_stand_in_the_order_of_the_lineage_and_the_file() -> None:
    parts = [_part("mit", id="acme/a"), _part("cc-by-4.0", DATA), _part("mit", id="acme/b")]
    owed = judged("mit", *parts).owed
    assert [o.part.upstream.id for o in owed] == (
        ["acme/a"] * 2 + ["acme/cc-by-4.0"] * 4 + ["acme/b"] * 2
    )


# Conflicts.


def _conflicts(*parts: Upstream, **said: Any) -> list[tuple[str, frozenset[str]]]:
    judgement = judged(said.pop("planned", "mit"), *parts, **said)
    if judgement.conflicts:
        assert judgement.verdict == "deny"
    for conflict in judgement.conflicts:
        assert conflict.kind in CONFLICTS
        assert conflict.because and conflict.fix
        ids = {conflict.first.part.upstream.id, conflict.second.part.upstream.id}
        assert all(id in conflict.fix for id in ids)
    return [
        (c.kind, frozenset({c.first.license.id, c.second.license.id})) for c in judgement.conflicts
    ]


def _pair(kind: str, *ids: str) -> tuple[str, frozenset[str]]:
    return kind, frozenset(ids)


SAME, PREFIXES, BAN = "same-license-twice", "name-prefixes", "restrictions"


def test_two_prefixes_that_no_name_can_begin_with() -> None:
    parts = (_part("llama3.1"), _part("exaone-1.1-nc"))
    assert _pair(PREFIXES, "llama3.1", "exaone-1.1-nc") in _conflicts(*parts)
    # Also where the one is owed for outputs alone.
    parts = (_part("llama3.1", OUTPUTS), _part("exaone-1.1-nc"))
    assert _conflicts(*parts) == [_pair(PREFIXES, "llama3.1", "exaone-1.1-nc")]
    (conflict,) = judged("mit", *parts).conflicts
    assert conflict.because == "the model's name cannot begin with both “EXAONE” and “Llama”"


def test_two_prefixes_of_which_one_begins_with_the_other() -> None:
    prefixes = {
        license: next(
            c.prescribed_text for c in KNOWN[license].conditions if c.kind == "name-prefix"
        )
        for license in ("llama3.1", "llama3")
    }
    assert prefixes == {"llama3.1": "Llama", "llama3": "Llama 3"}
    assert _conflicts(_part("llama3.1", OUTPUTS), _part("llama3")) == []


def test_the_same_prefix_twice_is_one() -> None:
    assert _conflicts(_part("llama3.1", OUTPUTS), _part("llama3.2", OUTPUTS)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cc-by-sa-4.0", "cc-by-nc-sa-4.0"),
        ("agpl-3.0", "cc-by-sa-4.0"),
        ("llama3.1", "llama3.2"),
        ("llama2", "llama3"),
        ("gpl-3.0", "llama3.1"),
        ("apple-amlr", "fair-noncommercial-research-license"),
    ],
)
def test_two_licenses_that_each_want_to_be_the_only_one(one: str, other: str) -> None:
    """One finding for the pair, however many sections of theirs say so."""
    wanted = [_pair(SAME, one, other)]
    for parts in ((one, other), (other, one), (one, other, one, other)):
        made = [_part(license, id=f"acme/{n}") for n, license in enumerate(parts)]
        assert [c for c in _conflicts(*made) if c[0] == SAME] == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpl-3.0", "agpl-3.0"),
        ("eupl-1.2", "agpl-3.0"),
        ("eupl-1.2", "gpl-3.0"),
        ("gpl-3.0", "cc-by-sa-4.0"),
        ("gpl-3.0", "gpl-3.0"),
        ("gpl-3.0", "mit"),
        # These claim a part only: a library, files, the source, a database.
        ("lgpl-3.0", "cc-by-sa-4.0"),
        ("mpl-2.0", "llama3.1"),
        ("odbl", "odc-by"),
    ],
)
def test_licenses_that_one_license_can_serve(one: str, other: str) -> None:
    found = _conflicts(_part(one, id="acme/1"), _part(other, id="acme/2"))
    assert [kind for kind, _ in found if kind == SAME] == []


def test_a_claim_on_a_database_leaves_the_model_free() -> None:
    assert _conflicts(_part("odbl", DATA), _part("cc-by-sa-4.0", DATA)) == []


def test_a_license_that_does_not_reach_claims_nothing() -> None:
    assert _conflicts(_part("llama3.1", TOOL), _part("gpl-3.0")) == []
    free = turned(baseline(), {"dataset-terms-reach-weights": "no"})
    parts = (_part("cc-by-sa-4.0", DATA), _part("agpl-3.0"))
    assert _conflicts(*parts, policy=free) == []
    assert _conflicts(*parts) == [_pair(SAME, "cc-by-sa-4.0", "agpl-3.0")]


@pytest.mark.parametrize("license", ["agpl-3.0", "llama3.1"])
def test_a_grant_of_own_terms_ends_a_claim(license: str) -> None:
    parts = (_part(license, id="acme/part"), _part("cc-by-sa-4.0", DATA))
    assert _conflicts(*parts) == [_pair(SAME, license, "cc-by-sa-4.0")]
    assert _conflicts(*parts, policy=granted(own_terms=True)) == []
    # A second upstream under that license has no grant.
    parts = (*parts, _part(license, id="acme/second"))
    assert _conflicts(*parts, policy=granted(own_terms=True)) == [
        _pair(SAME, license, "cc-by-sa-4.0")
    ]


@pytest.mark.parametrize(
    ("one", "relation", "conflict"),
    [
        ("gpl-3.0", WEIGHTS, True),
        ("cc-by-sa-4.0", DATA, True),
        # What protects the received material alone meets no restriction on the weights.
        ("cc-by-4.0", DATA, False),
        ("odbl", SHIPPED, False),
        ("mit", WEIGHTS, False),
        ("gpl-3.0", TOOL, False),
    ],
)
@pytest.mark.parametrize("restricted", ["creativeml-openrail-m", "gemma", "deepseek"])
def test_a_ban_on_restrictions_beside_restrictions(
    one: str, relation: str, conflict: bool, restricted: str
) -> None:
    found = _conflicts(_part(one, relation), _part(restricted))
    assert found == ([_pair(BAN, one, restricted)] if conflict else [])


def test_licenses_with_restrictions_do_not_exclude_each_other() -> None:
    assert _conflicts(_part("gemma"), _part("creativeml-openrail-m")) == []


# With licenses of a policy's own.


def _own(folder: Path, **licenses: Mapping[str, Any]) -> Policy:
    """Return the baseline with licenses of its own, each shown by what differs from a plain one."""
    plain = yaml.safe_load((KNOWN["wtfpl"].folder / "wtfpl.yaml").read_text(encoding="utf-8"))
    for word, said in licenses.items():
        id = word.replace("_", "-")
        own = {**plain, "id": id, "spdx_id": None, "name": id, "texts": [], **said}
        own.pop("aliases", None)
        (folder / f"{id}.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    assert not Licenses(folder).mistakes()
    return knowing(*Licenses(folder).values())


def _condition(kind: str, text: str = "", section: str = "1", **more: Any) -> dict[str, Any]:
    prescribed = {"prescribed_text": text} if text else {}
    return {"kind": kind, "section": section, "fact": "For a test.", **prescribed, **more}


@pytest.mark.parametrize(
    ("forbidden", "conflict"),
    [("Llama", True), ("llama", True), ("Lla", True), ("Llama 3", False), ("Topics", False)],
)
def test_a_prefix_that_is_also_forbidden(tmp_path: Path, forbidden: str, conflict: bool) -> None:
    policy = _own(tmp_path, nameless={"conditions": [_condition("name-forbidden", forbidden)]})
    wanted = [_pair("prefix-against-name", "llama3.1", "nameless")] if conflict else []
    parts = (_part("llama3.1", OUTPUTS), _part("nameless"))
    assert _conflicts(*parts, policy=policy) == wanted
    assert _conflicts(*reversed(parts), policy=policy) == wanted


def test_two_words_that_one_section_forbids_are_both_held_against_a_prefix(tmp_path: Path) -> None:
    conditions = [_condition("name-forbidden", "Acme"), _condition("name-forbidden", "Llama")]
    policy = _own(tmp_path, nameless={"conditions": conditions})
    parts = (_part("nameless"), _part("llama3.1", OUTPUTS))
    assert _conflicts(*parts, policy=policy) == [
        _pair("prefix-against-name", "llama3.1", "nameless")
    ]


def test_data_that_may_not_be_restricted_beside_data_that_must_be(tmp_path: Path) -> None:
    policy = _own(
        tmp_path,
        bound_data={"conditions": [_condition("pass-on-use-restrictions")]},
        open_data={"conditions": [_condition("no-additional-restrictions", scope="data")]},
    )
    wanted = [_pair(BAN, "open-data", "bound-data")]
    for first, second, conflict in (
        (SHIPPED, SHIPPED, True),
        (SHIPPED, DATA, False),
        (DATA, SHIPPED, False),
        (DATA, DATA, False),
    ):
        parts = (_part("open-data", first), _part("bound-data", second))
        for order in (parts, parts[::-1]):
            assert _conflicts(*order, policy=policy) == (wanted if conflict else [])
    # A first entry that does no harm hides none that does.
    parts = (
        _part("open-data", DATA, "acme/1"),
        _part("bound-data", DATA, "acme/2"),
        _part("open-data", SHIPPED, "acme/3"),
        _part("bound-data", SHIPPED, "acme/4"),
    )
    assert _conflicts(*parts, policy=policy) == wanted
    assert _conflicts(*parts[::-1], policy=policy) == wanted


def test_one_license_does_not_exclude_itself(tmp_path: Path) -> None:
    both = [_condition("pass-on-use-restrictions"), _condition("no-additional-restrictions")]
    policy = _own(tmp_path, both={"conditions": both})
    parts = (_part("both", id="acme/1"), _part("both", id="acme/2"))
    assert _conflicts(*parts, policy=policy) == []


def test_every_pair_of_prefixes_is_told(tmp_path: Path) -> None:
    words = {"a": "Alpha", "b": "Beta", "c": "Gamma", "d": "Alpha Two"}
    policy = _own(
        tmp_path, **{k: {"conditions": [_condition("name-prefix", w)]} for k, w in words.items()}
    )
    found = _conflicts(*(_part(word) for word in words), policy=policy)
    pairs = {("a", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("c", "d")}
    assert Counter(found) == Counter(_pair(PREFIXES, *p) for p in pairs)


# The verdict.


def test_a_conflict_denies_what_each_decision_allows() -> None:
    llama, exaone = _part("llama3.1", OUTPUTS), _part("exaone-1.1-nc")
    judgement = judged("exaone-1.1-nc", llama, exaone, purpose="research")
    assert {d.decide for d in judgement.decisions} == {"allow"}
    assert judgement.conflicts
    assert judgement.verdict == "deny"


def _told(judgement: Judgement) -> list[tuple[str, str, str]]:
    def named(obligation: Obligation) -> str:
        return obligation.license.id

    return [(c.kind, named(c.first), named(c.second)) for c in judgement.conflicts]


def test_many_upstreams_are_still_one_pair() -> None:
    parts = [_part("cc-by-sa-4.0", DATA, f"acme/sa{n}") for n in range(50)]
    parts += [_part("cc-by-nc-sa-4.0", DATA, f"acme/nc{n}") for n in range(50)]
    assert _told(judged("mit", *parts)) == [
        ("same-license-twice", "cc-by-nc-sa-4.0", "cc-by-sa-4.0")
    ]
