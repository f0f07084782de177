"""Works through the queue: one command after the other, each in a process of its own that outlives the studio.

Only one studio works in a folder at a time, by a lock that the system releases if the studio is killed. The next one
goes on where it was: it watches a process that still trains, and starts a run again, from its last checkpoint, whose
process is gone.
"""

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from lookforward.errors import LookforwardError
from lookforward.runs.folder import open_run
from lookforward.studio.processes import born_at, find_process, last_words, launch, terminate
from lookforward.studio.store import Job, Store
from lookforward.studio.workspace import Workspace
from lookforward.study.store import StudyFile

_EVERY = 0.5  # seconds between two looks
_PATIENCE = 120.0  # seconds that a process may take to save what it has when the studio ends
_STOPPED = (-15, 143)  # of a process by SIGTERM, before and after it listens


class Runner:
    """Runs the jobs of a store in a thread. command: what goes before a job's words."""

    def __init__(self, workspace: Workspace, store: Store, command: Sequence[str] = ()) -> None:
        self.workspace, self.store = workspace, store
        self.command = list(command) or [sys.executable, "-m", "lookforward"]
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = FileLock(workspace.own / "lock", thread_local=False)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin.

        Raises:
            LookforwardError: another studio works in this folder.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise LookforwardError(
                f"Another studio is open in {self.workspace.folder}: use it, or give another folder.", "studio-locked"
            ) from error
        self._thread = threading.Thread(target=self._work, name="studio queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End. A run in progress saves its last step, and goes on when the studio is opened again."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        for job in self.store.jobs("running"):
            if (process := find_process(job.pid, job.born)) is not None:
                terminate(process)
                with suppress(psutil.Error):
                    process.wait(_PATIENCE)
            self.store.change_job(job.id, only_from=["running"], state="waiting", pid=0)
        self._lock.release()

    def stop(self, run: str) -> bool:
        """Take a run out of the queue, or end its process, which saves its last step; returns whether there was any."""
        job = self.store.last_job(run)
        if job is None:
            return False
        if self.store.change_job(job.id, only_from=["waiting"], state="stopped", message=""):
            return True
        found = self.store.change_job(job.id, only_from=["running"], state="stopping")
        now = self.store.last_job(run) or job
        if found and (process := find_process(now.pid, now.born)) is not None:
            terminate(process)
        return found

    def log(self, job: Job) -> Path:
        """Where a job's process writes."""
        return self.workspace.own / "logs" / f"{job.id}.log"

    def tick(self) -> None:
        """Look after the process that runs, or start the next one."""
        busy = self.store.jobs("running", "stopping")
        for job in busy:
            self._look_after(job)
        if not busy and (waiting := self.store.jobs("waiting")):
            self._launch(waiting[0])

    def _work(self) -> None:
        while not self._end.wait(_EVERY):
            try:
                self.tick()
            except (LookforwardError, OSError, psutil.Error) as error:
                print(f"The queue could not be looked after: {error}", file=sys.stderr)

    def _launch(self, job: Job) -> None:
        child = launch([*self.command, *job.words], self.workspace.folder, self.log(job), again=True)
        self._children[job.id] = child
        born = born_at(child.pid)
        if not self.store.change_job(job.id, only_from=["waiting"], state="running", pid=child.pid, born=born):
            child.terminate()  # stopped meanwhile

    def _look_after(self, job: Job) -> None:
        child = self._children.get(job.id)
        status = child.poll() if child is not None else None
        if status is None and (child is not None or find_process(job.pid, job.born) is not None):
            return
        self._children.pop(job.id, None)
        if status == 0 or (status is None and self._finished(job)):
            self.store.change_job(job.id, state="done", message="", pid=0)
        elif job.state == "stopping" or status in _STOPPED:
            self.store.change_job(job.id, state="stopped", message="", pid=0)
        elif status is None:  # the process went with the studio, or with the machine
            self.store.change_job(job.id, state="waiting", pid=0)
        else:
            self.store.change_job(job.id, state="failed", message=last_words(self.log(job)), pid=0)

    def _finished(self, job: Job) -> bool:
        try:
            if job.study:
                return StudyFile(self.workspace.study(job.study)).count_images()[1]
            return open_run(self.workspace.run(job.run)).finished
        except LookforwardError:
            return False
