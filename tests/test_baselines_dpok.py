"""DPOK: its gradient is the expected reward's, its KL that of two Gaussians; no reward needs a gradient."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import raises
from lookforward.algorithm.readings import read
from lookforward.baselines.dpok import Dpok, Part, Trajectories, draw_trajectories, kl_between, pairs_loss
from lookforward.baselines.sampler import Act, Sampler, SamplingInputs, sampler_timesteps
from lookforward.core.path import variance_preserving
from lookforward.core.prediction import Prediction
from lookforward.core.types import Batch, Conditioning, State, Transition
from tiny import PATH, TinyPolicy, paying, seeded

STEPS = 3
RANDOM = Sampler(STEPS, eta=1.0)
LEVELS = torch.tensor([0.9, 0.7, 0.4, 0.2])  # steps that differ little in their noise, so that few samples tell much


class LinePolicy(nn.Module):
    """ẑ = a x + b on one number: every state of its trajectory is normal, so that all is known in closed form."""

    path, prediction = variance_preserving(LEVELS), Prediction.EPSILON

    def __init__(self, a: float = 0.6, b: float = 0.2) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.tensor([a, b]))

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


def batch(count: int, channels: int = 1, size: int = 1) -> Batch:
    x_0 = torch.zeros(count, channels, size, size)
    return Batch(x_0, x_0, torch.zeros(count, dtype=torch.int64), ("",) * count, plain_prompts=("",) * count)


def moments(line: Tensor, x_t: Tensor, now: Tensor, later: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """slope and shift of μ in x_t for the line's policy, and σ²: written down anew from Eqs. 12 and 16."""
    variance = (1 - later) / (1 - now) * (1 - now / later)
    weight = (1 - later - variance).sqrt() - (later * (1 - now) / now).sqrt()
    return (later / now).sqrt() + weight * line[0], weight * line[1], variance


def expected_reward(line: Tensor) -> Tensor:
    """E[-(x_0 - 1)²] of the trajectory, by carrying mean and variance along."""
    mean, spread = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for now, later in pairwise(LEVELS.flip(0).double()):
        slope, shift, variance = moments(line, mean, now, later)
        mean, spread = slope * mean + shift, slope**2 * spread + variance
    return -((mean - 1) ** 2 + spread)


def losses_of(
    policy: Any, environment: Any, start: Batch, settings: Dpok, words: Conditioning, empty: Any, act: Act, rng: Any
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Of settings by which every update is one part. act: the pretrained policy's."""
    settings = replace(settings, reference_act=act)
    for parts in settings.losses(SamplingInputs(policy, environment, start, words, empty, rng)):
        ((loss, terms),) = parts
        yield loss, terms


def loss_of(policy: Any, drawn: Trajectories, pairs: Tensor, settings: Dpok, act: Act, untouched: bool = False) -> Part:
    return pairs_loss(policy, drawn, pairs, replace(settings, reference_act=act), untouched)


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    policy, count = LinePolicy(), 100_000
    exact = torch.autograd.grad(expected_reward(line := policy.line.detach().double().requires_grad_()), line)[0]
    settings = Dpok(RANDOM, pairs=count * STEPS, micro_batch=count * STEPS, reward_weight=2.0, kl_weight=0.0)
    ((loss, terms),) = losses_of(
        policy, paying(Near()), batch(count), settings, policy.encode_prompts([""] * count), None, policy.act, seeded()
    )
    found = -STEPS / 2.0 * torch.autograd.grad(loss, policy.line)[0]  # the mean over steps, α = 2, one element
    torch.testing.assert_close(found.double(), exact, rtol=0.03, atol=0.0)  # of Monte Carlo: about 0.01
    assert terms["reward"] == pytest.approx(expected_reward(line).item(), rel=0.02)
    assert terms["ratio"] == 1
    assert terms["clipped"] == 0


def test_a_minibatch_has_the_gradient_of_all_pairs_in_the_mean() -> None:
    policy, environment = LinePolicy(), paying(Near())
    words, start = policy.encode_prompts([""] * 4), batch(4)
    settings = Dpok(RANDOM, pairs=5, reward_weight=1.0, kl_weight=0.1)
    drawn = draw_trajectories(SamplingInputs(policy, environment, start, words, None, seeded()), settings)
    other = LinePolicy(0.5, 0.1)
    each = [loss_of(policy, drawn, torch.tensor([i]), settings, other.act)[0] for i in range(4 * STEPS)]
    whole, _ = loss_of(policy, drawn, torch.arange(4 * STEPS), settings, other.act)
    assert whole.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-4, abs=1e-5)


