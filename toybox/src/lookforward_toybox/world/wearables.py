"""How what one wears looks: backpack, sneaker, boot and glasses, painted as in `shapes`."""

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, capsule, circle, ellipse, polygon
from lookforward_toybox.world.colours import DARK, METAL, WHITE, rgb
from lookforward_toybox.world.markings import body_colour, paint_emblem
from lookforward_toybox.world.subject import WorldSubject


def paint_backpack(p: Painter, s: WorldSubject, pose: float) -> None:
    """Plain, with side pockets, with a flap, or a tall one for hiking with a bedroll."""
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    a, top = 0.5 + 0.16 * q[0], 0.6 + 0.18 * q[1]
    corner = 0.2 + 0.2 * q[2]
    if s.variant == 3:
        a, top, corner = 0.4 + 0.1 * q[0], 0.62, 0.12
    p.part(np.abs(ellipse(u, v, 0, top, 0.2, 0.2)) - 0.055, DARK, bulge=0.06)
    for side in (-1, 1):  # straps and side pockets
        p.part(capsule(u, v, (side * a, 0.3), (side * (a + 0.16), -0.5), 0.09), trim * 0.7, bulge=0.1)
        if s.variant == 1:
            p.part(box(u, v, side * (a + 0.04), -0.55, 0.22, 0.34, 0.12), trim, bulge=0.15)
    p.part(box(u, v, 0, (top - 0.95) / 2, a, (top + 0.95) / 2, corner), body, bulge=0.4, shine=0.15)
    pocket = -0.62 + 0.1 * q[3]
    p.part(box(u, v, 0, pocket, a * 0.76, 0.25, 0.1), trim, bulge=0.15, shine=0.1)
    p.part(capsule(u, v, (-a * 0.55, pocket + 0.1), (a * 0.55, pocket + 0.1), 0.025), DARK, outline=1.0)
    if s.variant == 2:
        p.part(box(u, v, 0, top - 0.06, a * 1.06, 0.14, 0.1), trim, bulge=0.12)
        for side in (-1, 1):
            p.part(box(u, v, side * a * 0.72, top - 0.3, 0.06, 0.2, 0.03), trim * 0.7, bulge=0.06)
    if s.variant == 3:
        p.part(box(u, v, 0, top + 0.12, a + 0.26, 0.19, 0.18), trim, bulge=0.19, shine=0.1)
        for side in (-1, 1):
            p.part(box(u, v, side * a * 0.62, top + 0.08, 0.05, 0.26, 0.03), DARK, bulge=0.06)
    paint_emblem(p, s, 0, 0.11 + 0.1 * q[4], 0.26)


def paint_sneaker(p: Painter, s: WorldSubject, pose: float) -> None:
    """A plain low one, one for running with a wedge of a sole, a high one, or one with a big tongue and stripes."""
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    ankle = 0.34 + 0.2 * q[0] if s.variant == 2 else -0.02 + 0.16 * q[0]
    sole, low = 0.12 + 0.06 * q[1], -0.62
    if s.variant == 3:
        p.part(capsule(u, v, (0.12, ankle - 0.1), (0.06, ankle + 0.22), 0.13), trim, bulge=0.12, shine=0.1)
    shaft = polygon(u, v, [(0.16, low), (0.86, low), (0.8 + 0.06 * q[3], ankle), (0.2, ankle)], 0.05)
    slope = polygon(u, v, [(-0.62, low), (0.5, low), (0.3, ankle - 0.02), (-0.5, low + 0.34)], 0.03)
    toe = np.maximum(ellipse(u, v, -0.5, low, 0.46, 0.38 + 0.1 * q[2]), low - 0.02 - v)
    p.part(np.minimum(np.minimum(shaft, slope), toe), body, bulge=0.3, shine=0.25)
    if s.variant in (0, 2):
        cap = trim if s.variant == 0 else WHITE
        p.part(np.maximum(ellipse(u, v, -0.66, low, 0.3, 0.28), low - 0.02 - v), cap, bulge=0.15)
    if s.variant == 3:
        for x in (-0.4, -0.22):
            p.part(capsule(u, v, (x, low), (x + 0.14, low + 0.26), 0.04), trim, bulge=0.05, outline=0.9)
    p.part(box(u, v, 0.5, ankle, 0.36, 0.09, 0.06), trim, bulge=0.1)
    for i in range(3):  # laces
        x, y = -0.3 + 0.2 * i, low + 0.42 + (ankle - low - 0.4) * (0.08 + 0.3 * i)
        p.part(capsule(u, v, (x - 0.1, y), (x + 0.1, y - 0.14), 0.045), WHITE, bulge=0.05, outline=0.7)
    if s.variant == 1:
        wedge = [(-0.97, low - 0.02), (0.7, low + 0.1), (1.0, low + 0.06), (0.92, -0.92), (-0.8, -0.92)]
        p.part(polygon(u, v, wedge, 0.03), WHITE, bulge=0.12)
        p.part(capsule(u, v, (-0.8, -0.79), (0.9, -0.7), 0.045), trim, bulge=0.06)
    else:
        p.part(box(u, v, -0.02, low - sole, 0.95, sole, 0.08), WHITE, bulge=0.12)
    paint_emblem(p, s, 0.44, (low + ankle) / 2, 0.22)


