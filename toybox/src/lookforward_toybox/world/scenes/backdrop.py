"""What a scene is painted on: a canvas with coordinates and a source of chance.

x grows to the right and y downwards, both from 0 to 1. Colours are planar, (3, h, w), since a mask (h, w) then
applies to all three at full speed; `rgb` gives one colour as (3, 1, 1).
"""

from dataclasses import dataclass

import numpy as np

from lookforward_toybox.world.canvas import Array, noise


def rgb(red: float, green: float, blue: float) -> Array:
    """One colour, (3, 1, 1)."""
    return np.array((red, green, blue), np.float32).reshape(3, 1, 1)


WHITE = rgb(1, 1, 1)


@dataclass(frozen=True)
class Backdrop:
    """(h, w) coordinates, the canvas (3, h, w) that is painted in place, the side of a pixel, and chance."""

    x: Array
    y: Array
    canvas: Array
    pixel: float
    rng: np.random.Generator

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def side(self) -> float:
        """-1 for the left or 1 for the right."""
        return 1.0 if self.chance(0.5) else -1.0

    def near(self, red: float, green: float, blue: float, spread: float = 0.03) -> Array:
        """A colour near the given one, (3, 1, 1)."""
        return rgb(red, green, blue) + self.rng.uniform(-spread, spread, (3, 1, 1)).astype(np.float32)

    def grain(self, cells_y: int, cells_x: int) -> Array:
        """Smooth noise in [0, 1], (h, w)."""
        height, width = self.x.shape
        return noise(self.rng, height, width, cells_y, cells_x)

    def fill(self, colour: Array) -> None:
        self.canvas[:] = colour

    def mix(self, mask: Array, colour: Array) -> None:
        """Paint with an opacity of `mask`, (h, w) in [0, 1]."""
        self.canvas[:] += (colour - self.canvas) * mask

    def paint(self, distance: Array, colour: Array, strength: float = 1.0) -> None:
        """Paint where the signed distance is negative, soft over a pixel."""
        self.mix(np.clip(0.5 - distance / self.pixel, 0, 1) * strength, colour)

    def part(self, left: float, right: float, top: float, bottom: float) -> "Backdrop":
        """The part of the whole backdrop within these bounds: what is small is painted there, in little time."""
        size = self.x.shape[0]
        low_x, high_x, low_y, high_y = (
            min(max(int(bound * size) + extra, 0), size)
            for bound, extra in ((left, 0), (right, 1), (top, 0), (bottom, 1))
        )
        rows, columns = slice(low_y, max(high_y, low_y)), slice(low_x, max(high_x, low_x))
        window = (rows, columns)
        return Backdrop(self.x[window], self.y[window], self.canvas[:, rows, columns], self.pixel, self.rng)

    def around(self, x: float, y: float, reach: float) -> "Backdrop":
        return self.part(x - reach, x + reach, y - reach, y + reach)
