"""What `build` writes discharges each debt, and each near miss of it is noticed."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.bundle import read_bundle
from release_kit.documents.card import model_card
from release_kit.documents.terms import write_terms
from release_kit.errors import Unfinished, UnusableInput
from release_kit.licensing import proofs as module
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.lineage import Lineage, Part
from release_kit.licensing.policy import Policy, load_policy
from release_kit.licensing.proofs import Gap, begins, gaps, release_license_text
from release_kit.release import TrainingPlan, Upstream
from tests.documents.facts import receipts
from tests.documents.markdown import HOSTILE
from tests.licensing.lineages import DAY, act, release, upstream
from tests.licensing.own_licenses import (
    OWN,
    OWN_ATTACHMENT,
    OWN_TEXT,
    OWN_URL,
    as_fingerprint,
    own_folder,
    own_license,
    text_or_skip,
)

POLICY = load_policy()
PLAN = TrainingPlan("text-classification", "text", "label", 1, 1, 0.1, 32, 0.1, 0.2, 0)
PART = "licenses/acme--part"
CREDIT = "Part by the Acme team, copyright Acme."

Change = Callable[[Path], object]


def _judged(license: str, *lineage: Upstream, policy: Policy = POLICY, **said: Any) -> Judgement:
    subject = replace(release(license, *lineage, **said), training=PLAN)
    return judge(subject, policy, day=DAY)


def _own(tmp_path: Path, *conditions: dict[str, Any], **more: Any) -> Policy:
    """Return the baseline with the user's own license, of which `conditions` are true."""
    return _with(tmp_path, own_license(*conditions, **more))


def _with(tmp_path: Path, *licenses: dict[str, Any]) -> Policy:
    key = json.dumps(licenses)
    if key not in _POLICIES:
        folder = own_folder(tmp_path / "own", *licenses)
        _POLICIES[key] = replace(POLICY, licenses=load_licenses(folder))
    return _POLICIES[key]


_POLICIES: dict[str, Policy] = {}
"""By their licenses: many tests have the same, and reading them takes longer than the test."""


def _built(folder: Path, judgement: Judgement) -> Path:
    """Write what a build writes about terms."""
    root = folder / "bundle"
    root.mkdir()
    write_terms(judgement, root)
    card = model_card(judgement, receipts(judgement.release))
    (root / "README.md").write_text(card, encoding="utf-8")
    return root


def _gaps(judgement: Judgement, root: Path) -> tuple[Gap, ...]:
    found = gaps(judgement, read_bundle(root))
    for gap in found:
        assert gap.missing
        assert gap.fix
        assert gap.obligation.cite.startswith(gap.obligation.license.name)
    return found


def _unmet(judgement: Judgement, root: Path) -> list[tuple[str, str]]:
    """Return the proof that fails and the file that should show it, for each gap."""
    return [(gap.obligation.proof, gap.path) for gap in _gaps(judgement, root)]


def _folder(tmp_path: Path, **files: str | bytes) -> Path:
    folder = tmp_path / "part"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def _replaced(path: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text
        (root / path).write_text(text.replace(old, new), encoding="utf-8")

    return change


def _cut(path: str, words: str) -> Change:
    return _replaced(path, words, "")


def _drop(path: str) -> Change:
    return lambda root: (root / path).unlink()


def _moved(path: str, target: str) -> Change:
    def change(root: Path) -> None:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / target)

    return change


def _rewrapped(path: str) -> Change:
    def change(root: Path) -> None:
        words = (root / path).read_text(encoding="utf-8").split()
        lines = [" " + " ".join(words[at : at + 7]) for at in range(0, len(words), 7)]
        (root / path).write_bytes("\r\n".join(lines).encode())

    return change


def _appended(path: str, more: bytes = b" ") -> Change:
    def change(root: Path) -> None:
        (root / path).write_bytes((root / path).read_bytes() + more)

    return change


def _nothing(_: Path) -> None: ...


def _written(path: str, content: bytes) -> Change:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return change


def _both(*changes: Change) -> Change:
    def change(root: Path) -> None:
        for one in changes:
            one(root)

    return change


# license-text

COPY = f"{PART}/LICENSE"
_TEXT = "license-text"


