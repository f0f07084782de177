"""The photos of a subject: added, looked at, captioned and removed, all read by the reader of runs."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lookforward.data.boxes import central_box, central_square
from lookforward.data.buckets import bucket_sizes, nearest_bucket
from lookforward.data.captions import Caption, find_captions, with_caption
from lookforward.data.folder import is_photo, list_folder
from lookforward.data.masks import find_masks, is_mask
from lookforward.data.photo import Photo, PhotoError, cut_photo, load_photo
from lookforward.data.photos import MAX_PHOTOS, load_photos
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, digest_file, write_text, writing

THUMBNAIL = 320  # pixels of the longer side
REMEDY = "Earlier files are unchanged: free disk space, or check the permissions of the folder."


@dataclass(frozen=True, eq=False)
class PhotoView:
    """What the browser shows of a photo. picture: with the part that is used marked; None if it cannot be read.

    used: that part in words. problem: why it cannot be used; notes: what may disappoint.
    """

    name: str
    picture: Image.Image | None
    used: str
    problem: str
    notes: tuple[str, ...]
    caption: str
    has_mask: bool


@dataclass(frozen=True, eq=False)
class Look:
    """All photos of a subject, and notes about them together."""

    photos: tuple[PhotoView, ...]
    notes: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return bool(self.photos) and not any(one.problem for one in self.photos)


def add_photos(folder: Path, files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Copy photos into a subject's folder; returns the names that they have there, and what is wrong with the others.

    A file that is not a photo, or not one that a run can use, is left out. Names are made safe and unique.

    Raises:
        LookforwardError: the folder cannot be written.
    """
    added, refused = [], []
    known = {_digest(path) for path in photo_paths(folder)} if folder.is_dir() else set()
    for file in files:
        name = _safe_name(file.name)
        try:
            if len(known) >= MAX_PHOTOS:
                raise PhotoError(f"is one too many: a subject has at most {MAX_PHOTOS} photos", "photos-many")
            digest = load_photo(file, 64).digest
        except PhotoError as problem:
            refused.append(f"{file.name} {problem}.")
            continue
        if digest in known:
            refused.append(f"{file.name} is there already.")
            continue
        known.add(digest)
        with writing(folder, REMEDY):
            folder.mkdir(parents=True, exist_ok=True)
        place = _free(folder, name)
        with atomic_file(place, REMEDY) as partial:
            partial.write_bytes(file.read_bytes())
        added.append(place.name)
    return added, refused


def photo_paths(folder: Path) -> list[Path]:
    """The photos of a subject, by name; none if there is no folder."""
    entries = list_folder(folder) if folder.is_dir() else []
    return [path for path in entries if is_photo(path) and not is_mask(path) and not path.name.startswith(".")]


def find_photo(folder: Path, name: str) -> Path:
    """The photo of that name.

    Raises:
        LookforwardError: there is none.
    """
    found = next((path for path in photo_paths(folder) if path.name == name), None)
    if found is None:
        raise LookforwardError(f"There is no photo {name[:80]}: reload the page.", "photo-missing")
    return found


def look(folder: Path, resolution: int, *, buckets: bool = False, unit: int = 8) -> Look:
    """Every photo of a subject, as a run at this resolution would use it.

    unit: pixels that the sides of a bucket must be multiples of, for the model.
    """
    paths = photo_paths(folder)
    problem, notes = "", ()
    try:
        notes = load_photos(folder, resolution, buckets=buckets).notes if paths else ()
    except LookforwardError as error:
        problem = str(error)
    sizes = bucket_sizes(resolution, unit) if buckets else ()
    views = tuple(_look_at(path, paths, resolution, sizes, notes) for path in paths)
    if problem and not any(view.problem for view in views):
        notes = (problem,)
    return Look(views, tuple(note for note in notes if not any(_is_about(note, view.name) for view in views)))


