"""The words in which licenses are explained: every kind has them, in every language alike."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from release_kit.errors import UnusableInput
from release_kit.files import POLICIES, SCHEMAS
from release_kit.strict_yaml import check, parse_yaml, read_yaml

LANGUAGES = sorted(path.stem for path in (POLICIES / "language").glob("*.yaml"))

_CHINESE = re.compile("[\u3400-\u9fff]")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _words(language: str) -> dict[str, Any]:
    path = POLICIES / "language" / f"{language}.yaml"
    data: dict[str, Any] = read_yaml(path, "language").data
    return data


def _values(language: str) -> dict[tuple[str, str], str]:
    return {
        (part, key): value
        for part, entries in _words(language).items()
        if part != "language"
        for key, value in entries.items()
    }


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    return schema


def _kinds() -> dict[str, list[str]]:
    license = _schema("license")
    of, defs = license["properties"], license["$defs"]
    release = _schema("release")["properties"]
    planned = release["release"]["properties"]
    return {
        "purposes": planned["purpose"]["enum"],
        "visibilities": planned["visibility"]["enum"],
        "gatings": planned["gating"]["enum"],
        "modalities": planned["modalities"]["items"]["enum"],
        "organizations": release["organization"]["properties"]["kind"]["enum"],
        "subjects": of["applies_to"]["items"]["enum"],
        "scopes": defs["scope"]["enum"],
        "relations": defs["relations"]["items"]["enum"],
        "permissions": list(of["permissions"]["properties"]),
        "permission_verdicts": defs["permission"]["properties"]["verdict"]["enum"],
        "downstream": of["downstream_license"]["properties"]["value"]["enum"],
        "conditions": defs["condition_kind"]["enum"],
        "limitations": of["limitations"]["items"]["properties"]["kind"]["enum"],
    }


def test_there_are_the_languages_of_the_schema() -> None:
    assert _schema("language")["properties"]["language"]["enum"] == LANGUAGES == ["en", "zh"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_loads_and_is_what_its_file_says(language: str) -> None:
    assert _words(language)["language"] == language


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", sorted(_kinds()))
def test_every_kind_has_words_and_no_word_is_left_over(language: str, part: str) -> None:
    assert sorted(_words(language)[part]) == sorted(_kinds()[part])


@pytest.mark.parametrize("part", sorted(_kinds()))
def test_schema_asks_for_every_kind(part: str) -> None:
    about = _schema("language")["properties"][part]
    assert sorted(about["required"]) == sorted(about["properties"]) == sorted(_kinds()[part])


@pytest.mark.parametrize("part", sorted(set(_words("en")) - {"language"}))
def test_a_missing_and_an_unknown_key_are_refused(part: str) -> None:
    for change in ("missing", "unknown"):
        words = _words("en")
        if change == "missing":
            words[part].pop(next(iter(words[part])))
        else:
            words[part]["made-up"] = "x"
        document = parse_yaml(json.dumps(words), "xx.yaml")
        with pytest.raises(UnusableInput) as caught:
            check(document, "language")
        (problem,) = caught.value.problems
        assert change in problem.message


@pytest.mark.parametrize("value", ["", " ", " x", "x ", "a\nb", "\u200b", 1, None])
def test_words_that_say_nothing_are_refused(value: object) -> None:
    words = _words("en")
    words["verdicts"]["deny"] = value
    document = parse_yaml(json.dumps(words), "xx.yaml")
    with pytest.raises(UnusableInput):
        check(document, "language")


def test_languages_have_the_same_keys_in_the_same_order() -> None:
    assert list(_values("zh")) == list(_values("en"))


def test_languages_have_the_same_placeholders() -> None:
    chinese = _values("zh")
    for place, english in _values("en").items():
        names = _PLACEHOLDER.findall(english)
        assert sorted(names) == sorted(_PLACEHOLDER.findall(chinese[place])), place
        assert all(re.fullmatch("[a-z_]+", name) for name in names), place
        assert not names or place[0] == "phrases", place


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_can_be_filled_and_list_their_placeholders(language: str) -> None:
    lines = (POLICIES / "language" / f"{language}.yaml").read_text("utf-8").splitlines()
    listed = dict(re.findall(r"^  (\w+): .* # ([a-z_, ]+)$", "\n".join(lines), re.MULTILINE))
    for (part, key), value in _values(language).items():
        names = _PLACEHOLDER.findall(value)
        assert "{" not in _PLACEHOLDER.sub("", value)
        assert "}" not in value.format(**dict.fromkeys(names, "x"))
        noted = listed.get(key, "") if part == "phrases" else ""
        assert sorted(names) == sorted(noted.replace(",", "").split()), key


def test_chinese_is_chinese_and_english_is_not() -> None:
    for place, value in _values("zh").items():
        assert _CHINESE.search(value), place
        # Chinese sentences have Chinese signs.
        assert not re.search(r"[\u3400-\u9fff][,;:?!.()]", value), place
    for place, value in _values("en").items():
        assert value.isascii(), place


@pytest.mark.parametrize("part", ["downstream", "conditions", "limitations"])
def test_kinds_are_explained_in_whole_sentences(part: str) -> None:
    for language, end in (("en", "."), ("zh", "。")):
        values = _words(language)[part]
        assert all(value.endswith(end) and value.count(end) == 1 for value in values.values())
        assert len(set(values.values())) == len(values)
