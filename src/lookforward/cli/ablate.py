"""One thing varied over one recipe, on Toybox's development subjects: the paper's ablations as commands."""

from dataclasses import replace
from pathlib import Path

import tyro

from lookforward.cli.compare import ALL_PROMPTS, development_subjects, print_blocks, require_some, run_cells
from lookforward.cli.console import console
from lookforward.cli.options import GridOptions
from lookforward.config.reading import flatten


def ablate(
    name: tyro.conf.Positional[str],
    values: tuple[str, ...] = (),
    recipe: str | None = None,
    subjects: tuple[str, ...] = (),
    seeds: int = 3,
    prompts: int = ALL_PROMPTS,
    images: int = 1,
    output: Path | None = None,
    *,
    settings: GridOptions,
) -> None:
    """Vary one thing over one recipe: a table, a sheet of the same noise, and how the critic learned.

    Given again, the command continues an ablation that was stopped; no finished cell runs again.

    Args:
        name: discount, critic-weight, target, transition, critic, reward, scale or frozen.
        values: Other numbers to try, such as 0.9 0.99; for discount, critic-weight and scale.
        recipe: Another recipe to start from, by name or TOML file.
        subjects: Held-out subjects such as vase-0; the ten development subjects if not given.
        seeds: How many seeds, from 0.
        prompts: How many of the benchmark's 25 prompts: scenes, accessories and property modifications in turn.
        images: Images for each prompt.
        output: Folder of the ablation; runs/ablate-NAME if not given.
    """
    from lookforward.benchmark.ablations import find_ablation, plan_ablation, with_values
    from lookforward.benchmark.comparison import write_ablation

    ablation = with_values(find_ablation(name), values)
    ablation = replace(ablation, recipe=recipe or ablation.recipe)
    require_some(ablation.values, seeds, images, prompts)
    plan = plan_ablation(
        ablation, subjects or development_subjects(), range(seeds), flatten(settings), images=images, count=prompts
    )
    folder = output or Path("runs") / f"ablate-{name}"
    cells = run_cells(plan, folder)
    print_blocks(write_ablation(cells, plan, ablation, folder))
    console.print(
        f"Look at {folder / 'sheet.png'} and {folder / 'curves.png'}; the tables are in {folder / 'table.md'}."
    )
