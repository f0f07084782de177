"""Several processes at one grid. One that is killed is replaced, and its cell is taken over."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from lookforward.benchmark.plan import Plan
from lookforward.benchmark.runner import CellRunner, Outcome, find_outcome, work
from lookforward.errors import LookforwardError

Start = Callable[[int], CellRunner]
"""Loads what a worker needs, by the worker's number from 0. It and the plan are sent to another process."""


def run_workers(plan: Plan, folder: Path, start: Start, workers: int, call: str) -> Iterator[Outcome]:
    """Yield every cell once it is finished or failed. One worker runs in this process, several in their own.

    Raises:
        LookforwardError: a worker cannot start, or all of them keep dying.
    """
    if workers == 1:
        yield from work(plan, folder, start(0), call)
        return
    pool = _Pool(plan, folder, start, workers, call)
    pending = dict.fromkeys(plan.cells())
    found_before = {key for key in pending if find_outcome(plan, folder, key, call)}
    try:
        while pool.tend(bool(pending)):
            for key in list(pending):
                outcome = find_outcome(plan, folder, key, call) if _changed(folder, key) else None
                if outcome is not None:
                    del pending[key]
                    pool.deaths = 0
                    yield Outcome(key, outcome.state, key not in found_before, outcome.cell, outcome.message)
    finally:
        pool.stop()
    for key in pending:  # those whose failure could not be written either
        outcome = find_outcome(plan, folder, key, call)
        yield outcome or Outcome(key, "failed", True, None, "It left neither a result nor a reason; is the disk full?")


def _changed(folder: Path, key: tuple[str, str, int]) -> bool:
    name = ".".join(map(str, key)) + ".json"
    return (folder / "cells" / name).is_file() or (folder / "failed" / name).is_file()


class _Pool:
    """Worker processes. deaths: of workers that were killed since a cell was last done."""

    def __init__(self, plan: Plan, folder: Path, start: Start, workers: int, call: str) -> None:
        self.arguments = (plan, folder, start, workers, call)
        self.context = multiprocessing.get_context("spawn")
        self.limit = 2 * workers + 2
        self.deaths = 0
        self.processes: dict[int, BaseProcess] = {i: self._spawn(i) for i in range(workers)}

    def tend(self, more: bool) -> bool:
        """Wait a little and replace workers that were killed; whether anything may still happen.

        Raises:
            LookforwardError: a worker stopped by itself for a reason that it told, or too many were killed.
        """
        if not self.processes:
            return False
        wait([process.sentinel for process in self.processes.values()], timeout=0.3)
        for number, process in list(self.processes.items()):
            if process.exitcode is None:
                continue
            del self.processes[number]
            if process.exitcode > 0:
                raise LookforwardError(f"Worker {number} stopped (see above); finished cells are kept.")
            if process.exitcode < 0 and more:
                self.deaths += 1
                if self.deaths > self.limit:
                    raise LookforwardError("Workers are killed again and again: give fewer --workers, or more memory.")
                self.processes[number] = self._spawn(number)
        return True  # once more after the last one, for what it did

    def stop(self) -> None:
        """End those that are left."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.join(10)

    def _spawn(self, number: int) -> BaseProcess:
        process = self.context.Process(target=_work, args=(number, *self.arguments), daemon=True)
        process.start()
        return process


def _work(number: int, plan: Plan, folder: Path, start: Start, workers: int, call: str) -> None:
    """A worker's life."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        with suppress(KeyboardInterrupt):  # told by the parent
            for _ in work(plan, folder, start(number), call):
                pass
    except LookforwardError as error:
        print(f"lookforward: worker {number}: {error}", file=sys.stderr)
        sys.exit(2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
