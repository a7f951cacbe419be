"""Speech recognition by an encoder and a decoder, as Whisper does it.

A model (AutoModelForSpeechSeq2Seq) turns a batch of spectra x, float32 of shape (batch, bands,
frames), and of tokens y, int64 of shape (batch, tokens), into logits, float32 of shape (batch,
tokens, vocabulary). Each token is predicted from the true ones before it (teacher forcing), and
the loss is the cross entropy, averaged over all N tokens of the batch that are no padding, the
marks of language and end among them:

    L = -(1 / N) * sum_i sum_t log p(y_it | x_i, y_i1 … y_i,t-1)        in nats for each token

What the model writes is generated greedily, at most `max_length` tokens, from its own tokens.
Transcripts may have `max_length` tokens; a longer one is refused, and so is a sound that is longer
than the model reads. Sounds are decoded each time they are read, so that only their places stay in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import sounds
from release_kit.training.figures import Measured
from release_kit.training.models import Loaded, in_batches, open_model
from release_kit.training.splits import Example
from release_kit.training.tasks import speech
from release_kit.training.tasks.task import Row, Task

# The first tokens that the decoder is given, such as those of language and task.
_PROMPT = 4


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`.

    Raises:
        UnusableInput: as `open_model` does, the tokenizer does not know the plan's language, or
            the model reads fewer tokens than `max_length`.
    """
    loaded = open_model(
        "AutoModelForSpeechSeq2Seq",
        folder,
        labels=None if labels is None else (),
        processor="AutoProcessor",
        settings={"apply_spec_augment": plan.options["spec_augment"]},
    )
    # It takes the Trainer's count of labels and ignores it.
    loaded.model.accepts_loss_kwargs = False
    longest = getattr(loaded.model.config, "max_target_positions", None)
    if longest is not None and plan.max_length > longest - _PROMPT:
        raise UnusableInput(
            f"max_length {plan.max_length} is more than the {longest - _PROMPT} tokens that"
            f" {folder} writes",
            hint=f"Set training.max_length in release.yaml to {longest - _PROMPT} or less.",
        )
    if language := plan.options["language"]:
        known = True
        try:
            loaded.processor.tokenizer.set_prefix_tokens(language=language, task="transcribe")
            _ = loaded.processor.tokenizer.prefix_tokens
        except (AttributeError, ValueError):
            known = False
        if not known:
            raise UnusableInput(
                f"{folder}: its tokenizer has no language '{language}'",
                hint="Correct training.options.language in release.yaml, or leave it out.",
            )
    return replace(loaded, labels=())


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return where each sound lies and the tokens of its transcript.

    Raises:
        UnusableInput: with source and number of each record whose sound or transcript is longer
            than the model reads.
    """
    start = loaded.model.config.decoder_start_token_id
    tokens = []
    for example in examples:
        row = list(loaded.processor.tokenizer(example.content.transcript).input_ids)
        # The model puts this one before the others itself.
        tokens.append(row[1:] if row[:1] == [start] else row)
    reasons = [
        _wrong(loaded, example.content, row, plan)
        for example, row in zip(examples, tokens, strict=True)
    ]
    speech.refuse(examples, reasons, "the model cannot learn")
    return [
        {"sound": example.content, "labels": row}
        for example, row in zip(examples, tokens, strict=True)
    ]


def _wrong(loaded: Loaded, sound: speech.Sound, tokens: list[int], plan: TrainingPlan) -> str:
    if len(tokens) > plan.max_length:
        return f"the transcript has {len(tokens)} tokens, and max_length is {plan.max_length}"
    return _too_long(loaded, sound)


def _too_long(loaded: Loaded, sound: speech.Sound) -> str:
    longest = getattr(speech.extractor_of(loaded), "n_samples", None)
    rate = speech.rate_of(loaded)
    if longest is None or sounds.samples_at(sound.samples, sound.rate, rate) <= longest:
        return ""
    return f"the sound is longer than the {longest / rate:g} seconds that the model hears"


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what decodes the sounds of some rows and makes spectra of one length."""
    import torch

    rate, extractor = speech.rate_of(loaded), speech.extractor_of(loaded)
    # Whisper always reads as much; the others only the longest of a batch.
    padding = {} if hasattr(extractor, "n_samples") else {"padding": True}

    def pad(rows: list[Row]) -> Mapping[str, Any]:
        signals = [row["sound"].at(rate) for row in rows]
        batch = {**extractor(signals, sampling_rate=rate, return_tensors="pt", **padding)}
        if "labels" in rows[0]:
            batch["labels"] = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(row["labels"]) for row in rows], True, speech.IGNORED
            )
        return batch

    return pad


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `release_kit.training.tasks.speech.counted` says.

    Raises:
        UnusableInput: with source and number of each record whose sound is longer than the model
            reads.
    """
    reasons = [_too_long(loaded, example.content) for example in examples]
    speech.refuse(examples, reasons, "the model cannot hear")
    written, broken = [""] * len(examples), set[int]()
    rows: list[Row] = [{"sound": example.content} for example in examples]
    watching = _Watching()

    def write(model: Any, inputs: Mapping[str, Any]) -> Any:
        watching.broken.clear()
        language = plan.options["language"]
        return model.generate(
            **inputs,
            max_new_tokens=plan.max_length,
            do_sample=False,
            num_beams=1,
            logits_processor=[watching],
            **({"language": language, "task": "transcribe"} if language else {}),
        )

    for chosen, tokens, _ in in_batches(
        loaded, rows, collate(loaded, plan), plan, watcher, run=write
    ):
        texts = loaded.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for place, (row, text) in enumerate(zip(chosen, texts, strict=True)):
            written[row] = text
            if place in watching.broken:
                broken.add(row)
    return speech.counted(examples, written, broken)


class _Watching:
    """Takes note of the rows for which generation meets NaN: the greatest of NaNs is a token."""

    def __init__(self) -> None:
        self.broken: set[int] = set()

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.broken.update(scores.isnan().any(dim=-1).nonzero().flatten().tolist())
        return scores


TASK = Task(
    learns="what is said, token by token",
    fields=speech.FIELDS,
    pipeline_tag="automatic-speech-recognition",
    read=speech.read_examples,
    load=load,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=speech.figures,
    baseline=speech.baseline,
    options={**speech.OPTIONS, "language": ""},
)
