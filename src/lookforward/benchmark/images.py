"""The images on disk that a report shows: what cells drew, and the photos of subjects."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.benchmark.cell import UNREADABLE, Cell, opened_strip, read_strip
from lookforward.benchmark.datasets.values import photo_files
from lookforward.benchmark.plan import CellKey
from lookforward.data.image_files import ImageError, opened_image
from lookforward.errors import LookforwardError
from lookforward.files import leads_out
from lookforward.report.data import Problem

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
                if _escapes(path, folder):
                    continue
                with opened_image(path) as photo:
                    photos.append(_square(ImageOps.exif_transpose(photo).convert("RGB")))
            except (ImageError, *UNREADABLE):
                continue  # `broken_photos` names it
        return photos

    return load


def broken_photos(folder: Path, listed: Mapping[str, Sequence[Path]], names: Sequence[str]) -> list[Problem]:
    """A row for each photo of the named subjects that is there and cannot be shown."""
    problems = []
    for name in names:
        for path in (listed.get(name) or photo_files(photo_folder(folder, name)))[:MOST_PHOTOS]:
            try:
                if _escapes(path, folder):
                    raise ImageError(f"{path} leaves the benchmark's folder.", "link-outside")
                if os.path.isfile(path):
                    with opened_image(path):
                        pass
            except ImageError as error:
                problems.append(Problem(f"{name}, photo {path.name}", f"cannot be shown: {error}"))
    return problems


def broken_strips(folder: Path, stems: Mapping[CellKey, str], cells: Mapping[CellKey, Cell]) -> list[Problem]:
    """A row for each cell whose images are there and cannot be read. Its scores are shown all the same."""
    problems = []
    for key in cells:
        path = folder / "images" / f"{stems[key]}.png"
        try:
            if path.is_file():
                with opened_strip(path):
                    pass
        except ImageError as error:
            problems.append(Problem(path.name, f"its images cannot be shown: {error}"))
    return problems


def _escapes(path: Path, folder: Path) -> bool:
    """Whether a path below the benchmark's folder leaves it by a link or by `..`. A data set elsewhere is not below."""
    return path.is_relative_to(folder) and leads_out(path, folder)


def photo_folder(folder: Path, name: str) -> Path:
    """Where a benchmark keeps the photos of a subject that its data set draws; never outside `folder`."""
    return folder / "photos" / Path(name).name


def _square(photo: Image.Image) -> np.ndarray:
    """The middle of a photo, small: a page shows nothing larger, and phones' photos would fill the memory."""
    side = min(*photo.size, 256)
    return np.asarray(ImageOps.fit(photo, (side, side)))
