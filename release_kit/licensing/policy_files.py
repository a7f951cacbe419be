"""The files of a policy: a policy and those it extends, and everything that is wrong with them.

A policy may extend another one, and can then only tighten it: add rules that review or deny, make
a rule of the other stricter, move a knob towards its strict end, and add to what is asked of data,
quality, weights and leaks. Mistakes are told all at once, with the line and column of each.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.figures import CLASS_FIGURES, FIGURES, FIGURES_OF
from release_kit.files import POLICIES, shown
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES, MEASURES_OF
from release_kit.licensing.licenses import load_licenses
from release_kit.strict_yaml import Document, Pointer, check, read_yaml

BASELINE = POLICIES / "baseline.yaml"
OVERLAYS = POLICIES / "overlays"

DECISIONS = ("allow", "review", "deny")
"""The mildest first."""

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
ABOUT_UPSTREAM = ("upstream.",)


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
    return shown(file)


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
        return own_licenses_of(last) if last and not last.overlay else None


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
    for gates, mistakes in ((_GATES, _gate_mistakes), (_LEAK_GATES, _leak_gate_mistakes)):
        for index, item in read.items(*gates):
            for key, said, hint in mistakes(item):
                yield read.problem((*gates, index, key), said, hint)
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
                "here: rules, tighten, knobs, waivers.granted, personal_data.min_score, data,"
                " quality, weights, leaks",
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
    folder = own_licenses_of(read)
    if folder:
        try:
            load_licenses(folder)
        except UnusableInput as error:
            yield read.problem(("licenses",), error.message, error.hint)


def own_licenses_of(read: PolicyFile) -> Path | None:
    """Return the folder with license files of its own that a policy names; None for none."""
    name = read.part("licenses")
    return read.file.parent / name if name else None


def _unknown_facts(read: PolicyFile) -> Iterator[Problem]:
    known = ", ".join(sorted(_NAMED_FACTS))
    for index, item in read.items("rules"):
        about_upstream = any(fact.startswith(ABOUT_UPSTREAM) for fact in item["when"])
        for key in ("because", "because_zh", "how_to_fix", "how_to_fix_zh"):
            for name in re.findall(r"\{([^}]*)\}", item.get(key, "")):
                if name not in _NAMED_FACTS:
                    yield read.problem(
                        ("rules", index, key), f"{{{name}}} names no fact", f"known here: {known}"
                    )
                elif name.startswith(ABOUT_UPSTREAM) and not about_upstream:
                    yield read.problem(
                        ("rules", index, key),
                        f"the rule asks about no upstream, so {{{name}}} cannot be filled in",
                    )


def _gate_mistakes(item: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield key, mistake and hint for a gate that no figure can meet, or that none can miss."""
    name, of = item["figure"], item["of"]
    kind = FIGURES.get(name) or CLASS_FIGURES[name]
    for task in item["tasks"]:
        if name not in FIGURES_OF[task]:
            said = f"{task} gives no {name}, so the gate could never be met"
            yield "figure", said, _near(name, FIGURES_OF[task])
    if not kind.summed and of == "gain":
        yield "of", f"{name} is not measured for a baseline", "here: value, change"
    if item.get("by") == "interval" and (not kind.summed or of == "change"):
        what = name if of == "value" else "a change since the last release"
        yield "by", f"{what} has no interval", "write by: value"
    where = item.get("where", "test")
    if where != "test" and (not kind.summed or of == "change"):
        what = name if of == "value" else "a change since the last release"
        yield "where", f"{what} is measured on all test records only", "write where: test"
    key = "at_least" if "at_least" in item else "at_most"
    if kind.lower_is_better != (key == "at_most"):
        better, right = ("lower", "at_most") if kind.lower_is_better else ("higher", "at_least")
        yield key, f"{name} is better the {better} it is", f"write {right}"
        return
    yield from _out_of_reach(name, item, key, 0.0 if of == "value" else -kind.most, kind.most)


