"""Nothing in the bundle has its own code run by whoever loads the model."""

from __future__ import annotations

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.custom_code import custom_code

CUSTOM = Rule(
    "custom-code",
    Severity.ERROR,
    "The model has code of its own run on loading",
    "Whoever loads it with trust_remote_code runs a stranger's code. It is never run here, so "
    "nobody has seen what it does; a person must read it, and answer for it by a waiver.",
)


def _run(candidate: Candidate) -> Outcome:
    bundle = candidate.bundle
    findings = tuple(
        Finding(
            CUSTOM.id,
            CUSTOM.severity,
            f"it {said}",
            path,
            fix="Release a model whose architecture is part of transformers, or have the policy's"
            " owner waive this with what was read.",
        )
        for path, said in custom_code(bundle.root, bundle.files)
    )
    return Outcome(findings)


CHECK = Check("code", "No file has code of its own run on loading", (CUSTOM,), _run)
