"""Image and text encoders, and the loading of models with errors that say what to do."""

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
from lookforward.models.pretrained import (
    check_vocabulary,
    explain_load_error,
    load_weights,
    local_folder,
    no_progress_bars,
)

__all__ = [
    "ClipEncoders",
    "Encoders",
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
