"""A folder laid out as CustomConcept101 (Kumari et al., 2023): `dataset.json`, with a file of prompts for each class.

An entry's `class_data_dir` is not read: as everywhere here, class images are drawn by the model that is trained.
"""

import os
from pathlib import Path
from typing import Any

from lookforward.benchmark.datasets.values import BenchmarkSubject, Dataset, require_names
from lookforward.data.prompts import LIVE_CLASSES, read_prompt_file
from lookforward.errors import LookforwardError
from lookforward.files import leads_out
from lookforward.records import parse_json, read_bytes

INDEX = "dataset.json"
_NEEDED = ("class_prompt", "instance_data_dir", "prompt_filename")
_KNOWN = (*_NEEDED, "instance_prompt", "class_data_dir")


def read_custom_concept(folder: Path) -> Dataset:
    """The subjects of `dataset.json`, each called as its folder of photos is; paths are relative to `folder`.

    Raises:
        LookforwardError: an entry is broken, or a file of prompts cannot be read.
    """
    path = folder / INDEX
    entries = _read_entries(path)
    subjects = []
    for number, entry in enumerate(entries, start=1):
        noun, where, prompts = (_text(entry, name, path, number) for name in _NEEDED)
        photos = folder / where
        if outside := next((one for one in (photos, folder / prompts) if leads_out(one, folder)), None):
            text = f"{path}, entry {number}: {outside} is not in {folder}. Copy it there."
            raise LookforwardError(text, code="link-outside")
        asked = tuple(dict.fromkeys(read_prompt_file(folder / prompts)))
        if bad := [template for template in asked if "{class_noun}" not in template]:
            text = f"{folder / prompts}: {bad[0]!r} does not say where the subject goes; write {{}}."
            raise LookforwardError(text, code="dataset-broken")
        subjects.append(BenchmarkSubject(photos.name, noun, noun in LIVE_CLASSES, asked, photos))
    require_names([subject.name for subject in subjects], path)
    missing = [subject.name for subject in subjects if subject.photos and not os.path.isdir(subject.photos)]
    if len(missing) == len(subjects):
        text = f"{path}: none of its folders of photos is there; the first is {subjects[0].photos}."
        raise LookforwardError(text, code="dataset-empty")
    kept = tuple(subject for subject in subjects if subject.name not in missing)
    notes = [f"{len(missing)} of {len(subjects)} subjects have no folder: {', '.join(missing)}"] if missing else []
    return Dataset(folder.resolve().name, "custom-concept", kept, str(folder), tuple(notes))


def _read_entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = parse_json(read_bytes(path))
    except (LookforwardError, ValueError) as error:
        raise LookforwardError(f"{path} cannot be read as JSON: {error}.", code="dataset-broken") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        text = f"{path} must hold a list of entries, each with {', '.join(_KNOWN)}."
        raise LookforwardError(text, code="dataset-broken")
    return entries


def _text(entry: dict[str, Any], name: str, path: Path, number: int) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise LookforwardError(f"{path}, entry {number}: {name} must be some text.", code="dataset-broken")
    return " ".join(value.split()) if name == "class_prompt" else value.strip()
