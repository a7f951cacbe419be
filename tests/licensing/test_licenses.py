"""The shipped license facts, compared with the texts themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from release_kit.errors import Unfinished, UnusableInput
from release_kit.licensing import licenses
from release_kit.licensing.licenses import (
    License,
    license_text,
    load_licenses,
    nearest_license,
    normalized,
)

LICENSES = load_licenses()
WITH_TEXT = [license for license in LICENSES.values() if license.kind == "license"]
PACKAGED = [license for license in WITH_TEXT if license.text]

# Texts fetched from their sources for research lie beside the checkout, where it has them.
TEXTS = Path(__file__).resolve().parents[3] / "shared" / "research" / "licenses" / "texts"


def _researched(license: License) -> str:
    path = TEXTS / f"{license.id}.txt"
    if not path.is_file():
        pytest.skip(
            f"NOT COMPARED: the text of {license.id} does not lie beside this checkout"
            " (../shared/research/licenses/texts), so nothing checks its facts here"
        )
    return path.read_text(encoding="utf-8-sig")


def _id(license: License) -> str:
    return license.id


def test_every_file_loads_under_its_own_name() -> None:
    assert sorted(LICENSES) == sorted(path.stem for path in licenses.FOLDER.glob("*.yaml"))
    assert {"apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "llama3.1"} <= LICENSES.keys()
    for license_id, license in LICENSES.items():
        assert license.id == license_id


def test_a_placeholder_promises_nothing() -> None:
    placeholders = [license for license in LICENSES.values() if license.kind == "placeholder"]
    assert {license.id for license in placeholders} == {"other", "unknown"}
    for license in placeholders:
        assert license.unverified
        assert license.downstream_license == "undeterminable"
        assert not license.permissions
        assert license.permission("commercial-use").verdict == "unknown"


def test_every_fact_cites_a_section() -> None:
    for license in WITH_TEXT:
        assert len(list(_sections(license))) > 6
        assert all(_sections(license))


def _sections(license: License) -> Iterator[str]:
    yield license.downstream_section
    for said in (*license.permissions.values(), *license.conditions, *license.limitations):
        yield said.section


@pytest.mark.parametrize("license", WITH_TEXT, ids=_id)
def test_cited_sections_stand_in_the_text(license: License) -> None:
    text = _researched(license)
    for section in _sections(license):
        for label in section.split(";"):
            assert _stands_in(label.strip(), text), label


def _stands_in(label: str, text: str) -> bool:
    """Tell whether a label such as 1.b.i(A) leads, level by level, to a place in `text`."""
    if label == "whole text":
        return True
    top, *below = re.findall(r"[A-Za-z0-9]+", label.split(",", maxsplit=1)[0])
    if top == "paragraph":
        return int(below[0]) <= len(re.split(r"\n\s*\n", text.strip()))
    start = re.search(_heading(top), text)
    if not start:
        return False
    end = re.search(_heading(int(top) + 1), text[start.end() :])
    part = text[start.end() :][: end.start() if end else None]
    for level in below:
        found = re.search(rf"(?im)(?:^|\s)\(?{level}[.)]", part)
        if not found:
            return False
        part = part[found.end() :]
    return True


def _heading(number: object) -> str:
    return rf"(?m)^(?:Section {number} --| {{0,3}}{number}\.) "


def test_a_section_that_does_not_exist_is_noticed() -> None:
    llama, by = (_researched(LICENSES[name]) for name in ("llama3.1", "cc-by-4.0"))
    assert _stands_in("1.b.iii", llama)
    for label in ("1.b.ix", "2.b", "9", "paragraph 900"):
        assert not _stands_in(label, llama)
    assert _stands_in("2(a)(5)(B)", by)
    for label in ("2(a)(9)", "3(d)", "4(a)(1)", "9(a)"):
        assert not _stands_in(label, by)


@pytest.mark.parametrize("license", WITH_TEXT, ids=_id)
def test_title_prescribed_words_and_addresses_stand_in_the_text(license: License) -> None:
    text = normalized(_researched(license))
    assert normalized(license.title) in text
    for condition in license.conditions:
        assert normalized(condition.prescribed_text) in text
        assert condition.url in text
    for limit in license.limitations:
        assert limit.threshold is None or f"{limit.threshold // 1_000_000} million" in text


def test_llama_prescribes_what_the_proofs_look_for() -> None:
    words = {c.kind: c.prescribed_text for c in LICENSES["llama3.1"].conditions}
    assert words["display-statement"] == "Built with Llama"
    assert words["name-prefix"] == "Llama"
    assert words["include-notice-text"].startswith("Llama 3.1 is licensed under the Llama 3.1")
    assert LICENSES["llama3.1"].title
    limit = LICENSES["llama3.1"].limitation("threshold-users")
    assert limit is not None
    assert limit.threshold == 700_000_000


@pytest.mark.parametrize("license", PACKAGED, ids=_id)
def test_the_packaged_text_is_whole_and_the_verified_one(license: License) -> None:
    text = license_text(license)
    assert text is not None
    assert len(text) > 1000
    assert "---" not in text[:5]
    assert normalized(text) == normalized(_researched(license))


@pytest.mark.parametrize("license", PACKAGED, ids=_id)
def test_another_packaged_text_is_not_used(license: License) -> None:
    assert license.text is not None
    changed = replace(license, text=replace(license.text, sha256="0" * 64))
    with pytest.raises(Unfinished, match="not the one that was verified") as caught:
        license_text(changed)
    assert f"{license.id}.yaml" in caught.value.hint


@pytest.mark.parametrize("damage", [{"package": "no-such-package"}, {"file": "no/such/file"}])
def test_a_text_that_is_not_installed_is_told(damage: dict[str, str]) -> None:
    license = LICENSES["mit"]
    assert license.text is not None
    with pytest.raises(Unfinished, match="is not at hand") as caught:
        license_text(replace(license, text=replace(license.text, **damage)))
    assert "pip install" in caught.value.hint


def test_a_license_without_a_package_has_no_text_of_ours() -> None:
    assert license_text(LICENSES["llama3.1"]) is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of licenses with one file in it."""
    (tmp_path / "mit.yaml").write_bytes((licenses.FOLDER / "mit.yaml").read_bytes())
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
        load_licenses()
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("policies/licenses/x11.yaml", 1)
    assert "'mit'" in problem.message


