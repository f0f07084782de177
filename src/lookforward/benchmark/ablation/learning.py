"""How the critics of an ablation learned, as Figure 5 of the paper."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lookforward.benchmark.ablation.varied import Ablation, method_of
from lookforward.benchmark.grid import Cell, Plan
from lookforward.recipe import load_config
from lookforward.report.curves import Line, curves

_LOSS = "critic loss"
_EXPLAINED = "explained variance"


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
