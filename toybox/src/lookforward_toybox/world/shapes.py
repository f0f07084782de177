"""How each class looks: its parts, painted back to front in local coordinates, standing on v = -0.95."""

from collections.abc import Callable

import numpy as np

from lookforward_toybox.world.animals import paint_cat, paint_dog
from lookforward_toybox.world.canvas import Painter, box, capsule, circle, ellipse, lathe, lathe_side, polygon
from lookforward_toybox.world.colours import DARK, METAL, WHITE, rgb
from lookforward_toybox.world.markings import body_colour, paint_emblem
from lookforward_toybox.world.subject import WorldSubject
from lookforward_toybox.world.toys import paint_cartoon, paint_stuffed_animal, paint_toy
from lookforward_toybox.world.wearables import paint_backpack, paint_boot, paint_glasses, paint_sneaker


def paint_subject(painter: Painter, subject: WorldSubject, pose: float = 0.0, outfit: str | None = None) -> None:
    """Paint the subject; `pose` in [-1, 1] moves what moves in its class (a head, a flame), and cats and dogs
    wear the `outfit`."""
    match subject.class_noun:
        case "cat":
            paint_cat(painter, subject, pose, outfit)
        case "dog":
            paint_dog(painter, subject, pose, outfit)
        case noun:
            PAINTERS[noun](painter, subject, pose)


