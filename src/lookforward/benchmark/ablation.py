"""One thing varied over one recipe on Toybox: Tables 4 and 5 and Figures 5 and 6 of the paper, and more.

The paper varies γ on one clock and λ of the DINO reward on one toy, a robot; here each is varied on all ten
development subjects. Toybox's clock is a test subject, and its robot is toy-1.
"""

import csv
import io
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table

from lookforward.benchmark.grid import Cell, Plan, cell_images, spread_prompts
from lookforward.benchmark.summary import COSTS, optimised_of, summarise
from lookforward.config import load_config
from lookforward.errors import LookforwardError
from lookforward.prompts import fill
from lookforward.report import comparison_sheet, markdown_table, paired_interval, score_table
from lookforward.report.curves import Line, curves
from lookforward.run import write_text
from lookforward.toybox.subjects import find_subject, reference_photos

Overrides = Mapping[str, Any]
SHEET_PROMPTS = 8
WATER = "floating on top of water"  # the prompt of Figure 6


@dataclass(frozen=True)
class Ablation:
    """What is varied over one recipe.

    varies: in a few words. recipe: the base. values: label to overrides. common: settings that all values share.
    number: the setting that all values set, where it is a number, and symbol what labels call it; empty otherwise.
    baseline: the label that the others' reward is compared with, where all have the same reward; empty for none.
    shown: the subject on the sheet, where it is among those asked for.
    """

    name: str
    varies: str
    recipe: str
    values: Mapping[str, Overrides]
    common: Overrides
    number: str = ""
    symbol: str = ""
    baseline: str = ""
    shown: str = ""


def _numeric(
    name: str, varies: str, recipe: str, number: str, symbol: str, values: Sequence[float], shown: str = ""
) -> Ablation:
    labels = {_label(symbol, value): {number: value} for value in values}
    return Ablation(name, varies, recipe, labels, {}, number, symbol, shown=shown)


def _label(symbol: str, value: float) -> str:
    return f"{symbol} = {value:.10g}"


# Returns on one scale, so that λ means the same whatever they are sums of
_SCALED = {"critic_bins": 20, "critic_weight": 0.1}
_ADAM = {"critic_optimizer": "adam", "critic_learning_rate": 1e-3}
_IS_BRIGHT = "lookforward.examples.rewards:is_bright"

ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        _numeric(
            "discount", "the discount γ (Table 4)", "look-forward", "discount", "γ", (1.0, 0.9986, 0.99, 0.9)
        ),
        _numeric(
            "critic-weight", "the weight λ of the DINO reward's critic (Table 5, Figure 6)", "dino", "critic_weight",
            "λ", (0.1, 0.3, 1.0, 3.0, 10.0), shown="toy-1",
        ),
        Ablation(
            "target", "the critic's target (Eqs. 4 and 9), where later states follow from the action", "look-forward",
            {kind: {"target": kind} for kind in ("one-step", "monte-carlo", "bootstrap")},
            {**_SCALED, "transition": "policy"},
        ),
        Ablation(
            "transition", "where an action leads, with the target of Eq. 9", "look-forward",
            {kind: {"transition": kind} for kind in ("reference", "policy")},
            {**_SCALED, "target": "bootstrap"},
        ),
        Ablation(
            "critic", "what the critic sees", "dino",
            {kind: {"critic": kind} for kind in ("residual", "state-action")},
            _ADAM,
        ),
        Ablation(
            "reward", "the reward, all else alike", "look-forward+dino",
            {reward: {"reward": reward} for reward in (
                "look-forward", "dino", "look-forward + dino", "look-forward + clip-text",
            )},
            {},
        ),
        _numeric(
            "scale", "in how many ranges of timesteps returns are brought to one scale; 0: as they are",
            "look-forward+dino", "critic_bins", "bins", (0, 20),
        ),
        Ablation(
            "frozen", "whether the critic learns, of a reward without a gradient (section 3.4)", "look-forward",
            {"critic learns": {"critic_steps": 4}, "critic never learns": {"critic_steps": 0}},
            {"reward": _IS_BRIGHT, "critic": "state-action", "critic_bins": 1, "critic_weight": 0.3, **_ADAM},
            baseline="critic never learns",
        ),
    )
}  # fmt: skip


def find_ablation(name: str) -> Ablation:
    """An ablation by name.

    Raises:
        LookforwardError: there is none of that name; it lists those there are.
    """
    if name not in ABLATIONS:
        width = max(map(len, ABLATIONS))
        there = "".join(f"\n  {a.name:{width}}  {a.varies}" for a in ABLATIONS.values())
        raise LookforwardError(f"There is no ablation {name!r}. There are:{there}")
    return ABLATIONS[name]


def with_values(ablation: Ablation, words: Sequence[str]) -> Ablation:
    """The same with other numbers, as they were written; without any, as it is.

    Raises:
        LookforwardError: it does not vary a number, or a word is none.
    """
    if not words:
        return ablation
    if not ablation.number:
        numeric = ", ".join(a.name for a in ABLATIONS.values() if a.number)
        raise LookforwardError(
            f"--values is for ablations of a number ({numeric}); {ablation.name} has {', '.join(ablation.values)}."
        )
    numbers = [_number(word, ablation) for word in words]
    return replace(ablation, values={_label(ablation.symbol, n): {ablation.number: n} for n in numbers})


