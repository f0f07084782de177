"""Scenes in town: cobbles, a city, a blue house, the Eiffel Tower and a crowd."""

import numpy as np

from lookforward_toybox.world.canvas import Array, box, capsule, circle, ellipse
from lookforward_toybox.world.scenes.backdrop import WHITE, Backdrop, rgb
from lookforward_toybox.world.scenes.parts import drop, ground, haze, hedge, pool, sky, trapezium


def street(b: Backdrop) -> None:
    horizon = b.number(0.38, 0.46)
    brick = rgb(b.number(0.62, 0.84), b.number(0.46, 0.6), b.number(0.34, 0.48))
    row = b.y * 40
    joints = np.abs(row - np.floor(row) - 0.5) > 0.36
    b.fill(brick * (0.92 + 0.14 * b.grain(40, 14) - 0.07 * joints - 0.2 * np.abs(b.x - 0.5)))
    shift = b.number(0, 0.3)
    shutters = b.near(0.3, 0.45, 0.4, 0.15)
    for i in range(4):
        _window(b, shift + 0.3 * i - 0.1, 0.17, shutters)
    b.paint(np.abs(b.y - horizon + 0.03) - 0.03, rgb(0.5, 0.47, 0.44))  # the foot of the wall
    depth = np.clip(b.y - horizon, 0.001, 1) / (1 - horizon)
    row = 9 * np.sqrt(depth)
    column = (b.x - 0.5) * 9 / (0.45 + 0.55 * depth) + 0.5 * (np.floor(row) % 2) + b.number(0, 1)
    p, q = column - np.floor(column) - 0.5, row - np.floor(row) - 0.5
    tone = (np.floor(column) * 12.99 + np.floor(row) * 78.23) % 1.0
    joint = np.clip((0.43 - (p**4 + q**4) ** 0.25) * 9, 0, 1)  # corners worn round
    stone = (0.5 + 0.22 * tone - 0.16 * q - 0.05 * p + 0.7 * pool(b)) * (0.45 + 0.55 * joint)
    b.paint(horizon - b.y, stone * b.near(1.0, 0.98, 0.95, 0.04))
    haze(b, horizon + 0.02, 0.07, rgb(0.2, 0.18, 0.18), 0.35)  # the shadow along the wall


def _window(b: Backdrop, x: float, y: float, shutters: Array) -> None:
    p = b.part(x - 0.14, x + 0.14, y - 0.14, y + 0.16)
    p.paint(box(p.x, p.y, x, y, 0.125, 0.1), shutters * (1 + 0.12 * np.sin(p.y * 220)))
    frame = box(p.x, p.y, x, y, 0.075, 0.11)
    p.paint(frame, rgb(0.95, 0.93, 0.88))
    glass = np.maximum(frame + 0.018, 0.006 - np.minimum(np.abs(p.x - x), np.abs(p.y - y + 0.02)))
    p.paint(glass, rgb(0.25, 0.33, 0.42) * (1.25 - 3 * (p.x - x + p.y - y)))
    p.paint(box(p.x, p.y, x, y + 0.125, 0.095, 0.014), rgb(0.85, 0.82, 0.77))


def city(b: Backdrop) -> None:
    level = b.number(0.56, 0.64)
    far = sky(b, level, 0.4)
    x = -0.05
    while x < 1:  # a far row in the haze
        width = b.number(0.06, 0.14)
        p = b.part(x, x + width, 0, level)
        p.paint(b.number(0.16, 0.42) - p.y, rgb(0.6, 0.66, 0.76) * 0.6 + far * 0.4)
        x += width
    x = b.number(-0.1, 0.0)
    while x < 1:
        width, top = b.number(0.11, 0.2), b.number(0.06, 0.36)
        _block(b, x, width, top, level)
        x += width + b.number(0.0, 0.05)
    haze(b, level, 0.2, far, 0.45)
    ground(b, level, b.near(0.62, 0.61, 0.6), 0.14)
    b.paint(np.abs(b.y - level - 0.012) - 0.012, rgb(0.8, 0.79, 0.77))


def _block(b: Backdrop, x: float, width: float, top: float, level: float) -> None:
    p = b.part(x, x + width, top - 0.1, level)
    grey = b.number(0.38, 0.64)
    front = box(p.x, p.y, x + width / 2, (top + level) / 2, width / 2, (level - top) / 2)
    body = b.near(grey * 0.92, grey * 0.96, grey * 1.06, 0.05)
    p.paint(front, body * (1.12 - 0.25 * (p.x - x) / width))
    if b.chance(0.4):
        p.paint(box(p.x, p.y, x + width / 2, top - 0.03, 0.006, 0.04), body * 0.7)
    column, row = (p.x - x) / 0.042, (p.y - top) / 0.05
    at, up = np.floor(column), np.floor(row)
    pane = np.maximum(np.abs(column - at - 0.5) * 0.042 - 0.012, np.abs(row - up - 0.5) * 0.05 - 0.014)
    lit = (at * 12.99 + up * 78.23 + x * 97) % 1.0 > 0.8
    p.paint(np.maximum(pane, front + 0.012), np.where(lit, rgb(0.98, 0.88, 0.55), rgb(0.2, 0.28, 0.4)))


