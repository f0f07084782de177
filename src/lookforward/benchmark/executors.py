"""Workers in this process, or in several processes of this machine. `ray_cluster` has those of a Ray cluster."""

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import torch

from lookforward.benchmark.plan import CellKey, Plan
from lookforward.benchmark.runner import CellRunner, StartWorker, WorkerEvent, run_one
from lookforward.errors import LookforwardError


class InProcess:
    """One worker: this process."""

    workers = 1

    def __init__(self, plan: Plan, folder: Path, load: StartWorker) -> None:
        self._plan, self._folder, self._load = plan, folder, load
        self._runner: CellRunner | None = None
        self._events: list[WorkerEvent] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner = None

    def start(self, worker: int) -> None:
        self._runner = self._load(worker)
        self._events = [WorkerEvent(worker)]

    def submit(self, worker: int, key: CellKey) -> None:
        assert self._runner is not None
        self._events = [WorkerEvent(worker, run_one(self._plan, self._folder, key, self._runner))]

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        if not self._events:
            time.sleep(seconds)
        events, self._events = self._events, []
        return events


class Processes:
    """Worker processes on this machine, each with a model of its own."""

    def __init__(self, plan: Plan, folder: Path, load: StartWorker, workers: int) -> None:
        self.workers = workers
        self._arguments = plan, folder, load, workers
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[int, Connection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(10)

    def start(self, worker: int) -> None:
        self._pipes[worker], theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, worker, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        self._processes[worker] = process

    def submit(self, worker: int, key: CellKey) -> None:
        with suppress(OSError):  # it has just died, which `wait` reports
            self._pipes[worker].send(key)

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        workers = {id(pipe): worker for worker, pipe in self._pipes.items()}
        if not workers:
            time.sleep(seconds)
        ready = wait(list(self._pipes.values()), seconds)
        return [self._receive(workers[id(pipe)]) for pipe in ready]

    def _receive(self, worker: int) -> WorkerEvent:
        try:
            message = self._pipes[worker].recv()
        except (EOFError, OSError):
            del self._pipes[worker]
            process = self._processes.pop(worker)
            process.join(10)
            if (process.exitcode or 0) > 0:
                text = f"Worker {worker} stopped (see above). Finished cells are kept."
                raise LookforwardError(text, code="worker-stopped") from None
            return WorkerEvent(worker, died=True)
        if isinstance(message, LookforwardError):
            raise LookforwardError(f"Worker {worker}: {message}", code=message.code)
        return WorkerEvent(worker, message)


def _work(pipe: Connection, worker: int, plan: Plan, folder: Path, load: StartWorker, workers: int) -> None:
    """What a worker process does until its parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    with suppress(KeyboardInterrupt, EOFError):
        try:
            runner = load(worker)
            pipe.send(None)
            while True:
                pipe.send(run_one(plan, folder, pipe.recv(), runner))
        except LookforwardError as error:
            pipe.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
