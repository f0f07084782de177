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

    `pixels` is read-only uint8 RGB of shape (resolution, resolution, 3), 0 to 255, upright and in sRGB;
    `digest` is the SHA-256 of the file in hexadecimal; `size` is the file's own (width, height) in pixels.
    """

    path: Path
    pixels: NDArray[np.uint8]
    digest: str
    size: tuple[int, int]


class PhotoError(Exception):
    """Why one photo cannot be used: words to follow its path, so that all bad photos fit in one message."""


def load_photo(path: Path, resolution: int) -> Photo:
    """Read a photo, turn it upright, crop it to the central square and resize it to `resolution` pixels.

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
            size, pixels = _decode(file, resolution)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise PhotoError(f"cannot be read ({reason or error}); check its name and permissions") from error
    return Photo(path, pixels, digest, size)


def central_square(width: int, height: int) -> tuple[int, int, int, int]:
    """The largest central square as (left, top, right, bottom) in pixels, centred to within half a pixel."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _decode(file: BinaryIO, resolution: int) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """The picture's own (width, height), and its pixels; every failure to decode is a `PhotoError`."""
    header = file.read(12)
    file.seek(0)
    if header[4:8] == b"ftyp":  # phones share HEIC photos under the name .jpg
        raise PhotoError(f"is a HEIC or AVIF photo (or a video), whatever its name says; {_CONVERT}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in metadata that do not touch the pixels
        try:
            with Image.open(file, formats=_FORMATS) as image:
                _check_before_decoding(image)
                return image.size, _square_pixels(image, resolution)
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


def _square_pixels(image: Image.Image, resolution: int) -> NDArray[np.uint8]:
    # Lets the JPEG decoder shrink by 2, 4 or 8 as it reads; three times the target leaves Lanczos its work.
    image.draft(None, (3 * resolution, 3 * resolution))
    image.load()
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    profile = image.info.get("icc_profile")
    # Cropping within the resize, and converting afterwards, spares ordinary photos a full-size copy.
    square = _resizable(image).resize(
        (resolution, resolution), Image.Resampling.LANCZOS, box=central_square(*image.size)
    )
    square = _to_srgb(_to_eight_bits(square), profile)
    if orientation in _UPRIGHT:
        square = square.transpose(_UPRIGHT[orientation])
    pixels = np.array(square, dtype=np.uint8)  # (resolution, resolution, 3)
    pixels.flags.writeable = False
    return pixels


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
