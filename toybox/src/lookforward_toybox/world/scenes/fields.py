"""Scenes in the country: wheat, autumn, sunflowers and a dirt road."""

import numpy as np

from lookforward_toybox.world.canvas import Array, box, capsule, circle, ellipse
from lookforward_toybox.world.scenes.backdrop import Backdrop, rgb
from lookforward_toybox.world.scenes.parts import ground, haze, hedge, leaf, sky, spot


def wheat(b: Backdrop) -> None:
    horizon, verge = b.number(0.34, 0.42), b.number(0.76, 0.82)
    far = sky(b, horizon)
    hedge(b, horizon + 0.01, b.number(0.015, 0.04), rgb(0.36, 0.46, 0.3))
    gold = b.near(0.93, 0.73, 0.28)
    depth = np.clip((b.y - horizon) / (verge - horizon), 0, 1)
    stalks = (b.grain(7, 62) - 0.5) * (0.15 + 0.45 * depth) + (b.grain(26, 40) - 0.5) * 0.25
    b.paint(horizon - b.y, gold * (1.06 - 0.28 * depth + stalks))
    haze(b, horizon, 0.1, far, 0.45)
    for i in range(32):  # ears, larger towards the front
        near = (i + b.number(0, 1)) / 32
        x = 0.5 + b.side() * b.number(0.06, 0.52)
        _ear(b, x, horizon + 0.06 + near * 0.22, 0.6 + 0.85 * near, gold * b.number(0.92, 1.14))
    tufts = verge + 0.03 * (b.grain(1, 40)[:1] - 0.5)
    ground(b, tufts, b.near(0.56, 0.52, 0.24), 0.4, 34)


def _ear(b: Backdrop, x: float, y: float, size: float, gold: Array) -> None:
    lean = b.number(-0.03, 0.03)
    p = b.part(x - 0.06, x + 0.06, y - 0.06 * size, y + 0.2 * size)
    p.paint(capsule(p.x, p.y, (x, y), (x - lean, y + 0.2 * size), 0.005), gold * 0.72)
    grains = ellipse(p.x - lean * 0.4 * (y - p.y) / 0.05, p.y, x, y, 0.017 * size, 0.052 * size)
    p.paint(grains - 0.006, gold * 0.55, 0.5)
    p.paint(grains, gold * (1.06 + 0.16 * np.sin(p.y * 190 + np.abs(p.x - x) * 130)))


def autumn(b: Backdrop) -> None:
    foot = b.number(0.56, 0.64)
    far = sky(b, foot)
    hedge(b, foot + 0.01, b.number(0.06, 0.1), b.near(0.8, 0.55, 0.25, 0.08))
    haze(b, foot - 0.05, 0.2, far, 0.5)
    ground(b, foot, b.near(0.52, 0.5, 0.2), 0.3)
    side = b.side()
    _tree(b, 0.5 - side * b.number(0.34, 0.44), foot + 0.02, 0.6)
    _tree(b, 0.5 + side * b.number(0.24, 0.36), foot + 0.06, 1.0)
    for _ in range(42):  # fallen, and some still falling
        y = b.number(0.1, foot) if b.chance(0.15) else b.number(foot + 0.02, 1)
        size = 0.016 + 0.028 * y
        leaf(b, b.number(0, 1), y, size, b.number(0, 3.1), _autumn_colour(b), 0.5)


def _tree(b: Backdrop, x: float, foot: float, size: float) -> None:
    bark, height = rgb(0.32, 0.21, 0.14), 0.5 * size
    p = b.part(x - 0.5 * size, x + 0.5 * size, foot - 0.95 * size, foot)
    trunk = np.abs(p.x - x) - (0.032 + 0.25 * np.clip(p.y - foot + 0.07, 0, 1)) * size
    p.paint(np.maximum(trunk, foot - height - p.y), bark * (1.2 - 6 * (p.x - x)))
    rough = 0.16 * size * (p.grain(9, 9) - 0.5) + 0.05 * size * (p.grain(24, 24) - 0.5)
    dark, light = b.near(0.62, 0.16, 0.08, 0.05), b.near(1.0, 0.58, 0.12, 0.06)
    for at, up, a, h in ((-0.17, 0.44, 0.2, 0.15), (0.18, 0.46, 0.2, 0.16), (0.0, 0.62, 0.27, 0.22)):
        crown = ellipse(p.x, p.y, x + at * size, foot - up * size, a * size, h * size) + rough
        lit = np.clip(0.5 - (p.y - foot + up * size) / (0.5 * size) + 1.5 * (p.grain(26, 26) - 0.5), 0, 1)
        p.paint(crown, dark + (light - dark) * lit)


def _autumn_colour(b: Backdrop) -> Array:
    return rgb(b.number(0.78, 1.0), b.number(0.16, 0.66), b.number(0.04, 0.14))


