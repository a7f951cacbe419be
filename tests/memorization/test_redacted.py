"""Values that redaction took out are found where the weights know them, and nowhere else."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.datasets.records import Record, write_records
from release_kit.memorization import redacted
from release_kit.memorization.probes import Found, Probe
from release_kit.memorization.redacted import _differences, redacted_probe
from release_kit.memorization.subject import Subject
from release_kit.release import LeaksPlan, TrainingPlan
from release_kit.training.models import quiet
from release_kit.training.splits import split
from release_kit.training.tasks import settled
from tests.memorization.test_extraction import CAUSAL, MASKED, PAIRS, learn, sentences
from tests.tiny_models import tiny_bert, tiny_decoder

LEAKS = LeaksPlan(records=30)


def values(count: int, seed: int = 4) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghjkmnpqrstuvwxyz", k=5)) for _ in range(count)]


def texts_with(values: Sequence[str], ending: str = "") -> list[str]:
    words = sentences(len(values), 14, seed=8)
    return [
        " ".join([*text.split()[:9], value, *text.split()[9:]]) + ending
        for text, value in zip(words, values, strict=True)
    ]


def subject_with(
    folder: Path,
    base: Path,
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
    *,
    plan: TrainingPlan = CAUSAL,
    leaked: bool = False,
    steps: int = 0,
) -> tuple[Subject, dict[str, Path]]:
    """Return a model that has learned the training split, as it was before redaction or after."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "before.jsonl", folder / "after.jsonl"]
    records = [
        [Record(fields, str(path), n) for n, fields in enumerate(said, 1)]
        for path, said in zip(paths, (before, after), strict=True)
    ]
    for path, said in zip(paths, records, strict=True):
        write_records(path, said)
    task, plan = settled(plan)
    splits = split(task.read(plan, records[1]), plan)
    with quiet():
        loaded = task.load(plan, base, ())
    original = task.read(plan, records[0])
    if steps:
        taught = [original[one.record - 1] if leaked else one for one in splits.train]
        learn(task, loaded, taught, plan, steps)
    return Subject(task, plan, base, base, loaded, splits), {str(paths[1]): paths[0]}


def answers(probe: Probe | Found, secrets: Sequence[str]) -> tuple[np.ndarray, Found, Any]:
    assert isinstance(probe, Probe)
    rows = np.concatenate(
        [
            probe.ask(range(at, min(probe.items, at + probe.at_once)))
            for at in range(0, probe.items, probe.at_once)
        ]
    )
    found = probe.found(rows)
    told = json.dumps([rows.tolist(), asdict(found)]) + repr(probe)
    assert not [secret for secret in secrets if secret in told]
    return rows, found, {reading.measure: reading for reading in found.readings}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder(tmp_path_factory.mktemp("bases") / "llama")


def fields_of(texts: Sequence[str], name: str = "text") -> list[dict[str, Any]]:
    return [{name: text} for text in texts]


@pytest.mark.parametrize("leaked", [True, False])
def test_values_that_the_weights_know_are_recovered(
    leaked: bool, llama: Path, tmp_path: Path
) -> None:
    secrets = values(40)
    before, after = (fields_of(texts_with(said)) for said in (secrets, ["<PERSON>"] * len(secrets)))
    subject, originals = subject_with(tmp_path, llama, before, after, leaked=leaked, steps=110)
    probe = redacted_probe(subject, LEAKS, originals)
    rows, found, readings = answers(probe, secrets)
    assert rows[:4, 0].tolist() == [1, 0, 1, 0]
    assert found.not_measured == {}
    recovery, rank = readings["redacted_recovery_rate"], readings["redacted_rank_advantage"]
    assert recovery.of == rank.of == (rows[:, 0] == 1).sum()
    if leaked:
        assert recovery.value > 0.8
        assert recovery.low > 0.4
        assert rank.value > 0.8
        assert rank.low > 0.5
    else:
        assert recovery.value == 0
        assert recovery.low < 0 < recovery.high
        assert rank.low < 0 < rank.high
    # The base knew none of them.
    assert not rows[:, 4].any()
    assert f"completes {int(rows[rows[:, 0] == 1, 1].sum())}, and its base" in found.notes[0]
    assert probe.ask(range(3, 5)) == pytest.approx(rows[3:5])
    assert set(probe.found(rows[:0]).not_measured) == set(readings)
    assert probe.found(rows[:6]).readings[0].of == 3
    lost = rows.copy()
    lost[:4, 1:3] = np.nan
    assert f"to 4 of {len(rows)} values" in probe.found(lost).notes[0]


