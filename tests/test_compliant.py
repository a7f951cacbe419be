"""Releases on real licenses, through the real stages: compliant, or with one duty not done.

The tiny project is trained once; each release is a copy of it whose lineage, names and license
texts are those of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import release_kit
from release_kit import pipeline
from release_kit.auditing.checks import personal_data
from release_kit.auditing.findings import Verdict
from release_kit.cards import visible_text
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.texts import carries
from tests.bundles import bundle, seal, stamp
from tests.licensing.own_licenses import (
    OWN,
    OWN_ATTACHMENT,
    OWN_TEXT,
    as_fingerprint,
    own_license,
    own_policy,
    text_or_skip,
)
from tests.projects import copy_project, edit

Change = Callable[[Path], object]

BASE = "licenses/acme--tiny-bert"
_DATA = "    - id: acme/topic-notes\n      license: cc-by-4.0"


@pytest.fixture(scope="module", autouse=True)
def _detector_loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personal_data, "load_detector", cache(personal_data.load_detector))
        yield


def _release(project: Path, *changes: tuple[str, str]) -> None:
    for old, new in changes:
        edit(project / "release.yaml", old, new)


def _license(license_id: str) -> tuple[str, str]:
    return ('version: "1.0.0"\n  license: apache-2.0', f'version: "1.0.0"\n  license: {license_id}')


def _base(license_id: str, more: str = "") -> tuple[str, str]:
    return ("tiny-bert\n      license: apache-2.0", f"tiny-bert\n      license: {license_id}{more}")


def _named(prefix: str) -> tuple[tuple[str, str], ...]:
    return (
        ("repo_id: acme/topics", f"repo_id: acme/{prefix}-topics"),
        ("title: Topic Classifier", f"title: {prefix} Topic Classifier"),
    )


def _text(project: Path, license_id: str, name: str = "LICENSE") -> None:
    """Put the license's text beside the weights, as its model would have it."""
    (project / "base" / name).write_text(text_or_skip(license_id), encoding="utf-8")


def _apache(project: Path) -> None:
    _text(project, "apache-2.0")


_REVISION = "\n      revision: 0a1b2c"


def _openrail(project: Path) -> None:
    _text(project, "bigscience-openrail-m")
    _release(project, _license("bigscience-openrail-m"), _base("bigscience-openrail-m", _REVISION))


def _llama(project: Path) -> None:
    _text(project, "llama3.1")
    _release(
        project,
        *_named("Llama"),
        _license("llama3.1"),
        _base("llama3.1"),
        ("kind: company", "kind: company\n  monthly_active_users: 12"),
    )


def _gemma(project: Path) -> None:
    _text(project, "gemma")
    _release(project, _license("gemma"), _base("gemma"))


_OWN_SENTENCE = "Acme is licensed under the Acme Community License, Copyright © Acme."
_OWN_CONDITIONS: tuple[dict[str, Any], ...] = (
    {"kind": "include-license-copy"},
    {"kind": "include-notice-text", "prescribed_text": _OWN_SENTENCE},
    {"kind": "display-statement", "prescribed_text": "Made with Acme"},
    {"kind": "accept-use-policy", "url": "https://example.org/acme/use-policy"},
    {
        "kind": "pass-on-use-restrictions",
        "mode": "at-least-the-same",
        "attachment": {"title": "Attachment A", **as_fingerprint(OWN_ATTACHMENT)},
    },
    {"kind": "registration"},
)
_ACT = """
      acts:
        - {kind: registration, by: Legal, on: "2026-11-01", evidence: ticket 7}"""


def _own(project: Path) -> None:
    """A license of the user's own, which keeps some countries out."""
    limit = {
        "kind": "territory-exclusion",
        "section": "3",
        "fact": "No rights there.",
        "territory": ["EU", "KR"],
    }
    downstream = {"value": "own-terms-plus-restrictions", "section": "1"}
    own = own_license(*_OWN_CONDITIONS, limitations=[limit], downstream_license=downstream)
    own_policy(project, own)
    _release(
        project,
        _license(OWN),
        _base(OWN, _ACT),
        ("visibility: public", "visibility: public\n  gating: manual"),
        ("kind: company", "kind: company\n  seat: US"),
        ("privacy:", "policy: policy.yaml\nprivacy:"),
    )


def _share_alike(project: Path) -> None:
    data = _DATA.replace("cc-by-4.0", "cc-by-sa-4.0")
    _release(project, _license("cc-by-sa-4.0"), (_DATA, data))


_ADAPTER = """
  adapters:
    - id: acme/style-adapter
      relation: weights-derived
      license: mit
      source: https://example.org/style-adapter
      attribution: Style adapter, copyright Acme.
  datasets:"""


def _adapter(project: Path) -> None:
    _release(
        project,
        _base("apache-2.0", "\n      relation: adapter-delta"),
        ("\n  datasets:", _ADAPTER),
        ("  epochs: 3", "  method: {kind: lora, ship: adapter}\n  epochs: 20"),
    )
    for stage in (release_kit.train, release_kit.evaluate, pipeline.leaks):
        stage(project)


