"""A policy as frozen values: rules, knobs, grants, waivers, proofs, demands on data and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.files import POLICIES, json_bytes, sha256_bytes, sha256_file
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.licensing.policy_files import (
    ABOUT_UPSTREAM,
    BASELINE,
    PolicyFile,
    listed,
    own_licenses_of,
    read_chain,
)
from release_kit.strict_yaml import Document, Position

FactValue = str | bool


@dataclass(frozen=True)
class PolicyRule:
    """One rule: when all its facts and knobs are so, it decides."""

    id: str
    when: Mapping[str, tuple[FactValue, ...]]
    """Fact name → the values that fulfil it."""
    knobs: Mapping[str, tuple[str, ...]]
    """Knob name → the positions that fulfil it."""
    decide: str
    """allow, review or deny."""
    because: str
    because_zh: str
    how_to_fix: str
    how_to_fix_zh: str
    cite: tuple[str, ...]
    """Facts of the upstream's license whose sections a finding cites."""
    waivable: bool
    file: str
    """As errors show it."""
    position: Position
    policy: str
    """The policy it stands in."""

    @property
    def about_upstream(self) -> bool:
        """True when the rule asks about an upstream, false when only about the release."""
        return any(fact.startswith(ABOUT_UPSTREAM) for fact in self.when)


@dataclass(frozen=True)
class ReachRule:
    """Whether the terms of upstreams of which all this is true reach the release."""

    id: str
    when: Mapping[str, tuple[FactValue, ...]]
    knobs: Mapping[str, tuple[str, ...]]
    reaches: bool
    because: str
    because_zh: str
    cite: tuple[str, ...]
    file: str
    position: Position


@dataclass(frozen=True)
class Knob:
    """A question of contested law, and who answered it how."""

    name: str
    question: str
    positions: tuple[str, ...]
    """The strictest first."""
    set: str
    owner: str
    date: str
    reason: str
    jurisdiction: str
    file: str
    """Where it is set, as errors show it."""
    position: Position

    def __str__(self) -> str:
        return (
            f"knob {self.name} = {self.set} ({self.owner}, {self.date}, {self.jurisdiction}: "
            f"{self.reason})"
        )


@dataclass(frozen=True)
class Grant:
    """A license that was bought, in place of the public one."""

    id: str
    licensor: str
    upstream: str
    release: str
    """owner/name; empty for every release."""
    permits: tuple[str, ...]
    lifts: tuple[str, ...]
    discharges: tuple[str, ...]
    own_terms: bool
    owner: str
    evidence: str
    signed: str
    expires: str
    file: str
    position: Position

    def holds(self, day: date) -> bool:
        """Tell whether it is in force on `day`; the day of expiry is its last."""
        return self.signed <= day.isoformat() <= self.expires


@dataclass(frozen=True)
class Waiver:
    """A finding that somebody answers for: one rule, one upstream or path, one release."""

    id: str
    rule: str
    """A rule of the audit."""
    clause: str
    """The policy rule or condition behind the finding; empty where the rule has none."""
    upstream: str
    path: str
    release: str
    """owner/name@version."""
    owner: str
    approver: str
    reason: str
    because: str
    evidence: str
    created: str
    expires: str
    file: str
    position: Position

    def holds(self, day: date) -> bool:
        """Tell whether it is in force on `day`; the day of expiry is its last."""
        return self.created <= day.isoformat() <= self.expires


@dataclass(frozen=True)
class Scope:
    """What counts as personal data in the files whose paths match."""

    paths: tuple[str, ...]
    examine: bool
    entities: tuple[str, ...]
    severity: str
    because: str


@dataclass(frozen=True)
class Demand:
    """What must be said about a dataset of which all of `when` is true."""

    id: str
    fields: tuple[str, ...]
    """Keys of a dataset's `collection` in release.yaml."""
    when: Mapping[str, tuple[str, ...]]
    """Fact name → the values that fulfil it."""
    severity: str
    because: str
    cite: tuple[str, ...]


