"""Model cards taken apart, with the card's own line numbers."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from release_kit.cards import hub_licenses, license_metadata, parse_card, visible_text
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
        ("---\na: 1\n...\nb: 2\n---\n", 4, 1, "expected '<document start>'"),
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
    own = set(load_licenses()) - set(licenses)
    assert {"apache-2.0", "llama3.1"} & own == set()
    for license_id in own:
        # The Hub shows what it has no id for by name and link.
        assert license_metadata(license_id)["license"] == "other"
        assert license_metadata(license_id)["license_name"] == license_id
    with pytest.raises(TypeError):
        licenses["mine"] = "x"  # type: ignore[index]


BUILT = "Built with Llama"


@pytest.mark.parametrize(
    "markdown",
    [
        BUILT,
        "**Built** with\nLlama",
        "_Built_ **with *Llama***",
        "~~Not~~ x\n\nBuilt with Llama",
        "# Built with Llama #",
        "Built with Llama\n===",
        "> - Built with\n>   Llama",
        "[Built with Llama](https://example.org 'title')",
        "[Built with Llama][1]\n\n[1]: https://example.org",
        "Built&nbsp;with&#32;Llama",
        "&#66;uilt with L&#x6c;ama",
        "Bu<!-- a comment shows nothing -->ilt with Llama",
        "| a | b |\n| :-: | --: |\n| x | Built with Llama |",
        '<div align="center">\n\n**Built with Llama**\n\n</div>',
        "<p align=center>\n  <b>Built</b> with\n  <a href='https://example.org'>Llama</a>\n</p>",
        "<h1>Built <em>with</em> Llama</h1>",
        "<br/>Built with Llama<br>\n\n<img src=x.png alt='' hidden>",
        "<table><tr><td>x</td><td>Built with Llama</td></tr></table>",
        "<!-- a - b -- c -->\n\nBuilt with Llama",
        "<details>\n<summary>More</summary>\n\nx\n\n</details>\n\nBuilt with Llama",
        "<video controls><source src=x></video>\n\nBuilt with Llama",
        "<script>let a = 1</script>\n\nBuilt with Llama",
        '<p align="center">\n<br>\n<p>\n\n# x\n\nBuilt with Llama',
        "<div>\n<p>x\n</div>\n\nBuilt with Llama",
        '<p align="center">\n\nBuilt with Llama\n\n</p>',
        "a stray </div> end\n\nBuilt with Llama",
        "It has ~5 GB, or ~7 GB. Built with Llama",
        "It costs $5, or $6. Built with Llama. Never $$.",
        "$$ x^2 $$\n\nBuilt with Llama",
        "a \\\\(x\\\\) b\n\nBuilt with Llama",
        "Note[^1].\n\n[^1]: x\n\nBuilt with Llama",
        "Built with Llama\n\n```\ncode",
        "---\nlicense: llama3.1\n---\nBuilt with Llama",
        "\ufeff---\r\nlicense: llama3.1\r\n---\r\nBuilt with Llama",
        "----\nBuilt with Llama",
        "Built with Llama\n\n---\n\nx\n\n---\n",
    ],
)
def test_words_that_a_reader_sees_are_visible(markdown: str) -> None:
    assert any(BUILT in line for line in visible_text(markdown).splitlines())


@pytest.mark.parametrize(
    "markdown",
    [
        "",
        "---\nlicense: other # Built with Llama\n---\nx",
        "---\na: 1\n--- \nBuilt with Llama",
        "--- \na: 1\n\nBuilt with Llama",
        "\n---\n\nBuilt with Llama",
        "---\nBuilt with Llama",
        "<!-- Built with Llama -->",
        "<!--\n\nBuilt with Llama\n\n-->",
        "<!-- x\n\nBuilt with Llama",
        "<!-- x -- > Built with Llama -->",
        "<!-- x --!> <div hidden> -->\n\nBuilt with Llama\n\n</div>",
        "<!--> Built with Llama -->",
        "<!---> <div hidden> -->\n\nBuilt with Llama\n\n</div>",
        "`Built with Llama`",
        "Built with `Llama`",
        "```\nBuilt with Llama\n```",
        "~~~text\nBuilt with Llama",
        "    Built with Llama",
        "- x\n\n      Built with Llama",
        "<pre>Built with Llama</pre>",
        "<code>Built with Llama</code>",
        "<kbd>Built with Llama</kbd>",
        "![Built with Llama](x.png)",
        "<img src=x.png alt='Built with Llama'>",
        "[x](https://example.org 'Built with Llama')",
        "[x](<Built with Llama>)",
        "[x]\n\n[x]: https://example.org 'Built with Llama'",
        "[Built with Llama]: https://example.org",
        "<a title='Built with Llama'>x</a>",
        "<a href='Built with Llama'>x</a>",
        *(
            f"<{tag}>Built with Llama</{tag.split()[0]}>"
            for tag in (
                *("script", "style", "template", "title", "head", "textarea", "noscript", "iframe"),
                *("svg", "math", "s", "del", "strike", "small", "sub", "sup", "font color=white"),
                *("button", "select", "object", "video", "x-made-up"),
            )
        ),
        "x <span hidden>Built with Llama</span>",
        "<p aria-hidden=true>Built with Llama</p>",
        "<p HIDDEN>Built with Llama</p>",
        "<p style='color:white'>Built with Llama</p>",
        "<p class=hidden>Built with Llama</p>",
        "<table bgcolor=black><tr><td>Built with Llama</td></tr></table>",
        "<td width=0>Built with Llama</td>",
        "<bdo dir=rtl>Built with Llama</bdo>",
        "<div hidden>\n\n# Built with Llama\n\n</div>",
        "<div hidden/>\n\nBuilt with Llama",
        "<div hidden><div>x</div>\n\nBuilt with Llama\n\n</div>",
        "<details>\n<summary>x</summary>\n\nBuilt with Llama\n\n</details>",
        "<details>\n\nBuilt with Llama",
        "<div>\n\nBuilt with Llama",
        "<b>Built with Llama",
        "<p>Built with Llama\n\n<p>x",
        "<div><p>Built with Llama</div>",
        "<p hidden>\n\nBuilt with Llama\n\n</p>",
        "<p hidden>x\n\n<p>x\n\nBuilt with Llama",
        "<div hidden><p>x</div><div>Built with Llama",
        "<b><i>Built with Llama</b></i>",
        "<p><b hidden>x</p>\n\nBuilt with Llama",
        "<div hidden><table><tr><td></div>\n\nBuilt with Llama",
        "<div\n\nBuilt with Llama",
        "<div title='\n\nBuilt with Llama\n\n'>",
        "<div>\n<a b='c'd>x\n</div>\n\nBuilt with Llama",
        "<script><!--<script></script>\n\nBuilt with Llama\n\n--></script>",
        "<textarea><!--</textarea>\n\nBuilt with Llama",
        "<svg><![CDATA[</svg>]]>\n\nBuilt with Llama",
        "<?php ?> Built with Llama",
        "<!DOCTYPE html> Built with Llama",
        "<plaintext>\n\nBuilt with Llama",
        "Built with Llama\n\n<style>p { display: none }</style>",
        "Built with Llama\n\n<svg></svg>\n\n<STYLE>p { display: none }</STYLE>",
        "Built with Llama\n\n<style>/* <b{} */ p { display: none }",
        "Built with Llama\n\n<link rel=stylesheet href=x.css>",
        "Built with Llama\n\n<body hidden>\n",
        "~~Built with Llama~~",
        "~Built with Llama~",
        "x ~Built with Llama `y`~",
        "Built ~~not~~ with Llama",
        "Built ~not~ with Llama",
        "Built <span class=x>not</span> with Llama",
        "Built ![by hand, not](x.png) with Llama",
        "Built with\n\nLlama",
        "# Built with\nLlama",
        "Built with  \nLlama",
        "Built with<br>Llama",
        "- Built with\n- Llama",
        "| a | b |\n|---|---|\n| Built with | Llama |",
        "<div>**Built** with Llama</div>",
        "Built\\_with\\_Llama",
        "$$ Built with Llama $$",
        "$$\n\nBuilt with Llama\n\n$$",
        "\\\\(Built with Llama\\\\)",
        "[^1]: Built with Llama",
        "[^a\\]b]: Built with Llama",
        "x\n[^1]: y\nBuilt with Llama",
        "Bu\u200bilt with Llama",
        "Built\u2060 with Llama",
        "Bu\u00adilt with Llama",
        "Built\u200bwith\u200bLlama",
        "Built&ZeroWidthSpace;with Llama",
        "Built\x1cwith\x1cLlama",
        "Built\u2028with\u200aLlama",
        "Built\x00with Llama",
        "\u202eBuilt with Llama\u202c",
        "&#x202e;x **Built with Llama**",
        "Вuilt with Llama",
        "built with llama",
        f"{'> ' * 30}Built with Llama",
        f"{'![Built with Llama ' * 30}{'](x)' * 30}",
    ],
)
def test_words_that_a_reader_may_miss_are_not_visible(markdown: str) -> None:
    assert not any(BUILT in line for line in visible_text(markdown).splitlines())


def test_visible_text_has_a_line_a_block() -> None:
    start = "---\nlicense: mit\n---\n# A *b*\n\nc\nd `e` f\n\n- g\n- h\n\n"
    assert (
        visible_text(f"{start}| i | j |\n|---|---|\n| k | l |\n") == "A b\nc d\nf\ng\nh\ni\nj\nk\nl"
    )


def test_visible_text_is_composed() -> None:
    assert visible_text("Cafe\u0301 and e<b>\u0301</b>") == "Caf\xe9 and \xe9"


def test_visible_words_of_a_known_text_stay_after_what_is_hidden() -> None:
    assert visible_text("a <b hidden>b</b> c\n\n<i>d") == "a\nc"


@pytest.mark.parametrize(
    "hostile",
    [
        *("[", "![", "](", "*", "**a ", "_a", "`", "``a`", "<", "<a ", "<!--", "<?", "<b>", "</b>"),
        *("<div>\n\n", "> ", "- ", "- - - a\n", "|", "|a|\n|-|\n", "&", "~", "~a", "$$", "\\\\("),
        *("[^1]:", "[a]: (\n", "[a]: b 'c\n\n", "[](<", "<a href='", "\u0301", "x\n\n"),
    ],
)
def test_hostile_markdown_is_walked_to_its_end(hostile: str) -> None:
    for size in (40_000, 1_000_000):
        visible_text(hostile * (size // len(hostile)))
    # Blocks that are just short enough to be parsed.
    block = hostile.replace("\n", " ") * (4_900 // len(hostile))
    visible_text(f"{block}\n\n" * 3)


@pytest.mark.slow
@pytest.mark.parametrize("hostile", ["![", "- - - - a\n", "> > > a\n\n", "<div>\n\n", "[](<"])
def test_longest_hostile_card_is_walked_to_its_end(hostile: str) -> None:
    block = hostile if "\n" in hostile else hostile * (4_900 // len(hostile)) + "\n\n"
    visible_text(block * (499_000 // len(block)))
