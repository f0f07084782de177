"""Methods side by side on Toybox's held-out subjects: a table and a sheet."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lookforward.cli.personalise import Settings, parse_settings
from lookforward.errors import LookforwardError

console = Console(highlight=False, markup=False, soft_wrap=True)

DEMO_SUBJECT = "backpack-0"
DEMO_SCENES = ("on the beach", "in the snow", "in the jungle", "with a city in the background")
LABELS = {
    "untouched": "untouched model",
    "dreambooth": "DreamBooth",
    "released": "released code",
    "look-forward": "Look Forward",
}


def compare(
    subjects: tuple[str, ...] = (),
    recipes: tuple[str, ...] = ("dreambooth", "released", "look-forward"),
    seeds: int = 3,
    images: int = 1,
    output: Path = Path("runs/compare"),
    set: Settings = (),
) -> None:
    """Train every recipe on every subject from every seed, and print scores with 95% intervals.

    A comparison that was stopped goes on where it was; a finished cell is never run again.

    Args:
        subjects: Held-out subjects such as vase-0; the ten development subjects where not given.
        recipes: Recipes to compare, by name or TOML file; the untouched model is always shown.
        seeds: How many seeds, from 0.
        images: Images for each prompt.
        output: Folder of the comparison.
        set: A setting for all of them, such as steps=300.
    """
    from lookforward.toybox.world.subject import DEVELOPMENT

    _compare(subjects or DEVELOPMENT, recipes, tuple(range(seeds)), None, images, output, parse_settings(set))


def demo(output: Path = Path("demo"), subject: str = DEMO_SUBJECT) -> None:
    """The main job in one picture: DreamBooth and Look Forward on a subject the model has never seen.

    Args:
        output: Folder for sheet.png and table.md.
        subject: One of Toybox's held-out subjects.
    """
    prompts = tuple(f"a photo of {{identifier}} {{class_noun}} {scene}" for scene in DEMO_SCENES)
    _compare((subject,), ("dreambooth", "look-forward"), (0,), prompts, 1, output, {})


def _compare(
    subjects: tuple[str, ...],
    recipes: tuple[str, ...],
    seeds: tuple[int, ...],
    prompts: tuple[str, ...] | None,
    images: int,
    output: Path,
    overrides: dict[str, Any],
) -> None:
    from lookforward.benchmark.grid import UNTOUCHED, Plan, run_grid
    from lookforward.benchmark.summary import write_summary
    from lookforward.build import build_judges, build_pipeline
    from lookforward.config import TOYBOX

    if not recipes or not seeds or images < 1:
        raise LookforwardError("Nothing to compare: give at least one recipe, one seed and one image.")
    methods: dict[str, Any] = {UNTOUCHED: (recipes[0], overrides)}
    methods |= {Path(recipe).stem: (recipe, overrides) for recipe in recipes}
    plan = Plan(subjects, methods, seeds, prompts, images)
    total = len(subjects) * len(methods) * len(seeds)
    console.print(
        f"{total} cells: {len(subjects)} subjects × {len(methods)} methods × {len(seeds)} seeds, into {output}"
    )
    cells = []
    for cell, fresh in run_grid(plan, output, build_pipeline(TOYBOX), build_judges(TOYBOX)):
        cells.append(cell)
        scores = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in cell.scores.items())
        when = f"{cell.seconds:5.0f} s" if fresh else "  kept "
        console.print(f"[{len(cells)}/{total}] {when}  {cell.subject} {cell.method} seed {cell.seed}:  {scores}")
    table = write_summary(cells, plan, output, LABELS)
    wide = Console(highlight=False)  # reads the table's markup; where there is no terminal, wide enough for it
    (wide if wide.is_terminal else Console(highlight=False, width=120)).print(table)
    console.print(f"Look at {output / 'sheet.png'}; the table is in {output / 'table.md'}.")
