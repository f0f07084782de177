"""The benchmark on Stable Diffusion 1.4's own configuration, ViT-S/16 DINO and ViT-B/32 CLIP: weights by chance."""

import csv
import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    ViTConfig,
    ViTModel,
)

from conftest import NO_SAFETY_CHECKER, vae_blocks
from lookforward.cli import main
from lookforward_toybox import CLIP
from lookforward_toybox.subjects import write_photos
from lookforward_toybox.training.tokenizer import build_tokenizer

PROMPTS = """subject_name,class
teapot,teapot

Object Prompts
prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
]

Live Subject Prompts
prompt_list = [
'a {0} {1} in the snow'.format(unique_token, class_token),
]
"""


def sd_14(folder: Path) -> Path:
    """A pipeline folder of Stable Diffusion 1.4's parts but for its vocabulary, which is not ours to bundle."""
    tokenizer = build_tokenizer(["a photo of a sks teapot in the jungle"])
    tokenizer.model_max_length = 77
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            **vae_blocks(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(_text(len(tokenizer) - 1)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=PNDMScheduler(  # pyright: ignore[reportArgumentType]
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        **NO_SAFETY_CHECKER,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def _text(eos: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        hidden_act="quick_gelu",
        bos_token_id=eos - 1,
        eos_token_id=eos,
    )


def vit_s16(folder: Path) -> Path:
    config = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def vit_b32(folder: Path) -> Path:
    """ViT-B/32 CLIP with Toybox's vocabulary."""
    tokenizer = CLIPTokenizer.from_pretrained(str(CLIP))
    vision = CLIPVisionConfig(patch_size=32, projection_dim=512)
    text = CLIPTextConfig(
        max_position_embeddings=77,
        projection_dim=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=512)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject in the DreamBooth data set's layout."""
    folder = tmp_path_factory.mktemp("dataset")
    write_photos("teapot-0", folder / "teapot")
    (folder / "prompts_and_classes.txt").write_text(PROMPTS, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_dry_run_on_its_configuration(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of training, two of drawing, at 256 pixels: one subject, one prompt, every part of its true size.

    LoRA takes some 10 GiB of memory; all weights, with their gradients and moments, would take 25.
    """
    torch.manual_seed(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on the processor
    model, dino, clip = sd_14(tmp_path / "sd-1-4"), vit_s16(tmp_path / "dino"), vit_b32(tmp_path / "clip")
    output = tmp_path / "out"
    main([
        *("benchmark", "--dataset", str(dataset), "--model", str(model), "--dino", str(dino), "--clip", str(clip)),
        *("--recipes", "look-forward", "--adapters", "lora", "--images", "1", "--output", str(output)),
        *("--run.steps", "1", "--data.class-images", "1", "--data.class-image-steps", "1",
          "--evaluation.sampler-steps", "2", "--data.resolution", "256"),
    ])  # fmt: skip
    with open(output / "results.csv", encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"untouched", "look-forward@lora"}
    assert int(rows["look-forward@lora"]["parameters"]) == 797_184
    assert all(-1 <= float(row[score]) <= 1 for row in rows.values() for score in ("DINO", "CLIP-I", "CLIP-T"))
    asked = json.loads((output / "benchmark.json").read_text(encoding="utf-8"))
    assert asked["subjects"][0]["prompts"] == ["a {identifier} {class_noun} in the jungle"]
