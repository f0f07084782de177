"""Photos of one subject become a `Subject`: upright, square, RGB, and checked before anything is trained."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lookforward.data.photo import CONVERT_SUFFIXES, PHOTO_SUFFIXES, Photo, PhotoError, load_photo
from lookforward.data.sidecars import MASK_SUFFIX, is_mask, with_sidecars
from lookforward.errors import LookforwardError

FEW_PHOTOS = 3
MAX_PHOTOS = 500  # photos are held in memory, and this is not for a photo library
_LISTED_PROBLEMS = 20
_LIST = "the list"


@dataclass(frozen=True, eq=False)
class Subject:
    """The subject to learn: its photos, its class noun ("dog") and the identifier ("sks") that will name it.

    `notes` are sentences for the user about photos that work but may disappoint. `others` are further subjects that
    are learned in the same run.
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
    def origins(self) -> list[str]:
        """What the run learns from, to know it again: each file's digest, in order, under its subject if several."""
        several = bool(self.others)
        return [
            line
            for subject in self.together
            for line in (
                *([f"subject {subject.identifier} {subject.class_noun}"] if several else []),
                *(photo.origin for photo in subject.photos),
            )
        ]

    @property
    def name(self) -> str:
        """What prompts call it: "sks dog", or the identifier alone where that stands for the whole subject."""
        return f"{self.identifier} {self.class_noun}" if self.noun_in_prompt else self.identifier

    @property
    def prompt(self) -> str:
        """The training prompt, without an article as in diffusers' DreamBooth: "a photo of sks dog"."""
        return f"a photo of {self.name}"

    @property
    def class_prompt(self) -> str:
        """The prompt of the prior images: "a photo of dog"."""
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
    crops: int = 1,
    large: int = 0,
) -> Subject:
    """Read the reference photos: a folder (by file name), one photo, or a list of photos (in its order).

    In a folder, hidden files, subfolders, masks and files without an image suffix are skipped.
    Each photo is turned upright by its EXIF orientation, cropped to the central square and resized to
    `resolution` pixels with an antialiasing Lanczos filter; transparency is laid on white.
    captions: whether `dog.txt` beside `dog.jpg` is read. crops, large: as in `load_photo`.

    Raises `LookforwardError` for an empty class noun or identifier, a missing folder, fewer than three
    photos unless `allow_few`, and unusable photos, which it names all in one message.
    """
    class_noun = _clean_words(class_noun, "class noun", 'say what the subject is, such as --class-noun "dog"')
    identifier = _clean_words(identifier, "identifier", 'choose a rare word, such as --identifier "sks"')
    if resolution < 1:
        raise LookforwardError(f"resolution is {resolution}; it must be a positive number of pixels")
    where, paths = _find_photos(photos)
    loaded: list[Photo] = []
    problems: list[str] = []
    for path in paths:
        try:
            loaded.append(with_sidecars(load_photo(path, resolution, crops, large), captions=captions, crops=crops))
        except PhotoError as problem:
            problems.append(f"{path} {problem}")
    if problems:
        raise LookforwardError(_tell_problems(problems, where, len(paths)))
    if len(loaded) < FEW_PHOTOS and not allow_few:
        raise LookforwardError(
            f"{_tell_count(where, len(loaded))}; 4 to 6 are recommended,"
            " pass --allow-few (in Python: allow_few=True) to go on"
        )
    notes = (*_notes(loaded, where, resolution, crops), *(_lonely_masks(paths) if where != _LIST else ()))
    return Subject(identifier, class_noun, tuple(loaded), notes, noun_in_prompt)


def check_identifier(identifier: str, tokenize: Callable[[str], list[int]]) -> str | None:
    """Check an identifier against the model's tokenizer; return a note for the user, or None if all is well.

    `tokenize` gives token ids without start, end, padding or unknown tokens. Raises `LookforwardError`
    if it leaves nothing of the identifier: the prompts would then be those of the class.
    """
    tokens = tokenize(identifier)
    if not tokens:
        raise LookforwardError(
            f"identifier {identifier!r} is nothing to the model's tokenizer; choose letters, such as 'sks'"
        )
    if len(tokens) > 1:
        return f"identifier {identifier!r} is {len(tokens)} tokens; one rare token, as 'sks', binds better"
    return None


