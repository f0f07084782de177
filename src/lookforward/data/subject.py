"""The subject of a run: its reference photos, checked before anything is trained, and its words in prompts."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lookforward.data.captions import with_caption
from lookforward.data.masks import is_mask, unused_masks, with_mask
from lookforward.data.photo import CONVERT_SUFFIXES, PHOTO_SUFFIXES, Photo, PhotoError, load_photo
from lookforward.errors import LookforwardError

FEW_PHOTOS = 3
MAX_PHOTOS = 500  # photos are held in memory, and one subject needs few
_LISTED_PROBLEMS = 20
_ADVICE = "use 4 to 6 photos"


@dataclass(frozen=True, eq=False)
class Subject:
    """What a run learns: photos, a class noun ("dog") and the identifier ("sks") that will name it.

    notes: sentences for the user about photos that work but may disappoint. noun_in_prompt: whether prompts say the
    class noun beside the identifier. others: further subjects of the same run.
    """

    identifier: str
    class_noun: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()
    noun_in_prompt: bool = True
    others: tuple["Subject", ...] = ()

    @property
    def together(self) -> tuple["Subject", ...]:
        """All subjects of the run, this one first."""
        return (replace(self, others=()), *self.others)

    @property
    def digests(self) -> list[str]:
        """A line for each photo, from which a run knows it again: the digests of its file, caption and mask.

        If there are several subjects, a line with the words of each goes before its photos.
        """
        lines = []
        for subject in self.together:
            lines += [f"subject {subject.identifier} {subject.class_noun}"] if self.others else []
            lines += [photo.digests for photo in subject.photos]
        return lines

    @property
    def name(self) -> str:
        """What prompts call it: "sks dog", or the identifier alone if that stands for the whole subject."""
        return f"{self.identifier} {self.class_noun}" if self.noun_in_prompt else self.identifier

    @property
    def prompt(self) -> str:
        """The training prompt, without an article as in diffusers' DreamBooth: "a photo of sks dog"."""
        return f"a photo of {self.name}"

    @property
    def class_prompt(self) -> str:
        """The prompt of the class images: "a photo of dog"."""
        return f"a photo of {self.class_noun}"


def load_subject(
    photos: Path | str | Sequence[Path | str],
    *,
    class_noun: str,
    identifier: str = "sks",
    resolution: int,
    allow_few: bool = False,
    noun_in_prompt: bool = True,
    captions: bool = True,
    caption_lines: bool = False,
    crops: int = 1,
    large: int = 0,
    buckets: bool = False,
) -> Subject:
    """Read the reference photos: a folder (by file name), one photo, or a list of photos (in its order).

    Skips hidden files, subfolders, masks and files without an image suffix in a folder. Turns each photo upright by its
    EXIF orientation, crops it to the central square and resizes it to `resolution` pixels with an antialiasing Lanczos
    filter; transparency is laid on white.

    allow_few: accept fewer than three photos. captions: read `dog.txt` beside `dog.jpg`;
    caption_lines: each of its lines is a caption of its own. buckets: whether photos will be trained on in their own
    shape (`data.buckets`), not in the square that is read here. crops, large: as in
    `load_photo`.

    Raises:
        LookforwardError: the class noun or identifier is empty, the folder is missing, the photos are too few or too
            many, or some cannot be used: one message names them all.
    """
    class_noun = _clean(class_noun, "class noun", 'say what the subject is, such as --class-noun "dog"')
    identifier = _clean(identifier, "identifier", 'choose a rare word, such as --identifier "sks"')
    if resolution < 1:
        raise LookforwardError(f"resolution is {resolution}: give a positive number of pixels.", "setting-range")
    folder, paths = _find_photos(photos)
    loaded: list[Photo] = []
    problems: list[PhotoError] = []
    lines: list[str] = []
    for path in paths:
        try:
            photo = load_photo(path, resolution, crops, large)
            photo = with_caption(photo, caption_lines) if captions else photo
            loaded.append(with_mask(photo, crops, photo.upright_size if buckets else None))
        except PhotoError as problem:
            problems.append(problem)
            lines.append(f"{path} {problem}")
    if len(problems) == 1:
        raise LookforwardError(f"{lines[0]}.", problems[0].code)
    if problems:
        more = [f"and {len(lines) - _LISTED_PROBLEMS} more"] if len(lines) > _LISTED_PROBLEMS else []
        first = f"{len(lines)} of the {len(paths)} photos in {folder or 'the list'} cannot be used:"
        raise LookforwardError("\n  ".join([first, *lines[:_LISTED_PROBLEMS], *more]), "photos-unusable")
    few = f"{_count(folder, len(loaded))}: {_ADVICE}"
    if len(loaded) < FEW_PHOTOS and not allow_few:
        raise LookforwardError(
            f"{few}, or train on fewer with --data.allow-few (in Python, data.allow_few).", "photos-few"
        )
    notes = ((few,) if len(loaded) < FEW_PHOTOS else ()) + _notes(loaded, resolution, crops, buckets)
    return Subject(
        identifier, class_noun, tuple(loaded), notes + (unused_masks(paths) if folder else ()), noun_in_prompt
    )