@dataclass(frozen=True)
class LeakageLimit:
    """How much held-out data may stand in the training data."""

    id: str
    kind: str
    """exact or exact-or-near."""
    above: float
    """The share of the held-out texts, from 0 to 1, above which it is a finding."""
    severity: str
    because: str


@dataclass(frozen=True)
class UnsearchedMedia:
    """What it means that a model was trained on what no redaction searches."""

    id: str
    kinds: tuple[str, ...]
    """image, audio or both."""
    severity: str
    because: str


@dataclass(frozen=True)
class WeightLimit:
    """What may be measured between a release's weights and those of a model in its lineage."""

    id: str
    relations: tuple[str, ...]
    """The relations of the models that it is for."""
    measure: str
    """median-cosine, shared-share, changed-parameters, missing-parameters, rank-share,
    adapter-misfits or times-nearer."""
    above: float | None
    """Above it is a finding; None where the limit is from below."""
    below: float | None
    severity: str
    because: str
    source: str
    """Where the number comes from."""

    def passed(self, value: float) -> bool:
        """Tell whether `value` is beyond the limit."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below


@dataclass(frozen=True)
class UnexaminedWeights:
    """What it means when weights could not be held against those of a model in the lineage."""

    id: str
    relations: tuple[str, ...]
    reasons: tuple[str, ...]
    """no-path, absent, no-weights, unreadable or nothing-shared."""
    severity: str
    because: str


@dataclass(frozen=True)
class SuspiciousMatrix:
    """A matrix that no training leaves behind."""

    id: str
    kind: str
    """constant or repeated."""
    least: int
    """How many numbers it holds at least."""
    severity: str
    because: str


@dataclass(frozen=True)
class QualityGate:
    """How good one figure of a release must be."""

    id: str
    tasks: tuple[str, ...]
    """The tasks whose releases it is for."""
    figure: str
    """A name of `release_kit.figures.FIGURES`, or of `CLASS_FIGURES` there."""
    of: str
    """value; gain, less the baseline's; or change, less that of the last release."""
    where: str
    """test, each-slice or each-change."""
    by: str
    """value, or interval: the worse end of its interval."""
    at_least: float | None
    """Below it is a finding; None where the gate is from above."""
    at_most: float | None
    severity: str
    because: str
    source: str
    """Where the number comes from."""

    @property
    def limit(self) -> str:
        """What it asks for, in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}"

    def met(self, value: float) -> bool:
        """Tell whether `value` is good enough; NaN never is."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


@dataclass(frozen=True)
class LeakGate:
    """How much of its training data a release may still tell, by one measure."""

    id: str
    tasks: tuple[str, ...]
    """The tasks whose releases it is for; any: all models, those without a task among them."""
    measure: str
    """A name of `release_kit.leak_measures.MEASURES`; the larger, the more leaks."""
    by: str
    """value; low, the lower end of its interval: more is shown; or high, the upper end: more is
    not excluded."""
    at_most: float
    """Above it is a finding."""
    up_to_repeats: int | None
    """It is about what stands at most so often in the training data; None for however often."""
    only_where: str
    """canaries-planted or values-redacted: it says nothing of other releases; empty for all."""
    instead: str
    """The measure that stands in where this one could not be measured; empty for none."""
    severity: str
    unmeasured: str
    """How bad it is when nobody measured it: error or warning."""
    because: str
    source: str
    """Where the number comes from."""
    how_to_fix: str

    @property
    def limit(self) -> str:
        """What it asks for, in words."""
        return f"{_ENDS[self.by]}at most {self.at_most:g}"

    def is_for(self, task: str) -> bool:
        """Tell whether it is for models of this task; empty for a task that is none of ours."""
        return "any" in self.tasks or task in self.tasks

    def met(self, value: float) -> bool:
        """Tell whether `value` is little enough; NaN never is."""
        return value <= self.at_most


_ENDS = {"value": "", "low": "a lower end of ", "high": "an upper end of "}


