"""A waiver covers exactly what it names, for a time, and hides nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import release_kit
from release_kit.auditing.candidate import read_candidate
from release_kit.auditing.engine import run_checks, waivable_rules
from release_kit.auditing.findings import Finding, Report, Severity, Verdict, WaivedFinding
from release_kit.auditing.waivers import RULES, apply_waivers, stands
from release_kit.errors import UnusableInput
from release_kit.formats import FORMATS
from release_kit.licensing.policy import Policy, Waiver, load_policy
from release_kit.project import open_project
from release_kit.release import Release
from release_kit.stages import kept_receipts
from tests.bundles import CASES, CONTRADICTION, bundle, day, own_policy, seal, stamp, waiver
from tests.licensing.lineages import DAY, release, upstream
from tests.projects import edit

BASE = "acme/tiny-bert"
RELEASE = release("apache-2.0", upstream("apache-2.0", id=BASE), repo_id="acme/topics")

WAIVER = Waiver(
    id="bought",
    rule="license-denied",
    clause="user-threshold",
    upstream=BASE,
    path="",
    release="acme/topics@1.0.0",
    owner="Release Team",
    approver="Ada Counsel",
    reason="license-bought",
    because="It was bought.",
    evidence="ticket LEGAL-7",
    created="2026-11-01",
    expires="2026-12-31",
    file="policy.yaml",
    position=(9, 7),
)
FINDING = Finding(
    "license-denied",
    Severity.ERROR,
    "too many users",
    "release.yaml",
    7,
    7,
    upstream=BASE,
    clause="user-threshold",
)


def _policy(*waivers: Waiver) -> Policy:
    return replace(load_policy(), waivers=waivers)


def _applied(
    *findings: Finding, waivers: tuple[Waiver, ...] = (WAIVER,), day: date = DAY, **said: Any
) -> tuple[list[Finding], list[WaivedFinding]]:
    given: dict[str, Any] = {
        "rules": waivable_rules(),
        "paths": frozenset({"README.md", "notes.txt"}),
        **said,
    }
    return apply_waivers(findings, _policy(*waivers), RELEASE, day, **given)


def _left(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


# what one covers


def test_a_waived_finding_leaves_the_others_and_says_who_answers_for_it() -> None:
    other = replace(FINDING, clause="seat-excluded")

    kept, waived = _applied(FINDING, other)

    assert kept == [other]
    assert waived == [
        WaivedFinding(
            FINDING,
            "bought",
            "Release Team",
            "Ada Counsel",
            "license-bought",
            "ticket LEGAL-7",
            "2026-12-31",
        )
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "license-review"},
        {"clause": ""},
        {"clause": "seat-excluded"},
        {"upstream": "acme/tiny-bert-2"},
        {"upstream": "acme/Tiny-BERT"},
        {"upstream": ""},
    ],
    ids=str,
)
def test_another_finding_is_not_covered(change: dict[str, str]) -> None:
    finding = replace(FINDING, **change)

    kept, waived = _applied(finding)

    assert kept[0] == finding
    assert _left(kept[1:]) == ["waiver-unused"]
    assert waived == []


@pytest.mark.parametrize("clause", ["", "revenue-threshold"])
def test_a_waiver_without_the_clause_does_not_cover_every_clause(clause: str) -> None:
    kept, waived = _applied(FINDING, waivers=(replace(WAIVER, clause=clause),))
    assert _left(kept) == ["license-denied", "waiver-unused"]
    assert waived == []


@pytest.mark.parametrize(
    "release", ["acme/topics@1.0.1", "acme/topics@1.0", "acme/topics-2@1.0.0", "other/topics@1.0.0"]
)
def test_a_waiver_for_another_release_neither_covers_nor_complains(release: str) -> None:
    others = (replace(WAIVER, release=release), replace(WAIVER, release=release, upstream="gone"))
    kept, waived = _applied(FINDING, waivers=others)
    assert kept == [FINDING]
    assert waived == []


def test_a_path_covers_findings_about_that_file_and_not_those_about_an_upstream() -> None:
    by_path = replace(WAIVER, rule="personal-data", clause="", upstream="", path="notes.txt")
    found = Finding("personal-data", Severity.ERROR, "1 × PERSON in this line", "notes.txt", 3)
    elsewhere = replace(found, path="README.md")
    of_upstream = replace(found, upstream=BASE)

    kept, waived = _applied(found, elsewhere, of_upstream, waivers=(by_path,))

    assert kept == [elsewhere, of_upstream]
    assert [item.finding for item in waived] == [found]


def test_an_upstream_is_covered_whatever_file_shows_it() -> None:
    shown = replace(
        FINDING, rule="obligation-unmet", clause="include-license-copy", path="licenses/x"
    )
    by_upstream = replace(WAIVER, rule=shown.rule, clause=shown.clause)
    by_path = replace(by_upstream, upstream="", path="licenses/x")

    assert _applied(shown, waivers=(by_upstream,))[0] == []
    assert _left(_applied(shown, waivers=(by_path,), paths=frozenset({"licenses/x"}))[0]) == [
        "obligation-unmet",
        "waiver-unused",
    ]


def test_the_same_finding_twice_is_covered_twice_by_one_waiver() -> None:
    kept, waived = _applied(FINDING, FINDING)
    assert kept == []
    assert len(waived) == 2


def test_of_two_waivers_the_one_that_ends_last_covers_and_the_other_can_go() -> None:
    renewed = replace(WAIVER, id="renewed", expires="2027-03-01", position=(19, 7))
    for order in ((WAIVER, renewed), (renewed, WAIVER)):
        kept, waived = _applied(FINDING, waivers=order)
        assert [item.waiver for item in waived] == ["renewed"]
        (finding,) = kept
        assert finding.rule == "waiver-unused"
        assert "waiver bought " in finding.message


def test_two_waivers_of_one_id_are_told_apart() -> None:
    other = replace(WAIVER, clause="seat-excluded", position=(19, 7))
    kept, _ = _applied(FINDING, waivers=(WAIVER, other))
    assert [(f.rule, f.line) for f in kept] == [("waiver-unused", 19)]


# when one is in force


@pytest.mark.parametrize(
    ("on", "covers"),
    [
        ("2026-10-31", False),
        ("2026-11-01", True),
        ("2026-12-31", True),
        ("2027-01-01", False),
    ],
)
def test_the_first_and_the_last_day_count(on: str, *, covers: bool) -> None:
    kept, waived = _applied(FINDING, day=date.fromisoformat(on))
    assert bool(waived) is covers
    assert _left(kept) == ([] if covers else ["license-denied", "waiver-expired"])


@pytest.mark.parametrize(
    ("on", "said"),
    [("2026-10-31", "from 2026-11-01 on"), ("2027-01-01", "until 2026-12-31")],
)
def test_one_that_is_not_in_force_says_when_it_is(on: str, said: str) -> None:
    finding = _applied(day=date.fromisoformat(on))[0][0]
    assert finding.severity is Severity.WARNING
    assert said in finding.message
    assert f"today is {on}" in finding.message
    assert (finding.path, finding.line, finding.column) == ("policy.yaml", 9, 7)
    assert "Release Team, approved by Ada Counsel" in finding.message


# what one may name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule": "license-deneid"}, "no rule 'license-deneid'"),
        ({"clause": "user-treshold"}, "no rule or condition 'user-treshold'"),
        ({"upstream": "acme/tiny-bret"}, "no upstream 'acme/tiny-bret'"),
        ({"upstream": "", "path": "note.txt"}, "no file 'note.txt'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("on", [DAY, date(2030, 1, 1)], ids=str)
def test_one_that_names_nothing_is_told_in_force_or_not(
    change: dict[str, str], said: str, on: date
) -> None:
    kept, _ = _applied(FINDING, waivers=(replace(WAIVER, **change),), day=on)
    assert _left(kept) == ["license-denied", "waiver-unmatched"]
    assert said in kept[1].message


@pytest.mark.parametrize(
    "clause", ["user-threshold", "registration", "territory-exclusion", "name-prefixes"]
)
def test_rules_conditions_limitations_and_conflicts_can_be_named(clause: str) -> None:
    assert _left(_applied(waivers=(replace(WAIVER, clause=clause),))[0]) == ["waiver-unused"]


def test_a_waiver_that_misses_only_the_clause_is_told_which_one() -> None:
    kept, _ = _applied(FINDING, waivers=(replace(WAIVER, clause=""),))
    assert _left(kept) == ["license-denied", "waiver-unused"]
    assert kept[1].fix == f"Write rule: license-denied/{FINDING.clause}, or take it out."
    (unused,) = _applied(waivers=(replace(WAIVER, clause=""),))[0]
    assert unused.fix == "Take it out of the policy."


def test_a_finding_about_a_missing_file_is_covered_and_its_waiver_is_not_called_unmatched() -> None:
    by_path = replace(WAIVER, rule="license-file", clause="", upstream="", path="LICENSE")
    missing = Finding("license-file", Severity.ERROR, "there is no LICENSE file", "LICENSE")
    kept, waived = _applied(missing, waivers=(by_path,))
    assert (kept, len(waived)) == ([], 1)


def test_a_finding_about_the_release_itself_is_waived_by_the_path_release_yaml() -> None:
    by_path = replace(WAIVER, clause="release-license-unverified", rule="license-review",
                      upstream="", path="release.yaml")  # fmt: skip
    own = replace(FINDING, rule="license-review", clause=by_path.clause, upstream="")
    assert _applied(own, waivers=(by_path,))[0] == []
    assert _left(_applied(waivers=(by_path,))[0]) == ["waiver-unused"]


# what nobody may waive

BOUND = {
    "check-unfinished": "release.yaml",
    "file-changed": "config.json",
    "file-missing": "config.json",
    "bundle-stale": "release.yaml",
    "weights-untrained": "model.safetensors",
}
"""Rule → the path that its finding names."""


def test_bytes_that_nobody_saw_and_unfinished_checks_can_never_be_waived() -> None:
    assert not waivable_rules() & set(BOUND)
    assert not waivable_rules() & {rule.id for rule in RULES}
    assert set(load_policy().may_waive) <= waivable_rules()
    for rule in BOUND:
        finding = Finding(rule, Severity.ERROR, "no", "notes.txt")
        asked = replace(WAIVER, rule=rule, clause="", upstream="", path="notes.txt")
        kept, waived = _applied(finding, waivers=(asked,))
        assert _left(kept) == [rule, "waiver-unmatched"]
        assert waived == []


def test_a_waiver_cannot_cover_a_finding_about_waivers() -> None:
    late = date(2030, 1, 1)
    asked = replace(WAIVER, id="w", rule="waiver-expired", clause="", upstream="",
                    path="policy.yaml", expires="2031-01-01")  # fmt: skip
    kept, waived = _applied(waivers=(WAIVER, asked), day=late)
    assert sorted(_left(kept)) == ["waiver-expired", "waiver-unmatched"]
    assert waived == []


@pytest.mark.parametrize("rule", BOUND)
def test_not_even_a_policy_that_lists_the_rule_gets_it_waived(rule: str, project: Path) -> None:
    policy = own_policy(project)
    edit(policy, "may_waive: [", f"may_waive: [{rule}, ")
    waiver(project, rule, path=BOUND[rule])
    stamp(project)
    CASES[rule].apply(CASES[rule].fires, project)

    report = release_kit.audit(project)

    assert rule in {finding.rule for finding in report.findings}
    assert report.waived == ()
    assert report.verdict is Verdict.BLOCK


def test_a_policy_that_does_not_list_the_rule_cannot_be_used(project: Path) -> None:
    waiver(project, "license-unreadable", upstream=BASE)
    with pytest.raises(UnusableInput) as caught:
        release_kit.audit(project)
    (problem,) = caught.value.problems
    assert "license-unreadable may not be waived" in problem.message


# an audit from end to end


def _contradicted(project: Path, **said: Any) -> Report:
    """Audit a project whose base's card contradicts release.yaml, which somebody waived."""
    (project / "base" / "README.md").write_text(CONTRADICTION, encoding="utf-8")
    waiver(project, "license-contradiction", **{"upstream": BASE, **said})
    stamp(project)
    return release_kit.audit(project)


