"""The tests beside a policy, and what `policy check` finds besides mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import Problem, UnusableInput
from release_kit.files import SCHEMAS
from release_kit.licensing.obligations import CONFLICTS
from release_kit.licensing.policy import Policy, PolicyRule, load_policy
from release_kit.licensing.policy_check import examine, never
from release_kit.licensing.policy_files import BASELINE
from release_kit.licensing.policy_tests import read_tests, run_tests, untested
from tests.licensing.lineages import DAY
from tests.licensing.test_policy import OVERLAY, RULE, WAIVER, changed, place, with_waivers

HEAD = """\
policy: team
defaults:
  release: {license: apache-2.0, purpose: commercial, visibility: public}
  organization: {kind: company}
"""
PAIR = """\
rules:
  - rule: team-rule
    decides: review
    fires: {}
    silent:
      release: {purpose: research}
"""


def team(folder: Path, tests: str, policy: str = OVERLAY + RULE) -> Policy:
    """Return a policy that has these tests."""
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "team.yaml").write_text(policy, encoding="utf-8")
    (folder / "tests" / "team.yaml").write_text(tests, encoding="utf-8")
    return load_policy(folder / "team.yaml")


def mistakes(folder: Path, tests: str) -> tuple[Problem, ...]:
    with pytest.raises(UnusableInput) as caught:
        read_tests(team(folder, tests))
    return caught.value.problems


def failures(folder: Path, tests: str) -> list[str]:
    policy = team(folder, tests)
    return [str(failure) for failure in run_tests(policy, read_tests(policy))]


def test_tests_that_hold_say_nothing(tmp_path: Path) -> None:
    assert failures(tmp_path, HEAD + PAIR) == []
    policy = load_policy(tmp_path / "team.yaml")
    assert list(untested(policy, read_tests(policy))) == []


def test_a_test_that_does_not_hold_tells_what_was_expected_and_what_came(tmp_path: Path) -> None:
    text = HEAD + PAIR.replace("fires: {}", "fires:\n      release: {purpose: noncommercial}")
    text = text.replace("{purpose: research}", "{gating: manual}")
    fires, silent = failures(tmp_path, text)
    file = tmp_path / "tests" / "team.yaml"
    assert fires.splitlines() == [
        f"{file}:8:5: rule team-rule fires",
        "    expected that it decides review; what spoke: release-license-known (allow)",
    ]
    assert silent.splitlines() == [
        f"{file}:10:5: rule team-rule stays silent",
        "    expected that it says nothing; it says review",
    ]


CASE = """\
cases:
  - case: Llama under Apache
    lineage: {base_models: [{license: llama3.1}], adapters: [{license: bigcode-openrail-m}]}
    organization: {monthly_active_users: 5}
    expect: EXPECT
"""
HOLDS = "{verdict: deny, objections: [team-rule, terms-travel-other-license, restrictions-lost]}"


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        (HOLDS, ""),
        (HOLDS.replace("deny", "review"), "verdict: expected review, got deny"),
        (HOLDS.replace("team-rule, ", ""), "objections: expected restrictions-lost, terms"),
        (HOLDS.replace("team-rule", "team-rule, user-threshold"), "objections: expected "),
        (HOLDS.replace("]}", "], conflicts: [name-prefixes]}"), "conflicts: expected name-pre"),
        (HOLDS.replace("]}", "], obligations: [attribution]}"), "obligations: expected attribut"),
        ("{verdict: deny}", "objections: expected none; got restrictions-lost, team-rule, terms"),
    ],
)
def test_a_case_is_compared_with_all_that_the_policy_says(
    expect: str, said: str, tmp_path: Path
) -> None:
    found = failures(tmp_path, HEAD + CASE.replace("EXPECT", expect))
    assert len(found) == bool(said)
    if said:
        first, second = found[0].splitlines()
        assert first.endswith("team.yaml:6:5: Llama under Apache")
        assert second.strip().startswith(said)


def test_obligations_are_compared_only_where_they_are_given(tmp_path: Path) -> None:
    case = """\
cases:
  - case: MIT weights
    release: {purpose: research}
    lineage: {base_models: [{license: mit}]}
    expect: {verdict: allow, obligations: [OWED]}
"""
    owed = "include-license-copy, retain-notices"
    assert failures(tmp_path, HEAD + case.replace("OWED", owed)) == []
    (found,) = failures(tmp_path, HEAD + case.replace("OWED", ""))
    assert f"obligations: expected none; got {owed}" in found
    assert failures(tmp_path, HEAD + case.replace(", obligations: [OWED]", "")) == []


def test_where_no_rule_speaks_a_case_says_so(tmp_path: Path) -> None:
    case = """\
