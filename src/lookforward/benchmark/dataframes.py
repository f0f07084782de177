"""Cells as tables: one row per cell, one row per image, and the tidy table that others read."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lookforward.benchmark.cell import Cell
from lookforward.benchmark.optimised import optimised_of
from lookforward.benchmark.plan import UNTOUCHED, Plan, image_seed, prompt_kind
from lookforward.benchmark.provenance import PACKAGES
from lookforward.benchmark.recorded import known_settings, other_than_default, settings_hash
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, write_text
from lookforward.report.data import CELL, Benchmark, Method
from lookforward.scores import SCORES

_SCORES = [spec.label for spec in SCORES if not spec.on_request]  # columns that every exported table has
_COLUMNS = (
    "dataset", "subject", "class_noun", "kind", "method", "label", "recipe", "adapter", "reward", "steps",
    "sample_steps", "guidance", "resolution", "settings", "config_hash", "seed", "image", "image_seed", "prompt",
    "prompt_kind",
)  # fmt: skip


def cell_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell, with the columns that `Benchmark.cells` describes but the group."""
    rows = [
        {
            "subject": cell.subject,
            "method": cell.method,
            "seed": cell.seed,
            "count": int(cell.settings["images"]),
            "seconds": float(cell.seconds),
            "memory": float(cell.memory),
            "gpu_memory": float(cell.provenance.get("gpu_memory") or 0.0),
            "parameters": cell.parameters,
            "size": float(cell.size),
            "steps": known_settings(cell.settings["config"]).run.steps,
        }
        for cell in cells
    ]
    return pd.DataFrame(rows)


def curve_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per point of the cells' curves, with the columns that `Benchmark.curves` describes."""
    points = [
        (*cell.key, str(term), int(step), float(value))
        for cell in cells
        for term, curve in cell.curves.items()
        for step, value in curve
    ]
    return pd.DataFrame(points, columns=[*CELL, "term", "step", "value"])


def image_table(cells: Sequence[Cell], kinds: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per image, with the columns that `Benchmark.images` describes but the group; also image_seed.

    kinds: of prompts whose kind is recorded. Raises ValueError where a cell has not one score for each image.
    """
    parts = []
    for cell in cells:
        count, prompts = int(cell.settings["images"]), [str(p) for p in cell.settings["prompts"]]
        scores = {str(name): [float(x) for x in values] for name, values in cell.scores.items()}
        if any(len(values) != count * len(prompts) for values in scores.values()):
            raise ValueError(f"{len(prompts)} prompts of {count} images have another number of scores")
        asked = [prompt for prompt in prompts for _ in range(count)]
        named = {
            **dict(zip(CELL, cell.key, strict=True)),
            "image": range(len(asked)),
            "image_seed": [image_seed(cell.seed, i) for i in range(len(asked))],
            "prompt": asked,
            "prompt_kind": [(kinds or {}).get(prompt) or prompt_kind(prompt) for prompt in asked],
        }
        parts.append(pd.DataFrame(named | scores))
    return pd.concat(parts, ignore_index=True)


def benchmark_of(
    cells: Sequence[Cell],
    methods: Mapping[str, Method],
    subjects: Mapping[str, BenchmarkSubject],
    kinds: Mapping[str, str] | None = None,
    **details: Any,
) -> Benchmark:
    """Finished cells, at least one, as the report takes them. details: further fields of `Benchmark`."""
    groups = {name: subject.group for name, subject in subjects.items()}
    per_cell, per_image = (
        table.assign(group=table.subject.map(groups)) for table in (cell_table(cells), image_table(cells, kinds))
    )
    scores = tuple(dict.fromkeys(name for cell in cells for name in cell.scores))
    return Benchmark(methods, subjects, per_cell, per_image, curve_table(cells), scores, **details)


def planned_benchmark(plan: Plan, cells: Sequence[Cell], **details: Any) -> Benchmark:
    """The cells of a plan, for the tables of `benchmark`, `compare` and `ablate`."""
    optimised = optimised_of(plan)
    methods = {name: Method(name, plan.label(name), optimised[name]) for name in plan.methods}
    subjects = {name: plan.subject(name) for name in plan.subjects}
    return benchmark_of(cells, methods, subjects, plan.kinds, planned=tuple(plan.cells()), **details)


def method_columns(plan: Plan, method: str) -> dict[str, Any]:
    """The columns that depend on the method alone. settings: those that are not the defaults."""
    settings, trained = plan.settings(method), method != UNTOUCHED
    return {
        "label": plan.label(method),
        "recipe": Path(plan.methods[method][0]).name.removesuffix(".toml") if trained else "",
        "adapter": settings.adapter.name if trained else "",
        "reward": settings.objective.reward if trained else "",
        "steps": settings.run.steps if trained else 0,
        "sample_steps": settings.evaluation.sampler_steps,
        "guidance": settings.evaluation.guidance,
        "resolution": settings.data.resolution,
        "settings": other_than_default(settings) if trained else {},
        "config_hash": settings_hash(settings) if trained else "",
    }


def tidy_table(plan: Plan, cells: Sequence[Cell], model: str) -> pd.DataFrame:
    """One row per image; values of a whole cell repeat in each of its rows."""
    methods = {name: method_columns(plan, name) for name in plan.methods}
    optimised = optimised_of(plan)
    rows = []
    for cell in cells:
        subject, made = plan.subject(cell.subject), cell.provenance
        method = methods[cell.method]
        rows.append({
            **dict(zip(CELL, cell.key, strict=True)),
            "dataset": plan.dataset.name,
            "class_noun": subject.class_noun,
            "kind": subject.kind,
            **method,
            "settings": json.dumps(method["settings"], sort_keys=True),
            "optimised": ";".join(optimised[cell.method]),
            "identifier_in_clip_text": plan.scoring.identifier_in_clip_text,
            "dino": plan.scoring.dino or "",
            "clip": plan.scoring.clip or "",
            "seconds": cell.seconds,
            "seconds_in_all": made.get("seconds"),
            "memory_mib": cell.memory,
            "gpu_memory_mib": made.get("gpu_memory"),
            "parameters": cell.parameters,
            "file_mib": cell.size,
            "model": model,
            **{name: made.get(name, "") for name in ("model_hash", "photos_hash", "device", "date")},
            **{f"{name}_version": made.get("versions", {}).get(name, "") for name in ("python", *PACKAGES)},
        })  # fmt: skip
    table = image_table(cells, plan.kinds).merge(pd.DataFrame(rows), on=CELL, how="left")
    scores = [*_SCORES, *dict.fromkeys(n for cell in cells for n in cell.scores if n not in _SCORES)]
    rest = [name for name in rows[0] if name not in _COLUMNS]
    return table.reindex(columns=[*_COLUMNS, *scores, *rest])


def write_results(plan: Plan, cells: Sequence[Cell], folder: Path, model: str) -> tuple[str, ...]:
    """Write results.csv, and results.parquet if pyarrow is installed; returns notes for the user.

    Raises:
        LookforwardError: they cannot be written.
    """
    if not cells:
        return ("No cell is finished, so there is no table.",)
    table = tidy_table(plan, cells, model)
    write_text(folder / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    if importlib.util.find_spec("pyarrow") is None:
        (folder / "results.parquet").unlink(missing_ok=True)  # an earlier call's would contradict the CSV
        return ("results.parquet was not written: install pyarrow for it.",)
    try:
        with atomic_file(folder / "results.parquet", shared=True) as partial:
            table.to_parquet(partial, index=False)
    except LookforwardError as error:
        return (f"results.parquet was not written: {error} results.csv has the same.",)
    return ()
