"""What all tries begin with: the tiny model, photos, one run without faults, checkpoints, exports, caches, cells."""

import gc
import importlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jobs import SETTINGS, as_options, exported, logged
from torture import shim
from torture.forked import command, in_fork

EVERY = 2  # steps from one checkpoint to the next
SHORT = {"run.steps": 4, "evaluation.sample_every": 0}  # a run that takes less, for the tests of every day
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
_WARM = (  # what a run, an export and a report import; most of it slowly
    "lookforward.api", "lookforward.assembly", "lookforward.assembly.training", "lookforward.benchmark.runner",
    "lookforward.cli.train", "lookforward.exports.load", "conftest", "exports", "fake_cells", "tiny",
    "diffusers.loaders.peft", "lookforward_toybox.subjects",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """folder: everything of it. seconds: a run takes. changes: of files, that a run makes.

    calls: how many system calls of each kind it makes, where they can fail. settings: of a run.
    """

    folder: Path
    seconds: float = 0.0
    changes: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)

    @property
    def whole(self) -> Path:
        """The run without faults."""
        return self.folder / "whole" / "run"

    def new(self, name: str) -> Path:
        """An empty folder for a run and a cache."""
        place = (self.folder / "tries" / name).resolve()
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place


def make_world(folder: Path, *, short: bool = False) -> World:
    """Make it, in forks, so that this process has never computed a gradient: a fork of one that has cannot.

    This process imports what the forks need, so that each of them begins to work at once.
    """
    torch.set_num_threads(1)
    _import(_WARM)
    settings = SETTINGS | (SHORT if short else {})
    begun = in_fork(lambda: _make(folder))
    if begun.status:
        raise RuntimeError(begun.text)
    world = World(folder, settings=settings)
    place, facts = world.new("../whole"), folder / "facts.json"

    def run() -> None:
        shim.arm(place)
        changes = train(world, place, count=True)
        facts.write_text(json.dumps({"changes": changes, "calls": shim.seen(), "modules": [*sys.modules]}))

    started = time.monotonic()
    ended = in_fork(run)
    if ended.status:
        raise RuntimeError(ended.text)
    seconds, found = time.monotonic() - started, json.loads(facts.read_text())
    _import(found["modules"])  # what a run imports as it goes on
    return World(folder, seconds, found["changes"], found["calls"], settings)


def _import(names: Any) -> None:
    logging.disable(logging.WARNING)  # what libraries have to say of themselves
    for name in names:
        if name not in sys.modules:
            with suppress(ImportError):  # some modules only another one can import
                importlib.import_module(name)
    logging.disable(logging.NOTSET)
    gc.collect()
    gc.freeze()  # forks share it for longer


def train(world: World, place: Path, *, die_before: int = 0, count: bool = False) -> int:
    """The run's command, in this process, in `place`; returns the changes of files that it made, if they are counted.

    die_before: kill itself before so many changes.
    """
    os.environ["LOOKFORWARD_CACHE"] = str(place / "cache")
    changes = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal changes
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in _CHANGES or opened) and str(details[0]).startswith(str(place)):
            changes += 1
            if changes == die_before:
                os.kill(os.getpid(), 9)

    if die_before or count:
        sys.addaudithook(watch)
    command(*words(world, place))()
    return changes


def words(world: World, place: Path) -> list[object]:
    """The run's command line."""
    photos, model = world.folder / "photos", world.folder / "model"
    named = ["train", photos, "--class-noun", "teapot", "--model", model, *as_options(world.settings), "--model.cache"]
    return [*named, "--output", place / "run"]


def same_result(world: World, place: Path) -> str:
    """What differs from the run without faults; "" if nothing does."""
    try:
        if exported(place / "run") != exported(world.whole):
            return "another export"
        return "" if logged(place / "run") == logged(world.whole) else "another log"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _make(folder: Path) -> None:
    from conftest import make_pipeline
    from exports import make_export
    from fake_cells import FakeRunner, fake_plan, finish
    from lookforward.algorithm.trainer import train as train_tiny
    from lookforward.benchmark.runner import prepare
    from lookforward.runs.checkpoint import save_checkpoint
    from lookforward_toybox.subjects import write_photos
    from tiny import tiny_trainer

    make_pipeline().save_pretrained(folder / "model", safe_serialization=True)
    write_photos("teapot-0", folder / "photos")
    make_export(folder / "lora", folder / "model", "lora")
    trainer = tiny_trainer(critic="adam")
    for step in (2, 4):
        list(train_tiny(trainer, step))
        save_checkpoint(trainer, folder / "checkpoints")
    plan = fake_plan(folder / "data", seeds=1)
    prepare(plan, folder / "grid")
    finish(plan, folder / "grid", FakeRunner(folder / "ledger"))
