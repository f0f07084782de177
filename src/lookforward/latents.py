"""Photos to clean latents x_0 and back."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

LARGE = 256  # pixels of a side, from which images go through the autoencoder one by one


@dataclass(frozen=True)
class CachedLatents:
    """What the encoder says of n photos, kept so that each is encoded once.

    mean, std: (n, c, h, w) float32 of the posterior, before the VAE's scaling.
    scaling: the VAE's scaling factor.
    """

    mean: Tensor
    std: Tensor
    scaling: float

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """x_0 of the chosen photos, drawn anew each time: index (b,) int64 to (b, c, h, w), scaled."""
        noise = torch.randn(len(index), *self.mean.shape[1:], generator=generator)
        return (self.mean[index] + self.std[index] * noise.to(self.mean.device)) * self.scaling


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
