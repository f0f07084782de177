"""Data sets, whatever their source."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lookforward.bundle import CARD, FIRST_EDITION
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.folder import CONVERT_SUFFIXES, PHOTO_SUFFIXES
from lookforward.errors import LookforwardError
from lookforward.files import atomic_folder, digest_file, digest_folder, read_json

DatasetKind = Literal["toybox", "dreambooth", "custom-concept", "dreambench++"]


@dataclass(frozen=True)
class Dataset:
    """Subjects in order.

    notes: what the user should know of it, such as subjects that are not there. settings: what every method needs on
    it, where the user does not say otherwise.
    """

    name: str
    kind: DatasetKind
    subjects: tuple[BenchmarkSubject, ...]
    path: str = ""
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> BenchmarkSubject:
        """A subject by name.

        Raises:
            LookforwardError: there is no such subject; it lists those there are.
        """
        for subject in self.subjects:
            if subject.name == name:
                return subject
        there = ", ".join(subject.name for subject in self.subjects)
        raise LookforwardError(f"{self.name} has no subject {name!r}. It has: {there}.", code="subject-unknown")


def require_names(names: Sequence[str], where: Path) -> None:
    """Refuse names that cannot be part of a file's name, and those that appear twice.

    Raises:
        LookforwardError: there is such a name.
    """
    for name in names:
        plain = name.isprintable() and not any(c in name for c in "/\\:")  # names of files may be no text
        if not name or name.startswith((".", "-")) or not plain or len(name) > 100:
            text = f"{where}: a subject cannot be called {name[:200]!r}; give its folder or file a plain name."
            raise LookforwardError(text, code="subject-name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        text = f"{where} names {', '.join(twice)} twice; give each subject a folder of its own."
        raise LookforwardError(text, code="subject-name")


def photo_files(folder: Path) -> list[Path]:
    """The files in a folder that are called as photos are; none where it cannot be read. A photo is its only one."""
    if os.path.isfile(folder):
        return [folder]
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES | CONVERT_SUFFIXES)
    except OSError:
        return []


@cache
def photos_hash(folder: Path) -> str:
    """A short name of the photos in a folder and of the files beside them, or of one photo; empty if unreadable."""
    try:
        return (digest_file(folder) if os.path.isfile(folder) else digest_folder(folder))[:16]
    except OSError:
        return ""


def provide_photos(subject: BenchmarkSubject, folder: Path) -> Path:
    """The folder of a subject's photos; those that the world draws are written below `folder` first, once.

    Raises:
        LookforwardError: they cannot be written, or photos of another edition of the world are there.
    """
    if subject.photos is not None:
        return subject.photos
    assert subject.write_photos is not None, subject
    photos = folder / subject.name
    if (photos / CARD).is_file():
        if subject.edition is not None:
            _require_edition(photos, subject.edition)
        return photos
    try:
        with atomic_folder(photos, shared=True) as unfinished:
            subject.write_photos(unfinished)
    except LookforwardError:
        if not (photos / CARD).is_file():  # otherwise another process was first
            raise
    return photos


def _require_edition(photos: Path, edition: int) -> None:
    there = read_json(photos / CARD, dict[str, Any]).get("edition", FIRST_EDITION)
    if there != edition:
        raise LookforwardError(
            f"{photos} holds photos of {there} pixels, drawn for another model; this one needs {edition}. Give another "
            "--output, or delete the folder.",
            code="photos-edition",
        )
