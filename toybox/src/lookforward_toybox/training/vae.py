"""Train the autoencoder of Toybox: 64x64 images to 16x16x4 latents."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.models.encoders.metadata import read_metadata
from lookforward_toybox.training.data import (
    describe_weights,
    draw,
    hash_encoder,
    hash_file,
    open_images,
    train_count,
)
from lookforward_toybox.training.loop import TrainingSchedule, describe, run_stage
from lookforward_toybox.training.state import load_averaged, load_settings

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class VaeSizes:
    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    latent_channels: int = 4
    groups: int = 8
    image: int = 64


def make_vae(sizes: VaeSizes) -> AutoencoderKL:
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * len(sizes.channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(sizes.channels),
        "block_out_channels": tuple(sizes.channels),
        "layers_per_block": sizes.layers,
        "latent_channels": sizes.latent_channels,
        "norm_num_groups": sizes.groups,
        "sample_size": sizes.image,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**config)


def posterior(vae: AutoencoderKL, images: Tensor) -> DiagonalGaussianDistribution:
    """Distribution of unscaled latents of images (b, 3, h, w) in [-1, 1], always in full precision."""
    encoded = vae.encoder(images)
    return DiagonalGaussianDistribution((encoded if vae.quant_conv is None else vae.quant_conv(encoded)).float())


def restore(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Unscaled latents (b, c, h, w) to images in full precision."""
    decoder: Any = vae  # diffusers annotates another type of tensor
    return decoder.decode(latents).sample.float()


def read_photos(folder: Path) -> list[Tensor]:
    """Photos of a folder, short side 128, each (3, h, w) uint8."""
    photos: list[Tensor] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES):
        try:
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise LookforwardError(
                f"{path} cannot be read as a photo ({error}); remove it from the folder.", code="photo-unreadable"
            ) from error
        scale = 128 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        photos.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    if not photos:
        raise LookforwardError(
            f"{folder} has no photos ({', '.join(sorted(PHOTO_SUFFIXES))}); leave --real-photos out.",
            code="photos-missing",
        )
    return photos


