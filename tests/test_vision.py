"""Encoders, on tiny random models saved as the real ones are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from errors import raises
from lookforward.models.encoders import (
    ClipEncoders,
    ImageEncoder,
    load_clip,
    load_dino,
    to_pixels,
    to_unit,
)
from lookforward.models.weight_files import explain_load_error, local_folder

SIDE = 32
WORDS = [
    "a</w>",
    "photo</w>",
    "of</w>",
    "dog</w>",
    "cat</w>",
    *"acdfghopt",
    *(f"{c}</w>" for c in "acdfghopt"),
]
MERGES = ["p h", "ph o", "pho t", "phot o</w>", "o f</w>", "d o", "do g</w>", "c a", "ca t</w>"]


@pytest.fixture
def dino_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=SIDE,
        patch_size=8,
        initializer_range=0.2,
    )
    ViTModel(settings, add_pooling_layer=False).save_pretrained(tmp_path / "dino")
    return tmp_path / "dino"


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    folder.mkdir()
    words = [*WORDS, "ph", "pho", "phot", "do", "ca", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    text = CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=16,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        **sizes,
    )
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=8, **sizes)
    settings = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    CLIPModel(settings).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    return folder


def pictures(height: int, width: int, n: int = 3) -> np.ndarray:
    """Smooth random pictures: (n, height, width, 3), uint8."""
    noise = torch.rand(n, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
    return to_pixels(smooth)


def assert_unit(embeddings: Tensor, shape: tuple[int, int]) -> None:
    assert embeddings.shape == shape
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(shape[0]))


def test_dino_returns_the_normalised_class_token(dino_folder: Path) -> None:
    encoder = load_dino(dino_folder)
    images = to_unit(pictures(SIDE, SIDE))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        token = ViTModel.from_pretrained(dino_folder, add_pooling_layer=False)(pixels).last_hidden_state[:, 0]
    embeddings = encoder(images)
    assert_unit(embeddings, (3, 32))
    torch.testing.assert_close(embeddings, torch.nn.functional.normalize(token, dim=1))


@pytest.mark.parametrize("size", [(64, 64), (50, 83), (20, 20), (32, 45)])
def test_preprocessing_is_that_of_transformers(clip_folder: Path, size: tuple[int, int]) -> None:
    """Theirs rounds to 8 bits between the two passes of the resize; so a few 1/255 apart; std is 0.26."""
    encoders = load_clip(clip_folder)
    pixels = pictures(*size)
    theirs = CLIPImageProcessorPil.from_pretrained(clip_folder)(list(pixels), return_tensors="pt")["pixel_values"]
    ours = encoders.image.preprocess(to_unit(pixels))
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 5 / 255 / 0.26
    model = CLIPModel.from_pretrained(clip_folder).eval()
    ids = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        expected = model(input_ids=ids, pixel_values=theirs).image_embeds
    cosine = (encoders.image(to_unit(pixels)) * expected).sum(dim=1)
    assert float(cosine.min()) > 0.999


def test_settings_of_the_folder_win(dino_folder: Path) -> None:
    settings = {"size": 48, "crop_size": 40, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (dino_folder / "preprocessor_config.json").write_text(json.dumps(settings))
    encoder = load_dino(dino_folder)  # 40 px where the model has positions for 32: interpolated
    images = to_unit(pictures(64, 96))
    assert encoder.preprocess(images).shape == (3, 3, 40, 40)
    assert_unit(encoder(images), (3, 32))
    torch.testing.assert_close(encoder.preprocess(torch.ones(1, 3, 9, 9)), torch.ones(1, 3, 40, 40))


def test_text_and_image_share_a_space(clip_folder: Path) -> None:
    encoders = load_clip(clip_folder)
    prompts = ["a photo of a dog", "a cat", "a photo of a dog " * 9]
    embeddings = encoders.text(prompts)
    assert_unit(embeddings, (3, 24))
    assert_unit(encoders.image(to_unit(pictures(40, 40))), (3, 24))
    torch.testing.assert_close(embeddings[1:2], encoders.text(["a cat"]))  # padding has no influence
    assert float(embeddings[0] @ embeddings[1]) < 0.999


@pytest.mark.parametrize("kind", ["dino", "clip"])
def test_gradient_to_the_images(request: pytest.FixtureRequest, kind: str) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    encoder = (load_dino(folder) if kind == "dino" else load_clip(folder).image).double()
    images = (0.3 + 0.4 * torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(2))).double()
    target = torch.randn(encoder(images).shape[1], generator=torch.Generator().manual_seed(4)).double()
    images.requires_grad_()
    (gradient,) = torch.autograd.grad((encoder(images) @ target).sum(), images)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        step = 1e-5 * direction
        difference = (encoder(images + step) - encoder(images - step)) @ target / 2e-5
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)
    assert float(gradient.abs().max()) > 0


def test_encoders_stay_frozen(dino_folder: Path) -> None:
    encoder = load_dino(dino_folder)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.network.modules())


def test_images_of_another_shape_are_named(dino_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"\(3, 32, 32\)"):
        load_dino(dino_folder)(torch.zeros(3, SIDE, SIDE))


def test_pixels_survive_the_round_trip() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert (to_pixels(to_unit(pixels)) == pixels).all()
    assert to_pixels(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)).tolist() == [[[[0, 255, 128]]]]


def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("lookforward.models.weight_files.HfApi.model_info", unreachable)


@pytest.mark.parametrize("load", [load_dino, load_clip])
def test_a_hub_id_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, load: "type[ImageEncoder] | type[ClipEncoders]"
) -> None:
    no_hub(monkeypatch)
    with raises("model-unreachable", "hf download nobody/nothing --local-dir FOLDER"):
        load("nobody/nothing")  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_missing_folders_and_files_are_named(dino_folder: Path, tmp_path: Path) -> None:
    with raises("model-missing", "absent"):
        load_dino(tmp_path / "absent")
    weights = dino_folder / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: value for name, value in tensors.items() if "position" not in name}, weights)
    with raises("model-incomplete", "position_embeddings"):
        load_dino(dino_folder)
    weights.write_bytes(weights.read_bytes()[:3000])
    with raises("model-incomplete", dino_folder):
        load_dino(dino_folder)
    weights.unlink()
    with raises("model-incomplete", "model.safetensors"):
        load_dino(dino_folder)
    (dino_folder / "config.json").write_text("{")
    with raises("model-incomplete", "config"):
        load_dino(dino_folder)


def test_a_damaged_preprocessor_config_is_named(dino_folder: Path) -> None:
    (dino_folder / "preprocessor_config.json").write_text('{"size": ')
    with raises("model-incomplete", "preprocessor_config.json"):
        load_dino(dino_folder)


def test_a_clip_folder_without_a_vocabulary_is_refused(clip_folder: Path) -> None:
    (clip_folder / "vocab.json").unlink()
    with raises("model-incomplete", "tokenizer"):
        load_clip(clip_folder)


def test_a_tokenizer_of_another_model_is_refused(clip_folder: Path) -> None:
    file = clip_folder / "config.json"
    settings = json.loads(file.read_text())
    settings["text_config"]["eos_token_id"] = 5
    file.write_text(json.dumps(settings))
    with raises("model-incomplete", 5):
        load_clip(clip_folder)


def test_explanations_depend_on_what_was_asked_for(tmp_path: Path) -> None:
    error = OSError("first line.\nsecond line")
    assert "first line. The folder must be complete" in str(explain_load_error(tmp_path, error))
    assert "there is no model folder ./nowhere" in str(explain_load_error("./nowhere", error))
    assert "hf download CompVis/x" in str(explain_load_error("CompVis/x", error))


def test_a_single_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "v1-5.safetensors"
    file.write_text("")
    for name in (str(file), "v1-5-pruned.ckpt"):  # here or not
        with raises("model-single-file", "from_single_file"):
            local_folder(name)
    other = tmp_path / "model.bin"
    other.write_text("")
    with raises("model-missing", "model.bin"):
        local_folder(other)
