"""The caption of a photo: `dog.txt` beside `dog.jpg`, or a line of `metadata.jsonl` or `metadata.csv`."""

import csv
import difflib
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

from lookforward.data.folder import list_names
from lookforward.data.photo import Photo, PhotoError
from lookforward.errors import LookforwardError
from lookforward.records import parse_json, read_bytes

SUFFIXES = (".txt", ".caption")  # in lower case; the second is that of other programs
METADATA = ("metadata.jsonl", "metadata.csv")  # as the library datasets lays out a folder of images
_TEXT_COLUMNS = ("text", "caption", "prompt")


@dataclass(frozen=True)
class Caption:
    """A caption that belongs to a photo. text: None if it is the content of `path`, which has not been read yet."""

    path: Path
    text: str | None = None


@dataclass(frozen=True)
class Captions:
    """The captions of a folder. of: by photo, those that were found. notes: on lines that name no photo."""

    of: Mapping[Path, Sequence[Caption]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> set[Path]:
        """The files that they are in."""
        return {one.path for some in self.of.values() for one in some}


def find_captions(photos: Sequence[Path], entries: Sequence[Path]) -> Captions:
    """The captions of the photos of one folder, whatever the case of their names. entries: the folder's files.

    Raises:
        LookforwardError: a metadata file cannot be read.
    """
    texts = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    of: dict[Path, list[Caption]] = {p: [Caption(path) for path in match_names(p, texts, SUFFIXES)] for p in photos}
    taken = {one.path for some in of.values() for one in some}
    free = [path for path in texts if path not in taken]
    for photo in photos:
        if not of[photo]:
            of[photo] = [Caption(path) for path in match_names(photo, free, SUFFIXES, str.casefold)]
    notes: list[str] = []
    for path in (path for path in entries if path.name.lower() in METADATA):
        lines = _read_metadata(path)
        by_name = {photo.name.casefold(): photo for photo in photos}
        for photo in [by_name[name] for name in lines if name in by_name]:
            of[photo] = [*of[photo], Caption(path, lines[photo.name.casefold()])]
        if lost := [name for name in lines if name not in by_name]:
            notes.append(f"{path.name} has captions of {list_names(lost)}, which is not among the photos")
    return Captions(of, tuple(notes))


def match_names(photo: Path, paths: Sequence[Path], suffixes: Sequence[str], key: Any = str) -> list[Path]:
    """Of `paths`, those named after a photo, dog.txt or dog.jpg.txt for dog.jpg. key: how names are compared."""
    wanted = {key(f"{base}{suffix}") for base in (photo.stem, photo.name) for suffix in suffixes}
    return [path for path in paths if key(path.name) in wanted]


def caption_of_no_photo(path: Path, photos: Sequence[Path]) -> str:
    """Why a caption's file is not used, with the name that it should have if one of the photos is meant."""
    stems = {photo.stem: photo for photo in photos}
    name = _letters(path.stem)
    alike = [stem for stem in stems if _letters(stem) == name]
    alike += difflib.get_close_matches(path.stem, stems, n=1, cutoff=0.8)
    meant = f": the caption of {stems[alike[0]].name} is called {alike[0]}.txt" if alike else ""
    return f"{path.name} (belongs to no photo{meant})"


def shared_notes(captions: Captions) -> tuple[str, ...]:
    """Notes on files that are the caption of several photos, as 0.txt is of 0.jpg and 0.png."""
    owners: dict[Path, list[str]] = {}
    for photo, some in captions.of.items():
        for one in some:
            if one.text is None:
                owners.setdefault(one.path, []).append(photo.name)
    return tuple(f"{p.name} is the caption of {' and of '.join(names)}" for p, names in owners.items() if names[1:])


def with_caption(photo: Photo, found: Sequence[Caption], lines: bool = False) -> Photo:
    """The photo with its caption, if one was found.

    lines: each line of it that is not blank is a caption of its own; else they are joined to one.

    Raises:
        PhotoError: the caption cannot be read, is empty or not plain text, or there are two that differ.
    """
    captions: dict[tuple[str, ...], str] = {}  # texts to the name of their file
    for one in found:
        data = read_beside(one.path) if one.text is None else one.text.encode("utf-8", "surrogatepass")
        texts = _parse(data, one.path.name, lines)
        digest = hashlib.sha256(data).hexdigest()
        if captions and texts not in captions:
            names = " and ".join([*captions.values(), one.path.name])
            raise PhotoError(f"has two captions that differ, in {names}; delete one of them", "caption-twice")
        captions[texts] = one.path.name
        photo = replace(photo, caption=texts[0], more_captions=texts[1:], caption_digest=digest)
    return photo


def read_beside(path: Path) -> bytes:
    """The content of a file beside a photo. Raises `PhotoError` if it cannot be read, or links out of its folder."""
    try:
        within = path.resolve().is_relative_to(path.parent.resolve())
        data = read_bytes(path) if within else b""
    except (OSError, RuntimeError, LookforwardError) as error:  # RuntimeError: links in a circle
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error}); check its permissions"
        raise PhotoError(f"has a file {path.name} beside it that {reason}", "photo-unreadable") from error
    if not within:  # its content, of whatever file, would be printed and trained on
        reason = "links out of its folder; copy the file itself here, or delete the link"
        raise PhotoError(f"has a file {path.name} beside it that {reason}", "link-outside")
    return data


def _letters(name: str) -> str:
    """What two names share that people take for one another: O1 and 01, dog_1 and dog-1."""
    return re.sub(r"[^a-z0-9]", "", name.casefold().replace("o", "0").replace("l", "1")).lstrip("0")


def _read_metadata(path: Path) -> dict[str, str]:
    """Captions by the name of the photo in lower case."""
    try:
        text = read_beside(path).decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows: list[Any] = list(csv.DictReader(StringIO(text)))
        else:
            rows = [parse_json(line) for line in text.splitlines() if line.strip()]
        columns = next((name for name in _TEXT_COLUMNS if all(row.get(name) for row in rows)), "")
        return {Path(row["file_name"]).name.casefold(): str(row[columns]) for row in rows}
    except (PhotoError, OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        remedy = "Give each line file_name and text, or set data.captions to false."
        raise LookforwardError(f"{path} cannot be read as captions ({error}). {remedy}", "caption-metadata") from error


def _parse(data: bytes, name: str, lines: bool) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8-sig")  # editors on Windows begin the file with a mark
    except UnicodeDecodeError as error:
        raise PhotoError(f"has a caption {name} that is not UTF-8 text; save it as UTF-8", "caption-text") from error
    captions = [" ".join(part.split()) for part in (text.splitlines() if lines else [text])]
    captions = [caption for caption in captions if caption]
    words = " ".join(captions)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in words):
        raise PhotoError(f"has a caption {name} with control characters; save it as UTF-8 text", "caption-text")
    if not words:
        remedy = "write one, delete the file, or set data.captions to false"
        raise PhotoError(f"has an empty caption {name}; {remedy}", "caption-empty")
    if "{" in (rest := words.replace("{}", "")) or "}" in rest:
        raise PhotoError(
            f"has a caption {name} with a brace outside {{}}, which stands for the subject; remove it", "caption-brace"
        )
    return tuple(captions)
