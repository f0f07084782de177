"""FLUX.2: loss and output are diffusers' own, with patched latents, stacked layers and both kinds of guidance."""
# diffusers types its pipelines more narrowly than it takes their arguments, and what they return more widely
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

from errors import raises
from families import PROMPT, SHORT, SIZE, Seen, run, watch
from lookforward.algorithm.environment import act
from lookforward.assembly.components import build
from lookforward.baselines.sampler import guided
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.data.subjects import read_subject
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from tiny import seeded
from tiny_flux2 import LEVELS, make_dev, make_klein

Make = Callable[..., Any]
EACH = pytest.mark.parametrize("make", [make_klein, make_dev], ids=["klein", "dev"])


@pytest.fixture(scope="module", params=[make_klein, make_dev], ids=["klein", "dev"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Make, Path]:
    """A maker of a pipeline, and the folder of one."""
    folder = tmp_path_factory.mktemp("flux2")
    request.param().save_pretrained(folder, safe_serialization=True)
    return request.param, folder


@EACH
@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script(make: Make) -> None:
    """train_dreambooth_lora_flux2 (--guidance_scale=1) and _klein, at the levels of a trajectory of 1000 steps."""
    pipeline = make()
    policy, theirs = DiffusionPolicy(pipeline, resolution=SIZE), FlowMatchEulerDiscreteScheduler(**LEVELS)
    generator = seeded()
    images = torch.rand(3, 3, SIZE, SIZE, generator=generator)
    x_0 = encode(pipeline, images).sample(torch.arange(3), generator)
    noise, timestep = torch.randn(x_0.shape, generator=generator), torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts([PROMPT] * 3))
    transition = act(policy, state, x_0, noise)

    clean = pipeline._encode_vae_image(images * 2 - 1, None)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 1000, 1000), mu=compute_empirical_mu(64, 50))
    sigmas = theirs.sigmas[999 - timestep].reshape(-1, 1, 1, 1)
    noisy, ids = (1 - sigmas) * clean + sigmas * noise, pipeline._prepare_latent_ids(clean)
    tokens, text_ids = pipeline.encode_prompt([PROMPT] * 3)
    packed = pipeline.transformer(
        hidden_states=pipeline._pack_latents(noisy),
        timestep=theirs.timesteps[999 - timestep] / 1000,
        guidance=torch.ones(3) if make is make_dev else None,
        encoder_hidden_states=tokens,
        txt_ids=text_ids,
        img_ids=ids,
        return_dict=False,
    )[0]
    predicted = pipeline._unpack_latents_with_ids(packed, ids)
    assert x_0.shape == (3, 16, 8, 8)
    torch.testing.assert_close(x_0, clean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state.x_t, noisy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.target, noise - clean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - (noise - clean)) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    assert policy.prediction is Prediction.FLOW


