"""Logged quantities against time or steps, as a plot."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], x: str, columns: int = 3
) -> Figure:
    """One panel for each title, in it one line (xs, ys) for each label. x: what the horizontal axis shows."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for label, (xs, ys) in lines.items():
            axis.plot(xs, ys, label=label, linewidth=1.2)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        if len(lines) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return figure
