"""The model card keeps its structure and its metadata, whatever people write in release.yaml."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from release_kit.cards import license_metadata, parse_card
from release_kit.documents.card import model_card
from release_kit.documents.measures import epochs
from release_kit.documents.rendering import one_line
from release_kit.errors import UnusableInput
from release_kit.licensing.licenses import identified, load_licenses
from release_kit.project import open_project
from release_kit.publishing.rehearsal.rules import read_card
from release_kit.receipts import read_receipt
from release_kit.release import Release
from release_kit.strict_yaml import parse_yaml
from tests.documents.facts import card, judged, receipts, release
from tests.documents.markdown import HOSTILE, shown, structure, tokens


def _is_accepted(value: str) -> bool:
    try:
        return bool(one_line(parse_yaml(_written(value), "f").data))
    except UnusableInput:
        return False


def _written(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


ACCEPTED = tuple(value for value in HOSTILE if _is_accepted(value))


def _everywhere(subject: Release, value: str) -> Release:
    """Put `value` into every text field, past the schema as well."""
    return replace(
        subject,
        repo_id=f"acme/{value}",
        version=f"1.0.0{value}",
        license=f"x{value}",
        organization=replace(
            subject.organization, name=value, contact=f"https://example.org/{value}"
        ),
        lineage=tuple(
            replace(
                upstream,
                id=f"{upstream.role}/{value}",
                relation=value,
                license=f"x{value}",
                source=f"https://example.org/{value}",
                revision=value,
                attribution=value,
                changes=value,
            )
            for upstream in subject.lineage
        ),
        documents=replace(
            subject.documents,
            title=value,
            summary=value,
            languages=(value, value),
            intended_use=(value, value),
            out_of_scope_use=(value,),
            limitations=(value,),
            example=value,
        ),
    )


def _body(text: str) -> str:
    """Return what follows the front matter, also of one that the strict reader would refuse."""
    return text.split("\n---\n", 1)[1]


def _code(text: str) -> ast.Module:
    (fence,) = (token for token in tokens(_body(text)) if token.type == "fence")
    assert fence.info == "python"
    return ast.parse(fence.content)


def test_what_is_hostile_here_mostly_passes_the_schema() -> None:
    assert 0 < len(HOSTILE) - len(ACCEPTED) < 10


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
def test_no_value_changes_the_structure_of_the_card(tmp_path: Path, value: str) -> None:
    subject = release(tmp_path)
    plain = card(_everywhere(subject, "plain"), ("plain", "plain other"))
    hostile = card(_everywhere(subject, value), (value, f"{value} other"))
    assert structure(_body(hostile)) == structure(_body(plain))
    assert all(c.isprintable() or c in "\n\u200c\u200d" for c in _body(hostile))


@pytest.mark.parametrize("value", ACCEPTED, ids=lambda value: ascii(value)[:40])
def test_reader_sees_the_words_of_release_yaml(tmp_path: Path, value: str) -> None:
    subject = release(
        tmp_path,
        ("Topic Classifier", _written(value)),
        ("Tells which topic a short note is about.", _written(value)),
        ("[Sorting notes by topic.]", f"[{_written(value)}]"),
        ("The dough needs more butter and flour.", _written(value)),
        ("Acme Tests", _written(value)),
    )
    text = card(subject)
    parsed = tokens(_body(text))
    inline = [shown(token) for token in parsed if token.type == "inline"]
    words = one_line(value)
    assert inline[:2] == [words, words]
    assert f"Released by: {words} (https://example.org/acme)" in inline
    assert inline[inline.index("It is meant for:") + 1] == words
    literals = [node.value for node in ast.walk(_code(text)) if isinstance(node, ast.Constant)]
    assert literals.count(value) == 1
    front = parse_card(text, "README.md").metadata.data
    assert front["model-index"][0]["name"] == words
    assert yaml.safe_load(text.split("---\n")[1]) == front


@pytest.mark.parametrize("value", ACCEPTED, ids=lambda value: ascii(value)[:40])
def test_front_matter_says_what_was_meant(tmp_path: Path, value: str) -> None:
    subject = release(
        tmp_path,
        ('"1.0.0"\n  license: apache-2.0', f'"1.0.0"\n  license: {_written(value)}'),
        ("languages: [en]", "languages: [no, en, on]"),
        ("Topic Classifier", _written(value)),
    )
    text = card(subject)
    front = parse_card(text, "README.md").metadata.data
    assert front == yaml.safe_load(text.split("---\n")[1])
    results = front.pop("model-index")
    # Some plainly spell a license, however oddly.
    license_id = identified(value, load_licenses()) or value
    assert front == {
        **license_metadata(license_id),
        "language": ["no", "en", "on"],
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": ["acme/tiny-bert"],
        "base_model_relation": "finetune",
        "datasets": ["acme/topic-notes"],
    }
    assert results[0]["name"] == one_line(value)


def test_the_hub_takes_the_card_and_its_results(tmp_path: Path) -> None:
    text = card(release(tmp_path, ("Topic Classifier", _written('A: "b" # c'))))
    assert read_card(text).errors == ()
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    assert (data.license, data.language) == ("apache-2.0", ["en"])
    assert (data.base_model, data.datasets) == (["acme/tiny-bert"], ["acme/topic-notes"])
    assert data.model_name == 'A: "b" # c'
    name, results = model_index_to_eval_results(
        parse_card(text, "README.md").metadata.data["model-index"]
    )
    assert name == 'A: "b" # c'
    assert data.eval_results == results
    assert [(r.metric_type, r.metric_name, r.metric_value) for r in results] == [
        ("accuracy", "accuracy", 0.9091),
        ("precision", "macro precision", 0.9),
        ("f1", "macro F1", 0.85),
    ]
    assert {(r.task_type, r.dataset_type) for r in results} == {
        ("text-classification", "acme/topic-notes")
    }


_ONE = "      changes: All weights were fine-tuned.\n"
_TWO = "    - {id: acme/two, license: mit, source: https://example.org/two}\n"


@pytest.mark.parametrize(
    ("more", "names", "relation"),
    [
        (_ONE, ["acme/tiny-bert"], "finetune"),
        (_ONE + _TWO, ["acme/tiny-bert", "acme/two"], "merge"),
        # The base of the base stands in a closed lineage, and nothing was merged.
        (f"{_ONE}      made_from: [acme/two]\n{_TWO}", ["acme/tiny-bert", "acme/two"], "finetune"),
        (f"{_ONE}      relation: adapter-delta\n", ["acme/tiny-bert"], "adapter"),
        (
            f"{_ONE}      made_from: [acme/two]\n{_TWO.replace('{', '{relation: adapter-delta, ')}",
            ["acme/tiny-bert", "acme/two"],
            "finetune",
        ),
        (f"{_ONE}      relation: weights-shipped\n", ["acme/tiny-bert"], None),
    ],
)
def test_card_names_every_base_and_what_was_done_with_it(
    tmp_path: Path, more: str, names: list[str], relation: str | None
) -> None:
    # Weights that are passed on as they are were not what training started from.
    fitting = {
        "      relation: weights-shipped": ("      path: base\n", ""),
        "      relation: adapter-delta": (
            "  epochs: 3",
            "  method: {kind: lora, ship: adapter}\n  epochs: 3",
        ),
    }
    changes = [change for word, change in fitting.items() if word in more]
    front = parse_card(card(release(tmp_path, (_ONE, more), *changes)), "c").metadata.data
    assert front["base_model"] == names
    assert front.get("base_model_relation") == relation


def test_card_of_a_model_made_from_nothing_names_nothing(tmp_path: Path) -> None:
    subject = replace(release(tmp_path), lineage=())
    bare = parse_card(card(subject), "c").metadata.data
    assert not {"base_model", "base_model_relation", "datasets"} & set(bare)


_HUNYUAN = ("bert\n      license: apache-2.0", "bert\n      license: hunyuan-3d-2.0")
_AGREED = "I have read LICENSE and USE_POLICY.md and will keep to them"
_EU_TEXT = ("bert\n      license: apache-2.0", "bert\n      license: llama3.2")


def _gated(*more: str) -> tuple[str, str]:
    return ("visibility: public", "\n  ".join(("visibility: public", *more)))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ((_gated("gating: open"),), {}),
        # A gate that no license asks for asks for consent alone.
        ((_gated("gating: manual"),), {"extra_gated_fields": {_AGREED: "checkbox"}}),
        ((_gated("gating: open"), _HUNYUAN), {}),
        (
            (_gated("gating: manual"), _HUNYUAN),
            {
                "extra_gated_eu_disallowed": True,
                "extra_gated_prompt": "The licenses of this model give no rights in: EU, GB, KR. "
                "LICENSE and USE_POLICY.md say the rest.",
                "extra_gated_fields": {
                    "Country": "country",
                    "I am not excluded by my country": "checkbox",
                    _AGREED: "checkbox",
                },
            },
        ),
        # It excludes the EU from multimodal models only.
        (
            (_gated("gating: automatic", "modalities: [text]"), _EU_TEXT),
            {"extra_gated_fields": {_AGREED: "checkbox"}},
        ),
        (
            (_gated("gating: automatic", "modalities: [text, image]"), _EU_TEXT),
            {
                "extra_gated_eu_disallowed": True,
                "extra_gated_prompt": "The licenses of this model give no rights in: EU. "
                "LICENSE and USE_POLICY.md say the rest.",
                "extra_gated_fields": {
                    "Country": "country",
                    "I am not excluded by my country": "checkbox",
                    _AGREED: "checkbox",
                },
            },
        ),
    ],
)
def test_gate_is_what_the_hub_reads_from_the_card(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], fields: dict[str, Any]
) -> None:
    text = card(release(tmp_path, *changes))
    data = ModelCard(text).data.to_dict()
    assert {key: value for key, value in data.items() if "gated" in key} == fields
    assert read_card(text).errors == ()


def test_words_that_a_license_prescribes_stand_in_the_card(tmp_path: Path) -> None:
    subject = release(
        tmp_path, ("bert\n      license: apache-2.0", "bert\n      license: llama3.1")
    )
    strong = [
        shown(token)
        for token in tokens(_body(card(subject)))
        if any(child.type == "strong_open" for child in token.children or [])
    ]
    assert strong == ["Built with Llama"]


def test_example_code_names_repo_and_tag(tmp_path: Path) -> None:
    calls = [
        node for node in ast.walk(_code(card(release(tmp_path)))) if isinstance(node, ast.Call)
    ]
    made = next(call for call in calls if ast.unparse(call.func) == "pipeline")
    assert [ast.literal_eval(argument) for argument in made.args] == [
        "text-classification",
        "acme/topics",
    ]
    assert {word.arg: ast.literal_eval(word.value) for word in made.keywords} == {
        "revision": "v1.0.0"
    }


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
def test_example_code_is_python_whatever_it_holds(tmp_path: Path, value: str) -> None:
    subject = _everywhere(release(tmp_path), f'{value}"); import os; os.abort() #')
    tree = _code(card(subject))
    assert [type(node) for node in tree.body] == [ast.ImportFrom, ast.Assign, ast.Expr]
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert sorted(literals) == sorted(
        ("text-classification", subject.repo_id, subject.tag, subject.documents.example)
    )


def test_release_without_example_has_no_print(tmp_path: Path) -> None:
    text = card(release(tmp_path, ("  example: The dough needs more butter and flour.\n", "")))
    assert [type(node) for node in _code(text).body] == [ast.ImportFrom, ast.Assign]


def test_card_is_the_same_bytes_twice(tmp_path: Path) -> None:
    assert card(release(tmp_path / "a")) == card(release(tmp_path / "b" / "c"))


def _table(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called `first`."""
    parsed = tokens(_body(text))
    rows: list[list[str]] = []
    for number, token in enumerate(parsed):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"}:
            rows[-1].append(shown(parsed[number + 1]))
        elif token.type == "table_close":
            if rows[0][0] == first:
                return rows
            rows = []
    raise AssertionError(first)


