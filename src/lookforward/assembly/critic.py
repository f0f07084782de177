"""The critic that a config names, with what it learns."""

import torch
from torch import nn

from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import CriticUpdater
from lookforward.config.settings import Config
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.critics.value import ScaledCritic
from lookforward.models.policy import DiffusionPolicy


def build_critic_updater(
    config: Config, policy: DiffusionPolicy, latents: torch.Size, conditioning: int
) -> CriticUpdater | None:
    """latents: (c, h, w). conditioning: width of an encoded token. None for no critic."""
    network = _build_network(config, latents, conditioning)
    if network is None:
        return None
    scale = ReturnScale(policy.path.timesteps, config.critic_bins)
    critic = ScaledCritic(network, scale, config.slow_critic if config.target == "bootstrap" else None)
    critic = critic.to(policy.device)
    rate = config.critic_learning_rate
    optimizer: torch.optim.Optimizer
    match config.critic_optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(critic.trained_parameters(), lr=rate)
        case "adam":
            optimizer = torch.optim.Adam(critic.trained_parameters(), lr=rate)
    return CriticUpdater(
        critic,
        optimizer,
        Target(config.target, config.discount, config.target_samples),
        config.critic_max_grad_norm,
        config.critic_steps,
        config.critic_warmup,
        config.critic_every,
    )


def _build_network(config: Config, latents: torch.Size, conditioning: int) -> nn.Module | None:
    # Its own generator: recipes with and without a critic see the same photos, noise and timesteps for a seed
    generator = torch.Generator().manual_seed(config.seed)
    channels, height, width = latents
    match config.critic:
        case "none":
            return None
        case "residual":
            return ResidualCritic(channels, height, width, generator=generator)
        case "state-action":
            return StateActionCritic(channels, conditioning, generator=generator)