@dataclass(frozen=True)
class Policy:
    """Everything a policy file, and those it extends, say."""

    name: str
    version: int
    effective_from: str
    file: str
    """As errors show it."""
    path: Path
    """Where that file lies."""
    digest: str
    """SHA-256 over the policy files, the license files and the tables beside them."""
    extends: tuple[str, ...]
    """The policies it extends, the nearest first, each as name and version."""
    rules: tuple[PolicyRule, ...]
    tightened: Mapping[str, Position]
    """The rules of others that it makes stricter itself, and where it says so."""
    reach: tuple[ReachRule, ...]
    knobs: Mapping[str, Knob]
    proofs: Mapping[str, str]
    """Condition kind → what proves it."""
    limitation_proofs: Mapping[str, str]
    """Limitation kind → what proves that it is kept."""
    name_of_the_model: tuple[str, ...]
    grants: tuple[Grant, ...]
    approvers: tuple[str, ...]
    longest_days: int
    may_waive: tuple[str, ...]
    waivers: tuple[Waiver, ...]
    personal_data_language: str
    personal_data_pipelines: tuple[str, ...]
    """spaCy pipelines for a release that names none of its own; the first installed one serves."""
    personal_data_min_score: float
    personal_data_scopes: tuple[Scope, ...]
    data_demands: tuple[Demand, ...]
    leakage_limits: tuple[LeakageLimit, ...]
    unsearched_media: tuple[UnsearchedMedia, ...]
    quality_gates: tuple[QualityGate, ...]
    leak_gates: tuple[LeakGate, ...]
    weight_limits: tuple[WeightLimit, ...]
    unexamined_weights: tuple[UnexaminedWeights, ...]
    suspicious_matrices: tuple[SuspiciousMatrix, ...]
    licenses: Licenses = field(compare=False, repr=False)
    """The license knowledge base by which it judges."""

    def rule(self, rule_id: str) -> PolicyRule | None:
        """Return the rule of that id."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)


def load_policy(policy: Path | str | None = None) -> Policy:
    """Read a policy: a file, or the name of a shipped one; None or "" reads the baseline.

    Raises:
        UnusableInput: with file, line and column of every mistake.
    """
    chain = read_chain(policy)
    mistakes = sorted(chain.mistakes)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UnusableInput(f"{chain.name} cannot be used: {count}", problems=mistakes)
    return _policy(chain.files)


def _policy(files: Sequence[PolicyFile]) -> Policy:
    documents = [read.document for read in files]
    top, base = documents[0], documents[-1]
    tightened = {
        rule_id: decide
        for document in reversed(documents)
        for rule_id, decide in _tightens(document).items()
    }
    extra = own_licenses_of(files[-1])
    personal_data, waivers = base.data["personal_data"], base.data["waivers"]
    scores = [d.data["personal_data"]["min_score"] for d in documents if _has_score(d)]
    return Policy(
        name=top.data["policy"],
        version=top.data["version"],
        effective_from=top.data["effective_from"],
        file=top.path,
        path=files[0].file,
        digest=_digest(tuple(read.file for read in files), extra),
        extends=tuple(f"{d.data['policy']} {d.data['version']}" for d in documents[1:]),
        rules=tuple(
            _tightened(_rule(document, index), tightened)
            for document in reversed(documents)
            for index in range(len(document.data.get("rules", ())))
        ),
        tightened={rule_id: top.locate(("tighten", rule_id)) for rule_id in _tightens(top)},
        reach=tuple(_reach(base, index) for index in range(len(base.data["reach"]))),
        knobs=_knobs(documents),
        proofs=base.data["obligations"]["proofs"],
        limitation_proofs=base.data["obligations"]["limitations"],
        name_of_the_model=tuple(base.data["obligations"]["name_of_the_model"]),
        grants=tuple(_grant(base, index) for index in range(len(base.data.get("grants", ())))),
        approvers=tuple(waivers["approvers"]),
        longest_days=waivers["longest_days"],
        may_waive=tuple(waivers["may_waive"]),
        waivers=tuple(
            _waiver(document, index)
            for document in reversed(documents)
            for index in range(len(document.data.get("waivers", {}).get("granted", ())))
        ),
        personal_data_language=personal_data["language"],
        personal_data_pipelines=tuple(personal_data["spacy_pipelines"]),
        personal_data_min_score=float(min(scores)),
        personal_data_scopes=tuple(
            Scope(
                paths=tuple(scope["paths"]),
                examine=scope["examine"],
                entities=tuple(scope.get("entities", ())),
                severity=scope.get("severity", "error"),
                because=scope["because"],
            )
            for scope in personal_data["scopes"]
        ),
        data_demands=tuple(_demand(item) for item in _added(documents, "data", "demands")),
        leakage_limits=tuple(LeakageLimit(**item) for item in _added(documents, "data", "leakage")),
        unsearched_media=tuple(
            UnsearchedMedia(**{**item, "kinds": tuple(item["kinds"])})
            for item in _added(documents, "data", "unsearched")
        ),
        quality_gates=tuple(_gate(item) for item in _added(documents, "quality", "gates")),
        leak_gates=tuple(_leak_gate(item) for item in _added(documents, "leaks", "gates")),
        weight_limits=tuple(
            _weight_limit(item) for item in _added(documents, "weights", "lineage")
        ),
        unexamined_weights=tuple(
            UnexaminedWeights(
                **{
                    **item,
                    "relations": tuple(item["relations"]),
                    "reasons": tuple(item["reasons"]),
                }
            )
            for item in _added(documents, "weights", "unexamined")
        ),
        suspicious_matrices=tuple(
            SuspiciousMatrix(**item) for item in _added(documents, "weights", "suspicious")
        ),
        licenses=load_licenses(extra) if extra else load_licenses(),
    )


def _tightens(document: Document) -> Mapping[str, str]:
    tightens: Mapping[str, str] = document.data.get("tighten", {})
    return tightens


def _has_score(document: Document) -> bool:
    return "min_score" in document.data.get("personal_data", {})


def _added(documents: Sequence[Document], section: str, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the extended policy says in a list, then what those that extend it add."""
    for document in reversed(documents):
        yield from document.data.get(section, {}).get(key, ())


