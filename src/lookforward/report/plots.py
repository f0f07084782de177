"""Plots as SVG that stands inline in a page: the ink is the page's own, so that it can be read on light and on dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lookforward.report.blocks import Plot
from lookforward.report.data import UNTOUCHED, Benchmark, Result
from lookforward.report.numbers import estimate, plain

FIDELITY = ("DINO", "CLIP-I", "identity", "DINOv2", "oracle")  # what is drawn against CLIP-T
TEXT = "CLIP-T"
CURVES = {"critic_loss": "critic's loss", "explained_variance": "explained variance", "reward": "reward"}
_INK = "#010203"  # stands for the page's ink until the SVG is written
# Of middle lightness: 3:1 or more against white and against nearly black
_COLOURS = (
    "#3b82c4",
    "#d1661f",
    "#2f9461",
    "#c94f7c",
    "#8a6fd1",
    "#a07a1c",
    "#258d9e",
    "#c8483f",
    "#74843a",
    "#8b7868",
)
_MARKERS = "osD^vPX*<>"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a $
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}


def fidelity_plots(benchmark: Benchmark) -> list[Plot]:
    """Each score of fidelity against CLIP-T, a point for every trained method, with both 95% intervals."""
    names = [name for name in benchmark.methods if name != UNTOUCHED and benchmark.of(name)]
    if TEXT not in benchmark.scores or not names:
        return []
    return [_scatter(benchmark, score, names) for score in FIDELITY if score in benchmark.scores]


def _scatter(benchmark: Benchmark, score: str, names: Sequence[str]) -> Plot:
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 4.2 + 0.11 * len(names)), layout="constrained")
        axis = figure.subplots()
        said: list[str] = []
        points: list[tuple[float, float]] = []
        for name in names:
            across, up = estimate(benchmark.of(name), TEXT), estimate(benchmark.of(name), score)
            if across is None or up is None:
                continue
            optimised = bool(benchmark.mark(name, score) or benchmark.mark(name, TEXT))
            colour, marker = _look(benchmark, name)
            axis.errorbar(
                across.mean,
                up.mean,
                xerr=_ends(across),
                yerr=_ends(up),
                fmt=marker,
                color=colour,
                markerfacecolor="none" if optimised else colour,
                markersize=7,
                linewidth=0.9,
                label=_legend(benchmark.label(name) + (" †" if optimised else "")),
            )
            said.append(f"{benchmark.label(name)}: {TEXT} {plain(across.mean)}, {score} {plain(up.mean)}")
            points.append((across.mean, up.mean))
        cut = _keep_near(axis, points)
        _dress(axis, f"{TEXT} (what the prompt says)", f"{score} (the very subject)")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)
        svg = _svg(figure, f"scatter {score}")
    caption = f"{score} against {TEXT}; bars are 95% intervals over subjects. Up and to the right is better."
    caption += " Bars that are longer than the plot are cut off." if cut else ""
    floor = estimate(benchmark.of(UNTOUCHED), score) if UNTOUCHED in benchmark.methods else None
    floor_text = estimate(benchmark.of(UNTOUCHED), TEXT) if UNTOUCHED in benchmark.methods else None
    if floor is not None and floor_text is not None:
        caption += f" Not drawn, as it would stretch the axes: untouched model, {plain(floor_text.mean)} across and"
        caption += f" {plain(floor.mean)} up."
    if any(benchmark.mark(name, score) or benchmark.mark(name, TEXT) for name in names):
        caption += " Hollow: trained on one of the two scores."
    return Plot(caption, "; ".join(said) + ".", svg)


def _keep_near(axis: Axes, points: Sequence[tuple[float, float]]) -> bool:
    """Axes that show the points apart, and not the long bars of two or three subjects; whether that cuts a bar off."""
    cut = False
    if not points:
        return cut
    for values, get, put in zip(
        zip(*points, strict=True), (axis.get_xlim, axis.get_ylim), (axis.set_xlim, axis.set_ylim), strict=True
    ):
        low, high = get()
        room = max(max(values) - min(values), 0.1)
        near = max(low, min(values) - room), min(high, max(values) + room)
        cut = cut or near != (low, high)
        put(*near)
    return cut


def curve_plots(benchmark: Benchmark) -> list[Plot]:
    """The critic's loss, its explained variance and the reward against the step, of methods whose critic learned."""
    names = [n for n in benchmark.methods if any("critic_loss" in r.curves for r in benchmark.of(n))]
    return [
        _curve(benchmark, term, title, names)
        for term, title in CURVES.items()
        if any(term in r.curves for n in names for r in benchmark.of(n))
    ]


def middle_curve(results: Sequence[Result], term: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, medians over the cells that logged the term at that step): the first steps of some are far off."""
    points: dict[float, list[float]] = {}
    for result in results:
        for step, value in result.curves.get(term, ()):
            points.setdefault(step, []).append(value)
    steps = sorted(points)
    return np.array(steps), np.array([np.median(points[step]) for step in steps])


def _curve(benchmark: Benchmark, term: str, title: str, names: Sequence[str]) -> Plot:
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.4 + 0.11 * len(names)), layout="constrained")
        axis = figure.subplots()
        said = []
        for name in names:
            steps, values = middle_curve(benchmark.of(name), term)
            if not len(steps):
                continue
            colour = _look(benchmark, name)[0]
            axis.plot(steps, values, linewidth=1.4, color=colour, label=_legend(benchmark.label(name)))
            said.append(f"{benchmark.label(name)}: {values[0]:.3g} at first, {values[-1]:.3g} in the end")
        if term == "critic_loss":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the usual one is mathematics
            axis.yaxis.set_minor_formatter(NullFormatter())
        if term == "explained_variance":  # the first steps can be far below nought
            axis.set_ylim(max(axis.get_ylim()[0], -1.0), 1.05)
        _dress(axis, "step", title)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=8)
        svg = _svg(figure, f"curve {term}")
    note = {
        "critic_loss": "Falls as the critic learns to predict the return.",
        "explained_variance": "1: the critic predicts every return; 0: no better than their mean.",
        "reward": "Rewards of different methods are not on one scale.",
    }[term]
    return Plot(f"{title.capitalize()}, median over subjects and seeds. {note}", "; ".join(said) + ".", svg)


def _look(benchmark: Benchmark, name: str) -> tuple[str, str]:
    """Colour and marker of a method, the same in every plot."""
    at = [n for n in benchmark.methods if n != UNTOUCHED].index(name)
    return _COLOURS[at % len(_COLOURS)], _MARKERS[(at + at // len(_COLOURS)) % len(_MARKERS)]


def _legend(label: str) -> str:
    short = label if len(label) <= 34 else f"{label[:33]}…"
    return f"\u2009{short}" if short.startswith("_") else short  # matplotlib hides labels that begin so


def _ends(found: tuple[float, float, float]) -> list[list[float]] | None:
    mean, low, high = found
    return None if low != low else [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]


def _dress(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.2)
    axis.patch.set_alpha(0)
    axis.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure, salt: str) -> str:
    """The <svg> element alone, without addresses, in the page's own ink. salt: keeps ids of two plots apart."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    own = re.sub(r"\W", "-", salt)  # some ids, such as figure_1, are not salted
    text = re.sub(r'\bid="', f'id="{own}-', text)
    text = re.sub(r'href="#', f'href="#{own}-', text)
    text = re.sub(r"url\(#", f"url(#{own}-", text)
    return text.replace(_INK, "currentColor").strip()
