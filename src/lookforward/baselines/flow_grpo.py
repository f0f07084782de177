"""Flow-GRPO: DPOK's policy gradient on a flow model, whose sampler is made random, with advantages within a group.

Liu et al. 2025, "Flow-GRPO: Training Flow Matching Models via Online RL", arXiv 2505.05470. The deterministic Euler
step of a flow becomes one of a stochastic differential equation with the same marginals: from level σ to σ', with dt =
σ' - σ,

    x' ~ N(μ, s² |dt|),  μ = x (1 + s²/(2σ) dt) + v (1 + s² (1 - σ)/(2σ)) dt,  s = a √(σ / (1 - σ))

where a is `Sampler.eta`, and v the model's output. At pure noise, σ = 1, the root takes the next level instead. The
advantage of an image is how many deviations its reward lies above the mean of the group of its step, in [-5, 5].
`dpok.Dpok` does the rest: the clipped importance ratio and the KL to the untouched model.

Differences from the paper and its code:

- One prompt, the subject's: a step has one group, whose deviation takes the place of the batch's.
- A step takes `baseline.dpok_updates` updates on random pairs of image and sampler step; the paper takes all pairs.
- KL is exact; the code divides by s² instead of s² |dt|.
- The last step ends at level 0 of the path's table, as in `sampler`.
- What is trained in the denoiser is the adapter's choice; the paper trains LoRA of rank 32. No EMA unless asked for.
"""

import torch
from torch import Tensor

from lookforward.baselines.sampler import Act, Sampler, SamplerStep, guided
from lookforward.core.path import like
from lookforward.core.prediction import Prediction
from lookforward.core.protocols import Policy
from lookforward.core.types import Conditioning, State

_MOST = 5.0  # of an advantage


def flow_step(
    policy: Policy, act: Act, state: State, later: Tensor, sampler: Sampler, empty: Conditioning | None
) -> SamplerStep:
    """One random step to timestep `later` (b,), to its mean. act: the policy's, or another's.

    Raises:
        ValueError: the model predicts no flow.
    """
    if policy.prediction is not Prediction.FLOW:
        raise ValueError(f"Flow-GRPO steps along a flow, and the model predicts {policy.prediction}")
    path = policy.path.of(state.x_t)
    sigma, following = path.at(state.timestep)[1], path.at(later)[1]  # (b,)
    output = guided(act, state, empty, sampler.guidance, sampler.guide)
    dt = following - sigma  # below 0
    below = 1 - torch.where(sigma >= 1, following, sigma)
    s = sampler.eta * (sigma / below).sqrt()
    drift = s**2 / (2 * sigma)
    mean = like(1 + drift * dt, output) * state.x_t.float() + like((1 + drift * (1 - sigma)) * dt, output) * output
    return SamplerStep(state, output, mean, s * (-dt).sqrt(), mean)


def group_advantage(reward: Tensor) -> Tensor:
    """Rewards of one group, (b,), in deviations from their mean, cut to [-5, 5]."""
    deviation = reward.std(correction=0) + 1e-4  # as in the authors' code
    return ((reward - reward.mean()) / deviation).clamp(-_MOST, _MOST)