def set_caption(folder: Path, name: str, text: str) -> None:
    """Write the caption of a photo beside it; an empty one is deleted.

    Raises:
        LookforwardError: the text cannot be a caption, or its file cannot be written.
    """
    path = find_photo(folder, name)
    text = " ".join(text.split())
    of = find_captions(photo_paths(folder), list_folder(folder)).of
    if listed := [one.path.name for one in of.get(path, ()) if one.text is not None]:
        raise LookforwardError(f"The caption of {name} is a line of {listed[0]}: change it there.", "caption-listed")
    files = [one.path for one in of.get(path, ())]
    if not text:
        with writing(path, REMEDY):
            for file in files:
                file.unlink(missing_ok=True)
        return
    try:
        with_caption(_nothing(path), [Caption(path.with_suffix(".txt"), text)])
    except PhotoError as error:
        raise LookforwardError(f"{name} {error}.", error.code) from error
    write_text(files[0] if files else path.with_suffix(".txt"), text + "\n", REMEDY)


def read_caption(folder: Path, name: str) -> str:
    """The caption of a photo as it is in its file; "" if there is none."""
    path = find_photo(folder, name)
    for one in find_captions(photo_paths(folder), list_folder(folder)).of.get(path, ()):
        text = one.path.read_text(encoding="utf-8", errors="replace") if one.text is None else one.text
        return " ".join(text.split())
    return ""


def remove_photo(folder: Path, name: str) -> None:
    """Delete a photo with its caption and its mask. Raises LookforwardError where that fails."""
    path = find_photo(folder, name)
    entries = list_folder(folder)
    captions = find_captions([path], entries).of.get(path, ())
    mask = find_masks([path], entries).get(path)
    with writing(path, REMEDY):
        for file in (path, mask, *(one.path for one in captions if one.text is None)):
            if file is not None:
                file.unlink(missing_ok=True)


def _look_at(
    path: Path, paths: Sequence[Path], resolution: int, sizes: Sequence[tuple[int, int]], notes: Sequence[str]
) -> PhotoView:
    own = tuple(note.removeprefix(f"{path.name} ") for note in notes if _is_about(note, path.name))
    mask = find_masks([path], list_folder(path.parent)).get(path)
    try:
        photo = load_photo(path, resolution)
    except PhotoError as problem:
        return PhotoView(path.name, None, "", str(problem), (), "", mask is not None)
    problem, caption = "", ""
    try:
        [read] = load_photos([path], resolution, buckets=bool(sizes)).photos
        caption = read.caption
    except LookforwardError as error:
        problem = str(error).removeprefix(str(path)).strip()
    width, height = photo.upright_size
    bucket = nearest_bucket(photo.upright_size, sizes) if sizes else None
    used = f"{width}×{height}, bucket {bucket[0]}×{bucket[1]}" if bucket else f"{width}×{height}, central square"
    return PhotoView(path.name, _thumbnail(photo, bucket), used, problem, own, caption, mask is not None)


def _thumbnail(photo: Photo, bucket: tuple[int, int] | None) -> Image.Image:
    """The whole photo, darker outside of the part that is used."""
    width, height = photo.upright_size
    scale = THUMBNAIL / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(cut_photo(photo.path, size)[0])
    box = central_box(*size, bucket) if bucket else central_square(*size)
    shade = Image.new("L", size, 150)
    ImageDraw.Draw(shade).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=0)
    picture.paste((20, 20, 20), mask=shade)
    return picture


def _is_about(note: str, name: str) -> bool:
    return note.startswith(f"{name} ") or f" of {name} " in note or f" of {name}," in note


def _nothing(path: Path) -> Photo:
    pixels = np.zeros((1, 1, 3), np.uint8)
    return Photo(path, pixels, "", (1, 1), (1, 1), (pixels,))


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:
        return ""


def _safe_name(name: str) -> str:
    """A name of ASCII letters, digits and - with the file's own suffix: browsers send any."""
    stem, suffix = os.path.splitext(Path(name).name)
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:60] or "photo"
    suffix = re.sub(r"[^A-Za-z0-9.]", "", suffix).lower()[:8]
    return plain + (suffix if is_photo(Path(f"x{suffix}")) else ".png")


def _free(folder: Path, name: str) -> Path:
    """A path for a new photo whose stem no other photo has, so that captions and masks belong to one only."""
    stems = {path.stem.casefold() for path in photo_paths(folder)}
    stem, suffix, number = Path(name).stem, Path(name).suffix, 1
    while (stem if number == 1 else f"{stem}-{number}").casefold() in stems:
        number += 1
    return folder / f"{stem if number == 1 else f'{stem}-{number}'}{suffix}"
