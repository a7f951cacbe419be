"""The engine: a crash is a finding, the worst finding decides, and order never matters."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

import release_kit
from release_kit.auditing import engine
from release_kit.auditing.candidate import Candidate, read_candidate
from release_kit.auditing.checks import CHECKS, Check, Outcome
from release_kit.auditing.findings import Finding, JudgedPart, Report, Rule, Severity, Verdict
from release_kit.errors import Unfinished, UnusableInput
from release_kit.formats import FORMATS
from release_kit.licensing.policy import load_policy
from tests.bundles import bundle, own_policy, stamp
from tests.projects import edit

ODD = Rule("odd", Severity.ERROR, "Something is odd", "Make it even.")
SECRET = "zerlina.quappenstedt"


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    (tmp_path / "notes.txt").write_text("Nothing.\n", encoding="utf-8")
    return read_candidate(tmp_path, None, {})


def _run(monkeypatch: pytest.MonkeyPatch, candidate: Candidate, *checks: Check) -> Report:
    monkeypatch.setattr(engine, "CHECKS", checks)
    return engine.run_checks(candidate)


def _finds(*findings: Finding) -> Check:
    return Check("finds", "Finds what it is told", (ODD,), lambda _: Outcome(findings, {"odds": 1}))


def _finding(severity: Severity = Severity.ERROR, path: str = "", line: int = 0) -> Finding:
    return Finding(ODD.id, severity, "it is odd", path, line, fix="Make it even.")


def _crash(candidate: Candidate) -> Outcome:
    texts = {path: candidate.bundle.text(path) + SECRET for path in candidate.bundle.files}
    return Outcome(texts[SECRET])  # type: ignore[arg-type]


def test_a_crash_is_a_finding_and_the_other_checks_still_run(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate
) -> None:
    broken = Check("broken", "Crashes", (ODD,), _crash)

    report = _run(monkeypatch, candidate, broken, _finds(_finding(Severity.NOTE)))

    assert report.verdict is Verdict.BLOCK
    assert (report.unfinished, report.checks) == (("broken",), ("finds",))
    crashed, found = report.findings
    assert (crashed.rule, crashed.severity) == ("check-unfinished", Severity.ERROR)
    assert "broken" in crashed.message
    assert "KeyError" in crashed.message
    assert crashed.fix
    assert found == _finding(Severity.NOTE)
    assert report.examined == {"files": 1, "odds": 1}
    for shown in (repr(report), *(render(report) for render in FORMATS.values())):
        assert SECRET not in shown


def test_an_error_of_our_own_says_what_it_is_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate
) -> None:
    def stop(_: Candidate) -> Outcome:
        raise Unfinished("the disk is full", hint="Make room.")

    report = _run(monkeypatch, candidate, Check("broken", "Stops", (ODD,), stop))

    (finding,) = report.findings
    assert "the disk is full" in finding.message
    assert finding.fix == "Make room."
    assert report.verdict is Verdict.BLOCK


def test_a_check_may_only_find_its_own_rules(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate
) -> None:
    stranger = replace(_finds(_finding()), rules=())
    with pytest.raises(AssertionError, match="does not own"):
        _run(monkeypatch, candidate, stranger)


@pytest.mark.parametrize(
    ("severities", "verdict"),
    [
        ((), Verdict.PASS),
        ((Severity.NOTE,), Verdict.PASS),
        ((Severity.WARNING,), Verdict.REVIEW),
        ((Severity.NOTE, Severity.WARNING), Verdict.REVIEW),
        ((Severity.ERROR,), Verdict.BLOCK),
        ((Severity.NOTE, Severity.WARNING, Severity.ERROR), Verdict.BLOCK),
    ],
)
def test_the_worst_finding_decides(
    severities: tuple[Severity, ...],
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
    candidate: Candidate,
) -> None:
    for order in itertools.permutations(severities):
        report = _run(monkeypatch, candidate, _finds(*(_finding(s) for s in order)))
        assert report.verdict is verdict


def test_an_unfinished_check_blocks_even_without_its_finding(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate
) -> None:
    report = _run(monkeypatch, candidate, _finds())
    assert report.verdict is Verdict.PASS
    assert replace(report, unfinished=("finds",)).verdict is Verdict.BLOCK


def test_findings_stand_worst_first_then_by_place(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate
) -> None:
    wanted = [
        _finding(Severity.ERROR, "a.txt", 2),
        _finding(Severity.ERROR, "a.txt", 10),
        _finding(Severity.ERROR, "b.txt", 1),
        _finding(Severity.WARNING, "a.txt", 1),
        _finding(Severity.NOTE, "", 0),
    ]
    draw = random.Random(4)
    for _ in range(20):
        given = draw.sample(wanted, len(wanted))
        report = _run(monkeypatch, candidate, _finds(*given))
        assert list(report.findings) == wanted


def test_the_report_does_not_depend_on_the_order_of_files_or_checks(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.pkl", "a.pkl", "ü.txt"):
        (bundle(project) / name).write_bytes(b"Gr\xfc\xdfe\n")
    (bundle(project) / "LICENSE").unlink()
    candidate = read_candidate(bundle(project), None, {})
    backwards = replace(
        candidate.bundle, files=dict(reversed(list(candidate.bundle.files.items())))
    )

    there = engine.run_checks(candidate)
    monkeypatch.setattr(engine, "CHECKS", tuple(reversed(CHECKS)))
    back = engine.run_checks(replace(candidate, bundle=backwards))

    assert len(there.findings) > 6
    assert back.findings == there.findings
    assert back.not_examined == there.not_examined
    assert back.examined == there.examined


def test_what_was_not_examined_is_told_with_a_reason(project: Path) -> None:
    report = release_kit.audit(project)

    unseen = {(item.path, item.because) for item in report.not_examined}
    reasons = [because for path, because in unseen if path == "model.safetensors"]
    assert any("weights are numbers" in because for because in reasons)
    assert any("secrets" in because for because in reasons)
    assert all(because for _, because in unseen)
    searched = report.examined["text files searched"]
    personal = [item for item in report.not_examined if "personal data" in item.because]
    files = [item for item in personal if item.path in _files(project)]
    assert searched + len(files) == report.examined["files"]
    shown = FORMATS["text"](report)
    for item in report.not_examined:
        assert item.path in shown
        assert item.because in shown


def test_data_that_is_not_at_hand_is_not_passed(project: Path) -> None:
    edit(project / "release.yaml", "      path: data/notes.jsonl\n", "")
    with pytest.raises(UnusableInput, match="no dataset to train on"):
        release_kit.build(project)
    stamp(project)

    (finding,) = release_kit.audit(project).findings

    assert finding.rule == "training-data-unredacted"
    assert "nothing can be proved" in finding.message


def test_data_that_was_trained_on_cannot_be_called_a_tool(project: Path) -> None:
    edit(project / "release.yaml", "path: data/notes.jsonl", "relation: tool-only")
    with pytest.raises(UnusableInput, match="no dataset to train on"):
        release_kit.build(project)

    assert {f.rule for f in release_kit.audit(project).findings} == {"bundle-stale"}


def _files(project: Path) -> set[str]:
    root = bundle(project)
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_report_is_bound_to_bytes_release_and_policy(project: Path) -> None:
    from release_kit.files import sha256_file

    report = release_kit.audit(project)

    assert report.manifest_digest == sha256_file(bundle(project) / "manifest.json")
    assert report.release_digest == sha256_file(project / "release.yaml")
    assert report.policy_digest == load_policy().digest


# what the report says about lineage and contested law

KNOB = "dataset-terms-reach-weights"


def _set(policy: Path, knob: str, position: str) -> None:
    text = policy.read_text(encoding="utf-8")
    head, _, rest = text.partition(f"  {knob}:\n")
    before, _, after = rest.partition("    set: ")
    policy.write_text(
        f'{head}  {knob}:\n{before}    set: "{position}"\n{after.partition(chr(10))[2]}',
        encoding="utf-8",
    )


def test_the_report_says_how_each_license_was_concluded_and_what_was_decided(
    project: Path,
) -> None:
    text = (bundle(project) / "LICENSE").read_bytes()
    (project / "base" / "LICENSE").write_bytes(text)
    edit(project / "release.yaml", "tiny-bert\n      license: apache-2.0",
         "tiny-bert\n      license: unknown")  # fmt: skip
    edit(project / "release.yaml", "license: cc-by-4.0", "license: CC BY NC 4.0")
    release_kit.build(project)

    report = release_kit.audit(project)

    assert report.lineage == (
        JudgedPart(
            "acme/tiny-bert", "base_model", "weights-derived", "unknown", "apache-2.0", "text",
            "allow",
        ),
        JudgedPart(
            "acme/topic-notes", "dataset", "trained-on-data", "CC BY NC 4.0", "cc-by-nc-4.0",
            "declaration", "deny",
        ),
    )  # fmt: skip
    assert report.examined["upstreams"] == 2
    assert report.examined["licenses known by text"] == 1
    assert report.examined["licenses known by declaration"] == 1


def test_the_knob_that_decided_is_told_with_who_answers_for_it(project: Path) -> None:
    policy = own_policy(project)
    edit(project / "release.yaml", "license: cc-by-4.0", "license: cc-by-nc-4.0")
    release_kit.build(project)

    strict = release_kit.audit(project)

    denied = [finding for finding in strict.findings if finding.rule == "license-denied"]
    assert {finding.upstream for finding in denied} == {"acme/topic-notes"}
    knob = load_policy(policy).knobs[KNOB]
    for finding in denied:
        assert f"policy rule {finding.clause}" in finding.cites
        assert str(knob) in finding.cites
    assert knob.owner in str(knob) and knob.reason in str(knob) and KNOB in str(knob)
    (decided,) = [item for item in strict.knobs if item.name == KNOB]
    assert (decided.set, decided.owner, decided.date) == ("yes", knob.owner, knob.date)
    assert decided.decisions >= len(denied)

    _set(policy, KNOB, "no")
    release_kit.build(project)
    loose = release_kit.audit(project)
    assert [f.clause for f in loose.findings if f.rule == "license-denied"] == []
    assert [item.set for item in loose.knobs if item.name == KNOB] == ["no"]
    (asked,) = loose.findings
    assert (asked.rule, asked.clause) == ("license-review", "noncommercial-tool")
    assert str(load_policy(policy).knobs[KNOB]) in asked.cites


def test_a_report_about_the_same_day_is_the_same_bytes(project: Path) -> None:
    edit(project / "release.yaml", "license: cc-by-4.0", "license: cc-by-nc-4.0")
    reports = [release_kit.audit(project) for _ in range(2)]
    assert reports[0] == reports[1]
    for render in FORMATS.values():
        assert render(reports[0]) == render(reports[1])
    assert (project / "out" / "audit.json").read_text() == FORMATS["json"](reports[0])


def test_a_judgement_that_crashes_is_no_pass_and_the_other_checks_still_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("release_kit.auditing.candidate.judge", crash)
    report = release_kit.audit(project)
    assert set(report.unfinished) == {"card", "lineage", "license"}
    assert report.verdict is Verdict.BLOCK
    assert report.lineage == report.knobs == ()
    assert SECRET not in FORMATS["json"](report)
