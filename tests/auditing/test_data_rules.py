"""What the policy asks about data, what redaction saw of it, and how much of it leaked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import release_kit
from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import data_declarations, leakage
from release_kit.auditing.findings import Finding, Severity
from release_kit.bundle import Bundle
from release_kit.licensing.policy import Policy, load_policy
from release_kit.receipts import Receipt
from release_kit.release import CollectionFacts, Release, read_release
from tests.bundles import own_policy, stamp, waiver
from tests.projects import RELEASE_YAML, edit

DATA = "acme/topic-notes"
SAID = CollectionFacts(
    personal_data="removed",
    lawful_basis=("legitimate-interests",),
    since="2026-01",
    until="2026-03",
    opt_outs=("licensed",),
)


def _release(folder: Path, said: CollectionFacts = SAID, **more: Any) -> Release:
    (folder / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    release = read_release(folder)
    base, data = release.lineage
    data = replace(data, collection=said, relation=more.pop("relation", data.relation))
    return replace(release, lineage=(base, data), **more)


def _candidate(
    release: Release,
    policy: Policy,
    results: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    in_project: bool = True,
) -> Candidate:
    receipts = {
        stage: Receipt(stage, {}, {}, {}, {}, result) for stage, result in (results or {}).items()
    }
    day = date(2026, 11, 23)
    return Candidate(Bundle({}, {}, {}), release, policy, receipts, in_project, day)


def _asked(release: Release, policy: str = "") -> dict[str, tuple[str, str]]:
    """Return field → severity and demand."""
    findings = data_declarations.CHECK.run(_candidate(release, load_policy(policy))).findings
    assert {finding.rule for finding in findings} <= {"data-undeclared"}
    asked = {
        finding.message.partition("collection.")[2].split()[0]: (finding.severity, finding.clause)
        for finding in findings
    }
    assert len(asked) == len(findings)
    return asked


def test_what_is_stated_is_not_asked(tmp_path: Path) -> None:
    assert _asked(_release(tmp_path)) == {}
    assert _asked(_release(tmp_path), "commercial") == {}


def test_of_a_dataset_of_which_nothing_is_said_what_decides_is_asked_first(tmp_path: Path) -> None:
    assert _asked(_release(tmp_path, CollectionFacts())) == {
        "personal_data": ("warning", "personal-data-stated"),
        "from": ("note", "period-stated"),
        "until": ("note", "period-stated"),
        "opt_outs": ("note", "opt-outs-stated"),
    }


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({"personal_data": "none", "lawful_basis": ()}, {}),
        (
            {"personal_data": "removed", "lawful_basis": ()},
            {"lawful_basis": ("warning", "lawful-basis-of-removed-data")},
        ),
        (
            {"personal_data": "present", "lawful_basis": ()},
            {"lawful_basis": ("error", "lawful-basis-of-present-data")},
        ),
        ({"lawful_basis": ("contract", "consent")}, {"consent": ("warning", "consent-shown")}),
        ({"lawful_basis": ("consent",), "consent": "A form."}, {}),
        ({"personal_data": "none", "lawful_basis": ("consent",)}, {}),
        ({"until": ""}, {"until": ("note", "period-stated")}),
        ({"personal_data": ""}, {"personal_data": ("warning", "personal-data-stated")}),
    ],
    ids=str,
)
def test_what_is_asked_turns_on_what_is_said(
    tmp_path: Path, said: dict[str, Any], asked: dict[str, tuple[str, str]]
) -> None:
    assert _asked(_release(tmp_path, replace(SAID, **said))) == asked


def test_a_tool_is_not_asked_and_a_private_release_less(tmp_path: Path) -> None:
    assert _asked(_release(tmp_path, CollectionFacts(), relation="tool-only")) == {}
    private = _asked(_release(tmp_path, CollectionFacts(), visibility="private"))
    assert set(private) == {"personal_data"}


def test_an_overlay_asks_for_more_and_the_strictest_demand_is_told(tmp_path: Path) -> None:
    bare = replace(SAID, since="", until="", opt_outs=())
    asked = _asked(_release(tmp_path, bare), "commercial")
    assert asked == {
        "from": ("warning", "period-of-what-is-sold"),
        "until": ("warning", "period-of-what-is-sold"),
        "opt_outs": ("warning", "opt-outs-of-what-is-sold"),
    }


@pytest.mark.parametrize("policy", ["commercial", "internal", "open", "research-only"])
def test_no_shipped_overlay_is_milder_than_the_baseline(tmp_path: Path, policy: str) -> None:
    rank = list(Severity).index
    for said in (
        CollectionFacts(),
        CollectionFacts("present"),
        CollectionFacts("removed", ("consent",)),
        CollectionFacts("none"),
    ):
        release = _release(tmp_path, said)
        base, asked = _asked(release), _asked(release, policy)
        assert set(base) <= set(asked)
        assert all(rank(asked[field][0]) <= rank(base[field][0]) for field in base)


def test_a_finding_says_where_why_and_by_which_law(tmp_path: Path) -> None:
    release = _release(tmp_path, replace(SAID, lawful_basis=()))
    candidate = _candidate(release, load_policy())
    (finding,) = data_declarations.CHECK.run(candidate).findings
    position = release.lineage[1].position
    assert (finding.path, finding.line, finding.column) == ("release.yaml", *position)
    assert (finding.upstream, finding.clause) == (DATA, "lawful-basis-of-removed-data")
    assert finding.fix.startswith("Write lawful_basis under collection")
    assert {"GDPR Art. 6(1)", "PIPL Art. 13"} < set(finding.cites)


def _contradictions(release: Release, **redacted: Any) -> list[str]:
    results = {"redact": {DATA: redacted}} if redacted else None
    found = data_declarations.CHECK.run(_candidate(release, load_policy(), results)).findings
    assert {finding.rule for finding in found} <= {"data-contradiction"}
    return [finding.message for finding in found]


def test_none_is_contradicted_by_whatever_redaction_saw(tmp_path: Path) -> None:
    none = _release(tmp_path, CollectionFacts("none", (), "", "2026", "2026", ("licensed",)))
    for where in ("by_entity", "remaining", "kept"):
        (said,) = _contradictions(none, **{where: {"PERSON": 1, "IP_ADDRESS": 3, "US_SSN": 0}})
        assert said.endswith("redaction found IP_ADDRESS, PERSON")
        assert _contradictions(none, **{where: {"PERSON": 0}}) == []
        assert _contradictions(_release(tmp_path), **{where: {"PERSON": 1}}) == []
    assert _contradictions(none) == []


@pytest.mark.parametrize(
    ("until", "applied", "count"),
    [
        ("2026-11-23", "2026-11-23", 0),
        ("2026-11", "", 0),
        ("2026", "", 0),
        ("2026-11-24", "", 1),
        ("2026-12", "", 1),
        ("2027", "2026-11-24", 2),
    ],
)
def test_what_lies_ahead_cannot_have_been(
    tmp_path: Path, until: str, applied: str, count: int
) -> None:
    said = replace(SAID, until=until, opt_outs_on=applied)
    assert len(_contradictions(_release(tmp_path, said))) == count


def _leaked(tmp_path: Path, policy: Policy | None = None, **found: int) -> list[Finding]:
    results = {"evaluate": {"overlap": found} if found else {}}
    candidate = _candidate(_release(tmp_path), policy or load_policy(), results)
    return list(leakage.CHECK.run(candidate).findings)


@pytest.mark.parametrize(
    ("exact", "near", "found"),
    [
        (0, 0, []),
        (0, 10, []),
        (0, 11, [("note", "many-near")]),
        (0, 50, [("note", "many-near")]),
        (0, 51, [("warning", "most-near")]),
        (1, 0, [("warning", "some-exact")]),
        (5, 0, [("warning", "some-exact")]),
        (6, 0, [("error", "many-exact")]),
        (6, 45, [("error", "many-exact"), ("warning", "most-near")]),
    ],
)
def test_the_strictest_limit_that_is_passed_is_told(
    tmp_path: Path, exact: int, near: int, found: list[tuple[str, str]]
) -> None:
    findings = _leaked(tmp_path, of=100, exact=exact, near=near)
    assert [(finding.severity, finding.clause) for finding in findings] == found
    assert all("of 100 held-out records" in finding.message for finding in findings)


def test_a_policy_without_limits_finds_no_leakage(tmp_path: Path) -> None:
    policy = replace(load_policy(), leakage_limits=())
    assert _leaked(tmp_path, policy, of=10, exact=10, near=0) == []


def test_leakage_that_nobody_measured_is_no_pass(tmp_path: Path) -> None:
    for results in ({}, {"evaluate": {}}, {"evaluate": {"overlap": None}}):
        candidate = _candidate(_release(tmp_path), load_policy(), results)
        (finding,) = leakage.CHECK.run(candidate).findings
        assert (finding.severity, finding.clause) == ("warning", "")
        # A folder outside a project has no stages, and a release may have no training.
        for other in (
            replace(candidate, in_project=False),
            replace(candidate, release=_release(tmp_path, training=None)),
            replace(candidate, release=None),
        ):
            assert leakage.CHECK.run(other).findings == ()


def test_a_real_run_measures_it(audited_project: Path) -> None:
    report = release_kit.audit(audited_project)
    assert report.examined["datasets declared"] == 1
    assert report.examined["records held out"] > 20


def test_somebody_may_answer_for_what_is_not_stated(project: Path) -> None:
    edit(project / "release.yaml", "        lawful_basis: [legitimate-interests]\n", "")
    own_policy(project)
    waiver(project, "data-undeclared/lawful-basis-of-removed-data", upstream=DATA)
    stamp(project)
    report = release_kit.audit(project)
    assert report.findings == ()
    assert [item.finding.rule for item in report.waived] == ["data-undeclared"]


@pytest.mark.parametrize(
    "rule", ["data-undeclared/consent-shown", "data-leakage/many-near", "data-contradiction"]
)
def test_a_waiver_that_nothing_needs_is_unused_not_unknown(project: Path, rule: str) -> None:
    own_policy(project)
    place = {"path": "release.yaml"} if "leakage" in rule else {"upstream": DATA}
    waiver(project, rule, **place)
    stamp(project)
    assert [finding.rule for finding in release_kit.audit(project).findings] == ["waiver-unused"]
