"""FLUX.1 trains, resumes to the same bits, exports and merges."""
# diffusers types its pipelines more narrowly than it takes their arguments, and what they return more widely
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FluxPipeline, FluxTransformer2DModel

from families import (
    RECIPES,
    SIZE,
    SUBJECT,
    draw_plainly,
    rows_of,
    run,
    run_in_parts,
    trained_parts,
)
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from tiny_flux import make_flux


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("flux")
    make_flux().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.mark.parametrize("kind", RECIPES)
def test_it_trains_resumes_to_the_same_bits_and_exports(kind: str, model: Path, photos: Path, tmp_path: Path) -> None:
    recipe, settings = RECIPES[kind]
    drawn, export = run_in_parts(photos, model, tmp_path, recipe, **settings), tmp_path / "whole" / "export"
    base = draw_images(build_pipeline(str(model), "cpu"), [SUBJECT], [1], steps=3, guidance=3.5, resolution=SIZE)[0]
    assert (drawn != base).any()
    if kind == "full":
        theirs = FluxPipeline.from_pretrained(export)
    else:
        theirs = FluxPipeline.from_pretrained(model)
        theirs.load_lora_weights(export)
        assert trained_parts(export) == ({"transformer", "text_encoder"} if kind == "critic" else {"transformer"})
    assert np.abs(draw_plainly(theirs, export) - drawn).max() < 1.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_merges_into_what_it_draws_beside_the_weights(
    adapter: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    """Trained fast enough that it changes the image."""
    settings = {"adapter.name": adapter, "adapter.train_text_encoder": True, "optimizer.learning_rate": 0.05}
    run(photos, model, tmp_path / "run", "look-forward", **settings | {"run.steps": 3})
    export = tmp_path / "run" / "export"
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=3.5, resolution=SIZE).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


def test_it_computes_in_bfloat16_and_recomputes_activations(model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"adapter.name": "lora", "run.steps": 1, "objective.prior_weight": 0.0}
    losses = []
    for name, more in (
        ("plain", {}),
        ("saved", {"model.gradient_checkpointing": True}),
        ("short", {"model.precision": "bf16"}),
        ("small", {"model.precision": "bf16", "model.weights": "bf16"}),
    ):
        run(photos, model, tmp_path / name, "dreambooth", **settings | more)
        (row,) = rows_of(tmp_path / name)
        losses.append((row["loss"], row["gradient"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for other in losses[2:]:
        assert other == pytest.approx(losses[0], rel=0.1)  # of 8 bits, as those of the timestep that it reads
    assert len({loss for loss, _ in losses[1:]}) == 3


@pytest.mark.parametrize("recipe", ["draft", "dpok"])
def test_baselines_draw_at_the_guidance_that_the_model_reads(
    recipe: str, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shown = FluxTransformer2DModel.forward, set[float]()

    def call(self: Any, *args: Any, **given: Any) -> Any:
        shown.update(given["guidance"].tolist())
        return own(self, *args, **given)

    monkeypatch.setattr(FluxTransformer2DModel, "forward", call)
    settings = {"adapter.name": "lora", "objective.reward": "ssim", "run.steps": 1, "objective.prior_weight": 0.0}
    if recipe == "dpok":
        settings |= {"baseline.dpok_trajectories": 2, "baseline.dpok_pairs": 4}
    run(photos, model, tmp_path / "run", recipe, **settings)
    assert shown == {3.5}
    (row,) = rows_of(tmp_path / "run")
    assert np.isfinite(row["reward"])
    assert row["gradient"] > 0
