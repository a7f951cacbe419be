"""What those checks share that hold what was measured against gates of the policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.release import RELEASE_FILE


class Gate(Protocol):
    """A limit that the policy sets, and why."""

    @property
    def id(self) -> str:
        """As waivers name it."""

    @property
    def because(self) -> str:
        """The reason, in one line."""

    @property
    def source(self) -> str:
        """Where the number comes from."""


def about(rule: Rule, gates: Sequence[Gate], severity: str, said: str, fix: str) -> Finding:
    """Return what `rule` finds of these gates; a waiver must name them all."""
    reasons = (f"policy: {gate.because}" for gate in gates)
    sources = (f"the number: {gate.source}" for gate in gates)
    return Finding(
        rule.id,
        Severity(severity),
        said,
        RELEASE_FILE,
        fix=fix,
        cites=tuple(dict.fromkeys((*reasons, *sources))),
        clause="+".join(gate.id for gate in gates),
    )


def rank(severity: str) -> int:
    """Return how bad it is; 0 is the worst."""
    return list(Severity).index(Severity(severity))


def finite(value: Any) -> float | None:
    """Return a number of a receipt; None where it is none, or not finite."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping of a receipt; an empty one where it is none."""
    return value if isinstance(value, Mapping) else {}
