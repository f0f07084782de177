"""The class images of a run: drawn by the untouched model, or a folder of the user's own."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookforward.algorithm.examples import Examples
from lookforward.assembly.placement import frozen_parts
from lookforward.config.settings import Settings
from lookforward.data.class_images import class_images, read_class_images
from lookforward.data.photo import Pixels
from lookforward.data.subject import Subject
from lookforward.errors import LookforwardError
from lookforward.models.encoders import to_unit
from lookforward.models.families import family_of
from lookforward.models.latents import encode
from lookforward.models.sampling import draw_images, fingerprint
from lookforward.report import contact_sheet
from lookforward.runs.photo_lines import CLASS_LINE

_SHOWN, _COLUMNS = 40, 8  # images on the sheet


@dataclass(frozen=True, eq=False)
class ClassImages:
    """pixels: (n, h, w, 3) uint8, in the order of the examples' prompts."""

    pixels: Pixels
    examples: Examples

    def sheet(self) -> Image.Image:
        """The first of them, each with its prompt."""
        shown = list[np.ndarray](self.pixels[:_SHOWN])
        return contact_sheet(shown, list(self.examples.prompts[:_SHOWN]), columns=_COLUMNS, cell=128)


def build_class_images(settings: Settings, subject: Subject, pipeline: Any) -> ClassImages:
    """The class images of each class noun, drawn or found in the cache, or all of the user's own.

    Raises:
        LookforwardError: the user's own cannot be used, or the cache cannot be written.
    """
    classes, data = list(dict.fromkeys(one.class_prompt for one in subject.together)), settings.data
    if data.class_folder:
        images = [own_class_images(settings, subject)]
        prompts = tuple(classes * len(images[0]))
    else:
        sampler = {"steps": data.class_image_steps, "guidance": settings.evaluation.guidance}
        draw = partial(draw_images, pipeline, resolution=data.resolution, **sampler)
        key = f"{fingerprint(pipeline)}|{sampler}"
        if settings.model.weights != "fp32":  # which draws other images
            small = sorted(frozen_parts(settings, family_of(pipeline)))
            key += f"|{settings.model.weights}|{settings.model.precision}|{small}"
        images = [
            class_images(draw, prompt, data.class_images, resolution=data.resolution, key=key) for prompt in classes
        ]
        prompts = tuple(prompt for prompt in classes for _ in range(data.class_images))
    pixels = np.concatenate(images)
    return ClassImages(pixels, Examples(encode(pipeline, to_unit(pixels)), prompts))


def trains_on_own(settings: Settings) -> bool:
    """Whether the class is preserved by the user's own class images."""
    images = settings.objective.prior_weight > 0 and settings.objective.preservation == "images"
    return images and bool(settings.data.class_folder)


def class_image_digests(settings: Settings, subject: Subject) -> list[str]:
    """A line from which a run knows the user's own class images again; none if it does not train on any.

    Raises:
        LookforwardError: as `own_class_images`.
    """
    if not trains_on_own(settings):
        return []
    pixels = own_class_images(settings, subject)
    return [f"{CLASS_LINE}{hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}"]


def own_class_images(settings: Settings, subject: Subject) -> Pixels:
    """The user's own class images, (n, h, w, 3) uint8.

    Raises:
        LookforwardError: they cannot be used, or there are several class nouns.
    """
    if len({one.class_noun for one in subject.together}) > 1:
        raise LookforwardError(
            "data.class_folder has images of one class noun, but the subjects have several: leave it out.",
            code="settings-conflict",
        )
    return read_class_images(Path(settings.data.class_folder), settings.data.resolution)
