"""Views: the images a step may draw of the photos, each with its own prompt.

Views are squares of the photos, mirrored and scaled where asked for. They are made once, before training; a step draws
some at random. Without captions, masks, further crops, `flip` and `augment` there is one view for each photo, and all
share one prompt.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookforward.data.boxes import Cut
from lookforward.data.photo import Photo, Pixels
from lookforward.data.prompts import spelled, without_identifier
from lookforward.data.subject import Subject

# Kumari et al., "Multi-Concept Customization of Text-to-Image Diffusion" (Custom Diffusion), 2023, section 4
SCALES = (0.4, 1.4)
FAR, FAR_WORDS = 0.6, ("far away", "very small")  # below this scale
NEAR, NEAR_WORDS = 1.0, ("zoomed in", "close up")  # above this one
_GREY = 127


@dataclass(frozen=True, eq=False)
class View:
    """One training image of side s.

    pixels: (s, s, 3) uint8. prompt, plain_prompt: with and without the identifier; more_prompts: further such pairs, of
    which each draw takes one. subject: index of the subject in the run. cut: where it lies in its photo. mask: (s, s)
    uint8, 255 on the subject; None if the whole image counts. valid: (s, s) bool, which pixels belong to the photo;
    None if all do.
    """

    pixels: Pixels
    prompt: str
    plain_prompt: str
    subject: int = 0
    mask: Pixels | None = None
    valid: NDArray[np.bool_] | None = None
    more_prompts: tuple[tuple[str, str], ...] = ()
    cut: Cut | None = None


def make_views(subject: Subject, *, flip: bool = False, augment: int = 0, seed: int = 0) -> list[View]:
    """All views of the run's subjects, in the order of their photos.

    flip: adds the mirror image of each view. augment: number of scaled views of each square (Custom Diffusion); these
    need photos loaded with `large`. seed: of their scales, places and words.
    """
    views: list[View] = []
    rng = np.random.default_rng(seed)
    most = max(len(training_prompts(one, photo)) for one in subject.together for photo in one.photos)
    for index, one in enumerate(subject.together):
        for photo in one.photos:
            pairs = training_prompts(one, photo)
            more = tuple(prompts_of(one, photo, caption) for caption in photo.more_captions)
            for prompt, plain in pairs * (most // len(pairs)):  # so that each photo is drawn as often
                for i, square in enumerate(photo.squares):
                    mask = photo.masks[i] if photo.masks else None
                    cut = photo.cuts[i] if photo.cuts else None
                    view = View(square, prompt, plain, index, mask, more_prompts=more, cut=cut)
                    views.append(view)
                    if augment:
                        views += [scaled(view, photo.large[i], scale, rng) for scale in draw_scales(augment, rng)]
    views = [view for view in views if view.mask is None or view.mask.any()]  # without the subject it teaches nothing
    return [v for view in views for v in ((view, mirrored(view)) if flip else (view,))]


def training_prompts(subject: Subject, photo: Photo) -> list[tuple[str, str]]:
    """`prompts_of` a photo, and a second pair that names its place, if that is known.

    Both, since a word that only ever appears beside a place does not stand on its own.
    """
    prompt, plain = prompts_of(subject, photo)
    return [(prompt, plain)] + ([(f"{prompt} {photo.place}", f"{plain} {photo.place}")] if photo.place else [])


def all_prompts_of(subject: Subject, photo: Photo) -> list[tuple[str, str]]:
    """`prompts_of` each caption of a photo."""
    return [prompts_of(subject, photo, caption) for caption in (photo.caption, *photo.more_captions)]


def prompts_of(subject: Subject, photo: Photo, caption: str = "") -> tuple[str, str]:
    """The training prompt of a photo, and the same without the identifier.

    caption: one of the photo's, its first if empty.

    A caption that does not name the subject follows it: "sks dog, a caption".
    """
    if not photo.caption:
        return subject.prompt, subject.class_prompt
    caption, noun = spelled(caption or photo.caption, subject.identifier), subject.class_noun
    if "{}" in caption:
        return caption.replace("{}", subject.name), caption.replace("{}", noun)
    plain = without_identifier(caption, subject.identifier, "" if subject.noun_in_prompt else noun)
    if plain == caption:
        return f"{subject.name}, {caption}", f"{noun}, {caption}"
    return caption, plain


def caption_notes(subject: Subject) -> tuple[str, ...]:
    """Notes for the user on captions that do not name the subject."""
    return tuple(
        f"the caption of {photo.path.name} has neither {{}} nor {one.identifier!r}, so its prompt becomes"
        f" {prompts_of(one, photo, caption)[0]!r}"
        for one in subject.together
        for photo in one.photos
        for caption in (photo.caption, *photo.more_captions)
        if caption and prompts_of(one, photo, caption)[0] not in _as_written(one, caption)
    )


def _as_written(subject: Subject, caption: str) -> tuple[str, str]:
    """A caption that names the subject, by the identifier or by {}."""
    caption = spelled(caption, subject.identifier)
    return caption, caption.replace("{}", subject.name)


def mirrored(view: View) -> View:
    """The view with left and right exchanged."""
    fields = {"pixels": view.pixels, "mask": view.mask, "valid": view.valid}
    cut = view.cut.mirrored() if view.cut else None
    return replace(
        view, cut=cut, **{n: np.ascontiguousarray(array[:, ::-1]) for n, array in fields.items() if array is not None}
    )


def draw_scales(count: int, rng: np.random.Generator) -> list[float]:
    """Random scales, one from each of `count` equal parts of the range, so that few views cover it too."""
    low, high = SCALES
    return [low + (high - low) * (i + u) / count for i, u in enumerate(rng.random(count))]


def scaled(view: View, large: Pixels, scale: float, rng: np.random.Generator) -> View:
    """The view as Custom Diffusion resizes it: smaller, at a random place on grey that does not count; or larger, cut
    at a random place. Its prompt names the scale.

    large: the same square with more pixels, for the sake of detail. scale: of the side, positive.
    """
    side = len(view.pixels)
    size = max(1, round(scale * side))
    pixels = np.asarray(Image.fromarray(large).resize((size, size), Image.Resampling.LANCZOS))
    mask = view.mask
    if mask is not None:
        mask = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BOX))
    left, top = (int(rng.integers(abs(side - size) + 1)) for _ in range(2))
    words = FAR_WORDS if scale < FAR else NEAR_WORDS if scale > NEAR else ()
    if words:
        word = words[int(rng.integers(len(words)))]
        more = tuple((f"{prompt}, {word}", f"{plain}, {word}") for prompt, plain in view.more_prompts)
        view = replace(
            view, prompt=f"{view.prompt}, {word}", plain_prompt=f"{view.plain_prompt}, {word}", more_prompts=more
        )
    corner = (top, left) if size >= side else (-top, -left)
    view = replace(view, cut=view.cut.scaled(scale, *corner, size - side) if view.cut else None)
    if size >= side:
        window = np.s_[top : top + side, left : left + side]
        return replace(view, pixels=pixels[window].copy(), mask=None if mask is None else mask[window].copy())

    def place(array: NDArray, background: int) -> NDArray:
        canvas = np.full((side, side, *array.shape[2:]), background, dtype=array.dtype)
        canvas[top : top + size, left : left + size] = array
        return canvas

    return replace(
        view,
        pixels=place(pixels, _GREY),
        mask=None if mask is None else place(mask, 0),
        valid=place(np.ones((size, size), dtype=np.bool_), False),
    )
