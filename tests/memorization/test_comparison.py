"""Two measured runs side by side: what differs, how sure that is, and what cannot be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from release_kit.errors import UnusableInput
from release_kit.memorization.comparison import compare


def reading(measure: str, value: float, half: float, **more: Any) -> dict[str, Any]:
    base = {"of": 9, "how": "", "repeats": None, "means_nothing": ""}
    return {"measure": measure, "value": value, "low": value - half, "high": value + half} | (
        base | more
    )


def run(path: Path, *readings: dict[str, Any], **training: Any) -> Path:
    settings = {"training": {"epochs": 2, "method": {"kind": "full"}, **training}}
    path.write_text(
        json.dumps({"readings": readings, "not_measured": {"stray_files": "no"}}
                   | {"settings": settings})
    )  # fmt: skip
    return path


def test_differences_have_intervals_and_verdicts(tmp_path: Path) -> None:
    before = run(
        tmp_path / "a.json",
        reading("membership_auc", 0.8, 0.03),
        reading("extraction_rate", 0.1, 0.05),
        reading("canary_exposure", 9.0, 1.0, repeats=4),
        reading("canary_exposure", 3.0, 1.0, repeats=1),
        reading("canary_exposure_excess", 3.0, 0.0, repeats=1),
        reading("membership_tpr_1", 0.2, 0.1, means_nothing="the sets differ"),
        epochs=6,
    )
    after = run(
        tmp_path / "b.json",
        reading("canary_exposure", 2.0, 1.0, repeats=4),
        reading("canary_exposure", 7.0, 1.0, repeats=1),
        reading("canary_exposure_excess", 1.0, 0.0, repeats=1),
        reading("membership_auc", 0.6, 0.04),
        reading("extraction_rate", 0.08, 0.05),
        reading("membership_tpr_1", 0.1, 0.1),
        reading("untargeted_overlap_rate", 0.0, 0.1),
        method={"kind": "lora"},
        deduplicate="near",
    )
    found = compare(before, after)
    told = {(one.measure, one.repeats): one for one in found.changes}
    assert [*told] == [
        ("canary_exposure", 1), ("canary_exposure", 4), ("canary_exposure_excess", 1),
        ("extraction_rate", None),
        ("untargeted_overlap_rate", None), ("membership_auc", None), ("membership_tpr_1", None),
    ]  # fmt: skip
    auc = told["membership_auc", None]
    assert auc.difference == pytest.approx(-0.2)
    assert (auc.low, auc.high) == pytest.approx((-0.25, -0.15))
    assert {key: one.verdict for key, one in told.items()} == {
        ("canary_exposure", 1): "more",
        ("canary_exposure", 4): "less",
        ("canary_exposure_excess", 1): "of these canaries alone",
        ("extraction_rate", None): "no difference shown",
        ("untargeted_overlap_rate", None): "not comparable",
        ("membership_auc", None): "less",
        ("membership_tpr_1", None): "not comparable",
    }
    assert told["untargeted_overlap_rate", None].before is None
    assert math.isclose(told["canary_exposure", 4].high or 0, -7 + math.sqrt(2))
    assert found.settings == (
        ("training.epochs", "6", "2"),
        ("training.method.kind", '"full"', '"lora"'),
        ("training.deduplicate", "not stated", '"near"'),
    )
    same = compare(before, before)
    assert not same.settings
    assert {one.verdict for one in same.changes} == {
        *("no difference shown", "not comparable", "of these canaries alone"),
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"readings": [], "not_measured": {}}', '{"readings": 3}', "\x00"]
    + [
        json.dumps({"readings": [one], "not_measured": {}, "settings": {}})
        for one in (
            {"measure": "membership_auc"},
            reading("no_such_measure", 1, 0),
            reading("membership_auc", 1, 0) | {"low": "0"},
            reading("membership_auc", 1, 0) | {"high": None},
            reading("membership_auc", 1, 0) | {"means_nothing": None},
        )
    ],
)
def test_what_was_not_measured_cannot_be_compared(tmp_path: Path, text: str) -> None:
    good = run(tmp_path / "a.json", reading("membership_auc", 0.8, 0.03))
    bad = tmp_path / "b.json"
    bad.write_text(text)
    for pair in ((good, bad), (bad, good), (good, tmp_path / "none.json"), (tmp_path, good)):
        with pytest.raises(UnusableInput, match="does not hold what `release-kit leaks`"):
            compare(*pair)
