"""Encode the images of a data folder once, for the denoiser to train on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from lookforward.files import atomic_file, write_json
from lookforward_toybox.training.data import Images, hash_encoder, hash_images, to_float
from lookforward_toybox.training.vae import posterior

Latents = np.ndarray[Any, np.dtype[np.float16]]


@torch.no_grad()
def cache_latents(images: Images, vae: Path, folder: Path, device: str = "cpu", batch: int = 64) -> Latents:
    """Mean and standard deviation of each image's latents, (n, 2c, h, w) half precision, unscaled.

    Kept in `folder` and read from there when the autoencoder and the images' number and content
    are the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "latents.npy", folder / "latents.json"
    wanted = {"encoder": hash_encoder(vae), "pictures": hash_images(images)}
    if path.is_file() and note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return np.load(path, mmap_mode="r")
    note.unlink(missing_ok=True)
    model = AutoencoderKL.from_pretrained(vae, torch_dtype=torch.float32).eval()
    nn.Module.to(model, device)
    target: Latents | None = None
    with atomic_file(path) as temporary:
        for start in range(0, len(images), batch):
            part = to_float(images[start : start + batch]).to(device)
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
                encoded = posterior(model, part)
            values = torch.cat([encoded.mean, encoded.std], dim=1).half().cpu().numpy()
            if target is None:
                shape = (len(images), *values.shape[1:])
                target = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            target[start : start + batch] = values
        if target is not None:
            target.flush()
    write_json(note, wanted)
    return np.load(path, mmap_mode="r")
