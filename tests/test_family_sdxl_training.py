"""Stable Diffusion XL trains, resumes to the same bits, exports, merges, and learns a photo."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file

from errors import raises
from lookforward import Personalized, personalize
from lookforward.algorithm.environment import act
from lookforward.assembly.components import build
from lookforward.config.recipe import load_settings
from lookforward.core.path import add_noise
from lookforward.core.types import State, StepResult
from lookforward.data.subjects import read_subject
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.latents import encode
from lookforward.models.load_pipeline import build_pipeline, load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from tiny import seeded
from tiny_sdxl import make_sdxl

SUBJECT = "a photo of sks teapot on the beach"
SHORT: dict[str, Any] = {
    "data.resolution": 32,
    "data.class_images": 2,
    "data.class_image_steps": 2,
    "evaluation.sampler_steps": 3,
    "evaluation.sample_every": 0,
    "baseline.sampler_steps": 3,
    "model.device": "cpu",
    "run.batch_size": 2,
    "run.checkpoint_every": 2,
}
NO_PRIOR: dict[str, Any] = {"data.class_images": 0, "objective.prior_weight": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("sdxl")
    make_sdxl().save_pretrained(folder, safe_serialization=True)
    return folder


def run(photos: Path, model: Path, output: Path, recipe: str, on_step: Any = None, **settings: Any) -> Personalized:
    values = SHORT | {"model.name": str(model), "run.steps": 4} | settings
    return personalize(photos, "teapot", recipe=recipe, output=output, on_step=on_step, settings=values)


RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("look-forward", {"adapter.name": "lora", "adapter.train_text_encoder": True}),
    ("state-action", {"adapter.name": "full", "objective.reward": "look-forward"}),
    ("look-forward", {"adapter.name": "lora", "critic.name": "none", "objective.reward": "look-forward + ssim",
                      "objective.reward_gradient": "direct"}),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "settings"), RECIPES, ids=["critic", "full", "direct"])
def test_it_trains_resumes_to_the_same_bits_and_exports(
    recipe: str, settings: dict[str, Any], model: Path, photos: Path, tmp_path: Path
) -> None:
    whole = run(photos, model, tmp_path / "whole", recipe, **settings)

    def stop(result: StepResult) -> None:
        if result.step == 3:  # after the checkpoint of step 2
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(photos, model, tmp_path / "parts", recipe, stop, **settings)
    parts = run(photos, model, tmp_path / "parts", recipe, **settings)
    states = [
        load_file(tmp_path / name / "checkpoints" / "step-000004" / "state.safetensors") for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    drawn = [np.asarray(one.generate("a photo of {} on the beach", seed=1, steps=3)[0]) for one in (whole, parts)]
    assert (drawn[0] == drawn[1]).all()
    export = tmp_path / "whole" / "export"
    guidance = json.loads((export / "lookforward.json").read_text())["guidance"]
    assert guidance == 5.0
    plain = build_pipeline(str(model), "cpu")
    base = draw_images(plain, [SUBJECT], [1], steps=3, guidance=guidance)[0]
    assert (drawn[0] != base).any()

    # Plain diffusers reads the export and draws the same
    if settings["adapter.name"] == "full":
        theirs = StableDiffusionXLPipeline.from_pretrained(export)
    else:
        theirs = StableDiffusionXLPipeline.from_pretrained(model)
        theirs.load_lora_weights(str(export))
        theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    theirs.set_progress_bar_config(disable=True)
    again: Any = theirs(SUBJECT, num_inference_steps=3, guidance_scale=guidance, height=32, width=32,
                        generator=seeded(1), output_type="np")  # fmt: skip
    assert np.abs(again.images[0] * 255 - drawn[0]).max() < 1.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_of_both_encoders_merges_into_what_it_draws_beside_the_weights(
    adapter: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Trained fast enough that it changes every part, and the image."""
    settings = {"adapter.name": adapter, "adapter.train_text_encoder": True, "optimizer.learning_rate": 0.05}
    run(photos, model, tmp_path / "run", "look-forward", **settings | {"run.steps": 3})
    export = tmp_path / "run" / "export"
    parts = {name.partition(".")[0] for name in load_file(export / "pytorch_lora_weights.safetensors")}
    assert parts == {"unet", "text_encoder", "text_encoder_2"}
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=5.0).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


