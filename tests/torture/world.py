"""What all tries begin with: the tiny model, photos, one run without faults, checkpoints, exports, caches, cells."""

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs import SETTINGS, as_options, exported, logged
from torture.forked import command, in_fork

EVERY = 2  # steps from one checkpoint to the next
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class World:
    """folder: everything of it. seconds: a run takes. changes: of files, that a run makes."""

    folder: Path
    seconds: float
    changes: int

    @property
    def whole(self) -> Path:
        """The run without faults."""
        return self.folder / "whole" / "run"

    def new(self, name: str) -> Path:
        """An empty folder for a run and a cache."""
        place = self.folder / "tries" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place


def make_world(folder: Path) -> World:
    """Make it, in forks, so that this process has never computed a gradient: a fork of one that has cannot."""
    torch.set_num_threads(1)
    begun = in_fork(lambda: _make(folder))
    if begun.status:
        raise RuntimeError(begun.text)
    world = World(folder, 0.0, 0)
    place = world.new("../whole")
    started = time.monotonic()
    ended = in_fork(lambda: train(world, place, count_into=folder / "changes"))
    if ended.status:
        raise RuntimeError(ended.text)
    return World(folder, time.monotonic() - started, int((folder / "changes").read_text()))


def train(world: World, place: Path, *, die_before: int = 0, count_into: Path | None = None) -> None:
    """The run's command, in this process, in `place`. die_before: kill itself before so many changes of files."""
    os.environ["LOOKFORWARD_CACHE"] = str(place / "cache")
    changes = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal changes
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in _CHANGES or opened) and str(details[0]).startswith(str(place)):
            changes += 1
            if changes == die_before:
                os.kill(os.getpid(), 9)

    if die_before or count_into:
        sys.addaudithook(watch)
    command(*words(world, place))()
    if count_into:
        count_into.write_text(str(changes))


def words(world: World, place: Path) -> list[object]:
    """The run's command line."""
    photos, model = world.folder / "photos", world.folder / "model"
    named = ["train", photos, "--class-noun", "teapot", "--model", model, *as_options(SETTINGS), "--model.cache"]
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