def test_a_waived_finding_is_kept_and_counted_and_does_not_decide(project: Path) -> None:
    report = _contradicted(project)

    assert report.verdict is Verdict.PASS
    assert report.findings == ()
    (item,) = report.waived
    assert (item.finding.rule, item.finding.upstream) == ("license-contradiction", BASE)
    assert item.finding.severity is Severity.ERROR
    assert report.valid_until == item.expires == day(30)
    assert report.judged_on == day(0)
    shown = FORMATS["text"](report)
    assert shown.startswith("PASS")
    assert f"\nwaived error[license-contradiction] release.yaml:{item.finding.line}:" in shown
    assert f"  {item.finding.message}\n" in shown
    assert (
        "  waiver: waiver-license-contradiction (licensor-consented), asked for by Release Team, "
        f"approved by Ada Counsel, until {day(30)}; evidence: ticket LEGAL-7\n"
    ) in shown
    assert "0 errors, 0 warnings, 0 notes, 1 waived; " in shown
    assert f"the first ends on {day(30)}." in shown
    said = json.loads(FORMATS["json"](report))
    assert said["verdict"] == "pass"
    assert said["findings"] == []
    assert [item["finding"]["rule"] for item in said["waived"]] == ["license-contradiction"]


@pytest.mark.parametrize(
    ("said", "beside"),
    [
        ({"release": "acme/topics@1.0.1"}, set()),
        ({"since": -30, "until": -1}, {"waiver-expired"}),
        ({"since": 1, "until": 30}, {"waiver-expired"}),
        ({"upstream": "acme/topic-notes"}, {"waiver-unused"}),
    ],
    ids=str,
)
def test_what_is_not_covered_still_blocks(
    said: dict[str, Any], beside: set[str], project: Path
) -> None:
    report = _contradicted(project, **said)

    assert report.verdict is Verdict.BLOCK
    assert {f.rule for f in report.findings} == {"license-contradiction", *beside}
    assert report.waived == ()
    assert report.valid_until == ""


