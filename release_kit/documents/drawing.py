"""How every picture of a document is drawn: 400 pixels wide, the same bytes for the same input.

White behind the lines, so that they read the same on a light and a dark page; the colours are
those of Okabe and Ito's palette for all kinds of colour vision, and dashes and marks tell the lines
apart without any. One unit of the SVG is a pixel at 400 pixels of width.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from release_kit.errors import Unfinished

QUIET = "#595959"
"""The grey of what is no finding."""
GRID: Mapping[str, Any] = {"color": "#D9D9D9", "linewidth": 0.6}

_WIDTH = 400
_POINTS_PER_INCH = 72
_PNG_SCALE = 3
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "release-kit",
}

_Draw = Callable[[Sequence[Any]], None]


def as_svg(heights: Sequence[int], draw: _Draw, title: str, *, sharex: bool = False) -> str:
    """Return panels one above the other as SVG, their text as text.

    Args:
        heights: of the panels, in pixels.
        draw: is given the matplotlib axes, one for each height.
        title: the same in words.
        sharex: whether the panels have one horizontal axis.

    Raises:
        Unfinished: matplotlib is not installed.
    """
    # A comment of the Creator would tell the version, and the Date the day.
    told = {"Title": title, "Creator": None, "Date": None}
    return _drawn(heights, draw, sharex, "svg", told).decode("utf-8")


def as_png(heights: Sequence[int], draw: _Draw, *, sharex: bool = False) -> bytes:
    """Return the picture of `as_svg` as PNG, 1200 pixels wide; raises the same."""
    return _drawn(heights, draw, sharex, "png", {"Software": None})


def _drawn(
    heights: Sequence[int],
    draw: _Draw,
    sharex: bool,
    form: str,
    metadata: Mapping[str, str | None],
) -> bytes:
    if importlib.util.find_spec("matplotlib") is None:
        raise Unfinished(
            "the curves need matplotlib, not installed here",
            hint="pip install 'release-kit[train]'",
        )
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # From the defaults on, so that nobody's own matplotlibrc shows; afterwards all is as before.
    with style.context(["default", _STYLE]):
        figure = Figure(
            figsize=(_WIDTH / _POINTS_PER_INCH, sum(heights) / _POINTS_PER_INCH),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        count = len(heights)
        axes = figure.subplots(count, sharex=sharex, squeeze=False, height_ratios=heights)
        draw(list(axes[:, 0]))
        written = io.BytesIO()
        figure.savefig(written, format=form, dpi=_POINTS_PER_INCH * _PNG_SCALE, metadata=metadata)
    return written.getvalue()
