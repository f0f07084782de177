"""The sections of a report that hold tables."""

from collections.abc import Sequence

import numpy as np

from lookforward.report.blocks import Block, Plots, Section, Strong, Table, Text
from lookforward.report.data import UNTOUCHED, Benchmark, Result
from lookforward.report.numbers import (
    best,
    ceiling,
    difference,
    estimate,
    per_subject,
    plain,
    told,
    with_interval,
)
from lookforward.report.plots import curve_plots, fidelity_plots

KINDS = {"scene": "a scene", "outfit": "an outfit", "look": "a changed look"}
GROUPS = ("live subjects", "objects")
FOOTNOTE = (
    "† trained on this very score, so no evidence for the method; in a difference: that one of the two sides was."
)
CEILING = "other pictures of the subject, four scenes (ceiling)"
PLAIN = "dreambooth"  # the recipe without a reward, that others of the same adapter are compared with


def score_section(benchmark: Benchmark) -> Section:
    """Every method on every score, and its difference from the baseline."""
    base = benchmark.label(benchmark.baseline) if benchmark.baseline in benchmark.methods else benchmark.baseline
    blocks: list[Block] = [
        Text(
            "All scores are better when higher. A figure is the mean over subjects, each subject's images and seeds"
            " averaged first; ± is half the width of the 95% interval by bootstrap over subjects, widened for few of"
            " them (Hesterberg, 2015), and Student's for five or fewer. Of one subject there is no interval. Bold: the"
            " highest mean that was not trained on, whether or not the difference is certain; nothing is bold where the"
            " means are of different cells."
        ),
        _scores(benchmark, "Scores"),
    ]
    if benchmark.of(benchmark.baseline):
        apart = _differences(benchmark, f"Difference from {base}, with 95% intervals")
        words = (
            f"Differences from {base}, paired by subject and seed, are the better evidence: what is hard for one method"
            " is hard for the other. An interval that holds 0 shows no difference. Per cent are of the mean of"
            f" {base} on the same pairs."
        )
        blocks += [Text(words), apart] if apart.rows else [Text(f"There is no other method to compare with {base}.")]
    else:
        blocks.append(Text(f"There is no finished cell of {base}, so that no differences can be given.", loud=True))
    blocks += _by_adapter(benchmark)
    if any(m.optimised for m in benchmark.methods.values()):
        blocks.append(Text(FOOTNOTE))
    plots = fidelity_plots(benchmark)
    return Section("Scores", [*blocks, Plots(plots)] if plots else blocks)


def _scores(
    benchmark: Benchmark, caption: str, kind: str | None = None, group: str | None = None, folded: bool = False
) -> Table:
    scores = benchmark.scores
    top = {score: best(benchmark, score, kind, group) for score in scores}
    rows: list[list[str | Strong]] = []
    for name, method in benchmark.methods.items():
        results = benchmark.of(name, group)
        if not results:
            continue
        row: list[str | Strong] = [method.label + (" (floor)" if name == UNTOUCHED else ""), str(len(results))]
        for score in scores:
            text = with_interval(estimate(results, score, kind)) + benchmark.mark(name, score)
            row.append(Strong(text) if top[score] == name else text)
        rows.append(row)
    # Measured in scenes alone: outfits and looks change the subject itself
    highest = [ceiling(benchmark, score, group) for score in scores] if kind in (None, "scene") else []
    if any(value is not None for value in highest):
        rows.append([CEILING, "", *map(plain, highest)])
    return Table(caption, ["method", "cells", *scores], rows, folded)


def _differences(
    benchmark: Benchmark, caption: str, kind: str | None = None, group: str | None = None, folded: bool = False
) -> Table:
    names = [name for name in benchmark.methods if name != benchmark.baseline]
    rows = [row for name in names if (row := _difference_row(benchmark, name, benchmark.baseline, kind, group))]
    return Table(caption, ["method", "pairs", *benchmark.scores], rows, folded)


def _difference_row(
    benchmark: Benchmark, name: str, base: str, kind: str | None = None, group: str | None = None
) -> list[str]:
    """A method against another one on every score; empty where they have no pair."""
    found = [difference(benchmark, name, score, kind, group, base) for score in benchmark.scores]
    if not any(found):
        return []
    pairs = str(max(f.pairs for f in found if f is not None))
    marks = [benchmark.mark(name, score, base) for score in benchmark.scores]
    texts = [told(f) + (mark if f else "") for f, mark in zip(found, marks, strict=True)]
    return [benchmark.label(name), pairs, *texts]


