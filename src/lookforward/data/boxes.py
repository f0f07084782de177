"""The parts of a photo that are used, as left, top, right and bottom in pixels."""

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
