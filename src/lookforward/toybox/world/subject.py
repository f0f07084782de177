"""Who is drawn: a subject of a class, with everything that makes it this one and no other."""

from dataclasses import dataclass

import numpy as np

from lookforward.toybox.world.colours import COLOURS

CLASSES = ("backpack", "bowl", "can", "candle", "cat", "clock", "dog", "sneaker", "teapot", "vase")
LIVE_CLASSES = ("cat", "dog")
PATTERNS = ("plain", "striped", "banded", "spotted", "checked", "two-tone")
EMBLEMS = ("star", "heart", "ring", "cross", "moon", "triangle", "diamond", "square", "drop", "bars")
BODY_COLOURS = tuple(COLOURS)
FUR_COLOURS = ("orange", "brown", "black", "grey", "white", "yellow")
HELD_OUT_PER_CLASS = 2
HELD_OUT_SEED = 20_240_706


@dataclass(frozen=True)
class Subject:
    """One subject. Captions can name `class_noun`, `colour` and `pattern`; the rest no words describe."""

    class_noun: str
    colour: str
    second_colour: str
    pattern: str
    emblem: str
    emblem_colour: str
    shade: tuple[float, float, float]  # how far its colours lie from the named ones, per channel
    proportions: tuple[float, ...]  # eight numbers in [0, 1] that its class reads as it likes
    variant: int  # 0, 1 or 2: another make of the same class

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What no two subjects share, if one of them is held out."""
        return (self.class_noun, self.colour, self.pattern, self.emblem, self.emblem_colour)


def draw_subject(rng: np.random.Generator, class_noun: str) -> Subject:
    """A subject of the class, all else by chance."""
    live = class_noun in LIVE_CLASSES
    palette = FUR_COLOURS if live and rng.random() < 0.7 else BODY_COLOURS
    colour = palette[rng.integers(len(palette))]
    others = [c for c in BODY_COLOURS if c != colour]
    second = others[rng.integers(len(others))]
    emblem_colours = [c for c in BODY_COLOURS if c not in (colour, second)]
    return Subject(
        class_noun=class_noun,
        colour=colour,
        second_colour=second,
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))],
        emblem_colour=emblem_colours[rng.integers(len(emblem_colours))],
        shade=(_shade(rng), _shade(rng), _shade(rng)),
        proportions=tuple(float(x) for x in rng.random(8)),
        variant=int(rng.integers(3)),
    )


def _shade(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.06, 0.06))


def held_out() -> dict[str, Subject]:
    """The subjects kept out of pretraining, by name ("vase-0"): 0 is for development, 1 for tests."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    return {f"{noun}-{i}": draw_subject(rng, noun) for noun in CLASSES for i in range(HELD_OUT_PER_CLASS)}


def draw_pretraining_subject(rng: np.random.Generator, class_noun: str) -> Subject:
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