def test_figures_of_the_card_are_those_of_the_evaluation(tmp_path: Path) -> None:
    text = card(release(tmp_path))
    assert _table(text, "Measure") == [
        ["Measure", "This model", "Baseline", "Difference"],
        ["Accuracy", "0.909 (0.810, 0.970)", "0.400", "+0.509 (+0.330, +0.650)"],
        ["Macro precision", "0.900 (0.800, 0.950)", "0.100", "+0.800 (+0.700, +0.800)"],
        ["Macro F1", "0.850 (0.710, 0.930)", "0.200", "+0.650 (-0.012, +0.700)"],
        ["ECE", "0.043", "", ""],
    ]
    (explained,) = (
        shown(token)
        for token in tokens(_body(text))
        if token.type == "inline" and "held-out records" in token.content
    )
    for words in ("95 % interval", "over 2,000 resamples", "seed 3;", "in 15 bins"):
        assert words in explained


def test_parts_of_the_test_split_and_small_changes_stand_in_the_card(tmp_path: Path) -> None:
    subject = release(tmp_path)
    text = card(subject, ("x | `y`", "z"))
    parts = _table(text, "Field")
    assert parts[0] == [
        "Field", "Value", "Records", "Measure", "This model", "Baseline", "Difference",
    ]  # fmt: skip
    assert parts[1][:5] == ["channel", "x | `y`", "22", "Accuracy", "0.909 (0.810, 0.970)"]
    assert [row[1] for row in parts[1:]] == ["x | `y`"] * 4 + ["other values"] * 4
    changes = _table(text, "Change")
    assert changes[1][:3] == ["All in capitals", "33 of 33", "Accuracy"]
    assert changes[-1] == ["Accents left out", "0 of 33", "", "", "", ""]
    without = receipts(subject)
    for name in ("slices", "robustness"):
        without["evaluate"].results[name] = ()  # type: ignore[index]
    plain = model_card(judged(subject), without)
    assert "By part of" not in plain
    assert "small changes" not in plain


