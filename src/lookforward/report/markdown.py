"""The same in Markdown: all texts and tables. Pictures and plots are in the page."""

import re
from collections.abc import Sequence

from lookforward.report.blocks import Block, Plots, Section, Sheet, Strong, Table, Text


def markdown_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """Names and prompts are escaped, so that they are shown as they are, with no markup of theirs at work."""
    lines = [f"# {_plain(title)}", ""]
    for section in sections:
        lines += [f"## {_plain(section.title)}", ""]
        for block in section.blocks:
            lines += [_block(block), ""]
    return "\n".join([*lines, _plain(footer)]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"**{_plain(block.text)}**" if block.loud else _plain(block.text)
        case Table():
            return _table(block)
        case Plots():
            return "\n".join(f"- Plot, in the page: {_plain(p.caption)} {_plain(p.alt)}" for p in block.plots)
        case Sheet():
            rows = "\n".join(f"- {_plain(name)}" for name, _ in block.rows)
            return f"{_plain(block.caption)}, pictures in the page:\n\n{rows}"


def _table(table: Table) -> str:
    rows = [f"**{_plain(table.caption)}**", "", _row(table.columns), "|---|" + "---:|" * (len(table.columns) - 1)]
    return "\n".join([*rows, *map(_row, table.rows)])


def _row(cells: Sequence[str | Strong]) -> str:
    texts = [f"**{_plain(c.text)}**" if isinstance(c, Strong) else _plain(c) for c in cells]
    return "| " + " | ".join(texts) + " |"


def _plain(text: str) -> str:
    """Text without effect in Markdown: one line, its signs escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
    return re.sub(r"^([#+-]|\d+\.)(?=\s)", r"\\\1", text)
