"""The path from an image to noise, x_t = a_t x_0 + σ_t z (Eq. 6), for diffusion and for flow.

| path | a_t | σ_t |
|---|---|---|
| variance preserving | √ᾱ_t | √(1-ᾱ_t) |
| rectified flow | 1-σ_t | σ_t |

t is an index into a table of T levels, 0 almost clean and T-1 almost or entirely noise, so that strides, bins of
timesteps and γ^t mean the same on both. Everything that is computed with a level is in single precision, whatever the
model computes in: (σ/a)² spans five orders of magnitude over Stable Diffusion 1's table, more than half precision
carries through Eq. 7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Density = Literal["uniform", "logit-normal", "shifted"]


@dataclass(frozen=True)
class NoisePath:
    """Tables of a_t and σ_t, (T,) float32, and of their squares, which rounded roots do not give exactly.

    density: of the timesteps to train at. "uniform"; "logit-normal": the sigmoid of a normal number, most in the
    middle (Esser et al., 2024); "shifted": uniform u moved towards noise, s u / (1 + (s-1) u) where s = shift.
    by_size: the path of latents of another height and width, of a model that shifts its levels by the size of the
    image; T and density are the same at every size.
    """

    signal: Tensor
    noise: Tensor
    squares: tuple[Tensor, Tensor]
    density: Density = "uniform"
    shift: float = 1.0
    by_size: Callable[[int, int], "NoisePath"] | None = None

    def of(self, latents: Tensor) -> "NoisePath":
        """The path of latents of this size, (b, c, h, w)."""
        return self if self.by_size is None else self.by_size(*latents.shape[-2:])

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.signal)

    def at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and σ_t of each sample: (b,) int64 to two (b,) float32, on the timestep's device."""
        return self.signal.to(timestep.device)[timestep], self.noise.to(timestep.device)[timestep]

    def squares_at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """a_t² and σ_t² of each sample, as `at`."""
        signal, noise = (table.to(timestep.device) for table in self.squares)
        return signal[timestep], noise[timestep]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps to train at: (count,) int64 on the CPU."""
        if self.density == "uniform":
            return torch.randint(self.timesteps, (count,), generator=generator)
        if self.density == "logit-normal":
            u = torch.randn(count, generator=generator).sigmoid()
        else:
            u = torch.rand(count, generator=generator)
            u = self.shift * u / (1 + (self.shift - 1) * u)
        return (u * self.timesteps).long().clamp(max=self.timesteps - 1)


def variance_preserving(alpha_bar: Tensor) -> NoisePath:
    """The path of DDPM and Stable Diffusion, from its cumulative signal levels ᾱ_t, (T,) float32, falling with t."""
    signal, noise = alpha_bar.float().cpu(), 1 - alpha_bar.float().cpu()
    return NoisePath(signal.sqrt(), noise.sqrt(), (signal, noise))


def rectified_flow(sigma: Tensor, density: Density = "logit-normal", shift: float = 1.0) -> NoisePath:
    """A straight path, from its noise levels σ_t, (T,) in (0, 1], rising with t."""
    sigma = sigma.double().cpu()
    squares = ((1 - sigma) ** 2).float(), (sigma**2).float()
    return NoisePath((1 - sigma).float(), sigma.float(), squares, density, shift)


def add_noise(x_0: Tensor, noise: Tensor, signal: Tensor, noise_level: Tensor) -> Tensor:
    """x_t = a_t x_0 + σ_t z, Eq. 6. x_0, noise: (b, c, h, w); signal, noise_level: (b,); out: (b, c, h, w) float32."""
    return like(signal, x_0) * x_0.float() + like(noise_level, x_0) * noise.float()


def noise_between(x_t: Tensor, x_0: Tensor, signal: Tensor, noise_level: Tensor) -> Tensor:
    """The noise z that leads from x_0 to x_t, Eq. 6 solved for it: (b, c, h, w) float32."""
    return (x_t.float() - like(signal, x_t) * x_0.float()) / like(noise_level, x_t)


def like(level: Tensor, x: Tensor) -> Tensor:
    """(b,) to (b, 1, 1, 1), single precision, on x's device."""
    return level.to(x.device, torch.float32).reshape(-1, *(1,) * (x.ndim - 1))
