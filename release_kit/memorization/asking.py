"""What a model says of records: the loss of each, and how likely each token of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.errors import UnusableInput
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.models import Loaded, device_of, in_batches, in_half
from release_kit.training.rows import Rows
from release_kit.training.splits import Example
from release_kit.training.tasks.task import Row, Task
from release_kit.training.tasks.tokens import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers of the logits that are looked at together: 256 MB in float32.
_LOGITS = 1 << 26
_SAME = 1e-3
_IN_PAIRS = "masked-lm-next-sentence"
_TOP = 40


@dataclass(frozen=True)
class TokenScores:
    """What a model says of the learned tokens of one record, each of shape (tokens,)."""

    logp: NDArray[np.float64]
    """log p of the token, in nats."""
    mean: NDArray[np.float64]
    """Of log p of any token v at its place, the mean over v drawn from p."""
    deviation: NDArray[np.float64]
    """The standard deviation of the same."""
    greedy: NDArray[np.bool_]
    """Whether the token is the most likely one."""
    top: NDArray[np.float64]
    """log p of the token where only the 40 most likely ones may be drawn; -inf for others."""


def rows_of(
    task: Task, loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> tuple[list[Row], list[int]]:
    """Return what the model reads of each example, with the place of the example of each row.

    Examples are never packed together. What a task draws at random, such as which tokens it
    hides, depends on the plan's seed and the row alone: two models are asked the same. What the
    model cannot read alone, such as a history of items that training never saw or an answer
    behind the end of what is read at once, has no row, and no loss.
    """
    if "packing" in plan.options:
        plan = replace(plan, options={**plan.options, "packing": "none"})
    draw = task.draw(loaded, plan) if task.draw else None
    rows: list[Row] = []
    owners: list[int] = []
    for place, example in enumerate(examples):
        # A sentence that does not follow is taken from another document: here, from a copy.
        alone = [example] * (1 + (plan.task == _IN_PAIRS))
        try:
            made = task.encode(loaded, alone, plan)
        except UnusableInput:
            continue
        made = made[: len(made) // len(alone)]
        # The number of a row seeds its changes; it must not depend on who else is asked.
        drawn = Rows(made, draw, plan.seed, fixed=True)
        rows += [drawn[number] for number in range(len(drawn))]
        owners += [place] * len(made)
    return rows, owners


def losses(
    task: Task, loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan
) -> NDArray[np.float64]:
    """Return the loss of each example, shape (examples,), in nats: the mean over what it learns.

    It is the model's own loss, of any task. Where that is the cross entropy of its logits, many
    examples share a batch; else each row is asked for alone.
    """
    rows, owners = rows_of(task, loaded, examples, plan)
    total, count = np.zeros(len(examples)), np.zeros(len(examples))
    with _arithmetic(plan):
        for row, loss, weight in _row_losses(task, loaded, rows, plan):
            total[owners[row]] += loss * weight
            count[owners[row]] += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count)


@contextmanager
def _arithmetic(plan: TrainingPlan) -> Iterator[None]:
    """Compute as the training did: in half precision where the plan and the GPU allow."""
    import torch

    with torch.autocast(device_of().type, torch.bfloat16, enabled=in_half(plan)):
        yield


def _row_losses(
    task: Task, loaded: Loaded, rows: Sequence[Row], plan: TrainingPlan
) -> Iterator[tuple[int, float, float]]:
    """Yield (row, its mean loss, how many labels it has)."""
    import torch

    if not rows:
        return
    collate = task.collate(loaded, plan)
    shift = _shift(loaded, collate, rows[0])
    if shift is None:
        model = loaded.model.to(device_of()).eval()
        for number, row in enumerate(rows):
            batch = {name: value.to(model.device) for name, value in collate([row]).items()}
            with torch.inference_mode():
                yield number, float(model(**batch).loss), 1.0
        return
    # `in_batches` takes labels out only where it is told to.
    for chosen, outputs, inputs in in_batches(loaded, rows, collate, plan, SILENT, without=()):
        logits, labels = _aligned(outputs.logits, inputs["labels"], shift)
        found = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED
        ).reshape(labels.shape)
        counts = (labels != IGNORED).float()
        if found.ndim > 1:
            found, counts = found.flatten(1).sum(1), counts.flatten(1).sum(1)
        means = (found.double() / counts.clamp(min=1)).cpu().numpy()
        yield from zip(chosen, means.tolist(), counts.cpu().tolist(), strict=True)


def _shift(
    loaded: Loaded, collate: Callable[[list[Any]], Mapping[str, Any]], row: Row
) -> int | None:
    """Return by how many places labels stand behind their logits; None where that is not it.

    It is tried: the model's own loss of a row must be the cross entropy of its logits.
    """
    import torch

    model = loaded.model.to(device_of()).eval()
    batch = {name: value.to(model.device) for name, value in collate([row]).items()}
    if "labels" not in batch:
        return None
    with torch.inference_mode():
        outputs = model(**batch)
    logits, labels = getattr(outputs, "logits", None), batch["labels"]
    if logits is None or logits.shape[:-1] != labels.shape or labels.is_floating_point():
        return None
    for shift in (0, 1) if labels.ndim > 1 else (0,):
        moved, wanted = _aligned(logits, labels, shift)
        loss = torch.nn.functional.cross_entropy(
            moved.float().flatten(0, -2), wanted.flatten(), ignore_index=IGNORED
        )
        if abs(float(loss) - float(outputs.loss)) <= _SAME * max(1.0, abs(float(outputs.loss))):
            return shift
    return None


def _aligned(logits: Any, labels: Any, shift: int) -> tuple[Any, Any]:
    return (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)


def token_scores(
    task: Task, loaded: Loaded, rows: Sequence[Row], plan: TrainingPlan
) -> list[TokenScores]:
    """Return what the model says of the labelled tokens of each row, in the rows' order.

    The rows are those of `rows_of`, of a causal or masked language model or of a classifier of
    tokens, or rows of one's own with `input_ids` and `labels`. Logits bind the memory, so few
    positions are looked at together.
    """
    with _arithmetic(plan):
        return _token_scores(loaded, rows, task.collate(loaded, plan), plan)


def _token_scores(
    loaded: Loaded,
    rows: Sequence[Row],
    collate: Callable[[list[Any]], Mapping[str, Any]],
    plan: TrainingPlan,
) -> list[TokenScores]:
    import torch

    if not rows:
        return []
    shift = _shift(loaded, collate, rows[0]) or 0
    found: list[TokenScores | None] = [None] * len(rows)
    for chosen, outputs, inputs in in_batches(loaded, rows, collate, plan, SILENT, without=()):
        logits, labels = _aligned(outputs.logits, inputs["labels"], shift)
        at, places = torch.nonzero(labels != IGNORED, as_tuple=True)
        parts = []
        for part in torch.arange(len(at), device=at.device).split(
            max(1, _LOGITS // logits.shape[-1])
        ):
            parts.append(_scored(logits[at[part], places[part]], labels[at[part], places[part]]))
        columns = torch.cat(parts, dim=1) if parts else torch.zeros(5, 0)
        numbers, of = columns.double().cpu().numpy(), at.cpu().numpy()
        for place, row in enumerate(chosen):
            own = numbers[:, of == place]
            found[row] = TokenScores(own[0], own[1], own[2], own[3] > 0, own[4])
    return [scores for scores in found if scores is not None]


def _scored(logits: Any, wanted: Any) -> Any:
    """Return logp, mean, deviation, greedy and top of each place, shape (5, places)."""
    import torch

    logs = logits.float().log_softmax(dim=-1)
    own = logs.gather(1, wanted[:, None])[:, 0]
    shares = logs.exp()
    # A token that cannot be drawn adds nothing: 0 * -inf is not a number.
    finite = logs.clamp(min=-1e9)
    mean = (shares * finite).sum(1)
    deviation = ((shares * finite.square()).sum(1) - mean.square()).clamp(min=0).sqrt()
    greedy = logs.argmax(dim=1) == wanted
    highest = logs.topk(min(_TOP, logs.shape[1]), dim=1).values
    within = own >= highest[:, -1]
    top = torch.where(within, own - highest.logsumexp(dim=1), torch.full_like(own, -torch.inf))
    return torch.stack([own, mean, deviation, greedy.float(), top])
