"""What a policy decides about each upstream of a release, derived from facts; no pair matrix.

One evaluation path serves every caller: the audit, `license explain` and `policy test`. A
condition on a fact that is missing is neither true nor false: the rule then asks for review
(Kleene's three-valued conjunction).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from release_kit.licensing.facts import (
    Facts,
    Missing,
    Situation,
    Value,
    holds,
    license_facts,
    part_facts,
    release_facts,
)
from release_kit.licensing.licenses import License, nearest_license
from release_kit.licensing.lineage import Part
from release_kit.licensing.policy import Policy, PolicyRule, ReachRule
from release_kit.licensing.policy_files import DECISIONS


@dataclass(frozen=True)
class Decision:
    """What one rule decided about one part, or about the release itself."""

    decide: str
    """allow, review or deny."""
    rule: str
    """The policy rule's id; empty when no rule spoke."""
    part: Part | None
    """None when the decision is about the release's own license."""
    because: str
    how_to_fix: str
    cites: tuple[str, ...]
    knobs: tuple[str, ...]
    """The knobs without which it would not have been decided so."""


@dataclass(frozen=True)
class Reach:
    """Whether the terms of a part reach the release, and what decided it."""

    reaches: bool
    rule: ReachRule | None
    """None where no line of the policy speaks: then they do."""
    knobs: tuple[str, ...]
    """The knobs of which another position would change it; where several lines lead to the same,
    those of the line that spoke."""


@dataclass(frozen=True)
class _Ruling:
    """One rule's outcome for every part that has the same facts."""

    decide: str
    rule: PolicyRule | None
    missing: Missing | None
    knobs: tuple[str, ...]


Language = str
"""en or zh."""


class Verdicts:
    """The decisions about one situation; parts with the same facts are decided once."""

    def __init__(self, situation: Situation, language: Language = "en") -> None:
        self.situation = situation
        self._language = language
        self._release = release_facts(situation)
        self._release_license = license_facts(
            "release", situation.license(situation.release.license), situation.release
        )
        rules = situation.policy.rules
        self._about_release = tuple(rule for rule in rules if not rule.about_upstream)
        self._about_upstream = tuple(rule for rule in rules if rule.about_upstream)
        self._rulings: dict[tuple[object, ...], tuple[Reach, tuple[_Ruling, ...]]] = {}

    def about_release(self) -> Iterator[Decision]:
        """Yield what is decided about the release's own license."""
        look_up = self._look_up({})
        for ruling in self._rule(self._about_release, look_up, ()):
            yield self._decision(ruling, None, self._release)

    def about(self, part: Part) -> Iterator[Decision]:
        """Yield what is decided about one part."""
        _, rulings = self._judged(part)
        facts = {**self._release, **_names(part)}
        for ruling in rulings:
            yield self._decision(ruling, part, facts)

    def reach(self, part: Part) -> Reach:
        """Return whether the part's terms reach the release."""
        return self._judged(part)[0]

    def _judged(self, part: Part) -> tuple[Reach, tuple[_Ruling, ...]]:
        grants = self.situation.grants(part)
        upstream = part.upstream
        key = (
            upstream.role,
            upstream.relation,
            upstream.modalities,
            part.license,
            part.basis,
            grants,
        )
        if key not in self._rulings:
            license = self.situation.license(part.license)
            facts = part_facts(self.situation, part)
            terms = license_facts("upstream", license, self.situation.release, grants, upstream)
            # How far a text reaches, it says itself, whatever was bought in its place.
            itself = license.downstream_license if license else "undeterminable"
            reach = self._reach(
                self._look_up({**facts, "upstream.downstream_license": itself}, terms)
            )
            facts["upstream.reached"] = reach.reaches
            look_up = self._look_up(facts, terms)
            rulings = tuple(self._rule(self._about_upstream, look_up, reach.knobs))
            self._rulings[key] = (reach, rulings)
        return self._rulings[key]

    def _look_up(
        self, facts: Facts, terms: Callable[[str], Value | None] = lambda _: None
    ) -> Callable[[str], Value]:
        def look_up(name: str) -> Value:
            for source in (facts.get, self._release.get, terms, self._release_license):
                value = source(name)
                if value is not None:
                    return value
            raise KeyError(name)

        return look_up

    def _reach(self, look_up: Callable[[str], Value]) -> Reach:
        policy = self.situation.policy
        line = _first_line(policy, look_up)
        reaches = line.reaches if line else True

        def turned(name: str) -> bool:
            lines = [_first_line(other, look_up) for other in _turned(policy, name)]
            return any((other.reaches if other else True) != reaches for other in lines)

        knobs = dict.fromkeys(name for other in policy.reach for name in other.knobs)
        named = tuple(name for name in knobs if turned(name))
        return Reach(reaches, line, named or tuple(line.knobs if line else ()))

    def _rule(
        self,
        rules: tuple[PolicyRule, ...],
        look_up: Callable[[str], Value],
        reach_knobs: tuple[str, ...],
    ) -> Iterator[_Ruling]:
        spoke = False
        for rule in rules:
            outcome = holds(rule, self.situation.policy, look_up)
            if outcome is False:
                continue
            spoke = True
            knobs = (*(reach_knobs if "upstream.reached" in rule.when else ()), *rule.knobs)
            if isinstance(outcome, Missing):
                # A rule that would review cannot be made worse by what is missing.
                yield _Ruling("review", rule, outcome, knobs)
            else:
                yield _Ruling(rule.decide, rule, None, knobs)
        if not spoke:
            yield _Ruling("review", None, None, reach_knobs)

    def _decision(self, ruling: _Ruling, part: Part | None, facts: Facts) -> Decision:
        rule = ruling.rule
        if rule is None:
            policy = self.situation.policy
            what = "the license of the release" if part is None else "this upstream"
            return Decision(
                "review",
                "",
                part,
                f"no rule of the policy {policy.name} decides about {what}",
                "Ask the policy's owner for a rule that covers this case.",
                (),
                ruling.knobs,
            )
        because, how_to_fix = rule.because, rule.how_to_fix
        if self._language == "zh":
            because, how_to_fix = rule.because_zh or because, rule.how_to_fix_zh or how_to_fix
        if ruling.missing:
            because = f"the rule cannot be decided, because {ruling.missing.field} is missing"
            how_to_fix = ruling.missing.how
            if self._language == "zh":
                because = f"缺少 {ruling.missing.field}，因此无法判断该规则"
                section, _, key = ruling.missing.field.rpartition(".")
                where = "的该上游条目中" if section.startswith("lineage.") else "中"
                field = key if section.startswith("lineage.") else ruling.missing.field
                how_to_fix = f"请在 release.yaml {where}填写 {field}。"
        return Decision(
            ruling.decide,
            rule.id,
            part,
            _filled(because, facts),
            self._hint(_filled(how_to_fix, facts), part),
            self._cites(rule, part),
            ruling.knobs,
        )

    def _hint(self, hint: str, part: Part | None) -> str:
        license_id = part.license if part else self.situation.release.license
        if license_id in self.situation.policy.licenses:
            return hint
        near = nearest_license(license_id, self.situation.policy.licenses)
        question = f"您是指“{near}”吗？" if self._language == "zh" else f"Did you mean '{near}'? "
        return f"{question}{hint}".strip() if near else hint

    def _cites(self, rule: PolicyRule, part: Part | None) -> tuple[str, ...]:
        license = self.situation.license(part.license if part else self.situation.release.license)
        if license is None:
            return ()
        sections = [f"{license.name}, section {section(license, fact)}" for fact in rule.cite]
        return tuple(dict.fromkeys(sections))