@pytest.mark.parametrize(
    "change",
    [
        _nothing,
        _rewrapped(COPY),
        _replaced(COPY, "You may use", "you may USE"),
        _replaced(
            COPY, "Acme Community License\n", "Copyright 2026 Acme\n# Acme Community License\n"
        ),
        _moved(COPY, "licenses/THIRD-PARTY.txt"),
        _moved(COPY, "licenses/deep/er/any.md"),
        # A neighbour in another encoding keeps nobody from reading this one.
        _written("licenses/a/NOTICE", "Café".encode("latin-1")),
        _appended(COPY, "\nÜber uns\n".encode("latin-1")),
    ],
)
def test_license_text_is_there_whatever_it_is_called(change: Change, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == []


@pytest.mark.parametrize(
    "change",
    [
        _drop(COPY),
        _replaced(COPY, "does not exclude", "does exclude"),
        _replaced(COPY, "change and share", "share and change"),
        _cut(COPY, "2. to sell"),
        _written(COPY, b"Acme Community License\n"),
        _moved(COPY, "LICENSE.acme"),
        _moved(COPY, "docs/licenses/LICENSE"),
        _moved(COPY, "NOTICE.txt"),
    ],
)
def test_license_text_that_is_not_the_text_is_a_gap(change: Change, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == [(_TEXT, PART)]


def test_license_of_the_release_serves_as_the_copy(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"})
    judgement = _judged(OWN, upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    (root / COPY).unlink()
    assert _unmet(judgement, root) == []
    (root / "LICENSE").unlink()
    assert _unmet(judgement, root) == [(_TEXT, PART)]


def test_one_copy_serves_all_parts(tmp_path: Path) -> None:
    parts = [upstream("mit", id="acme/one"), upstream("mit", id="acme/two")]
    judgement = _judged("apache-2.0", *parts)
    root = _built(tmp_path, judgement)
    assert [p.name for p in (root / "licenses").iterdir()] == ["acme--one"]
    assert _unmet(judgement, root) == []
    (root / "licenses/acme--one/LICENSE").unlink()
    assert _unmet(judgement, root) == [
        (_TEXT, "licenses/acme--one"),
        (_TEXT, "licenses/acme--two"),
    ]


@pytest.mark.parametrize(
    ("change", "met"),
    [(_nothing, True), (_appended(COPY), False), (_drop(COPY), False), (_rewrapped(COPY), False)],
)
def test_of_a_text_that_nobody_knows_the_upstreams_copy_goes_along_byte_for_byte(
    change: Change, met: bool, tmp_path: Path
) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"}, texts=[])
    part = upstream(OWN, path=_folder(tmp_path, LICENSE=b"\xef\xbb\xbfNobody\r\nknows this.\n"))
    judgement = _judged("mit", part, policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [(_TEXT, PART)])


def test_a_text_that_nobody_knows_and_nobody_brought_is_a_gap(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"}, texts=[])
    judgement = _judged("mit", upstream(OWN, path=_folder(tmp_path)), policy=policy)
    root = _built(tmp_path, judgement)
    (gap,) = _gaps(judgement, root)
    assert "came without" in gap.missing
    assert "Put the LICENSE of acme/part into its folder" in gap.fix


def test_an_altered_copy_beside_the_weights_is_not_the_text(tmp_path: Path) -> None:
    """That it was altered may be waived; the text is still owed."""
    policy = _own(tmp_path, {"kind": "include-license-copy"}, texts=[as_fingerprint(OWN_TEXT)])
    altered = OWN_TEXT.replace("does not exclude", "excludes")
    part = upstream(OWN, path=_folder(tmp_path, LICENSE=altered))
    judgement = _judged("apache-2.0", part, policy=policy)
    assert "license-text-altered" in {doubt.rule for doubt in judgement.doubts}
    assert release_license_text(_judged(OWN, part, policy=policy)) is None
    root = _built(tmp_path, judgement)
    assert (root / COPY).read_text(encoding="utf-8") == altered
    (gap,) = _gaps(judgement, root)
    assert gap.obligation.proof == _TEXT
    assert "nor does LICENSE of acme/part" in gap.missing


def test_the_text_is_carried_beside_an_altered_copy(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-license-copy"})
    part = upstream(OWN, path=_folder(tmp_path, LICENSE=OWN_TEXT.replace("does not", "does")))
    judgement = _judged("apache-2.0", part, policy=policy)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == []
    assert (root / f"{COPY}.{OWN}").read_text(encoding="utf-8") == OWN_TEXT


def test_a_package_that_lost_its_text_is_a_gap_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgement = _judged("apache-2.0", upstream("mit"))
    root = _built(tmp_path, judgement)
    (root / COPY).unlink()

    def lost(_: object) -> str:
        raise Unfinished("the text of mit is not at hand", hint="pip install it")

    monkeypatch.setattr(module, "license_text", lost)
    (gap,) = _gaps(judgement, root)
    assert (gap.missing, gap.fix) == ("the text of mit is not at hand", "pip install it")


def test_mit_of_our_own_names_us() -> None:
    text = release_license_text(_judged("mit"))
    assert text
    assert text.startswith("Copyright (c) Acme Tests\n\nPermission is hereby granted")


# notice-text and produced-work-notice

SENTENCE = "Acmé 3.1 is licensed under the License, Copyright © Acme, Inc. All Rights Reserved."


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_rewrapped("NOTICE"), True),
        (_replaced("NOTICE", SENTENCE, unicodedata.normalize("NFD", SENTENCE)), True),
        (_replaced("NOTICE", "licensed under", "licensed\n\tunder"), True),
        (_replaced("NOTICE", SENTENCE, f"“{SENTENCE}”"), True),
        (_drop("NOTICE"), False),
        (_moved("NOTICE", "USE_POLICY.md"), False),
        (_cut("NOTICE", SENTENCE), False),
        (_replaced("NOTICE", "©", "(c)"), False),
        (_replaced("NOTICE", "©", "©\u200b"), False),
        (_replaced("NOTICE", "Acmé 3", "Acme 3"), False),
        (_replaced("NOTICE", "All Rights", "All rights"), False),
        (_replaced("NOTICE", "Reserved.", "Reserved"), False),
        (_replaced("NOTICE", "Inc. All", "Inc.All"), False),
        (_replaced("NOTICE", "3.1", "3.2"), False),
        (_replaced("NOTICE", "Acmé 3.1", "Acmé\n\n3.1"), False),
        (_replaced("NOTICE", "Acmé 3.1", "NotAcmé 3.1"), False),
    ],
)
def test_notice_sentence_is_exact(change: Change, met: bool, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "include-notice-text", "prescribed_text": SENTENCE})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("notice-text", "NOTICE")])


PRODUCED = "Contains information from NAME by WHO (SOURCE), made available here."


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_replaced("NOTICE", "from acme/part by", "from NAME by"), False),
        (_replaced("NOTICE", "from acme/part by", "from acme/part-2 by"), False),
        (_replaced("NOTICE", "by Acme Tests (https", "by (https"), False),
    ],
)
def test_notice_of_a_produced_work_names_the_database(
    change: Change, met: bool, tmp_path: Path
) -> None:
    fill = {"NAME": "upstream.id", "WHO": "organization.name", "SOURCE": "upstream.source"}
    condition = {"kind": "notice-for-produced-work", "prescribed_text": PRODUCED, "fill": fill}
    judgement = _judged("mit", upstream(OWN, "dataset"), policy=_own(tmp_path, condition))
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("produced-work-notice", "NOTICE")])


