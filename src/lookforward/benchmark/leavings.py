"""The files of a benchmark or a comparison as they lie on disk: what was asked for, finished cells, and failures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.plan import cell_name, prompt_kind
from lookforward.benchmark.provenance import other_than_default
from lookforward.config.reading import structure
from lookforward.config.settings import FIELDS, Settings
from lookforward.errors import LookforwardError
from lookforward.report.choice import Found, Key, Wanted, planned_cells
from lookforward.report.origin import Origin
from lookforward.report.page import UNTOUCHED, Problem, Result

ENCODERS = ("dino", "clip", "dinov2")
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what a damaged file may lead to
# The untouched model is not trained: no other setting has a part in what it draws
_OF_SAMPLER = (
    "model.name",
    "model.precision",
    "data.resolution",
    "evaluation.sampler_steps",
    "evaluation.guidance",
)


def read_description(path: Path) -> dict[str, Any] | None:
    """benchmark.json; None where there is none, as after `compare`.

    Raises:
        LookforwardError: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        told = dict(json.loads(path.read_text(encoding="utf-8")))
        planned_cells(told)
    except BROKEN as error:
        raise LookforwardError(
            f"{path} cannot be read ({error}); put it back as it was, or take it away to report on the cells alone."
        ) from error
    return told


def read_wanted(told: Mapping[str, Any]) -> Wanted:
    """What benchmark.json says of the cells; files of older versions say less."""
    shared: dict[str, Any] = {}
    for name, key in (("base model", "model"), ("images for each prompt", "images")):
        shared |= {name: told[key]} if key in told else {}
    if "identifier_in_clip_text" in told:
        shared["identifier in CLIP-T"] = bool(told["identifier_in_clip_text"])
    if "extra_scores" in told:
        shared["extra scores"] = sorted(told["extra_scores"])
    if "encoders" in told:
        shared |= {f"encoder of {name}": told["encoders"].get(name) for name in ENCODERS}
    methods = [m for m in told.get("methods", ()) if "settings" in m and m["name"] != UNTOUCHED]
    return Wanted(
        planned_cells(told),
        shared,
        {str(m["name"]): other_than_default(known_settings(m["settings"])) for m in methods},
        {str(m["name"]): str(m.get("config_hash", "")) for m in methods},
        {str(s["name"]): tuple(map(str, s["prompts"])) for s in told.get("subjects", ()) if s.get("prompts")},
    )


def read_cells(
    folder: Path, told: Mapping[str, Any], planned: Sequence[Key] | None
) -> tuple[list[Found], list[Problem]]:
    """The cells of a folder, and those that cannot be read and were planned."""
    meant = None if planned is None else {cell_name(key) for key in planned}
    kinds: dict[str, str] = told.get("prompt_kinds", {})
    found, problems = [], []
    for path in sorted((folder / "cells").glob("*.json")):
        if path.name.startswith("."):  # a part of one, left by a process that was killed
            continue
        try:
            found.append(_one(json.loads(path.read_text(encoding="utf-8")), kinds, path, planned is None))
        except BROKEN as error:
            if meant is None or path.stem in meant:
                problems.append(Problem(path.name, f"cannot be read: {type(error).__name__}: {error}"))
    return _once(found, problems), problems


def _once(found: Sequence[Found], problems: list[Problem]) -> list[Found]:
    """A cell each, that of its own name rather than a copy, which would count twice; copies become problems."""
    chosen: dict[Key, Found] = {}
    for one in sorted(found, key=lambda one: one.path.stem != cell_name(one.key)):
        if chosen.setdefault(one.key, one) is not one:
            problems.append(Problem(one.path.name, f"is a second file of a cell: {chosen[one.key].path.name} is shown"))
    return [one for one in found if chosen[one.key] is one]


def _one(values: Mapping[str, Any], kinds: Mapping[str, str], path: Path, unplanned: bool) -> Found:
    settings, made = values["settings"], values.get("provenance", {})
    result, config = _result(values, kinds), known_settings(settings["config"])
    shared = {
        "base model": config.model.name,
        "images for each prompt": result.images,
        "identifier in CLIP-T": bool(settings.get("identifier_in_clip_text")),
        "extra scores": sorted(settings.get("extra_scores", ())),
        **{f"encoder of {name}": settings.get(name) for name in ENCODERS},
    }
    if unplanned:  # else the plan says which prompts each subject is asked
        shared["prompts for each subject"] = len(result.prompts)
    of_method = other_than_default(config)
    if result.method == UNTOUCHED:
        of_method = {name: config.flat()[name] for name in _OF_SAMPLER}
    versions = {str(name): str(version) for name, version in made.get("versions", {}).items()}
    origin = Origin(
        str(made.get("date", "")), versions, str(made.get("model_hash", "")), str(made.get("config_hash", ""))
    )
    return Found(result, shared, of_method, path, origin)


def known_settings(settings: Mapping[str, Any]) -> Settings:
    """With the defaults of what was no setting yet, and without what is none any more."""
    return structure({name: value for name, value in settings.items() if name in FIELDS}, "a cell")


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
        gpu_memory=float(values.get("provenance", {}).get("gpu_memory") or 0.0),
        parameters=int(values.get("parameters", 0)),
        size=float(values.get("size", 0.0)),
        steps=int(settings["config"].get("run.steps", 0)),
        curves={name: [[float(x), float(y)] for x, y in rows] for name, rows in values.get("curves", {}).items()},
    )


def read_failures(folder: Path, found: Sequence[Found], planned: Sequence[Key] | None) -> list[Problem]:
    """Cells that were asked for, failed and were not finished later."""
    finished = {f.key for f in found}
    problems = []
    for path in sorted((folder / "failed").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            key = values["subject"], values["method"], values["seed"]
            if key in finished or (planned is not None and key not in planned):
                continue
            where = f"{values['subject']}, {values['method']}, seed {values['seed']}"
            problems.append(Problem(where, f"{values.get('error', '')}: {values.get('message', '')}"))
        except BROKEN:
            problems.append(Problem(path.stem, "failed; why cannot be read"))
    return problems
