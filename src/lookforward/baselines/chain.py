"""The sampling chain of a policy: from pure noise to latents, by chance or without.

DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models", arXiv 2010.02502): from timestep t to the next one, t',

    x_t' ~ N(μ, σ²),  μ = √ᾱ_t' x̂_0,t + √(1-ᾱ_t'-σ²) ẑ_t                       (Eq. 12)
    σ = η √((1-ᾱ_t')/(1-ᾱ_t)) √(1-ᾱ_t/ᾱ_t')                                     (Eq. 16)

η = 0 is deterministic, the policy of the paper; η = 1 has the deviation of DDPM.

The timesteps are Stable Diffusion's, and so diffusers' with `timestep_spacing = "leading"`, `steps_offset = 1` and
`set_alpha_to_one = false`: of T = 1000 with 50 steps 981, 961, …, 1, and the chain ends at the level ᾱ_0, not at 1.
Thus σ of the last step is not 0, and its density is finite. Nothing is clipped. Single precision throughout; chance
comes from a generator on the CPU.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookforward.core.path import Schedule, look_forward, noise_between
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, State, Transition
from lookforward.errors import LookforwardError

Act = Callable[[State], Tensor]  # a state to its action, Eq. 2


@dataclass(frozen=True)
class Chain:
    """How images are drawn. steps: N ≥ 1. guidance: classifier-free, 1 is none. eta: η ≥ 0, chance in each step."""

    steps: int = 50
    guidance: float = 1.0
    eta: float = 0.0


@dataclass(frozen=True)
class Link:
    """One step of a chain.

    state: where it was taken. action: (b, c, h, w), the guided ẑ_t. mean: (b, c, h, w), μ. deviation: (b,), σ.
    x_next: (b, c, h, w), where it led; μ itself where σ = 0.
    """

    state: State
    action: Tensor
    mean: Tensor
    deviation: Tensor
    x_next: Tensor


def timesteps(schedule: Schedule, steps: int) -> Tensor:
    """The timesteps of a chain, (N,) int64, falling to 1.

    Raises:
        LookforwardError: the schedule has too few timesteps.
    """
    if not 1 <= steps < schedule.timesteps:
        raise LookforwardError(f"chain_steps = {steps} must lie in [1, {schedule.timesteps - 1}].")
    return torch.arange(steps - 1, -1, -1) * (schedule.timesteps // steps) + 1


def levels(schedule: Schedule, steps: int) -> Tensor:
    """ᾱ at each timestep of a chain and at its end, (N + 1,)."""
    return torch.cat([schedule.level(timesteps(schedule, steps)), schedule.level(torch.zeros(1, dtype=torch.int64))])


def guided(act: Act, state: State, empty: Tensor | None, guidance: float) -> Tensor:
    """The action with classifier-free guidance, (b, c, h, w): ẑ(∅) + w (ẑ(y) - ẑ(∅)), both in one forward pass.

    empty: (1 or b, l, d), the embedding of the empty prompt; not looked at where guidance is 1.
    """
    if guidance == 1:
        return act(state)
    if empty is None:
        raise ValueError(f"guidance {guidance} needs the embedding of the empty prompt")
    both = State(
        torch.cat([state.x_t, state.x_t]),
        torch.cat([state.timestep, state.timestep]),
        torch.cat([empty.expand_as(state.embedding), state.embedding]),
    )
    without, prompted = act(both).chunk(2)
    return without + guidance * (prompted - without)


def deviation(now: Tensor, later: Tensor, eta: float) -> Tensor:
    """σ of the step from level ᾱ_t to ᾱ_t', elementwise, Eq. 16."""
    return eta * ((1 - later) / (1 - now)).sqrt() * (1 - now / later).sqrt()


def step_mean(x_t: Tensor, action: Tensor, now: Tensor, later: Tensor, sigma: Tensor) -> Tensor:
    """μ, Eq. 12: x_t, action: (b, c, h, w); now, later, sigma: (b,), ᾱ_t, ᾱ_t' and σ; out: (b, c, h, w)."""
    signal, direction = later.sqrt(), (1 - later - sigma**2).clamp(min=0).sqrt()  # (b,)
    x_0_hat = look_forward(x_t, action, now)
    return signal[:, None, None, None] * x_0_hat + direction[:, None, None, None] * action.float()


def log_probability(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """log N(x; μ, σ²), (b,), the sum over c, h and w. x, mean: (b, c, h, w); sigma: (b,) > 0."""
    z = (x - mean) / sigma[:, None, None, None]
    each = -0.5 * z**2 - sigma.log()[:, None, None, None] - 0.5 * math.log(2 * math.pi)
    return each.sum(dim=(1, 2, 3))


def draw_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Pure noise in the shape of `like` and on its device, drawn on the CPU."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def walk(
    policy: Policy,
    chain: Chain,
    x_t: Tensor,
    embedding: Tensor,
    empty: Tensor | None,
    generator: torch.Generator,
    last: int = 0,
) -> Iterator[Link]:
    """The N steps of a chain that starts from pure noise x_t, (b, c, h, w); `x_next` of the last is the end.

    embedding: (b, l, d). generator: of the noise in each step, not drawn from where η = 0. last: K, how many of the
    last steps carry a gradient; what is before them is taken as it is.
    """
    schedule, steps = policy.schedule, chain.steps
    level = levels(schedule, steps).to(x_t.device)
    track = torch.is_grad_enabled()
    for i, t in enumerate(timesteps(schedule, steps).tolist()):
        with torch.set_grad_enabled(track and i >= steps - last):
            timestep = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
            state = State(x_t, timestep, embedding)
            link = take(policy.act, state, level[i].expand(len(x_t)), level[i + 1].expand(len(x_t)), chain, empty)
            if chain.eta > 0:
                z = draw_noise(x_t, generator)
                link = replace(link, x_next=link.mean + link.deviation[:, None, None, None] * z)
        yield link
        x_t = link.x_next


def take(act: Act, state: State, now: Tensor, later: Tensor, chain: Chain, empty: Tensor | None) -> Link:
    """One step, to its mean. now, later: (b,), ᾱ_t and ᾱ_t'."""
    action = guided(act, state, empty, chain.guidance)
    sigma = deviation(now, later, chain.eta)
    mean = step_mean(state.x_t, action, now, later, sigma)
    return Link(state, action, mean, sigma, mean)


def arrive(policy: Policy, end: Link, start: Batch) -> Transition:
    """The last step of a chain as a decision that rewards can judge: its x_0_hat is where the chain ended.

    start: the references that rewards compare with, as many as the chain has samples; its noise and timesteps are
    not looked at. The image is left to be decoded.
    """
    alpha_bar = policy.schedule.level(end.state.timestep)  # (b,)
    return Transition(
        state=end.state,
        action=end.action,
        noise=noise_between(end.state.x_t, start.x_0, alpha_bar),
        x_0=start.x_0,
        x_0_hat=end.x_next,
        alpha_bar=alpha_bar,
        prompts=start.plain_prompts,
        photo=start.photo,
        mask=start.mask,
        subject=start.subject,
    )
