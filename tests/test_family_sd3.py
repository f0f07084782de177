"""Stable Diffusion 3, the first family on a flow: loss and output are diffusers' own, and it trains end to end."""
# diffusers types its pipelines more narrowly than it takes their arguments, and what they return more widely
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# pyright: reportOperatorIssue=false

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
)
from torch import Tensor

from errors import raises
from families import PROMPT, RECIPES, SHORT, draw_plainly, rows_of, run, run_in_parts, trained_parts
from lookforward.algorithm.environment import act
from lookforward.assembly.components import build
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.data.subjects import read_subject
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import build_pipeline, load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from tiny import seeded
from tiny_sd3 import make_sd3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("sd3")
    make_sd3().save_pretrained(folder, safe_serialization=True)
    return folder


@torch.no_grad()
def test_the_loss_is_that_of_diffusers_training_script() -> None:
    """train_dreambooth_lora_sd3 without preconditioning: noisy = (1-σ) x + σ z, target = z - x, no weighting."""
    pipeline = make_sd3()
    policy, theirs = DiffusionPolicy(pipeline), FlowMatchEulerDiscreteScheduler(shift=3.0)
    generator = seeded()
    x_0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([0, 400, 999])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, policy.encode_prompts([PROMPT] * 3))
    transition = act(policy, state, x_0, noise)

    sigmas, timesteps = theirs.sigmas[999 - timestep].reshape(-1, 1, 1, 1), theirs.timesteps[999 - timestep]
    noisy = (1 - sigmas) * x_0 + sigmas * noise
    tokens, _, pooled, _ = pipeline.encode_prompt([PROMPT] * 3, None, None, do_classifier_free_guidance=False)
    predicted = pipeline.transformer(noisy, tokens, pooled, timesteps, return_dict=False)[0]
    torch.testing.assert_close(state.x_t, noisy)
    torch.testing.assert_close(transition.target, noise - x_0)
    torch.testing.assert_close(transition.action, predicted, rtol=1e-5, atol=1e-5)
    loss, expected = (transition.action - transition.target) ** 2, (predicted - (noise - x_0)) ** 2
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transition.x_0_hat, noisy - sigmas * predicted, rtol=1e-5, atol=1e-5)  # Eq. 7
    assert policy.prediction is Prediction.FLOW
    assert policy.path.density == "logit-normal"


@torch.no_grad()
def test_a_scheduler_that_shifts_by_size_is_followed() -> None:
    """Training passes through the levels that the pipeline draws with, at each size."""
    pipeline = make_sd3()
    dynamic = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 64, "max_shift": 2.0}
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(**dynamic)
    paths = {}
    for side in (32, 64):
        paths[side] = path = DiffusionPolicy(pipeline, resolution=side).path

        def stop(drawing: Any, *_: Any) -> dict[str, Any]:
            drawing._interrupt = True  # the levels are there after the first step
            return {}

        pipeline(
            PROMPT, height=side, width=side, num_inference_steps=5, guidance_scale=1.0, output_type="latent",
            sigmas=[1.0, 0.8, 0.6, 0.4, 0.2], callback_on_step_end=stop,
        )  # fmt: skip
        torch.testing.assert_close(path.noise[[999, 799, 599, 399, 199]], pipeline.scheduler.sigmas[:-1])
        assert path.density == "logit-normal"
    assert paths[64].noise.mean() > paths[32].noise.mean() + 0.1
    assert paths[32].by_size is not None
    torch.testing.assert_close(paths[32].by_size(16, 16).noise, paths[64].noise)
    other = make_sd3()
    other.scheduler = FlowMatchEulerDiscreteScheduler(**{**dynamic, "base_shift": 0.4})
    assert len({fingerprint(one) for one in (pipeline, other, make_sd3())}) == 3
    assert DiffusionPolicy(make_sd3(), resolution=64).path.by_size is None


@pytest.mark.parametrize("t5", [True, False], ids=["three encoders", "without T5"])
@torch.no_grad()
def test_the_output_is_what_the_pipeline_sees_when_it_draws(t5: bool) -> None:
    pipeline = make_sd3(t5)
    policy = DiffusionPolicy(pipeline)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = pipeline.transformer.register_forward_hook(
        lambda _, args, given, out: seen.append((given["hidden_states"], given["timestep"], out[0])), with_kwargs=True
    )
    pipeline(PROMPT, num_inference_steps=5, guidance_scale=4.0, height=32, width=32, generator=seeded(),
             output_type="latent")  # fmt: skip
    hook.remove()
    assert len(seen) == 5
    words = policy.encode_prompts(["", PROMPT])  # as the pipeline orders them for guidance
    for x_t, timestep, output in seen:
        assert len(x_t) == 2
        found = policy.family.denoise(policy.denoiser, State(x_t, timestep.long(), words), timestep / 1000)
        torch.testing.assert_close(found, output, rtol=1e-5, atol=1e-5)
    first, last = policy.path.at(torch.tensor([999, 0]))[1]
    assert first == 1.0
    torch.testing.assert_close(seen[0][1], torch.full((2,), 1000.0))
    assert last.item() == pytest.approx(3 * 0.001 / (1 + 2 * 0.001))


