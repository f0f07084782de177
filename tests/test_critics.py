"""The critic: built as released, fits a known return, and its gradient then leads the action to the noise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import CriticUpdater
from lookforward.algorithm.updates import critic_step
from lookforward.core.types import Transition
from lookforward.critics.residual import ResidualCritic
from lookforward.rewards.look_forward import LookForwardReward
from tiny import make_transition, random_transition, scaled, seeded


def updater(critic: nn.Module, optimizer: torch.optim.Optimizer) -> CriticUpdater:
    return CriticUpdater(scaled(critic), optimizer, Target("one-step", 1.0))


def fitted(kind: Callable[..., torch.optim.Optimizer], rate: float, timesteps: int) -> ResidualCritic:
    generator = seeded()
    critic = ResidualCritic(4, 8, 8, generator=generator)
    optimizer = kind(critic.parameters(), lr=rate)
    for _ in range(300):
        transition = random_transition(generator, 16, timesteps=timesteps)
        critic_step(updater(critic, optimizer), transition, LookForwardReward()(transition))
    return critic


def explained_variance(critic: ResidualCritic, transition: Transition) -> float:
    q_target = LookForwardReward()(transition)
    with torch.no_grad():
        error = q_target - critic(transition)
    return 1 - (error.var() / q_target.var()).item()


def q_of(critic: ResidualCritic, transition: Transition, action: Tensor) -> Tensor:
    return critic(make_transition(transition.x_0, transition.noise, action, transition.state.timestep))


def action_gradient(critic: ResidualCritic, transition: Transition) -> Tensor:
    action = transition.action.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(q_of(critic, transition, action).sum(), action)
    return gradient


def test_size_and_first_weights_are_the_released_ones() -> None:
    critic = ResidualCritic(4, 64, 64, generator=seeded())
    assert sum(parameter.numel() for parameter in critic.parameters()) == 262_310
    for layer, n in ((critic.network[0], 9), (critic.network[3], 4096), (critic.network[5], 64)):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.min() >= 0
        assert layer.weight.max() <= 1 / n
        assert layer.weight.max() > 0.7 / n  # it is spread over the whole range
        assert layer.bias is not None
        assert layer.bias.min() >= 0
        assert layer.bias.max() <= 1 / n


def test_random_numbers_are_the_generators() -> None:
    first, again, other = (
        ResidualCritic(4, 8, 8, generator=seeded(seed)).state_dict()["network.3.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_predicts_one_return_a_sample_and_never_a_positive_one_at_first() -> None:
    critic = ResidualCritic(4, 8, 8, generator=seeded())
    q = critic(random_transition(seeded(), 5))
    assert q.shape == (5,)
    assert q.dtype == torch.float32
    assert (q < 0).all()


@pytest.mark.parametrize(
    ("kind", "rate", "timesteps"),
    [(torch.optim.SGD, 0.01, 500), (torch.optim.SGD, 0.01, 1000), (torch.optim.Adam, 0.003, 1000)],
)
def test_fits_a_known_return(kind: Callable[..., torch.optim.Optimizer], rate: float, timesteps: int) -> None:
    held_out = random_transition(seeded(1), 256, timesteps=timesteps)
    untrained = ResidualCritic(4, 8, 8, generator=seeded())
    assert explained_variance(untrained, held_out) < 0.75  # its first weights already sum the residual up
    critic = fitted(kind, rate, timesteps)
    assert explained_variance(critic, held_out) > 0.95
    large = LookForwardReward()(held_out) < -0.05  # nearer to zero its ReLU may be silent
    gradient = action_gradient(critic, held_out)[large]
    towards_noise = (held_out.noise - held_out.action)[large]
    assert (torch.cosine_similarity(gradient.flatten(1), towards_noise.flatten(1)) > 0.5).all()


def test_gradient_agrees_with_finite_differences() -> None:
    critic = fitted(torch.optim.SGD, 0.01, 500)
    transition = random_transition(seeded(2), 8, timesteps=500)
    along = torch.randn(transition.action.shape, generator=seeded(3))
    expected = (action_gradient(critic, transition) * along).sum(dim=(1, 2, 3))
    step = 1e-2
    with torch.no_grad():
        up, down = (q_of(critic, transition, transition.action + sign * step * along) for sign in (1, -1))
    torch.testing.assert_close((up - down) / (2 * step), expected, rtol=2e-2, atol=1e-3)


def test_learning_sends_nothing_to_the_policy_and_descends() -> None:
    transition = random_transition(seeded(), 8, timesteps=500)
    action = transition.action.requires_grad_(True)
    transition = make_transition(transition.x_0, transition.noise, action, transition.state.timestep)
    critic = ResidualCritic(4, 8, 8, generator=seeded())
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.01)
    q_target = LookForwardReward()(transition).detach()
    first, second = (critic_step(updater(critic, optimizer), transition, q_target) for _ in range(2))
    assert action.grad is None
    assert second["critic_loss"] < first["critic_loss"]
    assert first["q_target"] == second["q_target"] == pytest.approx(LookForwardReward()(transition).mean().item())