_SECOND = """
    - id: acme/second-bert
      license: apache-2.0
      source: https://example.org/second-bert
      attribution: Second BERT, copyright Acme.
      changes: It was merged with the other.
  datasets:"""


def _merge(project: Path) -> None:
    _text(project, "apache-2.0")
    _release(project, ("\n  datasets:", _SECOND))


RELEASES: dict[str, Callable[[Path], None]] = {
    "apache": _apache,
    "openrail": _openrail,
    "llama": _llama,
    "gemma": _gemma,
    "own": _own,
    "share-alike": _share_alike,
    "adapter": _adapter,
    "merge": _merge,
}

_BUILT: dict[str, Path] = {}


@pytest.fixture
def released(
    request: pytest.FixtureRequest, audited_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The release of a case, built once; shared, so tests look and do not touch."""
    name = request.param
    if name not in _BUILT:
        project = copy_project(audited_project, tmp_path_factory.mktemp(name) / "project")
        RELEASES[name](project)
        release_kit.build(project)
        _BUILT[name] = project
    return _BUILT[name]


@pytest.mark.parametrize("released", RELEASES, indirect=True)
def test_a_compliant_release_passes(released: Path) -> None:
    report = release_kit.audit(released)
    assert report.findings == ()
    assert report.verdict is Verdict.PASS
    assert report.examined["obligations"] >= 3


def _drop(path: str) -> Change:
    def change(project: Path) -> None:
        (bundle(project) / path).unlink()
        seal(project)

    return change


def _drop_licenses(project: Path) -> None:
    """Leave LICENSE, the license of another kind, and take the copies of the base's away."""
    for path in (bundle(project) / BASE).glob("LICENSE*"):
        path.unlink()
    seal(project)


def _cut(path: str, words: str) -> Change:
    def change(project: Path) -> None:
        edit(bundle(project) / path, words, "")
        seal(project)

    return change


def _declared(*changes: tuple[str, str]) -> Change:
    """Change release.yaml and build again: what is missing is not for the build to write."""

    def change(project: Path) -> None:
        _release(project, *changes)
        release_kit.build(project)

    return change


@dataclass(frozen=True)
class Lapse:
    """One duty that was not done, and the only finding of the audit."""

    name: str
    change: Change
    clause: str
    rule: str = "obligation-unmet"
    path: str = "release.yaml"
    also: str = ""
    """Another clause that asks for the very same."""


_NOTICE_TEXT = ("include-notice-text", "obligation-unmet", "NOTICE")
_CHANGES = "      changes: All weights were fine-tuned.\n"

LAPSES: dict[str, tuple[Lapse, ...]] = {
    "apache": (
        # Its text asks twice for the notices.
        Lapse(
            "notice of the base",
            _drop(f"{BASE}/NOTICE"),
            "carry-upstream-notice",
            path=BASE,
            also="retain-notices",
        ),
        Lapse("changes", _declared((_CHANGES, "")), "state-changes"),
        Lapse(
            "credit of the data", _cut("NOTICE", "copyright Acme."), "attribution", path="NOTICE"
        ),
        Lapse("license", _drop("LICENSE"), "", "license-file", "LICENSE"),
    ),
    "openrail": (
        Lapse(
            "restrictions",
            _cut("USE_POLICY.md", "To defame, disparage or otherwise harass others"),
            "pass-on-use-restrictions",
            path="USE_POLICY.md",
        ),
        Lapse("revision", _declared((_REVISION, "")), "use-latest-version"),
    ),
    "llama": (
        Lapse(
            "display",
            _cut("README.md", "**Built with Llama**"),
            "display-statement",
            path="README.md",
        ),
        Lapse("sentence", _cut("NOTICE", "©"), *_NOTICE_TEXT),
        Lapse(
            "use policy",
            _cut("USE_POLICY.md", "https://llama.meta.com/llama3_1/use-policy"),
            "accept-use-policy",
            path="USE_POLICY.md",
        ),
        Lapse("name", _declared(("acme/Llama-topics", "Llama-acme/topics")), "name-prefix"),
        Lapse("title", _declared(("title: Llama Topic", "title: Topic")), "name-prefix"),
    ),
    "gemma": (
        Lapse("sentence", _cut("NOTICE", " subject to"), *_NOTICE_TEXT),
        Lapse("changes", _declared((_CHANGES, "")), "state-changes"),
        Lapse(
            "notification",
            _cut(
                "USE_POLICY.md",
                "(Gemma Terms of Use, section 3.1, first bullet, for acme/tiny-bert)",
            ),
            "notify-recipients",
            path="USE_POLICY.md",
        ),
    ),
    "own": (
        Lapse("sentence", _cut("NOTICE", "Community License, Copyright"), *_NOTICE_TEXT),
        Lapse(
            "display",
            _cut("README.md", "**Made with Acme**"),
            "display-statement",
            path="README.md",
        ),
        Lapse("registration", _declared((_ACT, "")), "registration"),
        Lapse(
            "attachment",
            _cut("USE_POLICY.md", "to spy on people;"),
            "pass-on-use-restrictions",
            path="USE_POLICY.md",
        ),
        Lapse(
            "switch",
            _cut("README.md", "extra_gated_eu_disallowed: true\n"),
            "territory-exclusion",
            path="README.md",
        ),
        Lapse("gate", _declared(("\n  gating: manual", "")), "territory-exclusion"),
    ),
    "share-alike": (
        Lapse(
            "other license",
            _declared(_license("cc-by-sa-4.0")[::-1]),
            "same-license-broken",
            "license-denied",
        ),
        Lapse(
            "credit",
            _cut("NOTICE", "Topic notes by the Acme test team"),
            "attribution",
            path="NOTICE",
        ),
        Lapse(
            "changes", _cut("NOTICE", "Personal data was replaced"), "state-changes", path="NOTICE"
        ),
    ),
    "adapter": (
        Lapse(
            "credit",
            _cut("NOTICE", "Style adapter, copyright Acme."),
            "retain-notices",
            path="NOTICE",
        ),
        Lapse(
            "copy",
            _drop("licenses/acme--style-adapter/LICENSE"),
            "include-license-copy",
            path="licenses/acme--style-adapter",
        ),
    ),
    "merge": (
        Lapse(
            "changes of one",
            _cut("NOTICE", "It was merged with the other."),
            "state-changes",
            path="NOTICE",
        ),
        Lapse(
            "one base in the card",
            _cut("README.md", "- acme/second-bert\n"),
            "",
            "card-incomplete",
            "README.md",
        ),
    ),
}


@pytest.mark.parametrize(
    ("released", "lapse"),
    [(name, lapse) for name, lapses in LAPSES.items() for lapse in lapses],
    indirect=["released"],
    ids=lambda value: value.name if isinstance(value, Lapse) else value,
)
def test_one_duty_less_blocks_with_that_finding_alone(
    released: Path, lapse: Lapse, tmp_path: Path
) -> None:
    project = copy_project(released, tmp_path / "project")
    lapse.change(project)
    stamp(project)
    report = release_kit.audit(project)
    told = {(finding.rule, finding.clause, finding.path) for finding in report.findings}
    clauses = {lapse.clause, lapse.also or lapse.clause}
    assert told == {(lapse.rule, clause, lapse.path) for clause in clauses}
    assert len(report.findings) == len(clauses)
    assert report.verdict is Verdict.BLOCK


def test_every_release_has_its_lapses() -> None:
    assert LAPSES.keys() == RELEASES.keys()


@pytest.mark.parametrize("released", ["openrail", "llama", "gemma"], indirect=True)
def test_license_travels_from_the_folder_of_the_base(released: Path) -> None:
    own = (released / "base" / "LICENSE").read_bytes()
    root = bundle(released)
    assert (root / BASE / "LICENSE").read_bytes() == own
    assert (root / BASE / "NOTICE").read_bytes() == (released / "base" / "NOTICE").read_bytes()
    assert [path.parent.name for path in root.glob("licenses/*/LICENSE")] == [
        "acme--tiny-bert",
        "acme--topic-notes",
    ]


@pytest.mark.parametrize("released", ["openrail", "gemma"], indirect=True)
def test_reader_of_the_use_policy_finds_the_license_s_own_words(released: Path) -> None:
    policy = (bundle(released) / "USE_POLICY.md").read_text(encoding="utf-8")
    report = release_kit.audit(released)
    (base,) = (part for part in report.lineage if part.id == "acme/tiny-bert")
    for condition in load_licenses()[base.license].conditions:
        if condition.kind == "pass-on-use-restrictions":
            assert condition.attachment
            assert carries(visible_text(policy), [condition.attachment.fingerprint])
            assert f"## {condition.attachment.title}" in policy


@pytest.mark.parametrize("released", ["own"], indirect=True)
def test_release_under_a_license_of_ones_own_is_whole(released: Path) -> None:
    root = bundle(released)
    assert (root / "LICENSE").read_text(encoding="utf-8") == OWN_TEXT
    data = ModelCard.load(root / "README.md").data.to_dict()
    assert (data["license"], data["license_name"], data["license_link"]) == (
        "other",
        OWN,
        "LICENSE",
    )
    assert data["extra_gated_eu_disallowed"] is True
    assert "EU, KR" in data["extra_gated_prompt"]
    assert data["extra_gated_fields"]["Country"] == "country"


@pytest.mark.parametrize(
    ("released", "bases", "relation"),
    [
        ("apache", ["acme/tiny-bert"], "finetune"),
        ("adapter", ["acme/tiny-bert"], "adapter"),
        ("merge", ["acme/tiny-bert", "acme/second-bert"], "merge"),
    ],
    indirect=["released"],
)
def test_card_says_what_was_done_with_the_bases(
    released: Path, bases: list[str], relation: str
) -> None:
    data = ModelCard.load(bundle(released) / "README.md").data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (bases, relation)
