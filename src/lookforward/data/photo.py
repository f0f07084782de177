"""One photo, from its file to upright, square RGB pixels, or the reason why it cannot be used."""

import hashlib
import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Photos, but in formats Pillow cannot be relied on to read: skipping them silently would lose references.
CONVERT_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw"})
# Named, because Pillow left to itself also runs Ghostscript on an EPS file that is called .jpg.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

MAX_MEGAPIXELS = 100
MIN_SIDE = 32  # pixels; below this there is no detail to learn

_REPLACE = "copy the photo again, or take it out"
_CONVERT = "convert it to JPEG or PNG, or take it out"
_EXPORT = "export it as an 8-bit RGB PNG or JPEG"
_TOO_LARGE = f"larger than {MAX_MEGAPIXELS} megapixels; shrink it, or take it out"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class Photo:
    """One reference photo.

    `pixels`, the central square, is read-only uint8 RGB of shape (resolution, resolution, 3), 0 to 255, upright and
    in sRGB; `digest` is the SHA-256 of the file in hexadecimal; `size` is the file's own (width, height) in pixels,
    `shown` that of the upright picture.
    `squares` are what is trained on: the central square, or several along the long side, from its left or upper end;
    `large` are the same ones, larger, where they were asked for.
    `caption` is the text beside it; `masks` has one (resolution, resolution) uint8 for each square, 255 where the
    subject is; `sidecars` are the digests of both files. `place` is where it was taken, "on the beach", where known.
    """

    path: Path
    pixels: NDArray[np.uint8]
    digest: str
    size: tuple[int, int]
    shown: tuple[int, int]
    squares: tuple[NDArray[np.uint8], ...]
    large: tuple[NDArray[np.uint8], ...] = ()
    caption: str = ""
    masks: tuple[NDArray[np.uint8], ...] = ()
    sidecars: tuple[str, ...] = ()
    place: str = ""

    @property
    def origin(self) -> str:
        """What it was read from: the digest, followed by those of caption and mask where there are some."""
        return " ".join((self.digest, *self.sidecars))


_Squares = tuple[NDArray[np.uint8], ...]
_Decoded = tuple[NDArray[np.uint8], _Squares, _Squares, bool]  # central, all, all larger, whether width is height now
Box = tuple[int, int, int, int]  # left, top, right, bottom


class PhotoError(Exception):
    """Why one photo cannot be used: words to follow its path, so that all bad photos fit in one message."""


def load_photo(path: Path, resolution: int, crops: int = 1, large: int = 0) -> Photo:
    """Read a photo, turn it upright, crop it to the central square and resize it to `resolution` pixels.

    crops: how many squares along the long side are trained on; 1 is the central one. large: side in pixels of larger
    copies of these squares; 0 makes none. Caption and mask are not looked at; `sidecars.py` does.

    Raises `PhotoError` where the photo cannot be used.
    """
    if os.path.isdir(path):
        raise PhotoError("is a folder, not a photo; give one folder alone, or rename or move this one")
    if os.path.exists(path) and not os.path.isfile(path):
        raise PhotoError("is not a regular file; copy the photo itself here")  # opening a pipe would hang
    if path.suffix.lower() in CONVERT_SUFFIXES:
        raise PhotoError(f"is a {path.suffix[1:].upper()} photo, which is not read; {_CONVERT}")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                raise PhotoError(f"is empty (0 bytes); {_REPLACE}")
            file.seek(0)
            size, decoded = _decode(file, resolution, crops, large)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise PhotoError(f"cannot be read ({reason or error}); check its name and permissions") from error
    pixels, squares, larger, turned = decoded
    shown = (size[1], size[0]) if turned else size
    return Photo(path, pixels, digest, size, shown, squares, larger)