def test_a_mistyped_fact_is_refused_with_its_place(folder: Path) -> None:
    text = (folder / "mit.yaml").read_text(encoding="utf-8")
    (folder / "mit.yaml").write_text(text.replace("granted", "granted?", 1), encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        load_licenses()
    (problem,) = caught.value.problems
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith("verdict: granted")
    assert problem.hint == "did you mean 'granted'?"


def test_no_licenses_at_all_is_not_silence(folder: Path) -> None:
    (folder / "mit.yaml").unlink()
    with pytest.raises(Unfinished, match="no license files"):
        load_licenses()


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("Apache 2.0", "apache-2.0"),
        ("apache_2.0", "apache-2.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT ", "mit"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("llama-3.1", "llama3.1"),
        ("gpl-3.0", ""),
        ("proprietary", ""),
        ("", ""),
        # Other licenses, not misspelt ones.
        ("cc-by-sa-4.0", ""),
        ("cc-by-nc-sa-4.0", ""),
        ("cc-by-3.0", ""),
        ("llama3.2", ""),
    ],
)
def test_only_a_misspelt_id_is_corrected(word: str, near: str) -> None:
    assert nearest_license(word) == near


def test_normalized_joins_lines_and_composes_letters() -> None:
    assert normalized(" Built\r\n\twith \u00a0Llama\n") == "Built with Llama"
    assert normalized("Cafe\u0301") == "Caf\u00e9"
    assert normalized("Llama") != normalized("LLAMA")