def test_a_name_that_is_filled_in_cannot_add_a_line_to_the_notice(tmp_path: Path) -> None:
    policy = _own(
        tmp_path,
        {
            "kind": "notice-for-produced-work",
            "prescribed_text": PRODUCED,
            "fill": {"WHO": "organization.name"},
        },
    )
    subject = replace(release("mit", upstream(OWN, "dataset")), training=PLAN)
    hostile = replace(subject.organization, name="Acme\n\nacme/more (dataset)")
    judgement = judge(replace(subject, organization=hostile), policy, day=DAY)
    root = _built(tmp_path, judgement)
    assert "\nacme/more" not in (root / "NOTICE").read_text(encoding="utf-8")
    assert _unmet(judgement, root) == []


# displayed


def _shown(words: str) -> Change:
    return _replaced("README.md", "**Built with Acme**", words)


@pytest.mark.parametrize(
    "change",
    [
        _nothing,
        _shown("*Built* **with** <u>Acme</u>"),
        _shown("Built\nwith\n  Acme"),
        _shown("# Topics. Built with Acme."),
        _shown("| a |\n| --- |\n| Built with Acme |"),
        _shown("- proudly (Built with Acme)"),
        _shown("[Built with Acme](https://example.org)"),
        _shown("Improved using Acme"),
        _shown("Made of Acmé &amp; co"),
        _shown(unicodedata.normalize("NFD", "Made of Acmé &amp; co")),
    ],
)
def test_displayed_words_are_seen_by_a_reader(change: Change, tmp_path: Path) -> None:
    judgement, root = _displaying(tmp_path)
    change(root)
    assert _unmet(judgement, root) == []


@pytest.mark.parametrize(
    "change",
    [
        _drop("README.md"),
        _moved("README.md", "docs/README.md"),
        _shown(""),
        _shown("<!-- Built with Acme -->"),
        _shown("```\nBuilt with Acme\n```"),
        _shown("    Built with Acme"),
        _shown("`Built with Acme`"),
        _shown("![Built with Acme](logo.png)"),
        _shown("<div hidden>Built with Acme</div>"),
        _shown('<span style="display:none">Built with Acme</span>'),
        _shown("<details><summary>More</summary>\n\nBuilt with Acme\n\n</details>"),
        _shown("~~Built with Acme~~"),
        _shown("Built with\n\nAcme"),
        _shown("| a | b |\n| --- | --- |\n| Built with | Acme |"),
        _shown("built with Acme"),
        _shown("Built with Acmee"),
        _shown("Built with Acme-like models"),
        _shown("Rebuilt with Acme"),
        _shown("NotBuilt with Acme"),
        _shown("Built with\u200b Acme"),
        _shown("Built by Acme"),
        _shown("improved using Acme"),
        _both(
            _shown(""),
            _replaced("README.md", "---\nlicense:", "---\nnote: Built with Acme\nlicense:"),
        ),
    ],
)
def test_displayed_words_that_a_reader_does_not_see_are_a_gap(
    change: Change, tmp_path: Path
) -> None:
    judgement, root = _displaying(tmp_path)
    change(root)
    assert _unmet(judgement, root) == [("displayed", "README.md")]


def _displaying(tmp_path: Path) -> tuple[Judgement, Path]:
    condition = {
        "kind": "display-statement",
        "prescribed_text": "Built with Acme",
        "alternatives": ["Improved using Acme", "Made of Acmé & co"],
    }
    judgement = _judged("mit", upstream(OWN), policy=_own(tmp_path, condition))
    return judgement, _built(tmp_path, judgement)


@pytest.mark.parametrize("words", ["Built_with_*Acme*", "`Acme` & <Acme>", "1. Acme", "[Acme](x)"])
def test_displayed_words_are_shown_letter_by_letter(words: str, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "display-statement", "prescribed_text": words})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    assert _unmet(judgement, _built(tmp_path, judgement)) == []


# name-prefix and name-forbidden


@pytest.mark.parametrize(
    ("repo_id", "title", "met"),
    [
        ("acme/Llama-3-topics", "Llama 3 topics", True),
        ("acme/Llama_3.topics", "Llama-3: topics", True),
        ("llama/Llama-3", "Llama 3", True),
        ("acme/Llama3-topics", "Llama 3 topics", False),
        ("acme/llama-3-topics", "Llama 3 topics", False),
        ("acme/LLAMA-3-topics", "Llama 3 topics", False),
        ("acme/topics-Llama-3", "Llama 3 topics", False),
        ("acme/topics", "Llama 3 topics", False),
        ("Llama-3-acme/topics", "Llama 3 topics", False),
        ("acme/Llama-3-topics", "topics on Llama 3", False),
        ("acme/Llama-3-topics", "llama 3 topics", False),
        ("acme/Llama-3-topics", "Meta Llama 3 topics", False),
    ],
)
def test_prefix_begins_the_models_name_and_its_title(
    repo_id: str, title: str, met: bool, tmp_path: Path
) -> None:
    policy = _own(tmp_path, {"kind": "name-prefix", "prescribed_text": "Llama 3"})
    judgement = _judged("mit", upstream(OWN), policy=policy, repo_id=repo_id, title=title)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == ([] if met else [("name-prefix", "")])


def test_fix_of_a_name_is_one_that_is_met(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "name-prefix", "prescribed_text": "Llama 3"})
    judgement = _judged("mit", upstream(OWN), policy=policy, repo_id="acme/topics", title="A b")
    root = _built(tmp_path, judgement)
    gaps = _gaps(judgement, root)
    assert [gap.fix for gap in gaps] == [
        "Set release.repo_id to acme/Llama-3-topics.",
        "Set documents.title to “Llama 3 A b”.",
    ]
    release = replace(
        judgement.release,
        repo_id="acme/Llama-3-topics",
        documents=replace(judgement.release.documents, title="Llama 3 A b"),
    )
    assert _gaps(replace(judgement, release=release), root) == ()


