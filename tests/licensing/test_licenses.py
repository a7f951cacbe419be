"""The shipped license facts, compared with the texts themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from release_kit.cards import hub_licenses
from release_kit.errors import Unfinished, UnusableInput
from release_kit.licensing import licenses
from release_kit.licensing.licenses import (
    FOLDER,
    KnownText,
    License,
    Licenses,
    identified,
    license_text,
    load_licenses,
    nearest_license,
)
from release_kit.licensing.texts import find, normalized, words_of

LICENSES = load_licenses()
IDS = list(LICENSES)

# Texts fetched from their sources for research lie beside the checkout, where it has them.
TEXTS = Path(__file__).resolve().parents[3] / "shared" / "research" / "licenses" / "texts"


def _researched(license_id: str) -> str:
    path = TEXTS / f"{license_id}.txt"
    if not path.is_file():
        pytest.skip(
            f"NOT COMPARED: the text of {license_id} does not lie beside this checkout"
            " (../shared/research/licenses/texts), so nothing checks its facts here"
        )
    return path.read_text(encoding="utf-8-sig")


def _sections(license: License) -> Iterator[str]:
    yield license.downstream_section
    yield license.reaches_models_section
    for said in (*license.permissions.values(), *license.conditions, *license.limitations):
        yield said.section
    for note in license.notes:
        yield note.section


# --- what holds for every file, with or without the texts


@pytest.mark.parametrize("license_id", IDS)
def test_every_file_loads_under_its_own_name(license_id: str) -> None:
    license = LICENSES[license_id]
    assert license.id == license_id
    assert license.kind in {"license", "placeholder"}


def test_the_licenses_are_read_one_by_one() -> None:
    assert {"apache-2.0", "mit", "cc-by-4.0", "llama3.1", "gemma", "deepseek", "gpl-3.0"} <= set(
        IDS
    )
    assert len(LICENSES) == len(list(FOLDER.glob("*.yaml"))) > 60
    assert LICENSES.mistakes() == ()
    fresh = Licenses(FOLDER)
    assert fresh["mit"] is fresh["mit"]
    assert "no-such-license" not in fresh
    with pytest.raises(KeyError):
        fresh["no-such-license"]


@pytest.mark.parametrize("license_id", IDS)
def test_a_placeholder_promises_nothing_and_a_license_says_something(license_id: str) -> None:
    license = LICENSES[license_id]
    if license.kind == "placeholder":
        assert license.unverified
        assert license.downstream_license == "undeterminable"
        assert not (license.permissions or license.conditions or license.limitations)
        assert not license.texts
        assert license.permission("commercial-use").verdict == "unknown"
    else:
        assert license.permissions or license.unverified


@pytest.mark.parametrize("license_id", IDS)
def test_every_fact_cites_a_section(license_id: str) -> None:
    sections = list(_sections(LICENSES[license_id]))
    assert len(sections) > 1
    for section in sections:
        for label in section.split(";"):
            assert label.strip()


@pytest.mark.parametrize("license_id", IDS)
def test_facts_hang_together(license_id: str) -> None:
    license = LICENSES[license_id]
    families = {other.family for other in LICENSES.values()}
    for condition in license.conditions:
        for accepted in condition.accepts:
            assert accepted in LICENSES or accepted in hub_licenses()
        for word, _ in condition.fill:
            assert word in condition.prescribed_text
        if condition.kind in {"include-notice-text", "name-prefix", "display-statement"}:
            assert condition.prescribed_text
        if condition.kind == "pass-on-use-restrictions":
            assert condition.mode
            assert condition.attachment or condition.url
        if condition.kind == "accept-use-policy":
            assert condition.url or condition.attachment
        if condition.kind in {"same-license", "no-additional-restrictions"}:
            assert condition.scope
        assert not condition.alternatives or condition.prescribed_text
    for limit in license.limitations:
        assert (limit.threshold is not None) == limit.kind.startswith("threshold-")
        assert bool(limit.territory) == (limit.kind == "territory-exclusion")
        assert limit.exempt_family in families
        assert limit.kind != "no-additional-restrictions" or limit.scope


@pytest.mark.parametrize("license_id", IDS)
def test_a_family_license_knows_its_fingerprints(license_id: str) -> None:
    license = LICENSES[license_id]
    for known in license.texts:
        said = known.fingerprint
        assert said.begins == said.begins.casefold()
        assert len(said.begins.split()) == min(6, said.words)
    assert len({known.fingerprint for known in license.texts}) == len(license.texts)


def test_no_two_licenses_have_a_text_in_common() -> None:
    owner: dict[str, str] = {}
    for license in LICENSES.values():
        for known in license.texts:
            other = owner.setdefault(known.fingerprint.sha256, license.id)
            assert other == license.id, known


# --- what is compared with the texts


@pytest.mark.parametrize("license_id", IDS)
def test_no_license_is_verified_without_its_text(license_id: str) -> None:
    if not TEXTS.is_dir():
        pytest.skip("NOT COMPARED: no texts lie beside this checkout")
    license = LICENSES[license_id]
    assert license.unverified or (TEXTS / f"{license_id}.txt").is_file()
    assert license.unverified or license.texts


@pytest.mark.parametrize("license_id", IDS)
def test_cited_sections_stand_in_the_text(license_id: str) -> None:
    license = LICENSES[license_id]
    if license.kind == "placeholder":
        assert set(_sections(license)) <= {"no text", "whole text"}
        return
    # What is carried may be a fuller copy than the researched one.
    texts = [text for text in (_researched(license_id), license_text(license)) if text]
    missing = {
        label.strip()
        for section in _sections(license)
        for label in section.split(";")
        if not any(stands_in(label.strip(), text) for text in texts)
    }
    assert not missing


@pytest.mark.parametrize("license_id", IDS)
def test_prescribed_words_stand_in_the_text(license_id: str) -> None:
    license = LICENSES[license_id]
    prescribed = [
        words for c in license.conditions for words in (c.prescribed_text, *c.alternatives) if words
    ]
    if prescribed:
        text = normalized(_researched(license_id))
        assert [words for words in prescribed if normalized(words) not in text] == []


@pytest.mark.parametrize("license_id", IDS)
def test_addresses_stand_in_the_text(license_id: str) -> None:
    urls = [c.url for c in LICENSES[license_id].conditions if c.url]
    if urls:
        text = _researched(license_id)
        assert [u for u in urls if re.sub("^https?://", "", u).rstrip("/") not in text] == []


@pytest.mark.parametrize("license_id", IDS)
def test_numbers_stand_in_the_text(license_id: str) -> None:
    license = LICENSES[license_id]
    numbers = {limit.threshold for limit in license.limitations}
    for said in (*license.conditions, *license.limitations):
        when = said.applies_when
        if when:
            numbers |= {when.users_over, when.monthly_revenue_over_usd}
            numbers.add(when.annual_revenue_over_usd)
    numbers -= {None}
    if numbers:
        text = normalized(_researched(license_id)).lower()
        for number in numbers:
            assert number is not None
            millions = f"{number // 1_000_000} million"
            assert re.search(rf"(?<!\d)({millions}|{number:,}|{number})(?!,?\d)", text), number


@pytest.mark.parametrize("license_id", IDS)
def test_attachments_stand_in_the_text(license_id: str) -> None:
    attached = [c.attachment for c in LICENSES[license_id].conditions if c.attachment]
    if attached:
        text = _researched(license_id)
        words = words_of(text)
        for attachment in attached:
            assert find(words, attachment.fingerprint), attachment.title
            # A title may lead with the label of its section.
            heading = attachment.title.rpartition(", ")[2]
            assert stands_in(heading, text), heading


def _package_text(known: KnownText) -> str:
    path = Path(str(metadata.distribution(known.package).locate_file(known.file)))
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("license_id", IDS)
def test_packaged_texts_are_found_by_their_fingerprints(license_id: str) -> None:
    for known in LICENSES[license_id].texts:
        if known.package:
            assert find(words_of(_package_text(known)), known.fingerprint), known


@pytest.mark.parametrize("license_id", IDS)
def test_the_text_to_carry_is_the_researched_one(license_id: str) -> None:
    license = LICENSES[license_id]
    if not license.texts:
        pytest.skip(f"{license_id} has no known text")
    researched = words_of(_researched(license_id))
    assert any(find(researched, known.fingerprint) for known in license.texts)
    text = license_text(license)
    if text is not None:
        assert text.endswith("\n")
        assert "---" not in text[:5]
        assert not text.startswith("key:")
        carried = [word.text for word in words_of(text)]
        verified = [word.text for word in researched]
        same = " ".join(carried) in " ".join(verified) or " ".join(verified) in " ".join(carried)
        assert same or license_id in OTHER_WORDING


# The researched copy names the organization where the text to carry says the copyright holder.
OTHER_WORDING = {"bsd-3-clause"}

PACKAGED = [i for i in IDS if any(known.package for known in LICENSES[i].texts)]


def test_most_open_licenses_come_with_a_package() -> None:
    assert {"apache-2.0", "mit", "cc-by-4.0", "gpl-3.0", "mpl-2.0"} <= set(PACKAGED)


@pytest.mark.parametrize("license_id", PACKAGED)
def test_another_packaged_text_is_not_used(license_id: str) -> None:
    license = LICENSES[license_id]
    changed = tuple(
        replace(known, fingerprint=replace(known.fingerprint, sha256="0" * 64))
        for known in license.texts
    )
    with pytest.raises(Unfinished, match="not the one that was verified") as caught:
        license_text(replace(license, texts=changed))
    assert f"{license_id}.yaml" in caught.value.hint


@pytest.mark.parametrize("damage", [{"package": "no-such-package"}, {"file": "no/such/file"}])
def test_a_text_that_is_not_installed_is_told(damage: dict[str, str]) -> None:
    license = LICENSES["mit"]
    packaged = next(known for known in license.texts if known.package)
    with pytest.raises(Unfinished, match="is not at hand") as caught:
        license_text(replace(license, texts=(replace(packaged, **damage),)))
    assert "pip install" in caught.value.hint


def test_a_license_without_a_package_has_no_text_of_ours() -> None:
    known = LICENSES["llama3.1"].texts
    assert known
    assert license_text(replace(LICENSES["llama3.1"], texts=())) is None
    bare = tuple(replace(one, package="", file="") for one in known)
    assert license_text(replace(LICENSES["llama3.1"], texts=bare)) is None


def test_a_text_beside_the_file_of_a_license_is_carried(tmp_path: Path) -> None:
    license = LICENSES["mit"]
    text = license_text(license)
    assert text is not None
    known = next(one for one in license.texts if one.package)
    beside = replace(license, folder=tmp_path, texts=(replace(known, package="", file="MIT.txt"),))
    (tmp_path / "MIT.txt").write_text(text, encoding="utf-8")
    assert license_text(beside) == text
    with pytest.raises(Unfinished, match="not at hand") as caught:
        license_text(replace(beside, folder=tmp_path / "other"))
    assert str(tmp_path / "other" / "MIT.txt") in caught.value.hint
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "MIT.txt").write_text(text.replace("free", "not free"), encoding="utf-8")
    with pytest.raises(Unfinished, match="not the one that was verified"):
        license_text(replace(beside, folder=changed))


def test_llama_prescribes_what_the_proofs_look_for() -> None:
    words = {c.kind: c.prescribed_text for c in LICENSES["llama3.1"].conditions}
    assert words["display-statement"] == "Built with Llama"
    assert words["name-prefix"] == "Llama"
    assert words["include-notice-text"].startswith("Llama 3.1 is licensed under the Llama 3.1")
    limit = LICENSES["llama3.1"].limitation("threshold-users")
    assert limit is not None
    assert limit.threshold == 700_000_000
    # What differs between the versions, and is mixed up so easily.
    assert not {"name-prefix", "display-statement"} & {
        c.kind for c in LICENSES["llama2"].conditions
    }
    older = {c.kind: c.prescribed_text for c in LICENSES["llama3"].conditions}
    assert older["display-statement"] == "Built with Meta Llama 3"
    assert older["name-prefix"] == "Llama 3"
    for version in ("llama2", "llama3"):
        assert LICENSES[version].limitation("output-restriction")
    assert not LICENSES["llama3.1"].limitation("output-restriction")
    assert not LICENSES["llama3.1"].limitation("territory-exclusion")
    for version in ("llama3.2", "llama3.3", "llama4"):
        limit = LICENSES[version].limitation("territory-exclusion")
        assert limit is not None
        assert limit.territory == ("EU",)
        assert limit.applies_when is not None
        assert limit.applies_when.modality == "multimodal"


# --- where a cited section stands


_ROMAN = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"]
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5,
    "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_UNITS = r"(?:sentence|paragraph|item|bullet|condition|line|clause|prohibited use)"
_WHICH = f"(?:{'|'.join(_ORDINALS)}|last)"
_SECTION = r"(?:(?:Section|SECTION|section|Article)\s+)?"


def stands_in(label: str, text: str) -> bool:
    """Tell whether a label such as `1.b.i(A), last sentence` leads to a place in `text`.

    A label is a way: numbers, headings, defined terms in quotes, and counted parts, level by
    level. Some published copies have lost the numbers of their lists; there parts are counted.
    """
    if label in {"whole text", "no text"}:
        return True
    head, *ways = [part.strip() for part in label.split(",")]
    parts = _places(head, text)
    while ways:
        # A heading may hold a comma itself.
        for taken in range(len(ways), 0, -1):
            way = ", ".join(ways[:taken])
            found = [place for part in parts for place in _places(way, part)]
            if found:
                parts, ways = found, ways[taken:]
                break
        else:
            return False
    return bool(parts)


def _places(way: str, part: str) -> list[str]:  # noqa: PLR0911 one for each kind of label
    if way in {"preamble", "head note", "opening paragraphs", "introductory sentence"}:
        before = re.split(r"(?mi)^[\s*#]*(?:section )?(?:0|1|I)\b|^\s*definitions", part)[0]
        return [before] if before.strip() else []
    if quoted := re.fullmatch(r'(?:(?:definition|definition of)\s+)?"([^"]+)"', way):
        term = _loose(quoted[1])
        defined = re.finditer(rf'["“‘\']\**{term}\**["”’\']', part)
        return [part[match.start() :] for match in defined] or _headed(quoted[1], part)
    if beside := re.fullmatch("paragraph (before|after) the (.+)", way):
        found = re.search(rf"(?i)\b{_loose(beside[2])}\b", part)
        before, after = (part[: found.start()], part[found.end() :]) if found else ("", "")
        rest = before if beside[1] == "before" else after
        return [rest] if re.search(r"\n\s*\n", rest) else []
    if one := re.fullmatch(r"paragraph (\d+)((?:\(\w+\))*)", way):
        paragraphs = re.split(r"\n\s*\n", part.strip())
        # A title may count as a paragraph or not.
        places = paragraphs[int(one[1]) - 1 : int(one[1]) + 1]
        for level in re.findall(r"\w+", one[2]):
            places = [end for place in places for end in _level(level, place, counted=False)]
        return places
    if re.fullmatch(
        rf"(?i)(?:{_WHICH} {_UNITS}|{_UNITS}s? \d+)(?:(?: and |-)(?:{_WHICH} {_UNITS}|\d+))*", way
    ):
        return _counted(way, part)
    if range_of := re.fullmatch(r"(.*?)(\(\w+\))[-–](\(\w+\))", way):
        stem, first, last = range_of.groups()
        ends = [_numbered(stem + end, part) for end in (first, last)]
        return ends[0] if all(ends) else []
    if number := re.fullmatch(rf"{_SECTION}((?:\d+|[IVX]+)(?:\.\w{{1,4}}|\(\w{{1,4}}\))*)", way):
        return _numbered(number[1], part)
    if mixed := re.fullmatch(r"((?:\d+|[IVX]+)(?:\.\w{1,4}|\(\w{1,4}\))*) (.+)", way):
        if _has_lost_its_numbers(part):
            return _places(mixed[2], part)
        return [end for place in _numbered(mixed[1], part) for end in _places(mixed[2], place)]
    return _headed(way, part)


def _loose(words: str) -> str:
    return r"[\s*]+".join(re.escape(word) for word in words.split())


def _headed(words: str, part: str) -> list[str]:
    """Return what stands from a line on that begins with `words` or is a heading with them."""
    loose = _loose(words)
    begins = rf"^[\W\d_]*(?:section \w+\W+)?{loose}(?!\w)"
    heading = rf"^.{{0,40}}\b{loose}\W*$"
    found = re.finditer(f"{begins}|{heading}", part, re.MULTILINE | re.IGNORECASE)
    return [part[match.start() :] for match in found]


def _counted(way: str, part: str) -> list[str]:
    for number, ordinal, unit in re.findall(
        rf"(?i)(?:(\d+)|\b({_WHICH}) ({_UNITS}))(?= |-|$)", way
    ):
        if ordinal.lower() == "last":
            wanted = 2 if unit == "sentence" else 1
        else:
            wanted = int(number) if number else _ORDINALS[ordinal.lower()]
        if wanted > _count(unit or way, part):
            return []
    return [part]


def _count(unit: str, part: str) -> int:
    paragraphs = [p for p in re.split(r"\n\s*\n", part.strip()) if p.strip()]
    lines = [line for line in part.splitlines() if line.strip()]
    if "sentence" in unit:
        return len(re.findall(r"[.;:]\W*(?:\s|$)", part))
    if "paragraph" in unit:
        return len(paragraphs)
    if unit == "line":
        return len(lines)
    marked = [line for line in lines if re.match(r"\s*(?:[-*•—]|\(?\w{1,3}[.)])\s", line)]
    indented = [line for line in lines if line.startswith("    ")]
    return max(len(marked), len(indented), len(paragraphs) - 1)


def _numbered(label: str, part: str) -> list[str]:
    """Return the parts that a label of numbers and letters leads to."""
    printed = re.match(r"\d+(?:\.\d+)*|[IVX]+", label)
    assert printed, label
    levels = re.findall(r"\w+", label[printed.end() :])
    places = _printed(printed[0], part)
    lost = _has_lost_its_numbers(part)
    if not places and lost:
        top, *below = printed[0].split(".")
        places, levels = _nth_block(top, part), [*below, *levels]
    for level in levels:
        counted = lost or level.isalpha()
        places = [end for place in places for end in _level(level, place, counted=counted)]
    return places


def _heading(number: str) -> str:
    """Return a pattern for a line that begins with a number that the pattern `number` matches."""
    end = r"(?:\.0)?(?:\\?[.):]|\.?(?=\s+[A-Z\"“])|\*\*\.|\s+--|\.?\s*$)"
    return rf"(?m)^([ \t]*)(?:#+ )?[*#]*{_SECTION}({number}){end}"


def _has_lost_its_numbers(part: str) -> bool:
    return not any(re.search(_heading(number), part) for number in ("1", "I", "0"))


def _printed(number: str, part: str) -> list[str]:
    starts = list(re.finditer(_heading(re.escape(number)), part))
    if number.isdigit():
        first = re.search(_heading("[01]"), part)
        # Lists within a section are indented more deeply than the sections.
        starts = [m for m in starts if first is None or len(m[1]) <= len(first[1])]
    return [part[m.end() : m.end() + _length(number, m[1], part[m.end() :])] for m in starts]


def _length(number: str, indent: str, rest: str) -> int:
    """Return where the section ends: at the next number that is not of a list within it."""
    *stem, last = number.split(".")
    if not last.isdigit():
        following = next(iter(_following(last.lower())), "").upper()
        end = re.search(_heading(following), rest) if following else None
        return end.start() if end else len(rest)
    after = {".".join([*stem, str(int(last) + 1)]), *([str(int(stem[0]) + 1)] if stem else [])}
    listed = 0
    for match in re.finditer(_heading(r"\d+(?:\.\d+)?"), rest):
        if len(match[1]) > len(indent):
            continue
        found = match[2].removesuffix(".0")
        if listed and found == str(listed + 1):
            listed += 1
        elif found == "1" and number != "0":
            listed = 1
        elif found in after:
            return match.start()
    return len(rest)


def _nth_block(number: str, part: str) -> list[str]:
    wanted = int(number) if number.isdigit() else _ROMAN.index(number.lower()) + 1
    kinds = (
        r"^\* [A-Z][^:]{2,90}:",
        r"^ {4}[A-Z][A-Z &,-]+$",
        r"^ {4}(?!By |You |Model)[A-Z][^.\n]{2,60}\.\s",
        r"(?<=\n\n)[A-Z][^.\n]{3,60}\.?\n",
    )
    for kind in kinds:
        starts = [match.start() for match in re.finditer(kind, part, re.MULTILINE)]
        if wanted <= len(starts):
            end = starts[wanted] if wanted < len(starts) else len(part)
            return [part[starts[wanted - 1] : end]]
    return []


def _level(level: str, part: str, *, counted: bool) -> list[str]:
    found = min(
        re.finditer(_mark(level), part), key=lambda m: _indent(part, m.start()), default=None
    )
    if found:
        rest = part[found.end() :]
        indent = re.search(r"(?:^|\n)([ \t]*)$", part[: found.start()])
        # A list within is indented more deeply and may bear the same letters.
        before = rf"(?m)^[ \t]{{0,{len(indent[1])}}}" if indent else ""
        ends = [
            m.start() for other in _following(level) if (m := re.search(_mark(other, before), rest))
        ]
        return [rest[: min(ends, default=len(rest))]]
    letters_lost = level.isalpha() and not re.search(_mark("a"), part)
    numbers_lost = level.isdigit() and not re.search(r"(?m)^\s*\d", part)
    if counted and (letters_lost or numbers_lost) and level not in _ROMAN:
        lines = [line for line in part.splitlines() if line.strip()]
        index = int(level) if level.isdigit() else ord(level.lower()) - ord("a") + 1
        return lines[index : index + 1]
    return []


def _indent(part: str, place: int) -> int:
    """Return how deeply the line is indented that begins at `place`; what stands in one, least."""
    line = part[:place].rpartition("\n")[2]
    return 1000 if line.strip() else len(line)


def _mark(level: str, before: str = "") -> str:
    before = before or r"(?m)(?:^|(?<=[\s“\"*]))"
    # Not the sign of a copyright.
    return rf"{before}(?<!opyright )\(?(?i:{re.escape(level)})\\?[.)](?=[\s*]|$)"


def _following(level: str) -> list[str]:
    if level.isdigit():
        return [str(int(level) + 1)]
    roman = [_ROMAN[_ROMAN.index(level) + 1]] if level in _ROMAN[:-1] else []
    return roman or ([chr(ord(level) + 1)] if len(level) == 1 else [])


@pytest.mark.parametrize(
    ("license_id", "labels", "wrong"),
    [
        (
            "llama3.1",
            ["1.b.iii", "1.b.i(A)", "1.b.i, last sentence", "5.c", "7"],
            ["1.b.ix", "2.b", "9", "paragraph 900", "1.c", "Attachment A"],
        ),
        ("llama3.3", ["1.b.iv", "Acceptable Use Policy"], ["1.b.v", "8", "Exhibit A"]),
        (
            "cc-by-4.0",
            ["2(a)(5)(B)", "2(a)(1)(A)-(B)", "3(a)(1)(A)(i)"],
            ["2(a)(9)", "3(d)", "4(a)(1)", "9(a)", "2(a)(1)(A)-(C)"],
        ),
        ("apache-2.0", ["4(d)", "4, last paragraph"], ["4(e)", "10", "4, ninth paragraph"]),
        ("mit", ["paragraph 2"], ["paragraph 4", "1", "clause 9"]),
        ("gpl-3.0", ["5(c)", "10", "13"], ["18", "5(e)", "2.1"]),
        ("creativeml-openrail-m", ["4.a", "Attachment A", '1, "Data"'], ["4.f", '1, "X"', "13"]),
        ("openrail++", ["4.a", "4.d"], ["4.h", "Attachment B"]),
        ("stabilityai-ai-community", ["IV(a)(i)", "IV(b)"], ["IV(z)", "VIII"]),
        ("nvidia-open-model-license", ["2.1", "3.3"], ["3.9", "40"]),
        ("gemma", ["3.1, second bullet", "1.1(e)"], ["3.1, tenth bullet", "3.4", "1.1(g)"]),
        ("odbl", ["4.4(a)", "4.3"], ["4.11", "4.4(z)"]),
    ],
)  # fmt: skip
def test_a_section_that_does_not_exist_is_noticed(
    license_id: str, labels: list[str], wrong: list[str]
) -> None:
    text = _researched(license_id)
    assert [label for label in labels if not stands_in(label, text)] == []
    assert [label for label in wrong if stands_in(label, text)] == []


# --- a folder with mistakes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of licenses with one file in it."""
    (tmp_path / "mit.yaml").write_bytes((FOLDER / "mit.yaml").read_bytes())
    monkeypatch.setattr(licenses, "FOLDER", tmp_path)
    load_licenses.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    load_licenses.cache_clear()


