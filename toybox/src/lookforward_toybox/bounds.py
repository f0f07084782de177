"""The ceiling and the floor of every score on Toybox, for objects and for live subjects."""

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import DiffusionPipeline

from lookforward.assembly import Evaluators, build_scores
from lookforward.data.prompts import fill
from lookforward.models.sampling import draw_images
from lookforward.scores.evaluate import score_images
from lookforward_toybox.figure import Figure, figure_of
from lookforward_toybox.subjects import reference_photos
from lookforward_toybox.world.edition import EDITIONS
from lookforward_toybox.world.picture import draw_view
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import LIVE_CLASSES, WorldSubject, held_out

BOUND_SCENES = ("jungle", "beach", "city", "rug")  # scenes that both kinds of prompts have
PROMPT = "a {identifier} {class_noun} "


def bounds(pipeline: DiffusionPipeline, evaluators: Evaluators, size: int = 64, steps: int = 50) -> Iterator[Figure]:
    """Mean of every score over subjects of a kind. size: of the world's edition. steps: of the sampler.

    ceiling: other pictures of the subject, which the world draws in those scenes. floor: what the untouched
    model draws of its class noun in them.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    for i, (name, subject) in enumerate(held_out().items()):
        kind = "live subjects" if subject.class_noun in LIVE_CLASSES else "objects"
        prompts = [fill(PROMPT, "", subject.class_noun) + " " + SCENES[scene] for scene in BOUND_SCENES]
        scores = build_scores(evaluators, reference_photos(name, size=size), EDITIONS[size].drawing(subject, size))
        for bound, images in (
            ("ceiling", _world(name, subject, size)),
            ("floor", _model(pipeline, prompts, i * len(prompts), steps)),
        ):
            for score, values in score_images(scores, images, prompts).items():
                rows.setdefault(f"{bound}, {kind}", {}).setdefault(score, []).append(float(values.mean()))
    for bound, row in sorted(rows.items()):
        for score, values in row.items():
            yield figure_of(f"{bound}, {score}", np.array(values))


def _world(name: str, subject: WorldSubject, size: int) -> np.ndarray:
    rng = np.random.default_rng([ord(letter) for letter in name])
    draw = EDITIONS[size].draw
    return np.stack([draw(subject, draw_view(rng, scene), rng, size) for scene in BOUND_SCENES])


@torch.no_grad()
def _model(pipeline: DiffusionPipeline, prompts: list[str], seed: int, steps: int) -> np.ndarray:
    """Other seeds for each subject: those of a class have the same prompts."""
    return draw_images(pipeline, prompts, list(range(seed, seed + len(prompts))), steps=steps, guidance=4.0)
