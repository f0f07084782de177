"""What made a result: packages and device. Where the cells of one page disagree, the report warns."""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

from lookforward.benchmark.cell import Cell

PACKAGES = ("lookforward", "torch", "diffusers", "transformers", "peft", "numpy")
_COMPARED = ("lookforward", "torch")  # packages of which two versions in one report are worth a warning


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that a score may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_name(device: torch.device) -> str:
    """Such as "cpu, 2 of 8 threads" or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def measured_with(cells: Sequence[Cell], last_call: Mapping[str, str]) -> str:
    """The versions that made the cells; those of the last call if no cell records any."""
    recorded = [versions for cell in cells if (versions := cell.provenance.get("versions"))]
    found: dict[str, set[str]] = {}
    for name, number in (item for versions in recorded for item in versions.items() if item[1]):
        found.setdefault(name, set()).add(number)
    if not found:
        text = ", ".join(f"{name} {number}" for name, number in last_call.items())
        return f"{text} (the last call; the cells do not record it)" if text else "not recorded"
    return ", ".join(f"{n} {' or '.join(sorted(v))}" for n, v in found.items()) + _silent(len(recorded), len(cells))


def made_when(cells: Sequence[Cell], file_times: Sequence[float], planned: str) -> str:
    """From the first to the last cell; by their files if no cell records a date. planned: date of the first call."""
    dates = sorted(_minute(cell.provenance["date"]) for cell in cells if cell.provenance.get("date"))
    source = _silent(len(dates), len(cells))
    if not dates and file_times:
        dates = [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in sorted(file_times)]
        source = ", by the dates of their files"
    begun = f"planned {_minute(planned)}; " if planned else ""
    return f"{begun}cells of {dates[0]} to {dates[-1]} UTC{source}" if dates else begun.removesuffix("; ")


def disagreements(cells: Sequence[Cell], model: str) -> list[str]:
    """Warnings: cells of one page that were made by different packages, or on different weights."""
    warnings = []
    for package in _COMPARED:
        numbers = Counter(n for cell in cells if (n := cell.provenance.get("versions", {}).get(package)))
        if len(numbers) > 1:
            warnings.append(
                f"The cells were made by different versions of {package}: {_counted(numbers)}. What differs between"
                " methods or subjects may come from the versions."
            )
    hashes = Counter(digest for cell in cells if (digest := cell.provenance.get("model_hash")))
    if len(hashes) > 1:
        warnings.append(
            f"The cells were made on different weights of the base model {model}: {_counted(hashes)}, by their hash."
            " They should not stand in one table."
        )
    return warnings


def _silent(recorded: int, count: int) -> str:
    return f"; {count - recorded:,} of {count:,} cells do not record it" if recorded < count else ""


def _counted(numbers: Counter[str]) -> str:
    return ", ".join(f"{name} ({n:,} cell{'' if n == 1 else 's'})" for name, n in sorted(numbers.items()))


def _minute(date: str) -> str:
    """2026-11-21 13:00."""
    return str(date)[:16].replace("T", " ")
