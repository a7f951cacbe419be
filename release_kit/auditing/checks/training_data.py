"""What was trained on is the redacted copy of each dataset, and redaction left nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.datasets.media import held_by, input_name
from release_kit.errors import UnusableInput
from release_kit.project import Project
from release_kit.receipts import Receipt, digest_of
from release_kit.release import RELEASE_FILE, Release, Upstream

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


UNSEARCHED = Rule(
    "media-unsearched",
    Severity.WARNING,
    "Pictures or sounds were trained on that nothing has searched for personal data",
    "Redaction reads text. Faces, number plates and voices are personal data as well, and a person "
    "must say that there are none or on what ground they were used. The severity comes from the "
    "policy.",
)
UNSEEN = Rule(
    "training-unseen",
    Severity.WARNING,
    "The model was trained elsewhere on data that nobody has looked at here",
    "It was loaded, so no receipt shows that it learned from a redacted copy. A person must say "
    "what is known of the personal data in it.",
)
_NAMED = {"image": "pictures", "audio": "sounds"}
_RANK = tuple(Severity)
"""The worst first."""


def _run(candidate: Candidate) -> Outcome:
    release = candidate.release
    datasets = [u for u in release.lineage if u.is_training_data] if release else []
    if release and release.training is None:
        return Outcome(tuple(_unseen(datasets)), {"datasets": len(datasets)})
    findings = [finding for dataset in datasets for finding in _findings(candidate, dataset)]
    if release and (trained := candidate.receipts.get("train")):
        for dataset in datasets:
            findings.extend(_media_findings(candidate, release, dataset, trained))
    return Outcome(tuple(findings), {"datasets": len(datasets)})


def _unseen(datasets: list[Upstream]) -> Iterator[Finding]:
    for dataset in datasets:
        if dataset.collection.personal_data != "none":
            yield Finding(
                UNSEEN.id,
                UNSEEN.severity,
                f"{dataset.id}: the model was not trained here, so nothing shows that it learned"
                " from a redacted copy",
                RELEASE_FILE,
                *dataset.position,
                fix="Say under collection that it never held personal data, where that is so, or"
                " waive this in the policy with what is known of it.",
                upstream=dataset.id,
            )


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


def _media_findings(
    candidate: Candidate, release: Release, dataset: Upstream, trained: Receipt
) -> Iterator[Finding]:
    from release_kit.training.tasks import media_fields

    fields = media_fields(release.training) if release.training else {}
    told = trained.results.get("media", {}).get(dataset.id, {})
    kinds = sorted({*fields.values(), *told.get("kinds", ())})
    # Where nobody counted there may be any number.
    if not kinds or (told and not any(told[name] for name in ("files", "embedded", "unusable"))):
        return
    if fields and dataset.path is not None and not _media_lie_there(release, dataset, trained):
        yield _unredacted(dataset, "the pictures or sounds are not those that training read")
    lines = [line for line in candidate.policy.unsearched_media if set(line.kinds) & set(kinds)]
    line = min(lines, key=lambda one: _RANK.index(Severity(one.severity)), default=None)
    count = told["files"] + told["embedded"] if told else "an unknown number of"
    yield Finding(
        UNSEARCHED.id,
        Severity(line.severity) if line else UNSEARCHED.severity,
        f"{dataset.id}: {count} {' and '.join(_NAMED[kind] for kind in kinds)} were trained on,"
        " and nothing looks for personal data in them",
        RELEASE_FILE,
        *dataset.position,
        fix="Have a person look or listen, and waive this in the policy with what was found.",
        cites=(f"policy: {line.because}",) if line else (),
        upstream=dataset.id,
        clause=line.id if line else "",
    )


def _media_lie_there(release: Release, dataset: Upstream, trained: Receipt) -> bool:
    from release_kit.training.tasks import media_fields

    assert release.training and dataset.path  # noqa: S101 - the caller has looked
    try:
        held = held_by(
            Project(release).redacted(dataset), media_fields(release.training), dataset.path.parent
        )
    except UnusableInput:
        return False
    return trained.inputs.get(input_name(dataset.id)) == held.digest


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
    (UNREDACTED, INCOMPLETE, UNSEARCHED, UNSEEN),
    _run,
)
