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


def _crop(place: Callable[[int], int]) -> Callable[[int], Step]:
    def build(size: int) -> Step:
        def run(image: Image.Image) -> Image.Image:
            left, top = place(image.width - size), place(image.height - size)
            return image.crop((left, top, left + size, top + size))

        return run

    return build


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
        "CenterCrop": _crop(lambda free: free // 2),
        "RandomCrop": _crop(lambda free: random.randint(0, free)),
        "RandomHorizontalFlip": lambda p=0.5: lambda image: image.transpose(0) if random.random() < p else image,
        "ToTensor": to_tensor,
        "Normalize": normalize,
        "InterpolationMode": InterpolationMode,
    }
    package, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    for name, value in names.items():
        setattr(transforms, name, value)
    package.transforms = transforms  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules |= {"torchvision": package, "torchvision.transforms": transforms}
