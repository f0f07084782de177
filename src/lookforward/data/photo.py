"""Read one photo: from its file to upright, square RGB pixels, or the reason why it cannot be used."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from lookforward.data.folder import CONVERT_SUFFIXES, FORMATS
from lookforward.errors import LookforwardError
from lookforward.files import digest_file

MAX_MEGAPIXELS = 100
MIN_SIDE = 32  # pixels; a smaller photo has no detail to learn

_CONVERT = "convert it to JPEG or PNG, or remove it"
_EXPORT = "export it as an 8-bit RGB PNG or JPEG"
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

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom


class PhotoError(LookforwardError):
    """Why one photo cannot be used. The message continues a sentence that begins with the photo's path."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One reference photo.

    pixels: the central square, (resolution, resolution, 3) uint8, upright, in sRGB, read-only. digest: SHA-256 of the
    file in hexadecimal. size, upright_size: (width, height) in pixels of the file and of the upright image.
    squares: what is trained on, as `pixels`: the central square, or several along the long side, from the left or upper
    end; large: the same squares with more pixels, if they were asked for.
    alphas: the transparency of each square, as a mask; empty if all is opaque.
    caption: the text beside the photo. masks: one (resolution, resolution) uint8 for each square, 255 on the subject.
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
    caption_digest: str = ""
    masks: tuple[Pixels, ...] = ()
    mask_digest: str = ""
    place: str = ""

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
        return _decode(path, digest, resolution, crops, large)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise PhotoError(f"cannot be read ({reason or error}); check its permissions", "photo-unreadable") from error


def central_square(width: int, height: int) -> Box:
    """The largest central square as (left, top, right, bottom) in pixels, centred to within half a pixel."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def squares_along(width: int, height: int, count: int) -> list[Box]:
    """The largest squares, spread evenly along the long side from end to end; one is the central square.

    Fewer than `count` if some coincide.
    """
    if count == 1:
        return [central_square(width, height)]
    side, room = min(width, height), abs(width - height)
    starts = dict.fromkeys(round(i * room / (count - 1)) for i in range(count))
    corners = [(start, 0) if width > height else (0, start) for start in starts]
    return [(left, top, left + side, top + side) for left, top in corners]


def _decode(path: Path, digest: str, resolution: int, crops: int, large: int) -> Photo:
    """Turn every failure of Pillow into a `PhotoError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in metadata that do not touch the pixels
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_before_decoding(image)
                return _read_pixels(image, path, digest, resolution, crops, large)
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
    source = _resizable(image)

    def cut(box: Sequence[float], side: int, alpha: bool = False) -> Pixels:
        # Cropping within the resize, and converting afterwards, spares ordinary photos a full-size copy
        square = source.resize((side, side), Image.Resampling.LANCZOS, box=cast(tuple[float, float, float, float], box))
        square = square.getchannel("A") if alpha else _to_srgb(_to_eight_bits(square), profile)
        if orientation in _UPRIGHT:
            square = square.transpose(_UPRIGHT[orientation])
        pixels = np.array(square, dtype=np.uint8)
        pixels.flags.writeable = False
        return pixels

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
    upright_size = (whole[1], whole[0]) if orientation in (5, 6, 7, 8) else whole
    enlarged = tuple(cut(box, large) for box in boxes) if large else ()
    transparent = source.mode == "RGBA" and int(np.asarray(source.getchannel("A")).min()) < 255
    alphas = tuple(cut(box, resolution, alpha=True) for box in boxes) if transparent else ()
    return Photo(path, pixels, digest, whole, upright_size, squares, enlarged, alphas)


def _reverses(orientation: int, *, along_width: bool) -> bool:
    """Whether the first pixel along the file's long side is the last one in the upright image."""
    if orientation not in _UPRIGHT:
        return False
    strip = Image.fromarray(np.array([[0, 255]] if along_width else [[0], [255]], dtype=np.uint8))
    return int(np.asarray(strip.transpose(_UPRIGHT[orientation])).ravel()[0]) == 255


def _resizable(image: Image.Image) -> Image.Image:
    """The image in a mode whose values may be averaged: palette indices may not, nor may single bits."""
    if image.mode.startswith("I"):
        sixteen = image.convert("I")
        low, high = cast(tuple[float, float], sixteen.getextrema())  # one band, so not a tuple of tuples
        if low < 0 or high > 65535:
            raise PhotoError(f"has 32-bit pixels; {_EXPORT}", "photo-depth")
        return sixteen
    if image.mode == "F":
        raise PhotoError(f"has floating-point pixels; {_EXPORT}", "photo-depth")
    if image.has_transparency_data and image.mode != "RGBA":
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in {"1", "P"} else image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8, where Pillow's own conversion clips to white, and lay transparency on white."""
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
