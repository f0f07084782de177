"""The subject of a run: its reference photos, checked before anything is trained, and its words in prompts."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lookforward.data.photo import Photo
from lookforward.data.photos import ADVICE, load_photos
from lookforward.errors import LookforwardError

FEW_PHOTOS = 3


@dataclass(frozen=True, eq=False)
class Subject:
    """What a run learns: photos, a class noun ("dog") and the identifier ("sks") that will name it.

    notes: sentences for the user about photos that work but may disappoint. noun_in_prompt: whether prompts say the
    class noun beside the identifier. others: further subjects of the same run. summary: one line that accounts for the
    folder's files; unused: those that are not used.
    """

    identifier: str
    class_noun: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()
    noun_in_prompt: bool = True
    others: tuple["Subject", ...] = ()
    summary: str = ""
    unused: tuple[str, ...] = ()

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
    alpha_masks: bool = False,
    buckets: bool = False,
) -> Subject:
    """Read the reference photos: a folder (by file name), one photo, or a list of photos (in its order).

    Turns each photo upright by its EXIF orientation, crops it to the central square and resizes it to `resolution`
    pixels with an antialiasing Lanczos filter; transparency is laid on white.

    allow_few: accept fewer than three photos. captions: read `dog.txt` beside `dog.jpg`. crops, large: as in
    `load_photo`. alpha_masks: a photo's transparency is its mask. caption_lines: each line of a caption is one of its
    own. buckets: whether photos will be trained on in their own shape, not in the square that is read here.

    Raises:
        LookforwardError: the class noun or identifier is empty, the folder is missing, the photos are too few or too
            many, or some cannot be used: one message names them all.
    """
    class_noun = _clean(class_noun, "class noun", 'say what the subject is, such as --class-noun "dog"')
    identifier = _clean(identifier, "identifier", 'choose a rare word, such as --identifier "sks"')
    if resolution < 1:
        raise LookforwardError(f"resolution is {resolution}: give a positive number of pixels.", "setting-range")
    loaded = load_photos(
        photos,
        resolution,
        captions=captions,
        caption_lines=caption_lines,
        crops=crops,
        large=large,
        alpha_masks=alpha_masks,
        buckets=buckets,
    )
    few = f"{loaded.counted}: {ADVICE}"
    if isinstance(photos, str | Path) and os.path.isfile(photos):
        few = f"{photos} is one photo and not a folder: give the folder that it is in, {Path(photos).parent}"
    if len(loaded.photos) < FEW_PHOTOS and not allow_few:
        raise LookforwardError(
            f"{few}, or train on fewer with --data.allow-few (in Python, data.allow_few).", "photos-few"
        )
    notes = ((few,) if len(loaded.photos) < FEW_PHOTOS else ()) + loaded.notes
    return Subject(
        identifier, class_noun, loaded.photos, notes, noun_in_prompt, summary=loaded.summary, unused=loaded.unused
    )


def hold_out(subject: Subject, count: int) -> tuple[Subject, Subject | None]:
    """The subjects with all photos but the last `count` of each, and with those; None for none.

    Raises:
        LookforwardError: a subject would have fewer than two photos left.
    """
    if count == 0:
        return subject, None
    for one in subject.together:
        if len(one.photos) - count < 2:
            raise LookforwardError(
                f"evaluation.held_out = {count} leaves {max(0, len(one.photos) - count)} of {len(one.photos)} photos "
                f"of {one.name!r} to learn from: hold out fewer, so that two are left.",
                "photos-held-out",
            )

    def with_photos(part: slice) -> Subject:
        first, *others = (replace(one, photos=one.photos[part]) for one in subject.together)
        return replace(first, others=tuple(others))

    return with_photos(slice(None, -count)), with_photos(slice(-count, None))


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
