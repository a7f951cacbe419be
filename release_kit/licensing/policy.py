"""A policy as frozen values: rules, knobs, grants, waivers, proofs, scopes of personal data.

A policy may extend another one, and can then only tighten it: add rules that review or deny, make
a rule of the other stricter, and move a knob towards its strict end.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES, json_bytes, sha256_bytes, sha256_file
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.strict_yaml import Document, Pointer, Position, check, read_yaml

BASELINE = POLICIES / "baseline.yaml"
OVERLAYS = POLICIES / "overlays"

DECISIONS = ("allow", "review", "deny")
"""The mildest first."""

FactValue = str | bool

# The facts that a rule's reason may name in braces.
_NAMED_FACTS = frozenset(
    {
        "upstream.id",
        "upstream.role",
        "upstream.relation",
        "upstream.license",
        "release.license",
        "release.purpose",
        "release.visibility",
        "organization.kind",
        "organization.seat",
    }
)
_ABOUT_UPSTREAM = ("upstream.",)


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
        return any(fact.startswith(_ABOUT_UPSTREAM) for fact in self.when)


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


def shipped_policies() -> Mapping[str, Path]:
    """Return the shipped policies, by name."""
    return {BASELINE.stem: BASELINE} | {path.stem: path for path in sorted(OVERLAYS.glob("*.yaml"))}


def policy_file(policy: Path | str | None) -> Path:
    """Return the file that a policy's name or path stands for; "" and None mean the baseline."""
    if not policy:
        return BASELINE
    return shipped_policies().get(str(policy), Path(policy))


