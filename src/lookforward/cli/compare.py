"""Methods side by side on Toybox's held-out subjects: a table and a sheet."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from lookforward.cli.console import console, split_words
from lookforward.cli.options import GridOptions
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.benchmark.cell import Cell
    from lookforward.benchmark.plan import Plan
    from lookforward.benchmark.runner import Executor, Outcome
    from lookforward.report.blocks import Block

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

    Given again, the command continues a comparison that was stopped; no finished cell runs again.

    Args:
        subjects: Held-out subjects such as vase-0; the ten development subjects if not given.
        recipes: Recipes to compare, by name or TOML file; NAME@ADAPTER has that adapter alone. The untouched model is
            always shown.
        adapters: What is trained: full, lora, dora, custom-diffusion, textual-inversion, p-plus, neti.
        seeds: How many seeds, from 0.
        prompts: How many of the benchmark's 25 prompts: scenes, accessories and property modifications in turn.
        images: Images for each prompt.
        output: Folder of the comparison.
    """
    from lookforward.benchmark.methods import grid_methods
    from lookforward.benchmark.plan import Plan

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
    from lookforward.benchmark.methods import grid_methods
    from lookforward.benchmark.plan import Plan

    prompts = tuple(f"a photo of {{identifier}} {{class_noun}} {scene}" for scene in DEMO_SCENES)
    _compare(
        Plan((subject,), grid_methods(("dreambooth", "look-forward", "best"), ("full",), {}), (0,), prompts), output
    )


def _compare(plan: "Plan", output: Path) -> None:
    from lookforward.benchmark.comparison import write_comparison

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
    """Run what is missing of a grid on the bundled model, with a line per cell. The first cell that fails stops it."""
    from lookforward.benchmark.cell_runner import ModelSource
    from lookforward.benchmark.executors import InProcess
    from lookforward.benchmark.runner import prepare
    from lookforward.bundle import TOYBOX

    prepare(plan, output)
    cells = []
    for outcome in shown_outcomes(plan, output, InProcess(plan, output, ModelSource(TOYBOX, output).load)):
        if outcome.cell is None:
            subject, method, seed = outcome.key
            raise LookforwardError(f"{subject}, {method}, seed {seed}: {outcome.message}", code="cell-failed")
        cells.append(outcome.cell)
    return cells


def shown_outcomes(plan: "Plan", output: Path, executor: "Executor") -> "Iterator[Outcome]":
    """Run what is missing of a prepared grid; yield what became of each cell, with a line for each."""
    from lookforward.benchmark.runner import run_grid

    total = len(list(plan.cells()))
    counts = f"{len(plan.subjects)} subjects × {len(plan.methods)} methods × {len(plan.seeds)} seeds"
    console.print(f"{total} cells: {counts}, into {output}")
    for i, outcome in enumerate(run_grid(plan, output, executor), start=1):
        console.print(f"[{i}/{total}] {outcome_line(outcome)}")
        yield outcome


def outcome_line(outcome: "Outcome") -> str:
    """What became of a cell."""
    subject, method, seed = outcome.key
    cell = f"{subject} {method} seed {seed}"
    if outcome.cell is None:
        return f"FAILED   {cell}: {outcome.message}"
    scores = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in outcome.cell.scores.items())
    seconds = outcome.cell.provenance.get("seconds", outcome.cell.seconds)
    return f"{f'{seconds:5.0f} s' if outcome.fresh else '  kept '}  {cell}:  {scores}"


def print_blocks(blocks: "Sequence[Block]") -> None:
    """Print tables and texts."""
    from lookforward.report.blocks import Table, Text
    from lookforward.report.render import terminal_table

    wide = Console(highlight=False)  # reads the tables' markup; if there is no terminal, wide enough for them
    wide = wide if wide.is_terminal else Console(highlight=False, width=140)
    for block in blocks:
        if isinstance(block, Table):
            wide.print(terminal_table(block))
        elif isinstance(block, Text):
            console.print(block.text)
