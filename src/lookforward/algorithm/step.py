"""Algorithm 1 of the paper, one step of it.

    lines 3, 4   draw photos x_0, noise z and timesteps t; noise them to x_t                    Eq. 6
    line 5       act: o = π_θ(x_t, t, τ(y)); look forward: x̂_0                                 Eqs. 2, 7
    lines 6-8    reward r; target return; one step of the critic Q_φ towards it                 Eqs. 4, 8-10
    line 9       one step of the policy up the gradient of λ γ^t Q_φ - ‖o - target‖²            Eq. 11

Rewards rise, losses fall; the critic predicts a return and the policy maximises it.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lookforward.algorithm.comparison import dco_loss, preference_loss
from lookforward.algorithm.environment import act_on
from lookforward.algorithm.micro_batches import InParts, decoding_in_parts, split
from lookforward.algorithm.readings import Metrics, read
from lookforward.algorithm.returns import compute_target
from lookforward.algorithm.trainer import CriticUpdater, Trainer
from lookforward.algorithm.updates import act_with_prompts, critic_step, join_actions, update_policy
from lookforward.core.types import Transition

_NO_GRADIENT = ": let the policy follow a critic (objective.reward_gradient = critic)."


def train_step(trainer: Trainer) -> dict[str, float]:
    """One step of the policy, and of the critic if there is one; returns metrics.

    Raises LookforwardError if a number is not finite or a reward fails; then the policy was not changed.
    """
    # Draw: photos and as many class images, with noise and timesteps (lines 3 and 4)
    batch = trainer.draw(trainer.references, trainer.generator)  # x_0, z: (b, c, h, w); t: (b,)
    batch = replace(batch, class_images=trainer.draw_class(batch))
    metrics: Metrics = {"timestep": batch.timestep.float().mean()}
    parts = split(batch, trainer.accumulate)  # micro-batches
    if trainer.dropout is not None:
        trainer.dropout.begin(batch, len(parts))

    # Act: o in the state (x_t, t, τ(y)), and what it predicts (line 5; Eqs. 6, 2, 7)
    acted = act_with_prompts(trainer, batch) if len(parts) == 1 else None

    # Reward, target, critic (lines 6 to 8)
    if (updater := trainer.critic_updater) is not None and trainer.step % updater.every == 0:
        # It learns before the policy follows it, so that micro-batches act once more, without a gradient
        transition = acted[0] if acted else join_actions(trainer, parts)
        metrics |= update_critic(trainer, updater, transition)

    # Policy (line 9), one micro-batch in memory at a time
    terms: list[Metrics] = []

    def losses() -> Iterator[Tensor]:
        for i, part in enumerate(parts):
            transition, class_transition = acted or act_with_prompts(trainer, part, i)
            loss, found = policy_loss(trainer, transition, class_transition)
            terms.append(found)
            yield loss / len(parts) if len(parts) > 1 else loss

    gradient = update_policy(trainer, losses())
    metrics |= {name: sum(one[name] for one in terms) / len(terms) for name in terms[0]}
    return read(metrics | {"gradient": gradient})


def policy_loss(
    trainer: Trainer, transition: Transition, class_transition: Transition | None
) -> tuple[Tensor, Metrics]:
    """The negative of Eq. 11, a scalar, and metrics."""
    environment, objective = trainer.environment, trainer.objective
    metrics: Metrics = {}
    q: Tensor | None = None  # (b,): Q of this action, with its gradient
    if (updater := trainer.critic_updater) is not None:
        if trainer.step >= updater.warmup:
            q = updater.critic(transition)  # Q_φ(s_t, o)
    elif trainer.reward_gradient:  # the reward itself takes the critic's place
        q, rewards = environment.reward_with_metrics(transition, _NO_GRADIENT)
        metrics |= rewards
    reconstruction = trainer.error(transition)  # Eq. 1
    metrics["noise_loss"] = reconstruction.detach()
    if objective.dco:
        reconstruction, compared = dco_loss(trainer, transition)
        metrics |= compared
    loss = objective.reconstruction_weight * reconstruction
    if class_transition is not None and objective.preference:
        preference, compared = preference_loss(trainer, transition, class_transition)
        loss = loss + objective.prior_weight * preference
        metrics |= compared
    elif class_transition is not None:
        prior = trainer.error(class_transition)  # prior preservation
        loss = loss + objective.prior_weight * prior
        metrics["prior_loss"] = prior.detach()
    if q is not None:
        value = (objective.discount**transition.state.timestep * q).mean()  # γ^t Q, each sample by its own t
        loss = loss - objective.critic_weight * value  # Eq. 11
        metrics["value"] = value.detach()
    return loss, metrics | {"loss": loss.detach()}


def update_critic(trainer: Trainer, updater: CriticUpdater, transition: Transition) -> Metrics:
    """Regress the critic on the returns of this transition, then of further batches; returns metrics of the first."""
    policy, environment, generator = trainer.policy, trainer.environment, trainer.critic_generator
    if trainer.accumulate > 1:  # what needs no gradient goes through micro-batches too
        size = len(transition.x_0) // trainer.accumulate
        policy, environment = InParts(policy, size), decoding_in_parts(environment, size)
    now = transition.detach()
    reward, metrics = environment.reward_with_metrics(now)  # r_t: (b,); Eqs. 8, 10
    for i in range(updater.steps):
        if i > 0:
            batch = trainer.draw(trainer.references, generator)
            with torch.no_grad():
                now = act_on(policy, batch, trainer.prompts(batch.prompts))[0].detach()
                reward = environment.reward(now)
        q_target = compute_target(
            updater.target, environment, policy, now, reward, updater.critic, generator
        )  # Eqs. 4, 9
        learned = critic_step(updater, now, q_target, trainer.processes)
        metrics |= learned if i == 0 else {}
    return metrics
