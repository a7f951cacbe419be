"""The report for machines: `schemas/report.schema.json` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from release_kit.auditing.findings import Finding, NotExamined, Report, Severity
from release_kit.errors import UnusableInput
from release_kit.files import json_bytes

_FORMAT = 1


def render_json(report: Report) -> str:
    """Return the report as JSON whose bytes depend on nothing but the report."""
    return json_bytes(
        {"report": _FORMAT, "verdict": report.verdict.value, **asdict(report)}
    ).decode()


def parse_json(text: str, name: str) -> Report:
    """Read back a report.

    Raises:
        UnusableInput: it is not a report of this format, or its verdict is not the one that its
            findings give.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if data.pop("report") != _FORMAT:
            raise KeyError("format")  # noqa: TRY301 - told as any other damage below
        verdict = data.pop("verdict")
        report = Report(
            **{
                **data,
                "checks": tuple(data["checks"]),
                "unfinished": tuple(data["unfinished"]),
                "not_examined": tuple(NotExamined(**item) for item in data["not_examined"]),
                "findings": tuple(_finding(item) for item in data["findings"]),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableInput(
            f"{name} is not an audit report", hint="Run `release-kit audit` again."
        ) from None
    if report.verdict.value != verdict:
        raise UnusableInput(
            f"{name} says {verdict}, but its findings give {report.verdict.value}",
            hint="Run `release-kit audit` again.",
        )
    return report


def _finding(item: dict[str, Any]) -> Finding:
    return Finding(
        **{**item, "severity": Severity(item["severity"]), "cites": tuple(item["cites"])}
    )
