"""ratings.json, the ratings of a benchmark's images, as it is written and as the report reads it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lookforward.benchmark.cell import UNREADABLE, Cell
from lookforward.benchmark.judge.questions import HIGHEST, LABELS, QUESTIONS, Points
from lookforward.benchmark.plan import CellKey, cell_name
from lookforward.files import digest_file, read_json
from lookforward.report.data import Judge

RATINGS = "ratings.json"
Rating = Points | str | None
"""0 to 4; or why it is missing; or None where it was not asked for."""


@dataclass(frozen=True)
class RatedCell:
    """A cell's ratings, one for each image in the order of its scores. images: digest of the file that they are of."""

    subject: str
    method: str
    seed: int
    images: str
    concept_preservation: list[Rating]
    prompt_following: list[Rating]

    @property
    def key(self) -> CellKey:
        return self.subject, self.method, self.seed


@dataclass(frozen=True)
class RatingsFile:
    """Everything in ratings.json. tokens: of all answers in it, by the endpoint's count."""

    endpoint: str
    model: str
    parameters: dict[str, Any]
    size: int
    date: str
    prompt_tokens: int
    answer_tokens: int
    cells: list[RatedCell] = field(default_factory=list)
    format: int = 1


class Rated(NamedTuple):
    """cells: with the ratings among their scores. warnings: sentences for the user."""

    cells: list[Cell]
    judge: Judge | None
    warnings: tuple[str, ...]


def images_digest(folder: Path, key: CellKey) -> str:
    """Of the file of a cell's images; "" if it cannot be read."""
    try:
        return digest_file(folder / "images" / f"{cell_name(key)}.png")[:16]
    except OSError:
        return ""


def with_ratings(folder: Path, cells: Sequence[Cell]) -> Rated:
    """Cells with their ratings / HIGHEST as scores; ratings of other images than those that are there do not count."""
    path = folder / RATINGS
    if not path.is_file():
        return Rated(list(cells), None, ())
    try:
        file = read_json(path, RatingsFile)
    except UNREADABLE as error:
        text = f"{RATINGS} cannot be read ({error}): run `lookforward judge` again, which pays for no answer twice."
        return Rated(list(cells), None, (text,))
    by_key, rated, missing, stale = {one.key: one for one in file.cells}, [], [], 0
    asked: dict[CellKey, frozenset[tuple[str, int]]] = {}
    for cell in cells:
        found, count = by_key.get(cell.key), len(cell.settings["prompts"]) * int(cell.settings["images"])
        if found is None:
            rated.append(cell)
            continue
        values: dict[str, list[Rating]] = {name: getattr(found, name) for name in QUESTIONS}
        if found.images != images_digest(folder, cell.key) or any(len(one) != count for one in values.values()):
            stale += 1
            rated.append(cell)
            continue
        scores = {LABELS[name]: [_share(rating) for rating in given] for name, given in values.items()}
        rated.append(replace(cell, scores=cell.scores | scores))
        asked[cell.key] = frozenset((n, i) for n, given in values.items() for i, r in enumerate(given) if r is not None)
        missing += [
            (cell.method, f"{cell.subject}, {cell.method}, seed {cell.seed}, image {i}", LABELS[name], rating)
            for name, given in values.items()
            for i, rating in enumerate(given)
            if isinstance(rating, str)
        ]
    warnings = []
    if missing:
        total = sum(map(len, asked.values()))
        warnings.append(f"{len(missing):,} of {total:,} ratings by {file.model} are missing; means leave them out.")
    if _differ(asked):
        text = "The judge rated other images of some methods than of others, so the means of its ratings do not compare"
        warnings.append(f"{text}: run `lookforward judge` with the same --images for all of them.")
    if stale:
        warnings.append(
            f"Ratings of {stale:,} cells are of other images and are left out: run `lookforward judge` again."
        )
    judge = Judge(file.model, file.endpoint, tuple(LABELS.values()), HIGHEST, tuple(missing))
    return Rated(rated, judge if any(LABELS[QUESTIONS[0]] in cell.scores for cell in rated) else None, tuple(warnings))


def _differ(asked: Mapping[CellKey, frozenset[tuple[str, int]]]) -> bool:
    """Whether methods that were rated at all were asked for different images of a subject and seed."""
    methods = {method for (_, method, _), images in asked.items() if images}
    by_pair: dict[tuple[str, int], set[frozenset[tuple[str, int]]]] = {}
    for (subject, method, seed), images in asked.items():
        if method in methods:
            by_pair.setdefault((subject, seed), set()).add(images)
    return any(len(images) > 1 for images in by_pair.values())


def _share(rating: Rating) -> float:
    return rating / HIGHEST if isinstance(rating, int) else math.nan
