"""DRaFT: the reward of a drawn image, differentiated straight through the trajectory that drew it.

Clark et al. 2024, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards", arXiv 2309.17400, Algorithm 1:

- DRaFT: through the whole trajectory, K = N.
- DRaFT-K: through its last K steps; what comes before is taken as it is.
- DRaFT-LV, for K = 1: the drawn x_0 is noised n times to the level of the last step, and each copy is denoised once
  with gradient; the gradient of the mean of their rewards has less variance.

Differences from the paper:

- The prompt is one subject's, and rewards may compare with its reference photos.
- What is trained is the adapter's choice, text encoders included; the paper trains LoRA in the denoiser.
- The last step ends at level 0 of the path's table, as in `sampler`, which leaves a trace of noise in x_0.
- DRaFT-LV rewards only the n noised copies; the trajectory itself is drawn without gradient.
- No gradient checkpointing: memory grows with K.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lookforward.algorithm.environment import require_finite
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.readings import Metrics
from lookforward.baselines.sampler import (
    Sampler,
    SamplerStep,
    SamplingInputs,
    ddim_step,
    draw_noise,
    final_transition,
    sample_steps,
    sampler_timesteps,
)
from lookforward.core.path import add_noise
from lookforward.core.protocols import Policy
from lookforward.core.types import Conditioning, State, rows
from lookforward.errors import LookforwardError


@dataclass(frozen=True)
class Draft:
    """sampler: deterministic, η = 0. last: K in [1, N]. noises: n of DRaFT-LV, for K = 1; 0 is DRaFT-K itself.

    Raises:
        LookforwardError: settings that do not go together.
    """

    sampler: Sampler = field(default_factory=lambda: Sampler(steps=50, guidance=7.5))
    last: int = 1
    noises: int = 0

    def __post_init__(self) -> None:
        steps = self.sampler.steps
        problem = ""
        if self.sampler.eta != 0:
            problem = "DRaFT needs a deterministic sampler: set eta to 0."
        elif not 1 <= self.last <= steps:
            problem = f"baseline.draft_last = {self.last} must be in [1, baseline.sampler_steps = {steps}]."
        elif self.noises < 0:
            problem = f"baseline.draft_noises = {self.noises} must not be negative."
        elif self.noises and self.last != 1:
            problem = f"baseline.draft_noises needs baseline.draft_last = 1, not {self.last}."
        if problem:
            raise LookforwardError(problem, code="draft-settings")

    def losses(self, inputs: SamplingInputs) -> Iterator[Iterator[tuple[Tensor, Metrics]]]:
        """Draw an image for each row of `start` and differentiate its reward: one update, whose loss has one part.

        Raises:
            LookforwardError: a reward that gives no gradient, or latents that are not finite.
        """
        policy, start, empty, generator = inputs.policy, inputs.start, inputs.empty, inputs.generator
        processes = inputs.environment.processes
        noise = draw_noise(start.x_0, generator, processes)
        last = 0 if self.noises else self.last
        # Only the last step is kept
        end = deque(
            sample_steps(policy, self.sampler, noise, inputs.conditioning, empty, generator, last), maxlen=1
        ).pop()
        if self.noises:
            start = rows(start, torch.arange(len(noise), device=noise.device).repeat_interleave(self.noises))
            end = _denoise_again(policy, self, end, empty, generator, processes)
        require_finite(end.x_next, "x_0", "lower learning_rate, or use precision fp32")
        remedy = (
            ", which DRaFT needs: take baseline.name = dpok, or no baseline and a critic (objective.reward_gradient ="
            " critic)."
        )
        reward, metrics = inputs.environment.reward_with_metrics(
            final_transition(policy, end, start), remedy
        )  # (b,) or (b n,)
        loss = -reward.mean()  # rewards rise, losses fall
        yield iter([(loss, metrics | {"loss": loss.detach()})])


def _denoise_again(
    policy: Policy,
    settings: Draft,
    end: SamplerStep,
    empty: Conditioning | None,
    generator: torch.Generator,
    processes: Processes,
) -> SamplerStep:
    """The last step again, with gradient, from n noised copies of its result: each sample's copies in a row."""
    copies = torch.arange(len(end.x_next), device=end.x_next.device).repeat_interleave(settings.noises)
    x_0, timestep = end.x_next[copies], end.state.timestep[copies]  # (b n, c, h, w), (b n,)
    x_t = add_noise(x_0, draw_noise(x_0, generator, processes), *policy.path.of(x_0).at(timestep))
    state = State(x_t, timestep, end.state.conditioning.rows(copies))
    if empty is not None and len(empty) > 1:
        empty = empty.rows(copies)
    later = sampler_timesteps(policy.path, settings.sampler.steps)[-1].to(timestep.device).expand(len(timestep))
    return ddim_step(policy, policy.act, state, later, settings.sampler, empty)
