"""Prior images: what the untouched model draws for the class, made once and kept."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from lookforward.files import atomic_file, writing
from lookforward.models.sampling import draw_images, fingerprint

# Images are drawn so many at once, always: in a batch of another size each may differ in its last bit, and a run
# would then depend on what was in the cache before it.
_BATCH = 4


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
) -> NDArray[np.uint8]:
    """`count` images of `prompt`, (count, resolution, resolution, 3) uint8, drawn where none are kept yet.

    Image i is drawn from seed i, so that a larger count adds to a smaller one. They are kept under a name made
    of the model's weights and of every setting, and must be asked for before the weights are trained.

    Raises:
        LookforwardError: the cache cannot be written.
    """
    settings = f"{fingerprint(pipeline)}|{prompt}|{steps}|{guidance}|{resolution}"
    folder = cache_folder() / "prior" / hashlib.sha256(settings.encode()).hexdigest()[:20]
    images: list[NDArray[np.uint8]] = []
    for start in range(0, count, _BATCH):
        paths = [folder / f"{i:05d}.png" for i in range(start, start + _BATCH)]
        kept = [_read(path, resolution) for path in paths[: count - start]]
        drawn = [image for image in kept if image is not None]
        if len(drawn) < len(kept):
            seeds = list(range(start, start + _BATCH))
            drawn = list(
                draw_images(pipeline, [prompt] * _BATCH, seeds, steps=steps, guidance=guidance, resolution=resolution)
            )
            _keep(drawn, paths)
        images += drawn
    return np.stack(images[:count])


def _read(path: Path, resolution: int) -> NDArray[np.uint8] | None:
    """A kept image; None where there is none, or a damaged one."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError):  # Pillow tells of a damaged PNG by either
        return None
    return pixels if pixels.shape == (resolution, resolution, 3) else None


def _keep(images: Sequence[NDArray[np.uint8]], paths: Sequence[Path]) -> None:
    remedy = "Make room, or set LOOKFORWARD_CACHE to a folder that can be written."
    with writing(paths[0].parent, remedy):
        paths[0].parent.mkdir(parents=True, exist_ok=True)
    for image, path in zip(images, paths, strict=True):
        with atomic_file(path, remedy, shared=True) as partial:
            Image.fromarray(image).save(partial, format="PNG")
