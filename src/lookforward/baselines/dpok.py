"""DPOK: a policy gradient on the steps of the sampling trajectory, held near the pretrained policy by a KL term.

Fan et al. 2023, "DPOK: Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models", arXiv 2305.16381,
section 4 and Algorithm 1. A random trajectory (η > 0) is a stochastic policy; its step from x_t to x_t' has the
density p_θ(x_t' | x_t) of `sampler`. It maximises

    α E[r(x_0)] - β Σ_t KL(p_θ(x_t' | x_t) ‖ p_pre(x_t' | x_t)),   ∇ E[r(x_0)] = E[Σ_t r(x_0) ∇ log p_θ(x_t' | x_t)]

where both Gaussians have one variance, so that KL = ‖μ_θ - μ_pre‖² / (2σ²). The reward needs no gradient.

One outer step draws trajectories and yields losses of minibatches of their (trajectory, timestep) pairs; nothing is
kept from one outer step to the next. With more than one update for the same trajectories, their policy is no longer
the trained one: the importance ratio p_θ / p_old takes the place of log p_θ, clipped as in PPO.

Log-probabilities and KL are means over c, h and w, as log-probabilities are in the authors' code, so that `ratio_clip`
means the same for any size of latents. At a ratio of 1 the gradient of a loss over all pairs is that of the objective
above, with its sign turned, divided by N · c · h · w.

Differences from the paper:

- The baseline of the reward is the mean of the other trajectories of the step, not a learned value function.
- Trajectories of earlier steps are not kept: there is no buffer.
- The clipped objective is PPO's, the lesser of the clipped and the unclipped; the authors' code clips alone.
- KL is exact; the authors' code takes the mean squared difference of the predicted noise instead.
- The states at which KL is taken are given: how they depend on the policy is left out, as in the authors' code.
- What is trained in the denoiser is the adapter's choice; the paper trains LoRA. Text encoders are frozen, as there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lookforward.algorithm.environment import require_finite
from lookforward.algorithm.readings import Metrics
from lookforward.baselines.sampler import (
    Act,
    Sampler,
    SamplerStep,
    SamplingInputs,
    Take,
    ddim_step,
    draw_noise,
    final_transition,
    log_probability,
    sample_steps,
    sampler_timesteps,
)
from lookforward.core.protocols import Policy
from lookforward.core.types import Conditioning, State
from lookforward.errors import LookforwardError

Part = tuple[Tensor, Metrics]  # of a loss, with its metrics


def minus_the_others(reward: Tensor) -> Tensor:
    """A reward less the mean of the others, (b,): a baseline that is independent of a trajectory's own steps."""
    others = (reward.sum() - reward) / (len(reward) - 1)  # (b,)
    return reward - others


def require_comparable(inputs: SamplingInputs, label: str) -> None:
    """Raise LookforwardError for fewer than two images, or prompts whose encoding is trained. label: of the method."""
    if len(inputs.start.x_0) < 2:
        raise LookforwardError(
            f"{label} compares trajectories with one another: set baseline.dpok_trajectories to 2 or more.",
            code="dpok-trajectories",
        )
    if inputs.conditioning.tokens.requires_grad:
        raise LookforwardError(
            f"{label} trains only the denoiser: set adapter.train_text_encoder to false.", code="dpok-text-encoder"
        )


@dataclass(frozen=True)
class Dpok:
    """The defaults are those of the authors' code, but for `updates` (5 there) and `pairs` (12 times 2).

    sampler: η > 0. updates: optimizer steps for one draw of trajectories. pairs: of trajectory and timestep in one.
    micro_batch: how many of these pairs go through the denoiser together; only the memory depends on it.
    reward_weight: α. kl_weight: β ≥ 0. ratio_clip: how far from 1 an importance ratio may count.
    reference_act: the pretrained policy's action; needed where kl_weight is above 0.
    label, take, advantage: of a method that differs in the step of the sampler, or in what a trajectory's advantage is.

    Raises:
        LookforwardError: the sampler is not random.
    """

    sampler: Sampler = field(default_factory=lambda: Sampler(steps=50, guidance=7.5, eta=1.0))
    updates: int = 1
    pairs: int = 24
    micro_batch: int = 24
    reward_weight: float = 100.0
    kl_weight: float = 0.01
    ratio_clip: float = 1e-4
    reference_act: Act | None = None
    label: str = "DPOK"
    take: Take = ddim_step
    advantage: Callable[[Tensor], Tensor] = minus_the_others

    def __post_init__(self) -> None:
        if not self.sampler.eta > 0:
            raise LookforwardError(
                f"{self.label} needs a random sampler: eta = {self.sampler.eta} must be greater than 0.",
                code="dpok-deterministic",
            )

    def losses(self, inputs: SamplingInputs) -> Iterator[Iterator[Part]]:
        """Draw a trajectory for each row of `start`; yield `updates` losses, each in parts that sum to it.

        The metrics of the parts sum to those of the loss; the caller takes one optimizer step on all parts before it
        asks for the next update.

        inputs: b ≥ 2; the prompts should be equal, for one baseline serves all, and their conditioning is without
        gradient.

        Raises:
            LookforwardError: too few trajectories, a text encoder that is trained, or numbers that are not finite.
        """
        drawn = draw_trajectories(inputs, self)
        total = drawn.log_p.numel()
        for update in range(self.updates):
            chosen = torch.randperm(total, generator=inputs.generator)[: self.pairs]
            yield self._parts(inputs.policy, drawn, chosen, untouched=update == 0)

    def _parts(self, policy: Policy, drawn: "Trajectories", chosen: Tensor, untouched: bool) -> Iterator[Part]:
        rewards = drawn.metrics
        for some in chosen.split(self.micro_batch):
            share = len(some) / len(chosen)
            loss, metrics = pairs_loss(policy, drawn, some, self, untouched)
            yield share * loss, rewards | {name: share * value for name, value in metrics.items()}
            rewards = {}


