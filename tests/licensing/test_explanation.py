"""What is told about a judgement: its own verdict, and nothing that matters is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import UnusableInput
from release_kit.files import json_bytes
from release_kit.licensing.explanation import Explanation, explain, explanation_lines
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.license_page import license_data, license_lines
from release_kit.licensing.models import load_models
from release_kit.licensing.obligations import CONFLICTS
from release_kit.licensing.policy import Grant, Policy, load_policy
from release_kit.licensing.policy_files import DECISIONS
from release_kit.licensing.questions import KINDS, Question, ask
from release_kit.licensing.words import LANGUAGES, load_words
from release_kit.release import Organization
from tests.licensing.lineages import DAY, release, upstream

_CHINESE = re.compile("[\u3400-\u9fff]")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def asked(policy: Policy, *parts: tuple[str, str], **said: Any) -> Question:
    return ask(parts, policy.licenses, **said)


def told(
    policy: Policy, *parts: tuple[str, str], language: str = "en", **said: Any
) -> tuple[Judgement, Explanation, list[str]]:
    question = asked(policy, *parts, **said)
    judgement = question.judge(policy, day=DAY, language=language)
    words = load_words(language)
    explanation = explain((judgement,), words, remarks=question.remarks)
    return judgement, explanation, list(explanation_lines(explanation, words))


def tried(policy: Policy, *parts: tuple[str, str], **said: Any) -> tuple[Explanation, list[str]]:
    question, words = asked(policy, *parts, **said), load_words("en")
    judgements = question.judge_under(question.candidates(policy.licenses), policy, day=DAY)
    explanation = explain(judgements, words, remarks=question.remarks, planned=False)
    return explanation, list(explanation_lines(explanation, words))


def after(lines: list[str], title: str) -> list[str]:
    """Return the indented lines under a title."""
    start = lines.index(title) + 1
    end = next((n for n in range(start, len(lines)) if not lines[n].startswith(" ")), len(lines))
    return [line.strip() for line in lines[start:end]]


def test_every_license_under_every_license_is_told_as_it_is_judged(policy: Policy) -> None:
    verdicts = set()
    words = [load_words(language) for language in LANGUAGES]
    for number, base in enumerate(policy.licenses):
        kind = KINDS[number % len(KINDS)]
        judgements = asked(policy, (kind, base)).judge_under(policy.licenses, policy, day=DAY)
        for turn, judgement in enumerate(judgements):
            said = words[(number + turn) % 2]
            explanation = explain((judgement,), said)
            verdicts.add(judgement.verdict)
            assert explanation.verdict == judgement.verdict
            objections = {d.rule for d in judgement.decisions if d.decide != "allow"}
            assert {o.rule for o in explanation.objections} == objections
            if turn % 4 == number % 4:
                first = explanation_lines(explanation, said)[0]
                assert judgement.verdict in first
                assert said.of("verdicts", judgement.verdict) in first
    assert verdicts == set(DECISIONS)


def test_an_audit_objects_to_the_same(policy: Policy) -> None:
    by_hand = release(
        "apache-2.0",
        upstream("llama3.1", id="base-1"),
        upstream("cc-by-nc-4.0", "dataset", id="data-1"),
        upstream("other", "code", id="code-1"),
        users=None,
    )
    # As an audit judges it: the lineage is concluded from release.yaml and the files.
    audited = judge(by_hand, policy, day=DAY)
    question = asked(
        policy, ("base", "llama3.1"), ("data", "cc-by-nc-4.0"), ("code", "other"),
        license="apache-2.0", modalities=("text",),
        organization=Organization("Acme", "company", "", None, 1000, 1000, "US"),
    )  # fmt: skip
    judgement = question.judge(policy, day=DAY)
    explanation = explain((judgement,), load_words("en"))
    denied = {
        (d.rule, d.part.upstream.id if d.part else "", d.decide, d.because, d.how_to_fix)
        for d in audited.decisions
        if d.decide != "allow"
    }
    assert len(denied) >= 5
    assert denied == {
        (o.rule, o.upstream, o.decide, o.because, o.how_to_fix) for o in explanation.objections
    }
    owed = {(o.license.id, o.kind, o.term.section) for o in audited.owed}
    assert owed == {(t.license, t.kind, t.section) for t in explanation.obligations}
    assert explanation.verdict == audited.verdict == "deny"


def test_objections_and_debts_in_english(policy: Policy) -> None:
    _, _, lines = told(policy, ("base", "llama3.1"), ("data", "cc-by-nc-4.0"), license="apache-2.0")
    assert lines[0] == "Verdict: deny (not allowed)"
    objections = after(lines, "What stands in the way")
    place = objections.index(
        "Why: llama3.1 goes with everything made from base-1, which gives you no right to pass it "
        "on under apache-2.0"
    )
    assert objections[place - 1] == "base-1 (base model, llama3.1): not allowed"
    assert objections[place + 1 : place + 5] == [
        "See Llama 3.1 Community License Agreement, section 1.a; 1.b.i(A)",
        "See Llama 3.1 Community License Agreement, section 1.a",
        "How to fix: Set release.license to llama3.1 and meet its conditions, or start from a "
        "model whose license leaves you free.",
        "rule terms-travel-other-license of the policy baseline",
    ]
    owed = after(lines, "You must")
    for line in (
        "For base-1, under llama3.1",
        "Prescribed words: Built with Llama",
        "Prescribed words: Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright "
        "© Meta Platforms, Inc. All Rights Reserved.",
        "Link: https://llama.meta.com/llama3_1/use-policy",
        "section: 1.b.i(B)",
        "For data-1, under cc-by-nc-4.0",
    ):
        assert line in owed
    limits = after(lines, "What must stay so, or what to know")
    assert "Threshold: 700,000,000" in limits
    knobs = after(lines, "Contested questions that decided something")
    assert knobs[0] == ("dataset-terms-reach-weights = yes (legal, 2026-11-23, jurisdiction: any)")
    assert any(line.startswith("Reason: ") for line in knobs)
    assert after(lines, "Sources")[0].startswith("apache-2.0: https://www.apache.org/licenses/")
    assert lines[-1] == "This is not legal advice; the license text decides."


def test_objections_and_debts_in_chinese(policy: Policy) -> None:
    _, _, lines = told(
        policy, ("base", "llama3.1"), ("data", "cc-by-nc-4.0"), license="apache-2.0", language="zh"
    )
    assert lines[0] == "结论：不得发布（deny）"
    objections = after(lines, "存在的障碍")
    assert "参见 Llama 3.1 Community License Agreement，条款 1.a; 1.b.i(A)" in objections
    assert "策略 baseline 的规则 terms-travel-other-license" in objections
    assert "规定文字：Built with Llama" in after(lines, "您必须")
    assert lines[-2] == "许可证的事实、条款出处以及争议问题的理由，按原始记录以英文给出。"
    assert lines[-1] == "以上内容不构成法律意见，以许可证文本为准。"


def _facts(policy: Policy, *ids: str) -> Iterator[str]:
    for id_ in ids:
        license = policy.licenses[id_]
        for term in (*license.conditions, *license.limitations, *license.notes):
            yield term.fact
        yield from (permission.fact for permission in license.permissions.values())


@pytest.mark.parametrize(
    "parts",
    [
        (("base", "llama3.1"), ("data", "cc-by-nc-4.0"), ("code", "gpl-3.0")),
        (("base", "gemma"), ("generator", "openai-terms-of-use"), ("data", "odbl")),
        (("base", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"), ("data", "nobody/knows")),
        (("base", "unknown"), ("adapter", "Apache 2.0"), ("data", "afl-3.0")),
        (("base", "exaone-1.1-nc"), ("base", "llama3"), ("base", "hunyuan-3d-2.0")),
    ],
)
def test_chinese_is_complete(policy: Policy, parts: tuple[tuple[str, str], ...]) -> None:
    judgement, _, lines = told(policy, *parts, license="mit", language="zh")
    licenses = {p.license for p in judgement.parts} & set(policy.licenses)
    facts = set(_facts(policy, *licenses))
    english = [line for line in lines if line and not _CHINESE.search(line)]
    assert {line.strip() for line in english} <= facts


@pytest.mark.parametrize("word", ["apach-2.0", "nonsense", "afl-3.0", "{x}", "acme/none", "other"])
def test_a_license_that_nobody_knows_is_denied(policy: Policy, word: str) -> None:
    for parts, license in (((("base", word),), "mit"), ((("base", "mit"),), word)):
        judgement, explanation, lines = told(policy, *parts, license=license)
        assert judgement.verdict == explanation.verdict == "deny"
        assert lines[0].startswith("Verdict: deny")
        assert ("Did you mean 'apache-2.0'?" in "\n".join(lines)) == (word == "apach-2.0")


def test_a_plain_spelling_is_read_and_told(policy: Policy) -> None:
    judgement, explanation, _ = told(policy, ("base", "MIT License"), license="Apache 2.0")
    assert judgement.release.license == "apache-2.0"
    assert explanation.remarks == ("'Apache 2.0' was read as apache-2.0.",)
    assert explanation.parts[0].license == "mit"
    assert explanation.parts[0].remarks == ("'MIT License' was read as mit.",)


def test_a_model_is_answered_from_the_table_with_source_and_date(policy: Policy) -> None:
    model = "meta-llama/Llama-3.1-8B"
    entry = load_models().license_of(model)
    assert entry
    _, explanation, lines = told(policy, ("base", model), license="llama3.1")
    (part,) = explanation.parts
    assert (part.id, part.license, part.basis) == (model, "llama3.1", "table")
    (remark,) = part.remarks
    assert f"policies/models.yaml:{entry.position[0]}" in remark
    assert entry.source in remark
    assert entry.date in remark
    assert f"  {remark}" in [line[2:] for line in lines]


def test_what_the_table_says_beside_or_against_is_judged_too(policy: Policy) -> None:
    distilled = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    _, explanation, _ = told(policy, ("base", distilled), license="mit")
    assert [part.license for part in explanation.parts] == ["llama3.1", "mit"]
    assert explanation.verdict == "deny"
    assert any("Nobody read that license" in remark for remark in explanation.parts[0].remarks)
    assert "holds beside it" in explanation.parts[1].remarks[0]

    _, explanation, _ = told(policy, ("base", "mit=meta-llama/Llama-3.1-8B"), license="mit")
    assert [part.license for part in explanation.parts] == ["mit", "llama3.1"]
    assert explanation.parts[1].remarks[0].startswith("You say mit, but policies/models.yaml:")
    assert explanation.verdict == "deny"

    _, explanation, _ = told(policy, ("base", "llama3.1=meta-llama/Llama-3.1-8B"), license="mit")
    assert [part.license for part in explanation.parts] == ["llama3.1"]


def test_the_table_of_models_says_nothing_of_data(policy: Policy) -> None:
    _, explanation, _ = told(policy, ("data", "meta-llama/Llama-3.1-8B"), license="mit")
    assert explanation.verdict == "deny"
    assert "does not list meta-llama/Llama-3.1-8B" in explanation.parts[0].remarks[0]


def test_candidates_are_judged_one_by_one(policy: Policy) -> None:
    question = asked(policy, ("base", "cc-by-sa-4.0"), ("base", "apple-ascl"))
    explanation, lines = tried(policy, ("base", "cc-by-sa-4.0"), ("base", "apple-ascl"))
    for candidate in explanation.candidates:
        alone = replace(question.release, license=candidate.license)
        judged = judge(alone, policy, day=DAY, lineage=question.lineage)
        assert candidate.verdict == judged.verdict, candidate.license
    assert {c.verdict for c in explanation.candidates} == {"review", "deny"}
    assert explanation.verdict == "review"
    assert lines[0] == "Verdict: review (a lawyer must decide)"
    # What no choice of license mends is told once.
    assert [o.rule for o in explanation.objections] == ["upstream-license-unverified"]
    shown = after(lines, "A lawyer must decide about")
    assert policy.licenses["cc-by-sa-4.0"].name + " (cc-by-sa-4.0)" in shown
    assert "mit" in after(lines, "Not allowed")[0].split(", ")


def test_candidates_that_are_allowed_come_with_what_is_owed(policy: Policy) -> None:
    explanation, lines = tried(policy, ("base", "mit"), ("data", "cc-by-4.0"))
    assert explanation.verdict == "allow"
    assert "Apache License 2.0 (apache-2.0)" in after(lines, "You may release it under")
    assert "For base-1, under mit" in after(lines, "You must")
    reasons = [c.because for c in explanation.candidates if c.verdict == "review"]
    assert reasons
    assert all(reasons)


def test_the_license_of_a_model_family_is_tried_only_for_the_family(policy: Policy) -> None:
    without, _ = tried(policy, ("base", "mit"))
    assert not {c.license for c in without.candidates} & {"llama3.1", "gemma", "odbl", "other"}
    with_family, _ = tried(policy, ("base", "llama3.1"))
    assert "llama3.1" in {c.license for c in with_family.candidates}
    assert "gemma" not in {c.license for c in with_family.candidates}


@pytest.mark.parametrize(
    ("license", "field", "known"),
    [
        ("llama3.1", "monthly_active_users", {}),
        ("stabilityai-ai-community", "annual_revenue_usd", {}),
        ("kimi-k2-modified-mit", "monthly_revenue_usd", {"monthly_active_users": 5}),
        ("hunyuan-3d-2.0", "seat", {}),
    ],
)
def test_a_missing_fact_is_told_with_the_option_that_supplies_it(
    policy: Policy, license: str, field: str, known: dict[str, int]
) -> None:
    words, wanted = load_words("en"), f"organization.{field}"

    def missing(organization: Organization) -> list[str]:
        question = asked(policy, ("base", license), license=license, organization=organization)
        judgement = question.judge(policy, day=DAY)
        explanation = explain((judgement,), words, options={wanted: "--supply"})
        lines = list(explanation_lines(explanation, words))
        return after(lines, "Facts that are missing") if explanation.missing else []

    told_as = f"{wanted}: give --supply here, or write it in release.yaml."
    unknown = Organization("", "company", "", **known)
    assert told_as in missing(unknown)
    stated: dict[str, Any] = {field: "US" if field == "seat" else 5}
    assert told_as not in missing(replace(unknown, **stated))


def test_missing_modalities_are_told(policy: Policy) -> None:
    seat = Organization("", "company", "", 5, 5, 5, "DE")
    for modalities, expected in (
        ((), {"lineage.base_models.modalities"}),
        (("text",), set()),
    ):
        _, explanation, _ = told(
            policy, ("base", "llama4"), license="llama4", organization=seat, modalities=modalities
        )
        assert {fact.field for fact in explanation.missing} == expected
        # What nobody knows whether it applies is told, what surely does not is not.
        kinds = {term.kind for term in explanation.limitations}
        assert ("territory-exclusion" in kinds) == (modalities == ())


def test_an_unverified_license_is_told(policy: Policy) -> None:
    _, explanation, lines = told(policy, ("base", "apple-ascl"), license="mit")
    assert explanation.unverified == ("apple-ascl",)
    assert after(lines, "What nobody verified") == [
        "apple-ascl: nobody compared these facts with its text."
    ]
    assert any("not compared with the text" in line for line in after(lines, "Sources"))


def test_terms_that_do_not_reach_the_release_are_told_so(policy: Policy) -> None:
    _, explanation, lines = told(policy, ("data", "cdla-permissive-2.0"), license="mit")
    assert not explanation.parts[0].reached
    assert (
        "Its terms do not reach the release: the text itself leaves results made with the data, "
        "such as a model, free of its terms" in after(lines, "What it is made from")
    )
    assert explanation.limitations == ()
    assert "No license here asks for anything to be done." in lines
    assert "Nothing stands in the way, once what follows is done." in lines


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("same-license-twice", "agpl-3.0", "cc-by-sa-4.0"),
        ("restrictions", "gpl-3.0", "creativeml-openrail-m"),
        ("name-prefixes", "exaone-1.1-nc", "llama3"),
    ],
)
def test_conflicts_are_told_in_both_languages(
    policy: Policy, kind: str, one: str, other: str
) -> None:
    for language in LANGUAGES:
        judgement, explanation, lines = told(
            policy, ("base", one), ("base", other), license=one, language=language
        )
        assert kind in {conflict.kind for conflict in judgement.conflicts}
        assert len(explanation.conflicts) == len(judgement.conflicts)
        assert explanation.verdict == "deny"
        shown = "\n".join(after(lines, load_words(language).say("excluded")))
        assert policy.licenses[one].name in shown
        assert policy.licenses[other].name in shown
        assert "base-1" in shown


def test_every_kind_of_conflict_has_words() -> None:
    for language in LANGUAGES:
        phrases = load_words(language).groups["phrases"]
        assert {f"conflict_{kind.replace('-', '_')}" for kind in CONFLICTS} <= set(phrases)


def test_a_bought_license_is_told_and_what_it_lifts_is_not(policy: Policy) -> None:
    grant = Grant(
        id="g", licensor="L", upstream="acme/base", release="", permits=("commercial-use",),
        lifts=("no-endorsement",), discharges=("attribution",), own_terms=True, owner="legal",
        evidence="x", signed="2026-01-01", expires="2027-01-01", file="policy.yaml",
        position=(1, 1),
    )  # fmt: skip
    bought = replace(policy, grants=(grant,))
    parts = (("base", "cc-by-nc-4.0=acme/base"),)
    _, without, _ = told(policy, *parts, license="mit")
    _, explanation, lines = told(bought, *parts, license="mit")
    assert (without.verdict, without.valid_until) == ("deny", "")
    assert explanation.verdict == "allow"
    assert "This rests on licenses that were bought; the first ends on 2027-01-01." in lines
    for terms, kind in (("limitations", "no-endorsement"), ("obligations", "attribution")):
        assert kind in {term.kind for term in getattr(without, terms)}
        assert kind not in {term.kind for term in getattr(explanation, terms)}


def test_a_case_without_a_rule_is_told_in_chinese_as_well(policy: Policy) -> None:
    silent = replace(policy, rules=tuple(r for r in policy.rules if not r.about_upstream))
    for language, words in (("en", "no rule of the policy"), ("zh", "没有可以判断此情形的规则")):
        judgement, explanation, lines = told(
            silent, ("base", "mit"), license="mit", language=language
        )
        assert judgement.verdict == explanation.verdict == "review"
        assert any(words in line for line in lines)


def test_what_nobody_noted_and_what_frees_is_told_in_chinese(policy: Policy) -> None:
    _, _, lines = told(policy, ("base", "c-uda"), license="mit", language="zh")
    assert any(line.endswith("条款 未记录") for line in lines)
    _, _, lines = told(policy, ("data", "cdla-permissive-2.0"), license="mit", language="zh")
    (reason,) = (line for line in lines if line.startswith("    其条款不及于本次发布："))
    assert not re.search("[a-z]{4}", reason)


def test_when_a_condition_applies_is_told(policy: Policy) -> None:
    lines = license_lines(policy.licenses["kimi-k2-modified-mit"], load_words("en"))
    assert "      Only when more than 100,000,000 monthly active users" in lines
    assert "      Only when more than 20,000,000 US dollars of revenue a month" in lines


def test_two_parts_under_one_license_owe_each_thing_once(policy: Policy) -> None:
    _, explanation, lines = told(policy, ("base", "mit"), ("adapter", "mit"), license="mit")
    assert [term.upstreams for term in explanation.obligations] == [("base-1", "adapter-1")] * 2
    assert "For base-1, adapter-1, under mit" in after(lines, "You must")


def test_a_relation_can_be_named(policy: Policy) -> None:
    usual = told(policy, ("data", "cc-by-nd-4.0"), license="cc-by-nd-4.0")[1]
    shipped = told(
        policy, ("data", "cc-by-nd-4.0"), license="cc-by-nd-4.0",
        relations={"data-1": "data-shipped"},
    )[1]  # fmt: skip
    assert (usual.parts[0].relation, usual.verdict) == ("trained-on-data", "deny")
    assert (shipped.parts[0].relation, shipped.verdict) == ("data-shipped", "allow")


@pytest.mark.parametrize(
    ("parts", "relations", "said"),
    [
        ((), {}, "there is no part"),
        ((("base", ""),), {}, "says nothing"),
        ((("base", "  "),), {}, "says nothing"),
        ((("base", "=a/b"),), {}, "cannot be read"),
        ((("base", "mit="),), {}, "cannot be read"),
        ((("base", "mit=a"),), {}, "cannot be read"),
        ((("base", "mit=a/b\x1b[31m"),), {}, "cannot be read"),
        ((("base", "mit"),), {"base-2": "weights-shipped"}, "none of the parts"),
        ((("base", "mit"),), {"base-1": "tool-only"}, "is not 'tool-only'"),
        ((("base", "mit"),), {"base-1": "\x1b"}, "is not '\\x1b'"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(
    policy: Policy, parts: tuple[tuple[str, str], ...], relations: dict[str, str], said: str
) -> None:
    with pytest.raises(UnusableInput) as caught:
        asked(policy, *parts, relations=relations)
    assert said in caught.value.message
    assert caught.value.message.isprintable()


def test_it_can_be_written_as_json(policy: Policy) -> None:
    _, explanation, _ = told(policy, ("base", "llama4"), ("data", "odbl"), license="mit")
    data = json.loads(json_bytes(explanation.data()))
    assert data["verdict"] == explanation.verdict
    assert len(data["objections"]) == len(explanation.objections)
    explanation, _ = tried(policy, ("base", "mit"))
    assert json.loads(json_bytes(explanation.data()))["candidates"][0]["verdict"]


def test_nothing_is_explained_from_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to explain"):
        explain((), load_words("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_a_license_says_is_shown(policy: Policy, language: str) -> None:
    words = load_words(language)
    for license in policy.licenses.values():
        lines = license_lines(license, words)
        shown = "\n".join(lines)
        for term in (*license.conditions, *license.limitations, *license.notes):
            assert term.fact in shown
            assert term.section in shown
        for condition in license.conditions:
            for text in (condition.prescribed_text, *condition.alternatives, condition.url):
                assert text in shown
        for permission in license.permissions.values():
            assert permission.fact in shown
        for known in license.texts:
            assert known.fingerprint.sha256 in shown
        for word in (license.id, license.name, license.spdx_id, license.url, license.source):
            assert word in shown
        assert license.unverified or words.say("verified", date=license.verified_at) in shown
        loud = words.say("unverified_loud") in lines
        assert loud == (license.unverified and license.kind == "license")
        assert (words.say("placeholder_fix") in lines) == (license.kind == "placeholder")
        data = json.loads(json_bytes(license_data(license)))
        assert data["file"] == f"policies/licenses/{license.id}.yaml"
        if language == "zh":
            english = {line.strip() for line in lines if line and not _CHINESE.search(line)}
            facts = {f"- {fact}" for fact in _facts(policy, license.id)}
            facts |= set(_facts(policy, license.id))
            facts |= {f"sha256 {known.fingerprint.sha256}" for known in license.texts}
            assert english <= facts


def test_a_text_that_is_not_at_hand_is_told_not_raised(policy: Policy, tmp_path: Path) -> None:
    words = load_words("en")
    carried = license_lines(policy.licenses["mit"], words)
    assert "  The text is at hand." in carried
    assert license_data(policy.licenses["mit"])["text"] == "at hand"
    nowhere = license_lines(policy.licenses["llama3.1"], words)
    assert any(line.startswith("  No installed package and no file carries") for line in nowhere)
    assert license_data(policy.licenses["llama3.1"])["text"] == "not at hand"
    mit = policy.licenses["mit"]
    (form, *_) = mit.texts
    lost = replace(mit, folder=tmp_path, texts=(replace(form, package="", file="mit.txt"),))
    shown = license_lines(lost, words)
    assert any("was changed: mit.txt" in line for line in shown)
    assert license_data(lost)["text"] == "damaged"
