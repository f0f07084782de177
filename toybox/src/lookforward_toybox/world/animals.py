"""How cat and dog look, painted as in `shapes`: their head faces us and moves with the pose."""

from itertools import pairwise

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, capsule, circle, ellipse, polygon
from lookforward_toybox.world.colours import DARK, WHITE, rgb
from lookforward_toybox.world.markings import body_colour, paint_emblem
from lookforward_toybox.world.outfits import Figure, paint_garment, paint_headwear
from lookforward_toybox.world.subject import WorldSubject


def paint_cat(p: Painter, s: WorldSubject, pose: float, outfit: str | None = None) -> None:
    """Slim, fluffy, with folded ears, or standing."""
    plain, second = rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    f = _cat_figure(s, pose)
    _cat_body(p, s, f)
    with p.made_of("cloth"):
        paint_garment(p, outfit, f)
    paint_emblem(p, s, f.body_x + (0.06 if s.variant == 3 else 0), f.body_y + 0.06, 0.2)
    _cat_head(p, s, f)
    u, v, x, y, r = p.u, p.v, f.head_x, f.head_y, f.head_r
    _eyes(p, x, y, r, rgb(s.emblem_colour) * 0.5 + 0.3)
    if s.variant == 2:
        for side in (-1, 1):  # full cheeks
            p.part(ellipse(u, v, x + side * r * 0.2, y - r * 0.42, r * 0.27, r * 0.22), plain * 0.4 + WHITE * 0.6, 0.1)
    p.part(ellipse(u, v, x, y - r * 0.26, 0.075, 0.055), DARK, bulge=0.08, shine=0.4, outline=1.0)
    for side in (-1, 1):  # whiskers
        for rise in (-0.06, 0.05):
            start, end = (x + side * 0.18, y - 0.17), (x + side * (r + 0.22), y - 0.17 + 2 * rise)
            p.part(capsule(u, v, start, end, 0.014), WHITE if s.colour == "black" else DARK, outline=1.0)
    if s.variant == 1:  # a bright chin
        p.part(ellipse(u, v, x, y - r * 0.72, r * 0.3, r * 0.14), second * 0.5 + WHITE * 0.5, bulge=0.1, shine=0.02)
    with p.made_of("cloth"):
        paint_headwear(p, outfit, f)


def _cat_figure(s: WorldSubject, pose: float) -> Figure:
    q, turn = s.proportions, 0.08 * pose
    match s.variant:
        case 0:
            return Figure(turn, 0.38, 0.32 + 0.05 * q[1], 0, -0.43, 0.34 + 0.08 * q[0], 0.54)
        case 1:
            return Figure(turn, 0.3, 0.38 + 0.04 * q[1], 0, -0.45, 0.5 + 0.1 * q[0], 0.5)
        case 2:
            return Figure(turn, 0.28, 0.42 + 0.05 * q[1], 0, -0.5, 0.42 + 0.08 * q[0], 0.46)
        case _:
            return Figure(-0.5 + turn, 0.26, 0.33 + 0.05 * q[1], 0.12, -0.36, 0.58 + 0.06 * q[0], 0.31)


def _cat_body(p: Painter, s: WorldSubject, f: Figure) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, plain, second = body_colour(p, s), rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    body = ellipse(u, v, f.body_x, f.body_y, f.body_a, f.body_b)
    match s.variant:
        case 1:  # a bush of a tail
            _tail(p, [(f.body_a * 0.7, -0.74), (f.body_a + 0.26, -0.35 + 0.3 * q[2])], 0.2, plain, second)
            body = body + _ruffle(p, f.body_x, f.body_y)
        case 2:  # the tail lies round its feet, painted below
            pass
        case 3:
            _tail(p, [(0.6, -0.3), (0.82, 0.1), (0.72 + 0.2 * q[2], 0.5 + 0.2 * q[3])], 0.08, plain, second)
            for x in (-0.2, 0.44):
                p.part(capsule(u, v, (x, -0.4), (x, -0.85), 0.095), plain * 0.75, bulge=0.1, shine=0.05)
        case _:
            x = f.body_a + 0.3
            _tail(p, [(f.body_a * 0.7, -0.82), (x, -0.6), (x - 0.05, -0.1 + 0.4 * q[2])], 0.08, plain, second)
    p.part(body, coat, bulge=0.4, shine=0.08)
    if s.variant == 3:
        for x in (-0.33, 0.58):
            p.part(capsule(u, v, (x, -0.4), (x, -0.82), 0.1), plain, bulge=0.1, shine=0.05)
            p.part(ellipse(u, v, x - 0.04, -0.87, 0.14, 0.085), second, bulge=0.08, shine=0.05)
        return
    for side in (-1, 1):
        p.part(ellipse(u, v, side * 0.2, -0.85, 0.17, 0.11), plain if s.variant else second, bulge=0.1, shine=0.05)
    if s.variant == 2:
        _tail(p, [(f.body_a, -0.7), (f.body_a + 0.12, -0.84), (0.05, -0.86)], 0.09, plain, second)


