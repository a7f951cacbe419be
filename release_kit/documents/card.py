"""The model card: front matter made by a YAML writer, body from `templates/model_card.md.j2`."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from release_kit.cards import license_metadata
from release_kit.documents.rendering import one_line, render
from release_kit.licensing.obligations import Obligation
from release_kit.receipts import Receipt
from release_kit.release import Release

_LIBRARY = "transformers"

# What every YAML reader takes for text without quotes, but for the words of YAML 1.1 below: to
# some readers the language code `no` is false.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*([ ./_-][A-Za-z0-9]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def model_card(
    release: Release,
    owed: tuple[Obligation, ...],
    receipts: Mapping[str, Receipt],
) -> str:
    """Return README.md: metadata in the Hub's form, then the sections a reader looks for.

    Raises:
        UnusableInput: the template asks for a fact that nobody has.
    """
    body = render(
        "model_card.md.j2",
        {
            "release": release,
            "license_name": license_metadata(release.license)["license"],
            "displayed": [o.condition.prescribed_text for o in owed if _is_displayed(o)],
            "redaction": receipts["redact"].results if "redact" in receipts else {},
            "training": receipts["train"].results,
            "evaluation": receipts["evaluate"].results,
            "receipts": {name: receipt.digest for name, receipt in receipts.items()},
            "tools": receipts["train"].tools,
        },
    )
    return f"---\n{_front_matter(release, receipts['evaluate'].results)}---\n\n{body}"


def _is_displayed(obligation: Obligation) -> bool:
    return obligation.proof == "card-text"


def _front_matter(release: Release, evaluation: Mapping[str, Any]) -> str:
    training = release.training
    metadata: dict[str, Any] = dict(license_metadata(release.license))
    metadata["language"] = list(release.documents.languages)
    metadata["library_name"] = _LIBRARY
    if training:
        metadata["pipeline_tag"] = training.task
    bases = [upstream.id for upstream in release.upstreams("base_model")]
    if bases:
        metadata["base_model"] = bases
        if len(bases) == 1:
            metadata["base_model_relation"] = "finetune"
    datasets = [upstream.id for upstream in release.upstreams("dataset")]
    if datasets:
        metadata["datasets"] = datasets
    if training:
        metadata["model-index"] = [
            _model_index(release.documents.title, training.task, evaluation, datasets)
        ]
    stream = io.StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 1 << 30
    writer.dump(_quoted(metadata), stream)
    return stream.getvalue()


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _WORDS):
        return DoubleQuotedScalarString(value)
    return value


def _model_index(
    title: str, task: str, evaluation: Mapping[str, Any], datasets: list[str]
) -> dict[str, Any]:
    """Return evaluation results in the Hub's model-index form (Hub docs, Model cards)."""
    measures = {
        "accuracy": "accuracy",
        "precision": "macro_precision",
        "recall": "macro_recall",
        "f1": "macro_f1",
    }
    return {
        "name": one_line(title),
        "results": [
            {
                "task": {"type": task},
                "dataset": {"name": "held-out split", "type": datasets[0] if datasets else "own"},
                "metrics": [
                    {
                        "type": metric,
                        "name": field.replace("_", " "),
                        "value": round(float(evaluation[field]), 4),
                    }
                    for metric, field in measures.items()
                ],
            }
        ],
    }
