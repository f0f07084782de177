"""`AutoencoderKL`, the autoencoder that several families share."""

from typing import Any

import torch
from torch import Tensor

from lookforward.core.types import CachedLatents


@torch.no_grad()
def encode_kl(vae: Any, images: Tensor) -> CachedLatents:
    """Images (n, 3, H, W) in [0, 1] to the posterior of their latents, with the VAE's own scaling and shift."""
    posterior = vae.encode(images.to(vae.device, vae.dtype) * 2 - 1, return_dict=False)[0]
    scaling, shift = float(vae.config["scaling_factor"]), float(vae.config.get("shift_factor") or 0.0)
    return CachedLatents(posterior.mean.float(), posterior.std.float(), scaling, shift)


def decode_kl(vae: Any, x_0: Tensor) -> Tensor:
    """Latents (n, c, h, w), scaling applied, to images (n, 3, H, W) in [0, 1]; differentiable."""
    latents = x_0.to(vae.dtype) / float(vae.config["scaling_factor"]) + float(vae.config.get("shift_factor") or 0.0)
    return (vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)