def test_a_file_under_another_name_is_refused(folder: Path) -> None:
    assert list(load_licenses()) == ["mit"]
    (folder / "mit.yaml").rename(folder / "x11.yaml")
    load_licenses.cache_clear()
    with pytest.raises(UnusableInput) as caught:
        load_licenses()["x11"]
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("policies/licenses/x11.yaml", 1)
    assert "'mit'" in problem.message
    assert load_licenses().mistakes() == (problem,)


def test_a_mistyped_fact_is_refused_with_its_place(folder: Path) -> None:
    text = (folder / "mit.yaml").read_text(encoding="utf-8")
    (folder / "mit.yaml").write_text(text.replace("granted", "granted?", 1), encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        load_licenses()["mit"]
    (problem,) = caught.value.problems
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith("verdict: granted")
    assert problem.hint == "did you mean 'granted'?"


def test_no_licenses_at_all_is_not_silence(folder: Path) -> None:
    (folder / "mit.yaml").unlink()
    with pytest.raises(Unfinished, match="no license files"):
        load_licenses()


def test_licenses_of_ones_own_come_beside_the_shipped(tmp_path: Path) -> None:
    text = (FOLDER / "mit.yaml").read_text(encoding="utf-8").replace("id: mit\n", "id: acme-1\n", 1)
    (tmp_path / "acme-1.yaml").write_text(text, encoding="utf-8")
    both = load_licenses(tmp_path)
    assert set(both) == {*LICENSES, "acme-1"}
    assert both["acme-1"].folder == tmp_path
    assert both.paths["acme-1"] == tmp_path / "acme-1.yaml"


def test_what_is_shipped_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mit.yaml").write_bytes((FOLDER / "mit.yaml").read_bytes())
    with pytest.raises(UnusableInput, match=r"mit\.yaml would replace"):
        load_licenses(tmp_path)
    with pytest.raises(UnusableInput, match="no such folder"):
        load_licenses(tmp_path / "none")


# --- words that mean a license


@pytest.mark.parametrize(
    ("word", "license_id"),
    [
        ("apache-2.0", "apache-2.0"),
        ("Apache 2.0", "apache-2.0"),
        ("Apache-2.0", "apache-2.0"),
        ("apache_2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("the Apache licence v2", "apache-2.0"),
        ("MIT", "mit"),
        ("MIT License", "mit"),
        ("The MIT License", "mit"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC BY NC 4.0", "cc-by-nc-4.0"),
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("cc0 1.0", "cc0-1.0"),
        ("GPLv3", "gpl-3.0"),
        ("GPL-3.0", "gpl-3.0"),
        ("AGPLv3", "agpl-3.0"),
        ("LGPL v3", "lgpl-3.0"),
        ("MPL 2.0", "mpl-2.0"),
        ("New BSD", "bsd-3-clause"),
        ("BSD 3-Clause", "bsd-3-clause"),
        ("Llama 3.1 Community License", "llama3.1"),
        ("Llama 3.1 Community License Agreement", "llama3.1"),
        ("llama-3.1", "llama3.1"),
        ("Llama 2 Community License", "llama2"),
        ("OpenRAIL++", "openrail++"),
        ("CreativeML OpenRAIL-M", "creativeml-openrail-m"),
        ("Gemma Terms of Use", "gemma"),
        ("EUPL-1.2", "eupl-1.2"),
        ("bsd-2-clause", "bsd-2-clause"),
    ],
)
def test_a_plain_spelling_is_identified(word: str, license_id: str) -> None:
    assert identified(word, LICENSES) == license_id
    assert identified(f" {word} ", LICENSES) == license_id


@pytest.mark.parametrize(
    "word",
    [
        "OpenRAIL", "openrail", "Open RAIL", "RAIL", "Creative Commons", "CC", "cc", "cc-by",
        "CC BY", "GPL", "gpl", "GNU GPL", "GNU General Public License", "LGPL", "BSD", "bsd",
        "BSD License",
        "Llama", "llama", "Llama Community License", "Llama license", "Qwen license agreement 2.5",
        "Apache", "GFDL", "other", "unknown", "proprietary", "open source", "non-commercial",
        "public domain", "custom", "see LICENSE", "", " ", "-", "license", "3.0", "4.0",
    ],
)  # fmt: skip
def test_a_family_is_never_one_of_its_members(word: str) -> None:
    found = identified(word, LICENSES)
    assert found == "" or LICENSES[found].kind == "placeholder"


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("CC BY 4.0", "cc-by-nc-4.0"),
        ("CC BY NC 4.0", "cc-by-4.0"),
        ("CC BY ND 4.0", "cc-by-nc-nd-4.0"),
        ("CC BY SA 4.0", "cc-by-4.0"),
        ("CC BY 3.0", "cc-by-4.0"),
        ("Llama 3", "llama3.1"),
        ("Llama 3.1", "llama3"),
        ("Llama 31", "llama3.1"),
        ("Llama 3.2", "llama3.1"),
        ("Llama 4", "llama4.0"),
        ("OpenRAIL+", "openrail++"),
        ("OpenRAIL", "openrail++"),
        ("OpenRAIL++", "openrail"),
        ("BigScience OpenRAIL-M", "creativeml-openrail-m"),
        ("Apache 1.1", "apache-2.0"),
        ("Apache 20", "apache-2.0"),
        ("GPL 2", "gpl-3.0"),
        ("GPLv3", "lgpl-3.0"),
        ("GPLv3", "agpl-3.0"),
        ("GPL 3.0 or later", "gpl-3.0"),
        ("MIT-0", "mit"),
        ("Modified MIT", "mit"),
        ("MIT/Apache-2.0", "mit"),
        ("MIT OR Apache-2.0", "apache-2.0"),
        ("Apache-2.0 WITH LLVM-exception", "apache-2.0"),
        ("not Apache 2.0", "apache-2.0"),
        ("Apache 2.0 non-commercial", "apache-2.0"),
        ("BSD 2-Clause", "bsd-3-clause"),
        ("EUPL 1.1", "eupl-1.2"),
        ("CDLA-Sharing-1.0", "cdla-permissive-1.0"),
        ("CDLA-Permissive-1.0", "cdla-permissive-2.0"),
        ("Stable Diffusion", "creativeml-openrail-m"),
        ("Qwen", "tongyi-qianwen"),
        ("Qwen Research", "qwen"),
    ],
)
def test_a_look_alike_is_never_identified(word: str, other: str) -> None:
    assert identified(word, LICENSES) != other


def test_no_two_licenses_share_a_spelling() -> None:
    shared = {s: ids for s, ids in licenses._spellings(LICENSES).items() if len(ids) > 1}
    assert shared == {}


@pytest.mark.parametrize("license_id", IDS)
def test_a_license_is_identified_by_every_name_of_its_own(license_id: str) -> None:
    license = LICENSES[license_id]
    assert identified(license_id, LICENSES) == license_id
    if license.kind == "license":
        names = [n for n in (license.spdx_id, license.name, *license.aliases) if n]
        assert [n for n in names if identified(n, LICENSES) != license_id] == []
        assert [n for n in names if identified(n.upper(), LICENSES) != license_id] == []
        assert [n for n in names if identified(n.replace("-", " "), LICENSES) != license_id] == []


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("Apache 2.0", "apache-2.0"),
        ("apache_2.0", "apache-2.0"),
        ("apache2.0", "apache-2.0"),
        ("apach-2.0", "apache-2.0"),
        ("MIT ", "mit"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("llama-3.1", "llama3.1"),
        ("proprietary", ""),
        ("", ""),
        # Other licenses of the Hub, not misspelt ones.
        ("cc-by-sa-3.0", ""),
        ("cc-by-3.0", ""),
        ("gpl-2.0", ""),
        ("bsd-2-clause", ""),
    ],
)
def test_only_a_misspelt_id_is_corrected(word: str, near: str) -> None:
    assert nearest_license(word, LICENSES) == near