def house(b: Backdrop) -> None:
    level, x, half = b.number(0.56, 0.64), b.number(0.3, 0.7), b.number(0.3, 0.36)
    far = sky(b, level)
    hedge(b, level + 0.01, b.number(0.07, 0.12), b.near(0.25, 0.45, 0.26))
    haze(b, level - 0.08, 0.16, far, 0.4)
    eaves = level - 0.3
    siding = 0.9 + 0.13 * np.clip(np.abs(((b.y * 26) % 1.0) - 0.5) * 4, 0, 1) - 0.3 * (b.x - x)
    b.paint(box(b.x, b.y, x + half * 0.5, eaves - 0.15, 0.035, 0.09), rgb(0.62, 0.36, 0.3))
    b.paint(box(b.x, b.y, x, (eaves + level) / 2, half, 0.15), b.near(0.18, 0.4, 0.82) * siding)
    tiles = 0.95 + 0.1 * np.sin(b.y * 190)
    roof = np.maximum(np.abs(b.x - x) * 0.62 - (b.y - eaves + 0.26), b.y - eaves)
    b.paint(roof * 0.85, b.near(0.52, 0.25, 0.2, 0.05) * tiles)
    b.paint(box(b.x, b.y, x, eaves + 0.008, half + 0.02, 0.01), rgb(0.95, 0.95, 0.95))
    for side in (-1, 1):
        p = b.around(x + side * half * 0.64, eaves + 0.12, 0.08)
        pane = box(p.x, p.y, x + side * half * 0.64, eaves + 0.12, 0.055, 0.06)
        p.paint(pane, rgb(0.98, 0.98, 0.98))
        cross = np.minimum(np.abs(p.x - x - side * half * 0.64), np.abs(p.y - eaves - 0.12))
        p.paint(np.maximum(pane + 0.014, 0.006 - cross), rgb(0.98, 0.88, 0.52))
    b.paint(box(b.x, b.y, x, level - 0.09, 0.05, 0.1), rgb(0.96, 0.94, 0.9))
    for _ in range(7):  # shrubs along the wall
        at = x + b.number(-1.1, 1.1) * half
        drop(b, at, level, b.number(0.03, 0.055), b.near(0.24, 0.48, 0.2, 0.05))
    ground(b, level + 0.02, b.near(0.36, 0.62, 0.24), 0.25)


def tower(b: Backdrop) -> None:
    level, x = b.number(0.6, 0.66), 0.5 + b.side() * b.number(0.26, 0.34)
    far = sky(b, level)
    hedge(b, level, b.number(0.05, 0.09), b.near(0.3, 0.46, 0.28))
    haze(b, level - 0.04, 0.16, far, 0.5)
    ground(b, level - 0.01, b.near(0.42, 0.64, 0.28), 0.2)
    path = trapezium(b, 0.5, level, 1.1, 0.05, 0.34)
    b.paint(path, b.near(0.86, 0.79, 0.66) * (1 + 0.16 * (b.grain(40, 40) - 0.5)))
    _eiffel(b, x, b.number(0.02, 0.06), level + 0.01)
    for i in range(8):  # clipped trees in front
        at = (i + b.number(0.2, 0.8)) / 8
        drop(b, at, level - 0.005, b.number(0.026, 0.042), b.near(0.2, 0.42, 0.2, 0.04))


