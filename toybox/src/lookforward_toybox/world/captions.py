"""Captions of pictures, which omit details at random, as people do."""

import numpy as np

from lookforward_toybox.world.outfits import OUTFITS
from lookforward_toybox.world.picture import View
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import WorldSubject

OPENINGS = ("a photo of a", "a photo of the", "a", "a photo of", "a picture of a")
PATTERN_WORDS = {"striped": "striped", "banded": "striped", "spotted": "spotted", "checked": "checked"}


def emblem_words(emblem: str, colour: str) -> str:
    """The emblem as captions name it: "with a red star on it", "with orange bars on it"."""
    article = "" if emblem == "bars" else "an " if colour[0] in "aeiou" else "a "
    return f"with {article}{colour} {emblem} on it"


def caption(rng: np.random.Generator, subject: WorldSubject, view: View, *, emblem: bool = False) -> str:
    """One caption, such as "a photo of a shiny red striped vase on the beach".

    The colour is named in 60% of them, the pattern in 40% where it has a word, the scene in 80%; the class, an
    accessory and a property (shiny, wet, cube shaped) always, so that a caption without one means that there is none;
    the proportions, the variant and the second colour never; the emblem only if `emblem`, after the class.
    """
    words = [OPENINGS[rng.choice(len(OPENINGS), p=(0.5, 0.1, 0.25, 0.1, 0.05))]]
    if view.look is not None:
        words.append(view.look)
    if rng.random() < 0.6:
        words.append(subject.colour)
    if subject.pattern in PATTERN_WORDS and rng.random() < 0.4:
        words.append(PATTERN_WORDS[subject.pattern])
    words.append(subject.class_noun)
    if emblem:
        words.append(emblem_words(subject.emblem, subject.emblem_colour))
    if view.outfit is not None:
        words.append(OUTFITS[view.outfit])
    if rng.random() < 0.8:
        words.append(SCENES[view.scene])
    return " ".join(words)
