"""Image and text encoders."""

from lookforward.models.encoders.embedding import load_embedding
from lookforward.models.encoders.encoders import (
    ClipEncoders,
    ImageEncoder,
    load_clip,
    load_dino,
    load_dinov2,
)
from lookforward.models.encoders.loaded import Encoders
from lookforward.models.encoders.preprocessing import Preprocessing, to_pixels, to_unit

__all__ = [
    "ClipEncoders",
    "Encoders",
    "ImageEncoder",
    "Preprocessing",
    "load_clip",
    "load_dino",
    "load_dinov2",
    "load_embedding",
    "to_pixels",
    "to_unit",
]
