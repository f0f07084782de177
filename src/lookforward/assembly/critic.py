"""The critic that a config names, with what it learns from."""

import torch
from torch import nn

from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import Critique
from lookforward.config.settings import Settings
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.critics.value import ValueFunction
from lookforward.models.policy import DiffusionPolicy


def build_critique(settings: Settings, policy: DiffusionPolicy, latents: torch.Size, embedding: int) -> Critique | None:
    """latents: (c, h, w). embedding: width of an encoded prompt."""
    critic = _build_critic(settings, latents, embedding)
    if critic is None:
        return None
    scale = ReturnScale(policy.schedule.timesteps, settings.critic.bins)
    value = ValueFunction(
        critic, scale, settings.critic.target_momentum if settings.critic.target == "bootstrap" else None
    )
    value = value.to(policy.device)
    rate = settings.critic.learning_rate
    optimizer: torch.optim.Optimizer
    match settings.critic.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(value.trained_parameters(), lr=rate)
        case "adam":
            optimizer = torch.optim.Adam(value.trained_parameters(), lr=rate)
    return Critique(
        value,
        optimizer,
        Target(settings.critic.target, settings.objective.discount, settings.critic.target_samples),
        settings.critic.max_grad_norm,
        settings.critic.steps,
        settings.critic.warmup,
        settings.critic.every,
    )


def _build_critic(settings: Settings, latents: torch.Size, embedding: int) -> nn.Module | None:
    # Its own generator: recipes with and without a critic see the same photos, noise and timesteps for a seed
    generator = torch.Generator().manual_seed(settings.run.seed)
    channels, height, width = latents
    match settings.critic.name:
        case "none":
            return None
        case "residual":
            return ResidualCritic(channels, height, width, generator=generator)
        case "state-action":
            return StateActionCritic(channels, embedding, generator=generator)
