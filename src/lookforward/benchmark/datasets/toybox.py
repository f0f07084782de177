"""Toybox's held-out subjects as a data set: the world draws their photos and knows what they look like."""

from functools import partial
from pathlib import Path

from lookforward.benchmark.datasets.values import BenchmarkSubject, Dataset
from lookforward.data.prompts import benchmark_prompts
from lookforward.errors import LookforwardError
from lookforward.files import atomic_folder
from lookforward_toybox.subjects import CARD, write_photos
from lookforward_toybox.world.picture import drawing
from lookforward_toybox.world.subject import LIVE_CLASSES, held_out, names_of

PARTS = ("toybox", "toybox-development")


def toybox_dataset(name: str = "toybox-all") -> Dataset:
    """name: toybox, of the 20 test subjects; toybox-development, of the ten that settings were chosen on; or all 30."""
    known = held_out()
    parts = {"toybox": names_of("test"), "toybox-development": names_of("development")}
    subjects = tuple(
        BenchmarkSubject(
            one,
            known[one].class_noun,
            known[one].class_noun in LIVE_CLASSES,
            benchmark_prompts(known[one].class_noun),
            drawing=partial(drawing, known[one]),
        )
        for one in parts.get(name, tuple(known))
    )
    return Dataset(name, "toybox", subjects)


def provide_photos(subject: BenchmarkSubject, folder: Path) -> Path:
    """The folder of a subject's photos; those that the world draws are written below `folder` first, once."""
    if subject.photos is not None:
        return subject.photos
    photos = folder / subject.name
    if (photos / CARD).is_file():
        return photos
    try:
        with atomic_folder(photos, shared=True) as partial_folder:
            write_photos(subject.name, partial_folder)
    except LookforwardError:
        if not (photos / CARD).is_file():  # else another process was first
            raise
    return photos
