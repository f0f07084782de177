"""What lies in a folder of photos: each file is a photo, a caption, a mask, or named as not used."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from lookforward.errors import LookforwardError

_PHOTOS = "jpg jpeg jpe jif jfif jfi pjpeg pjp mpo png apng webp bmp dib tif tiff gif"
_OTHERS = """
    heic heif heics hif avif avifs jxl jp2 j2k j2c jpf jpx jpm jxr wdp hdp psd psb xcf kra tga exr hdr ppm pgm pbm pnm
    qoi svg eps ico icns livp insp dng cr2 cr3 crw nef nrw arw sr2 srf orf rw2 rwl raw raf pef srw x3f 3fr fff iiq mrw
    mef mos kdc dcr k25 erf gpr
"""
PHOTO_SUFFIXES = frozenset(f".{name}" for name in _PHOTOS.split())
# Photos in formats that Pillow does not read reliably: to skip them silently would lose references
CONVERT_SUFFIXES = frozenset(f".{name}" for name in _OTHERS.split())
# Named, because Pillow left to itself also runs Ghostscript on an EPS file that is called .jpg
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# What systems leave in folders, and nobody puts there
_OF_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db", ".directory", ".localized"})
_KOHYA = re.compile(r"\d+_(\S+)(?:\s+(\S.*))?")  # "10_sks dog": repeats, identifier and class noun
_LISTED = 12  # names in a message


def list_folder(folder: Path) -> list[Path]:
    """Everything in a folder by name, but for what systems leave there.

    Raises:
        LookforwardError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise LookforwardError(
            f"{folder} cannot be read ({error.strerror}): check its permissions.", "photos-unreadable"
        ) from error
    return [one for one in entries if one.name.lower() not in _OF_SYSTEMS and not one.name.startswith("._")]


def is_photo(path: Path) -> bool:
    """Whether a file is to be read as a photo: by its suffix or, where it has none, by its content."""
    suffix = path.suffix.lower()
    return suffix in PHOTO_SUFFIXES | CONVERT_SUFFIXES or (not suffix and os.path.isfile(path) and _is_image(path))


def describe_unused(path: Path) -> str:
    """A file or folder that is not used, with what the user can do about it: "more (a folder with 3 photos)"."""
    if os.path.isdir(path):
        count = len(photos_in(path))
        photos = f" with {count_of(count, 'photo')}" if count else ""
        return f"{path.name} (a folder{photos})"
    if path.name.startswith("."):
        return f"{path.name} (hidden)"
    if path.suffix.lower() not in PHOTO_SUFFIXES | CONVERT_SUFFIXES and os.path.isfile(path) and _is_image(path):
        return f"{path.name} (a photo by its content: rename it to {path.stem}.jpg if you want it)"
    return path.name


def require_photos(folder: Path, photos: Sequence[Path], entries: Iterable[Path]) -> None:
    """Raise LookforwardError if a folder has no photos; the message names folders within that have some."""
    if photos:
        return
    within = [one for one in entries if os.path.isdir(one) and not one.name.startswith(".") and photos_in(one)]
    if not within:
        raise LookforwardError(
            f"{folder} has no photos: put 4 to 6 JPEG or PNG photos of the subject directly in it.", "photos-missing"
        )
    found = "; ".join(f"{one.name} has {count_of(len(photos_in(one)), 'photo')}" for one in within[:_LISTED])
    named = _KOHYA.fullmatch(within[0].name)
    words = f" with --identifier {named[1]}" + (f' --class-noun "{named[2]}"' if named[2] else "") if named else ""
    words = words.replace('"', "") if named and named[2] and " " not in named[2] else words
    raise LookforwardError(
        f"{folder} has no photos of its own, but folders with some: {found}. Use one of them, {within[0]}{words}; "
        "for several subjects, use a TOML list.",
        "photos-missing",
    )


def photos_in(folder: Path) -> list[Path]:
    """The photos directly in a folder, by their suffix; none if it cannot be read."""
    try:
        return [one for one in folder.iterdir() if one.suffix.lower() in PHOTO_SUFFIXES | CONVERT_SUFFIXES]
    except OSError:
        return []


def list_names(names: Sequence[str]) -> str:
    """Names with commas between; only the first ones of many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def count_of(count: int, noun: str) -> str:
    """ "1 photo", "2 photos"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # Pillow raises nearly anything on files that are none
        return False
