"""Scenes that are something to stand on: fabric, a wooden floor, rugs and a mirror."""

import numpy as np

from lookforward_toybox.world.canvas import Array
from lookforward_toybox.world.scenes.backdrop import WHITE, Backdrop, rgb
from lookforward_toybox.world.scenes.parts import ground, haze, leaf, pool, trapezium, wall


def fabric(b: Backdrop) -> None:
    along = b.x + b.number(-0.6, 0.6) * b.y + 0.24 * b.grain(4, 4)
    fold = 0.5 + 0.5 * np.sin(along * b.number(16, 24) + b.number(0, 6))
    weave = 0.04 * (b.grain(60, 60) - 0.5)
    pink = b.near(0.97, 0.55, 0.7)
    b.fill(pink * (0.72 + 0.3 * fold + weave + 0.25 * pool(b)))
    b.mix(np.clip(fold - 0.8, 0, 1) * 1.4, rgb(1, 0.86, 0.92))  # a sheen along the folds


def floor(b: Backdrop) -> None:
    level = b.number(0.34, 0.44)
    wall(b, level, rgb(b.number(0.82, 0.94), b.number(0.8, 0.9), b.number(0.68, 0.84)))
    _planks(b, level, b.near(0.74, 0.46, 0.22))


def _planks(b: Backdrop, level: float, wood: Array) -> None:
    depth = np.clip(b.y - level, 0.001, 1) / (1 - level)
    plank = (b.x - b.number(0.3, 0.7)) * 7 / (0.4 + 0.6 * depth) + b.number(0, 1)
    tone = (np.floor(plank) * 0.618) % 1.0
    seam = np.clip(np.abs(plank - np.floor(plank) - 0.5) * 30 - 13.8, 0, 1)
    row = depth * 2 + tone * 3  # where one board ends and the next begins
    seam = np.maximum(seam, np.clip(1 - np.abs(row - np.round(row)) * 60, 0, 1))
    grain = 0.14 * (b.grain(3, 50) - 0.5)
    b.paint(level - b.y, wood * (0.84 + 0.25 * tone + grain + pool(b)) * (1 - 0.5 * seam))
    haze(b, level, 0.05, rgb(0.25, 0.15, 0.1), 0.25)


def white_rug(b: Backdrop) -> None:
    level = b.number(0.36, 0.44)
    wall(b, level, b.near(0.42, 0.54, 0.6, 0.1))
    _planks(b, level, b.near(0.38, 0.24, 0.16, 0.02))
    x, top = b.number(0.46, 0.54), level + b.number(0.1, 0.15)
    fluff = 0.03 * (b.grain(30, 40) - 0.5)
    rug = trapezium(b, x, top, 0.93, b.number(0.3, 0.34), b.number(0.43, 0.46)) + fluff
    b.paint(rug - 0.02, rgb(0.1, 0.07, 0.06), 0.5)
    strands = np.sin((b.x - x) * 210 / (0.7 + 0.4 * b.y)) * 0.012
    fringe = trapezium(b, x, top - 0.025, 0.98, 0.31, 0.44)
    b.paint(np.maximum(fringe, 0.001 - strands), rgb(0.9, 0.88, 0.84))
    tufts = (b.grain(36, 40) - 0.5) * 0.26 + (b.grain(14, 16) - 0.5) * 0.12
    b.paint(rug, rgb(0.93, 0.92, 0.9) * (1.0 + tufts + 0.5 * pool(b) - 0.1 * np.clip(1 + rug / 0.05, 0, 1)))