def _eiffel(b: Backdrop, x: float, top: float, foot: float) -> None:
    p = b.part(x - 0.2, x + 0.2, top, foot)
    t = np.clip((p.y - top) / (foot - top), 0, 1)
    u = np.abs(p.x - x)
    outer = 0.007 + 0.03 * t + 0.135 * t**3.2
    inner = np.where(t > 0.56, outer - 0.02 - 0.034 * t, -1.0)
    iron = b.near(0.4, 0.29, 0.21, 0.02)
    legs = np.maximum(u - outer, inner - u)
    p.paint(legs, iron)
    # Lozenges of sky between the girders, growing downwards as the tower widens
    pitch = 0.024 + 0.02 * t
    one, two = ((p.x - x + p.y) / pitch) % 1.0, ((p.x - x - p.y) / pitch) % 1.0
    gap = 0.3 - np.maximum(np.abs(one - 0.5), np.abs(two - 0.5))
    p.paint(np.maximum(legs + 0.007, -gap * pitch), rgb(0.86, 0.86, 0.88), 0.6)
    for height, half, thick in ((0.42, 0.036, 0.012), (0.76, 0.088, 0.017)):
        p.paint(box(p.x, p.y, x, top + height * (foot - top), half, thick), iron * 0.8)
    under = top + 0.78 * (foot - top)
    arch = np.abs(ellipse(p.x, p.y, x, foot, 0.085, foot - under - 0.02)) - 0.008
    p.paint(np.maximum(arch, u - outer), iron * 0.9)


def crowd(b: Backdrop) -> None:
    kerb = b.number(0.62, 0.68)
    b.fill(b.near(0.78, 0.72, 0.64, 0.06) * (1.0 - 0.3 * b.y + 0.06 * b.grain(20, 6)))
    at = b.number(-0.2, 0)
    while at < 1:  # shops behind
        width = b.number(0.2, 0.3)
        p, awning = b.part(at, at + width, 0, kerb), b.near(0.6, 0.4, 0.35, 0.25)
        p.paint(box(p.x, p.y, at + width / 2, 0.3, width / 2 - 0.015, 0.22), b.near(0.3, 0.36, 0.42, 0.06))
        stripe = np.sin((p.x - at) * 130) > 0
        p.paint(box(p.x, p.y, at + width / 2, 0.13, width / 2, 0.035), np.where(stripe, awning, WHITE * 0.95))
        at += width
    b.paint(kerb - 0.14 - b.y, rgb(0.36, 0.36, 0.38))
    for count, foot, size, pale in ((9, kerb - 0.1, 0.36, 0.35), (8, kerb - 0.015, 0.48, 0.0)):
        for i in range(count):
            _person(b, (i + b.number(0.15, 0.85)) / count, foot, size * b.number(0.9, 1.08), pale)
    slabs = (b.y - kerb) / (1 - kerb)
    column = (b.x - 0.5) * 4 / (0.5 + 0.5 * slabs) + b.number(0, 1)
    row = 3.4 * np.sqrt(np.clip(slabs, 0.001, 1)) + b.number(0, 1)
    seam = np.minimum(np.abs(column - np.round(column)), np.abs(row - np.round(row)))
    tone = 0.68 + 0.14 * (b.grain(40, 40) - 0.5) + pool(b) - 0.2 * np.clip(1 - seam * 26, 0, 1)
    b.paint(kerb - b.y, tone * b.near(1, 1, 1.01, 0.02))
    b.paint(np.abs(b.y - kerb - 0.006) - 0.014, rgb(0.86, 0.86, 0.85))
    b.paint(np.abs(b.y - kerb + 0.013) - 0.006, rgb(0.24, 0.24, 0.26))


def _person(b: Backdrop, x: float, foot: float, size: float, pale: float) -> None:
    """Someone `size` tall from the front; `pale` is how far they fade with distance."""

    def far(colour: Array) -> Array:
        return colour + (rgb(0.72, 0.72, 0.74) - colour) * pale

    p = b.part(x - 0.2 * size, x + 0.2 * size, foot - size, foot)
    skin = far(rgb(0.95, 0.76, 0.62) * b.number(0.45, 1.0))
    hair = far(rgb(0.5, 0.34, 0.2) * b.number(0.2, 1.4))
    coat = far(rgb(*b.rng.uniform(0.14, 0.84, 3)))
    trousers = far(b.near(0.24, 0.26, 0.36, 0.12))
    stride = b.number(0.02, 0.06) * size
    for side in (-1, 1):
        hip, heel = (x + side * 0.045 * size, foot - 0.45 * size), (x + side * (0.03 * size + stride), foot)
        p.paint(capsule(p.x, p.y, hip, heel, 0.045 * size), trousers)
        shoulder, hand = (x + side * 0.11 * size, foot - 0.74 * size), (x + side * 0.15 * size, foot - 0.46 * size)
        p.paint(capsule(p.x, p.y, shoulder, hand, 0.034 * size), coat * 0.82)
    p.paint(box(p.x, p.y, x, foot - 0.6 * size, 0.115 * size, 0.2 * size, 0.06 * size), coat * (1.1 - 4 * (p.x - x)))
    head = foot - 0.9 * size
    p.paint(circle(p.x, p.y, x, head - 0.012 * size, 0.095 * size), hair)
    p.paint(circle(p.x, p.y, x, head + 0.02 * size, 0.078 * size), skin)
