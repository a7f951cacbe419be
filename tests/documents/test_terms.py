"""LICENSE, NOTICE and USE_POLICY say what the licenses of the lineage ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.bundle import read_bundle
from release_kit.cards import visible_text
from release_kit.documents.rendering import one_line
from release_kit.licensing.licenses import license_text, load_licenses
from release_kit.licensing.texts import carries, fingerprint, normalized
from release_kit.release import Release
from tests.documents.facts import judged, release, terms
from tests.documents.markdown import HOSTILE, shown, structure, tokens
from tests.licensing.own_licenses import (
    OWN,
    OWN_ATTACHMENT,
    OWN_TEXT,
    as_fingerprint,
    own_license,
    own_policy,
)

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


def _under_own_license(folder: Path, license: dict[str, Any]) -> Release:
    """Return a release under a license of the user's own, made from a base under it."""
    own_policy(folder, license)
    return release(
        folder,
        (_MINE, f'"1.0.0"\n  license: {OWN}'),
        (_BASE, f"bert\n      license: {OWN}"),
        ("privacy:", "policy: policy.yaml\nprivacy:"),
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


def test_notice_names_a_revision_and_claims_nothing_that_nobody_wrote(tmp_path: Path) -> None:
    subject = release(
        tmp_path,
        ("      changes: All weights were fine-tuned.", "      revision: 0a1b2c"),
        ("  contact: https://example.org/acme\n", ""),
    )
    notice = terms(subject, tmp_path / "bundle")["NOTICE"]
    assert "  Source: https://example.org/tiny-bert (0a1b2c)\n" in notice
    assert "Changes: used as it is" not in notice
    assert "Released by Acme Tests as acme/topics.\n" in notice


@pytest.mark.parametrize(
    ("relation", "said"), [("weights-shipped", True), ("weights-derived", False)]
)
def test_notice_says_used_as_it_is_only_of_what_was_not_changed(
    tmp_path: Path, relation: str, said: bool
) -> None:
    subject = release(
        tmp_path,
        ("      changes: All weights were fine-tuned.", f"      relation: {relation}"),
        ("      path: base\n", ""),
    )
    notice = terms(subject, tmp_path / "bundle")["NOTICE"]
    assert ("  Changes: used as it is\n" in notice) == said


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
    uncarried = own_license(texts=[as_fingerprint(OWN_TEXT)])
    subject = _under_own_license(tmp_path, uncarried)
    assert terms(subject, tmp_path / "without")["LICENSE"] == ""
    own = OWN_TEXT.replace("\n", "\r\n  ")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "LICENSE.txt").write_bytes(own.encode())
    terms(subject, tmp_path / "bundle")
    assert normalized((tmp_path / "bundle/LICENSE").read_text("utf-8")) == normalized(OWN_TEXT)
    brought = tmp_path / "bundle/licenses/acme--tiny-bert"
    assert [path.name for path in brought.iterdir()] == ["LICENSE.txt"]
    assert (brought / "LICENSE.txt").read_bytes() == own.encode()


def test_license_text_comes_from_the_file_beside_the_user_s_own_license(tmp_path: Path) -> None:
    subject = _under_own_license(tmp_path, own_license())
    assert terms(subject, tmp_path / "bundle")["LICENSE"] == OWN_TEXT


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
    kept = tmp_path / "bundle" / "licenses" / "acme--tiny-bert"
    assert (kept / "LICENSE").read_bytes() == b"our copy\n"
    assert (kept / "LICENSE.apache-2.0").read_text("utf-8") == _text("apache-2.0")


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


