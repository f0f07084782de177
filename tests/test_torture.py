"""A small part of `make torture`: every kind of fault a few times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and system calls that fail, are Linux's")
def test_nothing_is_lost_and_nothing_goes_unnoticed() -> None:
    here = Path(__file__).parent
    few = {"kills": 1, "damages": 20, "nans": 9, "images": 8, "names": 1, "models": 2, "users": 1, "workers": 1}
    numbers = ["--only", *(word for name, number in few.items() for word in (f"--{name}", str(number)))]
    path = os.pathsep.join([str(here.parent / "src"), str(here.parent / "toybox" / "src"), str(here)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torture", *numbers], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** | 42 | 42 | 42 | 0 | 0 |" in done.stdout
