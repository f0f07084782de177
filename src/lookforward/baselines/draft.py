"""DRaFT: the reward of a drawn image, differentiated straight through the chain that drew it.

Clark et al. 2024, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards", arXiv 2309.17400, Algorithm 1:

- DRaFT: through the whole chain, K = N.
- DRaFT-K: through its last K steps; what comes before is taken as it is.
- DRaFT-LV, for K = 1: the drawn x_0 is noised n times to the level of the last step, and each copy is denoised once
  with gradient; the mean of their rewards has the gradient of less variance.

Differences from the paper:

- The prompt is one subject's, and rewards may compare with its reference photos.
- What is trained is the adapter's choice, the text encoder included; the paper trains LoRA in the UNet.
- The last step is DDIM's from timestep 1 to ᾱ_0, as in `chain`, which leaves a trace of noise in x_0.
- Of DRaFT-LV only the n noised copies are paid; the chain itself is drawn without gradient.
- No gradient checkpointing: memory grows with K.
"""

from collections import deque
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lookforward.algorithm.environment import Environment, require_finite
from lookforward.baselines.chain import Chain, Link, arrive, draw_noise, levels, take, walk
from lookforward.core.path import add_noise
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, State
from lookforward.errors import LookforwardError


@dataclass(frozen=True)
class Draft:
    """chain: deterministic, η = 0. last: K in [1, N]. noises: n of DRaFT-LV, for K = 1; 0 is DRaFT-K itself."""

    chain: Chain = field(default_factory=lambda: Chain(steps=50, guidance=7.5))
    last: int = 1
    noises: int = 0


def draft_loss(
    policy: Policy,
    environment: Environment,
    start: Batch,
    settings: Draft,
    embedding: Tensor,
    empty: Tensor | None,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Draw an image for each row of `start` and differentiate its reward: the scalar loss and the logged terms.

    start: reference photos for rewards that compare with them, (b, …); its noise and timesteps are not looked at.
    embedding: (b, l, d); empty: (1, l, d), for guidance other than 1.

    Raises:
        LookforwardError: settings that do not go together, a reward that gives no gradient, or latents that are not
            finite.
    """
    _check(settings)
    noise = draw_noise(start.x_0, generator)
    last = 0 if settings.noises else settings.last
    # Of the links only the last one is kept
    end = deque(walk(policy, settings.chain, noise, embedding, empty, generator, last), maxlen=1).pop()
    if settings.noises:
        start = _repeat(start, settings.noises)
        end = _denoise_again(policy, settings, end, empty, generator)
    require_finite(end.x_next, "x_0", "lower learning_rate, or use precision fp32")
    remedy = (
        ", which DRaFT needs: take method = dpok, or method = dpg with the route through a critic (route = critic)."
    )
    reward, terms = environment.judge_told(arrive(policy, end, start), remedy)  # (b,) or (b n,)
    loss = -reward.mean()  # rewards rise, losses fall
    return loss, terms | {"loss": loss.item()}


def _denoise_again(
    policy: Policy, settings: Draft, end: Link, empty: Tensor | None, generator: torch.Generator
) -> Link:
    """The last step anew, with gradient, from n noised copies of where it led: each sample's copies in a row."""
    n = settings.noises
    x_0 = end.x_next.repeat_interleave(n, dim=0)  # (b n, c, h, w)
    timestep = end.state.timestep.repeat_interleave(n)
    now, later = levels(policy.schedule, settings.chain.steps).to(x_0.device)[-2:].unsqueeze(1).expand(2, len(x_0))
    state = State(
        add_noise(x_0, draw_noise(x_0, generator), now), timestep, end.state.embedding.repeat_interleave(n, dim=0)
    )
    if empty is not None and len(empty) > 1:
        empty = empty.repeat_interleave(n, dim=0)
    return take(policy.act, state, now, later, settings.chain, empty)


def _repeat(start: Batch, n: int) -> Batch:
    """Each row n times in a row, of what rewards look at."""
    photo, mask, subject = (
        None if x is None else x.repeat_interleave(n, dim=0) for x in (start.photo, start.mask, start.subject)
    )
    return replace(
        start,
        x_0=start.x_0.repeat_interleave(n, dim=0),
        plain_prompts=tuple(prompt for prompt in start.plain_prompts for _ in range(n)),
        photo=photo,
        mask=mask,
        subject=subject,
    )


def _check(settings: Draft) -> None:
    if settings.chain.eta != 0:
        raise LookforwardError("DRaFT draws without chance between the steps: set chain_eta to 0.")
    if not 1 <= settings.last <= settings.chain.steps:
        raise LookforwardError(f"draft_last = {settings.last} must lie in [1, chain_steps = {settings.chain.steps}].")
    if settings.noises < 0:
        raise LookforwardError(f"draft_noises = {settings.noises} must not be negative.")
    if settings.noises and settings.last != 1:
        raise LookforwardError(f"draft_noises is for draft_last = 1, not {settings.last}: set one of them back.")
