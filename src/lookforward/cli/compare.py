"""Methods side by side on Toybox's held-out subjects: a table and a sheet."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group

from lookforward.cli.console import split_words
from lookforward.cli.options import GridOptions
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.benchmark.grid import Cell, Plan

console = Console(highlight=False, markup=False, soft_wrap=True)

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
    *,
    settings: GridOptions,
) -> None:
    """Train every recipe with every adapter on every subject from every seed, and print scores with 95% intervals.

    A comparison that was stopped goes on where it was; a finished cell is never run again.

    Args:
        subjects: Held-out subjects such as vase-0; the ten development subjects where not given.
        recipes: Recipes to compare, by name or TOML file; NAME@ADAPTER has that adapter alone. The untouched model is
            always shown.
        adapters: What is trained: full, lora, dora, custom-diffusion, textual-inversion, p-plus, neti.
        seeds: How many seeds, from 0.
        prompts: How many of the benchmark's 25 prompts: scenes, outfits and looks in turn.
        images: Images for each prompt.
        output: Folder of the comparison.
    """
    from lookforward.benchmark.grid import Plan
    from lookforward.benchmark.methods import grid_methods

    require_some(split_words(recipes), seeds, images, prompts)
    overrides = flatten(settings)
    methods = grid_methods(split_words(recipes), split_words(adapters), overrides)
    _compare(Plan(subjects or development_subjects(), methods, tuple(range(seeds)), None, images, prompts), output)


def demo(output: Path = Path("demo"), subject: str = DEMO_SUBJECT) -> None:
    """The main job in one picture: DreamBooth, Look Forward and best on a subject the model has never seen.

    Args:
        output: Folder for sheet.png and table.md.
        subject: One of Toybox's held-out subjects.
    """
    from lookforward.benchmark.grid import Plan
    from lookforward.benchmark.methods import grid_methods

    prompts = tuple(f"a photo of {{identifier}} {{class_noun}} {scene}" for scene in DEMO_SCENES)
    _compare(
        Plan((subject,), grid_methods(("dreambooth", "look-forward", "best"), ("full",), {}), (0,), prompts), output
    )


def _compare(plan: "Plan", output: Path) -> None:
    from lookforward.benchmark.summary import write_summary

    cells = run_cells(plan, output)
    print_table(write_summary(cells, plan, output))
    console.print(f"Look at {output / 'sheet.png'}; the table is in {output / 'table.md'}.")


def development_subjects() -> tuple[str, ...]:
    """The names of Toybox's subjects that settings are chosen on."""
    from lookforward.benchmark.datasets import bundled_dataset

    return tuple(subject.name for subject in bundled_dataset("toybox-development").subjects)


def require_some(methods: Collection[str], seeds: int, images: int, prompts: int) -> None:
    """Refuse a grid without cells or images."""
    if not methods or seeds < 1 or images < 1:
        raise LookforwardError("Nothing to compare: give at least one recipe, one seed and one image.")
    if not 1 <= prompts <= ALL_PROMPTS:
        raise LookforwardError(f"--prompts {prompts}: the benchmark has {ALL_PROMPTS}; give 1 to {ALL_PROMPTS}.")


def run_cells(plan: "Plan", output: Path) -> "list[Cell]":
    """Run what is missing of a grid on the bundled model, with a line a cell."""
    from lookforward.assembly import build_evaluators, build_pipeline
    from lookforward.benchmark.grid import run_grid
    from lookforward.config.settings import TOYBOX

    subjects, methods, seeds = plan.subjects, plan.methods, plan.seeds
    total = len(subjects) * len(methods) * len(seeds)
    console.print(
        f"{total} cells: {len(subjects)} subjects × {len(methods)} methods × {len(seeds)} seeds, into {output}"
    )
    cells = []
    for cell, fresh in run_grid(plan, output, build_pipeline(TOYBOX), build_evaluators(TOYBOX)):
        cells.append(cell)
        scores = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in cell.scores.items())
        when = f"{cell.seconds:5.0f} s" if fresh else "  kept "
        console.print(f"[{len(cells)}/{total}] {when}  {cell.subject} {cell.method} seed {cell.seed}:  {scores}")
    return cells


def print_table(table: Group) -> None:
    """Print a table of scores."""
    wide = Console(highlight=False)  # reads the table's markup; where there is no terminal, wide enough for it
    (wide if wide.is_terminal else Console(highlight=False, width=120)).print(table)
