"""Aspect-ratio and multi-resolution buckets: photos in about their own shape, instead of a square of each.

A photo goes to the bucket whose aspect ratio is nearest to its own; it is resized to cover the bucket and cut centrally
to it. Buckets of one resolution have about as many pixels as its square.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from lookforward.data.boxes import cut_to
from lookforward.data.masks import with_mask
from lookforward.data.photo import Photo, PhotoError, Pixels, cut_photo
from lookforward.data.subject import Subject
from lookforward.errors import LookforwardError

Size = tuple[int, int]  # width and height in pixels

_LONGEST = 2  # times the resolution, so that a bucket is at most 4:1


def bucket_sizes(resolution: int, unit: int) -> list[Size]:
    """The buckets of a resolution, from 4:1 to 1:4: sides are multiples of `unit`.

    They have resolution² pixels, give or take a share of unit / resolution.
    """
    sides = range(unit * math.ceil(resolution / _LONGEST / unit), _LONGEST * resolution + 1, unit)
    within = unit * resolution  # pixels
    return [(width, height) for width in sides for height in sides if abs(width * height - resolution**2) <= within]


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket that cuts least off a photo of `size`."""
    return min(buckets, key=lambda bucket: (cut_share(size, bucket), bucket))


def cut_share(size: Size, bucket: Size) -> float:
    """What share of a photo's pixels its bucket cuts off: in [0, 1)."""
    return 1 - math.exp(-abs(math.log(size[0] / size[1]) - math.log(bucket[0] / bucket[1])))


def in_buckets(subject: Subject, resolutions: Sequence[int], unit: int) -> Subject:
    """The subject with each photo, and its mask, in its bucket of each resolution, in the place of squares.

    unit: pixels that a side must be a multiple of.

    Raises:
        LookforwardError: a photo or a mask cannot be read any more, or a mask is empty in its photo's bucket.
    """
    buckets = [bucket_sizes(resolution, unit) for resolution in resolutions]
    first, *others = [
        replace(one, photos=tuple(_in_buckets(photo, buckets) for photo in one.photos)) for one in subject.together
    ]
    return replace(first, others=tuple(others))


def read_resolutions(resolution: int, further: str) -> list[int]:
    """`data.resolution` and those of `data.bucket_resolutions`, such as "384, 768".

    Raises:
        LookforwardError: one is no positive number.
    """
    words = [word.strip() for word in further.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) for word in words):
        raise LookforwardError(
            f'data.bucket_resolutions = {further!r}: give numbers of pixels, such as "384, 768".', "setting-range"
        )
    return list(dict.fromkeys([resolution, *map(int, words)]))


def _in_buckets(photo: Photo, buckets: Sequence[Sequence[Size]]) -> Photo:
    sizes = [nearest_bucket(photo.upright_size, some) for some in buckets]
    try:
        parts = [cut_photo(photo.path, size) for size in sizes]
        masks: tuple[Pixels, ...] = ()
        if photo.mask_file is not None:
            masks = tuple(mask for size in sizes for mask in with_mask(photo, photo.mask_file, 1, size=size).masks)
        elif photo.masks:  # its transparency
            masks = tuple(alpha for _, alpha in parts if alpha is not None)
            if not all(alpha.any() for alpha in masks):
                raise PhotoError("is transparent all over where it is used; crop it, or remove it", "mask-empty")
    except LookforwardError as problem:
        raise LookforwardError(f"{photo.path} {problem}.", problem.code) from problem
    cuts = tuple(cut_to(photo.upright_size, size) for size in sizes)
    return replace(photo, squares=tuple(pixels for pixels, _ in parts), masks=masks, cuts=cuts)
