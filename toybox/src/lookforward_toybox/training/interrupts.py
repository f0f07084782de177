"""Being stopped between two steps rather than in one, so that what is saved is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM sets the event, so that a step can be finished; the second acts as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # One that is ignored, as in a script's background, stays so; None stands for another library's
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def hold(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, hold)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
