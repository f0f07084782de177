"""What may stand beside `dog.jpg`: its caption, `dog.txt`, and the mask of the subject, `dog.mask.png`."""

import hashlib
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lookforward.data.photo import Photo, PhotoError, squares_along

MASK_SUFFIX = ".mask.png"


def with_sidecars(photo: Photo, *, captions: bool, crops: int) -> Photo:
    """The photo with its caption, if `captions` are wanted, and its mask, where there are some.

    Raises `PhotoError` for a caption that is empty or no text, and for a mask that does not fit the photo.
    """
    sidecars: list[str] = []
    caption_path, mask_path = photo.path.with_suffix(".txt"), photo.path.with_suffix(MASK_SUFFIX)
    if captions and caption_path.is_file():
        data = _read(caption_path)
        photo = replace(photo, caption=_caption(data, caption_path.name))
        sidecars.append(f"caption {hashlib.sha256(data).hexdigest()}")
    if mask_path.is_file():
        photo = replace(photo, masks=_masks(photo, mask_path, crops))
        sidecars.append(f"mask {hashlib.sha256(_read(mask_path)).hexdigest()}")
    return replace(photo, sidecars=tuple(sidecars))


def is_mask(path: Path) -> bool:
    """Whether a file is the mask of a photo, and no photo itself."""
    return path.name.lower().endswith(MASK_SUFFIX)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"has a file {path.name} that cannot be read ({error.strerror}); check permissions") from error


def _caption(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")  # editors on Windows begin the file with a mark
    except UnicodeDecodeError as error:
        raise PhotoError(f"has a caption {name} that is not UTF-8 text; save it as UTF-8") from error
    words = " ".join(text.split())
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in words):
        raise PhotoError(f"has a caption {name} that holds control characters; save it as UTF-8 text")
    if not words:
        raise PhotoError(f"has an empty caption {name}; write one, delete the file, or set captions=false")
    if "{" in (rest := words.replace("{}", "")) or "}" in rest:
        raise PhotoError(f"has a caption {name} with a brace of its own; only {{}} is filled in, with the subject")
    return words


def _masks(photo: Photo, path: Path, crops: int) -> tuple[NDArray[np.uint8], ...]:
    """The mask in each of the photo's squares, (resolution, resolution) uint8, 255 where the subject is."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            mask = ImageOps.exif_transpose(image)
            size = "x".join(map(str, mask.size)), "x".join(map(str, photo.shown))
            if mask.size == photo.shown:
                mask = _grey(mask)
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise PhotoError(f"has a mask {path.name} that is no PNG picture ({error}); save it again as PNG") from error
    if size[0] != size[1]:
        raise PhotoError(f"has a mask {path.name} of {size[0]} pixels, but is shown as {size[1]}; make them equal")
    if not mask.getextrema()[1]:
        raise PhotoError(f"has an empty mask {path.name}; paint the subject white on black")
    side = len(photo.pixels)
    masks = tuple(
        np.array(mask.resize((side, side), Image.Resampling.BOX, box=box)) for box in squares_along(*photo.shown, crops)
    )
    if not any(square.any() for square in masks):
        where = "the central square" if crops == 1 else f"all {crops} squares"
        raise PhotoError(f"has a mask {path.name} with nothing in {where}; crop the photo, or set crops higher")
    return masks


def _grey(mask: Image.Image) -> Image.Image:
    """To 8 bits of grey, transparency laid on black."""
    if mask.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(mask), 0, 65535) // 257).astype(np.uint8))
    if mask.has_transparency_data:
        mask = mask.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask).convert("L")
    return mask.convert("L")
