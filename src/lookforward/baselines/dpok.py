"""DPOK: a policy gradient on the steps of the sampling chain, held near the pretrained policy by a KL term.

Fan et al. 2023, "DPOK: Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models", arXiv 2305.16381,
section 4 and Algorithm 1. The chain with chance (η > 0) is a stochastic policy; its step from x_t to x_t' has the
density p_θ(x_t' | x_t) of `chain`. What rises is

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
- What is trained in the UNet is the adapter's choice; the paper trains LoRA. The text encoder is frozen, as there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lookforward.algorithm.environment import Environment, require_finite
from lookforward.baselines.chain import (
    Act,
    Chain,
    Link,
    arrive,
    draw_noise,
    levels,
    log_probability,
    take,
    timesteps,
    walk,
)
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, State
from lookforward.errors import LookforwardError


@dataclass(frozen=True)
class Dpok:
    """The defaults are those of the authors' code, but for `updates` (5 there) and `pairs` (12 times 2).

    chain: η > 0. updates: optimizer steps for one draw of trajectories. pairs: of trajectory and timestep in one.
    at_once: of these pairs, how many go through the denoiser together; what is in memory, and nothing else, depends
    on it. reward_weight: α. kl_weight: β ≥ 0. ratio_clip: how far from 1 an importance ratio may count.
    """

    chain: Chain = field(default_factory=lambda: Chain(steps=50, guidance=7.5, eta=1.0))
    updates: int = 1
    pairs: int = 24
    at_once: int = 24
    reward_weight: float = 100.0
    kl_weight: float = 0.01
    ratio_clip: float = 1e-4


@dataclass(frozen=True)
class Trajectories:
    """Chains that were drawn by a policy, without gradient.

    x: (N + 1, b, c, h, w), from pure noise to the end. timestep: (N,) int64. embedding: (b, l, d); empty: (1, l, d).
    log_p: (N, b), the mean log-density of each step over its elements. advantage: (b,). terms: what to log.
    """

    x: Tensor
    timestep: Tensor
    embedding: Tensor
    empty: Tensor | None
    log_p: Tensor
    advantage: Tensor
    terms: dict[str, float]


def dpok_losses(
    policy: Policy,
    environment: Environment,
    start: Batch,
    settings: Dpok,
    embedding: Tensor,
    empty: Tensor | None,
    reference_act: Act,
    generator: torch.Generator,
) -> Iterator[Iterator[tuple[Tensor, dict[str, float]]]]:
    """Draw a trajectory for each row of `start`; yield `updates` losses, in parts, with what to log of each part.

    The parts of an update sum to its loss, and what they log to what is to be logged; the caller takes one step on
    all of them before it asks for the next update.

    start: b ≥ 2 reference photos for rewards that compare with them; its noise and timesteps are not looked at.
    embedding: (b, l, d) without gradient; empty: (1, l, d), for guidance other than 1. The prompts should be equal,
    for one baseline serves all. reference_act: the pretrained policy's action; not asked where kl_weight is 0.

    Raises:
        LookforwardError: settings that do not go together, a text encoder that is trained, or numbers that are not
            finite.
    """
    drawn = draw_trajectories(policy, environment, start, settings, embedding, empty, generator)
    total = drawn.log_p.numel()
    for update in range(settings.updates):
        chosen = torch.randperm(total, generator=generator)[: settings.pairs]
        yield _parts(policy, drawn, chosen, settings, reference_act, untouched=update == 0)


def _parts(
    policy: Policy, drawn: Trajectories, chosen: Tensor, settings: Dpok, reference_act: Act, untouched: bool
) -> Iterator[tuple[Tensor, dict[str, float]]]:
    terms = drawn.terms
    for some in chosen.split(settings.at_once):
        share = len(some) / len(chosen)
        loss, told = pairs_loss(policy, drawn, some, settings, reference_act, untouched)
        yield share * loss, terms | {name: share * value for name, value in told.items()}
        terms = {}


@torch.no_grad()
def draw_trajectories(
    policy: Policy,
    environment: Environment,
    start: Batch,
    settings: Dpok,
    embedding: Tensor,
    empty: Tensor | None,
    generator: torch.Generator,
) -> Trajectories:
    """Walk the chain with chance and judge where it ends; arguments and errors as in `dpok_losses`."""
    _check(settings, start, embedding)
    noise = draw_noise(start.x_0, generator)
    links = list(walk(policy, settings.chain, noise, embedding, empty, generator))
    end = links[-1]
    require_finite(end.x_next, "x_0", "lower learning_rate, or use precision fp32")
    reward, terms = environment.judge_told(arrive(policy, end, start))  # (b,)
    b = len(reward)
    others = (reward.sum() - reward) / (b - 1)  # (b,): what the other trajectories earned says nothing of this one
    return Trajectories(
        torch.stack([noise, *(link.x_next for link in links)]),
        timesteps(policy.schedule, settings.chain.steps).to(start.x_0.device),
        embedding,
        empty,
        torch.stack([_mean_log_p(link.x_next, link) for link in links]),
        reward - others,
        terms,
    )


def pairs_loss(
    policy: Policy, drawn: Trajectories, chosen: Tensor, settings: Dpok, reference_act: Act, untouched: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """The loss of some pairs, a scalar, and what to log of it.

    chosen: (p,) int64 in [0, N b), the places of the pairs in `log_p` laid out in one row. untouched: the policy is
    still the one that drew, so that ratios are 1. What was noted while drawing is not asked then: in half precision
    a batch of another size gives other last digits, and the clip, which is narrow, would take them for a change.
    """
    b = drawn.log_p.shape[1]
    chosen = chosen.to(drawn.x.device)
    i, j = chosen // b, chosen % b  # of the timestep and of the trajectory
    state = State(drawn.x[i, j], drawn.timestep[i], drawn.embedding[j])
    level = levels(policy.schedule, settings.chain.steps).to(drawn.x.device)
    now, later = level[i], level[i + 1]
    empty = drawn.empty if drawn.empty is None or len(drawn.empty) == 1 else drawn.empty[j]
    link = take(policy.act, state, now, later, settings.chain, empty)
    log_p = _mean_log_p(drawn.x[i + 1, j], link)  # (p,)
    ratio = (log_p - (log_p.detach() if untouched else drawn.log_p[i, j])).exp()
    clipped = ratio.clamp(1 - settings.ratio_clip, 1 + settings.ratio_clip)
    advantage = drawn.advantage[j]
    gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
    loss = -settings.reward_weight * gain  # rewards rise, losses fall
    terms = {
        "ratio": ratio.detach().mean().item(),
        "clipped": (ratio != clipped).float().mean().item(),
    }
    if settings.kl_weight > 0:
        with torch.no_grad():
            before = take(reference_act, state, now, later, settings.chain, empty).mean
        kl = kl_between(link.mean, before, link.deviation).mean()
        loss = loss + settings.kl_weight * kl
        terms["kl"] = kl.item()
    return loss, terms | {"loss": loss.item()}


def kl_between(mean: Tensor, other: Tensor, sigma: Tensor) -> Tensor:
    """KL of two Gaussians of one variance, (b,), the mean over c, h and w: (μ - μ')² / (2σ²)."""
    return ((mean - other) ** 2).mean(dim=(1, 2, 3)) / (2 * sigma**2)


def _mean_log_p(x: Tensor, link: Link) -> Tensor:
    """(b,)"""
    return log_probability(x, link.mean, link.deviation) / x[0].numel()


def _check(settings: Dpok, start: Batch, embedding: Tensor) -> None:
    if not settings.chain.eta > 0:
        raise LookforwardError(f"DPOK needs chance in the chain: chain_eta = {settings.chain.eta} must be above 0.")
    if len(start.x_0) < 2:
        raise LookforwardError("DPOK compares trajectories with one another: set dpok_trajectories to 2 or more.")
    if embedding.requires_grad:
        raise LookforwardError("DPOK trains the UNet alone: set train_text_encoder to false.")
