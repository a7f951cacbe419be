"""Model cards taken apart, with the card's own line numbers."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from release_kit.cards import hub_licenses, license_metadata, parse_card
from release_kit.errors import Problem, UnusableInput
from release_kit.licensing.licenses import load_licenses


def _mistakes(text: str) -> tuple[Problem, ...]:
    with pytest.raises(UnusableInput) as caught:
        parse_card(text, "README.md")
    assert caught.value.problems
    return caught.value.problems


def test_card_is_taken_apart() -> None:
    card = parse_card("---\nlicense: mit\ntags: [a, b]\n---\n\n# Title\n", "README.md")
    assert card.metadata.data == {"license": "mit", "tags": ["a", "b"]}
    assert card.metadata.locate(("tags", 1)) == (3, 11)
    assert (card.body, card.body_line) == ("\n# Title\n", 5)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bom_and_line_ends_change_nothing(bom: str, end: str) -> None:
    lines = ["---", "a: 1", "b:", "  c: 2", "---", "", "# T", "x"]
    card = parse_card(bom + end.join(lines), "README.md")
    assert card.metadata.data == {"a": 1, "b": {"c": 2}}
    assert card.metadata.locate(("b", "c")) == (4, 3)
    assert (card.body, card.body_line) == ("\n# T\nx", 6)


@pytest.mark.parametrize(
    "body", ["", "text\n---\nmore\n", "---\na: 2\n---\n", "Setext\n---\n", "| a |\n|---|\n"]
)
def test_front_matter_ends_at_its_first_fence(body: str) -> None:
    card = parse_card(f"---\na: 1\n---\n{body}", "README.md")
    assert card.metadata.data == {"a": 1}
    assert card.body == body


def test_body_may_be_absent_altogether() -> None:
    card = parse_card("---\na: 1\n---", "README.md")
    assert (card.body, card.body_line) == ("", 4)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("", 1, 1, "does not start with a line '---'"),
        ("# Title\n", 1, 1, "does not start with a line '---'"),
        ("\n---\na: 1\n---\n", 1, 1, "does not start with a line '---'"),
        (" ---\na: 1\n---\n", 1, 1, "does not start with a line '---'"),
        ("--- \na: 1\n---\n", 1, 1, "does not start with a line '---'"),
        ("----\na: 1\n---\n", 1, 1, "does not start with a line '---'"),
        ("---\na: 1\n", 1, 1, "is not closed"),
        ("---", 1, 1, "is not closed"),
        ("---\na: 1\n ---\n", 1, 1, "is not closed"),
        ("---\na: 1\n--- \n# T\n", 1, 1, "is not closed"),
        ("---\na: 1\n...\n", 1, 1, "is not closed"),
        ("---\n---\n", 2, 1, "not a mapping"),
        ("---\n# only a comment\n---\n", 2, 1, "not a mapping"),
        ("---\n- a\n- b\n---\n", 2, 1, "not a mapping"),
        ("---\nword\n---\n", 2, 1, "not a mapping"),
        ("---\na: 1\nb: 2\na: 3\n---\n", 4, 1, "the key 'a' stands here twice"),
        ("---\r\na: 1\r\nb:\r\n  - c: 1\r\n    c: 2\r\n---\r\n", 5, 5, "'c' stands here twice"),
        ("---\na: 1\nb: *x\n---\n", 3, 4, "aliases are not used"),
        ("---\na: 1\nb: [\n---\n", 3, 5, "is not valid YAML"),
        ("---\na: 1\nb: \x1b\n---\n", 3, 4, "U+001B"),
        ("---\na: 1\n...\nb: 2\n---\n", 4, 1, "found another document"),
        ("---\n%YAML 1.1\na: no\n---\n", 2, 1, "directives"),
    ],
)
def test_bad_front_matter_is_refused_where_it_stands(
    text: str, line: int, column: int, said: str
) -> None:
    (problem,) = _mistakes(text)
    assert (problem.path, problem.line, problem.column) == ("README.md", line, column)
    assert said in problem.message


@pytest.mark.parametrize("first", ["---", "--- ", "---\t", "----", "--", ""])
@pytest.mark.parametrize("last", ["---", " ---", "----", "--", "..."])
def test_front_matter_that_the_hub_drops_is_refused(first: str, last: str) -> None:
    text = f"{first}\nlicense: mit\n{last}\n# T\n"
    if first == last == "---":
        assert ModelCard(text).data.license == "mit"
        assert parse_card(text, "README.md").metadata.data == {"license": "mit"}
    else:
        assert ModelCard(text).data.license is None
        _mistakes(text)


def test_license_that_the_hub_knows_stands_for_itself() -> None:
    for known in ("apache-2.0", "mit", "cc-by-nc-4.0", "llama3.1"):
        assert license_metadata(known) == {"license": known}


@pytest.mark.parametrize("unknown", ["acme-eula", "MIT", "apache 2.0", "no", ""])
def test_license_that_the_hub_does_not_know_is_other_with_a_link(unknown: str) -> None:
    assert license_metadata(unknown) == {
        "license": "other",
        "license_name": unknown,
        "license_link": "LICENSE",
    }


def test_hub_licenses_load() -> None:
    licenses = hub_licenses()
    assert len(licenses) == 83
    assert licenses["apache-2.0"] == "Apache license 2.0"
    assert {"other", "unknown"} <= set(licenses)
    assert set(load_licenses()) <= set(licenses)
    with pytest.raises(TypeError):
        licenses["mine"] = "x"  # type: ignore[index]
