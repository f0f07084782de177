"""Stable Diffusion XL: loss and output are diffusers' own, with sizes and both encoders; other kinds are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
)
from torch import Tensor

from errors import raises
from lookforward.algorithm.environment import act
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.models.families import SDXL
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from tiny import seeded
from tiny_sdxl import make_sdxl

PROMPT = "a photo of a red dog on the beach"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("sdxl")
    make_sdxl().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script(prediction: str) -> None:
    """train_dreambooth_lora_sdxl of a photo that was neither scaled nor cropped, with DDPM's own noising and target."""
    pipeline = make_sdxl(prediction)
    policy = DiffusionPolicy(pipeline)
    theirs: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts([PROMPT] * 3))
    transition = act(policy, state, x_0, noise)

    noisy = theirs.add_noise(x_0, noise, timestep)
    first, second = (
        encoder(tokenizer([PROMPT], padding="max_length", return_tensors="pt").input_ids, output_hidden_states=True)
        for encoder, tokenizer in ((pipeline.text_encoder, pipeline.tokenizer),
                                   (pipeline.text_encoder_2, pipeline.tokenizer_2))
    )  # fmt: skip
    tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1).expand(3, -1, -1)
    sizes = torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]] * 3)  # original, crop, target
    given = {"text_embeds": second.text_embeds.expand(3, -1), "time_ids": sizes}
    predicted = pipeline.unet(noisy, timestep, tokens, added_cond_kwargs=given, return_dict=False)[0]
    target = noise if prediction == "epsilon" else theirs.get_velocity(x_0, noise, timestep)
    torch.testing.assert_close(state.x_t, noisy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.target, target, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - target) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    assert policy.prediction is Prediction(prediction)
    assert policy.path.density == "uniform"


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "empty prompt"])
@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws(zeros: bool, sampler: str) -> None:
    """Of an image that is no square, with guidance: what the UNet is given without a prompt, and the noise levels."""
    pipeline = make_sdxl(zeros=zeros)
    if sampler == "ddim":
        SDXL.set_sampler(pipeline)
    policy = DiffusionPolicy(pipeline)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = pipeline.unet.register_forward_hook(lambda _, args, out: seen.append((args[0], args[1], out[0])))
    levels: list[float] = []
    drawn: Any = pipeline(PROMPT, num_inference_steps=5, guidance_scale=4.0, height=32, width=64, generator=seeded(),
                          output_type="latent")  # fmt: skip
    latents = drawn.images
    hook.remove()
    assert len(seen) == 5
    words = policy.encode_prompts(["", PROMPT])  # as the pipeline orders them for guidance
    for x_t, timestep, output in seen:
        state = State(x_t, timestep.long().expand(2), words)
        assert state.timestep[0] == timestep
        torch.testing.assert_close(policy.act(state), output, rtol=1e-5, atol=1e-5)
        levels.append(float(policy.path.at(state.timestep)[1][0]))
    assert levels == sorted(levels, reverse=True)
    # The sampler's last step ends where Eq. 7 looks from it, along the guided output
    x_t, timestep, output = seen[-1]
    guided = (output[0] + 4.0 * (output[1] - output[0]))[None]
    signal, noise_level = policy.path.at(timestep.long()[None])
    x_0_hat = policy.prediction.x_0_hat(guided, x_t[:1], signal, noise_level)
    if sampler == "euler":
        torch.testing.assert_close(latents, x_0_hat, rtol=1e-4, atol=1e-4)
    assert latents.shape == (1, 4, 8, 16)


def test_a_folder_is_loaded_as_what_it_is(model: Path) -> None:
    pipeline = load_pipeline(model)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == "sdxl"
    assert list(policy.components) == ["unet", "text_encoder", "text_encoder_2"]
    images = [draw_images(one, [PROMPT], [3], steps=3, guidance=3.0) for one in (pipeline, make_sdxl())]
    assert (images[0] == images[1]).all()
    assert fingerprint(pipeline) == fingerprint(make_sdxl()) != fingerprint(make_sdxl("v_prediction"))
    assert policy.family.size_unit(pipeline) == 8  # 4 of the autoencoder, 2 of the UNet
    assert policy.family.native_size(pipeline) == 32


def edm(pipeline: Any) -> None:
    pipeline.scheduler = EDMEulerScheduler()


def normalised(pipeline: Any) -> None:
    pipeline.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)


KINDS: list[tuple[dict[str, Any], Any, tuple[str, ...]]] = [
    ({"in_channels": 9}, None, ("9 channels", "inpainting")),
    ({"projection_class_embeddings_input_dim": 5 * 8 + 12}, None, ("refiner",)),
    ({"cross_attention_dim": 24}, None, ("words of 24", "40")),
    ({}, edm, ("EDMEulerScheduler", "variance-preserving")),
    ({}, normalised, ("a mean and a deviation",)),
]


@pytest.mark.parametrize(("unet", "change", "words"), KINDS, ids=["inpainting", "refiner", "width", "edm", "latents"])
def test_other_kinds_are_refused(unet: dict[str, Any], change: Any, words: tuple[str, ...], tmp_path: Path) -> None:
    pipeline = make_sdxl(**unet)
    if change:
        change(pipeline)
    pipeline.save_pretrained(tmp_path)
    with raises("model-kind", "Stable Diffusion XL", *words):
        load_pipeline(tmp_path)


def test_pipelines_of_the_refiner_and_for_inpainting_are_of_no_family(model: Path, tmp_path: Path) -> None:
    index = (model / "model_index.json").read_text()
    for kind in ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"):
        (tmp_path / "model_index.json").write_text(index.replace("StableDiffusionXLPipeline", kind))
        with raises("family-unknown", kind, "Stable Diffusion XL (StableDiffusionXLPipeline)"):
            load_pipeline(tmp_path)
