"""The pictures on disk: what cells drew, and the photos of subjects."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.report.data import Result

MOST_PHOTOS = 8
_PHOTOS = {".png", ".jpg", ".jpeg", ".webp"}
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what a damaged file may lead to


def drawn_in(folder: Path, stems: Mapping[tuple[str, str, int], str]) -> Callable[[Result], Sequence[np.ndarray]]:
    """A function from a result to its images. stems: of the files of each cell, by subject, method and seed."""

    @lru_cache(maxsize=8)
    def load(stem: str, count: int) -> Sequence[np.ndarray]:
        try:
            with Image.open(folder / "images" / f"{stem}.png") as strip:
                pixels = np.asarray(strip.convert("RGB"))
        except _BROKEN:
            return ()
        return () if pixels.shape[0] % count else list(pixels.reshape(count, -1, *pixels.shape[1:]))

    return lambda r: load(stems[r.subject, r.method, r.seed], max(1, len(r.prompts) * r.images))


def photos_in(folder: Path, listed: Mapping[str, Sequence[Path]]) -> Callable[[str], Sequence[np.ndarray]]:
    """A function from a subject's name to its photos. listed: where they are known to be; else below photos/."""

    @cache
    def load(name: str) -> Sequence[np.ndarray]:
        photos = []
        try:
            paths = listed.get(name) or sorted(
                p for p in photo_folder(folder, name).iterdir() if p.suffix.lower() in _PHOTOS
            )
        except _BROKEN:
            return ()
        for path in paths[:MOST_PHOTOS]:
            try:
                with Image.open(path) as photo:
                    photos.append(_square(ImageOps.exif_transpose(photo).convert("RGB")))
            except _BROKEN:  # a corrupt photo is told by its failed cells
                continue
        return photos

    return load


def photo_folder(folder: Path, name: str) -> Path:
    """Raises ValueError where the name would lead elsewhere."""
    if name != Path(name).name:
        raise ValueError(f"{name!r} is no name of a folder")
    return folder / "photos" / name


def noun_of(name: str) -> str:
    """The class noun that a subject's name holds: that of "stuffed-animal-2" is "stuffed animal"."""
    return re.sub(r"\d+$", "", name).replace("-", " ").replace("_", " ").strip() or name


def _square(photo: Image.Image) -> np.ndarray:
    """The middle of a photo, small: nothing larger is shown, and phones' photos would fill the memory."""
    side = min(*photo.size, 256)
    return np.asarray(ImageOps.fit(photo, (side, side)))
