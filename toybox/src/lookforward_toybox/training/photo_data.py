"""What the photo encoder learns from: pictures, captions with {} for the subject, and which show the same one.

Toybox's world as `lookforward toybox draw` writes it, or a folder of photos, from which the same files are made.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookforward.data.folder import is_photo, list_folder
from lookforward.data.masks import is_mask
from lookforward.data.photos import MAX_PHOTOS
from lookforward.data.subject import Subject, load_subject
from lookforward.data.views import all_prompts_of
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, write_json
from lookforward_toybox.training.data import Images, open_captions, open_images, train_count
from lookforward_toybox.world.captions import PATTERN_WORDS

LEAST = 4  # pictures
_PATTERNS = "|".join(dict.fromkeys(PATTERN_WORDS.values()))
_EMBLEM = re.compile(r" with (?:an? )?\w+ \w+ on it")


@dataclass(frozen=True)
class PhotoData:
    """images: (n, h, w, 3) uint8. captions: of each image some, with {}. groups: (n, 2) int64, for each image where the
    pictures of its subject begin, and how many there are. chosen: (m,) int64, those to train on."""

    images: Images
    captions: list[list[str]]
    groups: Tensor
    chosen: Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices (b,) of images, and for each that of another picture of its subject, itself if there is none."""
        index = self.chosen[torch.randint(len(self.chosen), (count,), generator=generator)]
        start, size = self.groups[index].unbind(dim=1)
        step = 1 + (torch.rand(count, generator=generator) * (size - 1)).long()  # of one picture, back to it
        return index, start + (index - start + step) % size


def world_folder(data: Path) -> Path | None:
    """The folder with the pictures of a drawn world; None if it is none."""
    return next((one for one in (data, data / "data") if (one / "images.npy").is_file()), None)


def open_world(folder: Path, without: Sequence[str] = ()) -> PhotoData:
    """The pairs of a drawn world. without: class nouns to leave out.

    Raises:
        LookforwardError: a file is missing or damaged, or nothing is left to train on.
    """
    images, captions = open_images(folder), open_captions(folder)
    pairs = torch.arange(len(images)) // 2 * 2
    groups = torch.stack([pairs, torch.full_like(pairs, 2)], dim=1)
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[train_count(len(images)) :] = False
    if (folder / "subjects.json").is_file():
        try:
            facts: list[dict[str, Any]] = json.loads((folder / "subjects.json").read_text(encoding="utf-8"))
            captions = [of_subject(some, one) for some, one in zip(captions, facts, strict=True)]
            kept &= torch.tensor([one["class_noun"] not in without for one in facts])
        except (ValueError, KeyError, TypeError) as error:
            raise LookforwardError(
                f"{folder} is damaged: its captions and subjects do not belong together. Draw the pictures again, with "
                "`lookforward toybox draw`.",
                code="encoder-data",
            ) from error
    if not bool(kept.any()):
        raise LookforwardError("--without leaves no pictures to train on: name fewer classes.", code="encoder-data")
    return PhotoData(images, captions, groups, kept.nonzero().flatten())


def of_subject(captions: Sequence[str], facts: dict[str, Any]) -> list[str]:
    """Captions in which {} stands for what the photos show: "a photo of a red striped vase on the beach" becomes
    "a photo of a {} vase on the beach" and, for a word that stands alone, "a photo of a {} on the beach"."""
    noun = re.escape(facts["class_noun"])
    described = re.compile(rf"\b(?:{re.escape(facts['colour'])} )?(?:(?:{_PATTERNS}) )?{noun}\b")
    plain = [_EMBLEM.sub("", described.sub("{}", caption, count=1)) for caption in captions]
    if any(caption.count("{}") != 1 for caption in plain):
        raise ValueError(f"no {facts['class_noun']} in {captions}")
    return [text for caption in plain for text in (caption.replace("{}", f"{{}} {facts['class_noun']}"), caption)]


def open_photos(data: Path, folder: Path, class_noun: str, size: int) -> PhotoData:
    """A folder of photos, or of folders that show one subject each, as squares of `size` pixels, kept in `folder`.

    A caption beside a photo may have {} where the subject is.

    Raises:
        LookforwardError: there are too few photos, or some cannot be used.
    """
    pixels, captions, groups = [], [], []
    for together, subject in _subjects(data, class_noun, size):
        for i, photo in enumerate(subject.photos):
            groups.append((len(pixels) - i, len(subject.photos)) if together else (len(pixels), 1))
            pixels.append(photo.pixels)
            captions.append([prompt for prompt, _ in all_prompts_of(subject, photo)])
    if len(pixels) < LEAST:
        message = f"{data} has {len(pixels)} photos, and an encoder needs thousands: give a folder of photos, or of "
        raise LookforwardError(f"{message}folders of photos, or a world drawn by toybox draw.", code="encoder-data")
    most = min(map(len, captions))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "images.npy") as partial, partial.open("wb") as file:
        np.save(file, np.stack(pixels))
    write_json(folder / "captions.json", [some[:most] for some in captions])
    return PhotoData(open_images(folder), open_captions(folder), torch.tensor(groups), torch.arange(len(pixels)))


def _subjects(data: Path, class_noun: str, size: int) -> Iterator[tuple[bool, Subject]]:
    """Photos that are read together, and whether they show one subject. Those in the folder itself show one each."""
    entries = list_folder(data)
    common: dict[str, Any] = {"identifier": "{}", "resolution": size, "allow_few": True}
    common |= {"class_noun": class_noun or "subject", "noun_in_prompt": bool(class_noun)}
    photos = [one for one in entries if is_photo(one) and not is_mask(one) and not one.name.startswith(".")]
    for start in range(0, len(photos), MAX_PHOTOS):
        yield False, load_subject(photos[start : start + MAX_PHOTOS], **common)
    for place in (one for one in entries if one.is_dir() and not one.name.startswith(".")):
        if any(is_photo(one) for one in list_folder(place)):
            yield True, load_subject(place, **common)
