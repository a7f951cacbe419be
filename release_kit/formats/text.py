"""The report for people: verdict first, then what to mend, then what was looked at."""

from __future__ import annotations

import unicodedata

from release_kit.auditing.findings import Finding, Report, Severity, Verdict, WaivedFinding

_SAID = {
    Verdict.PASS: "PASS: nothing stands in the way of this release.",
    Verdict.REVIEW: "REVIEW: a person must decide before this release.",
    Verdict.BLOCK: "BLOCK: this release must not be published as it is.",
}


def render_text(report: Report) -> str:
    """Return the report as plain text that ends with a line feed."""
    name = f"{report.repo_id} {report.version}" if report.repo_id else "(nothing declared)"
    lines = [_SAID[report.verdict], "", f"  release   {name}"]
    lines.append(f"  manifest  {report.manifest_digest or 'none'}")
    lines.append(f"  policy    {report.policy} ({report.policy_digest[:12]})")
    for finding in report.findings:
        lines += ["", *_finding(finding)]
    for waived in report.waived:
        lines += ["", *_waived(waived)]
    if report.knobs:
        lines += ["", "Contested questions that decided something:"]
        lines += [
            f"  {knob.name} = {knob.set} ({knob.owner}, {knob.date}, {knob.jurisdiction}), "
            f"{knob.decisions} time{'s' * (knob.decisions != 1)}: {knob.reason}"
            for knob in report.knobs
        ]
    lines += ["", _counts(report)]
    if report.valid_until:
        lines.append(f"It rests on waivers or grants; the first ends on {report.valid_until}.")
    if report.examined:
        looked = ", ".join(f"{count} {thing}" for thing, count in report.examined.items())
        lines.append(f"Examined: {looked}.")
    if report.not_examined:
        by_reason: dict[str, list[str]] = {}
        for item in report.not_examined:
            by_reason.setdefault(item.because, []).append(item.path)
        lines.append("Not examined:")
        lines += [f"  {', '.join(paths)}: {because}" for because, paths in by_reason.items()]
    return "\n".join(printable(line) for line in lines) + "\n"


def _finding(finding: Finding) -> list[str]:
    where = finding.path
    if finding.line:
        where += f":{finding.line}" + (f":{finding.column}" if finding.column else "")
    head = f"{finding.severity.value}[{finding.rule}]" + (f" {where}" if where else "")
    lines = [head, f"  {finding.message}"]
    lines += [f"  see: {cite}" for cite in finding.cites]
    if finding.fix:
        lines.append(f"  fix: {finding.fix}")
    return lines


def _waived(item: WaivedFinding) -> list[str]:
    head, *rest = _finding(item.finding)
    return [
        f"waived {head}",
        *rest,
        f"  waiver: {item.waiver} ({item.reason}), asked for by {item.owner}, approved by "
        f"{item.approver}, until {item.expires}; evidence: {item.evidence}",
    ]


def _counts(report: Report) -> str:
    counts = dict.fromkeys(Severity, 0)
    for finding in report.findings:
        counts[finding.severity] += 1
    said = ", ".join(f"{n} {severity.value}{'s' * (n != 1)}" for severity, n in counts.items())
    said += f", {len(report.waived)} waived" if report.waived else ""
    return f"{said}; {len(report.checks)} checks finished, {len(report.unfinished)} did not."


def printable(line: str) -> str:
    """Escape what would let a file name forge a line, reorder one, or command a CI runner.

    GitHub's runner obeys `::` at the start of a line, blanks aside, and `##[` anywhere in it.
    """
    hidden = {"Cc", "Cf", "Zl", "Zp", "Cs"}
    text = "".join(_escaped(c) if unicodedata.category(c) in hidden else c for c in line)
    text = text.replace("##[", _escaped("#") + "#[")
    said = text.lstrip()
    if said.startswith("::"):
        text = text[: -len(said)] + _escaped(":") + said[1:]
    return text


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"
