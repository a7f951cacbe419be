"""What must hold for every lineage: seeded random ones over all licenses and organizations."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from release_kit.cards import hub_licenses
from release_kit.licensing.facts import Situation
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.lineage import DATA_BEHIND_A_MODEL, Lineage, Part, conclude
from release_kit.licensing.obligations import Conflict
from release_kit.licensing.policy import Grant, Policy
from release_kit.licensing.policy_files import DECISIONS
from release_kit.licensing.verdicts import Decision, Verdicts, worst
from release_kit.release import Release, Upstream
from tests.licensing.lineages import (
    DAY,
    as_declared,
    baseline,
    granted,
    knowing,
    release,
    turned,
    upstream,
)

KNOWN = load_licenses()
WORDS = (*KNOWN, "afl-3.0", "gpl-2.0", "Acme Terms")
RELATIONS = {
    "base_model": ("weights-derived", "adapter-delta", "weights-shipped"),
    "adapter": ("adapter-delta", "weights-derived", "weights-shipped"),
    "dataset": ("trained-on-data", "data-shipped", "tool-only"),
    "generator": ("trained-on-outputs", "tool-only"),
    "code": ("tool-only", "data-shipped"),
}
PURPOSES = ("commercial", "noncommercial", "research")
KINDS = ("company", "academic", "nonprofit", "government", "individual")
USERS = (None, 0, 12, 1_000_000, 1_000_001, 100_000_001, 700_000_001)
REVENUES = (None, 0, 1_000_000, 1_000_001, 10**9)
SEATS = ("", "US", "DE", "GB", "KR", "CN")
MODALITIES = ((), ("text",), ("text", "image"))
# Whether one upstream may be used for its outputs depends on the weights beside it.
TOGETHER = "outputs-restricted"


def _part(draw: random.Random, number: int, words: tuple[str, ...] = WORDS) -> Upstream:
    role = draw.choice(tuple(RELATIONS))
    return upstream(
        draw.choice(words),
        role,
        relation=draw.choice(RELATIONS[role]),
        id=f"acme/{number}",
        line=number,
    )


def _organization(draw: random.Random) -> dict[str, Any]:
    return {
        "purpose": draw.choice(PURPOSES),
        "visibility": draw.choice(("public", "private")),
        "kind": draw.choice(KINDS),
        "users": draw.choice(USERS),
        "revenue": draw.choice(REVENUES),
        "seat": draw.choice(SEATS),
        "modalities": draw.choice(MODALITIES),
    }


ASKING = tuple(
    id
    for id, license in KNOWN.items()
    if any(term.applies_when for term in (*license.conditions, *license.limitations))
    or any(limit.threshold or limit.territory for limit in license.limitations)
)
"""The licenses that ask who and how large we are."""


def _draw(
    seed: int, count: int, parts: int = 6, among: tuple[str, ...] = WORDS
) -> Iterator[tuple[random.Random, Release]]:
    """Yield random releases, many of them under a license of one of their parts."""
    draw = random.Random(seed)
    for _ in range(count):
        # Few licenses, so that some agree and some exclude each other.
        words = tuple(draw.choices(among, k=3))
        lineage = [_part(draw, n, words if n % 2 else among) for n in range(draw.randint(1, parts))]
        planned = draw.choice((*words, lineage[0].license, "mit"))
        yield draw, release(planned, *lineage, **_organization(draw))


def _knobs(draw: random.Random) -> dict[str, str]:
    return {name: draw.choice(knob.positions) for name, knob in baseline().knobs.items()}


def _judge(made: Release, policy: Policy | None = None) -> Judgement:
    return judge(made, policy or baseline(), day=DAY, lineage=as_declared(made))


def _rank(decide: str) -> int:
    return DECISIONS.index(decide)


def _owed(judgement: Judgement) -> set[tuple[str, str, object]]:
    return {(o.part.upstream.id, o.license.id, o.term) for o in judgement.owed}


def _excluded(judgement: Judgement) -> set[tuple[str, str, str, str]]:
    def of(conflict: Conflict) -> tuple[str, str, str, str]:
        first, second = conflict.first.license.id, conflict.second.license.id
        return (conflict.kind, first, second, conflict.because)

    return {of(conflict) for conflict in judgement.conflicts}


def _by_part(judgement: Judgement) -> dict[str, dict[str, Decision]]:
    """Return for each upstream, and "" for the release, what each rule decided."""
    found: dict[str, dict[str, Decision]] = {}
    for decision in judgement.decisions:
        of = found.setdefault(decision.part.upstream.id if decision.part else "", {})
        assert decision.rule not in of, "a rule decides once about one upstream"
        of[decision.rule] = decision
    return found


def _worse(judgement: Judgement) -> set[tuple[str, str, int]]:
    """Return the objections: upstream, rule and how grave it is."""
    return {
        (id, rule, _rank(decision.decide))
        for id, rules in _by_part(judgement).items()
        for rule, decision in rules.items()
        if decision.decide != "allow"
    }


def _no_better(before: Judgement, after: Judgement) -> None:
    assert _rank(after.verdict) >= _rank(before.verdict)


def _no_new_objection(before: Judgement, after: Judgement) -> None:
    """Assert that there is none, save that no rule speaks any more where one denied."""
    for id, rule, _ in _worse(after) - _worse(before):
        assert rule == ""
        assert worst(_by_part(before)[id].values()) == "deny"


def test_what_is_drawn_covers_all_there_is() -> None:
    """The properties below say nothing about what is never drawn."""
    seen: Counter[str] = Counter()
    for _, made in _draw(0, 500):
        judgement = _judge(made)
        seen.update({judgement.verdict, *(c.kind for c in judgement.conflicts)})
        seen.update(o.kind for o in judgement.owed)
        seen.update(p.license for p in judgement.parts)
        seen.update({u.relation for u in made.lineage})
    wanted = {*WORDS, *DECISIONS, "same-license-twice", "restrictions", "name-prefixes"}
    wanted |= {relation for relations in RELATIONS.values() for relation in relations}
    wanted |= {c.kind for license in KNOWN.values() for c in license.conditions}
    assert wanted <= seen.keys(), wanted - seen.keys()


def test_every_part_is_decided_on() -> None:
    for draw, made in _draw(1, 150):
        judgement = _judge(made, turned(baseline(), _knobs(draw)))
        assert _by_part(judgement).keys() == {"", *(u.id for u in made.lineage)}


def test_another_upstream_never_helps() -> None:
    """No debt or conflict goes away, no objection ends, and no verdict improves."""
    improved = Counter[tuple[str, str]]()
    for draw, made in _draw(2, 300):
        policy = turned(baseline(), _knobs(draw))
        before = _judge(replace(made, lineage=made.lineage[:-1]), policy)
        after = _judge(made, policy)
        _no_better(before, after)
        assert _owed(before) <= _owed(after)
        assert _excluded(before) <= _excluded(after)
        assert _worse(before) <= _worse(after)
        improved[before.verdict, after.verdict] += 1
    assert {("allow", "deny"), ("review", "deny"), ("deny", "deny")} <= improved.keys()


def test_the_order_of_the_lineage_changes_nothing_but_order() -> None:
    for draw, made in _draw(3, 120, parts=8):
        policy = turned(baseline(), _knobs(draw))
        shuffled = list(made.lineage)
        draw.shuffle(shuffled)
        one, other = _judge(made, policy), _judge(replace(made, lineage=tuple(shuffled)), policy)
        assert one.verdict == other.verdict
        assert set(one.decisions) == set(other.decisions)
        assert len(one.decisions) == len(other.decisions)
        assert _owed(one) == _owed(other)
        assert _excluded(one) == _excluded(other)
        assert dict(one.knobs) == dict(other.knobs)
        assert one.valid_until == other.valid_until


def test_a_part_is_judged_by_itself() -> None:
    for draw, made in _draw(4, 120):
        policy = turned(baseline(), _knobs(draw))
        together = _judge(made, policy)
        for alone in made.lineage:
            single = _judge(replace(made, lineage=(alone,)), policy)
            one, other = _by_part(together)[alone.id], _by_part(single)[alone.id]
            assert {k: v for k, v in one.items() if k != TOGETHER} == {
                k: v for k, v in other.items() if k != TOGETHER
            }
            assert {o for o in _owed(together) if o[0] == alone.id} == _owed(single)


@pytest.mark.parametrize(
    ("field", "said", "values"),
    [
        ("organization", "monthly_active_users", USERS[1:]),
        ("organization", "annual_revenue_usd", REVENUES[1:]),
        ("organization", "monthly_revenue_usd", REVENUES[1:]),
        ("organization", "seat", SEATS[1:]),
        ("", "modalities", MODALITIES[1:]),
    ],
)
def test_stating_a_missing_fact_never_ends_a_denial(
    field: str, said: str, values: tuple[Any, ...]
) -> None:
    nothing: Any = "" if said == "seat" else () if said == "modalities" else None
    became = Counter[str]()
    for _, made in _draw(5, 60, among=ASKING):

        def stated(value: Any, made: Release = made) -> Release:
            if not field:
                lineage = tuple(replace(u, **{said: value}) for u in made.lineage)
                return replace(made, lineage=lineage, **{said: value})
            return replace(made, organization=replace(made.organization, **{said: value}))

        before = _judge(stated(nothing))
        denied = {w for w in _worse(before) if w[2] == _rank("deny")}
        for value in values:
            after = _judge(stated(value))
            assert denied <= _worse(after)
            assert _excluded(before) <= _excluded(after)
            for id, rules in _by_part(before).items():
                for rule, decision in rules.items():
                    now = _by_part(after)[id].get(rule)
                    became[f"{decision.decide} {now.decide if now else 'silent'}"] += 1
    # A review that asked for the fact may become either; nothing else changes.
    if said != "monthly_revenue_usd":
        assert {"review deny", "review silent"} <= became.keys()
    assert became.keys() <= {
        *("review deny", "review silent", "review review"),
        *("allow allow", "deny deny"),
    }


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("monthly_active_users", USERS[1:]),
        ("annual_revenue_usd", REVENUES[1:]),
        ("monthly_revenue_usd", REVENUES[1:]),
    ],
)
def test_to_grow_never_helps(said: str, values: tuple[int, ...]) -> None:
    for _, made in _draw(6, 60, among=ASKING):
        sizes = [
            _judge(replace(made, organization=replace(made.organization, **{said: value})))
            for value in values
        ]
        for smaller, larger in itertools.pairwise(sizes):
            _no_better(smaller, larger)
            assert _worse(smaller) <= _worse(larger)
            assert _owed(smaller) <= _owed(larger)
            assert _excluded(smaller) <= _excluded(larger)


def test_a_license_that_nobody_verified_never_allows() -> None:
    unread = knowing(*(replace(license, unverified=True) for license in KNOWN.values()))
    for _, made in _draw(7, 150):
        judgement = _judge(made, unread)
        for id, rules in _by_part(judgement).items():
            assert worst(rules.values()) != "allow", id
        assert judgement.verdict != "allow"


def test_a_text_that_nobody_noted_anything_about_allows_nothing_it_reaches() -> None:
    policy = knowing(
        *(
            replace(license, permissions={}, downstream_license="undeterminable")
            for license in KNOWN.values()
        )
    )
    for _, made in _draw(8, 100):
        judgement = _judge(made, policy)
        situation = Situation(made, judgement.parts, policy, DAY)
        for part in judgement.parts:
            if Verdicts(situation).reach(part).reaches:
                assert worst(_by_part(judgement)[part.upstream.id].values()) != "allow"


def test_judging_twice_gives_the_same() -> None:
    for _, made in _draw(9, 60):
        assert judge(made, baseline(), day=DAY) == judge(made, baseline(), day=DAY)
        assert conclude(made, KNOWN) == conclude(made, KNOWN)


def test_a_narrower_purpose_never_hurts() -> None:
    """What may be sold may be given away, and what may be given away may be studied."""
    for _, made in _draw(10, 150):
        steps = [_judge(replace(made, purpose=purpose)) for purpose in PURPOSES]
        for wider, narrower in itertools.pairwise(steps):
            _no_better(narrower, wider)
            _no_new_objection(wider, narrower)
            # What is asked of commerce alone is not asked of the others.
            assert _owed(narrower) <= _owed(wider)
            lost = {condition for _, _, condition in _owed(wider) - _owed(narrower)}
            assert all(c.applies_when and c.applies_when.purpose == "commercial" for c in lost)
            assert _excluded(narrower) == _excluded(wider)


@pytest.mark.parametrize("is_distribution", ["yes", "no"])
def test_to_keep_it_private_never_hurts(is_distribution: str) -> None:
    """With the knob as shipped it does not help either."""
    policy = turned(baseline(), {"private-repo-is-distribution": is_distribution})
    helped = 0
    for draw, made in _draw(11, 150):
        rest = {
            k: v for k, v in _knobs(draw).items() if k not in policy.knobs or "private" not in k
        }
        judged = [
            _judge(replace(made, visibility=visibility), turned(policy, rest))
            for visibility in ("public", "private")
        ]
        public, private = judged
        _no_better(private, public)
        assert _owed(private) <= _owed(public)
        assert _excluded(private) <= _excluded(public)
        helped += private.verdict != public.verdict or _owed(private) != _owed(public)
    assert bool(helped) is (is_distribution == "no")


def _bought(draw: random.Random, made: Release, policy: Policy) -> Policy:
    some = draw.choice(made.lineage)
    words: dict[str, tuple[str, ...]] = {
        "permits": ("commercial-use", "modify", "distribute", "distribute-derivatives",
                    "train-models", "train-on-outputs"),
        "lifts": ("threshold-users", "threshold-revenue", "territory-exclusion",
                  "output-restriction", "field-limit", "distributor-limit",
                  "derivative-by-distillation"),
        "discharges": ("same-license", "attribution", "name-prefix", "pass-on-use-restrictions",
                       "no-additional-restrictions", "include-license-copy"),
    }  # fmt: skip
    said = {key: draw.sample(known, draw.randint(0, len(known))) for key, known in words.items()}
    return granted(policy=policy, id=some.id, own_terms=draw.random() < 0.5, **said)


def test_a_grant_never_hurts() -> None:
    helped = Counter[tuple[str, str]]()
    for draw, made in _draw(12, 300):
        policy = turned(baseline(), _knobs(draw))
        before = _judge(made, policy)
        after = _judge(made, _bought(draw, made, policy))
        _no_better(after, before)
        assert _owed(after) <= _owed(before)
        assert _excluded(after) <= _excluded(before)
        _no_new_objection(before, after)
        helped[before.verdict, after.verdict] += 1
    assert {("deny", "allow"), ("review", "allow")} <= helped.keys()


def test_own_terms_do_not_bind_where_the_text_frees() -> None:
    """What was bought replaces the terms; it does not make them reach further."""
    policy = turned(baseline(), {"model-is-produced-work": "yes"})
    made = release("mit", upstream("odbl", "dataset"))
    before = _judge(made, policy)
    after = _judge(made, granted(policy=policy, own_terms=True))
    assert before.verdict == after.verdict == "allow"
    # What the text asks of a work made from the database, and of the database behind it.
    produced = {"notice-for-produced-work", "offer-derivative-database"}
    assert {o.kind for o in before.owed} == {"same-license", *produced}
    assert {o.kind for o in after.owed} == produced


def test_a_grant_for_another_changes_nothing() -> None:
    for draw, made in _draw(13, 30):
        policy = _bought(draw, made, baseline())
        (grant,) = policy.grants
        other: Callable[..., Grant] = lambda **said: replace(grant, **said)  # noqa: E731, B023
        for useless in (
            other(upstream="acme/elsewhere"),
            other(release="acme/elsewhere"),
            other(expires="2026-11-22"),
            other(signed="2026-11-24"),
        ):
            judgement = _judge(made, replace(baseline(), grants=(useless,)))
            assert judgement.decisions == _judge(made).decisions
            assert judgement.valid_until == ""


# Knobs: named where another position would decide otherwise, and only there.


def _outcome(made: Release, policy: Policy) -> tuple[bool, frozenset[tuple[str, str]]]:
    (part,) = (Part(u, u.license, "declaration") for u in made.lineage)
    verdicts = Verdicts(Situation(made, (part,), policy, DAY))
    decisions = frozenset((d.rule, d.decide) for d in verdicts.about(part))
    return verdicts.reach(part).reaches, decisions


def _turns(made: Release, policy: Policy, name: str) -> bool:
    knob = policy.knobs[name]
    now = _outcome(made, policy)
    return any(
        _outcome(made, turned(policy, {name: position})) != now
        for position in knob.positions
        if position != knob.set
    )


TELLING = (
    *("mit", "odbl", "gemma", "cdla-permissive-2.0", "exaone-1.1-nc", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "unknown", "apple-ascl"),
)
"""One license of each kind that a knob tells apart."""


def test_the_knobs_that_are_named_are_those_that_matter() -> None:
    draw = random.Random(14)
    seen = Counter[str]()
    roles = [(role, relation) for role, known in RELATIONS.items() for relation in known]
    for license, (role, relation) in itertools.product(TELLING, roles):
        made = release(
            draw.choice(("mit", license)),
            upstream(license, role, relation=relation),
            visibility=draw.choice(("public", "private")),
            purpose=draw.choice(PURPOSES),
        )
        for positions in ({}, _knobs(draw)):
            policy = turned(baseline(), positions)
            judgement = _judge(made, policy)
            named = {k for d in judgement.decisions if d.part for k in d.knobs}
            matter = {name for name in policy.knobs if _turns(made, policy, name)}
            assert matter <= named
            assert judgement.knobs.keys() == named
            seen.update(named)
            for name in named - matter:
                # Its line freed the release; a later one would have, too.
                (part,) = judgement.parts
                reach = Verdicts(Situation(made, judgement.parts, policy, DAY)).reach(part)
                assert reach.rule is not None and name in reach.rule.knobs
                strict = {n: k.positions[0] for n, k in baseline().knobs.items() if n != name}
                assert _turns(made, turned(policy, strict), name)
                assert positions, "as shipped, every knob that is named turns the outcome"
    # That one asks about files, of which there are none here.
    assert seen.keys() == baseline().knobs.keys() - {DATA_BEHIND_A_MODEL}


# Ten thousand upstreams.


def test_ten_thousand_data_sets_are_all_judged() -> None:
    licenses = [id for id in KNOWN if KNOWN[id].kind == "license"][:40]
    assert len(licenses) == 40
    made = release(
        "cc-by-sa-4.0",
        *(upstream(licenses[n % 40], "dataset", id=f"acme/{n}", line=n) for n in range(10_000)),
    )
    judgement = judge(made, baseline(), day=DAY)
    assert len(judgement.parts) == 10_000
    few = judge(replace(made, lineage=made.lineage[:40]), baseline(), day=DAY)

    def counted(judgement: Judgement) -> tuple[Counter[Any], Counter[Any]]:
        decided = Counter((d.part.license, d.rule, d.decide) for d in judgement.decisions if d.part)
        owed = Counter((o.license.id, o.term) for o in judgement.owed)
        return decided, owed

    for all_of_them, once in zip(counted(judgement), counted(few), strict=True):
        assert all_of_them == Counter({key: 250 * number for key, number in once.items()})
    assert _excluded(judgement) == _excluded(few)
    assert len(judgement.conflicts) == len(few.conflicts) > 0
    assert {d.part.upstream.id for d in judgement.decisions if d.part} == {
        u.id for u in made.lineage
    }
    assert dict(judgement.knobs) == {name: 250 * number for name, number in few.knobs.items()}


def test_nothing_made_from_nothing_is_allowed_and_owes_nothing() -> None:
    judgement = judge(release("mit"), baseline(), day=DAY, lineage=Lineage((), ()))
    assert (judgement.verdict, judgement.owed, judgement.conflicts) == ("allow", (), ())
    assert len(hub_licenses()) > len(KNOWN.keys() & set(hub_licenses()))
