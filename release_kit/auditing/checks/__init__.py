"""The checks of an audit: one module a check, one line in `CHECKS`."""

from __future__ import annotations

from release_kit.auditing.checks import (
    card,
    code,
    data_declarations,
    derivation,
    leakage,
    leaks,
    license,
    lineage,
    manifest,
    personal_data,
    provenance,
    quality,
    secrets,
    training_data,
    weights,
)
from release_kit.auditing.checks.check import Check, Outcome

CHECKS: tuple[Check, ...] = (
    manifest.CHECK,
    weights.CHECK,
    code.CHECK,
    card.CHECK,
    lineage.CHECK,
    derivation.CHECK,
    license.CHECK,
    provenance.CHECK,
    training_data.CHECK,
    data_declarations.CHECK,
    leakage.CHECK,
    quality.CHECK,
    leaks.CHECK,
    personal_data.CHECK,
    secrets.CHECK,
)

__all__ = ["CHECKS", "Check", "Outcome"]
