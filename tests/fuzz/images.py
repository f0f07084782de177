"""Images: photos, masks, images of a benchmark, cached class images, and the metadata of drawn ones."""

from pathlib import Path

import numpy as np

from fuzz.common import attempt, fresh, written
from lookforward.benchmark.cell import read_strip
from lookforward.benchmark.images import photos_in
from lookforward.data.class_images import _read as read_class_image
from lookforward.data.colours import PhotoError
from lookforward.data.image_files import opened_image
from lookforward.data.masks import with_mask
from lookforward.data.photo import Photo, cut_photo, load_photo
from lookforward.exports.inspection import inspect
from lookforward.exports.png import read_metadata

_PIXELS = np.zeros((64, 64, 3), np.uint8)


def photo(data: bytes) -> None:
    """A photo to train on, in squares and as a whole."""
    path = written("photo.png", data)
    read = load_photo(path, 48, crops=2, large=64)
    assert read.pixels.shape == (48, 48, 3)
    assert len(read.squares) == len(read.cuts) == len(read.large)
    assert cut_photo(path, (64, 48))[0].shape == (48, 64, 3)


def mask(data: bytes) -> None:
    """A mask of a photo of 64 pixels a side."""
    path = written("photo.mask.png", data)
    read = with_mask(Photo(Path("photo.png"), _PIXELS, "0" * 64, (64, 64), (64, 64), (_PIXELS,)), path, 1)
    assert read.masks[0].shape == (64, 64)


def strip(data: bytes) -> None:
    """The images of a benchmark's cell."""
    folder = fresh("strip")
    (folder / "images").mkdir()
    (folder / "images" / "cell.png").write_bytes(data)
    (folder / "photo.png").write_bytes(data)
    photos_in(folder, {"dog": [folder / "photo.png"]})("dog")
    assert read_strip(folder, "cell", 2).shape[0] == 2
    read_strip(folder, "cell")


def class_image(data: bytes) -> None:
    """A cached class image; one without a digest gets one."""
    path = written("class.png", data)
    found = read_class_image(path, 32)
    if found is None:
        raise PhotoError
    assert read_class_image(path, 32) is not None


def image(data: bytes) -> None:
    """Any other image."""
    with opened_image(written("image.png", data)) as opened:
        opened.convert("RGB")


def metadata(data: bytes) -> None:
    """How an image was drawn, by its metadata."""
    read_metadata(written("drawn.png", data)).parameters()


def looked_at(data: bytes) -> None:
    """`lookforward inspect` of an image."""
    inspect(written("looked-at.png", data))


READERS = (photo, mask, strip, class_image, image, metadata, looked_at)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
