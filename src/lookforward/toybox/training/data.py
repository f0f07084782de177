"""Reading the data folder of the world, and writing exports that say how they were trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.toybox.training.state import write_json, write_tensors

Images = np.ndarray[Any, np.dtype[np.uint8]]


def open_images(data: Path) -> Images:
    """The memory-mapped images of a data folder, (n, h, w, 3) uint8; 2k and 2k+1 show one subject."""
    path = data / "images.npy"
    if not path.is_file():
        raise LookforwardError(f"{path} is missing: draw the pictures first, with `lookforward toybox draw`.")
    return np.load(path, mmap_mode="r")


def open_captions(data: Path) -> list[list[str]]:
    """The captions of a data folder: for each image a few variants."""
    path = data / "captions.json"
    if not path.is_file():
        raise LookforwardError(f"{path} is missing: draw the pictures first, with `lookforward toybox draw`.")
    return json.loads(path.read_text(encoding="utf-8"))


def train_count(n: int) -> int:
    """How many of n images are trained on; the rest, up to 2% at the end in whole pairs, is held out."""
    return n - 2 * min(max(1, n // 100), 1000)


def to_float(images: Images | Tensor) -> Tensor:
    """(b, h, w, 3) uint8 to (b, 3, h, w) float in [-1, 1]."""
    # A copy, as torch warns of memory that it may not write to.
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def draw(images: Images, count: int, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` random ones of the first `count` images, (b, 3, h, w) in [-1, 1]."""
    index = torch.randint(count, (batch,), generator=generator)
    return to_float(images[index.numpy()])


def describe_weights(path: Path, settings: dict[str, Any]) -> None:
    """Write the training settings into the metadata of a safetensors file, without local paths."""
    public = {key: value for key, value in settings.items() if key not in ("data", "photos", "vae", "clip", "init")}
    write_tensors(path, load_file(path), {"format": "pt", "lookforward": json.dumps(public)})


def read_description(path: Path) -> dict[str, Any]:
    """The training settings which `describe_weights` wrote; empty where there are none."""
    with safe_open(path, framework="pt") as handle:
        return json.loads((handle.metadata() or {}).get("lookforward", "{}"))


def load_as_float32(folder: Path) -> None:
    """Have transformers load half-precision weights in full precision unless it is told otherwise.

    It would keep them in half precision, while diffusers widens those beside them, and the
    pipeline would mix both and fail.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, *(config[key] for key in ("text_config", "vision_config") if key in config)):
        part["dtype"] = "float32"
    write_json(path, config)
