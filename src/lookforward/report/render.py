"""A benchmark to its page, its tables to Markdown, and tables for the terminal."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from rich.markup import escape
from rich.table import Table as RichTable

from lookforward.files import write_text
from lookforward.provenance.origin import Source
from lookforward.provenance.save import save_image
from lookforward.report.blocks import Picture, Section, Sheet, Strong, Table
from lookforward.report.data import Benchmark
from lookforward.report.judge import judge_section
from lookforward.report.overview import overview_section
from lookforward.report.page_sections import breakdown_section, cost_section, critic_section, score_section
from lookforward.report.paper import paper_section
from lookforward.report.pictures import MOST_PIXELS, case_section, sheet_section
from lookforward.report.steadiness import steadiness_section
from lookforward.texts import MOST_OF_MESSAGE, visible

PICTURE_BYTES = 5_500_000  # of all pictures of a page, as text
_FORMATS = ((MOST_PIXELS, 88), (128, 85), (96, 80), (64, 75), (48, 60), (32, 50))  # side in pixels, JPEG quality


def report_sections(benchmark: Benchmark) -> list[Section]:
    """Everything there is to say, in the order of a reader's questions."""
    parts = (
        overview_section, score_section, judge_section, steadiness_section, paper_section, breakdown_section,
        sheet_section, case_section, critic_section, cost_section,
    )  # fmt: skip
    return [section for part in parts if (section := part(benchmark)) is not None]


def write_report(benchmark: Benchmark, page: Path, version: str) -> tuple[Path, Path]:
    """Write the page, and its tables in Markdown beside it; returns both paths. version: of the program that writes.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    sections, text = report_sections(benchmark), page.with_suffix(".md")
    write_text(page, html_page(benchmark.title, sections, f"Written by {version}."))
    footer = f"Written by {version}. Plots and pictures are in the page, {page.name}."
    with_tables = [s for s in sections if any(isinstance(block, Table) for block in s.blocks)]
    write_text(text, markdown_page(benchmark.title, with_tables, footer))
    return page, text


def html_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """A self-contained page: it loads nothing and runs nothing."""
    sheets = [block for section in sections for block in section.blocks if isinstance(block, Sheet)]
    pictures = [p for sheet in sheets for _, cells in sheet.rows for cell in cells for p in cell]
    addresses, side = data_uris([(picture.pixels, picture.photo) for picture in pictures])
    by_picture = {id(picture): address for picture, address in zip(pictures, addresses, strict=True)}
    if pictures:
        footer += f" Pictures are JPEG of at most {side} pixels a side; the originals lie beside the cells."

    def address(picture: Picture) -> Markup:
        return Markup(by_picture[id(picture)])  # base64, which needs no escape

    environment = _environment(autoescape=True, finalize=_seen)
    environment.filters["address"] = address
    return environment.get_template("page.html.jinja").render(title=title, sections=sections, footer=footer)


def markdown_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """Texts and tables. Names and prompts are escaped, so that they are shown as they are, without effect."""
    template = _environment(autoescape=False, finalize=_plain).get_template("page.md.jinja")
    text = template.render(title=title, sections=sections, footer=footer)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def terminal_table(table: Table) -> RichTable:
    """The same table for a terminal."""
    shown = RichTable(title=_seen_escaped(table.caption), title_justify="left")
    for i, column in enumerate(table.columns):
        shown.add_column(_seen_escaped(column), justify="right" if i else "left")
    for row in table.rows:
        cells = ((_seen_escaped(cell), isinstance(cell, Strong)) for cell in row)
        shown.add_row(*(f"[bold]{text}[/bold]" if strong else text for text, strong in cells))
    return shown


def data_uris(pictures: Sequence[tuple[np.ndarray, bool]], budget: int = PICTURE_BYTES) -> tuple[list[str], int]:
    """Every picture as a JPEG data URI, and the largest side in pixels: the first format in which all fit the budget.

    pictures: (h, w, 3) uint8 of any size, and whether it is a photo; others say in their metadata that they are
    generated. Small ones are not made larger. Raises ValueError where nothing fits.
    """
    for side, quality in _FORMATS:
        addresses, total = [], 0
        for picture, photo in pictures:
            addresses.append(_data_uri(picture, side, quality, None if photo else "generated"))
            total += len(addresses[-1])
            if total > budget:
                break
        else:
            return addresses, side
    raise ValueError(f"{len(pictures)} pictures do not fit {budget:,} bytes")


def _data_uri(picture: np.ndarray, side: int, quality: int, source: Source | None) -> str:
    image, buffer = Image.fromarray(np.ascontiguousarray(picture)), io.BytesIO()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    save_image(image, buffer, source, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _environment(autoescape: bool, finalize: Callable[[Any], Any] | None = None) -> Environment:
    made = Environment(
        loader=PackageLoader("lookforward.report"),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["kind"] = lambda block: type(block).__name__.lower()
    made.tests["strong"] = lambda text: isinstance(text, Strong)
    return made


def _seen(text: Any) -> Any:
    """Text as a page shows it: what cannot be seen with a backslash, and no more than a message may have."""
    return visible(text, MOST_OF_MESSAGE) if isinstance(text, str) and not isinstance(text, Markup) else text


def _seen_escaped(text: str) -> str:
    return escape(visible(text, MOST_OF_MESSAGE))


def _plain(text: Any) -> Any:
    """Text without effect in Markdown: one line, its signs escaped. Markup is what a macro has escaped already."""
    if isinstance(text, Markup):
        return text
    text = (
        visible(" ".join(str(text).split()), MOST_OF_MESSAGE)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
    return re.sub(r"^([#+-]|\d+\.)(?=\s)", r"\\\1", text)
