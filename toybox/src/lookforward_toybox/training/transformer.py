"""Train the flow transformer of the 128-pixel models on cached latents, and export a StableDiffusion3Pipeline."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from lookforward.models.encoders.metadata import read_metadata
from lookforward.models.load_pipeline import forget_origin
from lookforward_toybox.training.attention import unfuse_attention
from lookforward_toybox.training.data import (
    describe_weights,
    hash_encoder,
    hash_file,
    load_as_float32,
    open_captions,
    open_images,
    train_count,
)
from lookforward_toybox.training.features import cache_features
from lookforward_toybox.training.flow_model import (
    ABSENT,
    FlowModel,
    TransformerSizes,
    make_transformer,
    text_of_clip,
    text_widths,
)
from lookforward_toybox.training.latents import cache_latents
from lookforward_toybox.training.loop import TrainingSchedule, describe, require_same, run_stage
from lookforward_toybox.training.state import load_averaged, load_settings
from lookforward_toybox.training.tokenizer import encode, encode_captions, pick_captions, save_tokenizer
from lookforward_toybox.training.unet import NOT_SIZES

ALIGN_WEIGHT = 0.5
WORDLESS = 0.1  # share of samples without a caption, for classifier-free guidance
ORTHOGONAL = (".attn.", ".ff.", ".ff_context.")  # matrices of the layers, except those that modulate
# Latents of 16 channels are resolved at high noise: a trained model knows half of their variance at level 0.87 and 80%
# at 0.7, so that unshifted levels (4% above 0.85) hardly train what an image shows.
SHIFT = 4.0


def make_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT)


def flow_terms(
    model: FlowModel, x_0: Tensor, ids: Tensor, features: Tensor | None, generator: torch.Generator
) -> dict[str, Tensor]:
    """Rectified flow (Liu et al., 2022) at logit-normal noise levels, shifted (Esser et al., 2024), and REPA.

    x_0: standardised latents (b, c, h, w); ids: tokens (b, l); features: DINO's patch tokens (b, n, d).
    """
    sigma = torch.sigmoid(torch.randn(len(x_0), generator=generator) + math.log(SHIFT))
    noise = torch.randn(x_0.shape, generator=generator)
    level = sigma.view(-1, 1, 1, 1)
    x_t = (1 - level) * x_0 + level * noise
    # The pipeline's caller chooses how many tokens stand for T5: any number up to its default has to do.
    model.attention.count = math.exp(float(torch.rand((), generator=generator)) * math.log(ABSENT))
    device = next(model.parameters()).device
    velocity, aligned = model(x_t.to(device), sigma.to(device), ids.to(device))
    mse = (velocity - (noise - x_0).to(device)).square().mean()
    if features is None or aligned is None:
        return {"loss": mse, "mse": mse}
    apart = 1 - F.cosine_similarity(aligned, features.to(device), dim=-1).mean()
    return {"loss": mse + ALIGN_WEIGHT * apart, "mse": mse, "apart": apart}


def train_transformer(
    data: Path,
    folder: Path,
    *,
    vae: Path,
    clip: Path,
    dino: Path | None = None,
    steps: int = 40_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 48,
    learning_rate: float = 6e-4,
    sizes: TransformerSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the transformer, yielding log rows.

    vae, clip: exported folders. dino: an exported subject encoder with as many patches as the transformer has image
    tokens, for a middle layer to be aligned with; None trains without.
    """
    sizes = sizes or TransformerSizes()
    torch.manual_seed(seed)  # initial weights
    text = text_of_clip(CLIPModel.from_pretrained(clip, dtype=torch.float32))
    unfuse_attention(text, device)
    found = 0 if dino is None else json.loads((dino / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    model = FlowModel(sizes, make_transformer(sizes, *text_widths(text)), text, found)
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    tokens, empty = encode_captions(tokenizer, open_captions(data)), encode(tokenizer, [""]).long()
    schedule = TrainingSchedule(steps, learning_rate, minutes, rates={"text.": 0.2}, orthogonal=ORTHOGONAL)
    settings = describe(
        "transformer",
        _sizes(sizes, text, found),
        data,
        schedule,
        seed,
        batch,
        vae=str(vae.resolve()),
        clip=str(clip.resolve()),
        encoder=hash_encoder(vae),
        aligned_with=None if dino is None else hash_file(dino / "model.safetensors"),
    )
    require_same(folder, settings)  # before all pictures are encoded
    images = open_images(data)
    latents = cache_latents(images, vae, folder / "latents", device)
    patches = None if dino is None else cache_features(images, dino, folder / "features", device)
    config = json.loads((vae / "config.json").read_text(encoding="utf-8"))
    shift, scale, count = config["shift_factor"], config["scaling_factor"], train_count(len(latents))

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count, (batch,), generator=generator)
        rows = np.sort(index.numpy())  # read in the order of the file
        index = torch.from_numpy(rows)
        mean, deviation = torch.from_numpy(latents[rows]).float().chunk(2, dim=1)
        x_0 = scale * (mean + deviation * torch.randn(mean.shape, generator=generator) - shift)
        ids = pick_captions(tokens, index, generator)
        ids = torch.where(torch.rand(batch, 1, generator=generator) < WORDLESS, empty, ids)
        features = None if patches is None else torch.from_numpy(patches[rows]).float()
        return flow_terms(model, x_0, ids, features, generator)

    yield from run_stage(
        folder=folder,
        module=model,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=settings,
        batch=batch,
        device=device,
        log_every=log_every,
    )


def _sizes(sizes: TransformerSizes, text: CLIPTextModelWithProjection, features: int) -> dict[str, Any]:
    """All that rebuilds the networks."""
    words = {key: value for key, value in text.config.to_diff_dict().items() if key not in NOT_SIZES}
    return {"transformer": dataclasses.asdict(sizes), "text": words, "features": features}


def load_flow_model(folder: Path) -> FlowModel:
    """The averaged transformer and text encoder of a training folder, in full precision."""
    found = load_settings(folder)["sizes"]
    sizes = TransformerSizes(**found["transformer"])
    text = CLIPTextModelWithProjection(CLIPTextConfig(**found["text"]))
    model = FlowModel(sizes, make_transformer(sizes, *text_widths(text)), text, found["features"])
    load_averaged(folder, model)
    return model


def export_transformer(folder: Path, target: Path, *, vae: Path | None = None, clip: Path | None = None) -> None:
    """Write a StableDiffusion3Pipeline folder in half precision, whose two text encoders are the same.

    vae and clip default to the folders that the transformer was trained with.
    """
    settings = load_settings(folder)
    model = load_flow_model(folder)
    vae, clip = vae or Path(settings["vae"]), clip or Path(settings["clip"])
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    text: Any = model.text.half()
    text.config.absent_t5_tokens = 1  # which lookforward then asks the pipeline for
    parts: dict[str, Any] = {
        "transformer": model.transformer.half(),
        "scheduler": make_flow_scheduler(),
        "vae": AutoencoderKL.from_pretrained(vae).half(),
        "text_encoder": text,
        "text_encoder_2": text,
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "text_encoder_3": None,
        "tokenizer_3": None,
    }
    StableDiffusion3Pipeline(**parts).save_pretrained(target, safe_serialization=True)
    forget_origin(target)
    public = {key: value for key, value in settings.items() if key != "sizes"}
    for name in ("text_encoder", "text_encoder_2"):
        load_as_float32(target / name)
        describe_weights(target / name / "model.safetensors", public)
    for name in ("tokenizer", "tokenizer_2"):
        save_tokenizer(tokenizer, target / name)
    describe_weights(target / "transformer" / "diffusion_pytorch_model.safetensors", public)
    origin = read_metadata(vae / "diffusion_pytorch_model.safetensors")
    describe_weights(target / "vae" / "diffusion_pytorch_model.safetensors", origin)
