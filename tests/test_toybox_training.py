"""The training code of Toybox on tiny random data."""

import json
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, ViTImageProcessor, ViTModel

from errors import raises
from lookforward.models.encoders import load_embedding
from lookforward_toybox.draw import draw_world
from lookforward_toybox.judge import Judge
from lookforward_toybox.labels import GROUPS
from lookforward_toybox.training.clip import ClipSizes, evaluate_clip, export_clip, train_clip
from lookforward_toybox.training.contrast import pair_contrast
from lookforward_toybox.training.dino import DinoSizes, evaluate_dino, export_dino, train_dino
from lookforward_toybox.training.loop import MUON_RATE, TrainingSchedule, run_stage
from lookforward_toybox.training.pack import pack, unpack
from lookforward_toybox.training.resnet import ResnetSizes, export_resnet, train_identity, train_judge
from lookforward_toybox.training.tokenizer import IDENTIFIERS, build_tokenizer, encode, save_tokenizer
from lookforward_toybox.training.unet import UnetSizes, export_unet, load_denoiser, train_unet
from lookforward_toybox.training.vae import VaeSizes, export_vae, train_vae
from lookforward_toybox.world.subject import CLASSES

COUNT = 24
VAE = VaeSizes(channels=(8, 8, 16), groups=4)
CLIP = ClipSizes(hidden=16, text_layers=2, image_layers=1, heads=2, projection=8)
DINO = DinoSizes(hidden=24, layers=1, head_hidden=16, bottleneck=8, outputs=32, local_crops=2)
RESNET = ResnetSizes(stem=8, hidden=(8, 16), depths=(1, 1))
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


def test_matrices_that_are_named_take_orthogonal_updates_and_resume(tmp_path: Path) -> None:
    def train(folder: Path, rows: int, beside: str = "a") -> torch.Tensor:
        torch.manual_seed(0)
        attn, head = torch.nn.Linear(6, 4), torch.nn.Linear(4, 1)
        model = torch.nn.ModuleDict({"attn": attn, "head": head})

        def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
            x = torch.randn(8, 6, generator=generator)
            return {"loss": (head(attn(x)) - x[:, :1]).square().mean()}

        before = attn.weight.detach().clone()
        schedule = TrainingSchedule(4, 0.1, warmup=0, weight_decay=0.0, orthogonal=("attn.",))
        settings = {"encoder": beside, "aligned_with": beside}
        stage = run_stage(
            folder=folder, module=model, loss=loss, schedule=schedule, settings=settings, autocast=False, log_every=1
        )
        list(islice(stage, rows))
        stage.close()  # type: ignore[attr-defined]
        return attn.weight.detach() - before

    values = torch.linalg.svdvals(train(tmp_path / "one", 1))  # of a gradient of rank 1, whatever its size
    assert values[0] == pytest.approx(MUON_RATE * 0.1 * 0.2 * 6**0.5, rel=0.5)
    train(tmp_path / "whole", 99)
    for rows in (2, 99):
        train(tmp_path / "parts", rows)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert [key for key in whole if key.startswith("muon.")] == ["muon.momentum_buffer.attn.weight"]
    assert {"adam.exp_avg.attn.bias", "adam.exp_avg.head.weight"} <= whole.keys()
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
    train(tmp_path / "short", 2)
    pack(tmp_path / "short", tmp_path / "packed.safetensors")
    assert not [key for key in load_file(tmp_path / "packed.safetensors") if key.startswith(("adam.", "muon."))]
    with raises("toybox-other-settings", "a, now b"):
        train(tmp_path / "short", 99, beside="b")
    unpack(tmp_path / "packed.safetensors", tmp_path / "again")
    train(tmp_path / "again", 99, beside="b")  # whose own packed state was exported again
    assert json.loads((tmp_path / "again" / "state.json").read_text())["step"] == 4


def test_other_sizes_do_not_resume(tmp_path: Path, data: Path) -> None:
    list(train_vae(data, tmp_path, steps=1, batch=2, sizes=VAE))
    with raises("toybox-other-settings", "sizes"):
        list(train_vae(data, tmp_path, steps=1, batch=2, sizes=VaeSizes(channels=(8, 8, 8), groups=4)))


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    stage = run_stage(
        folder=tmp_path,
        module=module,
        loss=lambda step, generator: {"loss": module.weight.sum() * float("nan")},
        schedule=TrainingSchedule(steps=2, learning_rate=0.1),
    )
    with raises("toybox-diverged", "--seed"):
        list(stage)
    assert torch.equal(before, module.weight)