def _cat_head(p: Painter, s: WorldSubject, f: Figure) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, plain, second = body_colour(p, s), rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    x, y, r = f.head_x, f.head_y, f.head_r
    rise = (1.35 + 0.3 * q[3], 1.15, 0.95, 1.2 + 0.2 * q[3])[s.variant]
    head = ellipse(u, v, x, y, r * (1.2 if s.variant == 2 else 1.1), r)
    if s.variant == 1:
        head = np.minimum(head, ellipse(u, v, x, y - r * 0.3, r * 1.35, r * 0.55)) + _ruffle(p, x, y)
    if s.variant != 2:
        for side in (-1, 1):
            ear = [(x + side * r * at, y + r * up) for at, up in ((0.95, 0.25), (0.2, 0.8), (0.92, rise))]
            p.part(polygon(u, v, ear, 0.02), plain, bulge=0.15, shine=0.05)
            middle = (sum(i for i, _ in ear) / 3, sum(j for _, j in ear) / 3)
            inner = [(i * 0.5 + middle[0] * 0.5, j * 0.5 + middle[1] * 0.5) for i, j in ear]
            p.part(polygon(u, v, inner), second, bulge=0.1, shine=0.0, outline=1.0)
    p.part(head, coat, bulge=0.3, shine=0.08)
    if s.variant == 2:
        for side in (-1, 1):  # folded forwards
            ear = [(x + side * r * at, y + r * up) for at, up in ((0.52, 0.9), (1.02, 0.6), (0.84, 0.42 - 0.1 * q[3]))]
            p.part(polygon(u, v, ear, 0.05), second, bulge=0.1, shine=0.05)


def paint_dog(p: Painter, s: WorldSubject, pose: float, outfit: str | None = None) -> None:
    """With pricked ears and short legs, with hanging ears, a poodle in puffs, or a long low one."""
    f = _dog_figure(s, pose)
    _dog_body(p, s, f)
    between = (f.head_x + f.body_x) / 2 if s.variant != 3 else f.head_x + 0.04
    collar = rgb(s.emblem_colour, s.shade)
    p.part(box(p.u, p.v, between, f.head_y - f.head_r - 0.05, f.head_r * 0.8, 0.08, 0.06), collar, bulge=0.06)
    with p.made_of("cloth"):
        paint_garment(p, outfit, f)
    paint_emblem(p, s, f.body_x + (0.08 if s.variant == 3 else 0), f.body_y + (0.0 if s.variant == 3 else 0.08), 0.2)
    _dog_head(p, s, f)
    with p.made_of("cloth"):
        paint_headwear(p, outfit, f)


def _dog_figure(s: WorldSubject, pose: float) -> Figure:
    q, turn = s.proportions, 0.08 * pose
    match s.variant:
        case 0:
            return Figure(turn, 0.26, 0.38 + 0.04 * q[1], 0, -0.44, 0.48 + 0.12 * q[0], 0.44)
        case 1:
            return Figure(turn, 0.4, 0.37 + 0.06 * q[1], 0, -0.43, 0.42 + 0.1 * q[0], 0.52)
        case 2:
            return Figure(turn, 0.34, 0.33 + 0.04 * q[1], 0, -0.4, 0.4 + 0.08 * q[0], 0.44)
        case _:
            return Figure(-0.5 + turn, 0.1, 0.33 + 0.05 * q[1], 0.16, -0.5, 0.72 + 0.06 * q[0], 0.29)


def _dog_body(p: Painter, s: WorldSubject, f: Figure) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, plain, second = body_colour(p, s), rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    body = ellipse(u, v, f.body_x, f.body_y, f.body_a, f.body_b)
    end = f.body_a + 0.24
    match s.variant:
        case 0:
            _puff(p, f.body_a, -0.42, 0.17 + 0.06 * q[2], second)
        case 1:
            _tail(p, [(f.body_a * 0.7, -0.7), (end, -0.5), (end + 0.1, -0.1 + 0.3 * q[2])], 0.09, plain, WHITE)
        case 2:
            p.part(capsule(u, v, (f.body_a * 0.7, -0.6), (end, -0.15), 0.06), plain, bulge=0.08)
            _puff(p, end, -0.05 + 0.1 * q[2], 0.19, second)
        case _:
            _tail(p, [(0.75, -0.45), (0.98, -0.1 + 0.3 * q[2])], 0.06, plain, second)
            for x in (-0.16, 0.48):
                p.part(capsule(u, v, (x, -0.6), (x, -0.86), 0.09), plain * 0.75, bulge=0.1, shine=0.05)
            body = box(u, v, f.body_x, f.body_y, f.body_a, f.body_b, f.body_b)
    p.part(body, coat, bulge=0.4, shine=0.08)
    if s.variant == 3:
        for x in (-0.36, 0.66):
            p.part(capsule(u, v, (x, -0.6), (x, -0.86), 0.1), plain, bulge=0.1, shine=0.05)
        return
    if s.variant == 0:  # a white bib
        p.part(ellipse(u, v, 0, -0.3, f.body_a * 0.62, 0.4), plain * 0.25 + WHITE * 0.75, bulge=0.3, outline=0.9)
    knee = -0.7 if s.variant == 0 else -0.5
    for side in (-1, 1):
        x = side * (0.24 if s.variant != 2 else 0.27)
        p.part(capsule(u, v, (x, knee), (x, -0.84), 0.08 if s.variant == 2 else 0.12), plain, bulge=0.12, shine=0.05)
        if s.variant == 2:
            _puff(p, x, -0.82, 0.14, second)


