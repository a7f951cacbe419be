"""Jinja as every document uses it: no undefined name, and every value escaped.

Values are data, never template and never markup. A template says what a value is: text by
default, `code` for a code span, `link` for an address, `python` for a literal in example code,
`verbatim` for what is escaped already.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError

from release_kit.errors import UnusableInput
from release_kit.files import TEMPLATES

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")
# At the start of a line these would begin a list, a rule or a heading.
_LEADING = re.compile(r"^(\d*)([-+=.)])(?=\s|$|[-+=])")
# Invisible, and yet part of how words and emoji are written.
_JOINERS = "\u200c\u200d"


class Verbatim(str):
    """Text that a document carries as it is."""

    __slots__ = ()


class _Missing(StrictUndefined):
    """A fact that nobody has; Python's own formatting is refused as Jinja's is."""

    __slots__ = ()
    __format__ = StrictUndefined._fail_with_undefined_error


def render(template: str, facts: dict[str, Any], folder: Path = TEMPLATES) -> str:
    """Render `templates/<template>` with `facts`.

    Values are escaped as Markdown in `*.md.j2` and as HTML in `*.html.j2`.

    Raises:
        UnusableInput: the template names something that is not among the facts, fails, or cannot
            be parsed; with its file and line.
    """
    try:
        return _environment(folder, _language(template)).get_template(template).render(facts)
    except TemplateSyntaxError as error:
        raise UnusableInput(f"templates/{error.name}:{error.lineno}: {error.message}") from None
    except TemplateNotFound as error:
        raise UnusableInput(f"templates/{error.name}: there is no such file") from None
    # A template is a small program that people edit: whatever it raises is its mistake.
    except Exception as error:  # noqa: BLE001
        line = _template_line(error, template)
        raise UnusableInput(f"templates/{template}{line}: {error}") from None


def _language(template: str) -> str:
    return Path(Path(template).stem).suffix


@cache
def _environment(folder: Path, language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=_Missing,
        # `finalize` below escapes for Markdown, HTML and plain text alike.
        autoescape=False,  # noqa: S701
        finalize=partial(_finalize, escape=_ESCAPES.get(language, str)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": _code,
        "link": _link,
        "python": _python,
        "verbatim": Verbatim,
    }
    return environment


def _template_line(error: Exception, template: str) -> str:
    trace = error.__traceback__
    line = ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(template):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _finalize(value: object, *, escape: Callable[[str], str]) -> str:
    return value if isinstance(value, Verbatim) else escape(one_line(str(value)))


def escape_markdown(text: str) -> str:
    r"""Return `text` so that Markdown shows it as it stands.

    >>> escape_markdown("a_b <i> [x](y)")
    'a\\_b \\<i\\> \\[x\\](y)'
    >>> escape_markdown("1. not a list"), escape_markdown("1.5"), escape_markdown("- nor this")
    ('1\\. not a list', '1.5', '\\- nor this')
    """
    return _LEADING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text))


_ESCAPES: dict[str, Callable[[str], str]] = {".md": escape_markdown, ".html": html.escape}


def one_line(text: str) -> str:
    r"""Return `text` on one line, without what cannot be seen or turns the direction of writing.

    >>> one_line("a\n b\u202ec")
    'a bc'
    """
    blanks = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text)
    shown = "".join(
        c for c in blanks if c in _JOINERS or unicodedata.category(c) not in {"Cf", "Cs"}
    )
    return " ".join(shown.split())


def _code(value: object) -> Verbatim:
    text = one_line(str(value))
    if "|" in text or not text:
        # A code span in a table cannot hold a bar, and an empty one is no code span.
        return Verbatim(f"<code>{escape_markdown(text)}</code>")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if "`" in text else ""
    return Verbatim(f"{fence}{pad}{text}{pad}{fence}")


def _link(value: object) -> Verbatim:
    address = one_line(str(value)).replace(" ", "%20")
    for character in '<>"`\\|':
        address = address.replace(character, f"%{ord(character):02X}")
    return Verbatim(f"<{address}>")


def _python(value: object) -> Verbatim:
    text = str(value)
    # In printable text JSON escapes only the quote and the backslash, as Python does.
    return Verbatim(json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text))
