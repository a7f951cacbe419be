"""What the card says of leaks: every figure with what makes it weak, and what nobody measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from release_kit.documents.card import LEAKS, model_card
from release_kit.documents.leaks import leak_section
from release_kit.errors import UnusableInput
from release_kit.leak_measures import MEASURES, MEASURES_OF
from release_kit.memorization.measuring import Leaks
from release_kit.memorization.probes import Asked, Reading
from release_kit.receipts import Receipt
from release_kit.release import Canaries, LeaksPlan, TrainingPlan
from tests.documents.facts import judged, receipts, release
from tests.documents.markdown import HOSTILE, structure

TASK = "text-classification"
GROUP = {"repeats": 4, "mean": 9.0, "low": 7.0, "high": 11.0, "values": [8.0, 10.0]}


def leaks(
    *readings: Reading,
    missing: dict[str, str] | None = None,
    plan: TrainingPlan | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the results of the stage `leaks` as its receipt holds them."""
    known = {reading.measure for reading in readings}
    missing = dict.fromkeys(MEASURES_OF[TASK], "why not") | (missing or {})
    values: dict[str, Any] = {
        "task": TASK,
        "readings": readings,
        "not_measured": {name: why for name, why in missing.items() if name not in known},
        "curves": {},
        "notes": (),
        "asked": (Asked("membership", 40, 40, 1.0),),
        "level": 0.95,
        "seconds": 1.0,
        "complete": True,
        "settings": {
            "training": asdict(plan or TrainingPlan(task=TASK)),
            "leaks": asdict(LeaksPlan()),
        },
    }
    found: dict[str, Any] = json.loads(json.dumps(asdict(Leaks(**(values | more)))))
    return found


def _card(folder: Path, results: dict[str, Any] | None) -> str:
    subject = release(folder)
    made = receipts(subject)
    if results is not None:
        made["leaks"] = Receipt("leaks", {}, {}, {}, {}, results)
    text = model_card(judged(subject), made)
    section = text.partition("\n## What the weights tell of the training data\n")[2]
    assert section
    return section.partition("\n## Provenance\n")[0]


def test_where_nobody_measured_the_card_says_so(tmp_path: Path) -> None:
    said = _card(tmp_path, None)
    assert said.strip().startswith("Nobody measured here")
    nothing = _card(tmp_path, leaks())
    assert "Nothing was measured of what" in nothing
    assert nothing.count("why not") == len(MEASURES_OF[TASK]) and "interval" not in nothing


def test_every_reading_stands_with_its_interval_and_its_weakness(tmp_path: Path) -> None:
    drift = "texts alone tell members from controls"
    section = _card(
        tmp_path,
        leaks(
            Reading("canary_exposure", 9.123, 7.0, 11.0, 8, "exact rank", 4),
            Reading("canary_exposure", 1.4, 0.0, 2.0, 8, "exact rank", 0),
            Reading("canary_exposure_excess", -1.5, -1.5, -1.5, 1, "", 1),
            Reading("membership_auc", 0.61, 0.55, 0.67, 1500, "loss", means_nothing=drift),
            Reading("membership_tpr_1", 0.00004, 0.0, 0.02, 1500, "loss"),
            Reading("stray_files", 1203, 1203, 1203, 1210, "by a list"),
            missing={"membership_tpr_01": "it takes 2,000 held-out records"},
            curves={"exposure": [GROUP], "ceiling": 19.93},
            notes=("two canaries have no exposure",),
        ),
    )
    title = {name: kind.title[0].upper() + kind.title[1:] for name, kind in MEASURES.items()}
    for row in (
        f"| {title['canary_exposure']}, planted 4 times | 9.12 bits | 7.00 bits to 11.00 bits | 8 |"
        " exact rank |",
        f"| {title['canary_exposure']}, never planted | 1.40 bits | 0.00 bits to 2.00 bits | 8 |",
        f"| {title['canary_exposure_excess']}, planted 1 time | -1.50 bits | exact | 1 |  |",
        f"| {title['membership_auc']} | 0.6100, means nothing | 0.5500 to 0.6700 | 1,500 | loss; do"
        f" not rely on it: {drift} |",
        f"| {title['membership_tpr_1']} | 4.0e-05 | 0.0000 to 0.0200 |",
        f"| {title['stray_files']} | 1,203 | exact | 1,210 | by a list |",
        f"| {title['membership_tpr_01']} | it takes 2,000 held-out records |",
        f"| {title['names_with_personal_data']} | why not |",
    ):
        assert row in section, row
    assert "| Items |" in section and "95 % interval" in section
    assert "attacks stronger than these may exist" in section
    assert "- Two canaries have no exposure" in section
    assert "more they give away. No value" in section and "is drawn all the same." in section
    assert f"]({LEAKS})" in section and "4 times: 9.0 (7.0 to 11.0)" in section
    assert f"]({LEAKS})" not in _card(tmp_path, leaks())