def _clean_words(words: str, what: str, remedy: str) -> str:
    words = words.strip()
    # Cc holds newlines and tabs, Cs lone surrogates that no file can store, Zl and Zp Unicode's newlines.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in words):
        raise LookforwardError(f"the {what} {words!r} holds a line break or control character; remove it")
    words = " ".join(words.split())
    if not any(character.isprintable() for character in words):  # also only zero-width characters
        raise LookforwardError(f"the {what} is empty; {remedy}")
    return words


def _find_photos(photos: Path | str | Sequence[Path | str]) -> tuple[str, list[Path]]:
    """What to call the collection in messages, and the paths in it."""
    if isinstance(photos, (str, Path)):
        photos = [photos]
    paths = [Path(photo) for photo in photos]
    where = _LIST
    if len(paths) == 1 and os.path.isdir(paths[0]):  # os.path answers False where Path.is_dir raises
        where = f"{paths[0]}{os.sep}"
        paths = _photos_in_folder(paths[0])
    elif len(paths) == 1 and not os.path.lexists(paths[0]):
        raise LookforwardError(f"{paths[0]} does not exist; give a folder of photos, or photos")
    elif not paths:
        raise LookforwardError("no photos were given; give a folder of photos, or photos")
    if len(paths) > MAX_PHOTOS:
        raise LookforwardError(
            f"{_tell_count(where, len(paths))}, more than {MAX_PHOTOS}; choose 4 to 6 of one subject"
        )
    return where, paths


def _photos_in_folder(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise LookforwardError(f"{folder} cannot be read ({error.strerror}); check permissions") from error
    suffixes = PHOTO_SUFFIXES | CONVERT_SUFFIXES
    found = [entry for entry in entries if entry.suffix.lower() in suffixes and not is_mask(entry)]
    if not found:
        raise LookforwardError(
            f"{folder} holds no photos; put 4 to 6 JPEG or PNG photos of the subject directly in that folder"
        )
    return found


def _lonely_masks(paths: Sequence[Path]) -> tuple[str, ...]:
    """Notes on masks in a folder that belong to none of its photos, and so do nothing."""
    belonging = {path.with_suffix(MASK_SUFFIX).name for path in paths}
    masks = sorted(path.name for path in paths[0].parent.iterdir() if is_mask(path) and not path.name.startswith("."))
    return tuple(
        f"{name} is the mask of no photo, and not used: that of dog.jpg is called dog{MASK_SUFFIX}"
        for name in masks
        if name not in belonging
    )


def _tell_count(where: str, count: int) -> str:
    return f"{where} holds {count} photo{'' if count == 1 else 's'}"


def _tell_problems(problems: list[str], where: str, total: int) -> str:
    if len(problems) == 1:
        return problems[0]
    lines = problems[:_LISTED_PROBLEMS]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return "\n  ".join([f"{len(problems)} of the {total} photos in {where} cannot be used:", *lines])


def _notes(photos: Sequence[Photo], where: str, resolution: int, crops: int) -> tuple[str, ...]:
    notes: list[str] = []
    if len(photos) < FEW_PHOTOS:
        notes.append(f"{_tell_count(where, len(photos))}; 4 to 6 are recommended")
    first: dict[str, Photo] = {}
    for photo in photos:
        name, (width, height) = photo.path.name, photo.size
        if min(width, height) < resolution:
            notes.append(f"{name} is {width}x{height}, smaller than {resolution}: enlarged")
        if max(width, height) > 1.6 * min(width, height) and crops == 1:
            notes.append(f"{name} is {width}x{height}: only its central square is used (crops = 3 sees more of it)")
        original = first.setdefault(photo.digest, photo)
        if original is not photo:
            notes.append(f"{name} is the same file as {original.path.name}")
    return tuple(notes)