def test_title_is_free_where_the_policy_does_not_count_it(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "name-prefix", "prescribed_text": "Llama"})
    policy = replace(policy, name_of_the_model=("repo",))
    judgement = _judged("mit", upstream(OWN), policy=policy, repo_id="acme/Llama-x", title="Topics")
    assert _unmet(judgement, _built(tmp_path, judgement)) == []


@pytest.mark.parametrize(
    ("repo_id", "title", "met"),
    [
        ("acme/topics", "Topics", True),
        ("acme/topics-of-Zephyr-two", "Topics", True),
        ("zephyr-two/topics", "Topics", True),
        ("acme/zephyr", "Topics", True),
        ("acme/Zephyr-Two-topics", "Topics", False),
        ("acme/ZEPHYR_two", "Topics", False),
        ("acme/topics", "zephyr two: topics", False),
    ],
)
def test_forbidden_name_leads_neither_the_model_nor_its_title(
    repo_id: str, title: str, met: bool, tmp_path: Path
) -> None:
    policy = _own(tmp_path, {"kind": "name-forbidden", "prescribed_text": "Zephyr Two"})
    judgement = _judged("mit", upstream(OWN), policy=policy, repo_id=repo_id, title=title)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == ([] if met else [("name-forbidden", "")])


@pytest.mark.parametrize("kind", ["name-prefix", "include-notice-text", "display-statement"])
def test_words_that_nobody_noted_are_asked_for(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableInput) as caught:
        _judged("mit", upstream(OWN), policy=_own(tmp_path, {"kind": kind}))
    assert "'prescribed_text' is missing" in str(caught.value.problems[0])


def test_begins_is_about_the_beginning_alone() -> None:
    assert begins("Qwen-x", "Qwen")
    assert not begins("-Qwen-x", "Qwen")


# use-policy-link

POLICY_URL = "https://example.org/acme/use-policy"


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_replaced("USE_POLICY.md", f"<{POLICY_URL}>", f"{POLICY_URL}."), True),
        (_replaced("USE_POLICY.md", POLICY_URL, POLICY_URL + "/v2"), False),
        (_replaced("USE_POLICY.md", POLICY_URL, POLICY_URL + "-v2"), False),
        (_replaced("USE_POLICY.md", f"<{POLICY_URL}>", f"<!-- {POLICY_URL} -->"), False),
        (_replaced("USE_POLICY.md", f"<{POLICY_URL}>", f"[it]({POLICY_URL})"), False),
        (_replaced("USE_POLICY.md", POLICY_URL, "https://example.org/acme/"), False),
        (_moved("USE_POLICY.md", "docs/USE_POLICY.md"), False),
    ],
)
def test_use_policy_is_named_by_its_address(change: Change, met: bool, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "accept-use-policy", "url": POLICY_URL})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("use-policy-link", "USE_POLICY.md")])


def test_use_policy_without_an_address_goes_along_word_by_word(tmp_path: Path) -> None:
    attachment = {"title": "Attachment A", **as_fingerprint(OWN_ATTACHMENT)}
    policy = _own(tmp_path, {"kind": "accept-use-policy", "attachment": attachment})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == []
    _replaced("USE_POLICY.md", "to spy on people", "to spy")(root)
    assert _unmet(judgement, root) == [("use-policy-link", "USE_POLICY.md")]


# restrictions

_QUOTED = "> You agree not to use the model:"


def _restricted(tmp_path: Path, license: str, *acts: str, **more: Any) -> tuple[Judgement, Path]:
    condition = {
        "kind": "pass-on-use-restrictions",
        "mode": "at-least-the-same",
        "attachment": {"title": "Attachment A", **as_fingerprint(OWN_ATTACHMENT)},
        **more,
    }
    twin = own_license(condition, id="acme-twin", texts=[as_fingerprint("Something else.")])
    policy = _with(tmp_path, own_license(condition), twin)
    part = upstream(OWN, acts=tuple(act(kind) for kind in acts))
    judgement = _judged(license, part, policy=policy)
    return judgement, _built(tmp_path, judgement)


def _in_comment(root: Path) -> None:
    text = (root / "USE_POLICY.md").read_text(encoding="utf-8")
    head, tail = text.split(_QUOTED)
    (root / "USE_POLICY.md").write_text(f"{head}<!--\n{_QUOTED}{tail}\n-->\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_rewrapped("USE_POLICY.md"), True),
        (_replaced("USE_POLICY.md", "\n> \xa0", "\n\xa0"), True),
        (_replaced("USE_POLICY.md", "to spy on", "to look at"), False),
        (_cut("USE_POLICY.md", "to spy on people;"), False),
        (_cut("USE_POLICY.md", "You agree not to use the model:"), False),
        (_in_comment, False),
        (_drop("USE_POLICY.md"), False),
    ],
)
def test_restrictions_are_passed_on_word_by_word(change: Change, met: bool, tmp_path: Path) -> None:
    judgement, root = _restricted(tmp_path, OWN)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("restrictions", "USE_POLICY.md")])


@pytest.mark.parametrize(
    ("license", "mode", "acts", "change", "met"),
    [
        # Under the very license its own clauses bind; under another LICENSE itself must.
        (OWN, "at-least-the-same", (), _nothing, True),
        ("mit", "at-least-the-same", (), _nothing, False),
        ("acme-twin", "at-least-the-same", (), _nothing, False),
        ("mit", "at-least-the-same", (), _appended("LICENSE", OWN_ATTACHMENT.encode()), True),
        ("mit", "at-least-the-same", (), _appended("LICENSE", OWN_URL.encode()), False),
        # Similar ones will do where the license says so and a person answers for it.
        ("mit", "same-or-similar", (), _nothing, False),
        ("mit", "same-or-similar", ("pass-on-use-restrictions",), _nothing, True),
        ("mit", "same-or-similar", ("registration",), _nothing, False),
        ("mit", "at-least-the-same", ("pass-on-use-restrictions",), _nothing, False),
    ],
)
def test_restrictions_bind_recipients(  # noqa: PLR0917
    license: str, mode: str, acts: tuple[str, ...], change: Change, met: bool, tmp_path: Path
) -> None:
    judgement, root = _restricted(tmp_path, license, *acts, mode=mode)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("restrictions", "LICENSE")])


