"""Public IP-Adapter weights, of tiny stand-ins: drawn as plain diffusers draws with them, and trained on from there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from conftest import make_pipeline
from errors import raises
from jobs import SETTINGS
from lookforward import load_personalized, personalize
from lookforward.models.encoders import to_unit
from lookforward.models.ip_adapter import forget_photos, show_photos_by_ip_adapter
from lookforward.models.sampling import draw_images
from tiny import seeded
from tiny_flux import make_flux
from tiny_sd3 import make_sd3
from tiny_sdxl import make_sdxl

PROMPT, SEEN = "a photo of a red dog on the beach", 12
MAKERS: dict[str, Callable[[], Any]] = {"sd": make_pipeline, "sdxl": make_sdxl, "flux": make_flux}


def save_ip_adapter(pipeline: Any, folder: Path) -> str:
    """Random weights in the layout of the public ones, with an image encoder beside them."""
    generator = seeded(7)

    def drawn(*shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, generator=generator)

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=SEEN,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "models" / "image_encoder")
    flux = hasattr(pipeline, "transformer")
    network = pipeline.transformer if flux else pipeline.unet
    width = network.config["joint_attention_dim"] if flux else network.config["cross_attention_dim"]
    names = ("ip_adapter_proj_model", "ip_adapter") if flux else ("image_proj", "ip_adapter")
    tensors = {
        f"{names[0]}.proj.weight": drawn(4 * width, SEEN), f"{names[0]}.proj.bias": drawn(4 * width),
        f"{names[0]}.norm.weight": torch.ones(width), f"{names[0]}.norm.bias": torch.zeros(width),
    }  # fmt: skip
    if flux:
        inner = network.config["num_attention_heads"] * network.config["attention_head_dim"]
        for i in range(network.config["num_layers"]):
            for part in ("k", "v"):
                name = f"double_blocks.{i}.processor.ip_adapter_double_stream_{part}_proj"
                tensors |= {f"{name}.weight": drawn(inner, width), f"{name}.bias": drawn(inner)}
    else:
        crossing = [name for name in network.attn_processors if "attn2" in name]
        for i, name in enumerate(crossing):
            inner = network.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("k", "v"):
                tensors[f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight"] = drawn(inner, width)
    save_file(tensors, folder / "models" / "weights.safetensors")
    return f"{folder}:models/weights.safetensors"


@pytest.fixture(scope="module")
def seen() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)


def drawn(pipeline: Any, **more: Any) -> np.ndarray:
    return draw_images(pipeline, [PROMPT], [3], steps=2, guidance=3.0, **more)


@pytest.mark.parametrize("family", MAKERS)
def test_photos_are_drawn_from_as_plain_diffusers_does(family: str, seen: np.ndarray, tmp_path: Path) -> None:
    pipeline = MAKERS[family]()
    pipeline.set_progress_bar_config(disable=True)
    before = drawn(pipeline)
    given = save_ip_adapter(pipeline, tmp_path)
    show_photos_by_ip_adapter(pipeline, given, to_unit(seen), scale=0.6)
    ours = drawn(pipeline)
    plain = MAKERS[family]()
    plain.set_progress_bar_config(disable=True)
    own = {"image_encoder_pretrained_model_name_or_path": str(tmp_path / "models" / "image_encoder")}
    plain.load_ip_adapter(str(tmp_path), subfolder="models", weight_name="weights.safetensors",
                          **own if family == "flux" else {})  # fmt: skip
    plain.set_ip_adapter_scale(0.6)
    theirs = plain(
        PROMPT, ip_adapter_image=[[Image.fromarray(one) for one in seen]], num_inference_steps=2, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(3)], output_type="np",
    ).images  # fmt: skip
    assert (ours == (np.asarray(theirs) * 255).round().astype(np.uint8)).all()
    assert (ours != before).any()
    with raises("encoder-second"):
        show_photos_by_ip_adapter(pipeline, given, to_unit(seen))
    forget_photos(pipeline)
    assert (drawn(pipeline) == before).all()


def test_what_cannot_be_loaded(seen: np.ndarray, tmp_path: Path) -> None:
    given = save_ip_adapter(make_flux(), tmp_path)
    with raises("encoder-damaged", given, "image_encoder"):
        show_photos_by_ip_adapter(make_pipeline(), given, to_unit(seen))
    with raises("encoder-damaged", tmp_path / "none"):
        show_photos_by_ip_adapter(make_pipeline(), f"{tmp_path / 'none'}:a.safetensors", to_unit(seen))
    with raises("encoder-name", "weights.bin"):  # a pickle
        show_photos_by_ip_adapter(make_pipeline(), f"{tmp_path}:weights.bin", to_unit(seen))
    with raises("encoder-family", "Stable Diffusion 3"):
        show_photos_by_ip_adapter(make_sd3(), given, to_unit(seen))


def test_a_lora_starts_from_what_the_ip_adapter_draws(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    given = save_ip_adapter(make_pipeline(), tmp_path / "ip")
    settings = {**SETTINGS, "model.name": str(tiny_model), "adapter.name": "lora", "objective.prior_weight": 0.0}
    settings |= {"adapter.encoder": given, "evaluation.sample_every": 0}
    models = {}
    for name, rate in (("still", 1e-12), ("moved", 1e-2)):
        more = {"optimizer.learning_rate": rate, "run.steps": 2}
        models[name] = personalize(
            photos, "teapot", output=tmp_path / name, recipe="look-forward", settings=settings | more
        )
    images = {name: np.asarray(model.generate("a photo of {}", steps=2)[0]) for name, model in models.items()}
    assert (images["moved"] != images["still"]).any()
    again = load_personalized(tmp_path / "moved").generate("a photo of {}", steps=2)[0]
    assert (np.asarray(again) == images["moved"]).all()
    plain: Any = make_pipeline()
    from lookforward.data.photos import load_photos

    pixels = np.stack([one.pixels for one in load_photos(photos, 32).photos])
    show_photos_by_ip_adapter(plain, given, to_unit(pixels))
    expected = draw_images(plain, ["a photo of sks teapot"], [0], steps=2, guidance=7.5)
    assert abs(expected[0].astype(int) - images["still"].astype(int)).max() <= 1
    for wrong in ({"adapter.name": "full"}, {"adapter.name": "elite"}, {"objective.prior_weight": 1.0}):
        with raises("adapter-start"):
            personalize(photos, "teapot", output=tmp_path / "no", recipe="dreambooth", settings=settings | wrong)
