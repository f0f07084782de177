"""One figure of Toybox's models: what was reached, how well that is known, and the goal."""

from dataclasses import dataclass

import numpy as np

from lookforward.report import interval


@dataclass(frozen=True)
class Figure:
    """margin: half width of the 95% interval of `reached`; None where there is only one subject."""

    name: str
    goal: float | None
    reached: float
    margin: float | None
    unit: str = ""


def figure_of(
    name: str, values: np.ndarray, groups: np.ndarray | None = None, goal: float | None = None, unit: str = ""
) -> Figure:
    """The mean of `values` (k,) with its interval over `groups` (k,), or over the values where None.

    Values that are not there, NaN, are left out.
    """
    values = np.asarray(values, dtype=np.float64)
    there = np.isfinite(values)
    mean, low, high = interval(values[there], None if groups is None else np.asarray(groups)[there])
    margin = (high - low) / 2
    return Figure(name, goal, mean, margin if np.isfinite(margin) else None, unit)
