"""Small stand-ins for tests of the algorithm: random transitions, a tiny policy and a trainer of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.algorithm.environment import Environment
from lookforward.algorithm.examples import Examples, PromptCache
from lookforward.algorithm.returns import Target
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import CriticUpdater, Objective, Trainer
from lookforward.core.path import NoisePath, add_noise, variance_preserving
from lookforward.core.prediction import Prediction
from lookforward.core.protocols import Adapter, Reward
from lookforward.core.types import CachedLatents, Conditioning, State, Transition
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.critics.value import ScaledCritic
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.weighted import WeightedSum


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> NoisePath:
    """Stable Diffusion 1's path: betas whose square roots are evenly spaced."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float32) ** 2
    return variance_preserving(torch.cumprod(1 - betas, dim=0))


PATH = scaled_linear()


def paying(*rewards: Reward, **settings: Any) -> Environment:
    """An environment that pays the sum of some rewards, Look Forward if none is given."""
    return Environment(WeightedSum([(1.0, reward) for reward in rewards or (LookForwardReward(),)]), **settings)


def scaled(network: nn.Module, bins: int = 0, momentum: float | None = None) -> ScaledCritic:
    return ScaledCritic(network, ReturnScale(1000, bins), momentum)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_transition(
    x_0: Tensor,
    noise: Tensor,
    action: Tensor,
    timestep: Tensor,
    prediction: Prediction = Prediction.EPSILON,
    path: NoisePath = PATH,
) -> Transition:
    """What follows from an action, by Eqs. 6 and 7."""
    signal, noise_level = path.at(timestep)
    x_t = add_noise(x_0, noise, signal, noise_level)
    state = State(x_t, timestep, Conditioning(torch.zeros(len(x_0), 1, 1)))
    target = prediction.target(x_0, noise, signal, noise_level)
    x_0_hat = prediction.x_0_hat(action, x_t, signal, noise_level)
    return Transition(state, action, target, noise, x_0, x_0_hat, signal, noise_level)


def random_transition(
    generator: torch.Generator, count: int, size: int = 8, error: float = 1.0, timesteps: int = 1000
) -> Transition:
    """`count` transitions whose actions miss the noise by up to `error`, each by its own share of it."""
    x_0 = torch.randn(count, 4, size, size, generator=generator)
    noise = torch.randn(x_0.shape, generator=generator)
    miss = error * torch.rand(count, 1, 1, 1, generator=generator)
    action = noise + miss * torch.randn(x_0.shape, generator=generator)
    return make_transition(x_0, noise, action, torch.randint(timesteps, (count,), generator=generator))


class TinyPolicy(nn.Module):
    """One convolution and a table of letters; remembers what it was asked to encode."""

    path: NoisePath

    def __init__(self, seed: int = 0, channels: int = 4) -> None:
        super().__init__()
        self.path, self.prediction = PATH, Prediction.EPSILON
        self.unet = nn.Conv2d(channels, channels, 3, padding=1)
        self.letters = nn.Embedding(32, channels)
        self.encoded: list[tuple[str, ...]] = []
        generator = seeded(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        self.encoded.append(tuple(prompts))
        tokens = torch.tensor([[ord(letter) % 32 for letter in prompt[-8:].rjust(8)] for prompt in prompts])
        return Conditioning(self.letters(tokens))

    def act(self, state: State) -> Tensor:
        words = state.conditioning.tokens.mean(dim=1)[:, :, None, None]
        return self.unet(state.x_t) + words * (1 + state.timestep[:, None, None, None] / 1000)


def references_of(trainer: Trainer) -> Examples:
    """The photos of a trainer that has no buckets."""
    assert isinstance(trainer.references, Examples)
    return trainer.references


def cached(seed: int, count: int = 3, std: float = 0.1, channels: int = 4, size: int = 8) -> CachedLatents:
    mean = torch.randn(count, channels, size, size, generator=seeded(seed))
    return CachedLatents(mean, torch.full_like(mean, std), 0.5)


def tiny_trainer(
    seed: int = 0,
    *,
    weights: int = 0,
    critic: str = "sgd",
    prior: bool = True,
    train_text_encoder: bool = True,
    channels: int = 4,
    environment: Environment | None = None,
    target: Target | None = None,
    bins: int = 0,
    **updater: Any,
) -> Trainer:
    """A trainer of `TinyPolicy`. seed: of the run; weights: seed of the policy.

    critic: none, sgd or adam (released), or state-action.
    """
    generator = seeded(seed)
    policy = TinyPolicy(weights, channels)
    parameters = dict(policy.named_parameters())
    if not train_text_encoder:
        del parameters["letters.weight"]
    target = target or Target("one-step", 0.9986)
    learned = None
    if critic != "none":
        network = (
            StateActionCritic(channels, channels, widths=(8, 8), generator=generator)
            if critic == "state-action"
            else ResidualCritic(channels, 8, 8, generator=generator)
        )
        scaled_critic = scaled(network, bins, 0.9 if target.kind == "bootstrap" else None)
        kind = torch.optim.SGD if critic == "sgd" else torch.optim.Adam
        # a policy of noise makes enormous returns
        learned = CriticUpdater(scaled_critic, kind(scaled_critic.trained_parameters(), lr=1e-6), target, **updater)
    return Trainer(
        take_step=train_step,
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(parameters.values(), lr=0.01),
        environment=environment or paying(),
        critic_updater=learned,
        reward_gradient=False,
        objective=Objective(critic_weight=1.0, reconstruction_weight=1.0, prior_weight=1.0, discount=0.9986),
        references=Examples(cached(1, channels=channels), ("a photo of sks dog",) * 3, ("a photo of dog",) * 3),
        class_images=Examples(cached(2, channels=channels), ("a photo of dog",) * 3) if prior else None,
        prompts=PromptCache(policy, train_text_encoder),
        batch_size=2,
        max_grad_norm=1.0,
        generator=generator,
        critic_generator=seeded(seed + 1),
        adapter_generator=seeded(seed + 2),
    )


def pipeline_trainer(
    policy: Any, adapter: Adapter, prompt: str, *, seed: int = 0, rate: float = 0.01, class_images: bool = False
) -> Trainer:
    """A trainer of an adapter in a pipeline, by reconstruction alone."""
    parameters = adapter.attach(policy)
    return Trainer(
        take_step=train_step,
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(parameters.values(), lr=rate),
        environment=paying(),
        critic_updater=None,
        reward_gradient=False,
        objective=Objective(critic_weight=0.0, reconstruction_weight=1.0, prior_weight=1.0, discount=1.0),
        references=Examples(cached(1), (prompt,) * 3, ("a photo of dog",) * 3),
        class_images=Examples(cached(2), ("a photo of dog",) * 3) if class_images else None,
        prompts=PromptCache(policy, adapter.changes_prompts),
        batch_size=2,
        max_grad_norm=1.0,
        generator=seeded(seed),
        critic_generator=seeded(seed + 1),
        adapter_generator=seeded(seed + 2),
    )
