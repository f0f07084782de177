"""What passes between the parts of the algorithm. Shapes, ranges and units are stated once, here.

b: batch, c: latent channels, h and w: latent height and width, l: prompt tokens, d: width of the embedding.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """s_t = (x_t, t, τ(y)): what the policy sees.

    x_t: (b, c, h, w), latents with noise, VAE scaling applied.
    timestep: (b,) int64, from 0 (almost clean) to T-1 (almost noise).
    embedding: (b, l, d), the encoded prompt τ(y).
    """

    x_t: Tensor
    timestep: Tensor
    embedding: Tensor


@dataclass(frozen=True)
class Transition:
    """One decision of the policy, with all that a reward or a critic may look at. Single precision.

    state: where the decision was taken.
    action: (b, c, h, w), ẑ_t of Eq. 2: the predicted noise.
    noise: (b, c, h, w), z_t: the noise that is really in x_t.
    x_0: (b, c, h, w), clean latents of the reference photo.
    x_0_hat: (b, c, h, w), x̂_0,t of Eq. 7: the clean latents that the action foretells.
    alpha_bar: (b,) in (0, 1), ᾱ_t.
    prompts: b texts without the identifier, which no encoder but the policy's own ever learns.
    photo: (b, 3, H, W) in [0, 1], the reference photo that x_0 was encoded from.
    mask: (b, 1, h, w), how much each latent of the reference photo counts, 1 in the mean; None: all alike.
    subject: (b,) int64, which of the run's subjects each sample shows; None: there is one.
    image: (b, 3, H, W) in [0, 1], x_0_hat decoded. None unless a reward needs it.
    """

    state: State
    action: Tensor
    noise: Tensor
    x_0: Tensor
    x_0_hat: Tensor
    alpha_bar: Tensor
    prompts: tuple[str, ...] = ()
    photo: Tensor | None = None
    image: Tensor | None = None
    mask: Tensor | None = None
    subject: Tensor | None = None

    def counted(self, error: Tensor) -> Tensor:
        """An elementwise error (b, c, h, w), each latent by how much it counts."""
        return error if self.mask is None else self.mask * error


@dataclass(frozen=True)
class Batch:
    """Reference photos to learn from and, with prior preservation, prior images to remember the class by.

    x_0, noise: (b, c, h, w); timestep: (b,) int64; prompts: b texts; prior: as many prior images, or None.
    plain_prompts: the prompts without the identifier. photo: (b, 3, H, W) in [0, 1], what x_0 was encoded from.
    mask, subject: as in `Transition`.
    """

    x_0: Tensor
    noise: Tensor
    timestep: Tensor
    prompts: tuple[str, ...]
    prior: "Batch | None" = None
    plain_prompts: tuple[str, ...] = ()
    photo: Tensor | None = None
    mask: Tensor | None = None
    subject: Tensor | None = None


@dataclass(frozen=True)
class StepResult:
    """What one step of training did.

    step: counted from 1. terms: the logged quantities by name, plain numbers; docs/algorithm.md has the
    formula of each. seconds: time that the step took. checkpoint: whether a checkpoint was written after it.
    """

    step: int
    terms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    checkpoint: bool = False


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
