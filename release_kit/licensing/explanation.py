"""A judgement told to people in plain words: values → text.

The words stand in `policies/language/`, a file a language; what a license says is given as its
file has it. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from release_kit.licensing.facts import (
    Missing,
    Situation,
    Value,
    applies,
    license_facts,
    part_facts,
    release_facts,
)
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.licenses import (
    Condition,
    License,
    Limitation,
)
from release_kit.licensing.lineage import Part
from release_kit.licensing.obligations import Conflict
from release_kit.licensing.policy_files import DECISIONS
from release_kit.licensing.questions import Remark
from release_kit.licensing.verdicts import Decision, Reach, Verdicts, section
from release_kit.licensing.words import (
    Words,
    details_of,
    ending,
    noted,
    sentence_of,
    term_lines,
    titled,
)


@dataclass(frozen=True)
class ToldPart:
    """One part, and what is decided about it."""

    id: str
    role: str
    relation: str
    license: str
    basis: str
    verdict: str
    reached: bool
    """Whether its license's terms reach the release."""
    not_reached_because: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Objection:
    """What stands in the way: one policy rule that does not allow one part, or the release."""

    upstream: str
    """Empty when it is about the release's own license."""
    role: str
    license: str
    decide: str
    rule: str
    """Empty when no rule of the policy speaks."""
    policy: str
    because: str
    how_to_fix: str
    cites: tuple[str, ...]
    knobs: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """A condition to meet or a limitation to know, from the license of some parts."""

    upstreams: tuple[str, ...]
    license: str
    kind: str
    sentence: str
    fact: str
    section: str
    prescribed_text: str
    """Words of the license, letter by letter; empty when it prescribes none."""
    details: tuple[str, ...]


@dataclass(frozen=True)
class ToldKnob:
    """A contested question that decided something."""

    name: str
    set: str
    owner: str
    date: str
    jurisdiction: str
    question: str
    reason: str


@dataclass(frozen=True)
class MissingFact:
    """A fact that nobody stated and somebody asked for."""

    field: str
    option: str


@dataclass(frozen=True)
class Source:
    """Where the facts about a license come from."""

    license: str
    url: str
    verified_at: str
    verified: bool


@dataclass(frozen=True)
class Candidate:
    """A license under which the release was judged."""

    license: str
    name: str
    verdict: str
    because: tuple[str, ...]
    """What stands in its way alone; the rest stands in the way of all."""


