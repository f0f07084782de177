"""Sampling is diffusers' DDIM, and Euler's for flow; its density is the Gaussian's, and its gradient stops at K."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from errors import raises
from lookforward.baselines.sampler import (
    Sampler,
    deviation,
    draw_noise,
    final_transition,
    guided,
    log_probability,
    sample_steps,
    sampler_timesteps,
)
from lookforward.core.path import add_noise, rectified_flow
from lookforward.core.prediction import Prediction
from lookforward.core.types import Batch, Conditioning, State
from tiny import PATH, TinyPolicy, seeded

LIKE = torch.zeros(2, 4, 6, 6)


def scheduler(steps: int) -> Any:
    """Stable Diffusion's, as its pipeline folders have it."""
    made = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    made.set_timesteps(steps)
    return made


def prompted(policy: TinyPolicy) -> tuple[Conditioning, Conditioning]:
    return policy.encode_prompts(["a red dog", "a teapot"]).detach(), policy.encode_prompts([""]).detach()


@pytest.mark.parametrize("steps", [1, 7, 10, 50])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_deterministic_sampling_is_diffusers(steps: int, guidance: float) -> None:
    policy, theirs = TinyPolicy(), scheduler(steps)
    words, empty = prompted(policy)
    ours = x = draw_noise(LIKE, seeded())
    for step in sample_steps(policy, Sampler(steps, guidance), ours, words, empty, seeded()):
        ours = step.x_next
    for t in theirs.timesteps:
        time = torch.full((2,), int(t))
        one, none = (policy.act(State(x, time, e)) for e in (words, empty.expand(2)))
        x = theirs.step(none + guidance * (one - none), int(t), x, eta=0.0).prev_sample
    assert sampler_timesteps(PATH, steps).tolist() == [*theirs.timesteps.tolist(), 0]
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_each_random_step_is_diffusers() -> None:
    policy, theirs = TinyPolicy(), scheduler(10)
    words, empty = prompted(policy)
    generator, twin = seeded(3), seeded(3)
    for step in sample_steps(policy, Sampler(10, 1.0, 0.7), draw_noise(LIKE, seeded()), words, empty, generator):
        noise = torch.randn(LIKE.shape, generator=twin)
        t = int(step.state.timestep[0])
        wanted = theirs.step(step.action, t, step.state.x_t, eta=0.7, variance_noise=noise).prev_sample
        torch.testing.assert_close(step.x_next, wanted, rtol=1e-4, atol=1e-5)


def test_the_density_is_the_normal_one() -> None:
    x, mean = (torch.randn(3, 4, 5, 5, generator=seeded(i)) for i in (1, 2))
    sigma = torch.tensor([0.02, 0.5, 3.0])
    normal = torch.distributions.Normal(mean, sigma[:, None, None, None])
    torch.testing.assert_close(log_probability(x, mean, sigma), normal.log_prob(x).sum(dim=(1, 2, 3)))


def test_with_eta_1_the_last_step_has_a_density_too() -> None:
    timesteps = sampler_timesteps(PATH, 50)
    assert bool((deviation(PATH, timesteps[:-1], timesteps[1:], 1.0) > 0.01).all())


def test_only_the_last_steps_carry_a_gradient() -> None:
    policy = TinyPolicy()
    words, _ = prompted(policy)
    steps = list(sample_steps(policy, Sampler(5), draw_noise(LIKE, seeded()), words, None, seeded(), last=2))
    assert [step.x_next.requires_grad for step in steps] == [False, False, False, True, True]
    with torch.no_grad():
        assert not any(
            step.x_next.requires_grad for step in sample_steps(policy, Sampler(5), LIKE, words, None, seeded(), last=2)
        )


