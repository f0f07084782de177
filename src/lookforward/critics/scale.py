"""Returns brought to one scale: the one place where it is done.

Look Forward's reward carries (σ/a)² on Stable Diffusion 1's path, which runs from 0.001 to 214 over the timesteps, and
σ² in [0, 1] for flow and v-prediction; a similarity stays within [-1, 1]. A critic that regressed them as they are
would learn the largest alone. So it learns

    (return - mean_t) / deviation_t,

the running mean and deviation of returns at about the same timestep. The policy maximises that value: every timestep
weighs alike, and λ means about the same for every reward and every path.
"""

import torch
from torch import Tensor, nn


class ReturnScale(nn.Module):
    """Running mean and deviation of returns in `bins` equal ranges of timesteps.

    Args:
        timesteps: T, how many there are.
        bins: into how many ranges they are cut; 0 leaves every return as it is.
        momentum: how much of a range's averages a new return keeps, in [0, 1). The first 1 / (1 - momentum) returns
            of a range count alike.
    """

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, timesteps: int, bins: int = 20, momentum: float = 0.98) -> None:
        super().__init__()
        self.timesteps, self.bins, self.momentum = timesteps, bins, momentum
        for name in ("mean", "square", "count"):
            self.register_buffer(name, torch.zeros(bins))

    @torch.no_grad()
    def observe(self, returns: Tensor, timestep: Tensor) -> None:
        """Take in returns (b,) at timesteps (b,)."""
        if not self.bins:
            return
        for i, value in zip(self._bin(timestep).tolist(), returns, strict=True):
            self.count[i] += 1
            share = max(1 - self.momentum, 1 / float(self.count[i]))
            self.mean[i] += share * (value - self.mean[i])
            self.square[i] += share * (value**2 - self.square[i])

    def normalise(self, returns: Tensor, timestep: Tensor) -> Tensor:
        """(b,) returns to (b,) without unit; where nothing was seen yet, as they are."""
        if not self.bins:
            return returns
        mean, deviation = self._moments(timestep)
        return (returns - mean) / deviation

    def restore(self, values: Tensor, timestep: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        if not self.bins:
            return values
        mean, deviation = self._moments(timestep)
        return mean + deviation * values

    def _bin(self, timestep: Tensor) -> Tensor:
        return timestep * self.bins // self.timesteps

    def _moments(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        i = self._bin(timestep)
        mean, square, count = self.mean[i], self.square[i], self.count[i]
        # A range with few returns has no deviation yet: their size takes its place, halved by each return
        deviation = (square - mean**2).clamp_min(0).sqrt().maximum(0.5**count * square.sqrt()).clamp_min(1e-8)
        return mean, torch.where(count > 0, deviation, 1.0)


class ExplainedVariance(nn.Module):
    """Running explained variance of the critic: 1 - Var(target - q) / Var(target), in (-∞, 1].

    1: it predicts every return; 0: no better than their mean; below: worse. Both variances are running ones over
    about 1 / (1 - momentum) samples, of predictions made before the critic learned from the sample.
    """

    moments: Tensor

    def __init__(self, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("moments", torch.zeros(5))  # weight, target, target², error, error²

    @torch.no_grad()
    def observe(self, q: Tensor, q_target: Tensor) -> Tensor:
        """Take in (b,) predictions and targets; returns the explained variance so far, a scalar."""
        for guess, truth in zip(q, q_target, strict=True):
            error = truth - guess
            new = torch.stack([torch.ones_like(truth), truth, truth**2, error, error**2])
            self.moments.lerp_(new, 1 - self.momentum)
        # Apple's accelerator has no double precision
        moments = self.moments.cpu() if self.moments.device.type == "mps" else self.moments
        _, target, target2, error, error2 = moments.double().div(moments[0].clamp_min(1e-12))
        varied, missed = target2 - target**2, (error2 - error**2).clamp_min(0)
        # Single precision leaves about 1e-7 of a square, and less of one near its least number: below that nothing has
        # varied yet, and nothing is explained
        seen = (varied > 1e-6 * target2) & (target2 > 1e-30)
        return torch.where(seen, 1 - missed / varied, 0.0)
