"""benchmark.json: what the calls into a folder asked for, so that a report knows what is missing and mixes nothing."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.dataframes import method_columns
from lookforward.benchmark.datasets.values import photo_files
from lookforward.benchmark.optimised import optimised_of
from lookforward.benchmark.plan import Plan
from lookforward.benchmark.provenance import now, versions
from lookforward.benchmark.recorded import known_settings
from lookforward.benchmark.shapes import read_described
from lookforward.errors import LookforwardError
from lookforward.files import write_json

Json = Mapping[str, Any]
_AXES = ("subjects", "methods", "seeds")
# What all calls into one folder must have alike, and how a message calls it
_SHARED = {
    "dataset": "data set",
    "model": "base model",
    "prompts": "number of prompts",
    "images": "number of images",
    "identifier_in_clip_text": "text of CLIP-T",
    "extra_scores": "extra scores",
    "encoders": "encoders of the scores",
    "scored_steps": "scored steps",
}


def write_description(plan: Plan, folder: Path, model: str) -> None:
    """Write benchmark.json, see docs/benchmark.md. What earlier calls asked for stays in it, as does the first date.

    Raises:
        LookforwardError: earlier calls asked for another data set, model, scoring or method by the same name; or it
            cannot be written.
    """
    path = folder / "benchmark.json"
    new = _describe(plan, folder, model)
    old = _read(path) if any((folder / "cells").glob("[!.]*.json")) else None
    if old is not None:
        _refuse_mixing(old, new, folder)
        new["date"] = old.get("date", new["date"])
        for axis in ("subjects", "methods"):
            names = {one["name"] for one in new[axis]}
            new[axis] += [one for one in old[axis] if one["name"] not in names]
        new["prompt_kinds"] = {**old["prompt_kinds"], **new["prompt_kinds"]}
        new["seeds"] = sorted({*old["seeds"], *new["seeds"]})
        new["grids"] = _join(grids(old), new["grids"][0])
    write_json(path, new)


def grids(described: Json) -> list[dict[str, list[Any]]]:
    """What each call asked for: names of subjects and of methods, and seeds, of which all combinations are meant."""
    named = {axis: [one["name"] for one in described[axis]] for axis in _AXES[:2]}
    return described.get("grids") or [{**named, "seeds": described["seeds"]}]


def _join(old: Sequence[Mapping[str, list[Any]]], new: dict[str, list[Any]]) -> list[dict[str, list[Any]]]:
    """Those grids that no other one holds, the new one last."""
    if any(_holds(one, new) for one in old):
        return [dict(one) for one in old]
    return [*(dict(one) for one in old if not _holds(new, one)), new]


def _holds(one: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> bool:
    return all(set(other[axis]) <= set(one[axis]) for axis in _AXES)


def _read(path: Path) -> Json | None:
    """An earlier description; None where there is none, or it is of no use."""
    try:
        old = read_described(path)
        whole = {"subjects", "methods", "seeds", "prompt_kinds"} <= old.keys() and grids(old)
    except (LookforwardError, ValueError, KeyError, TypeError):
        return None
    return old if whole else None


def _refuse_mixing(old: Json, new: Json, folder: Path) -> None:
    for name, called in _SHARED.items():
        before, after = _kind(old.get(name, new[name])), _kind(new[name])
        if before != after:
            text = f"{folder} holds a benchmark with another {called} ({before}, now {after}). Give another --output."
            raise LookforwardError(text, code="benchmark-differs")
    settings = {one["name"]: known_settings(one["settings"]) for one in old["methods"] if "settings" in one}
    for method in new["methods"]:
        name, own = method["name"], known_settings(method["settings"])
        if settings.get(name, own) != own and any((folder / "cells").glob(f"*.{glob.escape(name)}.*.json")):
            text = f"{folder} holds {name} with other settings. Give another --output, or delete its cells there."
            raise LookforwardError(text, code="benchmark-differs")


def _kind(value: Any) -> Any:
    """Of a data set its name only: its notes and its place may change. Words in any order."""
    if isinstance(value, list):
        return sorted(value)
    return value["name"] if isinstance(value, dict) and "name" in value else value


def _describe(plan: Plan, folder: Path, model: str) -> dict[str, Any]:
    data = plan.dataset
    return {
        "format": 1,
        "dataset": {"name": data.name, "kind": data.kind, "path": data.path, "notes": list(data.notes)},
        "model": model,
        "subjects": [_subject(plan, name, folder) for name in plan.subjects],
        "methods": [_method(plan, name) for name in plan.methods],
        "prompt_kinds": plan.kinds,
        "seeds": list(plan.seeds),
        "grids": [{"subjects": list(plan.subjects), "methods": list(plan.methods), "seeds": list(plan.seeds)}],
        "prompts": plan.count,
        "images": plan.images,
        "identifier_in_clip_text": plan.scoring.identifier_in_clip_text,
        "extra_scores": sorted(plan.scoring.extra),
        "encoders": plan.scoring.encoders(),
        "scored_steps": sorted(plan.scoring.steps),
        "versions": versions(),
        "date": now(),
    }


def _subject(plan: Plan, name: str, folder: Path) -> dict[str, Any]:
    subject = plan.subject(name)
    photos = photo_files(subject.photos or folder / "photos" / name)
    return {
        "name": name,
        "class_noun": subject.class_noun,
        "kind": subject.kind,
        "photos": [_shown(path, folder) for path in photos],
        "prompts": list(plan.prompts_of(name)),
    }


def _shown(path: Path, folder: Path) -> str:
    """Relative to the folder, which may be moved, or else wherever the report is made from."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path.absolute())


def _method(plan: Plan, name: str) -> dict[str, Any]:
    columns = method_columns(plan, name)
    named = ("label", "recipe", "adapter", "config_hash", "settings")
    return {"name": name, "optimised": list(optimised_of(plan)[name]), **{column: columns[column] for column in named}}
