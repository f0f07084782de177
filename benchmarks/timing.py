"""What the speed benchmarks share: clocks, commands in turn, tables and JSON."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WARM = 3  # steps at the start of a training that do not count


class StepClock:
    """Time between the optimizer steps of a training, of AdamW alone: the critic has an optimizer of its own.

    CPU time is of the whole process, user and system. It counts what other programs on the machine do less than wall
    time does.
    """

    def __init__(self, count: Callable[[], int] | None = None) -> None:
        """count: operations so far, noted at each step too."""
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.flops: list[int] = []
        self.count = count

    def start(self) -> None:
        from torch.optim import AdamW
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def note(optimizer: Any, *_: Any) -> None:
            optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
            if isinstance(optimizer, AdamW):
                self.cpu.append(time.process_time())
                self.wall.append(time.perf_counter())
                if self.count is not None:
                    self.flops.append(self.count())

        register_optimizer_step_post_hook(note)

    def seconds(self) -> dict[str, list[float]]:
        """CPU and wall time of each step, the first ones left out."""
        noted = {"cpu": self.cpu, "wall": self.wall, "flops": self.flops}
        return {name: _differences(values[WARM:]) for name, values in noted.items() if values}


def _differences(times: Sequence[float]) -> list[float]:
    return [b - a for a, b in pairwise(times)]


class Place(NamedTuple):
    """Where commands run. cores: that they are pinned to; empty: none. threads: of each process."""

    cores: tuple[int, ...] = ()
    threads: int = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks of time share; `place_of` reads the first two."""
    parser.add_argument("--core", type=int, nargs="+", default=[], help="that every process is pinned to, or several")
    parser.add_argument("--threads", type=int, default=1, help="of each process; with several, compare wall time")
    parser.add_argument("--output", type=Path, help="JSON file")


def place_of(asked: argparse.Namespace) -> Place:
    return Place(tuple(asked.core), asked.threads)


def python(script: str, *arguments: str | Path, place: Place) -> dict[str, Any]:
    """Run a script of this folder in a process of its own; returns the JSON that it prints last."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=_environment(place), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def command_time(command: Sequence[str | Path], place: Place) -> dict[str, float]:
    """CPU time (user and system, of all its processes) and wall time of a command, in seconds.

    Raises:
        SystemExit: the command failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), env=_environment(place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    errors = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(map(str, command))}\nfailed:\n{errors[-2000:]}")
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.perf_counter() - started}


def _environment(place: Place) -> dict[str, str]:
    """So many threads; and with cores, this process and what it starts stays on them."""
    if place.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place.cores)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(place.threads))
    return os.environ | threads | {"PYTHONWARNINGS": "ignore"}


def medians(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each command the median of its rounds, of each clock."""
    return {
        name: {clock: statistics.median(one[clock] for one in found) for clock in found[0]}
        for name, found in rounds.items()
    }


def report(title: str, found: Mapping[str, Mapping[str, float]], base: str, output: Path | None, **about: Any) -> None:
    """Print a table with ratios to the row `base`, and write it as JSON."""
    lines = [f"| {title} | CPU s | wall s | CPU, ratio to {base} | wall, ratio |", "|---|---:|---:|---:|---:|"]
    for name, one in found.items():
        ratios = [one[clock] / found[base][clock] if base in found else float("nan") for clock in ("cpu", "wall")]
        lines.append(f"| {name} | {one['cpu']:.4g} | {one['wall']:.4g} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    print("\n".join(lines), flush=True)
    if output is not None:
        record = {"title": title, "base": base, "seconds": found, **about}
        output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
