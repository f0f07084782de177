"""Scenes in the wild: jungle, snow, beach, mountain, water and milk."""

import numpy as np

from lookforward_toybox.world.canvas import capsule
from lookforward_toybox.world.scenes.backdrop import WHITE, Backdrop, rgb
from lookforward_toybox.world.scenes.parts import drop, fir, ground, haze, hedge, leaf, pool, sky, spot


def jungle(b: Backdrop) -> None:
    light = 1.2 - 2.2 * (b.x - b.number(0.3, 0.7)) ** 2 - 0.6 * b.y
    b.fill(rgb(0.14, 0.38, 0.16) * (0.4 + 0.9 * b.grain(6, 6)) * light)
    for i in range(30):  # leaves, lighter towards the front
        green = rgb(b.number(0.08, 0.32), b.number(0.38, 0.64), b.number(0.1, 0.22)) * (0.6 + i / 50)
        leaf(b, b.number(-0.05, 1.05), b.number(-0.05, 0.8), b.number(0.12, 0.26), b.number(0, np.pi), green)
    for _ in range(2):  # lianas
        x, sway = 0.5 + b.side() * b.number(0.2, 0.48), b.number(0.02, 0.05)
        strand = np.abs(b.x - x - sway * np.sin(b.y * 7 + x * 9)) - 0.008
        b.paint(np.maximum(strand, b.y - 0.7), rgb(0.3, 0.26, 0.12))
    ground(b, b.number(0.72, 0.82) + 0.03 * np.sin(b.x * 14), b.near(0.34, 0.34, 0.15), 0.5, 26)


def snow(b: Backdrop) -> None:
    horizon = b.number(0.42, 0.54)
    far = sky(b, horizon, 0.4)
    b.mix(np.full_like(b.x, 0.55), rgb(0.76, 0.81, 0.88))  # a winter's day, whatever the sky
    hedge(b, horizon + 0.02, b.number(0.04, 0.09), rgb(0.55, 0.63, 0.7))
    for _ in range(6):
        size = b.number(0.16, 0.36)
        x = 0.5 + b.side() * b.number(0.12, 0.52)
        fir(b, x, horizon + 0.02 + size * 0.12, size, rgb(0.13, 0.32, 0.28), 0.85)
    haze(b, horizon, 0.16, far, 0.4)
    hill = horizon + 0.04 + 0.04 * np.sin(b.x * b.number(3, 6) + b.number(0, 6))
    drift = 0.05 * np.sin((b.y + 0.05 * b.grain(3, 3)) * 34) * np.clip(b.y, 0, 1)
    b.paint(hill - b.y, rgb(0.9, 0.935, 1.0) * (0.97 + drift + 0.8 * pool(b)))
    for _ in range(34):  # flakes
        drop(b, b.number(0, 1), b.number(0, 1), b.number(0.006, 0.014), WHITE)


def beach(b: Backdrop) -> None:
    horizon, shore = b.number(0.34, 0.44), b.number(0.54, 0.64)
    far = sky(b, horizon)
    deep = np.clip((b.y - horizon) / (shore - horizon), 0, 1)
    sea = rgb(0.04, 0.42, 0.66) + rgb(0.2, 0.3, 0.12) * deep + 0.07 * np.sin(b.y * 150 + 6 * b.grain(4, 4))
    b.paint(horizon - b.y, sea)
    haze(b, horizon, 0.06, far, 0.5)
    edge = shore + 0.03 * np.sin(b.x * b.number(7, 12) + b.number(0, 6))
    b.paint(edge - 0.03 - b.y, rgb(0.96, 0.99, 1))
    ground(b, edge, b.near(0.96, 0.83, 0.58), 0.2, 44)
    b.mix(np.clip(1 - (b.y - edge) / 0.06, 0, 1) * (b.y > edge), rgb(0.74, 0.6, 0.42))  # wet sand
    if b.chance(0.6):  # a palm reaches in from a corner
        side = b.side()
        x, y = 0.5 + side * b.number(0.38, 0.46), b.number(0.1, 0.16)
        foot = 0.5 + side * 0.52
        p = b.part(min(x, foot) - 0.05, max(x, foot) + 0.05, y, shore)
        p.paint(capsule(p.x, p.y, (x, y), (foot, shore), 0.022), rgb(0.5, 0.36, 0.2) * (0.9 + 0.2 * np.sin(p.y * 160)))
        for turn in (-2.9, -2.2, -1.2, -0.4, 0.3, 2.7):
            c, s = float(np.cos(turn)), float(np.sin(turn))
            leaf(b, x + 0.12 * c, y + 0.12 * s, 0.14, turn, b.near(0.16, 0.5, 0.2, 0.05), 0.2)
    for _ in range(5):  # shells
        spot(b, b.number(0, 1), b.number(0.74, 0.98), 0.014, 0.009, b.near(0.98, 0.9, 0.86, 0.06))


