"""What a run that is out of memory tells: what it needs, part by part, and settings with which it would fit."""

import os
from collections.abc import Callable, Generator, Mapping
from functools import wraps
from typing import Any

import torch

from lookforward.assembly.fit import RESERVE, Fit, Measure, choose
from lookforward.config.settings import FIELDS, SHORT, Settings
from lookforward.core.types import StepResult
from lookforward.errors import LookforwardError, first_line, is_out_of_memory, out_of_memory
from lookforward.models.load_pipeline import find_device
from lookforward.models.memory import Table
from lookforward.runs.checkpoint import list_checkpoints

_GIB = 2**30
_LESS = 0.8  # of what a run needs by arithmetic, to look for where it failed in spite of the arithmetic
# What may be chosen otherwise although it was given; the first try leaves all of it as it is
_OPEN = (
    "adapter.name", "model.gradient_checkpointing", "model.offload", "model.precision", "model.unload", "model.weights",
    "optimizer.eight_bit", "optimizer.fused", "run.accumulate",
)  # fmt: skip


def explained(iterate: Callable[[Any], Generator[StepResult]]) -> Callable[[Any], Generator[StepResult]]:
    """`TrainingJob.__iter__`, whose errors of memory become one LookforwardError (code "out-of-memory")."""

    @wraps(iterate)
    def explaining(job: Any) -> Generator[StepResult]:
        try:
            yield from iterate(job)
            return
        except (LookforwardError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = out_of_memory("before the first step", error)
        # Outside of `except`, whose traceback holds what was allocated
        saved = list_checkpoints(job.run.checkpoints)
        kept = f"The last checkpoint is kept: {saved[-1]}." if saved else "No checkpoint was saved before it."
        remedy = remedy_for(job.settings, job.given, job.processes.count)
        raise LookforwardError(f"{found} {kept}\n{remedy}", code="out-of-memory")

    return explaining


def remedy_for(settings: Settings, given: Mapping[str, Any] | None, processes: int = 1) -> str:
    """What the run needs on each device, in lines, and the least costly settings with which it would fit.

    given: what the user wrote of the settings, by dotted names; None where that is unknown.
    """
    general = _general(settings)
    share = max(1, settings.run.batch_size // processes)
    asked = dict(settings.changed() if given is None else given) | {"run.batch_size": share}
    try:
        measured = Measure(settings.run.recipe, asked)
        table = measured.table([])
        total, others = device_memory(find_device(settings.model.device))
    except (LookforwardError, RuntimeError, MemoryError, OSError) as error:
        return f"What it needs cannot be counted ({first_line(error)}). {general}"
    lines = _needs(table, total, others)
    room = (total - others) / _GIB - RESERVE
    by_arithmetic = table.peak / _GIB
    if by_arithmetic <= room:  # kernels, gaps and other programs took what the arithmetic does not count
        room = _LESS * by_arithmetic
        lines.append(f"It would fit by this arithmetic, so {_LESS:.0%} of it is aimed at.")
    chosen = _choose(measured, asked, room)
    if chosen is None or not chosen.changes:
        return "\n".join([*lines, f"No other settings were found that would fit. {general}"])
    changes = chosen.changes
    if "run.batch_size" in changes:
        changes["run.batch_size"] *= processes
    lines.append(f"With these settings it would need {chosen.table.peak / _GIB:.2f} GiB and {RESERVE:g} GiB beside it:")
    lines += [f"  {_option(name, value)}" for name, value in changes.items()]
    lines += [f"  ({reason})" for reason in chosen.reasons]
    free = all(FIELDS[name].spec.free for name in changes)
    lines.append(
        "Add them to the same command: the run goes on."
        if free
        else "They make it another run: add them to the command, with another --output."
    )
    return "\n".join([*lines, *([_auto_batch()] if _can_halve(settings, processes) else [])])


def device_memory(device: str) -> tuple[int, int]:
    """Bytes of a device, and how many of them are taken by other programs, or by torch for its kernels.

    Raises RuntimeError or OSError where a device does not say.
    """
    if torch.device(device).type == "cpu":
        import resource

        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return (there if limit == resource.RLIM_INFINITY else min(there, limit)), 0
    free, total = torch.accelerator.get_memory_info(torch.device(device))
    own = torch.accelerator.memory_reserved(torch.device(device))
    return total, max(0, total - free - own)


def _needs(table: Table, total: int, others: int) -> list[str]:
    """The table of memory by part, in the phase that needs the most."""
    training = table.training >= table.drawing
    rows = [row for row in table.rows if (row.training if training else row.drawing)]
    taken = f", {others / _GIB:.2f} GiB of them taken by others" if others else ""
    phase = "in a training step" if training else "while images are encoded or drawn"
    return [
        f"By arithmetic this run needs {table.peak / _GIB:.2f} GiB {phase}, and {RESERVE:g} GiB beside it, of "
        f"{total / _GIB:.2f} GiB{taken}:",
        *(f"  {row.part:26} {row.bytes / _GIB:8.3f} GiB" for row in rows),
        *(f"  not counted: {what}" for what in table.unknown),
    ]


def _choose(measured: Measure, asked: Mapping[str, Any], room: float) -> Fit | None:
    """Settings for so many GiB; what was given stays if that is enough. None: no settings help."""
    left_open = Measure(measured.recipe, {name: value for name, value in asked.items() if name not in _OPEN})
    for one in (measured, left_open):
        try:
            return choose(one, room + RESERVE)
        except LookforwardError:
            continue
    return None


def _option(name: str, value: Any) -> str:
    """A setting as it is written on the command line."""
    short = next((option for option, full in SHORT.items() if full == name), name).replace("_", "-")
    if isinstance(value, bool):
        return f"--{short}" if value else f"--{'.'.join([*short.split('.')[:-1], 'no-' + short.split('.')[-1]])}"
    return f"--{short} {value}"


def _can_halve(settings: Settings, processes: int) -> bool:
    run = settings.run
    fits = processes == 1 and settings.baseline.name == "none" and not settings.optimizer.fused
    return fits and run.batch_size > 1 and not run.auto_batch


def _auto_batch() -> str:
    return "Or add --auto-batch: the same run goes on with fewer photos at once, and the same result."


def _general(settings: Settings) -> str:
    halve = f" {_auto_batch()}" if _can_halve(settings, 1) else ""
    return f"Take a smaller model or a lower --resolution, or close other programs that use the device.{halve}"