def _by_adapter(benchmark: Benchmark) -> list[Block]:
    """Every reward against the plain method that trains the same weights; nothing where all train all of them."""
    adapters = dict.fromkeys(adapter for name in benchmark.methods if (adapter := name.partition("@")[2]))
    rows, alone = [], []
    for adapter in adapters:
        base = f"{PLAIN}@{adapter}"
        names = [n for n in benchmark.methods if n.partition("@")[2] == adapter and n != base and benchmark.of(n)]
        found = [row for name in names if (row := _difference_row(benchmark, name, base))]
        rows += found
        alone += [benchmark.label(name) for name in names] if names and not found else []
    blocks: list[Block] = []
    if rows:
        words = (
            "What a reward adds must be seen beside the plain method with the same adapter, as adapters differ by"
            f" themselves: each row against {PLAIN}@ADAPTER, paired as above."
        )
        columns = ["method", "pairs", *benchmark.scores]
        blocks += [Text(words), Table("Difference from the plain method with the same adapter", columns, rows)]
    if alone:
        blocks.append(Text(f"Without a finished plain method with the same adapter: {', '.join(alone)}."))
    return blocks


def breakdown_section(benchmark: Benchmark) -> Section:
    """The same by kind of prompt, by kind of subject, and by subject."""
    kinds = {kind for r in benchmark.results for kind in r.kinds}
    blocks: list[Block] = []
    for kind in [k for k in KINDS if k in kinds] + sorted(kinds - KINDS.keys()):
        blocks += _pair(benchmark, f"prompts that ask for {KINDS.get(kind, kind)}", kind, None)
    groups = [g for g in GROUPS if any(benchmark.subjects[r.subject].group == g for r in benchmark.results)]
    for group in groups if len(groups) > 1 else []:
        blocks += _pair(benchmark, group, None, group)
    blocks += [_by_subject(benchmark, score) for score in benchmark.scores]
    return Section("Breakdowns", blocks)


def _pair(benchmark: Benchmark, words: str, kind: str | None, group: str | None) -> list[Block]:
    name = words[0].upper() + words[1:]
    base = benchmark.label(benchmark.baseline) if benchmark.baseline in benchmark.methods else ""
    tables = [_scores(benchmark, name, kind, group, folded=True)]
    apart = _differences(benchmark, f"{name}: difference from {base}", kind, group, folded=True)
    return [*tables, apart] if apart.rows else [*tables]


def _by_subject(benchmark: Benchmark, score: str) -> Table:
    names = [name for name in benchmark.methods if benchmark.of(name)]
    rows = []
    for subject in benchmark.subjects:
        means = [per_subject(benchmark.of(name), subject, score) for name in names]
        if any(mean is not None for mean in means):
            rows.append([subject, *map(plain, means)])
    columns = ["subject", *(benchmark.label(n) + benchmark.mark(n, score) for n in names)]
    return Table(f"{score} by subject", columns, rows, folded=True)


def critic_section(benchmark: Benchmark) -> Section:
    """How the critics learned, as the paper's Figure 5."""
    plots = curve_plots(benchmark)
    if not plots:
        return Section("The critic", [Text("No method here has a critic that learned, or its curves were not kept.")])
    rows = []
    for name, method in benchmark.methods.items():
        last = [r.curves["explained_variance"][-1][1] for r in benchmark.of(name) if r.curves.get("explained_variance")]
        loss = [r.curves["critic_loss"][-1][1] for r in benchmark.of(name) if r.curves.get("critic_loss")]
        if loss:
            variance = plain(float(np.median(last))) if last else "–"
            rows.append([method.label, str(len(loss)), f"{np.median(loss):.3g}", variance])
    columns = ["method", "cells", "critic's loss, last steps", "explained variance, last steps"]
    return Section("The critic", [Plots(plots), Table("In the end, median over cells", columns, rows)])


def cost_section(benchmark: Benchmark) -> Section:
    """What each method costs."""
    rows = []
    gpu = any(r.gpu_memory for r in benchmark.results)
    for name, method in benchmark.methods.items():
        results = benchmark.of(name)
        if not results:
            continue
        seconds = sorted(r.seconds for r in results)
        middle = (seconds[(len(seconds) - 1) // 2] + seconds[len(seconds) // 2]) / 2
        rows.append(
            [
                method.label,
                f"{middle:,.1f}",
                f"{seconds[0]:,.1f} to {seconds[-1]:,.1f}",
                f"{max(r.memory for r in results):,.0f}",
                *([_gpu_memory(results)] if gpu else []),
                f"{max(r.parameters for r in results):,}",
                f"{max(r.size for r in results):,.3f}",
            ]
        )
    memory = ["memory, MiB", "GPU memory, MiB"] if gpu else ["memory, MiB"]
    columns = ["method", "seconds, median", "seconds, range", *memory, "parameters trained", "file, MiB"]
    where = (
        "; GPU memory is the most that tensors held on the GPU, which the process's memory has no part of"
        if gpu
        else ""
    )
    return Section(
        "Cost",
        [
            Text(
                "Seconds of training for one cell, without loading, drawing and scoring. Memory is the most that the"
                f" process held, with the loaded models{where}; the file is what one would pass on."
            ),
            Table("Cost of a cell", columns, rows),
        ],
    )


def _gpu_memory(results: Sequence[Result]) -> str:
    most = max(r.gpu_memory for r in results)
    return f"{most:,.0f}" if most else "–"