@EACH
@pytest.mark.parametrize("width", [SIZE, 2 * SIZE], ids=["square", "wide"])
@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws(make: Make, width: int) -> None:
    """50 steps, for which training's levels are shifted; [klein] with its pass for the empty prompt."""
    pipeline, seen = make(), Seen()
    policy = DiffusionPolicy(pipeline, resolution=SIZE)
    hook = watch(pipeline.transformer, seen)
    pipeline(prompt=PROMPT, num_inference_steps=50, guidance_scale=4.0, height=SIZE, width=width, generator=seeded(),
             output_type="latent")  # fmt: skip
    hook.remove()
    prompts = [policy.encode_prompts([PROMPT])]
    if make is make_klein:
        prompts.append(policy.encode_prompts([""]))
        assert prompts[0].extra == {}
    else:
        assert prompts[0].extra["guidance"].tolist() == [1.0]
        prompts = [replace(prompts[0], extra={"guidance": torch.tensor([4.0])})]
    assert len(seen) == 50 * len(prompts)
    for i, (given, output) in enumerate(seen[:10]):
        ids = given["img_ids"]
        x_t, expected = (pipeline._unpack_latents_with_ids(x, ids) for x in (given["hidden_states"], output))
        state = State(x_t, torch.zeros(1).long(), prompts[i % len(prompts)])
        found = policy.family.denoise(policy.denoiser, state, given["timestep"])
        assert found.shape == (1, 16, 8, width // 4)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if width == SIZE:  # training passes through the levels that sampling does
        levels = torch.cat([given["timestep"] for given, _ in seen[:: len(prompts)]])
        torch.testing.assert_close(policy.path.noise[999 - 20 * torch.arange(50)], levels)


@torch.no_grad()
def test_kleins_guided_output_is_the_pipelines() -> None:
    """What the baselines' sampler follows: the pipeline's first step, of two, ends where it leads."""
    pipeline, steps = make_klein(), list[torch.Tensor]()
    policy = DiffusionPolicy(pipeline, resolution=SIZE)
    x_t, words, empty = torch.randn(1, 16, 8, 8, generator=seeded()), *map(policy.encode_prompts, ([PROMPT], [""]))

    def keep(_: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        steps.append(given["latents"])
        return given

    pipeline(prompt=PROMPT, num_inference_steps=2, guidance_scale=4.0, height=SIZE, width=SIZE, latents=x_t,
             output_type="latent", callback_on_step_end=keep)  # fmt: skip
    output = guided(policy.act, State(x_t, torch.tensor([999]), words), empty, 4.0)
    first, second = pipeline.scheduler.sigmas[:2]
    expected = x_t + (second - first) * output
    torch.testing.assert_close(steps[0], pipeline._pack_latents(expected), rtol=1e-5, atol=1e-5)


def test_larger_images_are_trained_at_more_noise() -> None:
    """The pipelines' formula at 50 steps: e^1.70 for 512 pixels of the real autoencoder, e^2.02 for 1024."""
    pipeline, u = make_klein(), torch.arange(1, 1001) / 1000
    for side, mu in ((32, 1.70196), (64, 2.02335)):  # tokens of a side
        path, shift = DiffusionPolicy(pipeline, resolution=side * 4).path, float(np.exp(mu))
        torch.testing.assert_close(path.noise, shift * u / (1 + (shift - 1) * u), rtol=1e-3, atol=1e-5)
        assert path.density == "uniform"


@EACH
@torch.no_grad()
def test_latents_are_patched_and_normalised_and_come_back(make: Make) -> None:
    pipeline = make()
    images = torch.rand(2, 3, SIZE, SIZE, generator=seeded())
    latents = encode(pipeline, images)
    x_0 = latents.sample(torch.tensor([0, 1]), seeded())
    torch.testing.assert_close(x_0, pipeline._encode_vae_image(images * 2 - 1, None), rtol=1e-5, atol=1e-5)
    assert not latents.std.any()  # the mode, not a sample
    plain = pipeline.vae.encode(images * 2 - 1).latent_dist.mode()
    expected = (pipeline.vae.decode(plain).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode(pipeline, x_0), expected, rtol=1e-5, atol=1e-5)


def test_a_folder_is_loaded_as_what_it_is(made: tuple[Make, Path]) -> None:
    make, folder = made
    pipeline = load_pipeline(folder)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == ("flux2" if make is make_klein else "flux2_dev")
    assert list(policy.components) == ["transformer", "text_encoder"]
    call: Any = {"steps": 3, "guidance": 3.0, "resolution": SIZE}
    images = [draw_images(one, [PROMPT] * 2, [3, 4], **call) for one in (pipeline, make())]
    assert (images[0] == images[1]).all()
    other = make()
    other.vae.bn.running_mean += 0.1
    assert fingerprint(pipeline) == fingerprint(make()) != fingerprint(other)
    assert policy.family.size_unit(pipeline) == 4  # 2 of the autoencoder, 2 of a token
    assert policy.family.native_size(pipeline) == 256  # 128 latents; 1024 pixels of the real autoencoder
    with raises("negative-unsupported", "FLUX.2"):
        draw_images(pipeline, [PROMPT], [3], **call, negative="fog")


@torch.no_grad()
def test_of_devs_processor_the_tokenizer_alone_is_loaded(tmp_path: Path) -> None:
    """The released model has a `PixtralProcessor`, which also reads images and needs torchvision for that."""
    pipeline = make_dev()
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    loaded = load_pipeline(tmp_path)
    words = [DiffusionPolicy(one).encode_prompts([PROMPT, ""]).tokens for one in (pipeline, loaded)]
    torch.testing.assert_close(*words)
    assert fingerprint(loaded) == fingerprint(pipeline)


@EACH
@torch.no_grad()
def test_prompts_have_room_beside_the_chat_template(make: Make) -> None:
    """A prompt that just fits is read to its end, and of a longer one the end is not."""
    policy = DiffusionPolicy(make())
    room = policy.prompt_length
    assert 300 < room < 512
    assert len(policy.count_tokens("a" * 20)) == 20  # the small tokenizer reads letters
    fits, other, long, longer = policy.encode_prompts(
        ["a" * room, "a" * (room - 1) + "b", "a" * 512 + "a", "a" * 512 + "b"]
    ).tokens
    assert (fits != other).any()
    assert (long == longer).all()


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    kinds: list[tuple[str, Any, tuple[str, ...]]] = [
        ("channels", make_klein(in_channels=12), ("12 channels", "have 16")),
        ("words", make_dev(joint_attention_dim=32), ("words of 32", "have 24")),
        ("layers", make_klein(layers=20), ("20 layers", "layer 27")),
    ]
    for name, pipeline, facts in kinds:
        pipeline.save_pretrained(tmp_path / name)
        with raises("model-kind", "FLUX.2", *facts):
            load_pipeline(tmp_path / name)


def test_distilled_klein_draws_but_is_trained_only_on_demand(photos: Path, tmp_path: Path) -> None:
    make_klein(distilled=True).save_pretrained(tmp_path / "klein")
    settings = {"adapter.name": "lora", "run.steps": 1, "objective.prior_weight": 0.0}
    with raises("model-distilled", "black-forest-labs/FLUX.2-klein-base-4B", "--model.allow-distilled"):
        run(photos, tmp_path / "klein", tmp_path / "refused", "dreambooth", **settings)
    settings["model.allow_distilled"] = True
    forced = run(photos, tmp_path / "klein", tmp_path / "run", "dreambooth", **settings)
    assert forced.generate("a photo of {}", steps=2)[0].size == (SIZE, SIZE)
    large = load_pipeline(tmp_path / "klein")
    large.text_encoder.config.hidden_size = 4096  # of Qwen3-8B
    assert DiffusionPolicy(large).family.distilled(large) == "black-forest-labs/FLUX.2-klein-base-9B"


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion", "textual-inversion"])
def test_adapters_that_learn_a_word_say_so(adapter: str, made: tuple[Make, Path], photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(made[1]), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, "FLUX.2"):
        build(settings, read_subject(photos, settings))


def test_settings_begin_with_the_familys_own_defaults(made: tuple[Make, Path]) -> None:
    settings = load_settings("look-forward", {"model.name": str(made[1]), "evaluation.sampler_steps": 20})
    assert (settings.data.resolution, settings.evaluation.guidance, settings.baseline.guidance) == (512, 4.0, 4.0)
    assert (settings.evaluation.sampler_steps, settings.adapter.train_text_encoder) == (20, False)
