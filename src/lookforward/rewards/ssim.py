"""Structural similarity to the reference photo, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookforward.core.specs import RewardSpec
from lookforward.rewards.image import PhotoReward

if TYPE_CHECKING:
    from torch import Tensor

_SIDE, _SIGMA = 11, 1.5  # px, of the Gaussian window
_C1, _C2 = 0.01**2, 0.03**2  # for pixels in [0, 1]


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM (Wang, Bovik, Sheikh and Simoncelli, 2004), Eq. 13: x, y (b, c, h, w) in [0, 1] → (b,) in [-1, 1].

    Symmetric, 1 only where they are equal. The mean over the colours and over all places where the window of 11 px
    (Gaussian, σ = 1.5 px) lies within the image. Raises ValueError for images smaller than the window.
    """
    import torch

    if min(x.shape[-2:]) < _SIDE:
        raise ValueError(f"SSIM needs images of at least {_SIDE} pixels a side, these have {tuple(x.shape[-2:])}")
    # Centred on one colour for both: variances are unchanged, and single precision loses less in x² - μ²
    shift = y.mean(dim=(-2, -1), keepdim=True).detach()
    dx, dy = x - shift, y - shift
    moments = _windowed(torch.stack([dx, dy, dx * dx, dy * dy, dx * dy]))  # (5, b, c, h-10, w-10)
    mx, my, xx, yy, xy = moments
    variances = (xx - mx * mx) + (yy - my * my)
    covariance = xy - mx * my
    mu_x, mu_y = mx + shift, my + shift
    luminance = (2 * mu_x * mu_y + _C1) / (mu_x * mu_x + mu_y * mu_y + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))  # (b,)


def _windowed(images: Tensor) -> Tensor:
    """Gaussian means, one axis after the other: (..., h, w) → (..., h-10, w-10)."""
    import torch
    from torch.nn.functional import conv2d

    offsets = torch.arange(_SIDE, dtype=images.dtype, device=images.device) - _SIDE // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    planes = images.reshape(-1, 1, *images.shape[-2:])
    planes = conv2d(conv2d(planes, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return planes.reshape(*images.shape[:-2], *planes.shape[-2:])


SSIM = RewardSpec(
    "ssim",
    "SSIM",
    "image and its reference photo, window by window",
    lambda name, _: PhotoReward(name, ssim),
    "[−1, 1]",
    "Wang et al., 2004",
)
