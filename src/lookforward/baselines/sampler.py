"""The sampling trajectory of a policy: from pure noise to latents, random or deterministic.

DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models", arXiv 2010.02502) on any path, from timestep t to the
next one, t':

    x_t' ~ N(μ, s²),  μ = a_t' x̂_0,t + √(σ_t'² - s²) ẑ_t                        (their Eq. 12)
    s = η (σ_t'/σ_t) √(a_t² + σ_t² - (a_t²/a_t'²) (a_t'² + σ_t'²))              (their Eq. 16, where a² + σ² = 1)

η = 0 is deterministic, the policy of the paper, and on a flow path an Euler step; η = 1 draws from the posterior of
the path itself, DDPM's.

On a path that keeps a trace of the image at its end, the timesteps are Stable Diffusion's, and so diffusers' with
`timestep_spacing = "leading"`, `steps_offset = 1` and `set_alpha_to_one = false`: of T = 1000 with 50 steps 981, 961,
…, 1. On one that ends in noise alone they begin there: 999, 979, …, 19. The trajectory ends at level 0 of the table,
not at a clean image, so that s of the last step is not 0 and its density is finite. Nothing is clipped. Single
precision throughout; random numbers come from a generator on the CPU.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from lookforward.algorithm.environment import Environment
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.core.path import NoisePath, like, noise_between
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, Conditioning, State, Transition
from lookforward.errors import LookforwardError

Act = Callable[[State], Tensor]  # a state to the model's output there, Eq. 2
# Outputs (b, c, h, w) with the prompt and with the empty one, and the guidance, to the guided output
Guide = Callable[[Tensor, Tensor, float], Tensor]


def classifier_free(prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
    """o(∅) + w (o(y) - o(∅)), Ho and Salimans (2022)."""
    return without + guidance * (prompted - without)


@dataclass(frozen=True)
class Sampler:
    """How images are drawn.

    steps: N ≥ 1. guidance: classifier-free, 1 is none. eta: η ≥ 0, randomness of each step. guide: how the model's own
    sampler joins the outputs with and without the prompt.
    """

    steps: int = 50
    guidance: float = 1.0
    eta: float = 0.0
    guide: Guide = classifier_free


@dataclass(frozen=True)
class SamplingInputs:
    """What a baseline draws its trajectories from, and what rewards them.

    start: b reference photos for rewards that compare with them; its noise and timesteps are not looked at.
    conditioning: of b prompts. empty: of the empty prompt, for guidance other than 1. generator: of all noise.
    parameters: what is trained, by name. step: how many steps are done.
    """

    policy: Policy
    environment: Environment
    start: Batch
    conditioning: Conditioning
    empty: Conditioning | None
    generator: torch.Generator
    parameters: Mapping[str, nn.Parameter] = field(default_factory=dict)
    step: int = 0


@dataclass(frozen=True)
class SamplerStep:
    """One step of a trajectory.

    state: where it was taken. action: (b, c, h, w), the guided output. mean: (b, c, h, w), μ. deviation: (b,), s.
    x_next: (b, c, h, w), where it led; μ itself where s = 0.
    """

    state: State
    action: Tensor
    mean: Tensor
    deviation: Tensor
    x_next: Tensor


# Policy, its act or another's, state, later timestep (b,), sampler, the empty prompt: to a step
Take = Callable[[Policy, Act, State, Tensor, Sampler, Conditioning | None], SamplerStep]


def sampler_timesteps(path: NoisePath, steps: int) -> Tensor:
    """The timesteps of a trajectory and its end, (N + 1,) int64, falling to 0.

    Raises:
        LookforwardError: the path has too few timesteps.
    """
    if not 1 <= steps < path.timesteps:
        raise LookforwardError(
            f"baseline.sampler_steps = {steps} must be in [1, {path.timesteps - 1}].",
            code="sampler-steps-out-of-range",
        )
    falling = torch.arange(steps - 1, -1, -1) * (path.timesteps // steps)
    first = 1 if path.signal[-1] > 0 else path.timesteps - 1 - int(falling[0])
    return torch.cat([falling + first, torch.zeros(1, dtype=torch.int64)])


def guided(
    act: Act, state: State, empty: Conditioning | None, guidance: float, guide: Guide = classifier_free
) -> Tensor:
    """The output with guidance, (b, c, h, w): those with and without the prompt are of one forward pass.

    empty: of the empty prompt, once or b times; not looked at where guidance is 1. A model that reads the scale
    itself (`conditioning.extra["guidance"]`) is shown it instead, with the prompt alone.
    """
    if "guidance" in state.conditioning.extra:
        return act(_shown(state, guidance))
    if guidance == 1:
        return act(state)
    if empty is None:
        raise ValueError(f"guidance {guidance} needs the encoded empty prompt")
    both = State(
        torch.cat([state.x_t, state.x_t]),
        torch.cat([state.timestep, state.timestep]),
        Conditioning.cat([empty.expand(len(state.x_t)), state.conditioning]),
    )
    without, prompted = act(both).chunk(2)
    return guide(prompted, without, guidance)


def _shown(state: State, guidance: float) -> State:
    extra = state.conditioning.extra
    scale = torch.full_like(extra["guidance"], guidance)
    return replace(state, conditioning=replace(state.conditioning, extra={**extra, "guidance": scale}))


def deviation(path: NoisePath, timestep: Tensor, later: Tensor, eta: float) -> Tensor:
    """s of the step from timestep to later, each (b,): (b,), DDIM's Eq. 16."""
    (a2, s2), (a2_later, s2_later) = path.squares_at(timestep), path.squares_at(later)
    return eta * (s2_later / s2).sqrt() * ((a2 + s2) - a2 / a2_later * (a2_later + s2_later)).clamp(min=0).sqrt()