def test_the_clock_ends_the_training(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    stage = run_stage(
        folder=tmp_path,
        module=module,
        loss=lambda step, generator: {"loss": module.weight.square().sum()},
        schedule=TrainingSchedule(steps=0, learning_rate=0.1, minutes=0.2 / 60),
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
    model: Any = CLIPModel.from_pretrained(tmp_path / "clip")
    assert model.config.text_config.eos_token_id == CLIPTokenizer.from_pretrained(tmp_path / "clip").eos_token_id
    assert 0 <= evaluate_clip(tmp_path / "clip", data)["top1"] <= 1

    parts: dict[str, Any] = {"vae": tmp_path / "vae", "clip": tmp_path / "clip"}
    list(train_unet(data, tmp_path / "u", steps=2, batch=2, sizes=UNET, **parts))
    export_unet(tmp_path / "u", tmp_path / "toybox")
    list(train_unet(data, tmp_path / "u2", steps=1, batch=2, init=tmp_path / "toybox"))
    export_unet(tmp_path / "u2", tmp_path / "toybox2")
    for folder in (tmp_path / "toybox", tmp_path / "toybox2"):
        pipeline: Any = StableDiffusionPipeline.from_pretrained(folder)
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


def test_clip_carries_over_the_words_that_both_know(tmp_path: Path, data: Path) -> None:
    list(train_clip(data, tmp_path / "c", steps=1, batch=4, sizes=CLIP))
    export_clip(tmp_path / "c", tmp_path / "clip")
    still: dict[str, Any] = {"steps": 1, "batch": 4, "learning_rate": 0.0, "init": tmp_path / "clip"}
    list(train_clip(data, tmp_path / "c2", sizes=CLIP, extra_words=["teapot"], **still))
    export_clip(tmp_path / "c2", tmp_path / "clip2")
    first, second = [cast(Any, CLIPModel.from_pretrained(tmp_path / name)) for name in ("clip", "clip2")]
    words, more = (CLIPTokenizer.from_pretrained(tmp_path / name).get_vocab() for name in ("clip", "clip2"))
    assert "teapot</w>" in more
    assert "teapot</w>" not in words
    old, new = (m.text_model.embeddings.token_embedding.weight for m in (first, second))
    for word in ("vase</w>", "red</w>", "<|endoftext|>"):
        assert torch.equal(new[more[word]], old[words[word]])
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(*(m.get_image_features(images).pooler_output for m in (first, second)))
    other = ClipSizes(hidden=8, text_layers=1, image_layers=1, heads=2, projection=8)
    with raises("toybox-other-sizes"):
        list(train_clip(data, tmp_path / "c3", sizes=other, **still))


def test_the_decoder_alone_leaves_the_latents_as_they_are(tmp_path: Path, data: Path) -> None:
    list(train_vae(data, tmp_path / "v", steps=2, batch=2, sizes=VAE))
    export_vae(tmp_path / "v", tmp_path / "vae")
    list(train_vae(data, tmp_path / "d", steps=2, batch=2, sizes=VAE, init=tmp_path / "vae", decoder_only=True))
    export_vae(tmp_path / "d", tmp_path / "vae2")
    before, after = (load_file(tmp_path / n / "diffusion_pytorch_model.safetensors") for n in ("vae", "vae2"))
    for name, tensor in before.items():
        fixed = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(tensor, after[name]) or not fixed, name
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("decoder."))
    scales = [json.loads((tmp_path / n / "config.json").read_text())["scaling_factor"] for n in ("vae", "vae2")]
    assert scales[0] == pytest.approx(scales[1], rel=1e-3)


def test_the_networks_that_judge_learn_and_are_loaded_by_transformers(tmp_path: Path) -> None:
    draw_world(tmp_path / "data", 60, seed=2, workers=1)
    rows = list(train_judge(tmp_path / "data", tmp_path / "j", steps=30, batch=16, sizes=RESNET, log_every=10))
    assert rows[-1]["loss"] < rows[0]["loss"]
    export_resnet(tmp_path / "j", tmp_path / "judge")
    answers = Judge(tmp_path / "judge")(torch.rand(3, 3, 64, 64))
    assert len(answers) == 3
    assert answers[0].keys() == GROUPS.keys()
    assert answers[0]["class_noun"] in CLASSES
    rows = list(train_identity(tmp_path / "data", tmp_path / "i", steps=30, batch=8, sizes=RESNET, log_every=10))
    assert rows[-1]["loss"] < rows[0]["loss"]
    export_resnet(tmp_path / "i", tmp_path / "identity")
    embeddings = load_embedding(tmp_path / "identity")(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_pairs_that_agree_have_the_least_contrast() -> None:
    features = torch.eye(6)
    right, top1 = pair_contrast(features, features, 0.1)
    wrong, none = pair_contrast(features, features.roll(1, 0), 0.1)
    assert right < 0.01 < 5 < wrong
    assert (top1, none) == (1.0, 0.0)
