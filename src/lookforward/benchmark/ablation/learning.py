"""How the critics of an ablation learned, as Figure 5 of the paper."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lookforward.benchmark.ablation.varied import Ablation, method_of
from lookforward.benchmark.grid import Cell, Plan
from lookforward.config.recipe import load_settings
from lookforward.report.curves import Line, curves

_LOSS = "critic loss"
_EXPLAINED = "explained variance"


def ablation_curves(cells: Sequence[Cell], plan: Plan, ablation: Ablation) -> Figure | None:
    """Figure 5: critic loss, explained variance and reward against the step; None where nothing was logged of them.

    A line is the mean over subjects of the mean over seeds, its band the standard error over subjects; one subject
    has no band. Rewards of different kinds have a panel each.
    """
    rewards = {load_settings(recipe, overrides).objective.reward for recipe, overrides in plan.methods.values()}
    panels: dict[str, dict[str, Line]] = {}
    bands: dict[str, dict[str, Line]] = {}
    for label in ablation.values:
        of_value = [cell for cell in cells if cell.method == method_of(ablation, label)]
        reward = "reward" if len(rewards) == 1 else f"reward {label}"
        for term, title in {"critic_loss": _LOSS, "explained_variance": _EXPLAINED, "reward": reward}.items():
            points: dict[float, dict[str, list[float]]] = {}
            for cell in of_value:
                for step, value in cell.curves.get(term, []):
                    points.setdefault(step, {}).setdefault(cell.subject, []).append(value)
            if points:
                steps = sorted(points)
                mean, error = np.array([mean_and_error(points[s]) for s in steps]).T
                panels.setdefault(title, {})[label] = (steps, mean.tolist())
                if not np.isnan(error).any():
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
        note=f"{ablation.name}: mean over {len(plan.subjects)} subjects × {len(plan.seeds)} seeds"
        + (" ± standard error over subjects" if bands else ""),
    )


def mean_and_error(values: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Mean over subjects of each one's mean over seeds, and its standard error; NaN of one subject.

    Seeds of one subject are not independent of each other, so that they do not count as more subjects.
    """
    means = [float(np.mean(of_subject)) for of_subject in values.values()]
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return float(np.mean(means)), error
