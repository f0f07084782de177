"""Train the denoiser of Toybox on cached latents, with its text encoder, and export the whole pipeline."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lookforward.errors import LookforwardError
from lookforward.models.encoders.metadata import read_metadata
from lookforward.models.load_pipeline import forget_origin
from lookforward_toybox.training.data import (
    describe_weights,
    hash_encoder,
    hash_file,
    load_as_float32,
    open_captions,
    open_images,
    train_count,
)
from lookforward_toybox.training.latents import cache_latents
from lookforward_toybox.training.loop import TrainingSchedule, describe, require_same, run_stage
from lookforward_toybox.training.state import load_averaged, load_settings
from lookforward_toybox.training.tokenizer import encode, encode_captions, pick_captions, save_tokenizer

# What transformers notes beside the sizes, and which changes with its version or the file's precision.
NOT_SIZES = ("architectures", "dtype", "transformers_version", "_name_or_path")


@dataclass(frozen=True)
class UnetSizes:
    channels: tuple[int, ...] = (64, 128, 192)
    layers: int = 1
    heads: int = 4
    groups: int = 16
    sample: int = 16
    latent_channels: int = 4


class Denoiser(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """Predicted noise (b, c, h, w) at timesteps (b,) for tokens (b, l)."""
        return self.unet(x_t, t, encoder_hidden_states=self.text(ids).last_hidden_state).sample.float()


def make_unet(sizes: UnetSizes, cross_attention: int) -> UNet2DConditionModel:
    crossed = len(sizes.channels) - 1
    return UNet2DConditionModel(
        sample_size=sizes.sample,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        block_out_channels=tuple(sizes.channels),
        layers_per_block=sizes.layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * crossed),
        up_block_types=(*["CrossAttnUpBlock2D"] * crossed, "UpBlock2D"),
        cross_attention_dim=cross_attention,
        attention_head_dim=sizes.heads,  # the number of heads, whatever its name says
        norm_num_groups=sizes.groups,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.4's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def denoising_terms(
    model: Denoiser, scheduler: DDIMScheduler, x_0: Tensor, ids: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Noise reconstruction weighted by min(SNR, 5) / SNR (Hang et al. 2023).

    x_0: scaled latents (b, c, h, w); ids: tokens (b, l).
    """
    t = torch.randint(scheduler.config["num_train_timesteps"], (len(x_0),), generator=generator)
    noise = torch.randn(x_0.shape, generator=generator)
    alpha_bar = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
    snr = (alpha_bar / (1 - alpha_bar)).flatten()
    device = next(model.parameters()).device
    action = model(x_t.to(device), t.to(device), ids.to(device))
    error = (action - noise.to(device)).square().mean(dim=(1, 2, 3))  # (b,)
    weight = (snr.clamp(max=5.0) / snr).to(device)
    return {"loss": (weight * error).mean(), "mse": error.mean()}


@dataclass(frozen=True)
class Parts:
    """Folders that the denoiser depends on."""

    vae: Path
    tokenizer: Path
    text: Path
    unet: Path | None


def find_parts(vae: Path | None, clip: Path | None, init: Path | None) -> Parts:
    """An earlier pipeline supplies what is not given."""
    if init is not None:
        return Parts(vae or init / "vae", clip or init / "tokenizer", clip or init / "text_encoder", init / "unet")
    if vae is None or clip is None:
        raise LookforwardError(
            "The denoiser needs the exported vae and clip folders, or init, a pipeline folder.",
            code="toybox-stage-missing",
        )
    return Parts(vae, clip, clip, None)


