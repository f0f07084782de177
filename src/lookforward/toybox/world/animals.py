"""How cat and dog look, painted as in `shapes`: their head moves with the pose."""

from lookforward.toybox.world.canvas import Array, Painter, box, capsule, circle, ellipse, polygon
from lookforward.toybox.world.colours import DARK, WHITE, rgb
from lookforward.toybox.world.markings import body_colour, paint_emblem
from lookforward.toybox.world.subject import Subject


def paint_cat(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, second = body_colour(p, s), rgb(s.second_colour, s.shade)
    plain = rgb(s.colour, s.shade)
    a = 0.4 + 0.14 * q[0]
    hx, hy, hr = 0.1 * pose, 0.36, 0.36 + 0.08 * q[1]
    p.part(capsule(u, v, (a * 0.8, -0.8), (a + 0.34, -0.25 + 0.3 * q[2]), 0.085), plain, bulge=0.1)
    p.part(circle(u, v, a + 0.34, -0.25 + 0.3 * q[2], 0.1), second, bulge=0.1)
    p.part(ellipse(u, v, 0, -0.45, a, 0.52), coat, bulge=0.4, shine=0.08)
    for side in (-1, 1):
        p.part(
            ellipse(u, v, side * 0.2, -0.85, 0.17, 0.11),
            plain if s.variant else second,
            bulge=0.1,
            shine=0.05,
        )
        ear = [
            (hx + side * hr * 0.95, hy + hr * 0.25),
            (hx + side * hr * 0.2, hy + hr * 0.8),
            (hx + side * hr * 0.92, hy + hr * (1.25 + 0.35 * q[3])),
        ]
        p.part(polygon(u, v, ear, 0.02), plain, bulge=0.15, shine=0.05)
        middle = (sum(x for x, _ in ear) / 3, sum(y for _, y in ear) / 3)
        inner = [(x * 0.5 + middle[0] * 0.5, y * 0.5 + middle[1] * 0.5) for x, y in ear]
        p.part(polygon(u, v, inner), second, bulge=0.1, shine=0.0, outline=1.0)
    p.part(ellipse(u, v, hx, hy, hr * 1.12, hr), coat, bulge=0.3, shine=0.08)
    _face(p, hx, hy, hr, eye=rgb(s.emblem_colour) * 0.5 + 0.3, nose=0.06, muzzle=None)
    for side in (-1, 1):  # whiskers
        for rise in (-0.06, 0.05):
            p.part(
                capsule(
                    u,
                    v,
                    (hx + side * 0.16, hy - 0.17),
                    (hx + side * (hr + 0.22), hy - 0.17 + 2 * rise),
                    0.014,
                ),
                WHITE if s.colour == "black" else DARK,
                outline=1.0,
            )
    paint_emblem(p, s, 0, -0.36, 0.21)


def paint_dog(p: Painter, s: Subject, pose: float) -> None:
    u, v, q = p.u, p.v, s.proportions
    coat, second = body_colour(p, s), rgb(s.second_colour, s.shade)
    plain = rgb(s.colour, s.shade)
    a = 0.46 + 0.14 * q[0]
    hx, hy, hr = 0.1 * pose, 0.38, 0.36 + 0.08 * q[1]
    p.part(capsule(u, v, (a * 0.7, -0.7), (a + 0.26, -0.45 + 0.2 * q[2]), 0.11), second, bulge=0.12)
    p.part(ellipse(u, v, 0, -0.45, a, 0.52), coat, bulge=0.4, shine=0.08)
    for side in (-1, 1):
        p.part(capsule(u, v, (side * 0.22, -0.5), (side * 0.22, -0.84), 0.13), plain, bulge=0.12, shine=0.05)
    p.part(ellipse(u, v, hx, hy, hr * (0.95 + 0.15 * q[4]), hr * 1.05), coat, bulge=0.3, shine=0.08)
    drop = 0.3 + 0.25 * q[3]
    for side in (-1, 1):  # ears that hang, or stand up
        start = (hx + side * hr * 0.86, hy + hr * 0.62)
        end = (hx + side * (hr + 0.16), hy - drop) if s.variant else (hx + side * hr * 1.2, hy + hr * 1.15)
        p.part(capsule(u, v, start, end, 0.14), second, bulge=0.14, shine=0.05)
    muzzle = plain * 0.4 + WHITE * 0.6
    _face(p, hx, hy, hr, eye=DARK, nose=0.105, muzzle=muzzle)
    collar = rgb(s.emblem_colour, s.shade)
    p.part(box(u, v, hx * 0.5, hy - hr - 0.06, hr * 0.8, 0.07, 0.06), collar, bulge=0.06)
    paint_emblem(p, s, hx * 0.5, -0.34, 0.2)


def _face(p: Painter, x: float, y: float, r: float, eye: Array, nose: float, muzzle: Array | None) -> None:
    """Eyes, muzzle and nose on a head at (x, y) with radius r."""
    u, v = p.u, p.v
    if muzzle is not None:
        p.part(ellipse(u, v, x, y - r * 0.45, r * 0.52, r * 0.42), muzzle, bulge=0.2, shine=0.05, outline=0.8)
    for side in (-1, 1):
        p.part(ellipse(u, v, x + side * r * 0.46, y + r * 0.16, 0.105, 0.115), WHITE, bulge=0.05, outline=0.6)
        p.part(circle(u, v, x + side * r * 0.44, y + r * 0.14, 0.07), eye * 0.8, bulge=0.05, outline=0.4)
    p.part(ellipse(u, v, x, y - r * 0.3, nose * 1.2, nose), DARK, bulge=0.08, shine=0.4, outline=1.0)