def _gate(item: Mapping[str, Any]) -> QualityGate:
    return QualityGate(
        id=item["id"],
        tasks=tuple(item["tasks"]),
        figure=item["figure"],
        of=item["of"],
        where=item.get("where", "test"),
        by=item.get("by", "value"),
        at_least=item.get("at_least"),
        at_most=item.get("at_most"),
        severity=item["severity"],
        because=item["because"],
        source=item["source"],
    )


def _leak_gate(item: Mapping[str, Any]) -> LeakGate:
    return LeakGate(
        id=item["id"],
        tasks=tuple(item["tasks"]),
        measure=item["measure"],
        by=item["by"],
        at_most=item["at_most"],
        up_to_repeats=item.get("up_to_repeats"),
        only_where=item.get("only_where", ""),
        instead=item.get("instead", ""),
        severity=item["severity"],
        unmeasured=item.get("unmeasured", "warning"),
        because=item["because"],
        source=item["source"],
        how_to_fix=item["how_to_fix"],
    )


def _weight_limit(item: Mapping[str, Any]) -> WeightLimit:
    return WeightLimit(
        id=item["id"],
        relations=tuple(item["relations"]),
        measure=item["measure"],
        above=item.get("above"),
        below=item.get("below"),
        severity=item["severity"],
        because=item["because"],
        source=item["source"],
    )


def _demand(item: Mapping[str, Any]) -> Demand:
    return Demand(
        id=item["id"],
        fields=tuple(item["fields"]),
        when=_wanted(item["when"]),
        severity=item["severity"],
        because=item["because"],
        cite=tuple(item["cite"]),
    )


def _wanted(facts: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: listed(wanted) for name, wanted in facts.items()}


