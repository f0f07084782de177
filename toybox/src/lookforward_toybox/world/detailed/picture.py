"""A picture of the second edition: the first one's subject, scene and view, in more detail."""

from dataclasses import replace

import numpy as np

from lookforward_toybox.world.canvas import Array
from lookforward_toybox.world.detailed.light import NEUTRAL, Light, bounced, light_of
from lookforward_toybox.world.detailed.materials import OF_CLASS
from lookforward_toybox.world.detailed.painter import DetailedPainter
from lookforward_toybox.world.detailed.shadow import cast_shadow
from lookforward_toybox.world.looks import paint_cube, wet_ground, wet_skin
from lookforward_toybox.world.picture import LIQUIDS, SUPERSAMPLE, View, patch_frame, reflect, to_pixels
from lookforward_toybox.world.scenes import paint_scene
from lookforward_toybox.world.shapes import paint_subject
from lookforward_toybox.world.subject import WorldSubject


def draw_detailed(subject: WorldSubject, view: View, rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """The picture as (size, size, 3) uint8. `rng` decides the details of the scene."""
    large = size * SUPERSAMPLE
    canvas = paint_scene(view.scene, large, rng)
    _light_from_one_side(canvas, view)
    light = light_of(view.scene)
    light = replace(light, bounce=bounced(canvas, view.x, view.base, view.side))
    patch, window = _paint(subject, view, large, light)
    if view.scene == "mirror":
        reflect(canvas, patch, window, view, large)
    cast_shadow(canvas, patch.alpha, window, view, light)
    if view.look == "wet":
        wet_ground(canvas, view.x, view.base, view.side)
        wet_skin(patch, rng)
    patch.colour *= (0.74 + 0.26 * np.clip((patch.v + 0.98) / 0.3, 0, 1))[..., None]  # little light reaches its foot
    alpha = patch.alpha[..., None]
    if view.scene in LIQUIDS:  # its foot is under the surface
        alpha = alpha * np.clip((patch.v[..., None] + 0.86) * 8, 0.15, 1)
    canvas[window] = canvas[window] * (1 - alpha) + patch.colour * alpha
    return to_pixels(canvas * view.brightness * np.asarray(view.tint, np.float32), size)


def drawing_detailed(subject: WorldSubject, size: int = 128) -> np.ndarray:
    """The subject alone in its resting pose, lit from the front: (size, size, 4) float32 RGBA in [0, 1]."""
    large = size * SUPERSAMPLE
    view = View("floor", 0.5, 1.0, 1.0, 0.0, False, 0.0, (0.0, 0.45, 0.893), 1.0, (1, 1, 1))
    patch, window = _paint(subject, view, large, NEUTRAL)
    out = np.zeros((large, large, 4), np.float32)
    out[(*window, slice(0, 3))] = patch.colour * patch.alpha[..., None]
    out[(*window, 3)] = patch.alpha
    small = out.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def _paint(
    subject: WorldSubject, view: View, large: int, surroundings: Light
) -> tuple[DetailedPainter, tuple[slice, slice]]:
    u, v, pixel, window = patch_frame(view, large)
    light = np.asarray(view.light, np.float32)

    def make(u: Array, v: Array, pixel: float, light: Array, gloss: float = 0.0) -> DetailedPainter:
        painter = DetailedPainter(u, v, pixel, light, gloss, surroundings)
        painter.material = OF_CLASS[subject.class_noun]
        return painter

    if view.look == "cube shaped":
        cube = paint_cube(subject, u, v, pixel, light, make)
        assert isinstance(cube, DetailedPainter)
        return cube, window
    painter = make(u, v, pixel, light, {"shiny": 1.0, "wet": 0.5}.get(view.look or "", 0.0))
    paint_subject(painter, subject, view.pose, view.outfit)
    return painter, window


def _light_from_one_side(canvas: Array, view: View) -> None:
    """Brighten the scene a little towards the light."""
    x = (np.arange(len(canvas), dtype=np.float32) + 0.5) / len(canvas) - 0.5
    canvas *= (1 + 0.3 * view.light[0] * x)[None, :, None]
