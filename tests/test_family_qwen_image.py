"""Qwen-Image: loss, output and guidance are diffusers' own; other kinds are refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline
from torch import Tensor

from errors import raises
from lookforward.algorithm.environment import act
from lookforward.baselines.sampler import guided
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from tiny import seeded
from tiny_qwen import make_qwen_image

PROMPTS = ["a photo of a red dog on the beach", "a vase"]
CALL: dict[str, Any] = {"true_cfg_scale": 4.0, "negative_prompt": " "}  # of the pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("qwen-image")
    make_qwen_image().save_pretrained(folder, safe_serialization=True)
    return folder


def packed(x: Tensor) -> Tensor:
    """Latents (b, c, h, w) as the pipeline packs them."""
    return QwenImagePipeline._pack_latents(x, len(x), *x.shape[1:])


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens to latents (b, c, h, w) of an image of height × width pixels, as the pipeline unpacks them."""
    return QwenImagePipeline._unpack_latents(tokens, height, width, 4)[:, :, 0]


@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script() -> None:
    """train_dreambooth_lora_qwen_image: noisy = (1-σ) x + σ z, packed, t / 1000, z - x; with its sampler's shift."""
    pipeline, prompts = make_qwen_image(), [*PROMPTS, PROMPTS[0]]
    policy = DiffusionPolicy(pipeline, resolution=32)
    theirs: Any = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config, shift_terminal=None)
    mu = 0.5 + (16 - 256) * (0.9 - 0.5) / (8192 - 256)  # of 16 tokens
    theirs.set_timesteps(sigmas=np.linspace(1, 1e-3, 1000), mu=mu)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts(prompts))
    transition = act(policy, state, x_0, noise)

    sigmas, timesteps = theirs.sigmas[999 - timestep].reshape(-1, 1, 1, 1), theirs.timesteps[999 - timestep]
    noisy = (1 - sigmas) * x_0 + sigmas * noise
    words, mask = pipeline.encode_prompt(prompts)
    output = pipeline.transformer(
        packed(noisy), words, mask, timesteps / 1000, img_shapes=[[(1, 4, 4)]] * 3, return_dict=False
    )[0]
    predicted = unpacked(output, 32, 32)
    torch.testing.assert_close(state.x_t, noisy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.target, noise - x_0)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - (noise - x_0)) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.x_0_hat, noisy - sigmas * predicted, rtol=1e-5, atol=1e-5)  # Eq. 7
    assert policy.prediction is Prediction.FLOW
    assert policy.path.density == "uniform"


def test_training_levels_are_shifted_by_the_size_of_the_images() -> None:
    """e^μ = 2.0 at 1024 pixels of the real model (4096 tokens), 1.7 at 512; here 4 pixels of a latent, not 8."""
    pipeline = make_qwen_image()
    u = torch.arange(1, 1001) / 1000
    for resolution, tokens, shift in ((512, 4096, 2.0), (256, 1024, 1.7)):
        s = math.exp(0.5 + (tokens - 256) * (0.9 - 0.5) / (8192 - 256))
        assert s == pytest.approx(shift, abs=0.02)
        levels = DiffusionPolicy(pipeline, resolution=resolution).path.noise
        torch.testing.assert_close(levels, s * u / (1 + (s - 1) * u))
    assert torch.equal(DiffusionPolicy(pipeline).path.noise, DiffusionPolicy(pipeline, resolution=512).path.noise)


