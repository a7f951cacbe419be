"""Every derived fact: true, false, or missing with the field that would tell it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from release_kit.licensing.facts import (
    Missing,
    Value,
    applies,
    excluded_countries,
    holds,
    license_facts,
    part_facts,
    release_facts,
    territories,
)
from release_kit.licensing.licenses import AppliesWhen, Limitation, load_licenses
from release_kit.release import Release
from tests.licensing.lineages import baseline, granted, knowing, release, situated, turned, upstream

USERS = "organization.monthly_active_users"
YEAR = "organization.annual_revenue_usd"
MONTH = "organization.monthly_revenue_usd"
SEAT = "organization.seat"
MODALITIES = "lineage.base_models.modalities"
EU = territories()["EU"]


def _fact(name: str, license: str, planned: str = "", **said: Any) -> Value:
    """Return one fact about a model under `license`, or about what `relation` says."""
    relation = said.pop("relation", "weights-derived")
    policy = said.pop("policy", None)
    more = said.pop("more", ())
    made = situated(
        planned or license, upstream(license, relation=relation), *more, policy=policy, **said
    )
    return part_facts(made, made.parts[0])[f"upstream.{name}"]


def _organization(**said: Any) -> Release:
    made = release("mit")
    return replace(made, organization=replace(made.organization, **said))


# Thresholds.


@pytest.mark.parametrize(
    ("license", "limit"),
    [
        ("llama3.1", 700_000_000),
        ("llama2", 700_000_000),
        ("qwen", 100_000_000),
        ("hunyuan-3d-2.0", 1_000_000),
    ],
)
def test_users_count_above_the_number(license: str, limit: int) -> None:
    wanted = {0: False, limit - 1: False, limit: False, limit + 1: True}
    found = {users: _fact("over_user_threshold", license, users=users) for users in wanted}
    assert found == wanted
    assert _fact("over_user_threshold", license, users=None) == Missing(USERS)


def test_revenue_counts_above_the_sum() -> None:
    license = "stabilityai-ai-community"
    wanted = {0: False, 1_000_000: False, 1_000_001: True}
    found = {sum: _fact("over_revenue_threshold", license, revenue=sum) for sum in wanted}
    assert found == wanted
    assert _fact("over_revenue_threshold", license, revenue=None) == Missing(YEAR)


@pytest.mark.parametrize("license", ["apache-2.0", "unknown", "afl-3.0", "no such license"])
def test_no_threshold_asks_for_nothing(license: str) -> None:
    for name in ("over_user_threshold", "over_revenue_threshold", "seat_excluded"):
        nothing = {"users": None, "revenue": None, "seat": "", "modalities": ()}
        assert _fact(name, license, **nothing) is False


def test_a_threshold_whose_number_nobody_noted_cannot_be_kept() -> None:
    limit = Limitation("threshold-users", "2", "Too many.")
    policy = knowing(replace(load_licenses()["mit"], limitations=(limit,)))
    assert _fact("over_user_threshold", "mit", users=0, policy=policy) is True
    assert _fact("over_user_threshold", "mit", users=None, policy=policy) == Missing(USERS)


# Seat.


def test_the_union_has_its_27_members_and_their_parts_with_codes_of_their_own() -> None:
    assert len(EU - {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"}) == 27
    assert {"DE", "FR", "IE"} <= EU
    assert not EU & {"GB", "CH", "NO", "US", "EU", "UK", "EL"}


LLAMA_MULTIMODAL = ("llama3.2", "llama3.3", "llama4")


@pytest.mark.parametrize("license", LLAMA_MULTIMODAL)
@pytest.mark.parametrize("seat", sorted(EU))
def test_a_multimodal_model_is_not_for_a_seat_in_the_union(license: str, seat: str) -> None:
    seen = ("text", "image")
    assert _fact("seat_excluded", license, seat=seat, modalities=seen) is True
    assert _fact("seat_excluded", license, seat=seat, modalities=("text",)) is False
    assert _fact("seat_excluded", license, seat=seat, modalities=()) == Missing(MODALITIES)


@pytest.mark.parametrize("license", LLAMA_MULTIMODAL)
@pytest.mark.parametrize("seat", ["US", "GB", "CH", "JP"])
def test_elsewhere_the_modality_does_not_matter(license: str, seat: str) -> None:
    for modalities in ((), ("text",), ("text", "image"), ("image", "audio", "video")):
        assert _fact("seat_excluded", license, seat=seat, modalities=modalities) is False


@pytest.mark.parametrize("license", LLAMA_MULTIMODAL)
def test_the_field_that_is_missing_is_the_one_that_matters(license: str) -> None:
    assert _fact("seat_excluded", license, seat="", modalities=("text",)) is False
    assert _fact("seat_excluded", license, seat="", modalities=("text", "image")) == Missing(SEAT)
    assert _fact("seat_excluded", license, seat="", modalities=()) == Missing(MODALITIES)


def test_a_territory_may_be_a_union_and_countries() -> None:
    limit = load_licenses()["hunyuan-3d-2.0"].limitation("territory-exclusion")
    assert limit is not None
    assert excluded_countries(limit) == EU | {"GB", "KR"}
    excluded = {seat: _fact("seat_excluded", limit_id, seat=seat) for limit_id, seat in SEATS}
    assert excluded == {"GB": True, "KR": True, "DE": True, "US": False, "CN": False}
    assert _fact("seat_excluded", "hunyuan-3d-2.0", seat="") == Missing(SEAT)


SEATS = [("hunyuan-3d-2.0", seat) for seat in ("GB", "KR", "DE", "US", "CN")]


@pytest.mark.parametrize("license", ["llama3.1", "llama2", "mit"])
def test_a_license_without_a_territory_excludes_nobody(license: str) -> None:
    assert _fact("seat_excluded", license, seat="DE", modalities=("text", "image")) is False


# Conditions and limitations with a threshold of their own.


@pytest.mark.parametrize(
    ("when", "said", "wanted"),
    [
        (None, {}, True),
        (AppliesWhen(users_over=10), {"monthly_active_users": 11}, True),
        (AppliesWhen(users_over=10), {"monthly_active_users": 10}, False),
        (AppliesWhen(users_over=10), {"monthly_active_users": None}, Missing(USERS)),
        (AppliesWhen(users_over=0), {"monthly_active_users": 0}, False),
        (AppliesWhen(annual_revenue_over_usd=5), {"annual_revenue_usd": 6}, True),
        (AppliesWhen(annual_revenue_over_usd=5), {"annual_revenue_usd": None}, Missing(YEAR)),
        (AppliesWhen(monthly_revenue_over_usd=5), {"monthly_revenue_usd": 6}, True),
        (AppliesWhen(monthly_revenue_over_usd=5), {"monthly_revenue_usd": 5}, False),
        (AppliesWhen(monthly_revenue_over_usd=5), {"monthly_revenue_usd": None}, Missing(MONTH)),
        # Any one is enough, so what is missing does not matter beside one that is true.
        (
            AppliesWhen(users_over=10, monthly_revenue_over_usd=5),
            {"monthly_active_users": None, "monthly_revenue_usd": 6},
            True,
        ),
        (
            AppliesWhen(users_over=10, monthly_revenue_over_usd=5),
            {"monthly_active_users": 10, "monthly_revenue_usd": None},
            Missing(MONTH),
        ),
        (
            AppliesWhen(users_over=10, monthly_revenue_over_usd=5),
            {"monthly_active_users": None, "monthly_revenue_usd": None},
            Missing(USERS),
        ),
    ],
)
def test_a_condition_applies_when_one_of_its_limits_is_passed(
    when: AppliesWhen | None, said: dict[str, int | None], wanted: Value
) -> None:
    assert applies(when, _organization(**said)) == wanted


@pytest.mark.parametrize(
    ("modalities", "wanted"),
    [
        ((), Missing("release.modalities")),
        (("text",), False),
        (("image",), False),
        (("text", "image"), True),
        (("text", "audio", "video"), True),
    ],
)
def test_more_than_one_modality_is_multimodal(modalities: tuple[str, ...], wanted: Value) -> None:
    assert applies(AppliesWhen(modality="multimodal"), release("mit", modalities=modalities)) == (
        wanted
    )


def test_the_modality_is_that_of_the_upstream() -> None:
    """A model for text alone may have been made from one for images too."""
    when, made = AppliesWhen(modality="multimodal"), release("mit", modalities=("text",))
    part = upstream("llama3.2", role="generator")
    assert applies(when, made, part) == Missing("lineage.generators.modalities")
    assert applies(when, made, replace(part, modalities=("text",))) is False
    assert applies(when, made, replace(part, modalities=("text", "image"))) is True
    several = release("mit", modalities=("text", "image"))
    assert applies(when, several, part) is True
    assert applies(when, several, replace(part, modalities=("text",))) is False


def test_a_condition_is_a_fact_only_where_it_applies() -> None:
    kimi = load_licenses()["kimi-k2-modified-mit"]
    (condition,) = [c for c in kimi.conditions if c.kind == "display-statement"]
    assert condition.applies_when is not None
    users, sum = condition.applies_when.users_over, condition.applies_when.monthly_revenue_over_usd
    assert users is not None and sum is not None

    def displays(**said: int | None) -> Value | None:
        return license_facts("upstream", kimi, _organization(**said))(
            "upstream.condition.display-statement"
        )

    few = {"monthly_active_users": users, "monthly_revenue_usd": sum}
    assert displays(**few) is False
    assert displays(**{**few, "monthly_active_users": users + 1}) is True
    assert displays(**{**few, "monthly_revenue_usd": sum + 1}) is True
    assert displays(**{**few, "monthly_revenue_usd": None}) == Missing(MONTH)
    assert displays(**{**few, "monthly_active_users": None}) == Missing(USERS)
    assert displays(monthly_active_users=None, monthly_revenue_usd=sum + 1) is True


# Outputs that may not improve other models.

OUTPUTS = "trained-on-outputs"


@pytest.mark.parametrize("license", ["llama2", "llama3", "tongyi-qianwen"])
def test_outputs_may_improve_only_the_family_under_its_license(license: str) -> None:
    own = (upstream(license, id="acme/base"),)
    other = (upstream("apache-2.0", id="acme/base"),)

    def restricted(planned: str, *more: Any) -> Value:
        return _fact("outputs_restricted", license, planned, relation=OUTPUTS, more=more)

    assert restricted(license, *own) is False
    assert restricted("apache-2.0", *own) is True
    assert restricted(license, *other) is True
    assert restricted(license, *own, *other) is True
    # A model from scratch is of no family, so only its license can make it one.
    assert restricted(license) is False
    assert restricted("mit") is True
    # Data and tools are no weights of another family.
    assert restricted(license, *own, upstream("mit", "dataset"), upstream("mit", "code")) is False


@pytest.mark.parametrize("license", ["llama2", "llama3", "tongyi-qianwen", "hunyuan-3d-2.0"])
@pytest.mark.parametrize("relation", ["weights-derived", "adapter-delta"])
def test_weights_may_not_be_merged_into_another_family(license: str, relation: str) -> None:
    def restricted(*more: Any) -> Value:
        return _fact("outputs_restricted", license, relation=relation, more=more)

    assert restricted() is False
    assert restricted(upstream(license, id="acme/same")) is False
    assert restricted(upstream("mit", id="acme/other")) is True
    assert restricted(upstream("mit", "adapter", id="acme/other")) is True
    assert restricted(upstream("mit", "dataset"), upstream("mit", "code")) is False
    assert restricted(upstream("unknown", id="acme/other")) is True
    # What only lies beside is not improved.
    beside = upstream("mit", id="acme/other", relation="weights-shipped")
    assert restricted(beside) is False
    assert _fact("outputs_restricted", license, relation="weights-shipped", more=(beside,)) is False


@pytest.mark.parametrize(("license", "wanted"), [("llama3", True), ("llama3.1", False)])
def test_outputs_that_may_serve_their_own_family_only(license: str, wanted: bool) -> None:
    assert _fact("outputs_for_own_family", license, relation=OUTPUTS) is wanted
    assert _fact("outputs_for_own_family", license) is False


def test_a_condition_for_one_purpose_applies_to_it_alone() -> None:
    when = AppliesWhen(purpose="commercial")
    for purpose, wanted in (("commercial", True), ("noncommercial", False), ("research", False)):
        assert applies(when, release("mit", purpose=purpose)) is wanted


def test_llama_2_and_3_are_two_families_and_later_ones_are_free() -> None:
    merged = (upstream("llama3", id="acme/three"),)
    assert _fact("outputs_restricted", "llama2", more=merged) is True
    merged = (upstream("mit", id="acme/other"),)
    for license in ("llama3.1", "llama3.2", "llama3.3", "llama4"):
        assert _fact("outputs_restricted", license, more=merged) is False
        assert _fact("outputs_restricted", license, "mit", relation=OUTPUTS, more=merged) is False


def test_a_restriction_without_exempt_family_holds_for_every_other_model() -> None:
    assert _fact("outputs_restricted", "exaone-1.1-nc") is False
    merged = (upstream("exaone-1.1-nc", id="acme/same"),)
    assert _fact("outputs_restricted", "exaone-1.1-nc", more=merged) is False
    assert _fact("outputs_restricted", "exaone-1.1-nc", relation=OUTPUTS) is True


@pytest.mark.parametrize("license", ["llama2", "exaone-1.1-nc", "openai-terms-of-use"])
@pytest.mark.parametrize("relation", ["trained-on-data", "data-shipped", "tool-only"])
def test_data_and_tools_are_no_outputs(license: str, relation: str) -> None:
    assert _fact("outputs_restricted", license, "mit", relation=relation) is False


def test_stability_exempts_its_own_models() -> None:
    license = "stabilityai-ai-community"
    own = (upstream(license, id="acme/base"),)
    assert _fact("outputs_restricted", license, relation=OUTPUTS, more=own) is False
    assert _fact("outputs_restricted", license, "mit", relation=OUTPUTS, more=own) is True
    research = (upstream("stabilityai-nc-research", id="acme/base"),)
    assert _fact("outputs_restricted", license, relation=OUTPUTS, more=research) is True


# Licenses.


def test_a_combination_is_accepted_only_as_the_text_says() -> None:
    assert _fact("combination_accepted", "gpl-3.0", "agpl-3.0") is True
    assert _fact("combination_accepted", "agpl-3.0", "gpl-3.0") is False
    assert _fact("combination_accepted", "gpl-3.0", "mit") is False
    assert _fact("combination_accepted", "cc-by-sa-4.0", "cc-by-nc-sa-4.0") is False
    assert _fact("combination_accepted", "eupl-1.2", "agpl-3.0") is True


@pytest.mark.parametrize(
    ("license", "kind", "verified"),
    [
        ("mit", "license", True),
        ("apple-ascl", "license", False),
        ("unknown", "placeholder", False),
        ("gpl", "placeholder", False),
        ("afl-3.0", "missing", False),
        ("no such license", "missing", False),
    ],
)
def test_a_license_without_facts_is_never_verified(license: str, kind: str, verified: bool) -> None:
    assert _fact("license.kind", license) == kind
    assert _fact("license.verified", license) is verified
    facts = release_facts(situated(license))
    assert facts["release.license.kind"] == kind
    assert facts["release.license.verified"] is verified
    if kind != "license":
        assert _fact("downstream_license", license) == "undeterminable"
        assert facts["release.downstream_license"] == "undeterminable"
        look_up = license_facts("upstream", load_licenses().get(license), release("mit"))
        assert look_up("upstream.permission.commercial-use") == "unknown"


def test_the_look_up_answers_for_its_subject_only() -> None:
    look_up = license_facts("upstream", load_licenses()["mit"], release("mit"))
    assert look_up("upstream.permission.modify") == "granted"
    assert look_up("upstream.permission.no-such-action") == "unknown"
    assert look_up("upstream.condition.no-such-kind") is False
    assert look_up("release.permission.modify") is None
    assert look_up("upstream.license") is None


def test_what_nobody_says_about_the_seat_is_missing() -> None:
    assert release_facts(situated("mit", seat=""))["organization.seat"] == Missing(SEAT)
    assert release_facts(situated("mit", seat="JP"))["organization.seat"] == "JP"


def test_missing_says_where_to_state_it() -> None:
    assert Missing(SEAT).how == "Write organization.seat in release.yaml."


# Grants.


def test_a_grant_changes_the_facts_about_its_upstream_alone() -> None:
    bought = granted(
        permits=("commercial-use",),
        lifts=("threshold-users", "territory-exclusion", "output-restriction"),
        discharges=("attribution",),
        own_terms=True,
    )
    said: dict[str, Any] = {"users": 10**10, "seat": "DE", "planned": "mit"}
    more = (upstream("hunyuan-3d-2.0", id="acme/other"), upstream("mit", id="acme/third"))
    for policy, wanted in ((baseline(), True), (bought, False)):
        for name in ("over_user_threshold", "seat_excluded", "outputs_restricted"):
            found = _fact(name, "hunyuan-3d-2.0", policy=policy, more=more, **said)
            assert found is wanted, name
    made = situated("mit", upstream("hunyuan-3d-2.0"), *more, policy=bought, users=10**10)
    facts = [part_facts(made, part) for part in made.parts]
    assert facts[0]["upstream.downstream_license"] == "own-terms-allowed"
    assert facts[1]["upstream.downstream_license"] == "own-terms-plus-restrictions"
    assert facts[1]["upstream.over_user_threshold"] is True

    grants = made.grants(made.parts[0])
    assert grants == bought.grants
    assert made.grants(made.parts[1]) == ()
    license = load_licenses()["cc-by-nc-4.0"]
    look_up = license_facts("upstream", license, made.release, grants)
    assert look_up("upstream.permission.commercial-use") == "granted"
    assert look_up("upstream.condition.attribution") is False
    assert look_up("upstream.condition.state-changes") is True
    assert look_up("upstream.limitation.threshold-users") is False


@pytest.mark.parametrize(
    ("signed", "expires", "holds"),
    [
        ("2026-01-01", "2026-11-23", True),
        ("2026-01-01", "2026-11-22", False),
        ("2026-11-23", "2027-01-01", True),
        ("2026-11-24", "2027-01-01", False),
        ("2026-11-23", "2026-11-23", True),
    ],
)
def test_a_grant_holds_from_its_signature_to_its_last_day(
    signed: str, expires: str, holds: bool
) -> None:
    policy = granted(own_terms=True, signed=signed, expires=expires)
    made = situated("mit", upstream("llama3.1"), policy=policy)
    assert bool(made.grants(made.parts[0])) is holds


@pytest.mark.parametrize(
    ("named", "covers"),
    [("", True), ("acme/topics", True), ("acme/other", False), ("acme", False)],
)
def test_a_grant_for_one_release_covers_no_other(named: str, covers: bool) -> None:
    made = situated("mit", upstream("mit"), policy=granted(own_terms=True, release=named))
    assert bool(made.grants(made.parts[0])) is covers


# Rules: a conjunction of three-valued facts.

RULE = replace(baseline().rules[0], when={"a": (True,), "b": (True,)}, knobs={})


def test_all_must_be_true_and_one_false_is_enough() -> None:
    first, second = Missing("first"), Missing("second")
    policy = baseline()
    wanted: dict[tuple[Value, Value], Value] = {
        (True, True): True,
        (True, False): False,
        (True, second): second,
        (False, True): False,
        (False, False): False,
        (False, second): False,
        (first, True): first,
        (first, False): False,
        (first, second): first,
    }
    values: tuple[tuple[Value, ...], ...] = ((True, False, first), (True, False, second))
    assert wanted.keys() == set(itertools.product(*values))
    for (a, b), outcome in wanted.items():
        assert holds(RULE, policy, {"a": a, "b": b}.__getitem__) == outcome


def test_a_list_means_any_of_these() -> None:
    rule = replace(RULE, when={"a": ("x", "y")})
    found = {word: holds(rule, baseline(), {"a": word}.__getitem__) for word in ("x", "y", "z")}
    assert found == {"x": True, "y": True, "z": False}


def test_a_knob_in_another_position_silences_the_rule() -> None:
    rule = replace(RULE, when={"a": (True,)}, knobs={"adapter-is-derivative": ("no",)})
    for position, outcome in (("yes", False), ("no", True)):
        policy = turned(baseline(), {"adapter-is-derivative": position})
        assert holds(rule, policy, {"a": True}.__getitem__) is outcome
    strict = turned(baseline(), {"adapter-is-derivative": "yes"})
    assert holds(rule, strict, {"a": Missing("a")}.__getitem__) is False
