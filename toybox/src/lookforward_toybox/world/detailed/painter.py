"""Shading of the second edition: light from three sides, textures, mirrored windows and metal."""

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter
from lookforward_toybox.world.colours import METAL
from lookforward_toybox.world.detailed.light import NEUTRAL, Light
from lookforward_toybox.world.detailed.materials import MATERIALS, Material

_METAL = METAL / METAL.max()
SOFT = 0.1  # a part rounded by less is an eye, a button or a seam, and smooth


class DetailedPainter(Painter):
    """Paints parts of some material in the light of a scene. `light` is the direction of the key light."""

    emblem_scale = 1.34

    def __init__(
        self, u: Array, v: Array, pixel: float, light: Array, gloss: float = 0.0, surroundings: Light = NEUTRAL
    ) -> None:
        super().__init__(u, v, pixel, light, gloss)
        self.surroundings = surroundings
        self._textures: dict[str, Array] = {}

    def part(
        self,
        distance: Array,
        colour: Array,
        bulge: float = 0.35,
        shine: float = 0.25,
        outline: float = 0.55,
        relief: Array | None = None,
    ) -> None:
        """Paint one part, as `Painter.part`; what is soft gets a frayed contour."""
        name = self._material_of(colour, bulge, shine)
        material = MATERIALS[name]
        contour = distance
        if material.fray:
            contour = distance + material.fray * self._texture(name, material)
        if self.material == "enamel":
            bulge, outline = 0.004, 0.5 if outline < 1.0 else 1.0  # flat, with a thin dark edge round the emblem's disc
        coverage = np.clip(0.5 - contour / self.pixel, 0, 1)
        rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
        if len(rows) < 2 or len(columns) < 2:
            return
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        cover = coverage[window][..., None]
        paint = colour if colour.ndim == 1 else colour[window]
        if material.texture is not None:
            paint = paint * (1 + material.strength * self._texture(name, material)[window])[..., None]
        height = (distance if relief is None else relief)[window]
        shaded = self._lit(height, distance[window], paint, material, bulge, shine, outline)
        self.colour[window] = self.colour[window] * (1 - cover) + shaded * cover
        self.alpha[window] = self.alpha[window] * (1 - cover[..., 0]) + cover[..., 0]

    def _material_of(self, colour: Array, bulge: float, shine: float) -> str:
        name = self.material or "enamel"
        if colour.ndim == 1 and np.abs(colour / colour.max() - _METAL).max() < 0.01:
            return "metal"
        if name in ("fur", "plush", "cloth", "leather") and (bulge < SOFT or shine >= 0.4):
            return "enamel"
        return name

    def _texture(self, name: str, material: Material) -> Array:
        if name not in self._textures:
            assert material.texture is not None
            self._textures[name] = material.texture(self.u, self.v).astype(np.float32)
        return self._textures[name]

    def _lit(
        self, height: Array, distance: Array, paint: Array, m: Material, bulge: float, shine: float, outline: float
    ) -> Array:
        """Shade `paint` (3,) or (h, w, 3); the shape is that of `Painter`: flat within, rounding towards the edge."""
        rise_y, rise_x = np.gradient(height, self.pixel)
        slope = 1 - np.clip(-height / bulge, 0, 1)
        bend = slope / (np.sqrt(rise_x * rise_x + rise_y * rise_y) + 1e-6)
        n_x, n_y = rise_x * bend, -rise_y * bend
        n_z = np.sqrt(np.clip(1 - slope * slope, 0, 1))
        l_x, l_y, l_z = (float(x) for x in self.light)
        diffuse = np.clip(n_x * l_x + n_y * l_y + n_z * l_z, 0, 1)
        around, up = self.surroundings, 0.5 + 0.5 * n_y
        bounce = around.bounce or (1.0, 1.0, 1.0)
        glint = np.clip(n_x * l_x + n_y * l_y + n_z * (l_z + 1), 0, None) / np.sqrt(2 + 2 * l_z)
        glint = (glint * glint) ** 2
        glint = (glint * glint * glint) ** 2
        add = (shine * 0.8) * glint
        if m.velvet:
            add = add + m.velvet * slope**3 * up
        if m.window or self.gloss:
            add = add + (0.45 * m.window + 0.45 * self.gloss) * self._window(n_x, n_y, n_z)
        if m.metal:
            add = add + m.metal * (0.34 * np.clip(n_x * 2.4 * n_z + 0.35, -0.8, 1) * slope)
        if self.gloss:
            diffuse = diffuse * (1 + 0.35 * self.gloss * np.minimum(np.clip(n_y * 1.6, -1, 0), 0))
            add = add + self.gloss * (0.34 * np.clip(n_y * 1.6, 0, 1) + 0.5 * glint)
        rim = 1 - np.clip(1 + distance / (1.5 * self.pixel + 0.016), 0, 1) * (1 - outline)
        key, above, below = 0.72 * diffuse, 0.5 * up, 0.34 * (1 - up)
        out = np.empty((*distance.shape, 3), np.float32)
        for c in range(3):
            shade = around.key[c] * key + around.sky[c] * above + bounce[c] * below
            out[..., c] = (paint[..., c] * shade + add) * rim
        return np.clip(out, 0, 1)

    def _window(self, n_x: Array, n_y: Array, n_z: Array) -> Array:
        """A window of two panes where the light comes from, as a smooth surface mirrors it, in [0, 1]."""
        p, q = 2 * n_z * n_x - 0.75 * float(self.light[0]), 2 * n_z * n_y - 0.3 - 0.5 * float(self.light[1])
        pane = np.clip((0.26 - np.abs(p)) * 9, 0, 1) * np.clip((0.3 - np.abs(q)) * 9, 0, 1)
        return pane * np.clip(np.abs(p + 0.06) * 22, 0.25, 1)
