"""Stable Diffusion and SDXL that were distilled: recognised, refused with their base's name, trained on demand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    TCDScheduler,
)

from conftest import make_pipeline
from errors import raises
from families import SHORT, run
from lookforward.algorithm.environment import act
from lookforward.assembly.components import check
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.types import State
from lookforward.data.subjects import read_subject
from lookforward.models.families import SD, SDXL
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from tiny import seeded
from tiny_sdxl import make_sdxl

BASE_1, BASE_2 = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-2-1"
BASE_XL = "stabilityai/stable-diffusion-xl-base-1.0"
FEW: dict[str, Any] = {
    "evaluation.sampler_steps": 4, "evaluation.guidance": 1.0, "data.class_image_steps": 2, "adapter.name": "lora",
}  # fmt: skip
SCHEDULERS: dict[str, Any] = {
    "turbo": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "lightning": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
}


def distil(pipeline: Any, name: str) -> Any:
    kind, more = SCHEDULERS[name]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **more)
    return pipeline


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_few_steps_is_recognised_before_and_after_our_own_is_set(name: str) -> None:
    for make, family, base in ((make_pipeline, SD, BASE_1), (make_sdxl, SDXL, BASE_XL)):
        plain, pipeline = make(), distil(make(), name)
        for _ in range(2):
            assert not family.kind_problem(pipeline)
            assert family.distilled(pipeline) == base
            assert family.distilled(plain) == ""
            for one in (pipeline, plain):
                family.set_sampler(one)
    wide = distil(make_pipeline(), name)
    wide.text_encoder.config.hidden_size = 1024
    assert SD.distilled(wide) == BASE_2


def test_zero_terminal_snr_alone_is_no_sign_of_it() -> None:
    pipeline = make_sdxl("v_prediction")
    more: dict[str, Any] = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, **more)
    assert SDXL.distilled(pipeline) == ""


def test_turbo_is_refused_by_its_bases_name_and_trained_on_demand(photos: Path, tmp_path: Path) -> None:
    distil(make_sdxl(), "turbo").save_pretrained(tmp_path / "model")
    with raises("model-distilled", BASE_XL, "--model.allow-distilled"):
        run(photos, tmp_path / "model", tmp_path / "run", "look-forward", **FEW)
    forced = FEW | {"model.allow_distilled": True}
    result = run(photos, tmp_path / "model", tmp_path / "run", "look-forward", **forced)
    assert not any("model card" in note for note in result.notes)
    image = np.asarray(result.generate("a photo of {}", seed=1, steps=1, guidance=1)[0])
    assert image.shape == (32, 32, 3)

    # With other steps and guidance than such a model has learned, the run says so
    usual = SHORT | forced | {"model.name": str(tmp_path / "model"), "subject.class_noun": "teapot",
                              "subject.identifier": "sks", "evaluation.guidance": 5.0}  # fmt: skip
    settings = load_settings("look-forward", usual)
    (note,) = [one for one in check(settings, read_subject(photos, settings)) if "distilled" in one]
    assert "evaluation.guidance" in note


def test_one_step_is_what_plain_diffusers_draws(tmp_path: Path) -> None:
    """In one step Turbo's own sampler is deterministic too; the two differ in the last two thousandths of the noise."""
    distil(make_sdxl(), "turbo").save_pretrained(tmp_path)
    ours = draw_images(build_pipeline(str(tmp_path), "cpu"), ["a red dog"], [3], steps=1, guidance=1.0)[0]
    plain = StableDiffusionXLPipeline.from_pretrained(tmp_path, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    theirs: Any = plain("a red dog", num_inference_steps=1, guidance_scale=0.0, generator=seeded(3), output_type="np")
    difference = np.abs(ours - theirs.images[0] * 255)
    assert difference.mean() < 2
    assert np.abs(ours - draw_images(plain, ["a red dog"], [4], steps=1, guidance=1.0)[0].astype(int)).mean() > 10


@torch.no_grad()
def test_a_unet_that_reads_the_guidance_is_shown_what_its_pipeline_shows_it() -> None:
    """Latent consistency models: the scale of 1 in training, in drawing the one that is asked for."""
    pipeline = distil(make_sdxl(time_cond_proj_dim=8), "lcm")
    assert SDXL.distilled(pipeline) == BASE_XL
    policy, generator = DiffusionPolicy(pipeline), seeded()
    seen: list[dict[str, Any]] = []
    hook = pipeline.unet.register_forward_hook(lambda _, args, given, out: seen.append(given), with_kwargs=True)
    x_0, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    timestep, words = torch.tensor([400]), policy.encode_prompts(["a red dog"])
    state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, words)
    act(policy, state, x_0, noise)
    pipeline("a red dog", num_inference_steps=2, guidance_scale=1.0, height=32, width=32, output_type="latent")
    hook.remove()
    assert seen[0]["timestep_cond"].shape == (1, 8)
    torch.testing.assert_close(seen[0]["timestep_cond"], seen[1]["timestep_cond"])
    expected = pipeline.get_guidance_scale_embedding(torch.tensor([6.5]), 8)
    shown = words.extra["guidance"] * 7.5
    found = policy.family.denoise(policy.denoiser, State(state.x_t, timestep, words), timestep.float())
    changed = State(state.x_t, timestep, type(words)(words.tokens, words.mask, words.pooled,
                                                     {**words.extra, "guidance": shown}))  # fmt: skip
    seen.clear()
    hook = pipeline.unet.register_forward_hook(lambda _, args, given, out: seen.append(given), with_kwargs=True)
    assert not torch.equal(policy.family.denoise(policy.denoiser, changed, timestep.float()), found)
    hook.remove()
    torch.testing.assert_close(seen[0]["timestep_cond"], expected)
