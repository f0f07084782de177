"""System calls that fail, one after the other: writes, flushes and renames of a run, its caches and its export."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from torture.forked import in_fork
from torture.outcome import Outcome
from torture.world import World, same_result, train

KINDS = ("write", "fsync", "rename")
_LOADED = "TORTURE_PRELOADED"


def preload() -> None:
    """Start this program again with calls that can fail, if it was not; without a C compiler, leave it."""
    if loaded := os.environ.get(_LOADED):
        shutil.rmtree(Path(loaded).parent, ignore_errors=True)
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return
    library = Path(tempfile.mkdtemp(prefix="torture-")) / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), _LOADED: str(library)}
    os.execve(sys.executable, [sys.executable, "-m", "torture", *sys.argv[1:]], environment)


def arm(place: Path, kind: str = KINDS[0], k: int = 0, *, lasting: bool = False) -> None:
    """Let the k-th call of a kind fail in this process, below `place`; 0: only count. Nothing where none can fail.

    lasting: all calls of the kind after it fail too, as on a full disk.
    """
    if _LOADED in os.environ:
        number = errno.ENOSPC if lasting else errno.EIO
        below = os.fsencode(place)
        ctypes.CDLL(None).torture_arm(below, KINDS.index(kind), ctypes.c_long(k), number, int(lasting))


def seen() -> dict[str, int]:
    """How many calls of each kind there were since `arm`; none where they cannot fail."""
    if _LOADED not in os.environ:
        return {}
    shim = ctypes.CDLL(None)
    shim.torture_seen.restype = ctypes.c_long
    return {kind: shim.torture_seen(i) for i, kind in enumerate(KINDS)}


def failing(world: World, kind: str, numbers: list[int]) -> list[Outcome]:
    """Let the k-th call of a kind fail, for each k: even ones for good (a full disk), odd ones once."""
    outcomes = []
    for k in numbers:
        place = world.new(f"{kind}-{k}")

        def run(k: int = k, place: Path = place) -> None:
            arm(place, kind, k, lasting=k % 2 == 0)
            train(world, place)

        ended = in_fork(run)
        noticed = ended.status == 2 and "cannot be" in ended.text
        again = in_fork(lambda where=place: train(world, where))
        differs = again.text[-400:] if again.status else same_result(world, place)
        note = f"k = {k}: {ended.status} {ended.text[-400:]} | {differs}"
        outcomes.append(
            Outcome(f"{kind} fails", noticed, not differs, bool(differs), ended.traceback or again.traceback, note)
        )
        shutil.rmtree(place, ignore_errors=True)
    return outcomes