def mountain(b: Backdrop) -> None:
    foot = b.number(0.54, 0.62)
    far = sky(b, foot)
    rock = b.near(0.42, 0.42, 0.52)
    for x, height, dark in (
        (b.number(0.35, 0.6), b.number(0.26, 0.34), 1.25),
        (b.number(0.0, 0.25), b.number(0.34, 0.46), 1.0),
        (b.number(0.75, 1.0), b.number(0.42, 0.52), 0.9),
    ):
        ragged = 0.07 * (b.grain(12, 12) - 0.5)
        rise = foot - height + np.abs(b.x - x) * 0.95 + ragged
        shade = 1.08 - 0.34 * np.clip((b.x - x + ragged) * 9, 0, 1)
        b.paint(rise - b.y, rock * dark * shade)
        cap = np.maximum(rise - b.y, b.y - (foot - height * 0.62) - ragged * 2)
        b.paint(cap, rgb(0.98, 0.99, 1.0) * (1 - 0.5 * (1.08 - shade)))
    haze(b, foot, 0.22, far, 0.55)
    hedge(b, foot + 0.01, b.number(0.02, 0.05), rgb(0.2, 0.38, 0.26))
    ground(b, foot, b.near(0.42, 0.64, 0.26), 0.3)
    for _ in range(12):  # flowers
        drop(b, b.number(0, 1), b.number(foot + 0.04, 0.98), 0.011, b.near(0.95, 0.85, 0.7, 0.25))


def water(b: Backdrop) -> None:
    near, far = b.near(0.02, 0.28, 0.56), b.near(0.42, 0.78, 0.9)
    b.fill(far + (near - far) * np.clip(0.9 * b.y, 0, 1))
    wave = np.sqrt(b.y + 0.04 + 0.03 * np.sin(b.x * b.number(9, 14) + b.number(0, 6)))
    swell = np.sin(wave * b.number(55, 70) + b.grain(5, 5) * 6)
    b.canvas[:] += 0.05 + 0.1 * swell + 0.2 * pool(b)
    b.mix(np.clip((b.grain(44, 20) - 0.76) * 6, 0, 1) * (0.6 + 0.4 * swell), rgb(0.92, 0.98, 1.0))


def milk(b: Backdrop) -> None:
    horizon = b.number(0.2, 0.3)
    b.fill(b.near(0.42, 0.66, 0.92, 0.06) + rgb(0.36, 0.22, 0.05) * np.clip(b.y / horizon, 0, 1))
    cream, shade = b.near(0.99, 0.98, 0.945, 0.01), b.near(0.82, 0.79, 0.775, 0.012)
    level, step = horizon, 0.05
    while level < 1.1:  # waves, larger towards the front, each bright at its crest
        p = b.part(0, 1, level - step, level + step * 2.4)
        turn, many = b.number(0, 6), b.number(0.5, 0.8) / step
        crest = level + step * (0.45 * np.sin(p.x * many + turn) + 0.3 * np.sin(p.x * many * 0.43 + turn * 2))
        below = (p.y - crest) / (step * 1.5)
        p.paint(crest - 0.012 - p.y, shade, 0.7)  # the shadow that lifts it off the wave behind
        p.paint(crest - p.y, cream + (shade - cream) * np.clip(below, 0, 1) ** 2.5)
        p.mix(np.clip(1 - np.abs(below - 0.1) * 9, 0, 1), WHITE)
        level, step = level + step, step * 1.22
    for _ in range(2):
        _splash(b, 0.5 + b.side() * b.number(0.32, 0.44), b.number(0.34, 0.6))


def _splash(b: Backdrop, x: float, y: float) -> None:
    """A crown of milk that something falling in has thrown up."""
    p, shade = b.around(x, y, 0.22), rgb(0.72, 0.68, 0.66)
    for lean in (-0.12, -0.05, 0.045, 0.115):  # the arms, each with its drop
        tip = (x + lean * 1.15, y - b.number(0.09, 0.15))
        arm = capsule(p.x, p.y, (x + lean * 0.6, y), tip, 0.02)
        p.paint(arm - 0.009, shade, 0.7)
        p.paint(arm, rgb(1, 0.99, 0.96))
        high, r = tip[1] - b.number(0.045, 0.08), b.number(0.014, 0.022)
        drop(b, tip[0] + lean * 0.35, high, r + 0.008, shade, 0.7)
        drop(b, tip[0] + lean * 0.35, high, r, rgb(1, 0.99, 0.96))
    for a, colour in ((0.15, shade), (0.14, rgb(1, 0.99, 0.96)), (0.075, shade)):
        spot(b, x, y + 0.012, a, a * 0.24, colour)
