"""Strict YAML: what is refused, where, and how schema mistakes are told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from release_kit.errors import Problem, UnusableInput
from release_kit.strict_yaml import Document, check, parse_yaml, read_yaml
from tests.projects import RELEASE_YAML

_DEEP = 65


def _mistakes(text: str) -> list[Problem]:
    with pytest.raises(UnusableInput) as caught:
        parse_yaml(text, "f")
    return list(caught.value.problems)


def _schema_mistakes(text: str) -> list[Problem]:
    with pytest.raises(UnusableInput) as caught:
        check(parse_yaml(text, "f"), "release")
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a: 1\nb: *x\n", 2, 4, "aliases are not used"),
        ("a: &x 1\n", 1, 4, "anchors are not used"),
        ("a:\n  - &x [1]\n", 2, 5, "anchors are not used"),
        ("a: &a [*a]\n", 1, 4, "anchors are not used"),
        ("a: !!str 1\n", 1, 4, "tags are not used"),
        ("a: ! 1\n", 1, 4, "tags are not used"),
        ("!!map\na: 1\n", 1, 1, "tags are not used"),
        ("a: !!python/object/apply:os.system [id]\n", 1, 4, "tags are not used"),
        ("a: !<tag:yaml.org,2002:binary> aGk=\n", 1, 4, "tags are not used"),
        ("%YAML 1.1\n---\na: no\n", 1, 1, "directives (%) are not used"),
        ("# c\r%YAML 1.1\r---\ra: no\r", 2, 1, "directives (%) are not used"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", 1, 1, "directives (%) are not used"),
        ("b: 1\nx:\n  a: 1\n  a: 2\n", 4, 3, "the key 'a' stands here twice"),
        ("1: a\n'1': b\n", 2, 1, "the key '1' stands here twice"),
        ("base: 1\n<<: {a: 1}\n", 2, 1, "merge keys are not used"),
        ("a: 1\n? [1]\n: 2\n", 2, 3, "a key must be a plain word"),
        ("{a: 1}: 2\n", 1, 1, "a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", 2, 1, "found another document"),
        ("a: 1\n...\nb: 2\n", 3, 1, "expected '<document start>'"),
        ("[" * _DEEP + "]" * _DEEP, 1, _DEEP, "nested deeper than 64"),
        ("- " * 100_000, 1, 2 * _DEEP - 1, "nested deeper than 64"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, 2, "while parsing a flow sequence, expected ',' or ']'"),
        ("a: 'x\n", 2, 1, "while scanning a quoted scalar, found unexpected end of stream"),
        ('a: {b: "c}\n', 2, 1, "found unexpected end of stream"),
        ("a:\n\t- 1\n", 2, 1, r"found character '\t'"),
        ("a:\n  b: 1\n\tc: 2\n", 3, 1, r"found character '\t'"),
        ("a: b: c\n", 1, 5, "mapping values are not allowed here"),
        ("- a\nb: 1\n", 2, 1, "expected <block end>"),
        ("ok: 1\r\na: x\x07y\r\n", 2, 5, "the character U+0007"),
        ("a: \x00", 1, 4, "the character U+0000"),
        ("a: 1\n# \x7f", 2, 3, "the character U+007F"),
        ("a: x\x85b: no\n", 1, 5, "the character U+0085"),
        ("a: x\u2028b: no\n", 1, 5, "the character U+2028"),
        ("a: \ud83c", 1, 4, "the character U+D83C"),
        ('a: 1\nb: "\\0"\n', 2, 4, "an escape makes U+0000"),
        ('a: ["\\ud83c"]\n', 1, 8, "found invalid Unicode character escape code"),
        ('"\\e[2J": 1\n', 1, 1, "an escape makes U+001B"),
        ('a: "\\UFFFFFFFF"\n', 1, 1, "is not valid YAML"),
    ],
)
def test_refusal_names_line_and_column(text: str, line: int, column: int, said: str) -> None:
    (problem,) = _mistakes(text)
    assert (problem.line, problem.column) == (line, column)
    assert said in problem.message


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a:\n  b: 1\n\tc: 2\n", 3, "indent with blanks, not with a tab (line 3)"),
        ("a:\n  b: 1\n\u3000\u3000c: 2\n  d: 3\n", 4, "not with full-width ones (line 3)"),
        ("a:\n  b：1\n  c: 2\n", 3, "the full-width '：' is text; write ':' and a blank (line 2)"),
        ("a: “b: c”\n", 1, "the quotes “ and ” are text"),
        ('a: ["b"， "c"]\n', 1, "a full-width comma is text"),
        ("a:\n  - b: 1\n  -c: 2\n", 3, "a blank goes behind '-' (line 3)"),
        ("a:\n  b:1\n  c: 2\n", 3, "a blank goes behind ':' (line 2)"),
        ("a: {b.c} is d\n", 1, "a text that begins with { or [ goes in quotes"),
        ('a: "b\nc: 1\nd: "e"\n', 3, "is the quote closed that opens in line 1?"),
        ("a:\n  b: 1\n c: 2\n", 3, "indent this line like its neighbors"),
        ("a: 不可：b: c\n", 1, "a text with ': ' in it goes in quotes"),
    ],
)
def test_a_slip_of_the_pen_is_told_in_plain_words(text: str, line: int, hint: str) -> None:
    (problem,) = _mistakes(text)
    assert problem.line == line
    assert hint in problem.hint


def test_every_repeated_key_is_reported_in_the_file_s_order() -> None:
    found = _mistakes("a: 1\nx: {b: 1, b: 2}\na: 2\na: 3\n")
    assert [(p.line, p.column) for p in found] == [(2, 11), (3, 1), (4, 1)]


@pytest.mark.parametrize(
    "word",
    [
        *("no", "NO", "yes", "on", "off", "y", "2024-01-01", "2024-01-01T10:00:00Z", "12:30"),
        *("010", "089", "0o8", ".nan", ".inf", "-.inf", "1e999", "1.2.3", "=", "tRue"),
        *("9223372036854775808", "-9223372036854775808", "9" * 5000, "0x" + "f" * 5000),
    ],
)
def test_word_stays_the_text_that_was_written(word: str) -> None:
    assert parse_yaml(f"a: {word}", "f").data == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("7", 7)),
        *(("-7", -7), ("1_000", 1000), ("0x10", 16), ("9223372036854775807", 2**63 - 1)),
        *(("5.0e-3", 0.005), ("'7'", "7"), ('"no"', "no"), ("|\n  x\n  y\n", "x\ny\n")),
        (">-\n  x\n  y\n", "x y"),
    ],
)
def test_value_has_its_yaml_1_2_type(word: str, value: object) -> None:
    data = parse_yaml(f"a: {word}", "f").data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


@pytest.mark.parametrize("key", ["null", "true", "1", "1.0", "no", "~", "2024-01-01"])
def test_key_is_always_text(key: str) -> None:
    assert parse_yaml(f"{key}: 1", "f").data == {key: 1}


def test_bom_and_crlf_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n")
    document = read_yaml(file)
    assert document.data == {"a": 1, "b": ["x"]}
    assert document.locate(("a",)) == (1, 1)
    assert document.locate(("b", 0)) == (3, 5)


def test_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(UnusableInput) as caught:
        read_yaml(file, shown_as="shown.yaml")
    assert caught.value.problems == (
        Problem("shown.yaml", 2, 1, "is not UTF-8 text", "save it as UTF-8"),
    )


@pytest.mark.parametrize(("name", "said"), [("none.yaml", "no such file"), ("", "cannot be read")])
def test_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UnusableInput, match=said):
        read_yaml(tmp_path / name)


def test_empty_text_holds_nothing() -> None:
    assert parse_yaml("# only a comment\n", "f").data is None


def test_positions_of_nested_lists_and_keys_with_dots() -> None:
    document = parse_yaml("a.b:\n  - x\n  - - y\n    - {c: z}\n", "f", first_line=11)
    assert document.data == {"a.b": ["x", ["y", {"c": "z"}]]}
    assert document.locate(("a.b",)) == (11, 1)
    assert document.locate(("a.b", 0)) == (12, 5)
    assert document.locate(("a.b", 1)) == (13, 5)
    assert document.locate(("a.b", 1, 0)) == (13, 7)
    assert document.locate(("a.b", 1, 1, "c")) == (14, 8)
    assert document.locate(("a.b", 1, 1, "c", "deeper")) == (14, 8)
    assert document.locate(("a", "b")) == (11, 1)


def test_first_line_moves_mistakes_too() -> None:
    with pytest.raises(UnusableInput) as caught:
        parse_yaml("a: 1\nb: [", "f", first_line=2)
    assert caught.value.problems[0].line == 3
    with pytest.raises(UnusableInput) as caught:
        parse_yaml("a: 1\nb: \x01", "f", first_line=2)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (3, 4)


def test_alias_bomb_ends_at_its_first_anchor() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 99)]
    (problem,) = _mistakes("\n".join(lines))
    assert (problem.line, problem.column) == (1, 5)


def test_schema_mistakes_of_all_kinds_come_at_once_and_sorted() -> None:
    text = """\