def central_square(width: int, height: int) -> Box:
    """The largest central square as (left, top, right, bottom) in pixels, centred to within half a pixel."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def squares_along(width: int, height: int, count: int) -> list[Box]:
    """The largest squares, spread evenly along the long side from end to end; fewer than `count` if some coincide.

    One is the central square.
    """
    if count == 1:
        return [central_square(width, height)]
    side, room = min(width, height), abs(width - height)
    starts = dict.fromkeys(round(i * room / (count - 1)) for i in range(count))
    boxes = [(start, 0) if width > height else (0, start) for start in starts]
    return [(left, top, left + side, top + side) for left, top in boxes]


def _decode(file: BinaryIO, resolution: int, crops: int, large: int) -> tuple[tuple[int, int], _Decoded]:
    """The picture's own (width, height), and its squares; every failure to decode is a `PhotoError`."""
    header = file.read(12)
    file.seek(0)
    if header[4:8] == b"ftyp":  # phones share HEIC photos under the name .jpg
        raise PhotoError(f"is a HEIC or AVIF photo (or a video), whatever its name says; {_CONVERT}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in metadata that do not touch the pixels
        try:
            with Image.open(file, formats=_FORMATS) as image:
                _check_before_decoding(image)
                return image.size, _square_pixels(image, resolution, crops, large)
        except (PhotoError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise PhotoError(f"is {_TOO_LARGE}") from error
        except UnidentifiedImageError as error:
            raise PhotoError(f"is not an image, whatever its name says; {_CONVERT}") from error
        except Exception as error:  # on damaged files Pillow raises nearly anything, SyntaxError included
            raise PhotoError(f"is damaged or incomplete ({error}); {_REPLACE}") from error


def _check_before_decoding(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise PhotoError(f"is {width}x{height} pixels, {_TOO_LARGE}")
    if min(width, height) < MIN_SIDE:
        raise PhotoError(f"is {width}x{height} pixels, under {MIN_SIDE} on a side; use a larger photo")
    # MPO is an ordinary phone JPEG that carries a depth or gain map as a second picture.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise PhotoError(f"is animated or has several pages ({frames} frames); export one frame as PNG")


def _square_pixels(image: Image.Image, resolution: int, crops: int, large: int) -> _Decoded:
    whole = image.size
    # Lets the JPEG decoder shrink by 2, 4 or 8 as it reads; three times the target leaves Lanczos its work.
    side = 3 * max(resolution, large)
    image.draft(None, (side, side))
    image.load()
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    profile = image.info.get("icc_profile")
    source = _resizable(image)

    def cut(box: tuple[float, ...], side: int) -> NDArray[np.uint8]:
        # Cropping within the resize, and converting afterwards, spares ordinary photos a full-size copy.
        square = source.resize((side, side), Image.Resampling.LANCZOS, box=cast(tuple[float, float, float, float], box))
        square = _to_srgb(_to_eight_bits(square), profile)
        if orientation in _UPRIGHT:
            square = square.transpose(_UPRIGHT[orientation])
        pixels = np.array(square, dtype=np.uint8)  # (side, side, 3)
        pixels.flags.writeable = False
        return pixels

    central = central_square(*image.size)
    boxes: list[tuple[float, ...]] = [central]
    if crops > 1:
        # Of the whole picture, so that a mask has as many, whatever the decoder shrank
        boxes = [
            tuple(min(at * image.size[i % 2] / whole[i % 2], image.size[i % 2]) for i, at in enumerate(box))
            for box in squares_along(*whole, crops)
        ]
        if _backwards(orientation, along_width=whole[0] > whole[1]):
            boxes.reverse()
    pixels = cut(central, resolution)
    squares = (pixels,) if crops == 1 else tuple(cut(box, resolution) for box in boxes)
    return pixels, squares, tuple(cut(box, large) for box in boxes) if large else (), orientation in (5, 6, 7, 8)


def _backwards(orientation: int, *, along_width: bool) -> bool:
    """Whether what is first along the file's long side is last in the upright picture."""
    if orientation not in _UPRIGHT:
        return False
    strip = Image.fromarray(np.array([[0, 255]] if along_width else [[0], [255]], dtype=np.uint8))
    return int(np.asarray(strip.transpose(_UPRIGHT[orientation])).ravel()[0]) == 255


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode whose values may be averaged: palette indices may not, nor may single bits."""
    if image.mode.startswith("I"):
        sixteen = image.convert("I")
        low, high = cast(tuple[float, float], sixteen.getextrema())  # one band, so not a tuple of tuples
        if low < 0 or high > 65535:
            raise PhotoError(f"holds 32-bit pixels; {_EXPORT}")
        return sixteen
    if image.mode == "F":
        raise PhotoError(f"holds floating-point pixels; {_EXPORT}")
    if image.has_transparency_data and image.mode != "RGBA":
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in {"1", "P"} else image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16 bits scaled to 8 (Pillow's own conversion clips them to white), and transparency laid on white."""
    if image.mode == "I":
        values = np.clip(np.asarray(image), 0, 65535) / 257  # Lanczos may overshoot; 65535 = 255 * 257
        return Image.fromarray(np.round(values).astype(np.uint8))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """To RGB by the embedded colour profile: phones write Display P3, and CMYK has no meaning without one."""
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image, BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, ImportError):  # a damaged or mismatched profile, or Pillow without lcms
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")
