"""Exports, strengths and folders that could be misread: what is done with them, and what is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import make_pipeline
from errors import raises
from lookforward.adapters.textual_inversion import write_single_words
from lookforward.benchmark.methods import IGNORED, grid_methods, unread_notes
from lookforward.exports.card import CARD
from lookforward.exports.convert import convert
from lookforward.exports.load import apply_export, load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import Source, find_adapter, find_source, notes_on
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.sampling import draw_images


def test_settings_that_no_method_of_a_grid_reads() -> None:
    given = {"critic.weight": 5.0, "objective.stride": 50}
    alone = unread_notes(grid_methods(("dreambooth",), ("full",), given), given)
    assert any("critic.weight = 5.0" in note for note in alone)
    both = unread_notes(grid_methods(("dreambooth", "look-forward"), ("full",), given), given)
    assert not any("critic.weight" in note for note in both)
    assert any("objective.stride = 50" in note for note in both)


def test_settings_of_run_folders_are_named_where_a_grid_ignores_them(tmp_path: Path) -> None:
    """They would act in `lookforward train`, and each needs the one before it."""
    given: dict[str, Any] = {
        "evaluation.sample_every": 50, "run.export_every": 20, "run.checkpoint_every": 10,
        "run.report_to": "wandb", "model.weights": "bf16", "model.offload": True, "evaluation.every": 50,
        "evaluation.images": 2, "model.gradient_checkpointing": True,
    }  # fmt: skip
    notes = unread_notes(grid_methods(("dreambooth", "look-forward"), ("lora",), given), given)
    named = {name for name in given if any(f"{name} = " in note for note in notes)}
    assert named == set(given) - {"evaluation.every", "evaluation.images", "model.gradient_checkpointing"}
    assert len(notes) == len(named)
    assert named <= set(IGNORED)
    recipe = tmp_path / "own.toml"
    recipe.write_text('base = "dreambooth"\n[run]\nexport_every = 20\n')
    [note] = unread_notes(grid_methods((str(recipe), "look-forward"), ("full",), {}), {})
    assert "own: run.export_every = 20" in note


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -11])
def test_strengths_at_every_door(strength: float, tmp_path: Path) -> None:
    one = source("a")
    for use in (
        lambda: merge([(one, strength)], tmp_path / "out"),
        lambda: load_export(tmp_path, strength=strength),
        lambda: apply_export(None, tmp_path, strength),  # pyright: ignore[reportArgumentType]
        lambda: find_adapter("a", strength),
        lambda: find_adapter(f"a:{strength}"),
    ):
        with raises("strength-range", strength):
            use()


def test_a_mistyped_run_is_not_looked_for_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "dog-look-forward").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with raises("run-missing", "dgo-look-forward", "runs/dog-look-forward"):
        find_source("runs/dgo-look-forward")
    assert find_source("owner/name").folder is None


def source(name: str, **manifest: Any) -> Source:
    known = {"adapter": "lora", "identifier": "sks", "model": "base", "model_hash": "1"}
    return Source(name, {**known, **manifest}, Path(name))


def test_a_moved_base_model_of_the_same_weights_is_the_same() -> None:
    first, moved = source("a"), source("b", identifier="zwx", model="elsewhere")
    assert notes_on(first, [(moved, 1.0)]) == ()
    (note,) = notes_on(first, [(source("b", identifier="zwx", model="elsewhere", model_hash="2"), 1.0)])
    assert "elsewhere" in note


def test_two_loras_of_one_identifier() -> None:
    (note,) = notes_on(source("a"), [(source("b", identifier="SKS"), 1.0)])
    assert all(fact in note for fact in ("a and b", "'sks'"))


def test_the_card_of_a_file_for_a1111_calls_the_word_as_it_is_called_there(train: Any, tmp_path: Path) -> None:
    result = train("run", 1, **{"adapter.name": "textual-inversion", "subject.identifier": "<sks>"})
    convert(result.source, "a1111", tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert "- a photo of sks on the beach" in card
    assert "a photo of \\<sks" not in card
    write_single_words(result.run.export, tmp_path)
    assert (tmp_path / "sks.safetensors").is_file()


def test_a_folder_of_half_precision_alone_is_whole(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = load_pipeline(tmp_path)
    assert all(p.dtype.is_floating_point and p.element_size() == 4 for p in loaded.unet.parameters())
    one = draw_images(loaded, ["a dog"], [0], steps=2, guidance=1.0)
    same = draw_images(pipeline.to(dtype=torch.float32), ["a dog"], [0], steps=2, guidance=1.0)
    assert np.abs(one.astype(int) - same).max() <= 1


def test_an_index_of_another_model(tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path)
    (tmp_path / "unet").rename(tmp_path / "transformer")
    with raises("model-index-wrong", "model_index.json", "transformer"):
        load_pipeline(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
