"""The one path by which a release is judged: lineage, decisions, debts, conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from release_kit.licensing.facts import Situation
from release_kit.licensing.lineage import Doubt, Lineage, Part, canonical, conclude
from release_kit.licensing.obligations import Conflict, Obligation, conflicts, obligations
from release_kit.licensing.policy import Policy
from release_kit.licensing.verdicts import Decision, Verdicts, worst
from release_kit.release import Release


@dataclass(frozen=True)
class Judgement:
    """What a policy says about a release on one day, before anybody looked into the bundle."""

    release: Release
    """Its license as the knowledge base spells it."""
    policy: Policy
    day: date
    parts: tuple[Part, ...]
    doubts: tuple[Doubt, ...]
    decisions: tuple[Decision, ...]
    """About the release's own license first, then part by part."""
    owed: tuple[Obligation, ...]
    conflicts: tuple[Conflict, ...]
    knobs: Mapping[str, int]
    """Knob → the number of decisions that it brought about."""
    valid_until: str
    """The last day on which the grants it rests on hold; empty when it rests on none."""

    @property
    def verdict(self) -> str:
        """The strictest decision: allow, review or deny; deny when debts exclude each other."""
        return "deny" if self.conflicts else worst(self.decisions)


def judge(
    release: Release,
    policy: Policy,
    *,
    day: date | None = None,
    lineage: Lineage | None = None,
    language: str = "en",
) -> Judgement:
    """Judge `release` by `policy` as of `day` (today).

    `lineage` is what is known of its parts; left out, it is concluded from release.yaml and the
    upstreams' own files. `language`, en or zh, is that of the reasons.

    Raises:
        UnusableInput: a license file breaks its schema.
    """
    day = day or date.today()
    lineage = lineage or conclude(release, policy.licenses)
    situation = Situation(canonical(release, policy.licenses), lineage.parts, policy, day)
    verdicts = Verdicts(situation, language)
    decisions = list(verdicts.about_release())
    owed: list[Obligation] = []
    ends: list[str] = []
    for part in lineage.parts:
        decisions.extend(verdicts.about(part))
        owed.extend(obligations(situation, part, verdicts.reach(part)))
        ends.extend(grant.expires for grant in situation.grants(part))
    knobs = Counter(knob for decision in decisions for knob in decision.knobs)
    knobs.update(doubt.knob for doubt in lineage.doubts if _answered(doubt, policy))
    return Judgement(
        release=situation.release,
        policy=policy,
        day=day,
        parts=lineage.parts,
        doubts=tuple(doubt for doubt in lineage.doubts if not _answered(doubt, policy)),
        decisions=tuple(decisions),
        owed=tuple(owed),
        conflicts=conflicts(
            situation,
            tuple(owed),
            tuple(part for part in lineage.parts if verdicts.reach(part).reaches),
        ),
        knobs=knobs,
        valid_until=min(ends, default=""),
    )


def _answered(doubt: Doubt, policy: Policy) -> bool:
    """Tell whether the policy's owner has answered the contested question behind a doubt."""
    knob = policy.knobs.get(doubt.knob)
    return knob is not None and knob.set == knob.positions[-1]
