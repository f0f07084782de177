"""How far one run's scores can be trusted, and how many seeds a difference needs.

The score of subject s with seed k is y_sk = μ + a_s + b_sk: a_s differs between subjects, b_sk between runs of the same
subject, and part of b_sk is only that a cell is measured on a sample of images. Components are estimated as in the
one-way random-effects analysis of variance (Searle, Casella and McCulloch, 1992, chapter 3).
"""

import math
from typing import NamedTuple

import pandas as pd

from lookforward.report.aggregate import cell_means, paired, plain
from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.data import UNTOUCHED, Benchmark

EFFECT = 0.02  # the difference that the table asks for
POWER = 0.8
MOST = 100  # seeds: beyond, more subjects are the better way


class Deviations(NamedTuple):
    """Standard deviations of one run's score. seeds: between runs of one subject, without what the images bring.
    images: of the score itself, from its sample of images. None where the cells cannot tell.
    """

    seeds: float | None
    images: float | None


class Components(NamedTuple):
    """Variances of a paired difference. subjects: between subjects. runs: between seeds of one subject.
    size: how many subjects.
    """

    subjects: float
    runs: float
    size: int


def deviations(images: pd.DataFrame, score: str) -> Deviations:
    """Of one method's images. Prompts are the same in every cell, so only images of one prompt tell of sampling."""
    means = cell_means(images, score)
    if means.empty:
        return Deviations(None, None)
    of_prompt = images.dropna(subset=[score]).groupby(["subject", "seed", "prompt"])[score]
    counts, variances = of_prompt.count(), of_prompt.var(ddof=1)  # NaN of one image
    known = bool((counts > 1).all())
    prompts = counts.groupby(["subject", "seed"]).count()
    # Var of a cell's mean over P prompts of n_p images: Σ_p s_p² / n_p / P²
    sampling = float(((variances / counts).groupby(["subject", "seed"]).sum() / prompts**2).mean()) if known else None
    runs = within(means)
    seeds = None if runs is None or sampling is None else math.sqrt(max(0.0, runs - sampling))
    return Deviations(seeds, None if sampling is None else math.sqrt(sampling))


def within(values: pd.Series) -> float | None:
    """Variance between the seeds of one subject, pooled; None if no subject has two."""
    groups = values.groupby("subject")
    free = int((groups.count() - 1).sum())
    return float((groups.transform(lambda one: one - one.mean()) ** 2).sum() / free) if free else None


def components(differences: pd.Series) -> Components | None:
    """Of differences by (subject, seed); None without two subjects, or two seeds of one."""
    runs, means = within(differences), differences.groupby("subject").mean()
    if runs is None or len(means) < 2:
        return None
    seeds = float((1 / differences.groupby("subject").count()).mean())  # 1 / K
    return Components(max(0.0, float(means.var(ddof=1)) - runs * seeds), runs, len(means))


def seeds_needed(found: Components, effect: float = EFFECT, power: float = POWER) -> int | None:
    """The seeds K with which a true mean difference of `effect` is found at 5%; None if no number up to MOST does.

    The standard error of the mean over S subjects is √(σ_a² / S + σ_b² / (S K)); an effect δ is found with the power
    if δ ≥ (t_0.975 + t_power) of it, t with S - 1 degrees of freedom.
    """
    from scipy import stats

    quantiles = stats.t.ppf(0.975, found.size - 1) + stats.t.ppf(power, found.size - 1)
    left = (effect / float(quantiles)) ** 2 * found.size - found.subjects
    needed = math.inf if left <= 0 else max(1, math.ceil(found.runs / left))
    return int(needed) if needed <= MOST else None


def steadiness_section(benchmark: Benchmark) -> Section:
    """Deviation between runs and of the score itself, and the seeds that a difference of EFFECT needs."""
    if len(benchmark.seeds) < 2:
        return Section("Steadiness", [Text("There is one seed, so how far runs differ is unknown.")])
    text = (
        "Standard deviations of a single run's score, pooled over subjects. Seeds: between runs of one subject that"
        " differ in their seed only, without the part that comes from measuring on a sample of images. Images: that"
        " part, from images of the same prompt."
    )
    blocks: list[Block] = [Text(text), _deviations_table(benchmark)]
    rows = _power_rows(benchmark)
    if rows:
        base = benchmark.label(benchmark.baseline)
        text = (
            f"Seeds for each subject with which a true difference of {EFFECT} from {base} is found at 5% with a"
            f" probability of {POWER}, from the variances seen here; > {MOST}: more subjects are needed, since these"
            " differ too much among themselves."
        )
        blocks += [Text(text), Table(f"Seeds for a difference of {EFFECT}", ["method", *benchmark.scores], rows)]
    return Section("Steadiness", blocks)


def _deviations_table(benchmark: Benchmark) -> Table:
    rows = []
    for name in benchmark.present:
        if name != UNTOUCHED:
            found = [deviations(benchmark.images_of(name), score) for score in benchmark.scores]
            texts = [f"{plain(one.seeds)}; {plain(one.images)}" for one in found]
            rows.append([benchmark.label(name), *texts])
    return Table("Deviation of one run: seeds; images", ["method", *benchmark.scores], rows)


def _power_rows(benchmark: Benchmark) -> list[list[str]]:
    rows = []
    for name in benchmark.present:
        if name in (benchmark.baseline, UNTOUCHED):
            continue
        texts = []
        for score in benchmark.scores:
            pairs = paired(benchmark, name, score)
            found = None if pairs is None else components(pairs.ours - pairs.base)
            needed = None if found is None else seeds_needed(found)
            texts.append("–" if found is None else f"> {MOST}" if needed is None else str(needed))
        if any(text != "–" for text in texts):
            rows.append([benchmark.label(name), *texts])
    return rows
