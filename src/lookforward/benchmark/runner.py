"""Run what is missing of a grid: a cell that fails does not stop the rest, and no finished cell is run again.

`run_one` is all that a scheduler of another kind needs: it may be called for any cell, in any order, from any process
that sees the folder.
"""

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lookforward.benchmark.cell import Cell, finished_cell, write_cell
from lookforward.benchmark.claim import claim
from lookforward.benchmark.datasets import provide_photos
from lookforward.benchmark.plan import Key, Plan, cell_name
from lookforward.benchmark.provenance import now
from lookforward.errors import LookforwardError
from lookforward.files import write_error, write_json

CellRunner = Callable[[Plan, Key, Path], tuple[Cell, np.ndarray]]
"""Trains, draws and scores a cell from the folder of its photos: the cell, and images (n, h, w, 3) uint8."""

ATTEMPTS = 2  # at a cell in one call, of workers that died at it
SPARE_BYTES = 64 * 2**20  # that must stay free on the disk
FOLDERS = ("cells", "images", "failed", "locks", "photos")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. message: why it failed. fresh: whether it was done just now, not found done."""

    key: Key
    state: Literal["finished", "failed"]
    fresh: bool
    cell: Cell | None = None
    message: str = ""


def prepare(plan: Plan, folder: Path) -> None:
    """Make the folders and the photos that the world draws.

    Raises:
        LookforwardError: the folder cannot be written, or holds cells of another plan.
    """
    try:
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for subject in plan.subjects:
            provide_photos(plan.subject(subject), folder / "photos")
    except OSError as error:
        raise write_error(folder, error, "Make room, or give another --output.") from error
    for key in plan.cells():
        finished_cell(plan, folder, key)  # one of another plan is told before anything runs


def work(plan: Plan, folder: Path, runner: CellRunner, call: str, pause: float = 1.0) -> Iterator[Outcome]:
    """Yield every cell once it is finished or failed, by this process or by others, and run those that nobody is at.

    call: a word of its own for each call of the command, so that a cell that failed in it is not tried again in it.
    pause: seconds between looks at cells that others are at; one of theirs that dies at a cell leaves it to us.
    """
    pending = list(plan.cells())
    while pending:
        busy = []
        for key in pending:
            outcome = run_one(plan, folder, key, runner, call)
            if outcome is None:
                busy.append(key)
            else:
                yield outcome
        if len(busy) == len(pending):
            time.sleep(pause)
        pending = busy


def run_one(plan: Plan, folder: Path, key: Key, runner: CellRunner, call: str) -> Outcome | None:
    """Run a cell unless it is done; None where another process is at it.

    Raises:
        LookforwardError: it was run before with other settings.
    """
    done = find_outcome(plan, folder, key, call)
    if done is not None:
        return done
    try:
        with claim(folder / "locks" / f"{cell_name(key)}.lock", call) as attempt:
            if not attempt:
                return None
            done = find_outcome(plan, folder, key, call)  # it may have been finished until we held it
            if done is not None:
                return done
            if attempt > ATTEMPTS:
                died = LookforwardError(f"The process that ran it was killed {ATTEMPTS} times; is there enough memory?")
                return _fail(folder, key, died, call)
            return _attempt(plan, folder, key, runner, call)
    except OSError as error:
        return _fail(folder, key, error, call)


def find_outcome(plan: Plan, folder: Path, key: Key, call: str) -> Outcome | None:
    """What became of a cell: finished at any time, or failed in this call; None where neither.

    Raises:
        LookforwardError: it was run before with other settings.
    """
    cell = finished_cell(plan, folder, key)
    if cell is not None:
        return Outcome(key, "finished", False, cell)
    failure = read_failure(folder, key)
    if failure is not None and failure.get("call") == call:
        return Outcome(key, "failed", False, None, failure["message"])
    return None


def read_failure(folder: Path, key: Key) -> dict[str, Any] | None:
    """The record of a failed cell, whose "message" is some text; None where there is none, or it cannot be read."""
    try:
        record = json.loads((folder / "failed" / f"{cell_name(key)}.json").read_text(encoding="utf-8"))
        return {**record, "message": str(record["message"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _attempt(plan: Plan, folder: Path, key: Key, runner: CellRunner, call: str) -> Outcome:
    settings = plan.settings_of(key)
    try:
        require_space(folder)  # before hours of work that could not be kept
        cell, images = runner(plan, key, provide_photos(plan.subject(key[0]), folder / "photos"))
        write_cell(folder, settings, cell, images)
    except Exception as error:  # whatever is wrong with one subject or method, others may do
        return _fail(folder, key, error, call)
    (folder / "failed" / f"{cell_name(key)}.json").unlink(missing_ok=True)
    return Outcome(key, "finished", True, cell)


def require_space(folder: Path) -> None:
    """Raise LookforwardError where the disk is all but full."""
    if shutil.disk_usage(folder).free < SPARE_BYTES:
        raise LookforwardError(
            f"{folder} cannot be written: the disk is full. Make room and give the same command again."
        )


def _fail(folder: Path, key: Key, error: Exception, call: str) -> Outcome:
    told = isinstance(error, LookforwardError)
    message = str(error) if told else f"{type(error).__name__}: {error}"
    subject, method, seed = key
    record = {
        "subject": subject, "method": method, "seed": seed, "error": type(error).__name__, "message": message,
        "when": now(), "call": call, "pid": os.getpid(),
        "traceback": "" if told else "".join(traceback.format_exception(error)),
    }  # fmt: skip
    with suppress(LookforwardError):  # the disk is full: the caller still tells
        write_json(folder / "failed" / f"{cell_name(key)}.json", record)
    return Outcome(key, "failed", True, None, message)
