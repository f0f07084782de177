"""What a grid will cost before it runs, from the cells that are finished or from stated assumptions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from lookforward.benchmark.cell import Cell, finished_cell
from lookforward.benchmark.plan import UNTOUCHED, CellKey, Plan, cell_name
from lookforward.bundle import bundled_model

# (seconds a step, seconds an image, scores included) with SD 1.4 at 512 pixels: a guess for a recent GPU in single
# precision
SPEED = (0.5, 4.0)
WEIGHTS_BYTES = 4.3e9  # of Stable Diffusion 1.x in single precision, where a model is not on the disk yet
# Adam holds two numbers for each weight that is trained, beside the weight, its gradient and the copy that is restored
COPIES = {True: 5, False: 2}  # whether all weights are trained
ADAPTER_SHARE = 0.1  # at most, of the weights, in the export of an adapter
CELL_BYTES = 40_000  # of its scores and curves


@dataclass(frozen=True)
class Estimate:
    """The cost of what is missing. seconds: of all workers together, by the clock. disk, memory: bytes, of all workers.

    images: of each method over the whole grid, the finished ones included. source: what the times are based on.
    """

    cells: int
    finished: int
    images: int
    seconds: float
    disk: float
    scratch: float  # of the disk, for a while: where an export is weighed
    memory: float
    source: str


def estimate(plan: Plan, folder: Path, model: str, workers: int = 1) -> Estimate:
    """What is missing of a plan in a folder, and what it will cost.

    Raises:
        LookforwardError: a cell was run before with other settings.
    """
    keys = list(plan.cells())
    cells = {key: cell for key in keys if (cell := finished_cell(plan, folder, key)) is not None}
    timed = [cell for cell in cells.values() if cell.provenance.get("seconds")]
    missing = [key for key in keys if key not in cells]
    seconds = [_seconds(plan, key, timed, model) for key in missing]
    strips = [size for key in cells if (size := _size(folder / "images" / f"{cell_name(key)}.png"))]
    raw = [3 * plan.settings(key[1], key[2]).data.resolution ** 2 * _images(plan, key) for key in missing]
    weights = weights_bytes(model)
    whole = any(plan.settings(method).adapter.name == "full" for method in plan.methods if method != UNTOUCHED)
    bundled = bundled_model(model)
    assumed = bundled.memory * 2**20 if bundled else COPIES[whole] * weights
    memory = max((cell.memory for cell in cells.values()), default=0) * 2**20 or assumed
    step, image = assumed_speed(model)
    source = f"{step:g} s a training step and {image:g} s an image are assumed"
    return Estimate(
        len(keys),
        len(cells),
        sum(len(plan.prompts_of(subject)) for subject in plan.subjects) * plan.images * len(plan.seeds),
        max(math.fsum(seconds) / workers, max(seconds, default=0.0)),
        (mean(strips) * len(missing) if strips else math.fsum(raw)) + CELL_BYTES * len(missing),
        weights * (1.0 if whole else ADAPTER_SHARE) * workers if missing else 0.0,
        memory * workers,
        f"times are those of {len(timed)} finished cells; of methods without one, {source}"
        if timed
        else f"no cell is finished, so {source}",
    )


def assumed_speed(model: str) -> tuple[float, float]:
    """Seconds a training step and seconds an image, before anything was measured here."""
    bundled = bundled_model(model)
    return bundled.speed if bundled else SPEED


def weights_bytes(model: str) -> float:
    """Size of a model's weights in single precision, from its folder if it has one."""
    bundled = bundled_model(model)
    folder = bundled.pipeline if bundled else Path(model)
    return float(sum(_size(path) for path in folder.rglob("*.safetensors"))) or WEIGHTS_BYTES


def _seconds(plan: Plan, key: CellKey, timed: Sequence[Cell], model: str) -> float:
    alike = [cell.provenance["seconds"] for cell in timed if cell.method == key[1]]
    if alike:
        return float(median(alike))
    step, image = assumed_speed(model)
    if key[1] == UNTOUCHED:
        return _images(plan, key) * image
    steps = plan.settings(key[1], key[2]).run.steps
    times = 1 + sum(one <= steps for one in plan.scoring.steps)
    return steps * step + times * _images(plan, key) * image


def _images(plan: Plan, key: CellKey) -> int:
    return len(plan.prompts_of(key[0])) * plan.images


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
