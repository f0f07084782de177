"""Measure the 128-pixel models, each figure beside its goal; whatever is trained already is measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from PIL import Image, ImageOps
from torch import Tensor

from lookforward.errors import LookforwardError
from lookforward.models.encoders import load_clip, load_dino, load_embedding, to_unit
from lookforward.models.load_pipeline import build_pipeline
from lookforward_toybox import Weights
from lookforward_toybox.bounds import bounds
from lookforward_toybox.check import (
    Request,
    captioned_pictures,
    draw_changes,
    draw_emblems,
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    retrieval,
    subject_classes,
)
from lookforward_toybox.figure import Figure, figure_of
from lookforward_toybox.judge import Judge
from lookforward_toybox.measure import evaluators_of
from lookforward_toybox.training.vae import PHOTO_SUFFIXES

SIDE = 128
GOALS: dict[str, float | None] = {"class_noun": 0.95, "scene": 0.95, "colour": 0.85}
STEPS, GUIDANCE = 28, 4.0
MEASURING = ("clip", "dino", "identity")  # encoders of the ceilings and floors, which come last
WITHOUT_T5: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None}  # diffusers requires these arguments


def load_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    """The pipeline of a folder, in single precision and quiet."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **WITHOUT_T5)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def draw_128(
    pipeline: StableDiffusion3Pipeline, prompts: Sequence[str], seed: int = 0, steps: int = STEPS, batch: int = 16
) -> np.ndarray:
    """Draw a picture for each prompt, the i-th from seed + i: (n, 128, 128, 3) uint8."""
    drawn: list[np.ndarray] = []
    for start in range(0, len(prompts), batch):
        some = list(prompts[start : start + batch])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(some))]
        out: Any = pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=generators,
            output_type="np",
            max_sequence_length=1,
        )
        drawn.append((out.images * 255 + 0.5).astype(np.uint8))
    return np.concatenate(drawn)


@torch.no_grad()
def measure_128(
    weights: Weights, count: int = 300, seed: int = 0, real_photos: Path | None = None, drawn: bool = True
) -> Iterator[Figure]:
    """Yield each figure as it is measured, on `count` drawn images, a quarter for outfits and properties.

    weights: an export folder, which need not hold every model yet; an autoencoder without a pipeline is measured too.
    real_photos: folders of photos, one a subject, that the autoencoder was not trained on. drawn: draw images at all.
    """
    if count < 1:
        raise LookforwardError(f"--images {count}: draw 1 image or more.", code="option-range")
    pictures, owners = held_out_pictures(views=5, size=SIDE)
    units = to_unit(pictures)
    vae = next((f for f in (weights.pipeline / "vae", weights.folder / "vae") if (f / "config.json").is_file()), None)
    if vae is not None:
        yield from _autoencoder(vae, units, owners, real_photos)
    yield from _encoders(weights, units, owners)
    if (weights.clip / "config.json").is_file():
        yield from _captions(weights.clip)
    if not (weights.judge / "config.json").is_file():
        return
    judge = Judge(weights.judge)
    pipeline = load_pipeline(weights.pipeline) if drawn and (weights.pipeline / "model_index.json").is_file() else None
    yield from _judged(pipeline, judge, draw_requests(count, seed), seed, GOALS)
    asked = draw_changes(max(1, count // 4), seed)
    for requests, group, goal in zip(asked, ("outfit", "look"), (0.85, 0.95), strict=True):
        yield from _judged(pipeline, judge, requests, seed, {group: goal})
    yield from _judged(pipeline, judge, draw_emblems(count, seed), seed, {"emblem": 0.7, "emblem_colour": None})
    if pipeline is not None and all((weights.folder / name / "config.json").is_file() for name in MEASURING):
        yield from bounds(build_pipeline(str(weights.pipeline), "cpu"), evaluators_of(weights), SIDE, STEPS)


def _autoencoder(folder: Path, units: Tensor, owners: np.ndarray, real_photos: Path | None) -> Iterator[Figure]:
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
    yield figure_of("autoencoder, PSNR on held-out subjects", psnr_of(vae, units), owners, 29, " dB")
    if real_photos is not None:
        photos, whose = read_real(real_photos)
        yield figure_of("autoencoder, PSNR on real photos", psnr_of(vae, to_unit(photos)), whose, 29, " dB")


@torch.no_grad()
def psnr_of(vae: AutoencoderKL, units: Tensor, batch: int = 16) -> np.ndarray:
    """PSNR in dB of images (n, 3, h, w) in [0, 1] after the autoencoder and 8 bits, (n,)."""
    model: Any = vae
    found = []
    for part in units.split(batch):
        restored = model.decode(model.encode(part * 2 - 1).latent_dist.mean).sample
        restored = ((restored.clamp(-1, 1) + 1) * 127.5).round() / 255
        found.append(-10 * torch.log10((restored - part).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)))
    return torch.cat(found).numpy()


def read_real(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The central square of every photo of every folder in `folder`, (n, 128, 128, 3) uint8, and whose it is, (n,)."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    squares, whose = [], []
    for i, part in enumerate(folders):
        for path in sorted(p for p in part.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES):
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
            squares.append(np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.LANCZOS)))
            whose.append(i)
    if not squares:
        raise LookforwardError(
            f"{folder} has no folders of photos: give one with a folder for each subject.", code="photos-missing"
        )
    return np.stack(squares), np.array(whose)


def _encoders(weights: Weights, units: Tensor, owners: np.ndarray) -> Iterator[Figure]:
    """Whether the same subject is found in another scene."""
    loaders: Mapping[str, Any] = {
        "DINO": (weights.dino, load_dino, 0.9),
        "identity": (weights.identity, load_embedding, 0.9),
        "CLIP image": (weights.clip, lambda folder: load_clip(folder).image, None),
    }
    for name, (folder, load, goal) in loaders.items():
        if (folder / "config.json").is_file():
            found = retrieval(load(folder)(units), owners, subject_classes()[owners])
            yield figure_of(f"{name}, same subject among 30, top 1", found["top1"], goal=goal)


def _captions(folder: Path) -> Iterator[Figure]:
    """Whether CLIP finds the caption of a held-out subject's picture among a hundred."""
    clip = load_clip(folder)
    pictures, captions = captioned_pictures(size=SIDE)
    images = torch.cat([clip.image(part) for part in to_unit(pictures).split(100)])
    texts = clip.text(captions)
    sets = np.random.default_rng(0).permutation(len(captions)).reshape(-1, 100)
    hits = [named_right(images[some], texts[some], [captions[i] for i in some]) for some in sets]
    owners = np.arange(len(captions)) % len(subject_classes())
    yield figure_of("CLIP, right caption among 100", np.concatenate(hits), owners[sets.reshape(-1)], 0.9)


def _judged(
    pipeline: StableDiffusion3Pipeline | None,
    judge: Judge,
    requests: Sequence[Request],
    seed: int,
    goals: Mapping[str, float | None],
) -> Iterator[Figure]:
    """What the judge answers on drawn images, and on the world's own, where it ought to be right."""
    answers = {}
    if pipeline is not None:
        images = draw_128(pipeline, [request.prompt for request in requests], seed)
        answers["drawn images, {} right by the judge"] = judge(to_unit(images))
    answers["   the judge on the world's own, {}"] = judge(to_unit(draw_real(requests, size=SIDE)))
    for group, goal in goals.items():
        for name, found in answers.items():
            right = np.array([a[group] == getattr(r, group) for a, r in zip(found, requests, strict=True)])
            title = name.format(group.removesuffix("_noun").replace("_", " "))
            yield figure_of(title, right, goal=goal if title.startswith("drawn") else None)
