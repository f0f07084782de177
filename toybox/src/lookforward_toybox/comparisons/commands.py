"""Methods side by side on held-out subjects, or one thing varied over one recipe: tables, sheets and curves."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from lookforward.bundle import TOYBOX
from lookforward.cli.console import console, print_notes, split_words
from lookforward.cli.grid import print_blocks, shown_outcomes
from lookforward.cli.options import GridOptions
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.benchmark.cell import Cell
    from lookforward.benchmark.plan import Plan

ALL_PROMPTS = 25  # of the DreamBooth benchmark, for a subject
DEMO_SUBJECT = "teapot-0"
DEMO_SCENES = ("on the beach", "in the snow", "on a cobblestone street", "with a city in the background")


def compare(
    subjects: tuple[str, ...] = (),
    recipes: tuple[str, ...] = ("dreambooth", "released", "look-forward"),
    adapters: tuple[str, ...] = ("full",),
    seeds: int = 3,
    prompts: int = ALL_PROMPTS,
    images: int = 1,
    output: Path = Path("runs/compare"),
    model: str = TOYBOX,
    *,
    settings: GridOptions,
) -> None:
    """Train every recipe with every adapter on every subject for each seed, and print scores with 95% intervals.

    Run the same command again to continue an interrupted comparison; finished cells are kept.

    Args:
        subjects: Held-out subjects, such as vase-0. Default: the ten development subjects.
        recipes: Names or TOML files of recipes. NAME@ADAPTER uses only that adapter. The base model is always included.
        adapters: Adapters for every recipe: full, lora, dora, custom-diffusion, textual-inversion, p-plus, neti.
        seeds: Number of seeds, starting at 0.
        prompts: Number of prompts out of the benchmark's 25, alternating between scenes, accessories and
            property modifications.
        images: Number of images for each prompt.
        output: Output folder.
        model: toybox, another bundled model such as toybox-sd, a pipeline folder or a hub ID.
    """
    from lookforward.benchmark.datasets.find import bundled_dataset
    from lookforward.benchmark.methods import grid_methods, unread_notes
    from lookforward.benchmark.plan import Plan

    require_some(split_words(recipes), seeds, images, prompts)
    overrides = flatten(settings)
    methods = grid_methods(split_words(recipes), split_words(adapters), overrides, model)
    print_notes(unread_notes(methods, overrides))
    data, names = bundled_dataset(model=model), subjects or development_subjects()
    _compare(Plan(names, methods, tuple(range(seeds)), None, images, prompts, data), output)


def demo(output: Path = Path("demo"), subject: str = DEMO_SUBJECT, model: str = TOYBOX) -> None:
    """Train DreamBooth, Look Forward and best on a subject that the model has never seen, and compare their images.

    Args:
        output: Folder for sheet.png and table.md.
        subject: Held-out subject of Toybox.
        model: toybox, another bundled model such as toybox-sd, a pipeline folder or a hub ID.
    """
    from lookforward.benchmark.datasets.find import bundled_dataset
    from lookforward.benchmark.methods import grid_methods
    from lookforward.benchmark.plan import Plan

    prompts = tuple(f"a photo of {{identifier}} {{class_noun}} {scene}" for scene in DEMO_SCENES)
    methods = grid_methods(("dreambooth", "look-forward", "best"), ("full",), {}, model)
    _compare(Plan((subject,), methods, (0,), prompts, dataset=bundled_dataset(model=model)), output)


def ablate(
    name: tyro.conf.Positional[str],
    values: tuple[str, ...] = (),
    recipe: str | None = None,
    subjects: tuple[str, ...] = (),
    seeds: int = 3,
    prompts: int = ALL_PROMPTS,
    images: int = 1,
    output: Path | None = None,
    model: str = TOYBOX,
    *,
    settings: GridOptions,
) -> None:
    """Vary one setting of a recipe, and write a score table, a contact sheet from the same noise, and critic metrics.

    Run the same command again to continue an interrupted ablation; finished cells are kept.

    Args:
        name: discount, critic-weight, target, transition, critic, reward, scale or frozen.
        values: Numbers to try, such as 0.9 0.99. Only for discount, critic-weight and scale.
        recipe: Name or TOML file of another recipe to start from.
        subjects: Held-out subjects, such as vase-0. Default: the ten development subjects.
        seeds: Number of seeds, starting at 0.
        prompts: Number of prompts out of the benchmark's 25, alternating between scenes, accessories and
            property modifications.
        images: Number of images for each prompt.
        output: Output folder. Default: runs/ablate-NAME.
        model: toybox, another bundled model such as toybox-sd, a pipeline folder or a hub ID.
    """
    from lookforward.benchmark.methods import unread_notes
    from lookforward_toybox.comparisons.ablations import find_ablation, plan_ablation, with_values
    from lookforward_toybox.comparisons.pages import write_ablation

    ablation = with_values(find_ablation(name), values)
    ablation = replace(ablation, recipe=recipe or ablation.recipe)
    require_some(ablation.values, seeds, images, prompts)
    names, overrides = subjects or development_subjects(), flatten(settings)
    plan = plan_ablation(ablation, names, range(seeds), overrides, images=images, count=prompts, model=model)
    print_notes(unread_notes(plan.methods, overrides))
    folder = output or Path("runs") / f"ablate-{name}"
    cells = run_cells(plan, folder)
    print_blocks(write_ablation(cells, plan, ablation, folder))
    console.print(
        f"Look at {folder / 'sheet.png'} and {folder / 'curves.png'}; the tables are in {folder / 'table.md'}."
    )


def _compare(plan: "Plan", output: Path) -> None:
    from lookforward_toybox.comparisons.pages import write_comparison

    cells = run_cells(plan, output)
    print_blocks(write_comparison(cells, plan, output))
    console.print(f"Look at {output / 'sheet.png'}; the tables are in {output / 'table.md'}.")


def development_subjects() -> tuple[str, ...]:
    """The names of Toybox's subjects that settings are chosen on."""
    from lookforward.benchmark.datasets.find import bundled_dataset

    return tuple(subject.name for subject in bundled_dataset("toybox-development").subjects)


def require_some(methods: Collection[str], seeds: int, images: int, prompts: int) -> None:
    """Refuse a grid without cells or images."""
    if not methods or seeds < 1 or images < 1:
        text = "Nothing to compare: give at least one recipe, one seed and one image."
        raise LookforwardError(text, code="nothing-to-compare")
    if not 1 <= prompts <= ALL_PROMPTS:
        text = f"--prompts {prompts}: the benchmark has {ALL_PROMPTS}; give 1 to {ALL_PROMPTS}."
        raise LookforwardError(text, code="prompts-count")


def run_cells(plan: "Plan", output: Path) -> "list[Cell]":
    """Run what is missing of a grid on its model, with a line per cell. The first cell that fails stops it."""
    from lookforward.benchmark.cell_runner import ModelSource
    from lookforward.benchmark.executors import InProcess
    from lookforward.benchmark.runner import prepare

    prepare(plan, output)
    cells = []
    for outcome in shown_outcomes(plan, output, InProcess(plan, output, ModelSource(plan.model, output).load)):
        if outcome.cell is None:
            subject, method, seed = outcome.key
            raise LookforwardError(f"{subject}, {method}, seed {seed}: {outcome.message}", code="cell-failed")
        cells.append(outcome.cell)
    return cells
