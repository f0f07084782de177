"""Pages of raters: a server for each study, in a process of its own, on this machine alone unless asked otherwise."""

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from lookforward.errors import LookforwardError
from lookforward.studio.processes import born_at, find_process, head, last_words, launch, tail, terminate
from lookforward.studio.store import Store
from lookforward.studio.workspace import Workspace
from lookforward.study.store import StudyFile

HOME, EVERYWHERE = "127.0.0.1", "0.0.0.0"
FIRST_PORT, _PORTS = 7870, 100
_PATIENCE = 10.0  # seconds that a server may take to end
_ADDRESS = re.compile(r"^Open (http://\S+)", re.MULTILINE)  # as `lookforward study serve` prints it
_LAST = "Stop with Ctrl-C."  # of what it prints while all is well


@dataclass(frozen=True)
class Serving:
    """What shows a study to raters. address: what they open, "" until it is known. problem: why it ended by itself."""

    address: str = ""
    problem: str = ""

    @property
    def public(self) -> bool:
        """Whether other machines can open it."""
        return bool(self.address) and f"//{HOME}:" not in self.address


class Servers:
    """The servers of a folder's studies. They outlive a studio that is killed. command: what begins theirs."""

    def __init__(self, workspace: Workspace, store: Store, command: Sequence[str] = ()) -> None:
        self.workspace, self.store = workspace, store
        self.command = list(command) or [sys.executable, "-m", "lookforward"]
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._lock = threading.Lock()

    def start(self, study: str, *, public: bool = False) -> None:
        """Show a study to raters. public: to other machines too, by an address with a token.

        Raises:
            LookforwardError: it does not have all its images, is shown already, or no port is free.
        """
        path = self.workspace.study(study)
        StudyFile(path).require_ready()
        host = EVERYWHERE if public else HOME
        with self._lock:  # two browsers may ask at once
            if self._process(study) is not None:
                raise LookforwardError(f"Raters can open {study} already: stop that first.", "study-served")
            # A server that is starting does not listen yet
            starting = {port for other, port in self._ports.items() if self._process(other) is not None}
            self._ports[study] = port = free_port(host, starting)
            words = ["study", "serve", f"./{path.name}", f"--host={host}", f"--port={port}"]
            child = launch([*self.command, *words], self.workspace.folder, self.log(study))
            self._children[child.pid] = child
            self.store.set_server(study, child.pid, born_at(child.pid))

    def stop(self, study: str) -> bool:
        """End the server of a study; returns whether there was one. Answers are kept."""
        with self._lock:
            process = self._process(study)
            self.store.forget_server(study)
        if process is None:
            return False
        terminate(process)
        with suppress(psutil.Error):
            process.wait(_PATIENCE)
        self._reap()
        return True

    def close(self) -> None:
        """End all servers."""
        for study in self.store.servers():
            self.stop(study)

    def find(self, study: str) -> Serving | None:
        """What shows a study now, or why it ended; None if nothing does, or it was stopped."""
        if self.store.server(study) is None:
            return None
        if self._process(study) is None:
            lines = tail(self.log(study)) or []
            quiet = not any(line.strip() for line in lines) or lines[-1].strip() == _LAST
            return Serving(problem="It has ended: start it again." if quiet else last_words(self.log(study)))
        found = _ADDRESS.search("\n".join(head(self.log(study)) or ()))
        return Serving((found[1] if found else "").replace(f"//{EVERYWHERE}:", f"//{own_address()}:"))

    def log(self, study: str) -> Path:
        """Where a server writes: the address with its token, and errors. Only this user can read it."""
        return self.workspace.own / "logs" / f"serve-{study}.log"

    def _process(self, study: str) -> psutil.Process | None:
        self._reap()
        known = self.store.server(study)
        return find_process(*known) if known else None

    def _reap(self) -> None:
        """Let go of children that have ended."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                self._children.pop(pid, None)


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """A port from FIRST_PORT on that nobody listens on, and none of `taken`. Raises LookforwardError if all are."""
    for port in (port for port in range(FIRST_PORT, FIRST_PORT + _PORTS) if port not in taken):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                tried.bind((host, port))
                return port
    raise LookforwardError(
        f"No port from {FIRST_PORT} to {FIRST_PORT + _PORTS - 1} is free: end other servers first.", "port-taken"
    )


def own_address() -> str:
    """An address of this machine in its network, as far as the system knows one; this machine's own name for itself
    otherwise. Asks nobody."""
    found = [
        one.address
        for name, addresses in sorted(psutil.net_if_addrs().items())
        for one in addresses
        if one.family == socket.AF_INET and not one.address.startswith(("127.", "169.254."))
    ]
    return found[0] if found else HOME
