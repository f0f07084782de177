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
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from conftest import CAPTIONS
from errors import raises
from families import PROMPT, RECIPES, SHORT, draw_plainly, rows_of, run, run_in_parts
from lookforward.algorithm.environment import act
from lookforward.assembly.components import build
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.data.subjects import read_subject
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images, fingerprint
from lookforward_toybox.training.tokenizer import build_tokenizer
from tiny import seeded


def make_sd3(t5: bool = True, shift: float = 3.0) -> StableDiffusion3Pipeline:
    """32-pixel images, 8×8 latents, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(CAPTIONS)
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, projection_dim=12,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in sorted({word for caption in CAPTIONS for word in caption.split()})]
    pieces += [(chr(letter), -3.0) for letter in range(97, 123)]
    t5_config = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=24,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    for parameter in transformer.parameters():  # its last layer begins at zero, and would hide what comes before
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=CLIPTextModelWithProjection(clip),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(clip),
        tokenizer_2=build_tokenizer(CAPTIONS),
        text_encoder_3=T5EncoderModel(t5_config) if t5 else None,
        tokenizer_3=T5Tokenizer(vocab=pieces, extra_ids=0) if t5 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if (module := getattr(pipeline, name)) is not None:
            module.requires_grad_(False).eval()
    return pipeline


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
