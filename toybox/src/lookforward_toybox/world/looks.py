"""The changed properties of the benchmark's prompts that are no colour: wet and cube shaped. Shiny is `gloss`."""

from collections.abc import Callable

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, polygon
from lookforward_toybox.world.colours import rgb
from lookforward_toybox.world.markings import body_colour
from lookforward_toybox.world.shapes import paint_subject
from lookforward_toybox.world.subject import WorldSubject

CUBE = 0.7  # half the side of a cube's front
DEPTH = 0.34  # how far its other sides go back


def paint_cube(
    subject: WorldSubject, u: Array, v: Array, pixel: float, light: Array, make: Callable[..., Painter] = Painter
) -> Painter:
    """The subject as a cube in its colour and pattern, with its likeness in front."""
    x, y = -DEPTH / 2, -0.95 + CUBE
    painter = make(u, v, pixel, light)
    colour = body_colour(painter, subject)
    left, right, low, high = x - CUBE, x + CUBE, y - CUBE, y + CUBE
    top = [(left, high), (right, high), (right + DEPTH, high + DEPTH), (left + DEPTH, high + DEPTH)]
    side = [(right, low), (right + DEPTH, low + DEPTH), (right + DEPTH, high + DEPTH), (right, high)]
    painter.part(polygon(u, v, top), colour * 0.7 + 0.3, bulge=0.05, shine=0.0)
    painter.part(polygon(u, v, side), colour * 0.62, bulge=0.05, shine=0.0)
    painter.part(box(u, v, x, y, CUBE, CUBE, 0.04), colour, bulge=0.1, shine=0.2)
    inset = CUBE * 0.86
    # A likeness of one colour would vanish on its own ground: a plain panel of the second colour sets it off.
    panel = rgb(subject.second_colour, subject.shade) * 0.35 + 0.6
    painter.part(box(u, v, x, y, inset, inset, 0.06), panel, bulge=0.04, shine=0.0, outline=0.8)
    likeness = make((u - x) / (inset * 0.92), (v - y) / (inset * 0.92), pixel / inset, light)
    paint_subject(likeness, subject)
    alpha = likeness.alpha[..., None]
    painter.colour = painter.colour * (1 - alpha) + likeness.colour * alpha
    painter.alpha = np.maximum(painter.alpha, likeness.alpha)
    return painter


def wet_skin(painter: Painter, rng: np.random.Generator) -> None:
    """Darken the painted subject as water does, and set drops on it."""
    painter.colour *= np.float32(0.8)
    u, v = painter.u, painter.v
    for _ in range(22):
        x, y = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.9, 0.9))
        r = float(rng.uniform(0.035, 0.075))
        d2 = (u - x) ** 2 + ((v - y) * 0.75) ** 2
        drop = np.clip((r - np.sqrt(d2)) / painter.pixel + 0.5, 0, 1)[..., None]
        edge = np.clip((np.sqrt(d2) / r), 0, 1)[..., None]  # bright in the middle, the colour under it at the rim
        painter.colour = painter.colour * (1 - drop * (1 - edge * edge)) + _DROP * drop * (1 - edge * edge)


def wet_ground(canvas: Array, x: float, base: float, side: float) -> None:
    """A puddle around the foot at (x, base), parts of the picture's side."""
    large = len(canvas)
    axis = (np.arange(large, dtype=np.float32) + 0.5) / large
    p, q = (axis[None] - x) / (side * 0.56), (axis[:, None] - base) / (side * 0.12)
    ripple = 0.06 * np.sin(14 * p) * np.cos(5 * q)
    puddle = np.clip((1 - np.sqrt(p * p + q * q) + ripple) * 6, 0, 1)[..., None]
    canvas[:] = canvas * (1 - 0.65 * puddle) + 0.65 * puddle * _PUDDLE


_DROP = np.array([0.93, 0.97, 1.0], np.float32)
_PUDDLE = np.array([0.55, 0.72, 0.85], np.float32)
