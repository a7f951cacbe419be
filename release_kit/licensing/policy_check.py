"""Everything that can be wrong with a policy before it judges: mistakes, and what looks like one.

A mistake makes the policy unusable. A warning does not: a rule that nobody tested or that can
never fire, a condition that nothing proves, a waiver or grant that is out of date.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from release_kit.cards import hub_licenses
from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.licensing.facts import territories
from release_kit.licensing.licenses import Licenses, identified, load_licenses, nearest_license
from release_kit.licensing.models import load_models
from release_kit.licensing.policy import FactValue, Policy, PolicyRule, ReachRule, load_policy
from release_kit.licensing.policy_files import Chain, read_chain
from release_kit.licensing.policy_tests import CaseFile, file_of_tests, read_tests, untested
from release_kit.release import ROLES
from release_kit.strict_yaml import read_yaml


@dataclass(frozen=True)
class Examined:
    """A policy that can be used, its tests, and what looks like a mistake in it."""

    policy: Policy
    tests: CaseFile | None
    """None when it has none."""
    warnings: tuple[Problem, ...]


def examine(
    source: Path | str | None, *, day: date, audit_rules: Collection[str] | None = None
) -> Examined:
    """Read a policy, all that it extends, all licenses and tables, and the tests beside it.

    `day` tells which waivers and grants are out of date; `audit_rules` are the rules that a waiver
    may name, None when they are not known.

    Raises:
        UnusableInput: with file, line and column of every mistake in any of these.
    """
    chain = read_chain(source)
    mistakes = [*chain.mistakes, *_mistakes_beside(chain)]
    policy = tests = None
    if not chain.mistakes:
        policy = load_policy(source)
        if file_of_tests(policy).is_file():
            try:
                tests = read_tests(policy)
            except UnusableInput as error:
                mistakes.extend(_problems(error))
    if policy is None or mistakes:
        found = sorted(set(mistakes))
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise UnusableInput(f"{chain.name} cannot be used: {count}", problems=found)
    warnings = [
        *untested(policy, tests),
        *_never_firing(policy),
        *_unproved(policy, chain),
        *_out_of_date(policy, day),
        *_unknown_to_the_audit(policy, chain, audit_rules),
    ]
    return Examined(policy, tests, tuple(sorted(warnings)))


def _mistakes_beside(chain: Chain) -> Iterator[Problem]:
    """Yield what is wrong in the license files and in the shipped tables."""
    try:
        licenses = load_licenses(chain.own_licenses)
    except UnusableInput:
        # The folder itself is a mistake of the policy, and told as one.
        licenses = load_licenses()
    yield from licenses.mistakes()
    languages = sorted((POLICIES / "language").glob("*.yaml"))
    reads: list[Callable[[], object]] = [load_models, territories, hub_licenses]
    reads += [partial(_read_language, path) for path in languages]
    for read in reads:
        try:
            read()
        except UnusableInput as error:
            yield from _problems(error)


def _read_language(path: Path) -> object:
    return read_yaml(path, "language", shown_as=f"policies/language/{path.name}")


def _problems(error: UnusableInput) -> tuple[Problem, ...]:
    return error.problems or (Problem("", 0, 0, error.message, error.hint),)


def _never_firing(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        reasons = never(rule, policy)
        if reasons:
            yield Problem(
                rule.file,
                *rule.position,
                f"the rule {rule.id} can never fire: {'; '.join(reasons)}",
                "Correct what stands under when, or take the rule out.",
            )


def _unproved(policy: Policy, chain: Chain) -> Iterator[Problem]:
    kinds: dict[str, str] = {}
    for license in policy.licenses.values():
        for condition in license.conditions:
            kinds.setdefault(condition.kind, license.id)
    base = chain.files[-1]
    for kind in sorted(set(kinds) - set(policy.proofs)):
        yield base.problem(
            ("obligations", "proofs"),
            f"nothing proves the condition {kind}, which {kinds[kind]} has",
            "Each release that owes it is stopped. Say under obligations.proofs what proves it.",
        )


def _out_of_date(policy: Policy, day: date) -> Iterator[Problem]:
    today = day.isoformat()
    for what, items in (("waiver", policy.waivers), ("grant", policy.grants)):
        for item in items:
            if item.expires < today:
                said = f"the {what} {item.id} held until {item.expires}, and today is {today}"
                yield Problem(item.file, *item.position, said, "Renew it, or take it out.")


def _unknown_to_the_audit(
    policy: Policy, chain: Chain, audit_rules: Collection[str] | None
) -> Iterator[Problem]:
    if audit_rules is None:
        return
    for waiver in policy.waivers:
        if waiver.rule not in audit_rules:
            said = f"the waiver {waiver.id} is for {waiver.rule}, which is no rule of the audit"
            yield Problem(waiver.file, *waiver.position, said, "Correct it, or take it out.")
    for index, rule in enumerate(policy.may_waive):
        if rule not in audit_rules:
            said = f"{rule} is no rule of the audit"
            yield chain.files[-1].problem(("waivers", "may_waive", index), said)


def never(rule: PolicyRule, policy: Policy) -> tuple[str, ...]:
    """Return why `rule` can never fire under `policy`; nothing when it may.

    Only what holds for every release, every license text and every grant is counted.
    """
    words = tuple(_impossible_words(rule, policy.licenses))
    if words:
        return words
    for subject in ("release", "upstream"):
        said = _no_license_says_so(subject, rule.when)
        if said:
            return (said,)
    said = _not_the_same(rule.when)
    if said:
        return (said,)
    return _no_upstream_is_so(rule, policy) if rule.about_upstream else ()


_SEAT = re.compile(r"[A-Z]{2}")


def _impossible_words(rule: PolicyRule, licenses: Licenses) -> Iterator[str]:
    """Yield facts whose words no release.yaml can bring about."""
    for name in ("upstream.license", "release.license"):
        wanted = [str(word) for word in rule.when.get(name, ())]
        # A word that spells a known license is read as that license's id.
        read_as = [(word, identified(word, licenses)) for word in wanted]
        if read_as and all(meant and meant != word for word, meant in read_as):
            spelled = ", ".join(f"'{word}' is read as {meant}" for word, meant in read_as)
            yield f"{name}: {spelled}"
        elif (
            wanted
            and _only(rule.when, f"{name}.kind", "license")
            and not any(word in licenses for word in wanted)
        ):
            # Somebody may spell it so, but then no facts about it are known.
            yield f"{name}: no license of that id is known{_meant(wanted, licenses)}"
    seats = rule.when.get("organization.seat", ())
    if seats and not any(_SEAT.fullmatch(str(seat)) for seat in seats):
        yield "organization.seat is two capital letters of ISO 3166"


def _meant(words: list[str], licenses: Licenses) -> str:
    near = next(filter(None, (nearest_license(word, licenses) for word in words)), "")
    return f"; did you mean '{near}'?" if near else ""


# What is so of every license about which nothing is known.
_OF_A_MISSING_LICENSE: Mapping[str, FactValue] = {
    "license.verified": False,
    "downstream_scope": "whole",
    "reaches_models": "silent",
    "combination_accepted": False,
    "over_user_threshold": False,
    "over_revenue_threshold": False,
    "seat_excluded": False,
    "outputs_restricted": False,
    "outputs_for_own_family": False,
}


def _no_license_says_so(subject: str, when: Mapping[str, tuple[FactValue, ...]]) -> str:
    if not _only(when, f"{subject}.license.kind", "missing"):
        return ""
    for name, wanted in when.items():
        group, _, word = name.removeprefix(f"{subject}.").partition(".")
        if not name.startswith(f"{subject}."):
            continue
        value = _OF_A_MISSING_LICENSE.get(name.removeprefix(f"{subject}."))
        if group in {"condition", "limitation"} and word:
            value = False
        if value is not None and value not in wanted:
            return f"{name} is {_shown(value)} where {subject}.license.kind is missing"
    return ""


def _not_the_same(when: Mapping[str, tuple[FactValue, ...]]) -> str:
    """Return what keeps the licenses of upstream and release from being, or not being, the same."""
    same = when.get("upstream.license.same_as_release", ())
    of_upstream, of_release = when.get("upstream.license"), when.get("release.license")
    if same == (True,):
        for name in ("license", "license.kind", "license.verified"):
            one, other = when.get(f"upstream.{name}"), when.get(f"release.{name}")
            if one and other and not set(one) & set(other):
                return f"upstream.{name} and release.{name} differ, but the licenses are the same"
    if same == (False,) and of_upstream and of_upstream == of_release and len(of_upstream) == 1:
        return "upstream.license and release.license are the same"
    return ""


_MADE_WITH_IT = frozenset(
    {"weights-derived", "adapter-delta", "weights-shipped", "trained-on-outputs"}
)


def _no_upstream_is_so(rule: PolicyRule, policy: Policy) -> tuple[str, ...]:
    """Return why no upstream of any role and relation fulfils the rule."""
    reasons: list[str] = []
    relations_of = dict(ROLES.values())
    roles = rule.when.get("upstream.role", tuple(relations_of))
    relations = rule.when.get(
        "upstream.relation", tuple(dict.fromkeys(itertools.chain(*relations_of.values())))
    )
    for role, relation in itertools.product(map(str, roles), map(str, relations)):
        if relation not in relations_of[role]:
            reasons.append(f"a {role} is not {relation}")
        elif rule.when.get("upstream.outputs_restricted") == (True,) and (
            relation not in _MADE_WITH_IT
        ):
            reasons.append(f"upstream.outputs_restricted is false for {relation}")
        else:
            said = _reached_otherwise(rule, role, relation, policy.reach)
            if not said:
                return ()
            reasons.append(said)
    return tuple(dict.fromkeys(reasons))


def _reached_otherwise(
    rule: PolicyRule, role: str, relation: str, reach: tuple[ReachRule, ...]
) -> str:
    """Return why the terms are reached otherwise than the rule asks, however the knobs stand."""
    wanted = rule.when.get("upstream.reached", ())
    if len(wanted) != 1:
        return ""
    facts = {**rule.when, "upstream.role": (role,), "upstream.relation": (relation,)}
    for line in reach:
        if not _may_be(line.when, facts) or not _may_be(line.knobs, rule.knobs):
            continue
        if line.reaches == wanted[0]:
            return ""
        if _must_be(line.when, facts) and _must_be(line.knobs, rule.knobs):
            said = "reach" if line.reaches else "do not reach"
            return f"by {line.id} the terms of a {role} that is {relation} {said} the release"
    return "" if wanted[0] is True else f"no line of reach frees a {role} that is {relation}"


_Wanted = Mapping[str, tuple[FactValue, ...]] | Mapping[str, tuple[str, ...]]


def _may_be(wanted: _Wanted, known: _Wanted) -> bool:
    return all(set(words) & set(known.get(name, words)) for name, words in wanted.items())


def _must_be(wanted: _Wanted, known: _Wanted) -> bool:
    return all(name in known and set(known[name]) <= set(words) for name, words in wanted.items())


def _only(when: Mapping[str, tuple[FactValue, ...]], name: str, value: str) -> bool:
    return when.get(name) == (value,)


def _shown(value: FactValue) -> str:
    return str(value).lower() if isinstance(value, bool) else value
