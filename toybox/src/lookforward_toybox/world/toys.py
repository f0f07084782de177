"""How stuffed animal, toy and cartoon look, painted as in `shapes`."""

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, capsule, circle, ellipse, lathe, lathe_side, polygon
from lookforward_toybox.world.colours import DARK, METAL, WHITE, rgb
from lookforward_toybox.world.markings import body_colour, paint_emblem
from lookforward_toybox.world.subject import WorldSubject


def paint_stuffed_animal(p: Painter, s: WorldSubject, pose: float) -> None:
    """Bear, bunny, monkey or elephant, sitting with its soles towards us."""
    u, v, q = p.u, p.v, s.proportions
    coat, plain, trim = body_colour(p, s), rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    # The nap: it roughens the contour and, through the shading, the surface
    nap = 0.01 * np.sin(42 * u + 1.3) * np.sin(42 * v)
    a = 0.4 + 0.12 * q[0]
    hx, r = 0.06 * pose, 0.38 + 0.05 * q[1]
    hy = 0.08 + r * 0.6
    for side in (-1, 1):
        shoulder = (side * a * 0.75, -0.2)
        hand = (side * (0.86 - 0.1 * q[2]), -0.82) if s.variant == 2 else (side * (a + 0.26), -0.42 + 0.3 * q[2])
        p.part(capsule(u, v, shoulder, hand, 0.13) + nap, plain, bulge=0.15, shine=0.04)
    p.part(ellipse(u, v, 0, -0.48, a, 0.46) + nap, coat, bulge=0.4, shine=0.04)
    p.part(ellipse(u, v, 0, -0.46, a * 0.76, 0.34), trim, bulge=0.08, shine=0.02, outline=0.8)
    for side in (-1, 1):
        p.part(ellipse(u, v, side * (a + 0.06), -0.73, 0.22, 0.21) + nap, plain, bulge=0.2, shine=0.04)
        p.part(ellipse(u, v, side * (a + 0.07), -0.74, 0.13, 0.13), trim, bulge=0.08, shine=0.02, outline=0.8)
    _plush_ears(p, s, hx, hy, r, nap)
    p.part(ellipse(u, v, hx, hy, r * 1.1, r) + nap, coat, bulge=0.35, shine=0.04)
    _plush_face(p, s, hx, hy, r)
    stitch = np.maximum(np.abs(u - hx) - 0.018, np.abs(v / 0.11 - np.floor(v / 0.11) - 0.5) * 0.11 - 0.032)
    p.part(np.maximum(stitch, hy + r * 0.3 - v) + np.where(v > hy + r * 0.95, 1, 0), plain * 0.45, outline=1.0)
    paint_emblem(p, s, 0, -0.47, 0.21)


def _plush_ears(p: Painter, s: WorldSubject, hx: float, hy: float, r: float, nap: Array) -> None:
    u, v, q = p.u, p.v, s.proportions
    plain, trim = rgb(s.colour, s.shade), rgb(s.second_colour, s.shade)
    for side in (-1, 1):
        match s.variant:
            case 1:  # long ones, of which one may hang
                drop = side == 1 and q[3] > 0.5
                end = (hx + 0.66, hy + 0.16) if drop else (hx + side * 0.3, 0.84)
                start = (hx + side * 0.16, hy + r * 0.8)
                p.part(capsule(u, v, start, end, 0.13) + nap, plain, bulge=0.15, shine=0.04)
                p.part(capsule(u, v, start, end, 0.06), trim, bulge=0.08, shine=0.02, outline=0.9)
            case 3:
                size = 0.25 + 0.06 * q[3]
                x = hx + side * (r + size * 0.65)
                p.part(ellipse(u, v, x, hy + 0.05, size, size * 1.15) + nap, plain, bulge=0.15, shine=0.04)
                p.part(ellipse(u, v, x, hy + 0.05, size * 0.66, size * 0.8), trim, shine=0.02, outline=0.8)
            case _:
                x, y = (hx + side * r * 1.15, hy + 0.04) if s.variant == 2 else (hx + side * r * 0.78, hy + r * 0.8)
                size = 0.14 + 0.05 * q[3]
                p.part(circle(u, v, x, y, size) + nap, plain, bulge=0.15, shine=0.04)
                p.part(circle(u, v, x, y, size * 0.58), trim, bulge=0.08, shine=0.02, outline=0.8)


