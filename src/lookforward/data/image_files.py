"""Image files other than photos, read by one rule: few formats, bounded bytes and pixels, one error for failures."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from lookforward.data.folder import FORMATS
from lookforward.errors import LookforwardError
from lookforward.records import read_bytes

MOST_PIXELS = 200_000_000  # as many as a benchmark's strip or a large photo may have


class ImageError(LookforwardError):
    """Why an image file cannot be used; the message names the file."""


@contextmanager
def opened_image(
    path: Path, formats: Sequence[str] = FORMATS, most_pixels: int = MOST_PIXELS, data: bytes | None = None
) -> Iterator[Image.Image]:
    """The image in a file, loaded, while the context lasts. data: the file's content, if it was read already.

    Raises:
        ImageError: it is missing, of another format, damaged, or has more pixels than `most_pixels`.
    """
    try:
        content = BytesIO(read_bytes(path) if data is None else data)
    except LookforwardError as error:
        raise ImageError(str(error), error.code) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities in metadata, and Pillow's own limit, which is below ours
        try:
            image = Image.open(content, formats=list(formats))
            if image.width * image.height > most_pixels:
                raise ImageError(f"{path} has {image.width}x{image.height} pixels: too many to read.", "image-large")
            image.load()
            image.getexif()  # by which an image is turned upright
        except (ImageError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"{path} has too many pixels to read.", "image-large") from error
        except Exception as error:  # Pillow raises nearly anything on damaged files, SyntaxError included
            raise ImageError(f"{path} is no image that can be read ({error}).", "image-damaged") from error
    with image:
        yield image
