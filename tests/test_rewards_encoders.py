"""The encoders that serve rewards alone: DINOv2, and any vision model of transformers."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from transformers import (
    BertConfig,
    BertModel,
    CLIPModel,
    Dinov2Model,
    IJepaConfig,
    IJepaModel,
    ResNetConfig,
    ResNetModel,
    SegformerConfig,
    SegformerModel,
    ViTModel,
)

from errors import raises
from lookforward.models.encoders import ImageEncoder, load_clip, load_dino, load_dinov2, load_embedding
from tiny_rewards import SIDE, SIZES, pictures, save_clip, save_dinov2, save_vit

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def assert_embeds(encoder: ImageEncoder, expected: torch.Tensor) -> None:
    found = encoder(pictures())
    torch.testing.assert_close(found, normalize(expected, dim=1), rtol=1e-4, atol=1e-5)
    assert float(found @ found.T @ torch.ones(3) @ torch.ones(3)) < 9 - 1e-4  # not all alike
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@torch.no_grad()
def test_dinov2_returns_the_normalised_class_token(tmp_path: Path) -> None:
    model = Dinov2Model.from_pretrained(save_dinov2(tmp_path)).eval()
    assert_embeds(load_dinov2(tmp_path), model((pictures() - MEAN) / STD).last_hidden_state[:, 0])


@torch.no_grad()
def test_dinov2_follows_its_preprocessing_at_another_size(tmp_path: Path) -> None:
    save_dinov2(tmp_path)
    settings = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    encoder = load_dinov2(tmp_path)
    assert encoder.preprocess(pictures(side=64)).shape == (3, 3, 40, 40)
    assert encoder(pictures(side=64)).shape == (3, 32)


@torch.no_grad()
def test_embedding_is_the_pooled_output(tmp_path: Path) -> None:
    model = ViTModel.from_pretrained(save_vit(tmp_path, pooler=True)).eval()
    assert_embeds(load_embedding(tmp_path), model((pictures() - MEAN) / STD).pooler_output)


@torch.no_grad()
def test_embedding_without_a_pooler_is_the_class_token(tmp_path: Path) -> None:
    """As facebook/dino-vits16 is published; AutoModel would make a pooler by chance, another each time."""
    save_vit(tmp_path)
    assert_embeds(load_embedding(tmp_path), load_dino(tmp_path)(pictures()))


@torch.no_grad()
def test_embedding_without_pooler_and_class_token_is_the_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = IJepaConfig(**SIZES, intermediate_size=64, image_size=SIDE, patch_size=8)
    IJepaModel(settings, add_pooling_layer=False).save_pretrained(tmp_path / "tokens")
    model = IJepaModel.from_pretrained(tmp_path / "tokens", add_pooling_layer=False).eval()
    expected = model((pictures() - MEAN) / STD).last_hidden_state.mean(dim=1)
    assert_embeds(load_embedding(tmp_path / "tokens"), expected)
    settings = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[8, 16], sr_ratios=[2, 1], num_attention_heads=[1, 2],
        patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], initializer_range=0.2,
    )  # fmt: skip
    SegformerModel(settings).save_pretrained(tmp_path / "map")
    (tmp_path / "map" / "preprocessor_config.json").write_text(json.dumps({"size": SIDE}))
    model = SegformerModel.from_pretrained(tmp_path / "map").eval()
    expected = model((pictures() - MEAN) / STD).last_hidden_state
    assert expected.shape == (3, 16, 4, 4)
    assert_embeds(load_embedding(tmp_path / "map"), expected.mean(dim=(2, 3)))


@torch.no_grad()
def test_embedding_of_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(tmp_path)
    model = ResNetModel.from_pretrained(tmp_path).eval()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": SIDE, "do_normalize": False}))
    assert_embeds(load_embedding(tmp_path), model(pictures()).pooler_output.flatten(1))


@torch.no_grad()
def test_embedding_of_a_clip_is_its_image_tower(tmp_path: Path) -> None:
    save_clip(tmp_path)
    mean, std = [0.5, 0.4, 0.6], [0.2, 0.3, 0.4]
    settings = {"size": SIDE, "crop_size": SIDE, "image_mean": mean, "image_std": std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert_embeds(load_embedding(tmp_path), load_clip(tmp_path).image(pictures()))
    assert isinstance(load_embedding(tmp_path).network, CLIPModel)


@torch.no_grad()
def test_embedding_interpolates_positions(tmp_path: Path) -> None:
    save_vit(tmp_path, pooler=True)
    settings = {"size": 40, "crop_size": 24, "do_center_crop": False}  # then crop_size has no say
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    encoder = load_embedding(tmp_path)
    assert encoder.preprocess(pictures(side=64)).shape == (3, 3, 40, 40)
    assert encoder(pictures(side=64)).shape == (3, 32)


def test_what_cannot_embed_images_is_refused(tmp_path: Path) -> None:
    bert = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    with raises("model-incomplete", "BertModel"):
        load_embedding(tmp_path / "bert")
    with raises("model-missing", "absent"):
        load_embedding(tmp_path / "absent")
    weights = save_vit(tmp_path / "vit") / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if "position" not in name}
    save_file(kept, weights)
    with raises("model-incomplete", "embeddings.position"):
        load_embedding(tmp_path / "vit")
