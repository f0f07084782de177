"""FLUX.1: loss and output are diffusers' own, with packed latents and the guidance that the model reads."""
# diffusers types its pipelines more narrowly than it takes their arguments, and what they return more widely
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from errors import raises
from families import (
    PROMPT,
    SHORT,
    SIZE,
    Seen,
    run,
    watch,
)
from lookforward.algorithm.environment import act
from lookforward.assembly.components import build
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.data.subjects import read_subject
from lookforward.exports.source import find_source
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from tiny import seeded
from tiny_flux import DYNAMIC, make_flux


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("flux")
    make_flux().save_pretrained(folder, safe_serialization=True)
    return folder


@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script() -> None:
    """train_dreambooth_lora_flux with --guidance_scale=1, at the levels of a trajectory of 1000 steps."""
    pipeline = make_flux()
    policy, theirs = DiffusionPolicy(pipeline, resolution=SIZE), FlowMatchEulerDiscreteScheduler(**DYNAMIC)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts([PROMPT] * 3))
    transition = act(policy, state, x_0, noise)

    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 1000, 1000), mu=calculate_shift(16))
    sigmas = theirs.sigmas[999 - timestep].reshape(-1, 1, 1, 1)
    noisy = (1 - sigmas) * x_0 + sigmas * noise
    tokens, pooled, text_ids = pipeline.encode_prompt([PROMPT] * 3, None)
    packed = pipeline.transformer(
        hidden_states=pipeline._pack_latents(noisy, 3, 4, 8, 8),
        timestep=theirs.timesteps[999 - timestep] / 1000,
        guidance=torch.ones(3),
        pooled_projections=pooled,
        encoder_hidden_states=tokens,
        txt_ids=text_ids,
        img_ids=pipeline._prepare_latent_image_ids(3, 4, 4, "cpu", torch.float32),
        return_dict=False,
    )[0]
    predicted = pipeline._unpack_latents(packed, SIZE, SIZE, 4)
    torch.testing.assert_close(state.x_t, noisy)
    torch.testing.assert_close(transition.target, noise - x_0)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - (noise - x_0)) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.x_0_hat, noisy - sigmas * predicted, rtol=1e-5, atol=1e-5)  # Eq. 7
    assert policy.prediction is Prediction.FLOW


