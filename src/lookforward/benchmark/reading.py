"""What a benchmark or a comparison left on disk, read for the report."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.cell import UNREADABLE, Cell, cell_files, read_cell
from lookforward.benchmark.dataframes import benchmark_of, image_table
from lookforward.benchmark.described import described_subjects, listed_photos
from lookforward.benchmark.images import broken_photos, broken_strips, drawn_in, photos_in
from lookforward.benchmark.judge.recorded import with_ratings
from lookforward.benchmark.optimised import optimised_scores
from lookforward.benchmark.plan import RECIPE_LABELS, CellKey, cell_name, method_label
from lookforward.benchmark.provenance import disagreements, made_when, measured_with
from lookforward.benchmark.recorded import known_settings, other_than_default
from lookforward.benchmark.selection import ENCODERS, Wanted, select, unique, unplanned_sentence, where
from lookforward.benchmark.shapes import read_described
from lookforward.bundle import BUNDLED, TOYBOX, find_bundle, known_model, present_name
from lookforward.errors import LookforwardError
from lookforward.records import read_json
from lookforward.report.data import UNTOUCHED, Benchmark, Method, Problem
from lookforward.report.paper import departures, row_of

_OLD_KINDS = {"outfit": "accessory", "look": "property"}  # of prompts, as files of version 0.1 call them
Json = Mapping[str, Any]


def read_benchmark(folder: Path, title: str = "", baseline: str = "dreambooth") -> Benchmark:
    """Everything under `folder` that a report shows; what cannot be read becomes a problem.

    Raises:
        LookforwardError: there is no finished cell, or benchmark.json cannot be read.
    """
    plan = read_description(folder / "benchmark.json")
    wanted = _wanted(plan or {})
    described: Json = plan or {}
    kinds = {str(p): _OLD_KINDS.get(k, str(k)) for p, k in described.get("prompt_kinds", {}).items()}
    found, unreadable = _read_cells(folder, wanted.cells)
    cells, copies = unique(found)
    chosen = select(cells, wanted)
    if not chosen.kept:
        why = f" {chosen.problems[0].where}: {chosen.problems[0].why}." if chosen.problems else ""
        text = "Give the folder that `lookforward benchmark` or `compare` wrote into."
        raise LookforwardError(f"{folder} holds no finished cell that was planned. {text}{why}", code="no-cells")
    keys = list(wanted.cells or [cell.key for cell in cells])
    subjects, methods = described_subjects(folder, described, keys), _methods(described, keys, chosen.kept)
    seeds = sorted({seed for _, _, seed in keys})
    stems = {cell.key: stem for stem, cell in found.items() if cell in cells}
    model = present_name(str(chosen.shared.get("base model", "")), _digest(chosen.kept))
    kind = str(described.get("dataset", {}).get("kind") or (TOYBOX if model in BUNDLED else ""))
    listed, rated = listed_photos(folder, described), with_ratings(folder, chosen.kept)
    times = [(folder / "cells" / f"{stems[cell.key]}.json").stat().st_mtime for cell in chosen.kept]
    mixed, bundled = chosen.other_settings, known_model(model)
    kept = {cell.key: cell for cell in chosen.kept}
    shown = list(dict.fromkeys(cell.subject for cell in chosen.kept))
    unseen = [*broken_strips(folder, stems, kept), *broken_photos(folder, listed, shown)]
    return benchmark_of(
        rated.cells,
        methods,
        subjects,
        kinds,
        planned=wanted.cells or tuple((s, m, seed) for s in subjects for seed in seeds for m in methods),
        drawn=drawn_in(folder, stems, kept),
        references=photos_in(folder, listed),
        title=title or f"Benchmark: {folder.resolve().name}",
        dataset=_dataset(described, kind, list(subjects)),
        model=model,
        when=made_when(chosen.kept, times, str(described.get("date", ""))),
        versions=measured_with(chosen.kept, described.get("versions", {})),
        problems=(*unreadable, *copies, *chosen.problems, *unseen, *_read_failures(folder, cells, wanted.cells)),
        kind=kind,
        encoders=any(chosen.shared.get(f"encoder of {name}") for name in ENCODERS),
        ignored=unplanned_sentence(chosen.unplanned),
        warnings=(
            *([_mixed(mixed, plan is not None)] if mixed else []),
            *_lost_photos(listed),
            *disagreements(chosen.kept, model),
            *rated.warnings,
        ),
        ceiling=bundled.ceiling if bundled and kind == TOYBOX else {},
        baseline=baseline,
        judge=rated.judge,
    )


def _digest(cells: Sequence[Cell]) -> str:
    """What the cells record of the weights of their base model; "" if nothing."""
    return next((str(digest) for cell in cells if (digest := cell.provenance.get("model_hash"))), "")


def read_description(path: Path) -> dict[str, Any] | None:
    """benchmark.json; None if there is none, as after `compare`.

    Raises:
        LookforwardError: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        described = read_described(path)
        planned_cells(described)
    except UNREADABLE as error:
        text = f"{path} cannot be read ({error}). Restore it, or remove it to report on the cells alone."
        raise LookforwardError(text, code="description-unreadable") from error
    return described


