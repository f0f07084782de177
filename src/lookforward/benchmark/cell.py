"""A finished cell of a grid, and its files: `cells/NAME.json`, and `images/NAME.png`, its images in a strip."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookforward.benchmark.plan import Key, Plan, cell_name
from lookforward.config.settings import FIELDS, Settings
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, write_json

THINNED = 10  # steps of which a cell keeps the mean


@dataclass(frozen=True)
class Cell:
    """One finished cell.

    scores: name to one number for each image, prompts in order, images within. curves: logged term to [step, mean over
    the THINNED steps up to it]; empty for the untouched model, and in cells of before there were curves.
    provenance: what it was made by and when, see docs/benchmark.md; empty in cells of before there was any.
    """

    subject: str
    method: str
    seed: int
    scores: dict[str, list[float]]
    seconds: float  # of training
    memory: float  # peak while training and drawing, MiB; the loaded models are in it
    terms: dict[str, float] = field(default_factory=dict)  # logged terms, mean of the last quarter
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    parameters: int = 0  # trained
    size: float = 0.0  # of the weights that a user would pass on, MiB
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.subject, self.method, self.seed


def write_cell(folder: Path, settings: Mapping[str, Any], cell: Cell, images: np.ndarray) -> None:
    """Keep a cell: first its images (n, h, w, 3) uint8, then, with which it is finished, its scores.

    Raises:
        LookforwardError: the disk is full or cannot be written; the cell is then not finished.
    """
    name = cell_name(cell.key)
    with atomic_file(folder / "images" / f"{name}.png", shared=True) as partial:
        Image.fromarray(images.reshape(-1, *images.shape[2:])).save(partial)
    write_json(folder / "cells" / f"{name}.json", {"settings": settings, **asdict(cell)}, indent=None)


def read_cell(path: Path, settings: Mapping[str, Any] | None = None) -> Cell:
    """A finished cell. settings: what it must have been run with, see `Plan.settings_of`; None accepts any.

    Raises:
        LookforwardError: it was run with other settings.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if settings is not None and _in_full(values["settings"]) != _in_full(settings):
        raise LookforwardError(f"{path} was run with other settings; give another --output, or delete {path.parent}.")
    del values["settings"]
    return Cell(**values)


def finished_cell(plan: Plan, folder: Path, key: Key) -> Cell | None:
    """The cell where it is finished; None where it is missing, or its file is no cell, or a score in it no number.

    Raises:
        LookforwardError: it was run with other settings.
    """
    path = folder / "cells" / f"{cell_name(key)}.json"
    try:
        cell = read_cell(path, plan.settings_of(key))
        return cell if cell.key == key and not unknown_scores(cell) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a file cut off by a power cut is to be made again
        return None


def require_same_model(folder: Path, model_hash: str) -> None:
    """Refuse a folder with cells of a base model that had other weights, so that nothing is mixed.

    Cells that do not say what they are of, as those of before they did, pass.

    Raises:
        LookforwardError: there is one.
    """
    for path in sorted((folder / "cells").glob("[!.]*.json")):
        try:
            made = str(json.loads(path.read_text(encoding="utf-8"))["provenance"].get("model_hash", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # no cell: it is made anew
        if made not in ("", model_hash):
            raise LookforwardError(
                f"{folder} holds cells of a base model with other weights ({path.stem}: {made}, now {model_hash}); "
                f"give another --output, or delete {path.parent}."
            )


def unknown_scores(cell: Cell) -> tuple[str, ...]:
    """The scores of which some value is no finite number."""
    return tuple(name for name, values in cell.scores.items() if not np.isfinite(values).all())


def cell_images(folder: Path, subject: str, method: str, seed: int) -> np.ndarray:
    """What a finished cell drew: (n, h, w, 3) uint8, in the order of its scores.

    Raises:
        LookforwardError: the file is gone or damaged.
    """
    name = cell_name((subject, method, seed))
    path = folder / "images" / f"{name}.png"
    try:
        with Image.open(path) as strip:
            pixels = np.asarray(strip.convert("RGB"))
    except OSError as error:
        raise LookforwardError(
            f"{path} cannot be read. Delete {folder / 'cells' / f'{name}.json'} to have its images drawn again."
        ) from error
    return pixels.reshape(-1, pixels.shape[1], pixels.shape[1], 3)


def thin(rows: Sequence[tuple[int, Mapping[str, float]]], every: int = THINNED) -> dict[str, list[list[float]]]:
    """Logged terms of steps counted from 1: name to [last step, mean] of every so many steps that have it."""
    parts: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for step, terms in rows:
        for name, value in terms.items():
            parts.setdefault(name, {}).setdefault((step - 1) // every, []).append((step, value))
    return {
        name: [[part[-1][0], _short(np.mean([value for _, value in part]))] for part in windows.values()]
        for name, windows in parts.items()
    }


def last_quarter(rows: Sequence[tuple[int, Mapping[str, float]]], steps: int) -> dict[str, float]:
    """The mean of every logged term over the last quarter of the steps; of those that have it."""
    kept: dict[str, list[float]] = {}
    for step, terms in rows:
        for name, value in terms.items() if step > 0.75 * steps else ():
            kept.setdefault(name, []).append(value)
    return {name: _short(np.mean(values)) for name, values in kept.items()}


def _in_full(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's settings, with the defaults of those that were not there when it was run, and without the machine's."""
    config = Settings().flat() | settings["config"]
    machine = {name for name, one in FIELDS.items() if one.spec.machine_only}
    return {**settings, "config": {name: value for name, value in config.items() if name not in machine}}


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
