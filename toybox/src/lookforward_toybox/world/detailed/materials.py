"""What surfaces are made of: their texture in local coordinates, and how they shine."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lookforward_toybox.world.canvas import Array

TILE = 64
_LATTICE = np.random.default_rng(128).random((TILE + 1, TILE + 1), dtype=np.float32) * 2 - 1
_LATTICE[-1], _LATTICE[:, -1] = _LATTICE[0], _LATTICE[:, 0]


@dataclass(frozen=True)
class Material:
    """texture: (u, v) to (h, w) in about [-1, 1], which lightens and darkens by `strength` and roughens the contour
    of what is soft by `fray`, in local units. window: how clearly a lit window is mirrored; metal: how much of the
    surroundings is; velvet: how bright it is where it turns away from us."""

    texture: Callable[[Array, Array], Array] | None = None
    strength: float = 0.0
    fray: float = 0.0
    window: float = 0.0
    metal: float = 0.0
    velvet: float = 0.0


def tile(x: Array, y: Array) -> Array:
    """Smooth noise in [-1, 1] at any coordinates, one bump a unit, repeating after 64."""
    left, low = np.floor(x), np.floor(y)
    p, q = x - left, y - low
    i, j = left.astype(np.int32) & (TILE - 1), low.astype(np.int32) & (TILE - 1)
    p, q = p * p * (3 - 2 * p), q * q * (3 - 2 * q)
    flat, base = _LATTICE.ravel(), j * (TILE + 1) + i
    above = flat[base] + (flat[base + 1] - flat[base]) * p
    below = flat[base + TILE + 1] + (flat[base + TILE + 2] - flat[base + TILE + 1]) * p
    return above + (below - above) * q


def _fur(u: Array, v: Array) -> Array:
    """Strands that hang down and part to both sides, in locks."""
    lean = u + 0.28 * u * v
    lock = tile(lean * 7 + 3, v * 3)
    return 0.75 * tile(lean * 19 + 1.6 * lock, v * 6.0) + 0.4 * lock


def _plush(u: Array, v: Array) -> Array:
    return 0.7 * tile(u * 13, v * 13) + 0.4 * tile(u * 5 + 9, v * 5)


def _cloth(u: Array, v: Array) -> Array:
    """Threads crossing at right angles, and soft folds."""
    threads = np.sin(u * 74) * np.sin(v * 74)
    return 0.5 * threads + 0.55 * tile(u * 2.6 + 2 * v, v * 1.6)


def _leather(u: Array, v: Array) -> Array:
    fine = tile(u * 17, v * 17)
    return 0.55 * fine + 0.5 * np.minimum(tile(u * 4 + 11, v * 6), 0.2)


def _glaze(u: Array, v: Array) -> Array:
    """Rings of the potter's wheel and a run of colour, with a few dark specks."""
    rings = np.sin(v * 38 + 0.8 * tile(u * 2, v * 3))
    specks = np.clip((tile(u * 11 + 5, v * 11) - 0.6) * 4, 0, 1)
    return 0.3 * rings + 0.5 * tile(u * 3, v * 1.2) - 0.9 * specks


def _brushed(u: Array, v: Array) -> Array:
    return 0.6 * tile(u * 1.5, v * 24) + 0.3 * tile(u * 4, v * 40)


def _wax(u: Array, v: Array) -> Array:
    return 0.7 * tile(u * 4, v * 2.4) + 0.35 * np.clip(v + 0.4, -0.5, 1)


def _wood(u: Array, v: Array) -> Array:
    return np.sin(u * 26 + 3.2 * tile(u * 2, v * 1.4) + 0.8 * tile(u * 9, v * 2))


MATERIALS: dict[str, Material] = {
    "fur": Material(_fur, 0.2, fray=0.03, velvet=0.14),
    "plush": Material(_plush, 0.16, fray=0.016, velvet=0.2),
    "cloth": Material(_cloth, 0.13, velvet=0.06),
    "leather": Material(_leather, 0.12, window=0.2),
    "glaze": Material(_glaze, 0.09, window=0.75),
    "metal": Material(_brushed, 0.08, window=0.25, metal=0.75),
    "painted": Material(_brushed, 0.06, window=0.45, metal=0.35),
    "plastic": Material(window=0.65),
    "wax": Material(_wax, 0.13, window=0.1),
    "wood": Material(_wood, 0.1, window=0.25),
    "enamel": Material(),
    "ink": Material(),
}
OF_CLASS = {
    "backpack": "cloth", "stuffed animal": "plush", "bowl": "glaze", "can": "painted", "candle": "wax", "cat": "fur",
    "clock": "wood", "sneaker": "cloth", "dog": "fur", "toy": "plastic", "boot": "leather", "glasses": "plastic",
    "cartoon": "ink", "teapot": "glaze", "vase": "glaze",
}  # fmt: skip