def test_log_probabilities_are_the_normal_ones_of_each_step() -> None:
    policy = TinyPolicy()
    words = policy.encode_prompts(["a", "b"]).detach()
    settings = Dpok(Sampler(4, eta=1.0))
    drawn = draw_trajectories(SamplingInputs(policy, paying(Near()), batch(2, 4, 5), words, None, seeded()), settings)
    for i, (t, next_t) in enumerate(pairwise(sampler_timesteps(PATH, 4))):
        x, now, later = drawn.x[i], PATH.squares[0][t], PATH.squares[0][next_t]
        action = policy.act(State(x, t.expand(2), words))
        variance = (1 - later) / (1 - now) * (1 - now / later)
        mean = later.sqrt() * (x - (1 - now).sqrt() * action) / now.sqrt() + (1 - later - variance).sqrt() * action
        normal = torch.distributions.Normal(mean, variance.sqrt())
        torch.testing.assert_close(drawn.log_p[i], normal.log_prob(drawn.x[i + 1]).mean(dim=(1, 2, 3)))


def test_a_baseline_is_the_mean_of_the_others() -> None:
    policy = LinePolicy()
    drawn = draw_trajectories(
        SamplingInputs(policy, paying(Near()), batch(3), policy.encode_prompts([""] * 3), None, seeded()), Dpok(RANDOM)
    )
    reward = -((drawn.x[-1, :, 0, 0, 0] - 1) ** 2)
    wanted = torch.stack([reward[i] - reward[[j for j in range(3) if j != i]].mean() for i in range(3)])
    torch.testing.assert_close(drawn.advantage, wanted)


def test_kl_is_none_of_equals_and_that_of_two_normals_otherwise() -> None:
    policy, other = LinePolicy(), LinePolicy(0.5, 0.1)
    settings = Dpok(RANDOM, pairs=8, reward_weight=0.0, kl_weight=2.0)
    words = policy.encode_prompts([""] * 4)

    def losses(reference: LinePolicy) -> tuple[Tensor, dict[str, Any]]:
        steps = losses_of(policy, paying(Near()), batch(4), settings, words, None, reference.act, seeded())
        return next(steps)

    same, terms = losses(policy)
    assert terms["kl"] == 0
    assert same.item() == 0
    loss, terms = losses(other)
    assert terms["kl"] > 0
    assert loss.item() == pytest.approx(2 * terms["kl"])
    x, y = (torch.randn(3, 1, 1, 1, generator=seeded(i)) for i in (1, 2))
    sigma = torch.tensor([0.1, 1.0, 2.0])
    normals = [torch.distributions.Normal(mean[:, 0, 0, 0], sigma) for mean in (x, y)]
    torch.testing.assert_close(kl_between(x, y, sigma), torch.distributions.kl_divergence(*normals))


def test_kl_alone_leads_back_to_the_pretrained_policy() -> None:
    policy, pretrained = LinePolicy(), LinePolicy(0.5, 0.0)
    settings = Dpok(RANDOM, pairs=24, reward_weight=0.0, kl_weight=1.0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    for step in range(60):
        for loss, _ in losses_of(
            policy,
            paying(Near()),
            batch(8),
            settings,
            policy.encode_prompts([""] * 8),
            None,
            pretrained.act,
            seeded(step),
        ):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(policy.line, pretrained.line, rtol=0.0, atol=0.03)


def test_a_reward_without_gradient_rises() -> None:
    policy = TinyPolicy(channels=1)
    pretrained = copy.deepcopy(policy)
    words = policy.encode_prompts(["a dog"] * 32).detach()
    settings = Dpok(
        Sampler(4, eta=1.0), updates=2, pairs=64, micro_batch=64, reward_weight=1.0, kl_weight=1e-3, ratio_clip=0.1
    )
    optimizer = torch.optim.Adam(policy.unet.parameters(), lr=0.02)
    rewards, terms = [], dict[str, Any]()
    for step in range(50):
        for loss, terms in losses_of(  # noqa: B007
            policy, paying(Near()), batch(32, 1, 3), settings, words, None, pretrained.act, seeded(step)
        ):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rewards.append(terms["reward"])
    assert sum(rewards[-10:]) / 10 > 0.5 * sum(rewards[:10]) / 10  # both are negative
    assert terms["kl"] > 0


def test_parts_of_an_update_sum_to_it() -> None:
    policy = LinePolicy()
    words = policy.encode_prompts([""] * 4)
    found = []
    for micro_batch in (11, 4, 1):
        settings = Dpok(RANDOM, pairs=11, micro_batch=micro_batch, reward_weight=2.0, kl_weight=1.0)
        settings = replace(settings, reference_act=LinePolicy(0.5).act)
        (parts,) = settings.losses(SamplingInputs(policy, paying(Near()), batch(4), words, None, seeded()))
        losses, terms = [], {}
        for loss, metrics in parts:
            losses.append(loss)
            terms = {name: terms.get(name, 0.0) + metrics.get(name, 0.0) for name in terms.keys() | metrics.keys()}
        assert len(losses) == -(-11 // micro_batch)
        gradient = torch.autograd.grad(torch.stack(losses).sum(), policy.line)[0]
        found.append((torch.stack(losses).sum().item(), gradient, read(terms)))
    for loss, gradient, terms in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1])
        assert terms == pytest.approx(found[0][2], rel=1e-5)
    assert found[0][2]["ratio"] == pytest.approx(1.0)


