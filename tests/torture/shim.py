"""System calls that fail, by a library that is loaded before C's own. Imports nothing that takes time."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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
