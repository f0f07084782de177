"""The schedule against diffusers' own, and Eqs. 6 to 8."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lookforward.core.path import add_noise, as_noise, look_forward, noise_to_signal
from tiny import SCHEDULE, seeded

timesteps = st.integers(0, 999)
unhurried = settings(deadline=None)  # a busy machine is no failure


def stable_diffusion_1_4() -> Any:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


DDIM = stable_diffusion_1_4()


def example(t: int, count: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_0, noise, timesteps and levels."""
    generator = seeded(t)
    x_0, noise = (torch.randn(count, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.full((count,), t)
    return x_0, noise, timestep, SCHEDULE.level(timestep)


def test_levels_are_those_of_diffusers() -> None:
    assert torch.equal(SCHEDULE.alpha_bar, DDIM.alphas_cumprod)
    assert SCHEDULE.timesteps == 1000
    assert SCHEDULE.alpha_bar.dtype == torch.float32
    assert (SCHEDULE.alpha_bar.diff() < 0).all()


def test_each_sample_has_its_own_level() -> None:
    assert torch.equal(SCHEDULE.level(torch.tensor([999, 0])), SCHEDULE.alpha_bar[[999, 0]])


@unhurried
@given(timesteps, timesteps)
def test_add_noise_is_that_of_diffusers(first: int, second: int) -> None:
    x_0, noise, _, _ = example(first)
    timestep = torch.tensor([first, second])
    expected = DDIM.add_noise(x_0, noise, timestep)
    torch.testing.assert_close(add_noise(x_0, noise, SCHEDULE.level(timestep)), expected)


@unhurried
@given(timesteps)
def test_look_forward_from_the_noise_itself_sees_the_reference(t: int) -> None:
    x_0, noise, _, alpha_bar = example(t)
    x_t = add_noise(x_0, noise, alpha_bar)
    torch.testing.assert_close(look_forward(x_t, noise, alpha_bar), x_0, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t", [0, 1, 250, 500, 998, 999])
def test_look_forward_is_what_a_ddim_step_foretells(t: int) -> None:
    x_t, action, _, alpha_bar = example(t)
    ddim = stable_diffusion_1_4()
    ddim.set_timesteps(50)
    expected = ddim.step(action, t, x_t).pred_original_sample
    torch.testing.assert_close(look_forward(x_t, action, alpha_bar), expected)


@unhurried
@given(timesteps, st.floats(1e-3, 10.0))
def test_equation_8(t: int, miss: float) -> None:
    """‖x̂_0 - x_0‖² = (1-ᾱ)/ᾱ ‖ẑ - z‖², over the whole schedule and in single precision."""
    x_0, noise, _, alpha_bar = example(t, count=1)
    action = noise + miss * torch.randn(noise.shape, generator=seeded(t + 1))
    x_0_hat = look_forward(add_noise(x_0, noise, alpha_bar), action, alpha_bar)
    left = ((x_0_hat - x_0) ** 2).sum()
    right = noise_to_signal(alpha_bar)[0] * ((action - noise) ** 2).sum()
    torch.testing.assert_close(left, right, rtol=2e-3 if miss < 0.1 else 1e-4, atol=0.0)


def test_weights_of_equation_8_span_five_orders_of_magnitude() -> None:
    weight = noise_to_signal(SCHEDULE.alpha_bar)
    assert weight[0].item() == pytest.approx(0.00085, rel=0.01)
    assert weight[999].item() == pytest.approx(213.6, rel=0.01)
    assert (weight.diff() > 0).all()


@unhurried
@given(timesteps)
def test_every_kind_of_prediction_gives_the_same_action(t: int) -> None:
    x_0, noise, timestep, alpha_bar = example(t)
    x_t = add_noise(x_0, noise, alpha_bar)
    velocity = DDIM.get_velocity(x_0, noise, timestep)
    assert torch.equal(as_noise(noise, x_t, alpha_bar, "epsilon"), noise)
    torch.testing.assert_close(as_noise(velocity, x_t, alpha_bar, "v_prediction"), noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(as_noise(x_0, x_t, alpha_bar, "sample"), noise, rtol=1e-4, atol=1e-4)


def test_half_precision_comes_back_as_single() -> None:
    x_0, noise, _, alpha_bar = example(999)
    half = noise.half()
    x_t = add_noise(x_0.half(), half, alpha_bar)
    outputs = (x_t, look_forward(x_t.half(), half, alpha_bar), as_noise(half, x_t, alpha_bar, "epsilon"))
    assert all(output.dtype == torch.float32 for output in outputs)
