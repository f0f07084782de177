"""The captions of a photo: `dog.txt` beside `dog.jpg`."""

import hashlib
import unicodedata
from dataclasses import replace
from pathlib import Path

from lookforward.data.photo import Photo, PhotoError


def with_caption(photo: Photo, lines: bool = False) -> Photo:
    """The photo with the caption beside it, if there is one.

    lines: each line of the file that is not blank is a caption of its own; else they are joined to one.

    Raises:
        PhotoError: the caption cannot be read, is empty, or is not plain text.
    """
    path = photo.path.with_suffix(".txt")
    if not path.is_file():
        return photo
    data = read_beside(path)
    first, *more = _parse(data, path.name, lines)
    digest = hashlib.sha256(data).hexdigest()
    return replace(photo, caption=first, more_captions=tuple(more), caption_digest=digest)


def read_beside(path: Path) -> bytes:
    """The content of a file beside a photo. Raises `PhotoError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check its permissions"
        raise PhotoError(f"has a file {path.name} beside it that {reason}", "photo-unreadable") from error


def _parse(data: bytes, name: str, lines: bool) -> list[str]:
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
    return captions
