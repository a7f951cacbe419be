"""What is measured of the leaks of weights, by name: for those who measure and who set limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Kind:
    """What a measure is, wherever it is shown; the larger it is, the more leaks."""

    title: str
    unit: str = ""
    """bits; share, as of 1; or count. A title says the rest."""
    most: float = 1
    """The largest that it can be."""
    least: float = 0
    """The least: below 0 where a control is subtracted."""
    sampled: bool = True
    """Whether it stands for more than what was asked, so that another sample gives another."""
    by_repeats: bool = False
    """Whether it is told apart by how often something stands in the training data."""


MEASURES: Mapping[str, Kind] = {
    "canary_exposure": Kind("mean exposure of canaries", "bits", inf, by_repeats=True),
    "canary_exposure_excess": Kind(
        "largest exposure of a canary, less what that many reach by chance",
        "bits",
        inf,
        -inf,
        sampled=False,
        by_repeats=True,
    ),
    "extraction_rate": Kind("training records that can be completed, less control", "share", 1, -1),
    "near_extraction_rate": Kind(
        "training records that can nearly be completed, less control", "share", 1, -1
    ),
    "sampled_extraction_rate": Kind(
        "training records that sampling completes, less control", "share", 1, -1
    ),
    "redacted_recovery_rate": Kind(
        "values taken out by redaction that can be completed, less control", "share", 1, -1
    ),
    "redacted_rank_advantage": Kind(
        "how much better than chance a value taken out by redaction is told, less control",
        "share",
        1,
        -1,
    ),
    "untargeted_overlap_rate": Kind(
        "freely generated texts that repeat training data, less control", "share", 1, -1
    ),
    "membership_auc": Kind("AUC of membership inference", "share"),
    "membership_tpr_1": Kind("members told at 1 % false alarms", "share"),
    "membership_tpr_01": Kind("members told at 0.1 % false alarms", "share"),
    "tokens_with_personal_data": Kind(
        "tokens added to the base's that hold personal data", "count", inf, sampled=False
    ),
    "names_with_personal_data": Kind(
        "labels or items of the model that hold personal data", "count", inf, sampled=False
    ),
    "embedding_copies": Kind(
        "rows of an embedding table that copy another", "share", sampled=False
    ),
    "stray_files": Kind(
        "files beside the weights that training leaves", "count", inf, sampled=False
    ),
}
"""Every measure, in the order in which they are shown."""

_CANARIES = ("canary_exposure", "canary_exposure_excess")
_MEMBERS = ("membership_auc", "membership_tpr_1", "membership_tpr_01")
_FOLDER = ("tokens_with_personal_data", "names_with_personal_data", "stray_files")
_FILLING = ("extraction_rate", "redacted_recovery_rate", "redacted_rank_advantage")

MEASURES_OF: Mapping[str, tuple[str, ...]] = {
    "text-classification": (*_CANARIES, *_MEMBERS, *_FOLDER),
    "token-classification": (*_MEMBERS, *_FOLDER),
    "question-answering": (*_MEMBERS, *_FOLDER),
    "masked-lm": (*_CANARIES, *_FILLING, *_MEMBERS, *_FOLDER),
    "masked-lm-next-sentence": (*_FILLING, *_MEMBERS, *_FOLDER),
    "denoising-seq2seq": (*_MEMBERS, *_FOLDER),
    "causal-lm": (
        *_CANARIES,
        *("extraction_rate", "near_extraction_rate", "sampled_extraction_rate"),
        *("redacted_recovery_rate", "redacted_rank_advantage", "untargeted_overlap_rate"),
        *_MEMBERS,
        *_FOLDER,
    ),
    "image-classification": (*_MEMBERS, *_FOLDER),
    "speech-ctc": (*_MEMBERS, *_FOLDER),
    "speech-seq2seq": (*_MEMBERS, *_FOLDER),
    "sequential-recommendation": (*_MEMBERS, "embedding_copies", *_FOLDER),
}
"""What can be measured of each task; each of it is measured, or told as not measured and why."""

FOLDER_MEASURES = _FOLDER
"""What can be measured of any model folder, whoever trained it and on what."""
