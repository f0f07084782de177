"""Means, intervals and paired differences of a benchmark. Every interval has its own seed, so that each figure stands
for itself: what else is on the page does not change it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lookforward.report.data import Benchmark, Result
from lookforward.report.statistics import Interval, interval, paired_interval

SEED = 0
MINUS = "−"


class Difference(NamedTuple):
    """Method minus baseline on what both have done."""

    interval: Interval
    level: float  # the baseline's mean on the same pairs
    pairs: int

    @property
    def relative(self) -> float | None:
        """In shares of the baseline's mean; None where that is not positive."""
        return self.interval.mean / self.level if self.level > 0 else None


def estimate(results: Sequence[Result], score: str, kind: str | None = None) -> Interval | None:
    """Mean over subjects, each one's seeds and images averaged first, with its interval; None without a value."""
    found = [(r.subject, mean) for r in results if (mean := r.mean(score, kind)) is not None]
    if not found:
        return None
    groups, values = np.array([s for s, _ in found]), np.array([v for _, v in found])
    return interval(values, groups, np.random.default_rng(SEED))


def difference(
    benchmark: Benchmark,
    method: str,
    score: str,
    kind: str | None = None,
    group: str | None = None,
    baseline: str | None = None,
) -> Difference | None:
    """A method's difference from the baseline, the same subject and seed paired; None where there is no pair."""
    theirs = {(r.subject, r.seed): r.mean(score, kind) for r in benchmark.of(baseline or benchmark.baseline, group)}
    triples = [
        (r.subject, ours, base)
        for r in benchmark.of(method, group)
        if (ours := r.mean(score, kind)) is not None and (base := theirs.get((r.subject, r.seed))) is not None
    ]
    if not triples:
        return None
    groups = np.array([subject for subject, _, _ in triples])
    ours, base = np.array([t[1] for t in triples]), np.array([t[2] for t in triples])
    found = paired_interval(ours, base, groups, np.random.default_rng(SEED))
    level = interval(base, groups, np.random.default_rng(SEED), n=1).mean
    return Difference(found, level, len(triples))


def per_subject(results: Sequence[Result], subject: str, score: str) -> float | None:
    """Mean of one subject over seeds and images."""
    found = estimate([r for r in results if r.subject == subject], score)
    return None if found is None else found.mean


def ceiling(benchmark: Benchmark, score: str, group: str | None = None) -> float | None:
    """The best possible, weighed by how many subjects of the report are live; None where it is not known."""
    present = {r.subject for r in benchmark.results}
    groups = [benchmark.subjects[s].group for s in present if group in (None, benchmark.subjects[s].group)]
    values = [benchmark.ceiling.get(g, {}).get(score) for g in groups]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def best(benchmark: Benchmark, score: str, kind: str | None = None, group: str | None = None) -> str | None:
    """The method with the highest mean of those that did not optimise the score; None where the means are not of the
    same cells, or only one has it."""
    cells = [{(r.subject, r.seed) for r in benchmark.of(name, group)} for name in benchmark.methods]
    there = [keys for keys in cells if keys]
    if any(keys != there[0] for keys in there):
        return None
    means = {
        name: found.mean
        for name in benchmark.methods
        if not benchmark.mark(name, score) and (found := estimate(benchmark.of(name, group), score, kind))
    }
    return max(means, key=means.__getitem__) if len(means) > 1 else None


def plain(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}".replace("-", MINUS)


def with_interval(found: Interval | None) -> str:
    """0.612 ± 0.031; without the half width where there is one subject."""
    if found is None:
        return "–"
    half = found.half_width
    return plain(found.mean) if half != half else f"{plain(found.mean)} ± {half:.3f}"


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}%".replace("-", MINUS)


def told(found: Difference | None) -> str:
    """+0.042 [+0.023, +0.070], +5.3%."""
    if found is None:
        return "–"
    mean, low, high = found.interval
    bounds = "" if low != low else f" [{signed(low)}, {signed(high)}]"
    return signed(mean) + bounds + ("" if found.relative is None else f", {per_cent(found.relative)}")