def test_the_same_bytes_are_license_to_one_reader_and_a_comment_to_the_other(
    tmp_path: Path,
) -> None:
    judgement, root = _restricted(tmp_path, "mit")
    for path in ("LICENSE", "USE_POLICY.md"):
        (root / path).write_text(f"<!--\n{OWN_TEXT}\n-->\n", encoding="utf-8")
    assert _unmet(judgement, root) == [("restrictions", "USE_POLICY.md")]


def test_restrictions_that_stand_at_an_address_are_linked_to(tmp_path: Path) -> None:
    condition = {"kind": "pass-on-use-restrictions", "url": POLICY_URL}
    policy = _own(tmp_path, condition)
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == [("restrictions", "LICENSE")]
    _appended("LICENSE", f"\nKeep to {POLICY_URL}.\n".encode())(root)
    assert _unmet(judgement, root) == []
    _replaced("USE_POLICY.md", POLICY_URL, "the policy")(root)
    assert _unmet(judgement, root) == [("restrictions", "USE_POLICY.md")]


def test_restrictions_come_from_the_upstreams_own_copy(tmp_path: Path) -> None:
    attachment = {"title": "Attachment A", **as_fingerprint(OWN_ATTACHMENT)}
    policy = _own(
        tmp_path,
        {"kind": "pass-on-use-restrictions", "attachment": attachment},
        texts=[as_fingerprint(OWN_TEXT)],
    )
    for files, met in (({"LICENSE": OWN_TEXT}, True), ({}, False)):
        folder = tmp_path / f"{met}"
        folder.mkdir()
        part = upstream(OWN, path=_folder(folder, **files))
        judgement = _judged(OWN, part, policy=policy)
        unmet = _unmet(judgement, _built(folder, judgement))
        assert unmet == ([] if met else [("restrictions", "USE_POLICY.md")])


# recipients-told

_TOLD = "(Acme Community License, section 2.1, for acme/part)"


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_rewrapped("USE_POLICY.md"), True),
        (_cut("USE_POLICY.md", _TOLD), False),
        (_replaced("USE_POLICY.md", _TOLD, f"<!-- {_TOLD} -->"), False),
        # The other section begins with this one, and the other id as well.
        (
            _replaced("USE_POLICY.md", "section 2.1, for acme/part)", "section 2, for acme/part)"),
            False,
        ),
        (
            _replaced("USE_POLICY.md", "section 2.1, for acme/part)", "section 2.1, for acme/pa)"),
            False,
        ),
        (_replaced("USE_POLICY.md", "section 2.1, for acme/part)", "section 2.1)"), False),
    ],
)
@pytest.mark.parametrize(
    "kind", ["bind-users", "bind-recipients", "notify-recipients", "notice-of-use"]
)
def test_recipients_are_told_of_the_section_and_the_part(
    kind: str, change: Change, met: bool, tmp_path: Path
) -> None:
    policy = _own(tmp_path, {"kind": kind, "section": "2.1"})
    judgement = _judged("mit", upstream(OWN), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("recipients-told", "USE_POLICY.md")])


def test_telling_of_one_section_or_part_does_not_tell_of_another(tmp_path: Path) -> None:
    sections = ("3.1, first bullet", "3.1, first bullet; 3.2")
    conditions = [{"kind": "notify-recipients", "section": section} for section in sections]
    policy = _own(tmp_path, *conditions)
    parts = [upstream(OWN, id="acme/part"), upstream(OWN, id="acme/part-2")]
    judgement = _judged("mit", *parts, policy=policy)
    root = _built(tmp_path, judgement)
    assert _unmet(judgement, root) == []
    for part in parts:
        for section in sections:
            source = f"(Acme Community License, section {section}, for {part.id})"
            text = (root / "USE_POLICY.md").read_text(encoding="utf-8")
            _cut("USE_POLICY.md", source)(root)
            (gap,) = _gaps(judgement, root)
            told = (gap.obligation.part.upstream.id, gap.obligation.term.section)
            assert told == (part.id, section)
            (root / "USE_POLICY.md").write_text(text, encoding="utf-8")


# upstream-notices, attribution, change-statement


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_drop("NOTICE"), True),
        (_drop(f"{PART}/NOTICE"), False),
        (_drop(f"{PART}/COPYRIGHT.md"), False),
        (_appended(f"{PART}/NOTICE"), False),
        (_moved(f"{PART}/NOTICE", "licenses/NOTICE"), False),
    ],
)
@pytest.mark.parametrize("kind", ["carry-upstream-notice", "retain-notices"])
def test_upstreams_notices_go_along_byte_for_byte(
    kind: str, change: Change, met: bool, tmp_path: Path
) -> None:
    files = {"NOTICE": b"caf\xe9\r\n", "COPYRIGHT.md": "Acme", "config.json": "{}"}
    part = upstream(OWN, path=_folder(tmp_path, **files))
    judgement = _judged("mit", part, policy=_own(tmp_path, {"kind": kind}))
    root = _built(tmp_path, judgement)
    assert not (root / PART / "config.json").exists()
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("upstream-notices", PART)])


