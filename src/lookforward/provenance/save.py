"""The one place that writes images: each says in its metadata where it comes from."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lookforward.provenance.origin import Origin, Source, bare_xmp

_SOFTWARE, _EXIF_IFD, _USER_COMMENT = 0x0131, 0x8769, 0x9286  # of EXIF
_WITH_XMP = ("JPEG", "WEBP")


class GeneratedImage(Image.Image):
    """A Pillow image whose `save` writes its origin too, into PNG, JPEG and WebP.

    What Pillow makes of it, such as a smaller copy, is a plain image: it keeps the watermark only.
    """

    origin: Origin | None = None  # of a copy that Python makes of it, such as copy.deepcopy's
    text: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, pixels: np.ndarray, origin: Origin, text: Mapping[str, str] | None = None) -> "GeneratedImage":
        """An image (h, w, 3) uint8. text: for the text chunks of a PNG file."""
        plain, made = Image.fromarray(np.ascontiguousarray(pixels)), cls()
        made.im, made._mode, made._size = plain.im, plain.mode, plain.size
        made.origin, made.text = origin, dict(text or {})
        return made

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As Pillow's, with the metadata; `pnginfo`, `xmp` and `exif` that are given go over ours.

        Raises:
            OSError, ValueError: as Pillow.
        """
        ours = _metadata(_format(fp, format), self.origin.xmp(), self.text) if self.origin else {}
        super().save(fp, format, **{**ours, **params})


def save_image(
    image: Image.Image | np.ndarray,
    file: Path | IO[bytes],
    origin: Origin | Source | None,
    *,
    format: str | None = None,
    text: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Write an image with its metadata; the same image and origin give the same bytes.

    image: of Pillow, or (h, w, 3) uint8. origin: "generated" and its like say no more than that; None is for photos,
    of which nothing is said. format: of Pillow, by the file's name if None. text: further text chunks of a PNG file.
    options: of Pillow's writer.

    Raises:
        OSError: the disk is full or cannot be written. ValueError: Pillow has no such format.
    """
    plain = Image.fromarray(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    kind = _format(file, format)
    metadata = {}
    if origin is not None:
        packet = origin.xmp() if isinstance(origin, Origin) else bare_xmp(origin)
        metadata = _metadata(kind, packet, text or {})
    Image.Image.save(plain, file, kind, **metadata, **options)


def _format(file: Any, given: str | None) -> str:
    if given:
        return given.upper()
    name = file if isinstance(file, str | Path) else getattr(file, "name", "")
    suffix = Path(name).suffix.lower() if isinstance(name, str | Path) else ""
    Image.init()
    if suffix not in Image.EXTENSION:
        raise ValueError(f"unknown file extension: {suffix}")
    return Image.EXTENSION[suffix]


def _metadata(kind: str, packet: str, text: Mapping[str, str]) -> dict[str, Any]:
    """The options of Pillow's writer that hold the metadata, as far as the format has a place for them."""
    if kind == "PNG":
        chunks = PngInfo()
        for name, value in text.items():
            chunks.add_text(name, value)
        chunks.add_itxt("XML:com.adobe.xmp", packet)
        return {"pnginfo": chunks}
    if kind not in _WITH_XMP:
        return {}
    exif = Image.Exif()
    if text:
        exif[_SOFTWARE] = "lookforward"
        comment = text.get("parameters", "")  # where viewers of generated images look for it in JPEG
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    return {"xmp": packet.encode(), **({"exif": exif} if text else {})}