def ddim_step(
    policy: Policy, act: Act, state: State, later: Tensor, sampler: Sampler, empty: Conditioning | None
) -> SamplerStep:
    """One step to timestep `later` (b,), to its mean: DDIM's Eq. 12. act: the policy's, or another's."""
    path, prediction = policy.path.of(state.x_t), policy.prediction
    output = guided(act, state, empty, sampler.guidance, sampler.guide)
    levels = path.at(state.timestep)
    s = deviation(path, state.timestep, later, sampler.eta)
    direction = (path.squares_at(later)[1] - s**2).clamp(min=0).sqrt()  # (b,)
    x_0_hat = prediction.x_0_hat(output, state.x_t, *levels)
    noise = prediction.noise(output, state.x_t, *levels)
    mean = like(path.at(later)[0], x_0_hat) * x_0_hat + like(direction, noise) * noise
    return SamplerStep(state, output, mean, s, mean)


def sample_steps(
    policy: Policy,
    sampler: Sampler,
    x_t: Tensor,
    conditioning: Conditioning,
    empty: Conditioning | None,
    generator: torch.Generator,
    last: int = 0,
    take: Take | None = None,
) -> Iterator[SamplerStep]:
    """The N steps of a trajectory that starts from pure noise x_t, (b, c, h, w); `x_next` of the last is the end.

    generator: of the noise in each step, not drawn from where η = 0. last: K, how many of the last steps carry a
    gradient; what is before them is taken as it is. take: one step, that of DDIM if it is not given.
    """
    take = take or ddim_step
    timesteps = sampler_timesteps(policy.path, sampler.steps).tolist()
    track = torch.is_grad_enabled()
    for i, (t, later) in enumerate(pairwise(timesteps)):
        with torch.set_grad_enabled(track and i >= sampler.steps - last):
            now = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
            step = take(policy, policy.act, State(x_t, now, conditioning), torch.full_like(now, later), sampler, empty)
            if sampler.eta > 0:
                z = draw_noise(x_t, generator)
                step = replace(step, x_next=step.mean + like(step.deviation, z) * z)
        yield step
        x_t = step.x_next


def log_probability(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """log N(x; μ, s²), (b,), the sum over c, h and w. x, mean: (b, c, h, w); sigma: (b,) > 0."""
    z = (x - mean) / sigma[:, None, None, None]
    each = -0.5 * z**2 - sigma.log()[:, None, None, None] - 0.5 * math.log(2 * math.pi)
    return each.sum(dim=(1, 2, 3))


def draw_noise(shape_of: Tensor, generator: torch.Generator, processes: Processes = ALONE) -> Tensor:
    """Pure noise in the shape of a tensor and on its device, drawn on the CPU: of all processes', this one's."""
    return processes.sample(torch.randn, *shape_of.shape, generator=generator).to(shape_of.device)


def final_transition(policy: Policy, end: SamplerStep, start: Batch) -> Transition:
    """The last step of a trajectory as a transition for rewards: its x_0_hat is where the trajectory ended.

    start: the references that rewards compare with, as many as there are trajectories; its noise and timesteps are
    not looked at. The image is left to be decoded.
    """
    signal, noise_level = policy.path.of(start.x_0).at(end.state.timestep)  # (b,)
    noise = noise_between(end.state.x_t, start.x_0, signal, noise_level)
    return Transition(
        state=end.state,
        action=end.action,
        target=policy.prediction.target(start.x_0, noise, signal, noise_level),
        noise=noise,
        x_0=start.x_0,
        x_0_hat=end.x_next,
        signal=signal,
        noise_level=noise_level,
        prompts=start.plain_prompts,
        photo=start.photo,
        mask=start.mask,
        subject=start.subject,
    )
