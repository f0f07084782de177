"""Curves as SVG that takes the colour of the page's text, so that it can be read in light and in dark."""

import io
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from lookforward.report.curves import Line, curves

_INK = "#123457"  # replaced by the page's own colour
_LOCK = threading.Lock()


def chart(panels: Mapping[str, Mapping[str, Line]], marked: float = 0) -> str:
    """An <svg> of one panel for each title against the step; "" if there is none. marked: a step to point out, 0: none.

    The same data are drawn once, however many browsers ask.
    """
    key = tuple(
        (title, tuple((label, tuple(xs), tuple(ys)) for label, (xs, ys) in lines.items()))
        for title, lines in panels.items()
    )
    with _LOCK:
        return _draw(key, marked) if panels else ""


@lru_cache(maxsize=16)
def _draw(key: tuple[Any, ...], marked: float) -> str:
    panels = {title: {label: (xs, ys) for label, xs, ys in lines} for title, lines in key}
    figure = curves(panels, "step", columns=len(panels))
    for axis in figure.axes:
        if marked:
            axis.axvline(marked, color=_INK, linewidth=1, linestyle="--")
        axis.patch.set_alpha(0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=_INK)
        for spine in axis.spines.values():
            spine.set_color(_INK)
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_color(_INK)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    return text.replace(_INK, "currentColor").strip()
