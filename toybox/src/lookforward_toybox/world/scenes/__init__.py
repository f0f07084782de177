"""Where a subject stands: backdrops painted over the whole picture, each different every time.

The words are those of the DreamBooth benchmark's prompts for objects. `backdrop` is what a scene is painted on,
`parts` what several of them share; the others hold a painter for each scene.
"""

from collections.abc import Callable

import numpy as np

from lookforward_toybox.world.canvas import Array
from lookforward_toybox.world.scenes import fields, nature, surfaces, town
from lookforward_toybox.world.scenes.backdrop import Backdrop

__all__ = ["SCENES", "Backdrop", "paint_scene"]

SCENES: dict[str, str] = {
    "jungle": "in the jungle",
    "snow": "in the snow",
    "beach": "on the beach",
    "street": "on a cobblestone street",
    "fabric": "on top of pink fabric",
    "floor": "on top of a wooden floor",
    "city": "with a city in the background",
    "mountain": "with a mountain in the background",
    "house": "with a blue house in the background",
    "rug": "on top of a purple rug in a forest",
    "wheat": "with a wheat field in the background",
    "autumn": "with a tree and autumn leaves in the background",
    "tower": "with the Eiffel Tower in the background",
    "water": "floating on top of water",
    "milk": "floating in an ocean of milk",
    "sunflowers": "on top of green grass with sunflowers around it",
    "mirror": "on top of a mirror",
    "crowd": "on top of the sidewalk in a crowded street",
    "road": "on top of a dirt road",
    "white-rug": "on top of a white rug",
}

PAINTERS: dict[str, Callable[[Backdrop], None]] = {
    "jungle": nature.jungle, "snow": nature.snow, "beach": nature.beach, "street": town.street,
    "fabric": surfaces.fabric, "floor": surfaces.floor, "city": town.city, "mountain": nature.mountain,
    "house": town.house, "rug": surfaces.rug, "wheat": fields.wheat, "autumn": fields.autumn,
    "tower": town.tower, "water": nature.water, "milk": nature.milk, "sunflowers": fields.sunflowers,
    "mirror": surfaces.mirror, "crowd": town.crowd, "road": fields.road, "white-rug": surfaces.white_rug,
}  # fmt: skip


def paint_scene(name: str, size: int, rng: np.random.Generator) -> Array:
    """The scene `name` as (size, size, 3) float32 in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    canvas = np.empty((3, size, size), np.float32)
    PAINTERS[name](Backdrop(x, y, canvas, 1.0 / size, rng))
    canvas *= 1.02 - 0.4 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 1.5  # corners a little darker
    return np.ascontiguousarray(np.clip(canvas, 0, 1).transpose(1, 2, 0))
