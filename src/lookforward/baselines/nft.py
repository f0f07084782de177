"""DiffusionNFT: the reward of drawn images as the share of a positive and an implicit negative policy, without a chain.

Zheng et al. 2025, "DiffusionNFT: Online Diffusion Reinforcement with Forward Process", arXiv 2509.16117. A sampling
policy o_old draws images x_0. Each is noised again (Eq. 6), and the trained policy o learns from it by regression:

    o⁺ = (1 - β) o_old + β o,    o⁻ = (1 + β) o_old - β o
    L  = E[ρ ‖e(o⁺)‖² / w⁺ + (1 - ρ) ‖e(o⁻)‖² / w⁻] C/β + k ‖o - o_untouched‖²,    e(o) = σ (o - target), w = mean |e|
    ρ  = ½ + A / 2C,    A = the group's advantage in [-C, C], C = 5

ρ is how good an image is: good ones draw the policy to them, bad ones push it away. w is each sample's own and carries
no gradient. e is the error of x̂_0 for a flow. After each step o_old ← η o_old + (1 - η) o, with η = min(0.001
i, `kept`) after i updates. No step of the sampler is differentiated, so that any sampler and any model would do.

Differences from the paper and its code:

- One prompt, the subject's, so that a step has one group.
- A step takes random pairs of image and sampler timestep; the code takes all.
- DDIM or Euler steps; the code takes a solver of second order.
- The code has the error of x̂_0 for e. That is σ (o - target) for a flow; models that predict otherwise take the same
  weight σ, since σ/a would let the noisiest timesteps of one that predicts noise count for all others.
- What is trained in the denoiser is the adapter's choice; the paper trains LoRA of rank 32.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lookforward.algorithm.environment import require_finite
from lookforward.algorithm.readings import Metrics
from lookforward.algorithm.weights import swapped
from lookforward.baselines.dpok import Part, require_comparable
from lookforward.baselines.flow_grpo import group_advantage
from lookforward.baselines.sampler import (
    Act,
    Sampler,
    SamplingInputs,
    draw_noise,
    final_transition,
    sample_steps,
    sampler_timesteps,
)
from lookforward.core.path import add_noise, like
from lookforward.core.types import Conditioning, State, rows
from lookforward.errors import LookforwardError

_MOST = 5.0  # C
_RATE = 0.001  # by which η rises for each update


@dataclass
class Nft:
    """The defaults are those of the authors' code, but for `updates` and `pairs`.

    sampler: η = 0. updates, pairs, micro_batch: as in `Dpok`. beta: β > 0. kl_weight: k ≥ 0. kept: the largest η.
    reference_act: the untouched policy's action; needed where kl_weight is above 0.
    old: the sampling policy's values of the trained weights; empty before the first step, when they are the policy's.

    Raises:
        LookforwardError: the sampler is random.
    """

    sampler: Sampler = field(default_factory=lambda: Sampler(steps=10))
    updates: int = 1
    pairs: int = 24
    micro_batch: int = 24
    beta: float = 1.0
    kl_weight: float = 1e-4
    kept: float = 0.5
    reference_act: Act | None = None
    old: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler.eta != 0:
            raise LookforwardError("DiffusionNFT draws with a deterministic sampler: set eta to 0.", code="nft-random")

    def losses(self, inputs: SamplingInputs) -> Iterator[Iterator[Part]]:
        """As `Dpok.losses`: draw an image for each row of `start`, and yield `updates` losses in parts."""
        for name, one in inputs.parameters.items():
            self.old[name] = self.old[name].to(one.device) if name in self.old else one.detach().clone()
        drawn, rewards = draw_images_of_old(inputs, self)
        timesteps = sampler_timesteps(inputs.policy.path, self.sampler.steps)[:-1]
        for _ in range(self.updates):
            chosen = torch.randperm(len(timesteps) * len(drawn.x_0), generator=inputs.generator)[: self.pairs]
            i, j = chosen // len(drawn.x_0), chosen % len(drawn.x_0)
            some = rows(drawn, j.to(drawn.x_0.device))
            noise = draw_noise(some.x_0, inputs.generator)
            yield self._parts(inputs, some, noise, timesteps[i].to(noise.device), rewards)
        done = (inputs.step + 1) * self.updates
        share = min(_RATE * done, self.kept)
        for name, value in self.old.items():
            value.mul_(share).add_(inputs.parameters[name].detach(), alpha=1 - share)

    def _parts(
        self, inputs: SamplingInputs, some: "Drawn", noise: Tensor, timestep: Tensor, rewards: Metrics
    ) -> Iterator[Part]:
        places = torch.arange(len(noise), device=noise.device)
        for part in places.split(self.micro_batch):
            share = len(part) / len(places)
            loss, metrics = nft_loss(inputs, rows(some, part), noise[part], timestep[part], self)
            yield share * loss, rewards | {name: share * value for name, value in metrics.items()}
            rewards = {}


@dataclass(frozen=True)
class Drawn:
    """x_0: (b, c, h, w), drawn latents. conditioning: of their b prompts. goodness: (b,), ρ in [0, 1]."""

    x_0: Tensor
    conditioning: Conditioning
    goodness: Tensor


@torch.no_grad()
def draw_images_of_old(inputs: SamplingInputs, settings: Nft) -> tuple[Drawn, Metrics]:
    """Draw with the sampling policy and reward where it ends; metrics are of the rewards. Raises as `Dpok.losses`."""
    policy, start = inputs.policy, inputs.start
    require_comparable(inputs, "DiffusionNFT")
    noise = draw_noise(start.x_0, inputs.generator)
    with swapped(inputs.parameters, settings.old):
        *_, end = sample_steps(
            policy, settings.sampler, noise, inputs.conditioning, inputs.empty, inputs.generator
        )  # fmt: skip
    require_finite(end.x_next, "x_0", "lower learning_rate, or use precision fp32")
    reward, metrics = inputs.environment.reward_with_metrics(final_transition(policy, end, start))
    return Drawn(end.x_next, inputs.conditioning, 0.5 + group_advantage(reward) / (2 * _MOST)), metrics


def nft_loss(inputs: SamplingInputs, drawn: Drawn, noise: Tensor, timestep: Tensor, settings: Nft) -> Part:
    """The loss of drawn images at noise (p, c, h, w) and timesteps (p,), a scalar, and its metrics."""
    policy, beta = inputs.policy, settings.beta
    levels = policy.path.of(drawn.x_0).at(timestep)
    state = State(add_noise(drawn.x_0, noise, *levels), timestep, drawn.conditioning)
    with torch.no_grad(), swapped(inputs.parameters, settings.old):
        old = policy.act(state)
    now, target = policy.act(state), policy.prediction.target(drawn.x_0, noise, *levels)

    def missed(output: Tensor) -> Tensor:  # (p,)
        error = like(levels[1], output) * (output - target)
        weight = error.detach().abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-5)
        return (error**2 / weight).mean(dim=(1, 2, 3))

    positive, negative = missed((1 - beta) * old + beta * now), missed((1 + beta) * old - beta * now)
    good = drawn.goodness
    loss = _MOST / beta * (good * positive + (1 - good) * negative).mean()
    metrics: Metrics = {"moved": (now.detach() - old).square().mean()}
    if settings.kl_weight > 0:
        if settings.reference_act is None:
            raise ValueError("kl_weight needs the untouched policy's action")
        with torch.no_grad():
            before = settings.reference_act(state)
        distance = (now - before).square().mean()
        loss = loss + settings.kl_weight * distance
        metrics["kl"] = distance.detach()
    return loss, metrics | {"loss": loss.detach()}