cases:
  - case: unchanged weights under another license
    release: {purpose: research}
    lineage: {base_models: [{license: cc-by-nd-4.0, relation: weights-shipped}]}
    expect: {verdict: review, objections: [no-rule]}
"""
    assert failures(tmp_path, HEAD + case) == []


def test_a_rule_that_cannot_be_decided_is_no_proof_that_it_fires(tmp_path: Path) -> None:
    rules = RULE.replace("release.purpose: commercial", "organization.seat: DE")
    rules = rules.replace("decide: review", "decide: deny")
    tests = HEAD + PAIR.replace("silent:\n      release: {purpose: research}", "silent: {}")
    tests = tests.replace("decides: review", "decides: deny")
    policy = team(tmp_path, tests, OVERLAY + rules)
    fires, silent = run_tests(policy, read_tests(policy))
    assert "expected that it decides deny" in fires.differences[0]
    assert silent.differences == ("expected that it says nothing; it says review",)


def test_knobs_and_the_day_and_a_changed_license_hold_for_their_case_only(tmp_path: Path) -> None:
    text = (
        HEAD
        + """\
cases:
  - case: the produced work
    release: {purpose: research}
    knobs: {model-is-produced-work: "yes"}
    lineage: {datasets: [{license: odbl}]}
    expect: {verdict: allow}
  - case: the database
    release: {purpose: research}
    lineage: {datasets: [{license: odbl}]}
    expect: {verdict: review, objections: [same-license-for-a-part]}
  - case: a text that says something else
    release: {purpose: research}
    licenses: {odbl: {downstream_license: own-terms-allowed}}
    lineage: {datasets: [{license: odbl}]}
    expect: {verdict: allow}
"""
    )
    assert failures(tmp_path, text) == []


def test_the_day_decides_about_grants(tmp_path: Path) -> None:
    grant = {"id": "g", "licensor": "Meta", "upstream": "meta/llama", "owner": "legal",
             "evidence": "contract 5", "signed": "2026-01-01", "expires": "2026-06-30",
             "lifts": ["threshold-users"]}  # fmt: skip
    policy = changed(("grants: []", f"grants: [{json.dumps(grant)}]"))
    text = (
        HEAD.replace("policy: team", "policy: baseline")
        + """\
cases:
  - case: while the grant holds
    day: "2026-06-30"
    release: {license: llama3.1}
    organization: {monthly_active_users: 800000000}
    lineage: {base_models: [{id: meta/llama, license: llama3.1}]}
    expect: {verdict: allow}
  - case: the day after
    day: "2026-07-01"
    release: {license: llama3.1}
    organization: {monthly_active_users: 800000000}
    lineage: {base_models: [{id: meta/llama, license: llama3.1}]}
    expect: {verdict: deny, objections: [user-threshold]}