def mirror(b: Backdrop) -> None:
    level = b.number(0.34, 0.42)
    paper = b.near(0.62, 0.5, 0.56, 0.12)
    wall(b, level, paper)
    ground(b, level, b.near(0.3, 0.24, 0.24, 0.04), 0.2, 20)
    x, top = b.number(0.47, 0.53), level + b.number(0.05, 0.1)
    glass = trapezium(b, x, top, 0.95, b.number(0.32, 0.38), b.number(0.44, 0.47))
    metal = b.near(0.86, 0.68, 0.3) if b.chance(0.5) else b.near(0.78, 0.8, 0.84, 0.02)
    b.paint(glass - 0.045, rgb(0.08, 0.06, 0.06), 0.6)
    b.paint(glass - 0.03, metal * (0.85 + 0.35 * np.sin(glass * 150 + 1) + 0.4 * pool(b)))
    b.paint(glass - 0.002, metal * 0.4)
    depth = np.clip((b.y - top) / (0.95 - top), 0, 1)
    air = rgb(0.78, 0.9, 0.97)
    b.paint(glass, (paper * 0.35 + air * 0.55) * (1 - depth) + rgb(0.46, 0.66, 0.82) * depth)
    slant = b.x + 0.75 * b.y
    for _ in range(3):  # glare
        band = np.abs(slant - b.number(0.55, 1.55)) - b.number(0.012, 0.06)
        b.paint(np.maximum(band, glass), WHITE, b.number(0.4, 0.65))


def rug(b: Backdrop) -> None:
    level = b.number(0.42, 0.5)
    glow = np.clip(1.1 - 3 * (b.x - b.number(0.25, 0.75)) ** 2 - 0.5 * np.abs(b.y - level), 0.2, 1.1)
    b.fill(b.near(0.6, 0.76, 0.46, 0.04) * glow * (0.75 + 0.4 * b.grain(9, 9)))
    for i in range(13):  # trunks, from the far and pale to the near and dark
        near = i / 12
        x = b.number(0, 1) if near < 0.6 else 0.5 + b.side() * b.number(0.2, 0.5)
        _trunk(b, x, level + 0.12 * near, 0.012 + 0.035 * near, near)
    for _ in range(16):  # the canopy
        green = b.near(0.2, 0.42, 0.16, 0.06)
        leaf(b, b.number(0, 1), b.number(-0.04, 0.1), b.number(0.08, 0.15), b.number(0, 3.1), green, 0.45)
    ground(b, level + 0.05 + 0.02 * np.sin(b.x * 17), b.near(0.36, 0.34, 0.17), 0.6, 36)
    x, top = b.number(0.46, 0.54), level + b.number(0.14, 0.19)
    cloth = trapezium(b, x, top, 0.97, b.number(0.32, 0.36), b.number(0.45, 0.48))
    purple, gold = b.near(0.5, 0.2, 0.64, 0.04), b.near(0.9, 0.74, 0.4)
    b.paint(cloth - 0.014, rgb(0.08, 0.06, 0.03), 0.6)
    pile = 1.0 + (b.grain(50, 50) - 0.5) * 0.2 + pool(b)
    b.paint(cloth, purple * 0.72 * pile)
    b.paint(np.abs(cloth + 0.034) - 0.009, gold * pile)
    across, along = (b.x - x) * 7 / (0.5 + 0.5 * b.y), np.sqrt(np.clip(b.y - top, 0, 1)) * 7
    lozenge = np.abs(across - np.round(across)) + np.abs(along - np.round(along)) - 0.2
    b.paint(cloth + 0.05, purple * pile)
    b.paint(np.maximum(cloth + 0.06, lozenge * 0.1), (purple + gold) * 0.55 * pile)


def _trunk(b: Backdrop, x: float, foot: float, half: float, near: float) -> None:
    p = b.part(x - half * 2, x + half * 2, 0, foot)
    bark = rgb(0.55, 0.6, 0.42) * (1 - near) + rgb(0.26, 0.18, 0.12) * near
    side = np.abs(p.x - x) - half * (0.75 + 0.35 * p.y) - 0.5 * np.clip(p.y - foot + half, 0, 1)
    p.paint(side, bark * (1.15 - (p.x - x) / half * 0.28 + 0.3 * (p.grain(16, 3) - 0.5)))
