"""Critics on returns of every scale: normalising, fit, target network, and the state-action critic's gradient."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from lookforward.algorithm.readings import Metrics
from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import CriticUpdater
from lookforward.algorithm.updates import critic_step
from lookforward.core.prediction import Prediction
from lookforward.core.types import Conditioning, Transition
from lookforward.critics.scale import ExplainedVariance, ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.rewards.look_forward import LookForwardReward
from tiny import make_transition, random_transition, scaled, seeded


def test_returns_of_every_timestep_come_to_one_scale() -> None:
    scale = ReturnScale(1000, bins=10)
    generator = seeded()
    for _ in range(300):
        t = torch.randint(1000, (8,), generator=generator)
        scale.observe((1 + t // 100) * 10.0 ** (t // 100 - 3) * torch.randn(8, generator=generator) + t // 100, t)
    t = torch.randint(1000, (5000,), generator=generator)
    returns = (1 + t // 100) * 10.0 ** (t // 100 - 3) * torch.randn(5000, generator=generator) + t // 100
    normal = scale.normalise(returns, t)
    for i in range(10):
        assert abs(normal[t // 100 == i].mean().item()) < 0.5
        assert 0.5 < normal[t // 100 == i].std().item() < 2.0
    torch.testing.assert_close(scale.restore(normal, t), returns, rtol=1e-3, atol=1e-3)


def test_without_bins_and_before_anything_is_seen_returns_stay_as_they_are() -> None:
    returns, t = torch.tensor([-200.0, 0.5]), torch.tensor([999, 3])
    for scale in (ReturnScale(1000, 0), ReturnScale(1000, 10)):
        assert torch.equal(scale.normalise(returns, t), returns)
        assert torch.equal(scale.restore(returns, t), returns)


@given(st.floats(-1e6, 1e6), st.integers(0, 999))
def test_one_return_is_never_thrown_far(value: float, t: int) -> None:
    """A range that was seen once has no deviation: what is normalised by it stays small."""
    scale = ReturnScale(1000, 20)
    returns, at = torch.tensor([value]), torch.tensor([t])
    scale.observe(returns, at)
    assert abs(scale.normalise(returns, at).item()) < 0.1


def test_explained_variance_is_one_for_an_oracle_and_zero_for_a_constant() -> None:
    truth = torch.randn(2000, generator=seeded())
    oracle, constant, opposite = (ExplainedVariance() for _ in range(3))
    assert oracle.observe(truth, truth) == pytest.approx(1.0, abs=1e-5)
    assert constant.observe(torch.full_like(truth, 3.0), truth) == pytest.approx(0.0, abs=1e-4)
    assert opposite.observe(-truth, truth) == pytest.approx(-3.0, abs=1e-3)


@given(st.lists(st.floats(-300, 300), min_size=1, max_size=6), st.floats(-300, 300))
@example([1e-21], 1.0)  # whose square is one of the least numbers there are
def test_explained_variance_is_never_above_one(returns: list[float], guess: float) -> None:
    fit = ExplainedVariance()
    for value in returns:
        assert fit.observe(torch.tensor([guess]), torch.tensor([value])) <= 1
    alike = ExplainedVariance()
    for _ in range(3):  # returns that do not vary leave nothing to explain
        assert alike.observe(torch.tensor([guess]), torch.tensor([returns[0]])) == 0


def test_the_target_network_follows_and_is_never_trained() -> None:
    critic = scaled(nn.Linear(1, 1, bias=False), momentum=0.9)
    assert critic.target_network is not None
    before = next(critic.target_network.parameters()).clone()
    with torch.no_grad():
        critic.trained_parameters()[0].add_(1.0)
    critic.update_target_network()
    torch.testing.assert_close(next(critic.target_network.parameters()), before + 0.1)
    assert not any(p.requires_grad for p in critic.target_network.parameters())
    assert scaled(nn.Linear(1, 1)).target_network is None


def state_action(size: int = 8, seed: int = 0) -> StateActionCritic:
    critic = StateActionCritic(4, 6, widths=(8, 16), generator=seeded(seed))
    with torch.no_grad():
        for parameter in critic.last.parameters():  # its last layer starts at zero
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(seed + 1)))
    return critic


def in_words(transition: Transition) -> Transition:
    words = Conditioning(torch.randn(len(transition.x_0), 5, 6, generator=seeded(9)))
    return replace(transition, state=replace(transition.state, conditioning=words))


def test_the_papers_size() -> None:
    critic = StateActionCritic(4, 768, generator=seeded())  # Stable Diffusion 1's prompts
    assert round(sum(p.numel() for p in critic.parameters()) / 1e6, 2) == 0.26


@pytest.mark.parametrize("size", [8, 16, 64])
def test_latents_of_any_size(size: int) -> None:
    critic = state_action()
    assert critic(in_words(random_transition(seeded(), 3, size=size))).shape == (3,)


def test_it_sees_state_action_timestep_and_prompt_and_no_reference() -> None:
    critic, t = state_action(), in_words(random_transition(seeded(), 2))
    q = critic(t)
    s = t.state
    changed = {
        "x_t": replace(t, state=replace(s, x_t=s.x_t + 1)),
        "t": replace(t, state=replace(s, timestep=999 - s.timestep)),
        "prompt": replace(t, state=replace(s, conditioning=Conditioning(s.conditioning.tokens + 1))),
        "action": replace(t, action=t.action + 1),
    }
    for name, other in changed.items():
        assert not torch.allclose(critic(other), q), name
    hidden = replace(t, noise=t.noise + 1, target=t.target + 1, x_0=t.x_0 + 1)
    assert torch.equal(critic(hidden), q)


def taking(t: Transition, action: Tensor) -> Transition:
    """The same state with another action."""
    x_0_hat = Prediction.EPSILON.x_0_hat(action, t.state.x_t, t.signal, t.noise_level)
    return replace(t, action=action, x_0_hat=x_0_hat)


def test_its_gradient_to_the_action_agrees_with_finite_differences() -> None:
    critic = state_action()
    transition = in_words(random_transition(seeded(2), 4, timesteps=600))

    def q_of(action: Tensor) -> Tensor:
        return critic(taking(transition, action))

    action = transition.action.requires_grad_(True)
    (gradient,) = torch.autograd.grad(q_of(action).sum(), action)
    along = torch.randn(action.shape, generator=seeded(3))
    step = 1e-2
    with torch.no_grad():
        difference = (q_of(action + step * along) - q_of(action - step * along)) / (2 * step)
    torch.testing.assert_close((gradient * along).sum(dim=(1, 2, 3)), difference, rtol=2e-2, atol=2e-3)


def test_it_learns_the_return_of_an_action_where_there_is_one_reference() -> None:
    """With a single photo the reference can be remembered, and its gradient then leads the action to the noise."""
    generator, critic = seeded(), StateActionCritic(4, 1, widths=(16, 32), generator=seeded())
    value = scaled(critic, bins=20)
    updater = CriticUpdater(value, torch.optim.Adam(value.trained_parameters(), lr=3e-3), Target("one-step", 1.0))
    x_0 = torch.randn(1, 4, 8, 8, generator=generator)

    def transitions(b: int) -> Transition:
        noise = torch.randn(b, 4, 8, 8, generator=generator)
        miss = torch.rand(b, 1, 1, 1, generator=generator) * torch.randn(b, 4, 8, 8, generator=generator)
        return make_transition(x_0.expand(b, -1, -1, -1), noise, noise + miss, torch.randint(300, 700, (b,)))

    torch.manual_seed(0)
    terms: Metrics = {}
    for _ in range(400):
        transition = transitions(32)
        terms = critic_step(updater, transition, LookForwardReward()(transition))
    assert terms["explained_variance"] > 0.5
    held_out = transitions(64)
    action = held_out.action.requires_grad_(True)
    q = value(taking(held_out, action))
    (gradient,) = torch.autograd.grad(q.sum(), action)
    towards = (held_out.noise - action.detach()).flatten(1)
    assert torch.cosine_similarity(gradient.flatten(1), towards).mean() > 0.05  # chance: 0 ± 0.008
