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

from release_kit.auditing.engine import waivable_rules
from release_kit.auditing.findings import Severity, Verdict
from release_kit.licensing.facts import Situation, license_facts, part_facts, release_facts
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.policy import load_policy
from release_kit.licensing.policy_files import _NAMED_FACTS, DECISIONS, shipped_policies
from release_kit.licensing.proofs import _PROOFS, VERDICT
from release_kit.licensing.verdicts import Verdicts
from release_kit.training.tasks import TASKS
from tests.licensing.lineages import judged, upstream

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
            named = (license.id, license.spdx_id, license.name, *license.aliases)
            names |= {name.lower() for name in named if name}
    assert len(names) > 100
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


def test_schemas_and_code_know_the_same_words() -> None:
    release, policy, report = _schema("release"), _schema("policy"), _schema("report")
    assert set(release["properties"]["training"]["properties"]["task"]["enum"]) == set(TASKS)
    proofs = policy["properties"]["obligations"]["properties"]
    for place in ("proofs", "limitations"):
        assert set(proofs[place]["additionalProperties"]["enum"]) == {*_PROOFS, VERDICT}
    assert set(report["properties"]["verdict"]["enum"]) == set(Verdict)
    assert set(report["$defs"]["finding"]["properties"]["severity"]["enum"]) == set(Severity)
    part = report["properties"]["lineage"]["items"]["properties"]
    assert part["verdict"]["enum"] == list(DECISIONS)
    assert part["basis"]["enum"] == policy["$defs"]["bases"]["then"]["enum"]


def _license_words() -> dict[str, set[str]]:
    license = _schema("license")
    said = license["properties"]
    return {
        "permission": set(said["permissions"]["properties"]),
        "condition": set(license["$defs"]["condition_kind"]["enum"]),
        "limitation": set(said["limitations"]["items"]["properties"]["kind"]["enum"]),
    }


def test_a_policy_can_name_every_word_of_a_license_and_no_other() -> None:
    schema, words = _schema("policy"), _license_words()
    facts = set(schema["$defs"]["when"]["properties"])
    for subject in ("release", "upstream"):
        for group, known in words.items():
            start = f"{subject}.{group}."
            named = {fact.removeprefix(start) for fact in facts if fact.startswith(start)}
            assert named == known, start
    proofs = schema["properties"]["obligations"]["properties"]
    assert set(proofs["proofs"]["propertyNames"]["enum"]) == words["condition"]
    assert set(proofs["limitations"]["propertyNames"]["enum"]) == words["limitation"]
    grant = schema["properties"]["grants"]["items"]["properties"]
    assert set(grant["permits"]["items"]["enum"]) == words["permission"]
    assert set(grant["lifts"]["items"]["enum"]) == words["limitation"]
    assert set(grant["discharges"]["items"]["enum"]) == words["condition"]


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_condition_of_a_license_has_a_proof_in_the_policy(name: str) -> None:
    policy, words = load_policy(name), _license_words()
    assert set(policy.proofs) == words["condition"]
    assert set(policy.limitation_proofs) <= words["limitation"]
    assert set(policy.may_waive) <= waivable_rules()


def test_every_fact_that_a_rule_may_ask_for_can_be_looked_up() -> None:
    facts = set(_schema("policy")["$defs"]["when"]["properties"])
    made = judged("apache-2.0", upstream("cc-by-4.0", "dataset"))
    situation = Situation(made.release, made.parts, made.policy, made.day)
    (part,) = made.parts
    of_part = {**part_facts(situation, part), "upstream.reached": True}
    license = situation.license(part.license)
    terms = license_facts("upstream", license, made.release)
    verdicts = Verdicts(situation)
    about_part, about_release = verdicts._look_up(of_part, terms), verdicts._look_up({})
    for fact in sorted(facts):
        assert about_part(fact) is not None
        if not fact.startswith("upstream."):
            assert about_release(fact) is not None
    with pytest.raises(KeyError):
        about_part("upstream.colour")
    # What is worked out can be asked for; the id is a name, not a reason.
    assert {*of_part, *release_facts(situation)} - facts == {"upstream.id"}
    assert {*of_part, *release_facts(situation)} >= _NAMED_FACTS


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
