"""How each class looks: its parts, painted back to front in local coordinates, standing on v = -0.95."""

from collections.abc import Callable

import numpy as np

from lookforward.toybox.world.animals import paint_cat, paint_dog
from lookforward.toybox.world.canvas import Painter, box, capsule, circle, ellipse, lathe, lathe_side, polygon
from lookforward.toybox.world.colours import DARK, METAL, WHITE, rgb
from lookforward.toybox.world.markings import body_colour, paint_emblem
from lookforward.toybox.world.subject import Subject


def paint_subject(painter: Painter, subject: Subject, pose: float = 0.0) -> None:
    """Paint the subject; `pose` in [-1, 1] moves what moves in its class (a head, a flame)."""
    PAINTERS[subject.class_noun](painter, subject, pose)


def _vase(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body = body_colour(p, s)
    trim = rgb(s.second_colour, s.shade)
    belly, neck, lip, at = 0.48 + 0.32 * q[0], 0.14 + 0.2 * q[1], 0.26 + 0.26 * q[2], -0.45 + 0.4 * q[3]
    if s.variant == 1:
        for side in (-1, 1):
            p.part(np.abs(ellipse(u, v, side * neck * 1.6, 0.42, 0.24, 0.3)) - 0.07, trim, bulge=0.1)
    base = 0.3 + 0.15 * q[4]
    if s.variant == 2:
        belly, neck = 0.42 + 0.2 * q[0], 0.36 + 0.1 * q[1]  # a tall straight one
    heights, widths = (-0.95, at, 0.45, 0.7, 0.95), (base, belly, neck + 0.05, neck, lip)
    p.part(lathe(u, v, heights, widths), body, 0.6, 0.5, relief=lathe_side(u, v, heights, widths))
    p.part(ellipse(u, v, 0, 0.93, lip, 0.09), trim * 0.5, bulge=0.1, shine=0.1)
    paint_emblem(p, s, 0, at, 0.24)


def _bowl(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    rim, foot, top = 0.78 + 0.2 * q[0], 0.28 + 0.2 * q[1], 0.15 + 0.3 * q[2]
    trim = rgb(s.second_colour, s.shade)
    if s.variant != 0:  # something in it
        for i, x in enumerate((-0.5, -0.17, 0.17, 0.5)):
            p.part(circle(u, v, x * rim, top + 0.14 + 0.07 * (i % 2), 0.24), rgb(s.emblem_colour), bulge=0.2)
    heights = (-0.95, -0.82, -0.82 + (top + 0.82) * 0.45, top)
    widths = (foot, foot * 1.05, rim * (0.72 + 0.15 * q[3]), rim)
    p.part(lathe(u, v, heights, widths), body_colour(p, s), 0.7, 0.5, relief=lathe_side(u, v, heights, widths))
    p.part(box(u, v, 0, top, rim + 0.02, 0.06 + 0.05 * q[4], 0.05), trim, bulge=0.08)
    paint_emblem(p, s, 0, (top - 0.95) / 2 + 0.05, 0.26)


def _can(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    half, top = 0.42 + 0.28 * q[0], 0.55 + 0.35 * q[1]
    p.part(ellipse(u, v, 0, -0.84, half, 0.11), METAL * 0.8, bulge=0.2)
    p.part(
        box(u, v, 0, (top - 0.88) / 2, half, (top + 0.88) / 2),
        body_colour(p, s),
        half,
        0.6,
        relief=np.abs(u) - half,
    )
    band = -0.6 + 0.2 * q[2]
    p.part(
        box(u, v, 0, band - 0.12, half, 0.07 + 0.05 * q[3]),
        rgb(s.second_colour, s.shade),
        half,
        0.4,
        0.9,
        np.abs(u) - half,
    )
    p.part(ellipse(u, v, 0, top, half, 0.13), METAL, bulge=0.15, shine=0.5)
    p.part(ellipse(u, v, 0, top, half * 0.78, 0.08), METAL * 0.72, bulge=0.1)
    if s.variant == 1:
        p.part(ellipse(u, v, 0.08, top + 0.02, 0.16, 0.05), rgb(s.second_colour), bulge=0.05)
    paint_emblem(p, s, 0, 0.12 + 0.2 * q[4], 0.26)


def _candle(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    half, top = 0.3 + 0.2 * q[0], 0.12 + 0.32 * q[1]
    trim = rgb(s.second_colour, s.shade)
    if s.variant != 0:  # a dish, or a tall holder
        p.part(ellipse(u, v, 0, -0.8, 0.66 + 0.2 * q[2], 0.14), trim, bulge=0.1, shine=0.5)
        if s.variant == 2:
            p.part(np.abs(circle(u, v, 0.72, -0.66, 0.16)) - 0.05, trim, bulge=0.06)
    p.part(
        box(u, v, 0, (top - 0.9) / 2, half, (top + 0.9) / 2, 0.06),
        body_colour(p, s),
        half,
        0.35,
        relief=np.abs(u) - half,
    )
    p.part(ellipse(u, v, 0, top - 0.02, half, 0.1), rgb(s.colour, s.shade) * 0.6 + 0.35, bulge=0.1)
    p.part(capsule(u, v, (0, top), (0, top + 0.14), 0.03), DARK, bulge=0.05)
    lean = 0.08 * pose
    flame = np.minimum(
        circle(u, v, lean * 0.5, top + 0.24, 0.15),
        polygon(u, v, [(-0.14, top + 0.27), (0.14, top + 0.27), (lean, top + 0.56)]),
    )
    p.part(flame, np.array([1.0, 0.66, 0.15], np.float32), bulge=0.3, shine=0.5, outline=1.0)
    p.part(ellipse(u, v, lean * 0.5, top + 0.22, 0.07, 0.1), np.array([1, 0.95, 0.6], np.float32), outline=1.0)
    paint_emblem(p, s, 0, top - 0.42 - 0.15 * q[3], 0.22)


def _clock(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    r = 0.68 + 0.12 * q[0]
    cy = -0.95 + r + 0.12
    for side in (-1, 1):  # feet
        p.part(capsule(u, v, (side * 0.34, cy - r * 0.7), (side * 0.5, -0.9), 0.08), trim, bulge=0.1)
    if s.variant == 0:  # alarm bells
        for side in (-1, 1):
            p.part(circle(u, v, side * 0.42, cy + r * 0.86, 0.24), trim, bulge=0.2, shine=0.5)
    if s.variant == 1:
        p.part(box(u, v, 0, cy, r, r, 0.16), body, bulge=0.3, shine=0.4)
    else:
        p.part(circle(u, v, 0, cy, r), body, bulge=0.3, shine=0.4)
    face = r * (0.66 + 0.1 * q[1])
    p.part(circle(u, v, 0, cy, face), WHITE, bulge=0.08, shine=0.05)
    for x, y in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        p.part(circle(u, v, x * face * 0.8, cy + y * face * 0.8, 0.055), DARK, bulge=0.05, outline=1.0)
    paint_emblem(p, s, 0, cy - face * 0.36, 0.17)
    for angle, length, thick in ((q[2], 0.5, 0.055), (q[3], 0.72, 0.04)):
        x, y = _direction(angle)
        p.part(capsule(u, v, (0, cy), (x * face * length, cy + y * face * length), thick), DARK, outline=1.0)


def _direction(turn: float) -> tuple[float, float]:
    """A unit vector for a part of a full turn, clockwise from twelve o'clock."""
    return float(np.sin(2 * np.pi * turn)), float(np.cos(2 * np.pi * turn))


def _teapot(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    a, b = 0.5 + 0.12 * q[0], 0.46 + 0.16 * q[1]
    cy = -0.93 + b
    p.part(np.abs(ellipse(u, v, a * 0.98, cy + 0.06, 0.26 + 0.08 * q[2], 0.32)) - 0.075, trim, bulge=0.1)
    tip = cy + 0.2 + 0.34 * q[3]
    p.part(
        polygon(
            u,
            v,
            [(-a * 0.75, cy - 0.24), (-a * 0.6, cy + 0.18), (-0.95, tip + 0.05), (-0.99, tip - 0.1)],
            0.04,
        ),
        trim,
        bulge=0.14,
        shine=0.4,
    )
    shape = ellipse(u, v, 0, cy, a, b)
    if s.variant == 1:
        shape = box(u, v, 0, cy, a, b, 0.22)
    elif s.variant == 2:
        shape = polygon(u, v, [(-a, -0.93), (a, -0.93), (a * 0.55, cy + b), (-a * 0.55, cy + b)])
    p.part(shape, body, bulge=0.5, shine=0.6)
    p.part(ellipse(u, v, 0, cy + b, a * 0.52, 0.12), trim, bulge=0.12, shine=0.4)
    p.part(circle(u, v, 0, cy + b + 0.17, 0.1 + 0.05 * q[4]), rgb(s.emblem_colour, s.shade), bulge=0.1, shine=0.5)
    paint_emblem(p, s, 0, cy - 0.02, 0.25)


def _backpack(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    a, top = 0.5 + 0.16 * q[0], 0.6 + 0.18 * q[1]
    p.part(np.abs(ellipse(u, v, 0, top, 0.2, 0.2)) - 0.055, DARK, bulge=0.06)
    for side in (-1, 1):  # straps and side pockets
        p.part(capsule(u, v, (side * a, 0.3), (side * (a + 0.16), -0.5), 0.09), trim * 0.7, bulge=0.1)
        if s.variant == 1:
            p.part(box(u, v, side * a, -0.6, 0.2, 0.26, 0.1), trim, bulge=0.15)
    p.part(box(u, v, 0, (top - 0.95) / 2, a, (top + 0.95) / 2, 0.2 + 0.2 * q[2]), body, bulge=0.4, shine=0.15)
    pocket = -0.62 + 0.1 * q[3]
    p.part(box(u, v, 0, pocket, a * 0.76, 0.25, 0.1), trim, bulge=0.15, shine=0.1)
    p.part(capsule(u, v, (-a * 0.55, pocket + 0.1), (a * 0.55, pocket + 0.1), 0.025), DARK, outline=1.0)
    if s.variant == 2:
        p.part(box(u, v, 0, top - 0.18, a * 0.98, 0.1, 0.06), trim, bulge=0.1)
    paint_emblem(p, s, 0, 0.14 + 0.1 * q[4], 0.26)


def _sneaker(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    ankle, sole = 0.15 + 0.42 * q[0], 0.1 + 0.08 * q[1]
    low = -0.62
    shaft = polygon(u, v, [(0.16, low), (0.86, low), (0.8 + 0.06 * q[3], ankle), (0.2, ankle)], 0.05)
    slope = polygon(u, v, [(-0.62, low), (0.5, low), (0.3, ankle - 0.02), (-0.5, low + 0.34)], 0.03)
    toe = np.maximum(ellipse(u, v, -0.5, low, 0.46, 0.38 + 0.1 * q[2]), low - 0.02 - v)
    p.part(np.minimum(np.minimum(shaft, slope), toe), body, bulge=0.3, shine=0.25)
    if s.variant != 2:
        p.part(np.maximum(ellipse(u, v, -0.66, low, 0.3, 0.28), low - 0.02 - v), trim, bulge=0.15)
    p.part(box(u, v, 0.5, ankle, 0.36, 0.09, 0.06), trim, bulge=0.1)
    for i in range(3):  # laces
        x, y = -0.3 + 0.2 * i, low + 0.42 + (ankle - low - 0.4) * (0.08 + 0.3 * i)
        p.part(capsule(u, v, (x - 0.1, y), (x + 0.1, y - 0.14), 0.045), WHITE, bulge=0.05, outline=0.7)
    p.part(box(u, v, -0.02, low - sole, 0.95, sole, 0.08), WHITE if s.variant else trim, bulge=0.12)
    paint_emblem(p, s, 0.42, (low + ankle) / 2 - 0.03, 0.22)


PAINTERS: dict[str, Callable[[Painter, Subject, float], None]] = {
    "backpack": _backpack, "bowl": _bowl, "can": _can, "candle": _candle, "cat": paint_cat,
    "clock": _clock, "dog": paint_dog, "sneaker": _sneaker, "teapot": _teapot, "vase": _vase,
}  # fmt: skip