def _shown(file: Path) -> str:
    if file.is_relative_to(POLICIES):
        return f"policies/{file.relative_to(POLICIES)}"
    try:
        return str(file.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(file)


@dataclass(frozen=True)
class PolicyFile:
    """One file of a policy, with those of its parts that break the schema."""

    document: Document
    file: Path
    broken: frozenset[Pointer]
    """What breaks the schema; nothing more is said about these parts."""

    @property
    def overlay(self) -> bool:
        """True when it extends another policy."""
        return "extends" in self.document.data

    def part(self, *pointer: str | int) -> Any:
        """Return what stands at `pointer`; None when nothing does or it breaks the schema."""
        value = self.document.data
        for key in pointer:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        broken = any(place[: len(pointer)] == pointer for place in self.broken)
        return None if broken else value

    def items(self, *pointer: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield index and item of the list at `pointer`, without those that break the schema."""
        for index in range(len(_list(self.document.data, *pointer))):
            item = self.part(*pointer, index)
            if item is not None:
                yield index, item

    def named(self, *pointer: str) -> Iterator[tuple[str, Any]]:
        """Yield name and value of the mapping at `pointer`, without those that break the schema."""
        for name in _mapping(self.document.data, *pointer):
            value = self.part(*pointer, name)
            if value is not None:
                yield name, value

    def problem(self, pointer: Sequence[str | int], message: str, hint: str = "") -> Problem:
        """Return a mistake with its place in this file."""
        return Problem(self.document.path, *self.document.locate(pointer), message, hint)


@dataclass(frozen=True)
class Chain:
    """The files of a policy, the nearest first, and all that is wrong with them."""

    name: str
    """The file that was asked for, as errors show it."""
    files: tuple[PolicyFile, ...]
    mistakes: tuple[Problem, ...]

    @property
    def own_licenses(self) -> Path | None:
        """The folder with the policy's own licenses, whether it exists or not; None for none."""
        last = self.files[-1] if self.files else None
        return _own_licenses(last) if last and not last.overlay else None


def read_chain(policy: Path | str | None = None) -> Chain:
    """Read a policy and all that it extends, and find every mistake that can be told.

    What stands in a part that breaks the schema is not judged further, and rules are held against
    those of the extended policy only where that one could be read.
    """
    file: Path | None = policy_file(policy)
    name = _shown(policy_file(policy))
    files: list[PolicyFile] = []
    mistakes: list[Problem] = []
    while file is not None:
        if any(file.resolve() == seen.file.resolve() for seen in files):
            said = "the policies extend each other in a circle"
            mistakes.append(files[-1].problem(("extends",), said))
            break
        try:
            read, wrong = _read_file(file)
        except UnusableInput as error:
            shown = _shown(file)
            said = error.message.removeprefix(f"{shown}: ")
            hint = "" if file.exists() else _near(str(policy), shipped_policies(), "a file, or: ")
            mistakes.extend(error.problems or [Problem(shown, 0, 0, said, error.hint or hint)])
            break
        mistakes.extend(wrong)
        if files:
            mistakes.extend(_wrong_version(files[-1], read))
        files.append(read)
        if not read.overlay:
            mistakes.extend(_chain_mistakes(files))
            break
        file, wrong = _extended(read)
        mistakes.extend(wrong)
    mistakes.extend(problem for read in files for problem in _own_mistakes(read))
    return Chain(name, tuple(files), tuple(dict.fromkeys(mistakes)))


def _read_file(file: Path) -> tuple[PolicyFile, Sequence[Problem]]:
    document = read_yaml(file, shown_as=_shown(file))
    try:
        check(document, "policy")
    except UnusableInput as error:
        if not isinstance(document.data, dict):
            raise
        wrong = {(problem.line, problem.column) for problem in error.problems}
        broken = {place for place, where in document.positions.items() if place and where in wrong}
        return PolicyFile(document, file, frozenset(broken)), error.problems
    return PolicyFile(document, file, frozenset()), ()


def _extended(read: PolicyFile) -> tuple[Path | None, Sequence[Problem]]:
    extends = read.part("extends")
    if extends is None:
        return None, ()
    name = extends.rpartition("@")[0]
    shipped = shipped_policies()
    file = shipped.get(name, read.file.parent / name)
    if file.is_file():
        return file, ()
    hint = _near(name, shipped, "a file beside this one, or one of: ")
    return None, [read.problem(("extends",), f"there is no policy '{name}' to extend", hint)]


def _wrong_version(read: PolicyFile, extended: PolicyFile) -> Iterator[Problem]:
    wanted = int(read.part("extends").rpartition("@")[2])
    name, actual = extended.part("policy"), extended.part("version")
    if actual is not None and wanted != actual:
        yield read.problem(
            ("extends",),
            f"{name or extended.document.path} is at version {actual}, not {wanted}",
            f"Read what changed in {extended.document.path}, then write @{actual}.",
        )
    if name is not None and name == read.part("policy"):
        yield read.problem(
            ("policy",), f"the policy that is extended is named '{name}' too", "Give it its own."
        )


def _list(data: Any, *pointer: str) -> Sequence[Any]:
    for key in pointer:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, list) else ()


def _mapping(data: Any, *pointer: str) -> Mapping[str, Any]:
    for key in pointer:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _near(word: str, known: Iterable[str], else_: str = "known: ") -> str:
    """Return a hint at the word that was meant, else all of them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"{else_}{', '.join(names) or 'none'}"


def _own_mistakes(read: PolicyFile) -> Iterator[Problem]:
    """Yield what is wrong in one file, whatever it extends."""
    yield from _unknown_facts(read)
    yield from _twins(read)
    yield from _dates(read)
    for index, item in read.items("rules"):
        if read.overlay and item["decide"] == DECISIONS[0]:
            yield read.problem(
                ("rules", index, "decide"),
                "a policy that extends another can only tighten it",
                "decide review or deny; what is allowed stands in the policy it extends",
            )
    for index, item in read.items("reach"):
        if "upstream.reached" in item["when"]:
            yield read.problem(
                ("reach", index, "when", "upstream.reached"),
                "whether it is reached is what this decides",
            )
    yield from _overlay_mistakes(read) if read.overlay else _base_mistakes(read)


def _overlay_mistakes(read: PolicyFile) -> Iterator[Problem]:
    for key in ("reach", "obligations", "grants", "licenses"):
        if key in read.document.data:
            yield read.problem(
                (key,),
                f"{key} belongs into the policy that is extended, not into one that extends it",
                "here: rules, tighten, knobs, waivers.granted, personal_data.min_score",
            )
    for section, here in (("waivers", {"granted"}), ("personal_data", {"min_score"})):
        for key in sorted(set(_mapping(read.document.data, section)) - here):
            yield read.problem((section, key), f"only the policy that is extended says {key}")
    for name, knob in read.named("knobs"):
        if {"question", "positions"} & set(knob):
            yield read.problem(("knobs", name), "question and positions stand in what is extended")


def _base_mistakes(read: PolicyFile) -> Iterator[Problem]:
    for name, knob in read.named("knobs"):
        for key in sorted({"question", "positions"} - set(knob)):
            yield read.problem(("knobs", name), f"'{key}' is missing in knob {name}")
    if "tighten" in read.document.data:
        yield read.problem(("tighten",), "there is nothing to tighten without extends")
    folder = _own_licenses(read)
    if folder:
        try:
            load_licenses(folder)
        except UnusableInput as error:
            yield read.problem(("licenses",), error.message, error.hint)


def _own_licenses(read: PolicyFile) -> Path | None:
    name = read.part("licenses")
    return read.file.parent / name if name else None


def _unknown_facts(read: PolicyFile) -> Iterator[Problem]:
    known = ", ".join(sorted(_NAMED_FACTS))
    for index, item in read.items("rules"):
        about_upstream = any(fact.startswith(_ABOUT_UPSTREAM) for fact in item["when"])
        for key in ("because", "because_zh", "how_to_fix", "how_to_fix_zh"):
            for name in re.findall(r"\{([^}]*)\}", item.get(key, "")):
                if name not in _NAMED_FACTS:
                    yield read.problem(
                        ("rules", index, key), f"{{{name}}} names no fact", f"known here: {known}"
                    )
                elif name.startswith(_ABOUT_UPSTREAM) and not about_upstream:
                    yield read.problem(
                        ("rules", index, key),
                        f"the rule asks about no upstream, so {{{name}}} cannot be filled in",
                    )


def _twins(read: PolicyFile) -> Iterator[Problem]:
    for pointer in (("rules",), ("reach",), ("grants",), _GRANTED):
        seen: set[str] = set()
        # A rule that breaks the schema elsewhere has its name all the same.
        for index, item in enumerate(_list(read.document.data, *pointer)):
            name = item.get("id") if isinstance(item, dict) else None
            if isinstance(name, str) and name in seen:
                what = "waiver" if pointer == _GRANTED else pointer[-1].removesuffix("s")
                yield read.problem((*pointer, index), f"a {what} named '{name}' exists")
            if isinstance(name, str):
                seen.add(name)


_GRANTED = ("waivers", "granted")


def _dates(read: PolicyFile) -> Iterator[Problem]:
    for pointer, begins, said in (
        (("grants",), "signed", "it expires before it is signed"),
        (_GRANTED, "created", "it expires before it is created"),
    ):
        for index, item in read.items(*pointer):
            if item["expires"] < item[begins]:
                yield read.problem((*pointer, index, "expires"), said)


def _chain_mistakes(files: Sequence[PolicyFile]) -> Iterator[Problem]:
    """Yield what is wrong between a policy and those it extends; `files` ends with the last."""
    knobs = _Knobs(_mapping(files[-1].document.data, "knobs"), {})
    for read in reversed(files):
        yield from _knob_mistakes(read, knobs)
    yield from _rule_mistakes(files)
    least: float | None = None
    for read in reversed(files):
        score = read.part("personal_data", "min_score")
        if score is not None and least is not None and score > least:
            yield read.problem(
                ("personal_data", "min_score"),
                f"{score} would find less than {least} does, and this policy can only tighten",
            )
        elif score is not None:
            least = score
    yield from _waiver_mistakes(files)


def _rule_mistakes(files: Sequence[PolicyFile]) -> Iterator[Problem]:
    # None for a rule whose decision cannot be read.
    rules: dict[str, str | None] = {}
    all_named = True
    for read in reversed(files):
        items = _list(read.document.data, "rules")
        for index, item in enumerate(items):
            name = item.get("id") if isinstance(item, dict) else None
            if not isinstance(name, str):
                all_named = False
                continue
            # A twin within one file is told where the file is read by itself.
            if name in rules and not any(
                isinstance(o, dict) and o.get("id") == name for o in items[:index]
            ):
                yield read.problem(
                    ("rules", index),
                    f"a rule named '{name}' exists in what this policy extends",
                    "to make that one stricter, name it under tighten",
                )
            rules.setdefault(name, read.part("rules", index, "decide"))
        if not read.overlay:
            continue
        for rule_id, decide in read.named("tighten"):
            place = ("tighten", rule_id)
            if rule_id not in rules:
                if all_named:
                    said = f"there is no rule '{rule_id}' to tighten"
                    yield read.problem(place, said, _near(rule_id, rules))
                continue
            actual = rules[rule_id]
            if actual is not None and DECISIONS.index(decide) <= DECISIONS.index(actual):
                yield read.problem(place, f"{actual} would not become stricter by {decide}")
            else:
                rules[rule_id] = decide


@dataclass(frozen=True)
class _Knobs:
    """What the last of the extended policies says about its knobs, sound or not."""

    said: Mapping[str, Any]
    set_to: dict[str, str]

    def positions(self, name: str) -> Sequence[str]:
        """Return a knob's positions; none when they cannot be read."""
        return _list(self.said.get(name), "positions")


def _knob_mistakes(read: PolicyFile, knobs: _Knobs) -> Iterator[Problem]:
    for name, knob in read.named("knobs"):
        if name not in knobs.said:
            hint = _near(name, knobs.said)
            yield read.problem(("knobs", name), f"there is no knob '{name}'", hint)
            continue
        positions, position = knobs.positions(name), knob["set"]
        place = ("knobs", name, "set")
        if not positions:
            continue
        if position not in positions:
            hint = _near(position, positions)
            yield read.problem(place, f"'{position}' is no position of {name}", hint)
        elif positions.index(position) > positions.index(knobs.set_to.get(name, positions[-1])):
            yield read.problem(
                place,
                f"{position} is looser than {knobs.set_to[name]}, and this policy can only tighten",
                f"the strictest is {positions[0]}",
            )
        else:
            knobs.set_to[name] = position
    for key in ("rules", "reach"):
        for index, item in read.items(key):
            for name, wanted in item.get("knobs", {}).items():
                where = (key, index, "knobs", name)
                if name not in knobs.said:
                    hint = _near(name, knobs.said)
                    yield read.problem(where, f"there is no knob '{name}'", hint)
                    continue
                known = knobs.positions(name)
                for word in _listed(wanted):
                    if known and word not in known:
                        hint = _near(word, known)
                        yield read.problem(where, f"'{word}' is no position of {name}", hint)


def _waiver_mistakes(files: Sequence[PolicyFile]) -> Iterator[Problem]:
    base = files[-1]
    may_waive = base.part("waivers", "may_waive")
    approvers = base.part("waivers", "approvers")
    longest = base.part("waivers", "longest_days")
    unwaivable = {
        item["id"]
        for read in files
        for _, item in read.items("rules")
        if not item.get("waivable", True)
    }
    known: set[str] = set()
    for read in reversed(files):
        items = dict(read.items(*_GRANTED))
        for index, item in items.items():
            place = (*_GRANTED, index)
            rule, _, clause = item["rule"].partition("/")
            if item["id"] in known:
                said = f"a waiver named '{item['id']}' exists in what this policy extends"
                yield read.problem(place, said)
            if may_waive is not None and rule not in may_waive:
                yield read.problem(
                    (*place, "rule"),
                    f"{rule} may not be waived",
                    f"what may: {', '.join(may_waive) or 'nothing'}",
                )
            if clause in unwaivable:
                said = f"the policy rule {clause} may not be waived"
                yield read.problem((*place, "rule"), said)
            if approvers is not None and item["approver"] not in approvers:
                yield read.problem(
                    (*place, "approver"),
                    f"'{item['approver']}' is not among those who may approve a waiver",
                    f"who may: {', '.join(approvers) or 'nobody; name someone there'}",
                )
            if _person(item["approver"]) == _person(item["owner"]):
                yield read.problem((*place, "approver"), "nobody approves a waiver of their own")
            days = (date.fromisoformat(item["expires"]) - date.fromisoformat(item["created"])).days
            if longest is not None and days > longest:
                said = f"it would hold {days} days; the longest is {longest}"
                yield read.problem((*place, "expires"), said)
        known |= {item["id"] for item in items.values()}


def _person(name: str) -> str:
    # Capitals and blanks do not make another person.
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _policy(files: Sequence[PolicyFile]) -> Policy:
    documents = [read.document for read in files]
    top, base = documents[0], documents[-1]
    tightened = {
        rule_id: decide
        for document in reversed(documents)
        for rule_id, decide in _tightens(document).items()
    }
    extra = _own_licenses(files[-1])
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
        licenses=load_licenses(extra) if extra else load_licenses(),
    )


def _tightens(document: Document) -> Mapping[str, str]:
    return _mapping(document.data, "tighten")


def _has_score(document: Document) -> bool:
    return "min_score" in document.data.get("personal_data", {})


def _listed(wanted: Any) -> tuple[Any, ...]:
    return tuple(wanted) if isinstance(wanted, list) else (wanted,)


def _wanted(facts: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: _listed(wanted) for name, wanted in facts.items()}


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
    shipped = (*(POLICIES / "licenses").glob("*.yaml"), *POLICIES.glob("*.yaml"))
    for path in shipped:
        if path != BASELINE:
            parts[path.name] = sha256_file(path)
    for path in sorted(extra.iterdir()) if extra and extra.is_dir() else ():
        if path.is_file():
            parts[f"own {path.name}"] = sha256_file(path)
    return sha256_bytes(json_bytes(parts))
