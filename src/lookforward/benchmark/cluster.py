"""A grid on a cluster, through Ray. This process hands out the cells; a worker that dies is replaced.

Every cell is claimed through its lock all the same, so that a second command on the same folder is kept out. Where
locks do not hold across the machines of a network file system, one command still gives no cell to two workers.
"""

import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookforward.benchmark.cell import Cell
from lookforward.benchmark.connect import Seats, find_seats, joined
from lookforward.benchmark.plan import Key, Plan, cell_name
from lookforward.benchmark.runner import ATTEMPTS, CellRunner, Outcome, find_outcome, run_one
from lookforward.benchmark.workers import Start
from lookforward.errors import LookforwardError
from lookforward.files import write_error

PAUSE = 1.0  # seconds between looks at cells that another command is at
LOOK_SECONDS = 10.0  # that a file of one machine may take to be seen by another
SETTLE_SECONDS = 60.0  # that a network file system may remember for that a file was missing
HINT_SECONDS = 60.0  # without a worker, until a word about it


@dataclass(frozen=True)
class Job:
    """What every worker is sent. place: the folder that relative paths begin at."""

    plan: Plan
    folder: Path
    start: Start
    call: str
    place: Path


def run_on_ray(
    plan: Plan, folder: Path, start: Start, address: str, workers: int | None, call: str
) -> Iterator[Outcome]:
    """Yield every cell once it is finished or failed; those that are not yet, workers on a cluster run.

    address, workers: see `connect.joined` and `connect.find_seats`. start: is sent to other machines.

    Raises:
        LookforwardError: Ray is not installed or does not answer, a machine does not see the folder, a worker cannot
            start, or they keep dying.
    """
    missing = []
    for key in plan.cells():
        outcome = find_outcome(plan, folder, key, call)
        if outcome is None:
            missing.append(key)
        else:
            yield outcome
    if not missing:
        return
    job = Job(plan, folder.resolve(), start, call, Path.cwd())
    written = set()
    with _mark(job), joined(address, workers or 1) as machines:
        for outcome in _Crew(job, find_seats(machines, workers)).run(missing):
            if outcome.cell is not None:
                written.add(f"{cell_name(outcome.key)}.json")
            yield outcome
    _settle(folder / "cells", written)