def _leak_gate_mistakes(item: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield key, mistake and hint for a gate about what is not measured, or that says nothing."""
    name = item["measure"]
    kind = MEASURES[name]
    for task in item["tasks"]:
        known = FOLDER_MEASURES if task == "any" else MEASURES_OF[task]
        models = "models of any task" if task == "any" else f"models for {task}"
        for key in ("measure", "instead"):
            if key in item and item[key] not in known:
                said = f"{item[key]} is not measured of {models}, so the gate could never be met"
                yield key, said, _near(item[key], known)
    if item.get("instead") == name:
        yield "instead", f"{name} cannot stand in for itself", "take it out"
    if "up_to_repeats" in item and not kind.by_repeats:
        said = f"{name} is not told apart by how often something stands in the training data"
        yield "up_to_repeats", said, "take it out"
    where = item.get("only_where")
    if where and not name.startswith(_MEASURED_WHERE[where]):
        said = f"{name} is measured everywhere, and this gate would be silent without {where}"
        yield "only_where", said, "take it out"
    yield from _out_of_reach(name, item, "at_most", kind.least, kind.most)


_MEASURED_WHERE = {"canaries-planted": "canary_", "values-redacted": "redacted_"}


def _out_of_reach(
    name: str, item: Mapping[str, Any], key: str, least: float, most: float
) -> Iterator[tuple[str, str, str]]:
    limit = item[key]
    # What everything reaches, and what nothing does.
    trivial, hopeless = limit <= least, limit > most
    if key == "at_most":
        trivial, hopeless = limit >= most, limit < least
    if trivial or hopeless:
        said = "can never fire" if trivial else "can never be met"
        yield key, f"the gate {said}: {name} lies between {least:g} and {most:g} here", ""


def _twins(read: PolicyFile) -> Iterator[Problem]:
    for pointer in (("rules",), ("reach",), ("grants",), _GRANTED, *_ADDED_TO):
        seen: set[str] = set()
        # A rule that breaks the schema elsewhere has its name all the same.
        for index, item in enumerate(_list(read.document.data, *pointer)):
            name = item.get("id") if isinstance(item, dict) else None
            if isinstance(name, str) and name in seen:
                what = _ONE_OF[pointer[-1]]
                yield read.problem((*pointer, index), f"a {what} named '{name}' exists")
            if isinstance(name, str):
                seen.add(name)


_GRANTED = ("waivers", "granted")
_GATES = ("quality", "gates")
_LEAK_GATES = ("leaks", "gates")
_ADDED_TO = (
    ("data", "demands"),
    ("data", "leakage"),
    ("data", "unsearched"),
    _GATES,
    _LEAK_GATES,
    ("weights", "lineage"),
    ("weights", "unexamined"),
    ("weights", "suspicious"),
)
_ONE_OF = {
    "rules": "rule",
    "reach": "reach",
    "grants": "grant",
    "granted": "waiver",
    "demands": "demand",
    "leakage": "limit",
    "unsearched": "line",
    "gates": "gate",
    "lineage": "limit",
    "unexamined": "line",
    "suspicious": "matrix",
}


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
    yield from _twins_of_extended(files)


def _twins_of_extended(files: Sequence[PolicyFile]) -> Iterator[Problem]:
    for pointer in _ADDED_TO:
        known: set[str] = set()
        for read in reversed(files):
            items = dict(read.items(*pointer))
            for index, item in items.items():
                if item["id"] in known:
                    said = f"a {_ONE_OF[pointer[-1]]} named '{item['id']}' exists"
                    place = (*pointer, index)
                    yield read.problem(place, f"{said} in what this policy extends")
            known |= {item["id"] for item in items.values()}


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
                for word in listed(wanted):
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
                    _near(
                        rule,
                        may_waive,
                        "a rule of the policy goes behind one of the audit and a slash; "
                        "what may be waived: ",
                    ),
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
            for key in ("owner", "approver"):
                if _is_mixed(item[key]):
                    said = f"a word of '{item[key]}' has letters of two alphabets"
                    yield read.problem((*place, key), said, "write the name in one")
            days = (date.fromisoformat(item["expires"]) - date.fromisoformat(item["created"])).days
            if longest is not None and days > longest:
                said = f"it would hold {days} days; the longest is {longest}"
                yield read.problem((*place, "expires"), said)
        known |= {item["id"] for item in items.values()}


def _person(name: str) -> str:
    # Capitals, blanks, points and what cannot be seen do not make another person.
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _is_mixed(name: str) -> bool:
    """Tell whether one word has letters of two alphabets whose letters look alike."""
    alphabets = ({unicodedata.name(c, "").split(" ")[0] for c in word} for word in name.split())
    return any(len(word & {"CYRILLIC", "GREEK", "LATIN"}) > 1 for word in alphabets)


def listed(wanted: Any) -> tuple[Any, ...]:
    """Return what a fact may be: a list means any of its items."""
    return tuple(wanted) if isinstance(wanted, list) else (wanted,)
