"""Reading the data folder of the world, and writing exports that say how they were trained."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.files import digest_file, write_json, write_tensors

EVALUATION_STAGES = ("identity", "judge")  # their encoders measure images, and no reward may use them
Images = np.ndarray[Any, np.dtype[np.uint8]]


def open_images(data: Path) -> Images:
    """The memory-mapped images of a data folder, (n, h, w, 3) uint8; 2k and 2k+1 show one subject."""
    path = data / "images.npy"
    if not path.is_file():
        raise LookforwardError(
            f"{path} is missing: draw the pictures first, with `lookforward toybox draw`.", code="toybox-data-missing"
        )
    return np.load(path, mmap_mode="r")


def open_captions(data: Path) -> list[list[str]]:
    """The captions of a data folder: for each image a few variants."""
    path = data / "captions.json"
    if not path.is_file():
        raise LookforwardError(
            f"{path} is missing: draw the pictures first, with `lookforward toybox draw`.", code="toybox-data-missing"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def hash_images(images: Images) -> str:
    """A short name of a data folder's images, by some of them."""
    some = np.ascontiguousarray(images[:: max(1, len(images) // 64)])
    return hashlib.sha256(repr(images.shape).encode() + some.tobytes()).hexdigest()[:16]


def hash_data(data: Path) -> str:
    """A short name of a data folder: of its images and captions."""
    captions = data / "captions.json"
    return hash_images(open_images(data)) + (hash_file(captions) if captions.is_file() else "")


def hash_file(path: Path) -> str:
    """A short name of a file's content."""
    return digest_file(path)[:16]


def hash_encoder(vae: Path) -> str:
    """A short name of what an exported autoencoder makes latents with; its decoder may be trained on."""
    digest = hashlib.sha256()
    with safe_open(vae / "diffusion_pytorch_model.safetensors", framework="np") as file:
        for name in sorted(file.keys()):
            if name.startswith(("encoder.", "quant_conv.")):
                digest.update(name.encode() + np.ascontiguousarray(file.get_tensor(name)).tobytes())
    return digest.hexdigest()[:16]


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
    if public.get("stage") in EVALUATION_STAGES:
        public["evaluation_only"] = True
    write_tensors(path, load_file(path), {"format": "pt", "lookforward": json.dumps(public)})


def load_as_float32(folder: Path) -> None:
    """Have transformers load half-precision weights in full precision unless it is asked for another precision.

    It would keep them in half precision, while diffusers widens those beside them, and the
    pipeline would mix both and fail.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, *(config[key] for key in ("text_config", "vision_config") if key in config)):
        part["dtype"] = "float32"
    write_json(path, config)