def _rule(document: Document, index: int) -> PolicyRule:
    item: Mapping[str, Any] = document.data["rules"][index]
    return PolicyRule(
        id=item["id"],
        when=_wanted(item["when"]),
        knobs=_wanted(item.get("knobs", {})),
        decide=item["decide"],
        because=item["because"],
        because_zh=item.get("because_zh", ""),
        how_to_fix=item.get("how_to_fix", ""),
        how_to_fix_zh=item.get("how_to_fix_zh", ""),
        cite=tuple(item.get("cite", ())),
        waivable=item.get("waivable", True),
        file=document.path,
        position=document.locate(("rules", index)),
        policy=document.data["policy"],
    )


def _tightened(rule: PolicyRule, tightened: Mapping[str, str]) -> PolicyRule:
    return replace(rule, decide=tightened.get(rule.id, rule.decide))


def _reach(document: Document, index: int) -> ReachRule:
    item: Mapping[str, Any] = document.data["reach"][index]
    return ReachRule(
        id=item["id"],
        when=_wanted(item["when"]),
        knobs=_wanted(item.get("knobs", {})),
        reaches=item["reaches"],
        because=item["because"],
        because_zh=item.get("because_zh", ""),
        cite=tuple(item.get("cite", ())),
        file=document.path,
        position=document.locate(("reach", index)),
    )


def _knobs(documents: Sequence[Document]) -> dict[str, Knob]:
    base = documents[-1].data["knobs"]
    knobs: dict[str, Knob] = {}
    for document in reversed(documents):
        for name, said in document.data.get("knobs", {}).items():
            knobs[name] = Knob(
                name=name,
                question=base[name]["question"],
                positions=tuple(base[name]["positions"]),
                set=said["set"],
                owner=said["owner"],
                date=said["date"],
                reason=said["reason"],
                jurisdiction=said["jurisdiction"],
                file=document.path,
                position=document.locate(("knobs", name)),
            )
    return knobs


def _grant(document: Document, index: int) -> Grant:
    item: Mapping[str, Any] = document.data["grants"][index]
    return Grant(
        id=item["id"],
        licensor=item["licensor"],
        upstream=item["upstream"],
        release=item.get("release", ""),
        permits=tuple(item.get("permits", ())),
        lifts=tuple(item.get("lifts", ())),
        discharges=tuple(item.get("discharges", ())),
        own_terms=item.get("own_terms", False),
        owner=item["owner"],
        evidence=item["evidence"],
        signed=item["signed"],
        expires=item["expires"],
        file=document.path,
        position=document.locate(("grants", index)),
    )


def _waiver(document: Document, index: int) -> Waiver:
    item: Mapping[str, Any] = document.data["waivers"]["granted"][index]
    rule, _, clause = item["rule"].partition("/")
    return Waiver(
        id=item["id"],
        rule=rule,
        clause=clause,
        upstream=item.get("upstream", ""),
        path=item.get("path", ""),
        release=item["release"],
        owner=item["owner"],
        approver=item["approver"],
        reason=item["reason"],
        because=item["because"],
        evidence=item["evidence"],
        created=item["created"],
        expires=item["expires"],
        file=document.path,
        position=document.locate(("waivers", "granted", index)),
    )


def _digest(files: tuple[Path, ...], extra: Path | None) -> str:
    parts = {f"policy {number}": sha256_file(file) for number, file in enumerate(files)}
    shipped = (
        *(POLICIES / "licenses").glob("*.yaml"),
        *(POLICIES / "personal_data").rglob("*.yaml"),
        *POLICIES.glob("*.yaml"),
    )
    for path in shipped:
        if path != BASELINE:
            parts[path.relative_to(POLICIES).as_posix()] = sha256_file(path)
    for path in sorted(extra.iterdir()) if extra and extra.is_dir() else ():
        if path.is_file():
            parts[f"own {path.name}"] = sha256_file(path)
    return sha256_bytes(json_bytes(parts))
