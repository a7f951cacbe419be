"""The facts about a release and its upstreams on which policy rules decide.

A fact that nobody stated is `Missing`, and says where to state it: a rule that asks for it is
neither true nor false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property

from release_kit.files import POLICIES
from release_kit.licensing.licenses import AppliesWhen, License, Limitation
from release_kit.licensing.lineage import Part
from release_kit.licensing.policy import FactValue, Grant, Policy, PolicyRule, ReachRule
from release_kit.release import ROLES, Release, Upstream
from release_kit.strict_yaml import read_yaml

_MADE_FROM = ("weights-derived", "adapter-delta")
_OUTPUTS = "trained-on-outputs"
_MULTIMODAL = "multimodal"
_SECTIONS = {role: section for section, (role, _) in ROLES.items()}


@dataclass(frozen=True)
class Missing:
    """A fact that nobody stated."""

    field: str
    """Where in release.yaml it would stand."""

    @property
    def how(self) -> str:
        """What to do about it."""
        section, _, key = self.field.rpartition(".")
        if section.startswith("lineage."):
            return f"Write {key} at this upstream in release.yaml."
        return f"Write {self.field} in release.yaml."


Value = FactValue | Missing
Facts = Mapping[str, Value]


@dataclass(frozen=True)
class Situation:
    """A release, its parts, and the policy and day by which they are judged."""

    release: Release
    """Its license as the knowledge base spells it."""
    parts: tuple[Part, ...]
    policy: Policy
    day: date

    def license(self, license_id: str) -> License | None:
        """Return the license of that id, None when the knowledge base has none."""
        return self.policy.licenses.get(license_id)

    @cached_property
    def weight_families(self) -> frozenset[str]:
        """The families of models from whose weights the release is made, by their licenses."""
        families = set()
        for part in self.parts:
            if part.upstream.relation in _MADE_FROM:
                license = self.license(part.license)
                families.add((license.family if license else "") or part.license)
        return frozenset(families)

    def grants(self, part: Part) -> tuple[Grant, ...]:
        """Return the grants in force that cover `part` in this release."""
        return tuple(
            grant
            for grant in self.policy.grants
            if grant.upstream == part.upstream.id
            and grant.release in {"", self.release.repo_id}
            and grant.holds(self.day)
        )


@cache
def territories() -> Mapping[str, frozenset[str]]:
    """Return the countries of each territory of `policies/territories.yaml`, ISO 3166."""
    path = POLICIES / "territories.yaml"
    document = read_yaml(path, "territories", shown_as=f"policies/{path.name}")
    return {item["id"]: frozenset(item["members"]) for item in document.data["territories"]}


def applies(
    when: AppliesWhen | None, release: Release, upstream: Upstream | None = None
) -> bool | Missing:
    """Tell whether a condition or limitation with `when` applies.

    Numbers are the organization's. A modality is that of `upstream`, whose license it is, and
    where that is not stated a release of several modalities shows it.
    """
    if when is None:
        return True
    organization = release.organization
    missing: Missing | None = None
    for limit, actual, field in (
        (when.users_over, organization.monthly_active_users, "organization.monthly_active_users"),
        (
            when.monthly_revenue_over_usd,
            organization.monthly_revenue_usd,
            "organization.monthly_revenue_usd",
        ),
        (
            when.annual_revenue_over_usd,
            organization.annual_revenue_usd,
            "organization.annual_revenue_usd",
        ),
    ):
        if limit is None:
            continue
        if actual is None:
            missing = missing or Missing(field)
        elif actual > limit:
            return True
    if when.purpose and when.purpose == release.purpose:
        return True
    if when.modality:
        stated = (upstream.modalities if upstream else ()) or release.modalities
        if when.modality in stated or (when.modality == _MULTIMODAL and len(stated) > 1):
            return True
        if upstream and not upstream.modalities:
            # A model of one modality may have been made from one of several.
            missing = missing or Missing(f"lineage.{_SECTIONS[upstream.role]}.modalities")
        elif not stated:
            missing = missing or Missing("release.modalities")
    return missing or False


def release_facts(situation: Situation) -> dict[str, Value]:
    """Return the facts that do not depend on an upstream."""
    release = situation.release
    license = situation.license(release.license)
    facts: dict[str, Value] = {
        "release.license": release.license,
        "release.license.kind": license.kind if license else "missing",
        "release.license.verified": bool(license and not license.unverified),
        "release.downstream_license": license.downstream_license if license else "undeterminable",
        "release.purpose": release.purpose,
        "release.visibility": release.visibility,
        "release.gating": release.gating,
        "organization.kind": release.organization.kind,
        "organization.seat": release.organization.seat or Missing("organization.seat"),
    }
    return facts


def license_facts(
    subject: str,
    license: License | None,
    release: Release,
    grants: tuple[Grant, ...] = (),
    upstream: Upstream | None = None,
) -> Callable[[str], Value | None]:
    """Return what looks up the facts `<subject>.permission|condition|limitation.<word>`."""
    permits = {action for grant in grants for action in grant.permits}
    discharged = {kind for grant in grants for kind in grant.discharges}
    lifted = {kind for grant in grants for kind in grant.lifts}

    def look_up(name: str) -> Value | None:
        if not name.startswith(f"{subject}."):
            return None
        group, _, word = name.removeprefix(f"{subject}.").partition(".")
        if group == "permission":
            if word in permits:
                return "granted"
            return license.permission(word).verdict if license else "unknown"
        if group == "condition":
            terms = [c for c in license.conditions if c.kind == word] if license else []
            return word not in discharged and _any(
                applies(t.applies_when, release, upstream) for t in terms
            )
        if group == "limitation":
            limits = [x for x in license.limitations if x.kind == word] if license else []
            return word not in lifted and _any(
                applies(x.applies_when, release, upstream) for x in limits
            )
        return None

    return look_up


def _any(values: Iterable[bool | Missing]) -> bool | Missing:
    """Kleene's disjunction."""
    missing: Missing | None = None
    for value in values:
        if value is True:
            return True
        if isinstance(value, Missing):
            missing = missing or value
    return missing or False


