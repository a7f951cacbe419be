"""What files say about licenses and upstreams: real files, silent ones and hostile ones."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from release_kit.licensing.detection import (
    Detected,
    LicenseEvidence,
    Recognition,
    UpstreamEvidence,
    detect,
    recognize,
)
from release_kit.licensing.licenses import Licenses, load_licenses
from release_kit.licensing.texts import fingerprint

TEXTS = Path(__file__).resolve().parents[3] / "shared" / "research" / "licenses" / "texts"

_YAML = """\
id: {id}
spdx_id: {spdx}
name: {name}
aliases: ["{id} by another name"]
version: null
url: https://example.org/{id}
kind: license
applies_to: [model]
downstream_license: {{ value: own-terms-allowed, section: "1" }}
permissions: {{}}
conditions: []
limitations: []
texts: {texts}
source: https://example.org/{id}/source
verified_at: "2026-11-01"
unverified: false
"""


def _carried(name: str) -> str:
    file = metadata.distribution("licensedcode-data").locate_file(
        f"licensedcode/data/licenses/{name}.LICENSE"
    )
    return Path(str(file)).read_text(encoding="utf-8").split("\n---\n", 1)[1].strip("\n") + "\n"


MIT, APACHE, ZLIB = _carried("mit"), _carried("apache-2.0"), _carried("zlib")
# Its text may not be copied, so only its fingerprint is known.
CLOSED = "Terms of the Closed Model. " + " ".join(f"clause{n} binds you" for n in range(60)) + "\n"
END = MIT.count("\n")
PLUS = MIT + "\nAnd you must show our logo to everybody.\n"


def _license(folder: Path, id_: str, text: str, *, spdx: str = "null", package: str = "") -> None:
    known = fingerprint(text)
    form: dict[str, Any] = {"begins": known.begins, "words": known.words, "sha256": known.sha256}
    if package:
        form["package"] = "licensedcode-data"
        form["file"] = f"licensedcode/data/licenses/{package}.LICENSE"
    name = f"{id_.title()} Terms"
    (folder / f"{id_}.yaml").write_text(
        _YAML.format(id=id_, spdx=spdx, name=name, texts=json.dumps([form])), encoding="utf-8"
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Licenses:
    folder = tmp_path_factory.mktemp("licenses")
    _license(folder, "mit", MIT, spdx="MIT", package="mit")
    _license(folder, "apache-2.0", APACHE, spdx="Apache-2.0", package="apache-2.0")
    _license(folder, "closed", CLOSED)
    _license(folder, "mit-plus", PLUS)
    assert not Licenses(folder).mistakes()
    return Licenses(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _words(found: Detected) -> list[tuple[str, int, str, str, bool]]:
    return [(e.path, e.line, e.license, e.said, e.exact) for e in found.licenses]


def _ids(found: Detected) -> list[tuple[str, int, str, str]]:
    return [(e.path, e.line, e.id, e.role) for e in found.upstreams]


def _because(found: Detected) -> dict[str, str]:
    return {unreadable.path: unreadable.because for unreadable in found.unreadable}


# License texts.


@pytest.mark.parametrize(
    "text",
    [
        MIT,
        "MIT License\n\nCopyright (c) 2024 Somebody\n\n" + MIT,
        "The mit Terms\n=========\n\n© 2024 Somebody\n(c) 2020, 2021 Others\n\n" + MIT,
        "Copyright Somebody and others, 2019-2021\n" + MIT + "\n---\nhttps://example.org/mit\n",
        MIT.replace("\n", "\r\n"),
        "\ufeff" + MIT.replace("\n", " ").upper(),
        "# mit by another name\n\n> " + MIT.replace("\n", "\n> "),
    ],
    ids=["bare", "title", "holders", "address", "CRLF", "one line", "markup"],
)
def test_a_text_is_told_by_its_words(text: str, folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", text)
    found = detect(folder, known)
    (evidence,) = found.licenses
    assert (evidence.license, evidence.kind, evidence.said) == ("mit", "license-text", "Mit Terms")
    assert evidence.exact and not evidence.remark
    assert not found.unreadable and not found.upstreams


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (MIT + "\n\nYou owe us money.\n", f"holds 4 more words from line {END + 3}"),
        ("Apache License\n" + MIT, "holds 2 more words from line 1"),
        (MIT + "© 2024 Us; you may not use it.\n", f"holds 7 more words from line {END + 1}"),
        (MIT + "\fCopyright of this is ours\n", f"holds 5 more words from line {END + 1}"),
        (MIT + "MIT License, but not for you\n", f"holds 6 more words from line {END + 1}"),
    ],
)
def test_what_stands_besides_is_told(text: str, remark: str, folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", text)
    (evidence,) = detect(folder, known).licenses
    assert (evidence.license, evidence.exact, evidence.remark) == ("mit", False, remark)
    assert evidence.line == (2 if text.startswith("Apache") else 1)


def test_two_texts_in_one_file(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", MIT + "\n=====\n" + APACHE + "\n====\n" + MIT)
    assert [(e.license, e.line, e.exact, e.remark) for e in detect(folder, known).licenses] == [
        ("mit", 1, False, "the file also holds the text of apache-2.0"),
        ("apache-2.0", END + 3, False, "the file also holds the text of mit"),
    ]


def test_the_same_text_twice_is_still_that_text(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", f"Copyright (c) 2020 A\n{MIT}\nCopyright (c) 2021 B\n{MIT}")
    (evidence,) = detect(folder, known).licenses
    assert (evidence.license, evidence.line, evidence.exact) == ("mit", 2, True)


def test_a_longer_known_text_wins(known: Licenses) -> None:
    assert recognize(PLUS, known).license == "mit-plus"
    assert recognize(PLUS, known, first=["mit"]).license == "mit-plus"
    assert recognize(MIT, known).license == "mit"


@pytest.mark.parametrize(
    ("text", "said", "remark"),
    [
        (
            MIT.replace("without restriction", "with every restriction"),
            "Mit Terms",
            "begins like Mit Terms but differs from line 3 on",
        ),
        (
            MIT.replace("free of charge", "for a large charge"),
            "Mit Terms",
            "begins like Mit Terms but differs from line 1 on",
        ),
        (
            APACHE.replace("irrevocable", "revocable"),
            "Apache-2.0 Terms",
            "begins like Apache-2.0 Terms but differs from line 68 on",
        ),
        (
            CLOSED.replace("clause40", "clause41"),
            "Closed Terms",
            "begins like Closed Terms but is not it word for word",
        ),
        (ZLIB, "", f"is no license text that is known here ({fingerprint(ZLIB).words} words)"),
        ("", "", "holds no license text"),
        ("Copyright (c) 2024 Somebody\n", "", "holds no license text"),
    ],
    ids=["changed", "at its start", "one word", "no text at hand", "unknown", "empty", "holder"],
)
def test_what_is_no_known_text_means_no_license(
    text: str, said: str, remark: str, folder: Path, known: Licenses
) -> None:
    _write(folder, "LICENSE", text)
    (evidence,) = detect(folder, known).licenses
    assert (evidence.license, evidence.said, evidence.exact) == ("", said, False)
    assert evidence.remark == remark


def test_a_cut_text_is_not_the_text(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", "\n".join(MIT.splitlines()[:-3]) + "\n")
    (evidence,) = detect(folder, known).licenses
    assert evidence.license == "" and "Mit Terms" in evidence.remark


def test_a_changed_copy_beside_a_whole_one_is_told(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", MIT + "\n" + APACHE.replace("irrevocable", "revocable"))
    one, other = detect(folder, known).licenses
    assert (one.license, other.license) == ("mit", "")
    assert one.remark.startswith("holds ") and other.said == "Apache-2.0 Terms"


def test_what_is_added_may_begin_with_the_name(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", CLOSED + "Terms of the Closed Model clause0: more of them.\n")
    (evidence,) = detect(folder, known).licenses
    assert evidence.license == "closed" and evidence.remark.startswith("holds 9 more words")


def test_two_licenses_with_the_same_text_are_both_told(folder: Path, tmp_path: Path) -> None:
    _license(tmp_path, "one", CLOSED)
    _license(tmp_path, "two", CLOSED)
    twin = (tmp_path / "two.yaml").read_text().replace("example.org/two", "example.org/one")
    (tmp_path / "two.yaml").write_text(twin)
    twins = Licenses(tmp_path)
    assert [text.license for text in recognize(CLOSED, twins).found] == ["one", "two"]
    assert recognize(CLOSED, twins).license == ""
    assert recognize(CLOSED, twins, first=["two"]).license == "two"
    path = _safetensors(folder, license="https://example.org/one")
    assert [e.license for e in detect(path, twins).licenses] == [""]


def test_a_name_alone_is_not_the_text(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", "MIT License\n")
    (evidence,) = detect(folder, known).licenses
    assert (evidence.license, evidence.exact) == ("mit", False)
    assert evidence.remark == "names the license, but does not hold its text"


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "license.md", "LICENCE.txt", "COPYING", "COPYING.LESSER", "UNLICENSE",
     "LICENSES.md", "LICENSE-MIT", "MODEL_LICENSE", "Some LICENSE AGREEMENT", "MODEL_LICENSE-2.0",
     "a/b/LICENSE", "LICENSES/MIT.txt", "licenses/upstream", "EULA.txt"],
)  # fmt: skip
def test_license_files_by_name(name: str, folder: Path, known: Licenses) -> None:
    _write(folder, name, MIT)
    assert [e.path for e in detect(folder, known).licenses] == [name]


def test_a_text_in_a_comment_is_not_what_its_reader_sees(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE.md", f"<!--\n{MIT}\n-->\n\nAll rights reserved.\n")
    assert "" in {e.license for e in detect(folder, known).licenses}
    # The page that shows it may hold comments, and plain text has none.
    _write(folder, "LICENSE.md", f"<!-- Copyright (c) 2024 Acme -->\n\n{MIT}\n")
    assert [e.license for e in detect(folder, known).licenses] == ["mit"]


@pytest.mark.parametrize(
    "name",
    ["NOTICE", "NOTICE.md", "license.json", "licensed.txt", "licenses.csv", "unlicensed.txt",
     "driver_license_table.pyc", "LICENSE.yaml", "model.md", ".git/LICENSE", "license.py"],
)  # fmt: skip
def test_other_files_are_no_license_texts(name: str, folder: Path, known: Licenses) -> None:
    _write(folder, name, MIT)
    assert detect(folder, known) == Detected((), (), ())


def test_one_file_is_read_alone_and_by_its_name(folder: Path, known: Licenses) -> None:
    _write(folder, "README.md", "---\nlicense: mit\n---\n")
    terms = _write(folder, "LICENSE", APACHE)
    assert [(e.path, e.license, e.exact) for e in detect(terms, known).licenses] == [
        ("LICENSE", "apache-2.0", True)
    ]
    # A dataset of one file says nothing about its license.
    assert detect(_write(folder, "notes.jsonl", APACHE), known) == Detected((), (), ())
    assert detect(_write(folder, "NOTICE", MIT), known) == Detected((), (), ())
    assert detect(folder / "absent", known).unreadable


def test_the_links_of_a_cached_snapshot_are_followed(tmp_path: Path, known: Licenses) -> None:
    blob = _write(tmp_path / "models--acme--base" / "blobs", "abc", MIT)
    snapshot = tmp_path / "models--acme--base" / "snapshots" / "123"
    snapshot.mkdir(parents=True)
    (snapshot / "LICENSE").symlink_to(blob)
    assert [e.license for e in detect(snapshot, known).licenses] == ["mit"]
    (snapshot / "COPYING").symlink_to(_write(tmp_path, "elsewhere", MIT))
    assert [u.path for u in detect(snapshot, known).unreadable] == ["COPYING"]


def test_a_license_is_read_only_when_it_is_needed(known: Licenses, tmp_path: Path) -> None:
    for path in known.paths.values():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.yaml").write_text("id: [")
    lazy = Licenses(tmp_path)
    assert recognize(MIT, lazy, first=["no-such-id", "mit"]).license == "mit"
    _write(tmp_path / "folder", "README.md", "---\nlicense: mit\n---\n")
    _write(tmp_path / "folder", "LICENSE", MIT)
    assert [e.exact for e in detect(tmp_path / "folder", lazy).licenses] == [True, True]
    with pytest.raises(Exception, match="broken"):
        recognize(ZLIB, lazy, first=["mit"])


def test_recognition_counts(known: Licenses) -> None:
    read = recognize("\nMIT License\n" + MIT + "\nbe good\n", known)
    assert read == Recognition(read.found, fingerprint(MIT).words + 4, 2, END + 4)
    (text,) = read.found
    assert (text.license, text.line, text.words) == ("mit", 3, fingerprint(MIT).words)
    assert read.license == ""


@pytest.mark.skipif(not TEXTS.is_dir(), reason=f"the real texts are absent: no {TEXTS}")
def test_real_texts_are_recognized_with_the_shipped_licenses() -> None:
    shipped = load_licenses()
    checked = 0
    for path in sorted(TEXTS.glob("*.txt")):
        if path.stem in shipped and shipped[path.stem].texts:
            read = recognize(path.read_text(encoding="utf-8"), shipped)
            assert {text.license for text in read.found} == {path.stem}
            checked += 1
    assert checked > 40


def test_the_project_itself_with_the_shipped_licenses() -> None:
    root = Path(__file__).resolve().parents[2]
    for name in ("LICENSE", "pyproject.toml"):
        (evidence,) = detect(root / name, load_licenses()).licenses
        assert (evidence.license, evidence.exact) == ("apache-2.0", True)


# Cards.

CARD = """\
---
license: other
license_name: closed by another name
license_link: https://www.example.org/closed/
base_model:
  - meta-llama/Llama-3.1-8B
  - https://huggingface.co/org/model/tree/main
