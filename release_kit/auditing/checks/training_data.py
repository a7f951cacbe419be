"""What was trained on is the redacted copy of each dataset, and redaction left nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.receipts import digest_of
from release_kit.release import RELEASE_FILE, Upstream

_WHERE = {"remaining": "after redaction", "kept": "in the label, which redaction leaves alone"}

UNREDACTED = Rule(
    "training-data-unredacted",
    Severity.ERROR,
    "The model was not trained on a redacted copy of the data",
    "Redaction is proved by its receipt, and training by its own: the data that training read must "
    "be what redaction made from the dataset as it lies there now.",
)
INCOMPLETE = Rule(
    "redaction-incomplete",
    Severity.WARNING,
    "Personal data was still found after redaction",
    "The redacted copy was searched again and is not clean. A person must look at what is left.",
)


def _run(candidate: Candidate) -> Outcome:
    release = candidate.release
    datasets = [u for u in release.lineage if u.is_training_data] if release else []
    findings = [finding for dataset in datasets for finding in _findings(candidate, dataset)]
    return Outcome(tuple(findings), {"datasets": len(datasets)})


def _findings(candidate: Candidate, dataset: Upstream) -> Iterator[Finding]:
    redacted, trained = candidate.receipts.get("redact"), candidate.receipts.get("train")
    if dataset.path is None:
        yield _unredacted(dataset, "release.yaml gives no path to it, so nothing can be proved")
        return
    if redacted is None or trained is None:
        missing = "redact" if redacted is None else "train"
        yield _unredacted(dataset, f"there is no receipt of the stage {missing}")
        return
    if redacted.inputs.get(dataset.id) != digest_of(dataset.path):
        yield _unredacted(dataset, "its bytes are not those that redaction read")
        return
    result = redacted.results[dataset.id]
    if result["sha256"] not in trained.inputs.values():
        yield _unredacted(dataset, "training did not read the redacted copy")
    for where in ("remaining", "kept"):
        for entity, count in sorted(result[where].items()):
            if count:
                yield Finding(
                    INCOMPLETE.id,
                    INCOMPLETE.severity,
                    f"{dataset.id}: {count} × {entity} still found {_WHERE[where]}",
                    RELEASE_FILE,
                    *dataset.position,
                    fix="Clean the dataset at its origin, or have a person look, and run again.",
                )


def _unredacted(dataset: Upstream, why: str) -> Finding:
    return Finding(
        UNREDACTED.id,
        UNREDACTED.severity,
        f"{dataset.id}: {why}",
        RELEASE_FILE,
        *dataset.position,
        fix="Run `release-kit run`, which redacts, trains and builds again.",
    )


CHECK = Check(
    "training-data",
    "The model was trained on redacted data only",
    (UNREDACTED, INCOMPLETE),
    _run,
)
