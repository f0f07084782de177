"""Intervals for the scores of a few subjects with many images each."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 20_000
FEW = 5  # subjects up to which the interval is Student's


class Interval(NamedTuple):
    """A mean with its 95% interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def known(self) -> bool:
        return math.isfinite(self.low)


def interval(
    values: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator | None = None, resamples: int = RESAMPLES
) -> Interval:
    """Mean and 95% interval by the cluster bootstrap (Davison and Hinkley, 1997, section 3.8).

    values: (k,). groups: (k,), the subject of each value; None if every value is its own. Images of one subject are
    alike, so subjects are resampled, and each subject's mean counts once. The percentiles are widened as in Hesterberg
    (2015, "What Teachers Should Know About the Bootstrap", section 4.3), as plain ones are too narrow for few subjects.
    Up to FEW subjects the interval is Student's, mean ± t s / √k: resamples of so few never leave the subjects' range
    and cover too little, 53% with two subjects and 76% with three (normal values). With one subject nothing is known
    about others: low and high are NaN. rng: seed 0 where None, so that the same values always have the same interval.
    Raises ValueError where there are no values, or not one group for each.
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if values.ndim != 1 or len(values) == 0 or groups.shape != values.shape:
        raise ValueError(f"an interval needs k > 0 values and a group for each, got {values.shape}, {groups.shape}")
    _, index = np.unique(groups, return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index)
    count, mean = len(means), float(means.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan)
    if count <= FEW:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1)) * float(means.std(ddof=1)) / math.sqrt(count)
        return Interval(mean, mean - half, mean + half)
    level = 1 - 2 * widened_tail(count)
    rng = rng or np.random.default_rng(0)
    found = stats.bootstrap(
        (means,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", rng=rng
    )
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def widened_tail(count: int) -> float:
    """Φ(−√(k/(k−1)) t_(k−1)), the share of resamples left out on each side; 0.025 as k → ∞ (Hesterberg, 2015)."""
    z, v = NormalDist().inv_cdf(0.5 + LEVEL / 2), count - 1
    # Student's quantile by Cornish and Fisher's expansion, as in all tables so far: within 0.2% from k = 6 on
    quantile = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
    return NormalDist().cdf(-math.sqrt(count / v) * quantile)
