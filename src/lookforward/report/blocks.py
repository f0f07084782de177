"""The blocks of a page, for every output format. All text is plain: the templates escape it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Text:
    """A paragraph. warning: it says that something is wrong."""

    text: str
    warning: bool = False


class Strong(str):
    """The text of a highlighted table cell."""


@dataclass(frozen=True)
class Table:
    """The first column names the row. folded: shown on request, where the medium can."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """An SVG drawn in the color of the text around it. alt: what it shows, for those who do not see it."""

    caption: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Plots:
    """Plots side by side where there is room."""

    plots: Sequence[Plot]


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels: (h, w, 3) uint8. note: below it. photo: whether it is one, and not generated."""

    pixels: np.ndarray
    alt: str
    note: str = ""
    photo: bool = False


@dataclass(frozen=True)
class Sheet:
    """Pictures under their column's name and beside their row's: some in a cell, none where they are missing."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[Picture]]]]


Block = Text | Table | Plots | Sheet


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]
