"""The noise schedule: how clean latents become noise, and what an action says of the clean ones.

Everything is in single precision whatever the model computes in: (1-ᾱ)/ᾱ spans five orders of magnitude
over Stable Diffusion's schedule, more than half precision can carry through Eq. 7.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True)
class Schedule:
    """Cumulative signal levels ᾱ_t, (T,) float32 in (0, 1), falling with t."""

    alpha_bar: Tensor

    @property
    def timesteps(self) -> int:
        """T, the number of timesteps."""
        return len(self.alpha_bar)

    def level(self, timestep: Tensor) -> Tensor:
        """ᾱ_t for each sample: (b,) int64 to (b,) float32 in (0, 1)."""
        return self.alpha_bar.to(timestep.device)[timestep]


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> Schedule:
    """Stable Diffusion 1's schedule: betas whose square roots are evenly spaced."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float32) ** 2
    return Schedule(torch.cumprod(1 - betas, dim=0))


def add_noise(x_0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) z, Eq. 6. x_0, noise: (b, c, h, w); alpha_bar: (b,); out: (b, c, h, w)."""
    a = _like(alpha_bar, x_0)
    return a.sqrt() * x_0.float() + (1 - a).sqrt() * noise.float()


def look_forward(x_t: Tensor, action: Tensor, alpha_bar: Tensor) -> Tensor:
    """x̂_0,t = (x_t - √(1-ᾱ_t) ẑ_t) / √ᾱ_t, Eq. 7: the end of the path, seen from timestep t.

    x_t, action: (b, c, h, w); alpha_bar: (b,); out: (b, c, h, w) float32.
    """
    a = _like(alpha_bar, x_t)
    return (x_t.float() - (1 - a).sqrt() * action.float()) / a.sqrt()


def noise_between(x_t: Tensor, x_0: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise z that leads from x_0 to x_t, Eq. 6 solved for it: (b, c, h, w) float32."""
    a = _like(alpha_bar, x_t)
    return (x_t.float() - a.sqrt() * x_0.float()) / (1 - a).sqrt()


def noise_to_signal(alpha_bar: Tensor) -> Tensor:
    """(1-ᾱ_t)/ᾱ_t, the weight of Eq. 8, elementwise: 0.0009 to 214 over Stable Diffusion 1's schedule."""
    return (1 - alpha_bar) / alpha_bar


def as_noise(output: Tensor, x_t: Tensor, alpha_bar: Tensor, prediction: Prediction) -> Tensor:
    """The action ẑ_t that a model's output stands for, whatever the model predicts.

    output, x_t: (b, c, h, w); alpha_bar: (b,); out: (b, c, h, w) float32.
    v = √ᾱ z - √(1-ᾱ) x_0 (Salimans and Ho, 2022).
    """
    a, output, x_t = _like(alpha_bar, x_t), output.float(), x_t.float()
    match prediction:
        case "epsilon":
            return output
        case "v_prediction":
            return a.sqrt() * output + (1 - a).sqrt() * x_t
        case "sample":
            return (x_t - a.sqrt() * output) / (1 - a).sqrt()


def _like(alpha_bar: Tensor, x: Tensor) -> Tensor:
    """(b,) to (b, 1, 1, 1), single precision, on x's device."""
    return alpha_bar.to(x.device, torch.float32).reshape(-1, *(1,) * (x.ndim - 1))
