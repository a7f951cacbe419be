"""Everything that is measured of one model: which probes there are, and what they find."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_kit.files import json_bytes, sha256_bytes
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES, MEASURES_OF
from release_kit.memorization.exposure import exposure_probe
from release_kit.memorization.extraction import extraction_probe
from release_kit.memorization.intervals import LEVEL
from release_kit.memorization.membership import membership_probe
from release_kit.memorization.model_folder import measure_folder
from release_kit.memorization.probes import Asked, Found, Probe, Reading, spend
from release_kit.memorization.redacted import redacted_probe
from release_kit.memorization.shadows import train_shadows
from release_kit.memorization.subject import open_subject
from release_kit.memorization.untargeted import untargeted_probe
from release_kit.progress import SILENT, Watcher
from release_kit.receipts import digest_of, tool_versions
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.models import need, quiet

if TYPE_CHECKING:
    from release_kit.datasets.records import Record


@dataclass(frozen=True)
class Leaks:
    """What the weights still tell; `dataclasses.asdict` of it is JSON."""

    task: str
    """Empty where nobody knows."""
    readings: tuple[Reading, ...]
    """In the order of `release_kit.leak_measures.MEASURES`."""
    not_measured: Mapping[str, str]
    """Measure that belongs to the task → why there is no reading of it."""
    curves: Mapping[str, Any]
    notes: tuple[str, ...]
    asked: tuple[Asked, ...]
    level: float
    seconds: float
    complete: bool
    """Whether everything was asked that the plan asks for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the model was trained and what was asked for, as JSON."""


def measure_leaks(
    plan: TrainingPlan,
    leaks: LeaksPlan,
    model: Path,
    records: Sequence[Record],
    *,
    base: Path | None,
    originals: Mapping[str, Path],
    scratch: Path,
    watcher: Watcher = SILENT,
) -> Leaks:
    """Ask the model in folder `model`, which was trained by `plan` on `records`, what it keeps.

    Args:
        plan: seed, shares, options and canaries must be those of the training.
        leaks: how much is asked, and for how long.
        model: the weights that are published.
        records: what was trained on and held out, redacted.
        base: the folder that training started from; None where it is not at hand.
        originals: the source of redacted records → the dataset before redaction.
        scratch: a folder that is nobody else's. Answers are kept there, as numbers, so that a
            later call for the same weights and data goes on where this one stopped.
        watcher: is told how far the work is.

    Raises:
        UnusableInput: a record, the split or the model cannot be used.
        Unfinished: a package is not installed.
    """
    started = time.monotonic()
    need("torch", "transformers", "safetensors", "scipy", "sklearn")
    bound = _bound(plan, leaks, model, records, base)
    with quiet():
        subject = open_subject(plan, model, records, base)
        found = [measure_folder(model, base, watcher, task=plan.task)]
        shadows = None
        if leaks.shadows:
            shadows = train_shadows(subject, leaks, scratch, bound, watcher)
        makers: dict[str, Callable[[], Probe | Found]] = {
            "canary_exposure": lambda: exposure_probe(subject, leaks),
            "membership_auc": lambda: membership_probe(subject, leaks, shadows),
            "extraction_rate": lambda: extraction_probe(subject, leaks),
            "redacted_recovery_rate": lambda: redacted_probe(subject, leaks, originals),
            "untargeted_overlap_rate": lambda: untargeted_probe(subject, leaks),
        }
        asking: list[Probe] = []
        for measure, make in makers.items():
            if measure in MEASURES_OF[plan.task]:
                made = make()
                (asking if isinstance(made, Probe) else found).append(made)  # type: ignore[arg-type]
        seconds = None if leaks.minutes is None else 60 * leaks.minutes
        if seconds is not None:
            seconds = max(0.0, seconds - (time.monotonic() - started))
        rows, asked = spend(asking, seconds, scratch / "answers.jsonl", bound, watcher)
        found += [probe.found(rows[probe.name]) for probe in asking]
    # Names of fields and labels may say something about persons.
    told = {k: v for k, v in asdict(subject.plan).items() if k not in ("fields", "class_weights")}
    sizes = asdict(subject.splits.sizes) | {
        "families of training records": len(subject.members),
        "families of held-out records": len(subject.controls),
    }
    settings = {"training": told, "records": sizes, "leaks": asdict(leaks)}
    return _joined(
        plan.task, MEASURES_OF[plan.task], found, started=started, asked=asked, settings=settings
    )


def measure_model_folder(
    model: Path, task: str, base: Path | None = None, watcher: Watcher = SILENT
) -> Leaks:
    """Look for leaks in a model folder of whose training nothing is known here.

    Raises:
        UnusableInput: the folder cannot be read.
    """
    started = time.monotonic()
    found = measure_folder(model, base, watcher, task=task)
    measures = MEASURES_OF.get(task, FOLDER_MEASURES)
    because = "nothing is known here of the data that the model was trained on"
    unknown = {name: because for name in measures if name not in FOLDER_MEASURES}
    return _joined(task, measures, [found, Found(not_measured=unknown)], started=started)


def _joined(
    task: str,
    measures: Sequence[str],
    found: Sequence[Found],
    *,
    started: float,
    asked: tuple[Asked, ...] = (),
    settings: Mapping[str, Any] | None = None,
) -> Leaks:
    readings = [reading for one in found for reading in one.readings if _is_known(reading)]
    read = {reading.measure for reading in readings}
    reasons = {name: why for one in found for name, why in one.not_measured.items()}
    order = list(MEASURES)
    return Leaks(
        task=task,
        readings=tuple(
            sorted(readings, key=lambda one: (order.index(one.measure), one.repeats or 0))
        ),
        # What nobody answered for is not measured either.
        not_measured={
            name: reasons.get(name, "what was answered is too little, or no number")
            for name in measures
            if name not in read
        },
        curves={name: curve for one in found for name, curve in one.curves.items()},
        notes=tuple(note for one in found for note in one.notes),
        asked=asked,
        level=LEVEL,
        seconds=time.monotonic() - started,
        complete=all(one.asked == one.items for one in asked),
        settings=settings or {},
    )


def _is_known(reading: Reading) -> bool:
    return all(math.isfinite(number) for number in (reading.value, reading.low, reading.high))


def _bound(
    plan: TrainingPlan, leaks: LeaksPlan, model: Path, records: Sequence[Record], base: Path | None
) -> str:
    """Return a digest of everything that the answers depend on."""
    said = [repr(list(record.fields.items())) for record in records]
    return sha256_bytes(
        json_bytes(
            {
                "plan": asdict(replace(plan, slices=(), robustness=())),
                "leaks": asdict(replace(leaks, minutes=None)),
                "model": digest_of(model),
                "base": digest_of(base) if base else "",
                "records": sha256_bytes("\n".join(said).encode()),
                "tools": tool_versions(("torch", "transformers", "numpy")),
            }
        )
    )