@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws() -> None:
    """Of two images that are no squares, with prompts of two lengths and guidance with its rescaling."""
    pipeline = make_qwen_image()
    policy = DiffusionPolicy(pipeline)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = pipeline.transformer.register_forward_hook(
        lambda _, args, given, out: seen.append(
            (unpacked(given["hidden_states"], 32, 64), given["timestep"], unpacked(out[0], 32, 64))
        ),
        with_kwargs=True,
    )
    steps: list[Tensor] = []
    drawn: Any = pipeline(
        list(PROMPTS), num_inference_steps=5, height=32, width=64, generator=seeded(), output_type="latent",
        callback_on_step_end=lambda _, i, t, given: steps.append(unpacked(given["latents"], 32, 64)) or given, **CALL,
    )  # fmt: skip
    hook.remove()
    assert len(seen) == 10  # with the prompt and without, in turn
    assert seen[0][0].shape == (2, 4, 8, 16)
    words, nothing = policy.encode_prompts(PROMPTS), policy.encode_prompts(["", ""])
    levels = [*(level[0] for _, level, _ in seen[::2]), torch.tensor(0.0)]
    assert levels[0] == 1.0
    torch.testing.assert_close(levels[-2], torch.tensor(0.02))  # where a trajectory takes its last step
    outputs = []
    for i, (x_t, level, output) in enumerate(seen):
        state = State(x_t, torch.zeros(2).long(), nothing if i % 2 else words)
        outputs.append(policy.family.denoise(policy.denoiser, state, level))
        torch.testing.assert_close(outputs[-1], output, rtol=1e-5, atol=1e-5)
    for i, (x_t, _, _) in enumerate(seen[::2]):
        joined = policy.family.guide(outputs[2 * i], outputs[2 * i + 1], 4.0)
        torch.testing.assert_close(x_t + (levels[i + 1] - levels[i]) * joined, steps[i], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(steps[-1], unpacked(drawn.images, 32, 64))


@torch.no_grad()
def test_baselines_guide_as_the_pipeline_does() -> None:
    policy = DiffusionPolicy(make_qwen_image())
    state = State(torch.randn(2, 4, 8, 8, generator=seeded()), torch.tensor([3, 700]), policy.encode_prompts(PROMPTS))
    empty = policy.encode_prompts([""])
    one, none = (
        packed(policy.act(State(state.x_t, state.timestep, words)))
        for words in (state.conditioning, empty.expand(2))
    )  # fmt: skip
    joined = none + 3 * (one - none)
    joined = joined * (torch.norm(one, dim=-1, keepdim=True) / torch.norm(joined, dim=-1, keepdim=True))
    found = guided(policy.act, state, empty, 3.0, policy.family.guide)
    torch.testing.assert_close(found, unpacked(joined, 32, 32), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_latents_are_normalised_for_each_channel() -> None:
    pipeline = make_qwen_image()
    images = torch.rand(2, 3, 32, 32, generator=seeded())
    latents, posterior = encode(pipeline, images), pipeline.vae.encode((images * 2 - 1)[:, :, None]).latent_dist
    mean = torch.tensor([-0.7, 0.1, 0.3, 0.9]).reshape(1, 4, 1, 1, 1)
    std = torch.tensor([2.8, 1.4, 0.6, 1.1]).reshape(1, 4, 1, 1, 1)
    x_0 = latents.sample(torch.tensor([0, 1]), seeded())
    z = posterior.mean + posterior.std * torch.randn(2, 4, 1, 8, 8, generator=seeded())
    torch.testing.assert_close(x_0, ((z - mean) / std)[:, :, 0])
    expected = (pipeline.vae.decode(x_0[:, :, None] * std + mean).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode(pipeline, x_0), expected)


def test_a_folder_is_loaded_as_what_it_is(model: Path) -> None:
    pipeline = load_pipeline(model)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == "qwen_image"
    assert list(policy.components) == ["transformer", "text_encoder"]
    drawing: dict[str, Any] = {"steps": 3, "guidance": 3.0, "resolution": 32}
    images = [draw_images(one, PROMPTS, [3, 4], **drawing) for one in (pipeline, make_qwen_image())]
    assert (images[0] == images[1]).all()
    assert fingerprint(pipeline) == fingerprint(make_qwen_image()) != fingerprint(make_qwen_image({"max_shift": 1.15}))
    assert (policy.family.size_unit(pipeline), policy.family.native_size(pipeline)) == (8, 512)
    assert policy.prompt_length == 512
    with raises("scheduler-unknown", "euler"):
        draw_images(pipeline, PROMPTS[:1], [3], **drawing, scheduler="ddim")


@torch.no_grad()
def test_a_guidance_of_1_is_none_and_a_negative_prompt_leads_away() -> None:
    pipeline = make_qwen_image()
    drawing: dict[str, Any] = {"steps": 3, "resolution": 32}
    given: dict[str, Any] = {"num_inference_steps": 3, "height": 32, "width": 32, "output_type": "np"}
    away: dict[str, Any] = {"true_cfg_scale": 3.0, "negative_prompt": ["a vase"]}
    for guidance, negative, call in ((1.0, None, {}), (3.0, "a vase", away)):
        found = draw_images(pipeline, PROMPTS[:1], [3], guidance=guidance, negative=negative, **drawing)
        theirs: Any = pipeline(PROMPTS[0], generator=seeded(3), **given, **call)
        assert np.abs(theirs.images[0] * 255 - found[0]).max() <= 0.51


KINDS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"in_channels": 32}, ("32 channels", "16")),
    ({"joint_attention_dim": 24}, ("24", "16")),
    ({"zero_cond_t": True}, ("zero_cond_t",)),
    ({"guidance_embeds": True}, ("guidance",)),
]


@pytest.mark.parametrize(("change", "words"), KINDS, ids=["channels", "width", "edit", "guidance"])
def test_other_kinds_are_refused(change: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    make_qwen_image(**change).save_pretrained(tmp_path)
    with raises("model-kind", "Qwen-Image", *words):
        load_pipeline(tmp_path)
