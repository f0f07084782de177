"""The held-out subjects as a user meets them: a handful of photos, and the drawing that only the world knows."""

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lookforward.bundle import CARD, FIRST_EDITION
from lookforward.errors import LookforwardError
from lookforward.records import read_json
from lookforward_toybox.world.edition import EDITIONS, edition_of
from lookforward_toybox.world.picture import draw_view
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import WorldSubject, held_out


def find_subject(name: str) -> WorldSubject:
    """A held-out subject by name, such as "vase-0".

    Raises:
        LookforwardError: there is no such subject; it lists those there are.
    """
    subjects = held_out()
    if name not in subjects:
        raise LookforwardError(
            f"Toybox has no subject {name!r}. It has: {', '.join(subjects)}.", code="toybox-subject-unknown"
        )
    return subjects[name]


def reference_photos(name: str, count: int = 5, size: int = 64) -> np.ndarray:
    """Photos of the subject in different scenes, poses and light: (count, size, size, 3) uint8."""
    subject = find_subject(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scenes = [list(SCENES)[i] for i in rng.permutation(len(SCENES))[:count]]
    return np.stack([edition_of(size).draw(subject, draw_view(rng, scene), rng, size) for scene in scenes])


def write_photos(name: str, folder: Path, count: int = 5, size: int = 64) -> list[Path]:
    """Write the subject's photos as PNG into `folder`, with a card that says who it is; replaces earlier ones.

    The card names the edition unless it is the first, whose cards stay what they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_earlier(folder)
    paths = []
    for i, photo in enumerate(reference_photos(name, count, size)):
        paths.append(folder / f"{i:02d}.png")
        Image.fromarray(photo).save(paths[-1])
    edition = {} if size == FIRST_EDITION else {"edition": size}
    (folder / CARD).write_text(json.dumps({"name": name, **edition, **asdict(find_subject(name))}, indent=1) + "\n")
    return paths


@dataclass(frozen=True)
class Card:
    """What `subject.json` beside photos says of their subject; it says more, for people."""

    name: str
    edition: int = FIRST_EDITION


def _read_card(folder: Path) -> tuple[str, int]:
    """Name and edition of the subject whose photos are in `folder`. Raises LookforwardError where there is no card."""
    card = read_json(folder / CARD, Card)
    if card.name not in held_out() or card.edition not in EDITIONS:
        raise LookforwardError(f"{folder / CARD} is of no subject of this world.", code="toybox-subject-unknown")
    return card.name, card.edition


def _remove_earlier(folder: Path) -> None:
    """Delete the photos that were written into `folder` before, of this or another subject; whatever else is there
    stays."""
    try:
        name, size = _read_card(folder)
        earlier = reference_photos(name, len(SCENES), size)
    except LookforwardError:
        return
    for i, photo in enumerate(earlier):
        path = folder / f"{i:02d}.png"
        try:
            with Image.open(path) as image:
                same = np.array_equal(np.asarray(image), photo)
        except OSError:
            continue
        if same:
            path.unlink()


def known_drawing(folder: Path) -> np.ndarray | None:
    """The drawing (size, size, 4) of the subject whose photos are in `folder`, of their edition; None where the world
    knows none."""
    try:
        name, size = _read_card(folder)
        edition = EDITIONS[size]
        return edition.drawing(held_out()[name], size)
    except LookforwardError:
        return None
