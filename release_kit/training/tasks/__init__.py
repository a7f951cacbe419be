"""Every task that a model can be trained for, keyed by the word in release.yaml."""

from __future__ import annotations

from release_kit.errors import UnusableInput
from release_kit.training.tasks import text_classification
from release_kit.training.tasks.task import Task

TASKS: dict[str, Task] = {
    "text-classification": text_classification.TASK,
}


def task_of(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        UnusableInput: no task has this name.
    """
    found = TASKS.get(name)
    if found is None:
        raise UnusableInput(
            f"there is no training task '{name}'", hint="known here: " + ", ".join(TASKS)
        )
    return found
