"""Rewards rise where the action gets better, and say of Eqs. 5 and 8 what the paper does."""

from dataclasses import replace

import pytest
import torch

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.noise import NoiseReward
from tiny import make_transition, random_transition, seeded

REWARDS = [LookForwardReward(), NoiseReward()]
each_reward = pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: reward.name)


def with_miss(transition: Transition, share: float) -> Transition:
    """The same state, its action moved to `share` of its distance from the noise."""
    action = transition.noise + share * (transition.action - transition.noise)
    return make_transition(transition.x_0, transition.noise, action, transition.state.timestep)


@each_reward
def test_better_when_nearer_and_zero_at_best(reward: Reward) -> None:
    transition = random_transition(seeded(), 16)
    far, near, best = (reward(with_miss(transition, share)) for share in (1.0, 0.5, 0.0))
    assert far.shape == (16,)
    assert (far < near).all()
    assert (near < best).all()
    torch.testing.assert_close(best, torch.zeros(16))
    torch.testing.assert_close(near, far / 4, rtol=1e-2, atol=1e-6)  # squared


def test_equation_8_weighs_the_one_against_the_other() -> None:
    transition = random_transition(seeded(), 64)
    weight = (transition.noise_level / transition.signal) ** 2
    expected = weight * NoiseReward()(transition)
    torch.testing.assert_close(LookForwardReward()(transition), expected, rtol=1e-3, atol=1e-7)


@each_reward
def test_gradient_agrees_with_finite_differences(reward: Reward) -> None:
    transition = random_transition(seeded(), 2, size=2)
    x_t, x_0, noise = (t.double() for t in (transition.state.x_t, transition.x_0, transition.noise))
    a, sigma = (t.double().reshape(-1, 1, 1, 1) for t in (transition.signal, transition.noise_level))

    def returned(action: torch.Tensor) -> torch.Tensor:
        x_0_hat = (x_t - sigma * action) / a  # Eq. 7 in double precision
        return reward(replace(transition, action=action, target=noise, x_0=x_0, x_0_hat=x_0_hat))

    assert torch.autograd.gradcheck(returned, transition.action.double().requires_grad_(True))


@each_reward
def test_ascent_moves_the_action_towards_the_noise(reward: Reward) -> None:
    transition = random_transition(seeded(), 8)
    action = transition.action.requires_grad_(True)
    moved = make_transition(transition.x_0, transition.noise, action, transition.state.timestep)
    (gradient,) = torch.autograd.grad(reward(moved).sum(), action)
    wanted = (transition.noise - action).detach()
    cosine = torch.cosine_similarity(gradient.flatten(1), wanted.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(8), rtol=1e-3, atol=0.0)
