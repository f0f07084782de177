"""Compare methods on a whole data set, and write everything that a table in a paper needs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lookforward.cli.console import console, print_notes, split_words
from lookforward.cli.grid import print_blocks, shown_outcomes
from lookforward.cli.options import ExtraScores, GridOptions
from lookforward.cli.score import asked_scores
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.benchmark.plan import Plan
    from lookforward.benchmark.runner import Executor

SOME_FAILED = 3  # exit status
SHARED = " (one per GPU or machine of the cluster)"


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
    extra_scores: ExtraScores = (),
    dinov2: str | None = None,
    identifier_in_clip_text: bool = False,
    scored_steps: tuple[int, ...] = (),
    *,
    settings: GridOptions,
) -> None:
    """Train and score every recipe with every adapter on every subject of a data set, for each seed.

    Run the same command again to continue an interrupted benchmark; finished cells are kept. A failed cell does not
    stop the others: the command lists failed cells at the end, exits with status 3, and retries them next time.

    Args:
        dataset: toybox, toybox-development, or a folder in the layout of the DreamBooth data set,
            CustomConcept101 or DreamBench++.
        model: toybox, another bundled model such as toybox-sd, a pipeline folder, or a hub ID such as
            CompVis/stable-diffusion-v1-4.
        recipes: Names or TOML files of recipes, separated by spaces or commas. NAME@ADAPTER uses only that adapter. The
            base model is always included.
        adapters: Adapters to combine with every recipe: full, lora, custom-diffusion …
        subjects: Subjects of the data set. Default: all.
        seeds: Number of seeds, starting at 0.
        images: Number of images for each prompt.
        prompts: Number of prompts from the data set, alternating between its kinds: scenes, accessories, property
            modifications. Default: all.
        output: Output folder.
        workers: Number of worker processes, each with its own copy of the model. Default: 1; with --ray, one per GPU,
            or one per machine without GPUs.
        ray: Run on a Ray cluster: HOST:PORT, auto for the cluster of this machine, or local to start one here. All
            machines need access to --output.
        plan: Print the grid and the time, disk space and memory that it needs, and exit.
        dino: Folder or hub ID of another DINO.
        clip: Folder or hub ID of another CLIP.
        extra_scores: Additional scores: names from docs/scores.md, or your own function.
        dinov2: Folder or hub ID of another DINOv2. Also turns on its score.
        identifier_in_clip_text: Keep the identifier in the text for CLIP-T.
        scored_steps: Steps of each training after which all images are drawn and scored too; kept in the cells.
    """
    from lookforward.benchmark.cell_runner import ModelSource
    from lookforward.benchmark.datasets.find import find_dataset
    from lookforward.benchmark.executors import InProcess, Processes
    from lookforward.benchmark.methods import grid_methods, unread_notes
    from lookforward.benchmark.photo_notes import photo_notes
    from lookforward.benchmark.plan import Plan, Scoring
    from lookforward.benchmark.ray_cluster import RayCluster
    from lookforward.benchmark.ray_join import require_ray

    for name, number in {"seeds": seeds, "images": images, "prompts": prompts, "workers": workers}.items():
        if number is not None and number < 1:
            raise LookforwardError(f"--{name} must be at least 1.", code="count-too-small")
    extra = asked_scores(extra_scores, dinov2, images)
    scoring = Scoring(identifier_in_clip_text, extra, dinov2, dino, clip, tuple(sorted(set(scored_steps))))
    if ray is not None:
        require_ray(ray)
    data = find_dataset(dataset, model)
    names = split_words(subjects) or tuple(subject.name for subject in data.subjects)
    for name in names:
        data.find(name)
    if not split_words(recipes) or not split_words(adapters):
        raise LookforwardError(
            "Nothing to compare: give at least one recipe and one adapter.", code="nothing-to-compare"
        )
    given = {**data.settings, **flatten(settings)}
    methods = grid_methods(split_words(recipes), split_words(adapters), given, model)
    print_notes(unread_notes(methods, flatten(settings)))
    grid = Plan(tuple(dict.fromkeys(names)), methods, tuple(range(seeds)), None, images, prompts, data, scoring)
    _require_strips(grid)
    _require_reached(grid)
    for note in data.notes:
        console.print(f"Note: {note}.")
    print_notes(photo_notes(grid))
    if plan:
        _print_plan(grid, output, model, workers or 1, "" if ray is None or workers else SHARED)
        return
    load = ModelSource(model, output.absolute(), scoring).load
    if ray is not None:
        executor = RayCluster(grid, output, load, ray, workers)
    elif workers is not None and workers > 1:
        executor = Processes(grid, output, load, workers)
    else:
        executor = InProcess(grid, output, load)
    _run(grid, output, model, executor)


def _require_strips(grid: "Plan") -> None:
    side = max(grid.settings(method).data.resolution for method in grid.methods)
    most = max(len(grid.prompts_of(subject)) for subject in grid.subjects) * grid.images
    if most * side**2 > 150_000_000:  # what Pillow opens without a fear of bombs
        raise LookforwardError(
            f"{most} images of {side} pixels are too many for one cell: use fewer --images and more --seeds."
        )


def _require_reached(grid: "Plan") -> None:
    from lookforward.report.data import UNTOUCHED

    longest = max(grid.settings(method).run.steps for method in grid.methods if method != UNTOUCHED)
    if beyond := [step for step in grid.scoring.steps if not 1 <= step <= longest]:
        raise LookforwardError(
            f"--scored-steps {beyond[0]}: trainings have {longest} steps; give 1 to {longest}, or more --run.steps.",
            code="scored-steps-range",
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
        f"time: {_duration(cost.seconds)} with {workers} worker{'' if workers == 1 else 's'}{shared}, {cost.source}"
    )
    console.print(f"disk: {_bytes(cost.disk)} in {output}, and {_bytes(cost.scratch)} temporarily")
    console.print(f"memory: {_bytes(cost.memory)}")


def _run(grid: "Plan", output: Path, model: str, executor: "Executor") -> None:
    from lookforward.benchmark.dataframes import planned_benchmark, write_results
    from lookforward.benchmark.description import write_description
    from lookforward.benchmark.runner import prepare
    from lookforward.report.page_sections import cost_table, footnote, scores_table

    prepare(grid, output)
    write_description(grid, output, model)
    outcomes = list(shown_outcomes(grid, output, executor))
    by_key = {outcome.key: outcome.cell for outcome in outcomes}
    cells = [cell for key in grid.cells() if (cell := by_key[key]) is not None]
    print_notes(write_results(grid, cells, output, model))
    if cells:
        shown = planned_benchmark(grid, cells)
        print_blocks([scores_table(shown, "Scores"), *footnote(shown), cost_table(shown)])
        console.print(f"The table of all images is {output / 'results.csv'}.")
    if failed := [outcome for outcome in outcomes if outcome.cell is None]:
        console.print(f"{len(failed)} of {len(outcomes)} cells failed. Run the same command again to retry them:")
        for outcome in failed:
            console.print(f"  {' '.join(map(str, outcome.key))}: {outcome.message}")
        sys.exit(SOME_FAILED)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
