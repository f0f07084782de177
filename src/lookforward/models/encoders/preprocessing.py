"""Preprocess images for an encoder, as its preprocessor_config.json says; arrays to tensors and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.models.weight_files import explain_load_error
from lookforward.records import parse_json, read_bytes, structure

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
OPENAI_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


MOST_SIDE = 8192  # pixels

_Size = int | dict[str, int | None] | None
_Three = Annotated[list[float], Field(min_length=3, max_length=3)]
_Positive = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class _Said:
    """What preprocessor_config.json may say; transformers writes null for what is not used."""

    size: _Size = None
    crop_size: _Size = None
    do_center_crop: bool | None = None
    do_normalize: bool | None = None
    image_mean: _Three | None = None
    image_std: _Positive | None = None
    resample: int | None = None
    image_processor_type: str | None = None
    feature_extractor_type: str | None = None


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side resized to `resize` px, centre `crop` px cut out, then (x - mean) / std.

    Where it must be exact, besides: squash: both sides are resized to `resize`, without regard to the shape; resample:
    the filter, by Pillow's number.
    """

    resize: int
    crop: int
    mean: Triple
    std: Triple
    squash: bool = False
    resample: int = Image.Resampling.BICUBIC


def resize_and_crop(images: Tensor, how: Preprocessing) -> Tensor:
    """As the encoder's authors do: by Pillow, on 8-bit pixels. No gradient flows through it.

    images: (b, 3, h, w) in [0, 1], rounded to 8 bits → (b, 3, crop, crop) in [0, 1], on the CPU.
    """
    height, width = images.shape[-2:]
    shorter = min(height, width)
    size = (how.resize, how.resize)
    if not how.squash:
        size = (int(width * how.resize / shorter), int(height * how.resize / shorter))
    left, top = (size[0] - how.crop) // 2, (size[1] - how.crop) // 2
    box = (left, top, left + how.crop, top + how.crop)
    resized = (Image.fromarray(picture).resize(size, how.resample) for picture in to_pixels(images))
    return to_unit(np.stack([np.asarray(picture.crop(box)) for picture in resized]))


def read_preprocessing(folder: Path, size: int, mean: Triple, std: Triple) -> Preprocessing:
    """From preprocessor_config.json; what it does not say, or all where it is absent, from the arguments.

    Raises LookforwardError where the file is damaged.
    """
    file = folder / "preprocessor_config.json"
    try:
        settings = parse_json(read_bytes(file)) if file.exists() else {}
        structure(settings, _Said, "it")
        given = settings.get("size", size)
        resize = _side(given)
        crop = _side(settings.get("crop_size", resize)) if settings.get("do_center_crop", True) else resize
        mean = tuple(settings.get("image_mean", mean))
        std = tuple(settings.get("image_std", std))
        if not settings.get("do_normalize", True):
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        # transformers' processor for ViT, of either name, squashes and never crops; that of CLIP and DINOv2 crops
        of_vit = str(settings.get("image_processor_type", settings.get("feature_extractor_type", ""))).startswith("ViT")
        squash = "height" in given if isinstance(given, dict) else of_vit
        usual = Image.Resampling.BILINEAR if of_vit else Image.Resampling.BICUBIC
        resample = Image.Resampling(settings.get("resample", usual))
        if not 1 <= min(resize, crop) <= max(resize, crop) <= MOST_SIDE:
            raise ValueError(f"a side of {min(resize, crop)} to {max(resize, crop)} pixels is not in [1, {MOST_SIDE}]")
    except (LookforwardError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        problem = ValueError(f"preprocessor_config.json is damaged ({error})")
        raise explain_load_error(folder, problem) from error
    return Preprocessing(max(resize, crop), crop, mean, std, squash, resample)


def to_unit(pixels: np.ndarray) -> Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div(255)


def to_pixels(images: Tensor) -> np.ndarray:
    """(n, 3, h, w) in [0, 1], clipped where outside → (n, h, w, 3) uint8, rounded to the nearest."""
    pixels = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _side(size: Any) -> int:
    """256, {"shortest_edge": 256} and {"height": 256, "width": 256} all mean 256."""
    return int(next(iter(size.values())) if isinstance(size, dict) else size)
