"""The photos of one subject with their captions and masks, and an account of everything that lies beside them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookforward.bundle import CARD
from lookforward.data.captions import SUFFIXES, Captions, caption_of_no_photo, find_captions, shared_notes, with_caption
from lookforward.data.folder import count_of, describe_unused, is_photo, list_folder, list_names, require_photos
from lookforward.data.masks import MASK_SUFFIX, check_mask_name, find_masks, is_mask, mask_of_no_photo, with_mask
from lookforward.data.photo import Photo, PhotoError, Pixels, load_photo
from lookforward.errors import LookforwardError

MAX_PHOTOS = 500  # photos are held in memory, and one subject needs few
ADVICE = "use 4 to 6 photos"
_LISTED_PROBLEMS = 20
_BLANK = 2.0  # levels of 255: the standard deviation below which a picture shows nothing
_EXTREME, _SHARE = 8, 0.9  # levels from black or white within which a mask has this share of its pixels


@dataclass(frozen=True)
class LoadedPhotos:
    """What a folder, or a list of photos, has. folder: "" for a list. notes: sentences for the user. unused: what else
    lies in the folder.
    """

    folder: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def counted(self) -> str:
        return _count(self.folder, len(self.photos))

    @property
    def summary(self) -> str:
        """One line: "dog/ has 5 photos, 1 caption, 0 masks; not used: clip.mov"."""
        captions, masks = sum(bool(one.caption) for one in self.photos), sum(bool(one.masks) for one in self.photos)
        left_out = f"; not used: {list_names(self.unused)}" if self.unused else ""
        return f"{self.counted}, {count_of(captions, 'caption')}, {count_of(masks, 'mask')}{left_out}"


def load_photos(
    photos: Path | str | Sequence[Path | str],
    resolution: int,
    *,
    captions: bool = True,
    caption_lines: bool = False,
    crops: int = 1,
    large: int = 0,
    alpha_masks: bool = False,
    buckets: bool = False,
) -> LoadedPhotos:
    """Read photos with what lies beside them; for the arguments see `subject.load_subject`.

    Raises:
        LookforwardError: there are no photos or too many, or some cannot be used: one message names them all.
    """
    folder, paths, entries = _find_photos(photos)
    beside = [path for place in dict.fromkeys(p.parent for p in paths) for path in _listing(place, folder, entries)]
    texts = _by_folder(paths, beside)
    masks = {p: m for place in _places(paths) for p, m in find_masks(*_within(place, paths, beside)).items()}
    loaded: list[Photo] = []
    problems: list[PhotoError] = []
    lines: list[str] = []
    for path in paths:
        try:
            check_mask_name(path, paths)
            photo = load_photo(path, resolution, crops, large)
            photo = with_caption(photo, texts.of.get(path, ()), caption_lines) if captions else photo
            photo = with_mask(photo, masks.get(path), crops, alpha_masks, photo.upright_size if buckets else None)
            _check_blank(photo)
            loaded.append(photo)
        except PhotoError as problem:
            problems.append(problem)
            lines.append(f"{path} {problem}")
    if not problems:
        for path, problem in _masks_among(loaded):
            problems.append(problem)
            lines.append(f"{path} {problem}")
    _raise(problems, lines, folder, len(paths))
    notes = _notes(loaded, resolution, crops, alpha_masks, buckets)
    if captions:
        notes = (*notes, *texts.notes, *shared_notes(texts))
    without = sum(not photo.caption for photo in loaded)
    if 0 < without < len(loaded):
        notes = (*notes, f"{without} of {count_of(len(loaded), 'photo')} have no caption")
    unused = _unused(paths, entries, texts, set(masks.values()), captions) if folder else ()
    return LoadedPhotos(folder, tuple(loaded), notes, unused)


def _raise(problems: Sequence[PhotoError], lines: Sequence[str], folder: str, count: int) -> None:
    if len(problems) == 1:
        raise LookforwardError(f"{lines[0]}.", problems[0].code)
    if problems:
        more = [f"and {len(lines) - _LISTED_PROBLEMS} more"] if len(lines) > _LISTED_PROBLEMS else []
        first = f"{len(lines)} of the {count} photos in {folder or 'the list'} cannot be used:"
        raise LookforwardError("\n  ".join([first, *lines[:_LISTED_PROBLEMS], *more]), "photos-unusable")


def _find_photos(photos: Path | str | Sequence[Path | str]) -> tuple[str, list[Path], list[Path]]:
    """The folder that was given, "" for a list of photos; the photos; and everything in the folder."""
    paths = [Path(photo) for photo in ([photos] if isinstance(photos, str | Path) else photos)]
    folder, entries = "", []
    if len(paths) == 1 and os.path.isdir(paths[0]):  # os.path answers False where Path.is_dir raises
        place = paths[0]
        folder, entries = f"{place}{os.sep}", list_folder(place)
        paths = [one for one in entries if is_photo(one) and not is_mask(one) and not one.name.startswith(".")]
        require_photos(place, paths, entries)
    elif len(paths) == 1 and not os.path.lexists(paths[0]):
        raise LookforwardError(f"{paths[0]} does not exist: give a folder of photos, or photo files.", "photos-missing")
    elif not paths:
        raise LookforwardError("There are no photos: give a folder of photos, or photo files.", "photos-missing")
    if len(paths) > MAX_PHOTOS:
        raise LookforwardError(
            f"{_count(folder, len(paths))}, over {MAX_PHOTOS}: {ADVICE} of one subject.", "photos-many"
        )
    return folder, paths, entries


def _listing(place: Path, folder: str, entries: list[Path]) -> list[Path]:
    """What lies beside photos; nothing where a list names photos in a folder that cannot be read."""
    if folder:
        return entries
    try:
        return list_folder(place)
    except LookforwardError:
        return []


def _places(paths: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(path.parent for path in paths))


def _within(place: Path, *lists: Sequence[Path]) -> list[list[Path]]:
    return [[path for path in paths if path.parent == place] for paths in lists]


def _by_folder(paths: Sequence[Path], beside: Sequence[Path]) -> Captions:
    found = [find_captions(*_within(place, paths, beside)) for place in _places(paths)]
    return Captions({p: c for one in found for p, c in one.of.items()}, tuple(n for one in found for n in one.notes))


def _unused(
    paths: Sequence[Path], entries: Sequence[Path], texts: Captions, masks: set[Path], captions: bool
) -> tuple[str, ...]:
    """Names of what lies in the folder and is not used, each with what the user can do about it."""
    names = []
    for path in entries:
        if path in paths or path in masks or path.name == CARD or (captions and path in texts.used):
            continue
        if path in texts.used:
            names.append(f"{path.name} (data.captions is off)")
        elif path.name.startswith("."):
            names.append(describe_unused(path))
        elif is_mask(path):
            names.append(mask_of_no_photo(path))
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            names.append(caption_of_no_photo(path, paths))
        elif path.is_dir() and "mask" in path.name.lower():
            names.append(f"{path.name} (a folder; a mask lies beside its photo: {paths[0].stem}{MASK_SUFFIX})")
        else:
            names.append(describe_unused(path))
    return tuple(names)


def _check_blank(photo: Photo) -> None:
    if all(_spread(square) < _BLANK for square in (photo.pixels, *photo.squares)):
        raise PhotoError("is of one colour where it is used; remove it", "photo-blank")


def _spread(square: Pixels) -> float:
    """The largest standard deviation of a colour over the square, in levels of 255."""
    return float(square.reshape(-1, 3).std(axis=0).max())


def _masks_among(photos: Sequence[Photo]) -> list[tuple[Path, PhotoError]]:
    """Pictures that are black and white alone, among others that are not: masks whose names do not say so."""
    alike = [photo for photo in photos if _is_black_and_white(photo.pixels)]
    if len(alike) * 2 > len(photos):  # drawings, which one may train on
        return []
    remedy = f"if it is a mask, call it after its photo, such as dog{MASK_SUFFIX}; otherwise remove it"
    return [(one.path, PhotoError(f"is black and white alone; {remedy}", "photo-mask")) for one in alike]


def _is_black_and_white(pixels: Pixels) -> bool:
    grey = bool((pixels.max(axis=2) - pixels.min(axis=2) <= _EXTREME).all())
    black, white = (pixels <= _EXTREME).mean(), (pixels >= 255 - _EXTREME).mean()
    return grey and bool(min(black, white) > 0 and black + white >= _SHARE)


def _count(folder: str, count: int) -> str:
    return f"{folder or 'The list'} has {count_of(count, 'photo')}"


def _notes(photos: Sequence[Photo], resolution: int, crops: int, alpha_masks: bool, buckets: bool) -> tuple[str, ...]:
    notes: list[str] = []
    first: dict[str, Photo] = {}
    for photo in photos:
        name, (width, height) = photo.path.name, photo.size
        if min(width, height) < resolution:
            notes.append(f"{name} is {width}x{height} pixels, smaller than {resolution}, and is enlarged")
        if max(width, height) > 1.6 * min(width, height) and crops == 1 and not buckets:
            notes.append(
                f"only the central square of {name}, {width}x{height} pixels, is used; data.crops = 3 uses more, "
                "data.buckets all"
            )
        original = first.setdefault(photo.digest, photo)
        if original is not photo:
            notes.append(f"{name} is the same file as {original.path.name}")
        elif any(np.array_equal(photo.pixels, one.pixels) for one in first.values() if one is not photo):
            notes.append(f"{name} shows the same pixels as another photo")
        if photo.alphas and not alpha_masks and not photo.mask_digest:
            notes.append(f"{name} is transparent in part, laid on white: data.alpha_masks makes that its mask")
        if photo.alphas and alpha_masks and photo.mask_digest:
            notes.append(f"the mask of {name} is {photo.path.stem}{MASK_SUFFIX}, and not its transparency")
    return tuple(notes)
