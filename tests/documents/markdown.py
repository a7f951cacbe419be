"""Markdown as its readers parse it: tables and strikethrough on top of CommonMark."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = (
    # Jinja, format strings
    *("{{ 7*7 }}", "{% raw %}", "{# c #}", "${x} %s {0}"),
    # links, images, references
    *(
        "[a](https://evil.example)",
        "![i](x.png)",
        "<https://evil.example>",
        "[r]: https://e.example",
    ),
    *("[^1]: note", "![", "](", "[", "]", "@user #1"),
    # headings, rules, quotes, lists
    *("# Heading", "Heading\n===", "Heading\n---", "a # b #", "#", "===", "=", "---", "***", "___"),
    *("- a", "+ a", "* a", "1. a", "1) a", "-", "+", "1.", "1986\\. A", "- [ ] task", "> quote"),
    *("a\n\n# b\n\n- c", "a\r\n\tb", "\tb", "    indented", "\xa0# x"),
    # tables
    *("a | b | c", "|", "\\|", "a`|`b", "`|", "|`", "| a |\n|---|\n| b |", ":---:|:---:"),
    # HTML and entities
    *("<script>x</script>", "<!-- x", "</details>", '<a href="x">', "<", ">"),
    *("&lt;b&gt; &#35; &amp;", "&#x2A;a&#x2A;"),
    # code, emphasis, escapes
    *("`code` ``more``", "```\nfence\n```", "~~~\nfence", "`", "``", "x `", " ` ", "\\`x\\`"),
    *("**b** __b__ _e_ *e* ~~d~~ $x$ $$", "\\", "a\\", "\\*a\\*"),
    # YAML
    *("---\nlicense: mit\n---", "key: value", "a # no comment", "'", '"', "no", "~", "null", "1.0"),
    *("2024-01-01", "a: [", "&a *a !a", "%YAML 1.1"),
    # Python
    *("'''", '"""', '") or ("'),
    # what cannot be seen, turns the direction of writing, or ends a line for some readers only
    *("\u202ebidi\u2066x\u2069", "zero\u200bwidth\ufeff", "nul\x00 bell\x07 esc\x1b[31m del\x7f"),
    *("nel\x85x", "line\u2028# x", "para\u2029- x", "x\x0b# y", "x\x1c# y"),
    # and what is only unusual
    *("é 🎉 👨\u200d👩\u200d👧 می\u200cخواهم", "a" * 3000),
)
"""What must stay text wherever it is written."""


def tokens(text: str) -> list[Token]:
    """Parse `text`."""
    return _PARSER.parse(text)


def structure(text: str) -> list[str]:
    """Return all there is but the words: the types of tokens, and the languages of code blocks."""
    found = []
    for token in tokens(text):
        if token.type == "inline":
            found += [f"  {kind}" for kind in _spans(token)]
        else:
            found.append(f"{token.type} {token.tag} {token.info}".rstrip())
    return found


def _spans(token: Token) -> list[str]:
    kinds: list[str] = []
    for child in token.children or []:
        if child.type == "html_inline" and child.content in {"<code>", "</code>"}:
            # A code span that holds a bar; see `rendering._code`.
            if child.content == "<code>":
                kinds.append("code_inline")
            continue
        is_text = child.type.startswith("text")
        if not is_text or not kinds or kinds[-1] not in {"text", "code_inline"}:
            kinds.append("text" if is_text else child.type)
    return kinds


def shown(token: Token) -> str:
    """Return the words of an inline token as a reader sees them."""
    children = token.children or []
    return "".join(child.content for child in children if child.type != "html_inline")
