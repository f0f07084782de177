"""The targets of the critic against the sums that they stand for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lookforward.algorithm.environment import Environment, act, act_on
from lookforward.algorithm.returns import Target, bootstrap, monte_carlo
from lookforward.core.path import add_noise
from lookforward.core.types import Batch, State, Transition
from lookforward.critics.value import ScaledCritic
from tiny import PATH, TinyPolicy, paying, scaled, seeded

STRIDE = 100


class ByTimestep:
    """A reward that differs at every timestep, and by sample."""

    name = "by-timestep"
    needs_image = False

    def __call__(self, transition: Transition) -> Tensor:
        t = transition.state.timestep.float()
        return torch.sin(t / 37) + transition.x_0[:, 0, 0, 0]


class Measured:
    """A reward of what the policy did, so that the way there matters."""

    name = "measured"
    needs_image = False

    def __call__(self, transition: Transition) -> Tensor:
        return -transition.action.square().mean(dim=(1, 2, 3))


def decision(policy: TinyPolicy, timesteps: tuple[int, ...], seed: int = 0) -> Transition:
    generator, b = seeded(seed), len(timesteps)
    x_0, noise = (torch.randn(b, 4, 8, 8, generator=generator) for _ in range(2))
    batch = Batch(x_0, noise, torch.tensor(timesteps), ("photo",) * b)
    return act_on(policy, batch, policy.encode_prompts(batch.prompts))[0].detach()


def full_sum(environment: Environment, policy: TinyPolicy, now: Transition, discount: float) -> Tensor:
    """Eq. 4 along the whole trajectory of the policy transition, one sample at a time."""
    totals = []
    for i in range(len(now.x_0)):
        t, x_t, x_0 = int(now.state.timestep[i]), now.state.x_t[i : i + 1], now.x_0[i : i + 1]
        total, j = 0.0, 0
        while t >= 0:
            state = State(x_t, torch.tensor([t]), now.state.conditioning.rows(slice(i, i + 1)))
            here = act(policy, state, x_0, x_0)
            total += discount ** (j * environment.stride) * environment.reward(here).item()
            t, j = t - environment.stride, j + 1
            if t >= 0:
                x_t = add_noise(here.x_0_hat, here.action, *PATH.at(torch.tensor([t])))
        totals.append(total)
    return torch.tensor(totals)


@pytest.mark.parametrize("samples", [1, 3, 20])
@pytest.mark.parametrize("transition", ["reference", "policy"])
def test_monte_carlo_is_unbiased(transition: str, samples: int) -> None:
    policy, discount = TinyPolicy(), 0.999
    environment = paying(ByTimestep(), transition=transition, stride=STRIDE)
    now = decision(policy, (950, 420, 60))
    with torch.no_grad():
        expected = full_sum(environment, policy, now, discount)
        generator, target = seeded(1), Target("monte-carlo", discount, samples)
        reward = environment.reward(now)
        found = torch.stack(
            [monte_carlo(environment, policy, now, reward, target, generator) for _ in range(400)]
        )  # (400, b)
    error = (found.mean(dim=0) - expected).abs()
    assert (error <= 4 * found.std(dim=0) / 400**0.5 + 1e-4).all()
    assert torch.allclose(found[:, 2], expected[2].expand(400), atol=1e-4)  # 60 < stride: the trajectory ends at once


def test_monte_carlo_follows_the_policys_own_trajectory() -> None:
    """With as many parts as rewards, every one is drawn: the sum is exact, and depends on what the policy did."""
    policy = TinyPolicy()
    environment = paying(Measured(), transition="policy", stride=STRIDE)
    now = decision(policy, (899,))
    with torch.no_grad():
        expected = full_sum(environment, policy, now, 0.99)
        found = monte_carlo(environment, policy, now, environment.reward(now), Target("monte-carlo", 0.99, 8), seeded())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    elsewhere = replace(now, action=now.action + 1.0)
    elsewhere = replace(elsewhere, x_0_hat=now.x_0_hat - 1.0)
    with torch.no_grad():
        other = monte_carlo(
            environment, policy, elsewhere, environment.reward(now), Target("monte-carlo", 0.99, 8), seeded()
        )
    assert (other - found).abs().item() > 1e-3  # the same first reward, another future


def test_under_the_reference_transition_the_future_does_not_depend_on_the_action() -> None:
    policy = TinyPolicy()
    environment = paying(Measured(), transition="reference", stride=STRIDE)
    now = decision(policy, (899,))
    other = replace(now, action=now.action + 1.0, x_0_hat=now.x_0_hat - 1.0)
    target = Target("monte-carlo", 0.99, 4)
    with torch.no_grad():
        reward = environment.reward(now)
        first, second = (monte_carlo(environment, policy, x, reward, target, seeded(3)) for x in (now, other))
    assert torch.equal(first, second)


class TableCritic(torch.nn.Module):
    """One number for each state of the trajectory."""

    def __init__(self) -> None:
        super().__init__()
        self.q = torch.nn.Parameter(torch.zeros(10))

    def forward(self, transition: Transition) -> Tensor:
        return self.q[transition.state.timestep // STRIDE]


def test_the_fixed_point_of_bootstrap_is_the_discounted_return() -> None:
    """Sweeping Eq. 9 over ten states comes to rest at Eq. 4."""
    policy, discount = TinyPolicy(), 0.999
    environment = paying(ByTimestep(), stride=STRIDE)
    now = decision(policy, tuple(range(50, 1000, STRIDE)))
    now = replace(now, x_0=now.x_0[:1].expand(10, -1, -1, -1))  # one photo, so that the reward is of t alone
    critic: ScaledCritic = scaled(TableCritic(), momentum=0.0)
    table = critic.network
    assert isinstance(table, TableCritic)
    target = Target("bootstrap", discount)
    for _ in range(10):
        reward = environment.reward(now)
        with torch.no_grad():
            table.q.copy_(bootstrap(environment, policy, now, reward, target, critic, seeded()))
        critic.update_target_network()
    expected, later = torch.zeros(10), 0.0
    for i, r in enumerate(environment.reward(now).tolist()):
        later = r + discount**STRIDE * later
        expected[i] = later
    torch.testing.assert_close(table.q.detach(), expected, rtol=1e-5, atol=1e-5)


def test_a_trajectory_ends_where_no_whole_stride_is_left() -> None:
    policy = TinyPolicy()
    environment = paying(stride=STRIDE)
    later, alive = environment.next_transition(policy, decision(policy, (99, 100, 101, 999)), seeded())
    assert alive.tolist() == [False, True, True, True]
    assert later.state.timestep.tolist() == [0, 0, 1, 899]


@pytest.mark.parametrize("transition", ["reference", "policy"])
def test_the_next_state_is_what_its_transition_says(transition: str) -> None:
    policy = TinyPolicy()
    now = decision(policy, (700, 300))
    later, _ = paying(transition=transition, stride=STRIDE).next_transition(policy, now, seeded(4))
    levels = PATH.at(torch.tensor([600, 200]))
    torch.testing.assert_close(add_noise(now.x_0, later.noise, *levels), later.state.x_t, rtol=1e-4, atol=1e-4)
    ddim = add_noise(now.x_0_hat, now.action, *levels)
    assert torch.allclose(later.state.x_t, ddim, atol=1e-5) == (transition == "policy")
    assert torch.equal(later.action, policy.act(later.state).detach())
    assert not later.action.requires_grad
