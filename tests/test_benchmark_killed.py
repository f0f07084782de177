"""A benchmark in two processes, killed from outside at five random moments, one after the other."""

import multiprocessing
import random
import time
from collections import Counter
from pathlib import Path

from fake_cells import FakeRunner, begun, fake_plan, finish
from lookforward.benchmark.cell import finished_cell
from lookforward.benchmark.plan import CellKey, Plan
from lookforward.benchmark.runner import prepare


def contents(folder: Path) -> dict[str, bytes]:
    """Cells and images, without what a killed process left half written."""
    files = [path for part in ("cells", "images") for path in (folder / part).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if ".partial-" not in path.name}


def finished(plan: Plan, folder: Path) -> set[CellKey]:
    return {key for key in plan.cells() if finished_cell(plan, folder, key)}


def test_killed_at_five_random_moments(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path / "things", seeds=15)
    total = sum(1 for _ in plan.cells())
    clean, folder = tmp_path / "clean", tmp_path / "out"
    for each in (clean, folder):
        prepare(plan, each)
    finish(plan, clean, FakeRunner(tmp_path / "clean.txt"))

    runner = FakeRunner(tmp_path / "ledger.txt", seconds=0.03)
    context = multiprocessing.get_context("fork")  # at once at work, so that no moment is spent on imports
    rng = random.Random(6)
    kept: set[CellKey] = set()
    for _ in range(5):
        seen = len(begun(runner.ledger))
        processes = [context.Process(target=finish, args=(plan, folder, runner)) for _ in range(2)]
        for process in processes:
            process.start()
        more = rng.randrange(2, 10)
        while len(begun(runner.ledger)) < seen + more and any(process.is_alive() for process in processes):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))  # two cells' time: at work, writing, or between
        for process in processes:
            process.kill()
            process.join()
        assert kept <= finished(plan, folder)  # nothing lost
        kept = finished(plan, folder)
        assert len(kept) < total
    counts = Counter(begun(runner.ledger))
    finish(plan, folder, runner)
    after = Counter(begun(runner.ledger))
    assert all(after[key] == counts[key] for key in kept)  # nothing repeated
    assert set(after) == set(plan.cells())
    assert sum(after.values()) <= total + 5 * 2  # but what the two were at each time
    assert contents(folder) == contents(clean)
    assert not list((folder / "locks").iterdir())
