"""Z-Image and Qwen-Image, whose prompts a language model reads, train, resume, export and merge."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImagePipeline, ZImagePipeline

from errors import raises
from families import (
    SHORT,
    SIZE,
    SUBJECT,
    rows_of,
    run,
    run_in_parts,
    trained_parts,
)
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.load_pipeline import build_pipeline, load_pipeline
from lookforward.models.sampling import draw_images
from tiny import seeded
from tiny_qwen import LIGHTNING, make_qwen_image, make_z_image


@dataclass(frozen=True)
class Case:
    """A family. call: of plain diffusers, at the family's own guidance; code: the same in a model card."""

    label: str
    make: Callable[[], Any]
    distilled: Callable[[], Any]
    base: str
    pipeline: Any
    guidance: float
    call: dict[str, Any]
    code: str


CASES = {
    "z_image": Case("Z-Image", make_z_image, lambda: make_z_image(shift=3.0), "Tongyi-MAI/Z-Image", ZImagePipeline, 5.0,
                    {"guidance_scale": 4.0}, "guidance_scale=4.0"),
    "qwen_image": Case("Qwen-Image", make_qwen_image, lambda: make_qwen_image(LIGHTNING), "Qwen/Qwen-Image",
                       QwenImagePipeline, 4.0, {"true_cfg_scale": 4.0, "negative_prompt": " "},
                       "true_cfg_scale=4.0, negative_prompt=' '"),
}  # fmt: skip
FAST = {"full": 1e-3, "lora": 1e-2, "dora": 1e-2}  # learning rates at which four steps show in an image
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "critic": ("look-forward", {"adapter.name": "lora"}),
    "dora": ("dreambooth", {"adapter.name": "dora", "model.precision": "bf16"}),
    "full": ("state-action", {"adapter.name": "full", "objective.reward": "look-forward"}),
    "direct": ("look-forward", {"adapter.name": "lora", "critic.name": "none", "objective.reward_gradient": "direct",
                                "objective.reward": "look-forward + ssim"}),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("qwen")
    case.make().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.mark.parametrize("kind", RECIPES)
def test_it_trains_resumes_to_the_same_bits_and_exports(
    kind: str, case: Case, model: Path, photos: Path, tmp_path: Path
) -> None:
    recipe, settings = RECIPES[kind]
    adapter = settings["adapter.name"]
    settings = settings | {"optimizer.learning_rate": FAST[adapter]}
    drawn, export = run_in_parts(photos, model, tmp_path, recipe, **settings), tmp_path / "whole" / "export"
    plain = build_pipeline(str(model), "cpu")
    base = draw_images(plain, [SUBJECT], [1], steps=3, guidance=case.guidance, resolution=SIZE)[0]
    assert (drawn != base).any()

    theirs = case.pipeline.from_pretrained(export if adapter == "full" else model)
    if adapter != "full":
        theirs.load_lora_weights(str(export))
        assert trained_parts(export) == {"transformer"}
    theirs.set_progress_bar_config(disable=True)
    again = theirs(SUBJECT, num_inference_steps=3, height=SIZE, width=SIZE, generator=seeded(1), output_type="np",
                   **case.call).images[0]  # fmt: skip
    assert np.abs(again * 255 - drawn).max() < 1.01
    assert case.code in (export / "README.md").read_text()


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_merges_into_what_it_draws_beside_the_weights(
    adapter: str, case: Case, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Trained fast enough that it changes the image."""
    settings = {"adapter.name": adapter, "optimizer.learning_rate": 0.05, "run.steps": 3}
    run(photos, model, tmp_path / "run", "look-forward", **settings)
    export = tmp_path / "run" / "export"
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=case.guidance, resolution=SIZE).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


def test_all_weights_train_with_the_text_encoder_and_with_less_memory(
    case: Case, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Also where the autoencoder, one of videos, cannot recompute activations."""
    losses, settings = [], {"adapter.name": "full", "adapter.train_text_encoder": True, "run.steps": 2}
    for saved in (False, True):
        folder = tmp_path / str(saved)
        given = {"model.gradient_checkpointing": saved, "optimizer.learning_rate": 1e-3}
        run(photos, model, folder, "dreambooth", **settings | given)
        losses.append([row["loss"] for row in rows_of(folder)])
    assert losses[0] == pytest.approx(losses[1])
    before, after = load_pipeline(model).text_encoder, load_pipeline(folder / "export").text_encoder
    old = dict(before.named_parameters())
    changed = [name for name, weight in after.named_parameters() if not torch.equal(weight, old[name])]
    assert any("layers.0." in name for name in changed)
    if case.label == "Z-Image":  # which reads the states before the last layer
        assert not any("layers.1." in name for name in changed)


@pytest.mark.parametrize("recipe", ["draft", "dpok"])
def test_baselines_follow_it_too(recipe: str, model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"adapter.name": "lora", "objective.reward": "ssim", "run.steps": 2, "objective.prior_weight": 0.0}
    if recipe == "dpok":
        settings |= {"baseline.dpok_trajectories": 2, "baseline.dpok_pairs": 4}
    run(photos, model, tmp_path / "run", recipe, **settings)
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 2
    assert all(np.isfinite(row["reward"]) and row["gradient"] > 0 for row in rows)


@pytest.mark.parametrize("adapter", ["p-plus", "neti", "custom-diffusion", "textual-inversion"])
def test_adapters_that_learn_a_word_say_so(adapter: str, case: Case, model: Path, photos: Path) -> None:
    settings = load_settings(
        "look-forward",
        SHORT | {"model.name": str(model), "subject.class_noun": "teapot", "subject.identifier": "<sks>",
                 "adapter.name": adapter},
    )  # fmt: skip
    with raises("adapter-family", adapter, case.label):
        build(settings, read_subject(photos, settings))


def test_a_lora_of_the_text_encoder_is_refused(case: Case, model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"adapter.name": "lora", "adapter.train_text_encoder": True}
    with raises("adapter-text-encoder", case.label, "adapter.train_text_encoder"):
        run(photos, model, tmp_path / "run", "look-forward", **settings)


def test_a_distilled_model_is_drawn_with_and_trained_only_if_asked_for(
    case: Case, photos: Path, tmp_path: Path
) -> None:
    case.distilled().save_pretrained(tmp_path / "model")
    pipeline = build_pipeline(str(tmp_path / "model"), "cpu")
    assert draw_images(pipeline, [SUBJECT], [3], steps=2, guidance=1.0, resolution=SIZE).shape == (1, SIZE, SIZE, 3)
    settings: dict[str, Any] = {"adapter.name": "lora", "run.steps": 1}
    with raises("model-distilled", case.base, "allow-distilled"):
        run(photos, tmp_path / "model", tmp_path / "refused", "dreambooth", **settings)
    run(photos, tmp_path / "model", tmp_path / "run", "dreambooth", **settings | {"model.allow_distilled": True})
    assert len(rows_of(tmp_path / "run")) == 1


def test_settings_begin_with_the_familys_own_defaults(case: Case, model: Path) -> None:
    settings = load_settings("look-forward", {"model.name": str(model), "evaluation.sampler_steps": 20})
    assert settings.data.resolution == 1024
    assert settings.evaluation.guidance == settings.baseline.guidance == case.guidance
    assert (settings.evaluation.sampler_steps, settings.adapter.train_text_encoder) == (20, False)
