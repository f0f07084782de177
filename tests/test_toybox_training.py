"""The training code of Toybox on tiny random data."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, ViTImageProcessor, ViTModel

from lookforward.errors import LookforwardError
from lookforward.toybox.training.clip import ClipSizes, evaluate_clip, export_clip, train_clip
from lookforward.toybox.training.dino import DinoSizes, evaluate_dino, export_dino, train_dino
from lookforward.toybox.training.loop import Schedule, run_stage
from lookforward.toybox.training.tokenizer import IDENTIFIERS, build_tokenizer, encode, save_tokenizer
from lookforward.toybox.training.unet import UnetSizes, export_unet, load_denoiser, train_unet
from lookforward.toybox.training.vae import VaeSizes, export_vae, train_vae

COUNT = 24
VAE = VaeSizes(channels=(8, 8, 16), groups=4)
CLIP = ClipSizes(hidden=16, text_layers=2, image_layers=1, heads=2, projection=8)
DINO = DinoSizes(hidden=24, layers=1, head_hidden=16, bottleneck=8, outputs=32, local_crops=2)
UNET = UnetSizes(channels=(16, 16, 16), heads=2, groups=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    colours = ("red", "blue", "green", "orange")
    captions = [
        [
            f"a photo of a {colours[i % 4]} striped vase, number {i}",
            f"a {colours[i % 4]} vase",
            "a vase",
            "a photo",
        ]
        for i in range(COUNT)
    ]
    (folder / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    return folder


def test_resuming_gives_the_weights_of_an_unbroken_run(tmp_path: Path, data: Path) -> None:
    def train(folder: Path, rows: int) -> None:
        stage = train_vae(data, folder, steps=6, batch=2, sizes=VAE, log_every=1)
        list(islice(stage, rows))
        stage.close()  # type: ignore[attr-defined]

    train(tmp_path / "whole", 99)
    train(tmp_path / "parts", 3)
    train(tmp_path / "parts", 99)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert any(key.startswith("ema.") for key in whole)
    assert any(key.startswith("adam.") for key in whole)
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
    rows = (tmp_path / "parts" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_other_sizes_do_not_resume(tmp_path: Path, data: Path) -> None:
    list(train_vae(data, tmp_path, steps=1, batch=2, sizes=VAE))
    with pytest.raises(LookforwardError, match="empty folder"):
        list(train_vae(data, tmp_path, steps=1, batch=2, sizes=VaeSizes(channels=(8, 8, 8), groups=4)))


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    stage = run_stage(
        folder=tmp_path,
        module=module,
        loss=lambda step, generator: {"loss": module.weight.sum() * float("nan")},
        schedule=Schedule(steps=2, learning_rate=0.1),
    )
    with pytest.raises(LookforwardError, match="not finite"):
        list(stage)
    assert torch.equal(before, module.weight)


def test_the_clock_ends_the_training(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    stage = run_stage(
        folder=tmp_path,
        module=module,
        loss=lambda step, generator: {"loss": module.weight.square().sum()},
        schedule=Schedule(steps=0, learning_rate=0.1, minutes=0.2 / 60),
    )
    rows = list(stage)
    assert rows[-1]["minutes"] == pytest.approx(0.2 / 60, abs=0.003)
    assert rows[-1]["rate"] < 0.01


def test_every_word_is_one_token_and_any_text_encodes(tmp_path: Path) -> None:
    texts = ["a photo of a banana vase on the beach", "bananas as vases, a cat's photo", "zigzag"]
    save_tokenizer(build_tokenizer(texts, extra=["teapot"]), tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == 32
    for word in [*" ".join(texts).replace(",", " ").replace("'s", " ").split(), "teapot", *IDENTIFIERS]:
        assert len(tokenizer(word).input_ids) == 3, word
    for text in ["a dog in snow", "größe 🙂 日本語 \x07", ""]:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in ids[1:-1]
    assert tokenizer.decode(tokenizer("a photo of sks vase").input_ids, skip_special_tokens=True) == (
        "a photo of sks vase"
    )
    assert encode(tokenizer, ["a", "a " * 50]).shape == (2, 32)


def test_dino_exports_what_transformers_loads(tmp_path: Path, data: Path) -> None:
    list(train_dino(data, tmp_path / "train", steps=2, batch=2, sizes=DINO))
    export_dino(tmp_path / "train", tmp_path / "dino")
    assert isinstance(ViTModel.from_pretrained(tmp_path / "dino", add_pooling_layer=False), ViTModel)
    assert ViTImageProcessor.from_pretrained(tmp_path / "dino").size["height"] == 64
    scores = evaluate_dino(tmp_path / "dino", data)
    assert 0 <= scores["top1"] <= 1


def test_the_stages_make_a_pipeline_that_diffusers_loads(tmp_path: Path, data: Path) -> None:
    list(train_vae(data, tmp_path / "v", steps=2, batch=2, sizes=VAE))
    export_vae(tmp_path / "v", tmp_path / "vae")
    list(train_clip(data, tmp_path / "c", steps=2, batch=4, sizes=CLIP))
    export_clip(tmp_path / "c", tmp_path / "clip")
    assert CLIPImageProcessor.from_pretrained(tmp_path / "clip").crop_size["height"] == 64
    model = CLIPModel.from_pretrained(tmp_path / "clip")
    assert model.config.text_config.eos_token_id == CLIPTokenizer.from_pretrained(tmp_path / "clip").eos_token_id
    assert 0 <= evaluate_clip(tmp_path / "clip", data)["top1"] <= 1

    parts = {"vae": tmp_path / "vae", "clip": tmp_path / "clip"}
    list(train_unet(data, tmp_path / "u", steps=2, batch=2, sizes=UNET, **parts))
    export_unet(tmp_path / "u", tmp_path / "toybox")
    list(train_unet(data, tmp_path / "u2", steps=1, batch=2, init=tmp_path / "toybox"))
    export_unet(tmp_path / "u2", tmp_path / "toybox2")
    for folder in (tmp_path / "toybox", tmp_path / "toybox2"):
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
        assert isinstance(pipeline.tokenizer, CLIPTokenizer)
        assert pipeline.safety_checker is None
        image = pipeline("a photo of sks vase", num_inference_steps=2).images[0]
        assert image.size == (64, 64)
    # The file holds the averaged weights, text encoder included.
    averaged = load_denoiser(tmp_path / "u")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "toybox")
    ids = encode(pipeline.tokenizer, ["a red vase"]).long()
    expected = averaged.text(ids).last_hidden_state
    assert torch.allclose(pipeline.text_encoder(ids).last_hidden_state, expected, atol=0.02)
    with safe_open(tmp_path / "toybox" / "unet" / "diffusion_pytorch_model.safetensors", framework="pt") as handle:
        assert json.loads(handle.metadata()["lookforward"])["stage"] == "unet"
        assert all(handle.get_tensor(key).dtype == torch.float16 for key in handle.keys())  # noqa: SIM118