def _vase(p: Painter, s: WorldSubject, pose: float) -> None:
    """With a belly, with handles too, tall and straight, or a ball with a long neck."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    belly, neck, lip, at = 0.5 + 0.32 * q[0], 0.14 + 0.2 * q[1], 0.26 + 0.26 * q[2], -0.45 + 0.4 * q[3]
    shoulder, base = 0.45, 0.3 + 0.15 * q[4]
    if s.variant == 1:
        for side in (-1, 1):
            p.part(np.abs(ellipse(u, v, side * (neck + 0.18), 0.42, 0.26, 0.3)) - 0.07, trim, bulge=0.1)
    elif s.variant == 2:
        belly, neck = 0.42 + 0.1 * q[0], 0.36 + 0.1 * q[1]
    elif s.variant == 3:
        belly, neck, lip, at, shoulder = 0.62 + 0.14 * q[0], 0.12 + 0.05 * q[1], 0.2 + 0.1 * q[2], -0.5, 0.08
    heights, widths = (-0.95, at, shoulder, 0.7, 0.95), (base, belly, neck + 0.05, neck, lip)
    relief = lathe_side(u, v, heights, widths)
    p.part(lathe(u, v, heights, widths), body_colour(p, s), 0.6, 0.5, relief=relief)
    if s.variant == 3:
        p.part(np.maximum(relief, np.abs(v - 0.16) - 0.06), trim, 0.4, 0.4, relief=relief)
    p.part(ellipse(u, v, 0, 0.93, lip, 0.09), trim * 0.5, bulge=0.1, shine=0.1)
    paint_emblem(p, s, 0, at, 0.24)


def _bowl(p: Painter, s: WorldSubject, pose: float) -> None:
    """Deep, wide and shallow, on a foot, or a round one with ears."""
    u, v, q = p.u, p.v, s.proportions
    rim, foot, top, full = (
        (0.66 + 0.12 * q[0], 0.28 + 0.1 * q[1], 0.12 + 0.22 * q[2], 0.96 + 0.08 * q[3]),
        (0.98 + 0.1 * q[0], 0.4 + 0.2 * q[1], -0.22 + 0.14 * q[2], 0.8 + 0.1 * q[3]),
        (0.84 + 0.14 * q[0], 0.44 + 0.16 * q[1], 0.3 + 0.2 * q[2], 0.84 + 0.1 * q[3]),
        (0.62 + 0.12 * q[0], 0.3 + 0.1 * q[1], 0.0 + 0.2 * q[2], 1.12 + 0.1 * q[3]),
    )[s.variant]
    trim = rgb(s.second_colour, s.shade)
    if q[5] > 0.5:  # something in it
        for i, x in enumerate((-0.5, -0.17, 0.17, 0.5)):
            p.part(circle(u, v, x * rim, top + 0.1 + 0.07 * (i % 2), 0.24), rgb(s.emblem_colour), bulge=0.2)
    low = -0.95
    if s.variant == 2:
        low = -0.5
        heights, widths = (-0.95, -0.85, -0.62, -0.4), (foot, foot * 0.9, 0.13, 0.2)
        p.part(lathe(u, v, heights, widths), trim, 0.3, 0.4, relief=lathe_side(u, v, heights, widths))
    if s.variant == 3:
        for side in (-1, 1):
            ear = np.abs(ellipse(u, v, side * rim * 1.12, top - 0.3, 0.22, 0.16)) - 0.06
            p.part(ear, trim, bulge=0.08, shine=0.4)
    heights = (low, low + 0.1, low + 0.1 + (top - low) * 0.45, top)
    widths = (foot, foot * 1.05, rim * full, rim)
    p.part(lathe(u, v, heights, widths), body_colour(p, s), 0.7, 0.5, relief=lathe_side(u, v, heights, widths))
    p.part(box(u, v, 0, top, rim + 0.03, 0.05 + 0.04 * q[4], 0.05), trim, bulge=0.08)
    paint_emblem(p, s, 0, (top + low) / 2 + 0.04, 0.24)


def _can(p: Painter, s: WorldSubject, pose: float) -> None:
    """For drinks, for tuna, for oil with a spout, or for paint with a handle."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    half, top = (
        (0.42 + 0.1 * q[0], 0.75 + 0.13 * q[1]),
        (0.78 + 0.14 * q[0], -0.08 + 0.14 * q[1]),
        (0.46 + 0.14 * q[0], 0.08 + 0.12 * q[1]),
        (0.6 + 0.12 * q[0], 0.2 + 0.14 * q[1]),
    )[s.variant]
    if s.variant == 3:
        p.part(np.abs(ellipse(u, v, 0, top - 0.06, half * 1.02, 0.62)) - 0.035, METAL * 0.8, bulge=0.05, shine=0.5)
    p.part(ellipse(u, v, 0, -0.84, half, 0.11), METAL * 0.8, bulge=0.2)
    body = box(u, v, 0, (top - 0.88) / 2, half, (top + 0.88) / 2)
    p.part(body, body_colour(p, s), half, 0.6, relief=np.abs(u) - half)
    band = box(u, v, 0, -0.72 + 0.1 * q[2], half, 0.06 + 0.05 * q[3])
    p.part(band, trim, half, 0.4, 0.9, np.abs(u) - half)
    if s.variant == 2:  # a cone and a bent spout
        spout = (0.5 + 0.2 * q[5], 0.9)
        p.part(capsule(u, v, (0.04, top + 0.3), spout, 0.055), METAL, bulge=0.07, shine=0.5)
        heights, widths = (top - 0.02, top + 0.42), (half, 0.1)
        p.part(lathe(u, v, heights, widths), trim, half, 0.6, relief=lathe_side(u, v, heights, widths))
        p.part(capsule(u, v, (-half, -0.45), (-half - 0.2, -0.2), 0.055), METAL, bulge=0.07, shine=0.5)
        p.part(capsule(u, v, (-half - 0.2, -0.2), (-half + 0.04, top), 0.055), METAL, bulge=0.07, shine=0.5)
    else:
        p.part(ellipse(u, v, 0, top, half, 0.13), METAL, bulge=0.15, shine=0.5)
        p.part(ellipse(u, v, 0, top, half * 0.78, 0.08), METAL * 0.72, bulge=0.1)
    if s.variant < 2:
        p.part(ellipse(u, v, 0.08, top + 0.02, 0.16, 0.05), trim, bulge=0.05)
    paint_emblem(p, s, 0, (top - 0.95) / 2 + 0.04 + 0.12 * q[4] * (s.variant == 0), 0.24)


