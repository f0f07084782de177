"""Train the autoencoder of the 128-pixel models: 128x128 images to 16x16x16 latents.

What differs from `vae`: three steps of four see quarter crops; an SSIM term; a stronger KL, which gives up what the
latents hold below their noise; and in every fourth step the latents are halved in size and have to give the halved
image (Skorokhodov et al., 2025), so that a denoiser finds in them the scales that it finds in images.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward_toybox.training.data import describe_weights, draw, hash_file, open_images, train_count
from lookforward_toybox.training.loop import TrainingSchedule, describe, run_stage
from lookforward_toybox.training.state import load_settings
from lookforward_toybox.training.vae import (
    PHOTO_SUFFIXES,
    VaeSizes,
    crop_batch,
    crop_photo,
    decoder_terms,
    flip_some,
    load_vae,
    make_vae,
    posterior,
    restore,
)

SIZES = VaeSizes(channels=(32, 64, 96, 128), latent_channels=16, image=128)
PHOTO_SIDE = 192  # short side of a real photo, of which squares of 128 and more are cut
PHOTO_SHARE = 0.2
KL_WEIGHT = 2e-3
_LUMA = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)


def ssim(restored: Tensor, images: Tensor) -> Tensor:
    """Mean structural similarity of the brightness of (b, 3, h, w) in [-1, 1], in windows of 7; at most 1."""
    luma = _LUMA.to(images.device)
    x, y = (restored * luma).sum(dim=1, keepdim=True), (images * luma).sum(dim=1, keepdim=True)
    means = F.avg_pool2d(torch.cat([x, y, x * x, y * y, x * y], dim=1), 7, stride=3)
    m_x, m_y, xx, yy, xy = means.unbind(dim=1)
    c_1, c_2 = 0.02**2, 0.06**2  # for a range of 2
    top = (2 * m_x * m_y + c_1) * (2 * (xy - m_x * m_y) + c_2)
    return (top / ((m_x * m_x + m_y * m_y + c_1) * (xx - m_x * m_x + yy - m_y * m_y + c_2))).mean()


def autoencoder_terms(
    vae: AutoencoderKL, images: Tensor, generator: torch.Generator, halved: bool = False
) -> dict[str, Tensor]:
    """Loss terms on images (b, 3, h, w) in [-1, 1]; `halved` decodes the latents at half their size."""
    latents = posterior(vae, images)
    noise = torch.randn(latents.mean.shape, generator=generator).to(images.device)
    z, target = latents.mean + latents.std * noise, images
    if halved:
        z = F.avg_pool2d(z, 2)
        target = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
    restored = restore(vae, z)
    error = restored - target
    l1, mse = error.abs().mean(), error.square().mean()
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    structure = 1 - ssim(restored, target)
    kl = latents.kl().mean() / images[0].numel()
    loss = l1 + 2 * mse + 0.25 * gradient + 0.05 * structure + KL_WEIGHT * kl
    name = "halved_l1" if halved else "l1"
    return {"loss": loss, name: l1, "mse": mse, "structure": structure, "kl": kl}


@torch.no_grad()
def take_outer_layers(vae: AutoencoderKL, source: Path) -> int:
    """Start `vae` from the layers of an autoencoder with one halving less, in place; returns how many tensors it took.

    Those nearest the image are the same in both: the first blocks of the encoder, the last ones of the decoder.
    """
    theirs = AutoencoderKL.from_pretrained(source, torch_dtype=torch.float32).state_dict()
    taken = 0
    for name, value in vae.state_dict().items():
        part, block, *rest = name.split(".", 2)
        if block == "up_blocks":
            index, tail = rest[0].split(".", 1)
            name = f"{part}.up_blocks.{int(index) - 1}.{tail}"
        elif not name.startswith(
            ("encoder.conv_in", "encoder.down_blocks", "decoder.conv_norm_out", "decoder.conv_out")
        ):
            continue
        if name in theirs and theirs[name].shape == value.shape:
            value.copy_(theirs[name])
            taken += 1
    return taken


def read_large_photos(folder: Path) -> list[Tensor]:
    """Photos under a folder, short side 192, each (3, h, w) uint8."""
    photos = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES):
        try:
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise LookforwardError(
                f"{path} cannot be read as a photo ({error}); remove it from the folder.", code="photo-unreadable"
            ) from error
        image = ImageOps.scale(image, PHOTO_SIDE / min(image.size), Image.Resampling.LANCZOS)
        photos.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    if not photos:
        raise LookforwardError(
            f"{folder} has no photos ({', '.join(sorted(PHOTO_SUFFIXES))}); leave --real-photos out.",
            code="photos-missing",
        )
    return photos


def vary_photo(photo: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random square of a photo, (3, size, size) in [-1, 1], half of the time with its channels exchanged.

    There are few photos: other colours make more of them.
    """
    square = crop_photo(photo, size, generator)
    if float(torch.rand((), generator=generator)) < 0.5:
        square = square[torch.randperm(3, generator=generator)]
    return square.flip(-2) if float(torch.rand((), generator=generator)) < 0.25 else square


