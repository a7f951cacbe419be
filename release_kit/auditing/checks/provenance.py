"""In a project, the bundle is what its stages made from the files as they are now."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.bundle import MANIFEST
from release_kit.release import RELEASE_FILE, Release
from release_kit.weight_tensors import GGUF_SUFFIX, SUFFIX

STALE = Rule(
    "bundle-stale",
    Severity.ERROR,
    "The bundle is not what the last build made from the project as it is now",
    "The documents of a bundle are written from release.yaml, the policy and the receipts; when "
    "one of them changes, the documents may say what is no longer true.",
)
UNTRAINED = Rule(
    "weights-untrained",
    Severity.ERROR,
    "Weights are not those that training made or that were loaded",
    "The card and the receipts speak of other weights than those in the bundle.",
)


def _run(candidate: Candidate) -> Outcome:
    if candidate.release is None or not candidate.in_project:
        return Outcome(())
    loaded = candidate.receipts.get("load")
    unexamined = loaded.results.get("unexamined") if loaded else ""
    return Outcome(
        tuple(_findings(candidate, candidate.release)),
        {"receipts": len(candidate.receipts)},
        (NotExamined(RELEASE_FILE, unexamined),) if unexamined else (),
    )


def _findings(candidate: Candidate, release: Release) -> Iterator[Finding]:
    built = candidate.receipts.get("build")
    if built is None:
        yield _stale("there is no receipt of the stage build", MANIFEST)
    else:
        if built.inputs.get(RELEASE_FILE) != candidate.release_digest:
            yield _stale("release.yaml has changed since the bundle was built", RELEASE_FILE)
        if built.inputs.get("policy") != candidate.policy.digest:
            yield _stale("the policy or a license file has changed since", candidate.policy.file)
        if built.results.get("manifest_digest") != candidate.manifest_digest:
            yield _stale("the manifest is not the one that the build wrote", MANIFEST)
    stage = "load" if release.training is None else "train"
    receipt = candidate.receipts.get(stage)
    made = set(receipt.results.get("weights", {}).values()) if receipt else set()
    for path, file in candidate.bundle.files.items():
        if path.endswith((SUFFIX, GGUF_SUFFIX)) and file.sha256 not in made:
            yield Finding(
                UNTRAINED.id,
                UNTRAINED.severity,
                f"these weights are not among those that the receipt of `{stage}` names",
                path,
                fix="Run `release-kit run`, which makes them where needed and builds again.",
            )


def _stale(message: str, path: str) -> Finding:
    return Finding(
        STALE.id, STALE.severity, message, path, fix="Run `release-kit build` and audit again."
    )


CHECK = Check(
    "provenance",
    "The bundle is what the stages made",
    (STALE, UNTRAINED),
    _run,
)
