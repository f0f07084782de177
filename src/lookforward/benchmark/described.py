"""The subjects of a benchmark's folder, as its description or its photos name them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.cell import UNREADABLE
from lookforward.benchmark.images import photo_folder
from lookforward.benchmark.plan import CellKey
from lookforward.bundle import CARD
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.prompts import LIVE_CLASSES
from lookforward.records import read_json

Json = Mapping[str, Any]


def described_subjects(folder: Path, described: Json, keys: Sequence[CellKey]) -> dict[str, BenchmarkSubject]:
    """Those that were planned, or that have photos if nothing was, and any other that has a cell."""
    subjects = {str(s["name"]): _described(s) for s in described.get("subjects", ())}
    photos = folder / "photos"
    names = [] if described or not photos.is_dir() else [p.name for p in photos.iterdir() if p.is_dir()]
    for name in sorted({n for n in names if not n.startswith(".")} | {subject for subject, _, _ in keys}):
        if name not in subjects:
            noun = _class_noun(folder, name)
            subjects[name] = BenchmarkSubject(name, noun, noun in LIVE_CLASSES)
    return subjects


def _described(one: Json) -> BenchmarkSubject:
    kind = one.get("kind")
    return BenchmarkSubject(str(one["name"]), str(one["class_noun"]), kind == "live", style=kind == "style")


def _class_noun(folder: Path, name: str) -> str:
    """From the card beside the photos, or from the name: that of "stuffed-animal-2" is "stuffed animal"."""
    try:
        return str(read_json(photo_folder(folder, name) / CARD, dict[str, Any])["class_noun"])
    except UNREADABLE:
        return re.sub(r"\d+$", "", name).replace("-", " ").replace("_", " ").strip() or name


def listed_photos(folder: Path, described: Json) -> dict[str, list[Path]]:
    """Where a description says that the photos of each subject are."""
    return {str(s["name"]): [folder / p for p in s.get("photos", ())] for s in described.get("subjects", ())}
