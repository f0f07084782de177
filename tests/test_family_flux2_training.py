"""FLUX.2 trains, resumes to the same bits, exports and merges."""
# pyright: reportArgumentType=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import Flux2KleinPipeline, Flux2Pipeline, Flux2Transformer2DModel
from safetensors.torch import load_file

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
from tiny_flux2 import make_dev, make_klein

CLASSES: dict[Callable[..., Any], Any] = {make_klein: Flux2KleinPipeline, make_dev: Flux2Pipeline}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable[..., Any], Path]:
    """A pipeline folder of each kind."""
    folder = tmp_path_factory.mktemp("flux2")
    for make in CLASSES:
        make().save_pretrained(folder / make.__name__, safe_serialization=True)
    return {make: folder / make.__name__ for make in CLASSES}


KINDS = [(make_klein, kind) for kind in RECIPES] + [(make_dev, "critic"), (make_dev, "full")]


@pytest.mark.parametrize(("make", "kind"), KINDS, ids=[f"{make.__name__}-{kind}" for make, kind in KINDS])
def test_it_trains_resumes_to_the_same_bits_and_exports(
    make: Any, kind: str, models: dict[Any, Path], photos: Path, tmp_path: Path
) -> None:
    (recipe, settings), model = RECIPES[kind], models[make]
    drawn = run_in_parts(photos, model, tmp_path, recipe, **settings | {"adapter.train_text_encoder": False})
    export = tmp_path / "whole" / "export"
    base = draw_images(build_pipeline(str(model), "cpu"), [SUBJECT], [1], steps=3, guidance=4.0, resolution=SIZE)[0]
    assert (drawn != base).any()
    if kind == "full":
        theirs = CLASSES[make].from_pretrained(export)
    else:
        theirs = CLASSES[make].from_pretrained(model)
        theirs.load_lora_weights(export)
        assert trained_parts(export) == {"transformer"}
    assert np.abs(draw_plainly(theirs, export) - drawn).max() < 1.01


@pytest.mark.parametrize("adapter", ["lora", "dora"])
@pytest.mark.parametrize("make", CLASSES, ids=["klein", "dev"])
def test_an_adapter_merges_into_what_it_draws_beside_the_weights(
    make: Any, adapter: str, models: dict[Any, Path], photos: Path, tmp_path: Path
) -> None:
    """Trained fast enough that it changes the image; the two single-stream blocks are adapted at both ends."""
    settings = {"adapter.name": adapter, "optimizer.learning_rate": 0.05, "run.steps": 3, "objective.prior_weight": 0.0}
    run(photos, models[make], tmp_path / "run", "dreambooth", **settings)
    export = tmp_path / "run" / "export"
    layers = {name.partition(".lora_")[0] for name in load_file(export / "pytorch_lora_weights.safetensors")}
    single = [f"transformer.single_transformer_blocks.{i}.attn." for i in range(2)]
    double = [f"transformer.transformer_blocks.0.attn.{name}" for name in ("to_k", "to_out.0", "to_q", "to_v")]
    assert layers == {*double, *(f"{block}{name}" for block in single for name in ("to_out", "to_qkv_mlp_proj"))}
    merge([find_adapter(str(export))], tmp_path / "merged", "cpu")
    beside, merged = load_export(export, "cpu"), build_pipeline(str(tmp_path / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=4.0, resolution=SIZE).astype(int)[0]
        for one in (build_pipeline(str(models[make]), "cpu"), beside, merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


@pytest.mark.parametrize("make", CLASSES, ids=["klein", "dev"])
def test_it_computes_in_bfloat16_and_recomputes_activations(
    make: Any, models: dict[Any, Path], photos: Path, tmp_path: Path
) -> None:
    settings = {"adapter.name": "lora", "run.steps": 1, "objective.prior_weight": 0.0}
    losses = []
    for name, more in (
        ("plain", {}),
        ("saved", {"model.gradient_checkpointing": True}),
        ("short", {"model.precision": "bf16"}),
        ("small", {"model.precision": "bf16", "model.weights": "bf16"}),
    ):
        run(photos, models[make], tmp_path / name, "dreambooth", **settings | more)
        (row,) = rows_of(tmp_path / name)
        losses.append((row["loss"], row["gradient"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for other in losses[2:]:
        assert other == pytest.approx(losses[0], rel=0.1)
    assert len({loss for loss, _ in losses[1:]}) == 3


@pytest.mark.parametrize(("make", "scales"), [(make_klein, set[float]()), (make_dev, {4.0})], ids=["klein", "dev"])
def test_draft_draws_as_the_pipeline_is_guided(
    make: Any, scales: set[float], models: dict[Any, Path], photos: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """[klein] with the empty prompt in the same batch, [dev] at the scale that it reads."""
    own, shown, sizes = Flux2Transformer2DModel.forward, set[float](), set[int]()

    def call(self: Any, *args: Any, **given: Any) -> Any:
        sizes.add(len(given["hidden_states"]))
        shown.update([] if given["guidance"] is None else given["guidance"].tolist())
        return own(self, *args, **given)

    monkeypatch.setattr(Flux2Transformer2DModel, "forward", call)
    settings = {"adapter.name": "lora", "objective.reward": "ssim", "run.steps": 1, "objective.prior_weight": 0.0}
    run(photos, models[make], tmp_path / "run", "draft", **settings)
    assert (shown, sizes) == (scales, {2} if make is make_dev else {4})
    (row,) = rows_of(tmp_path / "run")
    assert np.isfinite(row["reward"])
    assert row["gradient"] > 0
