"""Signed distances, shading and smooth noise: what shapes and scenes are drawn with.

Local coordinates are u to the right and v upwards, the subject's box being [-1, 1]². A signed distance is
negative inside. Everything is drawn from a seed; a sine or a root may differ in its last bit between builds of numpy,
which after rounding to 8 bits changes next to no pixel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def circle(u: Array, v: Array, x: float, y: float, r: float) -> Array:
    """Signed distance to a circle at (x, y) with radius r."""
    return np.sqrt((u - x) ** 2 + (v - y) ** 2) - r


def ellipse(u: Array, v: Array, x: float, y: float, a: float, b: float) -> Array:
    """Near signed distance to an ellipse with half-axes a and b: right at the edge, where it counts."""
    p, q = (u - x) / a, (v - y) / b
    k = np.sqrt(p * p + q * q) + 1e-6
    # (k - 1) divided by the length of its gradient
    slope = np.sqrt((p / a) ** 2 + (q / b) ** 2) / k + 1e-6
    return np.maximum((k - 1) / slope, -min(a, b))


def box(u: Array, v: Array, x: float, y: float, a: float, b: float, r: float = 0.0) -> Array:
    """Signed distance to a box with half-sides a and b whose corners are rounded with radius r."""
    p, q = np.abs(u - x) - a + r, np.abs(v - y) - b + r
    outside = np.sqrt(np.maximum(p, 0) ** 2 + np.maximum(q, 0) ** 2)
    return outside + np.minimum(np.maximum(p, q), 0) - r


def capsule(u: Array, v: Array, start: tuple[float, float], end: tuple[float, float], r: float) -> Array:
    """Signed distance to a thick line with round ends."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.sqrt((u - x0 - along * dx) ** 2 + (v - y0 - along * dy) ** 2) - r


def polygon(u: Array, v: Array, points: Sequence[tuple[float, float]], r: float = 0.0) -> Array:
    """Signed distance to a convex polygon, its points in clockwise or anticlockwise order, grown by r."""
    n = len(points)
    area = sum(points[i][0] * points[(i + 1) % n][1] - points[(i + 1) % n][0] * points[i][1] for i in range(n))
    sign = 1.0 if area > 0 else -1.0
    distance = np.full_like(u, -1e9)
    for i in range(n):
        (x0, y0), (x1, y1) = points[i], points[(i + 1) % n]
        ex, ey = x1 - x0, y1 - y0
        length = float(np.sqrt(ex * ex + ey * ey)) + 1e-9
        distance = np.maximum(distance, sign * ((u - x0) * ey - (v - y0) * ex) / length)
    return distance - r


def lathe(u: Array, v: Array, heights: Sequence[float], widths: Sequence[float]) -> Array:
    """A body of revolution from the side: half-width `widths[i]` at height `heights[i]`, smooth between."""
    middle, half = (heights[0] + heights[-1]) / 2, (heights[-1] - heights[0]) / 2
    return np.maximum(lathe_side(u, v, heights, widths), np.abs(v - middle) - half)


def lathe_side(u: Array, v: Array, heights: Sequence[float], widths: Sequence[float]) -> Array:
    """Distance to the side of such a body alone, for its shading: it is round across, not along."""
    return np.abs(u) - smooth_curve(v, heights, widths)


def smooth_curve(v: Array, heights: Sequence[float], values: Sequence[float]) -> Array:
    """Values between the given heights, eased so that the curve has no corners."""
    h = np.asarray(heights, np.float32)
    index = np.clip(np.searchsorted(h, v) - 1, 0, len(h) - 2)
    s = np.clip((v - h[index]) / (h[index + 1] - h[index]), 0, 1)
    s = s * s * (3 - 2 * s)
    w = np.asarray(values, np.float32)
    return w[index] * (1 - s) + w[index + 1] * s


def noise(rng: np.random.Generator, height: int, width: int, cells_y: int, cells_x: int) -> Array:
    """Smooth noise in [0, 1], (height, width), with about `cells_y` by `cells_x` bumps."""
    lattice = rng.random((cells_y + 2, cells_x + 2), dtype=np.float32)
    y = np.linspace(0, cells_y, height, dtype=np.float32)
    x = np.linspace(0, cells_x, width, dtype=np.float32)
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = y - iy, x - ix
    fy, fx = (fy * fy * (3 - 2 * fy))[:, None], (fx * fx * (3 - 2 * fx))[None]
    rows = lattice[iy] * (1 - fy) + lattice[iy + 1] * fy
    return rows[:, ix] * (1 - fx) + rows[:, ix + 1] * fx


