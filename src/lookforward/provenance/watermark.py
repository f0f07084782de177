"""An invisible watermark that says "made with lookforward": RivaGAN's 32 bits, by the package invisible-watermark.

It is there only where the package is installed (`pip install lookforward[watermark]`). docs/provenance.md has its
detection rates. RivaGAN: Zhang et al., 2019, "Robust Invisible Video Watermarking with Attention".
"""

import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALLEST = 256  # pixels a side: the network cannot hide 32 bits in less
VIEWS = 160, 640  # pixels of the smaller side at which the watermark is looked for: from, to below
ENOUGH = 26  # bits of 32 that must be right. docs/provenance.md has the rates at this threshold
MISSING = (
    "Images carry no invisible watermark, since its package is not installed: pip install lookforward[watermark]. "
    "Their metadata say that they are generated. --no-watermark, in train --evaluation.no-watermark, silences this."
)
METHOD = "rivaGan"  # of the package's three; docs/provenance.md compares them
_BITS = 32
_MESSAGE = np.unpackbits(np.frombuffer(hashlib.sha256(b"lookforward").digest()[: _BITS // 8], np.uint8))

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Detection:
    """What was read from an image. bits: of 32, how many are those of the watermark, at the best of several scales."""

    bits: int

    @property
    def found(self) -> bool:
        """Whether that is so many that hardly an image without the watermark has them."""
        return self.bits >= ENOUGH


def is_available() -> bool:
    """Whether the package is installed and can be imported."""
    return _library() is not None


def embed(pixels: Pixels, method: str = METHOD) -> Pixels:
    """The image with the watermark: (h, w, 3) uint8, as it was given where a side is under 256 pixels.

    What the network changes of a copy with 256 to 511 pixels on the smaller side is enlarged and added to a large
    image: it survives more than what the network changes of the large one, and costs less. The image is as it was where
    the package is missing, too; `is_available` says so. method: of the package.
    """
    library = _library()
    if library is None or min(pixels.shape[:2]) < SMALLEST:
        return pixels
    small = pixels
    while min(small.shape[:2]) >= 2 * SMALLEST:
        small = _scaled(small, 0.5)
    encoder = library.WatermarkEncoder()
    encoder.set_watermark("bits", _MESSAGE.tolist())
    found = encoder.encode(_reversed(small), method)[..., ::-1]
    if small is pixels:
        return np.ascontiguousarray(found)
    changes = [_enlarged(change, pixels.shape[:2]) for change in np.moveaxis(found.astype(np.float32) - small, 2, 0)]
    return np.clip(np.rint(pixels + np.stack(changes, axis=2)), 0, 255).astype(np.uint8)


def detect(pixels: Pixels, method: str = METHOD) -> Detection | None:
    """Look for the watermark in an image, (h, w, 3) uint8 of any size; None where the package is missing.

    It is looked for at several scales, since the network finds it only near the size that it was drawn in.
    """
    library = _library()
    if library is None:
        return None
    best = 0
    for view in _views(pixels):
        read = library.WatermarkDecoder("bits", _BITS).decode(_reversed(view), method)
        best = max(best, int((np.asarray(read, np.uint8) == _MESSAGE).sum()))
        if best >= ENOUGH:
            break
    return Detection(best)


def _views(pixels: Pixels) -> Iterator[Pixels]:
    """The image at two of its sizes: as it is, halved or doubled until its smaller side is near that of the copy."""
    for factor in (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0):  # the size of the copy first, which is the likelier one
        if VIEWS[0] <= min(pixels.shape[:2]) * factor < VIEWS[1]:
            yield _padded(pixels if factor == 1 else _scaled(pixels, factor))


def _scaled(pixels: Pixels, factor: float) -> Pixels:
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _enlarged(change: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """One channel, (h, w) float32, at another size."""
    return np.asarray(Image.fromarray(change).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _padded(pixels: Pixels) -> Pixels:
    """At least 256 pixels a side, as the package demands: mirrored beyond the edges."""
    missing = [max(0, SMALLEST - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")


def _reversed(pixels: Pixels) -> Pixels:
    """Blue first, as the package reads images."""
    return np.ascontiguousarray(pixels[..., ::-1])


@cache
def _library() -> Any:
    """The package with its networks loaded; None where something of it is missing."""
    try:
        imwatermark: Any = importlib.import_module("imwatermark")
        imwatermark.WatermarkEncoder.loadModel()
    except ImportError:  # also of a shared library that OpenCV or ONNX Runtime needs
        return None
    return imwatermark
