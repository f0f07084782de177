"""The mask of a photo: `dog.mask.png` beside `dog.jpg`, white on the subject and black elsewhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.data.captions import read_beside
from lookforward.data.photo import Photo, PhotoError, Pixels, central_box, squares_along

MASK_SUFFIX = ".mask.png"


def is_mask(path: Path) -> bool:
    """Whether a file is the mask of a photo, and not a photo itself."""
    return path.name.lower().endswith(MASK_SUFFIX)


def with_mask(photo: Photo, crops: int, size: tuple[int, int] | None = None) -> Photo:
    """The photo with the mask beside it, if there is one, cut into the photo's squares.

    crops: as `load_photo` had it. size: (width, height) of the only part, as `cut_photo` cuts it, instead of squares.

    Raises:
        PhotoError: the mask cannot be read or does not fit the photo.
    """
    path = photo.path.with_suffix(MASK_SUFFIX)
    if not path.is_file():
        return photo
    data = read_beside(path)
    return replace(photo, masks=_cut(data, photo, path.name, crops, size), mask_digest=hashlib.sha256(data).hexdigest())


def unused_masks(paths: Sequence[Path]) -> tuple[str, ...]:
    """Notes on the masks in a folder that belong to none of its photos. paths: of these photos."""
    used = {path.with_suffix(MASK_SUFFIX).name for path in paths}
    masks = sorted(path.name for path in paths[0].parent.iterdir() if is_mask(path) and not path.name.startswith("."))
    return tuple(
        f"{name} belongs to no photo and is not used: the mask of dog.jpg is called dog{MASK_SUFFIX}"
        for name in masks
        if name not in used
    )


def _cut(data: bytes, photo: Photo, name: str, crops: int, size: tuple[int, int] | None) -> tuple[Pixels, ...]:
    """The mask in each of the photo's squares, or in the part of `size`: (h, w) uint8, 255 on the subject."""
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            mask = ImageOps.exif_transpose(image)
            found = mask.size
            if found == photo.upright_size:
                mask = _to_grey(mask)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise PhotoError(
            f"has a mask {name} that is not a PNG ({error}); save it again as PNG", "mask-format"
        ) from error
    if found != photo.upright_size:
        (width, height), (wanted_width, wanted_height) = found, photo.upright_size
        raise PhotoError(
            f"has a mask {name} of {width}x{height} pixels, and {wanted_width}x{wanted_height} upright pixels of its "
            "own; make them equal",
            "mask-size",
        )
    if not mask.getextrema()[1]:
        raise PhotoError(f"has an empty mask {name}; paint the subject white on black", "mask-empty")
    side = len(photo.pixels)
    boxes = [central_box(*photo.upright_size, size)] if size else squares_along(*photo.upright_size, crops)
    masks = tuple(np.array(mask.resize(size or (side, side), Image.Resampling.BOX, box=box)) for box in boxes)
    if not any(square.any() for square in masks):
        where = "its bucket" if size else "the central square" if crops == 1 else f"all {crops} squares"
        raise PhotoError(
            f"has a mask {name} that is empty in {where}; crop the photo, or raise data.crops", "mask-empty"
        )
    return masks


def _to_grey(mask: Image.Image) -> Image.Image:
    """To 8 bits of grey, with transparency laid on black."""
    if mask.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(mask), 0, 65535) // 257).astype(np.uint8))
    if mask.has_transparency_data:
        mask = mask.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask).convert("L")
    return mask.convert("L")
