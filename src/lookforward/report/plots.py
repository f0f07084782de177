"""Plots as SVG inside a page, drawn in the page's own text color, so that they are readable on light and on dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lookforward.report.aggregate import estimate, plain
from lookforward.report.blocks import Plot
from lookforward.report.data import UNTOUCHED, Benchmark
from lookforward.report.statistics import Interval

FIDELITY = ("DINO", "CLIP-I", "identity", "DINOv2", "oracle")  # what is drawn against CLIP-T
TEXT = "CLIP-T"
CURVES = {"critic_loss": "critic loss", "explained_variance": "explained variance", "reward": "reward"}
_INK = "#010203"  # replaced by the page's text color when the SVG is written
# Of middle lightness: 3:1 or more against white and against nearly black
_COLORS = (
    "#3b82c4", "#d1661f", "#2f9461", "#c94f7c", "#8a6fd1", "#a07a1c", "#258d9e", "#c8483f", "#74843a", "#8b7868",
)  # fmt: skip
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
    """Each score of fidelity against CLIP-T, a point per trained method, with both 95% intervals."""
    names = [name for name in benchmark.present if name != UNTOUCHED]
    if TEXT not in benchmark.scores or not names:
        return []
    return [_scatter(benchmark, score, names) for score in FIDELITY if score in benchmark.scores]


def _scatter(benchmark: Benchmark, score: str, names: Sequence[str]) -> Plot:
    alt: list[str] = []
    points: list[tuple[float, float]] = []
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 4.2 + 0.11 * len(names)), layout="constrained")
        axis = figure.subplots()
        for name in names:
            across, up = (estimate(benchmark.images_of(name), s) for s in (TEXT, score))
            if across is None or up is None:
                continue
            hollow, color, marker = _hollow(benchmark, name, score), *_look(benchmark, name)
            axis.errorbar(
                across.mean,
                up.mean,
                xerr=_ends(across),
                yerr=_ends(up),
                fmt=marker,
                color=color,
                markerfacecolor="none" if hollow else color,
                markersize=7,
                linewidth=0.9,
                label=_legend(benchmark.label(name) + (" †" if hollow else "")),
            )
            alt.append(f"{benchmark.label(name)}: {TEXT} {plain(across.mean)}, {score} {plain(up.mean)}")
            points.append((across.mean, up.mean))
        cut = _keep_near(axis, points)
        svg = _finish(figure, axis, f"{TEXT} (the prompt)", f"{score} (the subject)", f"scatter {score}")
    caption = f"{score} against {TEXT}; bars are 95% intervals over subjects. Up and to the right is better."
    caption += " Bars that are longer than the plot are cut off." if cut else ""
    floor = [estimate(benchmark.images_of(UNTOUCHED), s) for s in (TEXT, score)]
    if floor[0] is not None and floor[1] is not None:
        across, up = (plain(found.mean) for found in floor if found)
        caption += f" Not drawn, as it would stretch the axes: untouched model, {across} across and {up} up."
    if any(_hollow(benchmark, name, score) for name in names):
        caption += " Hollow: the method's reward optimised one of the two scores."
    return Plot(caption, "; ".join(alt) + ".", svg)


def _hollow(benchmark: Benchmark, name: str, score: str) -> bool:
    return bool(benchmark.mark(name, score) or benchmark.mark(name, TEXT))


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
    """Critic loss, explained variance and reward against the step, of methods whose critic learned."""
    names = [name for name in benchmark.present if len(benchmark.curves_of(name, "critic_loss"))]
    plots = [_curve(benchmark, term, title, names) for term, title in CURVES.items()]
    return [plot for plot in plots if plot is not None]


def _curve(benchmark: Benchmark, term: str, title: str, names: Sequence[str]) -> Plot | None:
    """Medians over the cells that logged the term at a step, as the first steps of some are far off."""
    lines = {name: benchmark.curves_of(name, term).groupby("step").value.median() for name in names}
    lines = {name: line for name, line in lines.items() if len(line)}
    if not lines:
        return None
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.4 + 0.11 * len(names)), layout="constrained")
        axis = figure.subplots()
        for name, line in lines.items():
            color = _look(benchmark, name)[0]
            axis.plot(line.index, line, linewidth=1.4, color=color, label=_legend(benchmark.label(name)))
        if term == "critic_loss":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the default writes mathematics
            axis.yaxis.set_minor_formatter(NullFormatter())
        if term == "explained_variance":  # the first steps can be far below zero
            axis.set_ylim(max(axis.get_ylim()[0], -1.0), 1.05)
        svg = _finish(figure, axis, "step", title, f"curve {term}")
    note = {
        "critic_loss": "Falls as the critic learns to predict the return.",
        "explained_variance": "1: the critic predicts every return; 0: no better than their mean.",
        "reward": "Rewards of different methods are not on one scale.",
    }[term]
    ends = [f"{benchmark.label(n)}: {v.iloc[0]:.3g} at first, {v.iloc[-1]:.3g} at the end" for n, v in lines.items()]
    return Plot(f"{title.capitalize()}, median over subjects and seeds. {note}", "; ".join(ends) + ".", svg)


def _look(benchmark: Benchmark, name: str) -> tuple[str, str]:
    """Color and marker of a method, the same in every plot."""
    at = [n for n in benchmark.methods if n != UNTOUCHED].index(name)
    return _COLORS[at % len(_COLORS)], _MARKERS[(at + at // len(_COLORS)) % len(_MARKERS)]


def _legend(label: str) -> str:
    short = label if len(label) <= 34 else f"{label[:33]}…"
    return f"\u2009{short}" if short.startswith("_") else short  # matplotlib hides labels that begin so


def _ends(found: Interval) -> list[list[float]] | None:
    mean, low, high = found
    return [[max(mean - low, 0.0)], [max(high - mean, 0.0)]] if found.known else None


def _finish(figure: Figure, axis: Axes, x: str, y: str, salt: str) -> str:
    """Label the axes, and write the <svg> element. salt: keeps the ids of two plots of a page apart."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.2)
    axis.patch.set_alpha(0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False, fontsize=8)
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
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}-", text)
    return text.replace(_INK, "currentColor").strip()