def part_facts(situation: Situation, part: Part) -> dict[str, Value]:
    """Return the facts about one part, without `upstream.reached`."""
    release, upstream = situation.release, part.upstream
    license, grants = situation.license(part.license), situation.grants(part)
    own_terms = any(grant.own_terms for grant in grants)
    downstream = license.downstream_license if license else "undeterminable"
    return {
        "upstream.id": upstream.id,
        "upstream.role": upstream.role,
        "upstream.relation": upstream.relation,
        "upstream.license": part.license,
        "upstream.license.kind": license.kind if license else "missing",
        "upstream.license.verified": bool(license and not license.unverified),
        "upstream.license.basis": part.basis,
        "upstream.license.same_as_release": part.license == release.license,
        "upstream.downstream_license": "own-terms-allowed" if own_terms else downstream,
        "upstream.downstream_scope": (license.downstream_scope if license else "") or "whole",
        "upstream.reaches_models": license.reaches_models if license else "silent",
        "upstream.combination_accepted": _combination_accepted(situation, license),
        "upstream.over_user_threshold": _over(
            license, grants, "threshold-users", release.organization.monthly_active_users,
            "organization.monthly_active_users",
        ),
        "upstream.over_revenue_threshold": _over(
            license, grants, "threshold-revenue", release.organization.annual_revenue_usd,
            "organization.annual_revenue_usd",
        ),
        "upstream.seat_excluded": _seat_excluded(
            release, upstream, _limits(license, grants, _TERRITORY)
        ),
        "upstream.outputs_for_own_family": (
            upstream.relation == _OUTPUTS
            and any(x.exempt_family for x in _limits(license, grants, "output-restriction"))
        ),
        "upstream.outputs_restricted": _outputs_restricted(
            situation, part, _limits(license, grants, "output-restriction")
        ),
    }  # fmt: skip


_TERRITORY = "territory-exclusion"


def _limits(license: License | None, grants: tuple[Grant, ...], kind: str) -> list[Limitation]:
    if license is None or any(kind in grant.lifts for grant in grants):
        return []
    return [limit for limit in license.limitations if limit.kind == kind]


def _combination_accepted(situation: Situation, license: License | None) -> bool:
    """Tell whether the text lets the whole be under the release's license in a combination."""
    return any(
        situation.release.license in condition.accepts
        for condition in (license.conditions if license else ())
        if condition.kind == "same-license"
    )


def _over(
    license: License | None, grants: tuple[Grant, ...], kind: str, actual: int | None, field: str
) -> bool | Missing:
    limits = [limit.threshold for limit in _limits(license, grants, kind)]
    if not limits:
        return False
    if actual is None:
        return Missing(field)
    # A threshold whose number nobody noted cannot be kept below.
    return any(limit is None or actual > limit for limit in limits)


def excluded_countries(limit: Limitation) -> frozenset[str]:
    """Return the countries that a territory exclusion names, ISO 3166."""
    return frozenset().union(*(territories().get(t, frozenset({t})) for t in limit.territory))


def _seat_excluded(
    release: Release, upstream: Upstream, limits: list[Limitation]
) -> bool | Missing:
    seat = release.organization.seat

    def excluded(limit: Limitation) -> bool | Missing:
        covered = applies(limit.applies_when, release, upstream)
        if covered is False:
            return False
        if not seat:
            return covered if isinstance(covered, Missing) else Missing("organization.seat")
        return covered if seat in excluded_countries(limit) or not limit.territory else False

    return _any(excluded(limit) for limit in limits)


def _outputs_restricted(situation: Situation, part: Part, limits: list[Limitation]) -> bool:
    """Tell whether the release is a model that the license's materials may not improve.

    A family that the text exempts is kept to when the release carries that family's license and
    no weights of another family go into it.
    """
    if part.upstream.relation not in {*_MADE_FROM, _OUTPUTS}:
        return False
    families = situation.weight_families
    planned = situation.license(situation.release.license)
    for limit in limits:
        exempt = limit.exempt_family
        same = bool(exempt) and families <= {exempt}
        if part.upstream.relation == _OUTPUTS:
            same = same and planned is not None and planned.family == exempt
        elif not exempt:
            own = situation.license(part.license)
            same = own is not None and families <= {own.family or part.license}
        if not same:
            return True
    return False


def holds(
    rule: PolicyRule | ReachRule, policy: Policy, look_up: Callable[[str], Value]
) -> bool | Missing:
    """Tell whether all that a rule asks for is so (Kleene's conjunction)."""
    for name, positions in rule.knobs.items():
        if policy.knobs[name].set not in positions:
            return False
    missing: Missing | None = None
    for name, wanted in rule.when.items():
        value = look_up(name)
        if isinstance(value, Missing):
            missing = missing or value
        elif value not in wanted:
            return False
    return missing or True
