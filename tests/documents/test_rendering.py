"""Templates: values are data, whatever they hold, and a mistake has its file and line."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import pytest

from release_kit.documents.rendering import escape_markdown, one_line, render
from release_kit.errors import UnusableInput
from tests.documents.markdown import HOSTILE, shown, structure, tokens

_ALPHABET = "\\`*_[]()<>|#~$&!-+=.:;'\"/ \t\n\r\x00\u202e\u200d{}%0159aé🎉"


def _render(folder: Path, template: str, name: str = "t.md.j2", **facts: Any) -> str:
    path = folder / name
    if not path.exists() or path.read_text(encoding="utf-8") != template:
        path.write_text(template, encoding="utf-8")
    return render(name, facts, folder)


def _mistake(folder: Path, template: str, **facts: Any) -> str:
    with pytest.raises(UnusableInput) as caught:
        _render(folder, template, **facts)
    return caught.value.message


def _random_values(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(_ALPHABET, k=draw.randint(1, 12))) for _ in range(count)]


@pytest.mark.parametrize(
    ("template", "line", "said"),
    [
        ("a\nb\n{{ nobody }}\n", 3, "'nobody' is undefined"),
        ("a\n{{ known.nobody }}\n", 2, "has no attribute 'nobody'"),
        ("{% for x in nobody %}\n{{ x }}\n{% endfor %}\n", 1, "'nobody' is undefined"),
        ("\n\n{% if nobody %}x{% endif %}\n", 3, "'nobody' is undefined"),
        (
            "\n{% for x in known.items() %}\n{{ x.no }}\n{% endfor %}\n",
            3,
            "no attribute 'no'",
        ),
        ('a\n{{ "%.3f" | format(nobody) }}\n', 2, "'nobody' is undefined"),
        ('a\n{{ "{:,}".format(nobody) }}\n', 2, "'nobody' is undefined"),
        ("a\n{{ nobody | code }}\n", 2, "'nobody' is undefined"),
        ("a\n{{ nobody | link }}\n", 2, "'nobody' is undefined"),
        ("a\n{{ nobody | python }}\n", 2, "'nobody' is undefined"),
        ("a\n{{ nobody | verbatim }}\n", 2, "'nobody' is undefined"),
        ("a\n\n{{ 1 / 0 }}\n", 3, "division by zero"),
        ("a\n{{ known + 1 }}\n", 2, "unsupported operand"),
        ("a\n{% if %}\n", 2, "Expected an expression"),
        ("a\nb {{ known\n", 2, "unexpected end of template"),
        ("{% for x in known %}\n", 1, "Unexpected end of template"),
        ("a\n{{ known | nofilter }}\n", 2, "No filter named 'nofilter'"),
    ],
)
def test_mistake_in_a_template_has_file_and_line(
    tmp_path: Path, template: str, line: int, said: str
) -> None:
    message = _mistake(tmp_path, template, known={"a": 1})
    assert message.startswith(f"templates/t.md.j2:{line}: ")
    assert said in message


def test_template_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"^templates/none\.j2: there is no such file$"):
        render("none.j2", {}, tmp_path)


def test_template_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_bytes(b"caf\xe9")
    with pytest.raises(UnusableInput, match=r"^templates/t\.j2: 'utf-8' codec"):
        render("t.j2", {}, tmp_path)


@pytest.mark.parametrize("value", HOSTILE)
def test_value_in_plain_text_is_one_line_and_not_escaped(tmp_path: Path, value: str) -> None:
    text = _render(tmp_path, "a: {{ x }}\nb\n", "t.j2", x=value)
    assert text.splitlines() == [f"a: {one_line(value)}", "b"]


def test_one_line_keeps_words_and_drops_what_cannot_be_seen() -> None:
    assert one_line(" a\t b\r\n\x00c\u2028d\x85e ") == "a b c d e"
    assert one_line("\u202eab\u2066c\u200bd\ufeff\ud800") == "abcd"
    assert one_line("می‌خواهم 👨‍👩‍👧") == "می‌خواهم 👨‍👩‍👧"


_FRAMES = {
    "paragraph": "{{ x }}\n",
    "heading": "# {{ x }}\n",
    "item": "- {{ x }}\n- b\n",
    "cell": "| a | b |\n| --- | --- |\n| {{ x }} | {{ x }} |\n",
    "after words": "a {{ x }} b\n",
}


@pytest.mark.parametrize("frame", _FRAMES)
def test_value_in_markdown_is_shown_as_it_stands(tmp_path: Path, frame: str) -> None:
    plain = structure(_FRAMES[frame].replace("{{ x }}", "plain"))
    for value in (*HOSTILE, *_random_values(1, 100)):
        line = one_line(value)
        if not line:
            continue
        text = _render(tmp_path, _FRAMES[frame], x=value)
        assert structure(text) == plain, value
        words = [shown(token) for token in tokens(text) if token.type == "inline"]
        assert any(line in said for said in words), (value, words)


@pytest.mark.parametrize("frame", _FRAMES)
def test_code_is_one_code_span_that_shows_the_value(tmp_path: Path, frame: str) -> None:
    template = _FRAMES[frame].replace("x }}", "x | code }}")
    plain = structure(_FRAMES[frame].replace("{{ x }}", "`plain`"))
    for value in (*HOSTILE, *_random_values(2, 100), ""):
        text = _render(tmp_path, template, x=value)
        assert structure(text) == plain, value
        words = [shown(token) for token in tokens(text) if token.type == "inline"]
        assert any(one_line(value) in said for said in words), (value, words)


@pytest.mark.parametrize("frame", _FRAMES)
def test_link_is_one_link_to_the_address(tmp_path: Path, frame: str) -> None:
    template = _FRAMES[frame].replace("x }}", "x | link }}")
    plain = structure(_FRAMES[frame].replace("{{ x }}", "<https://plain>"))
    for value in (*HOSTILE, *_random_values(3, 60)):
        text = _render(tmp_path, template, x=f"https://example.org/{value}")
        assert structure(text) == plain, value
        links = [
            str(child.attrs["href"])
            for token in tokens(text)
            for child in token.children or []
            if child.type == "link_open"
        ]
        assert links
        assert all(link.startswith("https://example.org/") for link in links)


def test_python_literal_is_the_value(tmp_path: Path) -> None:
    for value in (*HOSTILE, *_random_values(4, 100), "", "\ud800"):
        text = _render(tmp_path, "f({{ x | python }})\n", x=value)
        assert text.count("\n") == 1
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert [ast.literal_eval(argument) for argument in call.args] == [value]


def test_verbatim_words_are_not_touched(tmp_path: Path) -> None:
    words = "Built *with* <Llama> & [co]"
    assert _render(tmp_path, "**{{ x | verbatim }}**\n", x=words) == f"**{words}**\n"


def test_value_is_never_a_template(tmp_path: Path) -> None:
    assert "49" not in _render(tmp_path, "{{ x }} {{ y }}\n", x="{{ 7*7 }}", y="{{ x }}")


def test_escaping_leaves_plain_words_alone() -> None:
    for words in ("Sorting notes by topic.", "1.5 or 2 - 3", "it's 100% (sure), é 🎉!"):
        assert escape_markdown(words) == words
