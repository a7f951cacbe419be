"""What both speech tasks share: reading sounds with their transcripts, and counting word errors.

A transcript is learned and compared in Unicode form NFC with single spaces, otherwise as it is
written: whoever wants case and punctuation to count for nothing takes them out of the data. With
the edits that turn what the model wrote into the transcript (fewest insertions, deletions and
substitutions, by jiwer), over all examples:

    word error rate = edits of words / words of the transcripts
    character error rate = edits of characters / characters of the transcripts

Both are 0 at best, 1 for writing nothing, and more for writing too much.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from release_kit.datasets.media import Media, folder_of, media_of
from release_kit.errors import Problem, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan
from release_kit.training import sounds
from release_kit.training.figures import Baseline, Measured, each
from release_kit.training.models import Loaded, need
from release_kit.training.splits import Example, Splits
from release_kit.training.tasks.reading import read_each, text_of
from release_kit.training.tasks.task import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from release_kit.datasets.records import Record

IGNORED = -100
"""The label where nothing is to be predicted."""

FIELDS = {
    "audio": Field(
        "the sound: bytes, or a path beside the dataset", "audio", kept=True, media="audio"
    ),
    "transcript": Field("what is said in it", "text"),
}
OPTIONS = {"max_seconds": 30.0, "spec_augment": False}


@dataclass(frozen=True)
class Sound:
    """A sound that was decoded once and is decoded again when it is read."""

    media: Media
    samples: int
    rate: int
    """Hz."""
    transcript: str = field(repr=False)

    def __len__(self) -> int:
        """Return its length, by which rows share batches: hundredths of a second."""
        return 100 * self.samples // self.rate

    def at(self, rate: int) -> NDArray[np.float32]:
        """Return the signal at `rate` Hz, float32 of shape (samples,).

        Raises:
            UnusableInput: its file was changed since it was first read.
        """
        signal, own, _ = sounds.decode(self.media.read(), self.samples / self.rate + 1)
        # Its bytes are those that were decoded when the records were read.
        assert signal is not None  # noqa: S101
        return sounds.resampled(signal, own, rate)


def read_examples(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    Its text is a digest of the samples, so sounds are near copies only where all samples agree.

    Raises:
        UnusableInput: with source and record number of every record whose sound cannot be found
            or decoded, lasts too long, or that has no usable transcript, or when there are no
            records. No message quotes a transcript.
        Unfinished: a package is not installed.
    """
    need("soundfile", "scipy", "jiwer")

    def read(record: Record) -> tuple[Example, tuple[str, str]]:
        name = plan.fields["audio"]
        text, wrong_text = text_of(record.fields, plan.fields["transcript"], "transcript")
        media, wrong = media_of(record.fields, name, folder_of(record))
        told, sound = "", None
        if media:
            signal, rate, wrong = sounds.decode(media.read(), plan.options["max_seconds"])
            wrong = wrong and f"the sound in '{name}' {wrong}"
            if signal is not None:
                told = sounds.digest(signal, rate)
                sound = Sound(media, len(signal), rate, plain(text))
        return Example(told, (), record.source, record.index, sound), (wrong, wrong_text)

    return read_each(records, read)


def plain(text: str) -> str:
    """Return the text as transcripts are learned and compared."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def refuse(examples: Sequence[Example], reasons: Iterable[str], what: str) -> None:
    """Stop where a reason stands beside an example; empty ones count as none.

    Raises:
        UnusableInput: with source and record number of each.
    """
    problems = [
        Problem(example.source, example.record, 1, reason)
        for example, reason in zip(examples, reasons, strict=True)
        if reason
    ]
    if problems:
        raise UnusableInput(f"{what} {len(problems)} of {len(examples)} records", problems=problems)


def rate_of(loaded: Loaded) -> int:
    """Return the rate at which the model hears, in Hz."""
    return int(extractor_of(loaded).sampling_rate)


def extractor_of(loaded: Loaded) -> Any:
    """Return what turns signals into the model's inputs."""
    return getattr(loaded.processor, "feature_extractor", loaded.processor)


def counted(examples: Sequence[Example], written: Sequence[str], broken: Iterable[int]) -> Measured:
    """Count edits of words, words, edits of characters and characters, one column each."""
    counts = [_edits(example.content.transcript, text) for example, text in
              zip(examples, written, strict=True)]  # fmt: skip
    return each(np.array(counts, np.float64).reshape(-1, 4), broken=tuple(sorted(broken)))


def _edits(transcript: str, written: str) -> tuple[int, int, int, int]:
    import jiwer

    written = plain(written)
    words = jiwer.process_words(transcript, written)
    signs = jiwer.process_characters(transcript, written)
    return (
        words.substitutions + words.deletions + words.insertions,
        words.substitutions + words.deletions + words.hits,
        signs.substitutions + signs.deletions + signs.insertions,
        signs.substitutions + signs.deletions + signs.hits,
    )


def figures(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the two error rates for sums of shape (…, 4)."""
    return {
        "word_error_rate": sums[..., 0] / sums[..., 1],
        "character_error_rate": sums[..., 2] / sums[..., 3],
    }


def baseline(
    loaded: Loaded, splits: Splits, plan: TrainingPlan, base: Path | None, watcher: Watcher
) -> Baseline:
    """Write always the most frequent transcript of training, or nothing where none is repeated.

    The document does not quote it: it is what somebody said.
    """
    counts = Counter(example.content.transcript for example in splits.train)
    most = min(counts, key=lambda text: (-counts[text], text))
    always, does = most, "always writes the most frequent transcript of the training data"
    if counts[most] == 1:
        always, does = "", "writes nothing, as no transcript is repeated in the training data"
    return Baseline(does, "", counted(splits.test, [always] * len(splits.test), ()))
