"""Measure Toybox's models: `lookforward toybox check`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from lookforward.assembly import Evaluators, build_evaluators
from lookforward.data.subject import load_subject
from lookforward.errors import LookforwardError
from lookforward.models.encoders import to_unit
from lookforward.models.latents import decode, encode
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from lookforward_toybox import SHIPPED, Weights
from lookforward_toybox.bounds import bounds
from lookforward_toybox.check import (
    Request,
    captioned_pictures,
    draw_changes,
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    require_weights,
    retrieval,
    subject_classes,
)
from lookforward_toybox.figure import Figure, figure_of
from lookforward_toybox.judge import Judge

GOALS: dict[str, float | None] = {"class_noun": 0.9, "scene": 0.9, "colour": 0.8}
SIDE = 64  # px


@torch.no_grad()
def measure(count: int, seed: int, real_photos: Path | None = None, weights: Weights = SHIPPED) -> Iterator[Figure]:
    """Yield each figure as it is measured, on `count` drawn images; accessories and properties on a quarter of it.

    real_photos: folders of photos, one a subject, that the autoencoder was not trained on.

    Raises:
        LookforwardError: one of the models is missing, there are no images to draw, or real photos cannot be read.
    """
    if count < 1:
        raise LookforwardError(f"--images {count}: draw 1 image or more.", code="option-range")
    if not 0 <= seed < 2**32:
        raise LookforwardError(f"--seed {seed} must be in [0, 2^32).", code="option-range")
    for folder in (weights.pipeline, weights.clip, weights.dino, weights.identity, weights.judge):
        require_weights(folder)
    photos = None if real_photos is None else _read_real(real_photos)  # an error in it is reported at once
    pipeline, judge = build_pipeline(str(weights.pipeline), "cpu"), Judge(weights.judge)
    evaluators = evaluators_of(weights)
    pictures, owners = held_out_pictures(views=5)
    units = to_unit(pictures)

    yield figure_of("VAE, PSNR on held-out subjects", restored(pipeline, units), owners, 27, " dB")
    if photos is not None:
        restored_photos = restored(pipeline, to_unit(photos[0]))
        yield figure_of("VAE, PSNR on real photos", restored_photos, photos[1], 24, " dB")
    yield from _identities(evaluators, units, owners)
    yield from _captions(evaluators)
    requests = draw_requests(count, seed)
    yield from _drawn(pipeline, judge, requests, seed, GOALS)
    for changes, group in zip(draw_changes(max(1, count // 4), seed), ("outfit", "look"), strict=True):
        yield from _drawn(pipeline, judge, changes, seed, {group: None})
    yield from bounds(pipeline, evaluators)


def evaluators_of(weights: Weights) -> Evaluators:
    """The benchmark's scores by the encoders of an export, which must all be there."""
    encoders = {"dino": weights.dino, "clip": weights.clip, "identity": weights.identity}
    return build_evaluators(str(weights.pipeline), device="cpu", **{name: str(one) for name, one in encoders.items()})


def restored(pipeline: StableDiffusionPipeline, units: Tensor) -> np.ndarray:
    """PSNR in dB of images (n, 3, h, w) in [0, 1] after the autoencoder, (n,)."""
    latents = encode(pipeline, units)
    error = ((decode(pipeline, latents.mean * latents.scaling) - units) ** 2).mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error)).numpy()


def _identities(evaluators: Evaluators, units: Tensor, owners: np.ndarray) -> Iterator[Figure]:
    """Whether the same subject is found in another scene, and how far apart others are."""
    classes = subject_classes()[owners]
    encoders = {
        "DINO": evaluators.encoders.dino,
        "CLIP image": evaluators.encoders.clip.image,
        "identity": evaluators.encoders.identity,
    }
    for name, encoder in encoders.items():
        if encoder is None:
            continue
        found = retrieval(encoder(units), owners, classes)
        goal = 0.8 if name == "DINO" else None
        yield figure_of(f"{name}, same subject among 30, top 1", found["top1"], goal=goal)
        yield figure_of("   similarity within a subject", found["same"])
        # No margins: a pair's similarity belongs to both of its subjects, so that these are not each their own
        yield Figure("   similarity between subjects of one class", None, float(np.nanmean(found["class"])), None)
        yield Figure("   similarity between classes", None, float(found["different"].mean()), None)


def _captions(evaluators: Evaluators) -> Iterator[Figure]:
    """Whether CLIP finds a picture's caption, among others at random and among those of one scene."""
    pictures, captions = captioned_pictures()
    images, texts = evaluators.encoders.clip.image(to_unit(pictures)), evaluators.encoders.clip.text(captions)
    subjects = len(subject_classes())
    owners = np.arange(len(captions)) % subjects
    at_random = np.random.default_rng(0).permutation(len(captions)).reshape(-1, 100)
    by_scene = np.arange(len(captions)).reshape(-1, subjects)
    for others, sets, goal in (("100", at_random, 0.9), (f"{subjects} of one scene", by_scene, None)):
        hits = [named_right(images[some], texts[some], [captions[i] for i in some]) for some in sets]
        yield figure_of(f"CLIP, right caption among {others}", np.concatenate(hits), owners[sets.reshape(-1)], goal)


def _drawn(
    pipeline: StableDiffusionPipeline,
    judge: Judge,
    requests: Sequence[Request],
    seed: int,
    goals: Mapping[str, float | None],
) -> Iterator[Figure]:
    """What the judge sees in drawn images, and in the world's own. goals: by its groups."""
    drawn = draw_images(
        pipeline,
        [r.prompt for r in requests],
        list(range(seed, seed + len(requests))),
        steps=50,
        guidance=4.0,
        batch=20,
    )
    answers, answers_real = judge(to_unit(drawn)), judge(to_unit(draw_real(requests)))
    for group, goal in goals.items():
        word = group.removesuffix("_noun")
        yield figure_of(f"drawn images, {word} right by the judge", _right(answers, requests, group), goal=goal)
        yield figure_of(f"   the judge on the world's own, {word}", _right(answers_real, requests, group))


def _right(answers: Sequence[dict[str, str]], requests: Sequence[Request], group: str) -> np.ndarray:
    return np.array([answer[group] == getattr(r, group) for answer, r in zip(answers, requests, strict=True)])


def _read_real(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Photos of every folder in `folder`, cropped as for training, (n, 64, 64, 3) uint8; and whose they are, (n,)."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        raise LookforwardError(
            f"{folder} has no folders of photos: give one with a folder for each subject.", code="photos-missing"
        )
    subjects = [load_subject(path, class_noun="thing", resolution=SIDE, allow_few=True) for path in folders]
    owners = [i for i, subject in enumerate(subjects) for _ in subject.photos]
    return np.stack([photo.pixels for subject in subjects for photo in subject.photos]), np.array(owners)
