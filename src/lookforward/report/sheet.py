"""Sheets of pictures, to compare by eye."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

_PAPER = "white"
_INK = "#1f2328"
_FAINT = "#6e7781"
_RULE = "#d0d7de"
_MISSING = "#f2f4f6"
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def comparison_sheet(
    columns: Mapping[str, Sequence[np.ndarray]],
    rows: Sequence[str],
    cell: int = 128,
    title: str | None = None,
    note: str | None = None,
) -> Image.Image:
    """One row per prompt, one column per method, labelled; pictures side by side under the same prompt.

    `columns`: label → pictures, uint8 (h, w, 3), any size, one for each of `rows`, the prompts. Only the
    first column, the references, may have another number: it then holds all of them, beside a rule.
    `cell`: side of a picture in the sheet, px. `title` and `note` go above and below.
    Raises ValueError for other counts.
    """
    counts = [len(pictures) for pictures in columns.values()]
    if not rows or not counts or not counts[0] or any(count != len(rows) for count in counts[1:]):
        raise ValueError(f"a sheet of {len(rows)} prompts needs as many pictures a column, got {counts}")
    gap, margin = max(6, cell // 16), max(20, cell // 4)
    texts = [*columns, *rows, title or "", note or ""]
    font, small = _font(cell // 9, texts), _font(cell // 10, texts)
    prompt = _Text(small, 1.15 * cell, most=cell)
    left = margin + round(prompt.width) + gap * 2
    body = len(rows) * (cell + gap) - gap
    header = _Text(font, cell, most=cell / 2)
    top = margin + (cell // 3 if title else 0) + max(map(header.height, columns)) + gap
    wide = gap * 2  # between columns, which separate more than rows
    width = left + len(columns) * (cell + wide) - wide + margin
    footer = _Text(small, width - 2 * margin)
    height = top + body + (footer.height(note) + 2 * gap if note else 0) + margin

    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((margin, margin), title, fill=_INK, font=_font(cell // 7, texts))
    for i, (label, pictures) in enumerate(columns.items()):
        x = left + i * (cell + wide)
        header.centred(pen, label, x, top - gap, _INK)
        if len(pictures) != len(rows):
            _strip(sheet, pictures, (x, top, cell, body), gap)
            pen.line([(x + cell + gap, top), (x + cell + gap, top + body - 1)], fill=_RULE)
            continue
        for j, picture in enumerate(pictures):
            sheet.paste(_fit(picture, cell), (x, top + j * (cell + gap)))
    for j, text in enumerate(rows):
        middle = top + j * (cell + gap) + cell / 2
        prompt.left(pen, text, margin, middle - prompt.height(text) / 2, _INK)
    if note:
        footer.left(pen, note, margin, top + body + 2 * gap, _FAINT)
    return sheet


def contact_sheet(
    images: Sequence[np.ndarray], labels: Sequence[str] | None = None, columns: int = 4, cell: int = 128
) -> Image.Image:
    """Pictures in reading order, `columns` to a row, each with its label below (wrapped).

    `images`: uint8 (h, w, 3), any size. `labels`: one per image, or None. `cell`: side of a picture, px.
    Raises ValueError where there is no image, or not one label for each.
    """
    if not len(images) or (labels is not None and len(labels) != len(images)):
        raise ValueError(f"a contact sheet needs images and a label for each, got {len(images)} images")
    columns = min(columns, len(images))
    gap, margin = max(6, cell // 12), max(12, cell // 6)
    text = _Text(_font(cell // 10, labels or []), cell, most=cell / 2)
    label_height = max((text.height(label) for label in labels), default=0) + gap if labels else 0
    step = (cell + gap, cell + gap + label_height)
    size = (
        2 * margin + columns * step[0] - gap,
        2 * margin + math.ceil(len(images) / columns) * step[1] - gap,
    )
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(images):
        x, y = margin + i % columns * step[0], margin + i // columns * step[1]
        sheet.paste(_fit(picture, cell), (x, y))
        if labels:
            text.left(pen, labels[i], x, y + cell + gap / 2, _FAINT)
    return sheet


class _Text:
    """Text of one font, wrapped to a width and cut off at a height, both in pixels."""

    def __init__(self, font: _Font, width: float, most: float = math.inf) -> None:
        self.font = font
        self.width = width
        self.line = 1.25 * font.size if isinstance(font, ImageFont.FreeTypeFont) else 14.0
        self.most_lines = max(1, int(most / self.line)) if most < math.inf else None

    def lines(self, text: str) -> list[str]:
        """Wrapped by the text's own mean width of a letter, with a tenth to spare for wide ones."""
        letters = max(1, int(0.9 * self.width * len(text) / max(1.0, self.font.getlength(text))))
        return textwrap.wrap(text, letters, max_lines=self.most_lines, placeholder="...") or [""]

    def height(self, text: str) -> int:
        return math.ceil(self.line * len(self.lines(text)))

    def left(self, pen: ImageDraw.ImageDraw, text: str, x: float, y: float, color: str) -> None:
        for i, line in enumerate(self.lines(text)):
            pen.text((x, y + i * self.line), line, fill=color, font=self.font)

    def centred(self, pen: ImageDraw.ImageDraw, text: str, x: float, bottom: float, color: str) -> None:
        """Above `bottom`, so that headers of one and of two lines stand on the same line."""
        lines = self.lines(text)
        for i, line in enumerate(lines):
            y = bottom - (len(lines) - i) * self.line
            pen.text((x + (self.width - self.font.getlength(line)) / 2, y), line, fill=color, font=self.font)


def _font(size: int, texts: Iterable[str]) -> _Font:
    """Pillow's own font, which knows little more than ASCII; matplotlib's where that is not enough."""
    if "".join(texts).isascii():
        return ImageFont.load_default(size=max(11, size))
    from matplotlib import get_data_path  # here, since it takes long to import and most sheets need no such font

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", max(10, 0.9 * size))


def _fit(picture: np.ndarray, side: int) -> Image.Image:
    """The picture in a square of `side` px: its longer side fills it, its edges stay sharp."""
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    return ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, _MISSING)


def _strip(sheet: Image.Image, pictures: Sequence[np.ndarray], box: tuple[int, int, int, int], gap: int) -> None:
    """All pictures in the box (x, y, width, height): as large as they all get, from the top."""
    x, y, width, height = box

    def side(across: int) -> int:
        down = math.ceil(len(pictures) / across)
        return min((width - gap * (across - 1)) // across, (height - gap * (down - 1)) // down)

    across = max(range(1, len(pictures) + 1), key=side)
    size = max(1, side(across))
    indent = (width - across * size - gap * (across - 1)) // 2
    for i, picture in enumerate(pictures):
        column, row = i % across, i // across
        sheet.paste(_fit(picture, size), (x + indent + column * (size + gap), y + row * (size + gap)))
