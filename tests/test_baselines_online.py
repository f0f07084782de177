"""Flow-GRPO and DiffusionNFT: steps, losses and updates by hand; both make a reward without gradient rise."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import raises
from lookforward.algorithm.environment import Environment
from lookforward.baselines.dpok import Dpok, draw_trajectories, pairs_loss
from lookforward.baselines.flow_grpo import flow_step, group_advantage
from lookforward.baselines.nft import Drawn, Nft, nft_loss
from lookforward.baselines.sampler import Sampler, SamplingInputs, sample_steps, sampler_timesteps
from lookforward.core.path import NoisePath, rectified_flow
from lookforward.core.prediction import Prediction
from lookforward.core.types import Batch, Conditioning, State, Transition
from tiny import PATH, TinyPolicy, paying, seeded

FLOW = rectified_flow(torch.linspace(0.001, 1, 1000), density="uniform")


class Line(nn.Module):
    """o = a x + b on numbers."""

    path: NoisePath

    def __init__(self, a: float = -0.4, b: float = 0.1, prediction: Prediction = Prediction.FLOW) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.tensor([a, b]))
        self.prediction, self.path = prediction, FLOW if prediction is Prediction.FLOW else PATH

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(torch.zeros(len(prompts), 1, 1))

    def act(self, state: State) -> Tensor:
        return self.line[0] * state.x_t + self.line[1]


class Near:
    """-(x - 1)² of the mean of the end, without gradient."""

    name = "near"
    needs_image = False

    def __call__(self, transition: Transition) -> Tensor:
        return -((transition.x_0_hat.detach().mean(dim=(1, 2, 3)) - 1) ** 2)


def inputs_of(policy: Any, count: int = 4, channels: int = 1, side: int = 2, seed: int = 0) -> SamplingInputs:
    x_0 = torch.zeros(count, channels, side, side)
    start = Batch(x_0, x_0, torch.zeros(count, dtype=torch.int64), ("",) * count, plain_prompts=("",) * count)
    environment: Environment = paying(Near())
    words = policy.encode_prompts(["a dog"] * count).detach()
    trained = {name: p for name, p in policy.named_parameters() if not name.startswith("letters")}
    return SamplingInputs(policy, environment, start, words, None, seeded(seed), trained)


def grpo(policy: Any, **more: Any) -> Dpok:
    reference = copy.deepcopy(policy)
    return Dpok(Sampler(4, eta=0.7), reward_weight=1.0, kl_weight=0.04, reference_act=reference.act, label="Flow-GRPO",
                take=flow_step, advantage=group_advantage, **more)  # fmt: skip


def test_a_random_step_of_a_flow_is_that_of_the_paper() -> None:
    policy = Line()
    x = torch.randn(3, 1, 2, 2, generator=seeded())
    now, later = torch.tensor([999, 700, 300]), torch.tensor([800, 500, 0])
    step = flow_step(
        policy, policy.act, State(x, now, policy.encode_prompts([""] * 3)), later, Sampler(4, eta=0.7), None
    )
    for i in range(3):
        sigma, following = (now[i].item() + 1) / 1000, (later[i].item() + 1) / 1000
        dt, v = following - sigma, -0.4 * x[i] + 0.1
        s = 0.7 * math.sqrt(sigma / (1 - (following if sigma == 1 else sigma)))
        mean = x[i] * (1 + s**2 / (2 * sigma) * dt) + v * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
        torch.testing.assert_close(step.mean[i], mean, atol=1e-5, rtol=1e-5)
        assert step.deviation[i].item() == pytest.approx(s * math.sqrt(-dt), rel=1e-4)


def test_random_steps_end_where_the_flow_does() -> None:
    """Data of N(0, ¼): the exact velocity is linear in x, and the ends have that spread with noise or without."""

    class Exact(Line):
        def act(self, state: State) -> Tensor:
            sigma = self.path.at(state.timestep)[1][:, None, None, None]
            spread = (1 - sigma) ** 2 / 4 + sigma**2
            return (sigma - (1 - sigma) / 4) / spread * state.x_t  # E[z - x_0 | x_t]

    policy = Exact()
    noise = torch.randn(20_000, 1, 1, 1, generator=seeded())
    words = policy.encode_prompts([""] * len(noise))
    with torch.no_grad():
        *_, end = sample_steps(policy, Sampler(150, eta=0.7), noise, words, None, seeded(1), take=flow_step)
    assert end.x_next.mean().item() == pytest.approx(0, abs=0.02)
    assert end.x_next.std().item() == pytest.approx(0.5, rel=0.04)


def test_advantages_are_deviations_from_the_group() -> None:
    reward = torch.tensor([1.0, 2.0, 6.0])
    deviation = math.sqrt((4 + 1 + 9) / 3) + 1e-4
    torch.testing.assert_close(group_advantage(reward), torch.tensor([-2.0, -1.0, 3.0]) / deviation)
    assert group_advantage(torch.tensor([0.0] * 99 + [1.0])).max() == 5
    assert (group_advantage(torch.ones(4)) == 0).all()


def test_grpos_loss_is_that_of_the_paper() -> None:
    policy = Line()
    settings = grpo(policy, ratio_clip=0.02)
    drawn = draw_trajectories(inputs_of(policy), settings)
    with torch.no_grad():
        policy.line.add_(torch.tensor([0.02, -0.01]))
    chosen = torch.arange(drawn.log_p.numel())
    loss, metrics = pairs_loss(policy, drawn, chosen, settings)
    expected, levels = [], sampler_timesteps(FLOW, 4)
    for i, (t, later) in enumerate(zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True)):
        sigma, following = (t + 1) / 1000, (later + 1) / 1000
        dt = following - sigma
        s = 0.7 * math.sqrt(sigma / (1 - (following if sigma == 1 else sigma)))
        for j in range(4):
            x, means = drawn.x[i, j], []
            for a, b in ((-0.38, 0.09), (-0.4, 0.1)):
                means.append(x * (1 + s**2 / (2 * sigma) * dt)
                             + (a * x + b) * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt)  # fmt: skip
            now, old = (torch.distributions.Normal(m, s * math.sqrt(-dt)).log_prob(drawn.x[i + 1, j]).mean()
                        for m in means)  # fmt: skip
            ratio, advantage = (now - old).exp().item(), drawn.advantage[j].item()
            gain = min(ratio * advantage, min(max(ratio, 0.98), 1.02) * advantage)
            kl = ((means[0] - means[1]) ** 2).mean().item() / (2 * s**2 * -dt)
            expected.append(-gain + 0.04 * kl)
    assert loss.item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert metrics["kl"] > 0


def train_by(method: Any, policy: Any, steps: int, rate: float = 0.02) -> list[float]:
    """The reward of each step."""
    optimizer, rewards = torch.optim.Adam(policy.unet.parameters(), lr=rate), []
    for step in range(steps):
        inputs, terms = replace(inputs_of(policy, 32, 1, 3, seed=step), step=step), dict[str, Any]()
        for parts in method.losses(inputs):
            optimizer.zero_grad()
            for loss, metrics in parts:
                loss.backward()
                terms |= metrics
            optimizer.step()
        rewards.append(float(terms["reward"]))
    return rewards


def tiny_flow() -> TinyPolicy:
    policy = TinyPolicy(channels=1)
    policy.path, policy.prediction = FLOW, Prediction.FLOW
    return policy


def test_grpo_raises_a_reward_without_gradient() -> None:
    policy = tiny_flow()
    rewards = train_by(grpo(policy, updates=2, pairs=64, micro_batch=64, ratio_clip=0.1), policy, 40)
    assert sum(rewards[-10:]) / 10 > 0.5 * sum(rewards[:10]) / 10  # both are negative


@pytest.mark.parametrize("prediction", [Prediction.FLOW, Prediction.EPSILON])
def test_nfts_loss_is_that_of_the_paper(prediction: Prediction) -> None:
    policy, before = Line(prediction=prediction), Line(-0.3, 0.2, prediction)
    settings = Nft(beta=0.3, kl_weight=0.01, reference_act=before.act, old={"line": torch.tensor([-0.5, 0.0])})
    inputs = inputs_of(policy, 2)
    x_0, noise = (torch.randn(2, 1, 2, 2, generator=seeded(i)) for i in (3, 4))
    good, timestep = torch.tensor([0.9, 0.2]), torch.tensor([200, 600])
    drawn = Drawn(x_0, inputs.conditioning, good)
    loss, metrics = nft_loss(inputs, drawn, noise, timestep, settings)
    expected = 0.0
    for i in range(2):
        a, sigma = (level[timestep[i]].item() for level in (policy.path.signal, policy.path.noise))
        x_t = a * x_0[i] + sigma * noise[i]
        old, now, known = -0.5 * x_t, -0.4 * x_t + 0.1, -0.3 * x_t + 0.2

        def missed(o: Tensor, x_t: Tensor = x_t, sigma: float = sigma, i: int = i) -> float:
            if prediction is Prediction.FLOW:
                error = x_t - sigma * o - x_0[i]  # of x̂_0
            else:
                error = sigma * (o - noise[i])
            return (error**2).mean().item() / error.abs().mean().item()

        both = missed(0.7 * old + 0.3 * now), missed(1.3 * old - 0.3 * now)
        p = good[i].item()
        expected += (5 / 0.3 * (p * both[0] + (1 - p) * both[1]) + 0.01 * ((now - known) ** 2).mean().item()) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-5, rel=1e-5)
    assert metrics["moved"] > 0
    assert torch.equal(policy.line, torch.tensor([-0.4, 0.1]))  # the sampling policy's weights were there for a moment


def test_nft_leads_to_good_images_and_away_from_bad_ones() -> None:
    """With all images good the gradient is that of regression on them; with all bad its opposite, at o = o_old."""
    gradients = []
    for share in (1.0, 0.0):
        policy = Line()
        settings = Nft(kl_weight=0.0, old={"line": policy.line.detach().clone()})
        inputs = inputs_of(policy, 3)
        x_0, noise = (torch.randn(3, 1, 2, 2, generator=seeded(i)) for i in (3, 4))
        drawn = Drawn(x_0, inputs.conditioning, torch.full((3,), share))
        loss, _ = nft_loss(inputs, drawn, noise, torch.tensor([200, 500, 800]), settings)
        gradients.append(torch.autograd.grad(loss, policy.line)[0])
    torch.testing.assert_close(gradients[0], -gradients[1])
    assert gradients[0].abs().max() > 1e-3


def test_nfts_sampling_policy_follows_slowly() -> None:
    policy = Line()
    settings = Nft(Sampler(4), pairs=4, kl_weight=0.0, kept=0.002, updates=1)
    old = policy.line.detach().clone()
    for step, share in enumerate((0.001, 0.002, 0.002)):
        for parts in settings.losses(replace(inputs_of(policy), step=step)):
            list(parts)
            with torch.no_grad():  # in the place of an optimizer
                policy.line.add_(0.1)
        old = share * old + (1 - share) * policy.line.detach()
        torch.testing.assert_close(settings.old["line"], old)


class Gaussian(nn.Module):
    """The exact model of data N(m, ¼), whose mean is learned."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        self.prediction, self.path = prediction, FLOW if prediction is Prediction.FLOW else PATH
        self.mean = nn.Parameter(torch.zeros(()))

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(torch.zeros(len(prompts), 1, 1))

    def act(self, state: State) -> Tensor:
        a, sigma = (level[:, None, None, None] for level in self.path.at(state.timestep))
        off = (state.x_t - a * self.mean) / (a**2 / 4 + sigma**2)
        noise, x_0 = sigma * off, self.mean + a / 4 * off
        return noise - x_0 if self.prediction is Prediction.FLOW else noise