def crop_photo(photo: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random square of a photo, (3, size, size) in [-1, 1]."""
    _, height, width = photo.shape
    side = _integer(size, min(height, width), generator)
    top, left = _integer(0, height - side, generator), _integer(0, width - side, generator)
    crop = photo[None, :, top : top + side, left : left + side].float().div(127.5).sub(1.0)
    return F.interpolate(crop, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def crop_batch(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random square of each image, (b, 3, size, size)."""
    room = images.shape[-1] - size
    corners = torch.randint(room + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([i[:, y : y + size, x : x + size] for i, (y, x) in zip(images, corners, strict=True)])


def flip_some(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, (b, 3, h, w)."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None].to(images.device), images.flip(-1), images)


def vae_terms(
    vae: AutoencoderKL, images: Tensor, generator: torch.Generator, kl_weight: float = 1e-6
) -> dict[str, Tensor]:
    """Loss terms on images (b, 3, h, w) in [-1, 1].

    The divergence is summed over the latents and divided by the number of image values, so that
    its weight means what it means for Stable Diffusion's autoencoder.
    """
    latents = posterior(vae, images)
    noise = torch.randn(latents.mean.shape, generator=generator).to(images.device)
    error = restore(vae, latents.mean + latents.std * noise) - images
    l1, mse = error.abs().mean(), error.square().mean()
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = latents.kl().mean() / images[0].numel()
    loss = l1 + 2 * mse + 0.25 * gradient + kl_weight * kl
    return {"loss": loss, "l1": l1, "mse": mse, "gradient": gradient, "kl": kl}


def decoder_terms(vae: AutoencoderKL, images: Tensor) -> dict[str, Tensor]:
    """Loss terms of the decoder alone on images (b, 3, h, w) in [-1, 1], latents given: minus their mean PSNR.

    A logarithm for each image: a hundredth off a plain picture then counts as much as a tenth off a busy one.
    """
    error = restore(vae, posterior(vae, images).mean) - images
    mse = error.square().mean(dim=(1, 2, 3))  # (b,)
    return {"loss": 0.1 * mse.clamp_min(1e-8).log().mean(), "mse": mse.mean(), "l1": error.abs().mean()}


def train_vae(
    data: Path,
    folder: Path,
    *,
    steps: int = 20_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 16,
    learning_rate: float = 1e-3,
    photos: Path | None = None,
    init: Path | None = None,
    decoder_only: bool = False,
    sizes: VaeSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the autoencoder in `folder`, yielding log rows.

    photos: real ones to mix in. init: an exported autoencoder of the same sizes to start from. decoder_only: leave
    the latents as they are, for a denoiser that has learned them.
    """
    sizes = sizes or VaeSizes()
    images = open_images(data)
    count = train_count(len(images))
    extra = read_photos(photos) if photos is not None else []
    torch.manual_seed(seed)  # initial weights
    vae = make_vae(sizes)
    if init is not None:
        vae.load_state_dict(AutoencoderKL.from_pretrained(init, torch_dtype=torch.float32).state_dict())
    if decoder_only:
        assert vae.quant_conv is not None
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        # Every other batch is quarter crops, four times as many: the same cost, more variety.
        # The decoder's own stage sees whole ones, as it is used: a crop's edge teaches it about edges.
        quarters = step % 2 == 1 and not decoder_only
        size = batch * (4 if quarters else 1)
        picked = draw(images, count, size, generator)
        replaced = round(0.15 * size) if extra else 0
        for row in range(replaced):
            photo = extra[_integer(0, len(extra) - 1, generator)]
            picked[row] = crop_photo(photo, sizes.image, generator)
        picked = crop_batch(picked, sizes.image // 2, generator) if quarters else picked
        picked = flip_some(picked.to(device), generator)
        return decoder_terms(vae, picked) if decoder_only else vae_terms(vae, picked, generator)

    schedule = TrainingSchedule(steps, learning_rate, minutes)
    yield from run_stage(
        folder=folder,
        module=vae,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=describe(
            "decoder" if decoder_only else "vae",
            dataclasses.asdict(sizes),
            data,
            schedule,
            seed,
            batch,
            photo_count=len(extra),
            **_origin(init, decoder_only),
        ),
        batch=batch * 5 // 2,
        device=device,
        log_every=log_every,
    )


def _origin(init: Path | None, decoder_only: bool) -> dict[str, Any]:
    """What an autoencoder began from; of a decoder, whose latents it decodes and how that encoder was trained."""
    if init is None:
        return {"begun_from": "chance"}
    weights = init / "diffusion_pytorch_model.safetensors"
    if not decoder_only:
        return {"begun_from": hash_file(weights)}
    earlier = read_metadata(weights)
    earlier = earlier.get("encoder_training", earlier)  # it may hold a decoder of that encoder already
    return {"encoder": hash_encoder(init), "encoder_training": earlier}


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, images: Tensor, batch: int = 32) -> float:
    """1 / standard deviation of the latents of images (b, 3, h, w) in [-1, 1]."""
    latents = [posterior(vae, part).mean for part in images.split(batch)]
    return 1.0 / float(torch.cat(latents).std())


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Tensor, batch: int = 32) -> float:
    """Mean peak signal-to-noise ratio in dB of restored images (b, 3, h, w) in [-1, 1]; better higher."""
    scores: list[Tensor] = []
    for part in images.split(batch):
        restored = restore(vae, posterior(vae, part).mean).clamp(-1, 1)
        mse = (restored - part).square().mean(dim=(1, 2, 3))
        scores.append(10 * torch.log10(4.0 / mse.clamp_min(1e-10)))
    return float(torch.cat(scores).mean())


def load_vae(folder: Path) -> AutoencoderKL:
    """The averaged autoencoder of a training folder, in full precision."""
    sizes = load_settings(folder)["sizes"]
    vae = make_vae(VaeSizes(**sizes))
    load_averaged(folder, vae)
    return vae


def export_vae(folder: Path, target: Path, data: Path | None = None, scale: float | None = None) -> None:
    """Write the averaged autoencoder in half precision, as diffusers loads it, with its scaling factor.

    `data` defaults to the data folder that it was trained on; `scale` to what brings its latents to unit deviation.
    """
    settings = load_settings(folder)
    vae = load_vae(folder)
    if scale is None:
        images = open_images(data or Path(settings["data"]))
        sample = draw(images, len(images), min(512, len(images)), torch.Generator().manual_seed(0))
        scale = latent_scale(vae, sample)
    if not math.isfinite(scale):
        raise LookforwardError(
            f"The latents of {folder} do not vary; train the autoencoder longer.", code="toybox-latents-constant"
        )
    vae.register_to_config(scaling_factor=scale, force_upcast=False)
    vae.half().save_pretrained(target, safe_serialization=True)
    describe_weights(target / "diffusion_pytorch_model.safetensors", settings)


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Random integer, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
