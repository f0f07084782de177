"""The results of a grid as one tidy table for others, with a row for each image."""

import csv
import importlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lookforward.benchmark.cell import Cell, finished_cell
from lookforward.benchmark.methods import method_label
from lookforward.benchmark.plan import UNTOUCHED, Plan, prompt_kind
from lookforward.benchmark.provenance import PACKAGES, config_hash, other_than_default
from lookforward.benchmark.summary import optimised_of
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, write_text

SCORES = ("DINO", "CLIP-I", "CLIP-T", "identity", "oracle")  # columns that every table has, and in this order


def write_results(plan: Plan, folder: Path, model: str) -> tuple[str, ...]:
    """Write results.csv, and results.parquet where pyarrow is there; returns notes for the user.

    Raises:
        LookforwardError: they cannot be written.
    """
    cells = [cell for key in plan.cells() if (cell := finished_cell(plan, folder, key)) is not None]
    rows = list(tidy(plan, cells, model))
    if not rows:
        return ("No cell is finished, so there is no table.",)
    names = columns(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "results.csv", text.getvalue())
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        (folder / "results.parquet").unlink(missing_ok=True)  # of another call: it would say something else
        return ("results.parquet was not written: install pyarrow for it.",)
    try:
        with atomic_file(folder / "results.parquet", shared=True) as partial:
            parquet.write_table(arrow.table({name: [row.get(name) for row in rows] for name in names}), partial)
    except LookforwardError as error:
        return (f"results.parquet was not written: {error} results.csv has the same.",)
    return ()


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Of all rows, in the order in which they come first."""
    return list(dict.fromkeys(name for row in rows for name in row))


def tidy(plan: Plan, cells: Sequence[Cell], model: str) -> Iterator[dict[str, Any]]:
    """A row for each image, in the cells' order; what is of a whole cell stands in each of its rows."""
    optimised = optimised_of(plan)
    of_method = {name: settings_columns(plan, name) for name in plan.methods}
    further = dict.fromkeys(name for cell in cells for name in cell.scores if name not in SCORES)
    for cell in cells:
        subject, made = plan.subject(cell.subject), cell.provenance
        packages: dict[str, str] = made.get("versions", {})
        prompts, seeds = plan.prompts_of(cell.subject), plan.image_seeds(cell.subject, cell.seed)
        for i, image_seed in enumerate(seeds):
            template = prompts[i // plan.images]
            yield {
                "dataset": plan.dataset.name,
                "subject": cell.subject,
                "class_noun": subject.class_noun,
                "kind": subject.kind,
                "method": cell.method,
                **of_method[cell.method],
                "seed": cell.seed,
                "image": i,
                "image_seed": image_seed,
                "prompt": template,
                "prompt_kind": prompt_kind(template),
                **{name: cell.scores[name][i] if name in cell.scores else None for name in (*SCORES, *further)},
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
                "model_hash": made.get("model_hash", ""),
                "photos_hash": made.get("photos_hash", ""),
                "device": made.get("device", ""),
                "date": made.get("date", ""),
                **{f"{name}_version": packages.get(name, "") for name in ("python", *PACKAGES)},
            }


def settings_columns(plan: Plan, method: str) -> dict[str, Any]:
    """The columns that are of a method. settings: JSON of those that are not the defaults."""
    settings, known = plan.settings(method), method != UNTOUCHED
    return {
        "label": method_label(method),
        "recipe": Path(plan.methods[method][0]).name.removesuffix(".toml") if known else "",
        "adapter": settings.adapter.name if known else "",
        "reward": settings.objective.reward if known else "",
        "steps": settings.run.steps if known else 0,
        "sample_steps": settings.evaluation.sampler_steps,
        "guidance": settings.evaluation.guidance,
        "resolution": settings.data.resolution,
        "settings": json.dumps(other_than_default(settings), sort_keys=True) if known else "{}",
        "config_hash": config_hash(settings) if known else "",
    }
