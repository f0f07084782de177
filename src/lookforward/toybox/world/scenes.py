"""Where a subject stands: backdrops painted over the whole picture, each different every time.

A scene function takes a `Backdrop` (coordinates, chance) and returns colours (h, w, 3) in [0, 1].
x grows to the right and y downwards, both from 0 to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lookforward.toybox.world.canvas import Array, noise

SCENES: dict[str, str] = {
    "beach": "on the beach",
    "snow": "in the snow",
    "jungle": "in the jungle",
    "street": "on a cobblestone street",
    "floor": "on a wooden floor",
    "city": "with a city in the background",
    "mountain": "with a mountain in the background",
    "house": "with a blue house in the background",
    "water": "floating on top of water",
    "fabric": "on top of pink fabric",
}


@dataclass(frozen=True)
class Backdrop:
    """What a scene is painted with: (h, w) coordinates, the side of a pixel and a source of chance."""

    x: Array
    y: Array
    pixel: float
    rng: np.random.Generator

    def grain(self, cells_y: int, cells_x: int) -> Array:
        """Smooth noise in [0, 1], (h, w)."""
        height, width = self.x.shape
        return noise(self.rng, height, width, cells_y, cells_x)

    def cover(self, distance: Array) -> Array:
        """1 inside, 0 outside, soft over a pixel; (h, w, 1)."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)[..., None]

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def paint_scene(name: str, size: int, rng: np.random.Generator) -> Array:
    """The scene `name` as (size, size, 3) float32 in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    return np.clip(PAINTERS[name](Backdrop(x, y, 1.0 / size, rng)), 0, 1).astype(np.float32)


def _colour(*rgb: float) -> Array:
    return np.array(rgb, np.float32)


def _blend(below: Array, above: Array, mask: Array) -> Array:
    return below * (1 - mask) + above * mask


def _sky(b: Backdrop, top: Array, bottom: Array, clouds: float = 0.5) -> Array:
    fade = np.clip(b.y / 0.6, 0, 1)[..., None]
    sky = top * (1 - fade) + bottom * fade
    puff = np.clip((b.grain(6, 3) - 0.62) * 4, 0, 1)[..., None] * clouds
    return _blend(sky, _colour(1, 1, 1), puff)


BLUE_SKY = (_colour(0.38, 0.64, 0.93), _colour(0.78, 0.89, 0.98))


def _beach(b: Backdrop) -> Array:
    horizon, shore = b.number(0.34, 0.44), b.number(0.5, 0.6)
    out = _sky(b, *BLUE_SKY)
    sea = _colour(0.05, 0.52, 0.68) + 0.1 * np.sin(b.y * 160 + 5 * b.grain(3, 3))[..., None]
    out = _blend(out, sea, b.cover(horizon - b.y))
    edge = shore + 0.03 * np.sin(b.x * b.number(7, 12) + b.number(0, 6))
    sand = _colour(0.95, 0.82, 0.56) * (0.88 + 0.2 * b.grain(40, 40))[..., None]
    out = _blend(out, _colour(0.95, 0.98, 1), b.cover(edge - 0.02 - b.y))
    return _blend(out, sand, b.cover(edge - b.y))


def _snow(b: Backdrop) -> Array:
    horizon = b.number(0.42, 0.54)
    out = _sky(b, _colour(0.66, 0.74, 0.85), _colour(0.86, 0.9, 0.95), 0.3)
    for _ in range(5):  # firs
        out = _fir(b, out, b.number(0, 1), horizon + 0.02, b.number(0.16, 0.34), _colour(0.16, 0.34, 0.3))
    hill = horizon + 0.04 * np.sin(b.x * b.number(3, 6) + b.number(0, 6))
    ground = _colour(0.93, 0.95, 1.0) * (0.9 + 0.1 * b.grain(8, 4))[..., None]
    out = _blend(out, ground, b.cover(hill - b.y))
    for _ in range(34):  # flakes
        fall = np.sqrt((b.x - b.number(0, 1)) ** 2 + (b.y - b.number(0, 1)) ** 2) - b.number(0.006, 0.014)
        out = _blend(out, _colour(1, 1, 1), b.cover(fall))
    return out


def _fir(b: Backdrop, out: Array, x: float, foot: float, height: float, green: Array) -> Array:
    for i in range(3):
        low = foot - height * 0.27 * i
        inside = np.maximum(np.abs(b.x - x) - (b.y - low + height * 0.5) * (0.42 - 0.07 * i), b.y - low)
        out = _blend(out, green * (1 + 0.18 * i), b.cover(inside))
    return out


def _jungle(b: Backdrop) -> Array:
    out = _colour(0.05, 0.2, 0.1) * (0.5 + 0.9 * b.grain(6, 6))[..., None]
    for i in range(26):  # leaves, lighter towards the front
        x, y, turn = b.number(-0.05, 1.05), b.number(-0.05, 0.8), b.number(0, np.pi)
        c, s = float(np.cos(turn)), float(np.sin(turn))
        along, across = (b.x - x) * c + (b.y - y) * s, (b.y - y) * c - (b.x - x) * s
        length = b.number(0.12, 0.26)
        leaf = np.abs(across) - 0.3 * (length - np.abs(along)) * (0.8 + along / length * 0.4)
        green = _colour(b.number(0.08, 0.3), b.number(0.36, 0.62), b.number(0.1, 0.22)) * (0.55 + i / 48)
        vein = (0.82 + 0.18 * np.clip(np.abs(across) * 90, 0, 1))[..., None]
        out = _blend(out, green * vein, b.cover(leaf))
    ground = _colour(0.26, 0.3, 0.12) * (0.65 + 0.6 * b.grain(14, 14))[..., None]
    return _blend(out, ground, b.cover(b.number(0.72, 0.82) - b.y + 0.03 * np.sin(b.x * 14)))


def _street(b: Backdrop) -> Array:
    horizon = b.number(0.36, 0.46)
    wall = _colour(*(b.number(0.62, 0.82), b.number(0.46, 0.58), b.number(0.34, 0.46)))
    out = wall * (0.9 + 0.12 * b.grain(30, 8))[..., None]
    shift = b.number(0, 0.3)
    for i in range(4):  # windows
        x = shift + 0.3 * i - 0.1
        frame = np.maximum(np.abs(b.x - x) - 0.075, np.abs(b.y - 0.17) - 0.11)
        out = _blend(out, _colour(0.95, 0.93, 0.88), b.cover(frame))
        out = _blend(out, _colour(0.25, 0.33, 0.42), b.cover(frame + 0.018))
    depth = np.clip(b.y - horizon, 0.001, 1) / (1 - horizon)
    row = 9 * np.sqrt(depth)
    column = (b.x - 0.5) * 9 / (0.45 + 0.55 * depth) + 0.5 * (np.floor(row) % 2) + b.number(0, 1)
    p, q = column - np.floor(column) - 0.5, row - np.floor(row) - 0.5
    tone = (np.floor(column) * 12.99 + np.floor(row) * 78.23) % 1.0
    joint = np.clip((0.43 - np.maximum(np.abs(p), np.abs(q))) * 9, 0, 1)
    stone = (0.36 + 0.22 * tone + 0.1 * (0.5 - q)) * (0.35 + 0.65 * joint)
    return _blend(out, stone[..., None] * _colour(1.0, 0.98, 0.95), b.cover(horizon - b.y))


def _floor(b: Backdrop) -> Array:
    horizon = b.number(0.34, 0.44)
    out = _colour(b.number(0.82, 0.94), b.number(0.8, 0.9), b.number(0.68, 0.8)) * (1.0 - 0.12 * b.y[..., None])
    out = _blend(out, _colour(0.97, 0.96, 0.94), b.cover(horizon - 0.05 - b.y))
    depth = np.clip(b.y - horizon, 0.001, 1) / (1 - horizon)
    plank = (b.x - b.number(0.3, 0.7)) * 7 / (0.4 + 0.6 * depth) + b.number(0, 1)
    tone = (np.floor(plank) * 0.618) % 1.0
    seam = np.clip(np.abs(plank - np.floor(plank) - 0.5) * 30 - 13.8, 0, 1)
    wood = (0.82 + 0.25 * tone + 0.14 * (b.grain(3, 50) - 0.5)) * (1 - 0.5 * seam)
    return _blend(out, wood[..., None] * _colour(0.72, 0.45, 0.22), b.cover(horizon - b.y))


def _city(b: Backdrop) -> Array:
    out = _sky(b, *BLUE_SKY, 0.35)
    ground = b.number(0.56, 0.64)
    x = b.number(-0.1, 0.0)
    while x < 1:
        width, top = b.number(0.11, 0.2), b.number(0.08, 0.36)
        grey = b.number(0.4, 0.68)
        tower = np.maximum(np.abs(b.x - x - width / 2) - width / 2, np.maximum(top - b.y, b.y - ground))
        out = _blend(out, _colour(grey * 0.9, grey * 0.96, grey * 1.06), b.cover(tower))
        p, q = (b.x - x) / 0.042, (b.y - top) / 0.05
        lit = np.maximum(np.abs(p - np.floor(p) - 0.5) * 0.042 - 0.012, np.abs(q - np.floor(q) - 0.5) * 0.05 - 0.014)
        out = _blend(out, _colour(0.2, 0.28, 0.4), b.cover(np.maximum(lit, tower + 0.012)))
        x += width + b.number(0.0, 0.03)
    pavement = _colour(0.62, 0.61, 0.6) * (0.92 + 0.14 * b.grain(30, 30))[..., None]
    return _blend(out, pavement, b.cover(ground - b.y))


def _mountain(b: Backdrop) -> Array:
    out = _sky(b, *BLUE_SKY)
    foot = b.number(0.54, 0.62)
    for x, height, dark in (
        (b.number(0.0, 0.3), b.number(0.3, 0.42), 0.92),
        (b.number(0.6, 1.0), b.number(0.4, 0.5), 1.0),
    ):
        ragged = 0.05 * (b.grain(12, 12) - 0.5)
        rise = foot - height + np.abs(b.x - x) * 0.95 + ragged
        rock = _colour(0.44, 0.42, 0.5) * dark * (1.0 - 0.25 * np.clip((b.x - x) * 8, 0, 1))[..., None]
        out = _blend(out, rock, b.cover(rise - b.y))
        out = _blend(
            out,
            _colour(0.97, 0.98, 1.0),
            b.cover(np.maximum(rise - b.y, b.y - (foot - height * 0.62) - ragged * 2)),
        )
    meadow = _colour(0.42, 0.64, 0.26) * (0.82 + 0.3 * b.grain(34, 26))[..., None]
    return _blend(out, meadow, b.cover(foot - b.y))


def _house(b: Backdrop) -> Array:
    out = _sky(b, *BLUE_SKY)
    ground, x, half = b.number(0.56, 0.64), b.number(0.3, 0.7), b.number(0.28, 0.34)
    eaves = ground - 0.3
    siding = (0.93 + 0.1 * np.clip(np.abs(((b.y * 26) % 1.0) - 0.5) * 4, 0, 1))[..., None]
    out = _blend(
        out,
        _colour(0.2, 0.42, 0.8) * siding,
        b.cover(np.maximum(np.abs(b.x - x) - half, np.maximum(eaves - b.y, b.y - ground))),
    )
    roof = np.maximum(np.abs(b.x - x) * 0.62 - (b.y - eaves + 0.24), b.y - eaves)
    out = _blend(out, _colour(0.5, 0.24, 0.2), b.cover(roof * 0.85))
    for side in (-1, 1):
        pane = np.maximum(np.abs(b.x - x - side * half * 0.6), np.abs(b.y - eaves - 0.12)) - 0.055
        out = _blend(out, _colour(0.98, 0.98, 0.98), b.cover(pane))
        out = _blend(out, _colour(0.98, 0.9, 0.55), b.cover(pane + 0.016))
    lawn = _colour(0.36, 0.62, 0.24) * (0.85 + 0.25 * b.grain(30, 30))[..., None]
    return _blend(out, lawn, b.cover(ground - b.y))


def _water(b: Backdrop) -> Array:
    depth = (0.25 + b.y)[..., None]
    out = _colour(0.35, 0.7, 0.86) * (1 - depth * 0.5) + _colour(0.02, 0.3, 0.55) * depth * 0.5
    wave = np.sqrt(b.y + 0.04 + 0.03 * np.sin(b.x * b.number(9, 14) + b.number(0, 6)))
    swell = np.sin(wave * b.number(55, 70) + b.grain(5, 5) * 6)
    out = out + 0.1 * swell[..., None]
    glitter = np.clip((b.grain(44, 20) - 0.76) * 6, 0, 1)[..., None]
    return _blend(out, _colour(0.92, 0.98, 1.0), glitter)


def _fabric(b: Backdrop) -> Array:
    turn = b.number(-0.6, 0.6)
    along = b.x + turn * b.y + 0.22 * b.grain(4, 4)
    fold = 0.5 + 0.5 * np.sin(along * b.number(16, 24) + b.number(0, 6))
    weave = 0.04 * (b.grain(60, 60) - 0.5)
    return (0.74 + 0.28 * fold + weave)[..., None] * _colour(0.97, 0.56, 0.7)


PAINTERS: dict[str, Callable[[Backdrop], Array]] = {
    "beach": _beach, "snow": _snow, "jungle": _jungle, "street": _street, "floor": _floor,
    "city": _city, "mountain": _mountain, "house": _house, "water": _water, "fabric": _fabric,
}  # fmt: skip
