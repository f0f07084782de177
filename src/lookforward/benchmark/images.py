"""The images on disk that a report shows: what cells drew, and the photos of subjects."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.benchmark.cell import UNREADABLE, Cell, read_strip
from lookforward.benchmark.datasets.values import photo_files
from lookforward.benchmark.plan import CellKey
from lookforward.errors import LookforwardError

MOST_PHOTOS = 8


def drawn_in(
    folder: Path, stems: Mapping[CellKey, str], cells: Mapping[CellKey, Cell]
) -> Callable[[CellKey], Sequence[np.ndarray]]:
    """A function from a cell to its images. stems: of the files of each cell."""

    @lru_cache(maxsize=8)
    def load(key: CellKey) -> Sequence[np.ndarray]:
        settings = cells[key].settings
        try:
            return list(read_strip(folder, stems[key], max(1, len(settings["prompts"]) * int(settings["images"]))))
        except LookforwardError:
            return ()

    return load


def photos_in(folder: Path, listed: Mapping[str, Sequence[Path]]) -> Callable[[str], Sequence[np.ndarray]]:
    """A function from a subject's name to its photos. listed: where they are recorded to be; else below photos/."""

    @cache
    def load(name: str) -> Sequence[np.ndarray]:
        photos = []
        for path in (listed.get(name) or photo_files(photo_folder(folder, name)))[:MOST_PHOTOS]:
            try:
                with Image.open(path) as photo:
                    photos.append(_square(ImageOps.exif_transpose(photo).convert("RGB")))
            except UNREADABLE:  # the failed cells say so
                continue
        return photos

    return load


def photo_folder(folder: Path, name: str) -> Path:
    """Where a benchmark keeps the photos of a subject that its data set draws; never outside `folder`."""
    return folder / "photos" / Path(name).name


def _square(photo: Image.Image) -> np.ndarray:
    """The middle of a photo, small: a page shows nothing larger, and phones' photos would fill the memory."""
    side = min(*photo.size, 256)
    return np.asarray(ImageOps.fit(photo, (side, side)))
