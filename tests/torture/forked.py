"""Work in forked processes, which may be killed, may crash, or may hang."""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIMIT = 600.0  # seconds, after which a process hangs; a busy machine is slow
MEMORY = 12 * 2**30  # bytes of addresses: what asks for more gets a MemoryError, and the machine stays alive


@dataclass(frozen=True)
class Ended:
    """How a process ended. status: its exit status, or minus the signal that killed it. text: what it printed."""

    status: int
    text: str

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.text

    @property
    def hung(self) -> bool:
        return self.status == -signal.SIGALRM


def in_fork(work: Callable[[], Any], *, after: float | None = None, user: int | None = None) -> Ended:
    """Run `work` in a fork of this process. after: seconds until it is killed (SIGKILL). user: to become, as root."""
    with tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child(work, printed.fileno(), user)
        status = _wait(child, after)
        printed.seek(0)
        return Ended(status, printed.read().decode("utf-8", "backslashreplace"))


def command(*words: object) -> Callable[[], None]:
    """`lookforward WORDS`, to be run in a fork."""

    def run() -> None:
        from lookforward.cli import main

        main([str(word) for word in words])

    return run


def _child(work: Callable[[], Any], printed: int, user: int | None) -> None:
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, after: float | None) -> int:
    begun = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        passed = time.monotonic() - begun
        if after is not None and passed >= after:
            os.kill(child, signal.SIGKILL)
            after = None
        if passed > LIMIT:
            os.kill(child, signal.SIGALRM)
        time.sleep(0.0005 if after is not None else 0.005)