class Painter:
    """Paints shaded parts over one another into a patch of premultiplied colour.

    `u`, `v`: (h, w) local coordinates; `pixel`: side of a pixel in local units; `light`: unit vector (3,).
    `gloss` in [0, 1]: how much everything mirrors sky and ground, as if polished.
    `colour` (h, w, 3) and `alpha` (h, w) hold the result. An edition of the world paints with a subclass, which
    may read `material` and enlarge emblems.
    """

    material: str | None = None
    emblem_scale: float = 1.0

    def __init__(self, u: Array, v: Array, pixel: float, light: Array, gloss: float = 0.0) -> None:
        self.u, self.v, self.pixel, self.light, self.gloss = u, v, pixel, light, gloss
        self.colour: Array = np.zeros((*u.shape, 3), np.float32)
        self.alpha: Array = np.zeros(u.shape, np.float32)

    @contextmanager
    def made_of(self, material: str | None) -> Iterator[None]:
        """What is painted meanwhile is of this material."""
        kept, self.material = self.material, material
        try:
            yield
        finally:
            self.material = kept

    def part(
        self,
        distance: Array,
        colour: Array,
        bulge: float = 0.35,
        shine: float = 0.25,
        outline: float = 0.55,
        relief: Array | None = None,
    ) -> None:
        """Paint one part: `colour` is (3,) or (h, w, 3); `bulge` how far the edge rounds inwards; `outline`
        how dark the rim is drawn (1 leaves it as it is); `relief` another signed distance to take the
        rounding from, such as that to the sides alone for what was turned on a lathe."""
        coverage = np.clip(0.5 - distance / self.pixel, 0, 1)
        rows = np.flatnonzero(coverage.any(axis=1))
        columns = np.flatnonzero(coverage.any(axis=0))
        if len(rows) < 2 or len(columns) < 2:
            return
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        distance, coverage = distance[window], coverage[window][..., None]
        paint = colour if colour.ndim == 1 else colour[window]
        shaded = self._shade(distance, paint, bulge, shine, outline, None if relief is None else relief[window])
        self.colour[window] = self.colour[window] * (1 - coverage) + shaded * coverage
        self.alpha[window] = self.alpha[window] * (1 - coverage[..., 0]) + coverage[..., 0]

    def _shade(
        self, distance: Array, colour: Array, bulge: float, shine: float, outline: float, relief: Array | None
    ) -> Array:
        # A pillow: flat in the middle, rounding towards the edge, so that every shape takes the light
        height = distance if relief is None else relief
        rise_y, rise_x = np.gradient(height, self.pixel)
        length = np.sqrt(rise_x * rise_x + rise_y * rise_y) + 1e-6
        slope = 1 - np.clip(-height / bulge, 0, 1)
        n_x, n_y = rise_x / length * slope, -rise_y / length * slope  # rows grow downwards, v upwards
        n_z = np.sqrt(np.clip(1 - slope * slope, 0, 1))
        l_x, l_y, l_z = self.light
        diffuse = np.clip(n_x * l_x + n_y * l_y + n_z * l_z, 0, 1)
        glint = np.clip(n_x * l_x + n_y * l_y + n_z * (l_z + 1), 0, None) / np.sqrt(2 + 2 * l_z)
        glint = glint * glint
        glint = glint * glint
        glint = glint * glint * glint
        rim = np.clip(1 + distance / (1.6 * self.pixel + 0.02), 0, 1)[..., None]
        lit = colour * (0.42 + 0.66 * diffuse)[..., None] + shine * (glint * glint)[..., None]
        if self.gloss:
            # Polished: bright where it faces the sky, dark under the horizon, and a wide highlight
            sky = np.clip(n_y * 1.6, -1, 1)
            lit = lit * (1 + 0.35 * self.gloss * np.minimum(sky, 0))[..., None]
            lit = lit + (self.gloss * (0.4 * np.maximum(sky, 0) + 0.7 * glint))[..., None]
        return np.clip(lit * (1 - rim * (1 - outline)), 0, 1)
