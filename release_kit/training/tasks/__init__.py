"""Every task that a model can be trained for, keyed by the word in release.yaml."""

from __future__ import annotations

from dataclasses import replace

from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training.tasks import text_classification
from release_kit.training.tasks.task import Task

TASKS: dict[str, Task] = {
    "text-classification": text_classification.TASK,
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