def train_autoencoder(
    data: Path,
    folder: Path,
    *,
    steps: int = 20_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 4,
    learning_rate: float = 8e-4,
    photos: Path | None = None,
    init: Path | None = None,
    outer: Path | None = None,
    decoder_only: bool = False,
    sizes: VaeSizes = SIZES,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the autoencoder in `folder`, yielding log rows.

    batch: whole images a step, or four times as many quarter crops. photos: real ones to mix in. init: an exported
    autoencoder to start from. outer: an exported one of half the side whose outer layers it starts from.
    decoder_only: train the decoder alone, mostly on whole images, for minus their PSNR.
    """
    images = open_images(data)
    count = train_count(len(images))
    extra = read_large_photos(photos) if photos is not None else []
    torch.manual_seed(seed)  # initial weights
    vae = make_vae(sizes)
    if init is not None:
        vae.load_state_dict(AutoencoderKL.from_pretrained(init, torch_dtype=torch.float32).state_dict())
    if outer is not None and init is None:
        take_outer_layers(vae, outer)
    if decoder_only:
        assert vae.quant_conv is not None
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        quarters = step % 2 == 0 if decoder_only else step % 4 > 0
        size = batch * (4 if quarters else 1)
        picked = draw(images, count, size, generator)
        for row in range(round(PHOTO_SHARE * size) if extra else 0):
            which = int(torch.randint(len(extra), (), generator=generator))
            picked[row] = vary_photo(extra[which], sizes.image, generator)
        picked = crop_batch(picked, sizes.image // 2, generator) if quarters else picked
        picked = flip_some(picked.to(device), generator)
        if decoder_only:
            return decoder_terms(vae, picked)
        return autoencoder_terms(vae, picked, generator, halved=step % 4 == 2)

    schedule = TrainingSchedule(steps, learning_rate, minutes)
    earlier = init or outer
    origin = {} if earlier is None else {"begun_from": hash_file(earlier / "diffusion_pytorch_model.safetensors")}
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
            **origin,
        ),
        batch=batch * (5 if decoder_only else 13) // (2 if decoder_only else 4),
        device=device,
        log_every=log_every,
    )


@torch.no_grad()
def latent_moments(vae: AutoencoderKL, images: Tensor, batch: int = 16) -> tuple[float, float]:
    """Mean and standard deviation of the latents of images (b, 3, h, w) in [-1, 1]."""
    latents = torch.cat([posterior(vae, part).mean for part in images.split(batch)])
    return float(latents.mean()), float(latents.std())


def export_autoencoder(folder: Path, target: Path, *, keep_scale: bool = False) -> None:
    """Write the averaged autoencoder in half precision, with the shift and scale that make its latents standard.

    keep_scale: take both from the export that `target` already holds, for a decoder whose latents are known.
    """
    settings = load_settings(folder)
    vae = load_vae(folder)
    if keep_scale:
        config = json.loads((target / "config.json").read_text(encoding="utf-8"))
        shift, scale = config["shift_factor"], config["scaling_factor"]
    else:
        images = open_images(Path(settings["data"]))
        mean, deviation = latent_moments(vae, draw(images, len(images), 256, torch.Generator().manual_seed(0)))
        shift, scale = mean, 1 / max(deviation, 1e-12)
    if not math.isfinite(scale) or scale > 1e6:
        raise LookforwardError(
            f"The latents of {folder} do not vary; train the autoencoder longer.", code="toybox-latents-constant"
        )
    vae.register_to_config(scaling_factor=scale, shift_factor=shift, force_upcast=False)
    vae.half().save_pretrained(target, safe_serialization=True)
    describe_weights(target / "diffusion_pytorch_model.safetensors", settings)
