"""The shadow that a subject casts on the ground: its own outline, laid down away from the light."""

import numpy as np

from lookforward_toybox.world.canvas import Array
from lookforward_toybox.world.detailed.light import Light
from lookforward_toybox.world.picture import FLAT, LIQUIDS, View

FORESHORTEN = 0.13  # how short what lies on the ground is in the picture
FARTHEST = 0.26  # of the subject's height: the ground ends at the horizon, and so does a shadow


def cast_shadow(canvas: Array, alpha: Array, window: tuple[slice, slice], view: View, light: Light) -> None:
    """Darken canvas (s, s, 3) in place by the shadow of the subject's opacity `alpha` (h, w) in its window.

    The light comes from the front and above, so that the shadow falls backwards and to the side away from it. A dark
    line of contact holds the subject to the ground, softer on liquids.
    """
    large = len(canvas)
    axis = (np.arange(large, dtype=np.float32) + 0.5) / large
    foot = view.base - 0.02 * view.side
    if view.scene not in LIQUIDS:
        shade = _blur(_laid_down(alpha, window, view, foot, large), max(1, round(light.soft * large)))
        depth = light.shadow * (0.8 if view.scene in FLAT or view.scene == "mirror" else 1.0)
        canvas *= (1 - depth * shade)[..., None]
    p = (axis[None] - view.x + view.light[0] * 0.06 * view.side) / (view.side * 0.46)
    q = (axis[:, None] - view.base + 0.015) / (view.side * 0.075)
    contact = np.clip(1.2 - np.sqrt(p * p + q * q), 0, 1)
    canvas *= (1 - (0.3 if view.scene in LIQUIDS else 0.45) * contact)[..., None]


def _laid_down(alpha: Array, window: tuple[slice, slice], view: View, foot: float, large: int) -> Array:
    """The outline on the ground, (s, s): row y shows what of the subject is (foot - y) / reach high."""
    l_x, l_y, l_z = view.light
    reach = min(FORESHORTEN * l_z / l_y, FARTHEST)  # a low light casts far
    rows = (np.arange(large, dtype=np.float32) + 0.5) / large
    high = (foot - rows) / reach  # above the foot
    source = np.round((foot - high) * large).astype(int) - window[0].start
    shift = high * float(np.clip(l_x / l_y, -0.9, 0.9)) * large  # the shadow of a point leans away from the light
    columns = np.round(np.arange(large)[None] + shift[:, None]).astype(int) - window[1].start
    inside = (source[:, None] >= 0) & (source[:, None] < alpha.shape[0]) & (high[:, None] >= 0)
    inside = inside & (columns >= 0) & (columns < alpha.shape[1])
    taken = alpha[np.clip(source, 0, alpha.shape[0] - 1)[:, None], np.clip(columns, 0, alpha.shape[1] - 1)]
    fade = np.clip(1 - 0.55 * high / view.side, 0.3, 1)[:, None]
    return np.where(inside, taken * fade, 0).astype(np.float32)


def _blur(mask: Array, radius: int) -> Array:
    """A box blur in both directions, (s, s)."""
    width = 2 * radius + 1
    for axis in (0, 1):
        pad = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        total = np.cumsum(np.pad(mask, pad), axis=axis, dtype=np.float32)
        size = mask.shape[axis]
        mask = (np.take(total, range(width, width + size), axis) - np.take(total, range(size), axis)) / width
    return mask
