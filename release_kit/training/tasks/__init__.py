"""Every task that a model can be trained for, keyed by the word in release.yaml."""

from __future__ import annotations

from dataclasses import replace

from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training.tasks import (
    causal_lm,
    denoising_seq2seq,
    image_classification,
    masked_lm,
    masked_lm_next_sentence,
    question_answering,
    sequential_recommendation,
    speech_ctc,
    speech_seq2seq,
    text_classification,
    token_classification,
)
from release_kit.training.tasks.task import Task

TASKS: dict[str, Task] = {
    "text-classification": text_classification.TASK,
    "token-classification": token_classification.TASK,
    "question-answering": question_answering.TASK,
    "masked-lm": masked_lm.TASK,
    "masked-lm-next-sentence": masked_lm_next_sentence.TASK,
    "denoising-seq2seq": denoising_seq2seq.TASK,
    "causal-lm": causal_lm.TASK,
    "image-classification": image_classification.TASK,
    "speech-ctc": speech_ctc.TASK,
    "speech-seq2seq": speech_seq2seq.TASK,
    "sequential-recommendation": sequential_recommendation.TASK,
}


def settled(plan: TrainingPlan) -> tuple[Task, TrainingPlan]:
    """Return the plan's task, and the plan with its fields and options filled in.

    Raises:
        UnusableInput: no task has this name, or the plan names a field or an option that the
            task does not have.
    """
    task = TASKS.get(plan.task)
    if task is None:
        raise UnusableInput(
            f"there is no training task '{plan.task}'", hint="known here: " + ", ".join(TASKS)
        )
    for kind, said, known in (
        ("fields", plan.fields, task.fields),
        ("options", plan.options, task.options),
    ):
        if foreign := sorted(set(said) - set(known)):
            raise UnusableInput(
                f"training.{kind}: the task {plan.task} has no '{foreign[0]}'",
                hint=f"It knows {', '.join(known) or 'none'}; correct release.yaml.",
            )
    if plan.robustness and not task.reads_text:
        raise UnusableInput(
            f"training.robustness: the task {plan.task} reads no text that could be changed",
            hint="Remove robustness from release.yaml.",
        )
    names = {role: part.name for role, part in task.fields.items() if part.name is not None}
    return task, replace(
        plan, fields={**names, **plan.fields}, options={**task.options, **plan.options}
    )


def kept_fields(plan: TrainingPlan) -> tuple[str, ...]:
    """Return the fields that redaction leaves alone: an answer that changes is another answer.

    Raises:
        UnusableInput: as `settled` does.
    """
    task, plan = settled(plan)
    return tuple(
        plan.fields[role] for role, part in task.fields.items() if part.kept and role in plan.fields
    )


def media_fields(plan: TrainingPlan) -> dict[str, str]:
    """Return the fields that hold or name pictures or sounds, each with its kind.

    Raises:
        UnusableInput: as `settled` does.
    """
    task, plan = settled(plan)
    return {
        plan.fields[role]: part.media
        for role, part in task.fields.items()
        if part.media and role in plan.fields
    }
