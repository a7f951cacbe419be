"""Sounds: a CTC model and a Whisper learn to spell tones; bad sounds and transcripts are told."""

from __future__ import annotations

import dataclasses
import io
import math
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training import sounds
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import quiet
from release_kit.training.splits import split
from release_kit.training.tasks import settled, speech, speech_ctc, speech_seq2seq
from tests.tiny_models import tiny_wav2vec2, tiny_whisper

COMMON: dict[str, Any] = {
    "learning_rate": 1e-2,
    "validation_share": 0.15,
    "test_share": 0.25,
    "seed": 3,
    "max_length": 16,
}
_, CTC = settled(TrainingPlan(task="speech-ctc", epochs=8, batch_size=8, **COMMON))
_, SEQ = settled(
    TrainingPlan(task="speech-seq2seq", epochs=12, batch_size=8, **COMMON | {"learning_rate": 4e-3})
)
LETTERS = "abc "


def wav(signal: Any, rate: int = 8000, **how: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, signal, rate, **{"format": "WAV", "subtype": "FLOAT", **how})
    return stream.getvalue()


def tones(folder: Path, count: int) -> list[Record]:
    """Return records in which each letter is a tone of its own height, in noise: files and bytes.

    Every third is in stereo, at another rate and compressed without loss.
    """
    draw = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(1, count + 1):
        text = "".join(draw.choice(list(LETTERS[:3]), draw.integers(1, 3)))
        text += " " * bool(number % 2) + str(draw.choice(list(LETTERS[:3])))
        other = number % 3 == 0
        rate = 16000 if other else 8000
        time = np.arange(int(0.12 * rate)) / rate
        beats = [np.sin(2 * np.pi * 400 * (1 + 2 * LETTERS.index(c)) * time) / 2 for c in text]
        gap = np.zeros(int(0.04 * rate))
        signal = np.concatenate([part for beat in beats for part in (beat, gap)])
        signal += 0.01 * draw.standard_normal(len(signal))
        if other:
            both = np.stack([signal, signal], axis=1)
            content = wav(both, rate, format="FLAC", subtype="PCM_16")
        else:
            content = wav(signal, rate)
        (folder / f"{number}.wav").write_bytes(content)
        audio = {"bytes": content, "path": None} if other else f"{number}.wav"
        fields = {"audio": audio, "text": text}
        records.append(Record(fields, str(folder / "tones.jsonl"), number))
    return records


@dataclasses.dataclass(frozen=True)
class Run:
    base: Path
    model: Path
    records: list[Record]
    result: TrainingResult
    evaluation: Evaluation


def trained(plan: TrainingPlan, base: Path, folder: Path) -> Run:
    records = tones(folder / "data", 150)
    result = fit(plan, base, records, folder / "model")
    evaluation = evaluate_model(plan, folder / "model", records)
    return Run(base, folder / "model", records, result, evaluation)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("ctc")
    return trained(CTC, tiny_wav2vec2(folder / "base"), folder)