base_model_relation: adapter
datasets: [org/data, squad]
source_datasets: [original, extended|glue]
---
# Title
"""


def test_a_card_says_it_all(folder: Path, known: Licenses) -> None:
    _write(folder, "README.md", CARD)
    found = detect(folder, known)
    assert _words(found) == [
        ("README.md", 3, "closed", "closed by another name", False),
        ("README.md", 4, "closed", "https://www.example.org/closed/", False),
    ]
    assert [(e.line, e.id, e.role, e.relation_said, e.kind) for e in found.upstreams] == [
        (6, "meta-llama/Llama-3.1-8B", "base_model", "adapter", "card"),
        (7, "org/model", "base_model", "adapter", "card"),
        (9, "org/data", "dataset", "", "card"),
        (9, "squad", "dataset", "", "card"),
        (10, "glue", "dataset", "", "card"),
    ]
    assert not found.unreadable


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("license: mit", [("mit", "mit", True)]),
        ("license: MIT License", [("mit", "MIT License", False)]),
        ("license: [mit, apache-2.0]", [("apache-2.0", "apache-2.0", True), ("mit", "mit", True)]),
        ("license: other", [("other", "other", True)]),
        ("licenses: [mit]", [("mit", "mit", True)]),
        ("license: strange", [("", "strange", False)]),
        ("license: cc-by-sa-4.0", [("cc-by-sa-4.0", "cc-by-sa-4.0", True)]),
        ("license:", []),
        ("license: mit\nlicense_link: https://example.com/terms", [("mit", "mit", True)]),
        ("license: mit\nlicense_link: LICENSE", [("mit", "mit", True)]),
        ("license: 'a\u202eb'", [("", "a\ufffdb", False)]),
        (f"license: {'x' * 200}", [("", "x" * 79 + "…", False)]),
    ],
)  # fmt: skip
def test_words_of_cards(
    front: str, expected: list[tuple[str, str, bool]], folder: Path, known: Licenses
) -> None:
    _write(folder, "README.md", f"---\n{front}\n---\n")
    assert [(e.license, e.said, e.exact) for e in detect(folder, known).licenses] == expected


@pytest.mark.parametrize(
    ("front", "because"),
    [
        ("license: 1.0", "line 2: license is not text"),
        ("license: {a: b}", "line 2: license is not text"),
        ("datasets: [org/a, [b]]", "line 2: datasets is not text"),
        ("base_model: Our best model", "line 2: names a base_model by no id of the Hub"),
        ("base_model: org/a--b", "line 2: names a base_model by no id of the Hub"),
        ("base_model: org/a..b", "line 2: names a base_model by no id of the Hub"),
        ("base_model: https://example.org/x", "line 2: names a base_model by no id of the Hub"),
        ("source_datasets: [extended|other-web]", "line 2: names a dataset by no id of the Hub"),
        ("license: mit\nlicense: mit", "line 3: the key 'license' stands here twice"),
        ("license: &a mit", "line 2: anchors are not used here; write the value"),
        ("- license", "line 2: the front matter is not a mapping of keys to values"),
    ],
)
def test_cards_that_cannot_be_read(front: str, because: str, folder: Path, known: Licenses) -> None:
    _write(folder, "README.md", f"---\n{front}\n---\n")
    assert _because(detect(folder, known)) == {"README.md": because}


@pytest.mark.parametrize(
    "text", ["---\nlicense: mit\n", "\n---\nlicense: mit\n---\n", "--- \nlicense: mit\n---\n"]
)
def test_front_matter_that_readers_differ_on_is_told(
    text: str, folder: Path, known: Licenses
) -> None:
    _write(folder, "README.md", text)
    found = detect(folder, known)
    assert not found.licenses and list(_because(found)) == ["README.md"]


@pytest.mark.parametrize("text", ["", "# A\n\nlicense: mit\n", "text\n---\nlicense: mit\n---\n"])
def test_a_readme_without_front_matter_says_nothing(
    text: str, folder: Path, known: Licenses
) -> None:
    _write(folder, "README.md", text)
    assert detect(folder, known) == Detected((), (), ())


@pytest.mark.parametrize("value", ["./out", "/data/llama", "~/x", "a/b/c", "C:\\x\\y", "..\\x"])
def test_a_local_path_is_no_upstream(value: str, folder: Path, known: Licenses) -> None:
    _write(folder, "README.md", f"---\nbase_model: '{value}'\n---\n")
    _write(folder, "adapter_config.json", json.dumps({"base_model_name_or_path": value}))
    _write(folder, "config.json", json.dumps({"_name_or_path": value}))
    assert detect(folder, known) == Detected((), (), ())


# Weights.


def _safetensors(folder: Path, **said: str) -> Path:
    path = folder / "model.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, metadata=said or None)
    return path


def test_safetensors_metadata(folder: Path, known: Licenses) -> None:
    _safetensors(
        folder,
        **{
            "format": "pt",
            "license": "mit",
            "modelspec.license": "Apache-2.0",
            "base_model": "org/base",
            "modelspec.merged_from": "org/one, org/two,Our Model",
        },
    )
    found = detect(folder, known)
    assert _words(found) == [
        ("model.safetensors", 0, "apache-2.0", "Apache-2.0", True),
        ("model.safetensors", 0, "mit", "mit", True),
    ]
    assert {e.kind for e in found.licenses} == {e.kind for e in found.upstreams} == {"safetensors"}
    assert [e.id for e in found.upstreams] == ["org/base", "org/one", "org/two"]
    assert _because(found) == {"model.safetensors": "names a base_model by no id of the Hub"}


@pytest.mark.parametrize(
    ("said", "license", "shown"),
    [
        ("https://example.org/mit/source", "mit", "https://example.org/mit/source"),
        ("https://example.com/terms", "", "https://example.com/terms"),
        (MIT, "mit", "Mit Terms"),
    ],
    ids=["link", "unknown link", "terms in full"],
)
def test_modelspec_may_hold_a_link_or_the_terms(
    said: str, license: str, shown: str, folder: Path, known: Licenses
) -> None:
    _safetensors(folder, **{"modelspec.license": said})
    (evidence,) = detect(folder, known).licenses
    assert (evidence.license, evidence.said, evidence.line) == (license, shown, 0)


def test_safetensors_without_metadata_is_silent(folder: Path, known: Licenses) -> None:
    _safetensors(folder)
    assert detect(folder, known) == Detected((), (), ())


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(7), b"\xff" * 8 + b"{}", b'\x07\0\0\0\0\0\0\0{"a":NaN}', b"PK\x03\x04" * 4],
)
def test_damaged_safetensors_are_told(raw: bytes, folder: Path, known: Licenses) -> None:
    _write(folder, "model.safetensors", raw)
    found = detect(folder, known)
    assert not found.licenses and list(_because(found)) == ["model.safetensors"]


def _gguf(folder: Path, fill: Callable[[gguf.GGUFWriter], None]) -> Path:
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    # A vocabulary, as real files have one, before and after what is looked for.
    writer.add_token_list([f"token {n}" for n in range(2000)])
    writer.add_token_scores([0.5] * 2000)
    fill(writer)
    writer.add_token_types([1] * 2000)
    writer.add_array("nested", [[1, 2], [3, 4]])
    writer.add_bool("flag", True)
    writer.add_float64("number", 0.5)
    writer.add_tensor("weights", np.zeros((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_metadata(folder: Path, known: Licenses) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_license("other")
        writer.add_license_name("Closed Terms")
        writer.add_license_link("https://example.org/closed")
        writer.add_source_repo_url("https://huggingface.co/org/source")
        writer.add_base_model_count(2)
        writer.add_base_model_name(0, "Llama 3.1 8B")
        writer.add_base_model_organization(0, "Meta Llama")
        writer.add_base_model_repo_url(0, "https://huggingface.co/meta-llama/Llama-3.1-8B")
        writer.add_base_model_name(1, "Some Model")
        writer.add_base_model_organization(1, "Some Org")
        writer.add_dataset_count(1)
        writer.add_dataset_repo_url(0, "https://huggingface.co/datasets/org/data")
        writer.add_array("general.datasets", ["org/more"])

    _gguf(folder, fill)
    found = detect(folder, known)
    assert _words(found) == [
        ("model.gguf", 0, "closed", "Closed Terms", False),
        ("model.gguf", 0, "closed", "https://example.org/closed", False),
    ]
    assert {e.kind for e in found.licenses} == {e.kind for e in found.upstreams} == {"gguf"}
    assert [(e.role, e.id) for e in found.upstreams] == [
        ("base_model", "Some-Org/Some-Model"),
        ("base_model", "meta-llama/Llama-3.1-8B"),
        ("base_model", "org/source"),
        ("dataset", "org/data"),
        ("dataset", "org/more"),
    ]
    assert not found.unreadable


def test_gguf_without_words_is_silent(folder: Path, known: Licenses) -> None:
    _gguf(folder, lambda writer: writer.add_source_repo_url("https://example.org/org/source"))
    assert detect(folder, known) == Detected((), (), ())


def test_gguf_license_may_be_an_expression(folder: Path, known: Licenses) -> None:
    _gguf(folder, lambda writer: writer.add_license("mit AND apache-2.0"))
    assert [e.license for e in detect(folder, known).licenses] == ["apache-2.0", "mit"]


@pytest.mark.parametrize(
    ("fill", "because"),
    [
        (lambda w: w.add_base_model_count(3), "general.base_model.count is not how many it"),
        (lambda w: w.add_uint32("general.license", 5), "general.license is not text"),
        (
            lambda w: (w.add_base_model_count(1), w.add_base_model_name(0, "Llama")),
            "names a base_model by no id of the Hub",
        ),
    ],
    ids=["count", "number", "name only"],
)
def test_gguf_that_says_too_little_is_told(
    fill: Callable[[gguf.GGUFWriter], None], because: str, folder: Path, known: Licenses
) -> None:
    _gguf(folder, fill)
    assert _because(detect(folder, known))["model.gguf"].startswith(because)


def test_gguf_cut_anywhere_is_told_or_read_alike(folder: Path, known: Licenses) -> None:
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("mit")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    raw = path.read_bytes()
    assert [e.license for e in detect(path, known).licenses] == ["mit"]
    end = raw.rindex(b"b") + 1
    for length in range(end):
        path.write_bytes(raw[:length])
        found = detect(path, known)
        assert not found.licenses and list(_because(found)) == ["model.gguf"]


def _text(word: bytes) -> bytes:
    return struct.pack("<Q", len(word)) + word


def _header(count: int, *pairs: bytes, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, 0, count) + b"".join(pairs)


def _pair(key: bytes, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


MIT_PAIR = _pair(b"general.license", 8, _text(b"mit"))
_HUGE = (1 << 64) - 1
HOSTILE = {
    "magic": _header(1, MIT_PAIR, magic=b"GGML"),
    "version 1": _header(1, MIT_PAIR, version=1),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "endless keys": _header(_HUGE, MIT_PAIR),
    "many keys": _header(1 << 20, MIT_PAIR * 2),
    "too many keys": _header(70_000, *(_pair(b"%d" % n, 0, b"1") for n in range(70_000))),
    "key twice": _header(2, MIT_PAIR, MIT_PAIR),
    "endless key": _header(1, struct.pack("<Q", _HUGE)),
    "long key": _header(1, _pair(b"k" * 70_000, 4, bytes(4))),
    "endless text": _header(1, _text(b"general.license") + struct.pack("<IQ", 8, _HUGE)),
    "long text": _header(1, _pair(b"general.license", 8, _text(b"m" * (2 << 20)))),
    "skipped text": _header(1, _text(b"other") + struct.pack("<IQ", 8, 1 << 40)),
    "not UTF-8": _header(1, _pair(b"general.license", 8, _text(b"\xff"))),
    "key not UTF-8": _header(1, _pair(b"\xff", 8, _text(b"a"))),
    "unknown type": _header(1, _pair(b"a", 13, bytes(12))),
    "endless numbers": _header(1, _pair(b"a", 9, struct.pack("<IQ", 4, _HUGE))),
    "endless numbers kept": _header(1, _pair(b"general.a", 9, struct.pack("<IQ", 4, _HUGE))),
    "endless texts": _header(1, _pair(b"a", 9, struct.pack("<IQ", 8, _HUGE))),
    "endless empty texts": _header(1, _pair(b"a", 9, struct.pack("<IQ", 8, 1 << 30))) + bytes(9000),
    "unknown items": _header(1, _pair(b"a", 9, struct.pack("<IQ", 99, 1))),
    "nested": _header(1, _pair(b"a", 9, struct.pack("<IQ", 9, 1) * 50_000)),
    "no value": _header(1, _text(b"a")),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_gguf_is_told(raw: bytes, folder: Path, known: Licenses) -> None:
    path = _write(folder, "model.gguf", raw)
    found = detect(path, known)
    assert not found.licenses and not found.upstreams
    assert list(_because(found)) == ["model.gguf"]


def test_an_endless_array_in_an_endless_file_is_told_at_once(folder: Path, known: Licenses) -> None:
    path = _write(folder, "model.gguf", HOSTILE["endless empty texts"])
    os.truncate(path, 1 << 34)
    assert list(_because(detect(path, known))) == ["model.gguf"]


@pytest.mark.parametrize("version", [2, 3])
def test_gguf_written_by_hand_is_read(version: int, folder: Path, known: Licenses) -> None:
    path = _write(folder, "model.gguf", _header(1, MIT_PAIR, version=version))
    assert [e.license for e in detect(path, known).licenses] == ["mit"]


def test_metadata_that_no_terminal_can_show(folder: Path, known: Licenses) -> None:
    raw = json.dumps({"__metadata__": {"license": "a\ud800\x1bb", "base_model": "\ud800"}}).encode()
    _write(folder, "model.safetensors", struct.pack("<Q", len(raw)) + raw)
    found = detect(folder, known)
    assert [e.said for e in found.licenses] == ["a\ufffd\ufffdb"]
    assert list(_because(found)) == ["model.safetensors"]


# Configurations.


def test_configurations_name_their_upstream(folder: Path, known: Licenses) -> None:
    _write(folder, "adapter_config.json",
           '{\n "peft_type": "LORA",\n "base_model_name_or_path": "gpt2"\n}')  # fmt: skip
    _write(folder, "config.json", json.dumps(
        {"_name_or_path": "", "text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5"}}, indent=1
    ))  # fmt: skip
    assert detect(folder, known).upstreams == (
        UpstreamEvidence("adapter_config.json", 3, "adapter-config", "gpt2", "base_model"),
        UpstreamEvidence("config.json", 0, "config", "lmsys/vicuna-7b-v1.5", "base_model"),
    )


def test_an_adapter_of_what_is_no_id_is_told(folder: Path, known: Licenses) -> None:
    _write(folder, "adapter_config.json", '{"base_model_name_or_path": "Our model"}')
    _write(folder, "config.json", '{"_name_or_path": "Our model"}')
    because = {"adapter_config.json": "line 1: names a base_model by no id of the Hub"}
    assert _because(detect(folder, known)) == because


def test_a_config_tells_only_owner_and_name(
    folder: Path, known: Licenses, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(folder, "a/config.json", '{"_name_or_path": "checkpoint"}')
    _write(folder, "b/config.json", '{"_name_or_path": "runs/last"}')
    _write(folder, "c/config.json", "{}")
    assert [e.id for e in detect(folder, known).upstreams] == ["runs/last"]
    # Where somebody runs it changes nothing: a folder of that name may be a copy from the Hub.
    _write(folder, "adapter_config.json", '{"base_model_name_or_path": "runs/last"}')
    (folder / "runs" / "last").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert [e.id for e in detect(folder, known).upstreams] == ["runs/last"] * 2


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 1}', b'{"a": {"b": 1, "b": 2}}',
     b"\xff\xfe{}", b'{"a":' * 100_000, b'{"base_model_name_or_path": 5, "_name_or_path": 5}'],
    ids=["empty", "list", "cut", "NaN", "twice", "twice inside", "UTF-16", "deep", "number"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_broken_configurations_are_told(
    name: str, raw: bytes, folder: Path, known: Licenses
) -> None:
    _write(folder, name, raw)
    found = detect(folder, known)
    assert not found.upstreams and list(_because(found)) == [name]


# Source files and packages.

TAG = "SPDX-License-" + "Identifier:"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# {} MIT", [("mit", "MIT", True, "")]),
        ("/* {} Apache-2.0 */", [("apache-2.0", "Apache-2.0", True, "")]),
        ("<!-- {} MIT -->", [("mit", "MIT", True, "")]),
        (
            "// {} (MIT AND Apache-2.0)",
            [("apache-2.0", "Apache-2.0", True, ""), ("mit", "MIT", True, "")],
        ),
        (
            "// {} MIT OR Apache-2.0",
            [("", "MIT OR Apache-2.0", False, "offers a choice of licenses")],
        ),
        ("// {} Foo OR Bar", [("", "Foo OR Bar", False, "offers a choice of licenses")]),
        (
            "// {} (MIT AND Apache-2.0) OR (Apache-2.0 AND MIT AND Zlib)",
            [
                (
                    "",
                    "(MIT AND Apache-2.0) OR (Apache-2.0 AND MIT AND Zlib)",
                    False,
                    "offers a choice of licenses",
                )
            ],
        ),
        ("// {} MIT OR mit", [("mit", "MIT OR mit", False, "")]),
        (
            "// {} MIT AND (Apache-2.0 OR Zlib)",
            [
                ("", "Apache-2.0 OR Zlib", False, "offers a choice of licenses"),
                ("mit", "MIT", True, ""),
            ],
        ),
        (
            "// {} Apache-2.0 WITH LLVM-exception",
            [
                (
                    "apache-2.0",
                    "Apache-2.0 WITH LLVM-exception",
                    False,
                    "with an exception that is not known here",
                )
            ],
        ),
        ("// {} LicenseRef-ours", [("", "LicenseRef-ours", False, "")]),
        ("// {} (MIT AND", [("", "(MIT AND", False, "")]),
        ("// {} some words or others", [("", "some words or others", False, "")]),
        ("// {}", []),
    ],
)
def test_spdx_headers(
    line: str, expected: list[tuple[str, str, bool, str]], folder: Path, known: Licenses
) -> None:
    _write(folder, "src/main.c", "// first\n" + line.format(TAG) + "\nint x;\n")
    found = detect(folder, known)
    assert [(e.license, e.said, e.exact, e.remark) for e in found.licenses] == expected
    assert all((e.line, e.kind) == (2, "spdx-header") for e in found.licenses)
    assert not found.unreadable


def test_spdx_headers_stand_at_the_start_of_source_files(folder: Path, known: Licenses) -> None:
    # The limit falls inside a character, which is no mistake.
    _write(folder, "late.py", "#é" * 2000 + f"\n# {TAG} MIT\n")
    _write(folder, "early.py", f"# {TAG} MIT\n" + "é" * 4000)
    _write(folder, "odd.py", f" # {TAG} MIT\n" + "é" * 4000)
    _write(folder, "notes.txt", f"# {TAG} MIT\n")
    _write(folder, "latin.py", "# é".encode("latin-1"))
    found = detect(folder, known)
    assert [e.path for e in found.licenses] == ["early.py", "odd.py"]
    assert _because(found) == {"latin.py": "is not UTF-8 text"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pyproject.toml", '[project]\nlicense = "MIT"\n', [(2, "mit", "MIT")]),
        ("pyproject.toml", '[project]\nlicense = {text = "MIT License"}\n',
         [(2, "mit", "MIT License")]),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}\n', []),
        ("pyproject.toml", '[project]\nname = "x"\n', []),
        ("pyproject.toml", 'project = 1\n[tool.poetry]\nlicense = "MIT"\n', [(3, "mit", "MIT")]),
        ("setup.cfg", "[metadata]\nlicense = MIT\n", [(2, "mit", "MIT")]),
        ("setup.cfg", "[metadata]\nlicense = file: LICENSE\n", []),
        ("setup.cfg", "[metadata]\nname = 50%\n", []),
    ],
)  # fmt: skip
def test_package_metadata(
    name: str, text: str, expected: list[tuple[int, str, str]], folder: Path, known: Licenses
) -> None:
    _write(folder, name, text)
    found = detect(folder, known)
    assert [(e.line, e.license, e.said) for e in found.licenses] == expected
    assert all(e.kind == "package-metadata" for e in found.licenses)
    assert not found.unreadable


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project"),
        ("pyproject.toml", "[project]\nlicense = 5\n"),
        ("pyproject.toml", "[project]\nlicense = {texts = 'MIT'}\n"),
        ("pyproject.toml", "a = " + "[" * 50_000),
        ("pyproject.toml", "[project]\nlicense = 'MIT'\nlicense = 'MIT'\n"),
        ("setup.cfg", "license = MIT\n"),
        ("setup.cfg", "[metadata]\nlicense = MIT\nlicense = MIT\n"),
    ],
)
def test_broken_package_metadata_is_told(
    name: str, text: str, folder: Path, known: Licenses
) -> None:
    _write(folder, name, text)
    found = detect(folder, known)
    assert not found.licenses and list(_because(found)) == [name]


# Folders.


@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "model.gguf", "model.safetensors", "setup.cfg"]
)
def test_a_folder_in_a_files_place_is_told(name: str, folder: Path, known: Licenses) -> None:
    (folder / name).mkdir()
    assert _because(detect(folder, known)) == {name: "is a folder, not a file"}


@pytest.mark.parametrize(
    "name", ["LICENSE", "README.md", "model.gguf", "model.safetensors", "a.py"]
)
def test_a_pipe_is_told_and_never_opened(name: str, folder: Path, known: Licenses) -> None:
    os.mkfifo(folder / name)
    assert _because(detect(folder, known)) == {name: "is not a regular file"}
    assert _because(detect(folder / name, known)) == {name: "is not a regular file"}


def test_links_are_followed_only_inside(folder: Path, known: Licenses) -> None:
    root = folder / "root"
    outside = _write(folder, "outside", MIT)
    _write(root, "legal/terms", MIT)
    (root / "LICENSE").symlink_to("legal/terms")
    (root / "COPYING").symlink_to(outside)
    (root / "LICENSE-loop").symlink_to("LICENSE-loop")
    (root / "LICENSE-gone").symlink_to("nothing")
    (root / "elsewhere").symlink_to(folder)
    (root / "data.bin").symlink_to(outside)
    (root / "back").symlink_to(root)
    found = detect(root, known)
    assert [e.path for e in found.licenses] == ["LICENSE"]
    because = _because(found)
    out = "is a link that leads out of the folder, so it was not followed"
    assert because.pop("COPYING") == because.pop("elsewhere") == out
    assert sorted(because) == ["LICENSE-gone", "LICENSE-loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(folder: Path, known: Licenses) -> None:
    _write(folder, "LICENSE", MIT).chmod(0)
    (folder / "closed").mkdir(mode=0)
    try:
        assert sorted(_because(detect(folder, known))) == ["LICENSE", "closed"]
    finally:
        (folder / "closed").chmod(0o700)


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "setup.cfg", "pyproject.toml"])
def test_text_that_is_not_utf_8_is_told(name: str, folder: Path, known: Licenses) -> None:
    _write(folder, name, MIT.encode("utf-16"))
    found = detect(folder, known)
    assert not found.licenses and _because(found) == {name: "is not UTF-8 text"}


@pytest.mark.parametrize(
    "name", ["LICENSE", "README.md", "config.json", "adapter_config.json", "setup.cfg"]
)
def test_what_is_too_large_is_told_at_once(name: str, folder: Path, known: Licenses) -> None:
    _write(folder, name, (MIT * 12_000)[: 10 << 20])
    found = detect(folder, known)
    assert not found.licenses and "so it was not read" in _because(found)[name]


def test_a_license_made_to_be_slow_is_read_in_time(folder: Path, known: Licenses) -> None:
    begins = " ".join(fingerprint(APACHE).begins.split())
    _write(folder, "LICENSE", (begins + "\n") * 25_000)
    (evidence,) = detect(folder, known).licenses
    assert evidence.license == ""


def test_names_are_shown_in_one_printable_line(folder: Path, known: Licenses) -> None:
    _write(folder, os.fsdecode(b"a\xff\nb/LICENSE"), MIT)
    assert [e.path for e in detect(folder, known).licenses] == ["a\\udcff\\nb/LICENSE"]


def _many(folder: Path) -> Iterator[Path]:
    for number in range(10_000):
        inside = folder / f"d{number % 100}"
        inside.mkdir(exist_ok=True)
        path = inside / (f"f{number}.py" if number % 2 else f"f{number}.bin")
        path.write_bytes(b"# code\n" * 10)
        yield path


def test_ten_thousand_files_and_many_texts_take_seconds(folder: Path, known: Licenses) -> None:
    assert len(list(_many(folder))) == 10_000
    for number in range(200):
        _write(folder, f"d{number % 100}/LICENSE{number}", ZLIB)
    assert len(detect(folder, known).licenses) == 200


def test_everything_is_sorted_and_the_same_each_time(folder: Path, known: Licenses) -> None:
    for name in ("z", "a", "m"):
        _write(folder, f"{name}/README.md", CARD)
        _write(folder, f"{name}/LICENSE", MIT)
        _write(folder, f"{name}/config.json", "[]")
    once, again = detect(folder, known), detect(folder, known)
    assert once == again
    for evidence in (once.licenses, once.upstreams):
        places = [(e.path, e.line) for e in evidence]  # type: ignore[attr-defined]
        assert places == sorted(places) and len(places) >= 9
    assert [u.path for u in once.unreadable] == [f"{n}/config.json" for n in "amz"]
    assert all(isinstance(e, LicenseEvidence) for e in once.licenses)


def test_a_folder_may_be_left_out(folder: Path, known: Licenses) -> None:
    for name in ("licenses/a/LICENSE", "b/licenses/LICENSE"):
        _write(folder, name, MIT)
    assert [e.path for e in detect(folder, known, skip="licenses").licenses] == [
        "b/licenses/LICENSE"
    ]


@pytest.mark.parametrize("license", ["llama2", "llama3.1", "llama3.2", "llama4", "gemma"])
def test_the_policy_that_comes_with_a_license_is_no_foreign_text(license: str) -> None:
    """The researched texts hold the agreement and its use policy in one file."""
    known = load_licenses()
    texts = Path(__file__).resolve().parents[3] / "shared" / "research" / "licenses" / "texts"
    if not texts.is_dir():
        pytest.skip("NOT COMPARED: ../shared/research/licenses/texts does not lie beside this")
    text = (texts / f"{license}.txt").read_text(encoding="utf-8-sig")
    assert recognize(text, known, [license]).license == license
    assert recognize(text + "\nNobody may laugh at it.\n", known, [license]).license == ""