@pytest.mark.parametrize("width", [SIZE, 2 * SIZE], ids=["square", "wide"])
@pytest.mark.parametrize("guidance", [True, False], ids=["dev", "schnell"])
@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws(guidance: bool, width: int) -> None:
    pipeline = make_flux(guidance)
    policy, seen = DiffusionPolicy(pipeline, resolution=SIZE), Seen()
    hook = watch(pipeline.transformer, seen)
    pipeline(PROMPT, num_inference_steps=5, guidance_scale=3.5, height=SIZE, width=width, generator=seeded(),
             output_type="latent")  # fmt: skip
    hook.remove()
    assert len(seen) == 5
    words = policy.encode_prompts([PROMPT])
    assert list(words.extra) == (["guidance"] if guidance else [])
    if guidance:
        assert words.extra["guidance"].tolist() == [1.0]
        words = replace(words, extra={"guidance": torch.tensor([3.5])})
    for given, output in seen:
        x_t = pipeline._unpack_latents(given["hidden_states"], SIZE, width, 4)
        found = policy.family.denoise(policy.denoiser, State(x_t, torch.zeros(1).long(), words), given["timestep"])
        expected = pipeline._unpack_latents(output, SIZE, width, 4)
        assert found.shape == (1, 4, 8, width // 4)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if width == SIZE:  # training passes through the levels that sampling does
        levels = torch.cat([given["timestep"] for given, _ in seen])
        torch.testing.assert_close(policy.path.noise[[999, 799, 599, 399, 199]], levels)


def test_larger_images_are_trained_at_more_noise() -> None:
    """FLUX.1's shift is e^0.5 at 256 pixels and e^1.15 at 1024, by the 16 pixels of a token; schnell has none."""
    pipeline = make_flux()
    for side, mu in ((16, 0.5), (64, 1.15)):
        path = DiffusionPolicy(pipeline, resolution=side * 8).path
        u = torch.arange(1, 1001) / 1000
        shifted = np.exp(mu) * u / (1 + (np.exp(mu) - 1) * u)
        torch.testing.assert_close(path.noise, shifted, rtol=1e-5, atol=1e-6)
        assert path.noise[path.sample(4000, seeded())].mean() == pytest.approx(float(shifted.mean()), abs=0.02)
    plain = DiffusionPolicy(make_flux(scheduler={"shift": 1.0}), resolution=512).path
    torch.testing.assert_close(plain.noise, torch.arange(1, 1001) / 1000)


@torch.no_grad()
def test_latents_have_the_vaes_shift_and_scale() -> None:
    pipeline = make_flux()
    images = torch.rand(2, 3, SIZE, SIZE, generator=seeded())
    latents, posterior = encode(pipeline, images), pipeline.vae.encode(images * 2 - 1).latent_dist
    latents.std.zero_()
    x_0 = latents.sample(torch.tensor([0, 1]), seeded())
    torch.testing.assert_close(x_0, (posterior.mean - 0.06) * 1.5)
    expected = (pipeline.vae.decode(x_0 / 1.5 + 0.06).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode(pipeline, x_0), expected)


def test_a_folder_is_loaded_as_what_it_is(model: Path) -> None:
    pipeline = load_pipeline(model)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == "flux"
    assert list(policy.components) == ["transformer", "text_encoder", "text_encoder_2"]
    call: Any = {"steps": 3, "guidance": 3.0, "resolution": SIZE}
    images = [draw_images(one, [PROMPT], [3], **call) for one in (pipeline, make_flux())]
    assert (images[0] == images[1]).all()
    other = make_flux(scheduler={**DYNAMIC, "max_shift": 1.3})
    assert fingerprint(pipeline) == fingerprint(make_flux()) != fingerprint(other)
    assert policy.family.size_unit(pipeline) == 8  # 4 of the autoencoder, 2 of a token
    assert policy.family.native_size(pipeline) == 512  # 128 latents; 1024 pixels of the real autoencoder
    assert policy.prompt_length == 511
    with raises("negative-unsupported", "FLUX.1"):
        draw_images(pipeline, [PROMPT], [3], **call, negative="fog")


@pytest.mark.parametrize(("change", "facts"), [
    ({"in_channels": 12}, ("12 channels", "have 16")),
    ({"pooled_projection_dim": 24}, ("24 pooled", "gives 16")),
    ({"joint_attention_dim": 24}, ("words of 24", "have 32")),
], ids=["channels", "pooled", "words"])  # fmt: skip
def test_other_kinds_are_refused(change: dict[str, Any], facts: tuple[str, ...], tmp_path: Path) -> None:
    make_flux(**change).save_pretrained(tmp_path)
    with raises("model-kind", "FLUX.1", *facts):
        load_pipeline(tmp_path)


def test_schnell_draws_but_is_trained_only_on_demand(photos: Path, tmp_path: Path) -> None:
    make_flux(guidance=False, scheduler={"shift": 1.0}).save_pretrained(tmp_path / "schnell")
    settings = {"adapter.name": "lora", "run.steps": 1, "objective.prior_weight": 0.0}
    with raises("model-distilled", "black-forest-labs/FLUX.1-dev", "--model.allow-distilled"):
        run(photos, tmp_path / "schnell", tmp_path / "refused", "dreambooth", **settings)
    settings["model.allow_distilled"] = True
    made = run(photos, tmp_path / "schnell", tmp_path / "run", "dreambooth", **settings)
    assert made.generate("a photo of {}", steps=2)[0].size == (SIZE, SIZE)


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion", "textual-inversion"])
def test_adapters_that_learn_a_word_say_so(adapter: str, model: Path, photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(model), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, "FLUX.1"):
        build(settings, read_subject(photos, settings))


def test_settings_begin_with_the_familys_own_defaults(model: Path) -> None:
    settings = load_settings("look-forward", {"model.name": str(model), "evaluation.sampler_steps": 20})
    assert (settings.data.resolution, settings.evaluation.guidance, settings.baseline.guidance) == (512, 3.5, 3.5)
    assert (settings.evaluation.sampler_steps, settings.adapter.train_text_encoder) == (20, False)
    plain = find_source(model).manifest
    assert (plain["sample_steps"], plain["guidance"]) == (28, 3.5)
