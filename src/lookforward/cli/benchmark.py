"""Methods on a whole data set, with everything that a table of a paper needs left on disk."""

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from lookforward.cli.compare import print_table
from lookforward.cli.console import split_words
from lookforward.cli.options import GridOptions
from lookforward.cli.score import asked_scores
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.benchmark.plan import Plan
    from lookforward.benchmark.runner import Outcome
    from lookforward.benchmark.workers import Start

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
SOME_FAILED = 3  # exit status
SHARED = ", of which the cluster has one for each GPU or machine"


def benchmark(
    dataset: str = "toybox",
    model: str = "toybox",
    recipes: tuple[str, ...] = ("dreambooth", "look-forward"),
    adapters: tuple[str, ...] = ("full",),
    subjects: tuple[str, ...] = (),
    seeds: int = 1,
    images: int = 4,
    prompts: int | None = None,
    output: Path = Path("runs/benchmark"),
    workers: int | None = None,
    ray: str | None = None,
    plan: bool = False,
    dino: str | None = None,
    clip: str | None = None,
    extra_scores: tuple[str, ...] = (),
    dinov2: str | None = None,
    identifier_in_clip_text: bool = False,
    *,
    settings: GridOptions,
) -> None:
    """Train, draw and score every recipe with every adapter on every subject of a data set from every seed.

    A benchmark that was stopped goes on where it was; no finished cell is run again. A cell that fails does not stop
    the rest: it is told at the end, with exit status 3, and tried again by the next call.

    Args:
        dataset: toybox, toybox-development, or a folder laid out as the DreamBooth data set or CustomConcept101.
        model: toybox, a pipeline folder, or a hub id such as CompVis/stable-diffusion-v1-4.
        recipes: Recipes by name or TOML file, with spaces or commas between; NAME@ADAPTER has that adapter alone. The
            untouched model is always there.
        adapters: What is trained, each with every recipe: full, lora, custom-diffusion …
        subjects: Some of the data set's subjects; all where not given.
        seeds: How many seeds, from 0.
        images: Images for each prompt.
        prompts: How many of the data set's prompts: scenes, outfits and looks in turn; all where not given.
        output: Folder of the benchmark.
        workers: Processes that share the work, each with a model of its own: 1 where not given, or with --ray one for
            each GPU, or for each machine where there are none.
        ray: Run on a Ray cluster, whose machines must all see --output: HOST:PORT, auto for the one that this machine
            is part of, local to start one here.
        plan: Print the grid with its time, disk and memory, and stop.
        dino: Folder or hub id of another DINO.
        clip: Folder or hub id of another CLIP.
        extra_scores: Further scores: dinov2, diversity (needs lpips), dreamsim (needs dreamsim).
        dinov2: Folder or hub id of another DINOv2; asks for its score.
        identifier_in_clip_text: CLIP-T sees the identifier too.
    """
    from lookforward.benchmark.connect import require_ray
    from lookforward.benchmark.datasets import find_dataset
    from lookforward.benchmark.methods import grid_methods
    from lookforward.benchmark.model import ModelSource
    from lookforward.benchmark.plan import Plan, Scoring

    counts = {"seeds": seeds, "images": images, "prompts": 1 if prompts is None else prompts}
    counts["workers"] = 1 if workers is None else workers
    for name, number in counts.items():
        if number < 1:
            raise LookforwardError(f"--{name} must be at least 1.")
    scoring = Scoring(identifier_in_clip_text, asked_scores(extra_scores, dinov2, images), dinov2, dino, clip)
    if ray is not None:
        require_ray(ray)
    data = find_dataset(dataset)
    names = split_words(subjects) or tuple(subject.name for subject in data.subjects)
    for name in names:
        data.find(name)
    if not split_words(recipes) or not split_words(adapters):
        raise LookforwardError("Nothing to compare: give at least one recipe and one adapter.")
    methods = grid_methods(split_words(recipes), split_words(adapters), flatten(settings), model)
    grid = Plan(tuple(dict.fromkeys(names)), methods, tuple(range(seeds)), None, images, prompts, data, scoring)
    _require_strips(grid)
    for note in data.notes:
        console.print(f"Note: {note}.")
    if plan:
        _print_plan(grid, output, model, workers or 1, "" if ray is None or workers else SHARED)
        return
    start = ModelSource(model, dino, clip, scoring.extra, dinov2, output.absolute()).start
    _run(grid, output, model, workers, ray, start)


