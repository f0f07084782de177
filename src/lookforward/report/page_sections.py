"""The sections of a report that hold tables. `compare` and `ablate` write the same tables."""

from lookforward.report.aggregate import (
    best,
    ceiling,
    cell_means,
    difference,
    estimate,
    plain,
    with_bounds,
    with_half_width,
)
from lookforward.report.blocks import Block, Plots, Section, Strong, Table, Text
from lookforward.report.data import UNTOUCHED, Benchmark
from lookforward.report.plots import curve_plots, fidelity_plots

KINDS = {
    "scene": "a scene",
    "accessory": "an accessory",
    "property": "a property modification",
    "photorealistic": "a photorealistic image",
    "style transfer": "another style",
    "imaginative": "an imaginative scene",
}
GROUPS = ("live subjects", "objects", "styles")
FOOTNOTE = (
    "† The method's reward optimised this very score, so it is no evidence for the method. In a difference: one of the "
    "two sides did."
)
CEILING = "other images of the subject, four scenes (ceiling)"
PLAIN = "dreambooth"  # the recipe without a reward, with which others of the same adapter are compared


def score_section(benchmark: Benchmark) -> Section:
    """Every method on every score, and its difference from the baseline."""
    base = benchmark.label(benchmark.baseline)
    blocks: list[Block] = [
        Text(
            "All scores are better when higher. A mean is over subjects, after each subject's images and seeds are"
            " averaged; ± is half the width of the 95% interval by bootstrap over subjects, widened for few of them"
            " (Hesterberg, 2015), and Student's for five or fewer. With one subject there is no interval. Bold: the"
            " highest mean without †, whether or not the difference is certain; nothing is bold where the methods have"
            " different cells."
        ),
        scores_table(benchmark, "Scores"),
    ]
    if benchmark.baseline in benchmark.present:
        table = differences_table(benchmark, f"Difference from {base}, with 95% intervals")
        text = (
            f"Differences from {base}, paired by subject and seed, are the better evidence: what is hard for one method"
            " is hard for the other. An interval that includes zero shows no difference. Percentages are of the mean of"
            f" {base} on the same pairs."
        )
        blocks += [Text(text), table] if table.rows else [Text(f"There is no other method to compare with {base}.")]
    else:
        text = f"There is no finished cell of {base}, so there are no differences from it."
        blocks.append(Text(text, warning=True))
    blocks += [*_by_adapter(benchmark), *footnote(benchmark)]
    plots = fidelity_plots(benchmark)
    return Section("Scores", [*blocks, Plots(plots)] if plots else blocks)


def footnote(benchmark: Benchmark) -> list[Text]:
    """What † means, if some method optimised a score."""
    return [Text(FOOTNOTE)] if any(method.optimised for method in benchmark.methods.values()) else []


def scores_table(
    benchmark: Benchmark, caption: str, kind: str | None = None, group: str | None = None, folded: bool = False
) -> Table:
    """Every method's mean of every score with its interval, the best in bold, and the ceiling if it is known."""
    scores = benchmark.scores
    top = {score: best(benchmark, score, kind, group) for score in scores}
    rows: list[list[str]] = []
    for name in benchmark.present:
        images = benchmark.images_of(name, kind, group)
        cells = len(benchmark.images_of(name, None, group).drop_duplicates(["subject", "seed"]))
        if not cells:
            continue
        row = [benchmark.label(name) + (" (floor)" if name == UNTOUCHED else ""), str(cells)]
        for score in scores:
            text = with_half_width(estimate(images, score)) + benchmark.mark(name, score)
            row.append(Strong(text) if top[score] == name else text)
        rows.append(row)
    # It is measured in scenes: accessories and property modifications change the subject itself
    highest = [ceiling(benchmark, score, group) for score in scores] if kind in (None, "scene") else []
    if any(value is not None for value in highest):
        rows.append([CEILING, "", *map(plain, highest)])
    return Table(caption, ["method", "cells", *scores], rows, folded)


def differences_table(
    benchmark: Benchmark, caption: str, kind: str | None = None, group: str | None = None, folded: bool = False
) -> Table:
    """Every method's paired difference from the baseline."""
    names = [name for name in benchmark.present if name != benchmark.baseline]
    found = [_difference_row(benchmark, name, benchmark.baseline, kind, group) for name in names]
    return Table(caption, ["method", "pairs", *benchmark.scores], [row for row in found if row], folded)


def _difference_row(
    benchmark: Benchmark, name: str, base: str, kind: str | None = None, group: str | None = None
) -> list[str]:
    """A method against another one on every score; empty if they have no pair."""
    found = {score: difference(benchmark, name, score, kind, group, base) for score in benchmark.scores}
    if not any(found.values()):
        return []
    pairs = max(f.pairs for f in found.values() if f is not None)
    texts = [with_bounds(f) + (benchmark.mark(name, score, base) if f else "") for score, f in found.items()]
    return [benchmark.label(name), str(pairs), *texts]


