"""The oracle's error: a template with a mask, laid over an image, under the best gain of light.

Template T with mask m, image I, gain g, at position p, V being 1 inside the image and 0 beyond it:

    error(p) = Σ m (gT − I)² V / (3 Σ m V) = (g² (mT² ⋆ V) − 2g (mT ⋆ I) + (m ⋆ I²)) / (3 (m ⋆ V))
    g        = clip((mT ⋆ I) / (mT² ⋆ V), 0.7, 1.25)

summed over the three colours; ⋆ is cross-correlation, whose value at p has the template's middle at p.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GAIN_RANGE = (0.7, 1.25)  # how much darker or brighter the light of a scene may be
LEAST_VISIBLE = 0.8  # of the mask; the rest may lie beyond the border


def errors_everywhere(images: Tensor, templates: Tensor) -> Tensor:
    """Error of every template at every pixel, the correlations by fast Fourier transform.

    images (n, 3, h, w) in [0, 1]; templates (n or 1, t, 4, k, k), colours and mask, k odd → (n, t, h, w),
    infinite where less than LEAST_VISIBLE of the mask is inside the image.
    """
    h, w = images.shape[-2:]
    reach = templates.shape[-1] // 2
    # A template centred in the image reaches `reach` beyond it; a period of h + reach keeps what wraps
    # around apart from the image. Multiples of 8 transform fast.
    period = (8 * math.ceil((h + reach) / 8), 8 * math.ceil((w + reach) / 8))

    def spectrum(signal: Tensor) -> Tensor:
        return torch.fft.rfft2(signal, s=period)

    def centred(template: Tensor) -> Tensor:
        k = template.shape[-1]
        padded = F.pad(template, (0, period[1] - k, 0, period[0] - k))
        return spectrum(padded.roll((-reach, -reach), dims=(-2, -1))).conj()

    def inside(product: Tensor) -> Tensor:
        return torch.fft.irfft2(product, s=period)[..., :h, :w]

    colours, mask = templates[:, :, :3], templates[:, :, 3]  # (n|1, t, 3, k, k), (n|1, t, k, k)
    area = spectrum(torch.ones(h, w).to(images))  # V
    mask_spectrum = centred(mask)
    visible = inside(mask_spectrum * area)  # m ⋆ V, (n|1, t, h, w)
    energy = inside(centred((mask[:, :, None] * colours.square()).sum(dim=2)) * area)  # mT² ⋆ V
    power = inside(mask_spectrum * spectrum(images.square().sum(dim=1))[:, None])  # m ⋆ I², (n, t, h, w)
    match = inside((centred(mask[:, :, None] * colours) * spectrum(images)[:, None]).sum(dim=2))  # mT ⋆ I
    return _error(match, energy, power, visible, mask.sum(dim=(-2, -1))[..., None, None])


def errors_nearby(images: Tensor, templates: Tensor, y: Tensor, x: Tensor, radius: int) -> Tensor:
    """The same within `radius` pixels of one position per image, as a product of matrices.

    images (n, 3, h, w); templates (n, t, 4, k, k); y, x (n,) → (n, t, 2 radius + 1, 2 radius + 1).
    """
    n, k = len(templates), templates.shape[-1]
    margin = k // 2 + radius
    inside = torch.ones_like(images[:, :1])
    padded = F.pad(torch.cat([images, inside], dim=1), (margin,) * 4)
    size = k + 2 * radius
    patches = torch.stack(
        [padded[i, :, a : a + size, b : b + size] for i, (a, b) in enumerate(zip(y.tolist(), x.tolist(), strict=True))]
    )
    windows = patches.unfold(2, k, 1).unfold(3, k, 1)  # (n, 4, positions, positions, k, k)
    positions = windows.shape[2]

    def correlate(weights: Tensor, signal: Tensor) -> Tensor:
        """(n, t, c, k, k) ⋆ (n, c, positions, positions, k, k), summed over c."""
        signal = signal.permute(0, 1, 4, 5, 2, 3).reshape(n, -1, positions * positions)
        return (weights.flatten(2) @ signal).unflatten(2, (positions, positions))

    colours, mask = templates[:, :, :3], templates[:, :, 3:]
    match = correlate(mask * colours, windows[:, :3])
    energy = correlate((mask * colours.square()).sum(dim=2, keepdim=True), windows[:, 3:])
    power = correlate(mask, windows[:, :3].square().sum(dim=1, keepdim=True))
    visible = correlate(mask, windows[:, 3:])
    return _error(match, energy, power, visible, mask.sum(dim=(2, 3, 4))[..., None, None])


def _error(match: Tensor, energy: Tensor, power: Tensor, visible: Tensor, total: Tensor) -> Tensor:
    """The formula above, from its four correlations; `total` is Σ m."""
    gain = (match / energy.clamp(min=1e-6)).clamp(*GAIN_RANGE)
    error = (gain.square() * energy - 2 * gain * match + power) / (3 * visible.clamp(min=1e-6))
    return error.clamp(min=0).where(visible >= LEAST_VISIBLE * total, torch.inf)
