"""What the baseline policy decides; each row is one a lawyer can read and dispute."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from release_kit.licensing import verdicts
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.policy import BASELINE, load_policy
from release_kit.licensing.verdicts import Decision, decide
from release_kit.release import Release
from tests.licensing.lineages import release, upstream

POLICY = load_policy()
_RANK = ("allow", "review", "deny")

WEIGHTS, DELTA = "weights-derived", "adapter-delta"
OUTPUTS, DATA = "trained-on-outputs", "trained-on-data"
SHIPPED, TOOL = "data-shipped", "tool-only"
RELATIONS = (WEIGHTS, DELTA, OUTPUTS, DATA, SHIPPED, TOOL)


def _worst(decisions: tuple[Decision, ...] | list[Decision]) -> str:
    return max((decision.decide for decision in decisions), key=_RANK.index)


def _about_upstreams(made: Release) -> list[Decision]:
    return [decision for decision in decide(made, POLICY) if decision.upstream]


#    upstream's license, relation, license of the release, purpose: what is decided about it
TABLE = [
    *(("apache-2.0", relation, "apache-2.0", "commercial", "allow") for relation in RELATIONS),
    *(("mit", relation, "apache-2.0", "commercial", "allow") for relation in RELATIONS),
    ("cc-by-4.0", DATA, "apache-2.0", "commercial", "allow"),
    ("cc-by-4.0", SHIPPED, "mit", "research", "allow"),
    ("cc-by-4.0", WEIGHTS, "cc-by-nc-4.0", "noncommercial", "allow"),
    ("cc-by-nc-4.0", DATA, "apache-2.0", "commercial", "deny"),
    ("cc-by-nc-4.0", DATA, "apache-2.0", "noncommercial", "deny"),
    ("cc-by-nc-4.0", DATA, "mit", "research", "deny"),
    ("cc-by-nc-4.0", DATA, "llama3.1", "research", "deny"),
    ("cc-by-nc-4.0", DATA, "cc-by-nc-4.0", "commercial", "deny"),
    ("cc-by-nc-4.0", DATA, "cc-by-nc-4.0", "noncommercial", "allow"),
    ("cc-by-nc-4.0", WEIGHTS, "cc-by-nc-4.0", "research", "allow"),
    ("cc-by-nc-4.0", TOOL, "apache-2.0", "commercial", "deny"),
    ("llama3.1", WEIGHTS, "llama3.1", "commercial", "allow"),
    ("llama3.1", DELTA, "llama3.1", "research", "allow"),
    ("llama3.1", WEIGHTS, "apache-2.0", "commercial", "deny"),
    ("llama3.1", DELTA, "mit", "noncommercial", "deny"),
    ("llama3.1", OUTPUTS, "apache-2.0", "commercial", "review"),
    ("llama3.1", TOOL, "apache-2.0", "commercial", "review"),
    *(("unknown", relation, "apache-2.0", "commercial", "deny") for relation in RELATIONS),
    *(("other", relation, "apache-2.0", "research", "deny") for relation in RELATIONS),
    ("unknown", DATA, "unknown", "research", "deny"),
    ("gpl-3.0", WEIGHTS, "gpl-3.0", "noncommercial", "deny"),
    ("cc-by-sa-4.0", DATA, "apache-2.0", "commercial", "deny"),
    ("Apache 2.0", WEIGHTS, "apache-2.0", "commercial", "deny"),
]


@pytest.mark.parametrize(("given", "relation", "license", "purpose", "wanted"), TABLE)
def test_the_policy_decides(
    given: str, relation: str, license: str, purpose: str, wanted: str
) -> None:
    made = release(license, upstream(given, relation=relation), purpose=purpose)

    decisions = _about_upstreams(made)

    assert _worst(decisions) == wanted
    for decision in decisions:
        assert decision.because
        assert "{" not in decision.because + decision.how_to_fix
        assert decision.decide == "allow" or decision.how_to_fix


@pytest.mark.parametrize(
    ("license", "wanted"),
    [
        ("apache-2.0", "allow"),
        ("cc-by-nc-4.0", "allow"),
        ("unknown", "deny"),
        ("other", "deny"),
        ("gpl-3.0", "deny"),
        ("Apache 2.0", "deny"),
    ],
)
def test_the_license_of_the_release_is_judged_too(license: str, wanted: str) -> None:
    (decision,) = decide(release(license), POLICY)
    assert decision.upstream is None
    assert decision.decide == wanted


def test_a_denial_cites_the_section_and_the_rule() -> None:
    made = release("apache-2.0", upstream("cc-by-nc-4.0", "dataset"))
    denials = [decision for decision in decide(made, POLICY) if decision.decide == "deny"]
    assert [decision.rule for decision in denials] == [
        "noncommercial-for-commercial-purpose",
        "noncommercial-under-commercial-license",
    ]
    assert denials[0].cites == (
        "Creative Commons Attribution-NonCommercial 4.0 International,"
        " section 1(i); 2(a)(1)(A)-(B)",
    )
    assert "cc-by-nc-4.0" in denials[0].because


def test_a_misspelt_license_is_denied_with_the_right_word() -> None:
    made = release("MIT", upstream("Apache 2.0"))
    hints = [decision.how_to_fix for decision in decide(made, POLICY)]
    assert hints[0].startswith("Did you mean 'mit'?")
    assert hints[1].startswith("Did you mean 'apache-2.0'?")


@pytest.mark.parametrize("license", ["gpl-3.0", "cc-by-sa-4.0", "llama3.2"])
def test_another_license_is_not_taken_for_a_misspelt_one(license: str) -> None:
    (decision,) = _about_upstreams(release("apache-2.0", upstream(license)))
    assert decision.decide == "deny"
    assert "Did you mean" not in decision.how_to_fix


@pytest.mark.parametrize(
    ("users", "wanted"),
    [
        (None, "review"),
        (0, "allow"),
        (700_000_000, "allow"),
        (700_000_001, "deny"),
    ],
)
def test_the_user_threshold_of_llama(users: int | None, wanted: str) -> None:
    decisions = _about_upstreams(release("llama3.1", upstream("llama3.1"), users=users))
    assert _worst(decisions) == wanted
    if users is None:
        (review,) = [decision for decision in decisions if decision.decide == "review"]
        assert review.rule == "user-threshold"
        assert "organization.monthly_active_users" in review.because
        assert "organization.monthly_active_users" in review.how_to_fix
        assert review.cites == ("Llama 3.1 Community License Agreement, section 2",)


def test_missing_users_matter_only_where_a_license_asks() -> None:
    made = release("apache-2.0", upstream("apache-2.0"), upstream("mit", "code"), users=None)
    assert _worst(list(decide(made, POLICY))) == "allow"


def test_facts_that_nobody_verified_want_a_review(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**load_licenses(), "mit": replace(load_licenses()["mit"], unverified=True)}
    monkeypatch.setattr(verdicts, "load_licenses", lambda: known)
    decisions = _about_upstreams(release("apache-2.0", upstream("mit")))
    assert _worst(decisions) == "review"
    assert {decision.rule for decision in decisions} == {
        "upstream-license-unverified",
        "own-terms",
    }


@pytest.mark.parametrize("silent", ["own-terms", "release-license-known"])
def test_where_no_rule_speaks_a_person_must(silent: str) -> None:
    rules = tuple(rule for rule in POLICY.rules if rule.id != silent)
    assert len(rules) == len(POLICY.rules) - 1
    made = release("apache-2.0", upstream("mit"))
    decisions = decide(made, replace(POLICY, rules=rules))
    (unspoken,) = [decision for decision in decisions if not decision.rule]
    assert unspoken.decide == "review"
    assert "no rule of the policy baseline" in unspoken.because


def test_a_missing_fact_never_makes_a_rule_true(tmp_path: Path) -> None:
    """Also for a rule that allows: what is not known cannot be what allows the release."""
    text = BASELINE.read_text(encoding="utf-8")
    old = "upstream.over_user_threshold: true\n    decide: deny"
    assert old in text
    path = tmp_path / "policy.yaml"
    path.write_text(
        text.replace(old, "upstream.over_user_threshold: false\n    decide: allow"),
        encoding="utf-8",
    )
    made = release("llama3.1", upstream("llama3.1"), users=None)
    decisions = {decision.rule: decision.decide for decision in decide(made, load_policy(path))}
    assert decisions["user-threshold"] == "review"


def test_a_missing_fact_does_not_matter_where_another_is_false(tmp_path: Path) -> None:
    text = BASELINE.read_text(encoding="utf-8")
    old = "      upstream.over_user_threshold: true\n"
    path = tmp_path / "policy.yaml"
    path.write_text(text.replace(old, old + "      release.purpose: research\n"), encoding="utf-8")
    made = release("llama3.1", upstream("llama3.1"), users=None)
    rules = {decision.rule for decision in decide(made, load_policy(path))}
    assert "user-threshold" not in rules


WORDS = (*load_licenses(), "gpl-3.0", "Apache 2.0")


def _random_release(draw: random.Random) -> Release:
    parts = [
        upstream(draw.choice(WORDS), relation=draw.choice(RELATIONS), id=f"acme/{n}", line=n)
        for n in range(draw.randint(1, 5))
    ]
    return release(
        draw.choice(WORDS),
        *parts,
        purpose=draw.choice(("commercial", "noncommercial", "research")),
        users=draw.choice((None, 12, 800_000_000)),
    )


def test_another_upstream_never_improves_the_verdict() -> None:
    draw = random.Random(8)
    seen = set()
    for _ in range(400):
        made = _random_release(draw)
        fewer = replace(made, lineage=made.lineage[:-1])
        before, after = (_worst(list(decide(r, POLICY))) for r in (fewer, made))
        seen.add((before, after))
        assert _RANK.index(after) >= _RANK.index(before)
    assert {("allow", "allow"), ("allow", "deny"), ("deny", "deny")} <= seen


def test_the_order_of_the_lineage_changes_nothing() -> None:
    draw = random.Random(9)
    for _ in range(60):
        made = _random_release(draw)
        wanted = set(decide(made, POLICY))
        for order in itertools.islice(itertools.permutations(made.lineage), 8):
            assert set(decide(replace(made, lineage=order), POLICY)) == wanted