@dataclass(frozen=True)
class Explanation:
    """A judgement in words."""

    language: str
    verdict: str
    """allow, review or deny; of several licenses, the mildest."""
    release: Mapping[str, Any]
    """What was asked; its license is empty when several were tried."""
    policy: Mapping[str, Any]
    day: str
    remarks: tuple[str, ...]
    """About the release's own license."""
    parts: tuple[ToldPart, ...]
    objections: tuple[Objection, ...]
    """Of several licenses, those that all of them meet."""
    conflicts: tuple[str, ...]
    conflict_fixes: tuple[str, ...]
    """One for each conflict."""
    candidates: tuple[Candidate, ...]
    """Empty when a license was planned."""
    obligations: tuple[Term, ...]
    limitations: tuple[Term, ...]
    knobs: tuple[ToldKnob, ...]
    unverified: tuple[str, ...]
    missing: tuple[MissingFact, ...]
    valid_until: str
    sources: tuple[Source, ...]

    def data(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def explain(
    judgements: Sequence[Judgement],
    words: Words,
    *,
    remarks: Mapping[Part | None, Iterable[Remark]] | None = None,
    options: Mapping[str, str] | None = None,
    planned: bool = True,
) -> Explanation:
    """Return what is to be told of a judgement, or of judgements that differ by the license only.

    `judgements` were made in the language of `words`. `remarks` are told at their parts, `options`
    maps fields of release.yaml to what supplies them here. `planned` is false when somebody asks
    under which license to release; then there may be several judgements.

    Raises:
        ValueError: there is no judgement.
    """
    if not judgements:
        raise ValueError("there is nothing to explain")
    first = judgements[0]
    told = {
        part: tuple(words.say(remark.phrase, **dict(remark.facts)) for remark in said)
        for part, said in (remarks or {}).items()
    }
    by_judgement = [_objections(judgement, words) for judgement in judgements]
    common = tuple(o for o in by_judgement[0] if all(o in others for others in by_judgement[1:]))
    situation = _situation(first)
    verdicts = Verdicts(situation, words.language)
    reach = {part: verdicts.reach(part) for part in first.parts}
    licenses = _licenses(first, with_release=planned)
    release, organization = first.release, first.release.organization
    return Explanation(
        language=words.language,
        verdict=min((j.verdict for j in judgements), key=DECISIONS.index),
        release={
            "license": release.license if planned else "",
            "purpose": release.purpose,
            "visibility": release.visibility,
            "gating": release.gating,
            "modalities": release.modalities,
            "organization": organization.kind,
            "seat": organization.seat,
            "monthly_active_users": organization.monthly_active_users,
            "annual_revenue_usd": organization.annual_revenue_usd,
            "monthly_revenue_usd": organization.monthly_revenue_usd,
        },
        policy={
            "name": first.policy.name,
            "version": first.policy.version,
            "file": first.policy.file,
            "digest": first.policy.digest,
        },
        day=first.day.isoformat(),
        remarks=told.get(None, ()),
        parts=tuple(_parts(judgements, reach, words, told)),
        objections=common,
        conflicts=tuple(_conflict(conflict, words) for conflict in first.conflicts),
        conflict_fixes=tuple(
            words.say(
                "conflict_fix", first=c.first.part.upstream.id, second=c.second.part.upstream.id
            )
            for c in first.conflicts
        ),
        candidates=()
        if planned
        else tuple(
            _candidate(judgement, own, common)
            for judgement, own in zip(judgements, by_judgement, strict=True)
        ),
        obligations=_merged(_term(o.part, o.license, o.term, words) for o in first.owed),
        limitations=_merged(_limitations(situation, reach, words)),
        knobs=tuple(_knobs(judgements)),
        unverified=tuple(license.id for license in licenses if license.unverified),
        missing=tuple(
            MissingFact(field, (options or {}).get(field, ""))
            for field in dict.fromkeys(
                (*_undecided(judgements), *_unknown_whether_applied(first, situation, reach))
            )
        ),
        valid_until=first.valid_until,
        sources=tuple(
            Source(license.id, license.source, license.verified_at, not license.unverified)
            for license in licenses
        ),
    )


def _situation(judgement: Judgement) -> Situation:
    return Situation(judgement.release, judgement.parts, judgement.policy, judgement.day)


def _licenses(judgement: Judgement, *, with_release: bool) -> list[License]:
    ids = [part.license for part in judgement.parts]
    if with_release:
        ids.insert(0, judgement.release.license)
    known = judgement.policy.licenses
    return [known[id_] for id_ in dict.fromkeys(ids) if id_ in known]


def _parts(
    judgements: Sequence[Judgement],
    reaches: Mapping[Part, Reach],
    words: Words,
    told: Mapping[Part | None, tuple[str, ...]],
) -> Iterator[ToldPart]:
    for part, reach in reaches.items():
        because = ""
        if not reach.reaches and reach.rule is not None:
            chinese = reach.rule.because_zh if words.language == "zh" else ""
            because = chinese or reach.rule.because
        upstream = part.upstream
        yield ToldPart(
            id=upstream.id,
            role=upstream.role,
            relation=upstream.relation,
            license=part.license,
            basis=part.basis,
            verdict=min((_verdict(j, part) for j in judgements), key=DECISIONS.index),
            reached=reach.reaches,
            not_reached_because=because,
            remarks=told.get(part, ()),
        )


def _verdict(judgement: Judgement, part: Part) -> str:
    # A part that no decision is about would not be allowed by anybody.
    return max(
        (d.decide for d in judgement.decisions if d.part == part),
        key=DECISIONS.index,
        default=DECISIONS[-1],
    )


def _objections(judgement: Judgement, words: Words) -> tuple[Objection, ...]:
    found = (
        _objection(judgement, decision, words)
        for decision in judgement.decisions
        if decision.decide != "allow"
    )
    return tuple(dict.fromkeys(found))


def _objection(judgement: Judgement, decision: Decision, words: Words) -> Objection:
    part, policy = decision.part, judgement.policy
    rule = policy.rule(decision.rule)
    because, how_to_fix = decision.because, decision.how_to_fix
    if rule is None:
        because = words.say("no_rule", policy=policy.name)
        how_to_fix = words.say("no_rule_fix")
    license = policy.licenses.get(part.license) if part else None
    sections = [section(license, fact) for fact in rule.cite] if rule and license else []
    return Objection(
        upstream=part.upstream.id if part else "",
        role=part.upstream.role if part else "",
        license=part.license if part else judgement.release.license,
        decide=decision.decide,
        rule=decision.rule,
        policy=rule.policy if rule else policy.name,
        because=because,
        how_to_fix=how_to_fix,
        cites=tuple(
            words.say("cite", license=license.name, section=noted(cited, words))
            for cited in dict.fromkeys(sections)
            if license
        ),
        knobs=decision.knobs,
    )


def _candidate(
    judgement: Judgement, own: tuple[Objection, ...], common: tuple[Objection, ...]
) -> Candidate:
    license = judgement.policy.licenses[judgement.release.license]
    because = dict.fromkeys(o.because for o in own if o not in common)
    return Candidate(license.id, license.name, judgement.verdict, tuple(because))


def _conflict(conflict: Conflict, words: Words) -> str:
    facts = {}
    for side, obligation in (("first", conflict.first), ("second", conflict.second)):
        facts[f"{side}_license"] = obligation.license.name
        facts[f"{side}_text"] = getattr(obligation.term, "prescribed_text", "")
    return words.say(f"conflict_{conflict.kind.replace('-', '_')}", **facts)


def _limitations(
    situation: Situation, reaches: Mapping[Part, Reach], words: Words
) -> Iterator[Term]:
    """Yield what the licenses that reach the release limit, but what surely does not apply."""
    for part, reach in reaches.items():
        license = situation.license(part.license)
        if license is None or not reach.reaches:
            continue
        lifted = {kind for grant in situation.grants(part) for kind in grant.lifts}
        for limit in license.limitations:
            applied = applies(limit.applies_when, situation.release, part.upstream)
            if limit.kind not in lifted and applied is not False:
                yield _term(part, license, limit, words)


def _term(part: Part, license: License, term: Condition | Limitation, words: Words) -> Term:
    return Term(
        upstreams=(part.upstream.id,),
        license=license.id,
        kind=term.kind,
        sentence=sentence_of(term, words),
        fact=term.fact,
        section=term.section,
        prescribed_text=getattr(term, "prescribed_text", ""),
        details=tuple(details_of(term, words)),
    )


def _merged(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return each term of a license once, with all the upstreams that it is about."""
    found: dict[tuple[str, str, str, str], Term] = {}
    for term in terms:
        key = (term.license, term.kind, term.section, term.fact)
        before = found[key].upstreams if key in found else ()
        upstreams = tuple(dict.fromkeys((*before, *term.upstreams)))
        found[key] = Term(**{**vars(term), "upstreams": upstreams})
    return tuple(found.values())


def _knobs(judgements: Sequence[Judgement]) -> Iterator[ToldKnob]:
    policy = judgements[0].policy
    for name in dict.fromkeys(name for judgement in judgements for name in judgement.knobs):
        knob = policy.knobs[name]
        yield ToldKnob(
            name, knob.set, knob.owner, knob.date, knob.jurisdiction, knob.question, knob.reason
        )


def _undecided(judgements: Sequence[Judgement]) -> Iterator[str]:
    """Yield the fields of release.yaml without which a rule could not decide."""
    for judgement in judgements:
        situation = _situation(judgement)
        about_release = release_facts(situation)
        license = situation.license(situation.release.license)
        about_license = license_facts("release", license, situation.release)
        for decision in judgement.decisions:
            rule = judgement.policy.rule(decision.rule)
            if rule is None or decision.decide == "allow":
                continue
            lookups: list[Callable[[str], Value | None]] = [about_release.get, about_license]
            if (part := decision.part) is not None:
                license, grants = situation.license(part.license), situation.grants(part)
                lookups.append(part_facts(situation, part).get)
                lookups.append(license_facts("upstream", license, situation.release, grants))
            for name in rule.when:
                for look_up in lookups:
                    value = look_up(name)
                    if isinstance(value, Missing):
                        yield value.field


def _unknown_whether_applied(
    judgement: Judgement, situation: Situation, reaches: Mapping[Part, Reach]
) -> Iterator[str]:
    """Yield the fields without which nobody knows whether a term applies."""
    terms: list[tuple[Part, Condition | Limitation]] = [(o.part, o.term) for o in judgement.owed]
    for part, reach in reaches.items():
        license = situation.license(part.license)
        if license is not None and reach.reaches:
            terms += [(part, limit) for limit in license.limitations]
    for part, term in terms:
        applied = applies(term.applies_when, situation.release, part.upstream)
        if isinstance(applied, Missing):
            yield applied.field


def explanation_lines(told: Explanation, words: Words) -> tuple[str, ...]:
    """Return the explanation as lines, the verdict first.

    A line may hold what somebody typed, so whoever prints it has to see to control characters.
    """
    verdict = words.say("verdict", id=told.verdict, verdict=words.of("verdicts", told.verdict))
    lines = [verdict]
    if told.candidates:
        count = {d: sum(c.verdict == d for c in told.candidates) for d in DECISIONS}
        lines.append(words.say("candidates", all=len(told.candidates), **count))
    lines += titled(words.say("plan"), _plan_lines(told, words))
    lines += titled(words.say("made_from"), _part_lines(told, words))
    always = "in_the_way_always" if told.candidates else "in_the_way"
    if told.objections:
        lines += titled(words.say(always), _objection_lines(told, words))
    elif not told.candidates and not told.conflicts:
        lines += ["", words.say("nothing_in_the_way")]
    excluded = (
        line
        for conflict, fix in zip(told.conflicts, told.conflict_fixes, strict=True)
        for line in (conflict, f"  {words.say('how_to_fix', advice=fix)}")
    )
    lines += titled(words.say("excluded"), excluded)
    lines += _candidate_lines(told, words)
    if told.obligations:
        lines += titled(words.say("you_must"), _term_lines(told.obligations, words))
    else:
        lines += ["", words.say("owed_nothing")]
    lines += titled(words.say("limits"), _term_lines(told.limitations, words))
    lines += titled(words.say("knobs"), _knob_lines(told, words))
    unverified = [words.say("not_verified_item", license=license) for license in told.unverified]
    lines += titled(words.say("not_verified"), unverified)
    missing = [words.say("missing_item", field=m.field, option=m.option) for m in told.missing]
    lines += titled(words.say("missing"), missing)
    if told.valid_until:
        lines += ["", words.say("valid_until", date=told.valid_until)]
    sources = (
        words.say(
            "source_item" if source.verified else "source_item_unverified",
            license=source.license,
            url=source.url,
            date=source.verified_at,
        )
        for source in told.sources
    )
    lines += titled(words.say("sources"), sources)
    return (*lines, *ending(words))


def _plan_lines(told: Explanation, words: Words) -> Iterator[str]:
    release = told.release
    if release["license"]:
        yield words.say("planned_license", license=release["license"])
    for remark in told.remarks:
        yield f"  {remark}"
    yield words.say("purpose", purpose=words.of("purposes", release["purpose"]))
    yield words.say(
        "repository",
        visibility=words.of("visibilities", release["visibility"]),
        gating=words.of("gatings", release["gating"]),
    )
    if release["modalities"]:
        shown = words.all_of("modalities", release["modalities"])
        yield words.say("modalities", modalities=shown)
    yield words.say("organization", kind=words.of("organizations", release["organization"]))
    if release["seat"]:
        yield words.say("seat", seat=release["seat"])
    for phrase, key in (
        ("users", "monthly_active_users"),
        ("annual_revenue", "annual_revenue_usd"),
        ("monthly_revenue", "monthly_revenue_usd"),
    ):
        if release[key] is not None:
            yield words.say(phrase, number=f"{release[key]:,}")
    policy = told.policy
    yield words.say(
        "policy",
        policy=policy["name"],
        version=policy["version"],
        file=policy["file"],
        day=told.day,
    )


def _part_lines(told: Explanation, words: Words) -> Iterator[str]:
    for part in told.parts:
        yield words.say(
            "verdict_upstream",
            upstream=part.id,
            role=words.of("roles", part.role),
            license=part.license,
            verdict=words.of("verdicts", part.verdict),
        )
        yield "  " + words.say("relation", relation=words.of("relations", part.relation))
        if not part.reached:
            yield "  " + words.say("not_reached", reason=part.not_reached_because)
        for remark in part.remarks:
            yield f"  {remark}"


def _objection_lines(told: Explanation, words: Words) -> Iterator[str]:
    for objection in told.objections:
        verdict = words.of("verdicts", objection.decide)
        if objection.upstream:
            yield words.say(
                "verdict_upstream",
                upstream=objection.upstream,
                role=words.of("roles", objection.role),
                license=objection.license,
                verdict=verdict,
            )
        else:
            yield words.say("verdict_release", license=objection.license, verdict=verdict)
        yield "  " + words.say("because", reason=objection.because)
        for cite in objection.cites:
            yield f"  {cite}"
        if objection.how_to_fix:
            yield "  " + words.say("how_to_fix", advice=objection.how_to_fix)
        if objection.rule:
            yield "  " + words.say("rule", rule=objection.rule, policy=objection.policy)


def _candidate_lines(told: Explanation, words: Words) -> list[str]:
    lines: list[str] = []
    if not told.candidates:
        return lines
    by = {d: [c for c in told.candidates if c.verdict == d] for d in DECISIONS}
    allowed = [words.say("title", name=c.name, id=c.license) for c in by["allow"]]
    lines += titled(words.say("candidates_allow"), allowed)
    reviewed: list[str] = []
    for candidate in by["review"]:
        reviewed.append(words.say("title", name=candidate.name, id=candidate.license))
        reviewed += [f"  {words.say('because', reason=reason)}" for reason in candidate.because]
    lines += titled(words.say("candidates_review"), reviewed)
    if by["deny"]:
        lines += titled(words.say("candidates_deny"), [", ".join(c.license for c in by["deny"])])
    return [*lines, "", words.say("candidates_left_out")]


def _term_lines(terms: Iterable[Term], words: Words) -> Iterator[str]:
    about: tuple[tuple[str, ...], str] | None = None
    for term in terms:
        if (term.upstreams, term.license) != about:
            about = (term.upstreams, term.license)
            upstreams = ", ".join(term.upstreams)
            yield words.say("owed_for", upstream=upstreams, license=term.license)
        yield from term_lines(term.sentence, term.fact, term.section, term.details, words)


def _knob_lines(told: Explanation, words: Words) -> Iterator[str]:
    for knob in told.knobs:
        yield words.say(
            "knob", knob=knob.name, set=knob.set, owner=knob.owner, date=knob.date,
            jurisdiction=knob.jurisdiction,
        )  # fmt: skip
        yield "  " + words.say("knob_question", question=knob.question)
        yield "  " + words.say("knob_reason", reason=knob.reason)
