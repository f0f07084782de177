"""The pixels of an opened photo, whatever its mode, as 8-bit sRGB."""

from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from lookforward.errors import LookforwardError

_PHOTOMETRIC, _YCBCR = 262, 6  # a tag of TIFF, and one of its values
_EXPORT = "export it as an 8-bit RGB PNG or JPEG"


class PhotoError(LookforwardError):
    """Why one photo cannot be used. The message continues a sentence that begins with the photo's path."""


def resizable(image: Image.Image) -> Image.Image:
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


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8, where Pillow's own conversion clips to white, and lay transparency on white."""
    if image.mode == "I":
        values = np.clip(np.asarray(image), 0, 65535) / 257  # Lanczos may overshoot; 65535 = 255 * 257
        return Image.fromarray(np.round(values).astype(np.uint8))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
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


def read_ycbcr(image: Any) -> None:
    """Read an uncompressed TIFF in YCbCr as what it is: Pillow 12 takes it for four colours and fails; 13 does not."""
    tiles = getattr(image, "tile", ())
    if image.format != "TIFF" or image.mode != "RGB" or image.tag_v2.get(_PHOTOMETRIC) != _YCBCR:
        return
    if tiles and all(tile.codec_name == "raw" and tile.args[0] == "RGBX" for tile in tiles):
        image._mode = "YCbCr"
        image.tile = [tile._replace(args=("YCbCr", *tile.args[1:])) for tile in tiles]
