"""Measure Toybox's models: `lookforward toybox check`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from lookforward.benchmark.bounds import bounds
from lookforward.build import Judges, build_pipeline
from lookforward.concept import load_concept
from lookforward.errors import LookforwardError
from lookforward.generate import draw_images
from lookforward.latents import decode, encode
from lookforward.toybox import SHIPPED, Weights
from lookforward.toybox.check import (
    Figure,
    Request,
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    require_weights,
    retrieval,
    subject_classes,
)
from lookforward.toybox.judge import Judge
from lookforward.vision import load_clip, load_dino, load_embedding, to_unit

GOALS = {"class_noun": 0.9, "scene": 0.9, "colour": 0.8}
SIDE = 64  # px


@torch.no_grad()
def measure(count: int, seed: int, real_photos: Path | None = None, weights: Weights = SHIPPED) -> Iterator[Figure]:
    """Yield each figure as it is measured, on `count` images where images are drawn.

    real_photos: folders of photos, one a subject, that the autoencoder was not trained on.

    Raises:
        LookforwardError: one of the models is missing, there are no images to draw, or real photos cannot be read.
    """
    if count < 1:
        raise LookforwardError(f"--images {count}: draw 1 image or more.")
    for folder in (weights.pipeline, weights.clip, weights.dino, weights.identity, weights.judge):
        require_weights(folder)
    photos = None if real_photos is None else to_unit(_read_real(real_photos))  # what is wrong with it is told at once
    pipeline, judge = build_pipeline(str(weights.pipeline), "cpu"), Judge(weights.judge)
    judges = Judges(
        load_dino(weights.dino, "cpu").published(),
        load_clip(weights.clip, "cpu").published(),
        load_embedding(weights.identity, "cpu").published(),
    )
    pictures, owners = held_out_pictures(views=5)
    units = to_unit(pictures)

    yield Figure("VAE, PSNR on held-out subjects", 27, restored(pipeline, units), " dB")
    if photos is not None:
        yield Figure("VAE, PSNR on real photos", 24, restored(pipeline, photos), " dB")
    yield from _identities(judges, units, owners)
    requests = draw_requests(count, seed)
    real = draw_real(requests)
    yield _captions(judges, requests, real)
    yield from _drawn(pipeline, judge, requests, real, seed)
    yield from bounds(pipeline, judges)


def restored(pipeline: StableDiffusionPipeline, units: Tensor) -> float:
    """Mean PSNR in dB of images (n, 3, h, w) in [0, 1] after the autoencoder."""
    latents = encode(pipeline.vae, units)
    error = ((decode(pipeline.vae, latents.mean * latents.scaling) - units) ** 2).mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(error)).mean())


def _identities(judges: Judges, units: Tensor, owners: np.ndarray) -> Iterator[Figure]:
    """Whether the same subject is found in another scene, and how far apart others are."""
    classes = subject_classes()[owners]
    encoders = {"DINO": judges.dino, "CLIP image": judges.clip.image, "identity": judges.identity}
    for name, encoder in encoders.items():
        if encoder is None:
            continue
        found = retrieval(encoder(units), owners, classes)
        goal = 0.8 if name == "DINO" else None
        yield Figure(f"{name}, same subject found among 30 in another scene, top 1", goal, found["top1"])
        yield Figure("   similarity within a subject", None, found["same"])
        yield Figure("   similarity between subjects of one class", None, found["class"])
        yield Figure("   similarity between classes", None, found["different"])


def _captions(judges: Judges, requests: Sequence[Request], real: np.ndarray) -> Figure:
    distinct = list(dict.fromkeys(requests))[:100]
    texts = judges.clip.text([r.prompt for r in distinct])
    images = judges.clip.image(to_unit(real[[requests.index(r) for r in distinct]]))
    return Figure(f"CLIP, right caption among {len(distinct)}", 0.9, named_right(images, texts, range(len(distinct))))


def _drawn(
    pipeline: StableDiffusionPipeline, judge: Judge, requests: Sequence[Request], real: np.ndarray, seed: int
) -> Iterator[Figure]:
    """What the judge says of drawn images, and of the world's own, where it ought to be right."""
    drawn = draw_images(
        pipeline,
        [r.prompt for r in requests],
        list(range(seed, seed + len(requests))),
        steps=50,
        guidance=4.0,
        batch=20,
    )
    said, said_of_real = judge(to_unit(drawn)), judge(to_unit(real))
    for group, goal in GOALS.items():
        word = group.removesuffix("_noun")
        yield Figure(f"drawn images, {word} right by the judge", goal, _right(said, requests, group))
        yield Figure(f"   the judge on the world's own, {word}", None, _right(said_of_real, requests, group))


def _right(said: Sequence[dict[str, str]], requests: Sequence[Request], group: str) -> float:
    return float(np.mean([answer[group] == getattr(r, group) for answer, r in zip(said, requests, strict=True)]))


def _read_real(folder: Path) -> np.ndarray:
    """The photos of every folder in `folder`, cropped as for training: (n, 64, 64, 3) uint8."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        raise LookforwardError(f"{folder} holds no folders of photos: give one with a folder for each subject.")
    concepts = [load_concept(path, class_noun="thing", resolution=SIDE, allow_few=True) for path in folders]
    return np.stack([photo.pixels for concept in concepts for photo in concept.photos])