@dataclass(frozen=True)
class Trajectories:
    """What a policy drew, without gradient.

    x: (N + 1, b, c, h, w), from pure noise to the end. timestep: (N + 1,) int64. conditioning: b prompts; empty: one.
    log_p: (N, b), the mean log-density of each step over its elements. advantage: (b,). metrics: of the rewards.
    """

    x: Tensor
    timestep: Tensor
    conditioning: Conditioning
    empty: Conditioning | None
    log_p: Tensor
    advantage: Tensor
    metrics: Metrics


@torch.no_grad()
def draw_trajectories(inputs: SamplingInputs, settings: Dpok) -> Trajectories:
    """Draw at random and reward where it ends; inputs and errors as in `Dpok.losses`."""
    policy, start, conditioning, empty = inputs.policy, inputs.start, inputs.conditioning, inputs.empty
    require_comparable(inputs, settings.label)
    noise = draw_noise(start.x_0, inputs.generator)
    steps = list(
        sample_steps(policy, settings.sampler, noise, conditioning, empty, inputs.generator, take=settings.take)
    )
    require_finite(steps[-1].x_next, "x_0", "lower learning_rate, or use precision fp32")
    reward, metrics = inputs.environment.reward_with_metrics(final_transition(policy, steps[-1], start))  # (b,)
    return Trajectories(
        torch.stack([noise, *(step.x_next for step in steps)]),
        sampler_timesteps(policy.path, settings.sampler.steps).to(start.x_0.device),
        conditioning,
        empty,
        torch.stack([_mean_log_p(step.x_next, step) for step in steps]),
        settings.advantage(reward),
        metrics,
    )


def pairs_loss(policy: Policy, drawn: Trajectories, chosen: Tensor, settings: Dpok, untouched: bool = False) -> Part:
    """The loss of some pairs, a scalar, and its metrics.

    chosen: (p,) int64 in [0, N b), the places of the pairs in `log_p` laid out in one row. untouched: the policy is
    still the one that drew, so that ratios are 1. What was noted while drawing is not used then: in half precision
    a batch of another size gives other last digits, and the clip, which is narrow, would take them for a change.
    """
    b = drawn.log_p.shape[1]
    chosen = chosen.to(drawn.x.device)
    i, j = chosen // b, chosen % b  # of the timestep and of the trajectory
    state, later = State(drawn.x[i, j], drawn.timestep[i], drawn.conditioning.rows(j)), drawn.timestep[i + 1]
    empty = drawn.empty if drawn.empty is None or len(drawn.empty) == 1 else drawn.empty.rows(j)
    step = settings.take(policy, policy.act, state, later, settings.sampler, empty)
    log_p = _mean_log_p(drawn.x[i + 1, j], step)  # (p,)
    ratio = (log_p - (log_p.detach() if untouched else drawn.log_p[i, j])).exp()
    clipped = ratio.clamp(1 - settings.ratio_clip, 1 + settings.ratio_clip)
    advantage = drawn.advantage[j]
    gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
    loss = -settings.reward_weight * gain  # rewards rise, losses fall
    metrics: Metrics = {
        "ratio": ratio.detach().mean(),
        "clipped": (ratio != clipped).float().mean(),
    }
    if settings.kl_weight > 0:
        if settings.reference_act is None:
            raise ValueError("kl_weight needs the pretrained policy's action")
        with torch.no_grad():
            before = settings.take(policy, settings.reference_act, state, later, settings.sampler, empty).mean
        kl = kl_between(step.mean, before, step.deviation).mean()
        loss = loss + settings.kl_weight * kl
        metrics["kl"] = kl.detach()
    return loss, metrics | {"loss": loss.detach()}


def kl_between(mean: Tensor, other: Tensor, sigma: Tensor) -> Tensor:
    """KL of two Gaussians of one variance, (b,), the mean over c, h and w: (μ - μ')² / (2s²)."""
    return ((mean - other) ** 2).mean(dim=(1, 2, 3)) / (2 * sigma**2)


def _mean_log_p(x: Tensor, step: SamplerStep) -> Tensor:
    """(b,)"""
    return log_probability(x, step.mean, step.deviation) / x[0].numel()
