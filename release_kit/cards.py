"""A model card: YAML front matter and Markdown, parsed strictly and with line numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from types import MappingProxyType
from typing import TYPE_CHECKING

from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.strict_yaml import Document, parse_yaml, read_yaml

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore

_FENCE = "---"
_OTHER = "other"


@dataclass(frozen=True)
class Card:
    """A card taken apart."""

    metadata: Document
    """The front matter; its data is a mapping and its lines are lines of the card."""
    body: str
    body_line: int
    """The card's line on which the body starts, 1-based."""


def parse_card(text: str, name: str) -> Card:
    """Take a card apart.

    Raises:
        UnusableInput: there is no front matter, it is not closed, or it is not a strict mapping.
    """
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    # With blanks behind it some readers of cards take the line for the fence and others do not.
    if lines[0] != _FENCE:
        raise _unusable(name, 1, f"the card does not start with a line '{_FENCE}'")
    for number, line in enumerate(lines[1:], start=1):
        if line == _FENCE:
            metadata = parse_yaml("\n".join(lines[1:number]), name, first_line=2)
            if not isinstance(metadata.data, dict):
                raise _unusable(name, 2, "the front matter is not a mapping of keys to values")
            return Card(metadata, "\n".join(lines[number + 1 :]), number + 2)
    raise _unusable(name, 1, f"the front matter is not closed by a line '{_FENCE}'")


def license_metadata(license_id: str) -> Mapping[str, str]:
    """Return the front-matter fields by which the Hub shows a license.

    An id that the Hub knows stands for itself; any other is `other` with a name and a link to the
    LICENSE file (Hub docs, Model cards, section Specifying a license).
    """
    if license_id in hub_licenses():
        return {"license": license_id}
    return {"license": _OTHER, "license_name": license_id, "license_link": "LICENSE"}


@cache
def hub_licenses() -> Mapping[str, str]:
    """Return the license ids that the Hub accepts → their names, in the Hub's order.

    Raises:
        UnusableInput: `policies/hub_licenses.yaml` breaks its schema.
    """
    shown = "policies/hub_licenses.yaml"
    document = read_yaml(POLICIES / "hub_licenses.yaml", "hub_licenses", shown_as=shown)
    return MappingProxyType({entry["id"]: entry["name"] for entry in document.data["licenses"]})


def visible_text(markdown: str) -> str:
    r"""Return the words that every reader of the rendered card sees, to prove that it shows them.

    Each block of text is one line, its runs of blanks are one blank, its characters are NFC. A
    hard break and a table cell end the line too, and so does whatever is left out, so words on two
    lines are never one phrase: look for a phrase within one line.

    Left out is what a reader does not see, or not for sure: front matter, comments, code, formulas,
    alternative texts, struck words, footnotes, folded details, fine print, and all that is held by
    an HTML element but the plainest (`_PLAIN`) with attributes but the harmless (`_HARMLESS`).
    After HTML whose extent readers could dispute, such as an element closed in the wrong order or
    never, nothing counts; in a card that brings a style sheet, or is longer than half a million
    characters, nothing does at all. Invisible characters inside words stay there, so such words
    are not the prescribed ones.

    The Markdown is GitHub's (github.github.com/gfm), and formulas stand between the delimiters of
    the Hub's docs (Model cards, "Can I write LaTeX in my model card?").

    >>> visible_text("# Llama-x\n\n**Built** with\nLlama <!-- Built by us -->")
    'Llama-x\nBuilt with Llama'
    """
    body = _without_front_matter(markdown)
    if len(body) > _LONGEST:
        return ""
    page = _Page()
    page.feed(_markdown().render(body))
    page.close()
    return page.text()


_LONGEST = 500_000
_LONGEST_BLOCK = 5_000
"""Characters. Some texts take the square of their length to parse; nobody writes longer ones."""
_DEEPEST = 20
"""Markdown's brackets; deeper ones this parser takes for text, and others for an image."""

