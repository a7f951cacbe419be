"""The tests beside a policy: situations, and what it must decide about them.

The tests of `<folder>/<name>.yaml` lie in `<folder>/tests/<name>.yaml`, checked against
`schemas/policy_tests.schema.json`. A rule's test is a pair of situations, one in which it decides
and a near one in which it says nothing; a case is a whole situation with everything the policy
says about it. All go the way of the audit, through `judge`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import License, Licenses, Permission, identified
from release_kit.licensing.lineage import Lineage, Part
from release_kit.licensing.policy import Policy, PolicyRule
from release_kit.licensing.policy_files import DECISIONS
from release_kit.release import RELEASE_FILE, ROLES, DocumentFacts, Organization, Release, Upstream
from release_kit.strict_yaml import Document, Pointer, Position, read_yaml

NO_RULE = "no-rule"
"""How a case spells the objection that no rule speaks."""

# What the license of an upstream rests on where a case does not say.
_BASIS = "text"


@dataclass(frozen=True)
class Expectation:
    """What a policy must say about a situation; nothing else may be said."""

    verdict: str
    objections: frozenset[str]
    """Rules that do not allow it."""
    conflicts: frozenset[str]
    obligations: frozenset[str] | None
    """Kinds of conditions and limitations; None when they are not compared."""


@dataclass(frozen=True)
class Case:
    """One situation, and what is expected of a rule or of the whole policy."""

    name: str
    rule: str
    """The rule that it tests; empty for a whole situation."""
    decides: str
    """What the rule must decide: allow, review or deny; empty where it must say nothing."""
    expect: Expectation | None
    """None for the test of a rule."""
    release: Release
    parts: tuple[Part, ...]
    knobs: Mapping[str, str]
    """Knobs that stand otherwise than the policy sets them."""
    licenses: Mapping[str, License]
    """Licenses whose text says something else here than their file does."""
    day: date
    position: Position

    def judged(self, policy: Policy) -> Judgement:
        """Return what `policy` says about the situation."""
        moved = {n: replace(policy.knobs[n], set=position) for n, position in self.knobs.items()}
        return judge(
            self.release,
            replace(
                policy,
                knobs={**policy.knobs, **moved},
                licenses=_Changed(policy.licenses, self.licenses),
            ),
            day=self.day,
            lineage=Lineage(self.parts, ()),
        )


class _Changed(Licenses):
    """A knowledge base in which some licenses say something else."""

    def __init__(self, known: Licenses, changed: Mapping[str, License]) -> None:
        super().__init__()
        self._paths = dict(known.paths)
        self._read = {**known, **changed} if changed else known._read


@dataclass(frozen=True)
class CaseFile:
    """The test file of a policy."""

    file: str
    """As errors show it."""
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Failure:
    """A case in which the policy does not say what is expected."""

    case: Case
    file: str
    differences: tuple[str, ...]
    """Each with what was expected and what came."""

    def __str__(self) -> str:
        line, column = self.case.position
        said = "".join(f"\n    {difference}" for difference in self.differences)
        return f"{self.file}:{line}:{column}: {self.case.name}{said}"


def file_of_tests(policy: Policy) -> Path:
    """Return where the tests of a policy lie, whether there are any or not."""
    return policy.path.parent / "tests" / policy.path.name


def read_tests(policy: Policy) -> CaseFile:
    """Read the tests of a policy.

    Raises:
        UnusableInput: there are none, or with file, line and column of every mistake in them.
    """
    path = file_of_tests(policy)
    shown = shown_tests(policy)
    if not path.is_file():
        raise UnusableInput(
            f"{shown}: there is no such file",
            hint=f"Write the tests of {policy.file} there; policies/tests/baseline.yaml shows how.",
        )
    document = read_yaml(path, "policy_tests", shown_as=shown)
    reading = _Reading(document, policy)
    cases = tuple(reading.cases())
    if reading.mistakes:
        raise UnusableInput(f"{shown} cannot be used", problems=sorted(set(reading.mistakes)))
    return CaseFile(shown, cases)


def shown_tests(policy: Policy) -> str:
    """Return the file of the tests as errors show it."""
    path = file_of_tests(policy)
    return f"policies/{path.relative_to(POLICIES)}" if path.is_relative_to(POLICIES) else str(path)


def run_tests(policy: Policy, tests: CaseFile) -> tuple[Failure, ...]:
    """Return the cases in which `policy` does not say what is expected, in the file's order."""
    failures = []
    for case in tests.cases:
        differences = tuple(_differences(case, case.judged(policy)))
        if differences:
            failures.append(Failure(case, tests.file, differences))
    return tuple(failures)


