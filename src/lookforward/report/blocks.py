"""What a page is built of, whatever it is written as. All text is plain: whoever writes it out escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Text:
    """A paragraph. loud: it says that something is wrong."""

    text: str
    loud: bool = False


@dataclass(frozen=True)
class Strong:
    """A cell of a table that stands out."""

    text: str


@dataclass(frozen=True)
class Table:
    """The first column names the row. folded: shown when asked for, where the medium can."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Strong]]
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """An SVG that takes its ink from the text around it. alt: what it shows, for those who do not see it."""

    caption: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Plots:
    """Plots side by side where there is room."""

    plots: Sequence[Plot]


@dataclass(frozen=True)
class Picture:
    """pixels: (h, w, 3) uint8. note: below it."""

    pixels: np.ndarray
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """Pictures under their column's name, beside their row's; None where there is none."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[Picture] | Picture | None]]]


Block = Text | Table | Plots | Sheet


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block] = field(default_factory=list)