def _candle(p: Painter, s: WorldSubject, pose: float) -> None:
    """A pillar, one on a dish with a handle, one on a tall holder, or a wide one with three wicks."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    half, low, top = (
        (0.34 + 0.1 * q[0], -0.9, 0.2 + 0.24 * q[1]),
        (0.32 + 0.1 * q[0], -0.82, -0.05 + 0.3 * q[1]),
        (0.29 + 0.05 * q[0], -0.4, 0.3 + 0.12 * q[1]),
        (0.66 + 0.14 * q[0], -0.9, -0.1 + 0.2 * q[1]),
    )[s.variant]
    if s.variant == 1:
        p.part(np.abs(circle(u, v, 0.8, -0.66, 0.17)) - 0.05, trim, bulge=0.06)
        p.part(ellipse(u, v, 0, -0.8, 0.7 + 0.14 * q[2], 0.14), trim, bulge=0.1, shine=0.5)
    elif s.variant == 2:
        heights, widths = (-0.95, -0.88, -0.6, -0.48, -0.36), (0.5, 0.44, 0.1, 0.16, 0.3)
        p.part(lathe(u, v, heights, widths), trim, 0.3, 0.6, relief=lathe_side(u, v, heights, widths))
        p.part(ellipse(u, v, 0, -0.38, half + 0.16, 0.1), trim, bulge=0.1, shine=0.5)
    wax = box(u, v, 0, (top + low) / 2, half, (top - low) / 2, 0.06)
    p.part(wax, body_colour(p, s), half, 0.35, relief=np.abs(u) - half)
    p.part(ellipse(u, v, 0, top - 0.02, half, 0.1), rgb(s.colour, s.shade) * 0.6 + 0.35, bulge=0.1)
    for x in (-half * 0.55, 0.0, half * 0.55) if s.variant == 3 else (0.0,):
        _flame(p, x, top - (0 if x else 0.03), 0.08 * pose)
    paint_emblem(p, s, 0, (top + low) / 2 + 0.12 * (q[3] - 0.5) * (s.variant == 0), 0.22)


def _flame(p: Painter, x: float, top: float, lean: float) -> None:
    u, v = p.u - x, p.v - top
    p.part(capsule(u, v, (0, 0), (0, 0.14), 0.03), DARK, bulge=0.05)
    tongue = polygon(u, v, [(-0.14, 0.27), (0.14, 0.27), (lean, 0.56)])
    flame = np.minimum(circle(u, v, lean * 0.5, 0.24, 0.15), tongue)
    p.part(flame, np.array([1.0, 0.66, 0.15], np.float32), bulge=0.3, shine=0.5, outline=1.0)
    p.part(ellipse(u, v, lean * 0.5, 0.22, 0.07, 0.1), np.array([1, 0.95, 0.6], np.float32), outline=1.0)


def _clock(p: Painter, s: WorldSubject, pose: float) -> None:
    """For alarm with bells, square on feet, on a mantel, or a tall one on the floor."""
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    r = 0.64 + 0.1 * q[0] if s.variant < 2 else 0.52 + 0.06 * q[0] if s.variant == 2 else 0.36 + 0.05 * q[0]
    cy = (-0.83 + r, -0.8 + r, -0.66 + r, 0.5)[s.variant]
    face = r * (0.7 + 0.08 * q[1])
    if s.variant < 2:
        for side in (-1, 1):  # feet
            p.part(capsule(u, v, (side * 0.34, cy - r * 0.7), (side * 0.5, -0.9), 0.08), trim, bulge=0.1)
    if s.variant == 0:
        p.part(np.abs(circle(u, v, 0, cy + r, 0.2)) - 0.04, METAL, bulge=0.05, shine=0.5)
        for side in (-1, 1):
            p.part(circle(u, v, side * 0.44, cy + r * 0.86, 0.25), trim, bulge=0.2, shine=0.5)
        p.part(circle(u, v, 0, cy, r), body, bulge=0.3, shine=0.4)
    elif s.variant == 1:
        p.part(box(u, v, 0, cy, r, r, 0.12), body, bulge=0.3, shine=0.4)
    elif s.variant == 2:  # an arch between two shoulders
        shoulders = np.maximum(ellipse(u, v, 0, -0.82, 0.98, 0.6), -0.82 - v)
        p.part(np.minimum(shoulders, circle(u, v, 0, cy, r)), body, bulge=0.3, shine=0.4)
        p.part(box(u, v, 0, -0.86, 1.0, 0.09, 0.04), trim, bulge=0.1, shine=0.4)
    else:
        p.part(polygon(u, v, [(-r - 0.06, 0.84), (r + 0.06, 0.84), (0, 1.06)], 0.02), trim, bulge=0.1, shine=0.3)
        p.part(box(u, v, 0, -0.35, r * 0.8, 0.55, 0.02), body, bulge=0.2, shine=0.3)
        p.part(box(u, v, 0, cy, r + 0.05, r + 0.03, 0.04), body, bulge=0.2, shine=0.3)
        p.part(box(u, v, 0, -0.84, r + 0.06, 0.11, 0.03), trim, bulge=0.1, shine=0.3)
    p.part(circle(u, v, 0, cy, face), WHITE, bulge=0.08, shine=0.05)
    for x, y in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        p.part(circle(u, v, x * face * 0.8, cy + y * face * 0.8, 0.055), DARK, bulge=0.05, outline=1.0)
    if p.emblem_scale == 1.0 or s.variant == 3:
        paint_emblem(p, s, 0, *((-0.36, 0.2) if s.variant == 3 else (cy - face * 0.36, 0.17)))
    for angle, length, thick in ((q[2], 0.5, 0.055), (q[3], 0.72, 0.04)):
        x, y = _direction(angle)
        p.part(capsule(u, v, (0, cy), (x * face * length, cy + y * face * length), thick), DARK, outline=1.0)
    if p.emblem_scale != 1.0 and s.variant != 3:  # a large one lies over the hands
        paint_emblem(p, s, 0, cy - face * 0.36, 0.19)


def _direction(turn: float) -> tuple[float, float]:
    """A unit vector for a part of a full turn, clockwise from twelve o'clock."""
    return float(np.sin(2 * np.pi * turn)), float(np.cos(2 * np.pi * turn))


