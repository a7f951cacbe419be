"""Speech recognition by connectionist temporal classification (Graves et al. 2006).

An encoder with a linear head (AutoModelForCTC) turns a batch of signals x, float32 of shape (batch,
samples), into logits, float32 of shape (batch, frames, tokens), and p(k | x, t) is their softmax
over the tokens, one of which is the blank. An alignment a, one token for each frame, stands for
the transcript B(a) that is left when repeated tokens become one and blanks are taken out. The
probability of a transcript y of n tokens is the sum over all alignments that stand for it, and
the loss its negative logarithm for each token, averaged over the batch:

    p(y | x) = sum over a with B(a) = y of prod_t p(a_t | x, t)
    L = -(1 / batch) * sum_i (1 / n_i) * log p(y_i | x_i)        in nats for each token

A transcript has no alignment where it has more tokens, with one more for each pair of equal
neighbours, than there are frames: such records are refused. Tokens are those of the base's
tokenizer; a base that has none gets one for each character of the transcripts. What the model
writes is the best token of each frame, repeats and blanks taken out. Sounds are decoded each time
they are read, so that only their places stay in memory.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import sounds
from release_kit.training.figures import Measured
from release_kit.training.models import Loaded, in_batches, open_model, open_processor
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks import speech
from release_kit.training.tasks.task import Row, Task

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json")
_BLANK, _UNKNOWN, _SPACE = "<pad>", "<unk>", "|"
_KIND = "AutoModelForCTC"


def load(plan: TrainingPlan, folder: Path, labels: tuple[str, ...] | None) -> Loaded:
    """Load the model in `folder`; a base without a tokenizer gets one for the signs `labels`.

    Raises:
        UnusableInput: as `open_model` does, or the tokenizer and the head do not fit.
    """
    settings = {
        # Means of sums, and an impossible transcript is an error here, not a loss of 0.
        "ctc_loss_reduction": "mean",
        "ctc_zero_infinity": False,
        "apply_spec_augment": plan.options["spec_augment"],
    }
    if labels is not None and not any((folder / name).is_file() for name in _TOKENIZERS):
        processor = _processor(folder, labels)
        settings |= {
            "vocab_size": len(processor.tokenizer),
            "pad_token_id": processor.tokenizer.pad_token_id,
        }
    else:
        processor = open_processor("AutoProcessor", folder)
    opened = open_model(
        _KIND,
        folder,
        labels=None if labels is None else (),
        processor=None,
        settings=settings,
    )
    loaded = replace(opened, processor=processor, labels=())
    # It takes the Trainer's count of labels and ignores it.
    loaded.model.accepts_loss_kwargs = False
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or max(tokenizer.get_vocab().values()) >= loaded.model.config.vocab_size:
        raise UnusableInput(f"{folder}: the tokenizer has tokens that the model's head has not")
    if tokenizer.pad_token_id != loaded.model.config.pad_token_id:
        raise UnusableInput(f"{folder}: model and tokenizer have different blanks (pad_token_id)")
    return loaded


def _processor(folder: Path, signs: Sequence[str]) -> Any:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2Processor

    extractor = open_processor("AutoFeatureExtractor", folder)
    tokens = [_BLANK, _UNKNOWN, _SPACE, *sorted(set(signs) - {" "})]
    with tempfile.TemporaryDirectory(prefix="release-kit-") as scratch:
        vocabulary = Path(scratch) / "vocab.json"
        vocabulary.write_text(json.dumps({token: n for n, token in enumerate(tokens)}), "utf-8")
        tokenizer = Wav2Vec2CTCTokenizer(
            str(vocabulary),
            bos_token=None,
            eos_token=None,
            unk_token=_UNKNOWN,
            pad_token=_BLANK,
            word_delimiter_token=_SPACE,
        )
    return Wav2Vec2Processor(extractor, tokenizer)


def names(plan: TrainingPlan, splits: Splits) -> tuple[str, ...]:
    """Return every character of the transcripts, sorted."""
    every = (*splits.train, *splits.validation, *splits.test)
    return tuple(sorted({sign for example in every for sign in example.content.transcript}))


def encode(loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan) -> list[Row]:
    """Return where each sound lies and the tokens of its transcript.

    Raises:
        UnusableInput: with source and number of each record whose transcript holds a character
            that the tokenizer lacks, or that is too short for what is said in it.
    """
    tokens = [_tokens(loaded, example.content.transcript) for example in examples]
    reasons = [
        _wrong(loaded, example.content, row, plan)
        for example, row in zip(examples, tokens, strict=True)
    ]
    speech.refuse(examples, reasons, "the model cannot learn")
    return [
        {"sound": example.content, "labels": row}
        for example, row in zip(examples, tokens, strict=True)
    ]


def _tokens(loaded: Loaded, transcript: str) -> list[int]:
    return list(loaded.processor.tokenizer(transcript).input_ids)


def _wrong(loaded: Loaded, sound: speech.Sound, tokens: list[int], plan: TrainingPlan) -> str:
    tokenizer = loaded.processor.tokenizer
    if _SPACE in sound.transcript and tokenizer.word_delimiter_token == _SPACE:
        return f"the transcript holds '{_SPACE}', which stands for a space here"
    if tokenizer.unk_token_id in tokens or tokenizer.pad_token_id in tokens:
        return "the transcript holds a character that the model's tokenizer does not have"
    frames = _frames(loaded, sound)
    if frames is None:
        return ""
    if frames < len(tokens) + sum(one == other for one, other in pairwise(tokens)):
        return f"the sound is too short for its transcript: it makes {max(frames, 0)} frames"
    masked = getattr(loaded.model.config, "mask_time_length", 0)
    if plan.options["spec_augment"] and frames <= masked:
        return f"the sound is shorter than the {masked} frames that spec_augment hides at once"
    return ""


def _frames(loaded: Loaded, sound: speech.Sound) -> int | None:
    """Return how many frames the model makes of a sound; None where it does not say."""
    lengths = getattr(loaded.model, "_get_feat_extract_output_lengths", None)
    if lengths is None or loaded.model.main_input_name != "input_values":
        return None
    return int(lengths(sounds.samples_at(sound.samples, sound.rate, speech.rate_of(loaded))))


def collate(loaded: Loaded, plan: TrainingPlan) -> Callable[[list[Row]], Mapping[str, Any]]:
    """Return what decodes the sounds of some rows and pads them to the longest."""
    import torch

    rate, extractor = speech.rate_of(loaded), speech.extractor_of(loaded)

    def pad(rows: list[Row]) -> Mapping[str, Any]:
        signals = [row["sound"].at(rate) for row in rows]
        batch = {**extractor(signals, sampling_rate=rate, padding=True, return_tensors="pt")}
        if "labels" in rows[0]:
            batch["labels"] = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(row["labels"]) for row in rows], True, speech.IGNORED
            )
        return batch

    return pad


def measure(
    loaded: Loaded, examples: Sequence[Example], plan: TrainingPlan, watcher: Watcher
) -> Measured:
    """Count what `release_kit.training.tasks.speech.counted` says."""
    written, broken = [""] * len(examples), []
    rows: list[Row] = [{"sound": example.content} for example in examples]
    for chosen, outputs, _ in in_batches(loaded, rows, collate(loaded, plan), plan, watcher):
        for row, logits in zip(chosen, outputs.logits, strict=True):
            # What follows comes of padding.
            logits = logits[: _frames(loaded, examples[row].content)]  # noqa: PLW2901
            if not bool(logits.isfinite().all()):
                broken.append(row)
            written[row] = loaded.processor.tokenizer.decode(logits.argmax(dim=-1).tolist())
    return speech.counted(examples, written, broken)


TASK = Task(
    learns="what is said, from the alignment of frames and characters",
    fields=speech.FIELDS,
    pipeline_tag="automatic-speech-recognition",
    read=speech.read_examples,
    load=load,
    names=names,
    encode=encode,
    collate=collate,
    measure=measure,
    figures=speech.figures,
    baseline=speech.baseline,
    options=speech.OPTIONS,
)
