from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import release_kit
from release_kit.cli import cli
from tests.readme import README, with_generated

ROOT = README.parent


def test_generated_parts_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_generated(text) == text, "run `make readme`"


def test_every_command_is_a_function_and_is_told() -> None:
    text = README.read_text(encoding="utf-8")
    alone = {name for name, command in _commands() if " " not in name}
    # `redact` is a function for a project and one for data outside of any; so is `leaks`, for one
    # project and for two.
    assert sorted({*alone, "redact_data", "compare_leaks"}) == sorted(release_kit.__all__)
    for name in release_kit.__all__:
        assert callable(getattr(release_kit, name))
    for name, _ in _commands():
        assert f"release-kit {name}" in text, f"README.md does not show `release-kit {name}`"


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command, those of a group after the group's name."""
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            assert command.help, name
            yield from ((f"{name} {word}", one) for word, one in command.commands.items())
        else:
            yield name, command


def test_every_option_and_argument_is_explained() -> None:
    for name, command in _commands():
        assert command.help, name
        for parameter in command.params:
            words = parameter.human_readable_name.strip("[]").split(" | ")
            explained = getattr(parameter, "help", "") or all(
                word.removesuffix("...") in (command.help or "") for word in words
            )
            assert explained, f"{name} {parameter.name}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_paths_that_the_pages_name_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:release_kit|policies|templates|schemas|tests)/[\w./*<>-]*)`", text)
    assert named
    for path in named:
        if "<" in path:
            continue
        assert list(ROOT.glob(path.rstrip("/"))), f"{page} names {path}"


def test_targets_that_the_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`make (\w+)`", (ROOT / page).read_text(encoding="utf-8")):
            assert f"\n{target}:" in makefile, f"{page} names make {target}"


def test_the_example_for_data_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = README.read_text(encoding="utf-8")
    (example,) = (
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "scan" in code
    )
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a.jsonl").write_text('{"text": "dry"}\n{"text": "To jane.roe@example.com"}\n')
    exec(example, {})
    assert capsys.readouterr().out.splitlines() == [
        "a.jsonl {'EMAIL_ADDRESS': 1} [2]",
        "True {'EMAIL_ADDRESS': 1}",
    ]
    assert Path("clean/a.jsonl").read_text().endswith('{"text": "To ********************"}\n')


def test_ci_runs_the_readme_test_command_and_nothing_else() -> None:
    lines = Path(ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
