"""What a benchmark or a comparison left on disk, read for the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.leavings import (
    BROKEN,
    ENCODERS,
    known_settings,
    read_cells,
    read_description,
    read_failures,
    read_wanted,
)
from lookforward.benchmark.methods import RECIPE_LABELS, method_label
from lookforward.benchmark.summary import optimised_scores
from lookforward.bundle import CARD, TOYBOX, find_bundle
from lookforward.data.prompts import LIVE_CLASSES
from lookforward.errors import LookforwardError
from lookforward.report.choice import Choice, Found, Key, choose, left_sentence
from lookforward.report.origin import disagreements, made_when, measured_with
from lookforward.report.originals import drawn_in, noun_of, photo_folder, photos_in
from lookforward.report.page import UNTOUCHED, Benchmark, Method, Subject
from lookforward.report.paper import departures, row_of


def read_benchmark(folder: Path, title: str = "", baseline: str = "dreambooth") -> Benchmark:
    """Everything under `folder` that a report tells; what cannot be read is told as a problem.

    Raises:
        LookforwardError: there is no finished cell, or benchmark.json cannot be read.
    """
    told = read_description(folder / "benchmark.json") or {}
    wanted = read_wanted(told)
    found, unreadable = read_cells(folder, told, wanted.cells)
    choice = choose(found, wanted)
    if not choice.kept:
        why = f" {choice.problems[0].where}: {choice.problems[0].why}." if choice.problems else ""
        where = "give the folder that `lookforward benchmark` or `compare` wrote into"
        raise LookforwardError(f"{folder} holds no finished cell that was asked for; {where}.{why}")
    keys = list(wanted.cells or [f.key for f in found])
    subjects, methods = _subjects(folder, told, keys), _methods(told, keys, choice.kept)
    seeds = sorted({seed for _, _, seed in keys})
    planned = wanted.cells or tuple((s, m, seed) for s in subjects for seed in seeds for m in methods)
    model, kind = str(choice.shared.get("base model", "")), _kind(told, choice)
    origins, bundle = [f.origin for f in choice.kept], find_bundle()
    times = [f.path.stat().st_mtime for f in choice.kept]
    listed = {str(s["name"]): [folder / p for p in s.get("photos", ())] for s in told.get("subjects", ())}
    return Benchmark(
        title=title or f"Benchmark: {folder.resolve().name}",
        dataset=_dataset(told, kind, list(subjects)),
        model=model,
        when=made_when(origins, times, str(told.get("date", ""))),
        versions=measured_with(origins, told.get("versions", {})),
        methods=methods,
        subjects=subjects,
        planned=planned,
        results=tuple(f.result for f in choice.kept),
        pictures=drawn_in(folder, {f.key: f.path.stem for f in choice.kept}),
        references=photos_in(folder, listed),
        problems=(*unreadable, *choice.problems, *read_failures(folder, found, wanted.cells)),
        kind=kind,
        encoders=any(choice.shared.get(f"encoder of {name}") for name in ENCODERS),
        left_out=left_sentence(choice.left),
        warnings=(*_mixed(choice, bool(told)), *_gone(listed), *disagreements(origins, model)),
        ceiling=bundle.CEILING if bundle and kind == model == TOYBOX else {},
        baseline=baseline,
    )


def _mixed(choice: Choice, told: bool) -> list[str]:
    if not choice.others:
        return []
    counted = "what benchmark.json says" if told else "what most cells have"
    return [
        f"The folder holds cells of different settings: {choice.others:,} with others than {counted} are left out, see"
        " the failed cells. Differing settings are never averaged."
    ]


def _gone(listed: Mapping[str, Sequence[Path]]) -> list[str]:
    gone = [name for name, paths in listed.items() if paths and not any(path.is_file() for path in paths)]
    if not gone:
        return []
    return [
        f"The photos of {len(gone)} of {len(listed)} subjects ({', '.join(gone[:3])}{' …' * (len(gone) > 3)}) are no "
        "longer where benchmark.json says, so that the page cannot show them."
    ]


def _subjects(folder: Path, told: Mapping[str, Any], keys: Sequence[Key]) -> dict[str, Subject]:
    """Those that were planned, or of whom there are photos, and any other that has a cell."""
    subjects = {
        str(s["name"]): Subject(str(s["name"]), str(s["class_noun"]), s.get("kind") == "live")
        for s in told.get("subjects", ())
    }
    photos = folder / "photos"
    names = {path.name for path in photos.iterdir() if path.is_dir()} if photos.is_dir() and not told else set()
    # But for a part of one, left by a process that was killed
    for name in sorted({n for n in names if not n.startswith(".")} | {subject for subject, _, _ in keys}):
        if name not in subjects:
            noun = _class_noun(folder, name)
            subjects[name] = Subject(name, noun, noun in LIVE_CLASSES)
    return subjects


def _class_noun(folder: Path, name: str) -> str:
    """As the card beside the photos says, or as the name does."""
    try:
        return str(json.loads((photo_folder(folder, name) / CARD).read_text(encoding="utf-8"))["class_noun"])
    except BROKEN:
        return noun_of(name)


def _methods(told: Mapping[str, Any], keys: Sequence[Key], cells: Sequence[Found]) -> dict[str, Method]:
    """In the order of the plan, or of RECIPE_LABELS; others after those by name."""
    planned = {str(m["name"]): m for m in told.get("methods", ())}
    found = {method for _, method, _ in keys} - planned.keys()
    order = [UNTOUCHED, *RECIPE_LABELS]
    places = {name: order.index(_recipe(name)) if _recipe(name) in order else len(order) for name in found}
    names = [*planned, *sorted(found, key=lambda name: (places[name], name))]
    return {name: _method(name, planned.get(name, {}), [f for f in cells if f.result.method == name]) for name in names}


def _method(name: str, planned: Mapping[str, Any], cells: Sequence[Found]) -> Method:
    label = str(planned.get("label") or method_label(name))
    if name == UNTOUCHED:
        return Method(name, label)
    settings = planned["settings"] if "settings" in planned else cells[0].settings if cells else None
    optimised = set(planned.get("optimised", ()))
    if settings is None:
        return Method(name, label, tuple(sorted(optimised)))
    config = known_settings(settings)
    scores = {score for f in cells for score in f.result.scores}
    optimised.update(score for score in optimised_scores(config) if score in scores)
    recipe = planned.get("recipe") or _recipe(name)
    paper = row_of(recipe, config)
    return Method(name, label, tuple(sorted(optimised)), paper, departures(recipe, config) if paper else ())


def _recipe(name: str) -> str:
    return name.partition("@")[0]


def _kind(told: Mapping[str, Any], choice: Choice) -> str:
    """The kind of the data set; what no plan tells of is of `compare`, which draws Toybox's subjects."""
    kind = told.get("dataset", {}).get("kind")
    return str(kind or (TOYBOX if choice.shared.get("base model") == TOYBOX else ""))


def _dataset(told: Mapping[str, Any], kind: str, subjects: Sequence[str]) -> str:
    dataset, bundle = told.get("dataset", {}), find_bundle()
    name = str(dataset.get("name") or "not recorded")
    if kind == TOYBOX and bundle is not None:
        name = bundle.describe_subjects(subjects)
    return "; ".join([name, *(str(note) for note in dataset.get("notes", ()))])