def paint_boot(p: Painter, s: WorldSubject, pose: float) -> None:
    """With straps and heel, lined with fur, of rubber, or a cowboy's."""
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    heeled = s.variant in (0, 3)
    top, low = 0.72 + 0.12 * q[0], -0.7 if heeled else -0.76
    left, right = -0.1 - 0.1 * q[1], 0.6 + 0.06 * q[2]
    shaft = polygon(u, v, [(left + 0.04, low), (0.6, low), (right, top), (left, top)], 0.04)
    height = 0.34 + 0.1 * q[3]
    if s.variant == 3:
        toe = polygon(u, v, [(-0.95, low + 0.04), (0.5, low), (0.5, -0.1), (-0.1, low + height + 0.1)], 0.02)
        toe = np.minimum(toe, ellipse(u, v, -0.4, low + 0.12, 0.42, 0.16))
    else:
        toe = np.minimum(
            ellipse(u, v, -0.4, low + 0.02, 0.45, height),
            polygon(u, v, [(-0.4, low), (0.4, low), (0.3, -0.1), (0.0, -0.1), (-0.38, low + height)]),
        )
    shape = np.maximum(np.minimum(shaft, toe), low - v)
    if s.variant == 3:  # cut out at the top
        shape = np.maximum(shape, 0.75 * (v - top + 0.22 - 0.9 * np.abs(u - (left + right) / 2)))
    p.part(shape, body, bulge=0.3, shine=0.12 if s.variant == 1 else 0.5 if s.variant == 2 else 0.3)
    if heeled:
        p.part(polygon(u, v, [(0.2, low), (0.66, low), (0.58, -0.94), (0.28, -0.94)], 0.01), DARK, bulge=0.1)
        p.part(capsule(u, v, (-0.8, low - 0.02), (0.62, low - 0.02), 0.06), DARK, bulge=0.06, shine=0.1)
    else:
        p.part(box(u, v, -0.1, -0.85, 0.78, 0.1, 0.05), DARK if s.variant == 1 else trim, bulge=0.1)
    middle, half = (left + right) / 2, (right - left) / 2
    match s.variant:
        case 0:
            for y in (top - 0.08, -0.34):
                p.part(box(u, v, middle + 0.02, y, half + 0.08, 0.08, 0.03), trim, bulge=0.08)
                p.part(np.abs(box(u, v, middle - 0.2, y, 0.09, 0.09)) - 0.03, METAL, bulge=0.05, shine=0.6)
        case 1:
            tufts = 0.03 * np.sin(24 * u) * np.sin(24 * v + 1)
            p.part(box(u, v, middle, top, half + 0.16, 0.19, 0.17) + tufts, trim * 0.4 + WHITE * 0.6, 0.2, 0.02, 0.7)
            for y in (-0.5, -0.3):
                p.part(capsule(u, v, (-0.3, y - 0.04), (0.06, y + 0.06), 0.045), trim, bulge=0.05)
        case 2:
            p.part(box(u, v, middle, top, half + 0.08, 0.1, 0.04), trim, bulge=0.1, shine=0.5)
            cap = np.maximum(ellipse(u, v, -0.62, low, 0.28, 0.24), low - v)
            p.part(cap, trim, bulge=0.15, shine=0.5)
        case _:
            wave = -0.36 + 0.07 * np.sin(9 * u)
            p.part(np.maximum(np.abs(v - wave) - 0.045, shape + 0.03), trim, bulge=0.05, outline=0.9)
            for x in (left + 0.02, right - 0.02):
                p.part(capsule(u, v, (x, top - 0.08), (x, top + 0.1), 0.06), trim, bulge=0.06)
    paint_emblem(p, s, middle + 0.02, 0.16, 0.23)