_PLAIN_BLOCKS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "div", "center", "blockquote", "section", "article"}
    | {"main", "header", "footer", "ul", "ol", "li", "dl", "dt", "dd"}
    | {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"}
)
# The start of one of these ends a paragraph that is open.
_ENDS_PARAGRAPH = (_PLAIN_BLOCKS | {"hr", "pre", "details"}) - {
    *("caption", "thead", "tbody", "tfoot", "tr", "th", "td")
}
_PLAIN = _PLAIN_BLOCKS | {"a", "abbr", "b", "cite", "em", "i", "ins", "mark", "span", "strong", "u"}
_HARMLESS = frozenset(
    {"align", "colspan", "href", "id", "lang", "name", "rel", "rowspan", "start", "target"}
    | {"title", "valign"}
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "meta", "param", "source"}
    | {"track", "wbr"}
)
# These reach beyond what they hold.
_STYLING = frozenset({"style", "link", "html", "body"})
# What these hold is read by rules of its own, on which readers differ once it holds markup.
_OPAQUE = frozenset(
    {"iframe", "noembed", "noframes", "noscript", "script", "textarea", "title", "xmp"}
)
_DISPUTED = frozenset({"frameset", "math", "plaintext", "select", "svg"})

_BREAK = "\n"
# An HTML page cannot hold NUL, so it can stand for a gap within a block.
_GAP = "\0"

# HTML that every parser reads alike. What else begins with < could hide anything.
_NO_MARKUP = re.compile(r"[^<]+|<(?![A-Za-z!/?])")
_CLOSING_TAG = re.compile(r"</[A-Za-z][A-Za-z0-9-]*[ \t\n\f]*>")
_OPENING_TAG = re.compile(r"<[A-Za-z][A-Za-z0-9-]*")
_ATTRIBUTE = re.compile(
    r"""[ \t\n\f]+[A-Za-z_:][A-Za-z0-9_.:-]*"""
    r"""(?:[ \t\n\f]*=[ \t\n\f]*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+))?"""
)
_TAG_END = re.compile(r"[ \t\n\f]*/?>")
_COMMENT_END = re.compile(r"--\s*!?>")
_STYLE = re.compile(rf"<(?:{'|'.join(sorted(_STYLING))})", re.IGNORECASE)
_FOOTNOTE = re.compile(r"^[ \t]*\[\^(?:\\.|[^\]\\\n])+\]:", re.MULTILINE)
# GitHub strikes out what stands between single tildes as well.
_STRUCK = re.compile(r"~[^\s~](?:[^~\n]*[^\s~])?~")
_REVERSED = re.compile("\u202e[^\n]*")


def _without_front_matter(markdown: str) -> str:
    text = markdown.removeprefix("\ufeff")
    # Readers differ on blanks around the fence, so the first line that looks like one opens it,
    # and only the line that ends it for every reader closes it.
    opening = re.match(rf"\s*{_FENCE}(?!-)", text)
    if not opening:
        return text
    closing = re.compile(rf"\n{_FENCE}\r?(?:\n|\Z)").search(text, opening.end())
    return text[closing.end() :] if closing else ""


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table", "strikethrough"])
    parser.core.ruler.after("block", "unseen_blocks", _drop_unseen_blocks)
    parser.core.ruler.after("inline", "disputed_html", _mark_disputed_html)
    return parser


def _drop_unseen_blocks(state: StateCore) -> None:
    for token in state.tokens:
        if token.type == "inline":
            footnote = _FOOTNOTE.search(token.content)
            token.content = token.content[: footnote.start() if footnote else None]
            is_deep = "![" in token.content and token.content.count("[") >= _DEEPEST
            if is_deep or len(token.content) > _LONGEST_BLOCK:
                token.content = ""
        elif token.type in {"th_open", "td_open"}:
            # How a column is aligned, written as a style.
            token.attrs.clear()


def _is_plain_html(text: str) -> bool:
    """Tell whether every parser reads the tags and comments of `text` alike."""
    place = 0
    while place < len(text):
        if found := _NO_MARKUP.match(text, place) or _CLOSING_TAG.match(text, place):
            place = found.end()
        elif text.startswith("<!--", place):
            found = _COMMENT_END.search(text, place + 4)
            # Some end a comment at `--!>`, `-- >`, or at once.
            if not found or found[0] != "-->" or text.startswith((">", "->"), place + 4):
                return False
            place = found.end()
        elif found := _OPENING_TAG.match(text, place):
            place = found.end()
            while found := _ATTRIBUTE.match(text, place):
                place = found.end()
            if not (found := _TAG_END.match(text, place)):
                return False
            place = found.end()
        else:
            return False
    return True


