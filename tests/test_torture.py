"""A small part of `make torture`: every kind of fault a few times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torture.outcome import MARKS, put_between

TORTURE = "torture --only --short --workers 1 --call write"
FEW = {"kills": 1, "calls": 1, "damages": 20, "nans": 2, "images": 12, "names": 1, "models": 2, "users": 1}


def _torture(*words: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent / "src"), str(here.parent / "toybox" / "src"), str(here)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *TORTURE.split(), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and system calls that fail, are Linux's")
def test_nothing_is_lost_and_nothing_goes_unnoticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}{MARKS[1]}\nafter\n")
    numbers = [word for name, number in FEW.items() for word in (f"--{name}", str(number))]
    done = _torture(*numbers, "--into", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    faults = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines() if line.startswith("| ")}
    calls = FEW["calls"] if "no system call" not in done.stderr else 0
    count = sum(FEW.values()) - FEW["calls"] + calls
    assert f"| **all** | {count} | {count} | {count} | 0 | 0 |" in done.stdout
    assert {"kill while saving", "NaN while training", "hostile image", "two users in one folder"} <= faults.keys()
    assert page.read_text().startswith("before\n")
    assert faults["**all**"] in page.read_text()
    assert f'TORTURE="--only --short --call write {" ".join(numbers)}"' in page.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and system calls that fail, are Linux's")
def test_every_site_of_a_nan_is_noticed() -> None:
    done = _torture("--nans", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** | 9 | 9 | 9 | 0 | 0 |" in done.stdout


def test_a_table_needs_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no lines"):
        put_between(page, "table")
    assert page.read_text() == "no marks"
