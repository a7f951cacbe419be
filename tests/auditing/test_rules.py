"""Every rule fires on what breaks it, and on nothing that only looks like it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import release_kit
from release_kit.auditing.engine import all_rules
from release_kit.auditing.findings import Severity, Verdict
from release_kit.formats import FORMATS
from tests.bundles import CASES, PLANTED, bundle, seal, stamp
from tests.projects import edit

RULES = all_rules()


def test_each_rule_has_a_case_and_each_case_a_rule() -> None:
    assert sorted(CASES) == [rule.id for rule in RULES]


def test_rule_ids_are_unique_kebab_case_and_explained() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id)
        assert rule.title[0].isupper()
        assert not rule.title.endswith(".")
        assert rule.help.endswith(".")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_rule_fires_alone_and_says_what_to_do(rule, project: Path) -> None:
    CASES[rule.id].apply(CASES[rule.id].fires, project)

    report = release_kit.audit(project)

    assert {finding.rule for finding in report.findings} == {rule.id}
    assert {finding.severity for finding in report.findings} == {rule.severity}
    assert all(finding.message and finding.fix for finding in report.findings)
    blocks = rule.severity is Severity.ERROR
    assert report.verdict is (Verdict.BLOCK if blocks else Verdict.REVIEW)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_near_miss_passes(rule, project: Path) -> None:
    CASES[rule.id].apply(CASES[rule.id].silent, project)

    report = release_kit.audit(project)

    assert report.findings == ()
    assert report.verdict is Verdict.PASS


def test_no_report_holds_the_personal_data_it_found(project: Path) -> None:
    CASES["personal-data"].apply(CASES["personal-data"].fires, project)

    report = release_kit.audit(project)

    assert len(report.findings) == len(PLANTED)
    assert {kind for kind in PLANTED if kind in str(report.findings)} == set(PLANTED)
    parts = {p for v in PLANTED.values() for p in re.split(r"[\s@.]", v)} - {"com", "example"}
    kept = (project / "out" / "audit.json").read_text(encoding="utf-8")
    for shown in (repr(report), kept, *(render(report) for render in FORMATS.values())):
        assert not [part for part in parts if part in shown]


def test_a_card_that_cannot_be_read_is_not_quoted(project: Path) -> None:
    name = PLANTED["EMAIL_ADDRESS"]
    edit(bundle(project) / "README.md", "language:", f"{name}: 1\n{name}: 2\nlanguage:")
    seal(project)
    stamp(project)

    report = release_kit.audit(project)

    assert {finding.rule for finding in report.findings} == {"card-unreadable", "personal-data"}
    for shown in (repr(report), *(render(report) for render in FORMATS.values())):
        assert name not in shown
