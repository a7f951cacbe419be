"""The report for machines: `schemas/report.schema.json` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from release_kit.auditing.findings import (
    DecidingKnob,
    Finding,
    JudgedPart,
    NotExamined,
    Report,
    Severity,
    WaivedFinding,
)
from release_kit.errors import UnusableInput
from release_kit.files import SCHEMAS, json_bytes
from release_kit.strict_json import parse_json as parse_strict_json

_FORMAT = 2


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
        said: dict[str, Any] = parse_strict_json(text.encode())
        data = dict(said)
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
                "waived": tuple(
                    WaivedFinding(**{**item, "finding": _finding(item["finding"])})
                    for item in data["waived"]
                ),
                "lineage": tuple(JudgedPart(**item) for item in data["lineage"]),
                "knobs": tuple(DecidingKnob(**item) for item in data["knobs"]),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _no_report(name) from None
    if report.verdict.value != verdict:
        raise UnusableInput(
            f"{name} says {verdict}, but its findings give {report.verdict.value}",
            hint="Run `release-kit audit` again.",
        )
    if not _validator().is_valid(said):
        raise _no_report(name)
    return report


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads((SCHEMAS / "report.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)


def _no_report(name: str) -> UnusableInput:
    return UnusableInput(f"{name} is not an audit report", hint="Run `release-kit audit` again.")


def _finding(item: dict[str, Any]) -> Finding:
    return Finding(
        **{**item, "severity": Severity(item["severity"]), "cites": tuple(item["cites"])}
    )