def test_it_learns_one_photo(model: Path, photos: Path, tmp_path: Path) -> None:
    """60 steps on one photo halve the loss of Eq. 1 there, at fixed noise and timesteps."""
    (tmp_path / "photo").mkdir()
    photo = sorted(photos.glob("*.png"))[0]
    shutil.copy(photo, tmp_path / "photo")
    settings = {"adapter.name": "full", "adapter.train_text_encoder": False, "optimizer.learning_rate": 3e-3}
    run(
        tmp_path / "photo",
        model,
        tmp_path / "run",
        "dreambooth",
        **settings | {"run.steps": 60, "run.batch_size": 4, "data.allow_few": True},
    )
    pixels = np.asarray(Image.open(photo).convert("RGB").resize((32, 32))) / 255
    before, after = load_pipeline(model), load_export(tmp_path / "run" / "export", "cpu")
    generator, losses = seeded(), []
    latents = encode(before, torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None])
    x_0, noise = latents.sample(torch.zeros(32).long(), generator), torch.randn(32, 4, 8, 8, generator=generator)
    timestep = torch.arange(32) * 30 + 50
    with torch.no_grad():
        for pipeline in (before, after):
            policy = DiffusionPolicy(pipeline)
            words = policy.encode_prompts(["a photo of sks teapot"] * 32)
            state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, words)
            transition = act(policy, state, x_0, noise)
            losses.append(float(((transition.action - transition.target) ** 2).mean()))
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize("recipe", ["draft", "dpok"])
def test_baselines_draw_with_sizes_and_guidance_too(recipe: str, model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"adapter.name": "lora", "objective.reward": "ssim", "run.steps": 2}
    if recipe == "dpok":
        settings |= {"baseline.dpok_trajectories": 2, "baseline.dpok_pairs": 4}
    run(photos, model, tmp_path / recipe, recipe, **settings)
    rows = [json.loads(line) for line in (tmp_path / recipe / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(np.isfinite(row["reward"]) and row["gradient"] > 0 for row in rows)


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion", "textual-inversion"])
def test_adapters_that_learn_a_word_of_one_encoder_say_so(adapter: str, model: Path, photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(model), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, "Stable Diffusion XL"):
        build(settings, read_subject(photos, settings))


def test_settings_begin_with_the_familys_own_defaults(model: Path) -> None:
    settings = load_settings("look-forward", {"model.name": str(model), "evaluation.sampler_steps": 20})
    assert (settings.data.resolution, settings.evaluation.guidance, settings.baseline.guidance) == (1024, 5.0, 5.0)
    assert settings.evaluation.sampler_steps == 20


def test_the_autoencoder_computes_in_single_precision_beside_a_unet_in_bfloat16(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered: dict[str, set[bool]] = {}

    def watch(kind: Any, method: str) -> None:
        own = getattr(kind, method)

        def call(self: Any, *args: Any, **given: Any) -> Any:
            lowered.setdefault(f"{kind.__name__}.{method}", set()).add(torch.is_autocast_enabled("cpu"))
            return own(self, *args, **given)

        monkeypatch.setattr(kind, method, call)

    settings = {"objective.reward_gradient": "direct", "critic.name": "none", "objective.reward": "ssim"}
    settings |= {"adapter.name": "lora", "model.precision": "bf16", "run.steps": 2, **NO_PRIOR}
    for kind, method in ((AutoencoderKL, "encode"), (AutoencoderKL, "decode"), (UNet2DConditionModel, "forward")):
        watch(kind, method)
    run(photos, model, tmp_path / "run", "look-forward", **settings)
    assert lowered["UNet2DConditionModel.forward"] == {True}
    assert lowered["AutoencoderKL.encode"] == lowered["AutoencoderKL.decode"] == {False}
