"""Every format says what the report says, and lets nothing in the report forge anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import release_kit
from release_kit.auditing.findings import (
    DecidingKnob,
    Finding,
    JudgedPart,
    NotExamined,
    Report,
    Severity,
    Verdict,
    WaivedFinding,
)
from release_kit.errors import UnusableInput
from release_kit.files import SCHEMAS
from release_kit.formats import FORMATS
from release_kit.formats.json import parse_json, render_json
from release_kit.formats.text import render_text
from tests.bundles import CASES, CONTRADICTION, stamp, waiver
from tests.projects import copy_project

SCHEMA = json.loads((SCHEMAS / "report.schema.json").read_text(encoding="utf-8"))

EMAIL = Finding(
    "personal-data",
    Severity.ERROR,
    "1 × EMAIL_ADDRESS in this line",
    "docs/ünlü.txt",
    line=3,
    fix="Remove it.",
    cites=("policy: no contact data",),
)
LICENSE = Finding("license-review", Severity.WARNING, "a person must decide", fix="Ask legal.")
WAIVED = WaivedFinding(
    Finding(
        "license-denied",
        Severity.ERROR,
        "too many users",
        "release.yaml",
        9,
        7,
        "Buy a license.",
        ("Some License, section 2",),
        "acme/base",
        "user-threshold",
    ),
    "bought",
    "Release Team",
    "Ada Counsel",
    "license-bought",
    "ticket LEGAL-7",
    "2026-12-31",
)
KNOB = DecidingKnob(
    "adapter-is-derivative", "yes", "legal", "2026-11-01", "any", "It needs the weights.", 2
)

REPORT = Report(
    repo_id="acme/topics",
    version="1.0.0",
    manifest_digest="a" * 64,
    release_digest="b" * 64,
    policy="baseline 1",
    policy_digest="c" * 64,
    tool="release-kit 0.1.0",
    checks=("manifest", "license"),
    examined={"files": 3, "text files searched": 2},
    not_examined=(NotExamined("model.safetensors", "weights are numbers"),),
    findings=(EMAIL, LICENSE),
    unfinished=(),
    waived=(WAIVED,),
    lineage=(
        JudgedPart("acme/base", "base_model", "weights-derived", "unknown", "mit", "text", "allow"),
    ),
    knobs=(KNOB,),
    judged_on="2026-11-23",
    valid_until="2026-12-31",
)

HOSTILE = [
    "a\nPASS: nothing stands in the way of this release.",
    "a\r\nerror[fake] x",
    "\x1b[2K\x1b[1Ahidden",
    "moc.\u202eexe.txt",
    "a\u2028b\u2029c\x85d",
    "zero\u200bwidth\ufeff",
    "::error::forged",
    "::stop-commands::forged",
    "##[error]forged",
    "x\n::set-output name=a::b",
    "lone \udcff surrogate",
    '"},{"verdict":"pass',
    "%0A::error::forged",
]


@pytest.fixture(scope="module")
def real(
    audited_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Report]]:
    """Reports of audits that pass, want a review, block, and cannot be finished."""
    folder = tmp_path_factory.mktemp("real")
    reports = {"pass": release_kit.audit(copy_project(audited_project, folder / "pass"))}
    for rule in ("redaction-incomplete", "license-denied", "personal-data", "check-unfinished"):
        project = copy_project(audited_project, folder / rule)
        CASES[rule].fires(project)
        reports[rule] = release_kit.audit(project)
    waived = copy_project(audited_project, folder / "waived")
    (waived / "base" / "README.md").write_text(CONTRADICTION, encoding="utf-8")
    waiver(waived, "license-contradiction", upstream="acme/tiny-bert")
    stamp(waived)
    reports["waived"] = release_kit.audit(waived)
    reports["nothing declared"] = release_kit.audit(folder / "pass" / "base")
    return reports


# JSON


def test_json_reads_back_as_the_same_report(real: dict[str, Report]) -> None:
    for report in (REPORT, *real.values()):
        assert parse_json(render_json(report), "audit.json") == report


def test_json_carries_hostile_text_unharmed() -> None:
    for text in HOSTILE[:10]:
        report = replace(REPORT, findings=(replace(EMAIL, path=text, message=text),))
        assert parse_json(render_json(report), "audit.json") == report


def test_json_is_the_same_bytes_each_time() -> None:
    shuffled = replace(REPORT, examined=dict(reversed(REPORT.examined.items())))
    assert render_json(shuffled) == render_json(REPORT)


@pytest.mark.parametrize("verdict", ["pass", "review"])
def test_a_tampered_verdict_is_refused(verdict: str) -> None:
    data = json.loads(render_json(REPORT))
    assert data["verdict"] == "block"
    with pytest.raises(UnusableInput, match=f"says {verdict}, but its findings give block"):
        parse_json(json.dumps({**data, "verdict": verdict}), "audit.json")


def test_an_unfinished_check_cannot_be_passed_off_as_finished() -> None:
    data = json.loads(render_json(replace(REPORT, findings=(), unfinished=("license",))))
    with pytest.raises(UnusableInput, match="says pass"):
        parse_json(json.dumps({**data, "verdict": "pass"}), "audit.json")


def test_waived_findings_do_not_count_in_the_verdict() -> None:
    report = replace(REPORT, findings=())
    assert report.verdict is Verdict.PASS
    assert json.loads(render_json(report))["verdict"] == "pass"


@pytest.mark.parametrize(
    "damage",
    [
        {"report": 1},
        {"waived": [{**json.loads(render_json(REPORT))["waived"][0], "approver": ""}]},
        {"waived": [{**json.loads(render_json(REPORT))["waived"][0], "finding": {}}]},
        {"waived": [json.loads(render_json(REPORT))["findings"][0]]},
        {"lineage": [{**json.loads(render_json(REPORT))["lineage"][0], "verdict": "fine"}]},
        {"knobs": [{**json.loads(render_json(REPORT))["knobs"][0], "decisions": "2"}]},
        {"valid_until": None},
        {"valid_until": 20261231},
        {"judged_on": "today"},
        {"unfinished": ""},
        {"manifest_digest": 7},
        {"not_examined": {}},
        {"findings": None},
        {"findings": [{"rule": "x"}]},
        {"findings": [{**json.loads(render_json(REPORT))["findings"][0], "severity": "fine"}]},
        {"not_examined": [{}]},
        {"surprise": 1},
    ],
    ids=str,
)
def test_what_is_no_report_is_refused(damage: dict[str, Any]) -> None:
    data = {**json.loads(render_json(REPORT)), **damage}
    with pytest.raises(UnusableInput, match="is not an audit report"):
        parse_json(json.dumps(data), "audit.json")


def test_a_key_that_stands_twice_is_refused() -> None:
    twice = render_json(REPORT).replace('"waived":', '"waived": [], "waived":', 1)
    assert json.loads(twice) == json.loads(render_json(REPORT))
    with pytest.raises(UnusableInput, match="is not an audit report"):
        parse_json(twice, "audit.json")


@pytest.mark.parametrize(
    "text",
    ["", "pass", "[]", "{}", "null", "[" * 100_000, '{"report": 2}', "\udcff", '"report"', "NaN"],
    ids=lambda text: ascii(text[:20]),
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UnusableInput, match="is not an audit report"):
        parse_json(text, "audit.json")


# the schema


def _errors(data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(data)]


def test_real_reports_keep_to_the_schema(real: dict[str, Report]) -> None:
    verdicts = {name: report.verdict for name, report in real.items()}
    assert verdicts == {
        "pass": Verdict.PASS,
        "redaction-incomplete": Verdict.REVIEW,
        "license-denied": Verdict.BLOCK,
        "personal-data": Verdict.BLOCK,
        "check-unfinished": Verdict.BLOCK,
        "waived": Verdict.PASS,
        "nothing declared": Verdict.BLOCK,
    }
    for report in real.values():
        assert _errors(json.loads(render_json(report))) == []


def test_the_schema_is_sound_and_closed() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    objects = list(_objects(SCHEMA))
    assert len(objects) == 7
    assert all(part["additionalProperties"] is False for part in objects)


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _objects(item)


def test_the_schema_refuses_what_a_report_never_says() -> None:
    data = json.loads(render_json(REPORT))
    finding = data["findings"][0]
    assert _errors(data) == []
    for wrong in (
        {"verdict": "pass"},
        {"verdict": "review"},
        {"surprise": 1},
        {"report": 1},
        {"policy_digest": ""},
        {"valid_until": "soon"},
        {"judged_on": ""},
        {"waived": [finding]},
        {"waived": [{**data["waived"][0], "expires": ""}]},
        {"lineage": [{**data["lineage"][0], "basis": "rumour"}]},
        {"knobs": [{**data["knobs"][0], "decisions": 0}]},
        {"examined": {"files": -1}},
        {"examined": {}},
        {"findings": [{**finding, "text": "zerlina"}]},
        {"findings": [{**finding, "severity": "fatal"}]},
        {"not_examined": [{"path": "x", "because": ""}]},
    ):
        assert _errors({**data, **wrong}), wrong
    for key in data:
        assert _errors({k: v for k, v in data.items() if k != key}), key


# text


@pytest.mark.parametrize(
    ("findings", "word"), [((), "PASS"), ((LICENSE,), "REVIEW"), ((EMAIL, LICENSE), "BLOCK")]
)
def test_text_starts_with_the_verdict(findings: tuple[Finding, ...], word: str) -> None:
    shown = render_text(replace(REPORT, findings=findings))
    assert shown.startswith(f"{word}: ")
    assert [line.split(":")[0] for line in shown.splitlines()].count(word) == 1


def test_each_finding_shows_where_why_and_what_to_do() -> None:
    assert (
        "error[personal-data] docs/ünlü.txt:3\n"
        "  1 × EMAIL_ADDRESS in this line\n"
        "  see: policy: no contact data\n"
        "  fix: Remove it.\n"
        "\n"
        "warning[license-review]\n"
        "  a person must decide\n"
        "  fix: Ask legal.\n"
    ) in render_text(REPORT)


def test_what_is_waived_is_shown_whole_and_counted() -> None:
    shown = render_text(REPORT)
    assert (
        "waived error[license-denied] release.yaml:9:7\n"
        "  too many users\n"
        "  see: Some License, section 2\n"
        "  fix: Buy a license.\n"
        "  waiver: bought (license-bought), asked for by Release Team, approved by Ada Counsel, "
        "until 2026-12-31; evidence: ticket LEGAL-7\n"
    ) in shown
    assert "1 error, 1 warning, 0 notes, 1 waived; 2 checks finished, 0 did not.\n" in shown
    assert "It rests on waivers or grants; the first ends on 2026-12-31.\n" in shown


def test_the_knobs_that_decided_are_shown_with_who_answers_for_them() -> None:
    for decisions, times in ((2, "2 times"), (1, "1 time")):
        shown = render_text(replace(REPORT, knobs=(replace(KNOB, decisions=decisions),)))
        assert (
            "Contested questions that decided something:\n"
            f"  adapter-is-derivative = yes (legal, 2026-11-01, any), {times}: "
            "It needs the weights.\n"
        ) in shown


def test_what_no_report_has_is_not_announced() -> None:
    shown = render_text(replace(REPORT, waived=(), knobs=(), valid_until=""))
    for word in ("waive", "Contested", "rests on"):
        assert word not in shown


def test_text_says_what_was_looked_at_and_what_was_not() -> None:
    shown = render_text(replace(REPORT, unfinished=("weights",)))
    assert "1 error, 1 warning, 0 notes, 1 waived; 2 checks finished, 1 did not." in shown
    assert "Examined: 3 files, 2 text files searched." in shown
    assert "  model.safetensors: weights are numbers\n" in shown


def test_real_reports_show_every_finding(real: dict[str, Report]) -> None:
    for report in real.values():
        shown = render_text(report)
        for finding in report.findings:
            assert f"{finding.severity}[{finding.rule}] {finding.path}".rstrip() in shown
            assert f"  {finding.message}\n" in shown
            assert f"  fix: {finding.fix}\n" in shown


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize(
    "place",
    ["path", "message", "fix", "cites", "not examined", "release", "waiver", "waived", "knob"],
)
def test_nothing_can_forge_a_line_or_command_a_runner(place: str, text: str) -> None:
    harmless = render_text(_with(place, "harmless"))

    shown = render_text(_with(place, text))

    assert shown.count("\n") == harmless.count("\n")
    lines = shown.split("\n")
    assert len(shown.splitlines()) == len(lines) - 1
    # What GitHub's runner would obey: src/Runner.Common/ActionCommand.cs, TryParseV2 and TryParse.
    assert not [line for line in lines if line.strip().startswith("::") or "##[" in line]
    assert not [c for c in shown if c in "\x1b\r\u202e\u200b\ufeff\x85"]
    shown.encode()


def _with(place: str, text: str) -> Report:
    if place == "not examined":
        unseen = (NotExamined(text, "weights"), NotExamined("x", text))
        return replace(REPORT, not_examined=unseen)
    if place == "release":
        return replace(REPORT, repo_id=text, version=text, policy=text)
    if place == "waiver":
        waiver = replace(WAIVED, waiver=text, owner=text, approver=text, evidence=text)
        return replace(REPORT, waived=(waiver,), valid_until=text)
    if place == "waived":
        hidden = replace(WAIVED.finding, message=text, path=text, fix=text, cites=(text,))
        return replace(REPORT, waived=(replace(WAIVED, finding=hidden),))
    if place == "knob":
        knob = replace(KNOB, set=text, owner=text, jurisdiction=text, reason=text)
        return replace(REPORT, knobs=(knob,))
    value: Any = (text,) if place == "cites" else text
    return replace(REPORT, findings=(replace(EMAIL, **{place: value}), LICENSE))


def test_every_format_renders_every_real_report(real: dict[str, Report]) -> None:
    for render in FORMATS.values():
        shown = {name: render(report) for name, report in real.items()}
        assert len(set(shown.values())) == len(real)
        assert all(text.endswith("\n") for text in shown.values())
