"""Stable Diffusion 1 and 2: loss and output are diffusers' own."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from conftest import make_pipeline
from lookforward.algorithm.environment import act
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.models.policy import DiffusionPolicy
from tiny import seeded

PROMPT = "a photo of a red dog on the beach"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script(prediction: str) -> None:
    """train_dreambooth, with DDPM's own noising and target."""
    pipeline = make_pipeline(prediction=prediction)
    policy = DiffusionPolicy(pipeline)
    theirs: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts([PROMPT] * 3))
    transition = act(policy, state, x_0, noise)

    noisy = theirs.add_noise(x_0, noise, timestep)
    ids = pipeline.tokenizer([PROMPT] * 3, padding="max_length", return_tensors="pt").input_ids
    predicted = pipeline.unet(noisy, timestep, pipeline.text_encoder(ids)[0], return_dict=False)[0]
    target = noise if prediction == "epsilon" else theirs.get_velocity(x_0, noise, timestep)
    torch.testing.assert_close(state.x_t, noisy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.target, target, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - target) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    assert policy.prediction is Prediction(prediction)
    assert policy.path.density == "uniform"


@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws() -> None:
    """Of an image that is no square, with guidance; the last step ends where Eq. 7 looks from it."""
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = pipeline.unet.register_forward_hook(lambda _, args, out: seen.append((args[0], args[1], out[0])))
    drawn: Any = pipeline(PROMPT, num_inference_steps=5, guidance_scale=4.0, height=32, width=64, generator=seeded(),
                          output_type="latent")  # fmt: skip
    hook.remove()
    assert len(seen) == 5
    words = policy.encode_prompts(["", PROMPT])  # as the pipeline orders them for guidance
    for x_t, timestep, output in seen:
        assert x_t.shape == (2, 4, 8, 16)
        found = policy.act(State(x_t, timestep.long().expand(2), words))
        torch.testing.assert_close(found, output, rtol=1e-5, atol=1e-5)
    x_t, timestep, output = seen[-1]
    guided = (output[0] + 4.0 * (output[1] - output[0]))[None]
    end: Any = pipeline.scheduler.step(guided, int(timestep), x_t[:1], return_dict=True)
    x_0_hat = policy.prediction.x_0_hat(guided, x_t[:1], *policy.path.at(timestep.long()[None]))
    torch.testing.assert_close(end.pred_original_sample, x_0_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn.images, end.prev_sample)
