"""One figure of Toybox's models: what was reached, how well that is known, and the goal."""

import math
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

    Of answers that are right or wrong, each its own group, the interval is Wilson's (1927), which knows that all right
    of a few is not certainty; of others `interval`'s.
    """
    values = np.asarray(values, dtype=np.float64)
    if groups is None and np.isin(values, (0.0, 1.0)).all():
        return Figure(name, goal, float(values.mean()), _wilson(float(values.mean()), len(values)), unit)
    mean, low, high = interval(values, groups)
    margin = (high - low) / 2
    return Figure(name, goal, mean, margin if math.isfinite(margin) else None, unit)


def _wilson(share: float, count: int, z: float = 1.96) -> float:
    """Half width of the interval."""
    return z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
