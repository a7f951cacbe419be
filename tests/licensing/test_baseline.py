"""What the shipped policies decide: their own tests, and laws that hold for every situation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.licensing.lineage import DATA_BEHIND_A_MODEL, Lineage, Part
from release_kit.licensing.policy import Policy, PolicyRule, load_policy
from release_kit.licensing.policy_files import DECISIONS, shipped_policies
from release_kit.licensing.policy_tests import CaseFile, read_tests, run_tests, untested
from release_kit.release import ROLES, Release
from tests.licensing.lineages import DAY, release, upstream

SHIPPED = sorted(shipped_policies())
OVERLAYS = [name for name in SHIPPED if name != "baseline"]


@pytest.fixture(scope="module")
def policies() -> dict[str, Policy]:
    return {name: load_policy(name) for name in SHIPPED}


@pytest.fixture(scope="module")
def baseline(policies: dict[str, Policy]) -> Policy:
    return policies["baseline"]


@pytest.fixture(scope="module")
def tests(policies: dict[str, Policy]) -> dict[str, CaseFile]:
    return {name: read_tests(policy) for name, policy in policies.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_does_what_its_tests_say(
    name: str, policies: dict[str, Policy], tests: dict[str, CaseFile]
) -> None:
    assert [str(failure) for failure in run_tests(policies[name], tests[name])] == []
    assert list(untested(policies[name], tests[name])) == []


def test_the_table_of_the_baseline_is_pinned(tests: dict[str, CaseFile]) -> None:
    whole = [case for case in tests["baseline"].cases if case.expect]
    assert len(whole) >= 25
    verdicts = {case.expect.verdict for case in whole if case.expect}
    assert verdicts == set(DECISIONS)


def _own(name: str, policy: Policy, tests: CaseFile) -> Iterator[tuple[PolicyRule, CaseFile]]:
    """Yield each rule that the policy brings or tightens, with its pair of tests."""
    for rule in policy.rules:
        if rule.policy == name or rule.id in policy.tightened:
            pair = tuple(case for case in tests.cases if case.rule == rule.id)
            yield rule, replace(tests, cases=pair)


def _without(policy: Policy, rule: PolicyRule, *instead: PolicyRule) -> Policy:
    others = (item for item in policy.rules if item is not rule)
    return replace(policy, rules=(*others, *instead))


@pytest.mark.parametrize("name", SHIPPED)
def test_no_rule_can_be_taken_out_or_turned_round_unseen(
    name: str, policies: dict[str, Policy], tests: dict[str, CaseFile]
) -> None:
    policy = policies[name]
    for rule, pair in _own(name, policy, tests[name]):
        assert run_tests(_without(policy, rule), pair), rule.id
        for decide in set(DECISIONS) - {rule.decide}:
            turned = _without(policy, rule, replace(rule, decide=decide))
            assert run_tests(turned, pair), (rule.id, decide)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_situation_in_which_a_rule_stays_silent_is_a_near_one(
    name: str, policies: dict[str, Policy], tests: dict[str, CaseFile]
) -> None:
    """One line of the rule less, and it speaks there too."""
    policy = policies[name]
    for rule, pair in _own(name, policy, tests[name]):
        less = [
            replace(rule, when={fact: rule.when[fact] for fact in rule.when if fact != gone})
            for gone in rule.when
            if len(rule.when) > 1
        ]
        less += [replace(rule, knobs={})] if rule.knobs else []
        silent = replace(pair, cases=tuple(case for case in pair.cases if not case.decides))
        seen = [run_tests(_without(policy, rule, looser), silent) for looser in less]
        assert any(seen) or not less, rule.id


def test_a_case_of_the_table_says_all_that_objects(
    baseline: Policy, tests: dict[str, CaseFile]
) -> None:
    for case in tests["baseline"].cases:
        judgement = case.judged(baseline)
        for decision in judgement.decisions:
            assert "{" not in decision.because + decision.how_to_fix, case.name
            assert decision.decide == "allow" or decision.how_to_fix, case.name


LICENSES = (*load_licenses(), "acme-license")


def _release(draw: random.Random) -> Release:
    parts = []
    for number in range(draw.randint(1, 4)):
        role, relations = draw.choice(list(ROLES.values()))
        license = draw.choice(LICENSES)
        part = upstream(license, role, relation=draw.choice(relations), id=f"acme/{number}")
        parts.append(part)
    # The license of a part is the likeliest to be allowed.
    license = draw.choice((draw.choice(LICENSES), *(part.license for part in parts)))
    return release(
        license,
        *parts,
        purpose=draw.choice(("commercial", "noncommercial", "research")),
        users=draw.choice((None, 12, 800_000_000)),
        revenue=draw.choice((None, 12, 80_000_000)),
        seat=draw.choice(("", "US", "DE", "KR")),
        kind=draw.choice(("company", "academic", "individual")),
        visibility=draw.choice(("public", "private")),
        gating=draw.choice(("open", "automatic", "manual")),
        modalities=draw.choice(((), ("text",), ("text", "image"))),
    )


BASES = ("text", "statement", "table", "declaration")


def _situations(seed: int, count: int) -> Iterator[tuple[Release, Lineage]]:
    draw = random.Random(seed)
    for _ in range(count):
        made = _release(draw)
        parts = tuple(Part(part, part.license, draw.choice(BASES)) for part in made.lineage)
        yield made, Lineage(parts, ())


def _judged(made: Release, lineage: Lineage, policy: Policy) -> Judgement:
    return judge(made, policy, day=DAY, lineage=lineage)


def _rank(judgement: Judgement) -> int:
    return DECISIONS.index(judgement.verdict)


def _owed(judgement: Judgement) -> set[tuple[str, str, str]]:
    return {(o.part.upstream.id, o.kind, o.term.section) for o in judgement.owed}


def test_every_overlay_is_at_least_as_strict_as_the_baseline(
    baseline: Policy, policies: dict[str, Policy]
) -> None:
    stricter: dict[str, int] = dict.fromkeys(OVERLAYS, 0)
    milder: dict[str, int] = dict.fromkeys(DECISIONS, 0)
    for made, lineage in _situations(1, 250):
        plain = _judged(made, lineage, baseline)
        milder[plain.verdict] += 1
        for name in OVERLAYS:
            tight = _judged(made, lineage, policies[name])
            assert _rank(tight) >= _rank(plain), (name, made)
            assert _owed(tight) >= _owed(plain), (name, made)
            stricter[name] += _rank(tight) > _rank(plain)
    assert min(stricter.values()) > 5, stricter
    assert min(milder.values()) > 10, milder


def test_moving_a_knob_towards_its_strict_end_never_makes_anything_milder(
    baseline: Policy,
) -> None:
    # What a file names is no part of a situation; its knob is tried in test_lineage.py.
    asked = {name: k for name, k in baseline.knobs.items() if name != DATA_BEHIND_A_MODEL}
    moved = dict.fromkeys(asked, 0)
    for made, lineage in _situations(2, 400):
        plain = _judged(made, lineage, baseline)
        for knob in asked.values():
            assert set(knob.positions) == {"yes", "no"}
            strict = loose = plain
            for at in set(knob.positions) - {knob.set}:
                knobs = {**baseline.knobs, knob.name: replace(knob, set=at)}
                other = _judged(made, lineage, replace(baseline, knobs=knobs))
                strict, loose = (other, plain) if at == knob.positions[0] else (plain, other)
            assert _rank(strict) >= _rank(loose), (knob.name, made)
            assert _owed(strict) >= _owed(loose), (knob.name, made)
            moved[knob.name] += strict.decisions != loose.decisions
    # Each knob decides something somewhere; one that decides nothing is no question of law.
    assert all(moved.values()), moved


def test_the_order_of_rules_and_of_facts_changes_nothing_but_order(baseline: Policy) -> None:
    draw = random.Random(3)
    rules = [
        replace(rule, when=dict(reversed(rule.when.items()))) for rule in reversed(baseline.rules)
    ]
    draw.shuffle(rules)
    knobs = dict(reversed(baseline.knobs.items()))
    mixed = replace(baseline, rules=tuple(rules), knobs=knobs)
    for made, lineage in _situations(4, 200):
        one, other = _judged(made, lineage, baseline), _judged(made, lineage, mixed)
        assert one.verdict == other.verdict
        # Which of several missing facts is named first follows the order of the file.
        assert {(d.rule, d.decide, d.part) for d in one.decisions} == {
            (d.rule, d.decide, d.part) for d in other.decisions
        }
        assert one.owed == other.owed


def test_the_order_of_license_files_changes_nothing(baseline: Policy) -> None:
    class Reversed(Licenses):
        def __init__(self, known: Licenses) -> None:
            super().__init__()
            self._paths = dict(reversed(known.paths.items()))

    mixed = replace(baseline, licenses=Reversed(baseline.licenses))
    for made, lineage in _situations(5, 50):
        one, other = _judged(made, lineage, baseline), _judged(made, lineage, mixed)
        assert one.decisions == other.decisions
        assert [(o.kind, o.cite) for o in one.owed] == [(o.kind, o.cite) for o in other.owed]


def test_another_upstream_never_improves_the_verdict(baseline: Policy) -> None:
    for made, lineage in _situations(6, 300):
        fewer = Lineage(lineage.parts[:-1], ())
        assert _rank(_judged(made, lineage, baseline)) >= _rank(_judged(made, fewer, baseline))


def test_a_fact_that_is_missing_never_makes_the_verdict_milder(baseline: Policy) -> None:
    """What nobody says cannot be what frees a release, whatever it would have been."""
    for made, lineage in _situations(7, 300):
        known = replace(
            made.organization,
            monthly_active_users=1,
            annual_revenue_usd=1,
            monthly_revenue_usd=1,
            seat="US",
        )
        silent = replace(
            known,
            monthly_active_users=None,
            annual_revenue_usd=None,
            monthly_revenue_usd=None,
            seat="",
        )
        told = _judged(replace(made, organization=known, modalities=("text",)), lineage, baseline)
        untold = _judged(replace(made, organization=silent, modalities=()), lineage, baseline)
        assert _rank(untold) >= _rank(told)
        assert _owed(untold) >= _owed(told)
