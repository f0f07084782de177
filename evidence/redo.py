"""Run one published cell again, and compare it with what was published.

    python evidence/redo.py docs/results/benchmark.tar.xz can-0 look-forward 0
    python evidence/redo.py runs/evidence/toybox-sd vase-1 best 2 --threads 2
    python evidence/redo.py docs/results/benchmark.tar.xz can-0 look-forward 0 --times 5

The cell's own record says with which settings, prompts, images and how many threads it was run. The table has both
means of each score. The training's curves tell where two runs part: in the first ten steps if they began with other
photos or class images, later if only numbers were rounded otherwise.

With --times the cell is run as often, each time with a learning rate that is another millionth higher, a change of the
size of rounding: the last table has the deviation of each score.
"""

import argparse
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from lookforward.benchmark.cell import Cell, read_cell
from lookforward.benchmark.datasets.find import find_dataset
from lookforward.benchmark.plan import CellKey, Plan, Scoring, cell_name
from lookforward.benchmark.recorded import known_settings
from lookforward.bundle import present_name
from lookforward.config.settings import FIELDS
from lookforward.errors import LookforwardError


def published(source: Path, key: CellKey) -> Cell:
    """A cell of a folder of `lookforward benchmark`, or of an archive of one.

    Raises:
        LookforwardError: it is not there.
    """
    name = f"{cell_name(key)}.json"
    if source.is_dir():
        path = source / "cells" / name
        if path.is_file():
            return read_cell(path)
    else:
        with tarfile.open(source) as archive, TemporaryDirectory() as folder:
            for entry in archive:
                if Path(entry.name).name == name:
                    archive.extract(entry, folder, filter="data")
                    return read_cell(Path(folder) / entry.name)
    raise LookforwardError(f"{source} holds no cell {cell_name(key)}: check the names.", code="cell-missing")


def plan_of(cell: Cell, dataset: str, changes: Mapping[str, Any]) -> tuple[Plan, str]:
    """The plan of that cell alone, and its base model. changes: settings that are to differ, by dotted names."""
    recorded, given = known_settings(cell.settings["config"]), cell.settings
    model = present_name(recorded.model.name, str(cell.provenance.get("model_hash", "")))
    values = {name: value for name, value in recorded.flat().items() if not FIELDS[name].spec.of_cell}
    values = {name: value for name, value in values.items() if not name.startswith("subject.photos")}
    values |= {"model.name": model, **changes}
    names = {"dino", "clip", "dinov2", "identifier_in_clip_text"} & given.keys()
    scoring = Scoring(
        extra=tuple(given.get("extra_scores", ())),
        steps=tuple(given.get("scored_steps", ())),
        **{name: given[name] for name in names},
    )
    subject, method, seed = cell.key
    methods = {method: ("dreambooth", values)}
    prompts = tuple(given["prompts"])
    data = find_dataset(dataset, model)
    return Plan((subject,), methods, (seed,), prompts, int(given["images"]), None, data, scoring), model


def threads_of(cell: Cell) -> int:
    """How many threads a cell was run with; 1 if it does not say."""
    found = re.search(r"(\d+) of \d+ threads", str(cell.provenance.get("device", "")))
    return int(found[1]) if found else 1


def redo(plan: Plan, model: str, folder: Path) -> Cell:
    """Run the plan's only cell."""
    from lookforward.benchmark.cell_runner import ModelSource
    from lookforward.benchmark.runner import prepare, run_one

    prepare(plan, folder)
    (key,) = plan.cells()
    outcome = run_one(plan, folder, key, ModelSource(model, folder, plan.scoring).load(0))
    if outcome is None or outcome.cell is None:
        raise LookforwardError(f"{cell_name(key)}: {outcome.message if outcome else 'it is running'}", "cell-failed")
    return outcome.cell


def nudged(plan: Plan, times: int) -> Plan:
    """The same plan with a learning rate that is so many millionths higher."""
    ((method, (recipe, values)),) = plan.methods.items()
    rate = values["optimizer.learning_rate"] * (1 + 1e-6 * times)
    return replace(plan, methods={method: (recipe, {**values, "optimizer.learning_rate": rate})})


def rounding(cells: Sequence[Cell]) -> str:
    """A table of the scores' deviation over runs that differ by rounding alone."""
    lines = [f"| score, {len(cells)} runs | mean | deviation | lowest | highest |", "|---|---:|---:|---:|---:|"]
    for name in cells[0].scores:
        means = [fmean(cell.scores[name]) for cell in cells]
        figures = fmean(means), stdev(means), min(means), max(means)
        lines.append(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    return "\n".join(lines)


def comparison(old: Cell, new: Cell) -> str:
    """A table of the scores, and where the curves part."""
    lines = ["| score | published | again | difference | largest of an image |", "|---|---:|---:|---:|---:|"]
    for name, values in old.scores.items():
        means = fmean(values), fmean(new.scores[name])
        most = max(abs(a - b) for a, b in zip(values, new.scores[name], strict=True))
        lines.append(f"| {name} | {means[0]:.3f} | {means[1]:.3f} | {means[1] - means[0]:+.3f} | {most:.3f} |")
    same = {name for name in ("photos_hash", "model_hash") if old.provenance.get(name) == new.provenance.get(name)}
    lines += ["", f"Equal: {', '.join(sorted(same)) or 'neither photos nor weights'}. {parting(old, new)}"]
    return "\n".join(lines)


def parting(old: Cell, new: Cell) -> str:
    """How far the losses of both trainings are apart, at the first point of their curves and as they go on."""
    texts = []
    for name in ("noise_loss", "prior_loss"):
        both = {int(step): value for step, value in old.curves.get(name, [])}
        pairs = [(int(s), abs(v / both[int(s)] - 1)) for s, v in new.curves.get(name, []) if both.get(int(s))]
        if pairs:
            shown = [pairs[round(i * (len(pairs) - 1) / 4)] for i in range(5)]
            texts.append(f"{name} differs by " + ", ".join(f"{share:.1e} up to step {step}" for step, share in shown))
    return "; ".join(texts) + "." if texts else "There are no curves to compare."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="folder of a benchmark, or an archive of its cells")
    parser.add_argument("subject")
    parser.add_argument("method")
    parser.add_argument("seed", type=int)
    parser.add_argument("--dataset", default="toybox", help="that the subject is of")
    parser.add_argument("--threads", type=int, help="as many as it was run with, if not given")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="that differ, values as JSON")
    parser.add_argument("--times", type=int, default=1, help="how often; over rounding from the second on")
    parser.add_argument("--output", type=Path, help="folder that keeps the new cells and their images")
    asked = parser.parse_args()
    import torch

    old = published(asked.source, (asked.subject, asked.method, asked.seed))
    torch.set_num_threads(asked.threads or threads_of(old))
    changes = {name: json.loads(value) for name, value in (one.split("=", 1) for one in asked.set)}
    plan, model = plan_of(old, asked.dataset, changes)
    found = []
    with TemporaryDirectory() as folder:
        for i in range(asked.times):
            found.append(redo(nudged(plan, i) if i else plan, model, (asked.output or Path(folder)) / str(i)))
            print(f"{comparison(old, found[-1])}\n", flush=True)
    if len(found) > 1:
        print(rounding(found))


if __name__ == "__main__":
    main()
