"""The house rules: form, types, layers, and what may not stand in the code."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.obligations import _PROOFS
from release_kit.licensing.policy import load_policy
from release_kit.licensing.verdicts import _upstream_facts
from release_kit.release import read_release
from release_kit.training.tasks import TASKS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "release_kit"


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("lint-imports",),
    ],
    ids=" ".join,
)
def test_tools_are_content(command: tuple[str, ...]) -> None:
    tool, *arguments = command
    path = Path(sys.executable).parent / tool
    done = subprocess.run(
        [str(path), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def _docstrings(tree: ast.Module) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.add(id(statement.value))
    return found


def test_no_license_name_stands_in_code() -> None:
    names = set()
    for license in load_licenses().values():
        if license.kind == "license":
            names |= {license.id.lower(), license.spdx_id.lower(), license.name.lower()} - {""}
    for path, tree in _modules():
        prose = _docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in prose:
                assert str(node.value).lower() not in names, f"{path}:{node.lineno}"


def test_only_the_command_line_prints_or_exits() -> None:
    # The question is asked in a process of its own, whose answer goes out by print.
    allowed = {PACKAGE / "demonstration" / "ask.py", PACKAGE / "publishing/rehearsal/server.py"}
    for path, tree in _modules():
        if (ROOT / path).is_relative_to(PACKAGE / "cli") or ROOT / path in allowed:
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in {"print", "input", "sys.exit", "click.echo"}, path


def test_every_module_and_package_says_what_it_is() -> None:
    for path, tree in _modules():
        assert ast.get_docstring(tree), path


def _schema(name: str) -> Any:
    return json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))


def test_schemas_and_code_know_the_same_words(audited_project: Path) -> None:
    release, policy = _schema("release")["properties"], _schema("policy")
    assert set(release["training"]["properties"]["task"]["enum"]) == set(TASKS)
    proofs = policy["properties"]["obligations"]["properties"]["proofs"]["additionalProperties"]
    assert set(proofs["enum"]) == {*_PROOFS, "license-verdict"}
    said = read_release(audited_project)
    facts = _upstream_facts(said, said.lineage[0])
    rule = policy["properties"]["rules"]["items"]["properties"]
    assert set(rule["when"]["properties"]) <= set(facts)
    conditions = set(_schema("license")["$defs"]["condition_kind"]["enum"])
    assert set(load_policy().proofs) <= conditions


def test_every_schema_is_closed() -> None:
    def objects(schema: object) -> Iterator[dict[str, object]]:
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("type") is not None:
                yield schema
            for value in schema.values():
                yield from objects(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from objects(value)

    for path in sorted((ROOT / "schemas").glob("*.json")):
        for schema in objects(json.loads(path.read_text(encoding="utf-8"))):
            assert schema.get("additionalProperties") is False, (path.name, sorted(schema))