def untested(policy: Policy, tests: CaseFile | None) -> Iterator[Problem]:
    """Yield the rules that a policy brings or tightens and its own tests do not show both ways."""
    cases = tests.cases if tests else ()
    shown = {(case.rule, bool(case.decides)) for case in cases if case.rule}
    places = {rule.id: rule.position for rule in policy.rules if rule.file == policy.file}
    places |= policy.tightened
    for rule_id, (line, column) in places.items():
        ways = ((True, "fires"), (False, "stays silent"))
        lacking = [way for fires, way in ways if (rule_id, fires) not in shown]
        if lacking:
            said = " and none in which it ".join(lacking)
            yield Problem(
                policy.file,
                line,
                column,
                f"the rule {rule_id} has no test in which it {said}",
                f"Add it under rules in {shown_tests(policy)}.",
            )


def _differences(case: Case, judgement: Judgement) -> Iterator[str]:
    decided = {d.rule or NO_RULE: d.decide for d in judgement.decisions}
    said = frozenset(d.rule or NO_RULE for d in judgement.decisions if d.decide != DECISIONS[0])
    if case.expect is None:
        # A rule that cannot be decided for want of a fact asks for review; that is no proof of it.
        decisions = {d.decide for d in judgement.decisions if d.rule == case.rule}
        everything = ", ".join(f"{name} ({how})" for name, how in decided.items())
        if case.decides and case.decides not in decisions:
            yield f"expected that it decides {case.decides}; what spoke: {everything}"
        elif not case.decides and decisions:
            yield f"expected that it says nothing; it says {', '.join(sorted(decisions))}"
        return
    expect = case.expect
    if judgement.verdict != expect.verdict:
        yield f"verdict: expected {expect.verdict}, got {judgement.verdict}"
    conflicts = frozenset(conflict.kind for conflict in judgement.conflicts)
    owed = frozenset(obligation.kind for obligation in judgement.owed)
    for what, wanted_words, got in (
        ("objections", expect.objections, said),
        ("conflicts", expect.conflicts, conflicts),
        ("obligations", expect.obligations, owed),
    ):
        if wanted_words is not None and wanted_words != got:
            yield f"{what}: expected {_listed(wanted_words)}; got {_listed(got)}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "none"


