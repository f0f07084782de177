"""Data of a report: tables of the finished cells and their images, and the planned cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lookforward.core.benchmark_subject import BenchmarkSubject

UNTOUCHED = "untouched"  # the method that is the base model as it is, prompted with the class noun: the floor
CELL = ["subject", "method", "seed"]  # the columns that name a cell
CellKey = tuple[str, str, int]
"""Subject, method and seed."""


@dataclass(frozen=True)
class Method:
    """What is compared.

    optimised: the scores that its reward optimised, which are no evidence for it. paper: the row of the paper's tables
    that it stands for, see `paper`; "" for none. departs: which of its settings differ from that row's, each as
    "run.steps 300 (1000)", the paper's in brackets.
    """

    name: str
    label: str
    optimised: tuple[str, ...] = ()
    paper: str = ""
    departs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A cell that failed or cannot be used, and why."""

    where: str
    why: str


@dataclass(frozen=True)
class Judge:
    """Who rated the images. scores: the ratings' names among the scores, of which a table shows ratings / highest.

    missing: a row for each image and question that the judge was asked and did not rate: method, cell and image,
    question, why.
    """

    model: str
    endpoint: str
    scores: tuple[str, ...]
    highest: int
    missing: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Finished cells, and everything a report says about them.

    methods, subjects: by name, in the order they are shown. cells: one row per cell, with the columns CELL, group,
    count (of images per prompt), seconds, memory, gpu_memory, parameters, size and steps. images: one row per image,
    with CELL, group, image (its index in the cell), prompt, prompt_kind and one column per score. curves: one row per
    point of a logged term's curve, with CELL, term, step and value.
    planned: every cell there should be. drawn: a cell's images, each (h, w, 3) uint8, or () if they are missing.
    references: a subject's photos. kind: of the data set: toybox, dreambooth, custom-concept or dreambench++; "" if it
    is unknown. encoders: whether scores used others than the model's own. ignored: what else the folder holds, in a
    sentence. warnings: what makes the cells hard to compare. ceiling: group to score to what other images of the
    subject reach. judge: of those scores that are ratings; None if there are none.
    """

    methods: Mapping[str, Method]
    subjects: Mapping[str, BenchmarkSubject]
    cells: pd.DataFrame
    images: pd.DataFrame
    curves: pd.DataFrame
    scores: tuple[str, ...]
    planned: tuple[CellKey, ...] = ()
    drawn: Callable[[CellKey], Sequence[np.ndarray]] = lambda _: ()
    references: Callable[[str], Sequence[np.ndarray]] = lambda _: ()
    title: str = ""
    dataset: str = ""
    model: str = ""
    when: str = ""
    versions: str = ""
    problems: tuple[Problem, ...] = ()
    kind: str = ""
    encoders: bool = False
    ignored: str = ""
    warnings: tuple[str, ...] = ()
    ceiling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline: str = "dreambooth"
    judge: Judge | None = None

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, _, seed in self.planned})

    @property
    def missing(self) -> list[CellKey]:
        """Planned cells that are not finished."""
        finished = set(self.cells[CELL].itertuples(index=False, name=None))
        return [cell for cell in self.planned if cell not in finished]

    def cells_of(self, method: str) -> pd.DataFrame:
        """The finished cells of a method."""
        return self.cells[self.cells.method == method]

    def images_of(self, method: str, kind: str | None = None, group: str | None = None) -> pd.DataFrame:
        """The images of a method: all, or those of one kind of prompt or one group of subjects."""
        chosen = self.images.method == method
        if kind is not None:
            chosen &= self.images.prompt_kind == kind
        if group is not None:
            chosen &= self.images.group == group
        return self.images[chosen]

    def curves_of(self, method: str, term: str) -> pd.DataFrame:
        """The curves of one logged term of a method."""
        return self.curves[(self.curves.method == method) & (self.curves.term == term)]

    @property
    def present(self) -> list[str]:
        """The methods that have finished cells, in order."""
        return [name for name in self.methods if (self.cells.method == name).any()]

    def label(self, method: str) -> str:
        return self.methods[method].label if method in self.methods else method

    def mark(self, method: str, score: str, against: str = "") -> str:
        """What follows a score that the method optimised, or a difference where either side did."""
        sides = [self.methods[name] for name in (method, against) if name in self.methods]
        return " †" if any(score in side.optimised for side in sides) else ""
