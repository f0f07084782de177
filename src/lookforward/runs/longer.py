"""Extend a finished run: which settings may differ, and where its earlier export goes."""

from pathlib import Path

from lookforward.config.reading import read_toml
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
