"""What a study found: shares with intervals, agreement, and strengths of several methods."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookforward.report.statistics import LEVEL, Interval

RESAMPLES = 2000
OUTCOMES = ("first", "second", "similar")


@dataclass(frozen=True)
class Answers:
    """Answers to one question about pairs of two methods.

    rater, pair: (n,) ids. outcome: (n,) indices into OUTCOMES.
    """

    rater: np.ndarray
    pair: np.ndarray
    outcome: np.ndarray

    def counts(self) -> np.ndarray:
        """Number of answers by rater, pair and outcome: (raters, pairs, 3)."""
        raters, r = np.unique(self.rater, return_inverse=True)
        pairs, p = np.unique(self.pair, return_inverse=True)
        table = np.zeros((len(raters), len(pairs), len(OUTCOMES)))
        np.add.at(table, (r, p, self.outcome), 1)
        return table


def shares(answers: Answers, rng: np.random.Generator, resamples: int = RESAMPLES) -> list[Interval]:
    """The share of each of OUTCOMES with its 95% percentile interval.

    Raters and pairs are both resampled (the two-way bootstrap of Owen, 2007, "The pigeonhole bootstrap"): other people
    would answer differently, and about other images. The limits are NaN where there is one pair, or one rater only.
    """
    table = answers.counts()
    raters, pairs, _ = table.shape
    means = table.sum(axis=(0, 1)) / table.sum()
    if raters < 2 or pairs < 2:
        return [Interval(float(mean), np.nan, np.nan) for mean in means]
    drawn = _resampled(table, rng, resamples)
    total = drawn.sum(axis=-1, keepdims=True)
    low, high = np.nanquantile(drawn / np.where(total > 0, total, np.nan), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(means, low, high, strict=True)]


def _resampled(table: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Sums of outcomes over resampled raters and pairs: (resamples, outcomes)."""
    raters, pairs, _ = table.shape
    of_raters = rng.multinomial(raters, np.full(raters, 1 / raters), size=resamples)
    of_pairs = rng.multinomial(pairs, np.full(pairs, 1 / pairs), size=resamples)
    return np.einsum("nr,rpo,np->no", of_raters, table, of_pairs, optimize=True)


def fleiss_kappa(table: np.ndarray) -> float:
    """Agreement of several raters on the same items, 1 is perfect and 0 is chance (Fleiss, 1971).

    table: (items, outcomes) counts. Items need two answers or more, not equally many: each item's agreement is that of
    its own pairs of answers. NaN where no item has two answers, or all answers are the same.
    """
    table = table[table.sum(axis=1) >= 2]
    if not len(table):
        return float("nan")
    n = table.sum(axis=1)
    observed = float(((table * (table - 1)).sum(axis=1) / (n * (n - 1))).mean())
    by_chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def bradley_terry(wins: np.ndarray, steps: int = 10_000) -> np.ndarray:
    """Strengths whose differences are the log-odds that one method is preferred (Bradley and Terry, 1952).

    wins: (m, m), how often the row's method was preferred to the column's; "similar" counts half for both. Returns (m,)
    with mean 0, by the iteration of Hunter (2004). Half a win is added to every comparison that was made, so that a
    method that always wins has a finite strength.
    """
    played = wins + wins.T
    wins = wins + 0.5 * (played > 0)
    played = wins + wins.T
    strength = np.ones(len(wins))
    for _ in range(steps):
        denominator = (played / (strength[:, None] + strength[None, :])).sum(axis=1)
        new = wins.sum(axis=1) / denominator
        new /= np.exp(np.log(new).mean())
        if np.abs(np.log(new / strength)).max() < 1e-10:
            break
        strength = new
    return np.log(strength) - np.log(strength).mean()


def failed_repeats(same: Sequence[bool]) -> bool:
    """Whether a rater contradicts themselves: fewer than half of at least three repeated answers are the same.

    Three choices at random agree in a third of the cases.
    """
    return len(same) >= 3 and sum(same) < len(same) / 2


def every_two(methods: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of methods, in their order."""
    return list(itertools.combinations(methods, 2))
