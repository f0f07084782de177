"""Masks by a segmentation model: stand-ins that have learned to find a bright square."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    ViTImageProcessor,
)

from conftest import CAPTIONS, special_tokens
from jobs import Command
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from lookforward_toybox.training.tokenizer import build_tokenizer

SIDE = 32


def square(where: tuple[int, int], size: tuple[int, int] = (SIDE, SIDE)) -> tuple[Image.Image, np.ndarray]:
    """A bright square on dark noise, and where it is. size: width and height."""
    mask = np.zeros(size[::-1], bool)
    mask[where[0] : where[0] + size[1] // 2, where[1] : where[1] + size[0] // 2] = True
    noise = np.random.default_rng(0).integers(0, 30, (*mask.shape, 3))
    return Image.fromarray((noise + 200 * mask[..., None]).astype(np.uint8)), mask


def learn(model: Any, give: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        give().backward()
        optimizer.step()
    model.eval()


EXAMPLES = [square((y, x)) for y in (0, 8, 16) for x in (0, 8, 16)]
MASKS = torch.from_numpy(np.stack([mask for _, mask in EXAMPLES])).float()


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("clipseg"), build_tokenizer(CAPTIONS)
    size: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    words: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    config = CLIPSegConfig(
        text_config={**size, **words, **special_tokens(tokenizer)},
        vision_config={**size, "image_size": SIDE, "patch_size": 4},
        projection_dim=16, reduce_dim=16, extract_layers=[0, 1], decoder_num_attention_heads=2,
        decoder_intermediate_size=32, conditional_layer=0,
    )  # fmt: skip
    model = CLIPSegForImageSegmentation(config)
    processor: Any = CLIPSegProcessor(ViTImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer)
    given: Any = processor(text=["dog"] * 9, images=[image for image, _ in EXAMPLES], return_tensors="pt")
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    learn(model, lambda: bce(model(**given).logits, MASKS), 60)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[3, 3],
        strides=[2, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16,
        id2label={0: "wall", 1: "dog, domestic dog"}, label2id={"wall": 0, "dog, domestic dog": 1},
        classifier_dropout_prob=0.0, drop_path_rate=0.0,
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config)
    processor: Any = SegformerImageProcessor(size={"height": SIDE, "width": SIDE})
    given = processor([image for image, _ in EXAMPLES], return_tensors="pt")
    learn(model, lambda: model(pixel_values=given["pixel_values"], labels=MASKS.long()).loss, 40)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    """A square photo, a wide one with another of the same stem, and one that has a mask."""
    folder = tmp_path / "dog"
    folder.mkdir()
    square((8, 0))[0].save(folder / "0.png")
    square((0, 30), (64, 48))[0].save(folder / "1.png")
    square((16, 8))[0].save(folder / "1.jpg", quality=95)
    square((0, 0))[0].save(folder / "2.png")
    Image.new("L", (SIDE, SIDE), 255).save(folder / "2.mask.png")
    return folder


def overlap(file: Path, mask: np.ndarray) -> float:
    """Intersection over union."""
    found = np.asarray(Image.open(file)) > 127
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("kind", ["clipseg", "segformer"])
def test_a_mask_beside_each_photo(kind: str, dog: Path, command_line: Command, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    status, out, err = command_line("masks", dog, "--class-noun", "dog", "--model", model)
    assert (status, err) == (0, "")
    masks = {path.name for path in dog.glob("*.mask.png")}
    assert masks == {"0.mask.png", "1.png.mask.png", "1.jpg.mask.png", "2.mask.png"}
    assert overlap(dog / "0.mask.png", square((8, 0))[1]) > 0.7
    assert overlap(dog / "1.png.mask.png", square((0, 30), (64, 48))[1]) > 0.7
    assert "0.png: 0.mask.png, " in out
    assert "2.png: no mask is written, since 2.mask.png is there" in out
    assert "3 masks" in out
    assert np.asarray(Image.open(dog / "2.mask.png")).min() == 255
    settings = load_settings("dreambooth", {"subject.class_noun": "dog", "data.resolution": 32})
    assert [bool(photo.masks) for photo in read_subject(dog, settings).photos] == [True] * 4
    status, out, _ = command_line("masks", dog, "--class-noun", "dog", "--model", model, "--replace")
    assert "4 masks" in out
    assert overlap(dog / "2.mask.png", square((0, 0))[1]) > 0.7


def test_what_is_refused(
    dog: Path, clipseg: Path, segformer: Path, tiny_model: Path, tmp_path: Path, command_line: Command
) -> None:
    words = ["masks", dog, "--class-noun"]
    for more, facts in (
        (["teapot", "--model", segformer], ("teapot", "wall", "CLIPSeg")),
        (["dog", "--model", tiny_model / "text_encoder"], ("clip", "image-segmentation")),
        (["dog", "--model", tmp_path / "nowhere"], ("nowhere",)),
        (["dog", "--model", clipseg, "--threshold", "nan"], ("--threshold nan", "(0, 1)")),
    ):
        status, _, err = command_line(*words, *more)
        assert status == 2
        assert all(fact in err for fact in facts), err
    assert len(list(dog.glob("*.mask.png"))) == 1


def test_where_nothing_is_found_nothing_is_written(tmp_path: Path, clipseg: Path, command_line: Command) -> None:
    folder = tmp_path / "dark"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 30, (SIDE, SIDE, 3))
    Image.fromarray(noise.astype(np.uint8)).save(folder / "0.png")
    status, out, _ = command_line("masks", folder, "--class-noun", "dog", "--model", clipseg, "--threshold", "0.9")
    assert status == 0
    assert "0.png: no mask is written, since nothing was found" in out
    assert [path.name for path in folder.iterdir()] == ["0.png"]
