"""The mask of a photo: `dog.mask.png` beside `dog.jpg`, white on the subject and black elsewhere."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.data.boxes import central_box, squares_along
from lookforward.data.captions import match_names, read_beside
from lookforward.data.photo import Photo, PhotoError, Pixels

MASK_SUFFIX = ".mask.png"
# As other programs name masks; the name that is left must be that of a photo
_MASK_NAMES = (
    re.compile(r"(.+?)[-_. ]*\(?(?:mask|masks|masklabel|mask_?label|segmentation|segmask|matte)\)?", re.IGNORECASE),
    re.compile(r"mask[-_. ]+(.+)", re.IGNORECASE),
)


def is_mask(path: Path) -> bool:
    """Whether a file is the mask of a photo, and not a photo itself."""
    return path.name.lower().endswith(MASK_SUFFIX)


def find_masks(photos: Sequence[Path], entries: Sequence[Path]) -> dict[Path, Path]:
    """The mask of each photo of one folder that has one, whatever the case of its name. entries: the folder's files."""
    files = [path for path in entries if is_mask(path) and not path.name.startswith(".")]
    found = {photo: some[0] for photo in photos if (some := match_names(photo, files, (MASK_SUFFIX,)))}
    free = [path for path in files if path not in found.values()]
    for photo in photos:
        if photo not in found and (some := match_names(photo, free, (MASK_SUFFIX,), str.casefold)):
            found[photo] = some[0]
    return found


def check_mask_name(path: Path, photos: Sequence[Path]) -> None:
    """Raise `PhotoError` if a photo's name is that of another photo's mask, as other programs call it."""
    stems = {photo.stem.casefold(): photo for photo in photos if photo != path}
    for pattern in _MASK_NAMES:
        named = pattern.fullmatch(path.stem)
        owner = stems.get(named[1].casefold()) if named else None
        if owner:
            raise PhotoError(
                f"is the mask of {owner.name} by its name; call it {owner.stem}{MASK_SUFFIX} and save it as PNG, or "
                "rename it if it is a photo",
                "mask-name",
            )


def mask_of_no_photo(path: Path) -> str:
    """Why a mask's file is not used."""
    return f"{path.name} (belongs to no photo: the mask of dog.jpg is called dog{MASK_SUFFIX})"


def with_mask(
    photo: Photo, path: Path | None, crops: int, alpha: bool = False, size: tuple[int, int] | None = None
) -> Photo:
    """The photo with its mask, if there is one, cut into the photo's squares.

    path: the mask's file. crops: as `load_photo` had it. alpha: without a file, the photo's transparency is its mask.
    size: (width, height) of the only part, as `cut_photo` cuts it, instead of squares.

    Raises:
        PhotoError: the mask cannot be read or does not fit the photo.
    """
    if path is None:
        if alpha and photo.alphas and not size and not any(square.any() for square in photo.alphas):
            raise PhotoError("is transparent all over where it is used; crop it, or remove it", "mask-empty")
        return replace(photo, masks=photo.alphas) if alpha else photo
    data = read_beside(path)
    masks, digest = _cut(data, photo, path.name, crops, size), hashlib.sha256(data).hexdigest()
    return replace(photo, masks=masks, mask_digest=digest, mask_file=path)


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
