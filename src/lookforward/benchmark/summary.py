"""Cells to tables and sheets: means and intervals over subjects and seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Group

from lookforward.assembly.evaluators import encoder_sources, scores_trained_on
from lookforward.benchmark.datasets import reference_images
from lookforward.benchmark.grid import UNTOUCHED, Cell, Plan, cell_images
from lookforward.benchmark.methods import method_label
from lookforward.benchmark.plan import Scoring
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.data.prompts import fill
from lookforward.files import write_text, writing
from lookforward.report import comparison_sheet, interval, markdown_table, paired_interval, score_table
from lookforward.rewards.terms import parse_terms
from lookforward.scores import SCORES

COSTS = ("memory, MiB", "parameters, k", "file, MiB")  # alike in all values of an ablation


def optimised_scores(settings: Settings, scoring: Scoring | None = None) -> tuple[str, ...]:
    """The scores whose very encoder the run's reward asked, so that they are no evidence for it.

    Reward and score of one name count as that, too, where the score's encoder was exchanged.
    """
    if not settings.follows_reward:
        return ()
    chosen = scoring or Scoring()
    sources = encoder_sources(settings.model.name, dino=chosen.dino, clip=chosen.clip, dinov2=chosen.dinov2)
    rewards = [name for weight, name in parse_terms(settings.objective.reward) if weight]
    return scores_trained_on(rewards, sources, chosen.extra)


def optimised_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Method to the scores that it optimised, of every method and among the scores of the plan."""
    absent = {spec.label for spec in SCORES if spec.on_request and spec.name not in plan.scoring.extra}
    optimised: dict[str, tuple[str, ...]] = {}
    for method, (recipe, overrides) in plan.methods.items():
        scores = () if method == UNTOUCHED else optimised_scores(load_settings(recipe, overrides), plan.scoring)
        optimised[method] = tuple(score for score in scores if score not in absent)
    return optimised


def summarise(cells: Sequence[Cell]) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Method to column to (mean, half width of the 95% interval over subjects)."""
    rows: dict[str, dict[str, tuple[float, float | None]]] = {}
    for method in dict.fromkeys(cell.method for cell in cells):
        chosen = [cell for cell in cells if cell.method == method]
        groups = np.array([cell.subject for cell in chosen])
        row: dict[str, tuple[float, float | None]] = {}
        for score in chosen[0].scores:
            values = np.array([np.mean(cell.scores[score]) for cell in chosen])
            mean, low, high = interval(values, groups)
            row[score] = (mean, (high - low) / 2)
        explained = [c.terms["explained_variance"] for c in chosen if "explained_variance" in c.terms]
        if explained:  # of the critic, over the last quarter of the steps
            row["explained variance"] = (float(np.mean(explained)), None)
        row["seconds"] = (float(np.median([cell.seconds for cell in chosen])), None)
        row["memory, MiB"] = (max(cell.memory for cell in chosen), None)
        if any(cell.parameters for cell in cells):
            row["parameters, k"] = (max(cell.parameters for cell in chosen) / 1e3, None)
            row["file, MiB"] = (max(cell.size for cell in chosen), None)
        rows[method] = row
    return rows


def same_cells(cells: Sequence[Cell]) -> bool:
    """Whether every method has the same subjects and seeds, so that their means may be compared."""
    of_method: dict[str, set[tuple[str, int]]] = {}
    for cell in cells:
        of_method.setdefault(cell.method, set()).add((cell.subject, cell.seed))
    return len({frozenset(keys) for keys in of_method.values()}) <= 1


def differences(cells: Sequence[Cell], baseline: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Method to score to (mean, low, high) of its difference from the baseline, the same subject and seed paired."""
    by_key = {(cell.subject, cell.method, cell.seed): cell for cell in cells}
    table: dict[str, dict[str, tuple[float, float, float]]] = {}
    for method in dict.fromkeys(cell.method for cell in cells if cell.method != baseline):
        keys = [k for k in by_key if k[1] == method and (k[0], baseline, k[2]) in by_key]
        if not keys:
            continue
        groups = np.array([k[0] for k in keys])
        row = {}
        for score in by_key[keys[0]].scores:
            ours = np.array([np.mean(by_key[k].scores[score]) for k in keys])
            theirs = np.array([np.mean(by_key[k[0], baseline, k[2]].scores[score]) for k in keys])
            mean, low, high = paired_interval(ours, theirs, groups)
            row[score] = (mean, low, high)
        table[method] = row
    return table


def write_summary(cells: Sequence[Cell], plan: Plan, folder: Path) -> Group:
    """Write `table.md` and `sheet.png` into `folder`; returns the table for the terminal.

    A score that a method's reward optimised is marked.
    """
    rows = {method_label(m): row for m, row in summarise(cells).items()}
    optimised = optimised_of(plan)
    marks = {method_label(m): scores for m, scores in optimised.items()}
    text = markdown_table(rows, optimised=marks)
    if len(plan.subjects) > 1:
        for method, row in differences(cells, "dreambooth").items():
            told = ", ".join(
                f"{name}{' †' if name in optimised[method] else ''} {d:+.3f} [{low:+.3f}, {high:+.3f}]"
                for name, (d, low, high) in row.items()
            )
            text += f"\n{method_label(method)} against DreamBooth: {told}\n"
    write_text(folder / "table.md", text)
    sheet = _sheet(plan, folder)
    with writing(folder):
        sheet.save(folder / "sheet.png")
    return score_table(rows, optimised=marks)


def _identifier(plan: Plan) -> str:
    """What all methods call the subject beside its class noun; empty where they differ."""
    configs = [load_settings(recipe, given) for name, (recipe, given) in plan.methods.items() if name != UNTOUCHED]
    called = {settings.subject.identifier if settings.subject.noun_in_prompt else "" for settings in configs}
    return called.pop() if len(called) == 1 else ""


def _sheet(plan: Plan, folder: Path) -> Image.Image:
    """References and every method on the same prompts and seeds: all prompts of one subject, or one of each."""
    seed, called, photos = plan.seeds[0], _identifier(plan), folder / "photos"
    if len(plan.subjects) == 1:
        subject = plan.subjects[0]
        prompts, noun = plan.prompts_of(subject), plan.subject(subject).class_noun
        columns = {"references": reference_images(plan.subject(subject), photos, len(prompts) + 1)}
        for method in plan.methods:
            columns[method_label(method)] = list(cell_images(folder, subject, method, seed)[:: plan.images])
        rows = [fill(p, called, noun) for p in prompts]
        return comparison_sheet(columns, rows, note=f"{subject}, seed {seed}; every method from the same noise.")
    columns = {"reference": [reference_images(plan.subject(name), photos, 1)[0] for name in plan.subjects]}
    rows = []
    for i, subject in enumerate(plan.subjects):
        prompts = plan.prompts_of(subject)
        at = i % len(prompts)
        rows.append(fill(prompts[at], called, plan.subject(subject).class_noun))
        for method in plan.methods:
            image = cell_images(folder, subject, method, seed)[at * plan.images]
            columns.setdefault(method_label(method), []).append(image)
    return comparison_sheet(
        columns, rows, note=f"Prompts in turn, not picked; seed {seed}, every method from the same noise."
    )