release:
  repo_id: acme
  version: 1.0
  license: ""
  visibility: publik
  gatting: open
organization: Acme
lineage:
  base_models:
    - {id: acme/x, license: mit, source: "ftp://x", relation: weights_derived}
  datasets: {}
privacy:
  spacy_pipeline: "\\u200b"
  entities: [PERSON, PERSON, person]
  min_score: 1.5
training: {task: text-classification, fields: {text: t, label: lll}, epochs: 0, learning_rate: 0}
documents:
  title: T
  summary: [S]
  languages: []
  intended_use: ["x", 3]
  out_of_scope_use: null
typo.key: 1
"""
    expected = [
        (1, 1, "'purpose' is missing in release"),
        (2, 3, "release.repo_id: 'acme' is not written as it must be"),
        (3, 3, "release.version: must be text, not '1.0'"),
        (4, 3, "release.license: must be visible text, not ''"),
        (5, 3, "release.visibility: 'publik' is not one of the words known here"),
        (6, 3, "unknown key 'gatting'"),
        (7, 1, "organization: must be a mapping of keys to values, not 'Acme'"),
        (10, 34, "lineage.base_models.0.source: 'ftp://x' is not written as it must be"),
        (10, 53, "lineage.base_models.0.relation: 'weights_derived' is not one of the words"),
        (11, 3, "lineage.datasets: must be a list, not a mapping"),
        (13, 3, "privacy.spacy_pipeline: must be visible text"),
        (14, 3, "privacy.entities: ['PERSON', 'PERSON', 'person'] has non-unique elements"),
        (14, 30, "privacy.entities.2: 'person' is not written as it must be"),
        (15, 3, "privacy.min_score: 1.5 is greater than the maximum of 1"),
        (16, 70, "training.epochs: 0 is less than the minimum of 1"),
        (16, 81, "training.learning_rate: 0 is less than or equal to the minimum of 0"),
        (17, 1, "'limitations' is missing in documents"),
        (19, 3, "documents.summary: must be text, not a list"),
        (20, 3, "documents.languages: the list is too short"),
        (21, 23, "documents.intended_use.1: must be text, not '3'"),
        (22, 3, "documents.out_of_scope_use: must be a list, not nothing"),
        (23, 1, "unknown key 'typo.key'"),
    ]
    found = _schema_mistakes(text)
    assert found == sorted(found)
    for problem, (line, column, start) in zip(found, expected, strict=True):
        assert (problem.line, problem.column) == (line, column), problem
        assert problem.message.startswith(start)


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("visibility: public", "visibility: publc", "did you mean 'public'?"),
        ("visibility: public", "visibility: xyz", "known here: public, private"),
        ("  kind: company", "  kindd: company", "did you mean 'kind'?"),
        ("  kind: company", "  kind: [company]", "did you mean 'company'?"),
        ('version: "1.0.0"', "version: 1.0", 'major.minor.patch in quotes, for example "1.0.0"'),
        ("languages: [en]", "languages: [English]", "the form is ^[a-z]{2,3}$"),
        ("epochs: 3", "epochs: 1e999", "how often the training data is seen"),
        ("seed: 3", f"seed: {'9' * 400}", "a whole number that fixes the split"),
    ],
)
def test_schema_mistake_carries_a_hint(old: str, new: str, hint: str) -> None:
    assert old in RELEASE_YAML
    assert any(hint in p.hint for p in _schema_mistakes(RELEASE_YAML.replace(old, new)))


def test_a_line_end_after_a_pattern_is_no_match() -> None:
    (problem,) = _schema_mistakes(RELEASE_YAML.replace("acme/topics", '"acme/topics\\n"'))
    assert (problem.line, problem.column) == (2, 3)


@pytest.mark.parametrize("text", ["", "- a\n", "word", "7"])
def test_root_of_another_type_is_one_mistake(text: str) -> None:
    (problem,) = _schema_mistakes(text)
    assert problem.message.startswith("the file: must be a mapping")


_PIECES = (
    *("#", "# c\n", "\n", "\r\n", "  ", "- ", "? ", ": ", "[", "]", "{", "}", ",", "'", '"'),
    *("|\n", ">-\n", "|+ #c\n", "|2", "&a ", "*a", "!x ", "%", "---", "...", "\t", "\r", "\\"),
    *("~", "<<: ", "\ufeff", "\u2028", "\0", "é", "🎉", "0x", "1e9", "\\ud800", "\\UFFFFFFFF"),
)


def _mutated(draw: random.Random) -> bytes:
    if draw.random() < 0.4:
        text = "".join(draw.choice((*_PIECES, *"abc \n")) for _ in range(draw.randint(1, 40)))
    else:
        text = RELEASE_YAML[: draw.choice((150, 500, len(RELEASE_YAML)))]
    for _ in range(draw.randint(0, 3)):
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice(_PIECES) + text[at + draw.choice((0, 0, 1, 4)) :]
    raw = bytearray(text.encode())
    for _ in range(draw.choice((0, 0, 0, 1, 5))):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    return bytes(raw)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_give_a_document_or_unusable_input(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    file = tmp_path / "f.yaml"
    read = refused = 0
    for _ in range(200):
        file.write_bytes(_mutated(draw))
        try:
            assert isinstance(read_yaml(file), Document)
            read += 1
        except UnusableInput as error:
            refused += 1
            assert all(p.line >= 1 and p.column >= 1 for p in error.problems)
    assert read > 10
    assert refused > 10