def test_before_the_first_update_no_ratio_is_clipped_whatever_was_noted() -> None:
    """Half precision in a batch of another size gives other last digits, beyond a clip of 1e-4."""
    policy = LinePolicy()
    settings = Dpok(RANDOM, pairs=100, kl_weight=0.0)
    drawn = draw_trajectories(
        SamplingInputs(policy, paying(Near()), batch(4), policy.encode_prompts([""] * 4), None, seeded()), settings
    )
    noted = replace(drawn, log_p=drawn.log_p + 1e-3)
    every = torch.arange(4 * STEPS)
    loss, terms = loss_of(policy, noted, every, settings, policy.act, untouched=True)
    right, _ = loss_of(policy, drawn, every, settings, policy.act)
    assert (terms["ratio"], terms["clipped"]) == (1, 0)
    torch.testing.assert_close(*(torch.autograd.grad(x, policy.line)[0] for x in (loss, right)))


def test_there_are_as_many_losses_as_updates() -> None:
    policy = LinePolicy()
    settings = Dpok(RANDOM, updates=3, pairs=100, reward_weight=1.0, kl_weight=1.0)
    words = policy.encode_prompts([""] * 4)
    steps = losses_of(policy, paying(Near()), batch(4), settings, words, None, LinePolicy(0.5).act, seeded())
    losses = [loss.item() for loss, _ in steps]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)  # all pairs are in each, and nothing was updated


@pytest.mark.parametrize(("sign", "moves"), [(1.0, False), (-1.0, True)])
def test_a_ratio_beyond_the_clip_moves_nothing_further_and_may_come_back(sign: float, moves: bool) -> None:
    policy = LinePolicy()
    settings = Dpok(RANDOM, pairs=100, kl_weight=0.0, ratio_clip=0.1)
    drawn = draw_trajectories(
        SamplingInputs(policy, paying(Near()), batch(4), policy.encode_prompts([""] * 4), None, seeded()), settings
    )
    likelier = replace(drawn, log_p=drawn.log_p - 0.5, advantage=torch.full((4,), sign))  # ratio 1.65 everywhere
    loss, terms = loss_of(policy, likelier, torch.arange(4 * STEPS), settings, policy.act)
    gradient = torch.autograd.grad(loss, policy.line)[0]
    assert terms["ratio"] == pytest.approx(1.6487, rel=1e-3)
    assert terms["clipped"] == 1
    assert bool(gradient.abs().sum() > 0) is moves


def test_guidance_and_the_pretrained_policy_see_the_same_states() -> None:
    policy = TinyPolicy()
    words, empty = policy.encode_prompts(["a", "b"]).detach(), policy.encode_prompts([""]).detach()
    settings = Dpok(Sampler(3, 4.0, 1.0), pairs=6)
    ((loss, terms),) = losses_of(
        policy, paying(Near()), batch(2, 4, 5), settings, words, empty, copy.deepcopy(policy).act, seeded()
    )
    assert terms["kl"] == 0
    assert terms["ratio"] == pytest.approx(1, abs=1e-4)
    assert loss.requires_grad


@pytest.mark.parametrize(
    ("count", "trained", "code", "named"),
    [(1, False, "dpok-trajectories", "dpok_trajectories"), (2, True, "dpok-text-encoder", "train_text_encoder")],
)
def test_settings_that_do_not_go_together_are_named(count: int, trained: bool, code: str, named: str) -> None:
    policy = LinePolicy()
    words = Conditioning(policy.encode_prompts([""] * count).tokens.requires_grad_(trained))
    with raises(code, named):
        next(losses_of(policy, paying(), batch(count), Dpok(RANDOM), words, None, policy.act, seeded()))
    with raises("dpok-deterministic", "eta"):
        Dpok(Sampler(3))


def test_latents_that_are_not_finite_stop_the_step() -> None:
    policy = LinePolicy(b=torch.nan)
    with raises("not-finite", "x_0"):
        next(
            losses_of(
                policy, paying(), batch(2), Dpok(RANDOM), policy.encode_prompts([""] * 2), None, policy.act, seeded()
            )
        )
