"""How tasks read records: every bad one is told, with its place and without what stands in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from release_kit.errors import Problem, UnusableInput
from release_kit.training.splits import Example

if TYPE_CHECKING:
    from release_kit.datasets.records import Record

_FEWEST_CLASSES = 2


def read_each(
    records: Sequence[Record], read: Callable[[Record], tuple[Example, Iterable[str]]]
) -> tuple[Example, ...]:
    """Return one example for each record, in the records' order.

    `read` returns the example and what is wrong with it; empty reasons count as none.

    Raises:
        UnusableInput: with source and record number of every record with which something is
            wrong, or when there are no records.
    """
    examples: list[Example] = []
    problems: list[Problem] = []
    for record in records:
        example, reasons = read(record)
        if wrong := "; ".join(reason for reason in reasons if reason):
            # The number of the record stands where other problems have their line.
            problems.append(Problem(record.source, record.index, 1, wrong))
        examples.append(example)
    if problems:
        count = "1 record" if len(problems) == 1 else f"{len(problems)} records"
        raise UnusableInput(f"{count} of {len(records)} cannot be learned", problems=problems)
    if not examples:
        raise UnusableInput("there are no records to learn from")
    return tuple(examples)


def several_classes(examples: Sequence[Example], name: str) -> tuple[Example, ...]:
    """Return `examples`, which have two labels or more in the field `name`.

    Raises:
        UnusableInput: they have only one.
    """
    if len({label for example in examples for label in example.labels}) < _FEWEST_CLASSES:
        raise UnusableInput(
            f"all {len(examples)} records have the same label, so there is nothing to tell apart",
            hint=f"see whether '{name}' is the field that holds the label",
        )
    return tuple(examples)


def text_of(fields: Mapping[str, Any], name: str, what: str = "text") -> tuple[str, str]:
    """Return the text in the field `name`, and what is wrong with it; one of both is empty."""
    if name not in fields:
        return "", f"has no field '{name}' for the {what}"
    value = fields[name]
    if not isinstance(value, str):
        return "", f"the field '{name}' is not text"
    if not value.strip():
        return "", f"the {what} in '{name}' is empty"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "", f"the {what} in '{name}' is not Unicode: it holds half a surrogate pair"
    return value, ""


def label_of(fields: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the label in the field `name` as text, and what is wrong with it.

    A label may be text, a whole number, or true or false; a number and the text that looks like
    it are the same label, since config.json knows only text.
    """
    if name not in fields:
        return "", f"has no field '{name}' for the label"
    value = fields[name]
    if isinstance(value, bool):
        return str(value).lower(), ""
    if not isinstance(value, str | int):
        return "", f"the label in '{name}' is neither text, a whole number, nor true or false"
    label = str(value)
    if not label.strip():
        return "", f"the label in '{name}' is empty"
    return label, ""
