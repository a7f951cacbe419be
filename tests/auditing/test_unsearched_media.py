"""What redaction did not search is told by the severity of the policy, and never passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import training_data
from release_kit.auditing.findings import Finding
from release_kit.bundle import Bundle
from release_kit.licensing.policy import Policy, UnsearchedMedia, load_policy
from release_kit.receipts import Receipt
from release_kit.release import TrainingPlan, read_release
from tests.projects import RELEASE_YAML

DATA = "acme/topic-notes"
BINDING = UnsearchedMedia("voices", ("audio",), "error", "nobody may be recognised by a voice")


def told(folder: Path, task: str, media: dict[str, Any] | None, policy: Policy) -> list[Finding]:
    (folder / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    release = replace(read_release(folder), training=TrainingPlan(task=task))
    results = {} if media is None else {"media": {DATA: media}}
    train = Receipt("train", {}, {}, {}, {}, results)
    candidate = Candidate(Bundle({}, {}, {}), release, policy, {"train": train}, in_project=True)
    found = training_data.CHECK.run(candidate).findings
    return [finding for finding in found if finding.rule == "media-unsearched"]


def held(kind: str, **counts: int) -> dict[str, Any]:
    none = {"files": 0, "embedded": 0, "unusable": 0}
    return {"kinds": [kind], "digest": "", **none, **counts}


def test_the_strictest_line_about_their_kind_counts(tmp_path: Path) -> None:
    policy = load_policy()
    (finding,) = told(tmp_path, "speech-ctc", held("audio", files=2, embedded=3), policy)
    assert (finding.severity, finding.clause) == ("warning", "pictures-and-sounds")
    assert "5 sounds" in finding.message
    strict = replace(policy, unsearched_media=(*policy.unsearched_media, BINDING))
    (finding,) = told(tmp_path, "speech-ctc", held("audio", files=1), strict)
    assert (finding.severity, finding.clause) == ("error", "voices")
    (finding,) = told(tmp_path, "image-classification", held("image", files=1), strict)
    assert (finding.severity, finding.clause) == ("warning", "pictures-and-sounds")


@pytest.mark.parametrize("media", [None, held("image", unusable=1)])
def test_what_nobody_counted_and_no_line_is_about_is_still_told(
    tmp_path: Path, media: dict[str, Any] | None
) -> None:
    silent = replace(load_policy(), unsearched_media=())
    (finding,) = told(tmp_path, "image-classification", media, silent)
    assert (finding.severity, finding.clause) == ("warning", "")


def test_texts_and_none_at_all_are_not_told(tmp_path: Path) -> None:
    assert told(tmp_path, "text-classification", None, load_policy()) == []
    assert told(tmp_path, "image-classification", held("image"), load_policy()) == []
