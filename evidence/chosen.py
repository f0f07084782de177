"""The step that --until-best chooses, against the last steps and against hindsight, from cells with scored steps.

    python evidence/chosen.py runs/evidence/chosen-step --output chosen-step.md

Each cell is one training to its last step that measured itself and never stopped, with all images drawn and scored
after each measurement. Where --until-best would have stopped, and which step it would have chosen, follows from the
measurements alone; the scores of the benchmark's images take no part in it.

Hindsight takes the step whose images look most like the subject, by the identity encoder. A maximum over noisy scores
is too high, so hindsight is cross-fitted: the step is chosen on every other image and scored on the rest, both ways.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from lookforward.benchmark.cell import Cell, cell_files, read_cell
from lookforward.benchmark.plan import method_label
from lookforward.benchmark.recorded import known_settings
from lookforward.report.aggregate import over_subjects, signed, with_half_width
from lookforward.report.data import UNTOUCHED
from lookforward.runs.step_choice import Evaluation, Scale, choose, no_longer_gains

PATIENCE = 3  # of --until-best
SCORES = ("identity", "oracle", "CLIP-T", "DINO", "CLIP-I")
BY = "identity"  # what hindsight chooses by
UNIT = Scale((0.0, 1.0), (0.0, 1.0))  # of measurements that are on their scale already
CHOSEN, HINDSIGHT = "chosen", "hindsight"


class Result(NamedTuple):
    """One variant of a cell. step: whose weights count. taken: steps of the training. scores: means over the images."""

    step: float
    taken: float
    seconds: float
    scores: Mapping[str, float]


def results_of(cell: Cell) -> dict[str, Result]:
    """The variants of a cell: the last step of a run of a third and of all its steps, the chosen one, hindsight's.

    Raises:
        ValueError: the cell lacks measurements or scored steps that this needs.
    """
    settings = known_settings(cell.settings["config"])
    whole, third = settings.run.steps, settings.run.steps // 3
    warmup = max(settings.optimizer.warmup, settings.critic.warmup if settings.critic.name != "none" else 0)
    rows = [Evaluation(int(step), total, total, 0.0) for step, total in cell.curves.get("validation/total", [])]
    step, stopped = until_best(rows, warmup)
    if missing := {step, third, whole} - {int(name) for name in cell.steps}:
        raise ValueError(f"{cell.subject}, {cell.method}, seed {cell.seed}: no scores of steps {sorted(missing)}")

    def at(step: int, taken: int) -> Result:
        return Result(step, taken, cell.seconds * taken / whole, _means(cell.steps[str(step)]))

    last = {f"last of {n}": at(n, n) for n in (third, whole)}
    return {CHOSEN: at(step, stopped), **last, HINDSIGHT: _hindsight(cell, [one.step for one in rows], whole)}


def until_best(rows: Sequence[Evaluation], warmup: int = 0) -> tuple[int, int]:
    """The step that --until-best exports, and the one after which it stops. rows: measured steps with their totals."""
    for count in range(2, len(rows) + 1):
        counted = [one for one in rows[:count] if one.step == 0 or one.step > warmup]
        if no_longer_gains(UNIT, counted, PATIENCE):
            return choose(UNIT, rows[:count]).step, rows[count - 1].step
    return choose(UNIT, rows).step, rows[-1].step


def _hindsight(cell: Cell, measured: Sequence[int], whole: int) -> Result:
    """The best of the measured steps by BY, chosen on every other image and scored on the rest, both ways averaged."""
    steps = [step for step in measured if str(step) in cell.steps]
    parts = []
    for half in (0, 1):
        best = max(steps, key=lambda step: fmean(cell.steps[str(step)][BY][half::2]))
        scores = {name: fmean(values[1 - half :: 2]) for name, values in cell.steps[str(best)].items()}
        parts.append((best, scores))
    names = parts[0][1]
    scores = {name: fmean(scores[name] for _, scores in parts) for name in names}
    return Result(fmean(step for step, _ in parts), whole, cell.seconds, scores)


def _means(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: fmean(values) for name, values in scores.items()}


def tables(cells: Sequence[Cell]) -> str:
    """Markdown: of each method the variants, and the chosen step's differences from them with 95% intervals."""
    found = {cell.key: results_of(cell) for cell in cells if cell.method != UNTOUCHED}
    untouched = {(cell.subject, cell.seed): _means(cell.scores) for cell in cells if cell.method == UNTOUCHED}
    lines = []
    for method in dict.fromkeys(key[1] for key in found):
        of_method = {(subject, seed): one for (subject, name, seed), one in found.items() if name == method}
        lines += _of_method(method_label(method), of_method, untouched)
    return "\n".join(lines) + "\n"


def _of_method(
    label: str,
    results: Mapping[tuple[str, int], Mapping[str, Result]],
    untouched: Mapping[tuple[str, int], Mapping[str, float]],
) -> list[str]:
    variants = list(next(iter(results.values())))
    scores = [name for name in SCORES if name in next(iter(results.values()))[CHOSEN].scores]
    lines = [f"## {label}, {len(results)} runs", "", f"| | step | steps taken | seconds | {' | '.join(scores)} |"]
    lines.append("|---|" + "---:|" * (3 + len(scores)))
    for variant in variants:
        of_variant = {key: one[variant] for key, one in results.items()}
        counts = (fmean(getattr(one, name) for one in of_variant.values()) for name in ("step", "taken", "seconds"))
        means = (with_half_width(over_subjects(_series(of_variant, name))) for name in scores)
        lines.append(f"| {variant} | {' | '.join(f'{count:.0f}' for count in counts)} | {' | '.join(means)} |")
    lines += ["", f"| chosen less | {' | '.join(scores)} |", "|---|" + "---|" * len(scores)]
    chosen = {name: _series({key: one[CHOSEN] for key, one in results.items()}, name) for name in scores}
    for variant in variants[1:]:
        other = {key: one[variant] for key, one in results.items()}
        lines.append(f"| {variant} | {' | '.join(_difference(chosen[n] - _series(other, n)) for n in scores)} |")
    if set(results) <= set(untouched):
        base = {key: Result(0, 0, 0, untouched[key]) for key in results}
        lines.append(f"| untouched model | {' | '.join(_difference(chosen[n] - _series(base, n)) for n in scores)} |")
    return [*lines, ""]


def _series(results: Mapping[tuple[str, int], Result], score: str) -> pd.Series:
    index = pd.MultiIndex.from_tuples(list(results), names=["subject", "seed"])
    return pd.Series([one.scores[score] for one in results.values()], index=index)


def _difference(values: pd.Series) -> str:
    found = over_subjects(values)
    bounds = f" [{signed(found.low)}, {signed(found.high)}]" if found.known else ""
    return signed(found.mean) + bounds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="of a benchmark with --scored-steps and --evaluation.every")
    parser.add_argument("--output", type=Path, help="Markdown file")
    parser.add_argument("--json", type=Path, help="all variants of all cells")
    asked = parser.parse_args()
    cells = [read_cell(path) for path in cell_files(asked.folder)]
    shown = tables(cells)
    print(shown)
    if asked.output:
        asked.output.write_text(shown, encoding="utf-8")
    if asked.json:
        each = {
            ".".join(map(str, cell.key)): {name: one._asdict() for name, one in results_of(cell).items()}
            for cell in cells
            if cell.method != UNTOUCHED
        }
        asked.json.write_text(json.dumps(each, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
