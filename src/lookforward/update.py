"""The algorithm: one step of the critic and one step of the policy (Algorithm 1 of the paper).

Read it beside the paper: `decide` is lines 3 to 5, `critic_step` lines 6 to 8, `policy_step` line 9 with the
gradient of Eq. 11. Rewards rise, losses fall; the critic predicts a return and the policy maximises it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from lookforward.errors import LookforwardError
from lookforward.protocols import Critic, Policy, Reward
from lookforward.records import Batch, State, Transition
from lookforward.schedule import add_noise, look_forward


@dataclass(frozen=True)
class Objective:
    """What the policy is trained for: λ γ^t Q - w_ε ‖ε - ε_θ‖² - w_prior ‖ε - ε_θ‖² on prior images.

    critic_weight: λ of Eq. 11; 0 is DreamBooth.
    noise_weight: w_ε, weight of the reconstruction of Eq. 1; 1 in the paper, 0 in the released code.
    prior_weight: w_prior, weight of prior preservation.
    discount: γ in (0, 1]; the critic's word counts γ^t at timestep t, each sample by its own t.
    """

    critic_weight: float
    noise_weight: float
    prior_weight: float
    discount: float


def decide(policy: Policy, batch: Batch, embedding: Tensor) -> tuple[Transition, Transition | None]:
    """Walk to x_t (Eq. 6), ask the policy for its action (Eq. 2) and look forward from it (Eq. 7).

    embedding: (b, l, d), or (b + prior, l, d) with the prior images' prompts last. Reference photos and prior
    images share one forward pass. Returns their transitions, which carry the gradient; the second is None
    without prior images.

    Raises:
        LookforwardError: the action is not finite.
    """
    x_0, noise, timestep = batch.x_0, batch.noise, batch.timestep
    if batch.prior is not None:
        x_0, noise = torch.cat([x_0, batch.prior.x_0]), torch.cat([noise, batch.prior.noise])
        timestep = torch.cat([timestep, batch.prior.timestep])
    alpha_bar = policy.schedule.level(timestep)  # (b,)
    x_t = add_noise(x_0, noise, alpha_bar)  # Eq. 6
    state = State(x_t, timestep, embedding)
    action = policy.act(state)  # ẑ_t, Eq. 2
    require_finite(action, "action", "lower learning_rate, or use precision fp32")
    x_0_hat = look_forward(x_t, action, alpha_bar)  # Eq. 7
    both = Transition(state, action, noise, x_0, x_0_hat, alpha_bar)
    b = len(batch.x_0)
    return rows(both, slice(None, b)), rows(both, slice(b, None)) if batch.prior is not None else None


def critic_step(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    reward: Reward,
    transition: Transition,
    max_norm: float = 1.0,
) -> dict[str, float]:
    """Regress the critic on the return of what the policy did: line 8 of Algorithm 1, Eq. 4.

    The return is the one-step reward, as in the released code: with x_{t-1} made by noising the reference,
    the rest of the sum in Eq. 4 does not depend on the action and would change no gradient of the policy.

    Raises:
        LookforwardError: the loss or a gradient is not finite; nothing was changed.
    """
    transition = detached(transition)
    q_target = reward(transition)  # (b,)
    q = critic(transition)  # (b,)
    loss = mse_loss(q, q_target)
    require_finite(loss, "critic_loss", "the critic's learning rate is too high: lower critic_learning_rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # A return near t = T is a thousand times one near t = 0: unclipped, one such step throws the critic off
    norm = torch.nn.utils.clip_grad_norm_(list(critic.parameters()), max_norm)
    require_finite(norm, "critic_gradient", "the critic's learning rate is too high: lower critic_learning_rate")
    optimizer.step()
    return {
        "critic_loss": loss.item(),
        "q": q.detach().mean().item(),
        "q_target": q_target.mean().item(),
        "reward": q_target.mean().item(),
    }


def policy_loss(
    transition: Transition, prior: Transition | None, critic: Critic | None, objective: Objective
) -> tuple[Tensor, dict[str, float]]:
    """The loss whose descent is the ascent of Eq. 11, with the prior preservation of DreamBooth.

    Returns the scalar loss and the logged terms. The gradient reaches the policy through the action, both
    straight (noise reconstruction) and through the critic, whose own parameters stay as they are.
    """
    noise_loss = ((transition.action - transition.noise) ** 2).mean()  # Eq. 1
    loss = objective.noise_weight * noise_loss
    terms = {"noise_loss": noise_loss.item()}
    if prior is not None:
        prior_loss = ((prior.action - prior.noise) ** 2).mean()
        loss = loss + objective.prior_weight * prior_loss
        terms["prior_loss"] = prior_loss.item()
    if critic is not None:
        q = critic(transition)  # (b,)
        discount = objective.discount**transition.state.timestep  # γ^t, (b,): each sample by its own t
        value = (discount * q).mean()
        loss = loss - objective.critic_weight * value  # rewards rise, losses fall: Eq. 11
        terms["value"] = value.item()
    return loss, terms | {"loss": loss.item()}


def policy_step(optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor, max_norm: float) -> float:
    """One step of the policy against `loss`; returns the norm of the gradient before clipping.

    Raises:
        LookforwardError: the loss or a gradient is not finite; nothing was changed.
    """
    remedy = "lower learning_rate or critic_weight, or use precision fp32"
    require_finite(loss, "loss", remedy)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    require_finite(norm, "gradient", remedy)
    optimizer.step()
    return norm.item()


def detached(transition: Transition) -> Transition:
    """The same transition without its gradient: what the critic learns from."""
    return replace(transition, action=transition.action.detach(), x_0_hat=transition.x_0_hat.detach())


def rows(transition: Transition, chosen: slice) -> Transition:
    """Some samples of a transition."""
    s = transition.state
    return Transition(
        State(s.x_t[chosen], s.timestep[chosen], s.embedding[chosen]),
        transition.action[chosen],
        transition.noise[chosen],
        transition.x_0[chosen],
        transition.x_0_hat[chosen],
        transition.alpha_bar[chosen],
    )


def require_finite(value: Tensor, name: str, remedy: str) -> None:
    """Stop before a NaN or an infinity reaches the weights."""
    if not bool(torch.isfinite(value).all()):
        raise LookforwardError(f"{name} is {value.detach().mean().item()}: nothing was updated; {remedy}.")
