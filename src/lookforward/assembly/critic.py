"""The critic that a config names, with what it learns."""

import torch
from torch import nn

from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import CriticUpdater
from lookforward.config.settings import Settings
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.critics.value import ScaledCritic
from lookforward.models.policy import DiffusionPolicy


def build_critic_updater(
    settings: Settings, policy: DiffusionPolicy, latents: torch.Size, conditioning: int
) -> CriticUpdater | None:
    """latents: (c, h, w). conditioning: width of an encoded token. None for no critic."""
    network = _build_network(settings, latents, conditioning)
    if network is None:
        return None
    scale = ReturnScale(policy.path.timesteps, settings.critic.bins)
    momentum = settings.critic.target_momentum if settings.critic.target == "bootstrap" else None
    critic = ScaledCritic(network, scale, momentum).to(policy.device)
    rate = settings.critic.learning_rate
    optimizer: torch.optim.Optimizer
    match settings.critic.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(critic.trained_parameters(), lr=rate)
        case "adam":
            optimizer = torch.optim.Adam(critic.trained_parameters(), lr=rate)
    return CriticUpdater(
        critic,
        optimizer,
        Target(settings.critic.target, settings.objective.discount, settings.critic.target_samples),
        settings.critic.max_grad_norm,
        settings.critic.steps,
        settings.critic.warmup,
        settings.critic.every,
    )


def _build_network(settings: Settings, latents: torch.Size, conditioning: int) -> nn.Module | None:
    # Its own generator: recipes with and without a critic see the same photos, noise and timesteps for a seed
    generator = torch.Generator().manual_seed(settings.run.seed)
    channels, height, width = latents
    match settings.critic.name:
        case "none":
            return None
        case "residual":
            return ResidualCritic(channels, height, width, generator=generator)
        case "state-action":
            return StateActionCritic(channels, conditioning, generator=generator)
