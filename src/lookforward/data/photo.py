"""Read one photo: from its file to upright, square RGB pixels, or the reason why it cannot be used."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lookforward.data.boxes import Cut, central_box, central_square, cut_to, squares_along
from lookforward.data.colours import PhotoError, read_ycbcr, resizable, to_eight_bits, to_srgb
from lookforward.data.folder import CONVERT_SUFFIXES, FORMATS
from lookforward.files import digest_file

MAX_MEGAPIXELS = 100
MIN_SIDE = 32  # pixels; a smaller photo has no detail to learn

_CONVERT = "convert it to JPEG or PNG, or remove it"
_REPLACE = "copy the photo again, or remove it"

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height

T = TypeVar("T")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Photo:
    """One reference photo.

    pixels: the central square, (resolution, resolution, 3) uint8, upright, in sRGB, read-only. digest: SHA-256 of the
    file in hexadecimal. size, upright_size: (width, height) in pixels of the file and of the upright image.
    squares: what is trained on, as `pixels`: the central square, or several along the long side, from the left or upper
    end; large: the same squares with more pixels, if they were asked for.
    cuts: where each square lies in the photo.
    alphas: the transparency of each square, as a mask; empty if all is opaque.
    caption: the text beside the photo; more_captions: further ones, of which each draw takes one.
    masks: one (resolution, resolution) uint8 for each square, 255 on the subject; mask_file: what they were cut from.
    place: where it was taken, "on the beach", where known.
    """

    path: Path
    pixels: Pixels
    digest: str
    size: tuple[int, int]
    upright_size: tuple[int, int]
    squares: tuple[Pixels, ...]
    large: tuple[Pixels, ...] = ()
    alphas: tuple[Pixels, ...] = ()
    caption: str = ""
    more_captions: tuple[str, ...] = ()
    caption_digest: str = ""
    masks: tuple[Pixels, ...] = ()
    mask_digest: str = ""
    mask_file: Path | None = None
    place: str = ""
    cuts: tuple[Cut, ...] = ()

    @property
    def digests(self) -> str:
        """The digest of the file, followed by those of its caption and its mask."""
        beside = {"caption": self.caption_digest, "mask": self.mask_digest}
        return " ".join((self.digest, *(f"{name} {digest}" for name, digest in beside.items() if digest)))


def load_photo(path: Path, resolution: int, crops: int = 1, large: int = 0) -> Photo:
    """Read a photo, turn it upright, crop it to squares and resize these to `resolution` pixels.

    crops: number of squares along the long side to train on; 1 is the central one. large: side in pixels of larger
    copies of these squares; 0 makes none. Reads neither caption nor mask.

    Raises:
        PhotoError: the photo cannot be used.
    """
    if os.path.isdir(path):
        raise PhotoError("is a folder, not a photo; give one folder alone, or rename or move this one", "photo-folder")
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would hang
        raise PhotoError("is not a regular file; copy the photo itself here", "photo-unreadable")
    if path.suffix.lower() in CONVERT_SUFFIXES:
        name = path.suffix[1:].upper()
        raise PhotoError(f"is a {name} photo, a format that lookforward does not read; {_CONVERT}", "photo-format")
    try:
        digest = digest_file(path)
        with path.open("rb") as file:
            header = file.read(12)
        if not header:
            raise PhotoError(f"is empty (0 bytes); {_REPLACE}", "photo-empty")
        if header[4:8] == b"ftyp":  # phones share HEIC photos under the name .jpg
            raise PhotoError(f"is a HEIC or AVIF photo or a video, despite its name; {_CONVERT}", "photo-format")
        return _decode(path, lambda image: _read_pixels(image, path, digest, resolution, crops, large))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise PhotoError(f"cannot be read ({reason or error}); check its permissions", "photo-unreadable") from error


def cut_photo(path: Path, size: tuple[int, int]) -> tuple[Pixels, Pixels | None]:
    """A photo resized to cover (width, height) upright pixels, and cut to them centrally, and its transparency.

    (height, width, 3) and (height, width) uint8; None if all is opaque.

    Raises:
        PhotoError: the photo cannot be used any more, after `load_photo` read it.
    """
    return _decode(path, lambda image: _read_box(image, size))


def _decode(path: Path, read: Callable[[Image.Image], T]) -> T:
    """What `read` makes of the opened photo; turns every failure of Pillow into a `PhotoError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in metadata that do not touch the pixels
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_before_decoding(image)
                read_ycbcr(image)
                return read(image)
        except (PhotoError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise _too_large("") from error
        except UnidentifiedImageError as error:
            raise PhotoError(f"is not an image, despite its name; {_CONVERT}", "photo-format") from error
        except Exception as error:  # Pillow raises nearly anything on damaged files, SyntaxError included
            raise PhotoError(f"is damaged or incomplete ({error}); {_REPLACE}", "photo-damaged") from error


def _check_before_decoding(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise _too_large(f"{width}x{height} pixels, ")
    if min(width, height) < MIN_SIDE:
        raise PhotoError(
            f"is {width}x{height} pixels, under {MIN_SIDE} on a side; use a larger photo", "photo-too-small"
        )
    # MPO is an ordinary phone JPEG that carries a depth or gain map as a second image
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise PhotoError(f"is animated or has {frames} pages; export one frame as PNG", "photo-animated")


def _too_large(size: str) -> PhotoError:
    return PhotoError(f"is {size}larger than {MAX_MEGAPIXELS} megapixels; shrink or remove it", "photo-too-large")


def _read_pixels(image: Image.Image, path: Path, digest: str, resolution: int, crops: int, large: int) -> Photo:
    whole = image.size
    # Lets the JPEG decoder shrink by 2, 4 or 8 as it reads; three times the target leaves Lanczos its work
    side = 3 * max(resolution, large)
    image.draft(None, (side, side))
    image.load()
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    profile = image.info.get("icc_profile")
    source = resizable(image)

    def cut(box: Sequence[float], side: int, alpha: bool = False) -> Pixels:
        return _cut(source, box, (side, side), orientation, profile, alpha)

    boxes: list[Sequence[float]] = [central_square(*image.size)]
    pixels = cut(boxes[0], resolution)
    squares = (pixels,)
    if crops > 1:
        # Squares of the file's own size, so that a mask has as many, however far the decoder shrank the image
        boxes = [
            tuple(min(at * image.size[i % 2] / whole[i % 2], image.size[i % 2]) for i, at in enumerate(box))
            for box in squares_along(*whole, crops)
        ]
        if _reverses(orientation, along_width=whole[0] > whole[1]):
            boxes.reverse()
        squares = tuple(cut(box, resolution) for box in boxes)
    upright_size = (whole[1], whole[0]) if orientation in _SIDEWAYS else whole
    enlarged = tuple(cut(box, large) for box in boxes) if large else ()
    alphas = tuple(cut(box, resolution, alpha=True) for box in boxes) if _is_transparent(source) else ()
    cuts = _cuts(upright_size, resolution, crops)
    return Photo(path, pixels, digest, whole, upright_size, squares, enlarged, alphas, cuts=cuts)


def _cuts(size: tuple[int, int], resolution: int, crops: int) -> tuple[Cut, ...]:
    """Where the squares along an upright photo lie in it. size: (width, height)."""
    part, room = (resolution, resolution), abs(size[0] - size[1])
    starts = [max(box[:2]) for box in squares_along(*size, crops)]
    places = [start / room for start in starts] if len(starts) > 1 else [0.5]
    return tuple(cut_to(size, part, place) for place in places)


def _read_box(image: Image.Image, size: tuple[int, int]) -> tuple[Pixels, Pixels | None]:
    image.draft(None, (3 * max(size), 3 * max(size)))
    image.load()
    orientation, profile = image.getexif().get(_EXIF_ORIENTATION, 1), image.info.get("icc_profile")
    source, own = resizable(image), (size[1], size[0]) if orientation in _SIDEWAYS else size
    box = central_box(*image.size, own)
    alpha = _cut(source, box, own, orientation, profile, alpha=True) if _is_transparent(source) else None
    return _cut(source, box, own, orientation, profile), alpha


def _cut(
    source: Image.Image,
    box: Sequence[float],
    size: tuple[int, int],
    orientation: int,
    profile: Any,
    alpha: bool = False,
) -> Pixels:
    """A part of an image, or of its transparency, resized to `size` and turned upright."""
    # Cropping within the resize, and converting afterwards, spares ordinary photos a full-size copy
    part = source.resize(size, Image.Resampling.LANCZOS, box=cast(tuple[float, float, float, float], box))
    part = part.getchannel("A") if alpha else to_srgb(to_eight_bits(part), profile)
    if orientation in _UPRIGHT:
        part = part.transpose(_UPRIGHT[orientation])
    pixels = np.array(part, dtype=np.uint8)
    pixels.flags.writeable = False
    return pixels


def _is_transparent(source: Image.Image) -> bool:
    return source.mode == "RGBA" and bool((np.asarray(source.getchannel("A")) < 255).any())


def _reverses(orientation: int, *, along_width: bool) -> bool:
    """Whether the first pixel along the file's long side is the last one in the upright image."""
    if orientation not in _UPRIGHT:
        return False
    strip = Image.fromarray(np.array([[0, 255]] if along_width else [[0], [255]], dtype=np.uint8))
    return int(np.asarray(strip.transpose(_UPRIGHT[orientation])).ravel()[0]) == 255