def _mark_disputed_html(state: StateCore) -> None:
    for token in state.tokens:
        for part in (token, *(token.children or ())):
            if part.type.startswith("html_") and not _is_plain_html(part.content):
                part.content = "<style>" if _STYLE.search(part.content) else "<svg>"


@dataclass(frozen=True)
class _Element:
    tag: str
    start: int
    """How many pieces of text stand before it."""
    is_shown: bool


class _Page(HTMLParser):
    """The walk over a rendered card."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._open: list[_Element] = []
        self._names: dict[str, int] = {}
        self._is_lost = False

    def text(self) -> str:
        if self._open:
            self._lose()
        text = unicodedata.normalize("NFC", "".join(self._pieces))
        text = _REVERSED.sub("", _STRUCK.sub(_GAP, text))
        for opening, closing in (("$$", "$$"), ("\\(", "\\)")):
            text = _without_spans(text, opening, closing)
        lines = (" ".join(line.split()) for line in text.replace(_GAP, _BREAK).split(_BREAK))
        return _BREAK.join(line for line in lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _STYLING:
            self._open.clear()
            self._pieces.clear()
            self._is_lost = True
        if self._is_lost:
            return
        if tag in _ENDS_PARAGRAPH:
            self._end_paragraph()
        if tag in _DISPUTED or self._is_in_opaque():
            self._lose()
        elif tag == "wbr":
            return
        elif tag in _VOID:
            self._pieces.append(_BREAK if tag == "hr" else _GAP)
        else:
            is_plain = tag in _PLAIN and all(name in _HARMLESS for name, _ in attrs)
            is_shown = is_plain and (not self._open or self._open[-1].is_shown)
            self._open.append(_Element(tag, len(self._pieces), is_shown))
            self._names[tag] = self._names.get(tag, 0) + 1
            self._part(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # The slash closes nothing in HTML: `<div hidden/>` goes on.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._is_lost:
            return
        if tag in _PLAIN_BLOCKS and tag != "p" and self._names.get(tag):
            self._end_paragraph()
        if self._open and self._open[-1].tag == tag:
            self._open.pop()
            self._names[tag] -= 1
            self._part(tag)
        elif self._names.get(tag) or self._is_in_opaque():
            self._lose()
        else:
            self._part(tag)

    def handle_data(self, data: str) -> None:
        if self._is_lost:
            return
        if "<" in data and self._is_in_opaque():
            self._lose()
        elif self._open and not self._open[-1].is_shown:
            self._pieces.append(_GAP)
        else:
            self._pieces.append("".join(_shown(character) for character in data))

    def handle_comment(self, data: str) -> None:
        if self._is_in_opaque():
            self._lose()

    def _end_paragraph(self) -> None:
        """Leave out a paragraph that is open; many cards have one, and each reader ends it here."""
        if self._open and self._open[-1].tag == "p" and self._open[-1].is_shown:
            self._names["p"] -= 1
            del self._pieces[self._open.pop().start :]
            self._part("p")

    def _part(self, tag: str) -> None:
        if tag not in _PLAIN:
            self._pieces.append(_GAP)
        elif tag in _PLAIN_BLOCKS:
            self._pieces.append(_BREAK)

    def _is_in_opaque(self) -> bool:
        return bool(self._open) and self._open[-1].tag in _OPAQUE

    def _lose(self) -> None:
        """Count nothing any more, nor what the elements that are open held so far."""
        if self._open:
            del self._pieces[self._open[0].start :]
            self._open.clear()
        self._is_lost = True


def _shown(character: str) -> str:
    if character in " \t\n\r\f\xa0\u3000":
        return " "
    # Other blanks have no width to speak of, and NUL has a meaning here.
    return "\ufffd" if character.isspace() or character == _GAP else character


def _without_spans(text: str, opening: str, closing: str) -> str:
    kept = []
    place = 0
    while (start := text.find(opening, place)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            break
        kept += [text[place:start], _GAP]
        place = end + len(closing)
    return "".join([*kept, text[place:]])


def _unusable(name: str, line: int, message: str) -> UnusableInput:
    return UnusableInput(f"{name} cannot be used", problems=[Problem(name, line, 1, message)])
