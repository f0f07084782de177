"""Run the cells of a grid that are missing: no finished cell is run again, and one that fails does not stop the rest.

An executor holds the workers: in this process, in processes of their own, or on a Ray cluster. Every cell is locked
while it runs, so that several commands may share one folder.
"""

import shutil
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from lookforward.benchmark.cell import Cell, finished_cell, write_cell
from lookforward.benchmark.datasets.values import provide_photos
from lookforward.benchmark.plan import CellKey, Plan, cell_name
from lookforward.benchmark.provenance import now
from lookforward.errors import LookforwardError
from lookforward.files import write_json, writing
from lookforward.runs.lock import LockHeld, locked

CellRunner = Callable[[Plan, CellKey, Path], tuple[Cell, np.ndarray]]
"""Trains, draws and scores a cell, given the folder of its photos: the cell, and its images (n, h, w, 3) uint8."""

StartWorker = Callable[[int], CellRunner]
"""Loads what a worker needs, given the worker's number from 0. It is sent to other processes and machines."""

ATTEMPTS = 2  # workers that a cell may kill before it counts as failed
PAUSE = 1.0  # seconds between looks at cells that another command is running
SPARE_BYTES = 64 * 2**20  # that must stay free on the disk


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. message: why it failed. fresh: it was run just now, not found finished."""

    key: CellKey
    state: Literal["finished", "failed"]
    fresh: bool
    cell: Cell | None = None
    message: str = ""


class WorkerEvent(NamedTuple):
    """What a worker has done: `outcome` of its cell, None if it has just started or another command runs the cell."""

    worker: int
    outcome: Outcome | None = None
    died: bool = False


class Executor(AbstractContextManager["Executor"], Protocol):
    """Workers, each of which runs one cell at a time."""

    workers: int

    def start(self, worker: int) -> None:
        """Start a worker, or replace one that died; it reports once it is ready."""
        ...

    def submit(self, worker: int, key: CellKey) -> None:
        """Give a cell to a worker that is ready."""
        ...

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        """What workers have done, after at most so many seconds if there are none.

        Raises:
            LookforwardError: a worker cannot start.
        """
        ...


def prepare(plan: Plan, folder: Path) -> None:
    """Make the folders, and the photos of subjects that the data set draws.

    Raises:
        LookforwardError: the folder cannot be written, or holds cells of another plan.
    """
    with writing(folder):
        for name in ("cells", "images", "failed", "locks", "photos"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for subject in plan.subjects:
            provide_photos(plan.subject(subject), folder / "photos")
    for key in plan.cells():
        finished_cell(plan, folder, key)


def run_grid(plan: Plan, folder: Path, executor: Executor, pause: float = PAUSE) -> Iterator[Outcome]:
    """Yield every cell once it is finished or failed: those that are finished already first.

    Raises:
        LookforwardError: a cell was run before with other settings, a worker cannot start, or they keep dying.
    """
    missing: deque[CellKey] = deque()
    for key in plan.cells():
        cell = finished_cell(plan, folder, key)
        if cell is None or _lock_of(folder, key).exists():  # a kill may leave the lock of a finished cell
            missing.append(key)
        else:
            yield Outcome(key, "finished", False, cell)
    if missing:
        with executor:
            yield from _dispatch(plan, folder, executor, missing, pause)


def _dispatch(plan: Plan, folder: Path, executor: Executor, waiting: deque[CellKey], pause: float) -> Iterator[Outcome]:
    """Hand out cells until each has an outcome. A worker that dies is replaced, and its cell goes to the next one."""
    left = len(waiting)
    busy: dict[int, CellKey | None] = {}  # worker to its cell, None while it starts
    idle: deque[int] = deque()
    locked: dict[CellKey, float] = {}  # cells that another command runs, to when we look again
    kills: Counter[CellKey] = Counter()
    deaths = 0  # since a cell last had an outcome
    for worker in range(executor.workers):
        executor.start(worker)
        busy[worker] = None
    while left:
        for key in [key for key, until in locked.items() if time.monotonic() >= until]:
            del locked[key]
            waiting.append(key)
        while idle and waiting:
            worker = idle.popleft()
            busy[worker] = key = waiting.popleft()
            executor.submit(worker, key)
        for event in executor.wait(pause):
            key, outcome = busy.pop(event.worker), event.outcome
            if event.died:
                deaths += 1
                if deaths > 2 * executor.workers + 2:
                    message = "Workers are killed again and again: give fewer --workers, or more memory."
                    raise LookforwardError(message, code="workers-keep-dying")
                executor.start(event.worker)
                busy[event.worker] = None
                if key is None:
                    continue
                kills[key] += 1
                if kills[key] < ATTEMPTS:
                    waiting.appendleft(key)
                    continue
                outcome = run_one(plan, folder, key, _killed)
            else:
                idle.append(event.worker)
            if outcome is not None:
                left, deaths = left - 1, 0
                yield outcome
            elif key is not None:
                locked[key] = time.monotonic() + pause


def _lock_of(folder: Path, key: CellKey) -> Path:
    return folder / "locks" / f"{cell_name(key)}.lock"


def run_one(plan: Plan, folder: Path, key: CellKey, runner: CellRunner) -> Outcome | None:
    """Run a cell unless it is finished; None if another process is running it.

    Raises:
        LookforwardError: it was run before with other settings.
    """
    lock = _lock_of(folder, key)
    try:
        with ExitStack() as held:
            try:
                held.enter_context(locked(lock))
            except LockHeld:
                return None
            except LookforwardError as error:
                return _fail(folder, key, error)
            cell = finished_cell(plan, folder, key)
            return Outcome(key, "finished", False, cell) if cell else _attempt(plan, folder, key, runner)
    except OSError as error:
        return _fail(folder, key, error)


def _attempt(plan: Plan, folder: Path, key: CellKey, runner: CellRunner) -> Outcome:
    try:
        if shutil.disk_usage(folder).free < SPARE_BYTES:  # before hours of work that could not be kept
            message = f"{folder} cannot be written: the disk is full. Make room and give the same command again."
            raise LookforwardError(message, code="disk-full")
        cell, images = runner(plan, key, provide_photos(plan.subject(key[0]), folder / "photos"))
        write_cell(folder, cell, images)
    except Exception as error:  # it may concern this subject or method alone
        return _fail(folder, key, error)
    (folder / "failed" / f"{cell_name(key)}.json").unlink(missing_ok=True)
    return Outcome(key, "finished", True, cell)


def _killed(plan: Plan, key: CellKey, photos: Path) -> tuple[Cell, np.ndarray]:
    message = f"The process that ran it was killed {ATTEMPTS} times. Is there enough memory?"
    raise LookforwardError(message, code="cell-killed")


def _fail(folder: Path, key: CellKey, error: Exception) -> Outcome:
    known = isinstance(error, LookforwardError)
    message = str(error) if known else f"{type(error).__name__}: {error}"
    record = {
        **dict(zip(("subject", "method", "seed"), key, strict=True)),
        "error": type(error).__name__,
        "message": message,
        "when": now(),
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }
    with suppress(LookforwardError):  # the disk is full: the caller still prints the message
        write_json(folder / "failed" / f"{cell_name(key)}.json", record)
    return Outcome(key, "failed", True, None, message)
