"""A policy file: strict to read, with the place of every mistake, and bound by its digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES, SCHEMAS
from release_kit.licensing import policy as policies
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.policy import load_policy
from release_kit.licensing.policy_files import BASELINE, shipped_policies

BASE = BASELINE.read_text(encoding="utf-8")

OVERLAY = """\
policy: team
version: 1
effective_from: "2026-11-23"
owner: legal
extends: baseline@1
"""
RULE = """\
rules:
  - id: team-rule
    when: {release.purpose: commercial}
    decide: review
    because: we look at each of them
"""


def problems(path: Path, text: str | bytes) -> tuple[Problem, ...]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnusableInput) as caught:
        load_policy(path)
    assert caught.value.problems == tuple(sorted(caught.value.problems))
    return caught.value.problems


def changed(*changes: tuple[str, str]) -> str:
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def place(text: str, word: str, skip: int = 0) -> tuple[int, int]:
    """Return line and column of the first `word`, less its first `skip` characters."""
    before, found, _ = text.partition(word)
    assert found, word
    return before.count("\n") + 1, len(before) - before.rfind("\n") + skip


def test_the_baseline_loads_and_says_who_answers_for_it() -> None:
    policy = load_policy()
    assert (policy.name, policy.version, policy.file) == ("baseline", 1, "policies/baseline.yaml")
    assert (policy.extends, policy.tightened, policy.path) == ((), {}, BASELINE)
    assert {rule.decide for rule in policy.rules} == {"allow", "review", "deny"}
    for knob in policy.knobs.values():
        assert knob.owner
        assert knob.reason
        assert knob.set in knob.positions


@pytest.mark.parametrize("name", shipped_policies())
def test_every_reason_and_advice_stands_in_both_languages(name: str) -> None:
    policy = load_policy(name)
    for rule in policy.rules:
        assert rule.because_zh, rule.id
        assert rule.decide == "allow" or (rule.how_to_fix and rule.how_to_fix_zh), rule.id
        assert rule.cite or not any("permission" in fact for fact in rule.when), rule.id
    assert all(line.because_zh for line in policy.reach)


def test_the_shipped_overlays_extend_the_baseline() -> None:
    assert set(shipped_policies()) == {
        "baseline",
        "open",
        "commercial",
        "research-only",
        "internal",
    }
    baseline = load_policy()
    for name in set(shipped_policies()) - {"baseline"}:
        policy = load_policy(name)
        assert (policy.name, policy.extends) == (name, ("baseline 1",))
        own = [rule for rule in policy.rules if rule.policy == name]
        assert len(own) + len(baseline.rules) == len(policy.rules)
        assert own


def test_the_baseline_can_prove_every_condition_of_every_license() -> None:
    kinds = {c.kind for license in load_licenses().values() for c in license.conditions}
    assert kinds <= load_policy().proofs.keys()


def test_a_rule_is_about_an_upstream_or_about_the_release() -> None:
    about = {rule.id: rule.about_upstream for rule in load_policy().rules}
    assert not about["release-license-known"]
    assert about["noncommercial-for-commercial-purpose"]


MISTYPED = [
    ("      upstream.license.verified: false", "      upstream.licence.verified: false",
     "upstream.licence.verified", "did you mean 'upstream.license.verified'?"),
    ("    decide: review", "    decide: reveiw", "decide: reveiw", "did you mean 'review'?"),
    ("downstream_license: terms-travel", "downstream_license: terms-travels",
     "upstream.downstream_license: terms-travels", "did you mean 'terms-travel'?"),
    ("[weights-derived, adapter-delta]\n", "[weights-derived, adaptor-delta]\n",
     "adaptor-delta", "did you mean 'adapter-delta'?"),
    ("cite: [limitation.threshold-users]", "cite: [limitation.threshold-user]",
     "limitation.threshold-user", "did you mean 'limitation.threshold-users'?"),
    ("display-statement: displayed", "display-statement: displaid",
     "display-statement: displaid", "did you mean 'displayed'?"),
    ("\nobligations:", "\nobligation:", "obligation:", "did you mean 'obligations'?"),
    ("severity: error", "severity: eror", "severity: eror", "did you mean 'error'?"),
    ("name_of_the_model: [repo, title]", "name_of_the_model: [repo, titel]",
     "titel", "did you mean 'title'?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "word", "hint"), MISTYPED, ids=lambda value: value[:30])
def test_a_mistyped_word_is_told_with_its_place_and_the_right_one(
    old: str, new: str, word: str, hint: str, tmp_path: Path
) -> None:
    text = changed((old, new))
    found = problems(tmp_path / "policy.yaml", text)
    assert place(text, word) in [(p.line, p.column) for p in found if p.hint == hint]


# Mistakes that no schema can tell: old text, new text, where it is told, what is said, the hint.
UNSOUND = [
    ('    set: "yes"', '    set: "yess"', 'set: "yess"', "no position", "did you mean 'yes'?"),
    ("      service-terms-bind-recipients-of-data: \"yes\"\n    decide",
     "      service-term-binds-recipients: \"yes\"\n    decide",
     "service-term-binds-recipients", "there is no knob", "service-terms-bind-recipients-of-data"),
    ("      model-is-produced-work: \"yes\"", "      model-is-produced-work: maybe",
     "model-is-produced-work: maybe", "no position of model-is-produced-work", "known: no, yes"),
    ("we hold no facts about {release.license}", "we hold no facts about {release.licence}",
     "because: we hold no facts about {release.licence}", "{release.licence} names no fact", ""),
    ("we hold no facts about {release.license}", "we hold no facts about {upstream.license}",
     "because: we hold no facts about {upstream.license}", "asks about no upstream", ""),
    ("      upstream.relation: tool-only\n    reaches", "      upstream.reached: true\n    reaches",
     "upstream.reached: true", "is what this decides", ""),
    ("  - id: seat-excluded", "  - id: user-threshold", "id: user-threshold\n    when:\n"
     "      upstream.seat", "a rule named 'user-threshold'", ""),
    ("  - id: outputs-are-not-the-work", "  - id: tool-is-not-conveyed",
     "id: tool-is-not-conveyed\n    when:\n      upstream.relation: trained-on-outputs",
     "a reach named 'tool-is-not-conveyed'", ""),
    ("owner: legal\n", "owner: legal\nlicenses: absent\n", "licenses: absent",
     "no such folder", ""),
    ("owner: legal\n", "owner: legal\ntighten: {own-terms: deny}\n", "tighten:",
     "nothing to tighten", ""),
    ("    question: Is an adapter", "    # Is an adapter", "adapter-is-derivative:",
     "'question' is missing", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "word", "said", "hint"), UNSOUND, ids=lambda v: v[-25:])
def test_what_no_schema_can_tell_is_told_with_its_place(  # noqa: PLR0917
    old: str, new: str, word: str, said: str, hint: str, tmp_path: Path
) -> None:
    text = changed((old, new))
    found = [p for p in problems(tmp_path / "policy.yaml", text) if said in p.message]
    assert [(p.line, p.column) for p in found] == [place(text, word)], found
    assert all(hint in problem.hint for problem in found)


def test_all_mistakes_are_told_at_once_those_of_the_schema_and_others(tmp_path: Path) -> None:
    """What is broken in one place hides nothing in another; only its own part is left alone."""
    later = [UNSOUND[0], UNSOUND[1], UNSOUND[4], UNSOUND[6]]
    text = changed(*((m[0], m[1]) for m in MISTYPED), *((m[0], m[1]) for m in later))
    found = problems(tmp_path / "policy.yaml", text)
    places = {(p.line, p.column) for p in found}
    # What stands below a key that nobody knows is not looked at.
    hidden = {"display-statement: displaid", "titel"}
    assert {word for _, _, word, _ in MISTYPED if place(text, word) not in places} == hidden
    for _, _, word, said, _ in later:
        told = [(p.line, p.column) for p in found if said in p.message]
        assert told == [place(text, word)], word


def test_mistakes_of_the_policy_that_is_extended_are_told_too(tmp_path: Path) -> None:
    base = changed(("decide: review", "decide: reveiw"), ("id: own-terms", "id: seat-excluded"))
    base = base.replace("policy: baseline", "policy: org", 1)
    (tmp_path / "org.yaml").write_text(base, encoding="utf-8")
    text = OVERLAY.replace("baseline@1", "org.yaml@2") + RULE.replace(
        "decide: review", "decide: no"
    )
    text += "tighten: {seat-exclude: deny, restrictions-lost: review}\n"
    found = problems(tmp_path / "team.yaml", text)
    assert {(Path(p.path).name, p.line, p.column) for p in found} == {
        ("org.yaml", *place(base, "decide: reveiw")),
        ("org.yaml", base[: base.rindex("id: seat-excluded")].count("\n") + 1, 5),
        ("team.yaml", *place(text, "extends")),
        ("team.yaml", *place(text, "decide: no")),
        ("team.yaml", *place(text, "seat-exclude: deny")),
        ("team.yaml", *place(text, "restrictions-lost: review")),
    }, found  # fmt: skip


def test_a_broken_rule_is_not_said_to_be_missing(tmp_path: Path) -> None:
    base = changed(("  - id: own-terms\n", "  - id: 3\n"), ("policy: baseline", "policy: org"))
    (tmp_path / "org.yaml").write_text(base, encoding="utf-8")
    text = OVERLAY.replace("baseline@1", "org.yaml@1") + "tighten: {own-terms: deny}\n"
    found = problems(tmp_path / "team.yaml", text)
    assert {Path(problem.path).name for problem in found} == {"org.yaml"}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("version: 1\n", "version: one\n", "version: one"),
        ('effective_from: "2026-11-23"', "effective_from: soon", "effective_from: soon"),
        ('effective_from: "2026-11-23"', "effective_from: '20261123'", "effective_from: '2026"),
        ("min_score: 0.5", "min_score: 1.5", "min_score: 1.5"),
        ("license.verified: false", "license.verified: no", "release.license.verified: no\n"),
        ("      release.license.kind: license\n", "      {}\n", "when:\n      {}"),
        ("entities: [EMAIL_ADDRESS,", "entities: [e-mail,", "e-mail,"),
        ("      examine: false\n", "", "paths: ["),
    ],
    ids=lambda value: value[:30],
)
def test_a_wrong_value_is_told_with_its_place(
    old: str, new: str, word: str, tmp_path: Path
) -> None:
    text = changed((old, new))
    found = problems(tmp_path / "policy.yaml", text)
    assert place(text, word) in [(problem.line, problem.column) for problem in found]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must be a mapping"),
        ("# only a comment\n", "must be a mapping"),
        ("- id: x\n", "must be a mapping"),
        ("rules\n", "must be a mapping"),
        ("rules: []\n", "is missing"),
        (BASE.encode("utf-16"), "not UTF-8"),
        ("policy: [\n", "not valid YAML"),
        ("policy: &a x\n", "anchors"),
        ("policy: a\npolicy: b\n", "twice"),
    ],
)
def test_a_file_that_is_no_policy_is_told_so(
    content: str | bytes, said: str, tmp_path: Path
) -> None:
    assert any(said in p.message for p in problems(tmp_path / "policy.yaml", content))


def test_a_missing_policy_and_a_folder_are_told_so(tmp_path: Path) -> None:
    for source, said in ((tmp_path / "policy.yaml", "no such file"), (tmp_path, "a directory")):
        with pytest.raises(UnusableInput) as caught:
            load_policy(source)
        (problem,) = caught.value.problems
        assert said in problem.message.lower()
        assert str(problem).startswith(f"{source}: ")
    with pytest.raises(UnusableInput) as caught:
        load_policy("commercail")
    assert caught.value.problems[0].hint == "did you mean 'commercial'?"


# What an overlay may not say: text, where it is told, what is said.
LOOSENED = [
    (RULE.replace("review", "allow"), "decide: allow", "can only tighten"),
    ("tighten: {user-threshold: review}\n", "user-threshold", "would not become stricter"),
    ("tighten: {user-threshold: deny}\n", "user-threshold", "would not become stricter"),
    ("tighten: {user-thresholds: deny}\n", "user-thresholds", "there is no rule"),
    ("tighten: {own-terms: allow}\n", "own-terms", "not one of the words"),
    ("knobs:\n  adapter-is-derivative: {set: 'no', owner: a, date: '2026-01-01', reason: b, "
     "jurisdiction: any}\n", "set: 'no'", "is looser than yes"),
    ("knobs:\n  adapter-is-derivativ: {set: 'no', owner: a, date: '2026-01-01', reason: b, "
     "jurisdiction: any}\n", "adapter-is-derivativ:", "there is no knob"),
    ("knobs:\n  adapter-is-derivative: {set: 'yes', positions: ['no', 'yes'], owner: a, "
     "date: '2026-01-01', reason: b, jurisdiction: any}\n", "adapter-is-derivative:", "question"),
    ("personal_data: {min_score: 0.6}\n", "min_score", "would find less than"),
    ("personal_data: {scopes: [{paths: ['*'], examine: false, because: x}]}\n", "scopes",
     "only the policy that is extended says scopes"),
    ("reach:\n  - {id: x, when: {upstream.relation: trained-on-data}, reaches: false, "
     "because: x}\n", "reach:", "reach belongs into the policy that is extended"),
    ("obligations: {proofs: {registration: license-verdict}, limitations: {}, "
     "name_of_the_model: [repo]}\n", "obligations:", "obligations belongs"),
    ("grants: []\n", "grants:", "grants belongs"),
    ("licenses: mine\n", "licenses:", "licenses belongs"),
    ("waivers: {approvers: [me]}\n", "approvers", "only the policy that is extended says"),
    ("waivers: {longest_days: 9999}\n", "longest_days", "only the policy that is extended says"),
    ("waivers: {may_waive: [vulnerable]}\n", "may_waive", "only the policy that is extended says"),
    (RULE.replace("team-rule", "own-terms"), "id: own-terms", "a rule named 'own-terms' exists"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "word", "said"), LOOSENED, ids=lambda value: value[-30:])
def test_a_policy_that_extends_another_can_only_tighten_it(
    more: str, word: str, said: str, tmp_path: Path
) -> None:
    text = OVERLAY + more
    found = [p for p in problems(tmp_path / "team.yaml", text) if said in p.message]
    assert [(p.line, p.column) for p in found] == [place(text, word)]


def test_a_policy_cannot_loosen_what_the_one_between_made_stricter(tmp_path: Path) -> None:
    between = OVERLAY.replace("policy: team", "policy: org") + (
        "tighten: {own-terms: deny}\npersonal_data: {min_score: 0.3}\n"
        "knobs:\n  model-is-produced-work: {set: 'no', owner: a, date: '2026-01-01', reason: b, "
        "jurisdiction: any}\n"
    )
    (tmp_path / "org.yaml").write_text(between, encoding="utf-8")
    text = OVERLAY.replace("baseline@1", "org.yaml@1") + (
        "tighten: {own-terms: review}\npersonal_data: {min_score: 0.4}\n"
        "knobs:\n  model-is-produced-work: {set: 'yes', owner: a, date: '2026-01-01', reason: b, "
        "jurisdiction: any}\n"
    )
    found = problems(tmp_path / "team.yaml", text)
    assert [(p.line, p.column) for p in found] == [
        place(text, word) for word in ("own-terms", "min_score", "set: 'yes'")
    ]
    policy = load_policy(tmp_path / "org.yaml")
    assert policy.personal_data_min_score == 0.3
    assert policy.rule("own-terms").decide == "deny"  # type: ignore[union-attr]
    assert policy.tightened == {"own-terms": place(between, "own-terms")}


def test_a_policy_that_extends_another_has_all_its_rules(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_text(OVERLAY + RULE, encoding="utf-8")
    policy, base = load_policy(path), load_policy()
    assert [rule.id for rule in policy.rules] == [*(rule.id for rule in base.rules), "team-rule"]
    assert policy.digest != base.digest
    assert policy.reach == base.reach
    assert policy.may_waive == base.may_waive


@pytest.mark.parametrize(
    ("extends", "said", "hint"),
    [
        ("baseline@2", "baseline is at version 1, not 2", "Read what changed"),
        ("baselin@1", "there is no policy 'baselin' to extend", "did you mean 'baseline'?"),
        ("org.yaml@1", "there is no policy 'org.yaml' to extend", "a file beside this one"),
        ("baseline", "not written as it must be", "baseline@1"),
        ("team.yaml@1", "in a circle", ""),
    ],
)
def test_what_is_extended_must_be_there_in_its_version(
    extends: str, said: str, hint: str, tmp_path: Path
) -> None:
    text = OVERLAY.replace("baseline@1", extends)
    (problem,) = problems(tmp_path / "team.yaml", text)
    assert (problem.line, problem.column) == place(text, "extends")
    assert said in problem.message
    assert hint in problem.hint


def test_policies_that_extend_each_other_are_told_so(tmp_path: Path) -> None:
    other = OVERLAY.replace("policy: team", "policy: org").replace("baseline@1", "team.yaml@1")
    (tmp_path / "org.yaml").write_text(other, encoding="utf-8")
    (problem,) = problems(tmp_path / "team.yaml", OVERLAY.replace("baseline@1", "org.yaml@1"))
    assert "in a circle" in problem.message
    assert Path(problem.path).name == "org.yaml"


def test_a_policy_does_not_take_the_name_of_the_one_it_extends(tmp_path: Path) -> None:
    text = OVERLAY.replace("policy: team", "policy: baseline")
    (problem,) = problems(tmp_path / "team.yaml", text)
    assert (problem.line, problem.column) == (1, 1)
    assert "is named 'baseline' too" in problem.message


WAIVER: dict[str, Any] = {
    "id": "w-1",
    "rule": "license-review",
    "upstream": "acme/part",
    "release": "acme/topics@1.0.0",
    "owner": "Jane",
    "approver": "Legal",
    "reason": "legal-opinion",
    "because": "it was looked at",
    "evidence": "ticket 7",
    "created": "2026-11-01",
    "expires": "2026-12-01",
}


def with_waivers(*waivers: dict[str, Any]) -> str:
    lines = "".join(f"    - {json.dumps(waiver)}\n" for waiver in waivers)
    return changed(
        ("approvers: []", "approvers: [Legal, Jane]"), ("  granted: []\n", f"  granted:\n{lines}")
    )


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"approver": "Joe"}, "approver", "'Joe' is not among those who may approve"),
        ({"approver": "Jane"}, "approver", "nobody approves a waiver of their own"),
        ({"owner": " LEGAL "}, "approver", "nobody approves a waiver of their own"),
        ({"owner": "Le\u200bgal."}, "approver", "nobody approves a waiver of their own"),
        ({"owner": "Leg\u0430l"}, "owner", "has letters of two alphabets"),
        ({"expires": "2027-12-01"}, "expires", "it would hold 395 days; the longest is 180"),
        ({"expires": "2026-10-01"}, "expires", "it expires before it is created"),
        ({"rule": "secret-found"}, "rule", "secret-found may not be waived"),
        ({"rule": "license-denied/release-license-unknown"}, "rule", "may not be waived"),
        ({"reason": "because"}, "reason", "not one of the words"),
        ({"expires": "1.12.2026"}, "expires", "must be a day"),
        ({"path": "README.md"}, "", "exactly one of these must stand here: upstream, path"),
        ({"upstream": None}, "upstream", "must be text"),
    ],
)
def test_a_waiver_must_be_one_that_may_be_given(
    change: dict[str, Any], key: str, said: str, tmp_path: Path
) -> None:
    text = with_waivers({**WAIVER, **change})
    found = [p for p in problems(tmp_path / "policy.yaml", text) if said in p.message]
    line, column = place(text, '{"id": "w-1"')
    if key:
        column += text.splitlines()[line - 1][column - 1 :].index(f'"{key}"')
    assert [(p.line, p.column) for p in found] == [(line, column)]


def test_a_waiver_that_may_be_given_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(with_waivers(WAIVER, {**WAIVER, "id": "w-2"}), encoding="utf-8")
    first, second = load_policy(path).waivers
    assert (first.id, first.rule, first.clause, second.id) == ("w-1", "license-review", "", "w-2")


def test_two_waivers_of_one_name_are_refused_also_in_two_files(tmp_path: Path) -> None:
    text = with_waivers(WAIVER, WAIVER)
    (problem,) = problems(tmp_path / "policy.yaml", text)
    assert "a waiver named 'w-1' exists" in problem.message
    base = with_waivers(WAIVER).replace("policy: baseline", "policy: org", 1)
    (tmp_path / "org.yaml").write_text(base, encoding="utf-8")
    overlay = OVERLAY.replace("baseline@1", "org.yaml@1")
    overlay += f"waivers:\n  granted:\n    - {json.dumps(WAIVER)}\n"
    (problem,) = problems(tmp_path / "team.yaml", overlay)
    assert "a waiver named 'w-1' exists in what this policy extends" in problem.message
    assert (problem.line, problem.column) == place(overlay, '{"id"')


def test_an_overlay_grants_waivers_only_by_the_approvers_of_what_it_extends(
    tmp_path: Path,
) -> None:
    overlay = OVERLAY + f"waivers:\n  granted:\n    - {json.dumps(WAIVER)}\n"
    (problem,) = problems(tmp_path / "team.yaml", overlay)
    assert "'Legal' is not among those who may approve" in problem.message


def test_a_grant_must_hold_some_day_and_give_something(tmp_path: Path) -> None:
    grant = {"id": "g", "licensor": "Meta", "upstream": "meta/llama", "owner": "legal",
             "evidence": "contract 5", "signed": "2026-01-01", "expires": "2025-01-01",
             "lifts": ["threshold-users"]}  # fmt: skip
    text = changed(("grants: []", f"grants: [{json.dumps(grant)}]"))
    (problem,) = problems(tmp_path / "policy.yaml", text)
    assert (problem.line, problem.column) == place(text, '"expires"')
    twin = {**grant, "expires": "2027-01-01"}
    text = changed(("grants: []", f"grants: [{json.dumps(twin)}, {json.dumps(twin)}]"))
    (problem,) = problems(tmp_path / "policy.yaml", text)
    assert "a grant named 'g' exists" in problem.message


def test_own_licenses_cannot_replace_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copyfile(POLICIES / "licenses" / "mit.yaml", tmp_path / "mine" / "mit.yaml")
    text = changed(("owner: legal\n", "owner: legal\nlicenses: mine\n"))
    (problem,) = problems(tmp_path / "policy.yaml", text)
    assert (problem.line, problem.column) == place(text, "licenses: mine")
    assert "mit.yaml would replace what is shipped" in problem.message


def test_the_digest_changes_with_any_byte_that_it_binds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    monkeypatch.setattr(policies, "POLICIES", shipped)
    monkeypatch.setattr(policies, "BASELINE", shipped / "baseline.yaml")

    def digest() -> str:
        files = (shipped / "baseline.yaml", shipped / "overlays" / "open.yaml")
        return policies._digest(files, None)

    before = digest()
    assert before == digest()
    bound = [*shipped.glob("*.yaml"), *(shipped / "licenses").glob("*.yaml")]
    bound += [shipped / "overlays" / "open.yaml"]
    seen = {before}
    for path in bound:
        kept = path.read_bytes()
        path.write_bytes(kept + b"#")
        seen.add(digest())
        path.write_bytes(kept)
    (shipped / "licenses" / "more.yaml").write_bytes(b"")
    seen.add(digest())
    assert len(seen) == 1 + len(bound) + 1
    (shipped / "licenses" / "more.yaml").unlink()
    assert digest() == before


def test_the_same_policy_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "other.yaml"
    shutil.copyfile(BASELINE, copy)
    assert load_policy(copy).digest == load_policy().digest


def test_every_fact_that_a_rule_may_ask_for_can_be_told() -> None:
    """The words of the schema are those that the facts answer; see also the tests of facts."""
    schema = json.loads((SCHEMAS / "policy.schema.json").read_text("utf-8"))
    words = set(schema["$defs"]["when"]["properties"])
    assert {fact for rule in load_policy().rules for fact in rule.when} <= words
