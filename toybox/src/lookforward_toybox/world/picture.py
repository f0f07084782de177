"""A picture: a subject in a scene, in a pose and a light."""

from dataclasses import dataclass, replace

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter
from lookforward_toybox.world.looks import paint_cube, wet_ground, wet_skin
from lookforward_toybox.world.outfits import OUTFITS
from lookforward_toybox.world.scenes import SCENES, paint_scene
from lookforward_toybox.world.shapes import paint_subject
from lookforward_toybox.world.subject import LIVE_CLASSES, WorldSubject

SUPERSAMPLE = 2  # each pixel is the mean of 2×2
TINTS: tuple[tuple[float, float, float], ...] = ((1, 1, 1), (1, 1, 1), (1.04, 0.98, 0.9), (0.93, 0.98, 1.04))
LIQUIDS = ("water", "milk")
FLAT = ("water", "milk", "fabric")  # seen from above: no ground that recedes
LOOKS = ("shiny", "wet", "cube shaped")


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
    outfit: str | None = None  # an accessory, of OUTFITS, on live subjects
    look: str | None = None  # a property, of LOOKS


def draw_view(rng: np.random.Generator, scene: str | None = None) -> View:
    """A random view of the unmodified subject, in `scene` if one is given."""
    names = tuple(SCENES)
    scene = scene or names[rng.integers(len(names))]
    side = float(rng.uniform(0.62, 0.9))
    room = (1 - side) / 2
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.7, 1.0)])
    light = light / np.sqrt((light**2).sum())
    return View(
        scene=scene,
        x=0.5 + float(rng.uniform(-room, room)) * 0.9,
        base=float(rng.uniform(0.5 + side / 2 - 0.06, min(0.97, 0.5 + side / 2 + (0.02 if scene in FLAT else 0.14)))),
        side=side,
        turn=float(rng.uniform(-0.14, 0.14)),
        flip=bool(rng.random() < 0.5),
        pose=float(rng.uniform(-1, 1)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        brightness=float(rng.uniform(0.88, 1.08)),
        tint=TINTS[rng.integers(len(TINTS))],
    )


def draw_any_view(rng: np.random.Generator, subject: WorldSubject) -> View:
    """A view as pretraining sees it: 40% of live subjects have an accessory, 15% of all a modified property."""
    view = draw_view(rng)
    outfits = tuple(OUTFITS)
    outfit = outfits[rng.integers(len(outfits))] if rng.random() < 0.4 else None
    look = LOOKS[rng.integers(len(LOOKS))] if rng.random() < 0.15 else None
    worn = subject.class_noun in LIVE_CLASSES and look != "cube shaped"
    return dressed(view, outfit=outfit if worn else None, look=look)


def dressed(view: View, *, outfit: str | None = None, look: str | None = None) -> View:
    """The view with the subject dressed. A hat needs room: the subject is then no larger than 0.74."""
    side = min(view.side, 0.74) if outfit is not None else view.side
    return replace(view, side=side, outfit=outfit, look=look)


def draw_picture(subject: WorldSubject, view: View, rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """The picture as (size, size, 3) uint8. `rng` decides the details of the scene."""
    large = size * SUPERSAMPLE
    canvas = paint_scene(view.scene, large, rng)
    patch, window = _paint_patch(subject, view, large)
    if view.scene == "mirror":
        reflect(canvas, patch, window, view, large)
    _cast_shadow(canvas, view, large)
    if view.look == "wet":
        wet_ground(canvas, view.x, view.base, view.side)
        wet_skin(patch, rng)
    colour, alpha = patch.colour, patch.alpha[..., None]
    if view.scene in LIQUIDS:  # it sits in the liquid: its foot is under it
        alpha = alpha * np.clip((patch.v[..., None] + 0.86) * 8, 0.15, 1)
    canvas[window] = canvas[window] * (1 - alpha) + colour * alpha
    canvas = canvas * view.brightness * np.asarray(view.tint, np.float32)
    return to_pixels(canvas, size)


def drawing(subject: WorldSubject, size: int = 64) -> np.ndarray:
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


def patch_frame(view: View, large: int) -> tuple[Array, Array, float, tuple[slice, slice]]:
    """Local coordinates u and v (h, w) of the window of the canvas that can hold the subject, the side of a pixel in
    them, and that window."""
    half = view.side * large / 2
    cx, cy = view.x * large, view.base * large - half * 0.95
    reach = half * (1.25 if view.outfit is None else 1.6)
    rows = slice(max(0, int(cy - reach)), min(large, int(cy + reach) + 1))
    columns = slice(max(0, int(cx - reach)), min(large, int(cx + reach) + 1))
    y, x = np.meshgrid(
        np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - np.float32(cy),
        np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - np.float32(cx),
        indexing="ij",
    )
    c, s = np.float32(np.cos(view.turn) / half), np.float32(np.sin(view.turn) / half)
    u, v = x * c - y * s, -x * s - y * c
    return -u if view.flip else u, v, 1.0 / half, (rows, columns)


def _paint_patch(subject: WorldSubject, view: View, large: int) -> tuple[Painter, tuple[slice, slice]]:
    """The subject painted on the window of the canvas that can hold it."""
    u, v, pixel, window = patch_frame(view, large)
    light = np.asarray(view.light, np.float32)
    if view.look == "cube shaped":
        return paint_cube(subject, u, v, pixel, light), window
    painter = Painter(u, v, pixel, light, gloss={"shiny": 1.0, "wet": 0.5}.get(view.look or "", 0.0))
    paint_subject(painter, subject, view.pose, view.outfit)
    return painter, window


def reflect(canvas: Array, patch: Painter, window: tuple[slice, slice], view: View, large: int) -> None:
    """The subject upside down in the glass that it stands on, fading downwards."""
    foot = round(view.base * large)
    rows, columns = window
    count = min(large - foot, foot - rows.start)
    if count <= 0:
        return
    above = slice(foot - rows.start - count, foot - rows.start)
    colour, alpha = patch.colour[above][::-1], patch.alpha[above][::-1, :, None]
    count = len(alpha)
    alpha = alpha * np.linspace(0.6, 0.3, count, dtype=np.float32)[:, None, None]
    below = (slice(foot, foot + count), columns)
    canvas[below] = canvas[below] * (1 - alpha) + colour * alpha


def _cast_shadow(canvas: Array, view: View, large: int) -> None:
    """Darken the ground under the subject, away from the light: a soft long shadow and a dark line of contact."""
    axis = (np.arange(large, dtype=np.float32) + 0.5) / large
    x, y = np.meshgrid(axis, axis)
    p = (x - view.x + view.light[0] * 0.16 * view.side) / (view.side * 0.46)
    q = (y - view.base + 0.02) / (view.side * 0.1)
    depth = 0.2 if view.scene == "mirror" else 0.32 if view.scene in FLAT else 0.45
    canvas *= (1 - depth * np.clip(1.25 - np.sqrt(p * p + q * q), 0, 1))[..., None]


def to_pixels(canvas: Array, size: int) -> np.ndarray:
    small = canvas.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 3).mean((1, 3))
    return np.clip(small * 255 + 0.5, 0, 255).astype(np.uint8)
