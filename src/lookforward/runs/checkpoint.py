"""Resumable state: everything that a step of training reads or changes, whole or not at all.

A checkpoint is a folder `checkpoints/step-000100` with `state.safetensors` and `state.json`. It is written
under another name, flushed to the disk and then renamed, so that a folder with that name is complete.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookforward.algorithm.trainer import Trainer
from lookforward.errors import LookforwardError
from lookforward.files import atomic_folder, read_json, write_json

KEEP = 2  # the newest, and one before it in case a disk lies about having written
_NAME = re.compile(r"step-(\d{6,})")


def save_checkpoint(trainer: Trainer, folder: Path, model_hash: str = "") -> Path:
    """Write the trainer's state under `folder` and drop all but the newest checkpoints.

    model_hash: of the model that was untouched when the run began; empty where unknown.

    Raises:
        LookforwardError: the disk is full or cannot be written; earlier checkpoints stay as they are.
    """
    target = folder / f"step-{trainer.step:06d}"
    tensors, record = _state(trainer)
    with atomic_folder(target) as partial:
        save_file(tensors, partial / "state.safetensors")
        write_json(partial / "state.json", {**record, "model_hash": model_hash})
    found = list_checkpoints(folder)
    # A later one is there only if it could not be read, or this run would have resumed from it
    kept = found[: found.index(target) + 1][-KEEP:]
    for other in found:
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints under `folder`, oldest first."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def load_newest(trainer: Trainer, folder: Path, model_hash: str = "") -> bool:
    """Put back the newest readable checkpoint; False where there is none. model_hash: of the model as it is now.

    Raises:
        LookforwardError: checkpoints are there, but none can be read or fits this run, or its base model had other
            weights.
    """
    problems = []
    for path in reversed(list_checkpoints(folder)):
        try:
            _restore(trainer, path, model_hash)
            return True
        except (LookforwardError, OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, LookforwardError) and error.code == "model-changed":
                raise
            problems.append(f"{path.name}: {error}")
    if problems:
        raise LookforwardError(
            f"No checkpoint in {folder} can be read ({'; '.join(problems)}). Delete the run folder to start anew."
        )
    return False


def _state(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {f"policy/{n}": p.detach() for n, p in trainer.parameters.items()}
    tensors |= {f"optimizer/{key}": t for key, t in _moments(trainer.optimizer).items()}
    if trainer.critic_updater is not None:
        tensors |= {f"critic/{n}": t.detach() for n, t in trainer.critic_updater.critic.state_dict().items()}
        tensors |= {f"critic_optimizer/{key}": t for key, t in _moments(trainer.critic_updater.optimizer).items()}
    tensors["generator"] = trainer.generator.get_state()
    tensors["critic_generator"] = trainer.critic_generator.get_state()
    tensors["adapter_generator"] = trainer.adapter_generator.get_state()
    record = {"step": trainer.step, "format": 4, "has_critic": trainer.critic_updater is not None}
    # .clone() where tensors share memory (tied weights), which safetensors refuses
    return {name: t.cpu().contiguous().clone() for name, t in tensors.items()}, record


def _restore(trainer: Trainer, path: Path, model_hash: str) -> None:
    record = read_json(path / "state.json", dict[str, Any])
    if model_hash and record.get("model_hash") not in (None, "", model_hash):
        raise LookforwardError(
            f"{path.parent.parent} was begun on a base model with other weights than it has now, and cannot go on with "
            "these. Put those back, or delete the run folder to start anew.",
            "model-changed",
        )
    tensors = load_file(path / "state.safetensors")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = tensor
    saved, wanted = groups["policy"], trainer.parameters
    if saved.keys() != wanted.keys() or any(saved[n].shape != p.shape for n, p in wanted.items()):
        raise ValueError("it holds other parameters than this run trains")
    if record["format"] != 4:
        raise ValueError(f"it is of format {record['format']}, from another version of lookforward")
    if record["has_critic"] != (trainer.critic_updater is not None):
        raise ValueError("it was written by a run with another critic")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(saved[name])
    _put_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        trainer.critic_updater.critic.load_state_dict(groups["critic"])
        _put_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
    trainer.generator.set_state(tensors["generator"])
    trainer.critic_generator.set_state(tensors["critic_generator"])
    trainer.adapter_generator.set_state(tensors["adapter_generator"])
    trainer.step = int(record["step"])


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's per-parameter state as flat tensors: "3/exp_avg"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _put_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
