"""Intervals for scores of a few subjects with many images each."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_NORMAL = NormalDist()
_LEVEL = 0.95
# Student's 97.5 % quantile for one degree of freedom less than subjects. Resamples of so few never leave the range of
# the subjects, and so cover too little: 53 % of two, 76 % of three (normal values), where this covers 95 %.
_STUDENT = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764}


class Interval(NamedTuple):
    """A mean with its 95 % interval, all in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def interval(
    values: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator | None = None, n: int = 20_000
) -> Interval:
    """Mean and 95 % interval by the cluster bootstrap (Davison and Hinkley, 1997, section 3.8).

    `values` (k,); `groups` (k,), the subject of each value, or None where every value is its own.
    Images of one subject are alike, so that subjects are resampled, n times, and each subject's mean
    counts once. The percentiles are those of Hesterberg (2015, "What Teachers Should Know About the
    Bootstrap", section 4.3): widened, since plain ones are too narrow for the handful of subjects there is.
    Of two to five subjects the interval is Student's, mean ± t s / √k, which takes them for normally distributed.
    With one subject nothing is known about others: low and high are NaN.
    Chance is of `rng`, or where it is None the same for every call, so that the same values have the same interval.
    Raises ValueError where there are no values, or not one group for each.
    """
    values = np.asarray(values, dtype=np.float64)
    means = _group_means(values, np.arange(len(values)) if groups is None else np.asarray(groups))
    if len(means) < 2:
        return Interval(float(means.mean()), math.nan, math.nan)
    if len(means) in _STUDENT:
        half = _STUDENT[len(means)] * float(means.std(ddof=1)) / math.sqrt(len(means))
        return Interval(float(means.mean()), float(means.mean()) - half, float(means.mean()) + half)
    rng = rng or np.random.default_rng(0)
    resampled = means[rng.integers(len(means), size=(n, len(means)))].mean(axis=1)
    tail = _widened_tail(len(means))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(means.mean()), float(low), float(high))


def paired_interval(
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.Generator | None = None,
    n: int = 20_000,
) -> Interval:
    """The same for the difference a − b of two methods on the same subjects, prompts and seeds, in order.

    Much narrower than the two intervals apart, as what is hard for one method is hard for the other.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need as many values on both sides, got {a.shape} and {b.shape}")
    return interval(a - b, groups, rng, n)


def _group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    if values.ndim != 1 or len(values) == 0 or groups.shape != values.shape:
        raise ValueError(
            f"an interval needs values (k,), k > 0, and a group for each, got {values.shape}, {groups.shape}"
        )
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=values) / np.bincount(index)


def _widened_tail(count: int) -> float:
    """Φ(−√(k/(k−1)) t_(k−1)), Hesterberg's share of resamples left out on each side (0.025 as k → ∞)."""
    z = _NORMAL.inv_cdf(0.5 + _LEVEL / 2)
    v = count - 1
    # Student's quantile, by the expansion of Cornish and Fisher; within 0.2 % from k = 6 on.
    t = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
    return _NORMAL.cdf(-math.sqrt(count / v) * t)