@pytest.mark.parametrize("prediction", [Prediction.FLOW, Prediction.EPSILON])
def test_nft_raises_a_reward_without_gradient(prediction: Prediction) -> None:
    policy = Gaussian(prediction)
    method = Nft(Sampler(8), pairs=64, micro_batch=64, kl_weight=1e-4, reference_act=copy.deepcopy(policy).act)
    optimizer, rewards = torch.optim.Adam(policy.parameters(), lr=0.02), []
    for step in range(40):
        terms = dict[str, Any]()
        for parts in method.losses(replace(inputs_of(policy, 32, 1, 1, seed=step), step=step)):
            optimizer.zero_grad()
            for loss, metrics in parts:
                loss.backward()
                terms |= metrics
            optimizer.step()
        rewards.append(float(terms["reward"]))
    assert policy.mean.item() > 0.3  # where the reward is highest: 1
    assert sum(rewards[-10:]) > 0.8 * sum(rewards[:10])  # both are negative


def test_what_does_not_go_together_is_named() -> None:
    with raises("nft-random", "eta"):
        Nft(Sampler(4, eta=1.0))
    with raises("dpok-trajectories", "DiffusionNFT", "dpok_trajectories"):
        next(Nft(Sampler(4)).losses(inputs_of(Line(), 1)))
    with raises("dpok-deterministic", "Flow-GRPO"):
        replace(grpo(Line()), sampler=Sampler(4))