@torch.no_grad()
def test_latents_have_the_vaes_shift_and_scale() -> None:
    pipeline = make_sd3()
    images = torch.rand(2, 3, 32, 32, generator=seeded())
    latents = encode(pipeline, images)
    posterior = pipeline.vae.encode(images * 2 - 1).latent_dist
    latents.std.zero_()
    x_0 = latents.sample(torch.tensor([0, 1]), seeded())
    torch.testing.assert_close(x_0, (posterior.mean - 0.06) * 1.5)
    expected = (pipeline.vae.decode(x_0 / 1.5 + 0.06).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode(pipeline, x_0), expected)


def test_a_folder_is_loaded_as_what_it_is(model: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(model)
    policy = DiffusionPolicy(pipeline)
    assert policy.family.name == "sd3"
    assert list(policy.components) == ["transformer", "text_encoder", "text_encoder_2", "text_encoder_3"]
    images = [draw_images(one, [PROMPT], [3], steps=3, guidance=3.0) for one in (pipeline, make_sd3())]
    assert (images[0] == images[1]).all()
    assert fingerprint(pipeline) == fingerprint(make_sd3()) != fingerprint(make_sd3(shift=1.0))
    with raises("scheduler-unknown", "euler"):
        draw_images(pipeline, [PROMPT], [3], steps=3, guidance=3.0, scheduler="ddim")
    make_sd3(t5=False).save_pretrained(tmp_path / "small")
    assert "text_encoder_3" not in DiffusionPolicy(load_pipeline(tmp_path / "small")).components
    index = tmp_path / "small" / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusion3Pipeline", "SanaPipeline"))
    with raises("family-unknown", "SanaPipeline", "StableDiffusion3Pipeline"):
        load_pipeline(tmp_path / "small")


def test_a_model_without_t5_may_have_fewer_tokens_in_its_place(tmp_path: Path) -> None:
    """Plain diffusers draws the same when it is asked for them."""
    made = make_sd3(t5=False)
    made.save_pretrained(tmp_path / "usual")
    made.text_encoder.config.absent_t5_tokens = 1
    made.save_pretrained(tmp_path / "few")
    usual, few = load_pipeline(tmp_path / "usual"), load_pipeline(tmp_path / "few")
    lengths = [DiffusionPolicy(one).encode_prompts([PROMPT]).tokens.shape[1] for one in (usual, few)]
    assert lengths == [made.tokenizer.model_max_length + n for n in (256, 1)]
    assert fingerprint(usual) != fingerprint(few)
    call: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
    for one, more in ((usual, {}), (few, {"max_sequence_length": 1})):
        theirs = made(PROMPT, **call, **more, generator=torch.Generator().manual_seed(3)).images
        ours = draw_images(one, [PROMPT], [3], steps=3, guidance=3.0)
        assert np.abs(ours - (theirs * 255).round()).max() <= 1


TRAINED = {"dreambooth": ("dreambooth", {"adapter.name": "lora"}), **RECIPES}


@pytest.mark.parametrize(("recipe", "settings"), TRAINED.values(), ids=TRAINED)
def test_it_trains_resumes_to_the_same_bits_and_exports(
    recipe: str, settings: dict[str, Any], model: Path, photos: Path, tmp_path: Path
) -> None:
    drawn = run_in_parts(photos, model, tmp_path, recipe, **settings)
    plain = draw_images(load_pipeline(model), ["a photo of sks teapot on the beach"], [1], steps=3, guidance=7.5)
    assert (drawn != plain[0]).any()

    # Plain diffusers reads the export and draws the same
    export = tmp_path / "whole" / "export"
    if settings["adapter.name"] == "full":
        theirs = StableDiffusion3Pipeline.from_pretrained(export)
    else:
        theirs = StableDiffusion3Pipeline.from_pretrained(model)
        theirs.load_lora_weights(export)
    assert np.abs(draw_plainly(theirs, export) - drawn).max() < 1.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_merges_into_what_it_draws_beside_the_weights(
    adapter: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Of the transformer and both CLIP encoders, trained fast enough that it changes the image."""
    settings = {"adapter.name": adapter, "adapter.train_text_encoder": True, "optimizer.learning_rate": 0.05}
    run(photos, model, tmp_path / "run", "look-forward", **settings | {"run.steps": 3})
    export = tmp_path / "run" / "export"
    assert trained_parts(export) == {"transformer", "text_encoder", "text_encoder_2"}
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, ["a photo of sks teapot on the beach"], [1], steps=3, guidance=7.0).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


def test_baselines_follow_a_flow_too(model: Path, photos: Path, tmp_path: Path) -> None:
    for recipe in ("draft", "dpok"):
        settings = {"adapter.name": "lora", "adapter.train_text_encoder": False, "objective.reward": "ssim"}
        if recipe == "dpok":
            settings |= {"baseline.dpok_trajectories": 2, "baseline.dpok_pairs": 4}
        run(photos, model, tmp_path / recipe, recipe, **settings | {"run.steps": 2})
        rows = rows_of(tmp_path / recipe)
        assert len(rows) == 2
        assert all(np.isfinite(row["reward"]) and row["gradient"] > 0 for row in rows)


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion"])
def test_adapters_that_need_cross_attention_or_one_encoder_say_so(adapter: str, model: Path, photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(model), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, "Stable Diffusion 3", "cross-attention", "textual-inversion"):
        build(settings, read_subject(photos, settings))


def test_settings_begin_with_the_familys_own_defaults(model: Path) -> None:
    settings = load_settings("look-forward", {"model.name": str(model), "evaluation.guidance": 3.0})
    assert (settings.data.resolution, settings.evaluation.sampler_steps) == (1024, 28)
    assert settings.evaluation.guidance == 3.0
