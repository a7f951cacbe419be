"""What weights leak: canaries, false alarms, extraction against epochs and size, and speed.

    python -m benchmarks.leaks --threads 1

The texts are the license notices of `licensedcode-data` (pip install licensedcode-data). A small
GPT-2 learns some of them as a base; what is studied is trained on others.

- canaries: the base is fine-tuned with planted canaries, without them, and with DP-SGD, once for
  each seed; mean exposure by how often a canary stands in the data (the shape of Carlini et al.
  2019, The Secret Sharer, and of Carlini et al. 2022, Quantifying Memorization, for repeats).
- extraction: models that learn the same records for more and more epochs, and larger and larger
  models for the same epochs; the share that they complete (the shape of Carlini et al. 2022).
- false alarms: models asked about records that they never saw, split anew for each try; how often
  the gates of the shipped policy say that something is shown.
- speed: candidates of a canary a second, with a shared prefix and one by one, and the tokens a
  second of the forward pass alone.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.training import base_of
from release_kit.datasets.records import Record
from release_kit.demonstration.notices import select_notices
from release_kit.licensing.policy import LeakGate, load_policy
from release_kit.memorization.canaries import drawn, planted, writer
from release_kit.memorization.exposure import (
    BARE,
    CACHED,
    PLAIN,
    exposure_probe,
    likelihoods,
    scored,
    space_of,
)
from release_kit.memorization.extraction import extraction_probe
from release_kit.memorization.intervals import share
from release_kit.memorization.membership import membership_probe
from release_kit.memorization.probes import Found, Probe, Reading
from release_kit.memorization.subject import Subject, open_subject
from release_kit.memorization.untargeted import untargeted_probe
from release_kit.progress import SILENT
from release_kit.release import (
    Canaries,
    DifferentialPrivacy,
    LeaksPlan,
    Method,
    TrainingPlan,
)
from release_kit.training.fit import fit
from release_kit.training.models import quiet
from release_kit.training.tasks import settled

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("canaries", "extraction", "false alarms", "speed")
# So that each digit is a token of its own, as it is with the tokenizers of large models.
_DIGITS = [" ".join("0123456789 0123456789")] * 200
_LEAKS = LeaksPlan(records=200, samples=100)


@dataclass(frozen=True)
class Study:
    """What all parts start from."""

    base: Path
    """A small GPT-2 that has learned notices of its own."""
    records: Sequence[Record]
    """Notices that it has not seen."""
    others: Sequence[Record]
    """Still others."""
    plan: TrainingPlan
    seeds: int
    folder: Path


def told(line: str) -> None:
    """Say how far the work is."""
    print(line, file=sys.stderr, flush=True)


def readings(probe: Probe | Found) -> tuple[Reading, ...]:
    """Ask everything and return what was found."""
    if isinstance(probe, Probe):
        with quiet():
            probe = probe.found(probe.ask(range(probe.items)))
    for name, why in probe.not_measured.items():
        told(f"not measured: {name}: {why}")
    return probe.readings


def trained(study: Study, name: str, plan: TrainingPlan, base: Path | None = None) -> Subject:
    """Train by `plan`, with the canaries that it asks for, and return what is to be asked."""
    started = time.monotonic()
    model = study.folder / name
    secrets = planted(plan, study.records)
    fit(plan, base or study.base, study.records, model, planted=secrets)
    told(f"{name}: trained in {time.monotonic() - started:.0f} s")
    with quiet():
        return open_subject(plan, model, study.records, base or study.base)


def canaries(study: Study) -> None:
    """Print mean exposure by repeats, with canaries, without them and with DP-SGD."""
    asked = Canaries(repeats=(1, 4, 16, 64), each=6)
    full = replace(study.plan, canaries=asked)
    ways = {
        "planted": full,
        "not planted": study.plan,
        "planted, LoRA": replace(
            full, method=Method("lora", rank=8), learning_rate=5e-3, epochs=full.epochs + 1
        ),
        "planted, LoRA, epsilon 8": replace(
            full,
            method=Method("lora", rank=8),
            learning_rate=5e-3,
            epochs=full.epochs + 1,
            differential_privacy=DifferentialPrivacy(epsilon=8.0),
        ),
    }
    print("### Exposure, bits\n")
    print("Mean over the seeds of the mean over canaries (least and most of the seeds).\n")
    print("| | " + " | ".join(f"{n} times" for n in (0, *asked.repeats)) + " |")
    print("| --- |" + " ---: |" * (1 + len(asked.repeats)))
    for name, plan in ways.items():
        found: dict[int, list[float]] = {}
        for seed in range(study.seeds):
            subject = trained(study, f"{name} {seed}", replace(plan, seed=seed))
            # The canaries of the seed are asked for, planted or not.
            subject = replace(subject, plan=replace(subject.plan, canaries=asked))
            for one in readings(exposure_probe(subject, _LEAKS)):
                if one.measure == "canary_exposure":
                    found.setdefault(one.repeats or 0, []).append(one.value)
            told(f"{name} {seed}: {found}")
        cells = [
            f"{np.mean(found[n]):.2f} ({min(found[n]):.2f}, {max(found[n]):.2f})"
            for n in sorted(found)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print()


def extraction(study: Study) -> None:
    """Print what is completed after more epochs, and by larger models."""
    texts = [str(record.fields["text"]) for record in study.records] + _DIGITS
    from_nothing = replace(study.plan, options={"start": "scratch"}, learning_rate=1e-3)
    print("### Extraction\n")
    print("| model | epochs | exact, members less control | nearly | membership AUC |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for width, epochs in ((256, 5), (256, 10), (256, 20), (256, 40), (64, 40), (128, 40)):
        base = base_of("causal-lm", study.folder / f"form {width}", texts, width=width)
        plan = replace(from_nothing, epochs=epochs)
        subject = trained(study, f"width {width} epochs {epochs}", plan, base)
        said = {
            one.measure: one
            for one in (
                *readings(extraction_probe(subject, _LEAKS)),
                *readings(membership_probe(subject, _LEAKS)),
            )
        }
        size = sum(p.numel() for p in subject.loaded.model.parameters()) / 1e6
        names = ("extraction_rate", "near_extraction_rate", "membership_auc")
        cells = " | ".join(_shown(said.get(name)) for name in names)
        print(f"| {size:.2f} M, width {width} | {epochs} | {cells} |", flush=True)
    print()


def _shown(one: Reading | None) -> str:
    return "" if one is None else f"{one.value:.3f} ({one.low:.3f}, {one.high:.3f})"


def false_alarms(study: Study, tries: int) -> None:
    """Print how often a gate of the baseline fires on records that the model never saw."""
    asked = Canaries(repeats=(1, 4, 16), each=8)
    plan = replace(study.plan, seed=1000)
    with quiet():
        strange = trained(replace(study, records=study.others), "strange", plan)
    gates = [gate for gate in load_policy(None).leak_gates if "causal-lm" in gate.tasks]
    fired: dict[str, int] = {}
    for turn in range(tries):
        plan = replace(strange.plan, seed=turn, canaries=asked)
        with quiet():
            subject = open_subject(plan, strange.model, study.records, study.base)
        found = tuple(_all_readings(subject))
        for gate in gates:
            missed = any(
                not gate.met(getattr(one, gate.by))
                for one in found
                if one.measure == gate.measure and not one.means_nothing and _about(gate, one)
            )
            fired[gate.id] = fired.get(gate.id, 0) + missed
        told(f"try {turn}: {[name for name, count in fired.items() if count]}")
    print("### False alarms\n")
    print(f"A model asked {tries} times about records that it never saw, split anew each time.\n")
    print("| gate | tries in which it fired | 95 % |")
    print("| --- | ---: | ---: |")
    for name, count in sorted(fired.items(), key=lambda item: -item[1]):
        low, high = share(min(count, tries), tries)
        print(f"| `{name}` | {count} | {low:.3f} to {high:.3f} |", flush=True)
    print()


def _all_readings(subject: Subject) -> Iterator[Reading]:
    for make in (exposure_probe, membership_probe, extraction_probe, untargeted_probe):
        yield from readings(make(subject, _LEAKS))


def _about(gate: LeakGate, one: Reading) -> bool:
    most = gate.up_to_repeats
    return one.repeats is None or (one.repeats > 0 and (most is None or one.repeats <= most))


def speed(study: Study) -> None:
    """Print candidates and tokens a second: one by one, in batches, and with what is shared."""
    import torch

    plan = settled(replace(study.plan, canaries=Canaries()))[1]
    task = settled(plan)[0]
    examples = task.read(plan, study.records)
    with quiet():
        loaded = task.load(plan, study.base, None)
    write, canary = writer(plan, examples), drawn(plan)[0]
    _, space = space_of(task, loaded, plan, canary, write)
    assert space is not None
    length = len(space.row["input_ids"])
    ids = torch.randint(loaded.model.config.vocab_size, (64, length))
    secrets = np.random.default_rng(0).integers(10, size=(2048, len(space.places)))
    ways: dict[str, tuple[Callable[[NDArray[np.intp]], object], int]] = {
        "one by one": (lambda some: scored(likelihoods(loaded, space, PLAIN, 1), some), 128),
        "whole rows in batches": (lambda some: scored(likelihoods(loaded, space), some), 512),
        "shared beginning": (lambda some: scored(likelihoods(loaded, space, CACHED), some), 2048),
        "and ten rows of the head": (
            lambda some: scored(likelihoods(loaded, space, BARE), some), 2048
        ),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in ways}
    forward = []
    for _ in range(3):
        for name, (way, count) in ways.items():
            started = time.perf_counter()
            way(secrets[:count])
            rates[name].append(count / (time.perf_counter() - started))
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in range(8):
                loaded.model(input_ids=ids, use_cache=False)
        forward.append(8 * ids.numel() / (time.perf_counter() - started))
    print("### Speed\n")
    print(f"{length} tokens a canary, {len(space.places)} of them its secret; the forward pass"
          f" alone reads {np.median(forward):.0f} tokens a second.\n")  # fmt: skip
    print("| | candidates a second | of one by one | tokens a second, of the forward pass's |")
    print("| --- | ---: | ---: | ---: |")
    for name, found in rates.items():
        rate = float(np.median(found))
        print(f"| {name} | {rate:.0f} | {rate / np.median(rates['one by one']):.1f} |"
              f" {rate * length / np.median(forward):.2f} |", flush=True)  # fmt: skip
    print()


def studied(options: argparse.Namespace, folder: Path) -> Study:
    """Train the base that all parts start from."""
    notices = select_notices(3 * options.records, SILENT)
    first, second, third = (
        [Record({"text": one.fields["text"]}, one.source, one.index) for one in notices[at::3]]
        for at in range(3)
    )
    plan = TrainingPlan(
        task="causal-lm",
        epochs=options.epochs,
        batch_size=16,
        learning_rate=5e-4,
        max_length=128,
        test_share=0.3,
    )
    texts = [str(record.fields["text"]) for record in first] + _DIGITS
    form = base_of("causal-lm", folder / "form", texts)
    start = replace(plan, options={"start": "scratch"}, learning_rate=1e-3, epochs=4)
    fit(start, form, first, folder / "base")
    told("the base is trained")
    return Study(folder / "base", second, third, plan, options.seeds, folder)


def main() -> None:
    """Print the tables of the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    print(f"Python {platform.python_version()}, torch {version('torch')}", end=", ")
    print(f"transformers {version('transformers')}, {options.threads} threads\n")
    with tempfile.TemporaryDirectory() as folder:
        study = studied(options, Path(folder))
        if "speed" in options.only:
            speed(study)
        if "canaries" in options.only:
            canaries(study)
        if "false alarms" in options.only:
            false_alarms(study, options.tries)
        if "extraction" in options.only:
            extraction(study)


if __name__ == "__main__":
    main()