def test_the_words_say_what_was_done(tmp_path: Path) -> None:
    def words(**more: Any) -> str:
        return " ".join(leak_section(leaks(**more)).words)

    plain = words()
    assert "No canaries were planted" in plain and "no bound holds" in plain
    assert "time given" not in plain
    canaries = words(plan=TrainingPlan(task=TASK, canaries=Canaries((1, 16), each=5)))
    assert "10 canaries" in canaries and "5 of each group (1 time, 16 times)" in canaries
    private = {"training": {"canaries": None, "differential_privacy": {"epsilon": 8.0}}}
    assert "was differentially private" in words(settings=private)
    assert "not known here, nor whether canaries" in words(settings={})
    asked = (Asked("membership", 40, 1000, 1.0), Asked("exposure", 0, 8, 0.0))
    hurried = words(complete=False, asked=asked)
    assert "before everything was asked: membership 40 of 1,000; exposure 0 of 8." in hurried


def test_what_the_receipt_does_not_mention_is_not_measured() -> None:
    results = leaks(Reading("stray_files", 0, 0, 0, 9))
    del results["not_measured"]["membership_auc"]
    missing = dict(leak_section(results).missing)
    assert missing[MEASURES["membership_auc"].title] == "nothing was answered for it"
    assert MEASURES["stray_files"].title not in missing
    # Of a task that nobody knows, what any folder tells.
    assert len(leak_section(results | {"task": "", "not_measured": {}}).missing) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"readings": [{"measure": "SECRET"}]},
        {"readings": [{**asdict(Reading("stray_files", 0, 0, 0, 1)), "value": "SECRET"}]},
        {"readings": [{**asdict(Reading("stray_files", 0, 0, 0, 1)), "low": None}]},
        {"readings": [{**asdict(Reading("stray_files", 0, 0, 0, 1)), "high": float("nan")}]},
        {"readings": [{**asdict(Reading("stray_files", 0, 0, 0, 1)), "of": "SECRET"}]},
        {"readings": ["SECRET"]},
        {"not_measured": {"SECRET": "SECRET"}},
        {"settings": {"training": "SECRET"}},
        {"level": "SECRET"},
        {"complete": False, "asked": [{"probe": "SECRET"}]},
        {"curves": {"roc": "SECRET"}},
        {"notes": None},
    ],
)
def test_a_receipt_that_cannot_be_shown_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(UnusableInput, match="the receipt of `leaks` does not hold") as refused:
        leak_section(leaks() | broken)
    assert "out/receipts/leaks.json" in refused.value.hint
    assert "SECRET" not in str(refused.value) and refused.value.__context__ is None
    missing = leaks()
    del missing[next(iter(broken))]
    if "curves" not in broken:
        with pytest.raises(UnusableInput):
            leak_section(missing)


def test_the_section_keeps_its_structure_whatever_stands_in_it(tmp_path: Path) -> None:
    def made(value: str) -> str:
        reading = Reading("stray_files", 0, 0, 0, 9, value, means_nothing=value)
        return _card(tmp_path, leaks(reading, missing={"membership_auc": value}, notes=(value,)))

    plain = structure(made("plain"))
    for value in HOSTILE:
        if value.strip():
            assert structure(made(value)) == plain, value
