"""Z-Image: loss and output are diffusers' own, with their sign; other kinds are refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from transformers import Qwen3ForCausalLM

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
from tiny_qwen import make_z_image

PROMPTS = ["a photo of a red dog on the beach", "a vase"]
CALL: dict[str, Any] = {"guidance_scale": 4.0}  # of the pipeline; 5 here


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("z-image")
    make_z_image().save_pretrained(folder, safe_serialization=True)
    return folder


def words_of(pipeline: Any, prompts: list[str]) -> list[Tensor]:
    """Qwen3's states before the last layer, of each prompt by itself: what the pipeline's padding leaves of them."""
    template = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    ids = [pipeline.tokenizer(template.format(text), return_tensors="pt").input_ids for text in prompts]
    return [pipeline.text_encoder(one, output_hidden_states=True).hidden_states[-2][0] for one in ids]


@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script() -> None:
    """train_dreambooth_lora_z_image: noisy = (1-σ) x + σ z, (1000 - t) / 1000, the output's sign turned, z - x."""
    pipeline, prompts = make_z_image(), [*PROMPTS, PROMPTS[0]]
    policy = DiffusionPolicy(pipeline)
    theirs: Any = FlowMatchEulerDiscreteScheduler(shift=6.0)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts(prompts))
    transition = act(policy, state, x_0, noise)

    sigmas, timesteps = theirs.sigmas[999 - timestep].reshape(-1, 1, 1, 1), theirs.timesteps[999 - timestep]
    noisy = (1 - sigmas) * x_0 + sigmas * noise
    images = list(noisy.unsqueeze(2).unbind())
    output = pipeline.transformer(images, (1000 - timesteps) / 1000, words_of(pipeline, prompts), return_dict=False)[0]
    predicted = -torch.stack(output)[:, :, 0]
    torch.testing.assert_close(state.x_t, noisy)
    torch.testing.assert_close(transition.target, noise - x_0)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - (noise - x_0)) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.x_0_hat, noisy - sigmas * predicted, rtol=1e-5, atol=1e-5)  # Eq. 7
    assert policy.prediction is Prediction.FLOW
    torch.testing.assert_close(policy.path.noise, theirs.sigmas.flip(0))  # the sampler's shift, drawn uniformly
    assert policy.path.density == "uniform"


