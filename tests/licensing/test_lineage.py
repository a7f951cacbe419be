"""Declared against detected: what the upstream's own files say, and what is doubtful about it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from release_kit.cards import hub_licenses
from release_kit.licensing.detection import detect
from release_kit.licensing.judgement import judge
from release_kit.licensing.licenses import license_text, load_licenses
from release_kit.licensing.lineage import Doubt, Lineage, canonical, conclude, unlisted
from release_kit.licensing.models import load_models
from release_kit.licensing.policy import load_policy
from tests.licensing.lineages import DAY, judged, release, turned, upstream

KNOWN = load_licenses()


@cache
def _text(license: str) -> str:
    text = license_text(KNOWN[license])
    assert text is not None
    return text


def _write(folder: Path, name: str, content: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _license(folder: Path, license: str, name: str = "LICENSE", *, more: str = "") -> None:
    _write(folder, name, _text(license) + more)


def _card(folder: Path, *lines: str) -> None:
    _write(folder, "README.md", "\n".join(["---", *lines, "---", "# A model", ""]))


def _weights(folder: Path, **metadata: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors", metadata)


def _concluded(license: str, folder: Path | None, **said: Any) -> Lineage:
    made = release("apache-2.0", upstream(license, path=folder, line=9, **said))
    return conclude(made, KNOWN)


def _one(lineage: Lineage) -> tuple[str, str]:
    (part,) = lineage.parts
    return part.license, part.basis


def _rules(lineage: Lineage) -> list[str]:
    return sorted(doubt.rule for doubt in lineage.doubts)


def _doubt(lineage: Lineage, rule: str) -> Doubt:
    (doubt,) = [doubt for doubt in lineage.doubts if doubt.rule == rule]
    return doubt


# They agree.


def test_the_text_confirms_what_is_declared(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    _card(tmp_path, "license: mit")
    assert _concluded("mit", tmp_path) == Lineage(_concluded("mit", tmp_path).parts, ())
    assert _one(_concluded("mit", tmp_path)) == ("mit", "text")


def test_a_card_and_weights_confirm_less_than_a_text(tmp_path: Path) -> None:
    _card(tmp_path, "license: mit")
    _weights(tmp_path, license="MIT")
    lineage = _concluded("mit", tmp_path)
    assert (_one(lineage), lineage.doubts) == (("mit", "statement"), ())


@pytest.mark.parametrize("word", ["MIT", "MIT License", "the MIT license", "Mit"])
def test_another_spelling_agrees_and_is_told(tmp_path: Path, word: str) -> None:
    _license(tmp_path, "mit")
    lineage = _concluded(word, tmp_path)
    assert _one(lineage) == ("mit", "text")
    doubt = _doubt(lineage, "license-spelling")
    assert _rules(lineage) == ["license-spelling"]
    assert doubt.message == f"'{word}' was read as mit"
    assert doubt.fix == "Write license: mit."
    assert doubt.upstream is not None


def test_the_license_of_the_release_may_be_spelled_too() -> None:
    made = release("Apache License 2.0")
    (doubt,) = conclude(made, KNOWN).doubts
    assert (doubt.rule, doubt.upstream) == ("license-spelling", None)
    assert canonical(made, KNOWN).license == "apache-2.0"
    assert canonical(release("Acme terms"), KNOWN).license == "Acme terms"


def test_nothing_at_hand_is_a_declaration(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        lineage = _concluded("mit", path)
        assert (_one(lineage), lineage.doubts) == (("mit", "declaration"), ())
    lineage = _concluded("mit", tmp_path / "nowhere")
    assert _one(lineage) == ("mit", "declaration")
    assert _rules(lineage) == ["license-unreadable"]
    assert "nowhere" in lineage.doubts[0].message


def test_an_expression_that_offers_the_license_agrees(tmp_path: Path) -> None:
    _card(tmp_path, "license: MIT OR Apache-2.0")
    assert _rules(_concluded("mit", tmp_path)) == []
    assert _rules(_concluded("apache-2.0", tmp_path)) == []
    assert _rules(_concluded("bsd-3-clause", tmp_path)) == ["license-contradiction"]


def test_an_altered_text_is_one_doubt(tmp_path: Path) -> None:
    _license(tmp_path, "apache-2.0")
    text = (tmp_path / "LICENSE").read_text(encoding="utf-8")
    (tmp_path / "LICENSE").write_text(text.replace("irrevocable", "revocable"), encoding="utf-8")
    assert _rules(_concluded("apache-2.0", tmp_path)) == ["license-text-altered"]
    assert "license-contradiction" in _rules(_concluded("mit", tmp_path))


def test_a_family_agrees_with_its_members(tmp_path: Path) -> None:
    _card(tmp_path, "license: bsd")
    for member in ("bsd-3-clause", "bsd-2-clause"):
        lineage = _concluded(member, tmp_path)
        assert (_one(lineage), lineage.doubts) == ((member, "declaration"), ())
    _license(tmp_path, "bsd-3-clause")
    lineage = _concluded("bsd", tmp_path)
    assert _one(lineage) == ("bsd-3-clause", "text")
    assert _rules(lineage) == ["license-concluded"]


# They contradict each other.


def test_a_text_decides_against_release_yaml_and_both_places_are_named(tmp_path: Path) -> None:
    _license(tmp_path, "cc-by-nc-4.0")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("cc-by-nc-4.0", "text")
    doubt = _doubt(lineage, "license-contradiction")
    assert doubt.message == (
        "release.yaml:9:7 says mit, but acme/part/LICENSE:1 (license-text) says the text of"
        " cc-by-nc-4.0"
    )
    assert doubt.fix
    assert _rules(lineage) == ["license-contradiction"]


def test_a_card_does_not_decide_but_is_told(tmp_path: Path) -> None:
    _card(tmp_path, "tags: [x]", "license: cc-by-nc-4.0")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "declaration")
    assert _doubt(lineage, "license-contradiction").message == (
        "release.yaml:9:7 says mit, but acme/part/README.md:3 (card) says cc-by-nc-4.0"
    )


def test_every_place_that_contradicts_is_told(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    _card(tmp_path, "license: cc-by-nc-4.0")
    _weights(tmp_path, license="gpl-3.0")
    _write(tmp_path, "code/train.py", "# SPDX-License-Identifier: Apache-2.0\n")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "text")
    assert _rules(lineage) == ["license-contradiction"] * 3
    told = " ".join(doubt.message for doubt in lineage.doubts)
    for place, says in (
        ("README.md:2 (card)", "cc-by-nc-4.0"),
        ("model.safetensors (safetensors)", "gpl-3.0"),
        ("code/train.py:1 (spdx-header)", "apache-2.0"),
    ):
        assert f"acme/part/{place} says {says}" in told


def test_a_word_that_no_license_has_is_a_contradiction(tmp_path: Path) -> None:
    _card(tmp_path, "license: acme-terms-of-doom")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "declaration")
    assert "'acme-terms-of-doom', which is no license that is known here" in (
        _doubt(lineage, "license-contradiction").message
    )


def test_a_declared_word_that_nobody_knows_is_no_open_question(tmp_path: Path) -> None:
    """Somebody said something; a text that says another thing contradicts it."""
    _license(tmp_path, "mit")
    lineage = _concluded("Acme Evaluation Terms", tmp_path)
    assert _one(lineage) == ("mit", "text")
    assert _doubt(lineage, "license-contradiction").message.startswith(
        "release.yaml:9:7 says Acme Evaluation Terms, but acme/part/LICENSE:1 "
    )


def test_a_family_contradicts_who_is_no_member(tmp_path: Path) -> None:
    _card(tmp_path, "license: gpl")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "declaration")
    assert _doubt(lineage, "license-contradiction").message.endswith("(card) says gpl")


def test_a_declared_family_is_contradicted_by_another_text(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    lineage = _concluded("gpl", tmp_path)
    assert _one(lineage) == ("mit", "text")
    assert _rules(lineage) == ["license-concluded", "license-contradiction"]


def test_two_texts_of_which_one_is_declared(tmp_path: Path) -> None:
    _license(tmp_path, "apache-2.0", "LICENSE-APACHE")
    _license(tmp_path, "mit", "LICENSE-MIT")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "text")
    assert "LICENSE-APACHE:1" in _doubt(lineage, "license-contradiction").message


def test_two_texts_of_which_none_is_declared_decide_nothing(tmp_path: Path) -> None:
    _license(tmp_path, "apache-2.0", "LICENSE-1")
    _license(tmp_path, "cc-by-nc-4.0", "LICENSE-2")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "declaration")
    assert _rules(lineage) == ["license-contradiction"] * 2


# Nobody declared one.

OPEN = ["unknown", "other"]


@pytest.mark.parametrize("declared", OPEN)
def test_a_text_answers_an_open_question(tmp_path: Path, declared: str) -> None:
    _license(tmp_path, "apache-2.0")
    lineage = _concluded(declared, tmp_path)
    assert _one(lineage) == ("apache-2.0", "text")
    doubt = _doubt(lineage, "license-concluded")
    assert doubt.message == (
        f"release.yaml says '{declared}'; apache-2.0 was concluded from acme/part/LICENSE:1"
        " (license-text)"
    )
    assert doubt.fix == "Check it, and write license: apache-2.0."


@pytest.mark.parametrize("declared", OPEN)
def test_statements_that_agree_answer_it_too(tmp_path: Path, declared: str) -> None:
    _card(tmp_path, "license: mit")
    _weights(tmp_path, license="MIT")
    lineage = _concluded(declared, tmp_path)
    assert _one(lineage) == ("mit", "statement")
    assert "README.md:2 (card)" in _doubt(lineage, "license-concluded").message


@pytest.mark.parametrize("declared", OPEN)
def test_statements_that_disagree_answer_nothing(tmp_path: Path, declared: str) -> None:
    _card(tmp_path, "license: mit")
    _weights(tmp_path, license="gpl-3.0")
    lineage = _concluded(declared, tmp_path)
    assert _one(lineage) == (declared, "declaration")
    assert _doubt(lineage, "license-contradiction").message == (
        "acme/part/README.md:2 (card) says mit, but acme/part/model.safetensors (safetensors)"
        " says gpl-3.0"
    )


@pytest.mark.parametrize("declared", OPEN)
def test_texts_that_disagree_answer_nothing(tmp_path: Path, declared: str) -> None:
    """Not the first of them in the order of their names."""
    _license(tmp_path, "apache-2.0", "LICENSE-1")
    _license(tmp_path, "cc-by-nc-4.0", "LICENSE-2")
    lineage = _concluded(declared, tmp_path)
    assert _one(lineage) == (declared, "declaration")
    message = _doubt(lineage, "license-contradiction").message
    assert "LICENSE-1:1" in message and "LICENSE-2:1" in message


def test_a_text_and_a_card_that_disagree_are_told(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    _card(tmp_path, "license: cc-by-nc-4.0")
    lineage = _concluded("unknown", tmp_path)
    assert _one(lineage) == ("mit", "text")
    assert _rules(lineage) == ["license-concluded", "license-contradiction"]
    assert _doubt(lineage, "license-concluded").message.endswith("LICENSE:1 (license-text)")
    assert _doubt(lineage, "license-contradiction").message == (
        "acme/part/LICENSE:1 (license-text) says the text of mit, but acme/part/README.md:2 (card)"
        " says cc-by-nc-4.0"
    )


def test_the_place_is_that_of_the_text_not_of_the_first_file(tmp_path: Path) -> None:
    _license(tmp_path, "mit", "licenses/model.txt")
    _write(tmp_path, "a.py", "# SPDX-License-Identifier: MIT\n")
    message = _doubt(_concluded("unknown", tmp_path), "license-concluded").message
    assert "acme/part/licenses/model.txt:1 (license-text)" in message


@pytest.mark.parametrize("word", ["other", "unknown", "openrail"])
def test_a_card_that_does_not_say_answers_nothing(tmp_path: Path, word: str) -> None:
    _card(tmp_path, f"license: {word}")
    assert _one(_concluded("unknown", tmp_path)) == ("unknown", "declaration")
    if word == "unknown":
        assert _concluded("mit", tmp_path).doubts == ()


def test_a_card_that_says_other_denies_what_the_hub_lists(tmp_path: Path) -> None:
    _card(tmp_path, "license: other", "license_link: LICENSE")
    message = _doubt(_concluded("mit", tmp_path), "license-contradiction").message
    assert "says mit, but acme/part/README.md:2 (card) says other" in message
    # One that the Hub does not list is just what it means, and a text tells more.
    assert "falcon-2-11b-tii" not in hub_licenses()
    assert _concluded("falcon-2-11b-tii", tmp_path).doubts == ()
    _license(tmp_path, "mit")
    assert _concluded("mit", tmp_path).doubts == ()


def test_a_placeholder_that_nothing_answers_is_denied(tmp_path: Path) -> None:
    judgement = judged("mit", upstream("unknown", path=tmp_path))
    assert judgement.verdict == "deny"
    assert judgement.doubts == ()


def test_what_was_concluded_is_what_is_judged(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    assert judged("mit", upstream("unknown", path=tmp_path)).verdict == "allow"
    _license(tmp_path, "cc-by-nc-4.0")
    judgement = judged("mit", upstream("mit", path=tmp_path))
    assert judgement.verdict == "deny"
    assert [part.license for part in judgement.parts] == ["cc-by-nc-4.0"]


# Texts that are not word for word.

CLAUSE = "\n\nNone of this may be sold without the author's consent.\n"


@pytest.mark.parametrize("declared", ["unknown", "mit"])
def test_an_altered_text_is_no_word_for_the_license(tmp_path: Path, declared: str) -> None:
    _license(tmp_path, "mit", more=CLAUSE)
    lineage = _concluded(declared, tmp_path)
    assert _one(lineage) == (declared, "declaration")
    doubt = _doubt(lineage, "license-text-altered")
    assert doubt.message.startswith("acme/part/LICENSE:1 holds the text of mit, but it ")
    assert "11 more words from line" in doubt.message
    assert _rules(lineage) == ["license-text-altered"]


def test_an_altered_text_beside_a_card_that_agrees(tmp_path: Path) -> None:
    _license(tmp_path, "mit", more=CLAUSE)
    _card(tmp_path, "license: mit")
    assert _one(_concluded("mit", tmp_path)) == ("mit", "statement")
    assert _one(_concluded("unknown", tmp_path)) == ("unknown", "declaration")
    for declared in ("mit", "unknown"):
        assert _rules(_concluded(declared, tmp_path)) == ["license-text-altered"]


def test_a_text_that_nobody_knows_is_told_and_contradicts(tmp_path: Path) -> None:
    _write(tmp_path, "LICENSE", "You may look at this, and that is all that you may do.\n")
    lineage = _concluded("mit", tmp_path)
    assert _one(lineage) == ("mit", "declaration")
    assert _rules(lineage) == ["license-contradiction", "license-text-altered"]
    assert "says a text not known here" in _doubt(lineage, "license-contradiction").message
    assert _one(_concluded("unknown", tmp_path)) == ("unknown", "declaration")


# What cannot be read.


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(b"\xff\xfe\x00 not UTF-8")
    (tmp_path / "adapter_config.json").write_text("{", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"\x00")
    lineage = _concluded("mit", tmp_path)
    assert _rules(lineage) == ["license-unreadable"] * 3
    told = " ".join(doubt.message for doubt in lineage.doubts)
    for name in ("LICENSE", "adapter_config.json", "model.safetensors"):
        assert f"acme/part/{name} " in told


def test_a_link_that_leads_out_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    _license(tmp_path, "mit", "elsewhere")
    (folder / "LICENSE").symlink_to(tmp_path / "elsewhere")
    lineage = _concluded("unknown", folder)
    assert _one(lineage) == ("unknown", "declaration")
    assert "LICENSE is a link" in _doubt(lineage, "license-unreadable").message


# A data set is one file.


def test_records_are_no_license_text(tmp_path: Path) -> None:
    for name in ("notes.jsonl", "notes.csv"):
        _write(tmp_path, name, '{"text": "this license is mine", "label": "x"}\n')
        made = release("mit", upstream("mit", "dataset", path=tmp_path / name))
        lineage = conclude(made, KNOWN)
        assert (_one(lineage), lineage.doubts) == (("mit", "declaration"), ())


# What it was made from.


def test_an_upstream_that_a_file_names_must_be_listed(tmp_path: Path) -> None:
    _card(tmp_path, "license: mit", "base_model: acme/grandmother", "datasets: [acme/texts]")
    config = {"base_model_name_or_path": "acme/grandmother", "peft_type": "LORA"}
    _write(tmp_path, "adapter_config.json", json.dumps(config))
    lineage = _concluded("mit", tmp_path)
    told = [doubt.message for doubt in lineage.doubts if doubt.rule == "lineage-incomplete"]
    assert len(told) == len(lineage.doubts) == 3
    assert any("acme/part/README.md (card)" in t and "acme/grandmother" in t for t in told)
    assert any("acme/part/adapter_config.json (adapter-config)" in t for t in told)
    fixes = {doubt.fix.split(" with its")[0] for doubt in lineage.doubts}
    assert fixes == {
        "Add acme/grandmother under lineage.base_models",
        "Add acme/texts under lineage.datasets",
    }


def test_an_upstream_that_is_listed_is_not_told(tmp_path: Path) -> None:
    _card(tmp_path, "license: mit", "base_model: ACME/Grandmother")
    _write(tmp_path, "config.json", json.dumps({"_name_or_path": "acme/grandmother"}))
    _weights(tmp_path, base_model="acme/grandmother")
    made = release(
        "mit", upstream("mit", path=tmp_path), upstream("mit", id="acme/grandmother", line=12)
    )
    assert conclude(made, KNOWN).doubts == ()
    (tmp_path / "config.json").write_text('{"_name_or_path": "acme/other"}', encoding="utf-8")
    (doubt,) = conclude(made, KNOWN).doubts
    assert (doubt.rule, "acme/other" in doubt.message) == ("lineage-incomplete", True)


def test_a_model_that_something_was_made_from_is_more_than_a_tool(tmp_path: Path) -> None:
    _card(tmp_path, "license: mit", "base_model: acme/grandmother")
    tool = upstream("mit", "code", id="acme/grandmother")
    made = release("mit", upstream("mit", path=tmp_path), tool)
    doubt = _doubt(conclude(made, KNOWN), "lineage-incomplete")
    assert "does not list as more than tool-only" in doubt.message
    assert list(unlisted(detect(tmp_path, KNOWN), made))
    # What a tool was made from is a tool as well.
    made = release("mit", upstream("mit", "code", path=tmp_path), tool)
    assert conclude(made, KNOWN).doubts == ()


def test_a_bundle_may_name_itself(tmp_path: Path) -> None:
    _card(tmp_path, "base_model: [acme/topics, acme/part, acme/stranger]")
    made = release("mit", upstream("mit"))
    found = [evidence.id for evidence, _ in unlisted(detect(tmp_path, KNOWN), made)]
    assert found == ["acme/stranger"]
    assert not list(unlisted(detect(tmp_path, KNOWN), made, "ACME/stranger"))


# The table of models.

LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("role", ["base_model", "adapter", "generator"])
def test_the_table_answers_where_no_file_is_at_hand(role: str) -> None:
    lineage = _concluded("unknown", None, id=LLAMA, role=role)
    assert _one(lineage) == ("llama3.1", "table")
    doubt = _doubt(lineage, "license-from-table")
    assert "llama3.1 was taken from policies/models.yaml:" in doubt.message
    assert "write license: llama3.1" in doubt.fix
    lineage = _concluded("llama3.1", None, id=LLAMA, role=role)
    assert (_one(lineage), lineage.doubts) == (("llama3.1", "table"), ())


def test_the_table_of_models_says_nothing_of_data_and_code() -> None:
    for role in ("dataset", "code"):
        assert _one(_concluded("unknown", None, id=LLAMA, role=role)) == ("unknown", "declaration")


def test_the_table_contradicts_what_is_declared() -> None:
    lineage = _concluded("mit", None, id=LLAMA)
    assert _one(lineage) == ("mit", "declaration")
    message = _doubt(lineage, "license-contradiction").message
    assert message.startswith("release.yaml:9:7 says mit, but policies/models.yaml:")
    assert f"says llama3.1 for {LLAMA}" in message


def test_the_table_is_silent_where_a_file_speaks(tmp_path: Path) -> None:
    _license(tmp_path, "mit")
    lineage = _concluded("mit", tmp_path, id=LLAMA)
    assert (_one(lineage), lineage.doubts) == (("mit", "text"), ())
    lineage = _concluded("unknown", tmp_path, id=LLAMA)
    assert _one(lineage) == ("mit", "text")


def test_the_table_contradicts_what_is_no_text(tmp_path: Path) -> None:
    _write(tmp_path, "modeling.py", "# SPDX-License-Identifier: MIT\n")
    message = _doubt(_concluded("mit", tmp_path, id=LLAMA), "license-contradiction").message
    assert f"says llama3.1 for {LLAMA}" in message
    _card(tmp_path, "license: llama3.1")
    (tmp_path / "modeling.py").unlink()
    assert _concluded("llama3.1", tmp_path, id=LLAMA).doubts == ()


@pytest.mark.parametrize("name", ["source", "id"])
def test_the_table_knows_a_model_by_its_page(name: str) -> None:
    page = f"huggingface.co/{LLAMA}"
    part = replace(upstream("mit"), **{name: page if name == "id" else f"https://{page}/tree/main"})
    message = _doubt(conclude(release("mit", part), KNOWN), "license-contradiction").message
    assert f"says llama3.1 for {LLAMA}" in message


def test_the_table_speaks_where_the_files_do_not_tell(tmp_path: Path) -> None:
    _card(tmp_path, "license: other")
    assert _one(_concluded("unknown", tmp_path, id=LLAMA)) == ("llama3.1", "table")
    # A text that cannot be told is still a text: a table does not decide against it.
    _write(tmp_path, "LICENSE", "You may look at this, and that is all that you may do.\n")
    assert _one(_concluded("unknown", tmp_path, id=LLAMA)) == ("unknown", "declaration")


def _of_table(wanted: str) -> str:
    """Return an id that the table answers with `wanted`."""
    for pattern, entry in load_models().entries:
        word = pattern.pattern.replace("[^/]*", "x").replace("\\", "")
        said = load_models().license_of(word)
        if entry.license == wanted and said and said.license == wanted:
            return word
    raise AssertionError(f"the table has nothing under {wanted}")


def test_where_the_table_knows_a_text_that_is_not_here_a_declaration_is_doubted() -> None:
    model = _of_table("unknown")
    lineage = _concluded("unknown", None, id=model)
    assert (_one(lineage), lineage.doubts) == (("unknown", "declaration"), ())
    lineage = _concluded("mit", None, id=model)
    assert _one(lineage) == ("mit", "declaration")
    entry = load_models().license_of(model)
    assert entry is not None and entry.because
    assert entry.because.rstrip(".") in _doubt(lineage, "license-contradiction").message


def test_a_license_that_holds_beside_must_be_listed() -> None:
    model = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    entry = load_models().license_of(model)
    assert entry is not None and entry.also
    own = upstream(entry.license, id=model)
    doubt = _doubt(conclude(release("mit", own), KNOWN), "lineage-incomplete")
    assert entry.also[0] in doubt.message and "policies/models.yaml:" in doubt.message
    beside = upstream(entry.also[0], id="acme/beside")
    assert conclude(release("mit", own, beside), KNOWN).doubts == ()


# All of it.


def test_each_upstream_has_its_part_in_the_order_of_the_file(tmp_path: Path) -> None:
    words = [*KNOWN, *hub_licenses(), "Acme Terms"]
    made = release("mit", *(upstream(w, "dataset", id=f"acme/{n}") for n, w in enumerate(words)))
    lineage = conclude(made, KNOWN)
    assert [part.upstream for part in lineage.parts] == list(made.lineage)
    assert [part.license for part in lineage.parts] == words
    assert {part.basis for part in lineage.parts} == {"declaration"}
    assert lineage.doubts == ()
    assert conclude(made, KNOWN) == lineage


def test_a_text_of_every_license_that_can_be_had_is_known_again(tmp_path: Path) -> None:
    for license in ("mit", "apache-2.0", "cc-by-4.0", "gpl-3.0", "bsd-3-clause", "cc0-1.0"):
        folder = tmp_path / license
        _license(folder, license)
        assert _one(_concluded("unknown", folder)) == (license, "text")


def test_whether_the_data_behind_a_model_is_listed_is_a_knob(tmp_path: Path) -> None:
    _card(tmp_path, "base_model: acme/older", "datasets: [acme/crawl, acme/books]")
    made = release("apache-2.0", upstream("apache-2.0", path=tmp_path))
    strict = judge(made, load_policy(), day=DAY)
    assert [doubt.rule for doubt in strict.doubts] == ["lineage-incomplete"] * 3
    told = [doubt.fix for doubt in strict.doubts if "acme/crawl" in doubt.message]
    assert "knob data-behind-a-model" in told[0]
    free = judge(made, turned(load_policy(), {"data-behind-a-model": "licensor-answers"}), day=DAY)
    (left,) = free.doubts
    # Whose weights went in is no question of data.
    assert "acme/older" in left.message
    assert free.knobs["data-behind-a-model"] == 2
    # Our own data comes from where it says, whatever that knob says.
    ours = release("apache-2.0", upstream("apache-2.0", role="dataset", path=tmp_path))
    assert len(judge(ours, free.policy, day=DAY).doubts) == 3


def test_what_lies_beside_a_file_of_data_speaks_for_it(tmp_path: Path) -> None:
    _write(tmp_path / "raw", "notes.jsonl", "{}")
    data = tmp_path / "raw" / "notes.jsonl"
    _card(tmp_path / "raw", "license: cc-by-nc-4.0")
    alone = upstream("cc-by-4.0", role="dataset", path=data, id="acme/notes")
    made = replace(release("apache-2.0", alone), file=tmp_path / "release.yaml")
    assert _rules(conclude(made, KNOWN)) == ["license-contradiction"]
    # In a folder of several, or of the project, nobody knows for which one it speaks.
    other = upstream("mit", role="code", path=tmp_path / "raw" / "tool", id="acme/tool")
    (tmp_path / "raw" / "tool").mkdir()
    assert _rules(conclude(replace(made, lineage=(alone, other)), KNOWN)) == []
    assert _rules(conclude(replace(made, file=tmp_path / "raw" / "release.yaml"), KNOWN)) == []
