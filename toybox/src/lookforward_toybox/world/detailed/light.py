"""How each scene lights what stands in it."""

from dataclasses import dataclass

import numpy as np

from lookforward_toybox.world.canvas import Array

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """Light of a scene. Colours are factors near 1 on the three channels.

    key: of the sun or lamp; sky: what falls from all sides above; bounce: what the ground throws back, from its own
    colour where None; shadow: how much a cast shadow darkens; soft: width of the shadow's edge, in parts of the side.
    """

    key: Colour = (1.0, 1.0, 1.0)
    sky: Colour = (1.0, 1.0, 1.0)
    bounce: Colour | None = None
    shadow: float = 0.5
    soft: float = 0.015


SUNNY = Light(key=(1.05, 1.01, 0.94), sky=(0.9, 0.98, 1.12))
OVERCAST = Light(key=(0.95, 0.98, 1.03), sky=(1.0, 1.03, 1.08), shadow=0.34, soft=0.04)
SHADE = Light(key=(0.92, 1.0, 0.84), sky=(0.82, 1.0, 0.82), shadow=0.45, soft=0.035)
INDOORS = Light(key=(1.06, 1.0, 0.9), sky=(1.0, 0.98, 0.95), shadow=0.44, soft=0.025)
LIGHTS: dict[str, Light] = {
    "jungle": SHADE, "rug": SHADE, "snow": OVERCAST, "street": OVERCAST, "crowd": OVERCAST, "city": SUNNY,
    "fabric": INDOORS, "floor": INDOORS, "mirror": INDOORS, "white-rug": INDOORS, "milk": OVERCAST,
}  # fmt: skip
NEUTRAL = Light(bounce=(1.0, 1.0, 1.0))


def light_of(scene: str) -> Light:
    """The light of the scene; a sunny day where it has none of its own."""
    return LIGHTS.get(scene, SUNNY)


def bounced(canvas: Array, x: float, base: float, side: float) -> Colour:
    """What the ground under the subject throws back: its mean colour over its brightness, half mixed with white."""
    large = len(canvas)
    rows = slice(int(large * min(base, 0.96)) - 2, int(large * min(base + 0.08, 1.0)))
    left, right = int(large * max(0.0, x - side / 2)), int(large * min(1.0, x + side / 2))
    ground = canvas[rows, left:right].reshape(-1, 3).mean(axis=0)
    tinted = 0.35 + 0.65 * ground / max(float(ground.mean()), 0.05)
    red, green, blue = (float(c) for c in np.clip(tinted * (0.55 + 0.75 * ground.mean()), 0.3, 1.5))
    return red, green, blue