_ENTRY = (
    "  Source: https://example.org/acme/part\n"
    f"  Credit: {CREDIT}\n"
    f"  License: Acme Community License, {OWN_URL}\n"
)


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (_nothing, True),
        (_rewrapped("NOTICE"), True),
        (_replaced("NOTICE", _ENTRY, f"{CREDIT} (https://example.org/acme/part; {OWN_URL})"), True),
        (_cut("NOTICE", CREDIT), False),
        (_replaced("NOTICE", "copyright Acme", "by Acme"), False),
        (_replaced("NOTICE", "/acme/part\n", "/acme/\n"), False),
        (_replaced("NOTICE", "org/acme/part\n", "org/acme/part-10\n"), False),
        (_cut("NOTICE", OWN_URL), False),
        (_replaced("NOTICE", f"  Credit: {CREDIT}\n", f"\n{CREDIT}\n\n"), False),
        (_drop("NOTICE"), False),
    ],
)
@pytest.mark.parametrize(
    ("kind", "proof"), [("attribution", "attribution"), ("retain-notices", "upstream-notices")]
)
def test_credit_source_and_license_stand_in_one_paragraph(
    kind: str, proof: str, change: Change, met: bool, tmp_path: Path
) -> None:
    """An upstream that came without notices is credited by them."""
    judgement = _judged("mit", upstream(OWN), policy=_own(tmp_path, {"kind": kind}))
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [(proof, "NOTICE")])


_CHANGED = "  Changes: All of it was changed.\n"


@pytest.mark.parametrize(
    ("relation", "change", "met"),
    [
        ("weights-derived", _nothing, True),
        ("weights-derived", _rewrapped("NOTICE"), True),
        ("weights-derived", _cut("NOTICE", _CHANGED), False),
        ("weights-derived", _replaced("NOTICE", "All of it was", "It was"), False),
        ("weights-derived", _replaced("NOTICE", _CHANGED, f"\n{_CHANGED}"), False),
        ("adapter-delta", _cut("NOTICE", _CHANGED), False),
        ("weights-shipped", _cut("NOTICE", _CHANGED), True),
    ],
)
def test_changes_are_told_where_there_are_any(
    relation: str, change: Change, met: bool, tmp_path: Path
) -> None:
    policy = _own(tmp_path, {"kind": "state-changes"})
    judgement = _judged("mit", upstream(OWN, relation=relation), policy=policy)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == ([] if met else [("change-statement", "NOTICE")])


@pytest.mark.parametrize("kind", ["state-changes", "attribution"])
def test_what_is_said_of_one_part_is_not_said_of_another(kind: str, tmp_path: Path) -> None:
    """Both have the same sentences, and the id of one begins with that of the other."""
    parts = [upstream(OWN, id="acme/part"), upstream(OWN, id="acme/part-2")]
    judgement = _judged("mit", *parts, policy=_own(tmp_path, {"kind": kind}))
    root = _built(tmp_path, judgement)
    notice = (root / "NOTICE").read_text(encoding="utf-8")
    entries = notice.split("\n\n")
    assert len(entries) == 4
    for number, part in enumerate(parts, start=2):
        left = [entry for at, entry in enumerate(entries) if at != number]
        (root / "NOTICE").write_text("\n\n".join(left), encoding="utf-8")
        (gap,) = _gaps(judgement, root)
        assert gap.obligation.part.upstream.id == part.id


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("attribution", "attribution"),
        ("retain-notices", "attribution"),
        ("state-changes", "changes"),
    ],
)
def test_what_nobody_wrote_cannot_be_told(kind: str, field: str, tmp_path: Path) -> None:
    part = replace(upstream(OWN), **{field: ""})
    judgement = _judged("mit", part, policy=_own(tmp_path, {"kind": kind}))
    (gap,) = _gaps(judgement, _built(tmp_path, judgement))
    assert "nobody wrote" in gap.missing
    assert f"Write {field}" in gap.fix
    assert gap.path == ""


def test_every_credit_is_found_again(tmp_path: Path) -> None:
    """Whatever people write: the audit finds what the build wrote."""
    policy = _own(tmp_path, {"kind": "attribution"}, {"kind": "state-changes"})
    visible = [v for v in HOSTILE if v.strip() and not unicodedata.category(v[0]).startswith("C")]
    assert len(visible) > 80
    parts = [
        replace(upstream(OWN, id=f"acme/part{n}"), attribution=value, changes=f"{value} changed")
        for n, value in enumerate(visible)
        if not any(unicodedata.category(c) == "Cc" and c not in "\r\n\t" for c in value)
    ]
    judgement = _judged("mit", *parts, policy=policy)
    assert _unmet(judgement, _built(tmp_path, judgement)) == []


# revision-recorded, documentation-kept, act-recorded


@pytest.mark.parametrize(("revision", "met"), [("0a1b2c", True), ("", False)])
def test_revision_is_recorded(revision: str, met: bool, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "use-latest-version"})
    judgement = _judged("mit", upstream(OWN, revision=revision), policy=policy)
    unmet = _unmet(judgement, _built(tmp_path, judgement))
    assert unmet == ([] if met else [("revision-recorded", "")])


@pytest.mark.parametrize(
    ("files", "change", "unmet"),
    [
        ({"README.md": "# Part\n"}, _nothing, []),
        ({"README.md": "# Part\n"}, _drop(f"{PART}/README.md"), [PART]),
        ({"README.md": "# Part\n"}, _appended(f"{PART}/README.md"), [PART]),
        ({}, _nothing, [""]),
    ],
)
def test_documentation_is_kept(
    files: dict[str, str], change: Change, unmet: list[str], tmp_path: Path
) -> None:
    part = upstream("bigcode-openrail-m", path=_folder(tmp_path, LICENSE="", **files))
    judgement = _judged("bigcode-openrail-m", part)
    root = _built(tmp_path, judgement)
    change(root)
    assert _unmet(judgement, root) == [("documentation-kept", path) for path in unmet]


_ACTS = sorted(kind for kind, proof in POLICY.proofs.items() if proof == "act-recorded")


