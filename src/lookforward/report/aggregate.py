"""Means, intervals and paired differences of a benchmark, and how they are written."""

from typing import NamedTuple

import pandas as pd

from lookforward.report.data import Benchmark
from lookforward.report.statistics import Interval, interval

MINUS = "−"


class Difference(NamedTuple):
    """Method minus baseline on what both have done."""

    interval: Interval
    level: float  # the baseline's mean on the same pairs
    pairs: int

    @property
    def relative(self) -> float | None:
        """As a share of the baseline's mean; None if that is not positive."""
        return self.interval.mean / self.level if self.level > 0 else None


def cell_means(images: pd.DataFrame, score: str) -> pd.Series:
    """The mean of a score over each cell's images, by (subject, seed); cells without the score are left out."""
    if score not in images:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["subject", "seed"]))
    return images.groupby(["subject", "seed"], sort=True)[score].mean().dropna()


def over_subjects(means: pd.Series) -> Interval:
    """Mean over subjects of values by (subject, seed), each subject's seeds averaged first, with its interval."""
    return interval(means.to_numpy(), means.index.get_level_values("subject").to_numpy())


def estimate(images: pd.DataFrame, score: str) -> Interval | None:
    """Mean of a score over subjects, with its interval; None without a value."""
    means = cell_means(images, score)
    return None if means.empty else over_subjects(means)


def paired(
    benchmark: Benchmark,
    method: str,
    score: str,
    kind: str | None = None,
    group: str | None = None,
    baseline: str | None = None,
) -> pd.DataFrame | None:
    """The means of both in each cell that both have, as columns ours and base; None if there is no pair."""
    sides = {"ours": method, "base": baseline or benchmark.baseline}
    means = {side: cell_means(benchmark.images_of(name, kind, group), score) for side, name in sides.items()}
    pairs = pd.DataFrame(means).dropna()
    return None if pairs.empty else pairs


def difference(
    benchmark: Benchmark,
    method: str,
    score: str,
    kind: str | None = None,
    group: str | None = None,
    baseline: str | None = None,
) -> Difference | None:
    """A method's difference from the baseline, paired by subject and seed; None if there is no pair."""
    pairs = paired(benchmark, method, score, kind, group, baseline)
    if pairs is None:
        return None
    level = float(pairs.base.groupby("subject").mean().mean())
    return Difference(over_subjects(pairs.ours - pairs.base), level, len(pairs))


def ceiling(benchmark: Benchmark, score: str, group: str | None = None) -> float | None:
    """What other images of the subjects reach, each subject of the report weighed alike; None if it is not known."""
    groups = benchmark.cells.drop_duplicates("subject").group
    values = [benchmark.ceiling.get(g, {}).get(score) for g in groups if group in (None, g)]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def best(benchmark: Benchmark, score: str, kind: str | None = None, group: str | None = None) -> str | None:
    """The method with the highest mean of those that did not optimise the score; None if only one has it, or if the
    methods have different cells, so that their means cannot be compared."""
    images = {name: benchmark.images_of(name, kind, group) for name in benchmark.methods}
    cells = {frozenset(zip(i.subject, i.seed, strict=True)) for i in images.values() if len(i)}
    means = {
        name: found.mean
        for name, of_method in images.items()
        if not benchmark.mark(name, score) and (found := estimate(of_method, score))
    }
    return max(means, key=means.__getitem__) if len(means) > 1 and len(cells) == 1 else None


def plain(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}".replace("-", MINUS)


def with_half_width(found: Interval | None) -> str:
    """0.612 ± 0.031; of one subject without the half width."""
    if found is None:
        return "–"
    return f"{plain(found.mean)} ± {found.half_width:.3f}" if found.known else plain(found.mean)


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def percent(share: float | None, unit: str = "%") -> str:
    return "–" if share is None else f"{100 * share:+.1f}{unit}".replace("-", MINUS)


def with_bounds(found: Difference | None) -> str:
    """+0.042 [+0.023, +0.070], +5.3%."""
    if found is None:
        return "–"
    mean, low, high = found.interval
    bounds = f" [{signed(low)}, {signed(high)}]" if found.interval.known else ""
    return signed(mean) + bounds + ("" if found.relative is None else f", {percent(found.relative)}")