def test_restrictions_are_passed_on_in_their_own_layout(tmp_path: Path) -> None:
    """A reader sees the very words, line by line, whatever Markdown would make of them."""
    attachment = {"title": "Attachment A", **as_fingerprint(OWN_ATTACHMENT)}
    restricted = own_license(
        {"kind": "pass-on-use-restrictions", "mode": "at-least-the-same", "attachment": attachment}
    )
    policy = terms(_under_own_license(tmp_path, restricted), tmp_path / "bundle")["USE_POLICY.md"]
    section = policy.partition("## Attachment A of Acme Community License\n")[2]
    parsed = tokens(section.partition("\n## ")[0])
    quote = parsed[[token.type for token in parsed].index("blockquote_open") :]
    (inline,) = (token for token in quote if token.type == "inline")
    kinds = {child.type for child in inline.children or []}
    assert kinds == {"text", "hardbreak"}
    lines = "".join(
        "\n" if child.type == "hardbreak" else child.content for child in inline.children or []
    )
    assert lines.replace("\xa0", " ").splitlines() == OWN_ATTACHMENT.splitlines()


def test_both_restrictions_of_one_license_are_passed_on(tmp_path: Path) -> None:
    clause = "1. You may use, change and share the model for any purpose"
    restrictions = [
        {"kind": "pass-on-use-restrictions", "attachment": {"title": title, **as_fingerprint(text)}}
        for title, text in (("Clause 1", clause), ("Attachment A", OWN_ATTACHMENT))
    ]
    subject = _under_own_license(tmp_path, own_license(*restrictions))
    policy = terms(subject, tmp_path / "bundle")["USE_POLICY.md"]
    for title, text in (("Clause 1", clause), ("Attachment A", OWN_ATTACHMENT)):
        assert policy.count(f"\n## {title} of Acme Community License\n") == 1
        assert carries(visible_text(policy), [fingerprint(text)])


def test_of_many_parts_five_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    parts = "".join(
        f"    - {{id: acme/nc{n}, license: cc-by-nc-4.0, source: https://example.org/nc{n}}}\n"
        for n in range(7)
    )
    policy = terms(release(tmp_path, ("privacy:", f"{parts}privacy:")), tmp_path / "bundle")
    seen = [shown(t) for t in tokens(policy["USE_POLICY.md"]) if t.type == "inline"]
    some = "acme/nc0, acme/nc1, acme/nc2, acme/nc3, acme/nc4 and 2 more"
    assert seen.count(some) == len(load_licenses()["cc-by-nc-4.0"].limitations)
    assert sum(line.endswith(f", for {some}).") for line in seen) == 1
    assert "acme/nc5" not in policy["USE_POLICY.md"]
    assert "acme/nc6 (dataset, trained on data)" in policy["NOTICE"]


@pytest.mark.parametrize(
    ("license", "told"),
    [
        ("llama3.1", "The number: 700,000,000. |"),
        ("hunyuan-3d-2.0", "There: EU, GB, KR. |"),
        ("hunyuan-3d-2.0", "The number: 1,000,000. |"),
    ],
)
def test_limits_name_their_number_and_their_territory(
    tmp_path: Path, license: str, told: str
) -> None:
    subject = release(tmp_path, (_BASE, f"bert\n      license: {license}"))
    assert terms(subject, tmp_path / "bundle")["USE_POLICY.md"].count(told) == 1


def test_one_address_is_named_once(tmp_path: Path) -> None:
    second = "    - {id: acme/two, license: gemma, source: https://example.org/two}\n  datasets:"
    subject = release(tmp_path, (_BASE, "bert\n      license: gemma"), ("  datasets:", second))
    policy = terms(subject, tmp_path / "bundle")["USE_POLICY.md"]
    (item,) = [line for line in _items(policy, "What it must not be used for") if "http" in line]
    assert item == (
        "Anything that the policy at https://ai.google.dev/gemma/prohibited_use_policy forbids"
        " (Gemma Terms of Use, section 3.1, first bullet; 3.2; Gemma Terms of Use, section 3.2,"
        " for acme/tiny-bert, acme/two)."
    )


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
    subject = release(tmp_path, (_BASE, "bert\n      license: llama3.1"))
    proofs = {obligation.proof for obligation in judged(subject).owed}
    assert {"notice-text", "displayed", "use-policy-link", "attribution"} <= proofs