def _dog_head(p: Painter, s: WorldSubject, f: Figure) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, plain, second = body_colour(p, s), rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    x, y, r = f.head_x, f.head_y, f.head_r
    sides = (-1, 1)
    if s.variant == 0:
        for side in sides:
            tip = (x + side * r * (0.95 + 0.2 * q[4]), y + r * (1.5 + 0.25 * q[3]))
            p.part(polygon(u, v, [(x + side * r, y + r * 0.3), (x + side * r * 0.25, y + r * 0.75), tip], 0.05), plain)
            p.part(polygon(u, v, [(x + side * r * 0.9, y + r * 0.5), (x + side * r * 0.5, y + r * 0.75), tip]), second)
    p.part(ellipse(u, v, x, y, r * (1.12 if s.variant == 0 else 0.98), r), coat, bulge=0.3, shine=0.08)
    match s.variant:
        case 1:
            for side in sides:
                start, end = (x + side * r * 0.86, y + r * 0.6), (x + side * (r + 0.14), y - 0.25 - 0.2 * q[3])
                p.part(capsule(u, v, start, end, 0.14), second, bulge=0.14, shine=0.05)
        case 2:
            for side in sides:
                _puff(p, x + side * r * 1.1, y - 0.06 - 0.1 * q[3], 0.2, second)
            _puff(p, x, y + r * 1.02, 0.25, second)
        case 3:
            for side in sides:
                ear = ellipse(u, v, x + side * r * 1.08, y - r * 0.1, 0.13, r * (0.75 + 0.2 * q[3]))
                p.part(ear, second, bulge=0.13, shine=0.05)
        case _:
            pass
    length = 0.55 if s.variant == 3 else 0.42
    muzzle = ellipse(u, v, x, y - r * 0.45, r * 0.5, r * length)
    p.part(muzzle, plain * 0.4 + WHITE * 0.6, bulge=0.2, shine=0.05, outline=0.8)
    _eyes(p, x, y, r, DARK)
    p.part(ellipse(u, v, x, y - r * 0.3, 0.12, 0.09), DARK, bulge=0.08, shine=0.4, outline=1.0)
    if s.variant != 2:  # a tongue
        p.part(ellipse(u, v, x, y - r * 0.82, 0.07, 0.09), np.array([0.93, 0.45, 0.5], np.float32), bulge=0.06)


def _eyes(p: Painter, x: float, y: float, r: float, colour: Array) -> None:
    u, v = p.u, p.v
    for side in (-1, 1):
        p.part(ellipse(u, v, x + side * r * 0.45, y + r * 0.15, 0.1, 0.11), WHITE, bulge=0.05, outline=0.6)
        p.part(circle(u, v, x + side * r * 0.43, y + r * 0.14, 0.07), colour * 0.8, bulge=0.05, outline=0.4)


def _tail(p: Painter, points: list[tuple[float, float]], r: float, colour: Array, tip: Array) -> None:
    """A tail through the points, its tip in another colour."""
    parts = [capsule(p.u, p.v, a, b, r) for a, b in pairwise(points)]
    p.part(np.minimum.reduce(parts), colour, bulge=0.1, shine=0.05)
    p.part(circle(p.u, p.v, *points[-1], r * 1.15), tip, bulge=0.1, shine=0.05)


def _puff(p: Painter, x: float, y: float, r: float, colour: Array) -> None:
    """A ball of curls."""
    curls = 0.03 * np.sin(22 * (p.u - x)) * np.sin(22 * (p.v - y))
    p.part(circle(p.u, p.v, x, y, r) + curls, colour, bulge=0.2, shine=0.04)


def _ruffle(p: Painter, x: float, y: float) -> Array:
    """Added to a distance: tufts of long hair round (x, y)."""
    return 0.025 * np.sin(17 * np.arctan2(p.v - y, p.u - x))
