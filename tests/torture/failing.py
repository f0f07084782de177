"""System calls that fail, one after the other: writes, flushes and renames of a run, its caches and its export."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from torture.forked import in_fork
from torture.outcome import Outcome
from torture.world import World, same_result, train

KINDS = ("write", "fsync", "rename")


def preload() -> None:
    """Start this program again with calls that can fail, if it was not; without a C compiler, leave it."""
    if loaded := os.environ.get("TORTURE_PRELOADED"):
        shutil.rmtree(Path(loaded).parent, ignore_errors=True)
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return
    library = Path(tempfile.mkdtemp(prefix="torture-")) / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "TORTURE_PRELOADED": str(library)}
    os.execve(sys.executable, [sys.executable, "-m", "torture", *sys.argv[1:]], environment)


def calls(world: World) -> dict[str, int]:
    """How many calls of each kind a run makes; none where they cannot fail here."""
    if "TORTURE_PRELOADED" not in os.environ:
        return {}
    counts = {}
    for number, kind in enumerate(KINDS):
        place = world.new(f"count-{kind}")
        into = world.folder / f"count-{kind}"
        ended = in_fork(_armed(world, place, number, 0, False, into))
        assert ended.status == 0, ended.text
        counts[kind] = int(into.read_text())
    return counts


def failing(world: World, kind: str, numbers: list[int]) -> list[Outcome]:
    """Let the k-th call of a kind fail, for each k: even ones for good (a full disk), odd ones once."""
    outcomes = []
    for k in numbers:
        place = world.new(f"{kind}-{k}")
        ended = in_fork(_armed(world, place, KINDS.index(kind), k, k % 2 == 0, None))
        noticed = ended.status == 2 and "cannot be" in ended.text
        again = in_fork(lambda where=place: train(world, where))
        differs = again.text[-400:] if again.status else same_result(world, place)
        note = f"k = {k}: {ended.status} {ended.text[-400:]} | {differs}"
        outcomes.append(
            Outcome(f"{kind} fails", noticed, not differs, bool(differs), ended.traceback or again.traceback, note)
        )
        shutil.rmtree(place, ignore_errors=True)
    return outcomes


def _armed(world: World, place: Path, kind: int, k: int, lasting: bool, into: Path | None) -> Callable[[], None]:
    def run() -> None:
        shim = ctypes.CDLL(None)
        number = errno.ENOSPC if lasting else errno.EIO
        shim.torture_arm(os.fsencode(place), kind, ctypes.c_long(k), number, int(lasting))
        try:
            train(world, place)
        finally:
            shim.torture_seen.restype = ctypes.c_long
            seen = shim.torture_seen()
            if into is not None:
                into.write_text(str(seen))

    return run
