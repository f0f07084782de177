"""Measure Toybox's shipped models: `lookforward toybox check`."""

from collections.abc import Iterator

import numpy as np
import torch

from lookforward.build import build_judges, build_pipeline
from lookforward.config import TOYBOX
from lookforward.generate import draw_images
from lookforward.latents import decode, encode
from lookforward.toybox import MODEL
from lookforward.toybox.check import (
    Figure,
    Request,
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    require_weights,
    retrieval,
)
from lookforward.toybox.world.scenes import SCENES
from lookforward.toybox.world.subject import BODY_COLOURS, CLASSES
from lookforward.vision import ClipEncoders, to_unit


@torch.no_grad()
def measure(count: int, seed: int) -> Iterator[Figure]:
    """Yield each figure as it is measured, on `count` images where images are drawn."""
    require_weights(MODEL)
    pipeline, judges = build_pipeline(TOYBOX, "cpu"), build_judges(TOYBOX, device="cpu")
    pictures, owners = held_out_pictures(views=5)

    units = to_unit(pictures)
    latents = encode(pipeline.vae, units)
    error = ((decode(pipeline.vae, latents.mean * latents.scaling) - units) ** 2).mean(dim=(1, 2, 3))
    yield Figure("VAE, PSNR on held-out subjects", 27, float((-10 * torch.log10(error)).mean()), " dB")

    for name, encoder in (("DINO", judges.dino), ("CLIP image", judges.clip.image)):
        found = retrieval(encoder(units), owners)
        yield Figure(f"{name}, same subject found, top 1", 0.8 if name == "DINO" else None, found["top1"])
        yield Figure(f"{name}, similarity within a subject", None, found["same"])
        yield Figure(f"{name}, similarity between subjects", None, found["different"])

    requests = draw_requests(count, seed)
    real = draw_real(requests)
    own = judges.clip.text([r.prompt for r in requests[:100]])
    right = [requests[:100].index(r) for r in requests[:100]]  # equal requests share the first one's place
    yield Figure("CLIP, right caption among 100", 0.9, named_right(judges.clip.image(to_unit(real[:100])), own, right))

    drawn = draw_images(
        pipeline,
        [r.prompt for r in requests],
        list(range(seed, seed + count)),
        steps=50,
        guidance=4.0,
        batch=20,
    )
    for what, goal in (("class", 0.9), ("scene", 0.9), ("colour", 0.8)):
        yield Figure(
            f"drawn images, {what} right by the shipped CLIP",
            goal,
            _judged(judges.clip, drawn, requests, what),
        )
        yield Figure(f"   the same judge on real draws, {what}", None, _judged(judges.clip, real, requests, what))


def _judged(clip: ClipEncoders, images: np.ndarray, requests: list[Request], what: str) -> float:
    """Part of the images that CLIP tells the asked class, scene or colour of, all else as it was asked for."""
    embeddings = clip.image(to_unit(images))
    hits = []
    for embedding, r in zip(embeddings, requests, strict=True):
        match what:
            case "class":
                others, right = [Request(c, r.colour, r.scene) for c in CLASSES], CLASSES.index(r.class_noun)
            case "scene":
                others, right = (
                    [Request(r.class_noun, r.colour, s) for s in SCENES],
                    list(SCENES).index(r.scene),
                )
            case _:
                others = [Request(r.class_noun, c, r.scene) for c in BODY_COLOURS]
                right = BODY_COLOURS.index(r.colour)
        hits.append(named_right(embedding[None], clip.text([o.prompt for o in others]), [right]))
    return float(np.mean(hits))
