"""Save and resume: everything that a training step reads or changes, written whole or not at all.

A checkpoint is a folder `checkpoints/step-000100` with `state.safetensors`, `state.json` and the digests of both. A run
that is resumed from it continues to the same bits. One that is damaged is passed over and kept aside.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lookforward.algorithm.trainer import Trainer
from lookforward.bundle import TOYBOX, present_name
from lookforward.core.sharding import gathered
from lookforward.errors import LookforwardError, is_out_of_memory, warn
from lookforward.files import REMEDY, read_json, sync, write_json, writing
from lookforward.runs.trainer_state import not_finite, restore_state, state_tensors
from lookforward.whole import require_whole, whole_folder

FORMAT = 5
WITHOUT_DIGESTS = 4  # the format of before
KEEP = 2  # the newest, and the one before it in case a disk only claims to have written
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Record:
    """What `state.json` says. model_hash: of the untouched model, "" where unknown."""

    step: int
    format: int
    has_critic: bool
    model_hash: str = ""


def save_checkpoint(trainer: Trainer, folder: Path, model_hash: str = "") -> Path:
    """Write the trainer's state to a folder in `folder`, and delete all but the newest checkpoints there.

    model_hash: of the model that was untouched when the run began, "" where unknown. Processes that share weights all
    call it, and the main one writes them whole.

    Raises:
        LookforwardError: the disk is full or cannot be written, or the state is not finite; earlier checkpoints stay as
            they are.
    """
    target = folder / f"step-{trainer.step:06d}"
    found = gathered(state_tensors(trainer), trainer.processes.main)
    if not trainer.processes.main:
        return target
    # Cloned where tensors share memory (tied weights), which safetensors refuses
    tensors = {name: tensor.contiguous().clone() for name, tensor in found.items()}
    if bad := not_finite(tensors):
        raise LookforwardError(
            f"Step {trainer.step} is not saved: {bad} is not finite. Lower the learning rate.", "not-finite"
        )
    record = Record(trainer.step, FORMAT, trainer.critic_updater is not None, model_hash)
    with whole_folder(target) as partial:
        save_file(tensors, partial / "state.safetensors")
        write_json(partial / "state.json", vars(record))
    there = list_checkpoints(folder)
    for other in there[: max(0, there.index(target) + 1 - KEEP)]:
        shutil.rmtree(other, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first; none where there is no such folder.

    Raises:
        LookforwardError: the folder cannot be listed, so that nobody knows whether it has some.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LookforwardError(
            f"{folder} cannot be listed: {error.strerror}. The run is as it was: correct the permissions, then run the "
            "same command again.",
            "checkpoints-unreadable",
        ) from error
    return sorted((folder / name for name in names if _NAME.fullmatch(name)), key=_step_of)


def load_newest(trainer: Trainer, folder: Path, model_hash: str = "") -> bool:
    """Restore the newest readable checkpoint; False if there is none. model_hash: of the model as it is now.

    Warns of those that were passed over.

    Raises:
        LookforwardError: there are checkpoints, but none can be read or fits this run, or the run began on other
            weights of its base model.
    """
    problems: dict[Path, Exception] = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            _load(trainer, path, model_hash)
        except (LookforwardError, OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):  # which says nothing of the checkpoint
                raise
            problems[path] = error
            continue
        for bad, error in problems.items():
            warn(f"{bad} was passed over ({error}): the run goes on from {path.name}.")
        return True
    changed = [error for error in problems.values() if getattr(error, "code", "") == "model-changed"]
    if changed and len(changed) == len(problems):
        raise changed[0]
    if problems:
        reasons = "; ".join(f"{path.name}: {error}" for path, error in problems.items())
        raise LookforwardError(
            f"No checkpoint in {folder} can be used ({reasons}). Delete the run folder to start again.",
            "checkpoint-unusable",
        )
    return False


def set_damaged_aside(folder: Path, step: int) -> None:
    """Rename the checkpoints after `step`, which a run that goes on from there could not read.

    Raises:
        LookforwardError: they cannot be renamed.
    """
    with writing(folder, REMEDY):
        for path in list_checkpoints(folder):
            if _step_of(path) > step:
                place, number = path.with_name(f"damaged-{path.name}"), 1
                while place.exists():
                    number += 1
                    place = path.with_name(f"damaged-{path.name}-{number}")
                path.rename(place)
                sync(folder)


def _load(trainer: Trainer, path: Path, model_hash: str) -> None:
    """Restore one checkpoint; any error leaves the trainer as it was, unless its optimizer refuses what is there."""
    record = read_json(path / "state.json", Record)
    remedy = "The checkpoint before it takes its place."
    require_whole(path, "The checkpoint", remedy, expected=record.format != WITHOUT_DIGESTS)
    if record.format not in (FORMAT, WITHOUT_DIGESTS):
        raise ValueError(f"it has format {record.format} of another version of lookforward")
    if record.step != _step_of(path):
        raise ValueError(f"it is of step {record.step}")
    if model_hash and record.model_hash not in ("", model_hash):
        name = present_name(TOYBOX, record.model_hash)
        remedy = "Restore those weights" if name == TOYBOX else f"Its model is called {name} now: give --model {name}"
        raise LookforwardError(
            f"{path.parent.parent} began on other weights of its base model than these. {remedy}, or delete the run "
            "folder to start again.",
            "model-changed",
        )
    tensors = load_file(path / "state.safetensors")
    if bad := not_finite(tensors):
        raise ValueError(f"{bad} is not finite")
    restore_state(trainer, tensors, has_critic=record.has_critic)
    trainer.step = record.step


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
