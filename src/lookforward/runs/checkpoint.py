"""Save and resume: everything that a training step reads or changes, written whole or not at all.

A checkpoint is a folder `checkpoints/step-000100` with `state.safetensors` and `state.json`. A run that is resumed from
it continues to the same bits.
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
from lookforward.errors import LookforwardError
from lookforward.files import atomic_folder, read_json, write_json

FORMAT = 4
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

    model_hash: of the model that was untouched when the run began, "" where unknown.

    Raises:
        LookforwardError: the disk is full or cannot be written; earlier checkpoints stay as they are.
    """
    target = folder / f"step-{trainer.step:06d}"
    # Cloned where tensors share memory (tied weights), which safetensors refuses
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _tensors(trainer).items()}
    record = Record(trainer.step, FORMAT, trainer.critic_updater is not None, model_hash)
    with atomic_folder(target) as partial:
        save_file(tensors, partial / "state.safetensors")
        write_json(partial / "state.json", vars(record))
    found = list_checkpoints(folder)
    # A later one could not be read, or this run would have resumed from it
    kept = found[: found.index(target) + 1][-KEEP:]
    for other in found:
        if other not in kept:
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
    return [folder / name for name in sorted((n for n in names if _NAME.fullmatch(n)), key=lambda n: int(n[5:]))]


def load_newest(trainer: Trainer, folder: Path, model_hash: str = "") -> bool:
    """Restore the newest readable checkpoint; False if there is none. model_hash: of the model as it is now.

    Raises:
        LookforwardError: there are checkpoints, but none can be read or fits this run, or the run began on other
            weights of its base model.
    """
    problems = []
    for path in reversed(list_checkpoints(folder)):
        try:
            record = read_json(path / "state.json", Record)
            if model_hash and record.model_hash not in ("", model_hash):
                raise LookforwardError(
                    f"{folder.parent} began on other weights of its base model than these. Restore those weights, or "
                    "delete the run folder to start again.",
                    "model-changed",
                )
            _restore(trainer, record, load_file(path / "state.safetensors"))
            return True
        except (LookforwardError, OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, LookforwardError) and error.code == "model-changed":
                raise
            problems.append(f"{path.name}: {error}")
    if problems:
        raise LookforwardError(
            f"No checkpoint in {folder} can be used ({'; '.join(problems)}). Delete the run folder to start again.",
            "checkpoint-unusable",
        )
    return False


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    groups: dict[str, Mapping[str, Tensor]] = {
        "policy": trainer.parameters,
        "optimizer": _moments(trainer.optimizer),
    }
    if trainer.averages is not None:
        groups["average"] = trainer.averages.values
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
    if record.format != FORMAT:
        raise ValueError(f"it has format {record.format} of another version of lookforward")
    if record.has_critic != (trainer.critic_updater is not None):
        raise ValueError("a run with another critic wrote it")
    if ("average" in groups) != (trainer.averages is not None):
        raise ValueError("a run with another optimizer.ema wrote it")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(saved[name])
        for name, value in trainer.averages.values.items() if trainer.averages is not None else ():
            value.copy_(groups["average"][name])
    _restore_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        trainer.critic_updater.critic.load_state_dict(groups["critic"])
        _restore_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
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


def _restore_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, Any] = {}
    for key, value in flat.items():
        index, *outer, name = key.split("/")
        inner = state.setdefault(int(index), {})
        for one in outer:
            inner = inner.setdefault(one, {})
        inner[name] = int(value) if value.ndim == 0 and value.dtype == torch.int64 else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
