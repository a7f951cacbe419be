"""The shape of a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.findings import Finding, NotExamined, Rule


@dataclass(frozen=True)
class Outcome:
    """What one check found, and what it looked at."""

    findings: tuple[Finding, ...]
    examined: Mapping[str, int] = field(default_factory=dict)
    not_examined: tuple[NotExamined, ...] = ()


@dataclass(frozen=True)
class Check:
    """A function from candidate to outcome, and the rules that it owns."""

    id: str
    title: str
    rules: tuple[Rule, ...]
    run: Callable[[Candidate], Outcome]
