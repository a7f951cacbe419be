"""What a causal language model is taught: texts, answers to prompts, or an assistant's turns.

A record is a run of parts; only some of them are learned. A text is all learned, of a prompt with
its completion the completion, of a conversation the turns of the assistant, in the form that the
tokenizer's chat template gives them. No message quotes a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from release_kit.release import TrainingPlan
from release_kit.training.splits import Example
from release_kit.training.tasks.reading import read_each, text_of

if TYPE_CHECKING:
    from release_kit.datasets.records import Record

TEXT, PROMPT, COMPLETION, MESSAGES = "text", "prompt", "completion", "messages"
_FORMS = ((TEXT,), (PROMPT, COMPLETION), (MESSAGES,))
_ASSISTANT = "assistant"
_LEARNED = {TEXT, COMPLETION, _ASSISTANT}


@dataclass(frozen=True)
class Lesson:
    """The parts of one record."""

    chat: bool
    """Whether the parts are turns, which the tokenizer's chat template puts into form."""
    parts: tuple[tuple[str, str], ...] = field(repr=False)
    """(who or what says it, what is said), in order."""

    @property
    def bytes(self) -> int:
        """How long what is learned is in UTF-8, without what a chat template adds."""
        return sum(len(said.encode()) for role, said in self.parts if role in _LEARNED)

    @property
    def asks(self) -> bool:
        """Whether there is something before the answer, so that the answer can be checked."""
        return self.parts[0][0] not in _LEARNED


def read_lessons(plan: TrainingPlan, records: Sequence[Record]) -> tuple[Example, ...]:
    """Return one example without labels for each record, its content a `Lesson`.

    Raises:
        UnusableInput: with source and record number of every record that has none or several of
            the forms, a part that is not text or empty, or no turn of the assistant, or when
            there are no records.
    """
    # Where release.yaml names fields, it says which forms there are.
    forms = [form for form in _FORMS if not plan.fields or set(form) & set(plan.fields)]
    names = {part: plan.fields.get(part, part) for form in forms for part in form}

    def read(record: Record) -> tuple[Example, list[str]]:
        found = [form for form in forms if any(names[part] in record.fields for part in form)]
        wrong: list[str] = []
        lesson = Lesson(chat=False, parts=((TEXT, ""),))
        if len(found) != 1:
            wrong.append(
                f"has {'more than one' if found else 'none'} of "
                + ", or ".join(" with ".join(f"'{names[p]}'" for p in form) for form in forms)
            )
        elif found[0] == (MESSAGES,):
            lesson, wrong = _conversation(record.fields[names[MESSAGES]], names[MESSAGES])
        else:
            read = {part: text_of(record.fields, names[part], part) for part in found[0]}
            lesson = Lesson(
                chat=False, parts=tuple((part, said) for part, (said, _) in read.items())
            )
            wrong = [reason for _, reason in read.values()]
        text = "\n".join(said for _, said in lesson.parts)
        return Example(text, (), record.source, record.index, lesson), wrong

    return read_each(records, read)


def _conversation(messages: Any, name: str) -> tuple[Lesson, list[str]]:
    nothing = Lesson(chat=True, parts=((_ASSISTANT, ""),))
    if not isinstance(messages, list) or not messages:
        return nothing, [f"the field '{name}' is not a list of messages"]
    parts = []
    for number, message in enumerate(messages, 1):
        where = f"message {number} of '{name}'"
        # More than this, such as calls of tools, would be lost in silence.
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            return nothing, [f"{where} does not hold role and content and nothing else"]
        for part in ("role", "content"):
            if text_of(message, part)[1]:
                return nothing, [f"the {part} of {where} is empty or not text"]
        parts.append((message["role"], message["content"]))
    if not any(role == _ASSISTANT for role, _ in parts):
        return nothing, [f"in '{name}' the role {_ASSISTANT} says nothing, so nothing is learned"]
    return Lesson(chat=True, parts=tuple(parts)), []


def segments(tokenizer: Any, lesson: Lesson) -> tuple[list[tuple[str, bool]], str]:
    """Return (text, whether it is learned) in order, and what is wrong; one of both is empty.

    A turn of the assistant begins where the chat template, asked for the start of an answer,
    ends; what follows on the last one is left out. The template runs in transformers' sandbox
    (ImmutableSandboxedEnvironment of Jinja).
    """
    if not lesson.chat:
        return [(said, role in _LEARNED) for role, said in lesson.parts], ""
    if not getattr(tokenizer, "chat_template", None):
        return [], "is a conversation, and the base model's tokenizer has no chat template"
    control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if any(token in text for part in lesson.parts for text in part for token in control):
        return [], "a message holds a control token of the tokenizer, which could feign a turn"
    return _turns(tokenizer, lesson.parts)


def _turns(tokenizer: Any, parts: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, bool]], str]:
    found: list[tuple[str, bool]] = []
    done = ""
    for number, (role, said) in enumerate(parts):
        if role != _ASSISTANT:
            continue
        asked = _rendered(tokenizer, parts[:number], ask=True)
        answered = _rendered(tokenizer, parts[: number + 1], ask=False)
        if asked is None or answered is None:
            return [], "the chat template of the base model's tokenizer fails on it"
        if not asked.startswith(done) or not answered.startswith(asked):
            return [], "the chat template changes earlier turns, so no turn has a fixed form"
        if said.strip() not in answered[len(asked) :]:
            return [], "the chat template leaves out what the assistant says"
        found += [(asked[len(done) :], False), (answered[len(asked) :], True)]
        done = answered
    return found, ""


def _rendered(tokenizer: Any, parts: Sequence[tuple[str, str]], *, ask: bool) -> str | None:
    """Return the turns in the template's form; None where it fails."""
    if not parts:
        return ""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": role, "content": said} for role, said in parts],
            tokenize=False,
            add_generation_prompt=ask,
        )
    except Exception:  # noqa: BLE001 - a template is a program, and its words may quote the turns
        return None
    return str(text)
