"""The held-out subjects as a user meets them: a handful of photos, and the drawing that only the world knows."""

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from lookforward.errors import LookforwardError
from lookforward.toybox.world.picture import draw_picture, draw_view, drawing
from lookforward.toybox.world.scenes import SCENES
from lookforward.toybox.world.subject import Subject, held_out

CARD = "subject.json"  # beside the photos: which subject of the world they show


def find_subject(name: str) -> Subject:
    """A held-out subject by name, such as "vase-0".

    Raises:
        LookforwardError: there is no such subject; it lists those there are.
    """
    subjects = held_out()
    if name not in subjects:
        raise LookforwardError(f"Toybox has no subject {name!r}. It has: {', '.join(subjects)}.")
    return subjects[name]


def reference_photos(name: str, count: int = 5, size: int = 64) -> np.ndarray:
    """Photos of the subject in different scenes, poses and light: (count, size, size, 3) uint8."""
    subject = find_subject(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scenes = [list(SCENES)[i] for i in rng.permutation(len(SCENES))[:count]]
    return np.stack([draw_picture(subject, draw_view(rng, scene), rng, size) for scene in scenes])


def write_photos(name: str, folder: Path, count: int = 5, size: int = 64) -> list[Path]:
    """Write the subject's photos as PNG into `folder`, with a card that says who it is; replaces earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CARD).is_file():  # photos that were written here before, more of them or of another subject
        for i in range(count, len(SCENES)):
            (folder / f"{i:02d}.png").unlink(missing_ok=True)
    paths = []
    for i, photo in enumerate(reference_photos(name, count, size)):
        paths.append(folder / f"{i:02d}.png")
        Image.fromarray(photo).save(paths[-1])
    (folder / CARD).write_text(json.dumps({"name": name, **asdict(find_subject(name))}, indent=1) + "\n")
    return paths


def known_drawing(folder: Path, size: int = 64) -> np.ndarray | None:
    """The drawing (size, size, 4) of the subject whose photos are in `folder`; None where the world knows none."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return drawing(held_out()[card["name"]], size)
    except (OSError, ValueError, KeyError, TypeError):
        return None
