"""Scores against other people's code: torchmetrics, transformers' own processors, and formulas written out."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor, Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from errors import raises
from lookforward.assembly import build_evaluators, build_scores, check_extra_scores
from lookforward.cli import main
from lookforward.models.encoders import to_unit
from lookforward.scores.diversity import diversity
from lookforward.scores.dreamsim import dreamsim
from lookforward.scores.evaluate import score_images
from lookforward_toybox import CLIP, DINO

SIZES = [(512, 512), (64, 64), (300, 200), (97, 150), (40, 40)]  # width, height
PROMPTS = ["a photo of a dog", "a red teapot on the beach", "a cat in the snow"]


def photographs(width: int, height: int, count: int, seed: int = 0) -> np.ndarray:
    """Smooth light, hard edges and grain, as photographs have: (count, height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        light = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height), 3)
        pixels = np.asarray(light).astype(float)
        y, x = np.mgrid[:height, :width] / min(height, width)
        for _ in range(6):
            colour, middle, size = rng.integers(0, 256, 3), rng.random(2), 0.05 + 0.2 * rng.random()
            pixels[np.hypot(y - middle[0], x - middle[1]) < size] = colour
        pixels += rng.normal(0, 6, pixels.shape)
        pictures.append(pixels.clip(0, 255).round().astype(np.uint8))
    return np.stack(pictures)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny DINO and DINOv2 with the files that their authors' have on the hub, and Toybox's trained CLIP and DINO."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    spread = {"image_size": 32, "initializer_range": 0.2}
    vit = ViTConfig(**sizes, **spread, intermediate_size=64)
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "dino")
    Dinov2Model(Dinov2Config(**sizes, **spread)).save_pretrained(folder / "dinov2")
    colours = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    old = {"feature_extractor_type": "ViTFeatureExtractor", "do_normalize": True, "do_resize": True}
    (folder / "dino" / "preprocessor_config.json").write_text(json.dumps({**old, **colours, "size": 32}))
    cut = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
    new = {"image_processor_type": "BitImageProcessor", "do_center_crop": True}
    (folder / "dinov2" / "preprocessor_config.json").write_text(json.dumps({**new, **colours, **cut}))
    return {"dino": folder / "dino", "dinov2": folder / "dinov2", "clip": CLIP, "toybox-dino": DINO}


def scored(folders: dict[str, Path], dino: str, images: np.ndarray, references: np.ndarray) -> dict[str, np.ndarray]:
    """By lookforward, as `benchmark` and `score` do."""
    source = {"dino": str(folders[dino]), "clip": str(folders["clip"]), "dinov2": str(folders["dinov2"])}
    evaluators = build_evaluators("some/model", **source, device="cpu", extra=("dinov2",))
    texts = [PROMPTS[i % len(PROMPTS)] for i in range(len(images))]
    return score_images(build_scores(evaluators, references), images, texts)


def mean_cosine(images: Tensor, references: Tensor) -> np.ndarray:
    return torch.cosine_similarity(images[:, None], references[None], dim=2).mean(dim=1).double().numpy()


@torch.no_grad()
def embed(model: Any, processor: Any, pictures: np.ndarray) -> Tensor:
    """By transformers alone."""
    pixels = processor(list(pictures), return_tensors="pt")["pixel_values"]
    if isinstance(model, CLIPModel):
        return model.eval()(input_ids=torch.zeros(1, 1, dtype=torch.long), pixel_values=pixels).image_embeds
    return model.eval()(pixel_values=pixels).last_hidden_state[:, 0]


@pytest.mark.parametrize(
    ("dino", "size"), [*(("dino", size) for size in SIZES), *(("toybox-dino", size) for size in SIZES[:3])]
)
def test_image_scores_are_those_of_transformers(folders: dict[str, Path], dino: str, size: tuple[int, int]) -> None:
    images, references = photographs(*size, 3), photographs(*size, 2, seed=1)
    ours = scored(folders, dino, images, references)
    models = {
        "DINO": (ViTModel.from_pretrained(folders[dino], add_pooling_layer=False), ViTImageProcessorPil, folders[dino]),
        "DINOv2": (Dinov2Model.from_pretrained(folders["dinov2"]), BitImageProcessorPil, folders["dinov2"]),
        "CLIP-I": (CLIPModel.from_pretrained(CLIP), CLIPImageProcessorPil, CLIP),
    }
    for name, (model, kind, folder) in models.items():
        processor = kind.from_pretrained(folder)
        expected = mean_cosine(embed(model, processor, images), embed(model, processor, references))
        assert np.abs(ours[name] - expected).max() < 1e-3, name
        assert np.ptp(expected) > 3e-3, f"{name} could not fail"


class PlainClip(CLIPModel):
    """For torchmetrics 1.9, which wants the bare features that transformers returned before version 5."""

    def get_image_features(self, *given: Any, **options: Any) -> Any:
        found: Any = super().get_image_features(*given, **options)
        return found.pooler_output

    def get_text_features(self, *given: Any, **options: Any) -> Any:
        found: Any = super().get_text_features(*given, **options)
        return found.pooler_output


@pytest.mark.parametrize("size", SIZES)
def test_clip_text_is_the_clip_score_of_torchmetrics(folders: dict[str, Path], size: tuple[int, int]) -> None:
    from torchmetrics.functional.multimodal import clip_score

    model, processor = PlainClip.from_pretrained(CLIP).eval(), CLIPProcessor.from_pretrained(CLIP)
    images = photographs(*size, 4)
    ours = scored(folders, "toybox-dino", images, images[:1])["CLIP-T"]
    for i, picture in enumerate(images):
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        with torch.no_grad():  # 100 cos, one pair at a time: the function averages, and cuts off below 0
            theirs = clip_score(pixels, PROMPTS[i % len(PROMPTS)], model_name_or_path=lambda: (model, processor))  # pyright: ignore[reportArgumentType]
        assert max(0.0, ours[i]) == pytest.approx(float(theirs) / 100, abs=1e-3)
    assert ours.max() > 0.01
    assert np.ptp(ours) > 3e-3