def paint_glasses(p: Painter, s: WorldSubject, pose: float) -> None:
    """From the front, the temples reaching back: round, square, like cat's eyes, or an aviator's."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    thick = 0.12 + 0.05 * q[0]
    tall = (0.32, 0.24 + 0.08 * q[1], 0.24 + 0.05 * q[1], 0.36)[s.variant]
    cy = -0.93 + tall + thick
    for side in (-1, 1):
        hinge, end = (side * 0.92, cy + 0.12), (side * (0.6 + 0.12 * q[2]), cy + 0.62 + 0.1 * q[3])
        p.part(capsule(u, v, hinge, end, 0.05), rgb(s.colour, s.shade) * 0.6, bulge=0.06)
    lenses = np.minimum(*(_lens(p, s, side, cy, tall) for side in (-1, 1)))
    bridge = capsule(u, v, (-0.18, cy + 0.06), (0.18, cy + 0.06), thick * 0.5)
    if s.variant == 3:
        bridge = np.minimum(
            bridge, capsule(u, v, (-0.4, cy + tall * 0.72 + 0.06), (0.4, cy + tall * 0.72 + 0.06), 0.05)
        )
    p.part(np.minimum(lenses - thick, bridge), body_colour(p, s), bulge=0.12, shine=0.4)
    tint = (trim * 0.75 + 0.08) * np.clip(0.85 - 0.5 * (v - cy), 0.5, 1.2)[..., None]
    p.part(lenses, tint.astype(np.float32), bulge=0.04, shine=0.2, outline=0.6)
    # What is behind shows through the tinted glass
    p.alpha *= 1 - 0.3 * np.clip(0.5 - lenses / p.pixel, 0, 1)
    slant = u - 0.6 * (v - cy)
    glint = np.minimum(np.abs(slant - 0.42) - 0.05, np.abs(slant - 0.58) - 0.02)
    p.part(np.maximum(glint, lenses + 0.06), tint.astype(np.float32) * 0.3 + 0.68, outline=1.0)
    paint_emblem(p, s, -0.51, cy, 0.18)
    for side in (-1, 1):  # studs at the hinges
        p.part(circle(u, v, side * 0.92, cy + 0.14, 0.05), METAL, bulge=0.05, shine=0.6)


def _lens(p: Painter, s: WorldSubject, side: int, cy: float, tall: float) -> Array:
    u, v, x = p.u, p.v, side * 0.51
    match s.variant:
        case 0:
            return circle(u, v, x, cy, tall)
        case 1:
            return box(u, v, x, cy, 0.32, tall, 0.06)
        case 2:
            corner = [(x - side * 0.2, cy + tall * 0.8), (x + side * 0.36, cy + tall * 1.5), (x + side * 0.3, cy - 0.1)]
            return np.minimum(ellipse(u, v, x, cy, 0.34, tall), polygon(u, v, corner))
        case _:
            drop = ellipse(u, v, x + side * 0.02, cy + 0.06, 0.36, tall + 0.06)
            return np.maximum(drop, v - cy - tall * 0.72)
