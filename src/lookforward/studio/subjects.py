"""What the tab Subject does: takes uploads over, shows the photos, remembers words and consent, suggests captions."""

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.studio import photos
from lookforward.studio.state import Studio
from lookforward.studio.text import message, render

CONSENT = "I may use these photos to train a model. Any person who can be recognised in them has agreed."
_NEW = "Name a new subject, or choose one."


def add(studio: Studio, name: str | None, files: Sequence[str] | None) -> str:
    """Take uploads over into a subject; returns what became of them as HTML. The uploads are deleted.

    Raises:
        LookforwardError: no subject is chosen, or its folder cannot be written.
    """
    paths = [Path(file) for file in files or ()]
    try:
        if not name:
            raise LookforwardError(_NEW, "subject-missing")
        added, refused = photos.add_photos(studio.workspace.subject(name), paths)
    finally:
        forget(paths)
    text = message(f"Added {len(added)} photo{'' if len(added) == 1 else 's'}.", "good") if added else ""
    return text + "".join(message(problem, "error") for problem in refused[:20])


def remember_noun(studio: Studio, name: str, noun: str) -> None:
    """Keep what a subject is. Its consent stays as it is, whatever a browser showed when the words were written."""
    studio.store.set_subject(name, " ".join(noun.split())[:80])


def remember(studio: Studio, name: str | None, noun: str, agreed: bool) -> str:
    """Keep what a subject is and whether there is consent; returns a message where the consent changes."""
    if not name:
        return message(_NEW)
    studio.workspace.subject(name)
    before = bool(studio.store.subject(name).consent)
    studio.store.set_subject(name, " ".join(noun.split())[:80], CONSENT if agreed else "")
    if before == agreed:
        return ""
    return message("Consent is recorded with its date." if agreed else "Consent is withdrawn.")


def show_photos(studio: Studio, name: str | None, side: float | None, shapes: bool) -> tuple[str, list[str]]:
    """The photos of a subject as HTML, as a run at `side` pixels would use them, and their names."""
    if not name:
        return render("photos", look=photos.Look((), ()), pictures=[]), []
    found = photos.look(studio.workspace.subject(name), int(max(32, min(side or 64, 4096))), buckets=shapes)
    pictures = [_data_uri(one.picture) for one in found.photos]
    return render("photos", look=found, pictures=pictures), [one.name for one in found.photos]


def suggestion(studio: Studio, name: str | None, one: str | None, noun: str) -> str:
    """A caption by CLIP, which recognises the place, as `data.describe` does.

    Raises:
        LookforwardError: nothing is chosen, the photo cannot be used, or CLIP cannot be loaded.
    """
    from lookforward.assembly.describe import describe
    from lookforward.config.recipe import load_settings
    from lookforward.data.subject import load_subject

    if not name or not one:
        raise LookforwardError("Choose a photo first.", "photo-missing")
    settings = load_settings("best", {"model.name": studio.workspace.models[0]})
    path = photos.find_photo(studio.workspace.subject(name), one)
    resolution = settings.data.resolution
    subject = load_subject([path], class_noun=noun, resolution=resolution, allow_few=True, captions=False)
    place = describe(subject, settings, "cpu").photos[0].place
    return f"a photo of {{}} {place}".strip()


def forget(paths: Sequence[Path]) -> None:
    """Delete uploads that have been taken over."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _data_uri(picture: Any) -> str:
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
