"""Rewards that are plain functions of images: `--reward lookforward.examples.rewards:png_size`.

They get images (b, 3, H, W) in [0, 1] and b prompts, and return b numbers, higher is better.
"""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor


def png_size(images: Tensor, prompts: Sequence[str]) -> list[float]:
    """Minus the size of each image's PNG file, in kilobytes of 1000 bytes: plain images score higher.

    A file has no gradient, so only a critic can teach the policy this.
    """
    sizes = []
    for image in images:
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        sizes.append(-len(file.getvalue()) / 1000)
    return sizes


def is_bright(images: Tensor, prompts: Sequence[str]) -> list[bool]:
    """Yes or no, whether an image is more light than dark. An answer has no gradient either."""
    return [bool(image.mean() > 0.5) for image in images]


def colourfulness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    """How colourful people find an image, (b,): 0 for a grey one, seldom above 0.5 (Hasler and Süsstrunk, 2003)."""
    red, green, blue = images.unbind(dim=1)  # (b, H, W) each
    first, second = red - green, (red + green) / 2 - blue
    spread = (first.var(dim=(1, 2), correction=0) + second.var(dim=(1, 2), correction=0)).sqrt()
    return spread + 0.3 * torch.hypot(first.mean(dim=(1, 2)), second.mean(dim=(1, 2)))
