"""What the baseline policy decides; each row is one a lawyer can read and dispute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.cards import hub_licenses
from release_kit.licensing.judgement import judge
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.licensing.lineage import Lineage, Part
from release_kit.licensing.policy import Policy, load_policy
from release_kit.licensing.policy_files import BASELINE
from release_kit.licensing.verdicts import Decision, Verdicts, section, worst
from tests.licensing.lineages import (
    DAY,
    baseline,
    granted,
    judged,
    knowing,
    objections,
    release,
    situated,
    turned,
    upstream,
)

WEIGHTS, DELTA, MERGED = "weights-derived", "adapter-delta", "weights-shipped"
OUTPUTS, DATA, SHIPPED, TOOL = "trained-on-outputs", "trained-on-data", "data-shipped", "tool-only"
RELATIONS = (WEIGHTS, DELTA, MERGED, OUTPUTS, DATA, SHIPPED, TOOL)
_ROLE = {DELTA: "adapter", OUTPUTS: "generator", DATA: "dataset", SHIPPED: "dataset", TOOL: "code"}

COMMERCIAL, NONCOMMERCIAL, RESEARCH = "commercial", "noncommercial", "research"
PURPOSES = (COMMERCIAL, NONCOMMERCIAL, RESEARCH)


def _about(given: str, relation: str, planned: str, **said: Any) -> dict[str, str]:
    """Return what each rule decided about one upstream."""
    made = upstream(given, said.pop("role", _ROLE.get(relation, "base_model")), relation=relation)
    decisions = [d for d in judged(planned, made, **said).decisions if d.part]
    assert len({d.rule for d in decisions}) == len(decisions)
    for decision in decisions:
        assert decision.because
        assert "{" not in decision.because + decision.how_to_fix
        assert decision.decide == "allow" or decision.how_to_fix
    return {d.rule: d.decide for d in decisions}


OWN = {"own-terms": "allow"}
FREE = {"terms-not-reached": "allow"}
KEPT = {"same-license-kept": "allow"}
TRAVELS = {"terms-travel-same-license": "allow"}
TRAVELS_LOST = {"terms-travel-other-license": "deny"}
HELD = {"restrictions-travel-same-license": "allow"}
NC_PURPOSE = {"noncommercial-for-commercial-purpose": "deny"}
NC_LICENSE = {"noncommercial-under-commercial-license": "deny"}
NC_STAYS = {"noncommercial-stays-noncommercial": "allow"}
FIELD = {"research-field-only": "review"}
UNVERIFIED = {"upstream-license-unverified": "review"}
BROKEN = {"same-license-broken": "deny"}
A_PART = {"same-license-for-a-part": "review"}

#   upstream's license, relation, license of the release, purpose: every decision about it
TABLE: list[tuple[str, str, str, str, Mapping[str, str]]] = [
    # Permissive ones leave the license of the whole to us, whatever it is made from.
    *(
        (given, relation, "mit", COMMERCIAL, FREE if relation in {TOOL, OUTPUTS} else OWN)
        for given in ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "openmdw-1.1", "wtfpl")
        for relation in RELATIONS
    ),
    ("cc-by-4.0", DATA, "apache-2.0", COMMERCIAL, OWN),
    ("cc-by-4.0", SHIPPED, "mit", RESEARCH, OWN),
    # A changed file stays; whether weights are one is for a person to say.
    ("mpl-2.0", WEIGHTS, "mit", COMMERCIAL, A_PART),
    ("mpl-2.0", WEIGHTS, "mpl-2.0", COMMERCIAL, KEPT),
    # Data whose text frees the model.
    ("cdla-permissive-2.0", DATA, "mit", COMMERCIAL, FREE),
    ("cdla-permissive-2.0", SHIPPED, "mit", COMMERCIAL, OWN),
    ("cdla-sharing-1.0", DATA, "mit", COMMERCIAL, FREE),
    ("cdla-sharing-1.0", SHIPPED, "mit", COMMERCIAL, A_PART),
    ("cdla-sharing-1.0", SHIPPED, "cdla-sharing-1.0", COMMERCIAL, KEPT),
    ("c-uda", DATA, "mit", COMMERCIAL, FREE),
    ("c-uda", SHIPPED, "mit", COMMERCIAL, A_PART),
    # Non-commercial.
    ("cc-by-nc-4.0", DATA, "apache-2.0", COMMERCIAL, NC_PURPOSE | NC_LICENSE),
    ("cc-by-nc-4.0", DATA, "apache-2.0", NONCOMMERCIAL, NC_LICENSE),
    ("cc-by-nc-4.0", DATA, "mit", RESEARCH, NC_LICENSE),
    ("cc-by-nc-4.0", DATA, "llama3.1", RESEARCH, NC_LICENSE),
    ("cc-by-nc-4.0", DATA, "cc-by-nc-4.0", COMMERCIAL, NC_PURPOSE),
    ("cc-by-nc-4.0", DATA, "cc-by-nc-4.0", NONCOMMERCIAL, NC_STAYS),
    ("cc-by-nc-4.0", WEIGHTS, "cc-by-nc-4.0", RESEARCH, NC_STAYS),
    ("cc-by-nc-4.0", DATA, "cc-by-nc-sa-4.0", RESEARCH, NC_STAYS),
    ("cc-by-nc-4.0", TOOL, "mit", COMMERCIAL, FREE | {"noncommercial-tool": "review"}),
    ("cc-by-nc-4.0", TOOL, "mit", NONCOMMERCIAL, FREE),
    ("cc-by-nc-4.0", TOOL, "mit", RESEARCH, FREE),
    # No derivatives.
    ("cc-by-nd-4.0", DATA, "cc-by-nd-4.0", COMMERCIAL, {"derivatives-forbidden": "deny"}),
    ("cc-by-nd-4.0", SHIPPED, "cc-by-nd-4.0", COMMERCIAL, {"unchanged-may-be-passed-on": "allow"}),
    ("cc-by-nd-4.0", SHIPPED, "mit", COMMERCIAL, {"": "review"}),
    ("cc-by-nd-4.0", TOOL, "mit", COMMERCIAL, FREE),
    ("cc-by-nc-nd-4.0", WEIGHTS, "cc-by-nc-nd-4.0", RESEARCH, {
        "no-right-to-distribute-derivatives": "deny", "derivatives-forbidden": "deny",
    }),
    # The same license again.
    ("cc-by-sa-4.0", DATA, "mit", COMMERCIAL, BROKEN),
    ("cc-by-sa-4.0", DATA, "cc-by-nc-sa-4.0", RESEARCH, BROKEN),
    ("cc-by-sa-4.0", DATA, "cc-by-sa-4.0", COMMERCIAL, KEPT),
    ("cc-by-nc-sa-4.0", DATA, "cc-by-nc-sa-4.0", RESEARCH, KEPT),
    ("cc-by-nc-sa-4.0", DATA, "cc-by-nc-sa-4.0", COMMERCIAL, KEPT | NC_PURPOSE),
    ("cc-by-nc-sa-4.0", DATA, "cc-by-sa-4.0", COMMERCIAL, NC_PURPOSE | NC_LICENSE | BROKEN),
    ("gpl-3.0", WEIGHTS, "gpl-3.0", COMMERCIAL, KEPT),
    ("gpl-3.0", WEIGHTS, "mit", COMMERCIAL, BROKEN),
    ("gpl-3.0", WEIGHTS, "agpl-3.0", COMMERCIAL, {"same-license-in-a-combination": "review"}),
    ("agpl-3.0", WEIGHTS, "gpl-3.0", COMMERCIAL, BROKEN),
    ("gpl-3.0", TOOL, "mit", COMMERCIAL, FREE),
    # For a part only.
    ("lgpl-3.0", WEIGHTS, "mit", COMMERCIAL, A_PART),
    ("ms-pl", WEIGHTS, "mit", COMMERCIAL, A_PART),
    ("odbl", DATA, "mit", COMMERCIAL, A_PART),
    ("odc-by", DATA, "mit", COMMERCIAL, A_PART),
    # Terms that travel.
    *(("llama3.1", r, "llama3.1", COMMERCIAL, TRAVELS) for r in (WEIGHTS, DELTA, MERGED)),
    *(("llama3.1", r, "mit", NONCOMMERCIAL, TRAVELS_LOST) for r in (WEIGHTS, DELTA, MERGED)),
    ("llama3.1", WEIGHTS, "llama3.2", COMMERCIAL, TRAVELS_LOST),
    ("llama3.1", OUTPUTS, "mit", COMMERCIAL, FREE),
    ("llama3.1", TOOL, "mit", COMMERCIAL, FREE),
    ("apple-amlr", WEIGHTS, "apple-amlr", RESEARCH, TRAVELS),
    # Restrictions that every recipient must be bound to.
    ("gemma", WEIGHTS, "gemma", COMMERCIAL, HELD),
    ("gemma", OUTPUTS, "gemma", COMMERCIAL, HELD),
    ("gemma", WEIGHTS, "mit", COMMERCIAL, {"restrictions-lost": "deny"}),
    ("gemma", OUTPUTS, "mit", COMMERCIAL, {"restrictions-lost": "deny"}),
    ("gemma", WEIGHTS, "openrail++", COMMERCIAL, {
        "restrictions-in-a-license-with-restrictions": "review"
    }),
    ("gemma", TOOL, "mit", COMMERCIAL, FREE),
    # An agreement beside our own license.
    ("qwen", WEIGHTS, "qwen", COMMERCIAL, {"agreement-travels-same-license": "allow"}),
    ("qwen", WEIGHTS, "mit", COMMERCIAL, {"agreement-travels-other-license": "review"}),
    ("nvidia-open-model-license", DELTA, "mit", COMMERCIAL, {
        "agreement-travels-other-license": "review"
    }),
    # A field of use.
    ("exaone-1.1-nc", WEIGHTS, "exaone-1.1-nc", COMMERCIAL, TRAVELS | NC_PURPOSE | FIELD),
    ("exaone-1.1-nc", WEIGHTS, "exaone-1.1-nc", NONCOMMERCIAL, TRAVELS | FIELD),
    ("exaone-1.1-nc", WEIGHTS, "exaone-1.1-nc", RESEARCH, TRAVELS),
    # Outputs.
    ("llama3", OUTPUTS, "mit", COMMERCIAL, FREE | {"outputs-restricted": "deny"}),
    ("llama3", OUTPUTS, "llama3", COMMERCIAL, FREE | {"outputs-for-own-family": "review"}),
    ("openai-terms-of-use", OUTPUTS, "mit", RESEARCH, FREE | {"outputs-not-for-training": "deny"}),
    ("openai-terms-of-use", TOOL, "mit", COMMERCIAL, FREE),
    ("exaone-1.1-nc", OUTPUTS, "exaone-1.1-nc", RESEARCH, FREE | {
        "outputs-restricted": "deny", "outputs-not-for-training": "deny",
    }),
    ("stabilityai-ai-community", OUTPUTS, "mit", COMMERCIAL, TRAVELS_LOST | {
        "outputs-restricted": "deny"
    }),
    # Facts that nobody verified never allow by themselves.
    ("apple-ascl", WEIGHTS, "mit", COMMERCIAL, OWN | UNVERIFIED),
    ("mistral-research", WEIGHTS, "mistral-research", RESEARCH, HELD | UNVERIFIED | {
        "distributor-excluded": "deny"
    }),
    ("intel-research", WEIGHTS, "intel-research", RESEARCH, UNVERIFIED | {
        "terms-undeterminable": "review", "sharing-of-derivatives-not-stated": "review",
    }),
    # No license at all.
    *(
        (given, relation, "mit", RESEARCH, {
            "tool-license-unknown" if relation == TOOL else "upstream-license-unknown":
            "review" if relation == TOOL else "deny"
        })
        for given in ("unknown", "other", "gpl", "afl-3.0", "Our own terms")
        for relation in RELATIONS
    ),
    ("unknown", WEIGHTS, "unknown", RESEARCH, {"upstream-license-unknown": "deny"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "relation", "planned", "purpose", "wanted"), TABLE)
def test_the_policy_decides(
    given: str, relation: str, planned: str, purpose: str, wanted: dict[str, str]
) -> None:
    assert _about(given, relation, planned, purpose=purpose) == wanted


def test_every_rule_of_the_baseline_is_tried() -> None:
    """A rule that nothing here makes speak could be lost unseen."""
    spoken = {rule for *_, wanted in TABLE for rule in wanted}
    elsewhere = {
        *("release-license-known", "release-license-unknown", "release-license-unverified"),
        *("user-threshold", "revenue-threshold", "seat-excluded", "distributor-limited"),
        *("outputs-not-for-others", "no-right-to-modify", "no-right-to-distribute"),
        *("data-not-for-training", "commercial-use-not-stated"),
        *("commercial-purpose-under-noncommercial-license", "outputs-keep-their-purpose"),
        "distribution-not-stated",
    }
    assert {rule.id for rule in baseline().rules} == (spoken - {""}) | elsewhere


@pytest.mark.parametrize(
    ("license", "wanted"),
    [
        ("apache-2.0", {"release-license-known": "allow"}),
        (
            "cc-by-nc-4.0",
            {
                "release-license-known": "allow",
                "commercial-purpose-under-noncommercial-license": "review",
            },
        ),
        ("unknown", {"release-license-unknown": "deny"}),
        ("gpl", {"release-license-unknown": "deny"}),
        ("afl-3.0", {"release-license-unknown": "deny"}),
        ("Our own terms", {"release-license-unknown": "deny"}),
        (
            "apple-ascl",
            {"release-license-known": "allow", "release-license-unverified": "review"},
        ),
    ],
)
def test_the_license_of_the_release_is_judged_too(license: str, wanted: dict[str, str]) -> None:
    judgement = judged(license)
    assert {d.rule: d.decide for d in judgement.decisions} == wanted
    assert not any(d.part for d in judgement.decisions)
    assert judgement.verdict == worst(judgement.decisions)


# What the table cannot show: rules about what no shipped license says, or about who we are.


def _saying(license_id: str, **verdicts: str) -> Policy:
    license = load_licenses()[license_id]
    permissions = dict(license.permissions)
    for action, verdict in verdicts.items():
        word = action.replace("_", "-")
        permissions[word] = replace(license.permission(word), verdict=verdict)
    return knowing(replace(license, permissions=permissions))


@pytest.mark.parametrize(
    ("action", "rule", "relations"),
    [
        ("modify", "no-right-to-modify", {WEIGHTS, DELTA}),
        ("distribute", "no-right-to-distribute", {WEIGHTS, DELTA, MERGED, SHIPPED}),
        (
            "distribute_derivatives",
            "no-right-to-distribute-derivatives",
            {WEIGHTS, DELTA},
        ),
        ("train_models", "data-not-for-training", {DATA, "data-shipped"}),
        ("train_on_outputs", "outputs-not-for-training", {OUTPUTS}),
    ],
)
def test_a_right_that_is_withheld_is_missed_where_it_is_used(
    action: str, rule: str, relations: set[str]
) -> None:
    policy = _saying("mit", **{action: "withheld"})
    for relation in RELATIONS:
        wanted = {rule} if relation in relations else set()
        found = _about("mit", relation, "mit", policy=policy)
        assert {r for r, decide in found.items() if decide == "deny"} == wanted, relation


@pytest.mark.parametrize("verdict", ["silent", "unknown"])
def test_commercial_use_that_no_text_mentions_is_for_a_person(verdict: str) -> None:
    policy = _saying("mit", commercial_use=verdict)
    found = {purpose: _about("mit", WEIGHTS, "mit", purpose=purpose, policy=policy)
             for purpose in PURPOSES}  # fmt: skip
    assert found == {
        COMMERCIAL: OWN | {"commercial-use-not-stated": "review"},
        NONCOMMERCIAL: OWN,
        RESEARCH: OWN,
    }


@pytest.mark.parametrize(
    ("kind", "decide"),
    [("company", "deny"), ("individual", "review"), ("academic", "review"),
     ("nonprofit", "review"), ("government", "review")],
)  # fmt: skip
def test_who_may_distribute(kind: str, decide: str) -> None:
    found = _about("mistral-research", WEIGHTS, "mistral-research", purpose=RESEARCH, kind=kind)
    wanted = "distributor-excluded" if decide == "deny" else "distributor-limited"
    assert found == HELD | UNVERIFIED | {wanted: decide}


@pytest.mark.parametrize("position", ["yes", "no"])
def test_the_terms_of_a_service_for_those_who_are_no_party(position: str) -> None:
    policy = turned(baseline(), {"service-terms-bind-recipients-of-data": position})
    judgement = judged("mit", upstream("exaone-1.1-nc", "generator"), policy=policy)
    (decision,) = [d for d in judgement.decisions if d.rule.startswith("outputs-not-for-")]
    wanted = {
        "yes": ("outputs-not-for-training", "deny"),
        "no": ("outputs-not-for-others", "review"),
    }
    assert (decision.rule, decision.decide) == wanted[position]
    assert decision.knobs == ("service-terms-bind-recipients-of-data",)


# What is missing.

USERS, YEAR = "organization.monthly_active_users", "organization.annual_revenue_usd"
SIMILAR = "training-on-outputs-is-distillation"
SEAT, MODALITIES = "organization.seat", "lineage.base_models.modalities"


@pytest.mark.parametrize(
    ("license", "said", "rule", "field"),
    [
        ("llama3.1", {"users": None}, "user-threshold", USERS),
        ("stabilityai-ai-community", {"revenue": None}, "revenue-threshold", YEAR),
        ("hunyuan-3d-2.0", {"seat": ""}, "seat-excluded", SEAT),
        ("llama3.2", {"modalities": (), "seat": "DE"}, "seat-excluded", MODALITIES),
        ("llama3.2", {"modalities": (), "seat": ""}, "seat-excluded", MODALITIES),
        ("llama3.2", {"modalities": ("text", "image"), "seat": ""}, "seat-excluded", SEAT),
    ],
)
def test_what_is_missing_is_asked_for_where_it_would_stand(
    license: str, said: dict[str, Any], rule: str, field: str
) -> None:
    judgement = judged(license, upstream(license), **said)
    (review,) = [d for d in judgement.decisions if d.decide != "allow"]
    assert (review.rule, review.decide) == (rule, "review")
    assert review.because == f"the rule cannot be decided, because {field} is missing"
    where = "modalities at this upstream" if field == MODALITIES else field
    assert review.how_to_fix == f"Write {where} in release.yaml."
    assert review.cites


@pytest.mark.parametrize(
    ("license", "said", "denied"),
    [
        ("llama3.1", {"users": 700_000_000}, False),
        ("llama3.1", {"users": 700_000_001}, True),
        ("stabilityai-ai-community", {"revenue": 1_000_000}, False),
        ("stabilityai-ai-community", {"revenue": 1_000_001}, True),
        ("hunyuan-3d-2.0", {"seat": "KR"}, True),
        ("hunyuan-3d-2.0", {"seat": "US"}, False),
        ("llama3.2", {"seat": "FR", "modalities": ("text", "image")}, True),
        ("llama3.2", {"seat": "FR", "modalities": ("text",)}, False),
    ],
)
def test_what_is_stated_decides(license: str, said: dict[str, Any], denied: bool) -> None:
    judgement = judged(license, upstream(license), **said)
    assert judgement.verdict == ("deny" if denied else "allow")
    assert bool(objections(judgement)) is denied


def test_the_reason_names_the_seat() -> None:
    judgement = judged("hunyuan-3d-2.0", upstream("hunyuan-3d-2.0"), seat="DE")
    (denial,) = [d for d in judgement.decisions if d.decide == "deny"]
    assert denial.because == (
        "hunyuan-3d-2.0 gives no rights to an organization with its seat in DE"
    )


def test_missing_facts_matter_only_where_a_license_asks() -> None:
    nothing: dict[str, Any] = {"users": None, "revenue": None, "seat": "", "modalities": ()}
    parts = (upstream("apache-2.0"), upstream("cc-by-4.0", "dataset"), upstream("mit", "code"))
    assert judged("apache-2.0", *parts, **nothing).verdict == "allow"
    # Who may use a thing at all is asked of a tool too.
    assert judged("mit", upstream("llama3.2", "code"), **nothing).verdict == "review"


def _policy(folder: Path, *changes: tuple[str, str]) -> Policy:
    text = BASELINE.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


THRESHOLD = "      upstream.over_user_threshold: true\n    decide: deny\n"


def test_a_missing_fact_never_makes_an_allowing_rule_true(tmp_path: Path) -> None:
    below = THRESHOLD.replace("true", "false").replace("deny", "allow")
    policy = _policy(tmp_path, (THRESHOLD, below))
    for users, wanted in ((None, "review"), (1, "allow"), (10**9, None)):
        found = _about("llama3.1", WEIGHTS, "llama3.1", users=users, policy=policy)
        assert found.get("user-threshold") == wanted


def test_a_missing_fact_does_not_matter_where_another_is_false(tmp_path: Path) -> None:
    more = THRESHOLD.replace("    decide", "      release.purpose: research\n    decide")
    policy = _policy(tmp_path, (THRESHOLD, more))
    for purpose, wanted in ((COMMERCIAL, None), (RESEARCH, "review")):
        found = _about("llama3.1", WEIGHTS, "llama3.1", users=None, purpose=purpose, policy=policy)
        assert found.get("user-threshold") == wanted


REACH = "\nreach:\n"


def _line(reaches: str) -> str:
    return (
        f"{REACH}  - id: big-enough\n    when:\n      upstream.over_user_threshold: false\n"
        f"    reaches: {reaches}\n    because: for a test\n"
    )


def test_a_missing_fact_never_frees_and_always_binds(tmp_path: Path) -> None:
    for reaches, when_missing in (("false", True), ("true", True)):
        policy = _policy(tmp_path, (REACH, _line(reaches)))
        for users, wanted in ((None, when_missing), (1, reaches == "true"), (10**9, True)):
            made = situated("llama3.1", upstream("llama3.1"), users=users, policy=policy)
            assert Verdicts(made).reach(made.parts[0]).reaches is wanted
    # A line that binds is heard before one that would free, also where a fact is missing.
    made = situated("llama3.1", upstream("llama3.1", "code"), users=None, policy=policy)
    assert Verdicts(made).reach(made.parts[0]).reaches is True


# Reach.


def _reach(license: str, relation: str, policy: Policy | None = None, **said: Any) -> Any:
    made = situated(
        "mit", upstream(license, _ROLE.get(relation, "base_model"), relation=relation),
        policy=policy, **said,
    )  # fmt: skip
    return Verdicts(made).reach(made.parts[0])


DATA_KNOB, OUTPUT_KNOB = (
    "dataset-terms-reach-weights",
    "outputs-carry-terms-where-the-text-is-silent",
)
PRODUCED, ADAPTER, PRIVATE = (
    "model-is-produced-work",
    "adapter-is-derivative",
    "private-repo-is-distribution",
)


@pytest.mark.parametrize(
    ("license", "relation", "visibility", "wanted"),
    [
        ("mit", WEIGHTS, "public", (True, "", ())),
        ("mit", WEIGHTS, "private", (True, "", (PRIVATE,))),
        ("mit", MERGED, "public", (True, "", ())),
        ("mit", SHIPPED, "public", (True, "", ())),
        ("mit", DELTA, "public", (True, "", (ADAPTER,))),
        ("mit", DELTA, "private", (True, "", (ADAPTER, PRIVATE))),
        ("mit", DATA, "public", (True, "", (DATA_KNOB,))),
        ("odbl", DATA, "public", (True, "", (PRODUCED, DATA_KNOB))),
        ("odbl", DATA, "private", (True, "", (PRODUCED, DATA_KNOB, PRIVATE))),
        ("odbl", SHIPPED, "public", (True, "", ())),
        ("mit", OUTPUTS, "public", (False, "outputs-are-not-the-work", (OUTPUT_KNOB,))),
        ("gemma", OUTPUTS, "public", (True, "distillation-is-derivation", {SIMILAR})),
        ("gemma", OUTPUTS, "private", (True, "distillation-is-derivation", {SIMILAR})),
        (
            "cdla-permissive-2.0",
            DATA,
            "public",
            (False, "text-frees-what-is-made-from-the-data", ()),
        ),
        ("cdla-sharing-1.0", DATA, "public", (False, "text-frees-what-is-made-from-the-data", ())),
        ("c-uda", DATA, "public", (False, "text-frees-what-is-made-from-the-data", ())),
        ("c-uda", SHIPPED, "public", (True, "", ())),
        ("llama3.1", TOOL, "public", (False, "tool-is-not-conveyed", ())),
        ("llama3.1", TOOL, "private", (False, "tool-is-not-conveyed", ())),
        # Without a license nothing is known that could free.
        ("unknown", DATA, "private", (True, "", ())),
        ("gpl", DELTA, "private", (True, "", ())),
        ("afl-3.0", OUTPUTS, "private", (True, "", ())),
        ("unknown", TOOL, "public", (False, "tool-is-not-conveyed", ())),
    ],
)
def test_reach(
    license: str, relation: str, visibility: str, wanted: tuple[bool, str, tuple[str, ...]]
) -> None:
    reaches, line, knobs = wanted
    reach = _reach(license, relation, visibility=visibility)
    assert reach.reaches is reaches
    assert (reach.rule.id if reach.rule else "") == line
    assert set(reach.knobs) == set(knobs)


@pytest.mark.parametrize(
    ("knob", "license", "relation", "visibility"),
    [
        (DATA_KNOB, "mit", DATA, "public"),
        (PRODUCED, "odbl", DATA, "public"),
        (ADAPTER, "mit", DELTA, "public"),
        (PRIVATE, "mit", WEIGHTS, "private"),
    ],
)
def test_a_knob_in_its_other_position_frees(
    knob: str, license: str, relation: str, visibility: str
) -> None:
    strict, other = baseline().knobs[knob].positions
    for position, reaches in ((strict, True), (other, False)):
        policy = turned(baseline(), {knob: position})
        reach = _reach(license, relation, policy, visibility=visibility)
        assert reach.reaches is reaches
        assert knob in reach.knobs


def test_a_license_may_bind_the_model_itself() -> None:
    policy = knowing(replace(load_licenses()["mit"], reaches_models="binds"))
    loose = turned(policy, {DATA_KNOB: "no"})
    for made in (policy, loose):
        reach = _reach("mit", DATA, made)
        assert reach.reaches is True
        assert reach.rule.id == "text-binds-what-is-made-from-the-data"
        assert reach.knobs == ()


def test_where_two_knobs_free_the_line_that_spoke_is_named() -> None:
    """Neither alone would change it, and it still rests on contested law."""
    policy = turned(baseline(), {PRODUCED: "yes", DATA_KNOB: "no"})
    reach = _reach("odbl", DATA, policy)
    assert (reach.reaches, reach.rule.id) == (False, "produced-work-leaves-the-database")
    assert reach.knobs == (PRODUCED,)


# What a decision tells.


def _denial(judgement_of: Any, rule: str) -> Decision:
    (decision,) = [d for d in judgement_of.decisions if d.rule == rule]
    return decision  # type: ignore[no-any-return]


def test_a_denial_cites_the_section_and_names_the_upstream() -> None:
    judgement = judged("apache-2.0", upstream("cc-by-nc-4.0", "dataset", id="acme/texts"))
    denial = _denial(judgement, "noncommercial-under-commercial-license")
    license = load_licenses()["cc-by-nc-4.0"]
    assert denial.cites == (
        f"{license.name}, section {license.permission('commercial-use').section}",
        f"{license.name}, section {license.downstream_section}",
    )
    assert denial.because == (
        "apache-2.0 would promise recipients a commercial use that cc-by-nc-4.0 withholds"
    )
    assert denial.part is not None and denial.part.upstream.id == "acme/texts"
    assert denial.knobs == (DATA_KNOB,)


def test_chinese_reasons_name_the_same_things() -> None:
    made = release("mit", upstream("llama3.1"), upstream("mit", "code", id="a/b"), users=None)
    english, chinese = (judge(made, baseline(), day=DAY, language=word) for word in ("en", "zh"))
    assert [(d.rule, d.decide, d.cites, d.knobs) for d in english.decisions] == [
        (d.rule, d.decide, d.cites, d.knobs) for d in chinese.decisions
    ]
    for one, other in zip(english.decisions, chinese.decisions, strict=True):
        assert one.because != other.because
        assert not other.because.isascii()
    missing = _denial(chinese, "user-threshold")
    assert USERS in missing.because and USERS in missing.how_to_fix


def test_a_misspelt_license_is_denied_with_the_right_word() -> None:
    judgement = judged("Apachee 2", upstream("Apachee 2"))
    hints = [d.how_to_fix for d in judgement.decisions]
    assert len(hints) == 2
    assert all(hint.startswith("Did you mean 'apache-2.0'? ") for hint in hints)


def test_a_license_that_is_plainly_meant_is_taken_and_told() -> None:
    judgement = judged("Apache License 2.0", upstream("CC BY 4.0", "dataset"))
    assert judgement.verdict == "allow"
    assert judgement.release.license == "apache-2.0"
    assert [part.license for part in judgement.parts] == ["cc-by-4.0"]
    assert [doubt.rule for doubt in judgement.doubts] == ["license-spelling", "license-spelling"]


@pytest.mark.parametrize("license", ["afl-3.0", "bsd-2-clause", "gpl-2.0"])
def test_another_license_is_not_taken_for_a_misspelt_one(license: str) -> None:
    assert license in hub_licenses()
    assert license not in load_licenses()
    (decision,) = [d for d in judged("mit", upstream(license)).decisions if d.part]
    assert decision.decide == "deny"
    assert "Did you mean" not in decision.how_to_fix


@pytest.mark.parametrize("silent", ["own-terms", "release-license-known"])
def test_where_no_rule_speaks_a_person_must(silent: str) -> None:
    rules = tuple(rule for rule in baseline().rules if rule.id != silent)
    assert len(rules) == len(baseline().rules) - 1
    judgement = judged("mit", upstream("mit", "dataset"), policy=replace(baseline(), rules=rules))
    (unspoken,) = [d for d in judgement.decisions if not d.rule]
    assert unspoken.decide == "review"
    assert "no rule of the policy baseline" in unspoken.because
    assert bool(unspoken.part) is (silent == "own-terms")
    # That its terms reach at all is what a knob decided.
    assert unspoken.knobs == ((DATA_KNOB,) if unspoken.part else ())


def test_all_clauses_are_told_for_each_upstream() -> None:
    bad = ["cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unknown", "gemma"]
    parts = [upstream(word, "dataset", id=f"acme/{n}") for n, word in enumerate(bad)]
    parts.append(upstream("llama3.1", id="acme/base"))
    judgement = judged("mit", *parts, users=None)
    told = [
        (d.part.upstream.id, d.rule) for d in judgement.decisions if d.part and d.decide != "allow"
    ]
    assert len(set(told)) == len(told)
    assert set(told) == {
        ("acme/0", "noncommercial-for-commercial-purpose"),
        ("acme/0", "noncommercial-under-commercial-license"),
        ("acme/1", "noncommercial-for-commercial-purpose"),
        ("acme/1", "noncommercial-under-commercial-license"),
        ("acme/1", "same-license-broken"),
        ("acme/2", "upstream-license-unknown"),
        ("acme/3", "restrictions-lost"),
        ("acme/base", "terms-travel-other-license"),
        ("acme/base", "user-threshold"),
    }
    assert judgement.verdict == "deny"


def test_a_section_that_nobody_noted_is_told_as_such() -> None:
    mit = load_licenses()["mit"]
    assert section(mit, "condition.name-prefix") == "not noted"
    assert section(mit, "permission.sublicense") == mit.permission("sublicense").section
    assert section(mit, "reaches_models") == mit.reaches_models_section
    both = load_licenses()["hunyuan-3d-2.0"]
    assert section(both, "condition.pass-on-use-restrictions").count("; ") >= 1


def test_the_worst_decision_counts() -> None:
    assert worst(()) == "allow"
    (known,) = judged("mit").decisions
    assert worst([known, replace(known, decide="review")]) == "review"
    assert worst([replace(known, decide="deny"), known, replace(known, decide="review")]) == "deny"


# Licenses of which not enough is known.

KNOWN = load_licenses()


@pytest.mark.parametrize("license", [id for id in KNOWN if KNOWN[id].unverified])
@pytest.mark.parametrize("relation", RELATIONS)
def test_what_nobody_verified_never_allows_alone(license: str, relation: str) -> None:
    for planned in ("mit", license):
        for purpose in PURPOSES:
            judgement = judged(
                planned,
                upstream(license, _ROLE.get(relation, "base_model"), relation=relation),
                purpose=purpose,
                kind="individual",
            )
            assert worst(d for d in judgement.decisions if d.part) != "allow"
            assert judgement.verdict != "allow"


@pytest.mark.parametrize("license", [id for id in KNOWN if KNOWN[id].kind == "placeholder"])
def test_a_placeholder_is_denied_whatever_knobs_say(license: str) -> None:
    loose = turned(baseline(), {name: k.positions[-1] for name, k in baseline().knobs.items()})
    for policy in (baseline(), loose):
        for relation in RELATIONS:
            found = _about(license, relation, "mit", policy=policy, visibility="private")
            assert set(found.values()) == {"review" if relation == TOOL else "deny"}
        assert judged(license, policy=policy).verdict == "deny"


def test_a_hub_license_without_facts_is_denied() -> None:
    without = [word for word in hub_licenses() if word not in KNOWN]
    assert len(without) > 10
    for license in without:
        assert _about(license, DATA, "mit") == {"upstream-license-unknown": "deny"}
        assert judged(license).verdict == "deny"


@pytest.mark.parametrize("license", ["mit", "cdla-permissive-2.0", "llama3.1"])
def test_facts_that_became_unverified_want_a_review(license: str) -> None:
    policy = knowing(replace(KNOWN[license], unverified=True))
    assert worst_of(_about(license, DATA, license)) == "allow"
    found = _about(license, DATA, license, policy=policy)
    assert found["upstream-license-unverified"] == "review"
    assert worst_of(found) == "review"


def worst_of(found: Mapping[str, str]) -> str:
    return max(found.values(), key=("allow", "review", "deny").index)


# Licenses that were bought.


def test_a_grant_of_own_terms_takes_the_place_of_the_terms() -> None:
    for license in ("llama3.1", "gpl-3.0", "gemma", "qwen", "cc-by-nd-4.0"):
        assert judged("mit", upstream(license, "dataset")).verdict != "allow"
        policy = granted(own_terms=True)
        assert _about(license, DATA, "mit", policy=policy) == OWN


def test_a_grant_of_a_right_is_a_right() -> None:
    policy = granted(permits=["commercial-use"], own_terms=True)
    assert _about("cc-by-nc-4.0", DATA, "mit", policy=policy) == OWN
    # The right alone says nothing of the license of what is made.
    policy = granted(permits=["commercial-use"])
    assert _about("cc-by-nc-4.0", DATA, "mit", policy=policy) == {"": "review"}
    policy = granted(permits=["distribute-derivatives"])
    assert _about("cc-by-nd-4.0", WEIGHTS, "mit", policy=policy) == {
        "derivatives-forbidden": "deny"
    }


@pytest.mark.parametrize(
    ("license", "lifted", "rule", "said"),
    [
        ("llama3.1", "threshold-users", "user-threshold", {"users": 10**9}),
        ("llama3.1", "threshold-users", "user-threshold", {"users": None}),
        (
            "stabilityai-ai-community",
            "threshold-revenue",
            "revenue-threshold",
            {"revenue": 10**9},
        ),
        ("hunyuan-3d-2.0", "territory-exclusion", "seat-excluded", {"seat": "DE"}),
        ("exaone-1.1-nc", "field-limit", "research-field-only", {"purpose": "noncommercial"}),
        (
            "mistral-research",
            "distributor-limit",
            "distributor-excluded",
            {"purpose": "research"},
        ),
    ],
)
def test_a_grant_lifts_a_limitation_and_no_other(
    license: str, lifted: str, rule: str, said: dict[str, Any]
) -> None:
    without = _about(license, WEIGHTS, license, **said)
    assert rule in without
    policy = granted(lifts=[lifted])
    assert _about(license, WEIGHTS, license, policy=policy, **said) == {
        name: decide for name, decide in without.items() if name != rule
    }
    other = granted(lifts=["no-endorsement"])
    assert _about(license, WEIGHTS, license, policy=other, **said) == without


@pytest.mark.parametrize(
    ("said", "covers"),
    [
        ({"expires": "2026-11-23"}, True),
        ({"expires": "2026-11-22"}, False),
        ({"signed": "2026-11-24"}, False),
        ({"release": "acme/topics"}, True),
        ({"release": "acme/other"}, False),
        ({"id": "acme/other"}, False),
    ],
)
def test_a_grant_holds_in_its_time_for_its_release_and_upstream(
    said: dict[str, str], covers: bool
) -> None:
    judgement = judged("mit", upstream("llama3.1"), policy=granted(own_terms=True, **said))
    assert (judgement.verdict == "allow") is covers
    assert judgement.valid_until == (said.get("expires", "2027-01-01") if covers else "")


def test_a_judgement_is_valid_as_long_as_all_grants_it_rests_on() -> None:
    policy = granted(own_terms=True, expires="2028-01-01")
    policy = granted(policy=policy, id="acme/data", own_terms=True, expires="2027-06-01")
    policy = granted(policy=policy, id="acme/elsewhere", own_terms=True, expires="2026-12-01")
    parts = (upstream("llama3.1"), upstream("gpl-3.0", "dataset", id="acme/data"))
    assert judged("mit", *parts, policy=policy).valid_until == "2027-06-01"
    assert judged("mit", parts[0], policy=policy).valid_until == "2028-01-01"
    assert judged("mit", policy=policy).valid_until == ""


@pytest.mark.parametrize("bought", ["acme/0", "acme/1"])
def test_a_grant_is_for_one_of_two_that_are_alike(bought: str) -> None:
    """Parts with the same facts are decided once; a grant is one of those facts."""
    parts = [upstream("llama3.1", id=f"acme/{n}") for n in range(2)]
    judgement = judged("mit", *parts, policy=granted(id=bought, own_terms=True))
    assert {d.part.upstream.id: d.rule for d in judgement.decisions if d.part} == {
        id: "own-terms" if id == bought else "terms-travel-other-license"
        for id in ("acme/0", "acme/1")
    }


def test_a_rule_may_ask_what_a_license_rests_on(tmp_path: Path) -> None:
    rule = (
        "\nrules:\n  - id: text-wanted\n    when:\n      upstream.license.basis: [declaration]\n"
        "    decide: review\n    because: Nobody saw the text.\n    how_to_fix: Fetch it.\n"
    )
    policy = _policy(tmp_path, ("\nrules:\n", rule))
    parts = [upstream("mit", id=f"acme/{n}") for n in range(3)]
    made = release("mit", *parts)
    bases = ("declaration", "text", "declaration")
    lineage = Lineage(tuple(map(Part, parts, ("mit",) * 3, bases)), ())
    decisions = judge(made, policy, day=DAY, lineage=lineage).decisions
    asked = [d.part.upstream.id for d in decisions if d.part and d.rule == "text-wanted"]
    assert asked == ["acme/0", "acme/2"]


def test_a_license_that_nobody_knows_cannot_be_bought_around() -> None:
    """What was bought would have to stand in a license file of one's own."""
    policy = granted(own_terms=True, permits=["commercial-use", "distribute", "modify"])
    assert _about("unknown", WEIGHTS, "mit", policy=policy)["upstream-license-unknown"] == "deny"


def test_a_license_of_the_policys_own_folder_is_judged(tmp_path: Path) -> None:
    folder = tmp_path / "licenses"
    folder.mkdir()
    text = (KNOWN["wtfpl"].folder / "wtfpl.yaml").read_text(encoding="utf-8")
    text = text.replace("id: wtfpl", "id: acme-own", 1)
    (folder / "acme-own.yaml").write_text(text, encoding="utf-8")
    policy = _policy(tmp_path, ("\nknobs:\n", "\nlicenses: licenses\nknobs:\n"))
    assert isinstance(policy.licenses, Licenses)
    assert _about("acme-own", WEIGHTS, "acme-own", policy=policy) == OWN
    assert judged("acme-own", policy=baseline()).verdict == "deny"
