"""The subjects of a run: one folder of photos, or several from a TOML list.

[[subject]]
photos = "dog"          # a folder, relative to the list
class_noun = "dog"
identifier = "sks"
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lookforward.config.reading import read_toml
from lookforward.config.settings import Settings
from lookforward.data.subject import Subject, load_subject
from lookforward.data.views import SCALES
from lookforward.errors import LookforwardError
from lookforward.files import structure

Photos = str | Path | Sequence[str | Path]
_NAMES = ("subject.class_noun", "subject.identifier", "subject.others")
_REMEDY = 'Write [[subject]] with photos = "dog", class_noun = "dog" and identifier = "sks" for each subject.'


@dataclass(frozen=True)
class Entry:
    """One subject of a list: where its photos are, and its words in prompts."""

    photos: str
    class_noun: str
    identifier: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value.strip():
                raise ValueError(f"{name} is empty")
            if name != "photos" and any(sign in value for sign in "=;"):
                raise ValueError(f"{name} = {value!r} has = or ;")


def read_list(path: Path) -> list[Entry]:
    """The subjects of a list, in its order.

    Raises:
        LookforwardError: the list cannot be read, lacks something, or gives two subjects one identifier.
    """
    table = read_toml(path)
    listed = table.pop("subject", [])
    if table or not listed:
        found = f"has {', '.join(table)}" if table else "has no subjects"
        raise LookforwardError(f"{path} {found}. {_REMEDY} Settings belong in a recipe.", "subject-list")
    try:
        entries = [
            replace(entry, **{name: " ".join(getattr(entry, name).split()) for name in ("class_noun", "identifier")})
            for entry in structure(listed, list[Entry], path, root="subject", exact=True)
        ]
    except LookforwardError as error:
        raise LookforwardError(f"{error} {_REMEDY}", "subject-list") from error
    lower = [entry.identifier.lower() for entry in entries]  # as CLIP reads them
    for i, entry in enumerate(entries):
        if lower[i] in lower[:i]:
            raise LookforwardError(
                f"{path} gives two subjects the identifier {entry.identifier!r}: each needs its own.", "subject-twice"
            )
    return entries


def name_subjects(photos: Photos, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of a run with the names of its subjects, which a list gives itself.

    The first is the run's own `subject.class_noun` and `subject.identifier`; `subject.others` has the rest.

    Raises:
        LookforwardError: the list is wrong, or the settings name a subject too.
    """
    named = {name: value for name, value in settings.items() if name in _NAMES}
    rest = {name: value for name, value in settings.items() if name not in named}
    if not _is_list(photos):
        # As `load_subject` cleans them, so that the learned word is the one in prompts
        return rest | {name: " ".join(v.split()) if isinstance(v, str) else v for name, v in named.items()}
    if any(named.values()):
        raise LookforwardError(
            f"{photos} already names its subjects: leave out the class noun and the identifier.", "subject-named-twice"
        )
    first, *others = read_list(Path(str(photos)))
    further = "; ".join(f"{entry.identifier}={entry.class_noun}" for entry in others)
    return rest | dict(zip(_NAMES, (first.class_noun, first.identifier, further), strict=True))


def subjects_of(settings: Settings) -> list[tuple[str, str]]:
    """Identifier and class noun of each subject of a run."""
    return [(settings.subject.identifier, settings.subject.class_noun), *other_subjects(settings.subject.others)]


def other_subjects(others: str) -> list[tuple[str, str]]:
    """Identifier and class noun of each further subject, from `subject.others`."""
    pairs = [entry.split("=") for entry in others.split("; ") if entry]
    if any(len(pair) != 2 for pair in pairs):
        raise LookforwardError(
            f"subject.others = {others!r}: leave it out, since a list of subjects sets it.", "subject-others"
        )
    return [(identifier, noun) for identifier, noun in pairs]


def read_subject(photos: Photos, settings: Settings) -> Subject:
    """Load the photos of a run at its resolution. The first subject of a list has the rest in its `others`.

    photos: a folder, image files, or a TOML list of several subjects.

    Raises:
        LookforwardError: the list is wrong, or some photos cannot be used.
    """
    words, data = settings.subject, settings.data
    if _is_list(photos):
        path = Path(str(photos))
        entries = [(path.parent / e.photos, e.class_noun, e.identifier) for e in read_list(path)]
    elif words.others:
        raise LookforwardError(
            "subject.others is set, but the photos are of one subject: give the list of subjects.", "subject-others"
        )
    else:
        entries = [(photos, words.class_noun, words.identifier)]
    first, *others = [
        load_subject(
            of_subject,
            class_noun=class_noun,
            identifier=identifier,
            resolution=data.resolution,
            allow_few=data.allow_few,
            noun_in_prompt=words.noun_in_prompt,
            captions=data.captions,
            caption_lines=data.caption_lines,
            crops=data.crops,
            buckets=data.buckets,
            large=round(SCALES[1] * data.resolution) if data.augment else 0,
            alpha_masks=data.alpha_masks,
        )
        for of_subject, class_noun, identifier in entries
    ]
    return replace(first, others=tuple(others))


def with_notes(subject: Subject, notes: Sequence[str]) -> Subject:
    """The subject with further notes for the user."""
    return replace(subject, notes=(*subject.notes, *notes))


def photos_name(photos: Photos) -> str:
    """What a run remembers its photos by; `photos_of` finds them again."""
    name = str(photos) if isinstance(photos, str | Path) else ", ".join(str(p) for p in photos)
    return os.fsencode(name).decode("utf-8", "replace")  # a path may not be text, a setting is


def photos_of(settings: Settings) -> Path | list[Path]:
    """Where the photos of a run were: a folder, or files."""
    whole = Path(settings.subject.photos)
    return whole if os.path.exists(whole) else [Path(name) for name in settings.subject.photos.split(", ")]


def _is_list(photos: Photos) -> bool:
    return isinstance(photos, str | Path) and Path(photos).suffix.lower() == ".toml"
