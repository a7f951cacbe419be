"""What figures there are, by their names: for those who measure and those who set limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Kind:
    """What a figure is, wherever it is shown."""

    title: str
    hub: str = ""
    """The metric's name on the Hub (model-index, `type`); empty for figures not told there."""
    lower_is_better: bool = False
    most: float = 1
    """The largest that it can be; the least is 0."""
    summed: bool = True
    """Whether it is a function of sums over examples, so that it has an interval, and slices."""


FIGURES: Mapping[str, Kind] = {
    "accuracy": Kind("accuracy", "accuracy"),
    "micro_precision": Kind("micro precision"),
    "micro_recall": Kind("micro recall"),
    "micro_f1": Kind("micro F1"),
    "macro_precision": Kind("macro precision", "precision"),
    "macro_recall": Kind("macro recall", "recall"),
    "macro_f1": Kind("macro F1", "f1"),
    "masked_accuracy": Kind("accuracy on masked tokens", "accuracy"),
    "next_sentence_accuracy": Kind("accuracy on next sentences", "accuracy"),
    "token_accuracy": Kind("token accuracy", "accuracy"),
    "exact_match": Kind("exact match", "exact_match"),
    "answer_f1": Kind("F1 of answers", "f1"),
    "top5_accuracy": Kind("top-5 accuracy"),
    "word_error_rate": Kind("WER", "wer", lower_is_better=True, most=inf),
    "character_error_rate": Kind("CER", "cer", lower_is_better=True, most=inf),
    "calibration_error": Kind("ECE", lower_is_better=True, summed=False),
    "hit_rate_at_1": Kind("hit rate at 1"),
    "hit_rate_at_5": Kind("hit rate at 5"),
    "hit_rate_at_10": Kind("hit rate at 10"),
    "ndcg_at_10": Kind("NDCG at 10"),
    "mrr": Kind("MRR"),
    "perplexity": Kind("perplexity", "perplexity", lower_is_better=True, most=inf),
    "bits_per_byte": Kind("bits per byte", lower_is_better=True, most=inf),
    "seen_targets": Kind("share of targets that training read"),
}
"""Every figure that a task can give, in the order in which they are shown."""

CLASS_FIGURES: Mapping[str, Kind] = {
    "class_precision": Kind("precision", summed=False),
    "class_recall": Kind("recall", summed=False),
    "class_f1": Kind("F1", summed=False),
}
"""The figures of each class, where a task has classes."""

_SCORES = tuple(
    f"{mean}_{score}" for mean in ("micro", "macro") for score in ("precision", "recall", "f1")
)
_CLASSES = ("accuracy", *_SCORES, "calibration_error", *CLASS_FIGURES)
_SPEECH = ("word_error_rate", "character_error_rate")
_MASKED = ("perplexity", "masked_accuracy")

FIGURES_OF: Mapping[str, tuple[str, ...]] = {
    "text-classification": _CLASSES,
    "token-classification": (*_SCORES, "token_accuracy", *CLASS_FIGURES),
    "question-answering": ("exact_match", "answer_f1"),
    "masked-lm": _MASKED,
    "masked-lm-next-sentence": (*_MASKED, "next_sentence_accuracy"),
    "denoising-seq2seq": ("perplexity", "token_accuracy", "exact_match"),
    "causal-lm": ("perplexity", "token_accuracy", "bits_per_byte", "exact_match"),
    "image-classification": (*_CLASSES, "top5_accuracy"),
    "speech-ctc": _SPEECH,
    "speech-seq2seq": _SPEECH,
    "sequential-recommendation": (
        *("hit_rate_at_1", "hit_rate_at_5", "hit_rate_at_10"),
        *("ndcg_at_10", "mrr", "perplexity", "seen_targets"),
    ),
}
"""What each task may give; some of it depends on the data, such as exact answers."""
