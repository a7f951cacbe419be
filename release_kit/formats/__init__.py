"""Output formats of a report: one module a format, one line in `FORMATS`; pure report → text."""

from __future__ import annotations

from collections.abc import Callable

from release_kit.auditing.findings import Report
from release_kit.formats.json import render_json
from release_kit.formats.text import render_text

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": render_text,
    "json": render_json,
}