class _Reading:
    """A test file on its way to cases, with the mistakes that are met."""

    def __init__(self, document: Document, policy: Policy) -> None:
        self._document = document
        self._policy = policy
        self._defaults: Mapping[str, Any] = document.data["defaults"]
        self._rules = {rule.id: rule for rule in policy.rules}
        self.mistakes: list[Problem] = []

    def cases(self) -> Iterator[Case]:
        data = self._document.data
        if data["policy"] != self._policy.name:
            said = f"these are tests of '{data['policy']}', not of '{self._policy.name}'"
            self._mistake(("policy",), said, f"write {self._policy.name}")
        if not data.get("rules") and not data.get("cases"):
            self._mistake((), "it holds no test", "Write tests under rules or cases.")
        for index, item in enumerate(data.get("rules", ())):
            yield from self._pair(("rules", index), item)
        for index, item in enumerate(data.get("cases", ())):
            place = ("cases", index)
            expect = self._expectation((*place, "expect"), item["expect"])
            case = self._case(place, item, item["case"])
            if case:
                yield replace(case, expect=expect)

    def _pair(self, place: Pointer, item: Mapping[str, Any]) -> Iterator[Case]:
        rule_id = item["rule"]
        self._known((*place, "rule"), "rule", rule_id, self._rules)
        if not {"fires", "silent"} & set(item):
            self._mistake(place, "neither fires nor silent stands here")
        for key, decides, words in (
            ("fires", item["decides"], "fires"),
            ("silent", "", "stays silent"),
        ):
            if key in item:
                case = self._case((*place, key), item[key], f"rule {rule_id} {words}")
                if case:
                    yield replace(case, rule=rule_id, decides=decides)

    def _expectation(self, place: Pointer, item: Mapping[str, Any]) -> Expectation:
        for number, rule_id in enumerate(item.get("objections", ())):
            known: Mapping[str, PolicyRule | None] = {**self._rules, NO_RULE: None}
            self._known((*place, "objections", number), "rule", rule_id, known)
        return Expectation(
            item["verdict"],
            frozenset(item.get("objections", ())),
            frozenset(item.get("conflicts", ())),
            frozenset(item["obligations"]) if "obligations" in item else None,
        )

    def _case(self, place: Pointer, item: Mapping[str, Any], name: str) -> Case | None:
        release = {**self._defaults.get("release", {}), **item.get("release", {})}
        organization = {**self._defaults.get("organization", {}), **item.get("organization", {})}
        knobs = {**self._defaults.get("knobs", {}), **item.get("knobs", {})}
        day = item.get("day") or self._defaults.get("day") or self._policy.effective_from
        at = place if "lineage" in item else ("defaults",)
        # A part has the modalities of the release unless its entry says others.
        modalities = tuple(release.get("modalities") or ())
        situation = item if "lineage" in item else self._defaults
        parts = tuple(self._parts(at, situation, modalities))
        self._knobs(place if "knobs" in item else ("defaults",), knobs)
        said = {**self._defaults.get("licenses", {}), **item.get("licenses", {})}
        licenses = dict(self._licenses(place if "licenses" in item else ("defaults",), said))
        missing = [
            f"{group}.{key}"
            for group, said, keys in (
                ("release", release, ("license", "purpose", "visibility")),
                ("organization", organization, ("kind",)),
            )
            for key in keys
            if key not in said
        ]
        if missing:
            self._mistake(place, f"{', '.join(missing)} stands neither here nor under defaults")
            return None
        return Case(
            name=name,
            rule="",
            decides="",
            expect=None,
            release=_release(release, organization, parts, self._document.locate(place)),
            parts=parts,
            knobs=knobs,
            licenses=licenses,
            day=date.fromisoformat(day),
            position=self._document.locate(place),
        )

    def _parts(
        self, place: Pointer, situation: Mapping[str, Any], modalities: tuple[str, ...]
    ) -> Iterator[Part]:
        for key, (role, relations) in ROLES.items():
            for index, item in enumerate(situation.get("lineage", {}).get(key, ())):
                at = (*place, "lineage", key, index)
                relation = item.get("relation", relations[0])
                if relation not in relations:
                    said = f"a {role} is not {relation}"
                    self._mistake((*at, "relation"), said, f"known for it: {', '.join(relations)}")
                upstream = Upstream(
                    id=item.get("id", f"{role}-{index + 1}"),
                    role=role,
                    relation=relation,
                    license=item["license"],
                    source="",
                    path=None,
                    revision="",
                    attribution="",
                    changes="",
                    position=self._document.locate(at),
                    modalities=tuple(item.get("modalities", modalities)),
                )
                license_id = identified(item["license"], self._policy.licenses)
                yield Part(upstream, license_id or item["license"], item.get("basis", _BASIS))

    def _knobs(self, place: Pointer, knobs: Mapping[str, str]) -> None:
        for name, position in knobs.items():
            at = (*place, "knobs", name)
            if self._known(at, "knob", name, self._policy.knobs):
                positions = self._policy.knobs[name].positions
                self._known(at, f"position of {name}", position, dict.fromkeys(positions))

    def _licenses(
        self, place: Pointer, said: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, License]]:
        known = self._policy.licenses
        for license_id, facts in said.items():
            if self._known((*place, "licenses", license_id), "license", license_id, known):
                yield license_id, _saying(known[license_id], facts)

    def _known(self, place: Pointer, what: str, word: str, known: Mapping[str, Any]) -> bool:
        if word in known:
            return True
        close = difflib.get_close_matches(word, list(known), n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        self._mistake(place, f"{self._policy.name} has no {what} '{word}'", hint)
        return False

    def _mistake(self, place: Pointer, message: str, hint: str = "") -> None:
        position = self._document.locate(place)
        self.mistakes.append(Problem(self._document.path, *position, message, hint))


def _saying(license: License, facts: Mapping[str, Any]) -> License:
    verdicts = {
        name.removeprefix("permission."): Permission(verdict, "as the test says")
        for name, verdict in facts.items()
        if name.startswith("permission.")
    }
    return replace(
        license,
        unverified=not facts.get("verified", not license.unverified),
        downstream_license=facts.get("downstream_license", license.downstream_license),
        reaches_models=facts.get("reaches_models", license.reaches_models),
        permissions={**license.permissions, **verdicts},
    )


def _release(
    release: Mapping[str, Any],
    organization: Mapping[str, Any],
    parts: tuple[Part, ...],
    position: Position,
) -> Release:
    return Release(
        file=Path(RELEASE_FILE),
        repo_id=release.get("repo_id", "acme/model"),
        version="1.0.0",
        license=release["license"],
        purpose=release["purpose"],
        visibility=release["visibility"],
        gating=release.get("gating", "open"),
        organization=Organization(
            name="Acme",
            kind=organization["kind"],
            contact="",
            monthly_active_users=organization.get("monthly_active_users"),
            annual_revenue_usd=organization.get("annual_revenue_usd"),
            monthly_revenue_usd=organization.get("monthly_revenue_usd"),
            seat=organization.get("seat") or "",
        ),
        lineage=tuple(part.upstream for part in parts),
        privacy=None,
        training=None,
        documents=DocumentFacts("", "", (), (), (), (), ""),
        policy="",
        license_position=position,
        modalities=tuple(release.get("modalities") or ()),
    )
