"""The model card keeps its structure and its metadata, whatever people write in release.yaml."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from release_kit.cards import parse_card
from release_kit.documents.card import model_card
from release_kit.documents.rendering import one_line
from release_kit.errors import UnusableInput
from release_kit.publishing.rehearsal.rules import read_card
from release_kit.release import Release
from release_kit.strict_yaml import parse_yaml
from tests.documents.facts import card, owed, receipts, release
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
    assert front == {
        "license": "other",
        "license_name": value,
        "license_link": "LICENSE",
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
        ("recall", "macro recall", 0.8),
        ("f1", "macro f1", 0.85),
    ]
    assert {(r.task_type, r.dataset_type) for r in results} == {
        ("text-classification", "acme/topic-notes")
    }


def test_two_base_models_are_both_named_and_their_relation_is_left_to_the_hub(
    tmp_path: Path,
) -> None:
    second = "    - {id: acme/two, license: mit, source: https://example.org/two}\n  datasets:\n"
    merged = parse_card(card(release(tmp_path, ("  datasets:\n", second))), "c").metadata.data
    assert merged["base_model"] == ["acme/tiny-bert", "acme/two"]
    assert "base_model_relation" not in merged
    single = parse_card(card(release(tmp_path)), "c").metadata.data
    assert single["base_model_relation"] == "finetune"
    subject = replace(release(tmp_path), lineage=())
    bare = parse_card(card(subject), "c").metadata.data
    assert not {"base_model", "base_model_relation", "datasets"} & set(bare)


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


@pytest.mark.parametrize(
    ("stage", "fact"),
    [("train", "parameters"), ("train", "losses"), ("evaluate", "macro_f1"), ("evaluate", "sizes")],
)
def test_fact_that_nobody_has_is_refused(tmp_path: Path, stage: str, fact: str) -> None:
    subject = release(tmp_path)
    lacking = receipts(subject)
    results = {key: value for key, value in lacking[stage].results.items() if key != fact}
    lacking[stage] = replace(lacking[stage], results=results)
    with pytest.raises(UnusableInput, match=r"^templates/model_card\.md\.j2:\d+: .*dict object"):
        model_card(subject, owed(subject), lacking)


def test_card_of_a_real_run_has_the_same_structure(tmp_path: Path, audited_project: Path) -> None:
    """The facts of these tests are shaped as the stages' own."""
    real = (audited_project / "out" / "bundle" / "README.md").read_text(encoding="utf-8")
    made = card(release(tmp_path), ("license", "recipe", "weather"))
    without_rows = [
        [kind for kind in structure(_body(text)) if not kind.startswith(("t", "  "))]
        for text in (real, made)
    ]
    assert without_rows[0] == without_rows[1]
    assert parse_card(real, "c").metadata.data.keys() == parse_card(made, "c").metadata.data.keys()
    assert read_card(real).errors == ()
    _code(real)
