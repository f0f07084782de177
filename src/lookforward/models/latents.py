"""Photos to clean latents x_0 and back, by whatever autoencoder a family has."""

from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from lookforward.core.types import CachedLatents
from lookforward.models.families import family_of

LARGE = 256  # pixels of a side, from which images go through the autoencoder one by one


@torch.no_grad()
def encode(pipeline: Any, images: Tensor) -> CachedLatents:
    """Photos (n, 3, h, w) in [0, 1] to their cached latents."""
    batch = 8 if images.shape[-1] < LARGE else 1  # at 512 pixels, one takes about a gigabyte
    parts = [family_of(pipeline).encode_images(pipeline.vae, some) for some in images.split(batch)]
    mean, std = torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])
    return CachedLatents(mean, std, parts[0].scaling, parts[0].shift)


def decode(pipeline: Any, x_0: Tensor) -> Tensor:
    """Latents (n, c, h, w), scaling applied, to images (n, 3, H, W) in [0, 1]; differentiable."""
    return family_of(pipeline).decode(pipeline.vae, x_0)


def decode_tiny(vae: AutoencoderTiny, x_0: Tensor) -> Tensor:
    """The same by a tiny autoencoder such as madebyollin/taesd: it reads scaled latents, at a fraction of the cost."""
    latents: Any = x_0.to(vae.dtype)
    images = vae.decode(latents, return_dict=False)[0]
    return (images.float() / 2 + 0.5).clamp(0, 1)
