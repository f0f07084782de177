"""A page in HTML that stands alone: nothing is loaded from anywhere, and nothing in it is run."""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from lookforward.report.blocks import Block, Picture, Plots, Section, Sheet, Strong, Table, Text

Address = Callable[[np.ndarray], str]
"""A picture's pixels to its data URI."""

# Even a name that slipped through unescaped could load and run nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --paper: #fff; --rule: #d1d9e0; --band: #f6f8fa;
  --loud: #9a3412; --loud-paper: #fff4ec; --link: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9aa6b2; --paper: #12161c; --rule: #3a434d; --band: #1c222a;
    --loud: #ffb77c; --loud-paper: #33200f; --link: #79b8ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--rule); }
p { max-width: 46rem; } a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
.loud { color: var(--loud); background: var(--loud-paper); border-left: 4px solid; padding: .5rem .8rem; }
.scroll { overflow-x: auto; margin: 1rem 0; } .scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; } thead th { background: var(--band); }
tbody th, th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); z-index: 1; }
thead th:first-child { background: var(--band); }
.words td, .words th { text-align: left; white-space: normal; }
tbody th { font-weight: 400; white-space: normal; min-width: 6.5rem; max-width: 14rem; }
details { margin: .4rem 0; } summary { cursor: pointer; padding: .35rem 0; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--faint); font-size: .85rem; }
svg { width: 100%; max-width: 30rem; height: auto; display: block; }
.sheet td { text-align: center; padding: .25rem; } .sheet thead th { text-align: center; white-space: normal; }
.sheet thead th:first-child { text-align: left; }
.sheet img { width: 6.5rem; height: auto; display: block; margin: 0 auto; border-radius: 4px; }
.sheet .several { display: flex; gap: .25rem; justify-content: center; } .sheet .several img { width: 5rem; }
.sheet small { color: var(--faint); white-space: normal; }
@media (max-width: 40rem) { body { padding: .7rem; } tbody th { max-width: 8rem; } .sheet img { width: 5.5rem; } }
"""


def html_page(title: str, sections: Sequence[Section], address: Address, footer: str) -> str:
    """The whole page. Titles, names and prompts are escaped, here and nowhere else."""
    links = "".join(f'<li><a href="#part-{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections))
    parts = "\n".join(_section(i, section, address) for i, section in enumerate(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>
<nav aria-label="Parts of the page"><ul>{links}</ul></nav></header>
<main>
{parts}
</main>
<footer><p>{escape(footer)}</p></footer>
</body>
</html>
"""


def _section(number: int, section: Section, address: Address) -> str:
    blocks = "\n".join(_block(block, address) for block in section.blocks)
    return f'<section id="part-{number}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block, address: Address) -> str:
    match block:
        case Text():
            return (
                f'<p class="loud" role="note">{escape(block.text)}</p>'
                if block.loud
                else f"<p>{escape(block.text)}</p>"
            )
        case Table():
            return _table(block)
        case Plots():
            return _plots(block)
        case Sheet():
            return _sheet(block, address)


def _table(table: Table) -> str:
    wordy = ' class="words"' if len(table.columns) == 2 else ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.columns) else ""
    rows = "\n".join(f"<tr>{_row(row)}</tr>" for row in table.rows)
    caption = "" if table.folded else f"<caption>{escape(table.caption)}</caption>\n"
    body = f"<table{wordy}>\n{caption}{head}<tbody>\n{rows}\n</tbody>\n</table>"
    name = escape(table.caption)
    body = f'<div class="scroll" role="region" aria-label="{name}" tabindex="0">{body}</div>'
    return f"<details><summary>{name}</summary>{body}</details>" if table.folded else body


def _row(row: Sequence[str | Strong]) -> str:
    first, *others = row
    name = first.text if isinstance(first, Strong) else first
    return f'<th scope="row">{escape(name)}</th>' + "".join(
        f"<td><strong>{escape(c.text)}</strong></td>" if isinstance(c, Strong) else f"<td>{escape(c)}</td>"
        for c in others
    )


def _plots(plots: Plots) -> str:
    figures = []
    for plot in plots.plots:
        svg = plot.svg.replace("<svg", f'<svg role="img" aria-label="{escape(plot.alt)}"', 1)
        figures.append(f"<figure>{svg}<figcaption>{escape(plot.caption)}</figcaption></figure>")
    return f'<div class="plots">{"".join(figures)}</div>'


def _sheet(sheet: Sheet, address: Address) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in ("prompt", *sheet.columns))
    rows = []
    for name, cells in sheet.rows:
        row = "".join(f"<td>{_pictures(cell, address)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{row}</tr>')
    lines = "\n".join(rows)
    caption = escape(sheet.caption)
    return (
        f'<div class="scroll sheet" role="region" aria-label="{caption}" tabindex="0"><table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def _pictures(cell: Sequence[Picture] | Picture | None, address: Address) -> str:
    match cell:
        case None:
            return "missing"
        case Picture():
            note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
            return f'<img src="{escape(address(cell.pixels))}" alt="{escape(cell.alt)}" loading="lazy">{note}'
        case _:
            return f'<div class="several">{"".join(_pictures(picture, address) for picture in cell)}</div>'
