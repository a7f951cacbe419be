"""Losses are the model's own, record by record; token scores are those of its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from release_kit.memorization.asking import losses, rows_of, token_scores
from release_kit.release import TrainingPlan
from release_kit.training.models import quiet
from release_kit.training.splits import split
from release_kit.training.tasks import settled
from release_kit.training.tasks.tokens import IGNORED
from tests.tiny_models import tiny_bart, tiny_bert, tiny_decoder
from tests.training.conftest import PLAN as CLASSES
from tests.training.conftest import topic_records
from tests.training.tasks.test_causal_lm import PLAN as CAUSAL
from tests.training.tasks.test_causal_lm import texts
from tests.training.tasks.test_question_answering import PLAN as QUESTIONS
from tests.training.tasks.test_question_answering import asked

MASKED = settled(replace(CAUSAL, task="masked-lm", options={}))[1]
DENOISING = settled(replace(CAUSAL, task="denoising-seq2seq", options={}))[1]


def opened(plan: TrainingPlan, folder: Path):
    task, plan = settled(plan)
    records = {
        "text-classification": topic_records,
        "question-answering": asked,
        "causal-lm": texts,
        "masked-lm": texts,
        "denoising-seq2seq": texts,
    }[plan.task](40)
    make = {"causal-lm": tiny_decoder, "denoising-seq2seq": tiny_bart}.get(plan.task, tiny_bert)
    examples = task.read(plan, records)
    with quiet():
        loaded = task.load(plan, make(folder), task.names(plan, split(examples, plan)))
    return task, plan, loaded, examples


@pytest.mark.parametrize(
    "plan", [CLASSES, CAUSAL, MASKED, DENOISING, QUESTIONS], ids=lambda p: p.task
)
def test_losses_are_those_of_the_model_itself(plan: TrainingPlan, tmp_path: Path) -> None:
    import torch

    task, plan, loaded, examples = opened(plan, tmp_path)
    asked_of = [*examples[:9], examples[2]]
    found = losses(task, loaded, asked_of, plan)
    rows, owners = rows_of(task, loaded, asked_of, plan)
    loaded.model.eval()
    collate = task.collate(loaded, plan)
    for place in range(len(asked_of)):
        own = [row for row, owner in zip(rows, owners, strict=True) if owner == place]
        # Where labels are places in a text, padding changes them: then each row stands alone.
        batches = [own] if "labels" in own[0] else [[row] for row in own]
        with torch.inference_mode():
            wanted = np.mean([float(loaded.model(**collate(rows)).loss) for rows in batches])
        assert found[place] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    # Who else is asked changes nothing, hidden tokens included.
    assert found[9] == pytest.approx(found[2], rel=1e-5)
    assert losses(task, loaded, examples[2:3], plan)[0] == pytest.approx(found[2], rel=1e-4)
    assert losses(task, loaded, [], plan).shape == (0,)


@pytest.mark.parametrize("plan", [CAUSAL, MASKED], ids=lambda p: p.task)
def test_token_scores_are_those_of_the_logits(plan: TrainingPlan, tmp_path: Path) -> None:
    import torch

    task, plan, loaded, examples = opened(plan, tmp_path)
    rows, _ = rows_of(task, loaded, examples[:5], plan)
    shift = plan.task == "causal-lm"
    for row, scores in zip(rows, token_scores(task, loaded, rows, plan), strict=True):
        with torch.inference_mode():
            logits = loaded.model(**task.collate(loaded, plan)([row])).logits[0].double()
        labels = np.array(row["labels"])
        at = [place for place in range(shift, len(labels)) if labels[place] != IGNORED]
        for number, place in enumerate(at):
            logs = logits[place - shift].log_softmax(0).numpy()
            shares, own = np.exp(logs), logs[labels[place]]
            assert scores.logp[number] == pytest.approx(own, rel=1e-4, abs=1e-4)
            mean = (shares * logs).sum()
            assert scores.mean[number] == pytest.approx(mean, rel=1e-4)
            spread = np.sqrt((shares * (logs - mean) ** 2).sum())
            assert scores.deviation[number] == pytest.approx(spread, rel=1e-3, abs=1e-3)
            assert scores.greedy[number] == (logs.argmax() == labels[place])
            best = np.sort(logs)[::-1][:40]
            if own >= best[-1]:
                assert scores.top[number] == pytest.approx(
                    own - np.log(np.exp(best).sum()), rel=1e-3, abs=1e-3
                )
            else:
                assert scores.top[number] == -np.inf
        assert len(scores.logp) == len(at) > 0
    assert token_scores(task, loaded, [], plan) == []


def test_packing_does_not_reach_the_questions(tmp_path: Path) -> None:
    packed = replace(CAUSAL, options={**CAUSAL.options, "packing": "blocks"})
    task, plan, loaded, examples = opened(packed, tmp_path)
    assert rows_of(task, loaded, examples[:6], plan)[1] == list(range(6))
