"""What several scenes share: skies, ground, walls, trees and leaves."""

import numpy as np

from lookforward_toybox.world.canvas import Array, box, circle, ellipse
from lookforward_toybox.world.scenes.backdrop import WHITE, Backdrop, rgb

# Top and horizon of a clear, a warm evening and a pale sky
SKIES = (
    (rgb(0.32, 0.6, 0.93), rgb(0.8, 0.91, 0.99)),
    (rgb(0.32, 0.6, 0.93), rgb(0.8, 0.91, 0.99)),
    (rgb(0.46, 0.5, 0.8), rgb(1.0, 0.8, 0.6)),
    (rgb(0.62, 0.74, 0.87), rgb(0.93, 0.94, 0.94)),
)


def sky(b: Backdrop, horizon: float, clouds: float = 0.6) -> Array:
    """Paint the sky; returns its colour at the horizon, for the haze."""
    top, low = SKIES[b.rng.integers(len(SKIES))]
    fade = np.clip(b.y / horizon, 0, 1)
    b.fill(top + (low - top) * fade)
    above = b.part(0, 1, 0, horizon)
    puff = above.grain(5, 3) * 0.75 + above.grain(12, 9) * 0.25
    above.mix(np.clip((puff - b.number(0.52, 0.66)) * 5, 0, 1) * clouds, WHITE * 0.5 + low * 0.5)
    return low


def haze(b: Backdrop, level: float, reach: float, colour: Array, strength: float = 0.5) -> None:
    """Blend towards the sky's colour near the height `level`, fading over `reach` either way."""
    band = b.part(0, 1, level - reach, level + reach)
    fade = 1 - np.abs(band.y - level) / reach
    band.mix(np.clip(fade, 0, 1) * strength, colour)


def ground(b: Backdrop, level: float | Array, colour: Array, rough: float = 0.24, cells: int = 30) -> None:
    """Paint the ground below `level`, lighter in the middle, where the subject stands."""
    texture = (b.grain(cells, cells) - 0.5) * rough + (b.grain(5, 4) - 0.5) * rough * 0.6
    b.paint(level - b.y, colour * (1 + texture + pool(b)))


def pool(b: Backdrop) -> Array:
    """A pool of light on the ground, about -0.2 to 0.1."""
    return 0.1 - 0.75 * (b.x - 0.5) ** 2 - 1.1 * (b.y - 0.8) ** 2


def wall(b: Backdrop, level: float, colour: Array) -> None:
    """A wall of a room down to `level`, lit from one side, with its skirting board."""
    light = 1.0 + 0.14 * b.side() * (b.x - 0.5) - 0.12 * b.y
    b.fill(colour * light)
    if b.chance(0.5):  # a striped paper
        stripes = np.clip(np.sin((b.x + b.number(0, 1)) * b.number(50, 90)) * 3, -1, 1)
        b.canvas[:] *= 1 + 0.03 * stripes
    picture(b, level)
    b.paint(np.abs(b.y - level + 0.02) - 0.022, rgb(0.97, 0.96, 0.93))
    b.paint(np.abs(b.y - level + 0.044) - 0.004, rgb(0.7, 0.68, 0.65), 0.6)


def picture(b: Backdrop, level: float) -> None:
    """A framed landscape on the wall, at the left or the right."""
    x, y, a, h = 0.5 + b.side() * b.number(0.28, 0.4), level * 0.42, b.number(0.07, 0.11), b.number(0.08, 0.11)
    p = b.part(x - a - 0.03, x + a + 0.03, y - h - 0.03, y + h + 0.05)
    frame = box(p.x, p.y, x, y, a, h)
    p.paint(frame - 0.006, rgb(0.3, 0.25, 0.22), 0.35)
    p.paint(frame, b.near(0.5, 0.34, 0.18, 0.1))
    p.paint(frame + 0.018, b.near(0.78, 0.86, 0.9, 0.08))
    p.paint(np.maximum(frame + 0.018, y + 0.03 + 0.2 * np.abs(p.x - x - 0.02) - p.y), b.near(0.4, 0.55, 0.4, 0.15))


def trapezium(b: Backdrop, x: float, top: float, bottom: float, narrow: float, wide: float) -> Array:
    """Near signed distance to what lies flat on the ground: half-width `narrow` at its top, `wide` at its bottom."""
    half = narrow + (wide - narrow) * (b.y - top) / (bottom - top)
    return np.maximum(np.abs(b.x - x) - half, np.maximum(top - b.y, b.y - bottom))


def fir(b: Backdrop, x: float, foot: float, height: float, green: Array, snow: float = 0.0) -> None:
    """A fir of three tiers; `snow` is how white its tips are."""
    p = b.part(x - height * 0.4, x + height * 0.4, foot - height * 1.15, foot)
    for i in range(3):
        low = foot - height * 0.27 * i
        inside = np.maximum(np.abs(p.x - x) - (p.y - low + height * 0.5) * (0.42 - 0.07 * i), p.y - low)
        p.paint(inside, green * (1 + 0.18 * i - 1.2 * (p.x - x)))
        if snow:
            p.paint(np.maximum(inside, p.y - low + height * 0.3 - np.abs(p.x - x) * 0.5), WHITE, snow)


def hedge(b: Backdrop, level: float, height: float, colour: Array) -> None:
    """A far row of trees whose feet stand at `level`."""
    p = b.part(0, 1, level - height * 2, level)
    crowns = level - height * (0.35 + 1.1 * p.grain(1, 9)[:1] + 0.4 * p.grain(1, 26)[:1])
    lit = 1.1 - 0.35 * np.clip((p.y - crowns) / height, 0, 1) + 0.25 * (p.grain(8, 40) - 0.5)
    p.paint(np.maximum(crowns - p.y, p.y - level), colour * lit)


def leaf(b: Backdrop, x: float, y: float, length: float, turn: float, colour: Array, slim: float = 0.3) -> None:
    """A pointed leaf with a vein, `turn` radians from the horizontal."""
    p = b.around(x, y, length)
    c, s = float(np.cos(turn)), float(np.sin(turn))
    along, across = (p.x - x) * c + (p.y - y) * s, np.abs((p.y - y) * c - (p.x - x) * s)
    shape = across - slim * (length - np.abs(along)) * (0.8 + along * (0.4 / length))
    p.paint(shape, colour * (0.8 + 0.2 * np.clip(across * 90, 0, 1) + along * (0.2 / length)))


def spot(b: Backdrop, x: float, y: float, a: float, h: float, colour: Array) -> None:
    """A small ellipse."""
    p = b.part(x - a - 0.01, x + a + 0.01, y - h - 0.01, y + h + 0.01)
    p.paint(ellipse(p.x, p.y, x, y, a, h), colour)


def drop(b: Backdrop, x: float, y: float, r: float, colour: Array, strength: float = 1.0) -> None:
    """A small disc."""
    p = b.around(x, y, r + 0.01)
    p.paint(circle(p.x, p.y, x, y, r), colour, strength)
