"""Prior images: what the untouched model draws for the class, made once and kept."""

import hashlib
import os
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from lookforward.errors import LookforwardError
from lookforward.generate import draw_images


def cache_folder() -> Path:
    """Where prior images are kept: $LOOKFORWARD_CACHE, or `lookforward` in the user's cache folder."""
    if named := os.environ.get("LOOKFORWARD_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookforward"


def prior_images(
    pipeline: StableDiffusionPipeline,
    prompt: str,
    count: int,
    *,
    steps: int,
    guidance: float,
    resolution: int,
    batch: int = 8,
) -> NDArray[np.uint8]:
    """`count` images of `prompt`, (count, resolution, resolution, 3) uint8, drawn where none are kept yet.

    Image i is drawn from seed i, so that a larger count adds to a smaller one. They are kept under a name made
    of the model's weights and of every setting, and must be asked for before the weights are trained.

    Raises:
        LookforwardError: the cache cannot be written.
    """
    settings = f"{fingerprint(pipeline)}|{prompt}|{steps}|{guidance}|{resolution}"
    folder = cache_folder() / "prior" / hashlib.sha256(settings.encode()).hexdigest()[:20]
    paths = [folder / f"{i:05d}.png" for i in range(count)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(missing), batch):
            seeds = missing[start : start + batch]
            images = draw_images(
                pipeline, [prompt] * len(seeds), seeds, steps=steps, guidance=guidance, resolution=resolution
            )
            for seed, image in zip(seeds, images, strict=True):
                partial = paths[seed].with_suffix(f".{os.getpid()}.tmp")
                Image.fromarray(image).save(partial, format="PNG")
                partial.replace(paths[seed])
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    except OSError as error:
        raise LookforwardError(
            f"Prior images cannot be kept in {folder}: {error}. Make room, or set LOOKFORWARD_CACHE to a folder "
            "that can be written."
        ) from error


def fingerprint(pipeline: StableDiffusionPipeline) -> str:
    """A short name of the weights that images depend on: equal for equal weights only."""
    digest = hashlib.blake2b(digest_size=10)
    for module in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()
