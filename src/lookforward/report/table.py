"""Tables of scores, for the terminal and for Markdown."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from rich.console import Group
from rich.markup import escape
from rich.table import Table

Rows = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""method → {column: (mean, half width of the 95 % interval)}.

A score has a half width (NaN where it is unknown); None marks a plain quantity such as seconds.
"""

_OPTIMISED = "†"
_WIDE = 6  # columns, beside which more do not fit
_FOOTNOTE = f"{_OPTIMISED} trained on this very score, so no evidence for the method."


class _Cell(NamedTuple):
    text: str
    delta: str
    best: bool


def score_table(
    rows: Rows,
    baseline: str | None = None,
    optimised: Mapping[str, Collection[str]] | None = None,
    title: str | None = None,
    bold: bool = True,
) -> Group:
    """A table for the terminal: one row per method, one column per score, in the order given.

    Plain quantities have a table of their own below where both together would not fit into a terminal.

    `baseline`: the method whose mean is subtracted in brackets from the other methods'. `optimised`:
    method → the scores that it was trained on; they are marked, and never shown as the best.
    The best mean of each score (higher is better) is bold, unless `bold` says that the means are not of the same cells.
    Raises ValueError for an unknown baseline.
    """
    marked = any((optimised or {}).values())
    table = Table(title=title, caption=_FOOTNOTE if marked else None, caption_justify="left")
    costs = Table()
    columns = _columns(rows)
    plain = {c for c in columns if all(row[c][1] is None for row in rows.values() if c in row)}
    tables = {column: costs if column in plain and len(columns) > _WIDE else table for column in columns}
    used = list(dict.fromkeys([table, *tables.values()]))
    for one in used:
        one.add_column("")
    for column in columns:
        tables[column].add_column(column, justify="right")
    for method, cells in _cells(rows, baseline, optimised or {}).items():
        texts: dict[Table, list[str]] = {one: [] for one in used}
        for column, cell in zip(columns, cells, strict=True):
            text = f"[bold]{cell.text}[/bold]" if cell.best and bold else cell.text
            texts[tables[column]].append(f"{text} [dim]({cell.delta})[/dim]" if cell.delta else text)
        for one in used:
            one.add_row(escape(method), *texts[one])
    return Group(*used)


def markdown_table(
    rows: Rows,
    baseline: str | None = None,
    optimised: Mapping[str, Collection[str]] | None = None,
) -> str:
    """The same table in Markdown, with a line's end at its end."""
    columns = _columns(rows)
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for method, cells in _cells(rows, baseline, optimised or {}).items():
        texts = []
        for cell in cells:
            text = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{text} ({cell.delta})" if cell.delta else text)
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    if any((optimised or {}).values()):
        lines += ["", _FOOTNOTE]
    return "\n".join(lines) + "\n"


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(column for row in rows.values() for column in row))


def _cells(rows: Rows, baseline: str | None, optimised: Mapping[str, Collection[str]]) -> dict[str, list[_Cell]]:
    if baseline is not None and baseline not in rows:
        raise ValueError(f"the baseline must be one of the methods {', '.join(rows)}, got {baseline}")
    best: dict[str, float] = {}
    for method, row in rows.items():
        for column, (mean, half_width) in row.items():
            if half_width is not None and mean == mean and column not in optimised.get(method, ()):
                best[column] = max(mean, best.get(column, mean))
    return {
        method: [
            _cell(
                row.get(column),
                rows[baseline].get(column) if baseline is not None and baseline != method else None,
                best.get(column) if len(rows) > 1 else None,
                column in optimised.get(method, ()),
            )
            for column in _columns(rows)
        ]
        for method, row in rows.items()
    }


def _cell(
    value: tuple[float, float | None] | None,
    reference: tuple[float, float | None] | None,
    best: float | None,
    optimised: bool,
) -> _Cell:
    if value is None:
        return _Cell("–", "", False)
    mean, half_width = value
    if half_width is None:
        return _Cell(f"{mean:.3g}" if abs(mean) < 100 else f"{mean:,.0f}", "", False)
    text = f"{mean:.3f}"
    if half_width == half_width:  # not NaN
        text += f" ± {half_width:.3f}"
    if optimised:
        text += f" {_OPTIMISED}"
    delta = f"{mean - reference[0]:+.3f}".replace("-", "−") if reference is not None else ""
    return _Cell(text, delta, mean == best and not optimised)