def check_identifier(identifier: str, tokenize: Callable[[str], list[int]]) -> str | None:
    """A note for the user if the identifier is several of the model's tokens; None if it is one.

    tokenize: gives token ids without start, end, padding or unknown tokens.

    Raises:
        LookforwardError: no token is left, so that prompts would be those of the class.
    """
    tokens = tokenize(identifier)
    if not tokens:
        raise LookforwardError(
            f"The model's tokenizer drops the identifier {identifier!r}: choose letters, such as 'sks'.",
            "identifier-unknown",
        )
    if len(tokens) > 1:
        return f"identifier {identifier!r} is {len(tokens)} tokens; one rare token, such as 'sks', binds better"
    return None


def _clean(words: str, what: str, remedy: str) -> str:
    words = words.strip()
    # Cc holds newlines and tabs, Cs lone surrogates that no file can store, Zl and Zp Unicode's newlines
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in words):
        raise LookforwardError(
            f"The {what} {words!r} has a line break or control character: remove it.", "words-control"
        )
    words = " ".join(words.split())
    if not any(character.isprintable() for character in words):  # zero-width characters alone are empty too
        raise LookforwardError(f"The {what} is empty: {remedy}.", "words-empty")
    return words


def _find_photos(photos: Path | str | Sequence[Path | str]) -> tuple[str, list[Path]]:
    """The folder that was given, "" for a list of photos; and the photos."""
    paths = [Path(photo) for photo in ([photos] if isinstance(photos, str | Path) else photos)]
    folder = ""
    if len(paths) == 1 and os.path.isdir(paths[0]):  # os.path answers False where Path.is_dir raises
        folder = f"{paths[0]}{os.sep}"
        paths = _photos_in_folder(paths[0])
    elif len(paths) == 1 and not os.path.lexists(paths[0]):
        raise LookforwardError(f"{paths[0]} does not exist: give a folder of photos, or photos.", "photos-missing")
    elif not paths:
        raise LookforwardError("There are no photos: give a folder of photos, or photos.", "photos-missing")
    if len(paths) > MAX_PHOTOS:
        raise LookforwardError(
            f"{_count(folder, len(paths))}, over {MAX_PHOTOS}: {_ADVICE} of one subject.", "photos-many"
        )
    return folder, paths


def _photos_in_folder(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise LookforwardError(
            f"{folder} cannot be read ({error.strerror}): check its permissions.", "photos-unreadable"
        ) from error
    suffixes = PHOTO_SUFFIXES | CONVERT_SUFFIXES
    found = [entry for entry in entries if entry.suffix.lower() in suffixes and not is_mask(entry)]
    if not found:
        raise LookforwardError(
            f"{folder} has no photos: put 4 to 6 JPEG or PNG photos of the subject directly in it.", "photos-missing"
        )
    return found


def _count(folder: str, count: int) -> str:
    return f"{folder or 'The list'} has {count} photo{'' if count == 1 else 's'}"


def _notes(photos: Sequence[Photo], resolution: int, crops: int, buckets: bool) -> tuple[str, ...]:
    notes: list[str] = []
    first: dict[str, Photo] = {}
    for photo in photos:
        name, (width, height) = photo.path.name, photo.size
        if min(width, height) < resolution:
            notes.append(f"{name} is {width}x{height} pixels, smaller than {resolution}, and is enlarged")
        if max(width, height) > 1.6 * min(width, height) and crops == 1 and not buckets:
            notes.append(
                f"only the central square of {name}, {width}x{height} pixels, is used; "
                "data.crops = 3 uses more, data.buckets all"
            )
        original = first.setdefault(photo.digest, photo)
        if original is not photo:
            notes.append(f"{name} is the same file as {original.path.name}")
    return tuple(notes)
