"""Processes that outlive the studio: started, found again by their number and their time of birth, ended."""

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PART = 4000  # bytes of a log that are read


def launch(command: Sequence[str], folder: Path, log: Path, *, again: bool = False) -> "subprocess.Popen[bytes]":
    """Start a command in a folder; it writes into a log that only this user can read. again: after what is there."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if again else os.O_TRUNC), 0o600)
    with os.fdopen(descriptor, "ab") as file:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in the studio's terminal does not reach it
        )


def born_at(pid: int) -> float:
    """Start time of a process, which tells it from a later process with the same ID; 0 if it has ended already."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def find_process(pid: int, born: float) -> psutil.Process | None:
    """The process, if it is there; another one that was given its number is not taken for it."""
    try:
        process = psutil.Process(pid) if pid else None
        alive = process is not None and abs(process.create_time() - born) < 1
        return process if process and alive and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def terminate(process: psutil.Process) -> None:
    """Ask a process to end, if it is still there."""
    with suppress(psutil.Error):
        process.terminate()


def last_words(log: Path) -> str:
    """Why a command ended, from its log: the last line that lookforward wrote, or else the last line."""
    lines = tail(log)
    if lines is None:
        return "It wrote no log."
    # `study create` writes a dot for each image before it
    written = [line.lstrip(".") for line in lines if line.strip(". ")] or ["It wrote nothing."]
    own = [line.removeprefix("lookforward: ") for line in written if line.startswith("lookforward: ")]
    return (own or written)[-1].strip()


def head(log: Path) -> list[str] | None:
    """The first lines of a log; None if there is none."""
    return _lines(log, last=False)


def tail(log: Path) -> list[str] | None:
    """The last lines of a log; None if there is none."""
    return _lines(log, last=True)


def _lines(log: Path, *, last: bool) -> list[str] | None:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _PART) if last else 0)
            return file.read(_PART).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