def _require_strips(grid: "Plan") -> None:
    side = max(grid.settings(method).data.resolution for method in grid.methods)
    most = max(len(grid.prompts_of(subject)) for subject in grid.subjects) * grid.images
    if most * side**2 > 150_000_000:  # what Pillow opens without a fear of bombs
        raise LookforwardError(
            f"{most} images of {side} pixels are too many for one cell: give fewer --images and more --seeds."
        )


def _print_plan(grid: "Plan", output: Path, model: str, workers: int, shared: str) -> None:
    from lookforward.benchmark.estimate import estimate

    cost = estimate(grid, output, model, workers)
    live = sum(grid.subject(subject).live for subject in grid.subjects)
    asked = {len(grid.prompts_of(subject)) for subject in grid.subjects}
    prompts = f"{min(asked)} to {max(asked)}" if len(asked) > 1 else str(max(asked))
    console.print(f"{grid.dataset.name}: {len(grid.subjects)} subjects, {live} of them live")
    console.print(f"methods: {', '.join(grid.methods)}")
    console.print(
        f"{cost.cells} cells: {len(grid.subjects)} subjects × {len(grid.methods)} methods × {len(grid.seeds)} seeds; "
        f"{cost.finished} are finished"
    )
    console.print(
        f"{cost.images:,} images per method: {prompts} prompts × {grid.images} images, of each subject and seed"
    )
    console.print(
        f"time: {_duration(cost.seconds)} with {workers} {'worker' if workers == 1 else 'workers'}{shared}, {cost.said}"
    )
    console.print(f"disk: {_bytes(cost.disk)} in {output}, and {_bytes(cost.scratch)} for a while")
    console.print(f"memory: {_bytes(cost.memory)}")


def _run(grid: "Plan", output: Path, model: str, workers: int | None, ray: str | None, start: "Start") -> None:
    from lookforward.benchmark.cluster import run_on_ray
    from lookforward.benchmark.description import write_description
    from lookforward.benchmark.methods import method_label
    from lookforward.benchmark.results import write_results
    from lookforward.benchmark.runner import prepare
    from lookforward.benchmark.summary import optimised_of, same_cells, summarise
    from lookforward.benchmark.workers import run_workers
    from lookforward.report import score_table

    prepare(grid, output)
    write_description(grid, output, model)
    total = sum(1 for _ in grid.cells())
    console.print(f"{total} cells into {output}")
    failed, cells = [], []
    call = uuid.uuid4().hex
    if ray is None:
        outcomes = run_workers(grid, output, start, workers or 1, call)
    else:
        outcomes = run_on_ray(grid, output, start, ray, workers, call)
    for i, outcome in enumerate(outcomes, start=1):
        console.print(f"[{i}/{total}] {_line(outcome)}")
        if outcome.cell is not None:
            cells.append(outcome.cell)
        else:
            failed.append(outcome)
    for note in write_results(grid, output, model):
        console.print(f"Note: {note}")
    if cells:
        marks = {method_label(method): scores for method, scores in optimised_of(grid).items()}
        rows = {method_label(m): row for m, row in summarise(cells).items()}
        print_table(score_table(rows, optimised=marks, bold=same_cells(cells)))
        console.print(f"The table is in {output / 'results.csv'}, one row an image.")
    if failed:
        console.print(f"{len(failed)} of {total} cells failed; give the same command again to try them once more:")
        for outcome in failed:
            console.print(f"  {' '.join(map(str, outcome.key))}: {outcome.message}")
        sys.exit(SOME_FAILED)


def _line(outcome: "Outcome") -> str:
    subject, method, seed = outcome.key
    where = f"{subject} {method} seed {seed}"
    if outcome.cell is None:
        return f"FAILED   {where}: {outcome.message}"
    scores = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in outcome.cell.scores.items())
    seconds = outcome.cell.provenance.get("seconds", outcome.cell.seconds)
    return f"{f'{seconds:5.0f} s' if outcome.fresh else '  kept '}  {where}:  {scores}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
