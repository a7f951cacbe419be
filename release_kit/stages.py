"""What each stage depends on, whether it is finished, and how it runs: work first, receipt last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from release_kit import processes
from release_kit.datasets.media import Held, held_by, input_name
from release_kit.errors import UnusableInput
from release_kit.files import SCHEMAS, TEMPLATES
from release_kit.licensing.policy import load_policy
from release_kit.licensing.proofs import kept_documents, notice_files
from release_kit.privacy.settings import settings_of
from release_kit.progress import Watcher
from release_kit.project import Project
from release_kit.receipts import (
    Receipt,
    covers,
    digest_of,
    outputs_lie_there,
    read_receipt,
    still_matches,
    tool_versions,
    write_receipt,
)
from release_kit.release import RELEASE_FILE, PrivacyPlan, TrainingPlan, Upstream

STAGES = ("redact", "train", "evaluate", "load", "leaks", "build")
"""The stages that leave receipts, in their order."""

Receipts = Mapping[str, Receipt]
"""Stage → receipt."""


@dataclass(frozen=True)
class StageResult:
    """What a stage made."""

    stage: str
    output: Path
    receipt: Receipt
    skipped: bool
    """True when the receipt of an earlier run still matched."""


def applies(place: Project, stage: str) -> bool:
    """Tell whether a project has this stage.

    A model is trained here or loaded; without data at hand there is nothing to redact.
    """
    if stage in ("leaks", "build"):
        return True
    if stage == "load" or place.release.training is None:
        return (stage == "load") == (place.release.training is None)
    return stage != "redact" or any(u.is_training_data and u.path for u in place.release.lineage)


def finished_before(place: Project, stage: str) -> dict[str, Receipt]:
    """Return the receipts of the stages before `stage`.

    Each must cover the project as it is now: same inputs and parameters, and what it made still
    lies there. The tools may have changed; their versions stand in the receipt.

    Raises:
        UnusableInput: a stage has not been finished, or something has changed since.
    """
    receipts: dict[str, Receipt] = {}
    for earlier in STAGES[: STAGES.index(stage)]:
        if applies(place, earlier):
            receipts[earlier] = _proved(place, earlier, receipts)
    return receipts


def run_stage(
    place: Project,
    stage: str,
    receipts: Receipts,
    output: Path,
    *,
    work: Callable[[], Mapping[str, Any]],
    watcher: Watcher,
) -> StageResult:
    """Do the work of a stage, unless its receipt says that nothing has changed.

    `work` writes `output`, whole, and returns what it measured, as JSON values. The receipt is
    written last, so a stage that was killed starts anew.
    """
    if processes.count() > 1 and stage != "train":
        raise UnusableInput(
            f"the stage {stage} runs in one process only",
            hint="Run `release-kit train` with torchrun, and everything else without it.",
        )
    planned = _PLANS[stage](place, receipts)
    path = place.receipt(stage)
    kept = read_receipt(path)
    if kept is not None and still_matches(kept, planned, place.out):
        watcher.say(f"{stage}: nothing has changed since the last run, skipped")
        return StageResult(stage, output, kept, skipped=True)
    watcher.say(f"{stage}: at work")
    if not processes.is_main():
        # It only helps: what was made is kept by the main process.
        return StageResult(stage, output, replace(planned, results=work()), skipped=False)
    # A receipt of the old output must not outlive it.
    path.unlink(missing_ok=True)
    results = work()
    outputs = {output.relative_to(place.out).as_posix(): digest_of(output)}
    write_receipt(path, replace(planned, outputs=outputs, results=results))
    # Read back, so that a caller sees the same values, as JSON has them, whether skipped or not.
    (written,) = kept_receipts(place, stage).values()
    return StageResult(stage, output, written, skipped=False)


def kept_receipts(place: Project, *stages: str) -> dict[str, Receipt]:
    """Return the receipts of `stages`, or of all that apply, whatever they cover."""
    wanted = stages or [stage for stage in STAGES if applies(place, stage)]
    kept = {stage: read_receipt(place.receipt(stage)) for stage in wanted}
    return {stage: receipt for stage, receipt in kept.items() if receipt is not None}


def kept_fields(place: Project) -> tuple[str, ...]:
    """Return the fields that redaction leaves alone: an answer that changes is another answer.

    Raises:
        UnusableInput: the training plan does not fit its task.
    """
    from release_kit.training.tasks import kept_fields as kept_by

    return kept_by(place.release.training) if place.release.training else ()


def privacy_plan(place: Project) -> PrivacyPlan:
    """Return what redaction removes.

    Raises:
        UnusableInput: release.yaml does not say.
    """
    if place.release.privacy is None:
        raise UnusableInput(
            f"{place.release.file} has no privacy section, so nothing says what to remove",
            hint="Add `privacy:`; empty, it asks for what the shipped settings say.",
        )
    return place.release.privacy


def training_plan(place: Project) -> TrainingPlan:
    """Return how to train, with the defaults of the task filled in.

    Raises:
        UnusableInput: release.yaml does not say, or what it says does not fit the task.
    """
    from release_kit.training.tasks import settled

    if place.release.training is None:
        raise UnusableInput(
            f"{place.release.file} has no training section, so nothing says what to learn",
            hint="Add `training:` with the task, and fields where they are not called as usual.",
        )
    _, plan = settled(place.release.training)
    return plan


def datasets(place: Project) -> tuple[Upstream, ...]:
    """Return the datasets that are redacted and trained on.

    Raises:
        UnusableInput: there is none with a path.
    """
    found = tuple(u for u in place.release.lineage if u.is_training_data and u.path)
    if not found:
        raise UnusableInput(
            f"no dataset to train on in {place.release.file} has a path",
            hint="Write path (relative to release.yaml) at a dataset of the lineage.",
        )
    return found


def media(place: Project) -> dict[str, Held]:
    """Return what the records of each redacted dataset hold and name of pictures and sounds.

    Empty where the task reads none. The files lie where they lay before the redaction: beside the
    dataset itself.

    Raises:
        UnusableInput: a redacted copy cannot be read, or the training plan cannot be used.
    """
    from release_kit.training.tasks import media_fields

    fields = media_fields(training_plan(place))
    return {
        dataset.id: held_by(place.redacted(dataset), fields, path_of(dataset).parent)
        for dataset in datasets(place)
        if fields
    }


def base_model(place: Project) -> Upstream:
    """Return the model that training starts from.

    Raises:
        UnusableInput: not exactly one base model has a path, or weights would be learned from
            that are declared to be in nothing.
    """
    from release_kit.training.models import holds_weights

    bases = [base for base in place.release.upstreams("base_model") if base.path is not None]
    if len(bases) != 1:
        raise UnusableInput(
            f"{place.release.file} has {len(bases)} base models with a path; training needs one",
            hint="Write path (a local folder) at exactly one of lineage.base_models.",
        )
    base, plan = bases[0], place.release.training
    starts = plan.options.get("start") if plan else None
    if base.relation == "data-shipped" and starts != "scratch" and holds_weights(path_of(base)):
        raise UnusableInput(
            f"{base.id} is declared data-shipped, and training would start from its weights",
            hint="Write options: {start: scratch} below training, or relation: weights-derived.",
        )
    return base


def shipped(place: Project) -> Upstream:
    """Return the model of the lineage that is released as it is.

    Raises:
        UnusableInput: there is training, or there are none or several.
    """
    if place.release.training is not None:
        raise UnusableInput(
            f"{place.release.file} has a training section, so the model is made here, not loaded",
            hint="Run `release-kit train`, or take the section out.",
        )
    models = [u for u in place.release.lineage if u.role in ("base_model", "adapter")]
    found = [upstream for upstream in models if upstream.relation == "weights-shipped"]
    if len(found) != 1:
        raise UnusableInput(
            f"{place.release.file} trains nothing, and {len(found)} models of its lineage are"
            " weights-shipped, so nothing says what is released",
            hint="Write load: {path: FOLDER} for a model that was made elsewhere, or relation:"
            " weights-shipped at the one that is passed on as it is; or add `training:`.",
        )
    return found[0]


def source(place: Project) -> Path:
    """Return where the model lies that is released without training.

    Raises:
        UnusableInput: nothing says it, or there is nothing.
    """
    if place.release.load is None or place.release.training is not None:
        return path_of(shipped(place))
    if not place.release.load.exists():
        raise UnusableInput(
            f"there is nothing at {place.release.load}",
            hint="Correct load.path in release.yaml; it is relative to that file.",
        )
    return place.release.load


def from_hub(place: Project) -> Upstream | None:
    """Return the model that is released as the Hub has it; None where it lies on this machine.

    Raises:
        UnusableInput: as `shipped` says.
    """
    if place.release.load is not None and place.release.training is None:
        return None
    model = shipped(place)
    return model if model.path in (None, place.fetched(model)) else None


def path_of(upstream: Upstream) -> Path:
    """Return where an upstream lies.

    Raises:
        UnusableInput: there is nothing.
    """
    if upstream.path is None or not upstream.path.exists():
        raise UnusableInput(
            f"{upstream.id}: there is nothing at {upstream.path}",
            hint="Correct its path in release.yaml; it is relative to that file.",
        )
    return upstream.path


def is_current(place: Project, stage: str, receipts: Receipts) -> bool:
    """Tell whether a stage was finished and nothing that it read or made has changed since."""
    try:
        _proved(place, stage, receipts)
    except UnusableInput:
        return False
    return True


def _proved(place: Project, stage: str, receipts: Receipts) -> Receipt:
    receipt = read_receipt(place.receipt(stage))
    if receipt is None:
        raise UnusableInput(
            f"the stage {stage} has not been finished in {place.root}",
            hint=f"Run `release-kit {stage}` first, or `release-kit run` for all of them.",
        )
    again = f"Run `release-kit {stage}` again, or `release-kit run` for all of them."
    if not covers(receipt, _PLANS[stage](place, receipts)):
        raise UnusableInput(
            f"what the stage {stage} read, or what release.yaml tells it to do, has changed since",
            hint=again,
        )
    if not outputs_lie_there(receipt, place.out):
        made = ", ".join(str(place.out / path) for path in receipt.outputs)
        raise UnusableInput(f"{made} is no longer what the stage {stage} made", hint=again)
    return receipt


def _plan(
    stage: str,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    packages: Sequence[str],
) -> Receipt:
    return Receipt(stage, inputs, parameters, tool_versions(packages), {}, {})


def _plan_redact(place: Project, receipts: Receipts) -> Receipt:
    settings = settings_of(privacy_plan(place))
    pipelines = [name for language in settings.languages for name in language.pipelines]
    return _plan(
        "redact",
        {dataset.id: digest_of(path_of(dataset)) for dataset in datasets(place)},
        {"privacy": settings.digest, "keep": kept_fields(place)},
        ("presidio-analyzer", "spacy", *pipelines),
    )


def _plan_train(place: Project, receipts: Receipts) -> Receipt:
    plan, base = training_plan(place), base_model(place)
    # A license that is put beside the weights later does not ask for another training.
    weights = digest_of(path_of(base), without=notice_files(base))
    return _plan(
        "train",
        {"base": weights, **_redacted_digests(place, receipts), **_media_digests(place)},
        # What is only measured afterwards asks for no other training.
        {"training": asdict(replace(plan, slices=(), robustness=()))},
        ("torch", "transformers", "accelerate", "safetensors", "peft", "opacus"),
    )


def _plan_evaluate(place: Project, receipts: Receipts) -> Receipt:
    plan = training_plan(place)
    return _plan(
        "evaluate",
        {
            **receipts["train"].outputs,
            **_redacted_digests(place, receipts),
            **_media_digests(place),
        },
        {"training": asdict(plan)},
        ("torch", "transformers", "scikit-learn", "numpy"),
    )


def _plan_load(place: Project, receipts: Receipts) -> Receipt:
    model, path = from_hub(place), source(place)
    notices = tuple(n for u in place.release.lineage if u.path == path for n in notice_files(u))
    return _plan(
        "load",
        # A license that is put beside the weights later does not ask for another look.
        {"model": digest_of(path, without=notices)},
        {"repo": model.id, "revision": model.revision} if model else {},
        ("torch", "transformers", "safetensors"),
    )


def _plan_leaks(place: Project, receipts: Receipts) -> Receipt:
    # More time asks for more answers of the same kind, and for no other ones.
    asked = asdict(replace(place.release.leaks, minutes=None))
    packages = ("torch", "transformers", "numpy", "scipy", "scikit-learn")
    if place.release.training is None:
        return _plan("leaks", dict(receipts["load"].outputs), {"leaks": asked}, packages)
    originals = {f"{one.id} before redaction": digest_of(path_of(one)) for one in datasets(place)}
    return _plan(
        "leaks",
        {
            **receipts["train"].outputs,
            "base": receipts["train"].inputs["base"],
            **_redacted_digests(place, receipts),
            **_media_digests(place),
            **originals,
        },
        {"training": receipts["train"].parameters["training"], "leaks": asked},
        packages,
    )


def _plan_build(place: Project, receipts: Receipts) -> Receipt:
    release = place.release
    notices = {
        f"{upstream.id} {path.name}": digest_of(path)
        for upstream in release.lineage
        for path in (*notice_files(upstream), *kept_documents(upstream))
    }
    return _plan(
        "build",
        {
            RELEASE_FILE: digest_of(release.file),
            "policy": load_policy(release.policy_source).digest,
            "templates": digest_of(TEMPLATES),
            "schemas": digest_of(SCHEMAS),
            **{f"receipt {stage}": receipt.digest for stage, receipt in receipts.items()},
            **notices,
        },
        {},
        ("Jinja2", "ruamel.yaml"),
    )


def _redacted_digests(place: Project, receipts: Receipts) -> dict[str, str]:
    # `datasets` refuses a project without data, before its redaction is asked for.
    wanted = [dataset.id for dataset in datasets(place)]
    return {name: str(receipts["redact"].results[name]["sha256"]) for name in wanted}


def _media_digests(place: Project) -> dict[str, str]:
    return {input_name(dataset): held.digest for dataset, held in media(place).items()}


_PLANS: dict[str, Callable[[Project, Receipts], Receipt]] = {
    "redact": _plan_redact,
    "train": _plan_train,
    "evaluate": _plan_evaluate,
    "load": _plan_load,
    "leaks": _plan_leaks,
    "build": _plan_build,
}
