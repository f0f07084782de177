"""DINO's patch tokens of the images of a data folder, computed once for the transformer to be aligned with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import ViTModel

from lookforward.files import atomic_file, write_json
from lookforward_toybox.training.data import Images, hash_file, hash_images, to_float

Features = np.ndarray[Any, np.dtype[np.float16]]


@torch.no_grad()
def cache_features(images: Images, dino: Path, folder: Path, device: str = "cpu", batch: int = 64) -> Features:
    """Patch tokens of each image, (n, patches, d) half precision, kept in `folder` while encoder and images stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "features.npy", folder / "features.json"
    wanted = {"dino": hash_file(dino / "model.safetensors"), "pictures": hash_images(images)}
    if path.is_file() and note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return np.load(path, mmap_mode="r")
    note.unlink(missing_ok=True)
    model = ViTModel.from_pretrained(dino, add_pooling_layer=False, dtype=torch.float32).eval()
    nn.Module.to(model, device)  # transformers' own `to` is annotated wrongly
    config: Any = model.config
    shape = (len(images), (config.image_size // config.patch_size) ** 2, config.hidden_size)
    with atomic_file(path) as temporary:
        target: Features = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for start in range(0, len(images), batch):
            part = to_float(images[start : start + batch]).to(device)
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
                tokens = model(part).last_hidden_state[:, 1:]
            target[start : start + batch] = tokens.float().cpu().numpy().astype(np.float16)
        target.flush()
    write_json(note, wanted)
    return np.load(path, mmap_mode="r")
