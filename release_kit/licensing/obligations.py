"""What a release owes under the licenses of its parts, and which debts cannot all be paid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from release_kit.licensing.facts import Missing, Situation, applies
from release_kit.licensing.licenses import Condition, License, Limitation
from release_kit.licensing.lineage import Part
from release_kit.licensing.verdicts import Reach

CONFLICTS = ("name-prefixes", "prefix-against-name", "same-license-twice", "restrictions")
"""The kinds of conflict."""

_CLAIMS = ("same-license", "terms-travel")
_WHOLE = ("", "work", "adapted-material")


@dataclass(frozen=True)
class Obligation:
    """One condition, or kept limitation, of one part's license that applies to this release."""

    part: Part
    license: License
    term: Condition | Limitation
    proof: str
    """What proves it, as the policy says; empty when the policy knows no proof."""

    @property
    def kind(self) -> str:
        """The kind of condition or limitation."""
        return self.term.kind

    @property
    def cite(self) -> str:
        """The section that asks for it."""
        return f"{self.license.name}, section {self.term.section}"


@dataclass(frozen=True)
class Conflict:
    """Two terms that no release can keep together."""

    first: Obligation
    second: Obligation
    kind: str
    """One of `CONFLICTS`."""
    because: str
    fix: str


def obligations(situation: Situation, part: Part, reach: Reach) -> Iterator[Obligation]:
    """Yield what one part's license asks of the release, in the order of its file.

    A condition that names its relations holds in those; any other where the terms reach the
    release. One of which nobody knows whether it applies holds.
    """
    license = situation.license(part.license)
    if license is None:
        return
    grants = situation.grants(part)
    discharged = {kind for grant in grants for kind in grant.discharges}
    lifted = {kind for grant in grants for kind in grant.lifts}
    if any(grant.own_terms for grant in grants):
        discharged.add(_CLAIM)
    for condition in license.conditions:
        triggered = (
            part.upstream.relation in condition.relations if condition.relations else reach.reaches
        )
        if (
            triggered
            and condition.kind not in discharged
            and applies(condition.applies_when, situation.release, part.upstream) is not False
        ):
            proof = situation.policy.proofs.get(condition.kind, "")
            yield Obligation(part, license, condition, proof)
    for limit in license.limitations:
        if (
            reach.reaches
            and limit.kind in situation.policy.limitation_proofs
            and limit.kind not in lifted
            and not _surely_not(limit, situation, part)
        ):
            yield Obligation(part, license, limit, situation.policy.limitation_proofs[limit.kind])


def _surely_not(limit: Limitation, situation: Situation, part: Part) -> bool:
    outcome = applies(limit.applies_when, situation.release, part.upstream)
    # What is missing here is told by the verdict, where it can be mended.
    return outcome is False or isinstance(outcome, Missing)


def conflicts(
    situation: Situation, owed: tuple[Obligation, ...], reached: tuple[Part, ...]
) -> tuple[Conflict, ...]:
    """Return the pairs of debts that exclude each other, one pair for each two terms.

    Found are two name prefixes of which neither begins with the other, a prefix that is also
    forbidden, two licenses that each want to be the only one, and a ban on further restrictions
    beside restrictions that must be passed on. `reached` are the parts whose terms reach the
    release.
    """
    firsts: dict[tuple[str, Condition | Limitation, str], Obligation] = {}
    for obligation in (*owed, *_claims(situation, reached)):
        if obligation.kind in _EXCLUSIVE:
            relation = obligation.part.upstream.relation
            firsts.setdefault((obligation.license.id, obligation.term, relation), obligation)
    terms = list(firsts.values())
    found: dict[tuple[str, str, str, str], Conflict] = {}
    for number, first in enumerate(terms):
        for second in terms[number + 1 :]:
            for conflict in (*_conflict(first, second), *_conflict(second, first)):
                ids = (conflict.first.license.id, conflict.second.license.id)
                found.setdefault((*ids, conflict.kind, conflict.because), conflict)
    return tuple(found.values())


def _claims(situation: Situation, reached: tuple[Part, ...]) -> Iterator[Obligation]:
    """Yield the parts whose license wants to be the license of the whole, as debts."""
    seen: set[str] = set()
    for part in reached:
        license = situation.license(part.license)
        if (
            license is None
            or license.id in seen
            or license.downstream_license not in _CLAIMS
            or license.downstream_scope not in _WHOLE
            or any(grant.own_terms for grant in situation.grants(part))
        ):
            continue
        seen.add(license.id)
        accepts = tuple(
            accepted
            for condition in license.conditions
            if condition.kind == "same-license"
            for accepted in condition.accepts
        )
        claim = Condition(_CLAIM, license.downstream_section, "", accepts=accepts)
        yield Obligation(part, license, claim, "")


_CLAIM = "same-license"
_EXCLUSIVE = frozenset(
    {
        "name-prefix",
        "name-forbidden",
        _CLAIM,
        "no-additional-restrictions",
        "pass-on-use-restrictions",
    }
)
"""The kinds of terms that can exclude each other."""


def _conflict(one: Obligation, other: Obligation) -> Iterator[Conflict]:
    """Yield what `one` and `other` exclude, in this order."""
    a, b = one.term, other.term
    if isinstance(a, Limitation) or isinstance(b, Limitation):
        return
    ids = f"{one.part.upstream.id} and {other.part.upstream.id}"
    names = f"{one.license.name} and {other.license.name}"
    apart = f"Leave one of {ids} out, or obtain a license of its own for it from its licensor."
    if (a.kind, b.kind) == ("name-prefix", "name-prefix") and a.prescribed_text < b.prescribed_text:
        if not b.prescribed_text.startswith(a.prescribed_text):
            yield Conflict(
                one,
                other,
                "name-prefixes",
                f"the model's name cannot begin with both “{a.prescribed_text}” and "
                f"“{b.prescribed_text}”",
                apart,
            )
    elif (a.kind, b.kind) == ("name-prefix", "name-forbidden"):
        if a.prescribed_text.casefold().startswith(b.prescribed_text.casefold()):
            yield Conflict(
                one,
                other,
                "prefix-against-name",
                f"the model's name must begin with “{a.prescribed_text}” and must not be led by "
                f"“{b.prescribed_text}”",
                apart,
            )
    elif (a.kind, b.kind) == (_CLAIM, _CLAIM) and one.license.id < other.license.id:
        # A condition on files or on a database leaves the whole free; a claim does not.
        if {a.scope, b.scope} <= set(_WHOLE) and not _one_serves_both(one, other):
            yield Conflict(
                one,
                other,
                "same-license-twice",
                f"{names} each want to be the license of what is made from both",
                apart,
            )
    elif (
        (a.kind, b.kind) == ("no-additional-restrictions", "pass-on-use-restrictions")
        and one.license.id != other.license.id
        and _restrictions_meet(one, other)
    ):
        yield Conflict(
            one,
            other,
            "restrictions",
            f"{one.license.name} allows no further restrictions, and {other.license.name} has"
            " restrictions that must be passed on",
            apart,
        )


def _one_serves_both(one: Obligation, other: Obligation) -> bool:
    def accepted(obligation: Obligation) -> set[str]:
        accepts = getattr(obligation.term, "accepts", ())
        return {obligation.license.id, *accepts}

    return bool(accepted(one) & accepted(other))


def _restrictions_meet(one: Obligation, other: Obligation) -> bool:
    # A ban that protects only the material as received meets restrictions only where that
    # material is itself passed on under them.
    if one.term.scope in {"licensed-material", "data", "database"}:
        return one.part.upstream.relation == other.part.upstream.relation == "data-shipped"
    return True
