"""Keep the state of a stage small enough for a repository, and go on from it elsewhere."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward_toybox.training.state import MOMENTS, TENSORS, load_state, save_state

KEY = "lookforward"
SCALE = ".scale"  # after the name of a tensor in 8 bits: what each of its rows is multiplied by


def pack(folder: Path, target: Path) -> None:
    """Write the state of the stage in `folder` as one file of 8 bits a weight, without the optimizer's moments.

    Averaged weights take the place of the plain ones. Local paths are left out, and which pictures it was trained on:
    it may go on with others, such as more of them. So are the digests of the autoencoder and DINO that it was trained
    beside: packed and exported again, they differ by the rounding to 8 bits.
    """
    tensors, summary = load_state(folder)
    averaged = {name.removeprefix("ema.") for name in tensors if name.startswith("ema.")}
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith(MOMENTS) or name.removeprefix("weights.") in averaged:
            continue
        if value.is_floating_point() and value.ndim >= 2:
            kept[name], kept[name + SCALE] = _to_8_bits(value)
        else:
            kept[name] = value
    for key in ("data", "pictures", "vae", "clip", "encoder", "aligned_with"):
        summary["settings"].pop(key, None)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(target, kept, {"format": "pt", KEY: json.dumps(summary)})


def unpack(source: Path, folder: Path) -> None:
    """Write the state of a stage into `folder`, from which the stage's own command goes on.

    The optimizer begins without moments, so that the loss may rise for some hundred steps.

    Raises:
        LookforwardError: `folder` holds a state already.
    """
    if (folder / TENSORS).exists():
        raise LookforwardError(
            f"{folder} has a training already: give another folder, or delete it.", code="toybox-other-settings"
        )
    with safe_open(source, framework="pt") as handle:
        summary = json.loads(handle.metadata()[KEY])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    wide = {
        name: value * tensors[name + SCALE] if name + SCALE in tensors else value
        for name, value in tensors.items()
        if not name.endswith(SCALE)
    }
    for name, value in list(wide.items()):
        if name.startswith("ema."):
            wide["weights." + name.removeprefix("ema.")] = value.clone()
    folder.mkdir(parents=True, exist_ok=True)
    save_state(folder, wide, summary)


def _to_8_bits(value: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in [-127, 127] of the same shape, and the scale of each row, (rows, 1, …)."""
    scale = value.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / 127
    scale = scale.view(-1, *[1] * (value.ndim - 1)).float()
    return (value / scale).round().to(torch.int8), scale