@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws() -> None:
    """Of two images that are no squares, with prompts of two lengths and guidance."""
    pipeline = make_z_image()
    policy = DiffusionPolicy(pipeline)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = pipeline.transformer.register_forward_hook(
        lambda _, args, out: seen.append((torch.stack(args[0])[:, :, 0], args[1], torch.stack(out[0])[:, :, 0]))
    )
    steps: list[Tensor] = []
    drawn: Any = pipeline(
        list(PROMPTS), num_inference_steps=5, height=32, width=64, generator=seeded(), output_type="latent",
        callback_on_step_end=lambda _, i, t, given: steps.append(given["latents"]) or given, **CALL,
    )  # fmt: skip
    hook.remove()
    assert len(seen) == 5
    assert seen[0][0].shape == (4, 4, 8, 16)
    words = policy.encode_prompts([*PROMPTS, "", ""])
    sigmas = [*(1 - time[0] for _, time, _ in seen), torch.tensor(0.0)]
    assert sigmas[0] == 1.0
    for i, (x_t, time, output) in enumerate(seen):
        found = policy.family.denoise(policy.denoiser, State(x_t, torch.zeros(4).long(), words), 1 - time)
        torch.testing.assert_close(found, -output, rtol=1e-5, atol=1e-5)
        guidance = policy.family.guide(found[:2], found[2:], 5.0)  # the pipeline's scale counts from 0
        torch.testing.assert_close(x_t[:2] + (sigmas[i + 1] - sigmas[i]) * guidance, steps[i], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(steps[-1], drawn.images)
    levels = 6 * (n := torch.arange(5, 0, -1) / 5) / (1 + 5 * n)
    torch.testing.assert_close(torch.stack(sigmas[:-1]), levels)


@torch.no_grad()
def test_baselines_guide_as_the_pipeline_does() -> None:
    policy = DiffusionPolicy(make_z_image())
    state = State(torch.randn(2, 4, 8, 8, generator=seeded()), torch.tensor([3, 700]), policy.encode_prompts(PROMPTS))
    empty = policy.encode_prompts([""])
    one, none = (policy.act(State(state.x_t, state.timestep, words)) for words in (state.conditioning, empty.expand(2)))
    found = guided(policy.act, state, empty, 5.0, policy.family.guide)
    torch.testing.assert_close(found, one + 4 * (one - none), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_latents_have_the_vaes_shift_and_scale_and_no_noise() -> None:
    pipeline = make_z_image()
    images = torch.rand(2, 3, 32, 32, generator=seeded())
    x_0 = encode(pipeline, images).sample(torch.tensor([0, 1]), seeded())
    torch.testing.assert_close(x_0, (pipeline.vae.encode(images * 2 - 1).latent_dist.mode() - 0.06) * 1.5)
    expected = (pipeline.vae.decode(x_0 / 1.5 + 0.06).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode(pipeline, x_0), expected)


def test_a_folder_is_loaded_as_what_it_is(model: Path) -> None:
    pipeline = load_pipeline(model)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == "z_image"
    assert list(policy.components) == ["transformer", "text_encoder"]
    drawing: dict[str, Any] = {"steps": 3, "guidance": 3.0, "resolution": 32}
    images = [draw_images(one, PROMPTS, [3, 4], **drawing) for one in (pipeline, make_z_image())]
    assert (images[0] == images[1]).all()
    assert fingerprint(pipeline) == fingerprint(make_z_image()) != fingerprint(make_z_image(shift=4.0))
    assert (policy.family.size_unit(pipeline), policy.family.native_size(pipeline)) == (8, 1024)
    assert policy.prompt_length == 512 - len(pipeline.tokenizer("<|im_start|>user\n").input_ids)
    with raises("scheduler-unknown", "euler"):
        draw_images(pipeline, PROMPTS[:1], [3], **drawing, scheduler="ddim")


def test_the_text_encoder_may_be_stored_as_the_language_model_that_it_is_of(model: Path, tmp_path: Path) -> None:
    """As in Tongyi-MAI/Z-Image: weights of a Qwen3ForCausalLM under the name of a Qwen3Model."""
    shutil.copytree(model, tmp_path / "model")
    own = make_z_image().text_encoder
    whole = Qwen3ForCausalLM(own.config)
    whole.model.load_state_dict(own.state_dict())
    whole.save_pretrained(tmp_path / "model" / "text_encoder")
    found = load_pipeline(tmp_path / "model").text_encoder
    assert type(found) is type(own)
    assert all(torch.equal(one, other) for one, other in zip(found.parameters(), own.parameters(), strict=True))


@torch.no_grad()
def test_a_guidance_of_1_is_none_and_a_negative_prompt_leads_away() -> None:
    pipeline = make_z_image()
    drawing: dict[str, Any] = {"steps": 3, "resolution": 32}
    given: dict[str, Any] = {"num_inference_steps": 3, "height": 32, "width": 32, "output_type": "np"}
    away: dict[str, Any] = {"guidance_scale": 2.0, "negative_prompt": "a vase"}
    for guidance, negative, call in ((1.0, None, {"guidance_scale": 0.0}), (3.0, "a vase", away)):
        found = draw_images(pipeline, PROMPTS[:1], [3], guidance=guidance, negative=negative, **drawing)
        theirs: Any = pipeline(PROMPTS[0], generator=seeded(3), **given, **call)
        assert np.abs(theirs.images[0] * 255 - found[0]).max() <= 0.51


KINDS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"in_channels": 8}, ("8 channels", "4")),
    ({"cap_feat_dim": 24}, ("24", "16")),
    ({"siglip_feat_dim": 8}, ("Omni",)),
    ({"chat_template": None}, ("chat template",)),
]


@pytest.mark.parametrize(("change", "words"), KINDS, ids=["channels", "width", "omni", "template"])
def test_other_kinds_are_refused(change: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    make_z_image(**change).save_pretrained(tmp_path)
    with raises("model-kind", "Z-Image", *words):
        load_pipeline(tmp_path)