def _by_adapter(benchmark: Benchmark) -> list[Block]:
    """Every reward against the plain method with the same adapter; nothing if all methods train all weights."""
    adapters = dict.fromkeys(adapter for name in benchmark.methods if (adapter := name.partition("@")[2]))
    rows, alone = [], []
    for adapter in adapters:
        base = f"{PLAIN}@{adapter}"
        names = [name for name in benchmark.present if name.partition("@")[2] == adapter and name != base]
        found = [row for name in names if (row := _difference_row(benchmark, name, base))]
        rows += found
        alone += [] if found else [benchmark.label(name) for name in names]
    blocks: list[Block] = []
    if rows:
        text = (
            "Adapters differ by themselves, so a reward's gain is best seen beside the plain method with the same"
            f" adapter: each row against {PLAIN}@ADAPTER, paired as above."
        )
        columns = ["method", "pairs", *benchmark.scores]
        blocks += [Text(text), Table("Difference from the plain method with the same adapter", columns, rows)]
    if alone:
        blocks.append(Text(f"Without a finished plain method with the same adapter: {', '.join(alone)}."))
    return blocks


def breakdown_section(benchmark: Benchmark) -> Section:
    """The same by kind of prompt, by kind of subject, and by subject."""
    kinds, groups = set(benchmark.images.prompt_kind), set(benchmark.cells.group)
    blocks: list[Block] = []
    for kind in [k for k in KINDS if k in kinds] + sorted(kinds - KINDS.keys()):
        blocks += _breakdown(benchmark, f"Prompts that ask for {KINDS.get(kind, kind)}", kind=kind)
    for group in [g for g in GROUPS if g in groups] if len(groups) > 1 else ():
        blocks += _breakdown(benchmark, group.capitalize(), group=group)
    blocks += [_by_subject(benchmark, score) for score in benchmark.scores]
    return Section("Breakdowns", blocks)


def _breakdown(benchmark: Benchmark, name: str, kind: str | None = None, group: str | None = None) -> list[Block]:
    caption = f"{name}: difference from {benchmark.label(benchmark.baseline)}"
    differences = differences_table(benchmark, caption, kind, group, folded=True)
    return [scores_table(benchmark, name, kind, group, folded=True), *([differences] if differences.rows else [])]


def _by_subject(benchmark: Benchmark, score: str) -> Table:
    names = benchmark.present
    means = {name: cell_means(benchmark.images_of(name), score).groupby("subject").mean() for name in names}
    rows = []
    for subject in benchmark.subjects:
        values = [of_method.get(subject) for of_method in means.values()]
        if any(value is not None for value in values):
            rows.append([subject, *map(plain, values)])
    columns = ["subject", *(benchmark.label(name) + benchmark.mark(name, score) for name in names)]
    return Table(f"{score} by subject", columns, rows, folded=True)


def critic_section(benchmark: Benchmark) -> Section:
    """How the critics learned, as the paper's Figure 5."""
    table, plots = critic_table(benchmark), curve_plots(benchmark)
    if not table.rows:
        return Section("The critic", [Text("No method here has a critic that learned, or its curves were not kept.")])
    return Section("The critic", [*([Plots(plots)] if plots else []), table])


def critic_table(benchmark: Benchmark) -> Table:
    """Where the critics ended."""
    rows = []
    for name in benchmark.present:
        terms = ("critic_loss", "explained_variance")
        loss, variance = (benchmark.curves_of(name, t).groupby(["subject", "seed"]).value.last() for t in terms)
        if len(loss):
            rows.append([benchmark.label(name), str(len(loss)), f"{loss.median():.3g}", plain(variance.median())])
    columns = ["method", "cells", "critic loss, last steps", "explained variance, last steps"]
    return Table("At the end, median over cells", columns, rows)


def cost_section(benchmark: Benchmark) -> Section:
    """What each method costs."""
    text = (
        "Seconds of training per cell, without loading, drawing and scoring. Memory is the most that the process held,"
        " with the loaded models; GPU memory, where there was a GPU, is the most that tensors held on it. The file is"
        " the export."
    )
    return Section("Cost", [Text(text), cost_table(benchmark)])


def cost_table(benchmark: Benchmark) -> Table:
    """Seconds, memory, trained parameters and the size of the file."""
    columns = {"memory": "memory, MiB", "gpu_memory": "GPU memory, MiB"}
    if not benchmark.cells.gpu_memory.any():
        del columns["gpu_memory"]
    rows = []
    for name in benchmark.present:
        cells = benchmark.cells_of(name)
        seconds, most = cells.seconds, cells[["memory", "gpu_memory", "parameters", "size"]].max()
        rows.append([
            benchmark.label(name),
            f"{seconds.median():,.1f}",
            f"{seconds.min():,.1f} to {seconds.max():,.1f}",
            *(f"{most[column]:,.0f}" if most[column] else "–" for column in columns),
            f"{most.parameters:,.0f}",
            f"{most['size']:,.3f}",
        ])  # fmt: skip
    names = ["method", "seconds, median", "seconds, range", *columns.values(), "parameters trained", "file, MiB"]
    return Table("Cost of a cell", names, rows)
