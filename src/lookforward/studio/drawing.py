"""Grids of images over two variables: prompts, seeds, runs and their steps, and the settings of the sampler.

Cells that differ in something else than the seed are drawn from the same noise.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookforward import __version__
from lookforward.assembly.marking import marked, watermark_notes
from lookforward.assembly.prompts import fill_prompt
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.exports.png import PngMetadata, write_png, write_sheet
from lookforward.exports.source import Source, device_of, drawn_with, find_source
from lookforward.files import writing
from lookforward.models.families import family_of
from lookforward.models.sampling import check_numbers, check_size, draw_images
from lookforward.report.sheet import comparison_sheet
from lookforward.studio.workspace import Workspace

VARIABLES = {
    "source": "runs and steps", "prompt": "prompts", "seed": "seeds", "guidance": "guidance", "steps": "sampler steps",
    "scheduler": "sampler",
}  # fmt: skip
MOST_CELLS = 64
_LARGEST = 512  # pixels of an image on the sheet
_BUSY = threading.Lock()  # one pipeline at a time: two would need twice the memory


@dataclass(frozen=True)
class GridRequest:
    """What to draw. Values of each variable; of those that are neither rows nor columns, the first counts.

    sources: runs, "RUN/exports/step-000100", or models of the workspace. guidance, steps: empty for the run's own.
    scheduler: empty for the model's own. size: pixels, 0 for the run's own. watermark: whether images carry the
    invisible one, from 256 pixels on.
    """

    sources: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    guidance: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    schedulers: tuple[str, ...] = ()
    negative: str = ""
    size: int = 0
    rows: str = "prompt"
    columns: str = "source"
    watermark: bool = True

    def values(self, variable: str) -> tuple[Any, ...]:
        """The values of a variable, at least one; None stands for the run's own."""
        by_name = {
            "source": self.sources, "prompt": self.prompts, "seed": self.seeds, "guidance": self.guidance,
            "steps": self.steps, "scheduler": self.schedulers,
        }  # fmt: skip
        return by_name[variable] or (None,)


@dataclass(frozen=True)
class Cell:
    """One image of a grid. place: (row, column). run, file: where it is, "-" and a name for one of a plain model."""

    place: tuple[int, int]
    run: str
    file: str
    metadata: PngMetadata


@dataclass(frozen=True)
class Grid:
    """row_labels, column_labels: the values. cells: those that are drawn. sheet: (run, file name) of all of them."""

    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    sheet: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()


def sources(workspace: Workspace, exports: Mapping[str, Sequence[tuple[str, int]]]) -> dict[str, str]:
    """What can be drawn with: label → source. exports: of each run, as `watching.list_exports`."""
    found = {}
    for run, some in exports.items():
        for path, step in some:
            found[f"{run}, step {step}"] = run if path == "export" else f"{run}/{path}"
    return found | {f"{model}, untouched": model for model in workspace.models}


def check_request(request: GridRequest) -> None:
    """Raise LookforwardError if a grid cannot be drawn as it is asked for."""
    if not request.sources:
        raise LookforwardError("Choose a run or a model to draw with.", "source-missing")
    if not any(prompt.strip() for prompt in request.prompts):
        raise LookforwardError("Write a prompt, with {} for the subject.", "prompt-missing")
    if request.rows == request.columns or {request.rows, request.columns} - VARIABLES.keys():
        raise LookforwardError("Choose two different variables for rows and columns.", "grid-variables")
    count = len(request.values(request.rows)) * len(request.values(request.columns))
    if count > MOST_CELLS:
        raise LookforwardError(f"{count} images are more than {MOST_CELLS}: give fewer values.", "count-too-large")
    check_numbers(seeds=request.seeds)
    for guidance in request.guidance:
        check_numbers(guidance=guidance)


def draw_grid(request: GridRequest, workspace: Workspace) -> Iterator[Grid]:
    """Draw a grid, source by source; yield it after each image, and at the end with its sheet.

    Raises:
        LookforwardError: something in the request is wrong, or an image cannot be drawn or written.
    """
    check_request(request)
    rows, columns = request.values(request.rows), request.values(request.columns)
    notes = tuple(
        f"Only the first of the {name} is drawn, since they are neither rows nor columns."
        for variable, name in VARIABLES.items()
        if variable not in (request.rows, request.columns) and len(request.values(variable)) > 1
    )
    grid = Grid(tuple(map(_label, rows)), tuple(map(_label, columns)), notes=notes)
    places = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    chosen = {place: _cell_values(request, rows[place[0]], columns[place[1]]) for place in places}
    pixels: dict[tuple[int, int], np.ndarray] = {}
    with _BUSY:
        for name in dict.fromkeys(values["source"] for values in chosen.values()):
            painter = Painter(name, workspace)
            for place in (place for place in places if chosen[place]["source"] == name):
                cell, pixels[place] = painter.draw(place, chosen[place], request)
                unmarked = watermark_notes(cell.metadata.size, request.watermark)
                grid = replace(grid, cells=(*grid.cells, cell), notes=tuple(dict.fromkeys((*grid.notes, *unmarked))))
                yield grid
    yield replace(grid, sheet=_write_sheet(grid, pixels, workspace))


