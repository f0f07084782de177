"""Texts beside photos, in data sets and from others: captions, prompts, class tables, XMP, a judge's replies."""

from pathlib import Path

import numpy as np

from fuzz.common import NoInput, attempt, fresh, written
from lookforward.benchmark.datasets.dreambench_plus import read_dreambench_plus
from lookforward.benchmark.datasets.dreambooth import TABLE, read_dreambooth
from lookforward.benchmark.judge.endpoint import _read_reply as read_reply
from lookforward.benchmark.judge.questions import read_rating
from lookforward.data.captions import Caption, caption_of_no_photo, find_captions, shared_notes, with_caption
from lookforward.data.photo import Photo
from lookforward.data.prompts import clip_text, fill, read_prompt_file
from lookforward.errors import LookforwardError
from lookforward.exports.inspection import _origin_facts as origin_facts
from lookforward.provenance.origin import read_xmp

_PIXELS = np.zeros((8, 8, 3), np.uint8)


def _photo(path: Path) -> Photo:
    return Photo(path, _PIXELS, "0" * 64, (8, 8), (8, 8), (_PIXELS,))


def _draw(texts: tuple[str, ...]) -> None:
    for text in texts:
        fill(text, "sks", "dog")


def caption(data: bytes) -> None:
    """The caption of one photo, whole and line by line."""
    path = written("01.txt", data)
    try:
        photo = with_caption(_photo(path.with_suffix(".png")), [Caption(path)])
        _draw((photo.caption,))
    finally:
        photo = with_caption(_photo(path.with_suffix(".png")), [Caption(path)], lines=True)
        _draw((photo.caption, *photo.more_captions))


def _metadata(name: str, data: bytes) -> None:
    folder = fresh("photos")
    photos = [folder / "01.png", folder / "02.JPG"]
    for path in photos:
        path.write_bytes(b"")
    (folder / name).write_bytes(data)
    found = find_captions(photos, sorted(folder.iterdir()))
    shared_notes(found)
    refused = None
    for path, some in found.of.items():
        try:
            _draw((with_caption(_photo(path), some).caption,))
        except LookforwardError as error:
            refused = error
    if refused:
        raise refused


def metadata_lines(data: bytes) -> None:
    _metadata("metadata.jsonl", data)


def metadata_table(data: bytes) -> None:
    _metadata("metadata.csv", data)


def prompts(data: bytes) -> None:
    """A file of prompts, as images are drawn and scored with."""
    for template in read_prompt_file(written("prompts.txt", data)):
        fill(template, "sks", "dog")
        clip_text(template, "sks", "dog")


def classes(data: bytes) -> None:
    """`prompts_and_classes.txt` of the DreamBooth data set."""
    folder = fresh("dreambooth")
    for name in ("dog", "backpack", "unknown"):
        (folder / name).mkdir()
    (folder / TABLE).write_bytes(data)
    for subject in read_dreambooth(folder).subjects:
        for template in subject.prompts:
            fill(template, "sks", subject.class_noun)


def xmp(data: bytes) -> None:
    """The XMP packet of an image."""
    _, record = read_xmp(data)
    origin_facts(record)


def name(data: bytes) -> None:
    """The name of a caption's file that belongs to no photo."""
    text = data.decode("utf-8", "surrogateescape").replace("/", "").replace("\0", "") or "x"
    caption_of_no_photo(Path(f"{text[:200]}.txt"), [Path("01.png"), Path("O1.jpg")])


def plus(data: bytes) -> None:
    """A caption file of DreamBench++."""
    folder = fresh("dreambench-plus")
    for part, name, content in (("images", "00.jpg", b""), ("captions", "00.txt", data)):
        (folder / part / "object").mkdir(parents=True)
        (folder / part / "object" / name).write_bytes(content)
    for subject in read_dreambench_plus(folder).subjects:
        for template in subject.prompts:
            fill(template, "sks", subject.class_noun)


def reply(data: bytes) -> None:
    """What a judge's endpoint answers, and the rating in it."""
    found = read_reply(data.decode("utf-8", "replace"))
    if found is None:
        raise NoInput
    read_rating(found.text)
    read_rating(data.decode("utf-8", "replace"))


READERS = (caption, metadata_lines, metadata_table, prompts, classes, xmp, name, reply, plus)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
