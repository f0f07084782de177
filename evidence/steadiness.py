"""How far the scores of one run move from step to step, from cells with scored steps.

    python evidence/steadiness.py runs/evidence/steadiness

All steps of a cell are drawn from the same noise and prompts, so what moves is the model. The report of the same folder
has the deviation between seeds, and that of the score itself.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from lookforward.benchmark.cell import Cell, cell_files, read_cell
from lookforward.benchmark.plan import method_label
from lookforward.report.aggregate import plain

SCORES = ("identity", "DINO", "CLIP-T", "CLIP-I", "oracle")


def within_runs(cells: Sequence[Cell], score: str) -> float | None:
    """Standard deviation of a run's mean score over its scored steps, pooled over runs; None without two steps."""
    means = [[fmean(scores[score]) for scores in cell.steps.values() if score in scores] for cell in cells]
    variances = [stdev(of_run) ** 2 for of_run in means if len(of_run) > 1]
    return fmean(variances) ** 0.5 if variances else None


def table(cells: Sequence[Cell]) -> str:
    """Markdown: of each method the deviation within a run."""
    trained = [cell for cell in cells if cell.steps]
    lines = [f"| | runs | {' | '.join(SCORES)} |", "|---|" + "---:|" * (1 + len(SCORES))]
    for method in dict.fromkeys(cell.method for cell in trained):
        mine = [cell for cell in trained if cell.method == method]
        found = " | ".join(plain(within_runs(mine, score)) for score in SCORES)
        lines.append(f"| {method_label(method)} | {len(mine)} | {found} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="of a benchmark with --scored-steps")
    print(table([read_cell(path) for path in cell_files(parser.parse_args().folder)]))


if __name__ == "__main__":
    main()
