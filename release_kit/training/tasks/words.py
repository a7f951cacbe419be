"""Where the words of a text stand, and tokenizers that tell where their pieces stand in it."""

from __future__ import annotations

import re
from pathlib import Path

from release_kit.errors import UnusableInput
from release_kit.training.models import Loaded

# Han characters and kana are written without blanks: each counts as a word, as in overlap.py.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")


def words_of(text: str) -> tuple[tuple[int, int], ...]:
    """Return start and end of each word, in characters; a mark counts as a word of its own."""
    return tuple(word.span() for word in _WORD.finditer(text))


def nearest(text: str, part: str, start: int) -> int | None:
    """Return where whole words of `text` read `part`, as near to `start` as any; None if nowhere.

    At `start` itself it need not be whole words.
    """
    if text.startswith(part, start):
        return start
    words = words_of(text)
    ends = {end for _, end in words}
    found = [at for at, _ in words if text.startswith(part, at) and at + len(part) in ends]
    return min(found, key=lambda at: abs(at - start), default=None)


def placing(folder: Path, loaded: Loaded) -> Loaded:
    """Return `loaded`, whose tokenizer tells where its pieces stand, and pads at the end.

    Raises:
        UnusableInput: it does not tell.
    """
    if not getattr(loaded.processor, "is_fast", False):
        raise UnusableInput(
            f"{folder}: its tokenizer does not tell where its pieces stand in the text",
            hint="choose a model that has a tokenizer.json",
        )
    loaded.processor.padding_side = "right"
    return loaded