def test_guidance_asks_once_for_both_and_needs_the_empty_prompt() -> None:
    policy = TinyPolicy()
    words, empty = prompted(policy)
    state = State(LIKE, torch.tensor([1, 2]), words)
    asked: list[int] = []

    def act(state: State) -> Tensor:
        asked.append(len(state.x_t))
        return policy.act(state)

    guided(act, state, empty, 7.5)
    guided(act, state, None, 1.0)
    assert asked == [4, 2]
    with pytest.raises(ValueError, match="empty prompt"):
        guided(act, state, None, 7.5)


def test_the_same_seed_draws_the_same_trajectory() -> None:
    policy = TinyPolicy()
    words, _ = prompted(policy)
    first, again = (
        [step.x_next for step in sample_steps(policy, Sampler(4, 1.0, 1.0), LIKE, words, None, seeded(5))]
        for _ in range(2)
    )
    assert torch.equal(torch.stack(first), torch.stack(again))


def test_rewards_see_where_the_trajectory_ended() -> None:
    policy = TinyPolicy()
    words, _ = prompted(policy)
    x_0, photo = torch.randn(LIKE.shape, generator=seeded(8)), torch.rand(2, 3, 8, 8, generator=seeded(9))
    start = Batch(x_0, x_0, torch.tensor([3, 4]), ("a", "b"), plain_prompts=("c", "d"), photo=photo)
    *_, end = sample_steps(policy, Sampler(4), draw_noise(LIKE, seeded()), words, None, seeded())
    seen = final_transition(policy, end, start)
    assert torch.equal(seen.x_0_hat, end.x_next)
    assert seen.prompts == ("c", "d")
    assert seen.photo is photo
    assert seen.image is None
    assert seen.state.timestep.tolist() == [1, 1]
    torch.testing.assert_close(add_noise(seen.x_0, seen.noise, seen.signal, seen.noise_level), seen.state.x_t)


@pytest.mark.parametrize("steps", [0, 1000])
def test_steps_that_the_path_lacks_are_named(steps: int) -> None:
    with raises("sampler-steps-out-of-range", "sampler_steps", steps):
        sampler_timesteps(PATH, steps)


@torch.no_grad()
def test_for_flow_a_deterministic_step_is_eulers() -> None:
    policy = TinyPolicy()
    policy.path, policy.prediction = rectified_flow(torch.arange(1, 1001) / 1000), Prediction.FLOW
    words, _ = prompted(policy)
    assert sampler_timesteps(policy.path, 4).tolist() == [999, 749, 499, 249, 0]
    steps = list(sample_steps(policy, Sampler(4), draw_noise(LIKE, seeded()), words, None, seeded()))
    for step, later in zip(steps, (0.75, 0.5, 0.25, 0.001), strict=True):
        sigma = policy.path.at(step.state.timestep)[1][0]
        expected = step.state.x_t + (later - sigma) * policy.act(step.state)  # FlowMatchEulerDiscreteScheduler
        torch.testing.assert_close(step.x_next, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_for_flow_random_steps_keep_the_paths_own_marginal() -> None:
    """With the true noise and image, what is drawn at level t' is x_t' of Eq. 6 with fresh noise."""
    path, x_0 = rectified_flow(torch.arange(1, 1001) / 1000), torch.full((20_000, 1, 1, 1), 2.0)
    now, later = torch.full((len(x_0),), 800), torch.full((len(x_0),), 300)
    z, fresh = (torch.randn(x_0.shape, generator=seeded(i)) for i in (1, 2))
    s = deviation(path, now, later, 1.0)
    (a_later, sigma_later), s_wide = path.at(later), s[:, None, None, None]
    direction = (sigma_later[0] ** 2 - s[0] ** 2).sqrt()
    drawn = a_later[0] * x_0 + direction * z + s_wide * fresh
    assert drawn.mean().item() == pytest.approx(a_later[0].item() * 2, abs=0.01)
    assert drawn.std().item() == pytest.approx(sigma_later[0].item(), rel=0.02)
    assert 0 < s[0] < sigma_later[0]
