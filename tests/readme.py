"""The parts of README.md that the program itself knows. `python -m tests.readme` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import click

from release_kit.auditing.engine import all_rules
from release_kit.cli import cli
from release_kit.licensing.licenses import load_licenses
from release_kit.training.tasks import TASKS

README = Path(__file__).parent.parent / "README.md"


def generated() -> dict[str, str]:
    """Return block name → what must stand between its markers."""
    return {"help": _help(), "rules": _rules(), "tasks": _tasks(), "licenses": _licenses()}


def with_generated(text: str) -> str:
    """Return `text` with every block written anew."""
    for name, content in generated().items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, c=content: f"{m[1]}{c}{m[2]}", text)
        assert count == 1, f"README.md needs one block '{name}', it has {count}"
    return text


def _help() -> str:
    context = click.Context(cli, info_name="release-kit", terminal_width=80, **cli.context_settings)
    return f"```text\n{cli.get_help(context)}\n```\n"


def _rules() -> str:
    rows = [f"| `{rule.id}` | {rule.severity.value} | {rule.title} |" for rule in all_rules()]
    return "\n".join(["| Rule | Severity | What it finds |", "| --- | --- | --- |", *rows, ""])


def _tasks() -> str:
    rows = [
        f"| `{name}` | {task.learns} | {_words(task.fields)} | {_words(task.options)} |"
        for name, task in TASKS.items()
    ]
    head = ["| `task` | What is learned | `fields` | `options` |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _licenses() -> str:
    rows = [
        f"| `{license.id}` | {license.name} | {license.downstream_license.replace('-', ' ')} |"
        for license in load_licenses().values()
    ]
    return "\n".join(["| Id | License | Terms of derivatives |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    README.write_text(with_generated(README.read_text(encoding="utf-8")), encoding="utf-8")
