"""The few torchvision transforms that diffusers' train_dreambooth scripts use, on Pillow and PyTorch.

`install()` puts them in place of torchvision, so that the scripts run unchanged where torchvision is not installed.
They do what torchvision's do with Pillow images, at the same cost: Pillow resizes and crops, PyTorch scales.
"""

import random
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Step = Callable[[Any], Any]


class InterpolationMode:
    """Pillow's own constant."""

    BILINEAR = Image.Resampling.BILINEAR


def compose(steps: Sequence[Step]) -> Step:
    def run(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return run


def resize(size: int, interpolation: Image.Resampling = InterpolationMode.BILINEAR) -> Step:
    """The shorter side becomes `size` pixels."""

    def run(image: Image.Image) -> Image.Image:
        scale = size / min(image.size)
        return image.resize((round(image.width * scale), round(image.height * scale)), interpolation)

    return run


def crop(image: Image.Image, top: int, left: int, height: int, width: int) -> Image.Image:
    return image.crop((left, top, left + width, top + height))


def center_crop(size: int) -> Step:
    def run(image: Image.Image) -> Image.Image:
        return crop(image, (image.height - size) // 2, (image.width - size) // 2, size, size)

    return run


class RandomCrop:
    """A square of `size` pixels, anywhere."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        return crop(image, *self.get_params(image, (self.size, self.size)))

    @staticmethod
    def get_params(image: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop. size: height and width."""
        height, width = size
        return random.randint(0, image.height - height), random.randint(0, image.width - width), height, width


def to_tensor() -> Step:
    """An RGB image to (3, h, w) in [0, 1]."""

    def run(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)

    return run


def normalize(mean: Sequence[float], std: Sequence[float]) -> Step:
    """One number for all channels, as the scripts give it."""
    return lambda image: (image - mean[0]) / std[0]


def install() -> None:
    """Let `from torchvision import transforms` find the functions of this file.

    transformers and diffusers look for torchvision when they are imported: import them before.
    """
    names: dict[str, Any] = {
        "Compose": compose,
        "Resize": resize,
        "CenterCrop": center_crop,
        "RandomCrop": RandomCrop,
        "RandomHorizontalFlip": lambda p=0.5: lambda image: image.transpose(0) if random.random() < p else image,
        "ToTensor": to_tensor,
        "Normalize": normalize,
        "InterpolationMode": InterpolationMode,
    }
    functional = _module("torchvision.transforms.functional", {"crop": crop})
    transforms = _module("torchvision.transforms", names | {"functional": functional})
    _module("torchvision", {"transforms": transforms})


def _module(name: str, values: dict[str, Any]) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(values)
    return module