@pytest.mark.parametrize("kind", _ACTS)
def test_what_no_file_can_show_is_recorded(kind: str, tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": kind})
    (tmp_path / "bundle").mkdir()
    for acts, met in (((), False), ((kind,), True), (("display-statement",), False)):
        part = upstream(OWN, acts=tuple(act(done) for done in acts))
        judgement = _judged("mit", part, policy=policy)
        unmet = _unmet(judgement, tmp_path / "bundle")
        assert unmet == ([] if met else [("act-recorded", "")])


def test_what_is_planned_was_not_done(tmp_path: Path) -> None:
    policy = _own(tmp_path, {"kind": "registration"})
    (tmp_path / "bundle").mkdir()
    for on, met in (("2026-11-23", True), ("2026-11-24", False)):
        part = upstream(OWN, acts=(replace(act("registration"), on=on),))
        unmet = _unmet(_judged("mit", part, policy=policy), tmp_path / "bundle")
        assert unmet == ([] if met else [("act-recorded", "")])


# territory-gate

_SWITCH = "extra_gated_eu_disallowed: true\n"
_COUNTRY = "  Country: country\n"
_PUBLIC: dict[str, Any] = {"visibility": "public", "modalities": ("text", "image")}


def _limited(tmp_path: Path, *territory: str, **said: Any) -> tuple[Judgement, Path]:
    limit = {"kind": "territory-exclusion", "section": "9", "fact": "x", "territory": territory}
    policy = _own(tmp_path, limitations=[limit])
    judgement = _judged("mit", upstream(OWN), policy=policy, **{**_PUBLIC, **said})
    return judgement, _built(tmp_path, judgement)


def _front(old: str, new: str) -> Change:
    return _replaced("README.md", old, new)


_OPEN, _PRIVATE = {"gating": "open"}, {"gating": "open", "visibility": "private"}
_AUTOMATIC, _MANUAL = {"gating": "automatic"}, {"gating": "manual"}
_IN_THE_BODY = _both(_front(_SWITCH, ""), _appended("README.md", _SWITCH.encode()))


@pytest.mark.parametrize(
    ("territory", "said", "change", "unmet"),
    [
        (("EU",), _OPEN, _nothing, [""]),
        (("EU",), _PRIVATE, _nothing, []),
        (("EU",), _AUTOMATIC, _nothing, []),
        (("EU",), _MANUAL, _nothing, []),
        (("EU",), _MANUAL, _front(_COUNTRY, ""), []),
        (("EU",), _MANUAL, _front(_SWITCH, ""), ["README.md"]),
        (("EU",), _MANUAL, _front("disallowed: true", 'disallowed: "true"'), ["README.md"]),
        (("EU",), _MANUAL, _front("disallowed: true", "disallowed: false"), ["README.md"]),
        (("EU",), _MANUAL, _IN_THE_BODY, ["README.md"]),
        (("EU",), _MANUAL, _drop("README.md"), ["README.md"]),
        (("GB", "KR"), _OPEN, _nothing, [""]),
        (("GB", "KR"), _PRIVATE, _nothing, []),
        (("GB", "KR"), _AUTOMATIC, _nothing, ["README.md"]),
        (("GB", "KR"), _MANUAL, _nothing, []),
        (("GB", "KR"), _MANUAL, _front(_COUNTRY, ""), ["README.md"]),
        (("GB", "KR"), _MANUAL, _front(_COUNTRY, "  Country: text\n"), ["README.md"]),
        (("GB", "KR"), _MANUAL, _front(_COUNTRY, "  Where:\n    type: country\n"), []),
        (("EU", "GB"), _MANUAL, _nothing, []),
        (("EU", "GB"), _AUTOMATIC, _nothing, ["README.md"]),
        (("EU", "GB"), _MANUAL, _front(_SWITCH, ""), ["README.md"]),
    ],
)
def test_whoever_is_excluded_is_kept_out(
    territory: tuple[str, ...],
    said: dict[str, Any],
    change: Change,
    unmet: list[str],
    tmp_path: Path,
) -> None:
    judgement, root = _limited(tmp_path, *territory, **said)
    switched = _SWITCH in (root / "README.md").read_text(encoding="utf-8")
    assert switched == ("EU" in territory and said["gating"] != "open")
    change(root)
    assert _unmet(judgement, root) == [("territory-gate", path) for path in unmet]


@pytest.mark.parametrize(
    ("modalities", "owed"),
    [(("text",), False), (("text", "image"), True), ((), False)],
)
def test_limit_for_multimodal_models_gates_no_text_model(
    modalities: tuple[str, ...], owed: bool, tmp_path: Path
) -> None:
    said = {"repo_id": "acme/Llama-x", "title": "Llama x", "modalities": modalities}
    judgement = _judged("llama3.2", upstream("llama3.2"), **said)
    gates = [o for o in judgement.owed if o.proof == "territory-gate"]
    assert bool(gates) == owed


# the whole


def test_a_kind_that_the_policy_has_no_proof_for_is_a_gap(tmp_path: Path) -> None:
    for kind in sorted(POLICY.proofs):
        proofs = {key: proof for key, proof in POLICY.proofs.items() if key != kind}
        folder = tmp_path / kind
        folder.mkdir()
        policy = replace(_own_kind(kind), proofs=proofs)
        judgement = _judged("mit", upstream(OWN, "dataset"), policy=policy)
        (gap,) = gaps(judgement, read_bundle(folder))
        assert gap.missing == f"the policy names no proof for {kind}"
        assert gap.obligation.kind == kind


def _own_kind(kind: str) -> Policy:
    """Return the baseline with a license that asks for `kind` alone, without files."""
    own = POLICY.licenses["apache-2.0"]
    condition = replace(own.conditions[0], kind=kind, relations=())
    license = replace(own, id=OWN, conditions=(condition,), limitations=())
    return replace(POLICY, licenses={**POLICY.licenses, OWN: license})  # type: ignore[arg-type]


def test_every_proof_is_tried_here() -> None:
    """A proof without its name in a test of this module would be one that nothing checks."""
    text = Path(__file__).read_text(encoding="utf-8")
    lacking = [proof for proof in module._PROOFS if text.count(f'"{proof}"') == 0]
    assert lacking == []
    assert {*POLICY.proofs.values(), *POLICY.limitation_proofs.values()} - {module.VERDICT} == set(
        module._PROOFS
    )


def test_an_empty_bundle_owes_everything_that_a_file_can_show(tmp_path: Path) -> None:
    judgement = _judged("llama3.1", upstream("llama3.1"), repo_id="acme/Llama-x", title="Llama x")
    (tmp_path / "bundle").mkdir()
    shown = {gap.obligation.proof for gap in _gaps(judgement, tmp_path / "bundle")}
    assert shown == {o.proof for o in judgement.owed} - {"name-prefix", module.VERDICT}


@pytest.mark.parametrize("path", ["NOTICE", "USE_POLICY.md", "README.md", "LICENSE"])
def test_a_document_that_is_not_utf8_is_never_taken_for_read(path: str, tmp_path: Path) -> None:
    conditions = (
        {"kind": "include-license-copy"},
        {"kind": "include-notice-text", "prescribed_text": SENTENCE},
        {"kind": "accept-use-policy", "url": POLICY_URL},
        {"kind": "display-statement", "prescribed_text": "Built with Acme"},
    )
    judgement = _judged("mit", upstream(OWN), policy=_own(tmp_path, *conditions))
    root = _built(tmp_path, judgement)
    (root / path).write_bytes((root / path).read_bytes() + b"\xe9")
    with pytest.raises(UnicodeDecodeError):
        gaps(judgement, read_bundle(root))


# every license


LICENSES = [
    license_id for license_id, path in POLICY.licenses.paths.items()
    if "\nkind: license\n" in path.read_text(encoding="utf-8")
]  # fmt: skip
ROLES = {
    "weights-derived": "base_model",
    "adapter-delta": "adapter",
    "weights-shipped": "base_model",
    "trained-on-data": "dataset",
    "data-shipped": "dataset",
    "trained-on-outputs": "generator",
}


def _under(license_id: str, relation: str, folder: Path) -> Judgement:
    """Return a release under `license_id`, made from one upstream under it, that does its best."""
    license = POLICY.licenses[license_id]
    prefix = next((c.prescribed_text for c in license.conditions if c.kind == "name-prefix"), "")
    part = upstream(
        license_id,
        ROLES[relation],
        relation=relation,
        path=folder,
        revision="0a1b2c",
        acts=tuple(act(kind) for kind in _ACTS),
    )
    subject = release(
        license_id,
        part,
        repo_id=f"acme/{prefix.replace(' ', '-')}-topics".replace("/-", "/"),
        title=f"{prefix} topics",
        modalities=("text", "image"),
        purpose="research",
        kind="academic",
        gating="manual",
    )
    # What its files say is known: they hold the text.
    lineage = Lineage((Part(part, license_id, "text"),), ())
    return judge(replace(subject, training=PLAN), POLICY, day=DAY, lineage=lineage)


@pytest.mark.parametrize("license_id", LICENSES)
def test_a_release_under_the_very_license_owes_nothing_once_it_is_built(
    license_id: str, tmp_path: Path
) -> None:
    """No false alarm; and no condition that could be dropped without one."""
    text = text_or_skip(license_id)
    folder = _folder(tmp_path, LICENSE=text, **{"README.md": "# Part\n"})
    done: set[tuple[str, ...]] = set()
    for relation in ROLES:
        judgement = _under(license_id, relation, folder)
        owed = tuple(f"{o.kind} {o.term.section}" for o in judgement.owed)
        # Most relations owe the same.
        if owed in done:
            continue
        done.add(owed)
        where = tmp_path / relation
        where.mkdir()
        root = _built(where, judgement)
        assert _gaps(judgement, root) == ()
        _assert_all_of_it_is_needed(judgement, root)


def _assert_all_of_it_is_needed(judgement: Judgement, root: Path) -> None:
    """Take away what shows each debt, one at a time: each time that debt must be a gap."""
    for obligation in judgement.owed:
        shown_by = _SHOWN_BY.get(obligation.proof)
        if shown_by is None:
            continue
        kept = {path: (root / path).read_bytes() for path in read_bundle(root).files}
        for path in kept:
            if path.startswith(shown_by):
                (root / path).unlink()
        found = [gap.obligation for gap in _gaps(judgement, root)]
        assert obligation in found, (obligation.kind, obligation.cite)
        for path, content in kept.items():
            (root / path).write_bytes(content)


_SHOWN_BY: dict[str, tuple[str, ...]] = {
    "license-text": ("LICENSE", "licenses/"),
    "notice-text": ("NOTICE",),
    "produced-work-notice": ("NOTICE",),
    "upstream-notices": (f"{PART}/LICENSE",),
    "attribution": ("NOTICE",),
    "displayed": ("README.md",),
    "use-policy-link": ("USE_POLICY.md",),
    "restrictions": ("USE_POLICY.md",),
    "recipients-told": ("USE_POLICY.md",),
    "documentation-kept": (f"{PART}/README.md",),
    "territory-gate": ("README.md",),
}


# thousands of parts


@pytest.mark.slow
def test_two_thousand_parts_are_proved_one_by_one(tmp_path: Path) -> None:
    licenses = ("apache-2.0", "cc-by-4.0", "mit", "odc-by")
    parts = []
    for number in range(2000):
        folder = tmp_path / "parts" / str(number)
        folder.mkdir(parents=True)
        if number % 2:
            (folder / "NOTICE").write_text(f"Part {number}, copyright Acme.\n", encoding="utf-8")
        license_id = licenses[number % len(licenses)]
        parts.append(
            upstream(license_id, "dataset", id=f"acme/part{number}", path=folder, line=number + 1)
        )
    judgement = _judged("apache-2.0", *parts)
    root = _built(tmp_path, judgement)
    assert len(judgement.owed) > 4000
    assert _unmet(judgement, root) == []

    notice = (root / "NOTICE").read_text(encoding="utf-8")
    entry = next(e for e in notice.split("\n\n") if e.startswith("acme/part200 "))
    assert CREDIT in entry
    (root / "NOTICE").write_text(notice.replace(entry, ""), encoding="utf-8")
    found = {gap.obligation.part.upstream.id for gap in _gaps(judgement, root)}
    assert found == {"acme/part200"}
