"""A benchmark to its two files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lookforward.files import write_text
from lookforward.report.blocks import Picture, Section, Sheet
from lookforward.report.data import Benchmark
from lookforward.report.head import head_section
from lookforward.report.html import html_page
from lookforward.report.markdown import markdown_page
from lookforward.report.paper import paper_section
from lookforward.report.pictures import case_section, data_uris, sheet_section
from lookforward.report.sections import (
    breakdown_section,
    cost_section,
    critic_section,
    score_section,
)


def write_report(benchmark: Benchmark, page: Path, version: str) -> tuple[Path, Path]:
    """Write the page, and the same in Markdown beside it; returns both paths. version: of what writes.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    sections = report_sections(benchmark)
    uris, side = data_uris(pixels := _pixels(sections))
    by_picture = {id(picture): uri for picture, uri in zip(pixels, uris, strict=True)}
    footer = f"Written by {version}."
    shown = f" Pictures are JPEG of at most {side} pixels a side; the originals lie beside the cells." if uris else ""
    write_text(page, html_page(benchmark.title, sections, lambda p: by_picture[id(p)], footer + shown))
    text = page.with_suffix(".md")
    write_text(text, markdown_page(benchmark.title, sections, f"{footer} Plots and pictures: {page.name}."))
    return page, text


def report_sections(benchmark: Benchmark) -> list[Section]:
    """All there is to tell, in the order of a reader's questions."""
    return [
        head_section(benchmark),
        score_section(benchmark),
        paper_section(benchmark),
        breakdown_section(benchmark),
        sheet_section(benchmark),
        case_section(benchmark),
        critic_section(benchmark),
        cost_section(benchmark),
    ]


def _pixels(sections: Sequence[Section]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for sheet in (b for section in sections for b in section.blocks if isinstance(b, Sheet)):
        for cell in (c for _, cells in sheet.rows for c in cells if c is not None):
            found += [cell.pixels] if isinstance(cell, Picture) else [picture.pixels for picture in cell]
    return found
