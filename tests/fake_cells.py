"""A grid whose cells cost nothing: made up from their names, noted in a ledger each time one is begun."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookforward.benchmark.cell import Cell
from lookforward.benchmark.datasets.values import Dataset
from lookforward.benchmark.executors import InProcess
from lookforward.benchmark.plan import CellKey, Plan, cell_name
from lookforward.benchmark.runner import Outcome, run_grid
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS

_WRITING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def fake_plan(folder: Path, seeds: int = 2, model: str = "toybox", **overrides: Any) -> Plan:
    """Two subjects, three methods: 6 cells a seed, of 2 prompts × 2 images."""
    from lookforward.benchmark.methods import grid_methods  # which imports much that a worker does not need

    subjects = []
    for i, (name, noun, prompts) in enumerate((("dog6", "dog", LIVE_PROMPTS), ("old_vase", "vase", OBJECT_PROMPTS))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for j in range(3):
            pixels = np.random.default_rng(10 * i + j).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{j}.png")
        subjects.append(BenchmarkSubject(name, noun, noun == "dog", prompts, folder / name))
    methods = grid_methods(("dreambooth", "dino"), ("full",), {"run.steps": 20, **overrides}, model)
    data = Dataset("things", "dreambooth", tuple(subjects), str(folder))
    return Plan(("dog6", "old_vase"), methods, tuple(range(seeds)), None, 2, 2, data)


@dataclass(frozen=True)
class FakeRunner:
    """A `CellRunner`. broken: subject that raises; deadly: cell that kills its process, `deaths` times."""

    ledger: Path
    broken: str = ""
    deadly: CellKey | None = None
    deaths: int = 0
    seconds: float = 0.0

    def load(self, worker: int) -> "FakeRunner":
        return self

    def __call__(self, plan: Plan, key: CellKey, photos: Path) -> tuple[Cell, np.ndarray]:
        with self.ledger.open("a") as file:
            file.write(" ".join(map(str, key)) + "\n")
        subject, method, seed = key
        if key == self.deadly and begun(self.ledger).count(key) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if subject == self.broken:
            raise ValueError(f"{photos.name} is broken")
        time.sleep(self.seconds)
        rng = np.random.default_rng([seed, *subject.encode(), *method.encode()])
        count = len(plan.image_seeds(subject, seed))
        scores = {name: rng.random(count).round(6).tolist() for name in ("DINO", "CLIP-I", "CLIP-T")}
        made = {
            "date": "2026-11-21T12:00:00+00:00", "seconds": 30.0 if method == "untouched" else 90.0, "device": "cpu",
            "gpu_memory": 0, "model_hash": "abc", "photos_hash": "def", "versions": {"torch": "2.13.0"},
        }  # fmt: skip
        cell = Cell(subject, method, seed, scores, 60.0, 512, {}, {}, 1000, 1.5, made, plan.settings_of(key))
        return cell, rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def finish(plan: Plan, folder: Path, runner: FakeRunner) -> list[Outcome]:
    """Run what is missing, in this process."""
    return list(run_grid(plan, folder, InProcess(plan, folder, runner.load), pause=0.01))


def drive_ray(plan: Plan, folder: Path, runner: FakeRunner, address: str) -> None:
    """Run what is missing, on two workers of a Ray cluster. Here, so that a spawned process can import it."""
    from lookforward.benchmark.ray_cluster import RayCluster

    for _ in run_grid(plan, folder, RayCluster(plan, folder, runner.load, address, 2)):
        pass


def begun(ledger: Path) -> list[CellKey]:
    """Every time that a cell was begun."""
    lines = ledger.read_text().splitlines() if ledger.is_file() else []
    return [(s, m, int(n)) for s, m, n in (line.split() for line in lines)]


def in_fork(plan: Plan, folder: Path, runner: FakeRunner, die_before: int = 0) -> int:
    """Work in a process of its own, which kills itself before that change below `folder`; returns the changes made."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            changes = _watch(folder, die_before)
            finish(plan, folder, runner)
            os.write(write, str(len(changes)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        count = file.read()
    os.waitpid(child, 0)
    return int(count or -1)


def _watch(folder: Path, die_before: int) -> list[str]:
    changes: list[str] = []

    def hook(event: str, details: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in _WRITING or opened) and str(folder) in str(details[0]):
            changes.append(event)
            if len(changes) == die_before:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return changes


def read_failure(folder: Path, key: CellKey) -> dict[str, Any]:
    """The record of a failed cell."""
    return json.loads((folder / "failed" / f"{cell_name(key)}.json").read_text(encoding="utf-8"))
