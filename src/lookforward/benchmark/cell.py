"""A finished cell of a grid and its files: `cells/NAME.json`, and `images/NAME.png` with its images in one strip."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from lookforward.benchmark.plan import CellKey, Plan, cell_name
from lookforward.benchmark.recorded import full_settings
from lookforward.benchmark.shapes import check_recorded
from lookforward.data.image_files import ImageError, opened_image
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, read_bytes, read_json, write_text
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image
from lookforward.seals import sealed_json
from lookforward.whole import png_state, seal_png

Point = Annotated[list[float], Field(min_length=2, max_length=2)]  # a step, and a mean up to it
CURVE_WINDOW = 10  # steps that one point of a cell's curves averages
UNREADABLE = (
    LookforwardError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)  # what reading a damaged file may raise


@dataclass(frozen=True)
class Cell:
    """One finished cell.

    scores: name to one number per image, in the order of the prompts, a prompt's images together. seconds: of training.
    memory: peak of the process while training and drawing, MiB, the loaded models included. terms: each logged term's
    mean over the last quarter of the steps. curves: logged term to [step, mean over the CURVE_WINDOW steps up to it].
    parameters: how many were trained. size: of the exported weights, MiB. provenance, settings: see docs/benchmark.md;
    empty in cells of older versions. steps: step to scores, as `scores` has them, of the images that were drawn after
    it; where asked for. `curves` has also what a run measured of itself, as "validation/identity".
    """

    subject: str
    method: str
    seed: int
    scores: dict[str, list[float]]
    seconds: float
    memory: float
    terms: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    parameters: int = 0
    size: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def key(self) -> CellKey:
        return self.subject, self.method, self.seed


def write_cell(folder: Path, cell: Cell, images: np.ndarray) -> None:
    """Write the images (n, h, w, 3) uint8, then the JSON file, whose presence means that the cell is finished.

    Raises:
        LookforwardError: the disk is full or cannot be written; the cell is then not finished.
    """
    name = cell_name(cell.key)
    with atomic_file(folder / "images" / f"{name}.png", shared=True) as partial:
        save_image(images.reshape(-1, *images.shape[2:]), partial, _origin(cell), format="PNG")
        partial.write_bytes(seal_png(partial.read_bytes()))
    write_text(folder / "cells" / f"{name}.json", sealed_json(asdict(cell)) + "\n")


def _origin(cell: Cell) -> Origin:
    """Of the strip of a cell's images. They carry no watermark, since they are what was scored."""
    config = cell.settings.get("config", {})
    names = ("evaluation.sampler_steps", "evaluation.guidance", "data.resolution", "adapter.name", "run.steps")
    return Origin(
        "benchmark images",
        model=Path(str(config.get("model.name", ""))).name,
        model_hash=cell.provenance.get("model_hash", ""),
        run=cell_name(cell.key),
        prompts=list(cell.settings.get("prompts", ())),
        settings={name: config[name] for name in names if name in config},
    )


def read_cell(path: Path) -> Cell:
    """A finished cell. Raises one of UNREADABLE where the file does not hold one; it names the field."""
    cell = read_json(path, Cell)
    check_recorded(cell.settings, cell.provenance, path)
    return cell


def cell_files(folder: Path) -> list[Path]:
    """The files of finished cells; not the partial ones that a killed process left."""
    return sorted((folder / "cells").glob("[!.]*.json"))


def finished_cell(plan: Plan, folder: Path, key: CellKey) -> Cell | None:
    """The cell if it is finished; None if its file is missing or damaged, or a score in it is not finite.

    Raises:
        LookforwardError: it was run with other settings.
    """
    path = folder / "cells" / f"{cell_name(key)}.json"
    try:
        cell = read_cell(path)
        if cell.key != key or non_finite_scores(cell):
            return None
        same = full_settings(cell.settings) == full_settings(plan.settings_of(key))
    except UNREADABLE:
        return None
    if not same:
        raise LookforwardError(
            f"{path} was run with other settings. Give another --output, or delete {path.parent}.",
            code="cell-settings-differ",
        )
    return cell


def require_same_model(folder: Path, model_hash: str) -> None:
    """Refuse a folder with cells of a base model that had other weights. Cells that do not record the hash pass.

    Raises:
        LookforwardError: there is such a cell.
    """
    for path in cell_files(folder):
        try:
            recorded = read_cell(path).provenance.get("model_hash") or model_hash
        except UNREADABLE:
            continue  # it will be run again
        if recorded != model_hash:
            raise LookforwardError(
                f"{folder} holds cells of a base model with other weights ({path.stem}: {recorded}, now {model_hash}). "
                f"Give another --output, or delete {path.parent}.",
                code="model-weights-differ",
            )


def non_finite_scores(cell: Cell) -> dict[str, int]:
    """Score to how many of its values are not finite numbers, where there are some."""
    named = dict(cell.scores)
    named |= {f"{name}, step {step}": v for step, scores in cell.steps.items() for name, v in scores.items()}
    counts = {name: int((~np.isfinite(np.asarray(v, np.float64))).sum()) for name, v in named.items()}
    return {name: count for name, count in counts.items() if count}


@contextmanager
def opened_strip(path: Path) -> Iterator[Image.Image]:
    """The images of a cell as one image, while the context lasts. Raises ImageError where a byte of it was changed."""
    try:
        data = read_bytes(path)
    except LookforwardError as error:
        raise ImageError(str(error), error.code) from error
    if png_state(data) == "damaged":
        raise ImageError(f"{path} is damaged: its digest does not fit.", "image-damaged")
    with opened_image(path, ("PNG",), data=data) as strip:
        yield strip


def read_strip(folder: Path, name: str, count: int | None = None) -> np.ndarray:
    """The images of a cell, (n, h, w, 3) uint8, in the order of its scores. count: n; square images where None.

    Raises:
        LookforwardError: the file is missing or damaged.
    """
    path = folder / "images" / f"{name}.png"
    try:
        with opened_strip(path) as strip:
            pixels = np.asarray(strip.convert("RGB"))
        side = pixels.shape[1] if count is None else pixels.shape[0] // count
        return pixels.reshape(-1 if count is None else count, side, *pixels.shape[1:])
    except (ImageError, ValueError) as error:
        raise LookforwardError(
            f"{path} cannot be read. Delete {folder / 'cells' / f'{name}.json'} to run the cell again.",
            code="images-unreadable",
        ) from error


def smooth_curves(terms: Sequence[Mapping[str, float]], window: int = CURVE_WINDOW) -> dict[str, list[list[float]]]:
    """The logged terms of steps 1, 2, … to name → [last step, mean] of every `window` steps that have the term."""
    frame = _by_step(terms)
    curves: dict[str, list[list[float]]] = {}
    for name in frame:
        values = frame[name].dropna()
        for _, part in values.groupby((values.index - 1) // window):
            curves.setdefault(str(name), []).append([int(part.index[-1]), _short(part.mean())])
    return curves


def last_quarter(terms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each logged term's mean over the last quarter of the steps that have it."""
    frame = _by_step(terms)
    means = frame[frame.index > 0.75 * len(frame)].mean().dropna()
    return {str(name): _short(mean) for name, mean in means.items()}


def _by_step(terms: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(list(terms), index=pd.RangeIndex(1, len(terms) + 1))


def _short(value: float) -> float:
    return float(f"{value:.6g}")