@pytest.fixture(scope="module")
def seq(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("seq")
    return trained(SEQ, tiny_whisper(folder / "base"), folder)


def heard_by_a_pipeline(run: Run, plan: TrainingPlan, rate: int) -> tuple[list[str], list[str]]:
    """Return the true transcripts of the test split, and what plain transformers writes."""
    from transformers import pipeline

    held_out = split(speech.read_examples(plan, run.records), plan).test
    # Of its own accord a pipeline asks for more tokens than the tiny decoder has places.
    bounded = {"generate_kwargs": {"max_new_tokens": plan.max_length}} if plan is SEQ else {}
    with quiet():
        hear = pipeline("automatic-speech-recognition", model=str(run.model), device="cpu")
        heard = [
            hear({"raw": example.content.at(rate), "sampling_rate": rate}, **bounded)["text"]
            for example in held_out
        ]
    return [example.content.transcript for example in held_out], heard


def distance(one: Any, other: Any) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "plan", "rate"), [("ctc", CTC, 8000), ("seq", SEQ, 16000)])
def test_it_learns_to_spell_and_transformers_alone_writes_the_same(
    name: str, plan: TrainingPlan, rate: int, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(name)
    losses, figures = run.result.losses, run.evaluation.figures
    assert losses[-1].training_loss < 0.5 * losses[0].training_loss
    assert losses[-1].validation_loss < losses[0].validation_loss
    assert list(figures) == ["word_error_rate", "character_error_rate"]
    for figure in figures.values():
        assert figure.lower_is_better
        assert figure.baseline is not None
        assert figure.value < figure.baseline - 0.3
    assert run.evaluation.labels == run.result.labels == ()
    assert run.evaluation.baseline[1] == ""

    true, heard = heard_by_a_pipeline(run, plan, rate)
    words = [distance(t.split(), h.split()) for t, h in zip(true, heard, strict=True)]
    signs = [distance(t, speech.plain(h)) for t, h in zip(true, heard, strict=True)]
    assert figures["word_error_rate"].value == pytest.approx(
        sum(words) / sum(len(t.split()) for t in true)
    )
    assert figures["character_error_rate"].value == pytest.approx(
        sum(signs) / sum(len(t) for t in true)
    )
    for path in run.model.iterdir():
        content = path.read_bytes()
        assert b"release-kit-" not in content
        assert str(run.base).encode() not in content


@pytest.mark.slow
def test_the_loss_of_ctc_sums_over_alignments(ctc: Run) -> None:
    import torch

    loaded = speech_ctc.load(CTC, ctc.model, None)
    examples = speech.read_examples(CTC, ctc.records)
    (example,) = [e for e in examples if e.content.transcript in ("a a", "b b", "c c")][:1]
    loaded.model.eval()
    tokens = loaded.processor.tokenizer(example.content.transcript).input_ids
    used = sorted({0, *tokens})
    batch = speech_ctc.collate(loaded, CTC)(speech_ctc.encode(loaded, [example], CTC))
    # So few frames that every alignment can be written down.
    batch["input_values"] = batch["input_values"][:, : 16 * 16 * 7]
    batch["attention_mask"] = batch["attention_mask"][:, : 16 * 16 * 7]
    with torch.inference_mode():
        outputs = loaded.model(**batch)
    p = outputs.logits[0].double().softmax(dim=-1).numpy()
    total = 0.0
    for alignment in product(used, repeat=len(p)):
        if [token for token, _ in groupby(alignment) if token != 0] == tokens:
            total += math.prod(p[t, token] for t, token in enumerate(alignment))
    assert len(p) in range(5, 9)
    assert float(outputs.loss) == pytest.approx(-math.log(total) / len(tokens), rel=1e-4)


@pytest.mark.slow
def test_the_loss_of_seq2seq_is_the_mean_over_tokens(seq: Run) -> None:
    import torch

    loaded = speech_seq2seq.load(SEQ, seq.model, None)
    examples = speech.read_examples(SEQ, seq.records)[:5]
    batch = speech_seq2seq.collate(loaded, SEQ)(speech_seq2seq.encode(loaded, examples, SEQ))
    assert batch["input_features"].shape == (5, 16, 100)
    with torch.inference_mode():
        outputs = loaded.model.eval()(**batch)
    logp = outputs.logits.double().log_softmax(dim=-1)
    told = [
        -float(logp[row, place, label])
        for row, labels in enumerate(batch["labels"].tolist())
        for place, label in enumerate(labels)
        if label != -100
    ]
    assert float(outputs.loss) == pytest.approx(sum(told) / len(told), abs=1e-5)
    tokenizer = loaded.processor.tokenizer
    assert tokenizer.decode(batch["labels"][0][batch["labels"][0] >= 0]).startswith(
        "<|notimestamps|>" + examples[0].content.transcript
    )


def test_errors_are_counted_by_words_and_signs() -> None:
    def example(text: str) -> Any:
        return type("E", (), {"content": type("C", (), {"transcript": text})})

    found = speech.counted(
        [example("to be or not"), example("ab"), example("same")],
        ["to bee or", "x ab  y", "same"],
        [1],
    )
    assert found.rows.tolist() == [[2, 4, 5, 12], [2, 1, 4, 2], [0, 1, 0, 4]]
    assert found.broken == (1,)
    assert speech.figures(found.rows.sum(axis=0)) == {
        "word_error_rate": pytest.approx(4 / 6),
        "character_error_rate": pytest.approx(9 / 18),
    }


@pytest.mark.slow
def test_a_base_with_a_tokenizer_keeps_it_and_a_foreign_sign_is_told(
    ctc: Run, tmp_path: Path
) -> None:
    short = dataclasses.replace(CTC, epochs=1)
    fit(short, ctc.model, ctc.records, tmp_path / "again")
    assert (tmp_path / "again" / "vocab.json").read_bytes() == (
        ctc.model / "vocab.json"
    ).read_bytes()
    for text in ("a ß", "a | b"):
        records = [
            dataclasses.replace(ctc.records[0], fields={**ctc.records[0].fields, "text": text}),
            *ctc.records[1:],
        ]
        with pytest.raises(UnusableInput, match="cannot learn 1 of") as caught:
            fit(short, ctc.model, records, tmp_path / "model")
        (problem,) = caught.value.problems
        assert problem.line == 1
        assert "ß" not in problem.message


@pytest.mark.slow
def test_what_the_model_cannot_read_is_told_with_its_record(
    ctc: Run, seq: Run, tmp_path: Path
) -> None:
    def refused(plan: TrainingPlan, base: Path, sound: bytes, text: str, wrong: str) -> None:
        own = Record({"audio": sound, "text": text}, ctc.records[0].source, 999)
        with pytest.raises(UnusableInput) as caught:
            fit(plan, base, [*ctc.records, own], tmp_path / "model")
        told = {problem.line: problem.message for problem in caught.value.problems}
        assert wrong in told[999]

    noise = np.random.default_rng(4).standard_normal(8000 * 2) / 9
    refused(CTC, ctc.base, wav(noise[:2000]), "abcabcabc", "too short for its transcript")
    masking = dataclasses.replace(CTC, options={"spec_augment": True})
    refused(masking, ctc.base, wav(noise[:2000]), "a", "frames that spec_augment hides")
    refused(SEQ, seq.base, wav(noise), "a", "longer than the 1 seconds")
    refused(SEQ, seq.base, wav(noise[:4000]), "a" * 40, "max_length is 16")
    limited = dataclasses.replace(CTC, options={"max_seconds": 1.5})
    refused(limited, ctc.base, wav(noise), "a", "max_seconds")
    with pytest.raises(UnusableInput, match="no language 'xx'"):
        fit(dataclasses.replace(SEQ, options={"language": "xx"}), seq.base, seq.records, tmp_path)
    with pytest.raises(UnusableInput, match="max_length 29 is more than the 28 tokens"):
        fit(dataclasses.replace(SEQ, max_length=29), seq.base, seq.records, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (wav(np.zeros(0)), "no samples"),
        (wav(np.array([0.1, np.nan, 0.2])), "NaN"),
        (wav(np.zeros(800)), "silent"),
        (wav(np.stack([np.ones(80), -np.ones(80)], axis=1)), "silent"),
        (wav(np.ones(80), 1000), "rate"),
        (wav(np.ones((80, 9))), "channels"),
        (wav(np.ones(8000 * 31, np.float32)), "max_seconds"),
        (wav(np.ones(800))[:-90], "cut off"),
        (wav(np.ones(800), format="AIFF")[:-90], "cut off"),
        (wav(np.ones(9000), format="MP3", subtype="MPEG_LAYER_III")[:-90], "cut off"),
        (wav(np.ones(800), format="FLAC", subtype="PCM_16")[:60], "damaged"),
        (b"RIFF", "damaged"),
        (b"", "no bytes"),
    ],
    ids=[
        "zero",
        "nan",
        "silent",
        "cancelled",
        "rate",
        "channels",
        "long",
        "wav",
        "aiff",
        "mp3",
        "flac",
        "header",
        "empty",
    ],
)
def test_a_bad_sound_is_told_with_its_record(content: bytes, wrong: str) -> None:
    good = wav(np.ones(80))
    records = [
        Record({"audio": good, "text": "a"}, "d.jsonl", 1),
        Record({"audio": content, "text": "Jane"}, "d.jsonl", 2),
        Record({"audio": {"array": [0.1]}, "text": " "}, "d.jsonl", 3),
    ]
    with pytest.raises(UnusableInput, match="2 records of 3") as caught:
        speech.read_examples(CTC, records)
    one, two = caught.value.problems
    assert wrong in one.message
    assert "Jane" not in str(one)
    assert "neither a path nor bytes" in two.message
    assert "transcript in 'text' is empty" in two.message


def test_a_sound_is_mixed_and_resampled_without_aliases() -> None:
    time = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 7000 * time)
    signal, rate, wrong = sounds.decode(wav(np.stack([low + high, low - high], axis=1), 16000), 2)
    assert (rate, wrong) == (16000, "")
    assert signal is not None
    assert np.allclose(signal, low, atol=1e-6)
    both = sounds.resampled((low + high).astype(np.float32), 16000, 8000)
    assert len(both) == sounds.samples_at(16000, 16000, 8000) == 8000
    assert np.allclose(both[200:-200], low[::2][200:-200], atol=1e-2)
    assert len(sounds.resampled(signal, 16000, 11025)) == sounds.samples_at(16000, 16000, 11025)
