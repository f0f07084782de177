"""Run a part of the evidence in the background, until it is done.

    python evidence/run.py                          the parts: cells, what is finished, core hours and bytes left
    python evidence/run.py toybox-sd                run it: one thread, low priority
    python evidence/run.py toybox-sd --pack         keep the finished cells: evidence/cells/toybox-sd.tar.xz
    python evidence/run.py toybox-sd --unpack       go on from these, on another machine or in another clone

It may be killed at any time; the same command goes on, and only the cell at hand is run again. Several may run at once
on one part and share it. A part whose cells fail three times without any progress stops with the last message.
"""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parts import HERE, Grid, Part, part_names, read_part

if TYPE_CHECKING:
    from lookforward.benchmark.plan import Plan

TRIES = 3  # calls in a row that finish no cell
PAUSE = 30.0  # seconds before the next call


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", nargs="?", help=", ".join(part_names()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pack", action="store_true", help="keep the finished cells as one file")
    parser.add_argument("--unpack", action="store_true", help="put the kept cells where the part runs")
    asked = parser.parse_args()
    if asked.part is None:
        show_parts()
        return
    part = read_part(asked.part)
    if asked.unpack:
        unpack(part)
    elif asked.pack:
        pack(part)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the benchmark is stopped too
        run(part, asked.threads)


def run(part: Part, threads: int, pause: float = PAUSE) -> None:
    """Call the benchmark for each grid until it reports no failure."""
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    for grid, shown in zip(part.grids, part.commands(), strict=True):
        tries = 0
        while tries < TRIES:
            print(f"$ {shown}", flush=True)
            before = finished(part)
            done = subprocess.run(["nice", "-n", "10", sys.executable, "-m", "lookforward", *grid.words(part.output)])
            if done.returncode == 0:
                break
            tries = 0 if finished(part) > before else tries + 1
            time.sleep(pause)
        else:
            sys.exit(f"{part.name}: {TRIES} calls in a row finished no cell; the last message says why.")
    print(f"{part.name} is finished: lookforward report {part.output}", flush=True)


def finished(part: Part) -> int:
    """How many cells are there; a partial file begins with a dot."""
    return len(list((part.output / "cells").glob("[!.]*.json")))


def show_parts() -> None:
    """What each part is, and what is left of it."""
    from lookforward.benchmark.estimate import estimate
    from lookforward.errors import LookforwardError

    for name in part_names():
        part = read_part(name)
        print(f"{name}: {part.about}")
        for grid in part.grids:
            try:
                found = estimate(plan_of(grid), part.output, grid.model)
            except LookforwardError as error:
                print(f"  cannot run yet: {error}")
                continue
            left = f"{found.seconds / 3600:.1f} core hours and {found.disk / 2**20:.0f} MiB left"
            print(f"  {found.cells} cells, {found.finished} finished, {left} ({found.source})")


def plan_of(grid: Grid) -> "Plan":
    """The plan of a grid, as the command builds it."""
    from lookforward.benchmark.datasets.find import find_dataset
    from lookforward.benchmark.methods import grid_methods
    from lookforward.benchmark.plan import Plan, Scoring

    data = find_dataset(grid.dataset, grid.model)
    recipes = [str(HERE / one) if one.endswith(".toml") else one for one in grid.recipes]
    methods = grid_methods(recipes, grid.adapters, {**data.settings, **grid.settings}, grid.model)
    subjects = grid.subjects or tuple(subject.name for subject in data.subjects)
    scoring = Scoring(steps=tuple(sorted(set(grid.scored_steps))))
    return Plan(subjects, methods, tuple(range(grid.seeds)), None, grid.images, None, data, scoring)


def pack(part: Part) -> None:
    """Write the cells and benchmark.json as one file, the same bytes for the same cells."""
    part.packed.parent.mkdir(exist_ok=True)
    files = [*sorted((part.output / "cells").glob("[!.]*.json")), part.output / "benchmark.json"]
    with tarfile.open(part.packed, "w:xz", preset=9) as archive:
        for path in files:
            entry = tarfile.TarInfo(str(Path(part.folder) / path.relative_to(part.output)))
            entry.size = path.stat().st_size
            with path.open("rb") as data:
                archive.addfile(entry, data)
    print(f"{part.packed}: {len(files) - 1} cells, {part.packed.stat().st_size / 2**10:.0f} KiB")


def unpack(part: Part) -> None:
    """Put the kept cells where the part runs; those that are there stay."""
    with tarfile.open(part.packed) as archive:
        for entry in archive:
            target = part.output.parent / entry.name
            if entry.isfile() and not target.exists():
                archive.extract(entry, part.output.parent, filter="data")


if __name__ == "__main__":
    main()
