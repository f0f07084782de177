"""Workers on a Ray cluster: its resources, and one actor per worker. `ray_join` joins it."""

import os
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from lookforward.benchmark.plan import CellKey, Plan
from lookforward.benchmark.ray_join import join
from lookforward.benchmark.runner import CellRunner, Outcome, StartWorker, WorkerEvent, run_one
from lookforward.errors import LookforwardError
from lookforward.files import write_error

LOOK_SECONDS = 10.0  # that a file of one machine may take to be visible on another
HINT_SECONDS = 60.0  # without a worker, until a message says so


@dataclass(frozen=True)
class WorkerResources:
    """How many workers, and the GPUs and cores that each of them reserves."""

    workers: int
    gpus: int
    cores: int


def divide(machines: Sequence[Mapping[str, float]], workers: int | None) -> WorkerResources:
    """As many workers as were asked for, at most one per GPU, or per core where there is no GPU.

    machines: the resources of each. workers: None for one per GPU, or one per machine where there is no GPU.

    Raises:
        LookforwardError: the cluster has neither.
    """
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus:
        return WorkerResources(min(workers or gpus, gpus), 1, 0)
    cores = [int(machine.get("CPU", 0)) for machine in machines if machine.get("CPU", 0) >= 1]
    if not cores:
        text = "The Ray cluster has neither GPUs nor cores for workers: add machines to it."
        raise LookforwardError(text, code="ray-without-resources")
    count = min(workers or len(cores), sum(cores))
    # The largest share with which all workers have room, each on one machine
    share = max(s for s in range(1, max(cores) + 1) if sum(c // s for c in cores) >= count)
    return WorkerResources(count, 0, share)


@dataclass(frozen=True)
class WorkerTask:
    """What every worker receives. mark: a file by which it knows the folder. directory: relative paths begin there."""

    plan: Plan
    folder: Path
    load: StartWorker
    mark: Path
    directory: Path


class CellWorker:
    """A worker, in a process somewhere on the cluster."""

    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self.runner: CellRunner | None = None

    def load(self, worker: int, cores: int) -> None:
        """Load what cells need.

        Raises:
            LookforwardError: this machine does not see the folder, or the model cannot be loaded.
        """
        with suppress(OSError):  # perhaps only the folder is shared
            os.chdir(self.task.directory)
        require_visible(self.task.mark)
        if not torch.cuda.is_available():
            torch.set_num_threads(max(1, cores))
        try:
            self.runner = self.task.load(worker)
        except LookforwardError as error:
            raise LookforwardError(f"On {socket.gethostname()}: {error}", code=error.code) from error

    def run(self, key: CellKey) -> Outcome | None:
        """See `run_one`."""
        assert self.runner is not None
        return run_one(self.task.plan, self.task.folder, key, self.runner)


def require_visible(mark: Path, seconds: float = LOOK_SECONDS) -> None:
    """Raise LookforwardError unless this machine sees the file that the command has written."""
    until = time.monotonic() + seconds
    while not mark.is_file():
        if time.monotonic() > until:
            raise LookforwardError(
                f"{socket.gethostname()}, a machine of the cluster, does not see {mark.parents[1]}. "
                "Give an --output on a disk that all of them share under the same path.",
                code="ray-folder-unseen",
            )
        time.sleep(min(0.5, seconds))


class RayCluster:
    """The executor. workers: None for as many as `divide` finds room for; known once the cluster is joined."""

    def __init__(self, plan: Plan, folder: Path, load: StartWorker, address: str, workers: int | None) -> None:
        mark = folder.resolve() / "locks" / f".ray-{uuid.uuid4().hex}"
        self.workers = workers or 1
        self._task = WorkerTask(plan, folder.resolve(), load, mark, Path.cwd())
        self._address, self._asked = address, workers
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # Ray's reference of a result, to the worker
        self._ready = False  # whether some worker has ever reported
        self._hint_at = float("inf")

    def __enter__(self) -> Self:
        machines = join(self._address, self.workers)
        import ray

        self._ray: Any = ray
        try:
            self._resources = divide(machines, self._asked)
            self._task.mark.touch()
        except (OSError, LookforwardError) as error:
            ray.shutdown()
            if isinstance(error, OSError):
                raise write_error(self._task.folder, error, "Make room, or give another --output.") from error
            raise
        self.workers = self._resources.workers
        self._hint_at = time.monotonic() + HINT_SECONDS
        return self

    def __exit__(self, *_: object) -> None:
        self._task.mark.unlink(missing_ok=True)
        self._ray.shutdown()

    def start(self, worker: int) -> None:
        room = self._resources
        # Ray must not restart an actor by itself: the model has to be loaded first
        options = {"num_gpus": room.gpus, "num_cpus": room.cores, "max_restarts": 0, "max_task_retries": 0}
        self._actors[worker] = self._ray.remote(**options)(CellWorker).remote(self._task)
        self._pending[self._actors[worker].load.remote(worker, room.cores)] = worker

    def submit(self, worker: int, key: CellKey) -> None:
        self._pending[self._actors[worker].run.remote(key)] = worker

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        if not self._pending:
            time.sleep(seconds)
            return ()
        ready, _ = self._ray.wait(list(self._pending), timeout=seconds)
        self._ready = self._ready or bool(ready)
        if not self._ready and time.monotonic() > self._hint_at:
            self._hint_at = float("inf")
            print("lookforward: waiting for Ray to start a worker. Is the cluster busy?", file=sys.stderr)
        return [self._receive(reference) for reference in ready]

    def _receive(self, reference: Any) -> WorkerEvent:
        worker, errors = self._pending.pop(reference), self._ray.exceptions
        try:
            return WorkerEvent(worker, self._ray.get(reference))
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, LookforwardError) else error) from None
        except errors.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise LookforwardError(
                    "A machine of the cluster cannot start a worker. The same lookforward must be installed on all of "
                    f"them: {str(error).strip().splitlines()[-1]}",
                    code="ray-worker-start",
                ) from error
            self._ray.kill(self._actors[worker])  # it may be alive and only out of reach
            return WorkerEvent(worker, died=True)
