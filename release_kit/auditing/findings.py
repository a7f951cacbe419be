"""What an audit says: rules, findings, a report with its verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# The messages of parsers quote what they choked on, and anything may stand there.
_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)


def unquoted(message: str) -> str:
    """Return a parser's message without what it quotes.

    >>> unquoted("the key 'jane' stands here twice")
    'the key … stands here twice'
    """
    return _QUOTED.sub("…", message)


class Severity(StrEnum):
    """How bad a finding is; SARIF's words."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Verdict(StrEnum):
    """What a report says about the candidate as a whole."""

    PASS = "pass"  # noqa: S105
    REVIEW = "review"
    BLOCK = "block"


@dataclass(frozen=True)
class Rule:
    """One thing that a check can find."""

    id: str
    """Lower-case words with hyphens; stable."""
    severity: Severity
    title: str
    help: str
    """Why it matters and what to do, in a sentence or two."""


@dataclass(frozen=True)
class Finding:
    """One rule, broken in one place. It never holds the matched text."""

    rule: str
    severity: Severity
    message: str
    path: str = ""
    """The file, relative to the bundle, or release.yaml."""
    line: int = 0
    """1-based; 0 when the finding has no line."""
    column: int = 0
    fix: str = ""
    cites: tuple[str, ...] = ()
    """License sections, policy rules and knobs that the finding rests on."""
    upstream: str = ""
    """The id of the upstream that it is about; empty for none."""
    clause: str = ""
    """The policy rule or the condition behind it; empty where the rule alone says it all."""

    @property
    def sort_key(self) -> tuple[int, str, str, int, int, str]:
        """Worst first, then by place."""
        rank = list(Severity).index(self.severity)
        return rank, self.rule, self.path, self.line, self.column, self.message


@dataclass(frozen=True)
class WaivedFinding:
    """A finding for which somebody answers, for a time."""

    finding: Finding
    waiver: str
    """The waiver's id."""
    owner: str
    approver: str
    reason: str
    evidence: str
    expires: str
    """The last day on which it holds."""


@dataclass(frozen=True)
class JudgedPart:
    """One upstream as it was judged."""

    id: str
    role: str
    relation: str
    declared: str
    """The license as release.yaml spells it."""
    license: str
    """The license that was concluded."""
    basis: str
    """What the conclusion rests on: text, statement, table or declaration."""
    verdict: str
    """allow, review or deny."""


@dataclass(frozen=True)
class DecidingKnob:
    """An answer to a contested question that decided something about this release."""

    name: str
    set: str
    owner: str
    date: str
    jurisdiction: str
    reason: str
    decisions: int
    """How many decisions it brought about."""


@dataclass(frozen=True)
class NotExamined:
    """Something that was not looked at, and why that is right."""

    path: str
    because: str


@dataclass(frozen=True)
class Report:
    """The outcome of one audit, bound to the bytes and the policy that it judged."""

    repo_id: str
    version: str
    manifest_digest: str
    """SHA-256 of the bundle's manifest; empty when there is none."""
    release_digest: str
    """SHA-256 of release.yaml; empty when there is none."""
    policy: str
    policy_digest: str
    tool: str
    """release-kit and its version."""
    checks: tuple[str, ...]
    """The checks that ran to their end."""
    examined: Mapping[str, int]
    """What was looked at: thing → count."""
    not_examined: tuple[NotExamined, ...]
    findings: tuple[Finding, ...]
    unfinished: tuple[str, ...]
    """The checks that could not be finished; each is a finding as well."""
    waived: tuple[WaivedFinding, ...] = ()
    lineage: tuple[JudgedPart, ...] = ()
    knobs: tuple[DecidingKnob, ...] = ()
    judged_on: str = ""
    """The day as of which waivers and grants were in force."""
    valid_until: str = ""
    """The last day on which the waivers and grants that it rests on hold; empty for none."""

    @property
    def verdict(self) -> Verdict:
        """Block on any error, review on any warning, else pass."""
        severities = {finding.severity for finding in self.findings}
        if self.unfinished or Severity.ERROR in severities:
            return Verdict.BLOCK
        return Verdict.REVIEW if Severity.WARNING in severities else Verdict.PASS
