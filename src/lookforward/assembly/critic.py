"""The critic that a config names, with what it learns from."""

import torch
from torch import nn

from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import Critique
from lookforward.config.settings import Config
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.critics.value import ValueFunction
from lookforward.models.policy import DiffusionPolicy


def build_critique(config: Config, policy: DiffusionPolicy, latents: torch.Size, embedding: int) -> Critique | None:
    """latents: (c, h, w). embedding: width of an encoded prompt."""
    critic = _build_critic(config, latents, embedding)
    if critic is None:
        return None
    scale = ReturnScale(policy.schedule.timesteps, config.critic_bins)
    value = ValueFunction(critic, scale, config.slow_critic if config.target == "bootstrap" else None)
    value = value.to(policy.device)
    rate = config.critic_learning_rate
    optimizer: torch.optim.Optimizer
    match config.critic_optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(value.trained_parameters(), lr=rate)
        case "adam":
            optimizer = torch.optim.Adam(value.trained_parameters(), lr=rate)
    return Critique(
        value,
        optimizer,
        Target(config.target, config.discount, config.target_samples),
        config.critic_max_grad_norm,
        config.critic_steps,
        config.critic_warmup,
        config.critic_every,
    )


def _build_critic(config: Config, latents: torch.Size, embedding: int) -> nn.Module | None:
    # Its own generator: recipes with and without a critic see the same photos, noise and timesteps for a seed
    generator = torch.Generator().manual_seed(config.seed)
    channels, height, width = latents
    match config.critic:
        case "none":
            return None
        case "residual":
            return ResidualCritic(channels, height, width, generator=generator)
        case "state-action":
            return StateActionCritic(channels, embedding, generator=generator)
