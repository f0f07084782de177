"""Whether a launcher started several processes for this command, and which of them speaks for all.

`accelerate launch` and torchrun describe the processes in environment variables. Nothing here imports torch.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_POLL = 0.5  # seconds
_FAILED = "lookforward/failed"
_left = threading.Event()


def process_count() -> int:
    """How many processes a launcher started for this command; 1 without one."""
    # A scheduler may set WORLD_SIZE for machines; a launcher of processes sets LOCAL_RANK as well
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def speaks_for_all() -> bool:
    """Whether this process, which met an error, is the one to report it: of several only the first.

    Before the processes are joined, all of them meet the same errors, and the first of each machine reports.
    """
    if process_count() == 1:
        return True
    if not _is_joined():
        return os.environ["LOCAL_RANK"] == "0"
    try:
        return _store().add("lookforward/error", 1) == 1
    except RuntimeError:  # the process that kept the store has ended, and has reported why
        return False


def end_with_others() -> None:
    """End this process as soon as another one of the run has failed, whatever it is waiting for at that time.

    A process that waits for the others on a GPU, or draws images, would not know of it for minutes or hours. Files are
    written whole or not at all.
    """
    _left.clear()
    store = _store().clone()  # a connection of its own, since the main thread may block on the other
    threading.Thread(target=_watch, args=(store,), daemon=True, name="others").start()


def leave_others() -> None:
    """The run is over: it does not matter any longer how the others end."""
    _left.set()


def end_others() -> None:
    """Let all other processes of the run end, since this one failed and has reported it."""
    if _left.is_set() or not _is_joined():
        return
    _left.set()
    try:
        _store().set(_FAILED, "1")
    except RuntimeError:  # the process that kept the store has ended, and the others know it
        return
    time.sleep(3 * _POLL)  # this process may keep the store, which the others still have to read


@contextmanager
def ending_others() -> Iterator[None]:
    """An error within it, which this process shows, ends all."""
    try:
        yield
    except Exception:
        if process_count() > 1:
            end_others()
        raise


def _watch(store: Any) -> None:
    while not _left.wait(_POLL):
        try:
            failed = store.check([_FAILED])
        except RuntimeError:  # the store is gone, as at the end of a run; a failure would have been seen before
            return
        if failed and not _left.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _is_joined() -> bool:
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def _store() -> Any:
    return sys.modules["torch.distributed"].distributed_c10d._get_default_store()
