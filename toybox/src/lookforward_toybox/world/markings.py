"""What marks a subject out: the pattern of its body, and the emblem that no caption describes."""

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, circle, polygon
from lookforward_toybox.world.colours import DARK, WHITE, rgb
from lookforward_toybox.world.subject import WorldSubject


def body_colour(painter: Painter, subject: WorldSubject) -> Array:
    """The main colour with the pattern in it, (h, w, 3) or (3,) where plain."""
    first, second = rgb(subject.colour, subject.shade), rgb(subject.second_colour, subject.shade)
    u, v = painter.u, painter.v
    period = 0.30 + 0.18 * subject.proportions[7]
    match subject.pattern:
        case "plain":
            return first
        case "striped":
            mask = _wave(u / period)
        case "banded":
            mask = _wave(v / period)
        case "checked":
            mask = np.where((_wave(u / period) > 0.5) != (_wave(v / period) > 0.5), 1.0, 0.0)
        case "spotted":
            row = np.floor(v / period)
            shift = np.where(row % 2 == 0, 0.0, 0.5)
            p, q = u / period + shift, v / period
            p, q = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
            mask = np.clip((0.30 - np.sqrt(p * p + q * q)) * period / painter.pixel + 0.5, 0, 1)
        case _:  # two-tone
            mask = np.clip((-0.15 - v + 0.2 * u * (subject.proportions[7] - 0.5)) / painter.pixel, 0, 1)
    mask = mask.astype(np.float32)[..., None]
    return first * (1 - mask) + second * mask


def _wave(x: Array) -> Array:
    """A square wave of period 1 with slightly soft edges, in [0, 1]."""
    return np.clip((0.25 - np.abs(x - np.floor(x) - 0.5)) * 8 + 0.5, 0, 1)


def paint_emblem(painter: Painter, subject: WorldSubject, x: float, y: float, r: float) -> None:
    """The emblem at (x, y) with radius r, on a pale or dark disc that sets it off. 64-pixel captions never name it."""
    u, v, r = painter.u - x, painter.v - y, r * painter.emblem_scale
    colour = rgb(subject.emblem_colour, subject.shade)
    disc = WHITE if colour.mean() < 0.62 else DARK
    with painter.made_of("enamel"):
        painter.part(circle(u, v, 0, 0, r * 1.28), disc, bulge=0.05, shine=0.0, outline=0.8)
        painter.part(_emblem(u, v, subject.emblem, r), colour, bulge=0.05, shine=0.0, outline=1.0)


def _emblem(u: Array, v: Array, kind: str, r: float) -> Array:
    match kind:
        case "star":
            up = polygon(u, v, [(0, r), (0.32 * r, -0.2 * r), (-0.32 * r, -0.2 * r)])
            wings = polygon(u, v, [(-0.95 * r, 0.33 * r), (0.95 * r, 0.33 * r), (0, -0.45 * r)])
            left = polygon(u, v, [(-0.62 * r, -0.85 * r), (0.28 * r, 0.2 * r), (0.1 * r, -0.45 * r)])
            right = polygon(u, v, [(0.62 * r, -0.85 * r), (-0.28 * r, 0.2 * r), (-0.1 * r, -0.45 * r)])
            return np.minimum(np.minimum(up, wings), np.minimum(left, right))
        case "heart":
            lobes = np.minimum(circle(u, v, -0.42 * r, 0.3 * r, 0.5 * r), circle(u, v, 0.42 * r, 0.3 * r, 0.5 * r))
            return np.minimum(lobes, polygon(u, v, [(-0.85 * r, 0.1 * r), (0.85 * r, 0.1 * r), (0, -0.95 * r)]))
        case "ring":
            return np.abs(circle(u, v, 0, 0, 0.62 * r)) - 0.26 * r
        case "cross":
            return np.minimum(box(u, v, 0, 0, 0.27 * r, 0.9 * r), box(u, v, 0, 0, 0.9 * r, 0.27 * r))
        case "moon":
            return np.maximum(circle(u, v, 0, 0, 0.9 * r), -circle(u, v, 0.42 * r, 0.22 * r, 0.72 * r))
        case "triangle":
            return polygon(u, v, [(0, 0.9 * r), (0.85 * r, -0.6 * r), (-0.85 * r, -0.6 * r)])
        case "diamond":
            return polygon(u, v, [(0, r), (0.7 * r, 0), (0, -r), (-0.7 * r, 0)])
        case "square":
            return box(u, v, 0, 0, 0.68 * r, 0.68 * r)
        case "drop":
            return np.minimum(
                circle(u, v, 0, -0.25 * r, 0.6 * r),
                polygon(u, v, [(0, r), (0.52 * r, -0.05 * r), (-0.52 * r, -0.05 * r)]),
            )
        case _:  # bars
            return np.minimum(box(u, v, -0.42 * r, 0, 0.24 * r, 0.8 * r), box(u, v, 0.42 * r, 0, 0.24 * r, 0.8 * r))
