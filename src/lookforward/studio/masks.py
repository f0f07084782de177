"""The mask of a photo in the studio: painted or uploaded, and checked against the photo before it is kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookforward.data.folder import list_folder
from lookforward.data.masks import MASK_SUFFIX, find_masks, with_mask
from lookforward.data.photo import PhotoError, cut_photo, load_photo
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, writing
from lookforward.studio.photos import REMEDY, find_photo


def set_mask(folder: Path, name: str, mask: Image.Image | None) -> None:
    """Write the mask of a photo beside it, white on the subject; None deletes it.

    Raises:
        LookforwardError: it does not fit the photo, or is empty where the photo is used.
    """
    path = find_photo(folder, name)
    before = find_masks([path], list_folder(folder)).get(path)
    if mask is None:
        with writing(path, REMEDY):
            if before is not None:
                before.unlink(missing_ok=True)
        return
    place = before or path.with_name(f"{path.stem}{MASK_SUFFIX}")
    try:
        with atomic_file(place, REMEDY) as partial:
            mask.save(partial, format="PNG")
            with_mask(load_photo(path, 64), partial, 1)
    except PhotoError as error:
        raise LookforwardError(f"{name} {error}.".replace(f".partial-{place.name}", place.name), error.code) from error


def upload_mask(folder: Path, name: str, file: Path) -> None:
    """Take a PNG file as the mask of a photo. Raises LookforwardError as `set_mask`, and for what is no PNG."""
    path = find_photo(folder, name)
    try:
        with_mask(load_photo(path, 64), file, 1)  # before it is decoded for anything else
        with Image.open(file, formats=("PNG",)) as image:
            set_mask(folder, name, image.copy())
    except PhotoError as error:
        raise LookforwardError(f"{name} {error}.", error.code) from error


def painted_mask(folder: Path, name: str, layers: Sequence[Any]) -> None:
    """Take what was painted over a photo as its mask.

    layers: (h, w, 4) uint8, opaque where something was painted; of any size with the photo's shape.

    Raises:
        LookforwardError: nothing was painted, or `set_mask` refuses it.
    """
    path = find_photo(folder, name)
    try:
        size = load_photo(path, 64).upright_size
    except PhotoError as error:
        raise LookforwardError(f"{name} {error}.", error.code) from error
    painted = [np.asarray(layer)[..., 3] for layer in layers if np.asarray(layer).ndim == 3]
    if not any(one.any() for one in painted):
        raise LookforwardError("Nothing is painted yet: paint over the subject first.", "mask-empty")
    white = np.max(painted, axis=0) > 127
    set_mask(folder, name, Image.fromarray(white.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST))


def canvas(folder: Path, name: str, side: int = 640) -> Image.Image:
    """A photo to paint on: upright, whole, its longer side `side` pixels."""
    path = find_photo(folder, name)
    try:
        width, height = load_photo(path, 64).upright_size
        scale = side / max(width, height)
        return Image.fromarray(cut_photo(path, (max(1, round(width * scale)), max(1, round(height * scale))))[0])
    except PhotoError as error:
        raise LookforwardError(f"{name} {error}.", error.code) from error