def _plush_face(p: Painter, s: WorldSubject, x: float, y: float, r: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    plain = rgb(s.colour, s.shade)
    pale = plain * 0.35 + WHITE * 0.65
    if s.variant == 2:  # a mask round eyes and mouth
        p.part(
            np.minimum(
                ellipse(u, v, x, y - r * 0.36, r * 0.75, r * 0.52),
                np.minimum(
                    circle(u, v, x - r * 0.36, y + 0.04, r * 0.4), circle(u, v, x + r * 0.36, y + 0.04, r * 0.4)
                ),
            ),
            pale,
            bulge=0.15,
            shine=0.03,
            outline=0.8,
        )
    elif s.variant != 3:
        p.part(ellipse(u, v, x, y - r * 0.42, r * 0.5, r * 0.38), pale, bulge=0.2, shine=0.03, outline=0.8)
    for side in (-1, 1):  # button eyes
        at = (x + side * r * 0.44, y + r * 0.14)
        p.part(circle(u, v, *at, 0.095), WHITE if s.colour == "black" else DARK, bulge=0.05, shine=0.1, outline=0.7)
        p.part(circle(u, v, at[0] - 0.02, at[1] + 0.02, 0.03), DARK if s.colour == "black" else WHITE, outline=1.0)
    if s.variant == 3:
        bend, tip = (x + 0.04, y - r * 0.95), (x + 0.3 + 0.1 * q[4], y - r * 1.05)
        trunk = np.minimum(capsule(u, v, (x, y - r * 0.2), bend, 0.125), capsule(u, v, bend, tip, 0.105))
        p.part(trunk, plain, bulge=0.13, shine=0.05)
    else:
        p.part(ellipse(u, v, x, y - r * 0.26, 0.09, 0.06), DARK, bulge=0.06, shine=0.2, outline=1.0)
        p.part(capsule(u, v, (x, y - r * 0.3), (x, y - r * 0.56), 0.018), DARK, outline=1.0)


def paint_toy(p: Painter, s: WorldSubject, pose: float) -> None:
    """Duck, robot, car, monster or rocket."""
    (_duck, _robot, _car, _monster, _rocket)[s.variant](p, s, pose)


def _duck(p: Painter, s: WorldSubject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    bill = rgb("yellow" if s.colour in ("orange", "red") else "orange")
    x, y, r = -0.32 + 0.04 * pose, 0.2 + 0.08 * q[0], 0.38 + 0.07 * q[1]
    p.part(polygon(u, v, [(0.3, -0.6), (0.4, -0.15), (0.92, 0.08 + 0.2 * q[2])], 0.04), body, bulge=0.2, shine=0.5)
    p.part(ellipse(u, v, 0.02, -0.5, 0.78, 0.45), body, bulge=0.45, shine=0.6)
    p.part(circle(u, v, x, y, r), body, bulge=0.35, shine=0.6)
    for rise in (-0.1, 0.02):
        p.part(ellipse(u, v, x - r - 0.08, y + rise, 0.2, 0.08), bill, bulge=0.08, shine=0.4)
    p.part(ellipse(u, v, x - r * 0.4, y + r * 0.3, 0.1, 0.12), WHITE, bulge=0.05)
    p.part(circle(u, v, x - r * 0.46, y + r * 0.28, 0.06), DARK, shine=0.6, outline=1.0)
    p.part(ellipse(u, v, 0.22, -0.48, 0.42, 0.34), trim, bulge=0.15, shine=0.5)
    paint_emblem(p, s, 0.2, -0.48, 0.22)


def _robot(p: Painter, s: WorldSubject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    a, head = 0.4 + 0.14 * q[0], 0.3 + 0.12 * q[1]
    for side in (-1, 1):
        p.part(box(u, v, side * 0.24, -0.8, 0.15, 0.15, 0.04), trim, bulge=0.12, shine=0.4)
        lift = -0.35 + 0.3 * pose * side
        p.part(capsule(u, v, (side * a, 0.0), (side * (a + 0.24), lift), 0.07), METAL, bulge=0.08, shine=0.5)
        p.part(circle(u, v, side * (a + 0.25), lift, 0.13), trim, bulge=0.12, shine=0.5)
        p.part(box(u, v, side * (head + 0.03), 0.4, 0.08, 0.1, 0.04), METAL, bulge=0.08)
    p.part(capsule(u, v, (0, 0.6), (0, 0.84), 0.03), METAL, bulge=0.05)
    p.part(circle(u, v, 0, 0.86, 0.09), rgb(s.emblem_colour), bulge=0.1, shine=0.6)
    p.part(box(u, v, 0, 0.4, head, 0.27, 0.06 + 0.16 * q[2]), trim, bulge=0.2, shine=0.5)
    for side in (-1, 1):
        p.part(circle(u, v, side * head * 0.48, 0.46, 0.11), np.array([1, 0.95, 0.6], np.float32), shine=0.5)
        p.part(circle(u, v, side * head * 0.48, 0.46, 0.05), DARK, outline=1.0)
    p.part(box(u, v, 0, 0.24, head * 0.55, 0.045), DARK, outline=1.0)
    p.part(box(u, v, 0, -0.28, a, 0.42, 0.06 + 0.1 * q[3]), body, bulge=0.2, shine=0.5)
    paint_emblem(p, s, 0, -0.26, 0.23)


def _car(p: Painter, s: WorldSubject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    roof, lean = 0.2 + 0.3 * q[0], 0.3 + 0.25 * q[1]
    cabin = [(-0.72, -0.2), (0.66, -0.2), (0.66 - lean * 0.6, roof), (-0.72 + lean, roof)]
    p.part(polygon(u, v, cabin, 0.05), trim, bulge=0.2, shine=0.5)
    glass = np.array([0.72, 0.87, 0.95], np.float32)
    window = [(-0.58, -0.14), (0.55, -0.14), (0.55 - lean * 0.55, roof - 0.07), (-0.58 + lean * 0.9, roof - 0.07)]
    p.part(np.maximum(polygon(u, v, window), 0.05 - np.abs(u)), glass, bulge=0.06, shine=0.5, outline=0.7)
    p.part(box(u, v, 0, -0.46, 0.97, 0.3, 0.16 + 0.1 * q[2]), body, bulge=0.3, shine=0.6)
    p.part(circle(u, v, -0.88, -0.38, 0.1), np.array([1, 0.95, 0.6], np.float32), bulge=0.08, shine=0.5)
    wheel = 0.21 + 0.05 * q[3]
    for x in (-0.55, 0.55):
        p.part(circle(u, v, x, -0.95 + wheel, wheel), DARK, bulge=0.1, shine=0.1)
        p.part(circle(u, v, x, -0.95 + wheel, wheel * 0.5), METAL, bulge=0.1, shine=0.5)
    paint_emblem(p, s, 0, -0.44, 0.21)


def _monster(p: Painter, s: WorldSubject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    a, top = 0.52 + 0.14 * q[0], 0.45 + 0.2 * q[1]
    for side in (-1, 1):
        horn = [(side * a * 0.35, top - 0.1), (side * a * 0.85, top - 0.25), (side * a * 0.95, top + 0.32)]
        p.part(polygon(u, v, horn, 0.03), trim, bulge=0.12, shine=0.4)
        p.part(ellipse(u, v, side * 0.28, -0.85, 0.24, 0.11), trim, bulge=0.1, shine=0.3)
        hand = (side * (a + 0.26), -0.2 + 0.25 * pose * side)
        p.part(capsule(u, v, (side * a * 0.9, -0.25), hand, 0.1), trim, bulge=0.1, shine=0.3)
    p.part(box(u, v, 0, (top - 0.88) / 2, a, (top + 0.88) / 2, a * (0.6 + 0.38 * q[2])), body, bulge=0.45, shine=0.5)
    eyes = ((0.0, 0.24),) if q[3] < 0.5 else ((-0.23, 0.19), (0.23, 0.19))
    for x, size in eyes:
        p.part(circle(u, v, x, top - 0.3, size), WHITE, bulge=0.1, shine=0.4)
        p.part(circle(u, v, x + 0.04 * pose, top - 0.3, size * 0.48), DARK, shine=0.6, outline=1.0)
    p.part(box(u, v, 0, top - 0.63, 0.27, 0.07, 0.06), DARK, outline=1.0)
    for side in (-1, 1):
        p.part(polygon(u, v, [(side * 0.08, top - 0.57), (side * 0.2, top - 0.57), (side * 0.14, top - 0.7)]), WHITE)
    paint_emblem(p, s, 0, -0.5, 0.22)


def _rocket(p: Painter, s: WorldSubject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    body, trim = body_colour(p, s), rgb(s.second_colour, s.shade)
    wide, fin = 0.36 + 0.12 * q[0], 0.7 + 0.25 * q[1]
    p.part(polygon(u, v, [(-0.22, -0.9), (0.22, -0.9), (0.16, -0.6), (-0.16, -0.6)]), METAL * 0.7, bulge=0.15)
    for side in (-1, 1):
        points = [(side * 0.2, -0.1), (side * fin, -0.62), (side * fin, -0.93), (side * 0.2, -0.66)]
        p.part(polygon(u, v, points, 0.02), trim, bulge=0.1, shine=0.4)
    heights, widths = (-0.74, -0.3 + 0.2 * q[2], 0.5, 0.99), (0.26, wide, wide * 0.72, 0.0)
    side_distance = lathe_side(u, v, heights, widths)
    p.part(lathe(u, v, heights, widths), body, 0.45, 0.5, relief=side_distance)
    p.part(np.maximum(side_distance, 0.5 - v), trim, 0.4, 0.5, relief=side_distance)
    p.part(circle(u, v, 0, 0.26, 0.17), METAL, bulge=0.06, shine=0.5)
    p.part(circle(u, v, 0, 0.26, 0.11), np.array([0.6, 0.83, 0.95], np.float32), bulge=0.1, shine=0.6)
    paint_emblem(p, s, 0, -0.28, 0.23)


def paint_cartoon(p: Painter, s: WorldSubject, pose: float) -> None:
    """A flat figure in thick lines: an imp with horns, a bean with antennae, a square with a cap, a tufted pear."""
    u, v, q = p.u, p.v, s.proportions
    trim = rgb(s.second_colour, s.shade)
    a = 0.46 + 0.14 * q[0]
    for side in (-1, 1):
        _flat(p, capsule(u, v, (side * 0.2, -0.5), (side * 0.24, -0.84), 0.055), trim)
        _flat(p, ellipse(u, v, side * 0.3, -0.86, 0.17, 0.08), trim)
        hand = (side * (a + 0.3), 0.0 + (0.3 * pose + 0.25 * (q[1] - 0.5)) * side)
        _flat(p, capsule(u, v, (side * a * 0.8, -0.2), hand, 0.055), trim)
        _flat(p, circle(u, v, *hand, 0.11), WHITE)
    shape, eye_y = _cartoon_body(p, s, a, trim)
    # Two tones, the darker one away from the light
    lit = u * p.light[0] + (v + 0.1) * p.light[1] > -0.18 - 0.12 * q[2]
    _flat(p, shape, body_colour(p, s) * np.where(lit, 1.0, 0.72)[..., None].astype(np.float32))
    if s.variant == 2:
        _flat(p, box(u, v, 0, 0.56, a + 0.04, 0.08, 0.05), trim)
        _flat(p, box(u, v, -a - 0.1, 0.52, 0.26, 0.05, 0.05), trim)
    size = 0.15 + 0.04 * q[3]
    for side in (-1, 1):
        p.part(ellipse(u, v, side * size, eye_y, size + 0.03, size * 1.2 + 0.03), DARK, 0.01, 0.0, 1.0)
        p.part(ellipse(u, v, side * size, eye_y, size - 0.015, size * 1.2 - 0.015), WHITE, 0.01, 0.0, 1.0)
        p.part(ellipse(u, v, side * size * 0.75 + 0.04 * pose, eye_y - 0.02, 0.06, 0.09), DARK, 0.01, 0.0, 1.0)
    smile = np.maximum(np.abs(circle(u, v, 0, eye_y - 0.18, 0.16)) - 0.03, v - eye_y + 0.25)
    p.part(smile, DARK, 0.01, 0.0, 1.0)
    paint_emblem(p, s, 0, -0.36, 0.19)


def _cartoon_body(p: Painter, s: WorldSubject, a: float, trim: Array) -> tuple[Array, float]:
    """The distance to its body and the height of its eyes; what sits behind the body is painted at once."""
    u, v, q = p.u, p.v, s.proportions
    match s.variant:
        case 0:
            _flat(p, capsule(u, v, (0.2, -0.5), (a + 0.3, -0.6), 0.04), trim)
            _flat(p, polygon(u, v, [(a + 0.26, -0.72), (a + 0.28, -0.46), (a + 0.5, -0.54)]), trim)
            for side in (-1, 1):
                horn = [(side * a * 0.3, 0.5), (side * a * 0.85, 0.3), (side * (a * 0.75 + 0.2), 0.76 + 0.2 * q[4])]
                _flat(p, polygon(u, v, horn), trim)
            return ellipse(u, v, 0, 0.0, a * 1.08, 0.62), 0.27
        case 1:
            for side in (-1, 1):
                tip = (side * (0.2 + 0.2 * q[4]), 0.84)
                _flat(p, capsule(u, v, (side * 0.12, 0.5), tip, 0.03), trim)
                _flat(p, circle(u, v, *tip, 0.09), trim)
            return capsule(u, v, (0, -0.62 + a * 0.85), (0, 0.64 - a * 0.85), a * 0.85), 0.28
        case 2:
            _flat(p, np.maximum(ellipse(u, v, 0, 0.55, a, 0.36), 0.5 - v), trim)
            return box(u, v, 0, -0.05, a, 0.58, 0.1), 0.26
        case _:
            for lean in (-0.22, 0.0, 0.22):
                tip = (lean * (1 + q[4]), 0.94 - abs(lean) * 0.5)
                _flat(p, polygon(u, v, [(lean * 0.3 - 0.1, 0.5), (lean * 0.3 + 0.1, 0.5), tip]), trim)
            low = ellipse(u, v, 0, -0.26, a * 1.12, 0.38)
            return np.minimum(low, polygon(u, v, [(-a, -0.2), (a, -0.2), (0.24, 0.58), (-0.24, 0.58)], 0.05)), 0.26


def _flat(p: Painter, distance: Array, colour: Array) -> None:
    """A part in one tone with a thick dark line round it."""
    p.part(distance - 0.045, DARK, bulge=0.01, shine=0.0, outline=1.0)
    p.part(distance, colour, bulge=0.01, shine=0.0, outline=1.0)
