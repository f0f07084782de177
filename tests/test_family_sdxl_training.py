"""Stable Diffusion XL trains, resumes to the same bits, exports and merges."""

import json
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

from errors import raises
from families import (
    RECIPES,
    SHORT,
    SUBJECT,
    draw_plainly,
    rows_of,
    run,
    run_in_parts,
    trained_parts,
)
from lookforward.assembly.components import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from tiny_sdxl import make_sdxl

NO_PRIOR: dict[str, Any] = {"data.class_images": 0, "objective.prior_weight": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("sdxl")
    make_sdxl().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.mark.parametrize(("recipe", "settings"), RECIPES.values(), ids=RECIPES)
def test_it_trains_resumes_to_the_same_bits_and_exports(
    recipe: str, settings: dict[str, Any], model: Path, photos: Path, tmp_path: Path
) -> None:
    drawn = run_in_parts(photos, model, tmp_path, recipe, **settings)
    export = tmp_path / "whole" / "export"
    guidance = json.loads((export / "lookforward.json").read_text())["guidance"]
    assert guidance == 5.0
    plain = build_pipeline(str(model), "cpu")
    base = draw_images(plain, [SUBJECT], [1], steps=3, guidance=guidance)[0]
    assert (drawn != base).any()

    # Plain diffusers reads the export and draws the same
    if settings["adapter.name"] == "full":
        theirs = StableDiffusionXLPipeline.from_pretrained(export)
    else:
        theirs = StableDiffusionXLPipeline.from_pretrained(model)
        theirs.load_lora_weights(str(export))
        theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    assert np.abs(draw_plainly(theirs, export) - drawn).max() < 1.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_of_both_encoders_merges_into_what_it_draws_beside_the_weights(
    adapter: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Trained fast enough that it changes every part, and the image."""
    settings = {"adapter.name": adapter, "adapter.train_text_encoder": True, "optimizer.learning_rate": 0.05}
    run(photos, model, tmp_path / "run", "look-forward", **settings | {"run.steps": 3})
    export = tmp_path / "run" / "export"
    assert trained_parts(export) == {"unet", "text_encoder", "text_encoder_2"}
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=5.0).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


@pytest.mark.parametrize("recipe", ["draft", "dpok"])
def test_baselines_draw_with_sizes_and_guidance_too(recipe: str, model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"adapter.name": "lora", "objective.reward": "ssim", "run.steps": 2}
    if recipe == "dpok":
        settings |= {"baseline.dpok_trajectories": 2, "baseline.dpok_pairs": 4}
    run(photos, model, tmp_path / recipe, recipe, **settings)
    rows = rows_of(tmp_path / recipe)
    assert len(rows) == 2
    assert all(np.isfinite(row["reward"]) and row["gradient"] > 0 for row in rows)


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion"])
def test_adapters_that_learn_a_word_of_one_encoder_say_so(adapter: str, model: Path, photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(model), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, "Stable Diffusion XL", "one-text-encoder", "textual-inversion"):
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
