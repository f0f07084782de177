"""Image and text encoders, and the loading of models with errors that say what to do."""

from lookforward.vision.embedding import load_embedding
from lookforward.vision.encoders import (
    ClipEncoders,
    ImageEncoder,
    load_clip,
    load_dino,
    load_dinov2,
)
from lookforward.vision.loading import (
    check_vocabulary,
    explain_load_error,
    load_weights,
    local_folder,
    no_progress_bars,
)
from lookforward.vision.preprocessing import Preprocessing, to_pixels, to_unit

__all__ = [
    "ClipEncoders",
    "ImageEncoder",
    "Preprocessing",
    "check_vocabulary",
    "explain_load_error",
    "load_clip",
    "load_dino",
    "load_dinov2",
    "load_embedding",
    "load_weights",
    "local_folder",
    "no_progress_bars",
    "to_pixels",
    "to_unit",
]
