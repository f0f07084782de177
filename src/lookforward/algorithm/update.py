"""The algorithm: one step of the critic and one step of the policy (Algorithm 1 of the paper).

Read it beside the paper: `environment.decide` is lines 3 to 5, `critic_step` with a target of `returns` lines 6 to 8,
`policy_step` line 9 with the gradient of Eq. 11. Rewards rise, losses fall; the critic predicts a return and the
policy maximises it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from lookforward.algorithm.environment import Environment, detached, require_finite
from lookforward.core.types import Transition
from lookforward.critics.value import ValueFunction

RATE_TOO_HIGH = "the critic's learning rate is too high: lower critic_learning_rate"


@dataclass(frozen=True)
class Objective:
    """What the policy is trained for: λ γ^t Q - w_ε ‖ε - ε_θ‖² - w_prior ‖ε - ε_θ‖² on prior images.

    critic_weight: λ of Eq. 11; 0 is DreamBooth.
    noise_weight: w_ε, weight of the reconstruction of Eq. 1; 1 in the paper, 0 in the released code.
    prior_weight: w_prior, weight of prior preservation.
    discount: γ in (0, 1], by which the critic's word, or the reward on the direct route, counts γ^t at timestep t,
        each sample by its own t: the released code's. 1 where the returns themselves are discounted, as in the paper.
    """

    critic_weight: float
    noise_weight: float
    prior_weight: float
    discount: float


def critic_step(
    value: ValueFunction,
    optimizer: torch.optim.Optimizer,
    transition: Transition,
    q_target: Tensor,
    max_norm: float = 1.0,
) -> dict[str, float]:
    """Regress the critic on the returns (b,) of what the policy did: line 8 of Algorithm 1.

    Raises:
        LookforwardError: the loss or a gradient is not finite; the critic was not changed.
    """
    transition, timestep = detached(transition), transition.state.timestep
    require_finite(q_target, "q_target", "the reward, or what foretells it, has left all bounds; lower critic_weight")
    value.scale.observe(q_target, timestep)
    wanted = value.scale.normalise(q_target, timestep)  # (b,)
    q = value(transition)  # (b,)
    loss = mse_loss(q, wanted)
    require_finite(loss, "critic_loss", RATE_TOO_HIGH)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # A return near t = T is a thousand times one near t = 0: unclipped, one such step throws the critic off
    norm = torch.nn.utils.clip_grad_norm_(value.trained_parameters(), max_norm)
    require_finite(norm, "critic_gradient", RATE_TOO_HIGH)
    optimizer.step()
    value.follow()
    return {
        "critic_loss": loss.item(),
        "q": q.detach().mean().item(),
        "q_target": q_target.mean().item(),
        "explained_variance": value.fit.observe(q.detach(), wanted),
    }


def policy_loss(
    transition: Transition, prior: Transition | None, worth: Tensor | None, objective: Objective
) -> tuple[Tensor, dict[str, float]]:
    """The loss whose descent is the ascent of Eq. 11, with the prior preservation of DreamBooth.

    worth: (b,), what the critic (or a differentiable reward) makes of the transition, with its gradient to the
    action; None where it has no say. Returns the scalar loss and the logged terms.
    """
    noise_loss = transition.counted((transition.action - transition.noise) ** 2).mean()  # Eq. 1
    loss = objective.noise_weight * noise_loss
    terms = {"noise_loss": noise_loss.item()}
    if prior is not None:
        prior_loss = ((prior.action - prior.noise) ** 2).mean()
        loss = loss + objective.prior_weight * prior_loss
        terms["prior_loss"] = prior_loss.item()
    if worth is not None:
        discount = objective.discount**transition.state.timestep  # γ^t, (b,): each sample by its own t
        value = (discount * worth).mean()
        loss = loss - objective.critic_weight * value  # rewards rise, losses fall: Eq. 11
        terms["value"] = value.item()
    return loss, terms | {"loss": loss.item()}


def policy_step(
    optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor | Iterable[Tensor], max_norm: float
) -> float:
    """One step of the policy against `loss`; returns the norm of the gradient before clipping.

    loss: a scalar, or parts that sum to it, of which one at a time is in memory.

    Raises:
        LookforwardError: the loss or a gradient is not finite; nothing was changed.
    """
    remedy = "lower learning_rate or critic_weight, or use precision fp32"
    optimizer.zero_grad(set_to_none=True)
    for part in (loss,) if isinstance(loss, Tensor) else loss:
        require_finite(part, "loss", remedy)
        part.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    require_finite(norm, "gradient", remedy)
    optimizer.step()
    return norm.item()


def reward_worth(environment: Environment, transition: Transition) -> tuple[Tensor, dict[str, float]]:
    """The direct route, (b,): the reward itself, differentiated straight through the decoder where it sees images.

    With what to log of it.

    Raises:
        LookforwardError: the reward gives no gradient.
    """
    return environment.judge_told(transition, ": take the route through a critic (route = critic).")
