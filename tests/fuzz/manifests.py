"""JSON and digests beside what they are about: exports, checkpoints, photos, consent, processors, data sets, scores."""

import hashlib

import torch

from fuzz.common import attempt, fresh
from lookforward.benchmark.datasets.custom_concept import read_custom_concept
from lookforward.cli.score import _place_of_scores as place_of_scores
from lookforward.config.settings import Settings
from lookforward.data.prompts import fill
from lookforward.exports.card import Card, consent_of
from lookforward.exports.inspection import inspect
from lookforward.exports.load import MANIFEST
from lookforward.exports.source import drawn_with, find_source, notes_on
from lookforward.models.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, read_preprocessing, resize_and_crop
from lookforward.runs.consent import CONSENT, read_consent
from lookforward.runs.folder import PHOTOS, Run
from lookforward.runs.micro_batches import MICRO_BATCHES, read_micro_batches
from lookforward.runs.photo_lines import what_differs
from lookforward.studio.watching import read_scores
from lookforward.whole import SUMS, check_folder, write_sums

_SMALL = 512  # pixels, up to which images are resized here


def export(data: bytes) -> None:
    """`lookforward.json` of an export, read for drawing and for inspection."""
    folder = fresh("export")
    (folder / MANIFEST).write_bytes(data)
    write_sums(folder)
    try:
        inspect(folder)
    finally:
        source = find_source(folder)
        assert isinstance(source.subject, str)
        notes_on(source, [(source, 1.0)])
        drawn_with(source, "0123456789")
        consent_of(source.manifest)
        Card(source.manifest, Settings()).write(fresh("card"))


def checkpoint(data: bytes) -> None:
    """`state.json` of a checkpoint; `weights` has its tensors."""
    folder = fresh("step-000001")
    (folder / "state.json").write_bytes(data)
    inspect(folder)


def photos(data: bytes) -> None:
    """`photos.json` of a run."""
    folder = fresh("run")
    (folder / PHOTOS).write_bytes(data)
    run = Run(folder, Settings())
    found = run._photos()
    if found is not None:
        what_differs(found, ["0" * 64, "class 0"])
    run.require_photos(["0" * 64])


def consent(data: bytes) -> None:
    folder = fresh("consent")
    (folder / CONSENT).write_bytes(data)
    read_consent(folder)


def micro_batches(data: bytes) -> None:
    folder = fresh("micro-batches")
    (folder / MICRO_BATCHES).write_bytes(data)
    assert all(step >= 1 and parts >= 2 for step, parts in read_micro_batches(folder).items())


def preprocessing(data: bytes) -> None:
    """`preprocessor_config.json` of an encoder, and an image that goes through it."""
    folder = fresh("encoder")
    (folder / "preprocessor_config.json").write_bytes(data)
    how = read_preprocessing(folder, 32, IMAGENET_MEAN, IMAGENET_STD)
    torch.tensor([how.mean, how.std]).reshape(2, 3)
    if how.resize <= _SMALL:
        assert resize_and_crop(torch.rand(1, 3, 9, 12), how).shape[-2:] == (how.crop, how.crop)


def data_set(data: bytes) -> None:
    """`dataset.json` of CustomConcept101."""
    folder = fresh("concepts")
    (folder / "dog").mkdir()
    (folder / "dog.txt").write_text("a photo of {}\n")
    (folder / "dataset.json").write_bytes(data)
    for subject in read_custom_concept(folder).subjects:
        fill(subject.prompts[0], "sks", subject.class_noun)


def scores(data: bytes) -> None:
    """`scores.json` of a run."""
    folder = fresh("scores")
    (folder / "scores.json").write_bytes(data)
    read_scores(folder)
    place_of_scores(folder, {"means": {}, "seed": 0})


def sums(data: bytes) -> None:
    """SHA256SUMS, with a last line that fits the lines before it."""
    folder = fresh("whole")
    (folder / "a.txt").write_bytes(b"a")
    lines = data.decode("utf-8", "replace").encode()
    last = f"# sha256 of the lines above: {hashlib.sha256(lines).hexdigest()}\n"
    (folder / SUMS).write_bytes(lines + last.encode())
    check_folder(folder)


def digests(data: bytes) -> None:
    """SHA256SUMS as it is."""
    folder = fresh("whole")
    (folder / SUMS).write_bytes(data)
    check_folder(folder)


READERS = (
    export, checkpoint, photos, consent, micro_batches, preprocessing, data_set, scores, sums, digests,
)  # fmt: skip


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