def _first_line(policy: Policy, look_up: Callable[[str], Value]) -> ReachRule | None:
    """Return the first line that is true; what is not known cannot be what frees the release."""
    for line in policy.reach:
        outcome = holds(line, policy, look_up)
        if outcome is True or (isinstance(outcome, Missing) and line.reaches):
            return line
    return None


def _turned(policy: Policy, name: str) -> Iterator[Policy]:
    """Yield the policy with that knob in each of its other positions."""
    knob = policy.knobs[name]
    for position in knob.positions:
        if position != knob.set:
            yield replace(policy, knobs={**policy.knobs, name: replace(knob, set=position)})


def worst(decisions: Iterable[Decision]) -> str:
    """Return the strictest of some decisions; allow when there are none."""
    return max((d.decide for d in decisions), key=DECISIONS.index, default=DECISIONS[0])


def section(license: License, fact: str) -> str:
    """Return the section of a fact that a rule cites, "not noted" where nobody noted one."""
    group, _, name = fact.partition(".")
    if group == "downstream_license":
        return license.downstream_section
    if group == "reaches_models":
        return license.reaches_models_section
    if group == "permission":
        return license.permission(name).section
    terms = license.conditions if group == "condition" else license.limitations
    found = dict.fromkeys(term.section for term in terms if term.kind == name)
    return "; ".join(found) or "not noted"


def _names(part: Part) -> dict[str, Value]:
    upstream = part.upstream
    return {
        "upstream.id": upstream.id,
        "upstream.role": upstream.role,
        "upstream.relation": upstream.relation,
        "upstream.license": part.license,
    }


def _filled(text: str, facts: Mapping[str, Value]) -> str:
    def value(match: re.Match[str]) -> str:
        fact = facts.get(match[1], "")
        return "?" if isinstance(fact, Missing) else str(fact)

    return re.sub(r"\{([a-z_.]+)\}", value, text)
