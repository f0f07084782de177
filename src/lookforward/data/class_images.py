"""Class images: images of the class noun, generated once by the base model and cached."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lookforward.data.image_files import ImageError, opened_image
from lookforward.data.photo import Pixels
from lookforward.errors import warn
from lookforward.files import atomic_file, make_folder, writing
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image
from lookforward.whole import png_state, seal_png

Draw = Callable[[list[str], list[int]], Pixels]  # prompts and seeds to images (n, resolution, resolution, 3)

# Always draw so many at once: in a batch of another size an image may differ in its last bit, and a run would depend
# on what the cache held before it
_BATCH = 4


def cache_folder() -> Path:
    """Where class images are kept: $LOOKFORWARD_CACHE, or `lookforward` in the user's cache folder."""
    if named := os.environ.get("LOOKFORWARD_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookforward"


def class_images(
    draw: Draw, prompt: str, count: int, *, resolution: int, key: str, origin: Origin | None = None
) -> Pixels:
    """`count` images of `prompt`, (count, resolution, resolution, 3) uint8; draws those that the cache lacks.

    Image i comes from seed i, so that a larger count adds to a smaller one. key: whatever else the images depend on,
    such as the model's weights and the sampler's settings; images of another key are kept apart. origin: of
    the images, without prompt and seed. They carry no watermark, since a model is trained on them.

    Raises:
        LookforwardError: the cache cannot be written.
    """
    name = hashlib.sha256(f"{key}|{prompt}|{resolution}".encode()).hexdigest()[:20]
    folder = cache_folder() / "class-images" / name
    images: list[Pixels] = []
    for start in range(0, count, _BATCH):
        seeds = list(range(start, start + _BATCH))
        paths = [folder / f"{seed:05d}.png" for seed in seeds]
        cached = [_read(path, resolution) for path in paths[: count - start]]
        batch = [image for image in cached if image is not None]
        if len(batch) < len(cached):
            batch = list(draw([prompt] * _BATCH, seeds))
            for image, path, seed in zip(batch, paths, seeds, strict=True):
                whole = replace(origin or Origin("class image"), prompts=[prompt], seeds=[seed])
                _write(image, path, whole)
        images += batch
    return np.stack(images[:count])


def _read(path: Path, resolution: int) -> Pixels | None:
    """A cached image; None if it is missing or damaged. One of an earlier version, which has no digest, gets one."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        data = b""
    state, pixels = png_state(data), None
    try:
        with opened_image(path, ("PNG",), data=data) as image:
            pixels = np.asarray(image.convert("RGB"))
    except ImageError:
        state = "damaged"
    if state == "damaged" or pixels is None or pixels.shape != (resolution, resolution, 3):
        warn(f"The class image {path} is damaged: it is drawn again.")
        return None
    if state == "unknown":
        warn(f"The class image {path} has no digest: an earlier version drew it. It is used, and has one from now on.")
        _write(pixels, path, Origin("class image"))
    return pixels


def _write(image: Pixels, path: Path, origin: Origin) -> None:
    remedy = "Free disk space, or set LOOKFORWARD_CACHE to a folder that can be written."
    with writing(path, remedy):
        make_folder(path.parent)
    with atomic_file(path, remedy, shared=True) as partial:
        save_image(image, partial, origin, format="PNG")
        partial.write_bytes(seal_png(partial.read_bytes()))
