"""Run a grid of cells and print the results."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from lookforward.cli.console import console

if TYPE_CHECKING:
    from lookforward.benchmark.plan import Plan
    from lookforward.benchmark.runner import Executor, Outcome
    from lookforward.report.blocks import Block


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
