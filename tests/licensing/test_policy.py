"""A policy file: strict to read, with the place of every mistake, and bound by its digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from release_kit.errors import Problem, UnusableInput
from release_kit.licensing import policy as policies
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.obligations import _PROOFS
from release_kit.licensing.policy import BASELINE, load_policy

BASE = BASELINE.read_text(encoding="utf-8")


def _problems(path: Path, text: str) -> tuple[Problem, ...]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        load_policy(path)
    assert all(problem.path == str(path) for problem in caught.value.problems)
    return caught.value.problems


def _changed(*changes: tuple[str, str]) -> str:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def _place(text: str, word: str) -> tuple[int, int]:
    before, found, _ = text.partition(word)
    assert found
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def test_the_baseline_loads_and_says_who_answers_for_it() -> None:
    policy = load_policy()
    assert (policy.name, policy.version, policy.file) == ("baseline", 1, "policies/baseline.yaml")
    assert len(policy.rules) == len({rule.id for rule in policy.rules}) > 8
    assert {rule.decide for rule in policy.rules} == {"allow", "review", "deny"}
    for rule in policy.rules:
        assert rule.because
        assert rule.decide == "allow" or rule.how_to_fix


def test_the_baseline_can_prove_every_condition_of_every_license() -> None:
    policy = load_policy()
    kinds = {c.kind for license in load_licenses().values() for c in license.conditions}
    assert kinds <= policy.proofs.keys()
    assert set(policy.proofs.values()) - {"license-verdict"} <= _PROOFS.keys()


def test_the_baseline_covers_every_path() -> None:
    policy = load_policy()
    assert policy.personal_data_scopes[-1].paths == ("*",)
    assert policy.personal_data_scopes[-1].examine
    assert all(scope.because for scope in policy.personal_data_scopes)


def test_a_rule_is_about_an_upstream_or_about_the_release() -> None:
    about = {rule.id: rule.about_upstream for rule in load_policy().rules}
    assert not about["release-license-known"]
    assert about["noncommercial-for-commercial-purpose"]


MISTYPED = [
    ("upstream.license.verified: false", "upstream.licence.verified: false",
     "upstream.licence.verified", "did you mean 'upstream.license.verified'?"),
    ("decide: review", "decide: reveiw", "decide: reveiw", "did you mean 'review'?"),
    ("downstream_license: terms-travel", "downstream_license: terms-travels",
     "upstream.downstream_license: terms-travels", "did you mean 'terms-travel'?"),
    ("[weights-derived, adapter-delta]\n", "[weights-derived, adaptor-delta]\n",
     "adaptor-delta", "did you mean 'adapter-delta'?"),
    ("cite: [limitation.threshold-users]", "cite: [limitation.threshold-user]",
     "limitation.threshold-user", "did you mean 'limitation.threshold-users'?"),
    ("display-statement: card-text", "display-statement: card-txt",
     "display-statement: card-txt", "did you mean 'card-text'?"),
    ("obligations:", "obligation:", "obligation:", "did you mean 'obligations'?"),
    ("severity: error", "severity: eror", "severity: eror", "did you mean 'error'?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "word", "hint"), MISTYPED, ids=lambda value: value[:30])
def test_a_mistyped_word_is_told_with_its_place_and_the_right_one(
    old: str, new: str, word: str, hint: str, tmp_path: Path
) -> None:
    text = _changed((old, new))
    found = _problems(tmp_path / "policy.yaml", text)
    assert [(p.line, p.column) for p in found if p.hint == hint] == [_place(text, word)]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = _changed(*((old, new) for old, new, _, _ in MISTYPED))
    found = _problems(tmp_path / "policy.yaml", text)
    assert {(p.line, p.column, p.hint) for p in found} >= {
        (*_place(text, word), hint) for _, _, word, hint in MISTYPED if "card-txt" not in word
    }
    assert found == tuple(sorted(found))


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("version: 1\n", "version: one\n", "version: one"),
        ('effective_from: "2026-11-23"', "effective_from: soon", "effective_from: soon"),
        ("min_score: 0.5", "min_score: 1.5", "min_score: 1.5"),
        ("license.verified: false", "license.verified: no", "upstream.license.verified: no\n"),
        ("      release.license.kind: license\n", "      {}\n", "when:\n      {}"),
        ("entities: [EMAIL_ADDRESS,", "entities: [e-mail,", "e-mail,"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(
    old: str, new: str, word: str, tmp_path: Path
) -> None:
    text = _changed((old, new))
    found = _problems(tmp_path / "policy.yaml", text)
    assert _place(text, word) in [(problem.line, problem.column) for problem in found]


def test_a_scope_that_is_examined_must_say_for_what(tmp_path: Path) -> None:
    text = _changed(("      entities: [PERSON, EMAIL_ADDRESS,", "      paths: [x, EMAIL_ADDRESS,"))
    assert _problems(tmp_path / "policy.yaml", text)
    without = "".join(
        line for line in BASE.splitlines(keepends=True) if "entities: [PERSON" not in line
    )
    (problem,) = _problems(tmp_path / "policy.yaml", without)
    assert "'entities' is missing" in problem.message


@pytest.mark.parametrize("key", ["because", "how_to_fix"])
def test_a_reason_may_only_name_known_facts(key: str, tmp_path: Path) -> None:
    old = {"because": "{upstream.license}; without", "how_to_fix": "file of {upstream.id} at"}[key]
    text = _changed((old, old.replace("{upstream.", "{upstreams.")))
    (problem,) = _problems(tmp_path / "policy.yaml", text)
    assert "{upstreams." in problem.message
    assert "upstream.license" in problem.hint
    assert problem.line == _place(text, "{upstreams.")[0]


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    text = _changed(("id: own-terms\n", "id: user-threshold\n"))
    (problem,) = _problems(tmp_path / "policy.yaml", text)
    assert "'user-threshold'" in problem.message
    second = text.rindex("id: user-threshold")
    assert problem.line == text[:second].count("\n") + 1


def test_a_missing_policy_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="there is no such file"):
        load_policy(tmp_path / "policy.yaml")
    assert _problems(tmp_path / "policy.yaml", "")
    assert _problems(tmp_path / "policy.yaml", "rules: []\n")


def test_the_digest_changes_with_any_byte_that_it_binds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(shutil.copytree(BASELINE.parent, tmp_path / "policies"))
    monkeypatch.setattr(policies, "POLICIES", shipped)
    monkeypatch.setattr(policies, "FOLDER", shipped / "licenses")

    def digest() -> str:
        return load_policy(shipped / "baseline.yaml").digest

    before = digest()
    assert before == load_policy(shipped / "baseline.yaml").digest
    seen = {before}
    files = sorted(path for path in shipped.rglob("*") if path.is_file())
    assert len(files) == 2 + len(load_licenses())
    for path in files:
        kept = path.read_bytes()
        path.write_bytes(kept + b"#")
        seen.add(digest())
        path.write_bytes(kept)
    (shipped / "licenses" / "more.yaml").write_bytes(b"")
    seen.add(digest())
    assert len(seen) == 1 + len(files) + 1
    (shipped / "licenses" / "more.yaml").unlink()
    assert digest() == before


def test_the_same_policy_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "other.yaml"
    shutil.copyfile(BASELINE, copy)
    assert load_policy(copy).digest == load_policy().digest
