"""Noise paths against diffusers' own schedulers, and Eqs. 6 to 8 for every prediction."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lookforward.core.path import NoisePath, add_noise, noise_between, rectified_flow
from lookforward.core.prediction import Prediction
from tiny import PATH, seeded

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
FLOW = rectified_flow(torch.arange(1, 1001) / 1000)
EVERY = [(prediction, FLOW if prediction is Prediction.FLOW else PATH) for prediction in Prediction]
each_prediction = pytest.mark.parametrize(("prediction", "path"), EVERY, ids=[p.value for p in Prediction])


def example(t: int, count: int = 2, path: NoisePath = PATH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_0, noise, and the levels of a timestep."""
    generator = seeded(t)
    x_0, noise = (torch.randn(count, 4, 8, 8, generator=generator) for _ in range(2))
    return x_0, noise, *path.at(torch.full((count,), t))


def test_levels_are_those_of_diffusers() -> None:
    torch.testing.assert_close(PATH.signal**2, DDIM.alphas_cumprod)
    assert torch.equal(PATH.squares[0], DDIM.alphas_cumprod)
    assert torch.equal(PATH.squares[0] + PATH.squares[1], torch.ones(1000))
    assert PATH.timesteps == 1000
    assert PATH.signal.dtype == PATH.noise.dtype == torch.float32
    assert (PATH.signal.diff() < 0).all()


def test_each_sample_has_its_own_level() -> None:
    signal, noise = PATH.at(torch.tensor([999, 0]))
    assert torch.equal(signal, PATH.signal[[999, 0]])
    assert torch.equal(noise, PATH.noise[[999, 0]])


@unhurried
@given(timesteps, timesteps)
def test_add_noise_is_that_of_diffusers(first: int, second: int) -> None:
    x_0, noise, _, _ = example(first)
    timestep = torch.tensor([first, second])
    torch.testing.assert_close(add_noise(x_0, noise, *PATH.at(timestep)), DDIM.add_noise(x_0, noise, timestep))
    flow: Any = FlowMatchEulerDiscreteScheduler()
    expected = flow.scale_noise(x_0, flow.timesteps[999 - timestep], noise)
    torch.testing.assert_close(add_noise(x_0, noise, *FLOW.at(timestep)), expected)


@each_prediction
@pytest.mark.parametrize("t", [0, 1, 250, 500, 998])
def test_the_target_itself_looks_forward_to_the_reference_and_believes_in_the_noise(
    t: int, prediction: Prediction, path: NoisePath
) -> None:
    x_0, noise, *levels = example(t, path=path)
    x_t = add_noise(x_0, noise, *levels)
    target = prediction.target(x_0, noise, *levels)
    torch.testing.assert_close(prediction.x_0_hat(target, x_t, *levels), x_0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prediction.noise(target, x_t, *levels), noise, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(noise_between(x_t, x_0, *levels), noise, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("t", [0, 1, 250, 500, 998, 999])
@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.V, Prediction.SAMPLE])
def test_look_forward_is_what_a_ddim_step_predicts(t: int, prediction: Prediction) -> None:
    x_t, output, *levels = example(t)
    ddim = stable_diffusion_1_4()
    ddim.register_to_config(prediction_type=prediction.value)
    ddim.set_timesteps(50)
    torch.testing.assert_close(
        prediction.x_0_hat(output, x_t, *levels), ddim.step(output, t, x_t).pred_original_sample, rtol=1e-5, atol=1e-5
    )


@unhurried
@given(timesteps)
def test_the_target_of_v_prediction_is_that_of_diffusers(t: int) -> None:
    x_0, noise, *levels = example(t)
    expected = DDIM.get_velocity(x_0, noise, torch.full((2,), t))
    torch.testing.assert_close(Prediction.V.target(x_0, noise, *levels), expected)


@each_prediction
@unhurried
@given(t=timesteps, miss=st.floats(1e-2, 10.0))
def test_equation_8(prediction: Prediction, path: NoisePath, t: int, miss: float) -> None:
    """‖x̂_0 - x_0‖² = w ‖o - target‖², in single precision, with the weight w of the table in `core.prediction`."""
    x_0, noise, *levels = example(t, count=1, path=path)
    signal, noise_level = (float(level) for level in levels)
    target = prediction.target(x_0, noise, *levels)
    output = target + miss * torch.randn(noise.shape, generator=seeded(t + 1))
    x_0_hat = prediction.x_0_hat(output, add_noise(x_0, noise, *levels), *levels)
    weight = {
        Prediction.EPSILON: (noise_level / signal) ** 2 if signal else 0.0,
        Prediction.V: noise_level**2,
        Prediction.SAMPLE: 1.0,
        Prediction.FLOW: noise_level**2,
    }[prediction]
    left, right = ((x_0_hat - x_0) ** 2).mean(), weight * ((output - target) ** 2).mean()
    torch.testing.assert_close(left, right, rtol=2e-3, atol=1e-8)


