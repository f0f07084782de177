"""Who is at a cell: a lock that dies with its holder, so that nothing has to guess whether a lock is stale."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(path: Path, call: str) -> Iterator[int]:
    """Hold a cell while the block runs; gives which attempt at it this is, 0 where another process holds it.

    The system lets go of a file's lock when its holder ends, however it ends. A holder that was killed leaves the file
    itself, which counts as an attempt of its call.

    Raises:
        OSError: the file cannot be made, or the file system knows no locks.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _lock(file, path):
            yield 0
            return
        attempt = _attempts_before(file, call) + 1
        _write(file, {"pid": os.getpid(), "call": call, "attempt": attempt})
        try:
            yield attempt
        finally:
            path.unlink(missing_ok=True)  # while it is still held: see `_lock`
    finally:
        os.close(file)


def _lock(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed the file since it was opened here: then the lock of it means nothing
        return os.path.samestat(os.fstat(file), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _attempts_before(file: int, call: str) -> int:
    try:
        left = json.loads(os.pread(file, 1000, 0))
        return int(left["attempt"]) if left["call"] == call else 0
    except (ValueError, KeyError, TypeError):
        return 0


def _write(file: int, holder: dict[str, str | int]) -> None:
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
    except OSError:  # a full disk: the lock holds all the same
        return
