"""The parts of a photo that are used, as left, top, right and bottom in pixels, and what was cut away around them."""

import math
from dataclasses import dataclass, replace

Box = tuple[int, int, int, int]


def central_square(width: int, height: int) -> Box:
    """The largest central square as (left, top, right, bottom) in pixels, centred to within half a pixel."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def squares_along(width: int, height: int, count: int) -> list[Box]:
    """The largest squares, spread evenly along the long side from end to end; one is the central square.

    Fewer than `count` if some coincide.
    """
    if count == 1:
        return [central_square(width, height)]
    side, room = min(width, height), abs(width - height)
    starts = dict.fromkeys(round(i * room / (count - 1)) for i in range(count))
    corners = [(start, 0) if width > height else (0, start) for start in starts]
    return [(left, top, left + side, top + side) for left, top in corners]


def central_box(width: int, height: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest central part of the shape of `size`, (width, height), as left, top, right, bottom in pixels."""
    scale = min(width / size[0], height / size[1])
    across, down = scale * size[0], scale * size[1]
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, min(left + across, width), min(top + down, height)


@dataclass(frozen=True)
class Cut:
    """Where a part lies in its photo, which Stable Diffusion XL is shown.

    original: (height, width) of the upright photo in the file. above, below, left, right: what is cut away on each side
    of the resized photo, in pixels of the part.
    """

    original: tuple[int, int]
    above: float = 0.0
    below: float = 0.0
    left: float = 0.0
    right: float = 0.0

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Height and width of the photo, top and left of the part: as diffusers' train_dreambooth_lora_sdxl counts."""
        return (*self.original, _offset(self.above, self.below), _offset(self.left, self.right))

    def mirrored(self) -> "Cut":
        """With left and right exchanged."""
        return replace(self, left=self.right, right=self.left)

    def scaled(self, scale: float, top: int, left: int, growth: int) -> "Cut":
        """Of a part that was made larger by `growth` pixels a side and cut again at (top, left); negative: smaller, and
        placed on a background there.
        """
        return replace(
            self,
            above=max(0.0, scale * self.above + top),
            below=max(0.0, scale * self.below + growth - top),
            left=max(0.0, scale * self.left + left),
            right=max(0.0, scale * self.right + growth - left),
        )


def cut_to(photo: tuple[int, int], part: tuple[int, int], place: float = 0.5) -> Cut:
    """The cut of a photo that was resized to cover a part, both (width, height).

    place: where the part lies along the side that is cut, from 0, the left or upper end, to 1.
    """
    (width, height), (across, down) = photo, part
    if across * height >= down * width:
        room = max(0.0, across * height / width - down)
        return Cut((height, width), above=place * room, below=(1 - place) * room)
    room = down * width / height - across
    return Cut((height, width), left=place * room, right=(1 - place) * room)


def _offset(before: float, after: float) -> int:
    """Pixels before the part, of whole ones that are cut away; half a pixel goes to the even number."""
    room = math.floor(before + after + 1e-6)
    return round(room * (before / (before + after))) if room else 0
