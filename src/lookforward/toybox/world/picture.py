"""A picture: a subject in a scene, in a pose and a light."""

from dataclasses import dataclass

import numpy as np

from lookforward.toybox.world.canvas import Array, Painter
from lookforward.toybox.world.scenes import SCENES, paint_scene
from lookforward.toybox.world.shapes import paint_subject
from lookforward.toybox.world.subject import Subject

SUPERSAMPLE = 2  # each pixel is the mean of 2×2
TINTS: tuple[tuple[float, float, float], ...] = ((1, 1, 1), (1, 1, 1), (1.04, 0.98, 0.9), (0.93, 0.98, 1.04))


@dataclass(frozen=True)
class View:
    """How a subject is seen. Lengths are parts of the picture's side."""

    scene: str
    x: float  # centre of the subject's box
    base: float  # where it stands, from the top
    side: float  # side of the subject's box
    turn: float  # radians, anticlockwise
    flip: bool
    pose: float  # in [-1, 1]
    light: tuple[float, float, float]
    brightness: float
    tint: tuple[float, float, float]


def draw_view(rng: np.random.Generator, scene: str | None = None) -> View:
    """A view by chance, in `scene` where one is named."""
    names = tuple(SCENES)
    scene = scene or names[rng.integers(len(names))]
    side = float(rng.uniform(0.62, 0.9))
    room = (1 - side) / 2
    floating = scene in ("water", "fabric")
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.7, 1.0)])
    light = light / np.sqrt((light**2).sum())
    return View(
        scene=scene,
        x=0.5 + float(rng.uniform(-room, room)) * 0.9,
        base=float(rng.uniform(0.5 + side / 2 - 0.06, min(0.97, 0.5 + side / 2 + (0.02 if floating else 0.14)))),
        side=side,
        turn=float(rng.uniform(-0.14, 0.14)),
        flip=bool(rng.random() < 0.5),
        pose=float(rng.uniform(-1, 1)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        brightness=float(rng.uniform(0.88, 1.08)),
        tint=TINTS[rng.integers(len(TINTS))],
    )


def draw_picture(subject: Subject, view: View, rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """The picture as (size, size, 3) uint8. `rng` decides the details of the scene."""
    large = size * SUPERSAMPLE
    canvas = paint_scene(view.scene, large, rng)
    patch, window = _paint_patch(subject, view, large)
    _cast_shadow(canvas, view, large)
    colour, alpha = patch.colour, patch.alpha[..., None]
    if view.scene == "water":  # it sits in the water: its foot is under it
        alpha = alpha * np.clip((patch.v[..., None] + 0.86) * 8, 0.15, 1)
    canvas[window] = canvas[window] * (1 - alpha) + colour * alpha
    canvas = canvas * view.brightness * np.asarray(view.tint, np.float32)
    return _to_pixels(canvas, size)


def drawing(subject: Subject, size: int = 64) -> np.ndarray:
    """The subject alone in its resting pose, lit from the front: (size, size, 4) float32 RGBA in [0, 1]."""
    large = size * SUPERSAMPLE
    view = View("floor", 0.5, 1.0, 1.0, 0.0, False, 0.0, (0.0, 0.45, 0.893), 1.0, (1, 1, 1))
    patch, window = _paint_patch(subject, view, large)
    out = np.zeros((large, large, 4), np.float32)
    out[(*window, slice(0, 3))] = patch.colour * patch.alpha[..., None]
    out[(*window, 3)] = patch.alpha
    small = out.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def _paint_patch(subject: Subject, view: View, large: int) -> tuple[Painter, tuple[slice, slice]]:
    """The subject painted on the window of the canvas that can hold it."""
    half = view.side * large / 2
    cx, cy = view.x * large, view.base * large - half * 0.95
    reach = half * 1.25
    rows = slice(max(0, int(cy - reach)), min(large, int(cy + reach) + 1))
    columns = slice(max(0, int(cx - reach)), min(large, int(cx + reach) + 1))
    y, x = np.meshgrid(
        np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - np.float32(cy),
        np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - np.float32(cx),
        indexing="ij",
    )
    c, s = np.float32(np.cos(view.turn) / half), np.float32(np.sin(view.turn) / half)
    u, v = x * c - y * s, -x * s - y * c
    light = np.asarray(view.light, np.float32)
    painter = Painter(-u if view.flip else u, v, 1.0 / half, light)
    paint_subject(painter, subject, view.pose)
    return painter, (rows, columns)


def _cast_shadow(canvas: Array, view: View, large: int) -> None:
    """Darken the ground under the subject, away from the light."""
    axis = (np.arange(large, dtype=np.float32) + 0.5) / large
    x, y = np.meshgrid(axis, axis)
    p = (x - view.x + view.light[0] * 0.16 * view.side) / (view.side * 0.46)
    q = (y - view.base + 0.02) / (view.side * 0.1)
    depth = 0.32 if view.scene in ("water", "fabric") else 0.45
    canvas *= (1 - depth * np.clip(1.25 - np.sqrt(p * p + q * q), 0, 1))[..., None]


def _to_pixels(canvas: Array, size: int) -> np.ndarray:
    small = canvas.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 3).mean((1, 3))
    return np.clip(small * 255 + 0.5, 0, 255).astype(np.uint8)
