"""Any vision model of transformers as an encoder of images: one trained on faces, say."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel

from lookforward.models.encoders.encoders import ImageEncoder
from lookforward.models.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, read_preprocessing
from lookforward.models.weight_files import explain_load_error, explain_missing, load_what_is_there, local_folder

_CLASS_TOKENS = ("cls_token", "class_embedding")  # as the models of transformers name their parameter


def load_embedding(source: str | Path, device: torch.device | str = "cpu") -> ImageEncoder:
    """The pooled output of a vision model; without one its class token; without that the mean of its tokens.

    Of a model of images and texts (CLIP, SigLIP) the image tower, projected. `source`: a folder in transformers'
    format, or a hub id such as "google/vit-base-patch16-224-in21k"; its preprocessor_config.json is followed.
    Raises LookforwardError where it cannot be loaded, or does not embed images.
    """
    folder = local_folder(source)
    model, missing = load_what_is_there(AutoModel, folder, trust_remote_code=False)
    # Published ViTs often come without the pooler that their class has: a random one says nothing
    pooled = not any(name.startswith("pooler.") for name in missing)
    missing = [name for name in missing if not name.startswith("pooler.")]
    if missing:
        raise explain_missing(folder, model, missing)
    call = getattr(model, "get_image_features", model)
    accepted = inspect.signature(model.forward if call is model else call).parameters
    if "pixel_values" not in accepted:
        problem = f"a {type(model).__name__} does not look at images"
        raise explain_load_error(folder, ValueError(problem))
    size = _image_size(model.config)
    preprocessing = read_preprocessing(folder, size or 224, IMAGENET_MEAN, IMAGENET_STD)
    options: dict[str, Any] = {}
    if "interpolate_pos_encoding" in accepted and preprocessing.crop != size:
        options["interpolate_pos_encoding"] = True
    class_token = any(name.endswith(_CLASS_TOKENS) for name, _ in model.named_parameters())

    def features(pixels: Tensor) -> Tensor:
        output = call(pixel_values=pixels, **options)
        if pooled and getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)  # (b, d), or (b, d, 1, 1) of convolutions
        tokens = output.last_hidden_state
        if tokens.ndim == 4:
            return tokens.mean(dim=(2, 3))  # (b, d, h, w) of convolutions
        return tokens[:, 0] if class_token else tokens.mean(dim=1)  # (b, n, d)

    return ImageEncoder(model, features, preprocessing).to(device)


def _image_size(config: Any) -> int | None:
    """The side that a model has positions for; None where it does not say."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    return int(size[0]) if isinstance(size, list | tuple) else size
