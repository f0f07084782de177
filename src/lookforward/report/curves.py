"""Logged quantities against time or steps, as a plot."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

Line = tuple[Sequence[float], Sequence[float]]
"""(xs, ys)."""


def curves(
    panels: Mapping[str, Mapping[str, Line]],
    x: str,
    columns: int = 3,
    *,
    bands: Mapping[str, Mapping[str, Line]] | None = None,
    logarithmic: Collection[str] = (),
    limits: Mapping[str, tuple[float, float]] | None = None,
    note: str | None = None,
    mark: float | None = None,
) -> Figure:
    """One panel for each title, in it one line (xs, ys) for each label; a label has one color in all panels.

    x: what the horizontal axis shows. bands: title → label → (lows, highs), shaded behind that line. logarithmic:
    titles of the panels with such a vertical axis. limits: title → ends of the vertical axis. note: goes below.
    mark: a place on the horizontal axis, shown by a vertical line in all panels.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows + (0.3 if note else 0)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for label, (xs, ys) in lines.items():
            color = f"C{labels.index(label) % 10}"
            axis.plot(xs, ys, label=label, linewidth=1.2, color=color)
            if bands is not None and label in bands.get(title, {}):
                axis.fill_between(xs, *bands[title][label], color=color, alpha=0.15, linewidth=0)
        if mark is not None:
            axis.axvline(mark, color="#6e7781", linestyle="--", linewidth=1)
        if title in logarithmic:
            axis.set_yscale("log")
        if limits is not None and title in limits:
            axis.set_ylim(*limits[title])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        if len(lines) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if note:
        figure.supxlabel(note, fontsize=8, color="#6e7781")
    return figure
