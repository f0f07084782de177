"""Ctrl-C, SIGTERM and SIGHUP: finish what is at hand, keep it, and end with 128 + the signal's number.

Within `finishing()`, a signal only sets a flag, and the code there looks at it between two pieces of work (`check`).
Elsewhere it raises `Stopped` at once, or ends the process while a module is being imported, since an import may swallow
what is raised within it. A second Ctrl-C ends the process at once: files are written whole or not at all.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_requested = 0  # the signal that asked for a stop
_depth = 0  # of `finishing` contexts
_at_steps = False


class Stopped(KeyboardInterrupt):
    """A signal asked for a stop. message: what is kept and how to go on; number: of the signal."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number, self.message = number, message


@contextmanager
def listening() -> Iterator[None]:
    """Take over the signals while the context lasts. One that is ignored, as by nohup, stays ignored."""
    global _requested
    before = {}
    _requested = 0
    if threading.current_thread() is threading.main_thread():
        for one in _SIGNALS:
            if signal.getsignal(one) in (signal.SIG_DFL, signal.default_int_handler):
                before[one] = signal.signal(one, _receive)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _requested = 0


@contextmanager
def finishing(at_steps: bool = False) -> Iterator[None]:
    """Code that calls `check` between two pieces of work, of seconds at most.

    at_steps: `check` lets pass, and the code looks at `requested` where its processes can stop together.
    """
    global _depth, _at_steps
    _depth, before, _at_steps = _depth + 1, _at_steps, at_steps
    try:
        yield
    finally:
        _depth, _at_steps = _depth - 1, before


def requested() -> bool:
    """Whether a stop was asked for."""
    return _requested != 0


def number() -> int:
    """The number of the signal that asked for a stop; of another process's, SIGTERM's."""
    return _requested or signal.SIGTERM


def check() -> None:
    """Raise Stopped if a stop was asked for."""
    if _requested and not _at_steps:
        raise Stopped(_requested)


def _receive(number: int, frame: FrameType | None) -> None:
    global _requested
    again, _requested = _requested, _requested or number
    if _depth and not (again and number == signal.SIGINT):
        if not again:
            _say("Stopping: what is at hand is finished and kept. Ctrl-C ends it at once.")
        return
    if again or _importing(frame):
        _say("lookforward: stopped. Run the same command again to continue.")
        os._exit(128 + number)
    raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say(message: str) -> None:
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hid it
    os.write(2, f"{show_cursor}{message}\n".encode())  # print may be interrupted itself, and cannot be entered twice
