"""Save and resume: everything that a training step reads or changes, written whole or not at all.

A checkpoint is a folder `checkpoints/step-000100` with `state.safetensors`, `state.json` and the digests of both. A run
that is resumed from it continues to the same bits. One that is damaged is passed over and kept aside.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookforward.algorithm.trainer import Trainer
from lookforward.bundle import TOYBOX, present_name
from lookforward.core.protocols import Keeping
from lookforward.core.sharding import gathered, share
from lookforward.errors import LookforwardError, is_out_of_memory, warn
from lookforward.files import REMEDY, read_json, sync, write_json, writing
from lookforward.whole import require_whole, whole_folder

FORMAT = 5
WITHOUT_DIGESTS = 4  # the format of before
KEEP = 2  # the newest, and the one before it in case a disk only claims to have written
_NAME = re.compile(r"step-(\d{6,})")
_GENERATORS = ("generator", "critic_generator", "adapter_generator")


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
    found = gathered(_tensors(trainer), trainer.processes.main)
    if not trainer.processes.main:
        return target
    # Cloned where tensors share memory (tied weights), which safetensors refuses
    tensors = {name: tensor.contiguous().clone() for name, tensor in found.items()}
    if bad := _not_finite(tensors):
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
    if bad := _not_finite(tensors):
        raise ValueError(f"{bad} is not finite")
    _restore(trainer, record, tensors)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds a NaN or an infinity; "" if none does."""
    floats = (item for item in tensors.items() if item[1].is_floating_point())
    return next((name for name, tensor in floats if not bool(tensor.isfinite().all())), "")


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    groups: dict[str, Mapping[str, Tensor]] = {
        "policy": trainer.parameters,
        "optimizer": _moments(trainer.optimizer),
    }
    if trainer.averages is not None:
        groups["average"] = trainer.averages.values
    if isinstance(trainer.take_step, Keeping):
        groups["baseline"] = trainer.take_step.tensors
    if trainer.critic_updater is not None:
        groups["critic"] = trainer.critic_updater.critic.state_dict()
        groups["critic_optimizer"] = _moments(trainer.critic_updater.optimizer)
    tensors = {f"{group}/{name}": tensor for group, of_group in groups.items() for name, tensor in of_group.items()}
    return tensors | {name: getattr(trainer, name).get_state() for name in _GENERATORS}


def _restore(trainer: Trainer, record: Record, tensors: dict[str, Tensor]) -> None:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = tensor
    saved, wanted = groups["policy"], trainer.parameters
    if saved.keys() != wanted.keys() or any(saved[n].shape != p.shape for n, p in wanted.items()):
        raise ValueError("it has other parameters than this run trains")
    if record.format not in (FORMAT, WITHOUT_DIGESTS):
        raise ValueError(f"it has format {record.format} of another version of lookforward")
    if record.has_critic != (trainer.critic_updater is not None):
        raise ValueError("a run with another critic wrote it")
    if ("average" in groups) != (trainer.averages is not None):
        raise ValueError("a run with another optimizer.ema wrote it")
    _check_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        _check_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(share(saved[name], parameter))
        for name, value in trainer.averages.values.items() if trainer.averages is not None else ():
            value.copy_(share(groups["average"][name], value))
    _restore_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        trainer.critic_updater.critic.load_state_dict(groups["critic"])
        _restore_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
    if isinstance(trainer.take_step, Keeping):
        trainer.take_step.restore(groups.get("baseline", {}))
    for name in _GENERATORS:
        getattr(trainer, name).set_state(tensors[name])
    trainer.step = record.step


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each parameter as flat tensors: "3/exp_avg"."""
    return dict(_flat("", optimizer.state_dict()["state"]))


def _flat(prefix: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Nested values by "outer/inner"; plain integers, by which an 8-bit optimizer counts, become int64 of no axis."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}/", value)
        elif isinstance(value, Tensor | int):
            yield f"{prefix}{name}", value if isinstance(value, Tensor) else torch.tensor(value)


def _check_moments(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless each parameter has the moments that a step of AdamW or Adam needs, of its shape."""
    if type(optimizer) not in (torch.optim.AdamW, torch.optim.Adam) or not flat:
        return  # of others, what is kept depends on the size of a parameter
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place in sorted({int(key.partition("/")[0]) for key in flat}):
        moments = {key.partition("/")[2]: value for key, value in flat.items() if key.startswith(f"{place}/")}
        if place >= len(parameters) or moments.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"the optimizer's state {place} is {', '.join(sorted(moments))}")
        if any(moments[name].shape != parameters[place].shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError(f"the optimizer's state {place} has another shape")


def _restore_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, Any] = {}
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for key, value in flat.items():
        index, *outer, name = key.split("/")
        value = share(value, of) if value.shape == (of := parameters[int(index)]).shape else value
        inner = state.setdefault(int(index), {})
        for one in outer:
            inner = inner.setdefault(one, {})
        inner[name] = int(value) if value.ndim == 0 and value.dtype == torch.int64 else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
