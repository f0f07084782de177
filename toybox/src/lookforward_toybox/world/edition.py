"""The editions of the world: the same subjects, scenes and views, drawn at 64 or in more detail at 128 pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lookforward_toybox.world.detailed import draw_detailed, drawing_detailed
from lookforward_toybox.world.picture import View, draw_picture, drawing
from lookforward_toybox.world.subject import WorldSubject


@dataclass(frozen=True)
class Edition:
    """How the world is drawn for models of one side.

    size: side of a picture. draw: (subject, view, rng, size) to the picture (size, size, 3) uint8. drawing: (subject,
    size) to the subject alone, (size, size, 4) in [0, 1]. names_emblem: the share of pretraining pictures whose
    captions name the emblem.
    """

    size: int
    draw: Callable[[WorldSubject, View, np.random.Generator, int], np.ndarray]
    drawing: Callable[[WorldSubject, int], np.ndarray]
    names_emblem: float = 0.0


EDITION_64 = Edition(64, draw_picture, drawing)
EDITION_128 = Edition(128, draw_detailed, drawing_detailed, names_emblem=0.2)
EDITIONS = {edition.size: edition for edition in (EDITION_64, EDITION_128)}


def edition_of(size: int) -> Edition:
    """The edition whose pictures have this side; the first one at any other."""
    return EDITIONS.get(size, EDITION_64)
