"""What a step may be shown of the photos: squares of them, mirrored and scaled, each under its own prompt.

Views are made once, before training; a step draws some of them by chance. Without captions, masks, further crops,
`flip` and `augment` there is one view for each photo, and all share one prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from lookforward.data.photo import Photo
from lookforward.data.prompts import without_identifier
from lookforward.data.subject import Subject

# Kumari et al., "Multi-Concept Customization of Text-to-Image Diffusion" (Custom Diffusion), 2023, section 4
SCALES = (0.4, 1.4)
FAR, FAR_WORDS = 0.6, ("far away", "very small")  # below this scale
NEAR, NEAR_WORDS = 1.0, ("zoomed in", "close up")  # above this one
_GREY = 127


@dataclass(frozen=True, eq=False)
class View:
    """One picture to learn from, of side s.

    pixels: (s, s, 3) uint8. prompt, plain_prompt: with and without the identifier. subject: its place in the run.
    mask: (s, s) uint8, 255 where the subject is; None where all of the picture counts. valid: (s, s) bool, which
    pixels are of the photo at all; None where all are.
    """

    pixels: NDArray[np.uint8]
    prompt: str
    plain_prompt: str
    subject: int = 0
    mask: NDArray[np.uint8] | None = None
    valid: NDArray[np.bool_] | None = None


def make_views(subject: Subject, *, flip: bool = False, augment: int = 0, seed: int = 0) -> list[View]:
    """All views of a subject and of those beside it, in the order of the photos.

    flip: adds the mirror image of each. augment: how many scaled views are added to each square (Custom Diffusion);
    they need photos loaded with `large`. seed: of their scales, places and words.
    """
    views: list[View] = []
    chance = np.random.default_rng(seed)
    most = max(len(all_prompts_of(one, photo)) for one in subject.together for photo in one.photos)
    for index, one in enumerate(subject.together):
        for photo in one.photos:
            pairs = all_prompts_of(one, photo)
            for prompt, plain in pairs * (most // len(pairs)):  # so that all photos are drawn alike
                for i, square in enumerate(photo.squares):
                    mask = photo.masks[i] if photo.masks else None
                    view = View(square, prompt, plain, index, mask)
                    views.append(view)
                    if augment:
                        views += [scaled(view, photo.large[i], scale, chance) for scale in spread(augment, chance)]
    views = [view for view in views if view.mask is None or view.mask.any()]  # else it shows another thing
    return [v for view in views for v in ((view, mirrored(view)) if flip else (view,))]


def all_prompts_of(subject: Subject, photo: Photo) -> list[tuple[str, str]]:
    """`prompts_of` a photo, and a second pair that tells its place, where that is known.

    Both, since a word that was only ever read beside a place does not stand on its own.
    """
    first = prompts_of(subject, photo)
    return [first, *((f"{first[0]} {place}", f"{first[1]} {place}") for place in (photo.place,) if place)]


def prompts_of(subject: Subject, photo: Photo) -> tuple[str, str]:
    """The training prompt of a photo, and the same without the identifier.

    A caption that does not name the subject follows it: "sks dog, a caption".
    """
    if not photo.caption:
        return subject.prompt, subject.class_prompt
    caption, noun = photo.caption, subject.class_noun
    if "{}" in caption:
        return caption.replace("{}", subject.name), caption.replace("{}", noun)
    plain = without_identifier(caption, subject.identifier, "" if subject.noun_in_prompt else noun)
    if plain == caption:
        return f"{subject.name}, {caption}", f"{noun}, {caption}"
    return caption, plain


def caption_notes(subject: Subject) -> tuple[str, ...]:
    """What to tell the user of captions that do not name the subject."""
    return tuple(
        f"the caption of {photo.path.name} has neither {{}} nor {one.identifier!r}: its prompt is"
        f" {prompts_of(one, photo)[0]!r}"
        for one in subject.together
        for photo in one.photos
        if photo.caption and prompts_of(one, photo)[0] not in (photo.caption, photo.caption.replace("{}", one.name))
    )


def mirrored(view: View) -> View:
    """Left and right exchanged."""

    def turned(array: NDArray) -> NDArray:
        return np.ascontiguousarray(array[:, ::-1])

    return replace(
        view,
        pixels=turned(view.pixels),
        mask=None if view.mask is None else turned(view.mask),
        valid=None if view.valid is None else turned(view.valid),
    )


def spread(count: int, chance: np.random.Generator) -> list[float]:
    """Scales by chance, one from each of `count` equal parts of the range, so that few views cover it too."""
    low, high = SCALES
    return [low + (high - low) * (i + u) / count for i, u in enumerate(chance.random(count))]


def scaled(view: View, large: NDArray[np.uint8], scale: float, chance: np.random.Generator) -> View:
    """The view as Custom Diffusion resizes it: smaller, somewhere on grey that does not count; or larger, cut by
    chance. Its prompt says so.

    large: the same square with more pixels, for the sake of detail. scale: of the side, positive.
    """
    side = len(view.pixels)
    size = max(1, round(scale * side))
    pixels = np.asarray(Image.fromarray(large).resize((size, size), Image.Resampling.LANCZOS))
    mask = view.mask
    if mask is not None:
        mask = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BOX))
    left, top = (int(chance.integers(abs(side - size) + 1)) for _ in range(2))
    words = FAR_WORDS if scale < FAR else NEAR_WORDS if scale > NEAR else ()
    told = words[int(chance.integers(len(words)))] if words else ""
    view = replace(
        view,
        prompt=f"{view.prompt}, {told}" if told else view.prompt,
        plain_prompt=f"{view.plain_prompt}, {told}" if told else view.plain_prompt,
    )
    if size >= side:
        window = np.s_[top : top + side, left : left + side]
        return replace(view, pixels=pixels[window].copy(), mask=None if mask is None else mask[window].copy())
    place = np.s_[top : top + size, left : left + size]

    def put(array: NDArray, empty: int) -> NDArray:
        canvas = np.full((side, side, *array.shape[2:]), empty, dtype=array.dtype)
        canvas[place] = array
        return canvas

    return replace(
        view,
        pixels=put(pixels, _GREY),
        mask=None if mask is None else put(mask, 0),
        valid=put(np.ones((size, size), dtype=np.bool_), False),
    )


def weigh(views: Sequence[View], height: int, width: int, background: float) -> Tensor | None:
    """How much each latent of each view counts: (n, 1, height, width) float32, 1 in the mean of each view.

    background: weight in [0, 1] of what lies outside a mask; what is not of the photo weighs nothing. None where
    everything counts alike.
    """
    if all(view.valid is None and (view.mask is None or background == 1) for view in views):
        return None
    return torch.stack([_weigh(view, height, width, background) for view in views])


def _weigh(view: View, height: int, width: int, background: float) -> Tensor:
    weight = torch.ones(1, height, width)
    if view.mask is not None:
        subject = adaptive_avg_pool2d(torch.from_numpy(view.mask / np.float32(255))[None], (height, width))
        weight = 1 - (1 - background) * (1 - subject)  # exactly 1 where all is subject
    if view.valid is None:
        return weight / weight.mean()
    share = adaptive_avg_pool2d(torch.from_numpy(view.valid.astype(np.float32))[None], (height, width))
    whole = (share > 1 - 1e-4).float()
    # One latent in from the edge: the encoder looks beyond it, at the grey
    inner = -max_pool2d(-whole, 3, stride=1, padding=1)
    for valid in (inner, whole, share):  # a small picture may have no inside
        counted = weight * valid
        if counted.sum() > 0:
            return counted / counted.mean()
    raise ValueError("nothing of this view counts")  # make_views left such views out