def test_the_differentiable_path_is_left_to_rewards(folders: dict[str, Path]) -> None:
    evaluators = build_evaluators("some/model", dino=str(folders["dino"]), clip=str(CLIP), device="cpu").encoders
    images = to_unit(photographs(120, 90, 2)).requires_grad_()
    assert not evaluators.dino(images).requires_grad
    assert not evaluators.clip.image(images).requires_grad
    evaluators.dino.exact = False
    assert evaluators.dino(images).requires_grad


def squared(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).mean(dim=(1, 2, 3))


def test_diversity_is_the_mean_over_pairs_of_a_prompt() -> None:
    levels = torch.tensor([0.0, 0.5, 1.0, 0.25, 0.75])
    images = levels[:, None, None, None].expand(-1, 3, 4, 4)
    values = diversity(squared, images, ["a", "b", "a", "a", "b"])
    d = (levels[:, None] - levels) ** 2
    by_hand = [(d[0, 2] + d[0, 3]) / 2, d[1, 4], (d[2, 0] + d[2, 3]) / 2, (d[3, 0] + d[3, 2]) / 2, d[4, 1]]
    torch.testing.assert_close(values, torch.stack(by_hand))
    assert float(values[[0, 2, 3]].mean()) == pytest.approx(float(d[0, 2] + d[0, 3] + d[2, 3]) / 3)
    with pytest.raises(ValueError, match="at least two images of each prompt, there is one of 'c'"):
        diversity(squared, images, ["a", "b", "a", "c", "b"])
    with pytest.raises(ValueError, match="as many prompts"):
        diversity(squared, images, ["a", "a"])


def test_diversity_of_many_images_does_not_depend_on_their_order() -> None:
    images = torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    prompts = ["a", "b", "c"] * 10
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    values = diversity(squared, images, prompts)
    mixed = diversity(squared, images[order], [prompts[i] for i in order])
    torch.testing.assert_close(mixed, values[order])


def test_dreamsim_is_the_mean_similarity_to_the_references() -> None:
    def distance(x: Tensor, y: Tensor) -> Tensor:
        assert x.shape[1:] == y.shape[1:] == (3, 224, 224)
        return (x - y).abs().mean(dim=(1, 2, 3))

    shades = torch.tensor([0.0, 0.2, 1.0])[:, None, None, None].expand(-1, 3, 30, 20)
    values = dreamsim(distance, shades[[0, 2]], shades)
    torch.testing.assert_close(values, torch.full((3,), 0.5))
    torch.testing.assert_close(dreamsim(distance, shades[:1], shades), torch.tensor([1.0, 0.8, 0.0]))


class FakeLpips(nn.Module):
    def forward(self, x: Tensor, y: Tensor, normalize: bool = False) -> Tensor:
        assert normalize
        return ((x - y) ** 2).mean(dim=(1, 2, 3), keepdim=True)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lpips and dreamsim, as if they were installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    lpips, dreamsim = ModuleType("lpips"), ModuleType("dreamsim")
    vars(lpips)["LPIPS"] = lambda **_: FakeLpips()
    similar = SimpleNamespace(eval=lambda: SimpleNamespace(requires_grad_=lambda _: squared))
    vars(dreamsim)["dreamsim"] = lambda **_: (similar, None)
    monkeypatch.setitem(sys.modules, "lpips", lpips)
    monkeypatch.setitem(sys.modules, "dreamsim", dreamsim)


@pytest.mark.usefixtures("packages")
def test_all_extra_scores_beside_the_usual(folders: dict[str, Path]) -> None:
    check_extra_scores(("dinov2", "diversity", "dreamsim"), 2)
    extra = ("dreamsim", "diversity", "dinov2")
    evaluators = build_evaluators("toybox", extra=extra, dinov2=str(folders["dinov2"]), device="cpu")
    images = photographs(64, 64, 4)
    values = score_images(build_scores(evaluators, images[:2]), images, ["a dog", "a dog", "a cat", "a cat"])
    assert list(values) == ["DINO", "CLIP-I", "CLIP-T", "identity", "DINOv2", "DreamSim", "diversity"]
    assert all(numbers.shape == (4,) and np.isfinite(numbers).all() for numbers in values.values())
    assert values["diversity"][0] == values["diversity"][1] > 0
    assert list(score_images(build_scores(build_evaluators("toybox", device="cpu"), images[:2]), images, [""] * 4)) == [
        "DINO", "CLIP-I", "CLIP-T", "identity",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--extra-scores", "dinov3"], "Did you mean dinov2?"),
        (["--extra-scores", "dinov2,diversity"], "LPIPS needs the package lpips, which is not installed. Run `pip"),
        (["--extra-scores", "dreamsim"], "DreamSim needs the package dreamsim, which is not installed. Run `pip"),
    ],
)
@pytest.mark.parametrize("command", ["benchmark", "score"])
def test_what_an_extra_score_lacks_is_reported_before_anything_runs(
    command: str, words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    asked = ["--output", str(tmp_path / "out")] if command == "benchmark" else [str(tmp_path / "no-run")]
    with pytest.raises(SystemExit) as stopped:
        main([command, *asked, *words])
    assert stopped.value.code == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("packages")
def test_diversity_needs_two_images_of_a_prompt() -> None:
    with raises("images-too-few", "--images 2"):
        check_extra_scores(("diversity",), 1)
