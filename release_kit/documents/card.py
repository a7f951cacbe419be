"""The model card: front matter made by a YAML writer, body from `templates/model_card.md.j2`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from release_kit.cards import license_metadata
from release_kit.documents.curves import curves_alt
from release_kit.documents.leaks import leak_section
from release_kit.documents.measures import epochs, measures, robustness, slices
from release_kit.documents.provenance import how_it_was_made, settings
from release_kit.documents.rendering import one_line, render
from release_kit.documents.yaml_text import yaml_text
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.licenses import Condition, Limitation
from release_kit.receipts import Receipt
from release_kit.release import Release

CURVES = "training_curves.svg"
"""The picture of the losses, beside the card."""
LEAKS = "leaks.svg"
"""That of what the weights keep, where `leaks_svg` draws one."""
_LIBRARIES = {False: "transformers", True: "peft"}


def model_card(judgement: Judgement, receipts: Mapping[str, Receipt]) -> str:
    """Return README.md: metadata in the Hub's form, then the sections a reader looks for.

    Raises:
        UnusableInput: the template asks for a fact that nobody has, or a figure is missing.
    """
    release = judgement.release
    body = render(
        "model_card.md.j2",
        {
            "release": release,
            "parts": judgement.parts,
            "license_name": license_metadata(release.license)["license"],
            "displayed": _displayed(judgement),
            "receipts": {name: receipt.digest for name, receipt in receipts.items()},
            "tools": receipts["load" if "load" in receipts else "train"].tools,
            "leaks": leak_section(receipts["leaks"].results) if "leaks" in receipts else None,
            **(_of_loaded(receipts) if "load" in receipts else _of_trained(receipts)),
        },
    )
    return f"---\n{_front_matter(judgement, receipts)}---\n\n{body}"


def _of_trained(receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    trained, evaluated = receipts["train"], receipts["evaluate"].results
    return {
        "loaded": {},
        "gguf": "",
        "redaction": receipts["redact"].results if "redact" in receipts else {},
        "training": trained.results,
        "evaluation": evaluated,
        "measures": measures(evaluated),
        "slices": slices(evaluated),
        "robustness": robustness(evaluated),
        "made": how_it_was_made(trained.results),
        "settings": settings(trained.parameters["training"], trained.results["origins"]),
        "epochs": epochs(trained.results.get("losses", ())),
        "curves_say": curves_alt(trained.results.get("losses", ())),
    }


def _of_loaded(receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    loaded = receipts["load"].results
    total = sum(loaded["numbers"].values())
    shares = [(name, 100 * count / total) for name, count in loaded["numbers"].items() if count]
    first = min(loaded["weights"]) if loaded["form"] == "gguf" else ""
    return {"loaded": loaded, "shares": sorted(shares, key=lambda one: -one[1]), "gguf": first}


def _displayed(judgement: Judgement) -> list[str]:
    terms = (o.term for o in judgement.owed if o.proof == "displayed")
    words = (term.prescribed_text for term in terms if isinstance(term, Condition))
    return list(dict.fromkeys(words))


def _gate(judgement: Judgement) -> dict[str, Any]:
    """Return the gating fields that licenses ask for (Hub docs, Gated models)."""
    release = judgement.release
    limits = [
        o.term
        for o in judgement.owed
        if o.proof == "territory-gate" and isinstance(o.term, Limitation)
    ]
    excluded = dict.fromkeys(territory for limit in limits for territory in limit.territory)
    if release.gating == "open":
        return {}
    agreed = "I have read LICENSE and USE_POLICY.md and will keep to them"
    gate: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    if excluded:
        gate["extra_gated_prompt"] = (
            f"The licenses of this model give no rights in: {', '.join(excluded)}. "
            "LICENSE and USE_POLICY.md say the rest."
        )
        fields["Country"] = "country"
        fields["I am not excluded by my country"] = "checkbox"
    if "EU" in excluded:
        gate["extra_gated_eu_disallowed"] = True
    gate["extra_gated_fields"] = {**fields, agreed: "checkbox"}
    return gate


def _front_matter(judgement: Judgement, receipts: Mapping[str, Receipt]) -> str:
    release = judgement.release
    made = receipts["load" if "load" in receipts else "train"].results
    task = made["pipeline_tag"]
    metadata: dict[str, Any] = dict(license_metadata(release.license))
    metadata["language"] = list(release.documents.languages)
    metadata["library_name"] = (
        made["library"] if "load" in receipts else _LIBRARIES[made["adapter"]]
    )
    if task:
        metadata["pipeline_tag"] = task
    bases = [upstream.id for upstream in release.bases]
    if bases:
        metadata["base_model"] = bases
        relation = _base_model_relation(release, quantized=bool(made.get("quantized")))
        if relation:
            metadata["base_model_relation"] = relation
    datasets = [upstream.id for upstream in release.upstreams("dataset")]
    if datasets:
        metadata["datasets"] = datasets
    if task and "evaluate" in receipts:
        metadata["model-index"] = [
            _model_index(release.documents.title, task, receipts["evaluate"].results, datasets)
        ]
    metadata |= _gate(judgement)
    return yaml_text(metadata)


def _base_model_relation(release: Release, *, quantized: bool) -> str:
    """Return the Hub's word for what was done with the base (Hub docs, Model cards).

    Empty where the Hub has no word, such as for weights that are passed on as they are.
    """
    bases = release.bases
    # The base of a base was not itself worked on.
    earlier = {name for base in bases for name in base.made_from}
    relations = {base.relation for base in bases if base.id not in earlier}
    if "adapter-delta" in relations:
        return "adapter"
    if relations != {"weights-derived"}:
        return ""
    if sum(base.id not in earlier for base in bases) > 1:
        return "merge"
    return "quantized" if quantized else "finetune"


def _model_index(
    title: str, task: str, evaluation: Mapping[str, Any], datasets: list[str]
) -> dict[str, Any]:
    """Return evaluation results in the Hub's model-index form (Hub docs, Model cards)."""
    return {
        "name": one_line(title),
        "results": [
            {
                "task": {"type": task},
                "dataset": {"name": "held-out split", "type": datasets[0] if datasets else "own"},
                "metrics": [
                    {
                        "type": figure["hub"],
                        "name": figure["title"],
                        "value": round(float(figure["value"]), 4),
                    }
                    for figure in evaluation["figures"].values()
                    if figure["hub"]
                ],
            }
        ],
    }
