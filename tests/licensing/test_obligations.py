"""What a release owes, and that the audit notices each debt that a bundle does not pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import release_kit
from release_kit.bundle import read_bundle
from release_kit.documents.terms import write_terms
from release_kit.licensing import obligations as module
from release_kit.licensing.licenses import License, load_licenses
from release_kit.licensing.obligations import Gap, gaps, obligations, release_license_text
from release_kit.licensing.policy import load_policy
from release_kit.release import Release
from tests.bundles import bundle, llama, seal, stamp
from tests.licensing.lineages import release, upstream

POLICY = load_policy()
LLAMA_TEXT = "LLAMA 3.1 COMMUNITY\n LICENSE AGREEMENT\n\nThe rest.\n"
PART = "licenses/acme--part"


def _build(root: Path, made: Release, card: str = "# Topics\n\n**Built with Llama**\n") -> Path:
    """Write what a build writes about terms."""
    root.mkdir()
    write_terms(made, obligations(made, POLICY), root)
    (root / "README.md").write_text(card, encoding="utf-8")
    return root


def _gaps(root: Path, made: Release) -> tuple[Gap, ...]:
    return gaps(made, POLICY, read_bundle(root))


def _upstream_folder(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "part"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _llama(tmp_path: Path) -> Release:
    folder = _upstream_folder(tmp_path, LICENSE=LLAMA_TEXT, **{"config.json": "{}"})
    return release("llama3.1", upstream("llama3.1", path=folder), repo_id="acme/Llama-topics")


def _apache(tmp_path: Path) -> Release:
    folder = _upstream_folder(tmp_path, NOTICE="Part, copyright Acme.\n")
    return release("apache-2.0", upstream("apache-2.0", path=folder))


def _mit(_: Path) -> Release:
    return release("mit", upstream("mit"))


def _by(_: Path) -> Release:
    return release("apache-2.0", upstream("cc-by-4.0", "dataset"))


def _cut(path: str, words: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert words in text
        (root / path).write_text(text.replace(words, ""), encoding="utf-8")

    return change


def _drop(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def _drop_all_licenses(root: Path) -> None:
    _drop("LICENSE")(root)
    _drop(f"{PART}/LICENSE")(root)


def _blank_at_end(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / path).open("a", encoding="utf-8") as stream:
            stream.write(" ")

    return change


PROMPTS = "https://llama.meta.com/llama3_1/use-policy"
UNMET = {
    # what is broken: release, change to its bundle, proof that fails, file that should show it
    "packaged text gone": (_by, _drop(f"{PART}/LICENSE"), "license-text", PART),
    "packaged text cut": (_by, _cut(f"{PART}/LICENSE", "Attribution"), "license-text", PART),
    "both copies gone": (_apache, _drop_all_licenses, "license-text", PART),
    "own text gone": (_llama, _drop(f"{PART}/LICENSE"), "license-text", PART),
    "own text not byte for byte": (_llama, _blank_at_end(f"{PART}/LICENSE"), "license-text", PART),
    "notice sentence": (
        _llama,
        _cut("NOTICE", "Copyright © Meta Platforms, Inc."),
        "notice-text",
        "NOTICE",
    ),
    "upstream's NOTICE gone": (_apache, _drop(f"{PART}/NOTICE"), "upstream-notices", PART),
    "upstream's NOTICE changed": (
        _apache,
        _blank_at_end(f"{PART}/NOTICE"),
        "upstream-notices",
        PART,
    ),
    "no notice and no credit": (
        _mit,
        _cut("NOTICE", "Part by the Acme team"),
        "upstream-notices",
        "NOTICE",
    ),
    "credit": (_by, _cut("NOTICE", "copyright Acme"), "attribution", "NOTICE"),
    "source": (_by, _cut("NOTICE", "https://example.org/acme/part"), "attribution", "NOTICE"),
    "license link": (
        _by,
        _cut("NOTICE", "https://creativecommons.org/licenses/by/4.0/"),
        "attribution",
        "NOTICE",
    ),
    "changes": (_by, _cut("NOTICE", "All of it was changed."), "change-statement", "NOTICE"),
    "words in the card": (_llama, _cut("README.md", "Built with "), "card-text", "README.md"),
    "no card": (_llama, _drop("README.md"), "card-text", "README.md"),
    "use policy": (_llama, _cut("USE_POLICY.md", PROMPTS), "use-policy-link", "USE_POLICY.md"),
}  # fmt: skip


@pytest.mark.parametrize("make", [_llama, _apache, _mit, _by])
def test_a_bundle_as_built_owes_nothing(make: Callable[[Path], Release], tmp_path: Path) -> None:
    made = make(tmp_path)
    assert len(obligations(made, POLICY)) >= 2
    assert _gaps(_build(tmp_path / "bundle", made), made) == ()


@pytest.mark.parametrize(("make", "change", "proof", "path"), UNMET.values(), ids=UNMET)
def test_an_unmet_condition_is_a_gap(
    make: Callable[[Path], Release],
    change: Callable[[Path], None],
    proof: str,
    path: str,
    tmp_path: Path,
) -> None:
    made = make(tmp_path)
    root = _build(tmp_path / "bundle", made)

    change(root)

    found = _gaps(root, made)
    assert {(gap.obligation.proof, gap.path) for gap in found} == {(proof, path)}
    for gap in found:
        assert gap.missing
        assert gap.fix
        assert gap.obligation.cite.startswith(gap.obligation.license.name)


def test_every_proof_has_a_case_that_fails() -> None:
    assert {proof for _, _, proof, _ in UNMET.values()} | {"name-prefix"} == module._PROOFS.keys()


@pytest.mark.parametrize("name", ["topics", "llama-topics", "my-Llama", "LLAMA-topics"])
def test_the_name_must_begin_as_the_license_prescribes(name: str, tmp_path: Path) -> None:
    made = replace(_llama(tmp_path), repo_id=f"acme/{name}")
    (gap,) = _gaps(_build(tmp_path / "bundle", made), made)
    assert gap.obligation.proof == "name-prefix"
    assert f"acme/Llama-{name}" in gap.fix


@pytest.mark.parametrize("field", ["attribution", "changes"])
def test_what_nobody_wrote_cannot_be_credited(field: str, tmp_path: Path) -> None:
    made = _by(tmp_path)
    made = replace(made, lineage=(replace(made.lineage[0], **{field: ""}),))
    (gap,) = _gaps(_build(tmp_path / "bundle", made), made)
    assert "nobody wrote" in gap.missing
    assert f"Write {field}" in gap.fix


def test_a_rewrapped_text_is_still_the_text(tmp_path: Path) -> None:
    made = _by(tmp_path)
    root = _build(tmp_path / "bundle", made)
    for path in (root / PART / "LICENSE", root / "NOTICE"):
        words = path.read_text(encoding="utf-8").split()
        path.write_text("\n   ".join(words), encoding="utf-8")
    assert _gaps(root, made) == ()


def test_another_license_beside_the_weights_is_not_the_upstreams_own(tmp_path: Path) -> None:
    folder = _upstream_folder(tmp_path, LICENSE="MIT License\n")
    made = release("llama3.1", upstream("llama3.1", path=folder), repo_id="acme/Llama-topics")
    assert release_license_text(made) is None
    (gap,) = _gaps(_build(tmp_path / "bundle", made), made)
    assert gap.obligation.proof == "license-text"
    assert "came without it" in gap.missing


def test_every_copy_of_the_upstreams_own_license_is_carried(tmp_path: Path) -> None:
    made = _llama(tmp_path)
    assert made.lineage[0].path is not None
    (made.lineage[0].path / "LICENSE.de.txt").write_text(LLAMA_TEXT + "Mehr.\n", encoding="utf-8")
    root = _build(tmp_path / "bundle", made)
    assert _gaps(root, made) == ()
    (root / PART / "LICENSE.de.txt").unlink()
    (gap,) = _gaps(root, made)
    assert gap.obligation.proof == "license-text"


def test_a_license_that_merely_lies_there_is_not_the_declared_one(tmp_path: Path) -> None:
    folder = _upstream_folder(tmp_path, LICENSE=LLAMA_TEXT)
    assert release_license_text(release("llama3.1", upstream("mit", path=folder))) is None
    assert release_license_text(release("llama3.1", upstream("llama3.1", path=folder)))


def test_a_text_that_is_not_at_hand_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _mit(tmp_path)
    root = _build(tmp_path / "bundle", made)
    mit: License = load_licenses()["mit"]
    assert mit.text is not None
    lost = replace(mit, text=replace(mit.text, package="no-such-package"))
    monkeypatch.setattr(module, "load_licenses", lambda: {"mit": lost})
    (gap,) = _gaps(root, made)
    assert "not at hand" in gap.missing
    assert "pip install" in gap.fix


def test_a_condition_without_a_proof_is_a_gap(tmp_path: Path) -> None:
    made = _by(tmp_path)
    root = _build(tmp_path / "bundle", made)
    proofs = {kind: proof for kind, proof in POLICY.proofs.items() if kind != "attribution"}
    (gap,) = gaps(made, replace(POLICY, proofs=proofs), read_bundle(root))
    assert "no proof" in gap.missing
    assert gap.obligation.condition.kind == "attribution"


@pytest.mark.parametrize(
    ("license", "relation", "kinds"),
    [
        ("apache-2.0", "tool-only", set()),
        ("mit", "weights-derived", {"include-license-copy", "retain-notices"}),
        ("llama3.1", "trained-on-outputs", {"name-prefix", "accept-use-policy"}),
        ("unknown", "weights-derived", set()),
        ("gpl-3.0", "weights-derived", set()),
    ],
)
def test_conditions_follow_the_relation(license: str, relation: str, kinds: set[str]) -> None:
    owed = obligations(release(license, upstream(license, relation=relation)), POLICY)
    assert {obligation.condition.kind for obligation in owed} == kinds


def test_each_upstream_owes_for_itself(tmp_path: Path) -> None:
    parts = [upstream("mit", id="acme/one"), upstream("mit", "code", relation="data-shipped")]
    made = release("mit", *parts)
    root = _build(tmp_path / "bundle", made)
    assert _gaps(root, made) == ()
    (root / "licenses/acme--one/LICENSE").unlink()
    (root / "LICENSE").unlink()
    (gap,) = _gaps(root, made)
    assert gap.obligation.upstream.id == "acme/one"


def test_mit_of_our_own_names_us() -> None:
    text = release_license_text(release("mit"))
    assert text is not None
    assert text.startswith("Copyright (c) Acme Tests\n\nPermission is hereby granted")


# through the pipeline


def test_a_compliant_llama_release_passes(project: Path) -> None:
    llama(project)

    report = release_kit.audit(project)

    assert report.findings == ()
    root = bundle(project)
    assert (root / "LICENSE").read_bytes() == (project / "base" / "LICENSE").read_bytes()
    assert "**Built with Llama**" in (root / "README.md").read_text(encoding="utf-8")
    assert "Copyright © Meta Platforms" in (root / "NOTICE").read_text(encoding="utf-8")


def test_each_lapse_of_a_llama_release_is_found(project: Path) -> None:
    llama(project)
    root = bundle(project)
    card = (root / "README.md").read_text(encoding="utf-8")
    (root / "README.md").write_text(card.replace("Built with Llama", "Built"), encoding="utf-8")
    _cut("NOTICE", "Llama 3.1 is licensed under")(root)
    _cut("USE_POLICY.md", PROMPTS)(root)
    (root / "licenses/acme--tiny-bert/LICENSE").unlink()
    seal(project)
    stamp(project)

    report = release_kit.audit(project)

    unmet = [finding for finding in report.findings if finding.rule == "obligation-unmet"]
    assert report.findings == tuple(unmet)
    assert {finding.cites[0].rpartition("section ")[2] for finding in unmet} == {
        "1.b.i(A)",
        "1.b.i(B)",
        "1.b.iii",
        "1.b.iv",
    }
