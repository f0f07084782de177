"""Several subjects in one run, from a TOML list.

[[subject]]
photos = "dog"          # a folder, from where the list is
class_noun = "dog"
identifier = "sks"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lookforward.config.settings import Config, read_toml
from lookforward.data.subject import Subject, load_subject
from lookforward.errors import LookforwardError

Photos = str | Path | Sequence[str | Path]
_KEYS = ("photos", "class_noun", "identifier")
_REMEDY = 'Write [[subject]] with photos = "dog", class_noun = "dog" and identifier = "sks" for each subject.'


@dataclass(frozen=True)
class Entry:
    """One subject of a list: where its photos are, and how it is called."""

    photos: Path
    class_noun: str
    identifier: str


def is_list(photos: Photos) -> bool:
    """Whether these are no photos but a list of subjects."""
    return isinstance(photos, str | Path) and Path(photos).suffix.lower() == ".toml"


def read_list(path: Path) -> list[Entry]:
    """The subjects of a list, in its order.

    Raises:
        LookforwardError: it cannot be read, a subject lacks something, or two share an identifier.
    """
    table = read_toml(path)
    if "concept" in table:
        raise LookforwardError(f"{path}: [[concept]] is now written [[subject]]. {_REMEDY}", "subject-list-old")
    listed = table.pop("subject", [])
    if table or not isinstance(listed, list) or not listed or not all(isinstance(e, dict) for e in listed):
        found = f"holds {', '.join(table)}" if table else "holds no subjects"
        raise LookforwardError(f"{path} {found}. {_REMEDY} Settings belong to a recipe.")
    entries = [_entry(path, number, values) for number, values in enumerate(listed, start=1)]
    for i, entry in enumerate(entries):
        # As CLIP reads them: in lower case
        if entry.identifier.lower() in (other.identifier.lower() for other in entries[:i]):
            raise LookforwardError(f"{path}: two subjects are called {entry.identifier!r}; give each its identifier.")
    return entries


def name_subjects(photos: Photos, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of a run, with the names of its subjects where `photos` is a list of them.

    The first is the run's own `class_noun` and `identifier`, `others` holds the rest.

    Raises:
        LookforwardError: the list is wrong, or the settings name a subject too.
    """
    named = {name: value for name, value in settings.items() if name in ("class_noun", "identifier", "others")}
    rest = {name: value for name, value in settings.items() if name not in named}
    if not is_list(photos):
        # As `load_subject` has them: the word that is learned and the one in prompts are the same
        return {**rest, **{name: " ".join(v.split()) if isinstance(v, str) else v for name, v in named.items()}}
    if any(named.values()):
        raise LookforwardError(f"{photos} names its subjects itself: leave out class noun and identifier.")
    first, *others = read_list(Path(str(photos)))
    told = "; ".join(f"{entry.identifier}={entry.class_noun}" for entry in others)
    return {**rest, "class_noun": first.class_noun, "identifier": first.identifier, "others": told}


def subjects_of(config: Config) -> list[tuple[str, str]]:
    """Identifier and class noun of each subject of a run."""
    return [(config.identifier, config.class_noun), *other_subjects(config.others)]


def other_subjects(others: str) -> list[tuple[str, str]]:
    """The same of the further subjects alone, as `Config.others` has them."""
    pairs = [entry.split("=") for entry in others.split("; ") if entry]
    if any(len(pair) != 2 for pair in pairs):
        raise LookforwardError(f"others = {others!r}: leave it out; a list of subjects sets it.")
    return [(identifier, noun) for identifier, noun in pairs]


def load_subjects(photos: Photos, config: Config, **options: Any) -> Subject:
    """The subject of a run; with a list, the first of them, the rest in its `others`. options: of `load_subject`.

    Raises:
        LookforwardError: the list is wrong, or some of the photos are.
    """
    if not is_list(photos):
        if config.others:
            raise LookforwardError("others is set, but there is one folder of photos; give the list of subjects.")
        return load_subject(photos, class_noun=config.class_noun, identifier=config.identifier, **options)
    first, *others = [
        load_subject(entry.photos, class_noun=entry.class_noun, identifier=entry.identifier, **options)
        for entry in read_list(Path(str(photos)))
    ]
    return replace(first, others=tuple(others))


def _entry(path: Path, number: int, values: Mapping[str, Any]) -> Entry:
    wrong = [key for key in values if key not in _KEYS] or [key for key in _KEYS if not _is_text(values.get(key))]
    if wrong:
        what = f"knows no {wrong[0]}" if wrong[0] not in _KEYS else f"needs a text as {wrong[0]}"
        raise LookforwardError(f"{path}: subject {number} {what}. {_REMEDY}")
    for key in ("class_noun", "identifier"):
        if any(sign in values[key] for sign in "=;"):
            raise LookforwardError(f"{path}: subject {number} has {key} = {values[key]!r}; leave out = and ;.")
    class_noun, identifier = (" ".join(values[key].split()) for key in ("class_noun", "identifier"))
    return Entry(path.parent / values["photos"], class_noun, identifier)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
