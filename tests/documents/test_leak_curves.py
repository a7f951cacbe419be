"""The picture of leaks: what is measured and no more, told in words, never better than it is."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from release_kit.documents.leak_curves import leaks_alt, leaks_png, leaks_svg
from release_kit.errors import Unfinished, UnusableInput
from release_kit.memorization.roc import auc, points

SVG = "{http://www.w3.org/2000/svg}"


def _group(repeats: int, mean: float, count: int = 8) -> dict[str, Any]:
    values = [mean - 1, mean + 1] * (count // 2)
    low, high = max(0.0, mean - 1.5), mean + 1.5
    return {"repeats": repeats, "mean": mean, "low": low, "high": high, "values": values}


def _attack(name: str, shift: float) -> dict[str, Any]:
    draw = np.random.default_rng(3)
    members, controls = draw.normal(shift, 1, 400), draw.normal(0, 1, 400)
    area = auc(members, controls, 0.95)
    told = {"tpr_1": [shift / 10, 0.0, 0.5], "tpr_01": [0.0, 0.0, 1.0]}
    ends = {"auc": area.value, "low": area.low, "high": area.high}
    return {"attack": name, **ends, **told, "points": points(members, controls)}


EXPOSURE = {"ceiling": 19.93, "exposure": [_group(16, 17.0), _group(0, 1.4), _group(1, 3.0)]}
ROC = {"roc": [_attack("loss", 0.3), _attack("ratio to the base model", 1.5)]}


def _words(svg: str | None) -> set[str]:
    assert svg is not None
    return {"".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")}


def _lines(svg: str | None, color: str) -> int:
    """Return how many paths of a color lie inside the axes."""
    assert svg is not None
    paths = ET.fromstring(svg).iter(f"{SVG}path")
    return sum(f"stroke: {color}" in str(p.attrib) and "clip-path" in p.attrib for p in paths)


def test_words_and_picture_say_the_same() -> None:
    curves = json.loads(json.dumps(EXPOSURE | ROC))
    alt, svg = leaks_alt(curves), leaks_svg(curves)
    assert svg is not None and ET.fromstring(svg).findtext(f"{SVG}title") == alt
    assert "the ceiling is 19.9." in alt
    assert "Never planted: 1.4 (0.0 to 2.9), 8 canaries. 1 time: 3.0 (1.5 to 4.5)" in alt
    assert "16 times: 17.0 (15.5 to 18.5)" in alt
    assert "loss: AUC 0.5" in alt and "tells 3.0 % of members at 1 % false alarms" in alt
    assert alt.index("ratio to the base") < alt.index("loss")
    words = _words(svg)
    assert {"never", "1", "16", "ceiling", "never planted", "guessing, AUC 0.50", "0.1 %"} <= words
    assert any(word.startswith("ratio to the base model, AUC 0.8") for word in words)
    assert svg == leaks_svg(curves)
    assert len(svg) < 80_000


def test_only_what_was_measured_is_drawn() -> None:
    assert leaks_svg({}) is leaks_png({}) is None
    assert leaks_alt({}) == ""
    assert leaks_svg({"exposure": [], "roc": [], "blind": {}, "extraction": []}) is None
    exposure, roc = leaks_svg(EXPOSURE), leaks_svg(ROC)
    assert "ceiling" in _words(exposure) and "guessing, AUC 0.50" not in _words(exposure)
    assert "ceiling" not in _words(roc) and "guessing, AUC 0.50" in _words(roc)
    assert "ROC" not in leaks_alt(EXPOSURE) and "canaries" not in leaks_alt(ROC)
    control = {"ceiling": 19.93, "exposure": [_group(0, 1.4)]}
    assert "never" in _words(leaks_svg(control)) and leaks_alt(control).count("canaries.") == 1


def test_the_five_strongest_attacks_are_drawn_and_small_shares_lie_on_the_edge() -> None:
    many = {"roc": [_attack(f"attack {number}", number / 4) for number in range(8)]}
    alt, words = leaks_alt(many), _words(leaks_svg(many))
    for number in range(8):
        assert (f"attack {number}:" in alt) == (number >= 3)
        assert any(word.startswith(f"attack {number},") for word in words) == (number >= 3)
    # Surely larger goes before perhaps larger.
    lucky = {**_attack("lucky", 0), "auc": 0.99, "low": 0.3}
    assert "lucky" not in leaks_alt({"roc": [lucky, *many["roc"][3:]]})
    empty = {**_attack("none told", 0), "points": [[0.0, 0.0], [0.01, 0.0], [1.0, 1.0]]}
    svg = leaks_svg({"roc": [empty]})
    assert _lines(svg, "#0072b2") == 1 and "nan" not in str(svg)


def test_many_canaries_stay_a_small_picture() -> None:
    groups = [_group(repeats, 2.0, 1000) for repeats in (0, *range(1, 12), 10_000)]
    svg = leaks_svg({"ceiling": 53.2, "exposure": groups})
    assert svg is not None and len(svg) < 200_000
    ticks = {word for word in _words(svg) if word.isdigit()}
    assert "10000" in ticks and "9" not in ticks  # 9 and 11 would run into each other
    assert "1000 canaries" in leaks_alt({"ceiling": 53.2, "exposure": groups})


@pytest.mark.parametrize(
    "curves",
    [
        {"exposure": [_group(1, 2.0)]},
        {"exposure": ["SECRET"], "ceiling": 1.0},
        {"exposure": [{**_group(1, 2.0), "mean": float("nan")}], "ceiling": 1.0},
        {"exposure": [{**_group(1, 2.0), "values": ["SECRET"]}], "ceiling": 1.0},
        {"exposure": [_group(-1, 2.0)], "ceiling": 1.0},
        {"roc": [{"attack": "SECRET"}]},
        {"roc": [{**_attack("loss", 0), "attack": 7}]},
        {"roc": [{**_attack("loss", 0), "points": [["SECRET", 1]]}]},
        {"roc": [{**_attack("loss", 0), "points": []}]},
        {"roc": [{**_attack("loss", 0), "tpr_1": []}]},
    ],
)
def test_what_cannot_be_drawn_is_refused(curves: dict[str, Any]) -> None:
    for function in (leaks_alt, leaks_svg, leaks_png):
        with pytest.raises(UnusableInput, match="curves that can be drawn") as refused:
            function(curves)
        assert refused.value.__context__ is None and "SECRET" not in str(refused.value)


def test_without_matplotlib_only_the_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Unfinished, match="matplotlib, not installed"):
        leaks_svg(ROC)
    assert leaks_svg({}) is None
    assert leaks_alt(ROC)
