"""LICENSE, NOTICE and USE_POLICY say what the licenses of the lineage ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from release_kit.bundle import read_bundle
from release_kit.documents.rendering import one_line
from release_kit.licensing.licenses import license_text, load_licenses, normalized
from release_kit.release import Release
from tests.documents.facts import owed, release, terms
from tests.documents.markdown import HOSTILE, shown, structure, tokens

_MINE = '"1.0.0"\n  license: apache-2.0'
_BASE = "bert\n      license: apache-2.0"
_DATA = "notes\n      license: cc-by-4.0"
_SENTENCE = (
    "Llama 3.1 is licensed under the Llama 3.1 Community License, "
    "Copyright © Meta Platforms, Inc. All Rights Reserved."
)


def _everywhere(subject: Release, value: str) -> Release:
    """Put `value` into every text field that the documents show, past the schema as well."""
    return replace(
        subject,
        repo_id=value,
        version=value,
        purpose=value,
        organization=replace(subject.organization, name=value, contact=value),
        lineage=tuple(
            replace(
                upstream,
                source=value,
                revision=value,
                attribution=value,
                changes=value,
            )
            for upstream in subject.lineage
        ),
        documents=replace(
            subject.documents,
            title=value,
            intended_use=(value, value),
            out_of_scope_use=(value,),
        ),
    )


def _text(id: str) -> str:
    text = license_text(load_licenses()[id])
    assert text is not None
    return text


def test_notice_holds_credit_source_license_and_changes(tmp_path: Path) -> None:
    notice = terms(release(tmp_path), tmp_path / "bundle")["NOTICE"]
    first, second = notice.split("\n\n")[2:]
    assert notice.startswith(
        "Topic Classifier 1.0.0\n"
        "Released by Acme Tests (https://example.org/acme) as acme/topics.\n"
    )
    assert first.splitlines() == [
        "acme/tiny-bert (base model, weights derived)",
        "  Source: https://example.org/tiny-bert",
        "  License: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0",
        "  Texts: licenses/acme--tiny-bert",
        "  Changes: All weights were fine-tuned.",
    ]
    assert second.splitlines() == [
        "acme/topic-notes (dataset, trained on data)",
        "  Source: https://example.org/topic-notes",
        "  Credit: Topic notes by the Acme test team, copyright Acme.",
        "  License: Creative Commons Attribution 4.0 International,"
        " https://creativecommons.org/licenses/by/4.0/",
        "  Texts: licenses/acme--topic-notes",
        "  Changes: Personal data was replaced by placeholders.",
    ]


def test_notice_names_a_revision_and_says_when_nothing_was_changed(tmp_path: Path) -> None:
    subject = release(
        tmp_path,
        ("      changes: All weights were fine-tuned.", "      revision: 0a1b2c"),
        ("  contact: https://example.org/acme\n", ""),
    )
    notice = terms(subject, tmp_path / "bundle")["NOTICE"]
    assert "  Source: https://example.org/tiny-bert (0a1b2c)\n" in notice
    assert "  Changes: used as it is\n" in notice
    assert "Released by Acme Tests as acme/topics.\n" in notice


def test_notice_holds_the_sentence_that_a_license_prescribes(tmp_path: Path) -> None:
    subject = release(tmp_path, (_BASE, "bert\n      license: llama3.1"))
    notice = terms(subject, tmp_path / "bundle")["NOTICE"]
    assert notice.count(_SENTENCE) == 1
    assert notice.index("acme/tiny-bert") < notice.index(_SENTENCE)
    assert notice.index(_SENTENCE) < notice.index("acme/topic-notes")


def test_license_is_the_text_of_the_release_s_license(tmp_path: Path) -> None:
    text = terms(release(tmp_path), tmp_path / "bundle")["LICENSE"]
    assert text == _text("apache-2.0")
    assert "Copyright (c) Acme Tests" not in text


def test_license_of_an_mit_release_has_a_copyright_line(tmp_path: Path) -> None:
    subject = release(tmp_path, (_MINE, '"1.0.0"\n  license: mit'))
    text = terms(subject, tmp_path / "bundle")["LICENSE"]
    assert text == f"Copyright (c) Acme Tests\n\n{_text('mit')}"


def test_copyright_line_is_one_line_whatever_the_name_holds(tmp_path: Path) -> None:
    subject = release(
        tmp_path,
        (_MINE, '"1.0.0"\n  license: mit'),
        ("Acme Tests", r'"Acme\n\nPermission is denied."'),
    )
    text = terms(subject, tmp_path / "bundle")["LICENSE"]
    assert text == f"Copyright (c) Acme Permission is denied.\n\n{_text('mit')}"


@pytest.mark.parametrize("unknown", ["unknown", "other", "acme-eula", "llama3.1"])
def test_license_whose_text_is_nowhere_is_left_out(tmp_path: Path, unknown: str) -> None:
    subject = release(tmp_path, (_MINE, f'"1.0.0"\n  license: {unknown}'))
    assert terms(subject, tmp_path / "bundle")["LICENSE"] == ""


def test_license_text_comes_from_the_upstream_that_has_it(tmp_path: Path) -> None:
    subject = release(
        tmp_path,
        (_MINE, '"1.0.0"\n  license: llama3.1'),
        (_BASE, "bert\n      license: llama3.1"),
    )
    own = "LLAMA 3.1 COMMUNITY\n  LICENSE AGREEMENT\n\nThe rest.\n"
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "LICENSE.txt").write_text(own, encoding="utf-8")
    assert terms(subject, tmp_path / "bundle")["LICENSE"] == own


def test_every_upstream_has_its_texts_and_its_notices_byte_for_byte(tmp_path: Path) -> None:
    notices = {"NOTICE": b"caf\xe9\r\n", "COPYING.md": b"", "config.json": b"{}"}
    (tmp_path / "base").mkdir()
    for name, data in notices.items():
        (tmp_path / "base" / name).write_bytes(data)
    terms(release(tmp_path), tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    carried = {path for path in bundle.files if path.startswith("licenses/")}
    assert carried == {
        "licenses/acme--tiny-bert/COPYING.md",
        "licenses/acme--tiny-bert/LICENSE",
        "licenses/acme--tiny-bert/NOTICE",
        "licenses/acme--topic-notes/LICENSE",
    }
    assert bundle.bytes("licenses/acme--tiny-bert/NOTICE") == notices["NOTICE"]
    assert bundle.text("licenses/acme--tiny-bert/LICENSE") == _text("apache-2.0")
    assert bundle.text("licenses/acme--topic-notes/LICENSE") == _text("cc-by-4.0")


def test_the_upstream_s_own_license_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "LICENSE").write_bytes(b"our copy\n")
    terms(release(tmp_path), tmp_path / "bundle")
    kept = tmp_path / "bundle" / "licenses" / "acme--tiny-bert" / "LICENSE"
    assert kept.read_bytes() == b"our copy\n"


def _items(policy: str, heading: str) -> list[str]:
    """Return the list items of a section as a reader sees them."""
    section = policy.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    parsed = tokens(section)
    return [
        shown(parsed[at + 2]) for at, token in enumerate(parsed) if token.type == "list_item_open"
    ]


def test_use_policy_gathers_uses_and_limits(tmp_path: Path) -> None:
    policy = terms(release(tmp_path), tmp_path / "bundle")["USE_POLICY.md"]
    assert _items(policy, "What it is for") == ["Sorting notes by topic."]
    assert _items(policy, "What it must not be used for") == [
        "Any decision about a person. (set by Acme Tests)"
    ]
    limits = [
        limit for id in ("apache-2.0", "cc-by-4.0") for limit in load_licenses()[id].limitations
    ]
    rows = [token for token in tokens(policy) if token.type == "tr_open"]
    assert len(rows) == 1 + len(limits)
    for limit in limits:
        assert limit.fact in policy


def test_use_policy_passes_on_the_upstream_s_policy(tmp_path: Path) -> None:
    subject = release(tmp_path, (_BASE, "bert\n      license: llama3.1"))
    policy = terms(subject, tmp_path / "bundle")["USE_POLICY.md"]
    url = "https://llama.meta.com/llama3_1/use-policy"
    assert any(
        item.startswith(f"Anything that the policy at {url} forbids")
        and "section 1.b.iv, for acme/tiny-bert" in item
        for item in _items(policy, "What it must not be used for")
    )
    links = [
        child.attrs["href"]
        for token in tokens(policy)
        for child in token.children or []
        if child.type == "link_open"
    ]
    assert links == [url]


def test_use_policy_says_that_a_part_is_not_for_commerce(tmp_path: Path) -> None:
    subject = release(tmp_path, (_DATA, "notes\n      license: cc-by-nc-4.0"))
    policy = terms(subject, tmp_path / "bundle")["USE_POLICY.md"]
    license = load_licenses()["cc-by-nc-4.0"]
    assert _items(policy, "What it must not be used for")[1:] == [
        f"Commercial use is not granted ({license.name},"
        f" section {license.permission('commercial-use').section}, for acme/topic-notes)."
    ]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
def test_no_value_changes_the_structure_of_the_terms(tmp_path: Path, value: str) -> None:
    subject = release(
        tmp_path,
        (_MINE, '"1.0.0"\n  license: mit'),
        (_BASE, "bert\n      license: llama3.1"),
        (_DATA, "notes\n      license: cc-by-nc-4.0"),
    )
    plain = terms(_everywhere(subject, "plain"), tmp_path / "plain")
    hostile = terms(_everywhere(subject, value), tmp_path / "hostile")
    assert structure(hostile["USE_POLICY.md"]) == structure(plain["USE_POLICY.md"])
    words = one_line(value)
    assert _items(hostile["USE_POLICY.md"], "What it is for") == [words, words]
    for name in ("NOTICE", "LICENSE"):
        wanted = [line.replace("plain", words) for line in plain[name].splitlines()]
        assert [one_line(line) for line in hostile[name].splitlines()] == [
            one_line(line) for line in wanted
        ]
    assert sorted(read_bundle(tmp_path / "hostile").files) == sorted(
        read_bundle(tmp_path / "plain").files
    )


@pytest.mark.parametrize(
    "credit", ["Zoë 👨\u200d👩\u200d👧", "می\u200cخواهم", "a\n  b", "{{ x }} *c*"]
)
def test_credit_can_be_found_again_in_the_notice(tmp_path: Path, credit: str) -> None:
    """The audit looks for it in this form."""
    subject = release(tmp_path)
    base, dataset = subject.lineage
    subject = replace(subject, lineage=(base, replace(dataset, attribution=credit, changes=credit)))
    notice = terms(subject, tmp_path / "bundle")["NOTICE"]
    assert normalized(notice).count(normalized(credit)) == 2


def test_terms_are_the_same_bytes_twice(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b/c"):
        folder = tmp_path / name
        terms(release(folder, (_BASE, "bert\n      license: llama3.1")), folder / "bundle")
        files = read_bundle(folder / "bundle").files
        assert {"NOTICE", "LICENSE", "USE_POLICY.md"} <= set(files)
        made.append(files)
    assert made[0] == made[1]


def test_facts_of_these_tests_owe_what_the_policy_asks(tmp_path: Path) -> None:
    proofs = {o.proof for o in owed(release(tmp_path, (_BASE, "bert\n      license: llama3.1")))}
    assert {"notice-text", "card-text", "use-policy-link", "attribution"} <= proofs