def _teapot(p: Painter, s: WorldSubject, pose: float) -> None:
    """Round, square, a cone, or low and wide under a hoop."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    a, b = (0.5 + 0.12 * q[0], 0.46 + 0.16 * q[1]) if s.variant != 3 else (0.64 + 0.08 * q[0], 0.38 + 0.06 * q[1])
    cy = -0.93 + b
    if s.variant == 3:
        hoop = np.abs(ellipse(u, v, 0, cy + b * 0.5, a * 0.8, 0.82)) - 0.06
        p.part(np.maximum(hoop, cy - v), trim, bulge=0.08)
    else:
        p.part(np.abs(ellipse(u, v, a * 0.98, cy + 0.06, 0.26 + 0.08 * q[2], 0.32)) - 0.075, trim, bulge=0.1)
    tip = cy + 0.2 + 0.34 * q[3]
    spout = [(-a * 0.75, cy - 0.24), (-a * 0.6, cy + 0.18), (-0.95, tip + 0.05), (-0.99, tip - 0.1)]
    p.part(polygon(u, v, spout, 0.04), trim, bulge=0.14, shine=0.4)
    shape = ellipse(u, v, 0, cy, a, b)
    if s.variant == 1:
        shape = box(u, v, 0, cy, a, b, 0.14)
    elif s.variant == 2:
        shape = polygon(u, v, [(-a, -0.93), (a, -0.93), (a * 0.5, cy + b), (-a * 0.5, cy + b)])
    p.part(shape, body_colour(p, s), bulge=0.5, shine=0.6)
    p.part(ellipse(u, v, 0, cy + b, a * 0.52, 0.12), trim, bulge=0.12, shine=0.4)
    p.part(circle(u, v, 0, cy + b + 0.17, 0.1 + 0.05 * q[4]), rgb(s.emblem_colour, s.shade), bulge=0.1, shine=0.5)
    paint_emblem(p, s, 0, cy - 0.02, 0.25)


PAINTERS: dict[str, Callable[[Painter, WorldSubject, float], None]] = {
    "backpack": paint_backpack, "stuffed animal": paint_stuffed_animal, "bowl": _bowl, "can": _can,
    "candle": _candle, "cat": paint_cat, "clock": _clock, "sneaker": paint_sneaker, "dog": paint_dog,
    "toy": paint_toy, "boot": paint_boot, "glasses": paint_glasses, "cartoon": paint_cartoon,
    "teapot": _teapot, "vase": _vase,
}  # fmt: skip