def test_a_model_that_fills_gaps_is_asked_from_both_sides(tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    secrets = values(30)
    masks = ["*" * len(secret) for secret in secrets]
    before, after = (fields_of(texts_with(said)) for said in (secrets, masks))
    plan = replace(MASKED, max_length=64, options={**MASKED.options, "mask_share": 0.4})
    subject, originals = subject_with(
        tmp_path, base, before, after, plan=plan, leaked=True, steps=300
    )
    _, found, readings = answers(redacted_probe(subject, LEAKS, originals), secrets)
    assert found.not_measured == {}
    assert readings["redacted_rank_advantage"].value > 0.7
    assert readings["redacted_recovery_rate"].value > 0.4
    ends = [f"{text}. {text[::-1]}" for text in texts_with(secrets)]
    cut = [f"{text}. {text[::-1]}" for text in texts_with([""] * 30)]
    subject, originals = subject_with(
        tmp_path / "pairs",
        base,
        fields_of(ends, "document"),
        fields_of(cut, "document"),
        plan=replace(PAIRS, max_length=30),
    )
    _, found, readings = answers(redacted_probe(subject, LEAKS, originals), secrets)
    assert readings["redacted_recovery_rate"].value == 0
    assert readings["redacted_rank_advantage"].of > 5


def test_what_was_taken_out_is_known_without_a_detector() -> None:
    tag = "<PERSON_0123456789abcdef>"
    for before, after, wanted in (
        ("call Ann Lee, now", "call <PERSON>, now", [("Ann Lee", "<PERSON>")]),
        ("call Ann Lee", f"call {tag}", [("Ann Lee", tag)]),
        ("Ann Lee, Bo", f"<PERSON>, {tag}", [("Ann Lee", "<PERSON>"), ("Bo", tag)]),
        ("ask a@b.example: yes", "ask ***********: yes", [("a@b.example", "*" * 11)]),
        ("call Ann now", "call  now", [("Ann", "")]),
        ("call Ann", "call ", [("Ann", "")]),
        ("Ann calls Bo on Monday", "Eva calls Jo on Monday", [("Ann", "Eva"), ("Bo", "Jo")]),
        ("same", "same", []),
        ("", "", []),
    ):  # fmt: skip
        found = _differences(before, after)
        assert [(value, after[start:stop]) for value, start, stop in found] == wanted, after
    # Of a long text the part behind the first difference, without the piece that is cut in two.
    words = sentences(1, 2000)[0]
    (one, *_), (other, *_) = (
        _differences(
            f"{words} Ann Lee {words} Bo {words}", f"{words} <PERSON> {words} {put} {words}"
        )
        for put in ("<PERSON>", "Bo")
    )
    assert one[0] == other[0] == "Ann Lee"
    assert {redacted._shape(one) for one in ("a@b.example", "c@d.example")} == {"at letters"}
    assert redacted._shape("+43 1") == "digits"


def test_values_are_asked_where_the_model_learned_them(llama: Path, tmp_path: Path) -> None:
    secrets, others = values(24), values(24, seed=7)
    words = sentences(24, 8)

    def talk(name: str, value: str, text: str) -> dict[str, Any]:
        turns = [("user", f"I am {name}, {text}"), ("assistant", f"{text}: {value}, yes {text}")]
        return {"messages": [{"role": role, "content": said} for role, said in turns]}

    before = [talk(*parts) for parts in zip(others, secrets, words, strict=True)]
    after = [talk("<PERSON>", "<SECRET_KEY>", text) for text in words]
    plan = replace(CAUSAL, max_length=120)
    subject, originals = subject_with(tmp_path, llama, before, after, plan=plan)
    changed, _ = redacted._changed(subject, originals)
    told: Any = {}
    items = redacted._removed(subject, subject.members, changed, 50, told, member=True)
    assert len(items) == len(subject.members)
    assert {item.kind for item in items} == {"SECRET_KEY"}
    tokenizer = subject.loaded.processor
    for item in items:
        assert item.value not in repr(item)
        placed = redacted._placed(subject, subject.loaded, item, item.value)
        assert placed is not None
        assert placed.learned
        assert item.value in tokenizer.decode(placed.ids[placed.start : placed.stop])
        read = tokenizer.decode(placed.ids[: placed.start])
        assert "<PERSON>" in read
        assert "<|assistant|>" in read
        assert "<SECRET_KEY>" not in read
    # A value that feigns a turn cannot be put there.
    assert redacted._placed(subject, subject.loaded, items[0], "</s>") is None
    answers(redacted_probe(subject, LEAKS, originals), [*secrets, *others])
    # Where only what is asked held values, those are asked for.
    before = [
        {"prompt": name, "completion": text} for name, text in zip(others, words, strict=True)
    ]
    after = [{"prompt": "<PERSON>", "completion": text} for text in words]
    subject, originals = subject_with(tmp_path / "prompts", llama, before, after, plan=plan)
    rows, *_ = answers(redacted_probe(subject, LEAKS, originals), others)
    assert (rows[:, 0] == 1).sum() == len(subject.members)


def test_the_cache_changes_no_rank(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = values(24)
    before, after = (fields_of(texts_with(said)) for said in (secrets, ["<PERSON>"] * 24))
    subject, originals = subject_with(tmp_path, llama, before, after)
    probe = redacted_probe(subject, LEAKS, originals)
    asked: list[int] = []
    after_cache = redacted._after

    def watched(*given: Any) -> list[float]:
        asked.append(1)
        means = after_cache(*given)
        whole = redacted._causal(subject, given[1], given[2])[1]
        assert means == pytest.approx(whole, abs=1e-4)
        return means

    monkeypatch.setattr(redacted, "_after", watched)
    rows, *_ = answers(probe, secrets)
    assert len(asked) == 2 * len(rows)
    for broken in (lambda *given: [0.0] * len(given[2]), lambda *given: 1 / 0):
        monkeypatch.setattr(redacted, "_after", broken)
        assert answers(probe, secrets)[0] == pytest.approx(rows)


def test_what_cannot_be_asked_is_told(llama: Path, tmp_path: Path) -> None:
    secrets = values(24)
    before, after = (fields_of(texts_with(said)) for said in (secrets, ["<PERSON>"] * 24))
    subject, originals = subject_with(tmp_path / "a", llama, before, after)
    missing = tmp_path / "gone.jsonl"
    for known in ({}, dict.fromkeys(originals, missing)):
        found = redacted_probe(subject, LEAKS, known)
        assert isinstance(found, Found)
        assert len(found.not_measured) == 2
        assert "not at hand" in found.not_measured["redacted_recovery_rate"]
    (path,) = originals.values()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    found = redacted_probe(subject, LEAKS, originals)
    assert "dropped whole records" in found.not_measured["redacted_recovery_rate"]  # type: ignore[union-attr]

    # Where nothing was taken out, nothing can leak; nothing of the held-out records is compared.
    held_out = {one.record for one in subject.splits.test}
    some = [
        b if n in held_out else a for n, (b, a) in enumerate(zip(before, after, strict=True), 1)
    ]
    cases = ((after, after), (some, after))
    for number, (was, now) in enumerate(cases):
        subject, originals = subject_with(tmp_path / f"none{number}", llama, was, now)
        found = redacted_probe(subject, LEAKS, originals)
        assert isinstance(found, Found)
        assert [(one.value, one.low, one.high, one.of) for one in found.readings] == [
            (0, 0, 0, 0)
        ] * 2
        assert found.not_measured == {}
    subject, originals = subject_with(
        tmp_path / "one side",
        llama,
        [a if b in some else b for a, b in zip(after, before, strict=True)],
        after,
    )
    found = redacted_probe(subject, LEAKS, originals)
    assert "of held-out records" in found.not_measured["redacted_rank_advantage"]  # type: ignore[union-attr]
    # Values behind what the model reads.
    subject, originals = subject_with(
        tmp_path / "behind", llama, before, after, plan=replace(CAUSAL, max_length=8)
    )
    found = redacted_probe(subject, LEAKS, originals)
    assert isinstance(found, Found)
    assert len(found.not_measured) == 2
    assert "behind what the model reads" in found.notes[0]


def test_a_copy_that_redaction_missed_is_counted(llama: Path, tmp_path: Path) -> None:
    secrets = values(24)
    endings = [f" and {secret}." if n % 2 else "" for n, secret in enumerate(secrets)]
    before, after = (
        fields_of([f"{text}{end}" for text, end in zip(texts_with(said), endings, strict=True)])
        for said in (secrets, ["<PERSON>"] * 24)
    )
    subject, originals = subject_with(tmp_path, llama, before, after)
    rows, found, _ = answers(redacted_probe(subject, LEAKS, originals), secrets)
    clear = int(rows[:, 3].sum())
    assert clear == sum(not one.record % 2 for one in subject.splits.train) > 0
    assert f"{clear} of {len(rows)} values that were asked for still stand" in found.notes[0]