def planned_cells(described: Json) -> tuple[CellKey, ...] | None:
    """The cells that benchmark.json asks for: of all its grids, or of its lists; None if it has neither."""
    axes = {axis: described.get(axis, ()) for axis in ("subjects", "methods", "seeds")}
    whole = {axis: [one["name"] if isinstance(one, Mapping) else one for one in given] for axis, given in axes.items()}
    cells = (
        (str(subject), str(method), int(seed))
        for grid in described.get("grids") or [whole]
        for subject in grid["subjects"]
        for seed in grid["seeds"]
        for method in grid["methods"]
    )
    return tuple(dict.fromkeys(cells)) or None


def _wanted(described: Json) -> Wanted:
    """What benchmark.json says about the cells; files of older versions say less."""
    shared: dict[str, Any] = {}
    for name, key in (("base model", "model"), ("images per prompt", "images")):
        shared |= {name: described[key]} if key in described else {}
    if "identifier_in_clip_text" in described:
        shared["identifier in CLIP-T"] = bool(described["identifier_in_clip_text"])
    if "extra_scores" in described:
        shared["extra scores"] = sorted(described["extra_scores"])
    if "encoders" in described:
        shared |= {f"encoder of {name}": described["encoders"].get(name) for name in ENCODERS}
    methods = [m for m in described.get("methods", ()) if "settings" in m and m["name"] != UNTOUCHED]
    return Wanted(
        planned_cells(described),
        shared,
        {str(m["name"]): other_than_default(known_settings(m["settings"])) for m in methods},
        {str(m["name"]): str(m.get("config_hash", "")) for m in methods},
        {str(s["name"]): tuple(map(str, s["prompts"])) for s in described.get("subjects", ()) if s.get("prompts")},
    )


def _read_cells(folder: Path, planned: Sequence[CellKey] | None) -> tuple[dict[str, Cell], list[Problem]]:
    """The cells of a folder by the stem of their file, and the planned ones that cannot be read."""
    meant = None if planned is None else {cell_name(key) for key in planned}
    cells, problems = {}, []
    for path in cell_files(folder):
        try:
            cell = read_cell(path)
            known_settings(cell.settings["config"])
            image_table([cell])  # one score for each image
            cells[path.stem] = cell
        except UNREADABLE as error:
            if meant is None or path.stem in meant:
                problems.append(Problem(path.name, f"cannot be read: {_why(error)}"))
    return cells, problems


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, LookforwardError) else f"{type(error).__name__}: {error}"


def _read_failures(folder: Path, cells: Sequence[Cell], planned: Sequence[CellKey] | None) -> list[Problem]:
    """Planned cells that failed and were not finished later."""
    finished, problems = {cell.key for cell in cells}, []
    for path in sorted((folder / "failed").glob("*.json")):
        try:
            record = read_json(path, dict[str, Any])
            key = record["subject"], record["method"], record["seed"]
            if key not in finished and (planned is None or key in planned):
                problems.append(Problem(where(key), f"{record.get('error', '')}: {record.get('message', '')}"))
        except UNREADABLE:
            problems.append(Problem(path.stem, "failed; the reason cannot be read"))
    return problems


def _mixed(count: int, described: bool) -> str:
    meant = "benchmark.json has" if described else "most cells have"
    return (
        f"The folder holds cells of different settings: {count:,} with others than {meant} are left out, see the failed"
        " cells. Different settings are never averaged."
    )


def _lost_photos(listed: Mapping[str, Sequence[Path]]) -> list[str]:
    lost = [name for name, paths in listed.items() if paths and not any(os.path.isfile(path) for path in paths)]
    if not lost:
        return []
    return [
        f"The photos of {len(lost)} of {len(listed)} subjects ({', '.join(lost[:3])}{' …' * (len(lost) > 3)}) are no "
        "longer where benchmark.json says, so the page cannot show them."
    ]


def _methods(described: Json, keys: Sequence[CellKey], cells: Sequence[Cell]) -> dict[str, Method]:
    """In the order of the plan, or of RECIPE_LABELS; others after those by name."""
    planned = {str(m["name"]): m for m in described.get("methods", ())}
    found = {method for _, method, _ in keys} - planned.keys()
    order = [UNTOUCHED, *RECIPE_LABELS]
    recipes = {name: name.partition("@")[0] for name in found}
    places = {name: order.index(recipe) if recipe in order else len(order) for name, recipe in recipes.items()}
    names = [*planned, *sorted(found, key=lambda name: (places[name], name))]
    return {name: _method(name, planned.get(name, {}), [c for c in cells if c.method == name]) for name in names}


def _method(name: str, planned: Json, cells: Sequence[Cell]) -> Method:
    label = str(planned.get("label") or method_label(name))
    recorded = planned.get("settings", cells[0].settings["config"] if cells else None)
    optimised = set(planned.get("optimised", ()))
    if name == UNTOUCHED or recorded is None:
        return Method(name, label, tuple(sorted(optimised)))
    settings = known_settings(recorded)
    scores = {score for cell in cells for score in cell.scores}
    optimised.update(score for score in optimised_scores(settings) if score in scores)
    recipe = planned.get("recipe") or name.partition("@")[0]
    row = row_of(recipe, settings)
    return Method(name, label, tuple(sorted(optimised)), row, departures(recipe, settings) if row else ())


def _dataset(described: Json, kind: str, subjects: Sequence[str]) -> str:
    """The data set and its notes; which of Toybox's subjects, as the recipes were chosen on some of them."""
    dataset, bundle = described.get("dataset", {}), find_bundle()
    name = str(dataset.get("name") or "not recorded")
    if kind == TOYBOX and bundle is not None:
        name = bundle.describe_subjects(subjects)
    return "; ".join([name, *map(str, dataset.get("notes", ()))])
