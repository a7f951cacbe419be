"""License files of a user's own beside a policy, and the texts of licenses that are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from release_kit.files import POLICIES
from release_kit.licensing.licenses import License, license_text, load_licenses
from release_kit.licensing.texts import excerpt, fingerprint

TEXTS = Path(__file__).resolve().parents[3] / "shared" / "research" / "licenses" / "texts"
"""Texts that nobody may ship, where somebody fetched them."""

OWN = "acme-community"
OWN_URL = "https://example.org/acme-community"
OWN_TEXT = """\
Acme Community License

1. You may use, change and share the model for any purpose that Attachment A does not exclude.
2. Whoever gets the model or a derivative of it gets this text.

Attachment A
You agree not to use the model:
1. to spy on people;
   - nor on their *pets*;
2. to sell <b>maps</b> of [anything](https://example.org).
"""
OWN_ATTACHMENT = OWN_TEXT[OWN_TEXT.index("You agree not") :]


def as_fingerprint(text: str) -> dict[str, Any]:
    """Return the fingerprint of `text` as a license file has it."""
    known = fingerprint(text)
    return {"begins": known.begins, "words": known.words, "sha256": known.sha256}


def own_license(*conditions: Mapping[str, Any], id: str = OWN, **more: Any) -> dict[str, Any]:
    """Return a license file with `conditions`; each lacks only its section and fact.

    Its text is `OWN_TEXT`, carried by a file beside it.
    """
    told = {"section": "2", "fact": "It is so."}
    return {
        "id": id,
        "spdx_id": None,
        "name": "Acme Community License",
        "version": None,
        "url": OWN_URL,
        "kind": "license",
        "applies_to": ["model", "dataset"],
        "downstream_license": {"value": "own-terms-allowed", "section": "1"},
        "permissions": {
            action: {"verdict": "granted", "section": "1"}
            for action in (
                "research-use",
                "commercial-use",
                "modify",
                "distribute",
                "distribute-derivatives",
            )
        },
        "conditions": [{**told, **condition} for condition in conditions],
        "limitations": [],
        "texts": [{**as_fingerprint(OWN_TEXT), "file": "own.txt"}],
        "source": OWN_URL,
        "verified_at": "2026-11-23",
        "unverified": False,
        **more,
    }


def own_folder(folder: Path, *licenses: Mapping[str, Any]) -> Path:
    """Write license files and the text that they name into `folder`, and return it."""
    folder.mkdir(parents=True)
    (folder / "own.txt").write_text(OWN_TEXT, encoding="utf-8")
    for license in licenses:
        # JSON is YAML.
        path = folder / f"{license['id']}.yaml"
        path.write_text(json.dumps(license, indent=1), encoding="utf-8")
    return folder


def own_policy(folder: Path, *licenses: Mapping[str, Any]) -> Path:
    """Write the baseline with a folder of own licenses into `folder`, and return its file."""
    own_folder(folder / "own", *licenses)
    baseline = (POLICIES / "baseline.yaml").read_text(encoding="utf-8")
    path = folder / "policy.yaml"
    path.write_text(f"{baseline}\nlicenses: own\n", encoding="utf-8")
    return path


@cache
def text_at_hand(license_id: str) -> str:
    """Return the text of a shipped license; empty where it is not at hand."""
    license = load_licenses()[license_id]
    return license_text(license) or _fetched(license)


def text_or_skip(license_id: str) -> str:
    """Return the text of a shipped license, or skip the test, loudly."""
    text = text_at_hand(license_id)
    if not text:
        pytest.skip(f"the text of {license_id} is not at hand: no package carries it, and there "
                    f"is no {TEXTS / license_id}.txt")  # fmt: skip
    return text


def _fetched(license: License) -> str:
    path = TEXTS / f"{license.id}.txt"
    if not path.is_file():
        return ""
    fetched = path.read_text(encoding="utf-8-sig")
    # The longest form: some texts hold their use policy, others stand before one.
    for known in sorted(license.texts, key=lambda known: -known.fingerprint.words):
        text = excerpt(fetched, known.fingerprint)
        if text is not None:
            return text.strip("\n") + "\n"
    raise AssertionError(f"{path} is none of the known texts of {license.id}")
