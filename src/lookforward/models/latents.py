"""Photos to clean latents x_0 and back."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from lookforward.core.types import CachedLatents

LARGE = 256  # pixels of a side, from which images go through the autoencoder one by one


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> CachedLatents:
    """Photos (n, 3, h, w) in [0, 1] to their cached latents."""
    means, stds = [], []
    batch = 8 if images.shape[-1] < LARGE else 1  # at 512 pixels, one takes about a gigabyte
    for some in images.split(batch):
        posterior = vae.encode(some.to(vae.device, vae.dtype) * 2 - 1, return_dict=False)[0]
        means.append(posterior.mean.float())
        stds.append(posterior.std.float())
    return CachedLatents(torch.cat(means), torch.cat(stds), float(vae.config["scaling_factor"]))


def decode(vae: AutoencoderKL, x_0: Tensor) -> Tensor:
    """Latents (n, c, h, w), scaling applied, to images (n, 3, 8h, 8w) in [0, 1]; differentiable."""
    scaled: Any = x_0.to(vae.dtype) / float(vae.config["scaling_factor"])  # diffusers asks for a FloatTensor
    images = vae.decode(scaled, return_dict=False)[0]
    return (images.float() / 2 + 0.5).clamp(0, 1)


def decode_tiny(vae: AutoencoderTiny, x_0: Tensor) -> Tensor:
    """The same by a tiny autoencoder such as madebyollin/taesd: it reads scaled latents, at a fraction of the cost."""
    latents: Any = x_0.to(vae.dtype)
    images = vae.decode(latents, return_dict=False)[0]
    return (images.float() / 2 + 0.5).clamp(0, 1)
