"""Who is drawn: a subject of a class, with everything that makes it this one and no other."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lookforward_toybox.world.colours import COLOURS

# The class nouns of the DreamBooth benchmark, and how many makes of each the world knows
MAKES = {
    "backpack": 4, "stuffed animal": 4, "bowl": 4, "can": 4, "candle": 4, "cat": 4, "clock": 4, "sneaker": 4,
    "dog": 4, "toy": 5, "boot": 4, "glasses": 4, "cartoon": 4, "teapot": 4, "vase": 4,
}  # fmt: skip
CLASSES = tuple(MAKES)
LIVE_CLASSES = ("cat", "dog")
PATTERNS = ("plain", "striped", "banded", "spotted", "checked", "two-tone")
EMBLEMS = ("star", "heart", "ring", "cross", "moon", "triangle", "diamond", "square", "drop", "bars")
BODY_COLOURS = tuple(COLOURS)
FUR_COLOURS = ("orange", "brown", "black", "grey", "white", "yellow")
HELD_OUT_SEED = 20_240_706
# How many subjects of each class are held out: the benchmark's 30, 9 of them live
HELD_OUT = dict.fromkeys(CLASSES, 1) | {
    "backpack": 2, "stuffed animal": 3, "cat": 2, "sneaker": 2, "dog": 7, "toy": 5,
}  # fmt: skip
# Settings are chosen on these, once and for all; the other 20 are for the final word.
DEVELOPMENT = (
    "backpack-0", "stuffed-animal-0", "cat-0", "sneaker-0", "dog-0", "dog-1", "toy-0", "toy-1", "teapot-0", "vase-0",
)  # fmt: skip


@dataclass(frozen=True)
class WorldSubject:
    """One subject. Captions can name `class_noun`, `colour` and `pattern`; the rest no words describe."""

    class_noun: str
    colour: str
    second_colour: str
    pattern: str
    emblem: str
    emblem_colour: str
    shade: tuple[float, float, float]  # how far its colours lie from the named ones, per channel
    proportions: tuple[float, ...]  # eight numbers in [0, 1] that its class reads as it likes
    variant: int  # which of the makes of its class, from 0

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What no two subjects share, if one of them is held out."""
        return (self.class_noun, self.colour, self.pattern, self.emblem, self.emblem_colour)


def draw_subject(rng: np.random.Generator, class_noun: str) -> WorldSubject:
    """A subject of the class, everything else at random."""
    live = class_noun in LIVE_CLASSES
    palette = FUR_COLOURS if live and rng.random() < 0.7 else BODY_COLOURS
    colour = palette[rng.integers(len(palette))]
    others = [c for c in BODY_COLOURS if c != colour]
    second = others[rng.integers(len(others))]
    emblem_colours = [c for c in BODY_COLOURS if c not in (colour, second)]
    return WorldSubject(
        class_noun=class_noun,
        colour=colour,
        second_colour=second,
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))],
        emblem_colour=emblem_colours[rng.integers(len(emblem_colours))],
        shade=(_shade(rng), _shade(rng), _shade(rng)),
        proportions=tuple(float(x) for x in rng.random(8)),
        variant=int(rng.integers(MAKES[class_noun])),
    )


def _shade(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.06, 0.06))


def held_out() -> dict[str, WorldSubject]:
    """The 30 subjects kept out of pretraining, by name: "vase-0", "stuffed-animal-2".

    Within a class their makes take turns, so that no two of three are of one make.
    """
    rng = np.random.default_rng(HELD_OUT_SEED)
    subjects = {}
    for noun, count in HELD_OUT.items():
        first = int(rng.integers(MAKES[noun]))
        for i in range(count):
            make = (first + i) % MAKES[noun]
            subjects[f"{noun.replace(' ', '-')}-{i}"] = replace(draw_subject(rng, noun), variant=make)
    return subjects


def names_of(part: Literal["development", "test"]) -> tuple[str, ...]:
    """The names of the 10 development subjects, or of the 20 that no setting is chosen on."""
    return tuple(name for name in held_out() if (name in DEVELOPMENT) == (part == "development"))


def draw_pretraining_subject(rng: np.random.Generator, class_noun: str) -> WorldSubject:
    """A subject of the class that shares no `key` with a held-out one, as those are never pretrained on."""
    while (subject := draw_subject(rng, class_noun)).key in _held_out_keys():
        pass
    return subject


_keys: frozenset[tuple[str, str, str, str, str]] | None = None


def _held_out_keys() -> frozenset[tuple[str, str, str, str, str]]:
    global _keys
    if _keys is None:
        _keys = frozenset(s.key for s in held_out().values())
    return _keys
