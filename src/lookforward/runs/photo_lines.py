"""The lines of RUN/photos.json, from which a run knows again what it learns from."""

from collections.abc import Sequence

CLASS_LINE = "class "  # before the digest of the user's own class images
ENCODER_LINE = "encoder "  # before that of the photo encoder that training starts from


def photo_files(digests: Sequence[str]) -> list[str]:
    """The digests of the photos alone: in each line, those of a caption and a mask follow."""
    return [word for line in digests if not line.startswith((CLASS_LINE, ENCODER_LINE)) for word in line.split()[:1]]


def what_differs(before: Sequence[str], now: Sequence[str]) -> str:
    """Which files of two runs are not the same ones, in words."""
    if photo_files(before) != photo_files(now):
        return "photos"
    if [x for x in before if x.startswith(ENCODER_LINE)] != [x for x in now if x.startswith(ENCODER_LINE)]:
        return "weights of the photo encoder in adapter.encoder"
    own = [[line for line in lines if line.startswith(CLASS_LINE)] for lines in (before, now)]
    return "class images in data.class_folder" if own[0] != own[1] else "captions or masks"