def train_unet(
    data: Path,
    folder: Path,
    *,
    vae: Path | None = None,
    clip: Path | None = None,
    init: Path | None = None,
    steps: int = 40_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 48,
    learning_rate: float = 6e-4,
    sizes: UnetSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the denoiser, yielding log rows.

    vae, clip: exported folders. init: an exported pipeline to train on further; the sizes are then its own, and
    so are the parts that are not given.
    """
    parts = find_parts(vae, clip, init)
    torch.manual_seed(seed)  # initial weights
    model = _start(parts, sizes or UnetSizes())
    tokenizer = CLIPTokenizer.from_pretrained(parts.tokenizer)
    tokens, empty = encode_captions(tokenizer, open_captions(data)), encode(tokenizer, [""]).long()
    schedule = TrainingSchedule(steps, learning_rate, minutes, rates={"text.": 0.2})
    settings = describe(
        "unet",
        _sizes(model),
        data,
        schedule,
        seed,
        batch,
        vae=str(parts.vae.resolve()),
        clip=str(parts.tokenizer.resolve()),
        encoder=hash_encoder(parts.vae),
        begun_from=hash_file(parts.unet / "diffusion_pytorch_model.safetensors") if parts.unet else "chance",
    )
    require_same(folder, settings)  # before all pictures are encoded
    latents = cache_latents(open_images(data), parts.vae, folder / "latents", device)
    scale = json.loads((parts.vae / "config.json").read_text(encoding="utf-8"))["scaling_factor"]
    scheduler, count = make_scheduler(), train_count(len(latents))

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count, (batch,), generator=generator)
        mean, deviation = torch.from_numpy(latents[index.numpy()]).float().chunk(2, dim=1)
        x_0 = scale * (mean + deviation * torch.randn(mean.shape, generator=generator))
        ids = pick_captions(tokens, index, generator)
        # A tenth without words, for classifier-free guidance.
        wordless = torch.rand(batch, 1, generator=generator) < 0.1
        return denoising_terms(model, scheduler, x_0, torch.where(wordless, empty, ids), generator)

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


def _start(parts: Parts, sizes: UnetSizes) -> Denoiser:
    """The text model of a CLIP or of a pipeline, beside a new denoiser or an earlier one."""
    whole_clip = "text_config" in json.loads((parts.text / "config.json").read_text(encoding="utf-8"))
    text = (
        CLIPModel.from_pretrained(parts.text, dtype=torch.float32).text_model
        if whole_clip
        else CLIPTextModel.from_pretrained(parts.text, dtype=torch.float32)
    )
    if parts.unet is None:
        return Denoiser(make_unet(sizes, text.config.hidden_size), text)
    return Denoiser(UNet2DConditionModel.from_pretrained(parts.unet, torch_dtype=torch.float32), text)


def _sizes(model: Denoiser) -> dict[str, Any]:
    """All that rebuilds the two networks."""
    config = {key: value for key, value in model.unet.config.items() if not key.startswith("_")}
    text = model.text.config.to_diff_dict()
    return {"unet": config, "text": {key: value for key, value in text.items() if key not in NOT_SIZES}}


def load_denoiser(folder: Path) -> Denoiser:
    """The averaged denoiser of a training folder, in full precision."""
    sizes = load_settings(folder)["sizes"]
    text = CLIPTextModel(CLIPTextConfig(**sizes["text"]))
    model = Denoiser(UNet2DConditionModel(**sizes["unet"]), text)
    load_averaged(folder, model)
    return model


def export_unet(folder: Path, target: Path, vae: Path | None = None, tokenizer: Path | None = None) -> None:
    """Write a StableDiffusionPipeline folder in half precision.

    vae and tokenizer default to the folders that the denoiser was trained with.
    """
    settings = load_settings(folder)
    model = load_denoiser(folder)
    parts: dict[str, Any] = {
        "vae": AutoencoderKL.from_pretrained(vae or settings["vae"]).half(),
        "text_encoder": model.text.half(),
        "tokenizer": CLIPTokenizer.from_pretrained(tokenizer or settings["clip"]),
        "unet": model.unet.half(),
        "scheduler": make_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.save_pretrained(target, safe_serialization=True)
    forget_origin(target)
    load_as_float32(target / "text_encoder")
    save_tokenizer(parts["tokenizer"], target / "tokenizer")
    origin = read_metadata((vae or Path(settings["vae"])) / "diffusion_pytorch_model.safetensors")
    public = {key: value for key, value in settings.items() if key != "sizes"}
    describe_weights(target / "unet" / "diffusion_pytorch_model.safetensors", public)
    describe_weights(target / "text_encoder" / "model.safetensors", public)
    describe_weights(target / "vae" / "diffusion_pytorch_model.safetensors", origin)
