"""Where the images of a run come from, for their metadata, and their watermark."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lookforward.config.settings import Settings
from lookforward.exports.card import base_name
from lookforward.provenance.origin import Origin
from lookforward.provenance.watermark import MISSING, SMALLEST, embed, is_available


def run_origin(kind: str, settings: Settings, *, model_hash: str = "", **about: Any) -> Origin:
    """The origin of images that a run draws: the same in whatever folder. about: further fields of `Origin`."""
    sampler = {"steps": settings.evaluation.sampler_steps, "guidance": settings.evaluation.guidance}
    chosen = {"adapter": settings.adapter.name, "size": settings.data.resolution, **sampler, **about.pop("more", {})}
    return Origin(kind, model=base_name(settings.model.name), model_hash=model_hash, settings=chosen, **about)


def marked(images: Sequence[np.ndarray], wanted: bool) -> tuple[list[np.ndarray], bool]:
    """Images (h, w, 3) uint8 with the watermark, if it is wanted and they are large enough; and whether it is there."""
    if not wanted or not needs_watermark(images[0].shape[0]) or not is_available():
        return list(images), False
    return [embed(image) for image in images], True


def needs_watermark(side: int) -> bool:
    """Whether images of so many pixels a side are large enough for it."""
    return side >= SMALLEST


def watermark_notes(side: int, wanted: bool = True) -> tuple[str, ...]:
    """A note for the user if images of so many pixels a side would carry the watermark, and its package is missing."""
    return (MISSING,) if wanted and needs_watermark(side) and not is_available() else ()
