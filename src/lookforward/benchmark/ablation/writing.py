"""The cells of an ablation to a table, a sheet and a list of means."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Group

from lookforward.benchmark.ablation.learning import ablation_curves
from lookforward.benchmark.ablation.varied import Ablation, method_of
from lookforward.benchmark.datasets import reference_images
from lookforward.benchmark.grid import Cell, Plan, cell_images, spread_prompts
from lookforward.benchmark.summary import COSTS, optimised_of, summarise
from lookforward.config.recipe import load_settings
from lookforward.data.prompts import fill
from lookforward.files import write_text, writing
from lookforward.report import comparison_sheet, markdown_table, paired_interval, score_table

SHEET_PROMPTS = 8
WATER = "floating on top of water"  # the prompt of Figure 6


def write_ablation(cells: Sequence[Cell], plan: Plan, ablation: Ablation, folder: Path) -> tuple[Group, list[str]]:
    """Write table.md, sheet.png, curves.png and cells.csv; returns the table for the terminal and what it cannot say.

    Scores that a value's reward optimised are marked.
    """
    labels = {method_of(ablation, label): label for label in ablation.values}
    optimised = optimised_of(plan)
    rows = {
        labels[method]: {column: value for column, value in row.items() if column not in COSTS}
        for method, row in summarise(cells).items()
    }
    marks = {labels[method]: scores for method, scores in optimised.items()}
    said = _reward_differences(cells, ablation)
    write_text(folder / "table.md", markdown_table(rows, optimised=marks) + "".join(f"\n{line}\n" for line in said))
    write_text(folder / "cells.csv", _csv(cells, labels, optimised))
    sheet, figure = ablation_sheet(plan, ablation, folder), ablation_curves(cells, plan, ablation)
    with writing(folder):
        sheet.save(folder / "sheet.png")
        if figure is not None:
            figure.savefig(folder / "curves.png", dpi=110)
    return score_table(rows, optimised=marks), said


def _reward_differences(cells: Sequence[Cell], ablation: Ablation) -> list[str]:
    """Each value's reward against the baseline's over the last quarter, the same subject and seed paired."""
    if ablation.baseline not in ablation.values:
        return []
    rewards = {(c.subject, c.seed, c.method): c.terms["reward"] for c in cells if "reward" in c.terms}
    theirs = method_of(ablation, ablation.baseline)
    lines = []
    for label in ablation.values:
        ours = method_of(ablation, label)
        pairs = [k[:2] for k in rewards if k[2] == ours and (*k[:2], theirs) in rewards]
        if ours == theirs or not pairs:
            continue
        difference = paired_interval(
            np.array([rewards[(*pair, ours)] for pair in pairs]),
            np.array([rewards[(*pair, theirs)] for pair in pairs]),
            np.array([subject for subject, _ in pairs]),
        )
        sure = f"95% interval [{difference.low:+.4g}, {difference.high:+.4g}]"
        if math.isnan(difference.low):
            sure = "one subject, so no interval"
        lines.append(
            f"Reward over the last quarter of the run, {label} minus {ablation.baseline}: "
            f"{difference.mean:+.4g}, {sure}, {len(pairs)} pairs of one subject and seed."
        )
    return lines


def _csv(cells: Sequence[Cell], labels: Mapping[str, str], optimised: Mapping[str, Sequence[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["value", "subject", "seed", "score", "mean", "images", "optimised"])
    for cell in cells:
        for score, values in cell.scores.items():
            mean, marked = f"{np.mean(values):.6f}", "yes" if score in optimised[cell.method] else "no"
            writer.writerow([labels[cell.method], cell.subject, cell.seed, score, mean, len(values), marked])
    return file.getvalue()


def ablation_sheet(plan: Plan, ablation: Ablation, folder: Path) -> Image.Image:
    """One subject: a column for each value, a row for each of some prompts, the same noise along a row."""
    subject = ablation.shown if ablation.shown in plan.subjects else plan.subjects[0]
    seed, noun, prompts = plan.seeds[0], plan.subject(subject).class_noun, plan.prompts_of(subject)
    water = [p for p in prompts if p.endswith(WATER)]
    rows = (water + [p for p in spread_prompts(prompts, SHEET_PROMPTS) if p not in water])[:SHEET_PROMPTS]
    columns = {"references": reference_images(plan.subject(subject), folder / "photos", len(rows) + 1)}
    for label in ablation.values:
        images = cell_images(folder, subject, method_of(ablation, label), seed)[:: plan.images]
        columns[label] = [images[prompts.index(row)] for row in rows]
    return comparison_sheet(
        columns,
        [fill(row, load_settings(ablation.recipe, {}).subject.identifier, noun) for row in rows],
        note=f"{subject}, seed {seed}; a row is one prompt from the same noise.",
    )
