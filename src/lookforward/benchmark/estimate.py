"""What a grid will cost, before it is run: from the cells that are finished, or from figures that are told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from lookforward.benchmark.cell import Cell, finished_cell
from lookforward.benchmark.plan import UNTOUCHED, Key, Plan, cell_name
from lookforward.bundle import TOYBOX, bundle_of

# (seconds a step, seconds an image, scores included): Toybox's are measured on one core; with SD 1.4 at 512 pixels
# it is a guess for a recent GPU in single precision
SPEEDS = {True: (0.16, 0.55), False: (0.5, 4.0)}
TOYBOX_MEMORY = 1300  # MiB, measured
WEIGHTS_BYTES = 4.3e9  # of Stable Diffusion 1.x in single precision, where a model is not on the disk yet
# Adam holds two numbers for each weight that is trained, beside the weight, its gradient and the copy that is restored
COPIES = {True: 5, False: 2}  # whether all weights are trained
ADAPTER_SHARE = 0.1  # at most, of the weights, in the export of an adapter


@dataclass(frozen=True)
class Estimate:
    """The cost of what is missing. seconds: of all workers together, by the clock. disk, memory: bytes, of all workers.

    images: of each method over the whole grid, those that are there too. said: where the figures come from.
    """

    cells: int
    finished: int
    images: int
    seconds: float
    disk: float
    scratch: float  # of the disk, for a while: where an export is weighed
    memory: float
    said: str


def estimate(plan: Plan, folder: Path, model: str, workers: int = 1) -> Estimate:
    """What is missing of a plan in a folder, and what it will take.

    Raises:
        LookforwardError: a cell was run before with other settings.
    """
    keys = list(plan.cells())
    cells = {key: cell for key in keys if (cell := finished_cell(plan, folder, key)) is not None}
    timed = {key: cell for key, cell in cells.items() if cell.provenance.get("seconds")}
    missing = [key for key in keys if key not in cells]
    seconds = [_seconds(plan, key, list(timed.values()), model) for key in missing]
    strips = [_size(folder / "images" / f"{cell_name(key)}.png") for key in cells]
    strips = [size for size in strips if size]
    raw = {key: 3 * plan.settings(key[1], key[2]).data.resolution ** 2 * _images(plan, key) for key in missing}
    per_cell = {key: mean(strips) if strips else raw[key] for key in missing}
    weights = weights_bytes(model)
    whole = any(plan.settings(method).adapter.name == "full" for method in plan.methods if method != UNTOUCHED)
    memory = max((cell.memory for cell in cells.values()), default=0) * 2**20
    if not memory:
        memory = TOYBOX_MEMORY * 2**20 if model == TOYBOX else COPIES[whole] * weights
    alone = max(seconds, default=0.0)
    return Estimate(
        len(keys),
        len(cells),
        sum(len(plan.prompts_of(subject)) for subject in plan.subjects) * plan.images * len(plan.seeds),
        max(math.fsum(seconds) / workers, alone),
        math.fsum(per_cell.values()) + 40_000 * len(missing),  # its scores and curves
        weights * (1.0 if whole else ADAPTER_SHARE) * workers if missing else 0.0,
        memory * workers,
        _said(timed, model),
    )


def weights_bytes(model: str) -> float:
    """Size of a model's weights in single precision, from its folder where it has one."""
    bundle = bundle_of(model)
    folder = bundle.PIPELINE if bundle else Path(model)
    return float(sum(_size(path) for path in folder.rglob("*.safetensors"))) or WEIGHTS_BYTES


def _seconds(plan: Plan, key: Key, timed: Sequence[Cell], model: str) -> float:
    alike = [cell.provenance["seconds"] for cell in timed if cell.method == key[1]]
    if alike:
        return float(median(alike))
    settings = plan.settings(key[1], key[2])
    step, image = SPEEDS[model == TOYBOX]
    steps = 0 if key[1] == UNTOUCHED else settings.run.steps
    return steps * step + _images(plan, key) * image


def _images(plan: Plan, key: Key) -> int:
    return len(plan.prompts_of(key[0])) * plan.images


def _said(timed: dict[Key, Cell], model: str) -> str:
    step, image = SPEEDS[model == TOYBOX]
    assumed = f"{step:g} s a training step and {image:g} s an image are assumed"
    if not timed:
        return f"no cell is finished, so {assumed}"
    return f"times are those of {len(timed)} finished cells; of methods without one, {assumed}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