def sunflowers(b: Backdrop) -> None:
    horizon = b.number(0.4, 0.5)
    far = sky(b, horizon)
    hedge(b, horizon + 0.01, b.number(0.03, 0.06), rgb(0.24, 0.44, 0.24))
    haze(b, horizon, 0.12, far, 0.4)
    ground(b, horizon, b.near(0.3, 0.62, 0.2), 0.25)
    blades = (b.grain(16, 60) - 0.5) * np.clip(b.y - horizon, 0, 1)
    b.canvas[:] *= 1 + 0.6 * blades
    for i in range(10):  # far ones along the meadow's edge
        _sunflower(b, (i + b.number(0.1, 0.9)) / 10, horizon + b.number(-0.03, 0.05), 0.034, 0.06)
    for side in (-1, 1):
        for size, top in ((0.075, b.number(0.3, 0.44)), (0.1, b.number(0.5, 0.62)), (0.085, b.number(0.7, 0.82))):
            _sunflower(b, 0.5 + side * b.number(0.36, 0.47), top, size * b.number(0.9, 1.15), 0.3)


def _sunflower(b: Backdrop, x: float, y: float, r: float, stem: float) -> None:
    p = b.part(x - r * 1.3, x + r * 1.3, y - r * 1.1, y + stem)
    p.paint(capsule(p.x, p.y, (x, y), (x + r * 0.2, y + stem), r * 0.12), rgb(0.2, 0.45, 0.12))
    for side in (-1, 1):
        leaf(b, x + side * r * 0.75, y + r * 1.55, r * 0.8, -0.5 * side, rgb(0.22, 0.52, 0.16), 0.5)
    p, turn = b.around(x, y, r), b.number(0, 1)
    away, angle = circle(p.x, p.y, x, y, 0.0), np.arctan2(p.y - y, p.x - x)
    petals = away - r * (0.7 + 0.3 * np.abs(np.cos(6 * angle + turn)))
    p.paint(petals, rgb(1.0, 0.8, 0.1) * (0.8 + 0.25 * np.clip(away / r, 0, 1)))
    seeds = 0.9 + 0.35 * np.sin(p.x * 260) * np.sin(p.y * 260)
    p.paint(away - r * 0.44, rgb(0.36, 0.2, 0.08) * seeds)


def road(b: Backdrop) -> None:
    horizon, x = b.number(0.36, 0.44), b.number(0.42, 0.58)
    far = sky(b, horizon)
    hill = horizon + 0.02 - b.number(0.04, 0.1) * (1 + np.sin(b.x * b.number(3, 6) + b.number(0, 6)))
    b.paint(hill - b.y, b.near(0.4, 0.55, 0.42))
    hedge(b, horizon + 0.015, b.number(0.02, 0.06), b.near(0.22, 0.42, 0.2))
    haze(b, horizon - 0.02, 0.12, far, 0.45)
    ground(b, horizon, b.near(0.38, 0.6, 0.22), 0.26)
    depth = np.clip((b.y - horizon) / (1 - horizon), 0.001, 1)
    middle = x + (0.5 - x) * depth + b.number(-0.1, 0.1) * np.sin(depth * 3.1)
    half = 0.02 + 0.42 * depth
    across = (b.x - middle) / half
    ragged = 0.12 * (b.grain(40, 24) - 0.5)
    earth = b.near(0.62, 0.43, 0.26)
    stones = (b.grain(60, 44) - 0.5) * 0.3 + (b.grain(9, 5) - 0.5) * 0.25
    ruts = 0.24 * np.exp(-(((np.abs(across) - 0.52) / 0.13) ** 2))
    inside = np.maximum((np.abs(across) - 1 + ragged) * half, horizon - b.y)
    b.paint(inside - 0.012, earth * 0.62)
    b.paint(inside, earth * (1.1 - ruts + stones - 0.15 * np.abs(across)))
    for side in (-1, 1):
        _fence(b, x, horizon, side)
    for _ in range(9):
        spot(b, b.number(0.15, 0.85), b.number(0.75, 0.98), b.number(0.008, 0.02), 0.009, b.near(0.6, 0.53, 0.45))


def _fence(b: Backdrop, x: float, horizon: float, side: int) -> None:
    """Posts and rails along the road, all of them growing from where it vanishes."""
    wood = b.near(0.56, 0.42, 0.28)

    def place(depth: float, height: float) -> tuple[float, float]:
        return x + (0.5 - x) * depth + side * (0.04 + 1.05 * depth), horizon + (0.62 - height) * depth

    for height in (0.46, 0.24):
        b.paint(capsule(b.x, b.y, place(0.05, height), place(0.5, height), 0.007), wood)
    for depth in (0.06, 0.11, 0.18, 0.27, 0.38):
        (at, foot), (_, top) = place(depth, 0), place(depth, 0.58)
        p = b.part(at - 0.05, at + 0.05, top, foot)
        p.paint(box(p.x, p.y, at, (top + foot) / 2, 0.045 * depth, (foot - top) / 2), wood * (1.0 - 12 * (p.x - at)))