_UNDEFINED = r"^templates/model_card\.md\.j2:\d+: .*dict object"


@pytest.mark.parametrize(
    ("stage", "fact", "said"),
    [
        ("train", "parameters", _UNDEFINED),
        ("train", "losses", "does not hold losses that can be drawn"),
        ("evaluate", "sizes", _UNDEFINED),
        ("evaluate", "baseline", _UNDEFINED),
        ("evaluate", "figures", r"receipt of `evaluate` does not hold .*'figures'$"),
    ],
)
def test_fact_that_nobody_has_is_refused(tmp_path: Path, stage: str, fact: str, said: str) -> None:
    subject = release(tmp_path)
    lacking = receipts(subject)
    results = {key: value for key, value in lacking[stage].results.items() if key != fact}
    lacking[stage] = replace(lacking[stage], results=results)
    with pytest.raises(UnusableInput, match=said):
        model_card(judged(subject), lacking)


def test_card_of_a_real_run_has_the_same_structure(tmp_path: Path, audited_project: Path) -> None:
    """The facts of these tests are shaped as the stages' own."""
    real = (audited_project / "out" / "bundle" / "README.md").read_text(encoding="utf-8")
    subject = release(tmp_path)
    lean = receipts(subject, ("license", "recipe", "weather"))
    # The tests' project asks for neither.
    results = {**lean["evaluate"].results, "slices": [], "robustness": []}
    lean["evaluate"] = replace(lean["evaluate"], results=results)
    measured = read_receipt(open_project(audited_project).receipt("leaks"))
    assert measured
    lean["leaks"] = measured
    made = model_card(judged(subject), lean)
    without_rows = [
        [kind for kind in structure(_body(text)) if not kind.startswith(("t", "  "))]
        for text in (real, made)
    ]
    assert without_rows[0] == without_rows[1]
    assert parse_card(real, "c").metadata.data.keys() == parse_card(made, "c").metadata.data.keys()
    assert read_card(real).errors == ()
    _code(real)


def test_the_table_of_epochs_shows_losses_and_what_the_hub_knows() -> None:
    figures = {"accuracy": 0.5, "micro_f1": 0.5, "macro_f1": 0.25}
    losses = [
        {"epoch": 1, "training_loss": 1.0, "validation_loss": 0.5, "figures": figures},
        {"epoch": 2, "training_loss": 0.5, "validation_loss": 0.25, "figures": {"accuracy": 1.0}},
    ]
    assert epochs(losses) == (
        ("epoch", "training loss", "validation loss", "accuracy", "macro F1"),
        ("1", "1.0000", "0.5000", "0.500", "0.250"),
        ("2", "0.5000", "0.2500", "1.000", ""),
    )
    assert epochs(losses, most=1)[0] == ("epoch", "training loss", "validation loss", "accuracy")
    with pytest.raises(UnusableInput, match="does not hold the epochs"):
        epochs([{"epoch": 1, "figures": {}}])
