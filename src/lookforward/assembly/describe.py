"""Where each photo was taken, in words: what its prompt says, the identifier need not learn.

Trained on "a photo of sks dog" alone, a model takes the beach behind the dog for a part of the dog. CLIP picks
the place for each photo out of a list, as in its zero-shot classification (Radford et al., 2021).
"""

from dataclasses import replace

import numpy as np
import torch

from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import BUNDLED, require_bundle
from lookforward.config.settings import Settings
from lookforward.data.subject import Subject
from lookforward.models.encoders import ClipEncoders, Encoders, to_unit

PLACES = (
    "on a table", "on a shelf", "on a chair", "on a sofa", "on a bed", "on a carpet", "on a wooden floor",
    "on a tiled floor", "on a white background", "on a black background", "in front of a wall", "at a window",
    "in a kitchen", "in a living room", "in an office", "in a shop", "in a box", "in a hand", "on someone's lap",
    "in a car", "on the grass", "in a garden", "among flowers", "on a rock", "on the sand", "on the beach",
    "in the snow", "in the water", "in a forest", "in a field", "in the mountains", "in a park", "on a path",
    "on a pavement", "on a street", "on stone steps", "on a balcony", "on a bench", "by a fence", "by a house",
    "in a city", "in the dark",
)  # fmt: skip


MARGIN = 1.0
"""Of CLIP's logits: the place must be e times as likely as the class prompt alone.

Of 200 photos of Toybox's development subjects the right place has 1.4 or more, and where it is taken out of the list,
the best of the others has -1.7 or less. Toybox's CLIP knows too little of real photos to measure it there.
"""


def describe(subject: Subject, settings: Settings, device: torch.device | str) -> Subject:
    """The subject with a place for each photo that has no caption, "on the beach".

    Raises:
        LookforwardError: CLIP cannot be loaded.
    """
    places = tuple(require_bundle().places()) if settings.model.name in BUNDLED else PLACES
    clip = Encoders(encoder_sources(settings.model.name), device).clip
    described = [
        replace(one, photos=tuple(
            photo if photo.caption else replace(photo, place=place)
            for photo, place in zip(one.photos, find_places(one, places, clip), strict=True)
        ))
        for one in subject.together
    ]  # fmt: skip
    return replace(described[0], others=tuple(described[1:]))


@torch.no_grad()
def find_places(subject: Subject, places: tuple[str, ...], clip: ClipEncoders) -> list[str]:
    """For each photo the place that CLIP finds most like it; "" if none beats the class prompt alone by MARGIN."""
    pixels = to_unit(np.stack([photo.squares[0] for photo in subject.photos])).to(clip.image.mean.device)
    prompts = [subject.class_prompt, *(f"{subject.class_prompt} {place}" for place in places)]
    logits = clip.model.logit_scale.exp() * clip.image(pixels) @ clip.text(prompts).T  # (k, 1 + p)
    best, index = logits[:, 1:].max(dim=1)
    sure = best - logits[:, 0] > MARGIN
    return [places[i] if enough else "" for i, enough in zip(index.tolist(), sure.tolist(), strict=True)]
