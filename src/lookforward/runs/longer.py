"""Extend a finished run: which settings may differ, and where its earlier export goes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookforward.config.reading import read_toml, with_values
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError
from lookforward.files import REMEDY, make_folder, sync, writing


def may_differ(before: Settings, now: Settings) -> tuple[str, ...]:
    """Names of settings that do not make another run of this one, since they only make it longer.

    Neither its learning rates nor the choice of its best step may depend on where it ends.
    """
    rates = now.optimizer
    ends = rates.decay > 0 or rates.schedule != "constant" or now.evaluation.every > 0
    return ("run.steps",) if now.run.steps > before.run.steps and not ends else ()


def why_not(before: Settings, now: Settings) -> str:
    """Why `run.steps` may not differ, where it does: in parentheses, with a blank before it; empty if it may."""
    if before.run.steps == now.run.steps or may_differ(before, now):
        return ""
    if now.run.steps < before.run.steps:
        return " (a run can be made longer, not shorter)"
    if now.evaluation.every:
        return " (its best step is chosen from the steps up to its end, evaluation.every)"
    name = "decay" if now.optimizer.decay else "schedule"
    return f" (its learning rate falls to 0 at its end, optimizer.{name}; a LoRA can start from it, adapter.start)"


def as_made(settings: Settings, settings_file: Path, given: Mapping[str, Any] | None) -> tuple[Settings, str]:
    """The settings with the steps that a run was made with, unless the user gave others; and a note where they differ.

    given: what the user wrote of the settings, by dotted names; None where that is unknown, and nothing changes.
    """
    asked = settings.run.steps
    before = asked if given is None or "run.steps" in given else steps_of(settings_file, asked)
    if before == asked:
        return settings, ""
    note = f"run.steps = {before}, as this run was made with; a higher --steps makes it longer"
    return with_values(settings, {"run.steps": before}), note


def steps_of(settings_file: Path, otherwise: int) -> int:
    """The steps that a run folder's settings ask for; `otherwise` if they cannot be read, which is found elsewhere."""
    try:
        return int(read_toml(settings_file)["run"]["steps"])
    except (LookforwardError, KeyError, TypeError, ValueError):
        return otherwise


def set_aside(export: Path, exports: Path, steps: int) -> None:
    """Keep the export of a run that is to take further steps among its exports of earlier ones.

    Raises:
        LookforwardError: the folder cannot be written.
    """
    with writing(exports, REMEDY):
        make_folder(exports)
        export.rename(exports / f"step-{steps:06d}")
        sync(exports)
        sync(exports.parent)