"""
    )
    loaded = team(tmp_path, text, policy)
    assert run_tests(loaded, read_tests(loaded)) == ()


def test_defaults_are_what_a_situation_does_not_say(tmp_path: Path) -> None:
    text = HEAD.replace("  organization", "  lineage: {base_models: [{license: mit}]}\n"
                        "  knobs: {adapter-is-derivative: 'no'}\n  day: '2026-01-02'\n"
                        "  organization")  # fmt: skip
    text += PAIR.replace("fires: {}", "fires: {lineage: {datasets: [{license: odbl}]}}")
    fires, silent = read_tests(team(tmp_path, text)).cases
    assert [part.license for part in fires.parts] == ["odbl"]
    assert [(part.license, part.basis, part.upstream.relation) for part in silent.parts] == [
        ("mit", "text", "weights-derived")
    ]
    assert silent.release.gating == "open"
    assert (silent.release.purpose, fires.release.purpose) == ("research", "commercial")
    assert fires.day == silent.day == date(2026, 1, 2)
    assert fires.knobs == {"adapter-is-derivative": "no"}
    text = text.replace("  day: '2026-01-02'\n", "")
    assert read_tests(team(tmp_path, text)).cases[0].day == date(2026, 11, 23)


# Old text, new text, where it is told, what is said, the hint.
WRONG = [
    ("policy: team", "policy: teem", "policy: teem", "tests of 'teem'", "write team"),
    ("rule: team-rule", "rule: team-role", "rule: team-role", "no rule 'team-role'",
     "did you mean 'team-rule'?"),
    ("fires: {}", "fire: {}", "fire:", "unknown key 'fire'", "did you mean 'fires'?"),
    ("    fires: {}\n    silent:\n      release: {purpose: research}\n", "", "rule: team-rule",
     "neither fires nor silent", ""),
    ("{purpose: research}", "{purpose: reserch}", "purpose: reserch", "not one of the words",
     "did you mean 'research'?"),
    ("license: apache-2.0, ", "", "fires:", "release.license stands neither here nor", ""),
    ("fires: {}", "fires: {lineage: {datasets: [{license: mit, relation: weights-derived}]}}",
     "relation:", "a dataset is not weights-derived", "known for it: trained-on-data"),
    ("fires: {}", "fires: {lineage: {dataset: []}}", "dataset:", "unknown key", "'datasets'?"),
    ("fires: {}", "fires: {knobs: {adapter-is-derivativ: 'no'}}", "adapter-is-derivativ:",
     "no knob 'adapter-is-derivativ'", "did you mean 'adapter-is-derivative'?"),
    ("fires: {}", "fires: {knobs: {adapter-is-derivative: 'perhaps'}}", "adapter-is-derivative",
     "no position of adapter-is-derivative 'perhaps'", "known: yes, no"),
    ("fires: {}", "fires: {licenses: {mti: {verified: false}}}", "mti:", "no license 'mti'",
     "did you mean 'mit'?"),
    ("fires: {}", "fires: {licenses: {mit: {permission.modfy: withheld}}}", "permission.modfy",
     "unknown key", "did you mean 'permission.modify'?"),
    ("fires: {}", "fires: {day: tomorrow}", "day:", "must be a day", "a day in quotes"),
    (PAIR, "cases:\n  - {case: x, expect: {verdict: deny, objections: [team-role]}}\n",
     "team-role", "no rule 'team-role'", "did you mean 'team-rule'?"),
    (PAIR, "cases:\n  - {case: x, expect: {verdict: denied}}\n", "verdict:", "not one of",
     "did you mean 'deny'?"),
    (PAIR, "rules: []\n", "policy: team", "it holds no test", "Write tests"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "word", "said", "hint"), WRONG, ids=lambda v: v[-25:])
def test_a_mistake_in_a_test_is_told_with_its_place(  # noqa: PLR0917
    old: str, new: str, word: str, said: str, hint: str, tmp_path: Path
) -> None:
    text = HEAD + PAIR
    assert old in text
    text = text.replace(old, new, 1)
    found = [p for p in mistakes(tmp_path, text) if said in p.message]
    assert next((p.line, p.column) for p in found) == place(text, word)
    assert all(hint in problem.hint for problem in found)


def test_all_mistakes_in_tests_are_told_at_once(tmp_path: Path) -> None:
    text = HEAD + PAIR.replace("team-rule", "team-role").replace(
        "fires: {}", "fires: {knobs: {adapter: x}, lineage: {code: [{license: x, "
        "relation: adapter-delta}]}}"
    )  # fmt: skip
    assert len(mistakes(tmp_path, text)) == 3


def test_no_tests_are_not_tests_that_hold(tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(OVERLAY + RULE, encoding="utf-8")
    with pytest.raises(UnusableInput, match=r"tests/team\.yaml: there is no such file"):
        read_tests(load_policy(tmp_path / "team.yaml"))


def test_the_schema_knows_the_words_of_the_others() -> None:
    def schema(name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
        return read

    tests, release, policy = schema("policy_tests"), schema("release"), schema("policy")
    expect = tests["$defs"]["expect"]["properties"]
    assert expect["conflicts"]["items"]["enum"] == list(CONFLICTS)
    of = policy["properties"]["obligations"]["properties"]
    kinds = {*of["proofs"]["propertyNames"]["enum"], *of["limitations"]["propertyNames"]["enum"]}
    assert set(expect["obligations"]["items"]["enum"]) == kinds
    known = release["properties"]
    for group in ("release", "organization"):
        for key, said in tests["$defs"][group]["properties"].items():
            wanted = known[group]["properties"][key]
            assert said.get("enum") == wanted.get("enum"), key
            assert said.get("pattern") == wanted.get("pattern"), key
            assert said.get("items") == wanted.get("items"), key
    upstream = release["$defs"]["upstream"]["properties"]
    mine = tests["$defs"]["upstream"]["properties"]
    assert mine["relation"]["enum"] == upstream["relation"]["enum"]
    assert mine["basis"]["enum"] == policy["$defs"]["bases"]["then"]["enum"]
    assert list(tests["$defs"]["lineage"]["properties"]) == list(known["lineage"]["properties"])
    facts = tests["$defs"]["licenses"]["additionalProperties"]["properties"]
    assert facts["downstream_license"]["enum"] == policy["$defs"]["downstream"]["then"]["enum"]
    when = policy["$defs"]["when"]["properties"]
    asked = {name.removeprefix("upstream.") for name in when if "upstream.permission" in name}
    assert asked == {name for name in facts if name.startswith("permission.")}


def test_rules_without_tests_are_told_own_and_tightened_ones_only(tmp_path: Path) -> None:
    policy_text = OVERLAY + "tighten: {own-terms: review}\n" + RULE
    half = HEAD + PAIR.replace("    silent:\n      release: {purpose: research}\n", "")
    policy = team(tmp_path, half, policy_text)
    warnings = sorted(untested(policy, read_tests(policy)))
    assert [(w.line, w.column, w.message) for w in warnings] == [
        (6, 11, "the rule own-terms has no test in which it fires and none in which it stays "
         "silent"),
        (8, 5, "the rule team-rule has no test in which it stays silent"),
    ]  # fmt: skip
    assert all("tests/team.yaml" in warning.hint for warning in warnings)
    assert len(list(untested(policy, None))) == 2


@pytest.fixture(scope="module")
def baseline() -> Policy:
    return load_policy()


def rule(baseline: Policy, /, **knobs: tuple[str, ...]) -> PolicyRule:
    return replace(baseline.rules[0], id="x", knobs=knobs)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"upstream.role": "dataset", "upstream.relation": "weights-derived"},
     "a dataset is not weights-derived"),
    ({"upstream.role": ("dataset", "code"), "upstream.relation": "adapter-delta"},
     "a dataset is not adapter-delta"),
    ({"upstream.relation": "tool-only", "upstream.reached": True},
     "by tool-is-not-conveyed the terms"),
    ({"upstream.relation": "weights-derived", "upstream.reached": False,
      "upstream.license.kind": "missing"}, "no line of reach frees"),
    ({"upstream.relation": "trained-on-data", "upstream.reaches_models": "exempt",
      "upstream.reached": True}, "by text-frees-what-is-made-from-the-data"),
    ({"upstream.relation": "trained-on-data", "upstream.outputs_restricted": True},
     "upstream.outputs_restricted is false for trained-on-data"),
    ({"upstream.license.kind": "missing", "upstream.condition.attribution": True},
     "upstream.condition.attribution is false where"),
    ({"upstream.license.kind": "missing", "upstream.license.verified": True},
     "upstream.license.verified is false where"),
    ({"release.license.kind": "missing", "release.limitation.field-limit": True},
     "release.limitation.field-limit is false where"),
    ({"upstream.license.same_as_release": True, "upstream.license.kind": "license",
      "release.license.kind": "missing"}, "differ, but the licenses are the same"),
    ({"upstream.license.same_as_release": True, "upstream.license": "mit",
      "release.license": "apache-2.0"}, "differ, but the licenses are the same"),
    ({"upstream.license.same_as_release": False, "upstream.license": "mit",
      "release.license": "mit"}, "are the same"),
    ({"upstream.license": "Apache 2.0"}, "'Apache 2.0' is read as apache-2.0"),
    ({"release.license": "lama3.1", "release.license.kind": "license"}, "mean 'llama3.1'?"),
    ({"organization.seat": "Germany"}, "two capital letters"),
]  # fmt: skip

POSSIBLE: list[dict[str, Any]] = [
    {"upstream.role": ("dataset", "base_model"), "upstream.relation": "weights-derived"},
    {"upstream.relation": "trained-on-data", "upstream.reached": False},
    {"upstream.relation": ("tool-only", "data-shipped"), "upstream.reached": True},
    {"upstream.reached": False},
    {"upstream.reached": True},
    {"upstream.license.kind": "missing", "upstream.downstream_license": "own-terms-allowed"},
    {"upstream.license.kind": "missing", "upstream.permission.modify": "granted"},
    {"upstream.license.kind": ("missing", "license"), "upstream.license.verified": True},
    {"upstream.license.same_as_release": True, "upstream.license": ("mit", "apache-2.0"),
     "release.license": "apache-2.0"},
    {"upstream.license": "our-own-license"},
    {"upstream.license": ("Apache 2.0", "mit")},
    {"organization.seat": ("Germany", "DE")},
    {"upstream.outputs_restricted": True},
    {"upstream.relation": "adapter-delta", "upstream.reached": False},
]  # fmt: skip


def _when(said: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: word if isinstance(word, tuple) else (word,) for name, word in said.items()}


@pytest.mark.parametrize(("when", "reason"), IMPOSSIBLE, ids=lambda value: str(value)[:60])
def test_a_rule_that_can_never_fire_is_told_why(
    when: dict[str, Any], reason: str, baseline: Policy
) -> None:
    reasons = never(replace(rule(baseline), when=_when(when)), baseline)
    assert any(reason in said for said in reasons), reasons


@pytest.mark.parametrize("when", POSSIBLE, ids=lambda value: str(value)[:60])
def test_a_rule_that_may_fire_is_left_alone(when: dict[str, Any], baseline: Policy) -> None:
    assert never(replace(rule(baseline), when=_when(when)), baseline) == ()


def test_no_rule_with_a_test_in_which_it_fires_is_said_never_to_fire() -> None:
    for name in ("baseline", "open", "commercial", "research-only", "internal"):
        policy = load_policy(name)
        assert [item.id for item in policy.rules if never(item, policy)] == []


def _warned(path: Path, text: str) -> Iterator[Problem]:
    path.write_text(text, encoding="utf-8")
    found = examine(path, day=DAY, audit_rules={"license-review", "license-denied"})
    yield from (w for w in found.warnings if "has no test" not in w.message)


def test_what_looks_like_a_mistake_is_warned_of(tmp_path: Path) -> None:
    grant = {"id": "g", "licensor": "Meta", "upstream": "meta/llama", "owner": "legal",
             "evidence": "contract 5", "signed": "2025-01-01", "expires": "2026-11-22",
             "lifts": ["threshold-users"]}  # fmt: skip
    old = {**WAIVER, "expires": "2026-11-22"}
    text = with_waivers(
        old, {**WAIVER, "id": "w-2", "rule": "license-revue"}, {**WAIVER, "id": "w"}
    )
    (may_waive,) = (line for line in text.splitlines() if "may_waive:" in line)
    for before, after in (
        ("grants: []", f"grants: [{json.dumps(grant)}]"),
        ("    registration: act-recorded\n", ""),
        ("      upstream.role: dataset\n", "      upstream.role: generator\n"),
        (may_waive, "  may_waive: [license-denied, license-revue, license-review]"),
    ):  # fmt: skip
        assert before in text, before
        text = text.replace(before, after, 1)
    told = {(w.line, w.column): w.message for w in _warned(tmp_path / "policy.yaml", text)}
    assert told == {
        place(text, "- id: data-not-for-training", 2): "the rule data-not-for-training can never "
        "fire: a generator is not trained-on-data; a generator is not data-shipped",
        place(text, "proofs:"): "nothing proves the condition registration, which "
        "stabilityai-ai-community has",
        place(text, '{"id": "g"'): "the grant g held until 2026-11-22, and today is 2026-11-23",
        place(text, "license-revue, "): "license-revue is no rule of the audit",
        place(text, '{"id": "w-1"'): "the waiver w-1 held until 2026-11-22, and today is "
        "2026-11-23",
        place(text, '{"id": "w-2"'): "the waiver w-2 is for license-revue, which is no rule of "
        "the audit",
    }


def test_the_shipped_policies_have_nothing_to_be_warned_of() -> None:
    for name in ("baseline", "open", "commercial", "research-only", "internal"):
        assert examine(name, day=DAY).warnings == ()


def test_all_that_a_policy_rests_on_is_read_at_once(tmp_path: Path) -> None:
    """Mistakes of the policy, its own licenses and its tests are told together."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "mine").mkdir()
    text = changed(("owner: legal\n", "owner: legal\nlicenses: mine\n"))
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "tests" / "policy.yaml").write_text("policy: x\n", encoding="utf-8")
    licenses = BASELINE.parent / "licenses"
    for name in ("one", "two"):
        shutil.copyfile(licenses / "mit.yaml", tmp_path / "mine" / f"{name}.yaml")
    with pytest.raises(UnusableInput) as caught:
        examine(tmp_path / "policy.yaml", day=DAY)
    assert sorted({Path(p.path).name for p in caught.value.problems}) == [
        "one.yaml", "policy.yaml", "two.yaml",
    ]  # fmt: skip
    text = text.replace("decide: review", "decide: reveiw", 1)
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        examine(tmp_path / "policy.yaml", day=DAY)
    told = {(Path(p.path).name, p.hint) for p in caught.value.problems}
    assert ("policy.yaml", "did you mean 'review'?") in told
    assert {name for name, _ in told} == {"one.yaml", "policy.yaml", "two.yaml"}