def _number(word: str, ablation: Ablation) -> float:
    try:
        value = tomllib.loads(f"x = {word}")["x"]
    except tomllib.TOMLDecodeError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LookforwardError(f"--values {word}: {ablation.symbol} of {ablation.name} is a number, such as 0.5.")
    return value


def method_of(ablation: Ablation, label: str) -> str:
    """The name of a value's cells: what a file may be called."""
    words = label.removeprefix(f"{ablation.symbol} = ").replace(" + ", "+").replace(" ", "-")
    return f"{ablation.name}-{re.sub(r'[^A-Za-z0-9.+-]', '', words)}"


def plan_ablation(
    ablation: Ablation,
    subjects: Sequence[str],
    seeds: Sequence[int],
    overrides: Overrides,
    *,
    images: int = 1,
    count: int | None = None,
) -> Plan:
    """The grid of an ablation. overrides: over the recipe and what all values share. count: of prompts.

    Raises:
        LookforwardError: a setting is wrong, or `overrides` set what is varied.
    """
    methods = {}
    for label, values in ablation.values.items():
        both = sorted(values.keys() & overrides.keys())
        if both:
            raise LookforwardError(f"--set {', '.join(both)}: that is what {ablation.name} varies; leave it out.")
        settings = {**ablation.common, **overrides, **values}
        load_config(ablation.recipe, settings)
        methods[method_of(ablation, label)] = (ablation.recipe, settings)
    return Plan(tuple(subjects), methods, tuple(seeds), None, images, count)


def write_ablation(cells: Sequence[Cell], plan: Plan, ablation: Ablation, folder: Path) -> tuple[Table, list[str]]:
    """Write table.md, sheet.png, curves.png and cells.csv; returns the table for the terminal and what it cannot say.

    Scores that a value's reward optimised are marked.
    """
    rng = np.random.default_rng(0)
    labels = {method_of(ablation, label): label for label in ablation.values}
    optimised = optimised_of(plan)
    rows = {
        labels[method]: {column: value for column, value in row.items() if column not in COSTS}
        for method, row in summarise(cells, rng).items()
    }
    marks = {labels[method]: scores for method, scores in optimised.items()}
    said = _reward_differences(cells, ablation, rng)
    write_text(folder / "table.md", markdown_table(rows, optimised=marks) + "".join(f"\n{line}\n" for line in said))
    write_text(folder / "cells.csv", _csv(cells, labels, optimised))
    ablation_sheet(plan, ablation, folder).save(folder / "sheet.png")
    figure = ablation_curves(cells, plan, ablation)
    if figure is not None:
        figure.savefig(folder / "curves.png", dpi=110)
    return score_table(rows, optimised=marks), said


def _reward_differences(cells: Sequence[Cell], ablation: Ablation, rng: np.random.Generator) -> list[str]:
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
            rng,
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
    seed, noun, prompts = plan.seeds[0], find_subject(subject).class_noun, plan.prompts_of(subject)
    water = [p for p in prompts if p.endswith(WATER)]
    rows = (water + [p for p in spread_prompts(prompts, SHEET_PROMPTS) if p not in water])[:SHEET_PROMPTS]
    columns = {"references": list(reference_photos(subject)[: len(rows) + 1])}
    for label in ablation.values:
        images = cell_images(folder, subject, method_of(ablation, label), seed)[:: plan.images]
        columns[label] = [images[prompts.index(row)] for row in rows]
    return comparison_sheet(
        columns,
        [fill(row, load_config(ablation.recipe, {}).identifier, noun) for row in rows],
        note=f"{subject}, seed {seed}; a row is one prompt from the same noise.",
    )


def ablation_curves(cells: Sequence[Cell], plan: Plan, ablation: Ablation) -> Figure | None:
    """Figure 5: critic loss, explained variance and reward against the step; None where nothing was logged of them.

    A line is the mean over subjects and seeds, its band the standard error. Rewards of different kinds have a panel
    each.
    """
    rewards = {load_config(recipe, overrides).reward for recipe, overrides in plan.methods.values()}
    panels: dict[str, dict[str, Line]] = {}
    bands: dict[str, dict[str, Line]] = {}
    for label in ablation.values:
        of_value = [cell for cell in cells if cell.method == method_of(ablation, label)]
        reward = "reward" if len(rewards) == 1 else f"reward {label}"
        for term, title in {"critic_loss": _LOSS, "explained_variance": _EXPLAINED, "reward": reward}.items():
            points: dict[float, list[float]] = {}
            for cell in of_value:
                for step, value in cell.curves.get(term, []):
                    points.setdefault(step, []).append(value)
            if points:
                steps = sorted(points)
                mean = np.array([np.mean(points[s]) for s in steps])
                error = np.array([np.std(points[s]) / math.sqrt(len(points[s])) for s in steps])
                panels.setdefault(title, {})[label] = (steps, mean.tolist())
                bands.setdefault(title, {})[label] = ((mean - error).tolist(), (mean + error).tolist())
    if not panels:
        return None
    lowest = min((y for _, ys in panels.get(_EXPLAINED, {}).values() for y in ys), default=0.0)
    return curves(
        dict(sorted(panels.items(), key=lambda panel: panel[0].startswith("reward"))),
        "step",
        bands=bands,
        logarithmic=(_LOSS,),
        limits={_EXPLAINED: (max(-1.0, min(0.0, lowest)) - 0.05, 1.05)},
        note=f"{ablation.name}: mean over {len(plan.subjects)} subjects × {len(plan.seeds)} seeds ± standard error",
    )


_LOSS = "critic loss"
_EXPLAINED = "explained variance"
