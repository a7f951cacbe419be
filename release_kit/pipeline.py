"""What a user can do with a project: every command of the CLI is one of these functions.

They never print: progress goes to a `Watcher`, what happened comes back as a value.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from release_kit import processes, stages
from release_kit.auditing.candidate import read_candidate
from release_kit.auditing.checks.code import CUSTOM
from release_kit.auditing.engine import run_checks
from release_kit.auditing.findings import Report
from release_kit.auditing.waivers import waived_paths
from release_kit.bundle import gitattributes, read_bundle, write_manifest
from release_kit.documents.card import CURVES, LEAKS, model_card
from release_kit.documents.curves import curves_svg
from release_kit.documents.datasheet import write_datasheet
from release_kit.documents.eval_results import write_eval_results
from release_kit.documents.leak_curves import leaks_svg
from release_kit.documents.terms import write_terms
from release_kit.errors import UnusableInput
from release_kit.files import TEMPLATES, json_bytes, whole_folder, write_atomic
from release_kit.formats.json import render_json
from release_kit.history import last_published
from release_kit.licensing.judgement import judge
from release_kit.licensing.policy import load_policy
from release_kit.licensing.policy_files import BASELINE
from release_kit.licensing.proofs import CARD
from release_kit.privacy.settings import Asked, settings_of
from release_kit.progress import SILENT, Watcher
from release_kit.project import Project, is_project, open_project
from release_kit.publishing.fetching import fetch_model
from release_kit.publishing.hub import connect
from release_kit.publishing.publication import Publication, publish_bundle, read_publication
from release_kit.publishing.verification import Verification, verify_repo
from release_kit.receipts import digest_of
from release_kit.release import RELEASE_FILE, TrainingPlan, read_release
from release_kit.stages import (
    STAGES,
    StageResult,
    applies,
    finished_before,
    kept_receipts,
    run_stage,
)

if TYPE_CHECKING:
    from release_kit.datasets.records import Record
    from release_kit.memorization.comparison import Comparison
    from release_kit.privacy.corpus.cluster import Cluster
    from release_kit.privacy.redaction.scan_report import Report as ScanReport
    from release_kit.training.energy import Meter


def redact(project: Path | str, watcher: Watcher = SILENT) -> StageResult:
    """Remove personal data from every dataset that is trained on or shipped.

    Raises:
        UnusableInput: release.yaml has no privacy section, or a dataset cannot be read whole.
    """
    from release_kit.datasets.languages import language_mix
    from release_kit.datasets.overlap import duplicates
    from release_kit.datasets.records import read_records, texts_of
    from release_kit.privacy.detection.detector import load_detector
    from release_kit.privacy.redaction.redaction import redact_file

    place = open_project(project)
    plan, output = stages.privacy_plan(place), place.out / "redacted"

    def work() -> Mapping[str, Any]:
        results: dict[str, Any] = {}
        detector = load_detector(settings_of(plan))
        for note in detector.notes:
            watcher.say(note)
        if detector.unsearched:
            watcher.say(f"nothing looks for {', '.join(detector.unsearched)} with these settings")
        with whole_folder(output) as staging:
            for dataset in stages.datasets(place):
                target = staging / place.redacted(dataset).name
                counts = redact_file(
                    stages.path_of(dataset),
                    target,
                    plan,
                    watcher,
                    keep=stages.kept_fields(place),
                    detector=detector,
                )
                results[dataset.id] = asdict(counts) | {
                    # What release.yaml names, found or not; of all other kinds what was found.
                    "entities": sorted({*plan.entities, *counts.by_entity, *counts.remaining}),
                    "sha256": digest_of(target),
                    "languages": dict(language_mix(texts_of(read_records(target)))),
                    "duplicates": asdict(duplicates(texts_of(read_records(target)))),
                }
        return results

    return run_stage(place, "redact", {}, output, work=work, watcher=watcher)


def redact_data(
    paths: Sequence[Path | str],
    target: Path | str,
    asked: Asked | None = None,
    watcher: Watcher = SILENT,
    *,
    jobs: int | None = None,
    explain: bool = False,
    keep: Collection[str] = (),
    force: bool = False,
    cluster: Cluster | None = None,
) -> ScanReport:
    """Write copies of any data into `target` without the personal data in them.

    What `release_kit.privacy.corpus.run.redact_corpus` says, with one worker for each core; on a
    cluster what `release_kit.privacy.corpus.cluster.redact_on_cluster` says.

    Raises:
        UnusableInput: also for `explain` on a cluster, whose journal keeps no context.
    """
    from release_kit.privacy.corpus.run import cores, redact_corpus

    target, asked, jobs = Path(target), asked or Asked(), jobs or cores()
    if cluster is not None:
        from release_kit.privacy.corpus.cluster import redact_on_cluster

        if explain:
            raise UnusableInput("a cluster's journal keeps no context, so nothing can be explained")
        return redact_on_cluster(
            paths, target, asked, cluster, watcher, jobs=jobs, keep=keep, force=force
        )
    return redact_corpus(
        paths,
        target,
        asked.settings(),
        watcher,
        jobs=jobs,
        explain=explain,
        keep=keep,
        force=force,
    )


def scan(
    paths: Sequence[Path | str],
    asked: Asked | None = None,
    watcher: Watcher = SILENT,
    *,
    jobs: int | None = None,
    explain: bool = False,
) -> ScanReport:
    """Search any data for personal data and secrets.

    What `release_kit.privacy.corpus.run.scan_corpus` says, with one worker for each core.
    """
    from release_kit.privacy.corpus.run import cores, scan_corpus

    return scan_corpus(
        paths, (asked or Asked()).settings(), watcher, jobs=jobs or cores(), explain=explain
    )


def train(project: Path | str, watcher: Watcher = SILENT) -> StageResult:
    """Fine-tune the base model on the redacted data; one that was killed goes on where it can.

    Raises:
        UnusableInput: nothing says how to train, the data is not redacted yet, or it cannot be
            used.
        Unfinished: training ended without usable weights.
    """
    from release_kit.memorization.canaries import planted
    from release_kit.training.fit import fit
    from release_kit.training.surroundings import origins, surroundings

    place = open_project(project)
    plan, base = stages.training_plan(place), stages.base_model(place)
    from_file = origins(plan, place.release.training_lines, defaults=("fields", "options"))

    def work() -> Mapping[str, Any]:
        records = _records(place)
        with _watched(place, plan, watcher) as (meter, log, failed):
            result = fit(
                plan,
                stages.path_of(base),
                records,
                place.model,
                watcher,
                checkpoints=place.out / "checkpoints",
                base_id=base.id,
                revision=base.revision,
                meter=meter,
                log=log,
                planted=planted(plan, records) if plan.canaries else (),
            )
        weights = {p.name: digest_of(p) for p in sorted(place.model.glob("*.safetensors"))}
        # What redaction did not search, so that nobody takes it for clean.
        media = {dataset: asdict(held) for dataset, held in stages.media(place).items()}
        changed = {"accumulate"} if result.accumulate != plan.accumulate else set()
        return asdict(result) | {
            "weights": weights,
            "media": media,
            "surroundings": asdict(surroundings()),
            "energy": asdict(meter.energy()) if meter else {},
            "origins": from_file | dict.fromkeys(changed, "measured"),
            "trackers_failed": failed,
        }

    return run_stage(
        place, "train", finished_before(place, "train"), place.model, work=work, watcher=watcher
    )


def evaluate(project: Path | str, watcher: Watcher = SILENT) -> StageResult:
    """Measure the trained model on the held-out records.

    Raises:
        UnusableInput: there is no trained model yet, or the data cannot be used.
    """
    from release_kit.training.evaluation import evaluate_model

    place = open_project(project)
    plan, output = stages.training_plan(place), place.out / "evaluation.json"
    base = stages.path_of(stages.base_model(place))

    def work() -> Mapping[str, Any]:
        results = asdict(evaluate_model(plan, place.model, _records(place), watcher, base=base))
        write_atomic(output, json_bytes(results))
        return results

    return run_stage(
        place, "evaluate", finished_before(place, "evaluate"), output, work=work, watcher=watcher
    )


def load(
    project: Path | str,
    watcher: Watcher = SILENT,
    *,
    endpoint: str | None = None,
    token: str | None = None,
) -> StageResult:
    """Take a model that was made elsewhere, from this machine or from a Hub, instead of training.

    Raises:
        UnusableInput: nothing says which model, or it cannot be used.
        Refused: the Hub does not have it.
        Unfinished: the Hub could not be reached.
    """
    from release_kit.training.loading import load_model

    place = open_project(project)
    model = stages.from_hub(place)
    # What was fetched is only ever trusted by its digests, and those the Hub has.
    if model and not stages.is_current(place, "load", {}):
        folder = place.fetched(model)
        fetch_model(connect(endpoint, token), model.id, model.revision, folder, watcher)
        place = open_project(project)
    release = place.release

    def work() -> Mapping[str, Any]:
        policy = load_policy(release.policy_source)
        result = load_model(
            stages.source(place),
            place.model,
            watcher,
            bases=[base.id for base in release.upstreams("base_model")],
            code_waived=waived_paths(CUSTOM, policy, release, date.today()),
        )
        if result.left_out:
            watcher.say(f"load: left out {', '.join(result.left_out)}")
        if result.unexamined:
            watcher.say(f"load: nobody examined {result.unexamined}")
        return asdict(result)

    return run_stage(
        place, "load", finished_before(place, "load"), place.model, work=work, watcher=watcher
    )


def leaks(
    project: Path | str, watcher: Watcher = SILENT, *, minutes: float | None = None
) -> StageResult:
    """Measure what the weights still tell of the data that they were trained on.

    `minutes` goes before what release.yaml says. A measurement that ran out of time goes on
    where it stopped when it is asked for with `minutes`.

    Raises:
        UnusableInput: there is no model yet, or the data cannot be used.
    """
    from release_kit.memorization.measuring import measure_leaks, measure_model_folder

    place = open_project(project)
    receipts, output = finished_before(place, "leaks"), place.leaks
    asked = place.release.leaks
    if minutes is not None:
        asked = replace(asked, minutes=minutes)
        kept = kept_receipts(place, "leaks").get("leaks")
        if kept is not None and not kept.results.get("complete"):
            place.receipt("leaks").unlink()

    def work() -> Mapping[str, Any]:
        if place.release.training is None:
            loaded = receipts["load"].results
            result = measure_model_folder(place.model, str(loaded.get("task") or ""))
        else:
            result = measure_leaks(
                stages.training_plan(place),
                asked,
                place.model,
                _records(place),
                base=stages.path_of(stages.base_model(place)),
                originals={
                    str(place.redacted(dataset)): stages.path_of(dataset)
                    for dataset in stages.datasets(place)
                },
                scratch=place.out / "leaks",
                watcher=watcher,
            )
        results = asdict(result)
        write_atomic(output, json_bytes(results))
        return results

    return run_stage(place, "leaks", receipts, output, work=work, watcher=watcher)


def compare_leaks(first: Path | str, second: Path | str) -> Comparison:
    """Compare what was measured of two runs: projects, or the files out/leaks.json of such.

    Raises:
        UnusableInput: nothing was measured of one of them.
    """
    from release_kit.memorization.comparison import compare

    files = [
        open_project(run).leaks if is_project(run) and Path(run).suffix != ".json" else Path(run)
        for run in (first, second)
    ]
    return compare(*files)


def build(project: Path | str, watcher: Watcher = SILENT) -> StageResult:
    """Stage the bundle: weights, card, datasheet, LICENSE, NOTICE, USE_POLICY, texts, manifest.

    Raises:
        UnusableInput: an earlier stage is missing or stale, or a template cannot be filled.
    """
    place = open_project(project)
    release, receipts = place.release, finished_before(place, "build")
    judgement = judge(release, load_policy(release.policy_source))

    def work() -> Mapping[str, Any]:
        with whole_folder(place.bundle) as staging:
            for path in read_bundle(place.model).files:
                (staging / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place.model / path, staging / path)
            write_atomic(staging / ".gitattributes", gitattributes(staging))
            write_terms(judgement, staging)
            write_atomic(staging / CARD, model_card(judgement, receipts).encode())
            write_datasheet(judgement, receipts, staging)
            evaluated = receipts["evaluate"].results if "evaluate" in receipts else {}
            write_eval_results(release, evaluated, staging)
            if "train" in receipts:
                losses = receipts["train"].results["losses"]
                write_atomic(staging / CURVES, curves_svg(losses).encode())
            drawn = leaks_svg(receipts["leaks"].results["curves"])
            if drawn is not None:
                write_atomic(staging / LEAKS, drawn.encode())
            manifest = write_manifest(staging, repo_id=release.repo_id, version=release.version)
        return {"manifest_digest": manifest.digest, "files": len(manifest.files)}

    return run_stage(place, "build", receipts, place.bundle, work=work, watcher=watcher)


def audit(
    path: Path | str, *, release_file: Path | None = None, watcher: Watcher = SILENT
) -> Report:
    """Audit a project's bundle, or any folder as a bundle, and return the report.

    For a project the report is also kept as `out/audit.json`, which `publish` asks for.

    Raises:
        UnusableInput: there is nothing to audit, or release.yaml or the policy cannot be used;
            then nothing was judged.
    """
    if is_project(path):
        place = open_project(path)
        if not place.bundle.is_dir():
            raise UnusableInput(
                f"{place.root} has no bundle yet", hint="Run `release-kit build` first."
            )
        last = last_published(place.history, place.release.repo_id, place.release.version)
        candidate = read_candidate(place.bundle, place.release, kept_receipts(place), last=last)
        report = run_checks(candidate, watcher)
        write_atomic(place.report, render_json(report).encode())
        return report
    release = read_release(release_file) if release_file else None
    return run_checks(read_candidate(Path(path), release), watcher)


def run(project: Path | str, watcher: Watcher = SILENT) -> tuple[tuple[StageResult, ...], Report]:
    """Redact, train and evaluate, or load; build and audit: in one go, without what is finished.

    A license that the policy denies is told before the work starts, since the audit will block.
    """
    place = open_project(project)
    judgement = judge(place.release, load_policy(place.release.policy_source))
    for decision in judgement.decisions:
        if decision.decide == "deny":
            subject = decision.part.upstream.id if decision.part else place.release.repo_id
            watcher.say(f"license: the audit will block {subject}: {decision.because}")
            watcher.say(f"  fix: {decision.how_to_fix}")
    work: dict[str, Callable[[Path | str, Watcher], StageResult]] = {
        "redact": redact,
        "train": train,
        "evaluate": evaluate,
        "load": load,
        "leaks": leaks,
        "build": build,
    }
    results = tuple(work[stage](project, watcher) for stage in STAGES if applies(place, stage))
    return results, audit(project, watcher=watcher)


def publish(
    project: Path | str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    watcher: Watcher = SILENT,
) -> Publication:
    """Publish the project's bundle to a Hub, if it is what a passing audit saw.

    Raises:
        Refused: it is not, or the Hub says no; nothing became visible.
        Unfinished: the Hub could not be reached; run again.
    """
    return publish_bundle(open_project(project), connect(endpoint, token), watcher)


def verify(
    target: str | Path,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    watcher: Watcher = SILENT,
) -> Verification:
    """Compare a published repo, byte for byte, with its manifest and with what was audited.

    `target` is a project (its tag is compared with what was published from here) or
    `owner/name[@revision]`.

    Raises:
        UnusableInput: there is no such project or repo, or it has no manifest.
        Unfinished: the Hub could not be reached.
    """
    if is_project(target):
        place = open_project(target)
        published = read_publication(place.journal)
        repo_id, revision = published.repo_id, published.tag
        if (repo_id, revision) != (place.release.repo_id, place.release.tag):
            raise UnusableInput(
                f"{place.release.repo_id}@{place.release.tag} has not been published from here; "
                f"the last was {repo_id}@{revision}",
                hint=f"Run `release-kit publish`, or `release-kit verify {repo_id}@{revision}`.",
            )
        expected = published.manifest_digest
    else:
        repo_id, _, revision = str(target).partition("@")
        expected = ""
    return verify_repo(
        connect(endpoint, token),
        repo_id,
        revision or "main",
        expected_digest=expected,
        watcher=watcher,
    )


def init(folder: Path | str) -> tuple[tuple[Path, bool], ...]:
    """Write release.yaml, a policy to edit with its tests, and a GitHub workflow.

    Returns each path and whether it was written; what existed is left alone.
    """
    folder = Path(folder)
    shipped = {
        folder / RELEASE_FILE: TEMPLATES / "project" / RELEASE_FILE,
        folder / "policy.yaml": BASELINE,
        folder / "tests" / "policy.yaml": BASELINE.parent / "tests" / BASELINE.name,
        folder / ".github" / "workflows" / "release-audit.yml": TEMPLATES
        / "project"
        / "release-audit.yml",
    }
    outcome = []
    for path, source in shipped.items():
        written = not path.exists()
        if written:
            write_atomic(path, source.read_bytes())
        outcome.append((path, written))
    return tuple(outcome)


@contextmanager
def _watched(
    place: Project, plan: TrainingPlan, watcher: Watcher
) -> Iterator[tuple[Meter | None, Callable[[int, Mapping[str, float]], None], list[str]]]:
    """Measure the energy of the block, and give its trackers what is logged in it.

    Of several processes the main one alone watches. The list holds, afterwards, the trackers
    that do not have everything.
    """
    from release_kit.training.energy import measured_energy
    from release_kit.training.trackers import track

    failed: list[str] = []
    if not processes.is_main():
        yield None, lambda step, figures: None, failed
        return
    folder, said = place.out / "tracking", asdict(plan)
    # Names of fields and labels may say something about persons.
    for name in ("fields", "class_weights"):
        del said[name]
    run = folder / "run"
    if place.release.tracking.trackers and not run.exists():
        # The same one after a kill, and another one for the next training.
        write_atomic(run, token_hex(4).encode())
    tracking = track(
        place.release.tracking.trackers,
        folder=folder,
        project=place.release.model_name,
        run=run.read_text() if run.exists() else "",
        settings=said,
        watcher=watcher,
    )
    last: dict[str, float] = {}

    def log(step: int, figures: Mapping[str, float]) -> None:
        last.update(figures)
        tracking.log(step, figures)

    ended = False
    try:
        with measured_energy(place.release.tracking.country or None) as meter:
            yield meter, log, failed
        ended = True
    finally:
        failed.extend(tracking.finish(last if ended else {}, failed=not ended))
    run.unlink(missing_ok=True)


def _records(place: Project) -> list[Record]:
    from release_kit.datasets.records import read_records

    return [
        replace(record, folder=stages.path_of(dataset).parent)
        for dataset in stages.datasets(place)
        for record in read_records(place.redacted(dataset))
    ]