class CellWorker:
    """A worker's life, in a process somewhere on the cluster."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.runner: CellRunner | None = None

    def begin(self, number: int, cores: int) -> None:
        """Load what cells need.

        Raises:
            LookforwardError: this machine does not see the folder, or the model cannot be loaded.
        """
        with suppress(OSError):  # it may be that only the folder is shared
            os.chdir(self.job.place)
        require_sight(self.job)
        if not torch.cuda.is_available():
            torch.set_num_threads(max(1, cores))
        try:
            self.runner = self.job.start(number)
        except LookforwardError as error:
            raise LookforwardError(f"On {socket.gethostname()}: {error}") from error

    def run(self, key: Key) -> Outcome | None:
        """See `runner.run_one`."""
        if self.runner is None:
            raise RuntimeError("begin() comes first")
        return run_one(self.job.plan, self.job.folder, key, self.runner, self.job.call)


def require_sight(job: Job, seconds: float = LOOK_SECONDS) -> None:
    """Raise LookforwardError unless this machine sees the folder that the command writes to."""
    until = time.monotonic() + seconds
    while not _mark_of(job).is_file():
        if time.monotonic() > until:
            raise LookforwardError(
                f"{socket.gethostname()}, a machine of the cluster, does not see {job.folder}. "
                "Give an --output on a disk that all of them share under the same path."
            )
        time.sleep(min(0.5, seconds))


class _Crew:
    """Workers, and what each is at.

    tasks: what is under way, to the worker's number and its cell, None while it begins. deaths: of workers since a
    cell was last done.
    """

    def __init__(self, job: Job, seats: Seats) -> None:
        import ray

        self.ray: Any = ray
        self.job, self.seats = job, seats
        # No second life by Ray itself: we count, and the model has to be loaded first
        options = {"num_gpus": seats.gpus, "num_cpus": seats.cores, "max_restarts": 0, "max_task_retries": 0}
        self.hire = self.ray.remote(**options)(CellWorker).remote
        self.actors: dict[int, Any] = {}
        self.tasks: dict[Any, tuple[int, Key | None]] = {}
        self.idle: deque[int] = deque()
        self.deaths = 0
        self.killers: Counter[Key] = Counter()
        self.hint_at = time.monotonic() + HINT_SECONDS

    def run(self, keys: Iterable[Key]) -> Iterator[Outcome]:
        """Yield what becomes of the cells."""
        waiting, held, left = deque(keys), {}, set(keys)
        for number in range(self.seats.workers):
            self._begin(number)
        while left:
            for key in [key for key, until in held.items() if time.monotonic() >= until]:
                del held[key]
                waiting.append(key)
            results = list(self._give_up(waiting))
            while self.idle and waiting:
                self._give(self.idle.popleft(), waiting.popleft())
            results += self._collect(waiting)
            for key, outcome in results:
                if outcome is None:  # another command is at it
                    held[key] = time.monotonic() + PAUSE
                    continue
                left.discard(key)
                self.deaths = 0
                yield Outcome(key, outcome.state, True, outcome.cell, outcome.message)

    def _begin(self, number: int) -> None:
        self.actors[number] = self.hire(self.job)
        self.tasks[self.actors[number].begin.remote(number, self.seats.cores)] = number, None

    def _give(self, number: int, key: Key) -> None:
        self.tasks[self.actors[number].run.remote(key)] = number, key

    def _give_up(self, waiting: deque[Key]) -> Iterator[tuple[Key, Outcome | None]]:
        """Note cells that killed too many as failed, unless they turn out to be finished."""
        for key in [key for key in waiting if self.killers[key] >= ATTEMPTS]:
            waiting.remove(key)
            yield key, run_one(self.job.plan, self.job.folder, key, _died, self.job.call)

    def _collect(self, waiting: deque[Key]) -> Iterator[tuple[Key, Outcome | None]]:
        """What workers have just done; a cell whose worker died goes back to the front of those that wait."""
        ready, _ = self.ray.wait(list(self.tasks), timeout=PAUSE) if self.tasks else ([], [])
        if not self.tasks:
            time.sleep(PAUSE / 10)  # all are idle, and cells are held by another command
        if len(self.tasks) == self.seats.workers and all(key is None for _, key in self.tasks.values()):
            self._hint()
        for task in ready:
            number, key = self.tasks.pop(task)
            try:
                outcome = self.ray.get(task)
            except self.ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, LookforwardError) else error) from None
            except self.ray.exceptions.RayError as error:
                self._bury(number, error)
                if key is not None:
                    self.killers[key] += 1
                    waiting.appendleft(key)
                continue
            self.idle.append(number)
            if key is not None:
                yield key, outcome

    def _bury(self, number: int, error: Exception) -> None:
        """Replace a worker that died.

        Raises:
            LookforwardError: it could not even be made, or too many died.
        """
        if getattr(error, "actor_init_failed", False):
            raise LookforwardError(
                "A machine of the cluster cannot start a worker; the same lookforward must be installed on all of "
                f"them: {str(error).strip().splitlines()[-1]}"
            ) from error
        self.deaths += 1
        if self.deaths > 2 * self.seats.workers + 2:
            raise LookforwardError(
                "Workers on the cluster die again and again: give fewer --workers, or more memory."
            ) from error
        self.ray.kill(self.actors[number])  # where it only could not be reached
        self._begin(number)

    def _hint(self) -> None:
        if time.monotonic() > self.hint_at:
            self.hint_at = float("inf")
            print("lookforward: waiting for Ray to start a worker; is the cluster busy?", file=sys.stderr)


def _died(plan: Plan, key: Key, photos: Path) -> tuple[Cell, np.ndarray]:
    raise LookforwardError(f"The process that ran it was killed {ATTEMPTS} times; is there enough memory?")


@contextmanager
def _mark(job: Job) -> Iterator[None]:
    """A file to know the folder by, on every machine."""
    try:
        _mark_of(job).touch()
    except OSError as error:
        raise write_error(job.folder, error, "Make room, or give another --output.") from error
    try:
        yield
    finally:
        _mark_of(job).unlink(missing_ok=True)


def _mark_of(job: Job) -> Path:
    return job.folder / "locks" / f".ray-{job.call}"


def _settle(cells: Path, written: set[str]) -> None:
    """Wait until this machine sees what others wrote, for the table that is made of it."""
    until = time.monotonic() + SETTLE_SECONDS
    while not written <= set(os.listdir(cells)) and time.monotonic() < until:
        time.sleep(0.5)
