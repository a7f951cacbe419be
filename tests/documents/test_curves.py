"""The curves: the same bytes everywhere, drawn for every eye, told in words, robust to gaps."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from release_kit.documents.curves import curves_alt, curves_png, curves_svg
from release_kit.errors import Unfinished, UnusableInput

NAN = float("nan")
LOSSES = [
    {"epoch": 1, "training_loss": 1.5, "validation_loss": 1.25, "seconds": 2.0},
    {"epoch": 2, "training_loss": 0.75, "validation_loss": 0.5, "seconds": 2.0},
    {"epoch": 3, "training_loss": 0.25, "validation_loss": 0.625, "seconds": 2.0},
]
SVG = "{http://www.w3.org/2000/svg}"


def _drawn(svg: str) -> dict[str, int]:
    """Return how many moves and lines each colour's paths in the axes hold."""
    found: dict[str, int] = {}
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        style = path.get("style") or ""
        if "clip-path" in path.attrib:
            color = style.partition("stroke: ")[2][:7]
            points = sum(letter in "ML" for letter in path.get("d") or "")
            found[color] = found.get(color, 0) + points
    return found


def _words(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


def _epochs(count: int) -> list[dict[str, Any]]:
    return [
        {"epoch": n, "training_loss": 1 / n, "validation_loss": 1 / n + n / count}
        for n in range(1, count + 1)
    ]


def test_words_and_picture_say_the_same() -> None:
    alt = curves_alt(LOSSES)
    assert alt == (
        "Losses of a training over 3 epochs. Training loss: at first 1.5, at last 0.25."
        " Validation loss: at first 1.25, at last 0.625."
        " Best epoch: 2, with validation loss 0.5."
    )
    svg = curves_svg(LOSSES)
    assert ET.fromstring(svg).findtext(f"{SVG}title") == alt
    words = _words(svg)
    assert {"training", "validation", "best: epoch 2", "epoch", "loss"} <= set(words)
    drawn = _drawn(svg)
    assert drawn["#0072b2"] == drawn["#d55e00"] == 3
    dashed = [p for p in ET.fromstring(svg).iter(f"{SVG}path") if "dasharray" in str(p.attrib)]
    assert {"#d55e00" in str(path.attrib) for path in dashed} == {True}
    assert len(svg) < 20_000


_ELSEWHERE = """
import hashlib, sys, matplotlib
settings = lambda: repr(matplotlib.rcParams.copy())  # to look at each would load pyplot
before = settings()
from release_kit.documents.curves import curves_png, curves_svg
losses = eval(sys.argv[1])
svg, png = curves_svg(losses), curves_png(losses)
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
print(hashlib.sha256(svg.encode() + png).hexdigest())
"""


def test_the_bytes_are_the_same_everywhere_and_tell_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 30\nsvg.fonttype: path\naxes.facecolor: black\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, repr(LOSSES)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    svg, png = curves_svg(LOSSES), curves_png(LOSSES)
    assert done.stdout.strip() == hashlib.sha256(svg.encode() + png).hexdigest()
    assert done.stderr == ""
    for word in (str(Path.home()), sys.prefix, "site-packages", "dc:date", "Matplotlib"):
        assert word not in svg
        assert word.encode() not in png

    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    assert picture.size == (1200, 750)
    assert "Software" not in picture.info
    shown = picture.convert("RGB")
    assert shown.getpixel((2, 2)) == (255, 255, 255)  # not transparent on a dark page
    colors = {color for _, color in shown.getcolors(2**24) or []}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= colors


def test_gaps_and_extremes() -> None:
    one = curves_svg(LOSSES[:1])
    assert "best: epoch 1" in _words(one)
    assert "over 1 epoch. Training loss: 1.5. Validation loss: 1.25. Best" in curves_alt(LOSSES[:1])

    for broken in (NAN, None, float("inf")):
        gap = [LOSSES[0], {**LOSSES[1], "validation_loss": broken}, LOSSES[2]]
        alt = curves_alt(gap)
        assert "1.25, at last 0.625, with no number for 1 of the epochs. Best epoch: 3" in alt
        drawn = _drawn(curves_svg(gap))
        assert (drawn["#0072b2"], "nan" in alt) == (3, False)

    alone = [{"epoch": loss["epoch"], "training_loss": loss["training_loss"]} for loss in LOSSES]
    assert curves_alt(alone).endswith("at last 0.25. Validation loss: not known.")
    words = _words(curves_svg(alone))
    assert "training" in words
    assert not {"validation", "best: epoch 1"} & set(words)

    nothing = [{"epoch": 1, "training_loss": NAN, "validation_loss": None}]
    assert "no loss is a number" in _words(curves_svg(nothing))
    assert curves_png(nothing)

    many = _epochs(1000)
    svg = curves_svg(many)
    assert len(svg) < 100_000
    assert svg.count("<use") < 100  # not a mark on every epoch
    assert "Best epoch: 32," in curves_alt(many)


def test_steps_and_their_learning_rate() -> None:
    steps = [
        {"step": n, "loss": n * 7919 % 1000, "learning_rate": n * 1e-6} for n in range(1, 9001)
    ]
    rated, plain = curves_svg(LOSSES, steps), curves_svg(LOSSES, [{"step": 5, "loss": 1.0}])
    assert {"each step", "learning", "rate"} <= set(_words(rated))
    assert "learning" not in _words(plain)
    assert len(rated) < 60_000
    assert _drawn(rated)["#0072b2"] > 50
    assert _drawn(curves_svg(LOSSES))["#0072b2"] == 3


def test_what_cannot_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bad: list[Any] = [[], [{"epoch": 1}], [{"epoch": "x", "training_loss": 1.0}], ["loss"]]
    bad += [[{"epoch": 1, "training_loss": "SECRET"}]]
    for losses in bad:
        for function in (curves_alt, curves_svg, curves_png):
            with pytest.raises(UnusableInput, match="losses that can be drawn") as refused:
                function(losses)
            assert refused.value.__context__ is None
    for steps in ([{"loss": 1.0}], [{"step": 1, "loss": "SECRET"}], [{"step": 0, "loss": 1.0}]):
        with pytest.raises(UnusableInput, match="losses that can be drawn"):
            curves_svg(LOSSES, steps)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.style", raising=False)
    with pytest.raises(Unfinished, match="matplotlib, not installed") as missing:
        curves_png(LOSSES)
    assert missing.value.hint == "pip install 'release-kit[train]'"
    assert curves_alt(LOSSES)
