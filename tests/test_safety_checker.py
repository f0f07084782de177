"""The base model's safety checker, where it has one and is asked for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from huggingface_hub import HfApi
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

from errors import raises
from jobs import Command
from lookforward.exports.png import read_metadata
from lookforward.models import safety
from lookforward.models.safety import CHECKER, PROCESSOR, load_safety_checker


def make_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """A tiny one that flags what is nearer to its concepts than `threshold`, a cosine."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config: Any = CLIPConfig(vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(threshold)
    return checker


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model whose checker flags everything."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "with-checker"))
    make_checker(-2).save_pretrained(folder / CHECKER)
    sizes: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**sizes).save_pretrained(folder / PROCESSOR)
    return folder


def test_it_blackens_what_it_flags(model: Path) -> None:
    images = [np.full((40, 48, 3), value, np.uint8) for value in (0, 90, 200)]
    checker = load_safety_checker(str(model), "cpu")
    checked, flagged = checker(images)
    assert flagged == 3
    assert not np.stack(checked).any()
    make_checker(2).save_pretrained(model / CHECKER)
    checked, flagged = load_safety_checker(str(model), "cpu")(images)
    assert flagged == 0
    assert all(one is other for one, other in zip(checked, images, strict=True))


def test_generate_with_it_and_without(
    command_line: Command, model: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["a photo of a teapot", "--count", 2, "--steps", 1, "--guidance", 1]
    status, out, err = command_line("generate", model, *words, "--safety-checker", "--output", "checked")
    assert (status, err) == (0, "")
    assert "flagged 2 of 2 images" in out
    status, out, _ = command_line("generate", model, *words, "--output", "plain")
    assert (status, "flagged" in out) == (0, False)
    for folder, expected in (("checked", True), ("plain", False)):
        path = tmp_path / folder / "a-photo-of-a-teapot-0.png"
        assert read_metadata(path).safety_checker is expected
        with Image.open(path) as image:
            assert np.asarray(image).any() != expected


@pytest.mark.parametrize("name", ["toybox", "tiny"])
def test_a_model_without_one_is_refused(name: str, tiny_model: Path) -> None:
    model = str(tiny_model) if name == "tiny" else name
    with raises("safety-checker-missing", model):
        load_safety_checker(model, "cpu")


def test_a_checker_on_the_hub_is_that_of_the_commit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(name: str, *, revision: str | None, **_: Any) -> str:
        asked.append((name, revision))
        return str(model)

    monkeypatch.setattr(safety, "snapshot_download", download)
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, **_: object())
    load_safety_checker("someone/model", "cpu", "abc123")
    load_safety_checker("someone/model", "cpu")
    assert asked == [("someone/model", "abc123"), ("someone/model", None)]