class Painter:
    """Draws with one source, which is loaded once.

    Raises:
        LookforwardError: the source is not one of the workspace's, or cannot be loaded.
    """

    def __init__(self, name: str, workspace: Workspace) -> None:
        self.workspace = workspace
        self.source, self.run = _find(name, workspace)
        self.pipeline = self.source.load(device_of(self.source))
        self.digest = model_hash(self.pipeline)
        self.folder = workspace.run(self.run) / "images" if self.run != "-" else workspace.images

    def draw(self, place: tuple[int, int], values: Mapping[str, Any], request: GridRequest) -> tuple[Cell, np.ndarray]:
        """Draw one image and write it with its metadata."""
        own = self.source.manifest
        prompt = fill_prompt(str(values["prompt"]).strip(), own)
        size = request.size or own["resolution"] or family_of(self.pipeline).native_size(self.pipeline)
        check_size(self.pipeline, size)
        sampling = {
            "steps": own["sample_steps"] if values["steps"] is None else values["steps"],
            "guidance": own["guidance"] if values["guidance"] is None else values["guidance"],
            "scheduler": values["scheduler"] or next(iter(family_of(self.pipeline).schedulers)),
        }
        negative = request.negative.strip() if sampling["guidance"] > 1 else ""
        drawn = draw_images(
            self.pipeline, [prompt], [values["seed"]], resolution=size, negative=negative or None, **sampling
        )
        [pixels], watermark = marked(list(drawn), wanted=request.watermark)
        metadata = PngMetadata(
            prompt,
            values["seed"],
            size=size,
            negative=negative,
            version=__version__,
            watermark=watermark,
            **sampling,
            **drawn_with(self.source, self.digest),
        )
        name = file_name(metadata)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_png(self.folder / name, pixels, metadata)
        return Cell(place, self.run, name, metadata), pixels


def file_name(metadata: PngMetadata) -> str:
    """A name that says the prompt and the seed, and differs for images that were drawn otherwise."""
    words = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in metadata.prompt).split())[:60]
    digest = hashlib.sha256(json.dumps(asdict(replace(metadata, version=""))).encode()).hexdigest()[:8]
    return f"{words.strip('-') or 'image'}-{metadata.seed}-{digest}.png"


def numbers(text: str, kind: type[int] | type[float], what: str) -> tuple[Any, ...]:
    """The numbers in a line, separated by commas or blanks; for whole numbers also "0-3".

    Raises:
        LookforwardError: a word is none; the message names it.
    """
    found: list[Any] = []
    for word in text.replace(",", " ").split():
        first, dash, last = word.partition("-")
        try:
            if kind is int and dash and first:
                if int(last) - int(first) >= MOST_CELLS:
                    raise ValueError
                found += range(int(first), int(last) + 1)
            else:
                found.append(kind(word))
        except ValueError:
            raise LookforwardError(f"{what}: {word[:40]!r} is no number that fits here.", "number") from None
    return tuple(dict.fromkeys(found))


def _find(name: str, workspace: Workspace) -> tuple[Source, str]:
    """The source of that name, and the run that its images belong to, "-" for none."""
    if name in workspace.models:
        return find_source(name), "-"
    run, _, rest = name.partition("/")
    folder = workspace.run(run)
    if not rest:
        return find_source(folder), run
    path = folder / rest
    if path.resolve().parent != (folder / "exports").resolve():
        raise LookforwardError(f"{name[:80]} is not an export of a run here: choose one of the list.", "studio-path")
    return find_source(path), run


def _cell_values(request: GridRequest, row: Any, column: Any) -> dict[str, Any]:
    values = {variable: request.values(variable)[0] for variable in VARIABLES}
    return values | {request.rows: row, request.columns: column}


def _label(value: Any) -> str:
    return "the run's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _write_sheet(grid: Grid, pixels: Mapping[tuple[int, int], np.ndarray], workspace: Workspace) -> tuple[str, str]:
    """All images on one sheet, beside the first of them."""
    cells = sorted(grid.cells, key=lambda cell: cell.place)
    run = cells[0].run
    folder: Path = workspace.run(run) / "images" if run != "-" else workspace.images
    columns = {label: [pixels[i, j] for i in range(len(grid.row_labels))] for j, label in enumerate(grid.column_labels)}
    side = max(128, *(image.shape[0] for image in pixels.values()))
    sheet = comparison_sheet(columns, grid.row_labels, min(side, _LARGEST))
    path = write_sheet(folder / "grid.png", sheet, [cell.metadata for cell in cells])
    return run, path.name