@unhurried
@given(t=st.integers(1, 998), miss=st.floats(1e-2, 10.0))
def test_the_losses_of_v_and_flow_hold_look_forward(t: int, miss: float) -> None:
    """The derivation in `core.prediction`: n for epsilon, n + l for v, and both misses in a row for flow."""
    for prediction, path in ((Prediction.V, PATH), (Prediction.FLOW, FLOW)):
        x_0, noise, *levels = example(t, count=1, path=path)
        x_t, target = add_noise(x_0, noise, *levels), prediction.target(x_0, noise, *levels)
        error = miss * torch.randn(noise.shape, generator=seeded(t + 1))
        of_noise = prediction.noise(target + error, x_t, *levels) - noise
        of_image = prediction.x_0_hat(target + error, x_t, *levels) - x_0
        if prediction is Prediction.V:
            left, right = error.square().mean(), of_noise.square().mean() + of_image.square().mean()
        else:
            left, right = error, of_noise - of_image
        torch.testing.assert_close(right, left, rtol=1e-3, atol=1e-4)


def test_weights_of_equation_8_span_five_orders_of_magnitude_and_are_bounded_for_flow() -> None:
    weight = PATH.squares[1] / PATH.squares[0]
    assert weight[0].item() == pytest.approx(0.00085, rel=0.01)
    assert weight[999].item() == pytest.approx(213.6, rel=0.01)
    assert (weight.diff() > 0).all()
    assert FLOW.noise[999] == 1
    assert FLOW.signal[999] == 0


def test_mean_weights_are_those_of_the_derivation() -> None:
    t = torch.arange(1000)
    epsilon = 0.9986**t * PATH.squares[1] / PATH.squares[0]
    assert epsilon.mean().item() == pytest.approx(5.93, abs=0.01)
    assert epsilon.max().item() == pytest.approx(52.7, abs=0.1)
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=3.0)
    shifted = rectified_flow(scheduler.sigmas.flip(0))
    flow = shifted.squares[1]
    assert flow[shifted.sample(100_000, seeded())].mean().item() == pytest.approx(0.54, abs=0.01)
    assert int((0.9986**t * flow).argmax()) == 630


def test_from_noise_alone_every_prediction_but_epsilon_looks_forward() -> None:
    x_0, noise, *_ = example(999)
    nothing, everything = torch.zeros(2), torch.ones(2)
    for prediction in (Prediction.V, Prediction.SAMPLE, Prediction.FLOW):
        target = prediction.target(x_0, noise, nothing, everything)
        torch.testing.assert_close(prediction.x_0_hat(target, noise, nothing, everything), x_0, rtol=1e-5, atol=1e-6)
    assert not Prediction.EPSILON.x_0_hat(noise + 1, noise, nothing, everything).isfinite().any()


@pytest.mark.parametrize(("density", "mean", "middle"), [("uniform", 500, 0.38), ("logit-normal", 500, 0.6),
                                                         ("shifted", 676, 0.3)])  # fmt: skip
def test_timesteps_are_drawn_of_the_paths_density(density: Any, mean: float, middle: float) -> None:
    path = rectified_flow(FLOW.noise, density, shift=3.0)
    drawn = path.sample(20_000, seeded())
    assert drawn.dtype == torch.int64
    assert 0 <= drawn.min() < drawn.max() < 1000
    assert drawn.float().mean().item() == pytest.approx(mean, rel=0.02)
    inner = ((drawn > 310) & (drawn < 690)).float().mean().item()
    assert inner == pytest.approx(middle, abs=0.03)


@each_prediction
def test_half_precision_comes_back_as_single(prediction: Prediction, path: NoisePath) -> None:
    x_0, noise, *levels = example(998, path=path)
    half = noise.half()
    x_t = add_noise(x_0.half(), half, *levels)
    outputs = (x_t, prediction.x_0_hat(half, x_t.half(), *levels), prediction.noise(half, x_t.half(), *levels))
    assert all(output.dtype == torch.float32 for output in outputs)
