"""What a policy decides about each upstream of a release, derived from facts; no pair matrix.

One evaluation path serves every caller. A condition on a fact that is missing is neither true
nor false: the rule then asks for review (Kleene's three-valued conjunction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from release_kit.licensing.licenses import License, load_licenses, nearest_license
from release_kit.licensing.policy import FactValue, Policy, PolicyRule
from release_kit.release import Release, Upstream

Facts = Mapping[str, FactValue | None]
"""Fact name → value; None where the fact is missing."""

_MISSING_HOW = {
    "upstream.over_user_threshold": (
        "organization.monthly_active_users",
        "Write organization.monthly_active_users in release.yaml.",
    ),
}


@dataclass(frozen=True)
class Decision:
    """What one rule decided about one upstream, or about the release itself."""

    decide: str
    """allow, review or deny."""
    rule: str
    """The policy rule's id; empty when no rule spoke."""
    upstream: Upstream | None
    """None when the decision is about the release's own license."""
    because: str
    how_to_fix: str
    cites: tuple[str, ...]


def decide(release: Release, policy: Policy) -> tuple[Decision, ...]:
    """Return every decision of every rule about the release and each upstream, in file order.

    An upstream, or the release, about which no rule decides anything gets a review: silence is
    not permission.
    """
    decisions: list[Decision] = list(_apply(policy, _release_facts(release), None))
    for upstream in release.lineage:
        decisions.extend(_apply(policy, _upstream_facts(release, upstream), upstream))
    return tuple(decisions)


def _apply(policy: Policy, facts: Facts, upstream: Upstream | None) -> Iterator[Decision]:
    spoke = False
    for rule in policy.rules:
        if rule.about_upstream is (upstream is None):
            continue
        outcome = _matches(rule, facts)
        if outcome is False:
            continue
        spoke = True
        if outcome is True:
            yield Decision(
                rule.decide,
                rule.id,
                upstream,
                _filled(rule.because, facts),
                _hint(rule, facts),
                _cites(rule, facts, upstream),
            )
        else:
            missing, how = _MISSING_HOW.get(outcome, (outcome, f"State {outcome}."))
            yield Decision(
                "review",
                rule.id,
                upstream,
                f"the rule cannot be decided, because {missing} is missing",
                how,
                _cites(rule, facts, upstream),
            )
    if not spoke:
        what = "the license of the release" if upstream is None else "this upstream"
        yield Decision(
            "review",
            "",
            upstream,
            f"no rule of the policy {policy.name} decides about {what}",
            "Ask the policy's owner for a rule that covers this case.",
            (),
        )


def _matches(rule: PolicyRule, facts: Facts) -> bool | str:
    """Return True, False, or the name of the first missing fact when the rest is true."""
    missing = ""
    for name, wanted in rule.when.items():
        value = facts[name]
        if value is None:
            missing = missing or name
        elif value not in wanted:
            return False
    return missing or True


def _release_facts(release: Release) -> dict[str, FactValue | None]:
    license = load_licenses().get(release.license)
    return {
        "release.license": release.license,
        "release.license.kind": license.kind if license else "missing",
        "release.permission.commercial-use": _verdict(license, "commercial-use"),
        "release.purpose": release.purpose,
        "release.visibility": release.visibility,
        "organization.kind": release.organization.kind,
    }


def _upstream_facts(release: Release, upstream: Upstream) -> dict[str, FactValue | None]:
    license = load_licenses().get(upstream.license)
    facts = _release_facts(release)
    facts |= {
        "upstream.id": upstream.id,
        "upstream.role": upstream.role,
        "upstream.relation": upstream.relation,
        "upstream.license": upstream.license,
        "upstream.license.kind": license.kind if license else "missing",
        "upstream.license.verified": bool(license and not license.unverified),
        "upstream.license.same_as_release": upstream.license == release.license,
        "upstream.downstream_license": license.downstream_license if license else "undeterminable",
        "upstream.over_user_threshold": _over_threshold(release, license),
    }
    for action in (
        "commercial-use",
        "modify",
        "distribute",
        "distribute-derivatives",
        "sublicense",
        "train-on-outputs",
    ):
        facts[f"upstream.permission.{action}"] = _verdict(license, action)
    return facts


def _verdict(license: License | None, action: str) -> str:
    return license.permission(action).verdict if license else "unknown"


def _over_threshold(release: Release, license: License | None) -> bool | None:
    limit = license.limitation("threshold-users") if license else None
    if limit is None or limit.threshold is None:
        return False
    users = release.organization.monthly_active_users
    return None if users is None else users > limit.threshold


def _filled(text: str, facts: Facts) -> str:
    for name, value in facts.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _hint(rule: PolicyRule, facts: Facts) -> str:
    hint = _filled(rule.how_to_fix, facts)
    subject = "upstream" if rule.about_upstream else "release"
    if facts.get(f"{subject}.license.kind") == "missing":
        near = nearest_license(str(facts[f"{subject}.license"]))
        if near:
            hint = f"Did you mean '{near}'? {hint}".strip()
    return hint


def _cites(rule: PolicyRule, facts: Facts, upstream: Upstream | None) -> tuple[str, ...]:
    license = load_licenses().get(upstream.license) if upstream else None
    sections: list[str] = []
    if license is None:
        return ()
    for fact in rule.cite:
        group, _, name = fact.partition(".")
        if group == "downstream_license":
            section = license.downstream_section
        elif group == "permission":
            section = license.permission(name).section
        else:
            limit = license.limitation(name)
            section = limit.section if limit else "not noted"
        sections.append(f"{license.name}, section {section}")
    return tuple(dict.fromkeys(sections))
