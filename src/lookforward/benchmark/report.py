"""What a benchmark or a comparison left on disk, read for the report."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lookforward.benchmark.methods import RECIPE_LABELS, method_label
from lookforward.benchmark.plan import prompt_kind
from lookforward.benchmark.summary import optimised_scores
from lookforward.config import Config
from lookforward.errors import LookforwardError
from lookforward.prompts import LIVE_CLASSES
from lookforward.report.page import UNTOUCHED, Benchmark, Method, Problem, Result, Subject
from lookforward.report.page.paper import CUSTOM, DINO_REWARD, DREAMBOOTH, LOOK_FORWARD, row
from lookforward.toybox.subjects import CARD

# Measured by `lookforward toybox check`; docs/toybox.md has the same figures, and a test holds the two together
TOYBOX_CEILING = {
    "live subjects": {"DINO": 0.805, "CLIP-I": 0.583, "CLIP-T": 0.680, "identity": 0.911, "oracle": 0.912},
    "objects": {"DINO": 0.834, "CLIP-I": 0.603, "CLIP-T": 0.684, "identity": 0.894, "oracle": 0.912},
}
_REWARDS = {"dreambooth": "", "dino": DINO_REWARD, "look-forward": LOOK_FORWARD}
_BASES = {"full": DREAMBOOTH, "custom-diffusion": CUSTOM}
_SETTINGS = {field.name for field in fields(Config)}
_PHOTOS = {".png", ".jpg", ".jpeg", ".webp"}
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what a damaged file may lead to


def read_benchmark(folder: Path, title: str = "", baseline: str = "dreambooth") -> Benchmark:
    """Everything under `folder` that a report tells; what cannot be read is told as a problem.

    Raises:
        LookforwardError: there is no finished cell.
    """
    told = _read(folder / "benchmark.json") or {}
    cells: list[tuple[Result, dict[str, Any], Path]] = []
    problems = []
    kinds = dict(told.get("prompt_kinds", {}))
    for path in sorted((folder / "cells").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            cells.append((_result(values, kinds), dict(values["settings"]["config"]), path))
        except _BROKEN as error:
            problems.append(Problem(path.name, f"cannot be read: {type(error).__name__}: {error}"))
    if not cells:
        raise LookforwardError(
            f"{folder} holds no finished cell; give the folder that `lookforward benchmark` or `compare` wrote into."
        )
    results = tuple(result for result, _, _ in cells)
    problems += _failed(folder, results)
    subjects = _subjects(folder, told, results)
    methods = _methods(told, [(result, config) for result, config, _ in cells])
    seeds = told.get("seeds") or sorted({r.seed for r in results})
    models = list(dict.fromkeys(str(config.get("model", "")) for _, config, _ in cells))
    toybox = models == ["toybox"] and told.get("dataset", {}).get("kind", "toybox") == "toybox"
    pictures, references = _pictures(folder, cells), _references(folder, told)
    return Benchmark(
        title=title or f"Benchmark: {folder.resolve().name}",
        dataset=_dataset(told, toybox),
        model=", ".join(models),
        when=_when(told, [path for _, _, path in cells]),
        versions=", ".join(f"{k} {v}" for k, v in told.get("versions", {}).items()) or "not recorded",
        methods=methods,
        subjects=subjects,
        planned=tuple((s, m, seed) for s in subjects for seed in seeds for m in methods),
        results=results,
        pictures=pictures,
        references=references,
        problems=tuple(problems),
        ceiling=TOYBOX_CEILING if toybox else {},
        baseline=baseline,
    )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except _BROKEN as error:
        raise LookforwardError(
            f"{path} cannot be read ({error}); put it back as it was, or take it away to report on the cells alone."
        ) from error


def _result(values: Mapping[str, Any], kinds: Mapping[str, str]) -> Result:
    settings = values["settings"]
    prompts = tuple(map(str, settings["prompts"]))
    return Result(
        subject=str(values["subject"]),
        method=str(values["method"]),
        seed=int(values["seed"]),
        scores={str(name): [float(x) for x in numbers] for name, numbers in values["scores"].items()},
        prompts=prompts,
        kinds=tuple(kinds.get(p) or prompt_kind(p) for p in prompts),
        images=int(settings["images"]),
        seconds=float(values["seconds"]),
        memory=float(values["memory"]),
        parameters=int(values.get("parameters", 0)),
        size=float(values.get("size", 0.0)),
        steps=int(settings["config"].get("steps", 0)),
        curves={name: [[float(x), float(y)] for x, y in rows] for name, rows in values.get("curves", {}).items()},
    )


def _failed(folder: Path, results: Sequence[Result]) -> list[Problem]:
    """Cells that failed and were not finished later."""
    finished = {(r.subject, r.method, r.seed) for r in results}
    problems = []
    for path in sorted((folder / "failed").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (values["subject"], values["method"], values["seed"]) in finished:
                continue
            where = f"{values['subject']}, {values['method']}, seed {values['seed']}"
            problems.append(Problem(where, f"{values.get('error', '')}: {values.get('message', '')}"))
        except _BROKEN:
            problems.append(Problem(path.stem, "failed; why cannot be read"))
    return problems


def _subjects(folder: Path, told: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Subject]:
    """Those that were planned, or of whom there are photos, and any other that has a cell."""
    subjects = {
        str(s["name"]): Subject(str(s["name"]), str(s["class_noun"]), s.get("kind") == "live")
        for s in told.get("subjects", ())
    }
    photos = folder / "photos"
    names = {path.name for path in photos.iterdir() if path.is_dir()} if photos.is_dir() and not told else set()
    for name in sorted(names | {r.subject for r in results}):
        if name not in subjects:
            noun = _class_noun(folder, name)
            subjects[name] = Subject(name, noun, noun in LIVE_CLASSES)
    return subjects


def _class_noun(folder: Path, name: str) -> str:
    """As the card beside the photos says, or as the name does: that of "stuffed-animal-2" is "stuffed animal"."""
    try:
        return str(json.loads((_below(folder, name) / CARD).read_text(encoding="utf-8"))["class_noun"])
    except _BROKEN:
        return re.sub(r"\d+$", "", name).replace("-", " ").replace("_", " ").strip() or name


def _below(folder: Path, name: str) -> Path:
    if name != Path(name).name:
        raise ValueError(f"{name!r} is no name of a folder")
    return folder / "photos" / name


def _methods(told: Mapping[str, Any], cells: Sequence[tuple[Result, Mapping[str, Any]]]) -> dict[str, Method]:
    """In the order of the plan, or of RECIPE_LABELS; others after those by name."""
    planned = {str(m["name"]): m for m in told.get("methods", ())}
    found = {result.method for result, _ in cells} - planned.keys()
    order = [UNTOUCHED, *RECIPE_LABELS]
    places = {name: order.index(_recipe(name)) if _recipe(name) in order else len(order) for name in found}
    names = [*planned, *sorted(found, key=lambda name: (places[name], name))]
    return {
        name: _method(name, planned.get(name, {}), [(r, c) for r, c in cells if r.method == name]) for name in names
    }


def _method(name: str, planned: Mapping[str, Any], cells: Sequence[tuple[Result, Mapping[str, Any]]]) -> Method:
    recipe = planned.get("recipe") or _recipe(name)
    adapter = planned.get("adapter") or name.partition("@")[2] or "full"
    optimised = set(planned.get("optimised", ()))
    for result, config in cells if name != UNTOUCHED else ():
        scores = optimised_scores(Config(**{k: v for k, v in config.items() if k in _SETTINGS}))
        optimised.update(score for score in scores if score in result.scores)
    paper = row(_BASES[adapter], _REWARDS[recipe]) if adapter in _BASES and recipe in _REWARDS else ""
    label = str(planned.get("label") or method_label(name))
    return Method(name, label, tuple(sorted(optimised)), paper if name != UNTOUCHED else "")


def _recipe(name: str) -> str:
    return name.partition("@")[0]


def _dataset(told: Mapping[str, Any], toybox: bool) -> str:
    dataset = told.get("dataset", {})
    name = dataset.get("name") or ("toybox" if toybox else "not recorded")
    name = "Toybox (held-out subjects of the bundled world)" if name == "toybox" else str(name)
    notes = [str(note) for note in dataset.get("notes", ())]
    return "; ".join([name, *notes])


def _when(told: Mapping[str, Any], paths: Sequence[Path]) -> str:
    times = sorted(path.stat().st_mtime for path in paths)
    first, last = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in (times[0], times[-1]))
    begun = f"planned {str(told['date'])[:16].replace('T', ' ')}; " if told.get("date") else ""
    return f"{begun}cells of {first} to {last} UTC"


def _pictures(folder: Path, cells: Sequence[tuple[Result, Any, Path]]) -> Callable[[Result], Sequence[np.ndarray]]:
    """A function from a result to its images."""
    stems = {(r.subject, r.method, r.seed): path.stem for r, _, path in cells}

    @lru_cache(maxsize=8)
    def load(stem: str, count: int) -> Sequence[np.ndarray]:
        try:
            with Image.open(folder / "images" / f"{stem}.png") as strip:
                pixels = np.asarray(strip.convert("RGB"))
        except _BROKEN:
            return ()
        return () if pixels.shape[0] % count else list(pixels.reshape(count, -1, *pixels.shape[1:]))

    return lambda r: load(stems[r.subject, r.method, r.seed], max(1, len(r.prompts) * r.images))


def _references(folder: Path, told: Mapping[str, Any]) -> Callable[[str], Sequence[np.ndarray]]:
    """A function from a subject's name to its photos."""
    listed = {str(s["name"]): [folder / p for p in s.get("photos", ())] for s in told.get("subjects", ())}

    @cache
    def load(name: str) -> Sequence[np.ndarray]:
        photos = []
        try:
            paths = listed.get(name) or sorted(p for p in _below(folder, name).iterdir() if p.suffix.lower() in _PHOTOS)
        except _BROKEN:
            return ()
        for path in paths[:8]:
            try:
                with Image.open(path) as photo:
                    photos.append(_square(ImageOps.exif_transpose(photo).convert("RGB")))
            except _BROKEN:  # a corrupt photo is told by its failed cells
                continue
        return photos

    return load


def _square(photo: Image.Image) -> np.ndarray:
    """The middle of a photo, small: nothing larger is shown, and phones' photos would fill the memory."""
    side = min(*photo.size, 256)
    return np.asarray(ImageOps.fit(photo, (side, side)))