def test_the_last_day_is_one_of_the_waivers_days_and_the_next_is_not(project: Path) -> None:
    _contradicted(project)
    place = open_project(project)
    last = date.fromisoformat(day(30))

    def audited_on(when: date) -> Report:
        return run_checks(
            read_candidate(place.bundle, place.release, kept_receipts(place), day=when)
        )

    assert audited_on(last).verdict is Verdict.PASS
    over = audited_on(last + timedelta(1))
    assert over.verdict is Verdict.BLOCK
    assert {f.rule for f in over.findings} == {"license-contradiction", "waiver-expired"}
    assert over.judged_on == (last + timedelta(1)).isoformat()


def test_valid_until_is_the_first_day_on_which_a_waiver_ends(project: Path) -> None:
    (bundle(project) / "contact.txt").write_text("jane.roe@example.org\n", encoding="utf-8")
    seal(project)
    waiver(project, "personal-data", path="contact.txt", until=9)

    report = _contradicted(project)

    assert report.findings == ()
    assert len(report.waived) == 2
    assert report.valid_until == day(9)
    for render in FORMATS.values():
        assert "jane.roe" not in render(report)


# what the gate of publishing asks


def _waived(report: Report) -> WaivedFinding:
    (item,) = report.waived
    return item


def test_only_what_a_waiver_of_the_policy_says_stands(project: Path) -> None:
    item = _waived(_contradicted(project))
    release: Release = open_project(project).release
    policy = load_policy(release.policy_source)
    today = date.fromisoformat(day(0))
    finding = item.finding

    assert stands(item, policy, release, today)
    for wrong in (
        replace(item, waiver="another"),
        replace(item, owner="Somebody"),
        replace(item, approver="Somebody"),
        replace(item, reason="false-alarm"),
        replace(item, evidence="none"),
        replace(item, expires=day(300)),
        replace(item, finding=replace(finding, rule="license-denied")),
        replace(item, finding=replace(finding, clause="user-threshold")),
        replace(item, finding=replace(finding, upstream="acme/topic-notes")),
        replace(item, finding=replace(finding, upstream="")),
    ):
        assert not stands(wrong, policy, release, today), wrong
    assert not stands(item, policy, release, date.fromisoformat(day(31)))
    assert not stands(item, policy, replace(release, version="1.0.1"), today)
    assert not stands(item, load_policy(), release, today)
